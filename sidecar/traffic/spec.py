"""What a person may write under `traffic:` beside its components: routes, destinations, identity."""

from dataclasses import dataclass, field
from typing import Any, Literal

from sidecar.model.spec import Duration, Secret, Size, Spec
from sidecar.traffic.wire.no_proxy import check_no_proxy
from sidecar.traffic.wire.proxy import check_proxy

Connect = Literal["tunnel", "intercept", "deny"]
Default = Literal["forward", "tunnel", "deny"]
Resolve = Literal["proxy", "here"]
UsageOn = Literal["sidecar", "agent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec(Spec):
    """
    One way through the sidecar.

    A gateway call takes it by `path`, a prefix that is cut off before the rest is appended to the upstream's url; a
    forward-proxied call by the upstream's host and port (and the path of its url, the longest first).
    """

    upstream: str
    """The upstream's id, as in `http/openai`."""
    path: str | None = None
    """Gateway prefix: begins and ends with `/`; without it the route is taken in forward mode only."""
    policies: tuple[str, ...] = ()
    """Ids of policies, outermost first, in the order that the architecture gives."""
    connect: Connect = "tunnel"
    """What a CONNECT to this upstream's host and port gets."""
    baggage: bool = False
    """Pass the agent's W3C baggage on to this upstream."""
    usage_on: UsageOn = "sidecar"
    """Whose spans carry tokens and cost: `agent` where the agent is instrumented itself, so that nothing is counted twice."""
    include_usage: bool = True
    """Ask for the usage of a streamed answer where the client did not, and take it out again before the client sees it."""
    trace_in_meta: bool = True
    """Write the trace context into `params._meta` of MCP requests, where servers look for it."""
    content: bool = False
    """Collect prompts, completions and arguments of tools for spans. Off by default: they are people's words, perhaps secrets."""
    policy_timeout: Duration = Duration("5m")
    """How long the policies may take to decide, while nothing is asked of the upstream."""

    def __post_init__(self) -> None:
        if self.path is not None and not (self.path.startswith("/") and self.path.endswith("/")):
            raise ValueError(f"path has to begin and end with '/', as in '/openai/', not {self.path!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationsSpec(Spec):
    """Which addresses may be reached; checked after resolution, on the very address that is then connected to."""

    allow_loopback: bool = False
    """Reach loopback ports that no upstream names; for whoever is on this machine anyway (`sidecar exec` sets it)."""
    allow_loopback_from_elsewhere: bool = False
    """Let those reach them too who come through a non-loopback listener; without it such a listener forbids `allow_loopback`."""
    allow_private: bool = True
    """Reach private ranges (RFC 1918, RFC 4193, 100.64.0.0/10)."""
    dns_ttl: Duration = Duration("30s")
    """How long a resolved name is kept."""
    dns_timeout: Duration = Duration("5s")
    """How long a name may take to resolve."""
    attempt_delay: Duration = Duration("250ms")
    """Head start of one address over the next (RFC 8305, Connection Attempt Delay)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySpec(Spec):
    """The corporate proxy for whatever has none of its own: unknown destinations, tunnels, upstreams without `proxy`."""

    url: Secret | None = None
    """`http://user:password@proxy:3128`, or `environment` (HTTPS_PROXY, http_proxy, ALL_PROXY, NO_PROXY), or `direct`: none."""
    no_proxy: tuple[str, ...] = ("localhost", "127.0.0.0/8", "::1")
    """What is reached directly: hosts with all below them, addresses, CIDR ranges, `host:port`, or `*`."""
    resolve: Resolve = "proxy"
    """Who resolves names that go through a proxy: the `proxy` alone, or `here` as well, to judge the addresses first."""

    def __post_init__(self) -> None:
        check_proxy(self.url)
        check_no_proxy(self.no_proxy)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySpec(Spec):
    """Who calls, where the call itself does not say."""

    agent: str = ""
    """Agent id; default `${env:SIDECAR_AGENT_ID}`."""
    task: str = ""
    """Task id; default `${env:SIDECAR_AGENT_TASK_ID}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSpec(Spec):
    """The data plane."""

    listeners: dict[str, Any] = field(default_factory=lambda: {"http": None})
    """Ports that agents talk to, by id."""
    policies: dict[str, Any] = field(default_factory=dict)
    """What may refuse, delay or change calls, by id; a route names those that it takes."""
    upstreams: dict[str, Any] = field(default_factory=dict)
    """Endpoints that calls go to, by id."""
    routes: dict[str, RouteSpec] = field(default_factory=dict)
    """Ways through the sidecar, by name."""
    default: Default = "forward"
    """Unknown destinations: `forward` plain calls and tunnel CONNECT, only `tunnel` CONNECT, or `deny` both."""
    proxy: ProxySpec = field(default_factory=ProxySpec)
    destinations: DestinationsSpec = field(default_factory=DestinationsSpec)
    identity: IdentitySpec = field(default_factory=IdentitySpec)
    inspect_body_bytes: Size = Size("16MiB")
    """Longest request body that is collected to be read; a longer one streams on unread. 0 reads nothing."""
    inspect_total_bytes: Size = Size("256MiB")
    """All bodies that are being collected at one moment; what does not fit streams on unread."""
    drain: Duration = Duration("30s")
    """How long calls in flight may take to end after SIGTERM."""
