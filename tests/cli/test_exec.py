import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from sidecar.cli import exec as command
from sidecar.config import parse
from sidecar.demo.backend import Backend
from sidecar.model.answered import McpAnswered, ModelAnswered
from sidecar.model.asked import McpAsked, ModelAsked
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import ConfigInvalid
from sidecar.model.facts import Mode
from sidecar.runtime.runtime import Runtime
from sidecar.terminal.environment import METADATA
from sidecar.terminal.signals import Caught
from tests.demo.peer import serving
from tests.peers.proxy import CorporateProxy
from tests.sidecar_under_test import eventually
from tests.telemetry.facts import exchange
from tests.terminal.console import PATIENCE_S, ROOT, WRAPPED, Console, environ, gone, is_running, on_terminal, without_terminal

EXEC = [sys.executable, "-m", "sidecar", "exec"]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def node_obeys() -> bool:
    """NODE_USE_ENV_PROXY came with node 22.21 and 24.0 (nodejs.org/api/cli.html)."""
    if shutil.which("node") is None:
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    major, minor = (int(part) for part in version.strip().lstrip("v").split(".")[:2])
    return major >= 24 or (major, minor) >= (22, 21)


@dataclass
class Ended:
    """What is left of a command: its exit code and what was written."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ended]]


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """`await run(*words, NAME="value", …)` runs `sidecar exec *words` in this environment, with a home that has to stay empty."""
    home = tmp_path / "home"
    home.mkdir()

    async def run(*words: str, stdin: bytes = b"", **more: str) -> Ended:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "150",
            "LC_ALL": "C.UTF-8",
            **coverage(),
            **more,
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*EXEC, *words, env=env, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe)
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    yield run
    assert list(home.iterdir()) == []


def coverage() -> dict[str, str]:
    """What lets coverage see into processes that a test starts."""
    return {name: value for name, value in os.environ.items() if name.startswith("COV")}


@dataclass
class Upstream:
    """A server of the test; `seen` are its requests."""

    url: str
    seen: list[web.Request]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        await request.read()
        return web.Response(status=int(request.query.get("status", 200)), text="hello")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    async with serving(app) as (url, _):
        yield Upstream(url, seen)


@asynccontextmanager
async def backend() -> AsyncIterator[tuple[Backend, str]]:
    server = Backend()
    try:
        yield server, await server.start()
    finally:
        await server.stop()


def python(script: str) -> list[str]:
    return ["--", sys.executable, "-I", "-c", script]


def summary(err: str) -> dict[str, list[str]]:
    """The figures of the summary by destination."""
    rows = [re.split(r"  +", line) for line in err.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) == 7 and row[0] != "destination"}


async def test_what_curl_calls_is_told_by_destination(run: Run, upstream: Upstream) -> None:
    script = f"curl -s {upstream.url}/a; curl -s -o /dev/null '{upstream.url}/b?status=503'; exit 3"
    ended = await run("--", "sh", "-c", script)
    assert (ended.code, ended.out) == (3, "hello")
    assert [request.path for request in upstream.seen] == ["/a", "/b"]
    calls, errors, *_, sent, received = summary(ended.err)[upstream.url]
    assert (calls, errors, sent, received) == ("2", "1", "0 B", "10 B")
    assert ended.err.startswith("sidecar exec: 2 calls to 1 destination, 1 error, p50 ")


async def test_python_is_seen_at_localhost_too(run: Run, upstream: Upstream) -> None:
    url = upstream.url.replace("127.0.0.1", "localhost")
    ended = await run(*python(f"import urllib.request as u; print(u.urlopen('{url}/x', b'12345').read())"))
    assert (ended.code, ended.out) == (0, "b'hello'\n")
    assert summary(ended.err)[url][-2:] == ["5 B", "5 B"]


@pytest.mark.skipif(not node_obeys(), reason="this node does not know NODE_USE_ENV_PROXY")
async def test_node_is_seen(run: Run, upstream: Upstream) -> None:
    ended = await run("--", "node", "-e", f"fetch('{upstream.url}/x').then(r => r.text()).then(console.log)")
    assert (ended.code, ended.out) == (0, "hello\n")
    assert summary(ended.err)[upstream.url][0] == "1"


@curl
async def test_a_tunnel_is_told_as_one_with_its_bytes(run: Run, upstream: Upstream) -> None:
    ended = await run("--", "curl", "-s", "--proxytunnel", f"{upstream.url}/x")
    assert (ended.code, ended.out) == (0, "hello")
    figures = summary(ended.err)[upstream.url.removeprefix("http://") + " (tunnel)"]
    assert figures[:2] == ["1", "0"]


async def test_the_command_gets_exactly_these_variables(run: Run) -> None:
    ended = await run("--", "env", "-0", NO_PROXY="intern.test", MINE="1")
    seen = dict(line.split("=", 1) for line in ended.out.split("\0") if line)
    proxy, otlp = seen["HTTP_PROXY"], seen["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", proxy)
    assert re.fullmatch(r"http://localhost:\d+", otlp)
    assert [seen[name] for name in ("http_proxy", "https_proxy", "HTTPS_PROXY")] == [proxy] * 3
    exempt = ",".join(["intern.test", *METADATA, otlp.removeprefix("http://")])
    assert (seen["NO_PROXY"], seen["no_proxy"]) == (exempt, exempt)
    assert (seen["NODE_USE_ENV_PROXY"], seen["MINE"]) == ("1", "1")
    assert seen["TRACEPARENT"].split("-")[1] in ended.err
    new = {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "no_proxy", "NODE_USE_ENV_PROXY", "TRACEPARENT"}
    theirs = {"PATH", "HOME", "PYTHONPATH", "COLUMNS", "LC_ALL", "NO_PROXY", "MINE", *coverage()}
    assert seen.keys() - theirs == new | {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"}


@curl
@pytest.mark.parametrize(
    ("given", "continues"), [({"TRACEPARENT": TRACEPARENT}, True), ({}, False), ({"TRACEPARENT": "junk"}, False)]
)
async def test_a_trace_of_ours_is_continued_else_one_begins(
    run: Run, upstream: Upstream, given: dict[str, str], continues: bool
) -> None:
    ended = await run(
        "--", "sh", "-c", f'echo $TRACEPARENT; curl -s -H "traceparent: $TRACEPARENT" {upstream.url}/ -o /dev/null', **given
    )
    told = ended.out.strip()
    trace_id = told.split("-")[1]
    assert (told == TRACEPARENT) is continues
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", told)
    assert f"trace {trace_id}\n" in ended.err
    assert upstream.seen[0].headers["traceparent"].split("-")[1] == trace_id


@curl
@pytest.mark.parametrize(
    ("given", "agent"),
    [({}, "sh"), ({"OTEL_SERVICE_NAME": "bot"}, "bot"), ({"OTEL_SERVICE_NAME": "bot", "SIDECAR_AGENT_ID": "me"}, "me")],
)
async def test_spans_go_to_the_backend_of_the_environment_and_name_the_agent(
    run: Run, upstream: Upstream, given: dict[str, str], agent: str
) -> None:
    async with backend() as (kept, url):
        ended = await run("--", "sh", "-c", f"curl -s {upstream.url}/x -o /dev/null", OTEL_EXPORTER_OTLP_ENDPOINT=url, **given)
    assert ended.code == 0
    assert sorted(span.kind for span in kept.spans) == ["CLIENT", "INTERNAL", "SERVER"]
    assert {span.attributes["gen_ai.agent.id"] for span in kept.spans} == {agent}


@curl
@pytest.mark.parametrize("given", [{}, {"TRACEPARENT": TRACEPARENT}])
async def test_the_command_is_the_root_of_a_trace_that_begins_here(run: Run, upstream: Upstream, given: dict[str, str]) -> None:
    script = f'curl -s -H "traceparent: $TRACEPARENT" -H "x-key: $0" {upstream.url}/x -o /dev/null; echo $TRACEPARENT; exit 7'
    async with backend() as (kept, url):
        ended = await run("--", "sh", "-c", script, "hunter2", OTEL_EXPORTER_OTLP_ENDPOINT=url, **given)
    _, trace_id, span_id, _ = ended.out.strip().split("-")
    parents = {span.kind: span.parent_id.hex() for span in kept.spans}
    assert parents["SERVER"] == span_id
    if given:
        assert parents.keys() == {"SERVER", "CLIENT"}, "the parent is our caller's, and theirs to tell"
        return
    (root,) = (span for span in kept.spans if span.kind == "INTERNAL")
    assert (root.trace_id.hex(), root.span_id.hex(), root.parent_id) == (trace_id, span_id, b"")
    assert (root.name, root.failed, root.attributes["process.exit.code"]) == ("sh", True, 7)
    assert "hunter2" not in str(root.attributes)
    (server,) = (span for span in kept.spans if span.kind == "SERVER")
    assert root.started_ns <= server.started_ns <= server.ended_ns <= root.ended_ns


async def test_the_commands_own_telemetry_goes_the_same_way_and_not_through_the_proxy(run: Run) -> None:
    """An exporter that obeys HTTP_PROXY, as most do, posts to the endpoint that it is told."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="work")
    body = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]).SerializeToString()
    script = (
        "import os, sys, urllib.request as u\n"
        "url = os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] + '/v1/traces'\n"
        "u.urlopen(u.Request(url, sys.stdin.buffer.read(), {'Content-Type': 'application/x-protobuf'}))"
    )
    async with backend() as (kept, url):
        ended = await run(*python(script), stdin=body, OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert ended.code == 0, ended.err
    assert {span.name for span in kept.spans} == {"work", Path(sys.executable).name}
    assert "sidecar exec: no calls" in ended.err


async def test_a_backend_that_is_away_costs_neither_the_command_nor_its_end(run: Run, upstream: Upstream, free_port: Any) -> None:
    script = f"curl -s {upstream.url}/x"
    ended = await run("--", "sh", "-c", script, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert (ended.code, ended.out) == (0, "hello")
    assert "otlp_http" in ended.err, "a backend that the user named and that is away is worth a line"


async def test_without_a_backend_nobody_complains(run: Run, upstream: Upstream) -> None:
    ended = await run("--", "sh", "-c", f"curl -s {upstream.url}/x")
    assert [line.split(" ")[0] for line in ended.err.splitlines()] == ["sidecar", "destination", upstream.url]


async def test_a_config_gives_routes_and_names_but_no_addresses(run: Run, upstream: Upstream, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as taken_too:
        port, other = taken.getsockname()[1], taken_too.getsockname()[1]
        (tmp_path / "sidecar.yaml").write_text(f"""
traffic:
  listeners: {{http: {{endpoint: "127.0.0.1:{port}", users: {{bob: secret}}}}}}
  upstreams: {{http/llm: {{url: "{upstream.url}"}}}}
  routes: {{llm: {{path: /llm/, upstream: http/llm}}}}
receivers: {{traffic: {{}}, otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{other}"}}}}}}}}
exporters: {{file: {{path: spans.jsonl}}}}
service: {{pipelines: {{traces: {{receivers: [traffic, otlp], exporters: [file]}}}}}}
admin: {{endpoint: "127.0.0.1:1", token_file: token}}
""")
        script = f"curl -s {upstream.url}/a; curl -s --noproxy '*' $HTTP_PROXY/llm/b; echo $OTEL_EXPORTER_OTLP_ENDPOINT"
        ended = await run("--config", "sidecar.yaml", "--", "sh", "-c", script)
    assert ended.code == 0
    assert ended.out.startswith("hellohellohttp://localhost:")
    assert summary(ended.err)["llm"][:2] == ["2", "0"]
    assert len((tmp_path / "spans.jsonl").read_text().splitlines()) >= 1
    assert not (tmp_path / "token").exists()


async def test_a_config_without_a_receiver_leaves_the_commands_telemetry_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text("traffic: {default: deny}\n")
    ended = await run(
        "--config",
        "sidecar.yaml",
        "--",
        "sh",
        "-c",
        "echo $OTEL_EXPORTER_OTLP_ENDPOINT",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://otel.test:4318",
    )
    assert ended.out == "http://otel.test:4318\n"


async def test_a_config_with_faults_runs_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text("traffic: {listeners: {http: {endpoint: nowhere}}, default: maybe}\n")
    ended = await run("--config", "sidecar.yaml", "--", "sh", "-c", "echo ran")
    assert (ended.code, ended.out) == (125, "")
    assert len(ended.err.splitlines()) == 2
    assert all(line.startswith("sidecar exec: sidecar.yaml:1: traffic.") for line in ended.err.splitlines())


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--", "no-such-command"), 127, "sidecar exec: no-such-command: command not found\n"),
        (("--", "/etc/passwd"), 126, "sidecar exec: /etc/passwd: Permission denied\n"),
        (("--", "sh", "-c", "kill -TERM $$"), 143, ""),
        (("sh", "-c", "exit 9"), 9, ""),
        (("--", "sh", "-c", 'exit "$#"', "--", "--config", "--"), 2, ""),
        ((), 2, "sidecar exec: which command?"),
        (("--",), 2, "sidecar exec: which command?"),
    ],
)
async def test_the_exit_code_says_how_it_ended(run: Run, words: tuple[str, ...], code: int, text: str) -> None:
    ended = await run(*words)
    assert ended.code == code
    assert ended.err.startswith(text)


async def test_standard_streams_are_the_commands(run: Run) -> None:
    ended = await run("--", "sh", "-c", "cat; echo problem >&2", stdin=b"from the caller")
    assert ended.out == "from the caller"
    assert ended.err.startswith("problem\nsidecar exec: no calls")
    assert "Does the command obey HTTP_PROXY" in ended.err


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-", "2>&1 | true"])
def test_the_code_counts_even_where_nobody_reads_the_summary(tmp_path: Path, closed: str) -> None:
    words = " ".join([*EXEC, "--", "sh", "-c", "'sleep 0.3; exit 3'"])
    env = environ(HOME=str(tmp_path))
    ended = subprocess.run(["bash", "-c", f"{words} {closed}; exit ${{PIPESTATUS[0]}}"], env=env, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 3


NAMES = {"llm.test": "127.0.0.1"}


def by_name(upstream: Upstream) -> str:
    """The server's URL by a name that only the proxy knows."""
    return upstream.url.replace("127.0.0.1", "llm.test")


def login(proxy: CorporateProxy) -> str:
    return f"http://user:hunter2@127.0.0.1:{proxy.port}"


@curl
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_the_proxy_that_the_user_has_is_passed_after_the_sidecar(
    run: Run, upstream: Upstream, opened: Callable[[Any], Awaitable[Any]], name: str
) -> None:
    proxy = await opened(CorporateProxy("user:hunter2", names=NAMES, tunnels=set()))
    ended = await run("--", "sh", "-c", f"curl -s {by_name(upstream)}/x; env", **{name: login(proxy)})
    assert ended.code == 0
    assert ended.out.startswith("hello"), ended.err
    assert proxy.lines == [f"GET {by_name(upstream)}/x HTTP/1.1".encode()]
    assert summary(ended.err)[by_name(upstream)][:2] == ["1", "0"], "and the sidecar has seen it"
    assert ended.err.startswith(f"sidecar exec: calls go on as {name} says\n")
    assert "hunter2" not in ended.out + ended.err, "not even the command is told, because nothing of its leads there any more"


@curl
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_so_are_its_tunnels(run: Run, upstream: Upstream, opened: Callable[[Any], Awaitable[Any]], name: str) -> None:
    proxy = await opened(CorporateProxy("user:hunter2", names=NAMES))
    url = by_name(upstream)
    ended = await run("--", "curl", "-s", "--proxytunnel", f"{url}/x", **{name: login(proxy)})
    assert (ended.code, ended.out) == (0, "hello"), ended.err
    assert proxy.lines == [f"CONNECT {url.removeprefix('http://')} HTTP/1.1".encode()]
    assert summary(ended.err)[url.removeprefix("http://") + " (tunnel)"][:2] == ["1", "0"]


@curl
async def test_what_the_user_exempts_does_not_come_to_that_proxy(
    run: Run, upstream: Upstream, opened: Callable[[Any], Awaitable[Any]]
) -> None:
    """Where the command asks the sidecar for it all the same."""
    proxy = await opened(CorporateProxy(names=NAMES))
    script = f"curl -s --noproxy '' {upstream.url}/x"
    ended = await run("--", "sh", "-c", script, HTTP_PROXY=login(proxy), NO_PROXY="127.0.0.1")
    assert (ended.code, ended.out) == (0, "hello")
    assert proxy.asked == []
    assert summary(ended.err)[upstream.url][0] == "1"


@curl
@pytest.mark.parametrize("setting", ["direct", "the config's"])
async def test_a_proxy_of_the_config_goes_before_the_users(
    run: Run, upstream: Upstream, opened: Callable[[Any], Awaitable[Any]], tmp_path: Path, setting: str
) -> None:
    theirs, configs = await opened(CorporateProxy(names=NAMES)), await opened(CorporateProxy(names=NAMES))
    url = "direct" if setting == "direct" else f"http://127.0.0.1:{configs.port}"
    (tmp_path / "sidecar.yaml").write_text(f"traffic: {{proxy: {{url: '{url}', no_proxy: []}}}}\n")
    ended = await run("--config", "sidecar.yaml", "--", "curl", "-s", f"{upstream.url}/x", HTTP_PROXY=login(theirs))
    assert (ended.code, ended.out) == (0, "hello")
    assert ended.err.startswith("sidecar exec: calls go on as traffic.proxy of the config says\n")
    assert (len(theirs.asked), len(configs.asked)) == (0, 0 if setting == "direct" else 1)


@curl
async def test_one_inside_another_passes_both(run: Run, upstream: Upstream, opened: Callable[[Any], Awaitable[Any]]) -> None:
    """The outer one is the inner one's corporate proxy, and has one of its own; local servers go through both as well."""
    proxy = await opened(CorporateProxy("user:hunter2", names=NAMES))
    script = f"curl -s {by_name(upstream)}/a; curl -s --proxytunnel {by_name(upstream)}/b"
    ended = await run("--", *EXEC, "--", "sh", "-c", script, ALL_PROXY=login(proxy))
    assert (ended.code, ended.out) == (0, "hellohello"), ended.err
    assert [line.split(b" ")[0] for line in proxy.lines] == [b"GET", b"CONNECT"]
    assert ended.err.count("sidecar exec: 2 calls to 2 destinations, 0 errors") == 2, ended.err
    hops = [hop.split()[1][:10] for hop in upstream.seen[0].headers.getall("via")]
    assert hops == ["agent-sre-", "agent-sre-", "corp"], "from the inside to the outside"
    ended = await run("--", *EXEC, "--", "curl", "-s", f"{upstream.url}/c")
    assert (ended.code, ended.out) == (0, "hello"), ended.err
    assert ended.err.count("sidecar exec: 1 call to 1 destination, 0 errors") == 2, ended.err


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_proxy_that_cannot_be_spoken_to_is_not_passed_by(run: Run, name: str) -> None:
    ended = await run("--", "sh", "-c", "echo ran", **{name: "socks5://user:hunter2@proxy.test:1080"})
    assert (ended.code, ended.out) == (125, "")
    assert "of the environment has to look like http://user:password@host:port" in ended.err
    assert "hunter2" not in ended.err


async def test_what_runs_on_in_the_background_is_not_waited_for(run: Run) -> None:
    ended = await run("--", "sh", "-c", "sleep 60 >/dev/null 2>&1 </dev/null & echo $!")
    assert ended.code == 0
    assert is_running(int(ended.out))
    os.kill(int(ended.out), signal.SIGKILL)


def ports_of(console: Console) -> list[int]:
    """The ports on which a process listens (Linux)."""
    inodes = set()
    for link in Path(f"/proc/{console.process.pid}/fd").iterdir():
        found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
        inodes.add(found[1] if found else "")
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes]


@linux
def test_signals_reach_the_command_exactly_once_and_the_summary_comes_last() -> None:
    with without_terminal([*EXEC, "--", *WRAPPED], environ(COLUMNS="100")) as console:
        console.expect("}\n")
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.killpg(console.process.pid, number)
            assert console.expect("\n") == f"got {number.name}\n"
        os.kill(console.process.pid, signal.SIGTERM)
        rest = console.rest()
        assert rest.startswith("got SIGTERM\nsidecar exec: no calls")
        assert rest.count("got") == 1
        assert console.ends() == 42


@linux
def test_keys_of_the_terminal_reach_the_command_exactly_once() -> None:
    with on_terminal([*EXEC, "--", *WRAPPED], environ(TERM="dumb")) as console:
        console.expect("}\n")
        console.types("\x03")
        console.expect("got SIGINT\n")
        console.types("\x1c")
        assert "SIGINT" not in console.expect("got SIGQUIT\n")
        os.kill(console.process.pid, signal.SIGTERM)
        console.expect("got SIGTERM\n")
        console.expect("sidecar exec: no calls")
        assert console.ends() == 42


@linux
def test_nothing_is_left_when_it_is_killed() -> None:
    with without_terminal([*EXEC, "--", *WRAPPED]) as console:
        pid = int(re.findall(r'"pid": (\d+)', console.expect("}\n"))[0])
        ports = ports_of(console)
        assert len(ports) == 2, "one proxy, one OTLP receiver"
        os.kill(console.process.pid, signal.SIGKILL)
        assert gone(pid)
        console.ends()
        for port in ports:
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0


# inside this process


def wrapped(monkeypatch: pytest.MonkeyPatch, *words: str, before: Any = None, after: Any = None) -> command.Wrapped:
    """A command around which stands no sidecar; `before` and `after` are awaited in its place."""

    @asynccontextmanager
    async def nothing(self: command.Wrapped) -> AsyncIterator[Any]:
        if before is not None:
            await before.wait()
        yield SimpleNamespace(runtime=Runtime())
        if after is not None:
            await after.wait()

    monkeypatch.setattr(command.Wrapped, "_sidecar", nothing)
    monkeypatch.setattr(command.Wrapped, "_surroundings", lambda self, app: dict(os.environ))
    return command.Wrapped(words, None, {}, asyncio.get_running_loop())


async def test_a_signal_before_the_start_ends_it_and_the_command_never_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = wrapped(monkeypatch, "touch", str(tmp_path / "ran"), before=asyncio.Event())
    running = asyncio.ensure_future(one.run(frozenset()))
    await asyncio.sleep(0)
    one.hear(Caught(signal.SIGUSR1, by_kernel=False))
    one.hear(Caught(signal.SIGTERM, by_kernel=True))
    assert await asyncio.wait_for(running, PATIENCE_S) == 143
    assert not (tmp_path / "ran").exists()


async def test_a_signal_after_the_end_ends_us_at_once_with_the_commands_code(monkeypatch: pytest.MonkeyPatch) -> None:
    one = wrapped(monkeypatch, "sh", "-c", "exit 6", after=asyncio.Event())
    running = asyncio.ensure_future(one.run(frozenset()))
    await eventually(lambda: one.code is not None, "the command's end")
    one.hear(Caught(signal.SIGINT, by_kernel=True))
    assert await asyncio.wait_for(running, PATIENCE_S) == 6


async def test_somebody_elses_cancellation_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    running = asyncio.ensure_future(wrapped(monkeypatch, "true", before=asyncio.Event()).run(frozenset()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_sidecar_that_cannot_start_is_125(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    class Broken:
        async def wait(self) -> None:
            raise OSError(98, "Address already in use")

    assert await wrapped(monkeypatch, "true", before=Broken()).run(frozenset()) == 125
    assert capfd.readouterr().err == "sidecar exec: the sidecar failed: [Errno 98] Address already in use\n"


def test_the_whole_command_runs_in_one_process(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    assert command.run(parser.parse_args(["--", "sh", "-c", "echo $HTTP_PROXY; exit 4"])) == 4
    out, err = capfd.readouterr()
    assert out.startswith("http://127.0.0.1:")
    assert err.startswith("sidecar exec: no calls")


CONFIG = """
traffic:
  listeners: {http: {endpoint: "0.0.0.0:4140", users: {bob: secret}}, http/two: {endpoint: "127.0.0.1:4150", max_connections: 7}}
  identity: {agent: configured}
  drain: 30s
receivers: {otlp: {protocols: {grpc: {}}}, otlp/both: {}}
"""


def test_a_config_moves_to_free_ports_and_keeps_everything_else() -> None:
    config = command.around(parse(CONFIG, environ={}), agent="command")
    listeners = {name: declared.spec for name, declared in config.components["traffic.listeners"].items()}
    assert {name: (spec.endpoint, spec.users) for name, spec in listeners.items()} == {
        "http": ("127.0.0.1:0", {}),
        "http/two": ("127.0.0.1:0", {}),
    }
    assert listeners["http/two"].max_connections == 7
    protocols = [declared.spec.protocols for declared in config.components["receivers"].values()]
    assert [(each.grpc.endpoint, each.http.endpoint) for each in protocols] == [("127.0.0.1:0", "127.0.0.1:0")] * 2
    assert (config.traffic.destinations.allow_loopback, config.traffic.identity.agent, float(config.traffic.drain)) == (
        True,
        "configured",
        1.0,
    )


def test_a_config_without_a_listener_cannot_hold_around_a_command() -> None:
    with pytest.raises(ConfigInvalid, match=r"traffic\.listeners: the command needs a listener"):
        command.around(parse("traffic: {listeners: {}}", environ={}), agent="command")


def test_a_config_without_identity_names_the_command() -> None:
    config = command.around(parse("traffic: {drain: 200ms}", environ={}), agent="command")
    assert (config.traffic.identity.agent, float(config.traffic.drain)) == ("command", 0.2)


def test_grpc_backends_are_spoken_to_in_grpc() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    config = command.Wrapped(["true"], None, environment, asyncio.new_event_loop())
    config._loop.close()
    assert list(config.read().used("exporters")) == ["otlp_grpc"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"route": "openai"}, "openai"), ({"route": ""}, "https://api.openai.com:443"),
        ({"route": "", "scheme": "http", "host": "::1", "port": 8931}, "http://[::1]:8931"),
        ({"mode": Mode.CONNECT, "scheme": ""}, "api.openai.com:443 (tunnel)"), ({"route": "", "host": ""}, "(no destination)"),
    ],
)  # fmt: skip
def test_a_call_is_told_under_its_destination(changes: dict[str, Any], name: str) -> None:
    assert command._destination(exchange(**changes)) == name


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({}, 0), ({"status": 404}, 1), ({"status": 0, "error": "client_gone"}, 0), ({"status": 200, "error": "upstream_cut"}, 1),
        ({"status": 502, "error": "connect_failed"}, 1),
        ({"dialogue": Dialogue(ModelAsked("openai", "chat"), ModelAnswered(is_ended=True))}, 0),
        ({"dialogue": Dialogue(ModelAsked("openai", "chat"), ModelAnswered(error_type="server_error", is_ended=True))}, 1),
        ({"dialogue": Dialogue(McpAsked("mcp", "tools/call"), McpAnswered(is_tool_error=True, is_ended=True))}, 1),
        ({"dialogue": Dialogue(McpAsked("mcp", "listen", is_standing=True), McpAnswered()), "error": "idle_timeout"}, 0),
    ],
)  # fmt: skip
def test_whoever_hangs_up_has_what_it_wanted_and_an_answer_may_say_that_it_failed(changes: dict[str, Any], errors: int) -> None:
    loop = asyncio.new_event_loop()
    one = command.Wrapped(["true"], None, {}, loop)
    loop.close()
    one._count(exchange(**changes))
    assert one._calls.total.errors == errors
