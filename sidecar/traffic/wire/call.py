"""
One call under way: an exchange, the attempt that is made for it, and the response as it goes to the client.

A call is what the pool gives a connection to (`pool.Waiter`) and what an upstream's bytes are pushed to (`outbound.Sink`).
It ends in one of four ways: the response was written (`_finish`), cut (`_cut`), the client has gone, or a tunnel took over.
"""

import time
from typing import TYPE_CHECKING

from sidecar.dialects import plain
from sidecar.dialects.dialect import Spoken
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt
from sidecar.model.facts import Mode, Passage
from sidecar.traffic.chain import ask
from sidecar.traffic.meter import attempt_finished, begin_attempt, begin_exchange, exchange_finished
from sidecar.traffic.transcript import Transcript
from sidecar.traffic.wire.answer import CONTINUE, tunnel_opened
from sidecar.traffic.wire.deadlines import overdue
from sidecar.traffic.wire.handover import hand_over
from sidecar.traffic.wire.outbound import Outbound
from sidecar.traffic.wire.pool import Pool
from sidecar.traffic.wire.reply import Framing, interim, reframe, reply_head, upgraded
from sidecar.traffic.wire.request import Ready
from sidecar.traffic.wire.request_head import RequestHead, too_long
from sidecar.traffic.wire.response_head import ResponseHead
from sidecar.traffic.wire.tunnel import Tunnel

if TYPE_CHECKING:
    from sidecar.traffic.wire.inbound import Inbound
    from sidecar.traffic.wire.listener import Listener

UPLOAD_WINDOW_BYTES = 64 * 1024
"""Request content that waits for a connection; beyond it the client is paused."""
_CONTINUE_AFTER_S = 1.0
"""An upstream that has said nothing to `Expect: 100-continue` by then gets the content anyway (RFC 9110 section 10.1.1)."""
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))


