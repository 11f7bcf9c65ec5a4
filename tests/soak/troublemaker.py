"""
An upstream that answers as it should, or as upstreams sometimes do: slowly, in part, malformed, with a reset, not at all.

What it does is decided by chance, from a seed. It is a protocol of its own and not a `RawUpstream`, because it has to answer
thousands of calls a second beside their clients and the sidecar.
"""

import asyncio
import random
from types import TracebackType

import httptools

SHARES = {
    "json": 60, "sse": 12, "slow": 4, "cut": 3, "cut_chunked": 3, "reset": 3, "malformed": 2, "busy": 3, "until_close": 3,
    "then_close": 3, "silent_close": 2, "early": 2,
}  # fmt: skip
"""What is done, and how often in a hundred."""


class Troublemaker:
    """Listens on a free port of loopback; `port` is it, `did` counts what it did, `connections` are those that are open."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.did = dict.fromkeys(SHARES, 0)
        self.connections: set[asyncio.Transport] = set()

    async def __aenter__(self) -> "Troublemaker":
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for connection in tuple(self.connections):
            connection.abort()
        await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    def __init__(self, maker: Troublemaker) -> None:
        self._maker = maker
        self._rng = maker.rng
        self._parser = httptools.HttpRequestParser(self)
        self._has_body = self._answered = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one on every loop
        self._transport = transport
        self._maker.connections.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._maker.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as wrong:
            raise AssertionError(f"the sidecar sent what is no HTTP: {data[:200]!r}") from wrong

    def on_headers_complete(self) -> None:
        self._answered = False
        self._is_head = self._parser.get_method() == b"HEAD"
        self._plan = self._rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
        if self._plan == "early":
            self._answer()

    def on_message_complete(self) -> None:
        if not self._answered:
            self._answer()

    def _answer(self) -> None:
        self._answered = True
        self._maker.did[self._plan] += 1
        if self._plan == "slow":
            asyncio.get_running_loop().call_later(self._rng.uniform(0.02, 0.08), self._json)
        else:
            getattr(self, f"_{self._plan}")()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _json(self, *, status: bytes = b"200 OK", fields: bytes = b"") -> None:
        body = b'{"answer": "%b"}' % (b"x" * self._rng.randrange(4000))
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n" % (status, fields, len(body))
        self._write(head if self._is_head else head + body)

    def _busy(self) -> None:
        self._json(status=b"503 Busy", fields=b"Retry-After: 1\r\n")

    def _early(self) -> None:
        self._json(fields=b"Connection: close\r\n")
        self._transport.close()

    def _then_close(self) -> None:
        self._json()
        self._transport.close()

    def _silent_close(self) -> None:
        self._transport.close()

    def _reset(self) -> None:
        self._transport.abort()

    def _malformed(self) -> None:
        self._write(b"HTTP/1.1 2OO O\0K\r\nContent-Length: -1\r\n\r\n")
        self._transport.close()

    def _cut(self) -> None:
        self._write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + (b"" if self._is_head else b"y" * 1000))
        self._transport.close()

    def _cut_chunked(self) -> None:
        self._write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"" if self._is_head else b"3e8\r\n" + b"y" * 500))
        self._transport.close()

    def _until_close(self) -> None:
        self._write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + (b"" if self._is_head else b"z" * 3000))
        self._transport.close()

    def _sse(self) -> None:
        self._write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if not self._is_head:
            self._event(self._rng.randrange(1, 8))

    def _event(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if not left:
            self._write(b"0\r\n\r\n")
            return
        text = b'data: {"left": %d}\n\n' % left
        self._write(b"%x\r\n%b\r\n" % (len(text), text))
        asyncio.get_running_loop().call_later(self._rng.uniform(0, 0.004), self._event, left - 1)
