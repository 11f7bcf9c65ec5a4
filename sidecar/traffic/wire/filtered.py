"""
A call whose route has filters: the chain runs as a task, and may wait, repeat, answer itself or change the response.

It has two halves. While the filters decide, its attempts are `trials`, and the upstream of each is paused behind its head.
When they have returned a response, its content is pushed through its stages to the client, in the loop turn in which it came.
"""

import logging
import time
from typing import TYPE_CHECKING

from sidecar.dialects.dialect import Spoken
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange
from sidecar.traffic.inspection import Inspection
from sidecar.traffic.response import Response
from sidecar.traffic.transcript import Transcript
from sidecar.traffic.wire.answer import CONTINUE, tunnel_opened
from sidecar.traffic.wire.call import Call
from sidecar.traffic.wire.collector import Collector
from sidecar.traffic.wire.delivery import count_failed, end_stages, made_head, received_head, take_fields
from sidecar.traffic.wire.request_head import too_long
from sidecar.traffic.wire.response_head import ResponseHead
from sidecar.traffic.wire.trial import Trial
from sidecar.traffic.wire.trials import Trials

if TYPE_CHECKING:
    from sidecar.model.facts import Passage
    from sidecar.traffic.wire.inbound import Inbound
    from sidecar.traffic.wire.listener import Listener
    from sidecar.traffic.wire.request import Ready
    from sidecar.traffic.wire.request_head import RequestHead

_log = logging.getLogger(__name__)


