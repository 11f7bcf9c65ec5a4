import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import parse
from sidecar.model.errors import ConfigInvalid
from sidecar.runtime.metrics import Gauge
from sidecar.runtime.runtime import Runtime, State
from sidecar.traffic.plane import Blueprint, TrafficPlane
from tests.peers.raw import RawUpstream
from tests.peers.wire import Wire, dials
from tests.sidecar_under_test import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

POLICY = """
from dataclasses import dataclass
from sidecar.model.errors import Refused
from sidecar.model.spec import Spec
from sidecar.traffic.chain import Stage

STAGE = Stage.LIMIT
engines = []

@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    allow: bool = True
    broken: str = ""

class Engine:
    def __init__(self, config, *, clock, rng):
        self.reconfigure(config)
        engines.append(self)

    def reconfigure(self, config):
        self.allow = config.allow

def build(name, config, runtime):
    engine = runtime.engine(Engine, name, config)
    if config.broken == "build":
        raise ValueError("it cannot be built")

    def gate(attempt):
        if not engine.allow:
            raise Refused("destination_denied", "the gate is shut")

    return gate
"""

UPSTREAM = """
from sidecar.runtime.runtime import Health, State
from sidecar.traffic.upstreams.http import Config, HttpUpstream

class Upstream(HttpUpstream):
    async def start(self):
        if self.config.dialect == "broken":
            raise OSError("no such device")

    async def stop(self):
        await super().stop()
        if self.config.dialect == "sticky":
            raise RuntimeError("will not")

    def health(self):
        return Health(State.OK)

def build(name, config, runtime):
    return Upstream(name, config, runtime)
"""


@pytest.fixture(autouse=True)
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two components of somebody else's: `plane_parts.gate` and `plane_parts.upstream`."""
    (tmp_path / "plane_parts").mkdir()
    (tmp_path / "plane_parts/__init__.py").touch()
    (tmp_path / "plane_parts/gate.py").write_text(POLICY)
    (tmp_path / "plane_parts/upstream.py").write_text(UPSTREAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("plane_parts")]:
        monkeypatch.delitem(sys.modules, name)


def blueprint(text: str) -> Blueprint:
    config = parse(text, environ={})
    parts = (config.used(f"traffic.{name}") for name in ("listeners", "policies", "upstreams"))
    return Blueprint(config.traffic, *parts)


def text(
    url: str, *, endpoint: str = "127.0.0.1:0", listener: str = "", upstream: str = "", path: str = "/a/", more: str = ""
) -> str:
    return f"""
traffic:
  listeners: {{http: {{endpoint: {endpoint}, {listener}}}}}
  upstreams: {{http/a: {{url: "{url}", {upstream}}}}}
  routes: {{a: {{path: {path}, upstream: http/a}}}}
  drain: 2s
{more}
"""


def gauges(runtime: Runtime) -> dict[str, float]:
    """What is shown at this moment: the last word of each name with its labels."""
    found = {}
    for family in runtime.metrics:
        for labels, gauge in family.series.items():
            if isinstance(gauge, Gauge) and gauge.read is not None and not family.name.startswith("traffic.wire."):
                found[" ".join([family.name.rpartition(".")[2], *(value for _, value in labels)])] = gauge.read()
    return found


