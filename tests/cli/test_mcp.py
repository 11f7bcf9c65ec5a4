import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.app import App
from sidecar.cli import main
from sidecar.cli import mcp as command
from sidecar.config import parse
from sidecar.terminal.signals import Caught
from tests.sidecar_under_test import eventually
from tests.terminal.console import PATIENCE_S, ROOT, is_running

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SERVER = """
import json, os, signal, sys
def say(message): sys.stdout.write(json.dumps(message) + "\\n"); sys.stdout.flush()
if os.environ.get("DEAF"): signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stderr.write("server is here\\n"); sys.stderr.flush()
for line in sys.stdin:
    message = json.loads(line)
    method, params = message.get("method"), message.get("params", {})
    if method == "die": os._exit(7)
    if method == "environ": say({"jsonrpc": "2.0", "id": message["id"], "result": {"pid": os.getpid(), "path": os.environ.get("PATH")}})
    elif method == "close": os.close(1)
    elif "id" in message and method != "wait": say({"jsonrpc": "2.0", "id": message["id"], "result": {"line": line}})
if os.environ.get("LINGER"):
    import time
    time.sleep(60)
sys.exit(int(os.environ.get("CODE", "0")))
"""

TRACED = """
traffic: {{upstreams: {{stdio/tools: {{}}}}, routes: {{tools: {{upstream: stdio/tools{policies}}}}}{more}}}
receivers: {{traffic: {{flush_interval: 10ms}}, otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:4318}}}}}}}}
exporters: {{file: {{path: "{path}"}}}}
service:
  pipelines:
    traces: {{receivers: [otlp, traffic], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
"""


class Client:
    """A client of one server behind a sidecar in this very process; `over` is the exit code when both have ended."""

    def __init__(self, reader: asyncio.StreamReader, says: int, over: "asyncio.Task[int]", behind: command.Served) -> None:
        self._reader = reader
        self._says = says
        self.over = over
        self.behind = behind
        self.hang_up: Callable[[], None]

    def say(self, line: bytes) -> None:
        os.write(self._says, line)

    def says_no_more(self) -> None:
        if self._says >= 0:
            os.close(self._says)
        self._says = -1

    async def hear(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.readline()

    async def asks(self, raw_id: str, method: str, **params: Any) -> dict[str, Any]:
        self.say(request(raw_id, method, **params))
        found: dict[str, Any] = json.loads(await self.hear())
        return found

    async def ends(self) -> int:
        """Say nothing more, and return the exit code."""
        self.says_no_more()
        return await self.code()

    async def code(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.over


def request(raw_id: str, method: str, **params: Any) -> bytes:
    return f'{{"jsonrpc":"2.0", "id":{raw_id},"method":"{method}","params":{json.dumps(params)}}}\n'.encode()


@asynccontextmanager
async def served(*, name: str = "tools", config: Path | None = None, program: str = SERVER, **more: str) -> AsyncIterator[Client]:
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **more}
    words = [sys.executable, "-I", "-S", "-c", program]
    loop = asyncio.get_running_loop()
    behind = command.Served(words, name, str(config) if config else None, environ, loop, their_in, their_out)
    over = asyncio.create_task(behind.run(frozenset()), name="sidecar mcp")
    reader = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(our_in, "rb", buffering=0))
    client = Client(reader, our_out, over, behind)
    client.hang_up = reading.close
    try:
        yield client
    finally:
        if not over.done():
            behind.hear(Caught(signal.SIGKILL, by_kernel=False))
        await asyncio.gather(over, return_exceptions=True)
        client.says_no_more()
        reading.close()


@asynccontextmanager
async def process(*words: str, **streams: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """`sidecar mcp` itself, as a client starts it."""
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **coverage}
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sidecar", "mcp", *words, **{"env": env, "stdin": pipe, "stdout": pipe, "stderr": pipe, **streams}
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.communicate()


@pytest.fixture(autouse=True)
def what_telemetry_says_stays_as_it_was() -> Iterator[None]:
    """Without a backend the command silences it, which is meant for its own process."""
    logger = logging.getLogger("sidecar.telemetry")
    level = logger.level
    yield
    logger.setLevel(level)


