"""
What is known of one request that is read, and what becomes of its body: shared by calls with filters and without.

    inspection = Inspection(inspector)
    inspection.begin(listener, exchange, body)      # None for what is too large
    transcript = inspection.open(attempt, …)        # for each attempt, before its guards
    head, content = inspection.made(ready, exchange, attempt, transcript, content)
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.dialects import plain
from sidecar.dialects.dialect import Spoken
from sidecar.model.asked import Asked, McpAsked, ModelAsked
from sidecar.model.change import IncludeUsage, Meta
from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.trace import format_traceparent
from sidecar.traffic.inspector import Inspector
from sidecar.traffic.meter import join_trace
from sidecar.traffic.room import Room
from sidecar.traffic.transcript import Transcript
from sidecar.traffic.wire.body import reframed
from sidecar.traffic.wire.head import CHUNKED

if TYPE_CHECKING:
    from sidecar.traffic.wire.listener import Listener
    from sidecar.traffic.wire.request import Ready

_log = logging.getLogger(__name__)

KEPT_BYTES = 64 * 1024
"""The longest body that is kept until its answer has come."""

_INCLUDE_USAGE = IncludeUsage()


class Inspection:
    """
    One request, read.

    `asked` is None until it has been read, and for what only looked like a message. `most_bytes` is the longest body that is
    collected. `may_change`: the sidecar itself may want to change such a request.
    """

    __slots__ = ("_body", "_inspector", "_unread", "asked", "may_change", "most_bytes")

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self.most_bytes = inspector.most_bytes
        self.asked: Asked | None = None
        self.may_change = False
        self._body: bytes | None = None
        self._unread = ""

    @property
    def room(self) -> Room:
        """Where bodies that are collected have their place."""
        return self._inspector.room

    def begin(self, listener: "Listener", exchange: Exchange, body: bytes | None, why: str = "too_large") -> None:
        """
        Read a whole body, None where (and `why`) it could not be collected, and tell the exchange what is asked.

        The trace context in the body of an MCP request becomes the exchange's parent, as its convention says.
        """
        self._body = body
        if body is not None:
            asked, self._unread = self._inspector.read(body)
        elif self._inspector.is_guess:
            asked = None
        else:
            asked, self._unread = self._inspector.unread(), why
        self.asked = exchange.asked = asked
        if isinstance(asked, McpAsked):
            self.may_change = True
            if asked.traceparent:
                join_trace(listener, exchange, asked.traceparent, asked.tracestate)
        elif asked is not None:
            self.may_change = asked.streams

    def open(self, attempt: Attempt, now_ns: Callable[[], int], standing_s: float) -> Transcript | None:
        """
        Begin the record of one attempt; None where nothing can be read. Its guards may change the request from now on.

        `now_ns` is the clock that `attempt.started_at` was read from. A stream that stands open on purpose may be silent for
        `standing_s`, from the beginning: a server may send its head with the first thing that it has to say.
        """
        asked = self.asked
        if asked is None:
            return None
        transcript = attempt.transcript = Transcript(self._inspector, attempt, asked, self._unread, now_ns, self._body)
        if asked.is_standing:
            attempt.first_byte_timeout_s = attempt.idle_timeout_s = standing_s
        return transcript

    def made(
        self, ready: "Ready", exchange: Exchange, attempt: Attempt, transcript: Transcript, content: bytes
    ) -> tuple[bytes, bytes]:
        """Return head and content of an attempt; `content` is the body in its framing, as the client sent it."""
        if self.may_change:
            self._change_for(exchange, attempt, transcript)
        transcript.is_sent = True
        body = transcript.body
        if body is None or body is self._body:
            head = ready.head(exchange, attempt)
            return (head if transcript.removal is None else without_coding(head)), content
        transcript.sent_bytes = len(body)
        head = ready.head(exchange, attempt, len(body))
        if transcript.removal is not None:
            head = without_coding(head)
        return head, reframed(body, content) if ready.request.length == CHUNKED else body

    def sent(self, transcript: Transcript | None) -> None:
        """The request is on its way, and will not be sent again: keep no large body until its answer has come."""
        if self._body is not None and len(self._body) > KEPT_BYTES and not self._inspector.keeps_content:
            self._body = None
            if transcript is not None:
                transcript.body = None

    def _change_for(self, exchange: Exchange, attempt: Attempt, transcript: Transcript) -> None:
        """Make the changes that the sidecar itself wants, as far as the route lets it."""
        asked, inspector = self.asked, self._inspector
        if isinstance(asked, ModelAsked):
            if asked.streams and not asked.tells_usage and inspector.adds_usage and not transcript.change(_INCLUDE_USAGE):
                transcript.removal = inspector.dialect.takes_out(asked, _INCLUDE_USAGE)
        elif isinstance(asked, McpAsked) and asked.is_standing and not asked.id:
            reroute = inspector.reroute
            if reroute is not None:
                transcript.removal = inspector.dialect.takes_out(asked, reroute)
        elif isinstance(asked, McpAsked) and asked.id and inspector.spec.trace_in_meta and asked.operation != "response":
            traceparent = format_traceparent(exchange.trace_id, attempt.span_id, exchange.flags)
            transcript.change(Meta(traceparent, exchange.tracestate))

    def error(self, refused: Refused) -> Spoken:
        """An error of ours in the client's dialect; in plain words where the request was not read."""
        if self.asked is None:
            return plain.error(refused, None)
        try:
            return self._inspector.dialect.error(refused, self.asked)
        except Exception:  # noqa: BLE001 - a dialect that fails must not leave the client without an answer
            _log.exception("the dialect %s failed to say an error", self._inspector.dialect.name)
            return plain.error(refused, None)


def without_coding(head: bytes) -> bytes:
    """The head of a request that asks for no content coding: out of a coded stream nothing can be taken."""
    low = head.lower()
    at = low.find(b"\r\naccept-encoding:") + 18
    if at == 17:
        return head
    return head[:at] + b" identity" + head[head.find(b"\r\n", at) :]
