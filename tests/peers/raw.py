"""
A TCP upstream that does only what the test says: accept, read, write, pause, cut, reset.

    upstream = await opened(RawUpstream())
    connection = await upstream.accepts()
    await connection.saw(b"GET / HTTP/1.1\r\n")
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType

from tests.peers.wire import PATIENCE_S, TlsWire, Wire

Handler = Callable[[Wire], Awaitable[None]]


class RawUpstream:
    """
    Listens on a free port of `host`; `accepts` hands out connections in the order in which they came.

    With `handler`, each connection is served by it in a task of its own. With `tls`, a connection is handed out after
    its handshake; a handshake that fails is kept in `failed_handshakes`. `receive_buffer` and `send_buffer` bound what
    the kernel holds for us.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        backlog: int = 2048,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
    ) -> None:
        self._handler = handler
        self._tls = tls
        self._send_buffer = send_buffer
        self._listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listening.bind((host, port))
        self._listening.listen(backlog)
        self._listening.setblocking(False)
        self.host = host
        self.port: int = self._listening.getsockname()[1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.authority}"
        self.connections: list[Wire] = []
        self.failed_handshakes: list[ssl.SSLError | OSError] = []
        self.taken: list[Wire] = []
        self._arrived: asyncio.Queue[Wire] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "RawUpstream":
        self._accepting = self._spawn(self._accept())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stops_listening()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self.connections:
            connection.close()
        failures = [result for result in results if isinstance(result, AssertionError)]
        if failures and error is None:
            raise failures[0]

    async def stops_listening(self) -> None:
        """From here on a new connection is refused by the kernel; those that exist stay."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listening.close()

    async def accepts(self, *, patience_s: float = PATIENCE_S) -> Wire:
        """The next connection that no one has taken yet."""
        try:
            async with asyncio.timeout(patience_s):
                self.taken.append(await self._arrived.get())
        except TimeoutError:
            raise AssertionError(f"no connection came to the upstream within {patience_s} s") from None
        return self.taken[-1]

    async def hears(self, *, patience_s: float = PATIENCE_S) -> Wire:
        """The connection on which something has come next: a new one, or an earlier one that is used again."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not self._arrived.empty():
                self.taken.append(self._arrived.get_nowait())
            for connection in self.taken:
                if connection.has_bytes():
                    return connection
            await asyncio.sleep(0.001)
        raise AssertionError(f"nothing came to the upstream within {patience_s} s")

    async def hears_nothing(self, *, for_s: float = 0.08) -> None:
        """Nothing comes for a while, neither on new connections nor on those that `hears` gave out."""
        try:
            connection = await self.hears(patience_s=for_s)
        except AssertionError:
            return
        raise AssertionError(f"something came, where nothing should have: {(await connection.reads_some())!r}")

    async def accepts_nothing(self, *, for_s: float = 0.08) -> None:
        """No connection comes for a while."""
        try:
            async with asyncio.timeout(for_s):
                connection = await self._arrived.get()
        except TimeoutError:
            return
        raise AssertionError(f"a connection came, where none should have; it said {bytes(connection.received)!r}")

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listening)
            if self._send_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        number = len(self.connections) + 1
        if self._tls is None:
            connection = Wire(sock, f"upstream (connection {number})")
            self.connections.append(connection)
        else:
            secure = TlsWire(sock, f"TLS upstream (connection {number})", self._tls, server_side=True)
            connection = secure
            self.connections.append(connection)
            try:
                await secure.shakes_hands()
            except (ssl.SSLError, OSError) as error:
                self.failed_handshakes.append(error)
                connection.close()
                return
        if self._handler is None:
            self._arrived.put_nowait(connection)
            return
        try:
            await self._handler(connection)
        except (OSError, EOFError):
            return
        finally:
            connection.close()

    def _spawn(self, doing: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        return task
