"""
gRPC peers for tests: a server whose messages are plain bytes, and a client's channel.

    async with RpcUpstream() as upstream: ...       # /test.Echo/UnaryUnary, UnaryStream, StreamUnary, StreamStream
    async with RpcUpstream(behave) as upstream: ... # every method runs `await behave(context)`: context.read(), context.write(...)
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

Behaviour = Callable[[Any], Awaitable[None]]
EOF = grpc.aio.EOF
COPIES = 5
"""How often UnaryStream says what it was told."""


class Heard:
    """One call as the server saw it; `ended` is set when its handler is over, `was_cancelled` says how."""

    def __init__(self, path: str, context: Any) -> None:
        self.path = path
        self.metadata = [(key, value) for key, value in context.invocation_metadata() if key != "user-agent"]
        self.user_agent = dict(context.invocation_metadata())["user-agent"]
        self.left_s = context.time_remaining()
        self.ended = asyncio.Event()
        self.was_cancelled = False

    def values(self, key: str) -> list[Any]:
        """The values of a key, in their order."""
        return [value for each, value in self.metadata if each == key]


class RpcUpstream:
    """A gRPC server on a free port (or on `port`); `heard` are the calls that came."""

    def __init__(
        self, behave: Behaviour | None = None, *, credentials: Any = None, port: int = 0, options: Any = (), compression: Any = None
    ) -> None:
        self._behave = behave
        self._credentials = credentials
        self._options = [("grpc.so_reuseport", 0), *options]
        self._compression = compression
        self.port = port
        self.heard: list[Heard] = []
        self._came = asyncio.Event()

    async def __aenter__(self) -> "RpcUpstream":
        self._server: Any = grpc.aio.server(options=self._options, compression=self._compression)
        self._server.add_generic_rpc_handlers([self])  # type: ignore[list-item]  # it has the one method that is asked for
        address = f"127.0.0.1:{self.port}"
        if self._credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self._credentials)
        await self._server.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stops()

    async def stops(self) -> None:
        """Cut every call, and every connection."""
        server, self._server = self._server, None  # it holds us as its handler: the cycle would wait for the garbage collector
        if server is not None:
            await server.stop(None)

    async def leaves(self, grace_s: float) -> None:
        """Send GOAWAY and let the calls end."""
        await self._server.stop(grace_s)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http{'s' if self._credentials is not None else ''}://localhost:{self.port}"

    async def hears(self, count: int = 1) -> Heard:
        """The call of this number, when it has come."""
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                self._came.clear()
                await self._came.wait()
        return self.heard[count - 1]

    def service(self, details: Any) -> Any:
        """grpc.GenericRpcHandler."""
        method = details.method.rpartition("/")[2]
        if self._behave is None and not hasattr(self, f"_{method}"):
            return None
        behave = self._behave or getattr(self, f"_{method}")

        async def handle(_requests: Any, context: Any) -> None:
            heard = Heard(details.method, context)
            self.heard.append(heard)
            self._came.set()
            try:
                await behave(context)
            except asyncio.CancelledError:
                heard.was_cancelled = True
                raise
            except grpc.aio.InternalError:
                heard.was_cancelled = True  # that there is nobody to write to may be found before the cancellation is heard of
                raise asyncio.CancelledError from None
            finally:
                heard.ended.set()

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _UnaryUnary(self, context: Any) -> None:  # noqa: N802 - methods of services are written so
        message = await context.read()
        if message is EOF:
            await asyncio.sleep(1)  # a call that is cancelled looks like this at first; one without a message is none
        await context.write(b"" if message is EOF else message)

    async def _UnaryStream(self, context: Any) -> None:  # noqa: N802
        message = await context.read()
        for _ in range(COPIES):
            await context.write(message)

    async def _StreamUnary(self, context: Any) -> None:  # noqa: N802
        whole = b""
        while (message := await context.read()) is not EOF:
            whole += message
        await context.write(whole)

    async def _StreamStream(self, context: Any) -> None:  # noqa: N802
        while (message := await context.read()) is not EOF:
            await context.write(message)


async def messages(*pieces: bytes) -> AsyncIterator[bytes]:
    """A stream of requests."""
    for piece in pieces:
        yield piece


def channel(port: int, *, credentials: Any = None, options: Any = (), compression: Any = None) -> grpc.aio.Channel:
    """A client's channel of its own to a port on 127.0.0.1; an async context manager."""
    settings: Any = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), *options]
    if credentials is None:
        return grpc.aio.insecure_channel(f"127.0.0.1:{port}", settings, compression)
    return grpc.aio.secure_channel(f"localhost:{port}", credentials, settings, compression)


async def failure(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """
    The error that a call ends with; without its traceback, which would keep channel and server from going at once.
    """
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.with_traceback(None)
    raise AssertionError("the call did not fail")


def shown(metadata: Any) -> list[tuple[str, Any]]:
    """Metadata as pairs."""
    return [(key, value) for key, value in metadata or ()]