class Stage:
    """A plane, an upstream, and a way to call the one and answer as the other."""

    def __init__(self, upstream: RawUpstream) -> None:
        self.upstream = upstream
        self.clients: list[Wire] = []
        self.runtime = Runtime()

    async def plays(self, config: str | Blueprint) -> TrafficPlane:
        self.plane = TrafficPlane(self.runtime, blueprint(config) if isinstance(config, str) else config)
        await self.plane.start()
        return self.plane

    @property
    def port(self) -> int:
        return self.plane.endpoints["traffic.listeners.http"][1]

    async def asks(self, path: bytes = b"/a/x", *, port: int = 0) -> Wire:
        client = await dials("127.0.0.1", port or self.port)
        self.clients.append(client)
        await client.sends(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        return client

    async def hears(self) -> Wire:
        connection = await self.upstream.hears()
        await connection.request()
        return connection

    async def serves(self, path: bytes = b"/a/x") -> None:
        """One whole call gets through."""
        client = await self.asks(path)
        await (await self.hears()).sends(OK)
        assert (await client.response()).body == b"ok"

    async def refuses(self, path: bytes = b"/a/x") -> str:
        """One call is answered by the sidecar itself; returns the code."""
        client = await self.asks(path)
        return (await client.response()).one(b"x-sidecar-error").decode()


@pytest.fixture
async def stage(opened: Callable[[Any], Awaitable[Any]]) -> AsyncIterator[Stage]:
    upstream = await opened(RawUpstream())
    stage = Stage(upstream)
    yield stage
    for client in stage.clients:
        client.close()
    if hasattr(stage, "plane"):
        await stage.plane.stop()
        await stage.plane.stop()


async def test_calls_flow_when_it_has_started(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    await stage.serves()
    assert plane.health()["traffic.listeners.http"].ready
    assert stage.runtime.services["traffic.routes"] == {"a": "/a/"}


async def test_a_port_that_is_taken_is_a_fault_and_nothing_is_left(stage: Stage, free_port: Callable[[], int]) -> None:
    port = free_port()
    config = parse(
        f"traffic: {{listeners: {{http: {{endpoint: 127.0.0.1:{port}}}, http/b: {{endpoint: '127.0.0.1:{stage.upstream.port}'}}}}}}\n",
        source="c.yaml", environ={},
    )  # fmt: skip
    plane = TrafficPlane(stage.runtime, Blueprint(config.traffic, config.used("traffic.listeners"), {}, {}))
    with pytest.raises(ConfigInvalid) as caught:
        await plane.start()
    assert str(caught.value) == (
        f"c.yaml:1: traffic.listeners.http/b.endpoint: 127.0.0.1:{stage.upstream.port} cannot be bound: Address already in use"
        " (another process listens there; stop it, or choose another port)"
    )
    with pytest.raises(ConnectionRefusedError):
        await dials("127.0.0.1", port)


async def test_an_address_that_is_not_ours_is_a_fault(stage: Stage) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be bound: Cannot assign requested address"):
        await stage.plays(text(stage.upstream.url, endpoint="192.0.2.1:7", listener="allow_unauthenticated: true"))


async def test_an_upstream_that_cannot_start_is_a_fault(stage: Stage) -> None:
    config = text(stage.upstream.url, upstream="dialect: broken").replace("http/a", "plane_parts.upstream/a")
    with pytest.raises(ConfigInvalid, match=r"traffic.upstreams.plane_parts.upstream/a: cannot start: no such device"):
        await stage.plays(config)


async def test_a_change_takes_effect_for_the_next_call(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    port = stage.port
    await plane.change(blueprint(text(stage.upstream.url, path="/b/")))
    assert stage.port == port
    assert await stage.refuses(b"/a/x") == "route_unknown"
    await stage.serves(b"/b/x")
    assert stage.runtime.services["traffic.routes"] == {"a": "/b/"}


async def test_an_unchanged_upstream_keeps_its_connections(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    await stage.serves()
    await plane.change(blueprint(text(stage.upstream.url, path="/b/")))
    await stage.serves(b"/b/x")
    assert len(stage.upstream.connections) == 1


async def test_a_call_in_flight_ends_on_what_it_began_on(stage: Stage, opened: Callable[[Any], Awaitable[Any]]) -> None:
    other = await opened(RawUpstream())
    plane = await stage.plays(text(stage.upstream.url))
    client = await stage.asks()
    connection = await stage.hears()
    await connection.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nxy")
    await client.reads_until(b"xy")
    await plane.change(blueprint(text(other.url)))
    assert len(plane.exchanges()) == 1
    new = await stage.asks()
    answering = await other.hears()
    await answering.request()
    await answering.sends(OK)
    assert (await new.response()).body == b"ok"
    await connection.sends(b"zz")
    await client.saw(b"zz")
    await connection.saw_end()  # the upstream that nobody needs any more is closed when its last exchange has ended


async def test_an_upstream_without_calls_is_closed_at_once(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    await stage.serves()
    await plane.change(blueprint("traffic: {listeners: {http: {endpoint: 127.0.0.1:0, }}, drain: 2s}"))
    await stage.upstream.connections[0].saw_end()


async def test_a_listener_that_moves_listens_there_before_it_leaves_here(stage: Stage, free_port: Callable[[], int]) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    old = stage.port
    client = await stage.asks()
    connection = await stage.hears()
    new = free_port()
    await plane.change(blueprint(text(stage.upstream.url, endpoint=f"127.0.0.1:{new}")))
    assert stage.port == new
    await stage.serves()
    await connection.sends(OK)
    assert (await client.response()).body == b"ok", "what was in flight on the old listener ends well"
    await client.saw_end()
    with pytest.raises(ConnectionRefusedError):
        await dials("127.0.0.1", old)


async def test_a_listener_with_other_settings_stays_on_its_port(stage: Stage, free_port: Callable[[], int]) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    plane = await stage.plays(text(stage.upstream.url, endpoint=endpoint))
    client = await stage.asks()
    connection = await stage.hears()
    await plane.change(blueprint(text(stage.upstream.url, endpoint=endpoint, listener="max_url_bytes: 20B")))
    await stage.serves()
    assert await stage.refuses(b"/a/" + b"x" * 50) == "url_length"
    await connection.sends(OK)
    assert (await client.response()).body == b"ok"


async def test_a_listener_of_another_name_gets_the_port(stage: Stage, free_port: Callable[[], int]) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    plane = await stage.plays(text(stage.upstream.url, endpoint=endpoint))
    await plane.change(blueprint(text(stage.upstream.url, endpoint=endpoint).replace("http: {", "http/other: {")))
    assert set(plane.endpoints) == {"traffic.listeners.http/other"}
    (await dials("127.0.0.1", int(endpoint.rpartition(":")[2]))).close()


async def test_nobody_is_refused_while_a_listener_changes_its_settings(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    port = stage.port
    connected = 0

    async def connect() -> None:
        nonlocal connected
        while True:
            (await dials("127.0.0.1", port)).close()
            connected += 1

    connecting = asyncio.create_task(connect())
    for bound in range(20, 40):
        await plane.change(blueprint(text(stage.upstream.url, listener=f"max_url_bytes: {bound}B")))
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert connected > 0
    assert stage.port == port


async def test_a_successor_that_is_never_started_lets_go_of_the_port(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    port = stage.port
    listener = plane._listeners["http"]
    successor = listener.declared.build(stage.runtime)
    successor.take_over(listener.thing.hand_over())
    assert listener.thing.hand_over() is None
    (await dials("127.0.0.1", port)).close()
    await successor.stop()
    with pytest.raises(ConnectionRefusedError):
        await dials("127.0.0.1", port)


async def test_a_change_that_cannot_listen_changes_nothing(stage: Stage, free_port: Callable[[], int]) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    port = stage.port
    taken = f"127.0.0.1:{stage.upstream.port}"
    with pytest.raises(ConfigInvalid, match="Address already in use"):
        await plane.change(blueprint(text("http://127.0.0.1:1", endpoint=taken, path="/b/")))
    assert stage.port == port
    await stage.serves(b"/a/x")
    assert await stage.refuses(b"/b/x") == "route_unknown"


async def test_what_is_gone_is_not_shown_any_more(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    await stage.serves()
    assert gauges(stage.runtime) == {
        "connections open http/a": 1, "connections idle http/a": 1, "waiting http/a": 0, "open_connections http": 1, "tunnels http": 0,
    }  # fmt: skip
    await plane.change(blueprint("traffic: {listeners: {http/b: {endpoint: 127.0.0.1:0}}, drain: 2s}"))
    await eventually(lambda: not plane._farewells, "the end of all farewells")
    assert gauges(stage.runtime) == {"open_connections http/b": 0, "tunnels http/b": 0}
    await plane.stop()
    assert gauges(stage.runtime) == {}


async def test_what_has_changed_is_shown_as_it_is_now(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    await stage.serves()
    client = await stage.asks()
    connection = await stage.hears()
    await plane.change(blueprint(text(stage.upstream.url, upstream="max_connections: 7")))
    assert gauges(stage.runtime)["connections open http/a"] == 0, "the new one, while the old one ends its last call"
    await connection.sends(OK)
    await client.response()
    await eventually(lambda: not plane._farewells, "the end of all farewells")
    await stage.serves()
    assert gauges(stage.runtime)["connections open http/a"] == 1


async def test_a_change_that_fails_shows_what_stood_before(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    await stage.serves()
    before = gauges(stage.runtime)
    taken = f"127.0.0.1:{stage.upstream.port}"
    changed = text(stage.upstream.url, endpoint=taken, upstream="max_connections: 7")
    changed = changed.replace("upstreams: {", f'upstreams: {{http/b: {{url: "{stage.upstream.url}"}}, ')
    changed = changed.replace("routes: {", "routes: {b: {path: /b/, upstream: http/b}, ")
    with pytest.raises(ConfigInvalid, match="Address already in use"):
        await plane.change(blueprint(changed))
    assert gauges(stage.runtime) == before
    await stage.serves()


async def test_connections_that_the_new_rules_would_refuse_are_closed_and_not_used_again(stage: Stage) -> None:
    open_to_all = "traffic: {listeners: {http: {endpoint: 127.0.0.1:0}}, destinations: {allow_loopback: %s}, drain: 2s}"
    plane = await stage.plays(open_to_all % "true")
    whole = f"{stage.upstream.url}/x".encode()
    idle, streaming = await stage.asks(whole), await stage.asks(whole)
    first, second = await stage.hears(), await stage.hears()
    await first.sends(OK)
    assert (await idle.response()).body == b"ok"
    await plane.change(blueprint(open_to_all % "false"))
    await first.saw_end()  # although a call is under way, on the old graph
    assert await stage.refuses(whole) == "loopback_refused"
    await second.sends(OK)
    assert (await streaming.response()).body == b"ok", "what was allowed when it began ends well"
    await second.saw_end()


async def test_an_upstream_that_is_closed_under_its_calls_tells_them(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    client = await stage.asks()
    await stage.hears()
    await plane._upstreams["http/a"].thing.stop()
    assert (await client.response()).one(b"x-sidecar-error") == b"draining"


GATED = """
  policies: {plane_parts.gate: {%s}}
  routes: {a: {path: /a/, upstream: http/a, policies: [plane_parts.gate]}}
"""


def gated(url: str, settings: str, **others: str) -> str:
    plain = text(url, **others)
    return plain.replace("  routes: {a: {path: /a/, upstream: http/a}}\n", GATED % settings)


async def test_policies_guard_and_their_engines_outlive_a_change(stage: Stage) -> None:
    plane = await stage.plays(gated(stage.upstream.url, ""))
    await stage.serves()
    await plane.change(blueprint(gated(stage.upstream.url, "allow: false")))
    assert await stage.refuses() == "destination_denied"
    engines = sys.modules["plane_parts.gate"].engines
    assert len(engines) == 1


async def test_a_change_that_fails_gives_engines_and_ports_back(stage: Stage, free_port: Callable[[], int]) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    plane = await stage.plays(gated(stage.upstream.url, "", endpoint=endpoint))
    client = await stage.asks()
    connection = await stage.hears()
    with pytest.raises(ConfigInvalid, match=r"traffic.policies.plane_parts.gate: it cannot be built"):
        await plane.change(
            blueprint(gated(stage.upstream.url, "allow: false, broken: build", endpoint=endpoint, listener="max_url_bytes: 20B"))
        )
    await stage.serves(b"/a/" + b"x" * 50)
    await connection.sends(OK)
    assert (await client.response()).body == b"ok"
    assert plane.health()["traffic.listeners.http"].ready


async def test_a_port_that_was_lost_in_a_failed_change_is_logged(
    stage: Stage, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    plane = await stage.plays(gated(stage.upstream.url, "", endpoint=endpoint))
    old = plane._listeners["http"]

    async def start(self: Any) -> None:
        raise OSError(98, "taken meanwhile")

    monkeypatch.setattr("sidecar.traffic.listeners.http.HttpListener.start", start)
    with pytest.raises(ConfigInvalid):
        await plane.change(blueprint(gated(stage.upstream.url, "", endpoint=endpoint, listener="max_url_bytes: 20B")))
    assert "cannot be bound: Address already in use" in caplog.text
    assert plane._listeners["http"] is old


def listening(**listeners: str) -> Blueprint:
    """A forward proxy with these listeners."""
    written = "".join(f"    http/{name}: {{{settings}}}\n" for name, settings in listeners.items())
    return blueprint(
        f"traffic:\n  listeners:\n    http: {{endpoint: 127.0.0.1:0}}\n{written}  destinations: {{allow_loopback: true}}\n  drain: 200ms\n"
    )


async def test_a_listener_that_leaves_takes_no_call_of_another_with_it(stage: Stage) -> None:
    plane = await stage.plays(listening(b="endpoint: 127.0.0.1:0"))
    client = await stage.asks(f"{stage.upstream.url}/x".encode())
    connection = await stage.hears()
    await plane.change(listening())
    await eventually(lambda: len(plane._leaving) == 1, "the leaving of the other")
    await asyncio.sleep(0.3)  # longer than the drain of the one that leaves
    await connection.sends(OK)
    assert (await client.response()).body == b"ok"
    await eventually(lambda: not plane._farewells and not plane._old_graphs, "the end of all farewells")


async def test_a_change_that_fails_cuts_no_call(stage: Stage, free_port: Callable[[], int]) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    plane = await stage.plays(listening(b=f"endpoint: '{endpoint}'"))
    client = await stage.asks(f"{stage.upstream.url}/x".encode())
    connection = await stage.hears()
    taken = f"127.0.0.1:{stage.upstream.port}"
    with pytest.raises(ConfigInvalid, match="Address already in use"):
        await plane.change(listening(b=f"endpoint: '{endpoint}', max_connections: 7", c=f"endpoint: '{taken}'"))
    await eventually(lambda: not plane._farewells, "the end of all farewells")
    await connection.sends(OK)
    assert (await client.response()).body == b"ok"
    (await dials("127.0.0.1", int(endpoint.rpartition(":")[2]))).close()


async def test_draining_waits_for_calls_and_cuts_what_takes_too_long(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    quick, slow = await stage.asks(), await stage.asks()
    first = await stage.hears()
    await stage.hears()
    plane.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        await dials("127.0.0.1", stage.port)
    draining = asyncio.create_task(plane.drain(0.3))
    await first.sends(OK)
    assert await draining == 1
    ends = await asyncio.gather(quick.reads_to_end(), slow.reads_to_end())
    assert sorted(end.endswith(b"ok") for end in ends) == [False, True]
    assert plane.health()["traffic.listeners.http"].state is State.STOPPED


async def test_a_part_that_will_not_stop_does_not_keep_the_others_from_it(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    plane = await stage.plays(text(stage.upstream.url, upstream="dialect: sticky").replace("http/a", "plane_parts.upstream/a"))
    assert plane.health()["traffic.upstreams.plane_parts.upstream/a"].ready
    await stage.serves()
    await plane.stop()
    assert "traffic.upstreams.plane_parts.upstream/a could not stop: RuntimeError: will not" in caplog.text
    with pytest.raises(ConnectionRefusedError):
        await dials("127.0.0.1", stage.port)


async def test_stopping_does_not_wait_for_farewells(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    await stage.asks()
    await stage.hears()
    await plane.change(blueprint(text(stage.upstream.url, endpoint="127.0.0.1:0", listener="max_connections: 7")))
    assert len(plane.exchanges()) == 1, "on the listener that leaves"
    async with asyncio.timeout(1):
        await plane.stop()
    assert plane.exchanges() == []


async def test_nothing_is_kept_of_a_config_that_nobody_uses_any_more(stage: Stage) -> None:
    plane = await stage.plays(text(stage.upstream.url))
    for path in ("/b/", "/c/", "/d/"):
        await plane.change(blueprint(text(stage.upstream.url, path=path)))
    await eventually(lambda: not plane._farewells, "the end of all farewells")
    assert plane._leaving == []
    assert plane._listeners["http"].thing._retired == []
