"""
A gRPC endpoint that calls of a `grpc` listener are passed on to, over plain HTTP/2 (h2c) or TLS.

    grpc/planner: {url: http://planner.internal:50051, max_message_bytes: 16MiB}
"""

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.spec import Duration, Size, Spec
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.grpc.connection import Connection, options_of
from sidecar.traffic.grpc.trust import channel_credentials, check
from sidecar.traffic.tls import TlsSpec
from sidecar.traffic.upstreams.http import Config as HttpConfig
from sidecar.traffic.upstreams.http import HttpUpstream
from sidecar.traffic.wire.dial import Dialer


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where calls go and how long that may take."""

    url: str
    """`http://` (h2c) or `https://`, host and port; a path would have no meaning, because a method's path is its name."""
    dialect: Literal["auto", "plain"] = "auto"
    """Whose messages are read: with `auto` those of A2A's service, and all others pass unread; `plain` reads none."""
    connect_timeout: Duration = Duration("5s")
    """Resolving, connecting and TLS together."""
    first_byte_timeout: Duration = Duration("10m")
    """From the last message of the request to the first sign of the response; a client's own deadline holds as well."""
    idle_timeout: Duration | None = None
    """Longest silence once the response has begun; default: none, because streams are often silent on purpose."""
    keep_alive: Duration = Duration("5m")
    """How often a silent connection with calls on it is asked for a sign of life; many servers allow no less than 5m."""
    keep_alive_timeout: Duration = Duration("20s")
    """How long the sign of life may take."""
    max_message_bytes: Size = Size("16MiB")
    """Longest message of a response."""
    max_metadata_bytes: Size = Size("64KiB")
    """Most metadata of a response."""
    tls: TlsSpec = field(default_factory=TlsSpec)
    """TLS settings, for https."""

    def __post_init__(self) -> None:
        if urlsplit(self.url).path not in ("", "/"):
            raise ValueError(f"url has to be http://host:port or https://host:port, without a path, not {self.url!r}")
        _as_http(self)
        check(self.tls)


def _as_http(config: Config) -> HttpConfig:
    """What is the same for both protocols; raises ValueError for a url that is none."""
    return HttpConfig(
        url=config.url,
        dialect="plain",
        connect_timeout=config.connect_timeout,
        first_byte_timeout=config.first_byte_timeout,
        tls=config.tls,
    )


