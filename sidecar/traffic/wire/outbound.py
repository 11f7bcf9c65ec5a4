"""
One connection to an upstream: it sends a request, reads the response, and goes back to its pool.

Idle it expects nothing; whatever comes then (EOF, stray bytes) takes it out of the pool. What it reads it pushes to its
`Sink` in the same loop turn: first `upstream_answers`, then any number of `upstream_sends`, then one `upstream_ends` or
`upstream_fails`.

Where others write in the same loop turn, a request is written at its end (outbox.py), after everything that this turn has brought
was read; one that is alone is written at once. Where the connection ends, or bytes come on it, before that, nothing of the
request has gone and what came is no answer to it: the request is given back by `upstream_unsent`, whatever its method is.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.wire.body import Body, ChunkedBody, EndlessBody, LengthBody
from sidecar.traffic.wire.connect import refusal
from sidecar.traffic.wire.head import CHUNKED, has_bare_line_feed
from sidecar.traffic.wire.outbox import Outbox
from sidecar.traffic.wire.outlet import WRITE_HIGH_BYTES, Outlet
from sidecar.traffic.wire.proxy import Via
from sidecar.traffic.wire.response_head import ResponseHead, parse_response
from sidecar.traffic.wire.response_outline import Outlines

_TLS_READ_HIGH_BYTES = 64 * 1024
_JOINED_BYTES = 64 * 1024
"""Encrypted bytes that may wait while the client is slow; 64 KiB come at once on top of them, uvloop's default is 256 KiB."""

_MAX_INTERIM = 32
"""Interim (1xx) responses to one request; nobody needs as many, and each of them restarts the wait for the first byte."""


class Sink(Protocol):
    """Who reads a response as it comes."""

    def upstream_informs(self, head: ResponseHead) -> None:
        """An interim response (1xx but 101) came."""

    def upstream_answers(self, outbound: "Outbound", head: ResponseHead) -> bool:
        """The head came; True asks for the body in its own framing, False for content alone."""
        ...

    def upstream_sends(self, data: bytes) -> None:
        """Bytes of the body came; b"" follows a head that came alone."""

    def upstream_ends(self, data: bytes, size: int) -> None:
        """The last bytes came, of a body of `size`; the connection is not this sink's any more."""

    def upstream_upgrades(self, outbound: "Outbound", head: ResponseHead, rest: bytes) -> None:
        """101 came: from here on the bytes are another protocol's."""

    def upstream_fails(self, outbound: "Outbound", fault: UpstreamFailed) -> None:
        """No (whole) response will come; the connection is gone."""

    def upstream_unsent(self, data: bytes) -> None:
        """The connection is gone before anything of the request, which is `data` so far, was written to it."""

    def upstream_full(self) -> None:
        """Stop sending request content for now."""

    def upstream_drained(self) -> None:
        """Go on sending request content."""


class Keeper(Protocol):
    """Where a connection comes from and goes back to."""

    outbox: Outbox
    outlines: Outlines
    max_header_bytes: int
    max_header_count: int

    def release(self, outbound: "Outbound") -> None:
        """The connection is free again."""

    def lost(self, outbound: "Outbound") -> None:
        """The connection is gone, or must not be used again."""


