"""
A real backend: Arize Phoenix takes our spans, over HTTP and gRPC, and gives them back with the right parents and meaning.

`make test-backends` installs it into .venv-backends; PHOENIX_BIN names another `phoenix` executable.
"""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sidecar.app import App
from sidecar.config import load
from sidecar.model.content import Content, Kind, Message, Part
from sidecar.runtime.runtime import Runtime
from tests.peers.echo import EchoUpstream
from tests.telemetry.dialogues import chat, delegation, tool_call
from tests.telemetry.facts import attempt, exchange
from tests.telemetry.requests import traces

pytestmark = pytest.mark.backend

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 120.0
"""How long it may take to start: it migrates its database the first time."""
STORED_S = 30.0
"""How long a span may take to be readable: it is stored in the background after it was taken."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Phoenix:
    """A Phoenix that runs, and what it knows."""

    http_port: int
    grpc_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    async def spans(self, project: str, trace_id: str, count: int) -> dict[str, dict[str, Any]]:
        """The spans of a trace by their id, once there are so many."""
        deadline = time.monotonic() + STORED_S
        found: list[dict[str, Any]] = []
        async with aiohttp.ClientSession() as client:
            while time.monotonic() < deadline and len(found) < count:
                await asyncio.sleep(0.2)
                async with client.get(f"{self.url}/v1/projects/{project}/spans", params={"limit": "100"}) as answer:
                    data = (await answer.json())["data"] if answer.status == 200 else []
                found = [span for span in data if span["context"]["trace_id"] == trace_id]
        assert len(found) == count, found
        return {span["context"]["span_id"]: span for span in found}


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """A Phoenix in a process of its own, with an empty database."""
    program = os.environ.get("PHOENIX_BIN") or str(ROOT / ".venv-backends" / "bin" / "phoenix")
    if shutil.which(program) is None:
        pytest.skip(f"no Phoenix at {program}: run `make test-backends`, or name one with PHOENIX_BIN")
    folder = tmp_path_factory.mktemp("phoenix")
    running = Phoenix(_free_port(), _free_port())
    environ = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and not name.startswith("OTEL_")}
    environ |= {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(running.http_port),
        "PHOENIX_GRPC_PORT": str(running.grpc_port),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen([program, "serve"], env=environ, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_until_ready(running, process, folder / "log")
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def _wait_until_ready(phoenix: Phoenix, process: subprocess.Popen[bytes], log: Path) -> None:
    async def answers() -> bool:
        try:
            async with aiohttp.ClientSession() as client, client.get(f"{phoenix.url}/healthz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    deadline = time.monotonic() + START_S
    while not asyncio.run(answers()):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        time.sleep(0.2)


@pytest.fixture
async def upstream() -> AsyncIterator[EchoUpstream]:
    async with EchoUpstream() as running:
        yield running


def config(phoenix: Phoenix, upstream: EchoUpstream, exporter: str, project: str) -> dict[str, Any]:
    """The sidecar between an agent and an upstream, with this exporter towards Phoenix."""
    exporters = {
        "otlp_http/phoenix": {"endpoint": phoenix.url, "compression": "gzip", "headers": {"x-project-name": project}},
        "otlp_grpc/phoenix": {
            "endpoint": f"127.0.0.1:{phoenix.grpc_port}",
            "tls": {"insecure": True},
            "headers": {"x-project-name": project},
        },
    }
    return {
        "traffic": {
            "listeners": {"http": {"endpoint": "127.0.0.1:0"}},
            "upstreams": {"http/llm": {"url": upstream.url}},
            "routes": {"llm": {"path": "/llm/", "upstream": "http/llm"}},
        },
        "receivers": {"traffic": None, "otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}}},
        "exporters": exporters,
        "service": {"pipelines": {"traces": {"receivers": ["traffic", "otlp"], "exporters": [exporter]}}},
        "admin": {"endpoint": "127.0.0.1:0"},
    }


@pytest.mark.parametrize("mode", ["gateway", "forward"])
@pytest.mark.parametrize("exporter", ["otlp_http/phoenix", "otlp_grpc/phoenix"])
async def test_a_call_through_the_sidecar_is_read_back_with_the_right_parents(
    phoenix: Phoenix, upstream: EchoUpstream, exporter: str, mode: str
) -> None:
    project = f"sidecar-{exporter.partition('/')[0]}-{mode}"
    trace_id = secrets.token_hex(16)
    agents = traces(1)
    resource = agents.resource_spans[0].resource
    resource.attributes.add(key="openinference.project.name").value.string_value = project  # gRPC heeds no x-project-name
    (agent_span,) = agents.resource_spans[0].scope_spans[0].spans
    agent_span.trace_id = bytes.fromhex(trace_id)
    agent_span.span_id = secrets.token_bytes(8)
    environ = {"OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={project}"}
    app = App(load(yaml.safe_dump(config(phoenix, upstream, exporter, project)), environ=environ), runtime=Runtime(environ=environ))
    await app.start()
    try:
        await app.ready()
        await _calls(app, upstream, mode, f"00-{trace_id}-{agent_span.span_id.hex()}-01")
        await _sends_own_span(app, agents.SerializeToString())
        found = await phoenix.spans(project, trace_id, 3)
    finally:
        await app.stop()
    agent = found.pop(agent_span.span_id.hex())
    server = next(span for span in found.values() if span["parent_id"] == agent["context"]["span_id"])
    client = next(span for span in found.values() if span is not server)
    assert client["parent_id"] == server["context"]["span_id"]
    assert agent["parent_id"] is None
    assert server["name"] == ("POST /llm/" if mode == "gateway" else "POST")
    assert (client["name"], client["status_code"], client["span_kind"]) == ("chat m", "UNSET", "LLM")
    assert server["span_kind"] == "UNKNOWN"
    attributes = client["attributes"]
    assert attributes["url.full"] == f"{upstream.url}/v1/chat/completions"
    assert attributes["http.response.status_code"] == 200
    assert attributes["gen_ai.agent.id"] == "support-bot"
    assert server["start_time"] <= client["start_time"] <= client["end_time"]


async def _calls(app: App, upstream: EchoUpstream, mode: str, traceparent: str) -> None:
    proxy = "http://{}:{}".format(*app.endpoints["traffic.listeners.http"])
    base, through = (f"{proxy}/llm", None) if mode == "gateway" else (upstream.url, proxy)
    headers = {"traceparent": traceparent, "x-agent-id": "support-bot"}
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{base}/v1/chat/completions", json={"model": "m"}, headers=headers, proxy=through) as answer,
    ):
        assert answer.status == 200
        await answer.read()


async def _sends_own_span(app: App, body: bytes) -> None:
    """The agent's own span takes the way of its SDK: to the sidecar's OTLP receiver."""
    url = "http://{}:{}/v1/traces".format(*app.endpoints["receivers.otlp.protocols.http"])
    headers = {"Content-Type": "application/x-protobuf"}
    async with aiohttp.ClientSession() as client, client.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200


async def test_models_tools_and_agents_are_seen_as_what_they_are(phoenix: Phoenix, upstream: EchoUpstream) -> None:
    project, trace_id = "sidecar-dialogues", secrets.token_bytes(16)
    environ = {"OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={project}"}
    app = App(
        load(yaml.safe_dump(config(phoenix, upstream, "otlp_http/phoenix", project)), environ=environ), runtime=Runtime(environ=environ)
    )
    content = Content(
        instructions=[Part(Kind.TEXT, "Be brief.")],
        input=[Message("user", [Part(Kind.TEXT, "How are you? Answer me@example.com")])],
        output=[Message("assistant", [Part(Kind.TEXT, "Fine.")], finish_reason="stop")],
    )
    said = {
        "LLM": chat(content=content),
        "EMBEDDING": chat(operation="embeddings", model="text-embedding-3-small", streams=False, first_content_s=0.0),
        "TOOL": tool_call(content=Content(arguments=b'{"query":"weather"}', result=b'{"content":[]}')),
        "AGENT": delegation(),
    }
    leaves, others = {}, []
    await app.start()
    try:
        await app.ready()
        for kind, dialogue in said.items():
            call = exchange(trace_id=trace_id, parent_id=b"", span_id=secrets.token_bytes(8), dialogue=dialogue)
            leaf = attempt(trace_id=trace_id, parent_id=call.span_id, span_id=secrets.token_bytes(8), dialogue=dialogue)
            leaves[kind] = leaf.span_id.hex()
            others.append(call.span_id.hex())
            app.runtime.bus.publish(leaf)
            app.runtime.bus.publish(call)
        found = await phoenix.spans(project, trace_id.hex(), 2 * len(said))
    finally:
        await app.stop()
    assert {kind: found[span_id]["span_kind"] for kind, span_id in leaves.items()} == {kind: kind for kind in said}
    assert {found[span_id]["span_kind"] for span_id in others} == {"UNKNOWN"}, "one leaf for each call, and nothing twice"
    model, tool = found[leaves["LLM"]], found[leaves["TOOL"]]
    assert (model["name"], tool["name"], found[leaves["AGENT"]]["name"]) == ("chat gpt-4o-mini", "tools/call search", "SendMessage")
    attributes = model["attributes"]
    assert attributes["llm.model_name"] == "gpt-4o-mini"
    assert attributes["llm.provider"] == "openai"
    assert attributes["llm.token_count.prompt"] == 1000
    assert attributes["llm.token_count.completion"] == 200
    assert attributes["llm.token_count.total"] == 1200
    assert attributes["llm.token_count.prompt_details.cache_read"] == 400
    assert attributes["llm.token_count.prompt_details.cache_write"] == 100
    assert attributes["sidecar.cost.nano_usd"] == 270_000
    assert attributes["llm.input_messages.0.message.role"] == "system"
    assert attributes["llm.input_messages.1.message.content"] == "How are you? Answer [email]"
    assert tool["attributes"]["tool.name"] == "search"
    assert tool["attributes"]["tool.parameters.query"] == "weather"
    assert not [key for span_id in others for key in found[span_id]["attributes"] if "token_count" in key or "cost" in key]
