"""A blocking client that times one call at a time, and the waits for a server to be there."""

import socket
import ssl
import time

from tests.bench.payload import request_heads
from tests.bench.process import Process


class LoadFailed(Exception):
    """A client could not do its work: the numbers of this run mean nothing."""


class BlockingClient:
    """One keep-alive connection, one call at a time, timed by the ns."""

    def __init__(self, port: int, path: str, body: bytes, context: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        self._requests = [head + body for head in request_heads(path, f"127.0.0.1:{port}", body, traced=True)]
        self._count = 0

    def __enter__(self) -> "BlockingClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self) -> tuple[int, bytes]:
        """One call with a Content-Length answer: ns from the first byte sent to the last received, and the body."""
        request = self._next()
        began_ns = time.perf_counter_ns()
        self._socket.sendall(request)
        received, body_start = self._head()
        length = int(field_value(received[:body_start], b"content-length"))
        while len(received) < body_start + length:
            received += self._receive()
        return time.perf_counter_ns() - began_ns, received[body_start:]

    def first_byte(self) -> int:
        """One chunked answer, read to its end: ns from the first byte sent to the first byte of the body."""
        request = self._next()
        began_ns = time.perf_counter_ns()
        self._socket.sendall(request)
        received, body_start = self._head()
        while len(received) == body_start:
            received += self._receive()
        first_ns = time.perf_counter_ns() - began_ns
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += self._receive()
        return first_ns

    def _next(self) -> bytes:
        self._count = (self._count + 1) % len(self._requests)
        return self._requests[self._count]

    def _head(self) -> tuple[bytes, int]:
        """Everything received so far, and where the body begins in it."""
        received = self._receive()
        while (head_end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        if not received.startswith(b"HTTP/1.1 200"):
            raise LoadFailed(received[: head_end + 300].decode("latin-1"))
        return received, head_end + 4

    def _receive(self) -> bytes:
        data = self._socket.recv(262144)
        if not data:
            raise LoadFailed("the connection was closed in the middle of an answer")
        return data


def wait_until_open(process: Process, port: int, patience_s: float = 15.0) -> None:
    """Wait until somebody listens on the port; raises `LoadFailed` when the process ends instead."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if not process.is_alive:
                break
            time.sleep(0.005)
    raise LoadFailed(f"{process.name} does not listen on port {port}: {process.last_words()}")


def wait_until_answered(process: Process, port: int, path: str, body: bytes, patience_s: float = 15.0) -> float:
    """Try until a call is answered with 200; return the seconds since the process was spawned."""
    end = time.monotonic() + patience_s
    reason = ""
    while time.monotonic() < end and process.is_alive:
        try:
            with BlockingClient(port, path, body) as client:
                client.call()
                return (time.perf_counter_ns() - process.spawned_ns) / 1e9
        except (OSError, LoadFailed) as error:
            reason = str(error)
            time.sleep(0.001)
    raise LoadFailed(f"{process.name} gives no 200 on port {port}{path}: {reason}\n{process.last_words()}")


def field_value(head: bytes, name: bytes) -> bytes:
    """The value of a header field, empty when it is not there."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return b""
