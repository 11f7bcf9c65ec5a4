from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.clock import ManualClock
from sidecar.model.errors import ConfigInvalid, Refused
from sidecar.model.facts import Mode
from sidecar.model.spec import Secret
from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime
from sidecar.traffic import graph as graph_module
from sidecar.traffic.chain import Chain, Stage, as_policy
from sidecar.traffic.graph import Graph, compile_graph
from sidecar.traffic.router import Way
from sidecar.traffic.spec import DestinationsSpec, IdentitySpec, ProxySpec, RouteSpec, TrafficSpec
from sidecar.traffic.upstreams.http import Config, HttpUpstream
from sidecar.traffic.wire.request_head import RequestHead
from tests.peers.raw import RawUpstream
from tests.sidecar_under_test import eventually


def request(target: bytes, method: bytes = b"GET") -> RequestHead:
    head = RequestHead()
    head.method, head.target = method, target
    return head


def compiled(
    *, runtime: Runtime | None = None, url: str = "https://api.example/v1", connect: Any = "tunnel", **traffic: Any
) -> Graph:
    runtime = runtime or Runtime()
    spec = TrafficSpec(routes={"a": RouteSpec(upstream="http/a", path="/a/", connect=connect)}, **traffic)
    return compile_graph(spec, {}, {"http/a": HttpUpstream("http/a", Config(url=url), runtime)}, runtime)


def refused(graph: Graph, target: bytes, method: bytes = b"GET") -> str:
    with pytest.raises(Refused) as refusal:
        graph.tunnel(request(target)) if method == b"CONNECT" else graph.way(request(target, method))
    return refusal.value.code


def outcome(ask: Any, target: bytes) -> tuple[str, Way | None]:
    """The code with which a target is refused, or the way that it takes."""
    try:
        return "", ask(request(target))
    except Refused as refused:
        return refused.code, None


# ── where a call goes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_way_to_a_destination_is_the_same_route() -> None:
    graph = compiled()
    ways = [
        graph.way(request(b"/a/x?y")),
        graph.way(request(b"https://API.example/v1/x?y")),
        graph.tunnel(request(b"api.example:443")),
    ]
    assert [way.mode for way in ways] == [Mode.GATEWAY, Mode.FORWARD, Mode.CONNECT]
    assert len({id(way.route) for way in ways}) == 1
    assert [(way.target, way.asked, way.host_line) for way in ways] == [
        (b"/v1/x?y", b"/a/x?y", b"api.example"),
        (b"/v1/x?y", b"/v1/x?y", b"API.example"),
        (b"api.example:443", b"api.example:443", b""),
    ]


@pytest.mark.parametrize(
    ("default", "plain", "connect"),
    [("forward", "", ""), ("tunnel", "destination_denied", ""), ("deny", "destination_denied", "destination_denied")],
)
def test_the_default_says_what_becomes_of_unknown_destinations(default: Any, plain: str, connect: str) -> None:
    graph = compiled(default=default)
    if plain:
        assert refused(graph, b"http://other.example/") == plain
    else:
        assert graph.way(request(b"http://other.example/")).route.name == ""
    if connect:
        assert refused(graph, b"other.example:443", b"CONNECT") == connect
    else:
        assert graph.tunnel(request(b"other.example:443")).route.name == ""
    assert graph.way(request(b"https://api.example/")).route.name == "a", "what is configured is reached all the same"
    assert graph.tunnel(request(b"api.example:443")).route.name == "a"


@pytest.mark.parametrize("connect", ["deny", "intercept"])
def test_a_route_may_keep_tunnels_out_and_still_take_plain_calls(connect: str) -> None:
    graph = compiled(connect=connect)
    assert refused(graph, b"api.example:443", b"CONNECT") == "connect_denied"
    assert graph.way(request(b"https://api.example/")).route.name == "a"


@pytest.mark.parametrize("target", [b"h", b"http://h:443/", b"h:", b"h:0", b":443", b"/a/", b"u@h:443"])
def test_a_connect_to_what_is_no_host_and_port_is_refused(target: bytes) -> None:
    assert refused(compiled(), target, b"CONNECT") == "bad_target"


