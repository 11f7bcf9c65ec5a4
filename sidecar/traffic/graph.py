"""
The graph: everything that one config says about traffic, compiled once and never changed.

A reload makes a new graph and swaps it in; exchanges in flight keep the one they began on, and the same engines serve both.
"""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from weakref import WeakSet

from sidecar.dialects.recognition import AUTO
from sidecar.model.authority import authority
from sidecar.model.errors import ConfigFault, ConfigInvalid, Refused
from sidecar.model.facts import Mode
from sidecar.model.sampling import Sampler, from_environ
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import EMPTY, Chain, Policy, as_policy
from sidecar.traffic.destinations import Destinations, Endpoint
from sidecar.traffic.room import Room
from sidecar.traffic.router import Absolute, Route, Router, Way, read_absolute, read_authority
from sidecar.traffic.spec import ProxySpec, RouteSpec, TrafficSpec
from sidecar.traffic.transcript import Pricer
from sidecar.traffic.upstreams.http import Config as UpstreamConfig
from sidecar.traffic.upstreams.http import HttpUpstream
from sidecar.traffic.wire.dial import Dialer
from sidecar.traffic.wire.look_ups import LookUps
from sidecar.traffic.wire.proxy import Proxies, proxies_of
from sidecar.traffic.wire.request_head import RequestHead
from sidecar.traffic.wire.resolver import Resolver, as_literal

_MAX_UNNAMED = 1024
"""Destinations that no upstream names and whose connections are kept; the one used longest ago makes room."""


class Graph:
    """Routes, destinations and identity of one config; `way` finds where a call goes."""

    def __init__(self, traffic: TrafficSpec, routes: list[Route], dialer: Dialer, runtime: Runtime, sampler: Sampler) -> None:
        self.router = Router(routes)
        self.sampler = sampler
        self.agent = traffic.identity.agent or runtime.environ.get("SIDECAR_AGENT_ID", "")
        self.task = traffic.identity.task or runtime.environ.get("SIDECAR_AGENT_TASK_ID", "")
        self.inspect_body_bytes = int(traffic.inspect_body_bytes)
        self.room = _room(runtime, int(traffic.inspect_total_bytes))
        self.pricer: Pricer | None = runtime.services.get("prices")
        self._default = traffic.default
        self.dialer = dialer
        self._runtime = runtime
        self._unnamed: OrderedDict[tuple[str, str, int], Route] = OrderedDict()
        self._evicted: WeakSet[HttpUpstream] = WeakSet()  # alive as long as a call or a connection needs them
        self.upstreams = tuple(dict.fromkeys(route.upstream for route in routes))

    def way(self, request: RequestHead) -> Way:
        """Find where a request with an origin-form or absolute-form target goes; raises `Refused`."""
        if request.target[:1] == b"/":
            return self.router.gateway(request)
        absolute = read_absolute(request.target, request.method)
        route = self.router.by_destination(absolute.scheme, absolute.host, absolute.port, absolute.path)
        if route is None:
            if self._default != "forward":
                raise Refused("destination_denied", f"{absolute.host}:{absolute.port} is no configured upstream")
            route = self._unnamed_route(absolute)
        return Way(Mode.FORWARD, route, absolute.path, absolute.host, absolute.port, absolute.authority, absolute.path)

    def tunnel(self, request: RequestHead) -> Way:
        """Find what a CONNECT leads to; raises `Refused`."""
        host, port = read_authority(request.target, None)
        route = self.router.tunnel(host, port)
        if route is None:
            if self._default == "deny":
                raise Refused("destination_denied", f"{host}:{port} is no configured upstream")
            route = self._unnamed_route(Absolute("https", host, port, authority(host, port).encode(), b"/"))
        if route.connect != "tunnel":
            raise Refused("connect_denied", f"{host}:{port} is not to be tunnelled")
        return Way(Mode.CONNECT, route, request.target, host, port, b"", request.target)

    def _unnamed_route(self, absolute: Absolute) -> Route:
        key = (absolute.scheme, absolute.host, absolute.port)
        route = self._unnamed.get(key)
        if route is not None:
            self._unnamed.move_to_end(key)
            return route
        config = UpstreamConfig(url=f"{absolute.scheme}://{authority(absolute.host, absolute.port)}")
        upstream = HttpUpstream("", config, self._runtime, named_by_config=False)
        upstream.reach_by(self.dialer)
        route = self._unnamed[key] = Route("", b"", upstream, EMPTY, "tunnel", baggage=False)
        if len(self._unnamed) > _MAX_UNNAMED:
            self._evicted.add(self._unnamed.popitem(last=False)[1].upstream)
        return route

    def tick(self, now: float) -> None:
        """Let every pool look after its idle connections and waiting calls."""
        for upstream in self.upstreams:
            upstream.pool.tick(now)
        for route in self._unnamed.values():
            route.upstream.pool.tick(now)
        for upstream in tuple(self._evicted):
            upstream.pool.tick(now)

    def reach_by(self, dialer: Dialer) -> None:
        """Have what ends on this graph obey the destinations of the graph that follows it."""
        self.dialer = dialer
        for upstream in (*(route.upstream for route in self._unnamed.values()), *self._evicted):
            upstream.reach_by(dialer)

    async def close(self) -> None:
        """Close the connections to destinations that no upstream names; named upstreams are closed by who built them."""
        for route in self._unnamed.values():
            await route.upstream.stop()
        for upstream in tuple(self._evicted):
            await upstream.stop()


