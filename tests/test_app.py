import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.admin.filter import Filter
from sidecar.app import App
from sidecar.config import Config, parse
from sidecar.control.operations import ExchangeUnknown
from sidecar.engines.prices.price_list import PriceList
from sidecar.model.errors import ConfigFault, ConfigInvalid
from sidecar.model.facts import ConfigRefused, ConfigReloaded
from sidecar.model.usage import Usage
from sidecar.runtime.runtime import Runtime, State
from tests.engines.prices.calls import cost
from tests.peers.raw import RawUpstream
from tests.peers.wire import Wire, dials
from tests.repository import ROOT
from tests.sidecar_under_test import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def config(
    url: str = "http://127.0.0.1:1", *, path: str = "/a/", drain: str = "2s", admin: str = "127.0.0.1:0", kept: int = 512, more: str = ""
) -> Config:
    return parse(
        f"""
traffic:
  listeners: {{http: {{endpoint: 127.0.0.1:0}}}}
  upstreams: {{http/a: {{url: "{url}"}}}}
  routes: {{a: {{path: {path}, upstream: http/a}}}}
  drain: {drain}
admin: {{endpoint: "{admin}", kept_exchanges: {kept}}}
{more}
""",
        environ={},
    )


def traces(file: Path, *, flush: str = "10ms", name: str = "") -> str:
    return f"""
receivers: {{traffic: {{flush_interval: {flush}}}}}
exporters: {{file{name}: {{path: "{file}"}}}}
service: {{pipelines: {{traces: {{receivers: [traffic], exporters: [file{name}]}}}}}}
"""


def spans(file: Path) -> list[str]:
    """The names of all spans in a file of the file exporter."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        for resource in json.loads(line)["resourceSpans"]:
            found += [span["name"] for scope in resource["scopeSpans"] for span in scope["spans"]]
    return found


class Stage:
    """An app, an upstream, and whoever calls."""

    def __init__(self, upstream: RawUpstream, home: Path) -> None:
        self.upstream = upstream
        self.clients: list[Wire] = []
        self.facts: list[Any] = []
        self.runtime = Runtime(environ={"XDG_RUNTIME_DIR": str(home)})
        self.runtime.bus.listen([ConfigReloaded, ConfigRefused], self.facts.append)
        self.app: App | None = None

    async def starts(self, chosen: Config | None = None, *, ready: bool = True, read: Callable[[], Config] | None = None) -> App:
        self.app = App(chosen or config(self.upstream.url), runtime=self.runtime, read=read)
        await self.app.start()
        if ready:
            await self.app.ready()
        return self.app

    async def asks(self, target: bytes = b"/a/x", *, endpoint: str = "traffic.listeners.http") -> Wire:
        assert self.app is not None
        client = await dials(*self.app.endpoints[endpoint])
        self.clients.append(client)
        await client.sends(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % target)
        return client

    async def hears(self) -> Wire:
        connection = await self.upstream.hears()
        await connection.request()
        return connection

    async def serves(self, target: bytes = b"/a/x") -> None:
        client = await self.asks(target)
        await (await self.hears()).sends(OK)
        assert (await client.response()).body == b"ok"

    async def admin_says(self, path: bytes) -> tuple[int, Any]:
        response = await (await self.asks(path, endpoint="admin")).response()
        return response.status, json.loads(response.body)


@pytest.fixture
async def stage(opened: Callable[[Any], Awaitable[Any]], tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(await opened(RawUpstream()), tmp_path)
    yield stage
    for client in stage.clients:
        client.close()
    if stage.app is not None:
        async with asyncio.timeout(8):
            await stage.app.stop()
            await stage.app.stop()


# ── start and stop ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_proxy_serves_when_start_returns_and_admin_when_it_is_ready(stage: Stage) -> None:
    app = await stage.starts(ready=False)
    assert set(app.endpoints) == {"traffic.listeners.http"}
    assert not app.health()["app"].ready
    await stage.serves()
    await app.ready()
    assert set(app.endpoints) == {"traffic.listeners.http", "admin"}
    status, said = await stage.admin_says(b"/readyz")
    assert (status, said["ready"]) == (200, True)
    assert set(said["components"]) == {"app", "traffic.listeners.http", "admin"}


async def test_admin_shows_the_effective_config_and_what_is_in_flight(stage: Stage) -> None:
    await stage.starts()
    client = await stage.asks()
    connection = await stage.hears()
    status, said = await stage.admin_says(b"/api/v1/config")
    assert (status, said["traffic"]["routes"]["a"]["path"]) == (200, "/a/")
    status, said = await stage.admin_says(b"/api/v1/exchanges")
    assert (status, len(said["exchanges"])) == (200, 1)
    await connection.sends(OK)
    await client.response()


async def test_the_proxy_leads_neither_to_itself_nor_to_admin(stage: Stage) -> None:
    app = await stage.starts()
    for endpoint in ("traffic.listeners.http", "admin"):
        port = app.endpoints[endpoint][1]
        for host in (b"127.0.0.1", b"localhost"):
            client = await stage.asks(b"http://%s:%d/" % (host, port))
            assert (await client.response()).one(b"x-sidecar-error") == b"loop_detected"


async def test_nothing_heavy_is_imported_before_the_proxy_listens() -> None:
    program = """
