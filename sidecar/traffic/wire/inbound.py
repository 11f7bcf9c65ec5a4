"""
One connection of an agent: reads its requests, one after the other, and hands each to a `Call`.

The states are few: no call (a head is awaited), a call whose request is still coming, a call that is owed a response, and
a tunnel, which takes the socket away. A call runs in the callback that brought its bytes, and what it writes leaves in that loop
turn: at its end where others write too, at once where it is alone (outbox.py). There is no timer a call, and a task only where
filters or a CONNECT have to wait. A request that came before its turn has a loop turn of its own. Deadlines are looked at by
the listener's `tick`.
"""

import asyncio
from typing import TYPE_CHECKING, cast

from sidecar.dialects.dialect import Spoken
from sidecar.model.errors import Refused
from sidecar.model.exchange import Exchange
from sidecar.traffic.wire.answer import error_response
from sidecar.traffic.wire.body import Body, ChunkedBody, LengthBody
from sidecar.traffic.wire.call import Call
from sidecar.traffic.wire.filtered import FilteredCall
from sidecar.traffic.wire.hangup import has_hung_up
from sidecar.traffic.wire.here import CallHere
from sidecar.traffic.wire.inspected import InspectedCall
from sidecar.traffic.wire.lingering import Lingering
from sidecar.traffic.wire.outlet import WRITE_HIGH_BYTES, Outlet
from sidecar.traffic.wire.request import Ready, cut
from sidecar.traffic.wire.request_head import RequestHead, check_begun, parse_request
from sidecar.traffic.wire.reset import reset

if TYPE_CHECKING:
    from sidecar.traffic.wire.listener import Listener

_CLOSE_WITHIN_S = 10.0
"""How long a connection that is closed may keep silent while bytes are left to write to it."""
_MAX_BLANK_BYTES = 16
"""Eight empty lines; RFC 9112 section 2.2 asks that one be ignored, behind which a client of old may have put it."""
_NEXT_REQUEST_S = 1.0
"""A connection this young, or idle for no longer, may have a request on the way, and closing it would reset that."""


