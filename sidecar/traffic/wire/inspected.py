"""
A call that a dialect reads: its request is collected first, so that policies know what is asked; its response as it passes.

What cannot be collected within the bound streams on unread. The client's bytes are what the upstream gets, but for changes made
on purpose; what the upstream sends goes to the client first, and is read then.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sidecar.dialects.dialect import BodyEdit, Spoken
from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt
from sidecar.traffic.chain import ask
from sidecar.traffic.inspection import KEPT_BYTES, Inspection
from sidecar.traffic.transcript import Transcript
from sidecar.traffic.wire.answer import CONTINUE
from sidecar.traffic.wire.body import content_of, reframed
from sidecar.traffic.wire.call import Call
from sidecar.traffic.wire.collector import Collector
from sidecar.traffic.wire.filtered import FilteredCall
from sidecar.traffic.wire.head import CHUNKED, UNTIL_CLOSE
from sidecar.traffic.wire.outbound import Outbound
from sidecar.traffic.wire.reply import reframe
from sidecar.traffic.wire.request import Ready
from sidecar.traffic.wire.request_head import too_long
from sidecar.traffic.wire.response_head import ResponseHead

if TYPE_CHECKING:
    from sidecar.model.facts import Passage
    from sidecar.traffic.wire.inbound import Inbound
    from sidecar.traffic.wire.listener import Listener
    from sidecar.traffic.wire.request_head import RequestHead


_monotonic_ns = time.monotonic_ns
_OWN_TURN_BYTES = 1024 * 1024
"""
A request that is longer is put together in a loop turn of its own, apart from the one that has brought its last bytes, read in
the next, and changed and sent in the one after that: other calls, which wait for a turn, wait for a part of it only.
"""


class InspectedCall(Call):
    """A call whose request and response are read; `_inspection` is what is known of the request."""

    __slots__ = ("_collector", "_inspection", "_is_framed", "_transcript")

    _goes_straight = False  # in a way of its own

    def __init__(
        self, inbound: "Inbound", listener: "Listener", request: "RequestHead", ready: "Ready", passage: "Passage"
    ) -> None:
        Call.__init__(self, inbound, listener, request, ready, passage)  # not super(): that is another call, before Python 3.12
        assert ready.inspector is not None
        self._inspection = Inspection(ready.inspector)
        self._collector: Collector | None = None
        self._transcript: Transcript | None = None
        self._is_framed = False

    # the request is collected

    def begin(self, rest: bytes) -> None:
        """Collect the request, within the bound, and send it where it goes."""
        request, inspection, inbound = self.request, self._inspection, self._inbound
        length, limit = request.length, self._listener.max_body_bytes
        try:
            if length > limit and limit:
                raise too_long(length, limit)
            if length > 0 and length == len(rest) <= inspection.most_bytes:
                self.exchange.request_bytes = length
                self._go(rest, rest)
                return
            self._collector = Collector(length, inspection.most_bytes, inspection.room)
            content = inbound.take_body(request, rest)
        except Refused as refused:
            self.refuse_unsent(refused, rest)
            return
        self._collect(self._collector, content)
        if self._collector.is_collecting:
            self.exchange.when_stopped(self.stop)
            if request.expects_continue:
                self._continue_at = -1.0
                inbound.write(CONTINUE)  # its body is wanted here, before anybody else is asked

    def content_came(self, data: bytes, *, whole: bool) -> None:
        if self._collector is not None and self._collector.is_collecting:
            self._collect(self._collector, data)
        else:
            super().content_came(data, whole=whole)

    def _collect(self, collector: Collector, data: bytes) -> None:
        if not collector.is_collecting:
            self._go(data, None)  # its head has said already that there is too much
            return
        if not collector.add(data, whole=self._inbound.body is None):
            return
        if self._inbound.body is None and collector.size > _OWN_TURN_BYTES:
            self._in_turn(self._join, collector)  # it is whole: nothing else can come meanwhile
        else:
            self._go(*collector.content())

    def _join(self, collector: Collector) -> None:
        content, body = collector.content()
        self._in_turn(self._go, content, body)

    def _in_turn(self, work: Callable[..., None], *told: Any) -> None:
        asyncio.get_running_loop().call_soon(self._late, work, told)

    def _late(self, work: Callable[..., None], told: tuple[Any, ...]) -> None:
        if self._inbound.call is self:  # the client may have gone meanwhile
            work(*told)

    # it goes on

    def _go(self, content: bytes, body: bytes | None) -> None:
        """Read the request, and pass it on; `body` is None where it is not all there."""
        collector = self._collector
        try:
            self._inspection.begin(self._listener, self.exchange, body, "" if collector is None else collector.why)
        except Refused as refused:
            self.refuse(refused)
            return
        if body is not None and len(body) > _OWN_TURN_BYTES:
            self._in_turn(self._pass, content, body)
        else:
            self._pass(content, body)

    def _pass(self, content: bytes, body: bytes | None) -> None:
        """Ask the policies, and send what was read."""
        ready, exchange, inspection = self._ready, self.exchange, self._inspection
        assert ready is not None
        try:
            if ready.may_ask_for_card and ready.chain_for(exchange.asked).filters:
                self._filter(ready, content)
                return
            if ready.chain.admit is not None:
                ask(ready.chain.admit, exchange)
            attempt = self._begin_attempt(ready)
            exchange.when_stopped(self.stop)
            if self.request.expects_continue and not self._continue_at:
                self._continue_soon()
            transcript = self._transcript
            if transcript is None:
                head = ready.head(exchange, attempt)
            elif inspection.may_change or transcript.body is not body:
                head, content = inspection.made(ready, exchange, attempt, transcript, content)
            else:
                transcript.is_sent = True
                head = ready.head(exchange, attempt)
        except Refused as refused:
            self.refuse(refused)
            return
        self._send(ready, head, content)
        if len(content) > KEPT_BYTES:
            inspection.sent(transcript)

    def _filter(self, ready: Ready, content: bytes) -> None:
        """What is asked in the body needs filters, that no head could tell."""
        exchange, inbound = self.exchange, self._inbound
        if exchange.stopped:
            raise Refused("stopped", exchange.stopped)  # while a long body waited for its turn
        call = inbound.call = FilteredCall(inbound, self._listener, self.request, ready, exchange.passage)
        call.take_over(exchange, self._inspection, content)

    def _made(self, ready: Ready, attempt: Attempt, content: bytes) -> tuple[bytes, bytes]:
        """Head and content of an attempt, with the changes that policies and the sidecar itself make."""
        transcript = self._transcript
        if transcript is None:
            return ready.head(self.exchange, attempt), content
        return self._inspection.made(ready, self.exchange, attempt, transcript, content)

    def opened(self, attempt: Attempt) -> Transcript | None:
        transcript = self._transcript = self._inspection.open(attempt, _monotonic_ns, self._listener.tunnel_idle_timeout_s)
        return transcript

    # the response is read

    def upstream_answers(self, outbound: Outbound, head: ResponseHead) -> bool:
        transcript = self._transcript
        if transcript is None:
            return super().upstream_answers(outbound, head)
        transcript.flow = self
        transcript.answers(head)
        if transcript.removal is not None and head.length > 0:
            self._answered(head)
            return self._frame_as(reframe(head, is_1_1=self.request.is_1_1, content_only=True), head)
        relays = Call.upstream_answers(self, outbound, head)
        self._is_framed = relays and head.length == CHUNKED
        transcript.is_framed = self._is_framed and transcript.removal is None
        return relays

    def upstream_sends(self, data: bytes) -> None:
        transcript = self._transcript
        if transcript is None or not data:
            super().upstream_sends(data)
            return
        removal = transcript.removal
        if removal is None:
            super().upstream_sends(data)
            transcript.feed(data)
        else:
            content = content_of(data) if self._is_framed else data
            super().upstream_sends(self._without(removal, data, content))
            transcript.feed(content)
        outbound = self._outbound
        if outbound is not None and not self._is_wrapped and not self._head_out:
            if removal is None:
                outbound.straight, outbound.reads = self._inbound.write_now, transcript.feed
            else:
                outbound.straight = self._passes_some

    def _without(self, removal: BodyEdit, data: bytes, content: bytes) -> bytes:
        """What is left of content that came; `data` is the same in its framing."""
        left = removal.data(content)
        if left is content:
            return data
        return b"%x\r\n%b\r\n" % (len(left), left) if self._is_framed and left else left

    def _passes_some(self, data: bytes) -> None:
        transcript = self._transcript
        assert transcript is not None
        assert transcript.removal is not None
        content = content_of(data) if self._is_framed else data
        left = self._without(transcript.removal, data, content)
        if left:
            self._inbound.write_now(left)
        transcript.feed(content)

    def reading_is_behind(self, *, is_behind: bool) -> None:
        outbound = self._outbound
        if outbound is not None and is_behind:
            outbound.pause()
        elif outbound is not None and not self._inbound.is_full:
            outbound.resume()

    def client_drained(self) -> None:
        if self._transcript is None or not self._transcript.is_late:
            super().client_drained()

    def upstream_ends(self, data: bytes, size: int) -> None:
        transcript = self._transcript
        if transcript is not None:
            transcript.last = content = content_of(data) if self._is_framed else data
            if transcript.removal is not None:
                left = transcript.removal.data(content) + transcript.removal.end("")
                data = reframed(left, data) if self._is_framed else left
        Call.upstream_ends(self, data, size)

    # endings

    def _sent_bytes(self) -> int:
        transcript = self._transcript
        if transcript is not None and transcript.sent_bytes:
            return transcript.sent_bytes
        return self.exchange.request_bytes if (body := self._inbound.body) is None else body.size

    def stop(self, reason: str) -> None:
        if self._collector is not None and self._collector.is_collecting:
            self.refuse(Refused("stopped", reason))
        else:
            super().stop(reason)

    def _leave_upstream(self, error: str) -> None:
        if self._collector is not None:
            self._collector.drop()
        super()._leave_upstream(error)

    def _cut(self) -> None:
        """Give the client what was held back of the last event that had come: without us it would have had it."""
        transcript, response, error = self._transcript, self._response, self.exchange.error
        assert response is not None
        if transcript is not None and transcript.removal is not None:
            left = transcript.removal.end(error) if error != "client_stalled" else b""
            if left:
                super().upstream_sends(b"%x\r\n%b\r\n" % (len(left), left) if self._is_framed else left)
            if not self.request.is_1_1:
                response.length = UNTIL_CLOSE  # it has lost its length, and a clean end would make it look whole
        super()._cut()

    def _spoken(self, refused: Refused) -> Spoken:
        return self._inspection.error(refused)
