"""
Writes of one loop turn, made together at its end, or at once where there is but one.

A turn is what the loop does between two waits for I/O: a flush is put behind everything that the last wait has brought (by
`call_soon`), and runs before the loop waits again.

A proxy's peers often sleep on another core, and waking one costs more than the write itself. Written one by one between
two pieces of Python, each write finds its peer asleep again; written together, the first wakes the core and the others
find it awake (a quarter less CPU a call at 32 connections). A write that stands alone has nobody to wait for: there,
coming back at the end of the turn only costs (a tenth of the CPU a call at one connection). Either way bytes leave in the
loop turn in which they came, each connection's in one write, unless they are so many that its owner does not let them
pile up.
"""

import asyncio
import logging
from typing import Protocol

from sidecar.model.clock import SYSTEM_CLOCK, Clock
from sidecar.runtime.complaints import Complaints
from sidecar.runtime.runtime import Runtime

ALONE_S = 40e-6
"""A write that follows another after less time than this belongs to a crowd: about one call's share of a busy loop."""


_log = logging.getLogger(__name__)


class Writer(Protocol):
    """A connection with bytes to write."""

    def flush(self) -> None:
        """Write them now."""


class Outbox:
    """
    The connections that have something to write at the end of this loop turn; all listeners and pools share one.

    A writer looks at `is_crowded`, and at whether the last lone write (`last_s`, by `now`) was more than `ALONE_S` ago: then it
    notes the time there and writes at once, else it calls `add`. It does so itself because a call would cost as much as all
    of this.
    """

    __slots__ = ("_complaints", "_due", "is_crowded", "last_s", "now")

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.now = clock.monotonic
        self._complaints = Complaints("outbox", clock, _log)
        self._due: list[Writer] = []
        self.is_crowded = False
        self.last_s = 0.0

    def add(self, writer: Writer) -> None:
        """Have `writer` flushed at the end of the turn."""
        due = self._due
        if not due:
            asyncio.get_running_loop().call_soon(self._flush)
        due.append(writer)

    def _flush(self) -> None:
        due, self._due = self._due, []
        self.is_crowded = len(due) > 1
        writers = iter(due)
        while True:
            try:
                for writer in writers:
                    writer.flush()
                break
            except Exception as error:  # noqa: BLE001 - whatever fails at one connection, those behind it go on
                self._complaints.log("flush", "a connection could not be written to", error)
        if not self.is_crowded:
            self.last_s = self.now()


def outbox_of(runtime: Runtime) -> Outbox:
    """The one of this runtime, and so of its loop."""
    outbox = runtime.services.setdefault("traffic.outbox", Outbox(runtime.clock))
    assert isinstance(outbox, Outbox)
    return outbox