def spans(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        span
        for line in lines
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


async def test_messages_pass_both_ways_and_standard_error_is_the_servers() -> None:
    lines = (
        request("1", "tools/call", name="t")
        + b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
        + request('"b"', "ping")
    )
    async with (
        asyncio.timeout(PATIENCE_S),
        process("--", sys.executable, "-I", "-c", SERVER.replace('"CODE", "0"', '"CODE", "3"')) as started,
    ):
        out, err = await started.communicate(lines)
    first, second = (json.loads(line) for line in out.splitlines())
    heard = json.loads(first["result"]["line"])
    written = heard["params"].pop("_meta")
    assert (first["id"], heard, second["id"]) == (1, json.loads(lines.splitlines()[0]), "b")
    assert list(written) == ["traceparent"], "as over HTTP where no config says otherwise"
    assert (started.returncode, err) == (3, b"server is here\n")


async def test_a_client_that_kills_us_takes_the_server_along() -> None:
    async with process("--", sys.executable, "-I", "-c", SERVER) as started:
        assert started.stdin is not None and started.stdout is not None
        started.stdin.write(request("1", "environ"))
        async with asyncio.timeout(PATIENCE_S):
            pid = json.loads(await started.stdout.readline())["result"]["pid"]
            started.kill()
            await started.communicate()
            await eventually(lambda: not is_running(pid), "the end of the server")


async def test_standard_streams_may_be_files(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(request("1", "ping"))
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        async with (
            asyncio.timeout(PATIENCE_S),
            process("--", sys.executable, "-I", "-c", SERVER, stdin=stdin, stdout=stdout) as started,
        ):
            assert await started.wait() == 0
    assert json.loads((tmp_path / "out").read_bytes())["id"] == 1


async def test_signals_are_the_servers() -> None:
    program = SERVER.replace("sys.stderr.write", "signal.signal(signal.SIGTERM, lambda *_: os._exit(42)); sys.stderr.write", 1)
    async with asyncio.timeout(PATIENCE_S), process("--", sys.executable, "-I", "-c", program, start_new_session=True) as started:
        assert started.stderr is not None
        await started.stderr.readline()
        started.terminate()
        assert await started.wait() == 42


async def test_calls_are_spans_of_the_configs_pipelines_and_its_ports_stay_closed(tmp_path: Path) -> None:
    config, path = tmp_path / "sidecar.yaml", tmp_path / "spans.jsonl"
    more = ", listeners: {http: {endpoint: 127.0.0.1:1}}"  # a port that nobody here may bind
    config.write_text(TRACED.format(path=path, policies="", more=more))
    async with served(config=config, SIDECAR_AGENT_ID="bot") as client:
        answer = await client.asks("1", "tools/call", name="add", _meta={"traceparent": TRACEPARENT})
        assert await client.ends() == 0
    told = spans(path)
    inner = next(span for span in told if span["name"] == "tools/call add" and span["kind"] == 3)
    attributes = {each["key"]: next(iter(each["value"].values())) for each in inner["attributes"]}
    assert (attributes["mcp.method.name"], attributes["gen_ai.tool.name"], attributes["network.transport"]) == (
        "tools/call",
        "add",
        "pipe",
    )
    outer = next(span for span in told if span["kind"] == 2)
    assert (outer["spanId"], outer["parentSpanId"], outer["traceId"]) == (
        inner["parentSpanId"],
        TRACEPARENT.split("-")[2],
        inner["traceId"],
    )
    written = json.loads(answer["result"]["line"])["params"]["_meta"]["traceparent"]
    assert written.split("-")[2] == inner["spanId"], "the route of a config writes the context, as it does over HTTP"


async def test_a_session_that_is_over_at_once_loses_no_span(tmp_path: Path) -> None:
    config, path = tmp_path / "sidecar.yaml", tmp_path / "spans.jsonl"
    config.write_text(TRACED.format(path=path, policies="", more=""))
    async with served(config=config) as client:
        client.say(request("1", "ping"))
        assert await client.ends() == 0
    assert {span["name"] for span in spans(path)} == {"ping"}


async def test_exporters_that_do_not_start_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(app: App) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(command, "READY_S", 0.01)
    monkeypatch.setattr(App, "ready", never)
    async with served() as client:
        assert await client.ends() == 0


async def test_a_policy_of_the_config_is_asked(tmp_path: Path) -> None:
    config = tmp_path / "sidecar.yaml"
    more = ", policies: {timeout: {first_byte: 50ms}}"
    config.write_text(TRACED.format(path=tmp_path / "spans", policies=", policies: [timeout]", more=more))
    async with served(config=config) as client:
        answer = await client.asks("1", "wait")
        assert answer["error"]["data"]["code"] == "first_byte_timeout"
        assert await client.ends() == 0


async def test_who_waits_when_the_server_dies_gets_an_error_and_the_code_is_the_servers() -> None:
    async with served() as client:
        client.say(request("1", "wait") + request("2", "die"))
        answers = [json.loads(await client.hear()) for _ in range(2)]
        assert [(answer["id"], answer["error"]["data"]["code"]) for answer in answers] == [
            (1, "upstream_closed"),
            (2, "upstream_closed"),
        ]
        assert (await client.hear(), await client.code()) == (b"", 7)


async def test_a_server_that_closes_its_output_answers_no_more() -> None:
    async with served() as client:
        client.say(request("1", "close"))
        assert json.loads(await client.hear())["error"]["data"]["code"] == "upstream_closed"
        assert (await client.asks("2", "ping"))["error"]["data"]["code"] == "upstream_closed"
        assert await client.ends() == 0


async def test_a_client_that_goes_away_ends_the_session() -> None:
    async with served(CODE="5") as client:
        await client.asks("1", "ping")
        client.hang_up()
        client.say(request("2", "ping"))
        assert await client.code() == 5


@pytest.mark.parametrize(("deaf", "code"), [("", 128 + signal.SIGTERM), ("1", 128 + signal.SIGKILL)])
async def test_a_server_that_does_not_end_is_made_to(deaf: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "GRACE_S", 0.02)
    async with served(LINGER="1", DEAF=deaf) as client:
        await client.asks("1", "ping")
        assert await client.ends() == code


LATE = """
import json, sys, time
asked = [json.loads(line) for line in sys.stdin]  # to the end of its input
time.sleep(0.15)
for message in asked: print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {}}), flush=True)
"""


async def test_answers_that_come_after_the_client_has_said_all_are_still_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "GRACE_S", 0.02)
    async with served(program=LATE) as client:
        client.say(request("1", "tools/call") + request("2", "tools/call"))
        client.says_no_more()
        assert [json.loads(await client.hear())["id"] for _ in range(2)] == [1, 2]
        assert await client.code() in (0, 128 + signal.SIGTERM), "once it has answered it has to end"


@pytest.mark.parametrize(("deaf", "code"), [("", 128 + signal.SIGTERM), ("1", 128 + signal.SIGKILL)])
async def test_a_server_that_neither_answers_nor_ends_is_waited_for_within_a_bound(
    deaf: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GRACE_S", 0.02)
    monkeypatch.setattr(command, "ANSWERS_S", 0.05)
    async with served(LINGER="1", DEAF=deaf) as client:
        await client.asks("0", "ping")
        client.say(request("1", "wait"))
        client.says_no_more()
        assert json.loads(await client.hear())["error"]["data"]["code"] == "upstream_closed"
        assert await client.code() == code


async def test_what_a_policy_holds_when_the_client_has_said_all_still_reaches_the_server(tmp_path: Path) -> None:
    config = tmp_path / "sidecar.yaml"
    more = ", policies: {agent_card: {}}"  # any filter: it makes a task of each call
    config.write_text(TRACED.format(path=tmp_path / "spans", policies=", policies: [agent_card]", more=more))
    async with served(config=config) as client:
        client.say(b"".join(request(str(each), "tools/call") for each in range(20)))
        client.says_no_more()
        assert sorted([json.loads(await client.hear())["id"] for _ in range(20)]) == [*range(20)]
        assert (await client.hear(), await client.code()) == (b"", 0)


HOSTILE = """
import json, os, signal, sys
out = sys.stdout.buffer
def say(data): out.write(data); out.flush()
for line in sys.stdin:
    message = json.loads(line)
    method, head = message["method"], b'{"jsonrpc":"2.0","id":%d,"result":' % message["id"]
    if method == "flood":
        for _ in range(64): os.write(2, b"e" * 65536)
        say(head + b"{}}\\n")
    elif method == "halves":
        for byte in head + b'{"text":"\\xc3\\xbc"}}\\n': say(bytes([byte]))
    elif method == "long": say(head + b'"' + b"x" * (20 << 20) + b'"}\\n')
    elif method == "no_utf_8": say(b"\\xff\\xfe\\n" + head + b'{"text":"\\xff"}}\\n')
    elif method == "no_json": say(b"Server started!\\n\\n[1,2\\n" + head + b"{}}\\n")
    elif method == "die": say(head + b'{"text":"ha'); os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_whatever_a_server_does_its_client_gets_what_it_said_and_an_answer_to_every_call() -> None:
    async with (
        asyncio.timeout(PATIENCE_S),
        process("--", sys.executable, "-I", "-c", HOSTILE, limit=64 << 20, stderr=asyncio.subprocess.DEVNULL) as started,
    ):
        assert started.stdin is not None and started.stdout is not None
        expected = {"flood": 1, "halves": 1, "long": 1, "no_utf_8": 2, "no_json": 4}
        for place, (method, lines) in enumerate(expected.items()):
            started.stdin.write(request(str(place), method))
            said = [await started.stdout.readline() for _ in range(lines)]
            assert said[-1].startswith(b'{"jsonrpc":"2.0","id":%d,"result":' % place), method
            assert len(said[-1]) > (20 << 20) if method == "long" else len(said[-1]) < 100
        started.stdin.write(request("8", "wait") + request("9", "die"))
        errors = [json.loads(await started.stdout.readline()) for _ in range(2)]
        assert [(each["id"], each["error"]["data"]["code"]) for each in errors] == [(8, "upstream_closed"), (9, "upstream_closed")]
        assert await started.stdout.read() == b""
        assert await started.wait() == 128 + signal.SIGKILL


async def test_what_a_server_leaves_running_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LAST_WORDS_S", 0.02)
    async with served(program="import subprocess; subprocess.Popen(['sleep', '2'])") as client:
        assert await client.code() == 0


async def test_before_the_server_has_started_signals_end_us() -> None:
    async with served() as client:
        client.behind.hear(Caught(signal.SIGTERM, by_kernel=False))
        assert await client.code() == 128 + signal.SIGTERM


@pytest.mark.parametrize(("words", "code"), [(["/no/such/program"], 127), (["/"], 126)])
async def test_what_cannot_be_run_has_the_code_of_env(words: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe(), os.pipe()
    behind = command.Served(words, "x", None, {"PATH": os.environ["PATH"]}, asyncio.get_running_loop(), reads[0], writes[1])
    assert await behind.run(frozenset()) == code
    for each in (reads[1], writes[0]):
        os.close(each)


async def test_a_config_with_faults_is_the_sidecars_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with served(config=tmp_path / "none.yaml") as client:
        assert await client.code() == command.SIDECAR_FAILED
    assert "cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize(("protocol", "exporter"), [("grpc", "otlp_grpc"), ("http/protobuf", "otlp_http")])
async def test_without_a_config_spans_go_where_the_environment_says(protocol: str, exporter: str) -> None:
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}
    config = command.Served(["true"], "x", None, environ, asyncio.get_running_loop(), 0, 1).read()
    assert [*config.used("exporters")] == [exporter] and not config.used("traffic.upstreams")


def test_a_server_has_to_be_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp"]) == 2
    assert "which server?" in capfd.readouterr().err


def test_around_one_server_no_port_of_a_config_is_opened(tmp_path: Path) -> None:
    config = command.around(parse(TRACED.format(path=tmp_path / "x", policies="", more="")), server="tools")
    assert [*config.used("traffic.listeners")] == ["mcp_stdio"]
    assert [(name, pipeline.receivers) for name, pipeline in config.service.pipelines.items()] == [("traces", ("traffic",))]
    assert [*config.used("receivers")] == ["traffic"]
    assert not config.prices.genai_prices, "no call of such a server has a price"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_and_server_do_not_notice(mode: str, tmp_path: Path) -> None:
    client = pytest.importorskip("mcp.client.client", reason="the official SDK is not installed (pip install 'mcp>=2')")
    mcp = pytest.importorskip("mcp", reason="as above")
    exceptions = pytest.importorskip("mcp.shared.exceptions", reason="as above")
    (tmp_path / "server.py").write_text(
        "from mcp.server.mcpserver import MCPServer, Context\n"
        "server = MCPServer('golden')\n"
        "@server.tool()\n"
        "async def add(a: int, b: int, ctx: Context) -> int:\n"
        "    await ctx.report_progress(1, 2)\n"
        "    return a + b\n"
        "@server.tool()\n"
        "def die() -> str:\n"
        "    import os; os._exit(7)\n"
        "server.run('stdio')\n"
    )
    words = ["-m", "sidecar", "mcp", "--", sys.executable, str(tmp_path / "server.py")]
    parameters = mcp.StdioServerParameters(command=sys.executable, args=words, env={"PYTHONPATH": str(ROOT)})
    progress: list[float] = []

    async def heard(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    async with asyncio.timeout(PATIENCE_S), client.Client(mcp.stdio_client(parameters), mode=mode) as session:
        result = await session.call_tool("add", {"a": 1, "b": 2}, progress_callback=heard)
        assert (result.structured_content, progress, result.is_error) == ({"result": 3}, [1.0], False)
        with pytest.raises(exceptions.MCPError, match="upstream_closed"):
            await session.call_tool("die", {})
