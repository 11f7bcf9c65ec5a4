"""
A call whose route has filters: the chain runs as a task, and may wait, repeat, answer itself or change the response.

The upstream is paused from its head until the filters have returned the response; then its content is pushed through the
response's stages to the client, in the loop turn in which it came.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange
from sidecar.traffic.meter import begin_attempt
from sidecar.traffic.response import BodyStage, Response
from sidecar.traffic.wire.call import UPLOAD_WINDOW_BYTES, Call
from sidecar.traffic.wire.head import without_framing
from sidecar.traffic.wire.outbound import Outbound
from sidecar.traffic.wire.reply import AS_IT_CAME, reframe
from sidecar.traffic.wire.response_head import ResponseHead

if TYPE_CHECKING:
    from sidecar.model.facts import Passage
    from sidecar.traffic.listeners.http import HttpListener
    from sidecar.traffic.wire.inbound import Inbound
    from sidecar.traffic.wire.request import Ready
    from sidecar.traffic.wire.request_head import RequestHead

_log = logging.getLogger(__name__)


class FilteredCall(Call):
    """A call that runs through an async chain."""

    __slots__ = ("_content", "_ended_size", "_heard", "_held", "_is_delivered", "_offered", "_stages", "_was_sent")

    def __init__(
        self, inbound: "Inbound", listener: "HttpListener", request: "RequestHead", ready: "Ready", passage: "Passage"
    ) -> None:
        super().__init__(inbound, listener, request, ready, passage)
        self._heard: asyncio.Future[Response] | None = None
        self._held: list[bytes] = []
        self._offered: Response | None = None
        self._stages: tuple[BodyStage, ...] = ()
        self._content: list[bytes] = []
        self._was_sent = self._is_delivered = False
        self._ended_size = -1

    def begin(self, rest: bytes) -> None:
        """Start the chain; request content that comes meanwhile waits within a bound."""
        self.exchange.when_stopped(self.stop)
        try:
            self._check_length()
            content = self._inbound.take_body(self.request, rest)
        except Refused as refused:
            self.refuse_unsent(refused, rest)
            return
        if content:
            self._content.append(content)
        self._listener.own(self, self._run())

    async def _run(self) -> None:
        assert self._ready is not None
        forward = self._ready.way.route.chain.run(self._begin, self._try)
        try:
            response: Response = await forward(self.exchange)
        except Refused as refused:
            self._heard = None
            self.refuse(refused)
        except (Exception, asyncio.CancelledError) as fault:
            task = asyncio.current_task()
            if isinstance(fault, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # the call is over; otherwise something that the policy awaited was cancelled
            _log.exception("a policy of route %r failed", self.exchange.route)
            self._heard = None
            self.refuse(Refused("policy_failed"))
        else:
            self._deliver(response)

    # attempts

    def _begin(self, exchange: Exchange) -> Attempt:
        self._give_up_attempt("")
        attempt = self._attempt = begin_attempt(exchange, self._listener.runtime.rng)
        return attempt

    async def _try(self, attempt: Attempt) -> Response:
        assert self._ready is not None
        if self._was_sent and (self._inbound.body is not None or not self._content_is_whole()):
            raise UpstreamFailed("body_gone", "the request's body has gone to the attempt before")
        heard: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._heard = heard
        self._was_sent = True
        self._continue_soon()
        content = b"".join(self._content)
        if self._inbound.body is not None:
            self._content = []  # streamed on as it comes: it cannot be sent twice
        self._inbound.resume_client()
        self._send(self._ready.way.route.upstream.pool, self._ready.head(self.exchange, attempt), content)
        try:
            return await heard
        finally:
            if self._heard is heard:
                self._heard = None

    def _content_is_whole(self) -> bool:
        return self.request.length == 0 or bool(self._content)

    def content_came(self, data: bytes, *, whole: bool) -> None:
        if self._was_sent:
            super().content_came(data, whole=whole)
            return
        self._content.append(data)
        if not whole and sum(map(len, self._content)) > UPLOAD_WINDOW_BYTES:
            self._inbound.pause_client()

    def client_drained(self) -> None:
        if self._is_delivered:  # before, the upstream is paused at its head, whatever the client takes
            super().client_drained()

    def _attempt_failed(self, fault: Refused) -> bool:
        """Let the filters hear of it, where they wait for the response; False where nobody does."""
        heard = self._heard
        if heard is None or heard.done():
            return False
        self._give_up_attempt(fault.code)
        heard.set_exception(fault)
        return True

    def _give_up_attempt(self, error: str) -> None:
        outbound, self._outbound = self._outbound, None
        if outbound is not None:
            outbound.abort()
        self._leave_queue()
        self._held = []
        self._offered = None
        self._ended_size = -1
        self._attempt_over(error)

    def drop(self, response: Response) -> None:
        """A filter does not want this response: its attempt is over."""
        if not self._is_delivered:
            self._give_up_attempt("")

    def not_connected(self, fault: Refused) -> None:
        self._is_waiting = False
        if not self._attempt_failed(fault):
            self.refuse(fault)

    def upstream_fails(self, outbound: Outbound, fault: UpstreamFailed) -> None:
        self._outbound = None
        if not self._attempt_failed(fault):
            self.refuse(fault)

    def refuse(self, refused: Refused) -> None:
        """A deadline of an attempt is the filters' affair, everything else ends the call."""
        if isinstance(refused, UpstreamFailed) and self._attempt_failed(refused):
            return
        super().refuse(refused)

    # the response

    def upstream_answers(self, outbound: Outbound, head: ResponseHead) -> bool:
        attempt, heard = self._attempt, self._heard
        assert attempt is not None
        attempt.status = head.status
        attempt.first_byte_at = time.monotonic_ns()
        self._inbound.is_quiet = False
        outbound.pause()
        if heard is not None and not heard.done():
            self._offered = Response.received(head, self)
            heard.set_result(self._offered)
        return False

    def upstream_sends(self, data: bytes) -> None:
        if not self._is_delivered:
            if data:
                self._held.append(data)
            return
        for stage in self._stages:
            data = stage.data(data) if data else data
        super().upstream_sends(data)

    def upstream_ends(self, data: bytes, size: int) -> None:
        outbound, self._outbound = self._outbound, None
        if outbound is not None:
            outbound.resume()  # it is the pool's again, or somebody else's already, and was paused at its head
        if not self._is_delivered:
            if data:
                self._held.append(data)
            self._ended_size = size
            return
        for stage in self._stages:
            data = (stage.data(data) if data else b"") + stage.end("")
        super().upstream_ends(data, size)

    def _deliver(self, response: Response) -> None:
        if self._inbound.call is not self:
            return
        if response.head is None:
            self._give_up_attempt("")
            self._deliver_made(response)
            return
        if response is not self._offered:
            _log.error("a policy of route %r returned a response that it had dropped", self.exchange.route)
            self.refuse(Refused("policy_failed"))
            return
        head = response.head
        head.lines = [b"", *response.fields]
        head.status_line = response.status_line
        self._stages = response.stages
        self._is_delivered = True
        self.exchange.status = response.status
        self.exchange.first_byte_at = time.monotonic_ns()
        self._response = head
        framing = AS_IT_CAME
        if head.length <= 0 or self._stages:
            framing = reframe(head, is_1_1=self.request.is_1_1, content_only=True)
        self._frame_as(framing, head)
        held, self._held = self._held, []
        outbound = self._outbound
        if self._ended_size >= 0:
            self.upstream_ends(b"".join(held), self._ended_size)
            return
        self.upstream_sends(b"".join(held))
        if outbound is not None and not self._inbound.is_full:
            outbound.resume()

    def _deliver_made(self, response: Response) -> None:
        """Write a response that a filter has made itself."""
        head = ResponseHead()
        head.status = self.exchange.status = response.status
        content = response.content
        for stage in response.stages:
            content = stage.data(content) + stage.end("")
        head.lines = [b"", *without_framing(response.fields), b"Content-Length: %d" % len(content)]
        head.status_line = response.status_line
        head.has_date = any(line[:5].lower() == b"date:" for line in response.fields)
        self.exchange.response_bytes = len(content)
        out = self._reply_head(head)
        self._inbound.write(out if self.request.method == b"HEAD" else out + content)
        self._finish()