import asyncio, sys
from sidecar.app import App
from sidecar.config import parse
TEXT = '''
traffic: {listeners: {http: {endpoint: 127.0.0.1:0}}}
receivers: {traffic: , otlp: {protocols: {http: {endpoint: 127.0.0.1:0}, grpc: {endpoint: 127.0.0.1:0}}}}
exporters: {otlp_grpc: {endpoint: 'http://127.0.0.1:1', stop_timeout: 100ms}, otlp_http: {endpoint: 'http://127.0.0.1:1', stop_timeout: 100ms}}
service: {pipelines: {traces: {receivers: [traffic, otlp], exporters: [otlp_grpc, otlp_http]}}}
admin: {endpoint: 127.0.0.1:0}
'''
def heavy(): return sorted({name.split(".")[0] for name in sys.modules} & {"grpc", "aiohttp", "pydantic"})
async def main():
    app = App(parse(TEXT, environ={}))
    await app.start()
    host, port = app.endpoints["traffic.listeners.http"]
    reader, writer = await asyncio.open_connection(host, port)
    print(heavy())
    writer.close()
    await writer.wait_closed()
    await app.ready()
    print(heavy())
    await app.stop()
asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT, timeout=30
    )
    before, after = done.stdout.splitlines(), done.stderr
    assert before == ["[]", "['aiohttp', 'grpc']"], after


async def test_a_port_that_is_taken_fails_the_start_and_leaves_nothing(stage: Stage, tmp_path: Path) -> None:
    app = App(
        parse(
            f"traffic: {{listeners: {{http: {{endpoint: '127.0.0.1:{stage.upstream.port}'}}}}}}\n" + traces(tmp_path / "t"),
            environ={},
        ),
        runtime=stage.runtime,
    )
    with pytest.raises(ConfigInvalid, match="Address already in use"):
        await app.start()
    await app.stop()
    assert app.endpoints == {}


async def test_an_admin_port_that_is_taken_is_a_fault_but_calls_flow(stage: Stage) -> None:
    app = await stage.starts(config(stage.upstream.url, admin=f"127.0.0.1:{stage.upstream.port}"), ready=False)
    with pytest.raises(ConfigInvalid) as caught:
        await app.ready()
    only = caught.value.faults[0]
    assert (only.path, only.hint) == ("admin.endpoint", "another process listens there; choose another port")
    assert app.health()["app"].state is State.FAILED
    await stage.serves()


async def test_without_admin_there_is_none(stage: Stage) -> None:
    stage.app = App(config(stage.upstream.url), runtime=stage.runtime, has_admin=False)
    await stage.app.start()
    await stage.app.ready()
    assert set(stage.app.endpoints) == {"traffic.listeners.http"}
    assert await stage.app.reload(config(stage.upstream.url, admin="127.0.0.1:1")) == ("admin.endpoint changed",)


