"""A transport without a socket: it keeps what was written and what was asked of it, and a test says when its buffer is full."""

import asyncio
import socket
from typing import Any

ESTABLISHED, CLOSE_WAIT = 1, 8
"""States of TCP_INFO."""


class FakeSocket:
    """What the wire asks of a socket: SO_LINGER before a reset, TCP_INFO of a paused client, poll of an idle connection."""

    def __init__(self) -> None:
        self.lingers = True
        self.state = ESTABLISHED
        self.is_readable = False
        self.is_gone = False

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if self.is_gone:
            raise OSError(9, "bad file descriptor")
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.lingers = False

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if self.is_gone:
            raise OSError(9, "bad file descriptor")
        return bytes((self.state,))

    def fileno(self) -> int:
        return 0

    def poll(self, timeout: int) -> list[tuple[int, int]]:
        assert timeout == 0, "nobody may wait"
        return [(7, 1)] if self.is_readable else []


class FakeTransport(asyncio.Transport):
    """
    Joins a protocol to a test.

    `written` is everything written since the last `takes`; `is_full` says that the protocol was told to pause, which happens
    once, at the write that follows `fills`; `ended` is "" while open, else `close` or `reset` (or `abort` without SO_LINGER).
    """

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.sock: FakeSocket | None = FakeSocket()
        self.written = b""
        self.writes = 0
        self.is_reading = lambda: self.reads  # type: ignore[method-assign]
        self.reads = True
        self.is_full = False
        self.takes_nothing = False
        self.has_written_eof = False
        self.may_write_eof = True
        self.ended = ""
        self.buffered = 0
        protocol.connection_made(self)

    # what asyncio's transports do

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self.sock, "peername": ("127.0.0.1", 50_000)}.get(name, default)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.read_high = high

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def write(self, data: Any) -> None:
        assert data, "an empty write is a wasted system call"
        if self.ended:
            return
        assert not self.has_written_eof, "nothing may follow EOF"
        self.written += data
        self.writes += 1
        if self.takes_nothing:
            self.buffered += len(data)
            if not self.is_full:
                self.is_full = True
                self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return self.may_write_eof

    def write_eof(self) -> None:
        self.has_written_eof = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self._end("close")

    def abort(self) -> None:
        self._end("abort" if self.sock is None or self.sock.lingers else "reset")

    def _end(self, how: str) -> None:
        if self.ended:
            return
        self.ended = how
        try:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
        except RuntimeError:  # a test without a loop calls connection_lost itself, where it matters
            return

    # what a test does

    def takes(self) -> bytes:
        """Everything that was written since the last time; what waits for the end of the loop turn is written first."""
        if hasattr(self.protocol, "flush"):
            self.protocol.flush()
        written, self.written = self.written, b""
        return written

    def says(self, data: bytes, *, unasked: bool = False) -> None:
        """Bytes come from the peer; only a transport that reads may bring them. `unasked` come before a request has gone."""
        if not getattr(self.protocol, "has_written", True) and getattr(self.protocol, "out", b"") and not unasked:
            self.protocol.flush()
        assert self.reads, "the transport was paused"
        assert not self.ended, "the transport was closed"
        self.protocol.data_received(data)

    def half_closes(self) -> None:
        """EOF comes; as in asyncio, the transport closes unless the protocol wants it to stay."""
        if not self.protocol.eof_received():
            self.close()

    def breaks(self, fault: Exception | None = None) -> None:
        """The connection is gone."""
        self.ended = self.ended or "broken"
        self.protocol.connection_lost(fault)

    def drains(self) -> None:
        """The peer takes everything."""
        self.takes_nothing = False
        self.buffered = 0
        if self.is_full:
            self.is_full = False
            self.protocol.resume_writing()