class Outbound(Outlet, asyncio.BaseProtocol):
    """
    A connection to an upstream; `address` is the peer's IP, `uses` counts the requests it carried.

    A sink that only passes the body on may set `straight`, which then gets its bytes instead of `upstream_sends`, and `reads`,
    which gets them when they have been passed on. `received` is how much of a body had come when it was aborted;
    `is_unwanted` keeps it from being used again. `news(0)` says whether the peer has closed, or said something, that the loop has
    not read yet; false is no. It is poll(2) itself: a peek by recv(2) costs three times as much, because nothing to read is an
    exception.
    """

    __slots__ = (
        "_body", "_interim", "_is_paused", "_keep", "_keeper", "_method", "_partial", "_relays", "address", "first_byte",
        "idle_since", "is_open", "is_unwanted", "news", "reads", "received", "request_is_sent", "sink", "straight", "uses",
    )  # fmt: skip

    def __init__(self, keeper: Keeper, sock: socket.socket, address: str) -> None:
        super().__init__(keeper.outbox)
        self._keeper = keeper
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self.news: Callable[[int], object] = poll.poll
        self.address = address
        self.sink: Sink | None = None
        self.straight: Callable[[bytes], None] | None = None
        self.reads: Callable[[bytes], None] | None = None
        self._body: Body | None = None
        self._partial = b""
        self._method = b""
        self._relays = True
        self._keep = self._is_paused = self.is_unwanted = False
        self._interim = 0
        self.request_is_sent = True
        self.first_byte = False
        self.is_open = False
        self.idle_since = 0.0
        self.uses = 0
        self.received = 0

    # the request

    def send(self, sink: Sink, method: bytes, head: bytes, content: bytes = b"", *, whole: bool) -> None:
        """Send the head and what there is of the body, framed already; `whole` says whether that is all of the request."""
        if self.out:
            self.flush()  # the end of a request that was answered before it had gone is no part of this one
        self.sink = sink
        self._method = method
        self.request_is_sent = whole
        self.first_byte = False
        self._interim = 0
        self.uses += 1
        self.has_written = False
        if len(content) <= _JOINED_BYTES:
            self.write(head + content if content else head)
        else:  # a copy of megabytes would cost the loop milliseconds: fresh memory is slow
            self.write(head)
            self.write(content)

    def send_more(self, data: bytes, *, whole: bool) -> None:
        """Send further bytes of the body, framed already."""
        self.request_is_sent = whole
        if data:
            self.write(data)

    def abort(self) -> None:
        """Drop the connection in the middle of whatever it does; its sink hears nothing any more."""
        self.sink = self.straight = self.reads = None
        self.out = b""
        if self._body is not None:
            self.received = self._body.size
            self._body = None
        if self.is_open:
            self.is_open = False
            self._keeper.lost(self)
        self.transport.abort()

    def pause(self) -> None:
        """Stop reading: the client is slow."""
        if self.is_open:
            self._is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self.is_open:
            self._is_paused = False
            self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        body = self._body
        if body is None:
            self._read_head(data)
            return
        sink = self.sink
        if sink is None:
            return
        try:
            data = body.relay(data) if self._relays else body.payload(data)
        except Refused as refused:
            self.fail(UpstreamFailed("upstream_malformed", refused.detail))
            return
        if body.done:
            self._end(sink, data, body.size, is_clean=not body.rest)
        elif self.straight is not None and data:
            self.straight(data)
            if self.reads is not None:
                self.reads(data)
        else:
            sink.upstream_sends(data)

    def eof_received(self) -> bool:
        body = self._body
        sink = self.sink
        if sink is not None and body is not None and isinstance(body, EndlessBody):
            self._keep = False
            self._end(sink, b"", body.size, is_clean=False)
        elif sink is not None:
            self.fail(_closed(self))
        elif self.is_open:
            self.is_open = False
            self._keeper.lost(self)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.sink is not None:
            self.fail(_closed(self, exc))
        elif self.is_open:
            self.is_open = False
            self._keeper.lost(self)

    def pause_writing(self) -> None:
        if self.sink is not None:
            self.sink.upstream_full()

    def resume_writing(self) -> None:
        if self.sink is not None:
            self.sink.upstream_drained()

    # the response

    def _read_head(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            self.abort()  # nobody asked: whatever this is, it is not an answer (response queue poisoning)
            return
        if not self.has_written:
            self.fail(UpstreamFailed("upstream_malformed", "the upstream spoke before it was asked"))
            return
        self.first_byte = True
        if not self._partial and self._method != b"HEAD":
            known = self._keeper.outlines.read(data)
            if known is not None:
                head, data = known
                self._answer(sink, head, data)
                return
        checked = len(self._partial)
        if checked:
            data = self._partial + data
            self._partial = b""
        try:
            while True:
                end = data.find(b"\r\n\r\n")
                if end < 0 or end > self._keeper.max_header_bytes:
                    self._keep_partial(data, checked)
                    return
                raw = data[: end + 4]
                head = parse_response(raw, method=self._method, max_count=self._keeper.max_header_count)
                self._keeper.outlines.learn(raw, head)
                data = data[end + 4 :]
                checked = 0
                if head.status >= 200 or head.status == 101:
                    break
                self._inform(sink, head)
        except UpstreamFailed as fault:
            self.fail(fault)
            return
        if head.status == 101:
            self._hand_over(sink, head, data)
        else:
            self._answer(sink, head, data)

    def _keep_partial(self, data: bytes, checked: int) -> None:
        if data[:7] != b"HTTP/1."[: len(data)]:
            raise UpstreamFailed("upstream_malformed", "the response does not begin with HTTP/1.")
        if has_bare_line_feed(data, checked):
            raise UpstreamFailed("upstream_malformed", "a line of the response head ends with LF alone")
        if len(data) > self._keeper.max_header_bytes:
            raise UpstreamFailed("upstream_malformed", f"the response head has more than {self._keeper.max_header_bytes} bytes")
        self._partial = data

    def _inform(self, sink: Sink, head: ResponseHead) -> None:
        self._interim += 1
        if self._interim > _MAX_INTERIM:
            raise UpstreamFailed("upstream_malformed", f"more than {_MAX_INTERIM} interim responses came")
        sink.upstream_informs(head)

    def _answer(self, sink: Sink, head: ResponseHead, data: bytes) -> None:
        relays = sink.upstream_answers(self, head)
        if self.sink is not sink:
            return  # the sink gave up while it looked at the head
        length = head.length
        if length == len(data) and head.keep_alive and self.request_is_sent:
            self.sink = None  # the commonest case: all of the response came at once
            self._keeper.release(self)
            sink.upstream_ends(data, length)
            return
        self._keep = head.keep_alive
        self._relays = relays
        if length == 0:
            self._end(sink, b"", 0, is_clean=not data)
            return
        if length == len(data):
            self._end(sink, data, length, is_clean=True)
            return
        self._body = LengthBody(length) if length > 0 else ChunkedBody(head.hop) if length == CHUNKED else EndlessBody()
        if data:
            self.data_received(data)
        else:
            sink.upstream_sends(b"")

    def _hand_over(self, sink: Sink, head: ResponseHead, rest: bytes) -> None:
        self.sink = None
        self.is_open = False
        self._keeper.lost(self)  # not the pool's any more; the tunnel closes it
        sink.upstream_upgrades(self, head, rest)

    def _end(self, sink: Sink, data: bytes, size: int, *, is_clean: bool) -> None:
        """The response is whole; `is_clean` is false where more came than belongs to it."""
        self._body = None
        self.sink = self.straight = self.reads = None
        if self._keep and self.request_is_sent and is_clean:
            if self._is_paused:
                self.resume()  # before it is the pool's, and somebody else's to pause
            self._keeper.release(self)
        elif self.is_open:
            self.is_open = False
            self._keeper.lost(self)
            self.transport.abort()
        sink.upstream_ends(data, size)

    def fail(self, fault: UpstreamFailed) -> None:
        """Drop the connection and tell whoever is on it, if anybody is."""
        sink = self.sink
        unsent = self.out if not self.has_written and self.uses > 1 else b""
        self.abort()
        if sink is None:
            return
        if unsent:
            sink.upstream_unsent(unsent)
        else:
            sink.upstream_fails(self, fault)


class TlsOutbound(Outbound):
    """
    A connection over TLS, read into a buffer that the connections of a pool share.

    Without it uvloop makes a fresh object of 256 KiB for every read from a TLS connection. The buffer is filled and
    emptied within one call of the loop, so sharing it is safe.
    """

    __slots__ = ("_buffer",)

    def __init__(self, keeper: Keeper, sock: socket.socket, address: str, buffer: memoryview) -> None:
        super().__init__(keeper, sock, address)
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_read_buffer_limits(high=_TLS_READ_HIGH_BYTES)  # type: ignore[attr-defined]  # TLS transports have it

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio.BufferedProtocol; uvloop looks for the method, and only where the class is no asyncio.Protocol."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio.BufferedProtocol."""
        self.data_received(bytes(self._buffer[:nbytes]))


class ProxyOutbound(Outbound):
    """
    A connection to a corporate proxy that is asked for what the upstream has.

    What it answers counts as the upstream's own answer, but for 407, which only a proxy can mean (RFC 9110 section 15.5.8):
    the client would take it for ours, and offer the credentials that it has for us.
    """

    __slots__ = ("_via",)

    def __init__(self, keeper: Keeper, sock: socket.socket, address: str, via: Via) -> None:
        super().__init__(keeper, sock, address)
        self._via = via

    def _answer(self, sink: Sink, head: ResponseHead, data: bytes) -> None:
        if head.status != 407:
            super()._answer(sink, head, data)
            return
        head.take_apart()
        self.fail(refusal(b"\r\n".join(head.lines), head.status, self._via))


def _closed(outbound: Outbound, exc: Exception | None = None) -> UpstreamFailed:
    if isinstance(exc, ssl.SSLError):
        return UpstreamFailed("tls_failed", str(exc))
    why = type(exc).__name__ if exc is not None else "end of file"
    return UpstreamFailed("upstream_cut" if outbound.first_byte else "upstream_closed", why)
