"""
Two connections that pass bytes to each other blindly: CONNECT, WebSocket and other upgrades.

Half-close is passed on, both directions are bounded, and bytes are counted.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from sidecar.traffic.wire.outlet import WRITE_HIGH_BYTES
from sidecar.traffic.wire.reset import reset

_CLOSE_WITHIN_S = 10.0
"""How long a side that has been closed may take for the bytes that are left."""


class Tunnel:
    """
    A pair of `End`s; `over` is called once with the tunnel and an error code or "".

    `early` are bytes that the client sent before there was another side.

    The wire's tick calls `tick`; silence on both sides for `idle_timeout_s` ends the tunnel.
    """

    def __init__(self, over: "Callable[[Tunnel, str], None]", *, idle_timeout_s: float) -> None:
        self.client = End(self)
        self.upstream = End(self)
        self.client.peer = self.upstream
        self.upstream.peer = self.client
        self._over: Callable[[Tunnel, str], None] | None = over
        self._idle_timeout_s = idle_timeout_s
        self._idle_since = 0.0
        self._giving_up: asyncio.TimerHandle | None = None
        self.is_quiet = False
        self.early = b""

    def tick(self, now: float) -> None:
        """End the tunnel when nothing has passed for too long."""
        if not self.is_quiet:
            self.is_quiet = True
            self._idle_since = now
        elif now - self._idle_since > self._idle_timeout_s:
            self.end("idle_timeout")

    async def join(self, sock: socket.socket) -> None:
        """Make a connected socket the other side; the client waits for that."""
        if self.client.transport is not None:
            self.client.transport.pause_reading()
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.upstream, sock=sock)
        except BaseException:
            sock.close()
            self.end("connect_failed")
            raise
        if self._over is None:
            self.upstream.close()
            return
        early, self.early = self.early, b""
        if early:
            self.client.data_received(early)
        if self.client.is_full:
            self.client.pause_writing()  # from before it was a tunnel: it is not said again
        if not self.upstream.is_full:
            self.upstream.resume_writing()

    def go_on(self, transport: asyncio.Transport, rest: bytes) -> None:
        """Make a connection that has spoken HTTP until now the other side; `rest` has come on it already."""
        self.upstream.take_over(transport)
        if self.client.is_full:
            transport.pause_reading()
        early, self.early = self.early, b""
        if early:
            self.client.data_received(early)
        if rest:
            self.upstream.data_received(rest)

    def end(self, error: str) -> None:
        """Close both sides, sending what is still buffered; only the first call counts."""
        over, self._over = self._over, None
        if over is None:
            return
        for end in (self.client, self.upstream):
            if end.transport is not None:
                if error:
                    reset(end.transport)
                else:
                    end.transport.close()
        if not error and not self._is_empty:
            self._giving_up = asyncio.get_running_loop().call_later(_CLOSE_WITHIN_S, self.give_up)
        over(self, error)

    @property
    def _is_empty(self) -> bool:
        return self.client.transport is None and self.upstream.transport is None

    def left(self) -> None:
        """A side is gone; with the second, nobody is left to be given up."""
        if self._giving_up is not None and self._is_empty:
            self._giving_up.cancel()
            self._giving_up = None

    @property
    def has_unwritten(self) -> bool:
        """Whether bytes are left that a side has not taken yet."""
        transports = (self.client.transport, self.upstream.transport)
        return any(transport is not None and transport.get_write_buffer_size() > 0 for transport in transports)

    def give_up(self) -> None:
        """Reset what is left: a side that still has bytes to take by now will never take them."""
        for end in (self.client, self.upstream):
            if end.transport is not None:
                reset(end.transport)


class End(asyncio.Protocol):
    """One side of a tunnel; `received` counts the bytes that came from it."""

    __slots__ = ("has_ended", "is_full", "peer", "received", "transport", "tunnel")

    peer: "End"

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel = tunnel
        self.transport: asyncio.Transport | None = None
        self.received = 0
        self.has_ended = False
        self.is_full = False

    def take_over(self, transport: asyncio.Transport) -> None:
        """Become the protocol of a connection that has spoken HTTP until now."""
        self.transport = transport
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def close(self) -> None:
        """Drop this side at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.take_over(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.tunnel.is_quiet = False
        if self.peer.transport is not None:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        peer = self.peer
        if peer.has_ended or peer.transport is None or not peer.transport.can_write_eof():
            self.tunnel.end("")
            return False
        peer.transport.write_eof()
        return True  # the other direction may go on

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if exc is None:
            self.tunnel.end("")
        else:
            self.tunnel.end("client_gone" if self is self.tunnel.client else "upstream_cut")
        self.tunnel.left()

    def pause_writing(self) -> None:
        self.is_full = True
        if self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        self.is_full = False
        if self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()