@pytest.mark.parametrize(("target", "authority"), [(b"[2001:db8::1]:443", b"[2001:db8::1]"), (b"h:8443", b"h:8443")])
def test_an_unknown_tunnel_is_dialled_by_its_own_host_and_port(target: bytes, authority: bytes) -> None:
    way = compiled().tunnel(request(target))
    assert way.route.upstream.authority == authority
    assert (way.route.upstream.host, way.route.upstream.port) == (way.host, way.port)
    assert not way.route.upstream.named_by_config


_HOSTS = st.text(alphabet="abcXYZ019.-_~!$&'()*+;=[]:%@", max_size=12).map(str.encode)


@given(
    host=st.one_of(_HOSTS, st.binary(max_size=8)),
    scheme=st.sampled_from([b"http://", b"https://", b""]),
    rest=st.binary(max_size=5),
)
def test_nothing_that_a_request_may_ask_for_raises_anything_but_refused(host: bytes, scheme: bytes, rest: bytes) -> None:
    graph = compiled()
    for ask, target in ((graph.way, scheme + host + rest), (graph.tunnel, host + b":443")):
        code, way = outcome(ask, target)
        assert code in ("", "bad_target", "route_unknown")
        assert way is None or way.route.upstream.host


# ── destinations that no upstream names ──────────────────────────────────────────────────────────────────────────────


def test_an_unknown_destination_keeps_its_route_however_it_is_spelt() -> None:
    graph = compiled()
    first = graph.way(request(b"http://Other.example/x"))
    assert graph.way(request(b"http://other.example.:80/y")).route is first.route
    assert graph.way(request(b"https://other.example/")).route is not first.route
    assert graph.way(request(b"http://other.example:81/")).route is not first.route


def test_unknown_destinations_are_bounded_and_the_one_used_longest_ago_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "_MAX_UNNAMED", 2)
    graph = compiled()

    def route_to(host: str) -> object:
        return graph.way(request(f"http://{host}/".encode())).route

    a, b = route_to("a.example"), route_to("b.example")
    assert route_to("a.example") is a
    route_to("c.example")
    assert route_to("a.example") is a
    assert route_to("b.example") is not b
    assert len(graph._unnamed) == 2


