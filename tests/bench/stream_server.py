"""
A paced SSE upstream: `python -m tests.bench.stream_server PORT TLS_PORT CHAIN KEY`.

A request for `/…?chunks=200&pace_us=10000&tick_us=1000` gets the head and the first event at once, then one event every pace,
at the next tick; the usage and `[DONE]` come with the last. All streams hang on one timerfd(2), so that with a tick of 1 µs
each chunk leaves at a moment of its own, and with 1 ms in bursts of a few streams, as from a server with loop timers.
"""

import asyncio
import ctypes
import gc
import heapq
import os
import re
import ssl
import struct
import sys
import time

import uvloop

from tests.bench.payload import event, last_events

_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK = 0o4000
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ORDER = re.compile(rb"chunks=(\d+)&pace_us=(\d+)&tick_us=(\d+)")
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"x-request-id: req_0123456789abcdef\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_LIBC = ctypes.CDLL(None, use_errno=True)


class Metronome:
    """Calls streams when their next chunk is due, to some 10 µs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._descriptor: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: list[tuple[int, int, Stream]] = []
        self._count = 0
        loop.add_reader(self._descriptor, self._tick)

    def at(self, due_ns: int, stream: "Stream") -> None:
        """Have `stream.beat(due_ns)` called at this monotonic time."""
        self._count += 1
        heapq.heappush(self._due, (due_ns, self._count, stream))
        if self._due[0][0] == due_ns:
            self._arm()

    def _tick(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # armed anew since it fired
            return
        now_ns = time.monotonic_ns()
        while self._due and self._due[0][0] <= now_ns:
            due_ns, _, stream = heapq.heappop(self._due)
            next_ns = stream.beat(due_ns)
            if next_ns:
                self._count += 1
                heapq.heappush(self._due, (next_ns, self._count, stream))
        if self._due:
            self._arm()

    def _arm(self) -> None:
        seconds, nanoseconds = divmod(self._due[0][0], 1_000_000_000)
        _LIBC.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, struct.pack("qqqq", 0, 0, seconds, nanoseconds), None)


class Stream(asyncio.Protocol):
    """One connection; answers its requests one after the other."""

    def __init__(self, metronome: Metronome) -> None:
        self._metronome = metronome
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._number = self._chunks = self._pace_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports have the methods, not the type

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _CONTENT_LENGTH.search(self._received, 0, head_end)
        if len(self._received) < head_end + 4 + (int(length[1]) if length else 0):
            return
        order = _ORDER.search(self._received, 0, head_end)
        self._received = b""
        self._number = 0
        self._chunks, pace_us, tick_us = map(int, order.groups()) if order else (1, 0, 1)
        self._pace_ns = pace_us * 1000
        next_ns = self.beat(time.monotonic_ns(), _HEAD)
        if next_ns:
            self._metronome.at(next_ns + -next_ns % (tick_us * 1000), self)

    def beat(self, due_ns: int, before: bytes = b"") -> int:
        """Write the next chunk; return when the one after it is due, 0 after the last or when the client has gone."""
        if self._transport is None:
            return 0
        body = event(self._number)
        self._number += 1
        if self._number < self._chunks:
            self._transport.write(b"%b%x\r\n%b\r\n" % (before, len(body), body))
            return due_ns + self._pace_ns
        body += last_events()
        self._transport.write(b"%b%x\r\n%b\r\n0\r\n\r\n" % (before, len(body), body))
        return 0


async def serve(port: int, tls_port: int, chain: str, key: str) -> None:
    """Listen on both ports until killed."""
    loop = asyncio.get_running_loop()
    metronome = Metronome(loop)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    plain = await loop.create_server(lambda: Stream(metronome), "127.0.0.1", port, backlog=2048)
    secure = await loop.create_server(lambda: Stream(metronome), "127.0.0.1", tls_port, ssl=context, backlog=2048)
    gc.freeze()
    gc.disable()  # pauses of the upstream would be measured as the proxy's
    async with plain, secure:
        await asyncio.Event().wait()


if __name__ == "__main__":
    _port, _tls_port, _chain, _key = sys.argv[1:]
    uvloop.run(serve(int(_port), int(_tls_port), _chain, _key))
