"""One request of a client over stdio: its exchange, its attempts, and what is heard in answer."""

from typing import TYPE_CHECKING

from sidecar.dialects import mcp
from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.jsonrpc import Message
from sidecar.dialects.mcp.answers import Hearing
from sidecar.dialects.mcp.questions import McpCall
from sidecar.model.change import NAMES, Change, Meta
from sidecar.model.content import Content
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.trace import SAMPLED, format_traceparent
from sidecar.traffic.copying import MOST_BYTES
from sidecar.traffic.meter import attempt_finished, begin_attempt, exchange_finished

if TYPE_CHECKING:
    import asyncio

    from sidecar.traffic.stdio.listener import StdioListener

ANSWERED = 200
"""The status of a call that was answered: over HTTP it would be this one, also where the answer is an error of JSON-RPC."""


Id = int | float | str
"""An id as `jsonrpc.key` tells it."""


class Record:
    """What is said in one attempt; it becomes the attempt's `Dialogue` (exchange.Tells)."""

    __slots__ = ("_call", "_edits", "_skipped", "attempt", "first_content_at", "hearing", "is_sent", "line", "result", "unread")

    def __init__(self, call: "StdioCall", attempt: Attempt) -> None:
        self._call = call
        self.attempt = attempt
        self.hearing = Hearing(call.asked)
        self.line = call.line
        self.first_content_at = 0
        self.result = b""
        self.unread = ""
        self.is_sent = False
        self._edits: tuple[str, ...] = ()
        self._skipped: tuple[str, ...] = ()

    def change(self, change: Change) -> str:
        """Change the request before it is sent; returns as `Attempt.change`."""
        if self.is_sent:
            return "sent"
        try:
            changed = mcp.edit(self._call.asked, self.line, change)
        except Unreadable:
            self._skipped += (f"{NAMES[type(change)]}:not_taken",)
            return "not_taken"
        if changed is not self.line:  # else it was so already
            self.line = changed
            self._edits += (NAMES[type(change)],)
        return ""

    def dialogue(self, ended_ns: int) -> Dialogue:
        """What was said, now that the attempt is over."""
        at, attempt = self.first_content_at, self.attempt
        answered = self.hearing.answered if attempt.status else None
        first_content_s = (at - attempt.started_at) / 1e9 if at else 0.0
        said = self._call.content(self.result)
        return Dialogue(self._call.asked, answered, first_content_s, None, self.unread, self._edits, self._skipped, said)


class StdioCall:
    """
    A call from its line to its answer.

    `record` is that of the attempt under way. `waiter` is who waits for the answer where the route has filters, and `task` their
    work; None where the answer goes straight to the client. `heard_at` is when the server last said something about it, in
    seconds of the listener's clock.
    """

    __slots__ = ("_listener", "asked", "exchange", "heard_at", "is_over", "key", "line", "record", "task", "waiter")

    def __init__(self, listener: "StdioListener", asked: McpCall, key: Id, exchange: Exchange, line: bytes) -> None:
        self._listener = listener
        self.asked = asked
        self.key = key
        self.exchange = exchange
        self.line = line
        self.record: Record | None = None
        self.waiter: asyncio.Future[bytes] | None = None
        self.task: asyncio.Task[None] | None = None
        self.heard_at = listener.now()
        self.is_over = False
        exchange.asked = asked
        exchange.request_bytes = len(line)

    def begin_attempt(self) -> Attempt:
        """Begin a try at the server; guards may change its request until `made`."""
        attempt = begin_attempt(self.exchange, self._listener.runtime.rng)
        record = self.record = Record(self, attempt)
        attempt.transcript = record
        return attempt

    def made(self) -> bytes:
        """Return the line for the server; from now on nothing about it changes."""
        record, exchange = self.record, self.exchange
        assert record is not None
        if self._listener.writes_context:
            traceparent = format_traceparent(exchange.trace_id, record.attempt.span_id, exchange.flags)
            record.change(Meta(traceparent, exchange.tracestate))
        line, record.is_sent = record.line, True
        record.attempt.sent_bytes = len(line)
        self.heard_at = self._listener.now()
        if self.task is None:  # nobody will send it again, and answers may be long in coming
            self.line = record.line = line[: MOST_BYTES + 1] if self._listener.collects_content else b""
        return line

    @property
    def is_held(self) -> bool:
        """Whether filters still think about it, so that the server has it yet to hear."""
        return self.task is not None and (self.record is None or not self.record.is_sent)

    def hear(self, message: Message, size: int) -> bool:
        """Take a message that is about this call; True where it is the answer."""
        record = self.record
        assert record is not None
        attempt, hearing = record.attempt, record.hearing
        self.heard_at = self._listener.now()
        at = round(self.heard_at * 1e9)
        if not attempt.first_byte_at:
            attempt.first_byte_at = at
        if not self.exchange.first_byte_at:
            self.exchange.first_byte_at = at
        attempt.received_bytes += size
        hearing.answered.events += 1
        hearing.message(message)
        if hearing.answered.content_bytes and not record.first_content_at:
            record.first_content_at = at
        if hearing.answered.is_ended:
            attempt.status = ANSWERED
            record.result = bytes(message.result)
        return hearing.answered.is_ended

    def hear_unread(self, size: int) -> None:
        """The answer has come, and was too long to be read."""
        record = self.record
        assert record is not None
        record.attempt.first_byte_at = record.attempt.first_byte_at or round(self._listener.now() * 1e9)
        self.exchange.first_byte_at = self.exchange.first_byte_at or record.attempt.first_byte_at
        record.attempt.received_bytes += size
        record.attempt.status = ANSWERED
        record.unread = "answer_too_large"
        record.hearing.answered.is_ended = record.hearing.answered.is_unreadable = True

    def content(self, result: bytes) -> Content | None:
        """What was said, word by word, where the route has it collected; `result` is raw JSON, b"" where none came."""
        if not self._listener.collects_content or not self.exchange.flags & SAMPLED:
            return None
        answer = b'{"result":%b}' % result if result else b""
        content = mcp.content(self.asked, self.line[:MOST_BYTES], answer[:MOST_BYTES], "application/json")
        if content is not None:
            content.is_cut |= max(len(self.line), len(answer)) > MOST_BYTES
        return content

    def attempt_over(self, error: str = "") -> None:
        """Tell of the attempt under way, if there is one."""
        record, self.record = self.record, None
        if record is not None:
            record.attempt.error = error
            attempt_finished(self._listener.runtime, record.attempt, self.exchange)

    def over(self, status: int, error: str, response_bytes: int) -> None:
        """Tell of the end, of the attempt under way too; a second call does nothing."""
        if self.is_over:
            return
        self.is_over = True
        self.attempt_over(error)
        exchange = self.exchange
        exchange.status, exchange.error, exchange.response_bytes = status, error, response_bytes
        exchange_finished(self._listener.runtime, exchange)

    def overdue(self, now: float) -> str:
        """The code of what has taken too long, by the deadlines that policies have set; else ""."""
        if self.record is None or self.asked.is_standing:
            return ""
        attempt, silent_s = self.record.attempt, now - self.heard_at
        if not attempt.first_byte_at:
            return "first_byte_timeout" if 0 < attempt.first_byte_timeout_s < silent_s else ""
        return "idle_timeout" if 0 < attempt.idle_timeout_s < silent_s else ""

    def refusal(self, refused: Refused) -> tuple[int, bytes]:
        """Return the status and the line of an error of ours."""
        spoken = mcp.error(refused, self.asked)
        return spoken.status, spoken.body + b"\n"
