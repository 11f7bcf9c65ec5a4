"""
An exchange is one request of the agent and its response; an attempt is one try at an upstream for it.

Both are held by the wire while bytes flow and are told the outcome exactly once. What a policy takes for them (a permit,
a budget hold) it leaves with `holds`, and it is settled in reverse order when the last byte has gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

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


class Exchange(OfPassage):
    """
    One request of the agent and its response.

    `passage` says who calls what; `fields` are the request's field lines as they go on, for policies to read. `trace_id`
    and `span_id` are raw; `parent_id` is b"" without an agent's span. Times are `time_ns` at the start and monotonic
    nanoseconds (`_at`) for all that follows.
    """

    __slots__ = (
        "_on_stop", "_permits", "attempts", "baggage", "error", "fields", "first_byte_at", "flags", "parent_id", "passage",
        "request_bytes", "response_bytes", "settled", "span_id", "started_at", "started_ns", "status", "stopped", "trace_id",
        "tracestate",
    )  # fmt: skip

    fields: list[bytes]
    baggage: tuple[bytes, ...]

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
        self._permits: list[Permit] | None = None
        self._on_stop: Callable[[str], None] | None = None
        self.stopped = self.error = ""
        self.settled = False
        self.status = self.attempts = self.request_bytes = self.response_bytes = self.first_byte_at = 0

    @property
    def target(self) -> bytes:
        """The request target as the agent sent it, without scheme and authority."""
        return self.passage.path.encode("latin-1")

    def holds(self, permit: Permit) -> None:
        """Keep what was taken until the end of the exchange."""
        if self._permits is None:
            self._permits = []
        self._permits.append(permit)

    def stop(self, reason: str) -> None:
        """End the exchange now, live streams included; `reason` is told to the agent and to the operators."""
        if self.stopped or self.settled:
            return
        self.stopped = reason
        if self._on_stop is not None:
            self._on_stop(reason)

    def when_stopped(self, end: Callable[[str], None]) -> None:
        """Have the wire end the exchange when somebody calls `stop`; at once where that has happened already."""
        self._on_stop = end
        if self.stopped:
            end(self.stopped)

    def settle(self) -> None:
        """Tell everything that is held how the exchange ended; a second call does nothing."""
        if self.settled:
            return
        self.settled = True
        self._on_stop = None  # it leads back to the wire; left in place it would be a cycle for the garbage collector
        if self._permits is not None:
            outcome = Outcome(self.status, self.error, self.request_bytes, self.response_bytes)
            settle_in_reverse(self._permits, outcome)


class Attempt:
    """
    One try at an upstream: its own CLIENT span, permits and deadlines.

    `passage` is the exchange's, but for another upstream after a failover. Deadlines are seconds; one that no policy sets
    is the upstream's.
    """

    __slots__ = (
        "_permits", "address", "connected_at", "error", "exchange", "first_byte_at", "first_byte_timeout_s", "idle_timeout_s",
        "passage", "received_bytes", "resends", "sent_bytes", "settled", "span_id", "started_at", "status",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, passage: Passage, span_id: bytes, started_at: int) -> None:
        self.exchange = exchange
        self.passage = passage
        self.span_id = span_id
        self.started_at = started_at
        self.resends = exchange.attempts
        exchange.attempts += 1
        self._permits: list[Permit] | None = None
        self.settled = False
        self.error = self.address = ""
        self.status = self.connected_at = self.first_byte_at = self.sent_bytes = self.received_bytes = 0
        self.first_byte_timeout_s = self.idle_timeout_s = 0.0

    def holds(self, permit: Permit) -> None:
        """Keep what was taken until the end of the attempt."""
        if self._permits is None:
            self._permits = []
        self._permits.append(permit)

    def settle(self) -> None:
        """Tell everything that is held how the attempt ended; a second call does nothing."""
        if self.settled:
            return
        self.settled = True
        if self._permits is not None:
            settle_in_reverse(self._permits, Outcome(self.status, self.error, self.sent_bytes, self.received_bytes))


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
