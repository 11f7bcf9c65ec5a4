"""
An HTTP/1.1 endpoint that calls are passed on to, over plain TCP or TLS.

    http/openai: {url: https://api.openai.com, dialect: plain, first_byte_timeout: 2m}
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from sidecar.model.spec import Duration, Secret, Size, Spec
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.wire.dial import Dialer, Via
from sidecar.traffic.wire.pool import Pool, PoolLimits, Target

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSpec(Spec):
    """TLS towards the upstream; the certificate is verified unless told otherwise."""

    ca_file: str | None = None
    """PEM file of the only authorities to trust, instead of the system's."""
    cert_file: str | None = None
    """PEM file of our certificate, for mutual TLS."""
    key_file: str | None = None
    """PEM file of our key; default: in `cert_file`."""
    server_name: str | None = None
    """Name for SNI and verification; default: the url's host."""
    insecure_skip_verify: bool = False
    """Accept any certificate; for tests only."""
    min_version: str = "1.2"
    """Lowest TLS version: `1.2` or `1.3`."""

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file beside it")
        if self.min_version not in ("1.2", "1.3"):
            raise ValueError(f"min_version is '1.2' or '1.3', not {self.min_version!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where calls go and how long that may take."""

    url: str
    """Base URL, `http://` or `https://`; a path in it stands before the path of each call."""
    dialect: str = "plain"
    """What the endpoint speaks."""
    connect_timeout: Duration = Duration("5s")
    """Resolving, connecting and TLS together."""
    first_byte_timeout: Duration = Duration("10m")
    """From the last byte of the request to the first of the response; models may think for minutes."""
    idle_timeout: Duration = Duration("5m")
    """Longest silence in the middle of a response."""
    max_connections: int = 1024
    """Connections at once."""
    max_waiting: int = 1024
    """Calls that may wait for a connection."""
    pool_timeout: Duration = Duration("10s")
    """How long a call may wait for a connection."""
    keep_alive_timeout: Duration = Duration("55s")
    """How long an idle connection is kept; below the 60 s after which most servers close it."""
    max_header_bytes: Size = Size("64KiB")
    """Longest response head."""
    max_header_count: int = 256
    """Most fields of a response head."""
    tls: TlsSpec = field(default_factory=TlsSpec)
    """TLS settings, for https."""
    proxy: Secret | None = None
    """Corporate proxy to go through, as in `http://user:password@proxy:3128`."""

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
        if self.proxy is not None:
            read_proxy(self.proxy)


def read_proxy(proxy: Secret) -> Via:
    """Return where a corporate proxy stands; raises ValueError (without its password) where the URL makes no sense."""
    fault = ValueError("proxy has to look like http://user:password@host:port, with the password percent-encoded")
    try:
        parts = urlsplit(proxy.reveal())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise fault from None  # the original tells the part of the URL, often of the password, that is no port
    if parts.scheme != "http" or not host or not port:
        raise fault
    return Via.through(host, port, unquote(parts.username or ""), unquote(parts.password or ""))


class HttpUpstream:
    """
    One endpoint with its pool; `authority` is its Host field's value, `base` the path that stands before each call's.

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
        shown = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == _DEFAULT_PORTS[self.scheme]
        self.authority = (shown if is_default else f"{shown}:{self.port}").encode()
        self.base = parts.path.rstrip("/").encode()
        self.first_byte_timeout_s = float(config.first_byte_timeout)
        self.idle_timeout_s = float(config.idle_timeout)
        self.named_by_config = named_by_config
        self._via = read_proxy(config.proxy) if config.proxy is not None else None
        self._dialer: Dialer | None = None
        self._context: ssl.SSLContext | None = None
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
            ),
            runtime.clock,
        )
        if named_by_config:
            self._show(runtime)

    def _show(self, runtime: Runtime) -> None:
        for state, read in (
            ("open", lambda: self.pool.open_count),
            ("idle", lambda: self.pool.idle_count),
        ):
            runtime.metrics.gauge(
                "traffic.upstreams.http.connections", "Connections to the upstream.", read=read, upstream=self.name, state=state
            )
        runtime.metrics.gauge(
            "traffic.upstreams.http.waiting",
            "Calls that wait for a connection.",
            read=lambda: self.pool.waiting_count,
            upstream=self.name,
        )

    def reach_by(self, dialer: Dialer) -> None:
        """Use this dialer, with the destinations of the graph that now stands, for connections from here on."""
        self._dialer = dialer

    async def dial(self) -> tuple[socket.socket, str]:
        """Return a connected socket to the endpoint (through the corporate proxy where one is set) and the peer's address."""
        assert self._dialer is not None, "compile_graph gives every upstream its dialer"
        return await self._dialer.dial(self.host, self.port, named_by_config=self.named_by_config, via=self._via)

    async def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            # Reading the system's authorities takes 10-20 ms, which the loop has better uses for.
            self._context = await asyncio.to_thread(make_context, self.config.tls)
        return self._context

    async def start(self) -> None:
        """Read the certificate files, if any: connections are made when calls need them; raises OSError (also for bad files)."""
        tls = self.config.tls
        if self.scheme == "https" and (tls.ca_file or tls.cert_file):
            await self._tls()

    async def stop(self) -> None:
        """Close every connection."""
        await self.pool.close()


def make_context(spec: TlsSpec) -> ssl.SSLContext:
    """Build the client side's TLS context: HTTP/1.1 by ALPN, verification on; raises OSError or ssl.SSLError for bad files."""
    context = ssl.create_default_context(cafile=spec.ca_file)
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if spec.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    if spec.cert_file:
        context.load_cert_chain(spec.cert_file, spec.key_file)
    if spec.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def build(name: str, config: Config, runtime: Runtime) -> HttpUpstream:
    """Make the upstream; it connects to nothing yet."""
    return HttpUpstream(name, config, runtime)