class Call:
    """An exchange under way on a client's connection."""

    __slots__ = (
        "_attempt", "_continue_at", "_head_out", "_inbound", "_is_waiting", "_is_wrapped", "_listener", "_outbound", "_pending",
        "_ready", "_replay", "_response", "exchange", "request",
    )  # fmt: skip

    _goes_straight = True

    def __init__(
        self, inbound: "Inbound", listener: "Listener", request: RequestHead, ready: Ready | None, passage: Passage
    ) -> None:
        self._inbound = inbound
        self._listener = listener
        self.request = request
        self._ready = ready
        self.exchange = begin_exchange(listener, passage, request)
        self._attempt: Attempt | None = None
        self._outbound: Outbound | None = None
        self._response: ResponseHead | None = None
        self._is_waiting = self._is_wrapped = False
        self._head_out = b""
        self._continue_at = 0.0
        self._pending: bytes | bytearray = b""
        self._replay: bytes | None = None

    # the way there

    def begin(self, rest: bytes) -> None:
        """Send the call where it goes; `rest` is what came behind its head."""
        ready, request, inbound, exchange = self._ready, self.request, self._inbound, self.exchange
        assert ready is not None, "here.py answers what goes nowhere"
        try:
            length, limit = request.length, self._listener.max_body_bytes
            if length > limit and limit:
                raise too_long(length, limit)
            chain = ready.chain
            if chain.admit is not None:
                ask(chain.admit, exchange)
            if chain.take is None and not exchange.stopped:
                attempt = self._attempt = begin_attempt(exchange, self._listener.runtime.rng)
            else:
                attempt = self._begin_attempt(ready)
            exchange.when_stopped(self.stop)  # not before: what guards stop is refused below
            if length > 0 and length == len(rest):
                content = rest  # the commonest case: all of the request came at once
                exchange.request_bytes = length
            else:
                content = inbound.take_body(request, rest)
            if ready.way.mode is Mode.CONNECT:
                self._listener.dial_tunnel(self, ready.way.route.upstream)
                return
            if request.expects_continue:
                self._continue_soon()
            head = ready.head(exchange, attempt)
        except Refused as refused:
            self.refuse_unsent(refused, rest)
            return
        self._send(ready, head, content)

    def _send(self, ready: Ready, head: bytes, content: bytes) -> None:
        """Send the request, over a connection that is free or one that is waited for."""
        pool = ready.way.route.upstream.pool
        outbound = pool.take()
        if outbound is None:
            self._wait(pool, head, content)
            return
        self._replay = content if self.request.method in IDEMPOTENT and self._inbound.body is None else None
        self._send_over(outbound, head, content)

    def _continue_soon(self) -> None:
        self._continue_at = self._listener.now() + _CONTINUE_AFTER_S

    def _begin_attempt(self, ready: Ready) -> Attempt:
        attempt = self._attempt = begin_attempt(self.exchange, self._listener.runtime.rng)
        self.opened(attempt)
        take = ready.chain.take
        if take is not None:
            ask(take, attempt)
        if self.exchange.stopped:
            raise Refused("stopped", self.exchange.stopped)
        return attempt

    def opened(self, attempt: Attempt) -> Transcript | None:
        """An attempt has begun, and its guards are still to be asked: return its record, where anybody reads it."""

    def _wait(self, pool: Pool, *pending: bytes) -> None:
        """Wait for a connection; `pending` is what is sent then."""
        self._pending = bytearray().join(pending)
        self._is_waiting = True
        try:
            pool.wait(self)
        except Refused as refused:
            self.not_connected(refused)

    def _made(self, ready: Ready, attempt: Attempt, content: bytes) -> tuple[bytes, bytes]:
        """Head and content of an attempt; `content` is what the client sent, in its framing."""
        return ready.head(self.exchange, attempt), content

    def _send_over(self, outbound: Outbound, head: bytes, content: bytes = b"") -> None:
        assert self._attempt is not None
        self._outbound = outbound
        self._attempt.address = outbound.address
        outbound.send(self, self.request.method, head, content, whole=self._inbound.body is None)
        if self._inbound.is_full:
            outbound.pause()  # what was answered before has not gone yet

    def connected(self, outbound: Outbound) -> None:
        """A connection that was waited for is there (pool.Waiter)."""
        assert self._attempt is not None
        self._is_waiting = False
        if not outbound.uses:
            self._attempt.connected_at = time.monotonic_ns()
        self._inbound.is_quiet = False
        data, self._pending = bytes(self._pending), b""
        self._inbound.resume_client()
        self._send_over(outbound, data)

    def not_connected(self, fault: Refused) -> None:
        """There will be no connection (pool.Waiter)."""
        self._is_waiting = False
        self.refuse(fault)

    def content_came(self, data: bytes, *, whole: bool) -> None:
        """Further request content came from the client, framed for the upstream."""
        if self._outbound is not None:
            self._outbound.send_more(data, whole=whole)
        elif self._is_waiting:
            self._pending += data
            if not whole and len(self._pending) > UPLOAD_WINDOW_BYTES:
                self._inbound.pause_client()

    def upstream_full(self) -> None:
        if self._inbound.body is not None:
            self._inbound.pause_client()

    def upstream_drained(self) -> None:
        self._inbound.resume_client()

    def client_full(self) -> None:
        if self._outbound is not None:
            self._outbound.pause()

    def client_drained(self) -> None:
        if self._outbound is not None:
            self._outbound.resume()

    # the response (outbound.Sink)

    def upstream_informs(self, head: ResponseHead) -> None:
        self._inbound.is_quiet = False
        if head.status == 100:
            if self._continue_at < 0:
                return  # we have said so ourselves already
            self._continue_at = 0.0
        if self.request.is_1_1:
            self._inbound.write(interim(head, self._listener.signature))

    def upstream_answers(self, outbound: Outbound, head: ResponseHead) -> bool:
        """Prepare the head for the client, to leave in one write with the first content; True where the framing is kept."""
        inbound = self._inbound
        self._answered(head)
        if head.length > 0:
            self._head_out = reply_head(
                head, self._listener.signature, keeps_alive=inbound.keeps_alive, is_1_1=self.request.is_1_1
            )
            return True
        return self._frame_as(reframe(head, is_1_1=self.request.is_1_1), head)

    def _answered(self, head: ResponseHead) -> None:
        exchange, attempt, inbound = self.exchange, self._attempt, self._inbound
        assert attempt is not None
        attempt.status = exchange.status = head.status
        attempt.first_byte_at = exchange.first_byte_at = time.monotonic_ns()
        self._response = head
        inbound.is_quiet = False
        if inbound.body is not None:
            inbound.keeps_alive = False  # the answer came before the request was over

    def _frame_as(self, framing: Framing, head: ResponseHead) -> bool:
        self._is_wrapped = framing.wraps
        if framing.ends_with_connection:
            self._inbound.keeps_alive = False
        self._head_out = self._reply_head(head)
        return framing.relays

    def _reply_head(self, head: ResponseHead) -> bytes:
        return reply_head(head, self._listener.signature, keeps_alive=self._inbound.keeps_alive, is_1_1=self.request.is_1_1)

    def upstream_sends(self, data: bytes) -> None:
        self._inbound.is_quiet = False
        if self._is_wrapped and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head_out:
            data = self._head_out + data
            self._head_out = b""
            if self._goes_straight and self._outbound is not None and not self._is_wrapped:
                self._outbound.straight = self._inbound.write_now
        if data:
            self._inbound.write(data)

    def upstream_ends(self, data: bytes, size: int) -> None:
        self._outbound = None  # the pool's again: a client that takes nothing of this must not pause it
        if self._is_wrapped:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if self._head_out:
            data = self._head_out + data if data else self._head_out
        if data:
            self._inbound.write(data)
        attempt = self._attempt
        assert attempt is not None
        self.exchange.response_bytes = attempt.received_bytes = size
        self._attempt_over("")
        self._finish()

    def upstream_fails(self, outbound: Outbound, fault: UpstreamFailed) -> None:
        self._outbound = None
        assert self._attempt is not None
        self._attempt.received_bytes = self.exchange.response_bytes = outbound.received
        replay, ready = self._replay, self._ready
        if replay is None or ready is None or fault.code != "upstream_closed":
            self.refuse(fault)
            return
        # A kept-alive connection died as we wrote to it: an idempotent request is tried once more (RFC 9110 section 9.2.2).
        self._replay = None
        self._attempt_over(fault.code)
        try:
            head, content = self._made(ready, self._begin_attempt(ready), replay)
        except Refused as refused:
            self.refuse(refused)
            return
        self._wait(ready.way.route.upstream.pool, head, content)

    def upstream_unsent(self, data: bytes) -> None:
        """Nothing has gone, so this is no further attempt, and any method may have it (RFC 9110 section 9.2.2)."""
        self._outbound = self._replay = None
        assert self._ready is not None
        assert self._attempt is not None
        self._attempt.address = ""
        self._wait(self._ready.way.route.upstream.pool, data)

    # tunnels

    def tunnel_reached(self, address: str) -> Tunnel | None:
        """The destination of a CONNECT accepted: say so to the client; None where the client has gone meanwhile."""
        attempt = self._attempt
        if attempt is None or self._inbound.call is not self:
            return None
        attempt.address = address
        attempt.connected_at = time.monotonic_ns()
        return self._hand_over(200, tunnel_opened(self._listener.signature.via_line))

    def upstream_upgrades(self, outbound: Outbound, head: ResponseHead, rest: bytes) -> None:
        self._outbound = None
        if not self.request.upgrade:
            outbound.transport.abort()
            self.refuse(UpstreamFailed("upstream_malformed", "101 came without being asked for"))
            return
        tunnel = self._hand_over(101, upgraded(head, self.request.upgrade, self._listener.signature))
        tunnel.go_on(outbound.transport, rest)

    def _hand_over(self, status: int, opening: bytes) -> Tunnel:
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        return hand_over(self._listener, self._inbound, self.exchange, attempt, status=status, opening=opening)

    # endings

    def refuse_unsent(self, refused: Refused, rest: bytes) -> None:
        """Refuse a request whose body has not been looked at yet: read it past, so that the connection may be kept."""
        if self._inbound.body is None:
            try:
                self._inbound.take_body(self.request, rest)
            except Refused:
                self._inbound.keeps_alive = False
        self.refuse(refused)

    def refuse(self, refused: Refused) -> None:
        """End the call with an error of ours, or, once the response has begun, by cutting it."""
        inbound, exchange = self._inbound, self.exchange
        if inbound.call is not self:
            return
        self._listener.count_refused(refused.code)
        exchange.error = refused.code
        self._leave_upstream(refused.code)
        if self._response is not None:
            self._cut()
            return
        spoken = self._spoken(refused)
        exchange.status = spoken.status
        if inbound.body is not None or refused.meaning.status == 400:
            inbound.keeps_alive = False
        inbound.write(inbound.error(refused, is_head=self.request.method == b"HEAD", spoken=spoken))
        self._finish()

    def _spoken(self, refused: Refused) -> Spoken:
        return plain.error(refused, None)

    def _finish(self) -> None:
        inbound, exchange = self._inbound, self.exchange
        if inbound.body is not None:
            exchange.request_bytes = inbound.body.size
        exchange_finished(self._listener.runtime, exchange)
        inbound.call_over()

    def _cut(self) -> None:
        """End a response that is not whole, never cleanly; a body that ends with the connection can only be cut by a reset."""
        inbound, response = self._inbound, self._response
        assert response is not None
        if self._head_out:
            inbound.write(self._head_out)
        if inbound.body is not None:
            self.exchange.request_bytes = inbound.body.size
        exchange_finished(self._listener.runtime, self.exchange)
        ends_with_connection = response.length < 0 and not self.request.is_1_1
        inbound.call_cut(by_reset=ends_with_connection or self.exchange.error == "client_stalled")

    def client_gone(self) -> None:
        """Nobody waits for the response any more: cancel whatever is under way, at once."""
        self.exchange.error = "client_gone"
        self._leave_upstream("client_gone")
        if self._inbound.body is not None:
            self.exchange.request_bytes = self._inbound.body.size
        exchange_finished(self._listener.runtime, self.exchange)
        self._inbound.call_cut(by_reset=True)

    def _leave_upstream(self, error: str) -> None:
        """Cancel the attempt that is under way: its connection cannot be used again."""
        outbound, self._outbound = self._outbound, None
        if outbound is not None:
            outbound.abort()
            self.exchange.response_bytes = outbound.received
            if self._attempt is not None:
                self._attempt.received_bytes = outbound.received
        if self._is_waiting:
            self._is_waiting = False
            assert self._ready is not None
            self._ready.way.route.upstream.pool.leave(self)
        self._pending = b""
        self._inbound.resume_client()
        self._listener.cancel_work_of(self)
        self._attempt_over(error)

    def _attempt_over(self, error: str) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        attempt.error = error
        if attempt.address:  # else it has never had a connection
            attempt.sent_bytes = self._sent_bytes()
        attempt_finished(self._listener.runtime, attempt, self.exchange)

    def _sent_bytes(self) -> int:
        return self.exchange.request_bytes if (body := self._inbound.body) is None else body.size

    def stop(self, reason: str) -> None:
        """Somebody stopped the exchange (an operator, a policy), and not just because it has told them of its end."""
        if self._attempt is not None:
            self.refuse(Refused("stopped", reason))

    # time

    def tick(self, now: float, quiet_s: float) -> None:
        """Look at the deadlines of the call; `quiet_s` is how long neither side has sent anything."""
        if self._continue_at > 0 and now >= self._continue_at and self._response is None:
            self._continue_at = -1.0
            self._inbound.write(CONTINUE)
        ready = self._ready
        if ready is None or self._is_waiting:
            return  # the pool's own deadlines hold
        attempt, upstream, inbound = self._attempt, ready.way.route.upstream, self._inbound
        fault = overdue(
            quiet_s, client_is_full=inbound.is_full, has_answered=self._response is not None, is_sent=self._outbound is not None,
            is_uploading=inbound.body is not None, is_held_back=inbound.is_paused, client_s=self._listener.idle_timeout_s,
            silence_s=(attempt.idle_timeout_s if attempt else 0.0) or upstream.idle_timeout_s,
            first_byte_s=(attempt.first_byte_timeout_s if attempt else 0.0) or upstream.first_byte_timeout_s,
        )  # fmt: skip
        if fault is not None:
            self.refuse(fault)
