"""A backend for traces that counts: it knows every span that it has taken, and can be away, slow, overloaded or rude."""

import asyncio
import random
from types import TracebackType
from typing import Literal

import httptools
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Mood = Literal["good", "away", "slow", "stuck", "overloaded", "rude"]
MOODS: tuple[Mood, ...] = ("good", "away", "slow", "stuck", "overloaded", "rude")

_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
_BUSY = b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class CountingBackend:
    """OTLP over HTTP on a port that stays its own; `taken` counts the spans for which it has said so."""

    def __init__(self, port: int, *, slow_s: float = 0.05, stuck_s: float = 3.0) -> None:
        self.port = port
        self.mood: Mood = "good"
        self.taken = 0
        self.moods: dict[Mood, int] = dict.fromkeys(MOODS, 0)
        self.slow_s = slow_s
        self.stuck_s = stuck_s
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()

    async def __aenter__(self) -> "CountingBackend":
        await self._listen()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._go_away()

    async def turns(self, mood: Mood) -> None:
        """Be like this from now on."""
        if mood == "away":
            await self._go_away()
        elif self._server is None:
            await self._listen()
        self.mood = mood

    async def any_mood(self, rng: random.Random) -> None:
        """Be like anything."""
        await self.turns(rng.choice(MOODS))

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Post(self), "127.0.0.1", self.port, reuse_address=True)

    async def _go_away(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for transport in tuple(self._transports):
            transport.abort()
        await server.wait_closed()


class _Post(asyncio.Protocol):
    def __init__(self, backend: CountingBackend) -> None:
        self._backend = backend
        self._parser = httptools.HttpRequestParser(self)
        self._body = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one on every loop
        self._transport = transport
        self._backend._transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._backend._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        backend, body = self._backend, bytes(self._body)
        self._body.clear()
        backend.moods[backend.mood] += 1
        match backend.mood:
            case "good":
                self._take(body)
            case "slow":
                asyncio.get_running_loop().call_later(backend.slow_s, self._take, body)
            case "stuck":
                asyncio.get_running_loop().call_later(backend.stuck_s, self._transport.abort)
            case "overloaded":
                self._transport.write(_BUSY)
            case _:
                self._transport.abort()

    def _take(self, body: bytes) -> None:
        if self._transport.is_closing():
            return
        request = ExportTraceServiceRequest.FromString(body)
        self._backend.taken += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
        self._transport.write(_TAKEN)
