"""Many streams at once, read on one epoll."""

import select
import socket
import time
from collections.abc import Callable

from tests.bench.client import LoadFailed, field_value
from tests.bench.payload import request_heads

_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Streams:
    """Streams that are opened one by one and read together; `answers` has what each has brought, in order of opening."""

    def __init__(self, port: int, path: str, body: bytes) -> None:
        self._port = port
        self._requests = [head + body for head in request_heads(path, f"127.0.0.1:{port}", body, traced=True)]
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, bytearray]] = {}
        self.answers: list[bytearray] = []

    def __enter__(self) -> "Streams":
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        for opened, _answer in self._open.values():
            opened.close()

    @property
    def open_count(self) -> int:
        """How many have not come to their end."""
        return len(self._open)

    @property
    def silent_count(self) -> int:
        """How many have brought nothing yet."""
        return sum(not answer for answer in self.answers)

    def open_one(self) -> None:
        """Connect and ask for one stream more."""
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(self._requests[len(self.answers) % len(self._requests)])
        opened.setblocking(False)
        self._poll.register(opened, select.EPOLLIN)
        self.answers.append(bytearray())
        self._open[opened.fileno()] = (opened, self.answers[-1])

    def open_many(self, count: int, spacing_s: float) -> None:
        """Open so many, one every `spacing_s`, reading meanwhile."""
        began = time.monotonic()
        for number in range(count):
            self.read_until(began + number * spacing_s)
            self.open_one()

    def read_until(self, moment: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Read whatever comes until this monotonic time, or until `enough()`."""
        while (left_s := moment - time.monotonic()) > 0 and not enough():
            for descriptor, _ in self._poll.poll(min(left_s, 0.2)):
                self._read(descriptor)

    def _read(self, descriptor: int) -> None:
        opened, answer = self._open[descriptor]
        try:
            data = opened.recv(65536)
        except ConnectionResetError:
            data = b""
        answer += data
        if not data or answer.endswith(_LAST_CHUNK):
            self._poll.unregister(descriptor)
            del self._open[descriptor]
            opened.close()


def broken_streams(port: int, path: str, body: bytes, expected: bytes, *, count: int, spacing_s: float, patience_s: float) -> int:
    """Read `count` streams to their ends, at most `patience_s`; return how many are not this body, byte for byte."""
    with Streams(port, path, body) as streams:
        streams.open_many(count, spacing_s)
        streams.read_until(time.monotonic() + patience_s, lambda: not streams.open_count)
        return sum(unchunked(answer) != expected for answer in streams.answers)


def crowd(port: int, path: str, body: bytes, *, count: int, spacing_s: float, hold_s: float, sample: Callable[[], int]) -> int:
    """
    Have `count` streams flow at once; return the greatest sample.

    One sample when each has brought its first bytes, one after `hold_s` more; then all are closed. Raises `LoadFailed` when one
    stays silent or ends.
    """
    with Streams(port, path, body) as streams:
        streams.open_many(count, spacing_s)
        streams.read_until(time.monotonic() + 20, lambda: not streams.silent_count)
        first = sample()
        streams.read_until(time.monotonic() + hold_s)
        if streams.silent_count or streams.open_count < count:
            raise LoadFailed(f"of {count} streams {streams.silent_count} are silent and only {streams.open_count} still flow")
        return max(first, sample())


def unchunked(answer: bytes | bytearray) -> bytes | None:
    """The body of a chunked 200 answer, None when it is anything else or has no end."""
    head, _, rest = bytes(answer).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200") or b"chunked" not in field_value(head, b"transfer-encoding"):
        return None
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        length = int(size.partition(b";")[0], 16)
        if length == 0:
            return body
        body += rest[:length]
        rest = rest[length + 2 :]