async def test_stopping_lets_calls_end_and_cuts_what_takes_too_long(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    app = await stage.starts(config(stage.upstream.url, drain="300ms"))
    quick = await stage.asks()
    first = await stage.hears()
    slow = await stage.asks()
    await stage.hears()
    stopping = asyncio.create_task(app.stop())
    await eventually(lambda: not app.health()["app"].ready, "not ready")
    await first.sends(OK)
    assert (await quick.response()).body == b"ok"
    await stopping
    await slow.reads_to_end()
    assert "1 calls did not end within 300ms and were cut" in caplog.text


async def test_a_step_of_the_end_that_fails_keeps_no_other_from_being_taken(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "traces"
    app = await stage.starts(config(stage.upstream.url, more=traces(file, flush="1h")))
    await stage.serves()
    admin = app.endpoints["admin"]

    async def fails(*_: Any) -> None:
        raise RuntimeError("no end")

    for part, name in ((app._traffic, "drain"), (app._calls, "stop"), (app._detection, "stop"), (app.operations, "stop")):
        monkeypatch.setattr(part, name, fails)
    await app.stop()
    assert len(spans(file)) == 2, "exporters flush"
    with pytest.raises(ConnectionError):
        await dials(*admin)
    told = [message for message in caplog.messages if message.endswith(" failed")]
    assert told == [f"{step} failed" for step in (
        "draining", "stopping the metrics of calls", "stopping resource detection", "stopping operations"
    )]  # fmt: skip


async def test_an_end_at_once_leaves_no_token_behind(stage: Stage, tmp_path: Path) -> None:
    app = await stage.starts(ready=False)
    app.leave_nothing_behind()
    await app.ready()
    assert list((tmp_path / "agent-sre-sidecar").iterdir())
    app.leave_nothing_behind()
    assert not list((tmp_path / "agent-sre-sidecar").iterdir())


async def test_an_app_that_never_started_can_be_stopped(stage: Stage) -> None:
    stage.app = App(config(), runtime=stage.runtime)


async def test_stopping_in_the_middle_of_the_start_is_clean(stage: Stage) -> None:
    await stage.starts(ready=False)


async def test_the_environment_is_taken_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_AGENT_ID", "planner")
    assert App(config()).runtime.environ["SIDECAR_AGENT_ID"] == "planner"


# ── telemetry ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_calls_before_the_exporters_are_up_are_traced_too(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "traces"
    app = await stage.starts(config(stage.upstream.url, more=traces(file)), ready=False)
    await stage.serves()
    await app.ready()
    await app.stop()
    assert len(spans(file)) == 2


async def test_spans_are_flushed_at_the_end(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "traces"
    app = await stage.starts(config(stage.upstream.url, more=traces(file, flush="1h")), ready=False)
    await stage.serves()
    await app.ready()
    await stage.serves()
    assert app.health()["exporters.file"].ready
    await app.stop()
    assert len(spans(file)) == 4


async def test_receivers_are_among_the_endpoints(stage: Stage, tmp_path: Path) -> None:
    more = f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}}}