class Inbound(Outlet, asyncio.Protocol):
    """
    A connection of an agent; `client` is its address, `call` what is under way.

    `body` is the request body that is still coming (None: the request is complete), `keeps_alive` whether another request
    may follow. `is_quiet` is cleared by every byte in either direction and set by each tick.
    """

    __slots__ = (
        "_blank_bytes", "_has_dropped", "_left_bytes", "_lingering", "_listener", "_partial", "_pipelined",
        "_quiet_since", "_ready", "body", "call", "client", "is_full", "is_paused", "is_quiet", "keeps_alive",
    )  # fmt: skip

    def __init__(self, listener: "Listener") -> None:
        super().__init__(listener.outbox)
        self._listener = listener
        self._partial = self._pipelined = b""
        self._ready: Ready | None = None
        self.is_paused = False
        self._lingering: Lingering | None = None
        self._blank_bytes = 0
        self._left_bytes = 0
        self._quiet_since = listener.now()
        self.client = ""
        self.call: Call | None = None
        self.body: Body | None = None
        self.keeps_alive = True
        self.is_full = False
        self.is_quiet = False
        self._has_dropped = False

    @property
    def exchange(self) -> Exchange | None:
        """The exchange that is under way, if any."""
        return self.call.exchange if self.call is not None else None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        peer = transport.get_extra_info("peername")
        self.client = f"{peer[0]}:{peer[1]}" if peer else ""
        self._listener.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.closed(self)
        if self.call is not None:
            self.call.client_gone()

    def data_received(self, data: bytes) -> None:
        self.is_quiet = False
        if self.call is None:
            ready = self._ready
            if ready is not None and not self._partial:
                size = ready.comes_again(data, self._listener.graph)
                if size:
                    self._blank_bytes = 0
                    self._serve(ready.request, ready, data[size:])
                    return
            self._read_head(data)
        elif self.body is not None:
            self._read_body(data)
        else:
            self._keep_pipelined(data)

    def eof_received(self) -> bool:
        """While a response is owed, EOF means that the client has gone (as in nginx and Envoy)."""
        if self.call is not None:
            self.call.client_gone()
        else:
            self.flush()  # the transport closes now, and takes nothing any more at the end of the turn
        return False

    def pause_writing(self) -> None:
        self.is_full = True
        if self.call is not None:
            self.call.client_full()

    def resume_writing(self) -> None:
        self.is_full = False
        self.is_quiet = False
        if self.call is not None:
            self.call.client_drained()

    # reading requests

    def _read_head(self, data: bytes) -> None:
        if self._lingering is not None:
            if not self._lingering.has_room_for(len(data)):
                self.transport.abort()
            return
        if self._partial:
            data = self._partial + data
        if data[:1] in b"\r\n":
            data = self._without_blank(data)
            if not data:
                return
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > self._listener.max_header_bytes:
            self._keep_partial(data)
            return
        self._partial = b""
        self._begin(data[: end + 4], data[end + 4 :])

    def _without_blank(self, data: bytes) -> bytes:
        """Ignore empty lines before a request (RFC 9112 section 2.2); they are few, and no deadline waits for them."""
        bare = data.lstrip(b"\r\n")
        self._blank_bytes += len(data) - len(bare)
        if self._blank_bytes > _MAX_BLANK_BYTES:
            self.turn_away(Refused("bad_request_line", f"more than {_MAX_BLANK_BYTES} bytes of empty lines stand before it"))
            return b""
        if bare:
            self._blank_bytes = 0
        self.is_quiet = not bare
        return bare

    def _begin(self, head: bytes, rest: bytes) -> None:
        listener = self._listener
        ready = self._ready
        if ready is not None and ready.serves(head, listener.graph):
            self._serve(ready.request, ready, rest)
            return
        self._ready = None
        try:
            request = parse_request(head, max_count=listener.max_header_count, max_url_bytes=listener.max_url_bytes)
        except Refused as refused:
            self.turn_away(refused)
            return
        try:
            ready = listener.make_ready(request, self.client)
        except Refused as refused:
            self._serve(request, None, rest, refused)
            return
        # A connection that ends with this request has no next one to remember it for.
        if ready is not None and request.keep_alive and ready.remember(cut(head)):
            self._ready = ready
        self._serve(request, ready, rest)

    def _serve(self, request: RequestHead, ready: Ready | None, rest: bytes, refusal: Refused | None = None) -> None:
        """Begin the call that a head asks for; without `ready` it is refused, or asks about the sidecar itself."""
        listener = self._listener
        self.keeps_alive = request.keep_alive and not listener.is_draining
        if ready is None:
            call: Call = CallHere(self, listener, request, None, listener.nowhere(request, self.client))
        else:
            filters, inspects = ready.chain.filters, ready.inspector is not None
            kind = FilteredCall if filters else InspectedCall if inspects else Call
            call = kind(self, listener, request, ready, ready.passage)
        self.call = call
        if refusal is None:
            call.begin(rest)
        else:
            call.refuse_unsent(refusal, rest)

    def _keep_partial(self, data: bytes) -> None:
        listener = self._listener
        try:
            check_begun(data, len(self._partial), max_bytes=listener.max_header_bytes, max_url_bytes=listener.max_url_bytes)
        except Refused as refused:
            self.turn_away(refused)
            return
        if not self._partial:
            self._quiet_since = listener.now()  # from here on, header_timeout runs
        self._partial = data

    def take_body(self, request: RequestHead, rest: bytes) -> bytes:
        """
        Begin to read the body of a request; returns what has come of it already, framed for the upstream.

        `rest` is what came behind the head; what belongs to the next request is kept. Raises `Refused` for a bad chunk.
        """
        length = request.length
        if length == 0:
            self._pipelined = rest
            return b""
        body: Body = LengthBody(length) if length > 0 else ChunkedBody(request.hop)
        self.body = body
        if not rest:
            return b""
        content = body.relay(rest)
        self._check_size(body)
        if body.done:
            self._body_complete(body)
        return content

    def _body_complete(self, body: Body) -> None:
        self.body = None
        self._pipelined = body.rest
        if self.call is not None:
            self.call.exchange.request_bytes = body.size

    def _read_body(self, data: bytes) -> None:
        body, call = self.body, self.call
        assert body is not None and call is not None  # noqa: PT018 - one fact: a body belongs to a call
        try:
            data = body.relay(data)
            self._check_size(body)
        except Refused as refused:
            call.refuse(refused)
            return
        if body.done:
            self._body_complete(body)
        call.content_came(data, whole=body.done)

    def _check_size(self, body: Body) -> None:
        limit = self._listener.max_body_bytes
        if limit and body.size > limit:
            raise Refused("body_bytes", f"the body has more than {limit} bytes")

    def _keep_pipelined(self, data: bytes) -> None:
        """Requests before their turn wait in a bounded buffer; the client is never paused while it is owed a response."""
        if len(self._pipelined) + len(data) <= self._listener.max_pipelined_bytes:
            self._pipelined += data
            return
        call = self.call
        if call is not None and (call.request.upgrade or call.request.method == b"CONNECT"):
            self.keeps_alive = False
            call.refuse(Refused("pipeline_bytes", "too much came before the tunnel stood"))
            return
        # RFC 9112 section 9.3.2: a client has to be ready to send again what was not answered.
        self._pipelined = b""
        self._has_dropped = True
        self.keeps_alive = False
        self._listener.count_refused("pipeline_bytes")

    def take_early(self) -> bytes:
        """What came behind the head of a CONNECT or upgrade: the first bytes of the tunnel."""
        early, self._pipelined = self._pipelined, b""
        return early

    def pause_client(self) -> None:
        """Read no more of the request's body for now."""
        if not self.is_paused and not self.transport.is_closing():
            self.is_paused = True
            self.transport.pause_reading()

    def resume_client(self) -> None:
        """Read on."""
        if self.is_paused:
            self.is_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # writing

    def write_now(self, data: bytes) -> None:
        """Write a piece of a stream: it comes when it comes, and waits for nothing but what was written before it."""
        self.is_quiet = False
        if self.out:
            self.write(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    # endings

    def call_over(self) -> None:
        """The response has been written; what the client sent meanwhile has its turn, in a loop turn of its own."""
        call, self.call = self.call, None
        was_read = self.body is None and not self._pipelined and not self._has_dropped
        self.body = None
        if not self.keeps_alive:
            self._pipelined = b""
            assert call is not None
            self._close(was_read=was_read and call.request.method != b"CONNECT")  # whose tunnel's bytes may be on their way
            return
        self._quiet_since = self._listener.now()
        if self._pipelined:
            self._partial, self._pipelined = self._pipelined, b""
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.call is None and self._partial and not self.transport.is_closing():  # the client may have gone meanwhile
            data, self._partial = self._partial, b""
            self._read_head(data)

    def call_cut(self, *, by_reset: bool) -> None:
        """The call ended without a whole response: close, by a reset where a clean end would look like a whole one."""
        self.call = None
        self.body = None
        self.keeps_alive = False
        self._pipelined = b""
        self.flush()
        if by_reset:
            reset(self.transport)
        else:
            self.transport.close()

    def call_left(self) -> None:
        """The socket belongs to a tunnel now."""
        self.call = None
        self._listener.closed(self)

    def _close(self, *, was_read: bool) -> None:
        """Close so that the answer arrives: with request bytes unread, the kernel would reset the connection."""
        self.flush()
        if was_read or self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._quiet_since = now = self._listener.now()
        self._lingering = Lingering(now)
        self._ready = None
        self.resume_client()

    def turn_away(self, refused: Refused, *, lingers: bool = True) -> None:
        """Answer something that was no request, or what comes too much; the connection cannot be used any more."""
        self._partial = b""
        self._listener.count_refused(refused.code)
        self.keeps_alive = False
        self.write(self.error(refused, is_head=False))
        self._close(was_read=not lingers)

    def error(self, refused: Refused, *, is_head: bool, spoken: Spoken | None = None) -> bytes:
        """The response to a call that the sidecar answers itself, as `spoken`, or in plain words."""
        signature = self._listener.signature
        date, via = signature.date, signature.via_line
        return error_response(refused, date=date, via=via, keep_alive=self.keeps_alive, is_head=is_head, spoken=spoken)

    # time

    def tick(self, now: float) -> None:
        """Look at the deadlines; called by the listener."""
        call = self.call
        if self.is_full:
            left = self.transport.get_write_buffer_size()
            self.is_quiet = self.is_quiet and left == self._left_bytes
            self._left_bytes = left
        if not self.is_quiet:
            self.is_quiet = True
            if call is not None or not self._partial:
                self._quiet_since = now
        if self.is_paused and call is not None and has_hung_up(self.transport):
            call.client_gone()
            return
        quiet_s = now - self._quiet_since
        if call is not None:
            call.tick(now, quiet_s)
        elif self.transport.is_closing():
            if quiet_s > _CLOSE_WITHIN_S:
                reset(self.transport)  # it takes nothing, so what is left to write will never go
        elif self._lingering is not None:
            if self._lingering.is_over(now, quiet_s):
                self.transport.abort()
        elif self._partial:
            if quiet_s > self._listener.header_timeout_s:
                self.turn_away(Refused("request_timeout", "the request head did not come in time"))
        elif quiet_s > self._listener.keep_alive_timeout_s or (self._listener.is_draining and not self.is_expected(now)):
            self._close(was_read=True)

    def is_expected(self, now: float) -> bool:
        """Whether a request may be on its way: its head has begun, or the client has just connected or been answered."""
        if self.call is not None or self._lingering is not None:
            return False
        return bool(self._partial) or now - self._quiet_since <= _NEXT_REQUEST_S

    def is_awaited(self, now: float) -> bool:
        """Whether a drain waits for it: something is under way, expected, or not written yet, or its client has still to read."""
        return self.call is not None or self._lingering is not None or self.has_unwritten or self.is_expected(now)

    def drain(self) -> None:
        """Take one request more at most: close when idle, else after the call that is under way or expected."""
        self.keeps_alive = False
        if self.call is None and self._lingering is None and not self.is_expected(self._listener.now()):
            self._close(was_read=True)

    def cut(self) -> None:
        """End at once, whatever is under way."""
        self.keeps_alive = False
        if self.call is not None:
            self.call.refuse(Refused("draining", "the time to drain is over"))
        else:
            self.transport.abort()