class Caller:
    """Waits for connections as a call does."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def connected(self, outbound: Any) -> None:
        self.got.append(outbound)

    def not_connected(self, fault: Refused) -> None:
        self.got.append(fault.code)


class Many:
    """A graph of which one unknown destination is remembered, a clock that is moved by hand, and an upstream."""

    def __init__(self, upstream: RawUpstream) -> None:
        self.clock = ManualClock()
        self.upstream = upstream
        runtime = Runtime(clock=self.clock)
        self.graph = compiled(runtime=runtime, destinations=DestinationsSpec(allow_loopback=True))

    async def reaches(self) -> tuple[Way, Any]:
        """A connection to the upstream, as a call would get it, with the way that led there."""
        way = self.graph.way(request(self.upstream.url.encode() + b"/"))
        caller = Caller()
        way.route.upstream.pool.wait(caller)
        await eventually(lambda: bool(caller.got), "a connection")
        return way, caller.got[0]

    def evicts(self) -> None:
        self.graph.way(request(b"http://other.example/"))


@pytest.fixture
async def many(opened: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Many]:
    monkeypatch.setattr(graph_module, "_MAX_UNNAMED", 1)
    many = Many(await opened(RawUpstream()))
    yield many
    await many.graph.close()


async def test_idle_connections_of_unknown_destinations_end_with_their_time(many: Many) -> None:
    way, outbound = await many.reaches()
    pool = way.route.upstream.pool
    pool.release(outbound)
    far = await many.upstream.accepts()
    many.graph.tick(many.clock.monotonic())
    many.clock.advance(54.0)
    many.graph.tick(many.clock.monotonic())
    assert pool.idle_count == 1
    many.clock.advance(2.0)
    many.graph.tick(many.clock.monotonic())
    await far.saw_end()
    assert pool.open_count == 0


async def test_what_was_evicted_still_serves_its_call_and_is_closed_in_time(many: Many) -> None:
    way, outbound = await many.reaches()
    far = await many.upstream.accepts()
    many.evicts()
    many.graph.tick(many.clock.monotonic())
    await far.saw_nothing(for_s=0.02)
    way.route.upstream.pool.release(outbound)
    many.graph.tick(many.clock.monotonic())
    many.clock.advance(56.0)
    many.graph.tick(many.clock.monotonic())
    await far.saw_end()


async def test_a_connection_that_was_being_made_at_its_eviction_is_not_forgotten(many: Many) -> None:
    way = many.graph.way(request(many.upstream.url.encode() + b"/"))
    caller = Caller()
    way.route.upstream.pool.wait(caller)
    many.evicts()
    many.graph.tick(many.clock.monotonic())
    await eventually(lambda: bool(caller.got), "a connection")
    far = await many.upstream.accepts()
    way.route.upstream.pool.release(caller.got[0])
    many.graph.tick(many.clock.monotonic())
    many.clock.advance(56.0)
    many.graph.tick(many.clock.monotonic())
    await far.saw_end()


async def test_closing_a_graph_closes_what_it_made_and_leaves_named_upstreams_alone(many: Many) -> None:
    _way, _outbound = await many.reaches()
    evicted = await many.upstream.accepts()
    many.evicts()
    await many.reaches()
    kept = await many.upstream.accepts()
    named = many.graph.upstreams[0]
    closed: list[str] = []
    named.stop = lambda: closed.append("named")  # type: ignore[assignment]  # what would be told
    await many.graph.close()
    await evicted.saw_end()
    await kept.saw_end()
    assert closed == []


def test_the_tick_reaches_named_upstreams() -> None:
    graph = compiled()
    ticks: list[float] = []
    graph.upstreams[0].pool = SimpleNamespace(tick=ticks.append)  # type: ignore[assignment]  # a pool that counts
    graph.tick(7.0)
    assert ticks == [7.0]


# ── compiling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_route_gets_its_policies_in_order_and_its_settings() -> None:
    runtime = Runtime()
    asked: list[str] = []
    policies = {
        name: as_policy(name, Stage.LIMIT, lambda attempt, name=name: asked.append(name)) for name in ("one", "two", "unused")
    }
    spec = TrafficSpec(routes={"a": RouteSpec(upstream="http/a", policies=("two", "one"), connect="deny", baggage=True)})
    graph = compile_graph(spec, policies, {"http/a": HttpUpstream("http/a", Config(url="http://a.example"), runtime)}, runtime)
    (route,) = graph.router.routes
    assert (route.name, route.prefix, route.connect, route.baggage) == ("a", b"", "deny", True)
    assert route.chain.take is not None
    route.chain.take(None)  # type: ignore[arg-type]  # these ask nothing
    assert asked == ["two", "one"]


def test_upstreams_that_several_routes_share_are_ticked_once() -> None:
    runtime = Runtime()
    spec = TrafficSpec(routes={name: RouteSpec(upstream="http/a", path=f"/{name}/") for name in "abc"})
    graph = compile_graph(spec, {}, {"http/a": HttpUpstream("http/a", Config(url="http://a.example"), runtime)}, runtime)
    assert len(graph.upstreams) == 1


def test_the_proxy_of_the_config_leads_to_named_and_unknown_destinations_alike() -> None:
    graph = compiled(url="http://api.example", proxy=ProxySpec(url=Secret("http://corp:3128"), no_proxy=("in.example",)))
    asks = [graph.way(request(target)).route.upstream.asks for target in (b"/a/x", b"http://out.example/", b"http://in.example/")]
    assert [via.shown if via is not None else "" for via in asks] == ["corp:3128", "corp:3128", ""]


def test_a_proxy_of_the_environment_that_makes_no_sense_is_a_fault_of_the_config() -> None:
    runtime = Runtime(environ={"HTTPS_PROXY": "socks5://me:hunter2@corp:1080"})
    with pytest.raises(ConfigInvalid) as invalid:
        compiled(runtime=runtime, proxy=ProxySpec(url=Secret("environment")))
    assert [fault.path for fault in invalid.value.faults] == ["traffic.proxy.url"]
    assert "HTTPS_PROXY of the environment" in str(invalid.value)
    assert "hunter2" not in str(invalid.value)


def test_identity_comes_from_the_config_before_the_environment() -> None:
    runtime = Runtime(environ={"SIDECAR_AGENT_ID": "env", "SIDECAR_AGENT_TASK_ID": "env-task"})
    assert (compiled(runtime=runtime).agent, compiled(runtime=runtime).task) == ("env", "env-task")
    graph = compiled(runtime=runtime, identity=IdentitySpec(agent="config", task="t"))
    assert (graph.agent, graph.task) == ("config", "t")


def test_the_environment_chooses_the_sampler() -> None:
    assert compiled().sampler.name == "parentbased_always_on"
    assert compiled(runtime=Runtime(environ={"OTEL_TRACES_SAMPLER": "always_off"})).sampler.ratio == 0.0
    assert compiled(runtime=Runtime(environ={"OTEL_SDK_DISABLED": "true"})).sampler.is_disabled


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}", "http://localhost:{}", "http://127.9.9.9:{}", "http://[::1]:{}"])
async def test_a_configured_loopback_port_is_reached_by_unknown_names_of_it_too(url: str, opened: Any) -> None:
    upstream = await opened(RawUpstream())
    graph = compiled(url=url.format(upstream.port))
    caller = Caller()
    way = graph.way(request(upstream.url.encode() + b"/"))
    way.route.upstream.pool.wait(caller)
    await eventually(lambda: bool(caller.got), "a connection")
    assert caller.got[0] not in ("loopback_refused", "connect_failed")
    await way.route.upstream.stop()
    await graph.close()


@pytest.mark.parametrize("are_read", ["when asked", "at once"])
async def test_the_sidecars_own_addresses_are_never_dialled(are_read: str, opened: Any) -> None:
    upstream = await opened(RawUpstream())
    runtime = Runtime()
    own = [(upstream.host, upstream.port)]
    runtime.services["own_addresses"] = own if are_read == "at once" else lambda: own
    graph = compiled(runtime=runtime, url=upstream.url)
    with pytest.raises(Refused, match="loop_detected"):
        await graph.upstreams[0].dial()


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_look_ups_under_way_have_one_bound_over_all_reloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.traffic.wire.look_ups.MAX_LOOK_UPS", 0)
    runtime = Runtime()
    for _ in range(2):
        way = compiled(runtime=runtime, url="http://api.example").way(request(b"/a/x"))
        with pytest.raises(Refused, match="dns_failed"):
            await way.route.upstream.dial()
    (family,) = [family for family in runtime.metrics if family.name == "traffic.wire.look_ups.refused"]
    assert [counter.value for counter in family.series.values() if isinstance(counter, Counter)] == [2]


# ── agent cards ──────────────────────────────────────────────────────────────────────────────────────────────────────


def policies_of(chain: Chain) -> list[str]:
    return [policy.name for policy in chain.policies]


def with_cards(dialect: str, *names: str, path: str | None = "/a/") -> tuple[list[str], list[str]]:
    """The policies of a route's calls, and those of its calls for a card."""
    runtime = Runtime()
    built = {name: as_policy(name, stage, lambda subject: None) for name, stage in zip(names, (Stage.KILL_SWITCH, Stage.LIMIT), strict=False)}
    spec = TrafficSpec(routes={"a": RouteSpec(upstream="http/a", path=path, policies=tuple(built))})
    upstream = HttpUpstream("http/a", Config(url="http://agent.example", dialect=dialect), runtime)
    (route,) = compile_graph(spec, built, {"http/a": upstream}, runtime).router.routes
    return policies_of(route.chain), policies_of(route.card_chain())


def test_a_card_that_is_asked_for_through_the_gateway_is_led_here() -> None:
    assert with_cards("auto", "kill", "limit") == (["kill", "limit"], ["kill", "agent_card", "limit"])


def test_where_the_upstream_is_an_agent_only_calls_for_its_card_have_a_filter() -> None:
    assert with_cards("a2a", "kill") == (["kill"], ["kill", "agent_card"])


def test_a_route_that_says_itself_what_becomes_of_cards_is_left_alone() -> None:
    assert with_cards("a2a", "agent_card/mine") == (["agent_card/mine"],) * 2


@pytest.mark.parametrize(("dialect", "path"), [("plain", "/a/"), ("openai", "/a/"), ("auto", None), ("a2a", None)])
def test_cards_are_nobodys_business_elsewhere(dialect: str, path: str | None) -> None:
    assert with_cards(dialect, "kill", path=path) == (["kill"], ["kill"])