class FilteredCall(Call):
    """A call that runs through an async chain; `inbound` is its client, `delivered` what the filters have returned."""

    __slots__ = (
        "_attempt_transcript", "_chain", "_collector", "_is_ending", "_is_pushing", "_refusal", "_sent_on_bytes", "_tail",
        "_transcript", "_trials", "delivered", "inbound", "inspection", "listener",
    )  # fmt: skip

    _goes_straight = False  # stages see every byte

    def __init__(
        self, inbound: "Inbound", listener: "Listener", request: "RequestHead", ready: "Ready", passage: "Passage"
    ) -> None:
        super().__init__(inbound, listener, request, ready, passage)
        self.inbound = inbound
        self.listener = listener
        self.delivered: Response | None = None
        self._chain = ready.chain
        self.inspection = Inspection(ready.inspector) if ready.inspector is not None else None
        self._collector: Collector | None = None
        if self.inspection is not None:
            inspection = self.inspection
            self._collector = Collector(request.length, inspection.most_bytes, inspection.room, keeps=True)
        self._transcript: Transcript | None = None  # what is still to come of the answer
        self._attempt_transcript: Transcript | None = None
        self._trials = Trials(self, ready)
        self._refusal: Refused | None = None
        self._tail = b""
        self._sent_on_bytes = 0
        self._is_ending = self._is_pushing = False

    @property
    def sent_bytes(self) -> int:
        """Bytes of the request's content that have come, and gone on, so far."""
        body = self.inbound.body
        return body.size if body is not None else self.exchange.request_bytes

    # the filters decide

    def begin(self, rest: bytes) -> None:
        """Start the chain; request content that comes meanwhile waits within a bound."""
        self.exchange.when_stopped(self.stop)
        try:
            length, limit = self.request.length, self._listener.max_body_bytes
            if length > limit and limit:
                raise too_long(length, limit)
            content = self.inbound.take_body(self.request, rest)
        except Refused as refused:
            self.refuse_unsent(refused, rest)
            return
        self._collect(content)
        if self._collector is not None and self._collector.is_collecting and self.request.expects_continue:
            self._continue_at = -1.0
            self.inbound.write(CONTINUE)

    def _collect(self, content: bytes) -> None:
        """Start the chain, as soon as the request has been read where it is to be."""
        collector, body = self._collector, None
        if collector is not None and collector.is_collecting:
            collected = collector.take(content, whole=self.inbound.body is None)
            if collected is None:
                return
            content, body = collected
        if self.inspection is not None:
            self.inspection.begin(self.listener, self.exchange, body, collector.why if collector is not None else "")
        self._ask(content)

    def take_over(self, exchange: Exchange, inspection: Inspection, content: bytes) -> None:
        """Go on with a call that is read already, and whose answer only filters can make what it has to be."""
        self.exchange, self.inspection = exchange, inspection
        if self._collector is not None:
            self._collector.keep(content)
        exchange.when_stopped(self.stop)
        self._continue_at = -1.0
        self._ask(content)

    def _ask(self, content: bytes) -> None:
        """Start the chain; `content` is what has come of the request."""
        assert self._ready is not None
        self._chain = self._ready.chain_for(self.exchange.asked)
        self._trials.begins()
        if content:
            self._trials.content_came(content, whole=self.inbound.body is None)
        self.listener.own(self, self._run())

    def keeps_no_content(self) -> None:
        """What has come of the request has gone on, and waits nowhere."""
        if self._collector is not None:
            self._collector.drop()

    def remembers(self, dialogue: Dialogue) -> None:
        """An attempt that was not delivered is over: keep what was said until the exchange is."""
        self._trials.remembers(dialogue)

    def opened(self, attempt: Attempt) -> Transcript | None:
        if self.inspection is None:
            return None
        return self.inspection.open(attempt, time.monotonic_ns, self.listener.tunnel_idle_timeout_s)

    async def _run(self) -> None:
        forward = self._chain.run(self._trials)
        try:
            response = await forward(self.exchange)
            await self._deliver(response)
        except Refused as refused:
            self.refuse(refused)

    def content_came(self, data: bytes, *, whole: bool) -> None:
        if self._collector is not None and self._collector.is_collecting:
            self._collect(data)
        elif self.delivered is None:
            self._trials.content_came(data, whole=whole)
        else:
            super().content_came(data, whole=whole)

    def continue_soon(self) -> None:
        """The request is on its way: its client may be asked for the content, once."""
        if self.request.expects_continue and not self._continue_at:
            self._continue_soon()

    def upstream_informs(self, head: ResponseHead) -> None:
        super().upstream_informs(head)
        if head.status == 100:
            self._continue_at = -1.0  # another attempt's is not passed on again

    # what they returned

    async def _deliver(self, response: Response) -> None:
        """Begin to answer; raises `Refused` where that cannot be."""
        if self.inbound.call is not self:
            return
        if self.inbound.body is not None:
            self.inbound.keeps_alive = False  # the answer comes before the request is over: what follows is not a request
        trial = self._trials.of(response)
        if trial is not None and trial.fault is not None:
            raise trial.fault
        if trial is not None and (trial.socket is not None or trial.upgrade is not None):
            await self._deliver_tunnel(trial, response)
        elif trial is not None:
            self._deliver_received(trial, response)
        elif response.head is None:
            self._deliver_made(response)
        else:
            _log.error("a policy of route %r returned a response that it had dropped", self.exchange.route)
            raise Refused("policy_failed", "the response was dropped before")

    def _deliver_received(self, trial: Trial, response: Response) -> None:
        is_head = self.request.method == b"HEAD"
        head, framing = received_head(response, is_head=is_head, is_1_1=self.request.is_1_1)
        self._take_over(trial, response)
        outbound = self._outbound = trial.outbound
        held = trial.hand_over()
        self._response = head
        self._frame_as(framing, head)
        self._transcript = None  # what has come has been read
        self.exchange.status = response.status
        self.exchange.first_byte_at = time.monotonic_ns()
        if trial.ended_bytes >= 0:
            self.upstream_ends(held, trial.ended_bytes)
            return
        self.upstream_sends(held)
        self._transcript = trial.transcript
        if outbound is not None and outbound is self._outbound and not self.inbound.is_full:
            outbound.resume()

    def _take_over(self, trial: Trial, response: Response) -> None:
        """Go on with this attempt and no other; raises `Refused` where giving the others up has stopped the call."""
        self._is_pushing = True
        self._trials.close("given_up", but=response)
        self._is_pushing = False
        self._keep_no_request(trial)
        if self._refusal is not None:
            trial.give_up(self._refusal.code)
            raise self._refusal
        response.stages.flow()
        self.delivered = response
        self._attempt = trial.attempt
        self._attempt_transcript = trial.transcript

    async def _deliver_tunnel(self, trial: Trial, response: Response) -> None:
        """Open the tunnel; its bytes pass no stages, which hear of their ending now."""
        if response.status != trial.attempt.status:
            raise Refused("policy_failed", "a policy changed the status of a tunnel")
        upgrade, sock = trial.upgrade, trial.socket
        if upgrade is not None and upgrade.outbound.transport.is_closing():
            raise UpstreamFailed("upstream_cut", "the upstream closed before the tunnel stood")
        if upgrade is not None:
            take_fields(upgrade.head, response)
        if self._pass(response, b"", is_last=True):
            raise self._broken(Refused("policy_failed", "a stage gave bytes to a tunnel"))
        self._take_over(trial, response)
        trial.hand_over()
        if upgrade is not None:
            upgrade.outbound.transport.resume_reading()
            self.upstream_upgrades(*upgrade)
        elif sock is not None:
            await self._hand_over(200, tunnel_opened(self.listener.signature.via_line)).join(sock)

    def _keep_no_request(self, trial: Trial) -> None:
        """No attempt will be sent any more."""
        if self.inspection is not None:
            self.inspection.sent(trial.transcript)
        self.keeps_no_content()

    def _deliver_made(self, response: Response) -> None:
        """Write a response that a filter has made itself."""
        content = self._pass(response, response.content, is_last=True)
        head = made_head(response, content, method=self.request.method)
        self.delivered = response
        self.exchange.status = response.status
        self.exchange.dialogue = None  # that of an attempt that failed before: it is not what the agent sees
        self.exchange.first_byte_at = time.monotonic_ns()
        out = self._reply_head(head)
        if self.request.method != b"HEAD":
            self._sent_on_bytes = len(content)
            out += content
        self.inbound.write(out)
        self._finish()

    # content

    def _pass(self, response: Response, data: bytes, *, is_last: bool) -> bytes:
        """Pass content through the stages; raises `Refused` where one of them ends the call, in whichever way."""
        stages = response.stages
        self._is_pushing = True
        try:
            data = stages.end("", data) if is_last else stages.data(data)
        except Refused as refused:
            raise self._broken(refused) from None
        finally:
            self._is_pushing = False
        if self._refusal is not None:
            raise self._refusal  # a stage has stopped the exchange
        return data

    def _broken(self, refused: Refused) -> Refused:
        count_failed(self.listener, refused)
        return refused

    def upstream_sends(self, data: bytes) -> None:
        response = self.delivered
        assert response is not None
        if self._transcript is not None:
            self._transcript.feed(data)
        if response.stages:
            try:
                data = self._pass(response, data, is_last=False)
            except Refused as refused:
                self.refuse(refused)
                return
            self._sent_on_bytes += len(data)
        super().upstream_sends(data)

    def upstream_ends(self, data: bytes, size: int) -> None:
        response, head, attempt = self.delivered, self._response, self._attempt
        assert response is not None
        assert head is not None
        assert attempt is not None
        self._outbound = None
        if self._transcript is not None:
            self._transcript.last = data
        try:
            data = self._pass(response, data, is_last=True)
            if data and head.length == 0:
                raise self._broken(Refused("policy_failed", "a stage gave bytes to a response without a body"))
        except Refused as refused:
            attempt.received_bytes = size
            self._attempt_over("")  # the upstream has done what it was asked for
            self.refuse(refused)
            return
        self._sent_on_bytes += len(data)
        super().upstream_ends(data, size)

    # endings

    def stop(self, reason: str) -> None:
        if self.delivered is None or self._attempt is not None:  # else it is at its end already
            self.refuse(Refused("stopped", reason))

    def refuse(self, refused: Refused) -> None:
        """End the call, but not in the middle of a stage, nor twice where somebody who is told of its end stops it."""
        if self._is_pushing:
            self._refusal = self._refusal or refused
            return
        if self._is_ending:
            return
        if self._head_out:
            self._head_out = b""
            self._response = None  # nothing has been written: the client gets the error itself
            self.exchange.first_byte_at = 0
        super().refuse(refused)

    def _leave_upstream(self, error: str) -> None:
        self._is_ending = True
        self.keeps_no_content()
        self._trials.close(error)
        super()._leave_upstream(error)
        if self.delivered is not None:
            self._tail = end_stages(self.listener, self.delivered, error)
            self._count_response()

    def _sent_bytes(self) -> int:
        transcript = self._attempt_transcript
        return (transcript.sent_bytes if transcript is not None else 0) or super()._sent_bytes()

    def _spoken(self, refused: Refused) -> Spoken:
        return self.inspection.error(refused) if self.inspection is not None else super()._spoken(refused)

    def _finish(self) -> None:
        self._is_ending = True
        self._trials.close("given_up")
        self.keeps_no_content()
        self._count_response()
        super()._finish()
        self._trials.forget()

    def _cut(self) -> None:
        if self._tail and self.exchange.error != "client_stalled":
            super().upstream_sends(self._tail)
            self._sent_on_bytes += len(self._tail)
            self._count_response()
        super()._cut()
        self._trials.forget()

    def client_gone(self) -> None:
        super().client_gone()
        self._trials.forget()

    def _count_response(self) -> None:
        """What the client gets is not what the upstream sent, where there are stages or nothing came from an upstream."""
        response = self.delivered
        if response is not None and (response.head is None or response.stages):
            self.exchange.response_bytes = self._sent_on_bytes

    # time

    def tick(self, now: float, quiet_s: float) -> None:
        """While the filters decide, their attempts have deadlines of their own, and so have they."""
        if self.delivered is not None:
            super().tick(now, quiet_s)
            return
        if self._continue_at > 0 and now >= self._continue_at:
            self._continue_at = -1.0
            self.inbound.write(CONTINUE)
        fault = self._trials.overdue(now, quiet_s)
        if fault is not None:
            self.refuse(fault)
