"""
An exchange is one request of the agent and its response; an attempt is one try at an upstream for it.

Both are held by the wire while bytes flow and are told the outcome exactly once. What a policy takes for them (a permit,
a budget hold) it leaves with `holds`, and it is settled in reverse order when the last byte has gone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sidecar.model.asked import Asked
from sidecar.model.change import Change
from sidecar.model.dialogue import Dialogue
from sidecar.model.facts import OfPassage, Passage


@dataclass(slots=True)
class Outcome:
    """How it ended: `status` 0 where no head came, `error` a key of `errors.CODES` or "", bytes of both bodies."""

    status: int
    error: str
    sent_bytes: int
    received_bytes: int


class Permit(Protocol):
    """Something taken for the time of a call."""

    def settle(self, outcome: Outcome) -> None:
        """Give it back, or charge it; called exactly once."""


class Holder(ABC):
    """
    Something that policies take permits for; `permits` is None while there is none, `settled` says that it is over.

    Both are the subclass's to set at its beginning, because every call makes two of these.
    """

    __slots__ = ("permits", "settled")

    permits: list[Permit] | None
    settled: bool

    @abstractmethod
    def _outcome(self) -> Outcome:
        """How it ended, or stands now."""

    def holds(self, permit: Permit) -> None:
        """Keep what was taken until the end; where that has been, it is settled at once."""
        if self.settled:
            permit.settle(self._outcome())
            return
        if self.permits is None:
            self.permits = []
        self.permits.append(permit)

    def settle(self) -> None:
        """Tell everything that is held how it ended; a second call does nothing."""
        if self.settled:
            return
        self.settled = True
        if self.permits is not None:
            settle_in_reverse(self.permits, self._outcome())


class Head(Protocol):
    """What an exchange knows of its request; a connection's next request may share all of it but the length."""

    lines: list[bytes]
    baggage: tuple[bytes, ...]


class Exchange(Holder, OfPassage):
    """
    One request of the agent and its response.

    `passage` says who calls what; `head` is the request's, and `length` its Content-Length (below 0: it has none). `trace_id`
    and `span_id` are raw; `parent_id` is b"" without an agent's span. Times are `time_ns` at the start and monotonic
    nanoseconds (`_at`) for all that follows. `asked` is what the request asks for, None where no dialect has read it;
    `dialogue` that of the attempt whose answer the agent gets; `link` as in `ExchangeFinished`. `policy` is the policy that last
    refused, answered or changed it: chains note the first two, a policy that changes something says so itself.
    """

    __slots__ = (
        "asked", "attempts", "dialogue", "error", "first_byte_at", "flags", "head", "length", "link", "on_stop", "parent_id",
        "passage", "policy", "request_bytes", "response_bytes", "span_id", "started_at", "started_ns", "status", "stopped",
        "trace_id", "tracestate",
    )  # fmt: skip

    head: Head
    length: int

    def __init__(
        self,
        passage: Passage,
        started_ns: int,
        started_at: int,
        trace_id: bytes,
        span_id: bytes,
        parent_id: bytes,
        flags: int,
        tracestate: bytes,
    ) -> None:
        self.passage = passage
        self.started_ns = started_ns
        self.started_at = started_at
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.flags = flags
        self.tracestate = tracestate
        self.permits = None
        self.asked: Asked | None = None
        self.dialogue: Dialogue | None = None
        self.link = b""
        self.on_stop: Callable[[str], None] | None = None
        self.stopped = self.error = self.policy = ""
        self.settled = False
        self.status = self.attempts = self.request_bytes = self.response_bytes = self.first_byte_at = 0

    @property
    def target(self) -> bytes:
        """The request target as the agent sent it, without scheme and authority."""
        return self.passage.path.encode("latin-1")

    @property
    def fields(self) -> list[bytes]:
        """The request line and the field lines as they came, without those for one hop, the trace and the identity; a copy."""
        lines = self.head.lines.copy()
        if self.length < 0:
            return lines
        for place, line in enumerate(lines):
            if line[:15].lower() == b"content-length:":
                lines[place] = line[:15] + b" %d" % self.length  # the line is that of the first request with this head
        return lines

    @property
    def baggage(self) -> tuple[bytes, ...]:
        """The values of the request's baggage fields."""
        return self.head.baggage

    def _outcome(self) -> Outcome:
        return Outcome(self.status, self.error, self.request_bytes, self.response_bytes)

    def stop(self, reason: str) -> None:
        """End the exchange now, live streams included; `reason` is told to the agent and to the operators."""
        if self.stopped or self.settled:
            return
        self.stopped = reason
        if self.on_stop is not None:
            self.on_stop(reason)

    def when_stopped(self, end: Callable[[str], None]) -> None:
        """Have the wire end the exchange when somebody calls `stop`; at once where that has happened already."""
        self.on_stop = end
        if self.stopped:
            end(self.stopped)

    def settle(self) -> None:
        self.on_stop = None  # it leads back to the wire; left in place it would be a cycle for the garbage collector
        super().settle()


class Tells(Protocol):
    """The record of what is said in an attempt, while it goes on."""

    def change(self, change: Change) -> str:
        """Change the request before it is sent; returns "", or a word why that cannot be."""
        ...

    def dialogue(self, started_ns: int) -> Dialogue:
        """What was said, now that the attempt is over; it began at `started_ns` since the epoch."""
        ...


class Attempt(Holder):
    """
    One try at an upstream: its own CLIENT span, permits and deadlines.

    `passage` is the exchange's, but for another upstream after a failover. Deadlines are seconds; one that no policy sets
    is the upstream's. `dialogue` is what was said, None where no dialect reads it, and until the end; `transcript` becomes it.
    """

    __slots__ = (
        "address", "connected_at", "dialogue", "error", "exchange", "first_byte_at", "first_byte_timeout_s",
        "idle_timeout_s", "passage", "received_bytes", "resends", "sent_bytes", "span_id", "started_at", "status", "transcript",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, passage: Passage, span_id: bytes, started_at: int) -> None:
        self.exchange = exchange
        self.passage = passage
        self.span_id = span_id
        self.started_at = started_at
        self.resends = exchange.attempts
        exchange.attempts += 1
        self.permits = None
        self.dialogue: Dialogue | None = None
        self.transcript: Tells | None = None
        self.settled = False
        self.error = self.address = ""
        self.status = self.connected_at = self.first_byte_at = self.sent_bytes = self.received_bytes = 0
        self.first_byte_timeout_s = self.idle_timeout_s = 0.0

    def _outcome(self) -> Outcome:
        return Outcome(self.status, self.error, self.sent_bytes, self.received_bytes)

    def change(self, change: Change) -> str:
        """
        Have the request changed before it is sent; returns "" where that was done, else a word why it cannot be.

        For guards at the attempt. `signed`: any change would break a signature; `coded`: the body is compressed; `not_taken`:
        the endpoint does not know it; `unread`, `too_large`, …: nobody has read the request.
        """
        return self.transcript.change(change) if self.transcript is not None else "unread"


def settle_in_reverse(permits: list[Permit], outcome: Outcome) -> None:
    """Settle every permit, last taken first; one that fails does not keep the others from being told."""
    fault: Exception | None = None
    while permits:
        try:
            permits.pop().settle(outcome)
        except Exception as raised:  # noqa: BLE001 - a broken permit must not leave the others held for ever
            fault = fault or raised
    if fault is not None:
        raise fault
