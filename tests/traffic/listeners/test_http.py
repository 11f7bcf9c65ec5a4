import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import Refused
from sidecar.model.facts import Mode
from sidecar.model.spec import Secret
from sidecar.runtime.metrics import Counter, Gauge
from sidecar.runtime.runtime import Runtime, State
from sidecar.traffic.graph import Graph, compile_graph
from sidecar.traffic.listeners import http
from sidecar.traffic.listeners.http import Config, HttpListener, build
from sidecar.traffic.places import Places
from sidecar.traffic.spec import RouteSpec, TrafficSpec
from sidecar.traffic.upstreams.http import Config as UpstreamConfig
from sidecar.traffic.upstreams.http import HttpUpstream
from sidecar.traffic.wire.request_head import parse_request
from tests.peers.raw import RawUpstream
from tests.peers.wire import Wire, dials
from tests.sidecar_under_test import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /a/x HTTP/1.1\r\nHost: a\r\n\r\n"

# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "endpoint",
    ["", "4140", ":4140", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:-1", "127.0.0.1:65536", "[]:80", "h:1 "],
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint has to look like"):
        Config(endpoint=endpoint)


@pytest.mark.parametrize("endpoint", ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[2001:db8::1]:1", "sidecar.internal:1"])
def test_a_port_that_others_can_reach_needs_users_or_a_word(endpoint: str) -> None:
    with pytest.raises(ValueError, match="can be reached from elsewhere"):
        Config(endpoint=endpoint)
    assert Config(endpoint=endpoint, users={"a": Secret("b")}).endpoint == endpoint
    assert Config(endpoint=endpoint, allow_unauthenticated=True).endpoint == endpoint


@pytest.mark.parametrize("endpoint", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_neither(endpoint: str) -> None:
    assert Config(endpoint=endpoint).users == {}


@pytest.mark.parametrize("settings", [{"max_connections": 0}, {"max_header_count": 0}, {"max_connections": -1}])
def test_bounds_that_let_nothing_in_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="have to be 1 or more"):
        Config(**settings)


# ── a listener at work ───────────────────────────────────────────────────────────────────────────────────────────────


class Place:
    """A listener before one upstream at `/a/`, without the rest of a sidecar; `now` moves only when told to, where asked."""

    def __init__(self, upstream: RawUpstream, clock: ManualClock | None) -> None:
        self.upstream = upstream
        self.runtime = Runtime() if clock is None else Runtime(clock=clock)
        self.graph = self.graph_of()
        self.listeners: list[HttpListener] = []
        self.clients: list[Wire] = []

    def graph_of(self) -> Graph:
        named = HttpUpstream("http/a", UpstreamConfig(url=self.upstream.url), self.runtime)
        spec = TrafficSpec(routes={"a": RouteSpec(upstream="http/a", path="/a/")})
        return compile_graph(spec, {}, {"http/a": named}, self.runtime)

    async def opens(self, *, start: bool = True, **settings: Any) -> HttpListener:
        listener = build("http", Config(**{"endpoint": "127.0.0.1:0", "allow_hosts": ("a",), **settings}), self.runtime)
        self.listeners.append(listener)
        listener.serve(self.graph)
        if start:
            await listener.start()
        return listener

    async def connects(self, listener: HttpListener, host: str = "127.0.0.1") -> Wire:
        client = await dials(host, listener.endpoint[1])
        self.clients.append(client)
        return client

    async def serves(self, client: Wire) -> None:
        """One call goes through."""
        await client.sends(GET)
        far = await self.upstream.hears()
        await far.request()
        await far.sends(OK)
        assert (await client.response()).body == b"ok"

    async def begins(self, listener: HttpListener) -> tuple[Wire, Wire]:
        """A call that the upstream has heard and not answered yet."""
        client = await self.connects(listener)
        await client.sends(GET)
        far = await self.upstream.hears()
        await far.request()
        return client, far

    def counted(self, name: str, **labels: str) -> float:
        for family in self.runtime.metrics:
            metric = family.series.get(tuple(sorted(labels.items())))
            if family.name == name and isinstance(metric, Counter):
                return metric.value
            if family.name == name and isinstance(metric, Gauge) and metric.read is not None:
                return metric.read()
        return 0

    async def ends(self) -> None:
        for client in self.clients:
            client.close()
        for listener in self.listeners:
            await listener.stop()
        await self.graph.close()
        for upstream in self.graph.upstreams:
            await upstream.stop()


@pytest.fixture
async def place(opened: Any) -> AsyncIterator[Place]:
    place = Place(await opened(RawUpstream()), None)
    yield place
    await place.ends()


async def test_calls_go_through_and_are_counted(place: Place) -> None:
    listener = await place.opens()
    client = await place.connects(listener)
    await place.serves(client)
    await place.serves(client)
    assert place.counted("traffic.listeners.http.connections", listener="http") == 1
    assert place.counted("traffic.listeners.http.open_connections", listener="http") == 1
    await client.closes()
    await eventually(lambda: place.counted("traffic.listeners.http.open_connections", listener="http") == 0, "the end")


async def test_health_follows_its_life(place: Place) -> None:
    listener = await place.opens(start=False)
    assert (listener.health().state, listener.health().ready) == (State.STARTING, False)
    await listener.start()
    assert (listener.health().state, listener.health().ready) == (State.OK, True)
    listener.stop_accepting()
    assert (listener.health().state, listener.health().reason) == (State.STOPPED, "draining")
    await listener.stop()
    assert listener.health().state is State.STOPPED


async def test_it_can_be_stopped_twice_and_without_a_start(place: Place) -> None:
    never = await place.opens(start=False)
    await never.stop()
    await never.stop()
    with pytest.raises(AssertionError, match="not been started"):
        _ = never.endpoint
    listener = await place.opens()
    client = await place.connects(listener)
    await place.serves(client)
    await listener.stop()
    await client.saw_end()
    await listener.stop()
    with pytest.raises(OSError):
        await dials("127.0.0.1", listener.endpoint[1])


async def test_what_is_being_made_ready_when_it_stops_is_ended(place: Place) -> None:
    listener = await place.opens()
    client, far = await place.begins(listener)
    await listener.stop()
    assert (await client.reads_to_end()).startswith(b"HTTP/1.1 503 ")
    await far.saw_end()
    assert listener.exchanges() == []


async def test_tunnels_end_with_it(place: Place) -> None:
    listener = await place.opens()
    client = await place.connects(listener)
    await client.sends(f"CONNECT {place.upstream.authority} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await client.head()
    far = await place.upstream.accepts()
    await listener.stop()
    await client.saw_end()
    await far.saw_end()
    assert listener.in_flight == 0


# ── ports ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("endpoint", "reached_by"), [("127.0.0.1:0", "127.0.0.1"), ("localhost:0", "127.0.0.1"), ("[::1]:0", "::1")]
)
async def test_it_listens_where_it_is_told(place: Place, endpoint: str, reached_by: str) -> None:
    listener = await place.opens(endpoint=endpoint)
    assert listener.endpoint[0] == reached_by
    await place.serves(await place.connects(listener, reached_by))


async def test_all_addresses_of_ipv6_take_ipv4_as_well(place: Place) -> None:
    listener = await place.opens(endpoint="[::]:0", allow_unauthenticated=True)
    for host in ("127.0.0.1", "::1"):
        await place.serves(await place.connects(listener, host))


async def test_a_port_that_is_taken_is_an_error_and_stopping_is_harmless(place: Place, free_port: Callable[[], int]) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    await place.opens(endpoint=endpoint)
    second = await place.opens(start=False, endpoint=endpoint)
    with pytest.raises(OSError):
        await second.start()
    await second.stop()


async def test_a_port_can_be_bound_again_at_once(place: Place, free_port: Callable[[], int]) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    for _ in range(3):
        listener = await place.opens(endpoint=endpoint)
        await place.serves(await place.connects(listener))
        await listener.stop()


async def test_a_successor_takes_the_port_over_with_those_who_wait_at_it(place: Place) -> None:
    first = await place.opens()
    old_client = await place.connects(first)
    await place.serves(old_client)
    successor = await place.opens(start=False)
    successor.take_over(first.hand_over())
    waiting = socket.create_connection(first.endpoint)  # nobody accepts at this moment
    await successor.start()
    assert successor.endpoint == first.endpoint
    place.clients.append(Wire(waiting, "waiting client"))
    await place.serves(place.clients[-1])
    await place.serves(await place.connects(successor))
    assert successor.in_flight == 0
    assert first.health().reason == "draining"


async def test_a_successor_that_never_starts_lets_go_of_the_port(place: Place) -> None:
    first = await place.opens()
    successor = await place.opens(start=False)
    successor.take_over(first.hand_over())
    await successor.stop()
    with pytest.raises(OSError):
        await dials("127.0.0.1", first.endpoint[1])


async def test_a_listener_that_does_not_listen_has_nothing_to_hand_over(place: Place) -> None:
    listener = await place.opens(start=False)
    assert listener.hand_over() is None
    await listener.stop()
    successor = await place.opens(start=False)
    successor.take_over(None)
    await successor.start()
    await place.serves(await place.connects(successor))


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_connection_too_many_is_told_so(place: Place) -> None:
    listener = await place.opens(max_connections=2)
    first, second = await place.connects(listener), await place.connects(listener)
    await place.serves(first)
    await place.serves(second)
    third = await place.connects(listener)
    response = await third.response()
    assert (response.status, response.one(b"x-sidecar-error")) == (503, b"too_many_connections")
    assert response.one(b"retry-after") == b"1"
    assert response.one(b"connection") == b"close"
    await third.saw_end()
    assert place.counted("traffic.refused", code="too_many_connections") == 1
    await place.serves(first)
    await second.closes()
    await eventually(lambda: len(listener._connections) == 1, "room")
    await place.serves(await place.connects(listener))


async def test_those_above_the_bound_linger_within_a_bound_of_their_own(place: Place) -> None:
    listener = await place.opens()
    listener.limit_to(Places(1, 2))
    await place.serves(await place.connects(listener))
    above = [await place.connects(listener) for _ in range(3)]
    for client in above:
        assert (await client.response()).one(b"x-sidecar-error") == b"too_many_connections"
        await client.saw_end()
    assert len(listener._turned_away) == 2
    assert place.counted("traffic.refused", code="too_many_connections") == 3
    assert place.counted("traffic.listeners.http.cut_short", listener="http") == 1
    assert place.counted("traffic.listeners.http.open_connections", listener="http") == 1
    for client in above:
        await client.closes()
    await eventually(lambda: not listener._turned_away, "the end of those who were turned away")
    another = await place.connects(listener)
    await another.response()
    await listener.stop()
    await another.saw_end()


async def test_tunnels_count_as_connections(place: Place) -> None:
    listener = await place.opens(max_connections=1)
    client = await place.connects(listener)
    await client.sends(f"CONNECT {place.upstream.authority} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert (await client.head()).status == 200
    far = await place.upstream.accepts()
    assert place.counted("traffic.listeners.http.tunnels", listener="http") == 1
    assert [exchange.passage.mode for exchange in listener.exchanges()] == [Mode.CONNECT]
    refused = await place.connects(listener)
    assert (await refused.response()).status == 503
    await client.closes()
    await far.saw_end()
    await far.closes()
    await eventually(lambda: listener.in_flight == 0, "the end of the tunnel")
    await place.serves(await place.connects(listener))


# ── draining ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_draining_lets_calls_end_and_closes_what_is_idle(place: Place) -> None:
    listener = await place.opens()
    idle = await place.connects(listener)
    await place.serves(idle)
    client, far = await place.begins(listener)
    assert listener.in_flight == 1
    listener.stop_accepting()
    draining = asyncio.create_task(listener.drain(5.0))
    await idle.saw_end()
    await far.sends(OK)
    response = await client.response()
    assert response.body == b"ok"
    assert response.one(b"connection") == b"close"
    await client.saw_end()
    assert await draining == 0


async def test_a_client_that_connects_just_before_the_end_gets_one_answer(place: Place) -> None:
    listener = await place.opens()
    client = await place.connects(listener)
    await eventually(lambda: len(listener._connections) == 1, "the connection")
    listener.stop_accepting()
    draining = asyncio.create_task(listener.drain(5.0))
    await asyncio.sleep(0.1)  # the request comes several ticks later
    await client.sends(GET)
    far = await place.upstream.hears()
    await far.request()
    await far.sends(OK)
    response = await client.response()
    assert (response.body, response.one(b"connection")) == (b"ok", b"close")
    assert await draining == 0


async def test_who_has_connected_and_says_nothing_is_not_waited_for_long(place: Place) -> None:
    listener = await place.opens()
    client = await place.connects(listener)
    await eventually(lambda: len(listener._connections) == 1, "the connection")
    async with asyncio.timeout(3.0):
        assert await listener.drain(60.0) == 0
    await client.saw_end()


async def test_draining_cuts_what_takes_too_long(place: Place) -> None:
    listener = await place.opens()
    client, _far = await place.begins(listener)
    tunnel = await place.connects(listener)
    await tunnel.sends(f"CONNECT {place.upstream.authority} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await tunnel.head()
    assert listener.in_flight == 2
    assert await listener.drain(0.05) == 2
    response = await client.response()
    assert (response.status, response.one(b"x-sidecar-error")) == (503, b"draining")
    await tunnel.saw_end()
    assert listener.in_flight == 0


async def test_with_nothing_under_way_draining_takes_no_time(place: Place) -> None:
    async with asyncio.timeout(2.0):
        assert await (await place.opens(start=False)).drain(60.0) == 0
        assert await (await place.opens()).drain(60.0) == 0


# ── graphs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_old_graphs_are_looked_after_until_they_are_forgotten(place: Place) -> None:
    listener = await place.opens()
    old, new = place.graph, place.graph_of()
    ticked: list[Graph] = []
    for graph in (old, new):
        graph.tick = lambda now, graph=graph: ticked.append(graph)  # type: ignore[method-assign]  # it only counts
    listener.serve(old)
    listener.serve(new)
    await eventually(lambda: old in ticked and new in ticked, "ticks of both")
    listener.forget(old)
    listener.forget(old)
    ticked.clear()
    await eventually(lambda: len(ticked) > 1, "further ticks")
    assert set(ticked) == {new}
    await new.close()


async def test_the_date_is_made_once_a_second(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    monkeypatch.setattr(http, "formatdate", lambda second, usegmt: made.append(second) or f"{second}, {usegmt}")
    clock = ManualClock(wall_ns=5_999_999_999)
    place = Place(await opened(RawUpstream()), clock)
    listener = await place.opens()
    looks = listener._looks
    await eventually(lambda: listener._looks > looks + 3, "some ticks")
    assert (made, listener.signature.date) == ([5], b"5, True")
    clock.advance(0.5)
    await eventually(lambda: listener.signature.date == b"6, True", "the next second")
    assert made == [5, 6]
    await place.ends()


async def test_paused_clients_are_looked_at_twice_as_often_as_everybody(place: Place) -> None:
    listener = await place.opens(start=False)
    seen: list[str] = []

    class Client:
        def __init__(self, name: str, *, is_paused: bool) -> None:
            self.is_paused = is_paused
            self.tick = lambda now: seen.append(name)

    listener._connections = {Client("paused", is_paused=True), Client("usual", is_paused=False)}  # type: ignore[assignment,arg-type]
    try:
        for _ in range(4):
            listener._tick()
            assert listener._ticking is not None
            listener._ticking.cancel()
    finally:
        listener._connections = set()
    assert (seen.count("paused"), seen.count("usual")) == (4, 2)


async def test_a_deadline_that_cannot_be_looked_at_keeps_nobody_else_from_it(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    listener = await place.opens(start=False)
    ticked: list[float] = []
    place.graph.tick = ticked.append  # type: ignore[method-assign]  # it only counts

    class Broken:
        is_paused = False

        def tick(self, now: float) -> None:
            raise RuntimeError("boom")

    listener._connections = {Broken()}  # type: ignore[assignment,arg-type]
    try:
        for _ in range(2):
            listener._tick()
            assert listener._ticking is not None
            listener._ticking.cancel()
    finally:
        listener._connections = set()
    assert len(ticked) == 1
    assert "a deadline could not be looked at" in caplog.text


# ── who calls, and where to ──────────────────────────────────────────────────────────────────────────────────────────


def parsed(text: str) -> Any:
    head = text.replace("\n", "\r\n").encode() + b"\r\n\r\n"
    return parse_request(head, max_count=100, max_url_bytes=1000)


async def test_a_request_becomes_a_passage(place: Place) -> None:
    listener = await place.opens(start=False)
    request = parsed("POST /a/x?q HTTP/1.1\nHost: a\nx-agent-id: planner\nx-agent-task-id: t\nContent-Length: 1")
    ready = listener.make_ready(request, "127.0.0.1:5")
    assert ready is not None
    passage = ready.passage
    assert (passage.listener, passage.client, passage.mode, passage.method) == ("http", "127.0.0.1:5", Mode.GATEWAY, "POST")
    assert (passage.path, passage.target, passage.upstream, passage.route) == ("/a/x?q", "/x?q", "http/a", "a")
    assert (passage.agent, passage.task) == ("planner", "t")
    assert (passage.scheme, passage.host, passage.port) == ("http", "127.0.0.1", place.upstream.port)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("GET /b HTTP/1.1\nHost: a", Mode.GATEWAY),
        ("OPTIONS * HTTP/1.1\nHost: a", Mode.FORWARD),
        ("GET http://h/ HTTP/1.1\nHost: h", Mode.FORWARD),
        ("CONNECT h:1 HTTP/1.1\nHost: h", Mode.CONNECT),
    ],
)
async def test_a_call_that_goes_nowhere_has_a_passage_too(place: Place, text: str, mode: Mode) -> None:
    listener = await place.opens(start=False)
    passage = listener.nowhere(parsed(f"{text}\nx-agent-id: me"), "1.2.3.4:5")
    assert (passage.mode, passage.agent, passage.upstream, passage.route, passage.host) == (mode, "me", "", "", "")


@pytest.mark.parametrize(
    "text",
    [
        "OPTIONS * HTTP/1.1\nHost: a",
        "OPTIONS /a/ HTTP/1.1\nHost: a\nMax-Forwards: 0",
        "TRACE /a/ HTTP/1.1\nHost: a\nMax-Forwards: 0",
    ],
)
async def test_what_asks_about_the_sidecar_itself_goes_nowhere(place: Place, text: str) -> None:
    assert (await place.opens(start=False)).make_ready(parsed(text), "") is None


@pytest.mark.parametrize("target", ["/a/x#f", "/a/#", "/#", "http://h/a#f", "http://h#f", "*#", "/a/x?q=%23#"])
async def test_a_target_with_a_fragment_is_refused(place: Place, target: str) -> None:
    listener = await place.opens(start=False)
    with pytest.raises(Refused, match=r"bad_target: .* fragment"):
        listener.make_ready(parsed(f"GET {target} HTTP/1.1\nHost: a"), "")
    assert listener.make_ready(parsed("GET /a/x?q=%23 HTTP/1.1\nHost: a"), "") is not None


async def test_a_request_that_was_here_before_is_a_loop(place: Place) -> None:
    listener = await place.opens(start=False)
    own = listener.signature.via_line.decode()
    for via in (own, own.replace("Via: 1.1 ", "Via: 1.0 other, 1.1 ")):
        with pytest.raises(Refused, match="loop_detected"):
            listener.make_ready(parsed(f"GET /a/ HTTP/1.1\nHost: a\n{via}"), "")
    assert listener.make_ready(parsed("GET /a/ HTTP/1.1\nHost: a\nVia: 1.1 agent-sre-00"), "") is not None


async def test_strangers_are_refused_before_anything_else(place: Place) -> None:
    listener = await place.opens(start=False, users={"robot": Secret("pw")})
    for text in ("GET /unknown HTTP/1.1\nHost: a", "OPTIONS * HTTP/1.1\nHost: a", "CONNECT h:1 HTTP/1.1\nHost: a"):
        with pytest.raises(Refused, match="proxy_auth_required"):
            listener.make_ready(parsed(text), "")
    ready = listener.make_ready(parsed("GET /a/ HTTP/1.1\nHost: a\nProxy-Authorization: Basic cm9ib3Q6cHc="), "")
    assert ready is not None
    assert ready.passage.agent == "robot"


# ── work that needs waiting ──────────────────────────────────────────────────────────────────────────────────────────


class Waiting:
    """A call that has to wait for something; knows how it was refused."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def refuse(self, refused: Refused) -> None:
        self.refused.append(refused.code)


async def test_work_that_fails_inside_is_logged_and_refuses_its_call(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    listener = await place.opens(start=False)
    call: Any = Waiting()

    async def work() -> None:
        raise RuntimeError("boom")

    listener.own(call, work())
    await eventually(lambda: bool(call.refused), "a refusal")
    assert call.refused == ["internal"]
    assert "RuntimeError: boom" in caplog.text


@pytest.mark.parametrize("by", ["its call", "the listener"])
async def test_work_ends_with_its_call_and_with_the_listener(place: Place, by: str) -> None:
    listener = await place.opens(start=False)
    call: Any = Waiting()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    listener.own(call, work())
    await asyncio.sleep(0)
    if by == "its call":
        listener.cancel_work_of(call)
        listener.cancel_work_of(call)
    else:
        await listener.stop()
    await asyncio.wait_for(ended.wait(), 2.0)
    assert call.refused == []


async def test_a_call_that_ends_in_its_own_work_does_not_cancel_itself(place: Place) -> None:
    listener = await place.opens(start=False)
    call: Any = Waiting()
    done: list[str] = []

    async def work() -> None:
        listener.cancel_work_of(call)
        await asyncio.sleep(0)
        done.append("to the end")

    listener.own(call, work())
    await eventually(lambda: bool(done), "the end")


# ── tunnels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_tunnel_that_cannot_be_dug_says_why(place: Place, free_port: Callable[[], int]) -> None:
    listener = await place.opens()
    for authority, status, code in (
        (f"127.0.0.1:{free_port()}", 403, b"loopback_refused"),
        (place.upstream.authority, 502, b"connect_failed"),
    ):
        if status == 502:
            await place.upstream.stops_listening()
        client = await place.connects(listener)
        await client.sends(f"CONNECT {authority} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        response = await client.response()
        assert (response.status, response.one(b"x-sidecar-error")) == (status, code)


async def test_a_tunnel_to_nobody_ends_with_its_time(place: Place) -> None:
    listener = await place.opens()
    (upstream,) = place.graph.upstreams
    object.__setattr__(upstream.config, "connect_timeout", 0.05)

    async def dial() -> Any:
        await asyncio.Event().wait()

    upstream.dial_tunnel = dial  # type: ignore[method-assign]  # an address that never answers
    client = await place.connects(listener)
    await client.sends(f"CONNECT {place.upstream.authority} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert (await client.response()).one(b"x-sidecar-error") == b"connect_timeout"


async def test_a_client_that_leaves_while_its_tunnel_is_dug_leaves_nothing_behind(place: Place) -> None:
    listener = await place.opens()
    (upstream,) = place.graph.upstreams
    begun, go_on = asyncio.Event(), asyncio.Event()
    dug = upstream.dial_tunnel

    async def slow() -> Any:
        begun.set()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            pass  # the destination accepted in the very moment in which the client left
        return await dug()

    upstream.dial_tunnel = slow  # type: ignore[method-assign]  # as slow as the test needs it
    client = await place.connects(listener)
    await client.sends(f"CONNECT {place.upstream.authority} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await begun.wait()
    await client.resets()
    far = await place.upstream.accepts()
    await far.saw_end()
    assert listener.in_flight == 0


async def test_a_gateway_call_by_a_strangers_name_never_reaches_the_upstream(place: Place) -> None:
    listener = await place.opens(allow_hosts=())
    client = await place.connects(listener)
    await client.sends(b"GET /a/api/tags HTTP/1.1\r\nHost: evil.example:4140\r\n\r\n")
    refused = await client.response()
    assert (refused.status, refused.one(b"x-sidecar-error")) == (403, b"host_refused")
    await client.sends(b"POST /a/api HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://evil.example\r\nContent-Length: 0\r\n\r\n")
    refused = await client.response()
    assert (refused.status, refused.one(b"x-sidecar-error")) == (403, b"origin_refused")
    await place.upstream.hears_nothing(for_s=0.02)
    assert place.counted("traffic.refused", code="host_refused") == place.counted("traffic.refused", code="origin_refused") == 1


async def test_beyond_loopback_and_through_the_proxy_the_host_is_nobodys_concern(place: Place) -> None:
    everybodys = await place.opens(endpoint="0.0.0.0:0", allow_unauthenticated=True, allow_hosts=(), start=False)
    everybodys.make_ready(parsed("GET /a/x HTTP/1.1\nHost: sidecar:4140\nOrigin: https://a.example"), "")
    ours = await place.opens(allow_hosts=(), start=False)
    ours.make_ready(parsed("GET http://a.example/x HTTP/1.1\nHost: a.example\nOrigin: https://b.example"), "")


@pytest.mark.parametrize("name", ["http://a", "a:80", ""])
def test_only_names_may_be_allowed(name: str) -> None:
    with pytest.raises(ValueError, match="allow_hosts"):
        Config(allow_hosts=(name,))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (b"http://u:secret@h:1/a@b?c=d@e", "http://h:1/a@b?c=d@e"),
        (b"http://u:secret@h", "http://h"),
        (b"http://a@b:secret@h?x", "http://h?x"),
        (b"u:secret@h:443", "h:443"),
        (b"http://h/u:p@x", "http://h/u:p@x"),
        (b"/u:p@x", "/u:p@x"),
        (b"*", "*"),
    ],
)
async def test_a_refused_target_is_told_without_the_password_that_it_was_refused_for(place: Place, target: bytes, told: str) -> None:
    listener = await place.opens(start=False)
    method = b"CONNECT" if target[:1] == b"u" else b"OPTIONS" if target == b"*" else b"GET"
    head = b"%b %b HTTP/1.1\r\nHost: h\r\n\r\n" % (method, target)
    passage = listener.nowhere(parse_request(head, max_count=9, max_url_bytes=99), "127.0.0.1:1")
    assert (passage.path, passage.target) == (told, told)