class GrpcUpstream(HttpUpstream):
    """
    One endpoint and the connection to it, which all calls share.

    Which address may be reached is the graph's to say, as for any upstream: each connection is led to an address that was
    resolved, judged and reached by the graph's dialer. CONNECT tunnels may lead here too; plain HTTP calls may not.
    """

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        super().__init__(name, _as_http(config), runtime)
        self.grpc_config = config
        self.reads_a2a = config.dialect == "auto"
        self.no_idle_timeout = config.idle_timeout is None
        self.idle_timeout_s = float(config.idle_timeout or 0.0)
        self._runtime = runtime
        self._connection: Connection | None = None
        self._leaving: set[Connection] = set()
        self._connecting: asyncio.Task[Connection] | None = None
        self._shown_here: list[Callable[[], None]] = []

    def ready(self) -> Connection | None:
        """The connection, where there is one that takes calls now."""
        connection = self._connection
        return connection if connection is not None and connection.is_ready() else None

    async def reach(self) -> Connection:
        """Return the connection, made anew where there is none that takes calls; raises `Refused`."""
        connecting = self._connecting
        if connecting is None:
            connecting = self._connecting = asyncio.create_task(self._connect(), name=f"connect to {self.name}")
            connecting.add_done_callback(self._connected)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            if connecting.cancelled():
                raise Refused("draining", f"{self.name} has been stopped") from None
            raise

    def _connected(self, task: "asyncio.Task[Connection]") -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # who waits for it has it already

    async def _connect(self) -> Connection:
        limit_s = float(self.grpc_config.connect_timeout)
        try:
            async with asyncio.timeout(limit_s):
                sock, address = await self._dial(tunnels=True)
                sock.close()  # the library makes its own; this one has shown which address may be, and can be, reached
                connection = await self._channel_to(address)
                try:
                    await connection.reached()
                except BaseException:
                    connection.close_soon()
                    raise
        except TimeoutError:
            raise UpstreamFailed("connect_timeout", f"no HTTP/2 connection within {limit_s:g} s") from None
        self._leave(self._connection)
        self._connection = connection
        return connection

    async def _channel_to(self, address: str) -> Connection:
        config = self.grpc_config
        grpc = importlib.import_module("grpc")  # there already, or no listener could have brought a call
        aio = importlib.import_module("grpc.aio")
        options = options_of(
            max_message_bytes=int(config.max_message_bytes),
            max_metadata_bytes=int(config.max_metadata_bytes),
            connect_timeout_ms=int(float(config.connect_timeout) * 1000),
            keep_alive_ms=int(float(config.keep_alive) * 1000),
            keep_alive_timeout_ms=int(float(config.keep_alive_timeout) * 1000),
            authority=self.authority.decode(),
        )
        target = f"ipv6:[{address}]:{self.port}" if ":" in address else f"ipv4:{address}:{self.port}"
        if self.scheme == "http":
            return Connection(aio.insecure_channel(target, options), address, is_encrypted=False)
        options.append(("grpc.ssl_target_name_override", config.tls.server_name or self.host.rstrip(".")))
        try:
            credentials = await asyncio.to_thread(channel_credentials, grpc, config.tls)
        except OSError as error:
            raise UpstreamFailed("tls_failed", f"the TLS files cannot be used: {error}") from None
        return Connection(aio.secure_channel(target, credentials, options), address, is_encrypted=True)

    def _leave(self, connection: Connection | None) -> None:
        """Let a connection go once the calls on it have ended."""
        if connection is not None:
            self._leaving.add(connection)
            connection.leave(self._leaving.discard)

    def reach_by(self, dialer: Dialer) -> None:
        """As of any upstream; where its address is closed by now, further calls do not take the connection that there is."""
        super().reach_by(dialer)
        connection = self._connection
        if connection is not None and not dialer.allows(connection.address, self.port, named_by_config=True):
            self._connection = None
            self._leave(connection)

    async def dial(self) -> Any:
        """Refuse plain HTTP calls: their routes lead elsewhere."""
        raise Refused("route_unknown", f"{self.name} is for calls that come through a grpc listener")

    async def start(self) -> None:
        """Look at the certificate files, and at the way: raises ValueError where a corporate proxy would stand in it."""
        if self._via is not None:
            raise ValueError(f"gRPC takes no corporate proxy ({self._via.shown}): add {self.host} to traffic.proxy.no_proxy")
        await super().start()
        self._show_here()

    def _show(self) -> None:
        """What the pool of an HTTP upstream would show is none of ours."""

    def _show_here(self) -> None:
        show, name = self._runtime.metrics.show, self.name
        self._shown_here = [
            show("traffic.upstreams.grpc.connections", "Connections to the upstream.", self._count, upstream=name),
            show("traffic.upstreams.grpc.calls", "Calls under way.", self._count_calls, upstream=name),
        ]

    def _count(self) -> float:
        return len(self._leaving) + (self.ready() is not None)

    def _count_calls(self) -> float:
        own = self._connection.calls if self._connection is not None else 0
        return own + sum(connection.calls for connection in self._leaving)

    async def stop(self) -> None:
        """Close every connection; calls that are on one hear of it at once."""
        for end in self._shown_here:
            end()
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
        connections = [*self._leaving, *([self._connection] if self._connection is not None else [])]
        self._connection = None
        self._leaving.clear()
        for connection in connections:
            await connection.close()
        await super().stop()


def build(name: str, config: Config, runtime: Runtime) -> GrpcUpstream:
    """Make the upstream; it connects to nothing yet."""
    return GrpcUpstream(name, config, runtime)
