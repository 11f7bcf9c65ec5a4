"""
An HTTP/1.1 endpoint that calls are passed on to, over plain TCP or TLS.

    http/openai: {url: https://api.openai.com, dialect: plain, first_byte_timeout: 2m}
"""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sidecar.model.authority import authority, bracketed
from sidecar.model.spec import Duration, Secret, Size, Spec
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.tls import Made, TlsSpec, contexts_of
from sidecar.traffic.wire.dial import Dialer
from sidecar.traffic.wire.outbox import outbox_of
from sidecar.traffic.wire.pool import Pool, PoolLimits, Target
from sidecar.traffic.wire.proxy import Via, check_proxy, proxies_of

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXYS_PART = 0.9
"""Of the time to connect, so that a proxy which takes too long is told from an endpoint that does."""
_HEADS_UNLEARNT = 64
"""Of a destination that no config names: there may be many of them, each of them seldom called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where calls go and how long that may take."""

    url: str
    """Base URL, `http://` or `https://`; a path in it stands before the path of each call."""
    dialect: str = "auto"
    """What the endpoint speaks: a module of sidecar/dialects, `plain` to read nothing, or `auto`: told by path and header."""
    provider: str = ""
    """Who it is (`gen_ai.provider.name`, as in `openai` or `groq`), where the host does not tell."""
    connect_timeout: Duration = Duration("5s")
    """Resolving, connecting and TLS together, once a call has a place for its connection."""
    first_byte_timeout: Duration = Duration("10m")
    """From the last byte of the request to the first of the response; models may think for minutes."""
    idle_timeout: Duration = Duration("5m")
    """Longest silence in the middle of a response."""
    max_connections: int = 1024
    """Connections at once."""
    max_waiting: int = 1024
    """Calls that may wait for a connection."""
    pool_timeout: Duration = Duration("10s")
    """How long a call may wait for a place for its connection; `connect_timeout` is another clock, and starts after it."""
    keep_alive_timeout: Duration = Duration("55s")
    """How long an idle connection is kept; below the 60 s after which most servers close it."""
    max_header_bytes: Size = Size("64KiB")
    """Longest response head."""
    max_header_count: int = 256
    """Most fields of a response head."""
    tls: TlsSpec = field(default_factory=TlsSpec)
    """TLS settings, for https."""
    proxy: Secret | None = None
    """Corporate proxy, as in `http://user:password@proxy:3128`, or `environment`, or `direct`; default: `traffic.proxy`."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if "@" in parts.netloc or "?" in self.url or "#" in self.url:
            raise ValueError("url must not have credentials, a query or a fragment; agents bring their own credentials")
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.port == 0:
            raise ValueError(f"url has to begin with http:// or https:// and name a host, not {self.url!r}")
        if not all("!" <= letter <= "~" for letter in self.url):
            raise ValueError(f"url has to be percent-encoded ASCII (a host name in its xn-- form), not {self.url!r}")
        if self.max_connections < 1 or self.max_waiting < 0 or self.max_header_count < 1:
            raise ValueError("max_connections and max_header_count have to be 1 or more, max_waiting 0 or more")
        check_proxy(self.proxy)


class HttpUpstream:
    """
    One endpoint with its pool; `authority` is its Host field's value, `base` the path that stands before each call's.

    `asks` is the corporate proxy that plain calls are sent to instead of the endpoint, with the whole URL as their target
    (RFC 9112 section 3.2.2); where TLS is spoken, or there is no proxy, it is None.

    It cannot connect before `reach_by` has given it a dialer, because which addresses may be reached is the graph's to say.
    """

    def __init__(self, name: str, config: Config, runtime: Runtime, *, named_by_config: bool = True) -> None:
        parts = urlsplit(config.url)
        assert parts.hostname is not None
        self.name = name
        self.config = config
        self.scheme = parts.scheme
        self.host = parts.hostname
        self.port = parts.port or _DEFAULT_PORTS[parts.scheme]
        is_default = self.port == _DEFAULT_PORTS[self.scheme]
        self.authority = (bracketed(self.host) if is_default else authority(self.host, self.port)).encode()
        self.base = parts.path.rstrip("/").encode()
        self.first_byte_timeout_s = float(config.first_byte_timeout)
        self.idle_timeout_s = float(config.idle_timeout)
        self.named_by_config = named_by_config
        self._proxies = proxies_of(config.proxy, runtime.environ) if config.proxy is not None else None
        self._via: Via | None = None
        self.asks: Via | None = None
        self._dialer: Dialer | None = None
        self._contexts = contexts_of(runtime)
        self._made: Made | None = None
        self.pool = Pool(
            Target(self.dial, self._tls if self.scheme == "https" else None, config.tls.server_name or self.host.rstrip(".")),
            PoolLimits(
                max_connections=config.max_connections,
                max_waiting=config.max_waiting,
                connect_timeout_s=float(config.connect_timeout),
                pool_timeout_s=float(config.pool_timeout),
                keep_alive_timeout_s=float(config.keep_alive_timeout),
                max_header_bytes=config.max_header_bytes,
                max_header_count=config.max_header_count,
                heads_unlearnt=0 if named_by_config else _HEADS_UNLEARNT,
            ),
            runtime.clock,
            outbox_of(runtime),
        )
        self._metrics = runtime.metrics
        self._shown: list[Callable[[], None]] = []

    def _show(self) -> None:
        """Not before the start: what a reload builds and then does not take must not be seen."""
        show, pool, name, waiting = self._metrics.show, self.pool, self.name, "Calls that wait for a connection."
        connections = "traffic.upstreams.http.connections"
        self._shown = [
            show(connections, "Connections to the upstream.", lambda: pool.open_count, upstream=name, state="open"),
            show(connections, "Connections to the upstream.", lambda: pool.idle_count, upstream=name, state="idle"),
            show("traffic.upstreams.http.waiting", waiting, lambda: pool.waiting_count, upstream=name),
        ]

    def reach_by(self, dialer: Dialer) -> None:
        """
        Use this dialer, with the destinations of the graph that now stands, for connections from here on.

        Its proxies are those of the first dialer: the pool's connections lead to one place, and where that changes, the plane
        makes another upstream.
        """
        if self._dialer is None:
            self._via = (self._proxies or dialer.proxies).to(self.scheme, self.host, self.port)
            self.asks = self.pool.asks = self._via if self.scheme == "http" else None
        self._dialer = dialer
        port, named = (self.port, self.named_by_config) if self._via is None else (self._via.port, True)
        self.pool.keep_only(lambda address: dialer.allows(address, port, named_by_config=named))

    async def dial(self) -> tuple[socket.socket, str]:
        """Return a socket for calls, connected to the endpoint or to the proxy that `asks` names, and the peer's address."""
        return await self._dial(tunnels=self.asks is None)

    async def dial_tunnel(self) -> tuple[socket.socket, str]:
        """Return a socket whose other end is the endpoint itself, whatever is spoken there, and the peer's address."""
        return await self._dial(tunnels=True)

    async def _dial(self, *, tunnels: bool) -> tuple[socket.socket, str]:
        assert self._dialer is not None, "compile_graph gives every upstream its dialer"
        if self._via is None:
            return await self._dialer.dial(self.host, self.port, named_by_config=self.named_by_config)
        timeout_s = _PROXYS_PART * float(self.config.connect_timeout)
        return await self._dialer.dial_through(
            self._via, self.host, self.port, named_by_config=self.named_by_config, tunnels=tunnels, timeout_s=timeout_s
        )

    async def _tls(self) -> ssl.SSLContext:
        self._made = await self._contexts.newest(self.config.tls, self._made)
        return self._made.context

    async def start(self) -> None:
        """Read the certificate files, if any: connections are made when calls need them; raises OSError (also for bad files)."""
        if self.scheme == "https" and self.config.tls.files:
            await self._tls()
        if self.named_by_config and not self._shown:
            self._show()

    async def stop(self) -> None:
        """Close every connection; calls that are on one hear of it at once."""
        for end in self._shown:
            end()
        await self.pool.close()


def build(name: str, config: Config, runtime: Runtime) -> HttpUpstream:
    """Make the upstream; it connects to nothing yet."""
    return HttpUpstream(name, config, runtime)
