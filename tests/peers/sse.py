"""
An upstream that streams server-sent events, each one released by the test.

    stream = await upstream.stream()      # a request has come, and the response head has gone
    await stream.event(b'{"n": 1}')
    await stream.ends()
"""

import asyncio

from tests.peers.raw import RawUpstream
from tests.peers.wire import PATIENCE_S, Ended, Message, Wire


class Stream:
    """One response: `request` is what asked for it."""

    def __init__(self, wire: Wire, request: Message) -> None:
        self.wire = wire
        self.request = request
        self.over = asyncio.Event()

    async def begins(self) -> None:
        """Send the response head."""
        await self.wire.sends(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    async def event(self, data: bytes, *, name: bytes = b"") -> None:
        """Send one event as one chunk."""
        text = (b"event: %s\n" % name if name else b"") + b"data: %s\n\n" % data
        await self.wire.sends(b"%x\r\n%s\r\n" % (len(text), text))

    async def ends(self) -> None:
        """Send the last chunk; the connection may be used again."""
        await self.wire.sends(b"0\r\n\r\n")
        self.over.set()

    async def cuts(self) -> None:
        """Close in the middle, without the last chunk."""
        self.wire.close()
        self.over.set()

    async def saw_the_client_go(self) -> None:
        """The proxy has closed this connection."""
        await self.wire.saw_end()
        self.over.set()


class SseUpstream(RawUpstream):
    """Answers each request with a stream, which the test then takes with `stream()`."""

    def __init__(self) -> None:
        super().__init__(self._serve_streams)
        self._streams: asyncio.Queue[Stream] = asyncio.Queue()

    async def stream(self) -> Stream:
        """The next stream that has begun."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._streams.get()

    async def _serve_streams(self, connection: Wire) -> None:
        connection.patience_s = 60.0
        while True:
            try:
                stream = Stream(connection, await connection.request())
            except Ended:
                return
            await stream.begins()
            self._streams.put_nowait(stream)
            await stream.over.wait()
