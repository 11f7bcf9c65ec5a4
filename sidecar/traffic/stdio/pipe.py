"""
Two descriptors as a way in and a way out, without ever blocking the loop: pipes, sockets and terminals.

What the loop cannot wait for (a file that standard input is read from, /dev/null) is carried over a pipe by a thread.
"""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable
from typing import Any

MOST_UNWRITTEN = 1024 * 1024
"""Bytes that wait for a reader before the other side is read no further."""

_PIECE = 64 * 1024


class _Inlet(asyncio.Protocol):
    """Reads until the end; `came` gets the bytes, `ended` hears of the end, once."""

    def __init__(self, came: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._came = came
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        self._came(data)

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()


class _Outlet(asyncio.Protocol):
    """Writes; `full` and `drained` tell whether the reader keeps up, `lost` that there is none any more."""

    def __init__(self, full: Callable[[], None], drained: Callable[[], None], lost: Callable[[], None]) -> None:
        self._full = full
        self._drained = drained
        self._lost = lost
        self.closed = asyncio.get_running_loop().create_future()

    def pause_writing(self) -> None:
        self._full()

    def resume_writing(self) -> None:
        self._drained()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._lost()


class _Socket(_Outlet):
    """Both in one."""

    def __init__(
        self,
        full: Callable[[], None],
        drained: Callable[[], None],
        lost: Callable[[], None],
        came: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__(full, drained, lost)
        self._came = came
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        self._came(data)

    def eof_received(self) -> bool:
        self._ended()
        return True  # there may be more to write

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()
        super().connection_lost(error)


class Pipe:
    """
    One peer: `reads` is the descriptor that it is heard by, `writes` the one that it is written to; both are closed with it.

    `came`, `ended` and `lost` (nobody reads what is written) are set before `open`. `other` is whom to read no further while this
    peer does not read.
    """

    def __init__(self, reads: int, writes: int) -> None:
        self._reads = reads
        self._writes = writes
        self._threads: list[threading.Thread] = []
        self._inlet: asyncio.ReadTransport | None = None
        self._outlet: asyncio.WriteTransport | None = None
        self._protocol: _Outlet | None = None
        self._is_held = False
        self._ended = asyncio.Event()
        self.came: Callable[[bytes], None] = lambda _data: None
        self.ended: Callable[[], None] = lambda: None
        self.lost: Callable[[], None] = lambda: None
        self.other: Pipe | None = None

    async def open(self) -> None:
        """Begin to read and be ready to write."""
        loop = asyncio.get_running_loop()
        if _is_one_socket(self._reads, self._writes):
            await self._open_socket(loop)
            return
        writes = self._writes if _is_waited_for(self._writes) else self._carried_out(self._writes)
        self._writes = -1  # from here on the transport's
        self._protocol = _Outlet(self._full, self._drained, lambda: self.lost())
        protocol = self._protocol
        self._outlet, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(writes, "wb", buffering=0))
        self._outlet.set_write_buffer_limits(MOST_UNWRITTEN)
        reads = self._reads if _is_waited_for(self._reads) else self._carried_in(self._reads)
        self._reads = -1
        self._inlet, _ = await loop.connect_read_pipe(
            lambda: _Inlet(lambda data: self.came(data), self._end), os.fdopen(reads, "rb", buffering=0)
        )
        if self._is_held:
            self._inlet.pause_reading()

    async def _open_socket(self, loop: asyncio.AbstractEventLoop) -> None:
        """One socket both ways: two transports would take each other's bytes."""
        protocol = _Socket(self._full, self._drained, lambda: self.lost(), lambda data: self.came(data), self._end)
        os.close(self._reads)
        sock = socket.socket(fileno=self._writes)
        self._reads = self._writes = -1
        sock.setblocking(False)
        connect: Any = loop.create_unix_connection if sock.family == socket.AF_UNIX else loop.create_connection
        transport, _ = await connect(lambda: protocol, sock=sock)
        self._inlet = self._outlet = transport
        self._protocol = protocol
        transport.set_write_buffer_limits(MOST_UNWRITTEN)
        if self._is_held:
            transport.pause_reading()

    def _end(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self.ended()

    def _full(self) -> None:
        if self.other is not None:
            self.other.hold(still=True)

    def _drained(self) -> None:
        if self.other is not None:
            self.other.hold(still=False)

    def hold(self, *, still: bool) -> None:
        """Read no further, or go on."""
        self._is_held = still
        if self._inlet is None or self._inlet.is_closing():
            return
        if still:
            self._inlet.pause_reading()
        else:
            self._inlet.resume_reading()

    def write(self, data: bytes) -> None:
        """Write, or keep until the peer reads; nothing happens where it is gone."""
        if self._outlet is not None and not self._outlet.is_closing():
            self._outlet.write(data)

    async def has_ended(self) -> None:
        """Wait until the peer says nothing more."""
        await self._ended.wait()

    def close_writing(self) -> None:
        """Let the peer read the end, behind what is still to be written."""
        if self._outlet is not None and not self._outlet.is_closing():
            self._outlet.close()

    async def close(self, seconds: float) -> None:
        """Write what is left, for as long as this at most, and close everything."""
        for unused in (self._reads, self._writes):
            if unused >= 0:
                os.close(unused)
        self._reads = self._writes = -1
        if self._inlet is not None:
            self._inlet.close()
        self.close_writing()
        if self._protocol is not None and self._outlet is not None:
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.shield(self._protocol.closed)
            except TimeoutError:
                self._outlet.abort()
                await self._protocol.closed
        if self._threads:
            await asyncio.to_thread(self._join, seconds)

    def _join(self, seconds: float) -> None:
        for thread in self._threads:
            thread.join(seconds)

    def _carried_in(self, descriptor: int) -> int:
        reads, writes = os.pipe()
        self._carry(descriptor, writes)
        return reads

    def _carried_out(self, descriptor: int) -> int:
        reads, writes = os.pipe()
        self._carry(reads, descriptor)
        return writes

    def _carry(self, source: int, target: int) -> None:
        thread = threading.Thread(target=_copy, args=(source, target), name="stdio", daemon=True)
        self._threads.append(thread)
        thread.start()


def _is_one_socket(one: int, other: int) -> bool:
    first, second = os.fstat(one), os.fstat(other)
    return stat.S_ISSOCK(first.st_mode) and os.path.samestat(first, second)


def _is_waited_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _copy(source: int, target: int) -> None:
    """Copy all there is, and close both."""
    try:
        while data := os.read(source, _PIECE):
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        pass  # one of the two is gone
    finally:
        os.close(source)
        os.close(target)