def compile_graph(
    traffic: TrafficSpec, policies: Mapping[str, Policy], upstreams: Mapping[str, HttpUpstream], runtime: Runtime
) -> Graph:
    """
    Compile the routes; `policies` and `upstreams` are what their modules built, by id.

    Gives each upstream the dialer of this graph, so that address rules change for all of them at once.
    """
    spec = traffic.destinations
    look_ups = runtime.services.get("traffic.look_ups")  # threads cannot be ended, so one bound holds over all reloads
    if look_ups is None:
        look_ups = runtime.services["traffic.look_ups"] = LookUps(runtime.metrics)
    resolver = Resolver(
        ttl_s=float(spec.dns_ttl), timeout_s=float(spec.dns_timeout), clock=runtime.clock, look_ups=look_ups
    )
    destinations = Destinations(
        allow_loopback=spec.allow_loopback,
        allow_private=spec.allow_private,
        own=lambda: _own_addresses(runtime),
        configured=frozenset(_loopback_ports(upstreams.values())),
    )
    dialer = Dialer(
        resolver,
        destinations,
        attempt_delay_s=float(spec.attempt_delay),
        proxies=_proxies(traffic.proxy, runtime),
        resolves_here=traffic.proxy.resolve == "here",
    )
    for upstream in upstreams.values():
        upstream.reach_by(dialer)
    routes = [_route(name, spec, policies, upstreams[spec.upstream], runtime) for name, spec in traffic.routes.items()]
    sampler, _warning = from_environ(runtime.environ)
    return Graph(traffic, routes, dialer, runtime, sampler)


def _route(name: str, spec: RouteSpec, built: Mapping[str, Policy], upstream: HttpUpstream, runtime: Runtime) -> Route:
    policies = [built[policy] for policy in spec.policies]
    chain = Chain(policies, policy_timeout_s=float(spec.policy_timeout))
    cards: Callable[[], Chain] | None = None
    leads_cards = any(map(_is_about_cards, policies))
    if spec.path and getattr(upstream.config, "dialect", AUTO) in (AUTO, "a2a") and not leads_cards:
        cards, leads_cards = cache(lambda: _with_cards(chain, runtime)), True
    return Route(
        name, (spec.path or "").encode(), upstream, chain, spec.connect, baggage=spec.baggage, spec=spec, cards=cards,
        leads_cards=leads_cards,
    )  # fmt: skip


def _is_about_cards(policy: Policy) -> bool:
    return policy.name.partition("/")[0] == "agent_card"


def _with_cards(chain: Chain, runtime: Runtime) -> Chain:
    """The chain with a policy that rewrites agent cards; a route that names such a policy says itself what is to be done."""
    agent_card = importlib.import_module("sidecar.traffic.policies.agent_card")
    policy = as_policy("agent_card", agent_card.STAGE, agent_card.build("agent_card", agent_card.Config(), runtime))
    stands_at = sum(other.stage <= policy.stage for other in chain.policies)
    policies = [*chain.policies[:stands_at], policy, *chain.policies[stands_at:]]
    return Chain(policies, policy_timeout_s=chain.policy_timeout_s)


def _room(runtime: Runtime, limit_bytes: int) -> Room:
    """The one room for bodies that are collected, over all reloads."""
    room: Room | None = runtime.services.get("traffic.room")
    if room is None:
        room = runtime.services["traffic.room"] = Room(limit_bytes)
    room.limit_bytes = limit_bytes
    return room


def _proxies(spec: ProxySpec, runtime: Runtime) -> Proxies:
    try:
        return proxies_of(spec.url, runtime.environ, spec.no_proxy)
    except ValueError as error:
        raise ConfigInvalid([ConfigFault("traffic.proxy.url", 0, str(error))]) from None


def _own_addresses(runtime: Runtime) -> Iterable[Endpoint]:
    own: Iterable[Endpoint] | Callable[[], Iterable[Endpoint]] = runtime.services.get("own_addresses", ())
    return own() if callable(own) else own


def _loopback_ports(upstreams: Iterable[HttpUpstream]) -> Iterable[Endpoint]:
    for upstream in upstreams:
        literal = as_literal(upstream.host)
        if upstream.host == "localhost" or literal.startswith("127.") or literal == "::1":
            yield ("localhost", upstream.port)
