"""
One attempt of a filtered call, from its request until the filters have decided about its response.

It is what the pool gives a connection to (`pool.Waiter`) and what the upstream's bytes are pushed to (`outbound.Sink`). The
upstream is paused behind the response's head; when the response is delivered, the call takes connection and attempt over.
"""

import asyncio
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt
from sidecar.traffic.meter import attempt_finished
from sidecar.traffic.response import Response
from sidecar.traffic.transcript import Transcript
from sidecar.traffic.wire.call import IDEMPOTENT, UPLOAD_WINDOW_BYTES
from sidecar.traffic.wire.deadlines import overdue
from sidecar.traffic.wire.delivery import end_stages
from sidecar.traffic.wire.outbound import Outbound
from sidecar.traffic.wire.response_head import ResponseHead

if TYPE_CHECKING:
    from sidecar.traffic.upstreams.http import HttpUpstream
    from sidecar.traffic.wire.filtered import FilteredCall


class Upgrade(NamedTuple):
    """A connection that has become another protocol's; `rest` came behind the 101."""

    outbound: Outbound
    head: ResponseHead
    rest: bytes


class Trial:
    """
    An attempt under way: `response` is there when its head has come, `fault` when it came to nothing.

    `heard` tells who waits for either; it is always resolved. `is_over` when its fact has been published, or the call has
    taken it over. `ended_bytes` is the size of a body that has come whole (-1: not yet), `socket` leads to the destination of a
    CONNECT, and `wants_fresh` asks for a connection that nobody has used.
    """

    __slots__ = (
        "_call", "_held", "_held_bytes", "_is_waiting", "_may_be_stale", "_more", "_pending", "_quiet_since", "attempt",
        "ended_bytes", "fault", "has_begun", "heard", "is_over", "outbound", "owner", "response", "socket", "transcript",
        "upgrade", "upstream", "wants_fresh",
    )  # fmt: skip

    def __init__(
        self, call: "FilteredCall", attempt: Attempt, upstream: "HttpUpstream", transcript: Transcript | None = None, *,
        wants_fresh: bool,
    ) -> None:  # fmt: skip
        self._call = call
        self.transcript = transcript
        self.attempt = attempt
        self.upstream = upstream
        self.wants_fresh = wants_fresh
        self.heard: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.owner: asyncio.Task[object] | None = None
        self.outbound: Outbound | None = None
        self.response: Response | None = None
        self.fault: Refused | None = None
        self.upgrade: Upgrade | None = None
        self.socket: socket.socket | None = None
        self.ended_bytes = -1
        self.has_begun = self.is_over = self._is_waiting = self._may_be_stale = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._more: asyncio.Future[None] | None = None
        self._pending: bytes | bytearray = b""
        self._quiet_since = 0.0

    @property
    def is_awaited(self) -> bool:
        """True while it is the upstream's turn."""
        return self.has_begun and not self.is_over and (self.response is None or self._more is not None)

    @property
    def was_stale(self) -> bool:
        """True when a kept-alive connection died under a request that may be sent once more (RFC 9110 section 9.2.2)."""
        return self._may_be_stale and self.fault is not None and self.fault.code == "upstream_closed"

    # the request

    def send(self, head: bytes, content: bytes) -> None:
        """Send the request, over a connection that is free or one that is waited for."""
        outbound = None if self.wants_fresh else self.upstream.pool.take()
        if outbound is None:
            self._wait(head, content)
            return
        self._may_be_stale = self._call.request.method in IDEMPOTENT and self._call.inbound.body is None
        self._send_over(outbound, head, content)

    def _wait(self, *pending: bytes) -> None:
        self._pending = bytearray().join(pending)
        self._is_waiting = True
        try:
            self.upstream.pool.wait(self)
        except Refused as refused:
            self.not_connected(refused)

    def _send_over(self, outbound: Outbound, head: bytes, content: bytes = b"") -> None:
        self.outbound = outbound
        self.attempt.address = outbound.address
        self._is_heard_of()
        outbound.send(self, self._call.request.method, head, content, whole=self._call.inbound.body is None)

    def _is_heard_of(self) -> None:
        self._quiet_since = self._call.listener.now()

    def connected(self, outbound: Outbound) -> None:
        """A connection that was waited for is there (pool.Waiter)."""
        self._is_waiting = False
        if not outbound.uses:
            self.attempt.connected_at = time.monotonic_ns()
        data = bytes(self._pending)
        self._pending = b""
        self._call.inbound.resume_client()
        self._send_over(outbound, data)

    def not_connected(self, fault: Refused) -> None:
        """There will be no connection (pool.Waiter)."""
        self._is_waiting = False
        self.fail(fault)

    def content_came(self, data: bytes, *, whole: bool) -> None:
        """Further request content came from the client, framed for the upstream."""
        if self.outbound is not None:
            self._is_heard_of()
            self.outbound.send_more(data, whole=whole)
        elif self._is_waiting:
            self._pending += data
            if not whole and len(self._pending) > UPLOAD_WINDOW_BYTES:
                self._call.inbound.pause_client()

    def upstream_unsent(self, data: bytes) -> None:
        """Nothing has gone, so this is no further attempt, and any method may have it (outbound.Sink)."""
        self.outbound = None
        self._may_be_stale = False
        self.attempt.address = ""
        self._wait(data)

    def upstream_full(self) -> None:
        if self._call.inbound.body is not None:
            self._call.inbound.pause_client()

    def upstream_drained(self) -> None:
        self._is_heard_of()
        self._call.inbound.resume_client()

    # the response

    def upstream_informs(self, head: ResponseHead) -> None:
        self._is_heard_of()
        self._call.upstream_informs(head)

    def upstream_answers(self, outbound: Outbound, head: ResponseHead) -> bool:
        response = Response.received(head, self)
        transcript = self.transcript
        if transcript is not None:
            transcript.answers(head)
            if transcript.removal is not None:
                response.through(transcript.removal)
        self._answered(response)
        return False

    def _answered(self, response: Response) -> None:
        self.attempt.status = response.status
        self.attempt.first_byte_at = time.monotonic_ns()
        self.response = response
        if not self.heard.done():
            self.heard.set_result(response)

    def upstream_sends(self, data: bytes) -> None:
        """There is more than the head: it waits, within what one read may bring, until the filters have decided."""
        if data:
            self._held.append(data)
            self._held_bytes += len(data)
            if self.transcript is not None:
                self.transcript.feed(data)
        if self.outbound is not None:
            self.outbound.pause()
        self._wake()

    def upstream_ends(self, data: bytes, size: int) -> None:
        self.outbound = None  # the pool's again, or somebody else's already
        if data:
            self._held.append(data)
            self._held_bytes += len(data)
        if self.transcript is not None:
            self.transcript.last = data
        self.ended_bytes = size
        self._wake()

    async def whole(self, most_bytes: int) -> bytes | None:
        """A filter wants the body before it decides (response.Source): read on, a piece at a time."""
        try:
            while not self.is_over and self.ended_bytes < 0 and self._held_bytes <= most_bytes:
                self._more = asyncio.get_running_loop().create_future()
                self._is_heard_of()
                if self.outbound is not None:
                    self.outbound.resume()
                await self._more
        finally:
            self._more = None
        if self.is_over:
            raise self.fault or Refused("given_up")
        return b"".join(self._held) if self._held_bytes <= most_bytes else None

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def upstream_upgrades(self, outbound: Outbound, head: ResponseHead, rest: bytes) -> None:
        self.outbound = None
        if not self._call.request.upgrade:
            outbound.transport.abort()
            self.fail(UpstreamFailed("upstream_malformed", "101 came without being asked for"))
            return
        outbound.transport.pause_reading()
        self.upgrade = Upgrade(outbound, head, rest)
        self._answered(Response.received(head, self))

    def reached(self, sock: socket.socket, address: str) -> Response:
        """The destination of a CONNECT accepted."""
        self.socket = sock
        self.attempt.address = address
        self.attempt.connected_at = time.monotonic_ns()
        response = Response(200, "Connection established")
        self._answered(response)
        return response

    def upstream_fails(self, outbound: Outbound, fault: UpstreamFailed) -> None:
        self.outbound = None
        self.attempt.received_bytes = outbound.received
        self.fail(fault)

    # endings

    def drop(self, response: Response) -> None:
        """A filter does not want this response (response.Source)."""
        self.give_up("given_up")

    def fail(self, fault: Refused) -> None:
        """It came to nothing, which who waits for it hears; who has its response already hears of it when it is delivered."""
        if not self.is_over:
            self.fault = fault
            self._end(fault.code, fault)

    def give_up(self, error: str) -> None:
        """End it for a reason that is not its own: its connection cannot be used again, unless all has come."""
        if self.is_over:
            return
        is_dropped = error == "given_up"
        is_told = is_dropped and self.response is not None and not self._is_midway  # what was wanted of it, it has said
        said = "" if is_told or self.ended_bytes >= 0 else error
        self._end(said, Refused("given_up"), stages_hear=error, is_seen=not is_dropped)

    @property
    def _is_midway(self) -> bool:
        """True in an answer that is read: left here, it is no whole one, and that is not its upstream's doing."""
        return self.transcript is not None and self.attempt.status < 400

    def _end(self, error: str, told: Refused, *, stages_hear: str = "", is_seen: bool = True) -> None:
        self.is_over = True
        self._wake()
        self._leave()
        if self.response is not None:
            end_stages(self._call.listener, self.response, stages_hear or error)
        attempt = self.attempt
        attempt.error = error
        if attempt.address:
            attempt.sent_bytes = (self.transcript.sent_bytes if self.transcript is not None else 0) or self._call.sent_bytes
        attempt_finished(self._call.listener.runtime, attempt, self._call.exchange, is_seen=is_seen)
        if attempt.dialogue is not None:
            self._call.remembers(attempt.dialogue)
        if not self.heard.done():
            self.heard.set_exception(told)
            self.heard.exception()  # nobody may be waiting any more, which is no fault

    def _leave(self) -> None:
        outbound, self.outbound = self.outbound, None
        if outbound is not None:
            outbound.abort()
            self.attempt.received_bytes = outbound.received
        elif self.ended_bytes >= 0:
            self.attempt.received_bytes = self.ended_bytes
        if self._is_waiting:
            self._is_waiting = False
            self.upstream.pool.leave(self)
        if self.upgrade is not None:
            self.upgrade.outbound.transport.abort()
        if self.socket is not None:
            self.socket.close()
        self._pending = b""
        self._held = []

    def hand_over(self) -> bytes:
        """The call goes on with connection and attempt; returns what has come of the body."""
        self.is_over = True
        held = b"".join(self._held)
        self._held = []
        if self.outbound is not None:
            self.outbound.sink = self._call
        return held

    # time

    def overdue(self, now: float) -> Refused | None:
        """What ends the wait for the upstream; its clock starts when the request has been sent to it."""
        if not self.is_awaited or self._is_waiting:
            return None  # it is not the upstream's turn, or the pool's own deadlines hold
        call, attempt, upstream = self._call, self.attempt, self.upstream
        return overdue(
            now - self._quiet_since, client_is_full=False, has_answered=self.response is not None,
            is_sent=self.outbound is not None, is_uploading=call.inbound.body is not None, is_held_back=call.inbound.is_paused,
            client_s=call.listener.idle_timeout_s, silence_s=attempt.idle_timeout_s or upstream.idle_timeout_s,
            first_byte_s=attempt.first_byte_timeout_s or upstream.first_byte_timeout_s,
        )  # fmt: skip