exporters: {{file: {{path: "{tmp_path}/traces"}}}}
service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}}}
"""
    app = await stage.starts(config(stage.upstream.url, more=more))
    host, port = app.endpoints["receivers.otlp.protocols.http"]
    assert host == "127.0.0.1"
    assert port > 0


# ── change ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reload_says_what_changed_and_tells_it(stage: Stage) -> None:
    app = await stage.starts()
    new = config(stage.upstream.url, path="/b/", drain="1s")
    assert await app.reload(new) == ("traffic.routes.a.path changed", "traffic.drain changed")
    assert app.config is new
    assert [fact.changes for fact in stage.facts] == [("traffic.routes.a.path changed", "traffic.drain changed")]
    await stage.serves(b"/b/x")


async def test_a_config_that_says_the_same_changes_nothing(stage: Stage) -> None:
    app = await stage.starts()
    before = app.config
    assert await app.reload(config(stage.upstream.url)) == ()
    assert app.config is before
    assert stage.facts == []


async def test_a_list_of_prices_that_has_been_read_too_late_does_not_undo_a_reload(stage: Stage) -> None:
    def why() -> str:
        prices: PriceList = stage.runtime.services["prices"]
        return cost(prices, "openai", "gpt-4o", Usage(input_tokens=1, output_tokens=1)).why

    app = await stage.starts()
    before = app.config
    assert why() == ""
    late = asyncio.create_task(app._read_prices(before))
    await asyncio.sleep(0)  # it has seen the config, and a thread reads
    await app.reload(config(stage.upstream.url, more="prices: {genai_prices: false}"))
    await late
    assert why() == "no_price_list"
    await app._read_prices(before)
    assert why() == "no_price_list"
    await app.reload(config(stage.upstream.url))
    assert why() == ""


async def test_an_app_is_ready_once_it_has_prices(stage: Stage) -> None:
    app = await stage.starts(ready=False)
    assert app._pricing is not None
    while not app._pricing.done():
        assert not app.health()["app"].ready
        await asyncio.sleep(0.001)
    await app.ready()
    assert app.health()["app"].ready


async def test_a_reload_that_fails_keeps_the_last_good_config(stage: Stage, tmp_path: Path) -> None:
    app = await stage.starts(config(stage.upstream.url, more=traces(tmp_path / "one")))
    good = app.config
    bad = parse(
        f"traffic: {{listeners: {{http: {{endpoint: '127.0.0.1:{stage.upstream.port}'}}}}}}\n" + traces(tmp_path / "two"),
        environ={},
    )
    with pytest.raises(ConfigInvalid, match="Address already in use"):
        await app.reload(bad)
    assert app.config is good
    assert isinstance(stage.facts[0], ConfigRefused)
    assert "Address already in use" in stage.facts[0].faults[0]
    await stage.serves()
    await eventually(lambda: len(spans(tmp_path / "one")) == 2, "spans where they went before")


async def test_an_operator_has_the_config_read_again(stage: Stage) -> None:
    configs: list[Config | ConfigInvalid] = []

    def read() -> Config:
        found = configs.pop(0)
        if isinstance(found, ConfigInvalid):
            raise found
        return found

    app = await stage.starts(read=read)
    configs += [config(stage.upstream.url, drain="1s"), ConfigInvalid([ConfigFault("x", 1, "bad")])]
    assert await app.operations.reload(who="a test") == ("traffic.drain changed",)
    with pytest.raises(ConfigInvalid):
        await app.operations.reload(who="a test")
    assert [type(fact) for fact in stage.facts] == [ConfigReloaded, ConfigRefused]
    assert stage.facts[1].faults == ("line 1: x: bad",)


async def test_without_a_way_to_read_again_nothing_changes(stage: Stage) -> None:
    app = await stage.starts()
    assert await app.operations.reload(who="a test") == ()


async def test_pipelines_change_without_losing_what_has_not_changed(stage: Stage, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    app = await stage.starts(config(stage.upstream.url, more=traces(one)))
    exporter = dict(app._pipelines or ())["exporters.file"]
    assert await app.reload(config(stage.upstream.url, more=traces(one, flush="20ms"))) == (
        "receivers.traffic.flush_interval changed",
    )
    assert dict(app._pipelines or ())["exporters.file"] is exporter
    await stage.serves()
    await eventually(lambda: len(spans(one)) == 2, "spans of the first call")
    await app.reload(config(stage.upstream.url, more=traces(two, flush="20ms", name="/two")))
    await stage.serves()
    await eventually(lambda: len(spans(two)) == 2, "spans of the second call")
    assert len(spans(one)) == 2


@pytest.mark.parametrize("at", ["start", "reload"])
async def test_telemetry_that_cannot_start_is_degraded_and_keeps_no_traffic_out(stage: Stage, tmp_path: Path, at: str) -> None:
    (folder := tmp_path / "telemetry_parts").mkdir()
    (folder / "cannot_start.py").write_text("""
from dataclasses import dataclass

from sidecar.model.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    pass


class Exporter:
    def consume(self, batch):
        return False

    async def start(self):
        raise OSError("no such backend")


def build(name, config, runtime):
    return Exporter()
""")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        broken = config(stage.upstream.url, more="""
receivers: {traffic: {}}
exporters: {telemetry_parts.cannot_start: {}}
service: {pipelines: {traces: {receivers: [traffic], exporters: [telemetry_parts.cannot_start]}}}
""")
    app = await stage.starts(broken if at == "start" else config(stage.upstream.url))
    if at == "reload":
        await app.reload(broken)
    status, shown = await stage.admin_says(b"/readyz")
    assert (status, shown["ready"]) == (200, True)
    assert shown["components"]["exporters.telemetry_parts.cannot_start"] == {
        "ready": True, "state": "degraded", "reason": "failed: OSError: no such backend",
    }  # fmt: skip
    await stage.serves()


async def test_spans_wait_for_the_detectors_that_the_config_names(stage: Stage, tmp_path: Path) -> None:
    def named(detectors: str) -> Config:
        telemetry = f"telemetry: {{resource: {{detectors: [{detectors}]}}}}, pipelines:"
        return config(stage.upstream.url, more=traces(file, flush="1ms").replace("pipelines:", telemetry))

    def keys(line: int) -> set[str]:
        return {each["key"] for each in json.loads(file.read_text().splitlines()[line])["resourceSpans"][0]["resource"]["attributes"]}

    file = tmp_path / "spans.jsonl"
    app = await stage.starts(named("process, nobody"), ready=False)
    await stage.serves()
    await eventually(lambda: len(spans(file)) == 2, "the spans")
    assert "process.parent_pid" in keys(0)
    assert "os.version" not in keys(0)
    await app.reload(named("os"))
    await stage.serves()
    await eventually(lambda: len(spans(file)) == 4, "the spans")
    assert "process.parent_pid" not in keys(-1)
    assert "os.version" in keys(-1)


async def test_admin_moves_when_its_endpoint_changes(stage: Stage, free_port: Callable[[], int]) -> None:
    app = await stage.starts()
    port = free_port()
    await app.reload(config(stage.upstream.url, admin=f"127.0.0.1:{port}"))
    await eventually(lambda: app.endpoints.get("admin") == ("127.0.0.1", port), "admin on its new port")
    assert (await stage.admin_says(b"/readyz"))[0] == 200


async def test_what_admin_remembers_outlives_its_reload_within_the_new_bound(stage: Stage, free_port: Callable[[], int]) -> None:
    app = await stage.starts()
    for number in range(3):
        await stage.serves(b"/a/%d" % number)
    await eventually(lambda: len(app.runtime.services["admin.exchanges"].latest(Filter(limit=9))) == 3, "three finished exchanges")
    moved = config(stage.upstream.url, admin=f"127.0.0.1:{free_port()}", kept=2)
    await app.reload(moved)
    await eventually(lambda: app.endpoints.get("admin") == (moved.admin.host, moved.admin.port), "the new place")
    _, shown = await stage.admin_says(b"/api/v1/exchanges?state=finished")
    assert [(each["path"], len(each["attempts"])) for each in shown["exchanges"]] == [("/a/2", 1), ("/a/1", 1)]
    await stage.serves(b"/a/3")
    await eventually(lambda: app.runtime.services["admin.exchanges"].latest(Filter(limit=1))[0]["path"] == "/a/3", "the next one")


async def test_admin_stays_where_it_was_when_it_cannot_move(
    stage: Stage, caplog: pytest.LogCaptureFixture, free_port: Callable[[], int]
) -> None:
    port = free_port()
    app = await stage.starts(config(stage.upstream.url, admin=f"127.0.0.1:{port}"))
    await app.reload(config(stage.upstream.url, admin=f"127.0.0.1:{stage.upstream.port}"))
    await eventually(lambda: "admin cannot listen" in caplog.text and "admin" in app.endpoints, "admin where it was")
    assert app.endpoints["admin"][1] == port
    assert (await stage.admin_says(b"/readyz"))[0] == 200


async def test_a_reload_after_the_end_does_nothing(stage: Stage) -> None:
    app = await stage.starts()
    await app.stop()
    assert await app.reload(config(stage.upstream.url, path="/b/")) == ()


# ── the operator's verbs ─────────────────────────────────────────────────────────────────────────────────────────


async def test_an_operator_stops_one_exchange(stage: Stage) -> None:
    app = await stage.starts()
    client = await stage.asks()
    await stage.hears()
    (exchange,) = app._traffic.exchanges()
    with pytest.raises(ExchangeUnknown):
        await app.operations.stop_exchange(b"\0" * 8, who="a test")
    await app.operations.stop_exchange(exchange.span_id, who="a test", why="enough")
    assert (await client.response()).one(b"x-sidecar-error") == b"stopped"


async def test_an_operator_asks_for_the_end_and_whoever_runs_the_app_hears_it(stage: Stage) -> None:
    app = await stage.starts()
    waiting = asyncio.create_task(app.asked_to_stop())
    await app.operations.drain(who="a test", why="maintenance")
    await app.operations.drain(who="a test", why="again")
    assert await waiting == "maintenance"
    assert not app.health()["app"].ready
    assert (await stage.admin_says(b"/readyz"))[0] == 503
