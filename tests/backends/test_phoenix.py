"""
A real backend: Arize Phoenix takes our spans, over HTTP and gRPC, and gives them back with the right parents and meaning.

`make test-backends` installs it into .venv-backends; PHOENIX_BIN names another `phoenix` executable.
"""

import asyncio
import json
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
from aiohttp import web

from sidecar.app import App
from sidecar.config import load
from sidecar.model.content import Content, Kind, Message, Part
from sidecar.runtime.runtime import Runtime
from tests.peers.echo import EchoUpstream
from tests.sidecar_under_test import SidecarProcess
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

    async def asked(self, query: str, **variables: Any) -> dict[str, Any]:
        """What Phoenix' GraphQL API, which its own pages use, says."""
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{self.url}/graphql", json={"query": query, "variables": variables}) as answer,
        ):
            told: dict[str, Any] = await answer.json()
        assert "errors" not in told, told
        data: dict[str, Any] = told["data"]
        return data

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


# --- real calls: agent, sidecar process, endpoint, OTLP, Phoenix ---

MODEL = "gpt-4o-mini-2024-07-18"
WHOLE = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200, "prompt_tokens_details": {"cached_tokens": 400}}
STREAMED = {"prompt_tokens": 50, "completion_tokens": 7, "total_tokens": 57, "completion_tokens_details": {"reasoning_tokens": 3}}
TOOL = {"name": "search", "arguments": {"query": "weather"}}
TASK = {"id": "task-1", "contextId": "context-1", "status": {"state": "TASK_STATE_COMPLETED"}}


class Endpoints:
    """A model, an MCP server and an agent on one free port; what they were asked is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    async def __aenter__(self) -> "Endpoints":
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/mcp", self._call)
        app.router.add_post("/a2a", self._delegate)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _noted(self, request: web.Request) -> Any:
        body = await request.json()
        self.asked.append((request.path, body))
        return body

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = await self._noted(request)
        frame = {"id": "chatcmpl-1", "created": 1, "model": MODEL}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "Fine."}, "finish_reason": "stop"}
            return web.json_response({**frame, "object": "chat.completion", "choices": [choice], "usage": WHOLE})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        frame["object"] = "chat.completion.chunk"
        for delta, reason in (({"role": "assistant", "content": "Fi"}, None), ({"content": "ne."}, None), ({}, "stop")):
            await response.write(_event({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}))
        if (asked.get("stream_options") or {}).get("include_usage"):
            await response.write(_event({**frame, "choices": [], "usage": STREAMED}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _call(self, request: web.Request) -> web.Response:
        message = await self._noted(request)
        result = {"content": [{"type": "text", "text": "19 degrees"}], "isError": False}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async def _delegate(self, request: web.Request) -> web.Response:
        message = await self._noted(request)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {"task": TASK}})


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


SPANS = """
query ($id: ID!) {
  node(id: $id) { ... on Project {
    tokenCountTotal
    costSummary { total { cost } }
    spans(first: 50) { edges { node {
      name spanKind spanId parentId statusCode tokenCountTotal tokenCountPrompt tokenCountCompletion attributes
      costSummary { total { cost } prompt { cost } completion { cost } }
    } } }
  } }
}
"""


async def test_real_calls_through_a_real_process_are_models_tools_and_agents_in_phoenix(phoenix: Phoenix) -> None:
    project, trace_id = "sidecar-process", secrets.token_hex(16)
    async with Endpoints() as endpoints:
        settings = {
            "traffic": {
                "listeners": {"http": {}},
                "upstreams": {
                    "http/llm": {"url": endpoints.url, "dialect": "openai", "provider": "openai"},
                    "http/tools": {"url": endpoints.url, "dialect": "mcp"},
                    "http/packer": {"url": endpoints.url, "dialect": "a2a"},
                },
                "routes": {
                    "llm": {"path": "/llm/", "upstream": "http/llm"},
                    "tools": {"path": "/tools/", "upstream": "http/tools"},
                    "packer": {"path": "/packer/", "upstream": "http/packer"},
                },
            },
            "admin": {"endpoint": f"127.0.0.1:{_free_port()}"},
            "receivers": {"traffic": None},
            "exporters": {"otlp_http/phoenix": {"endpoint": phoenix.url, "headers": {"x-project-name": project}}},
            "service": {"pipelines": {"traces": {"receivers": ["traffic"], "exporters": ["otlp_http/phoenix"]}}},
        }
        async with SidecarProcess(settings, port=_free_port()) as sidecar:
            await _is_ready(settings["admin"]["endpoint"])
            streamed = await _real_calls(f"http://127.0.0.1:{sidecar.port}", f"00-{trace_id}-{'1' * 16}-01")
            found = await phoenix.spans(project, trace_id, 8)
    assert "usage" not in streamed and streamed.endswith("data: [DONE]\n\n"), "the chunk that we asked for is taken out again"
    (written,) = (body["params"]["_meta"]["traceparent"] for path, body in endpoints.asked if path == "/mcp")
    told = await phoenix.asked("query { projects { edges { node { id name } } } }")
    (project_id,) = (each["node"]["id"] for each in told["projects"]["edges"] if each["node"]["name"] == project)
    node = (await phoenix.asked(SPANS, id=project_id))["node"]
    spans = [each["node"] for each in node["spans"]["edges"]]
    leaves = {each["name"]: each for each in spans if each["spanKind"] != "unknown"}
    assert {name: each["spanKind"] for name, each in leaves.items()} == {
        "chat gpt-4o-mini": "llm", "chat gpt-4o-mini-2024-07-18": "llm", "tools/call search": "tool", "SendMessage": "agent"
    }  # fmt: skip
    counts = {
        name: (each["tokenCountPrompt"], each["tokenCountCompletion"], each["tokenCountTotal"]) for name, each in leaves.items()
    }
    assert counts["chat gpt-4o-mini"] == (1000, 200, 1200)
    assert counts["chat gpt-4o-mini-2024-07-18"] == (50, 7, 57)
    assert node["tokenCountTotal"] == 1257, "each call counts once"
    _cost_as_much_as_phoenix_says(leaves)
    model, tool = (json.loads(leaves[name]["attributes"]) for name in ("chat gpt-4o-mini", "tools/call search"))
    assert (model["llm"]["model_name"], model["llm"]["provider"]) == ("gpt-4o-mini", "openai")
    assert model["gen_ai"]["response"]["model"] == MODEL
    assert model["llm"]["token_count"]["prompt_details"]["cache_read"] == 400
    assert tool["tool"]["name"] == "search"
    span_id = next(span_id for span_id, each in found.items() if each["name"] == "tools/call search")
    assert written == f"00-{trace_id}-{span_id}-01", "the server's span would be a child of the one that Phoenix shows"
    servers = {span_id for span_id, each in found.items() if each["span_kind"] == "UNKNOWN"}
    assert len(servers) == 4 and {each["parent_id"] for each in found.values() if each["span_kind"] != "UNKNOWN"} == servers


async def _is_ready(admin: str) -> None:
    """Wait until it has read its prices, too: what is called before costs nobody knows how much."""
    deadline = time.monotonic() + START_S
    async with aiohttp.ClientSession() as client:
        while time.monotonic() < deadline:
            try:
                async with client.get(f"http://{admin}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    pytest.fail("the sidecar never became ready")


def _cost_as_much_as_phoenix_says(leaves: dict[str, Any]) -> None:
    """Phoenix has a price list of its own: two lists and two programs come to the same dollars."""
    for name in ("chat gpt-4o-mini", "chat gpt-4o-mini-2024-07-18"):
        ours = json.loads(leaves[name]["attributes"])["sidecar"]["cost"]
        assert ours["pricing"] == "exact", ours
        assert leaves[name]["costSummary"]["total"]["cost"] == pytest.approx(ours["usd"], rel=1e-6)
    assert [leaves[name]["costSummary"] for name in ("tools/call search", "SendMessage")] == [None, None]


async def _real_calls(sidecar: str, traceparent: str) -> str:
    """One call of each kind, as an agent makes them; returns the stream as the agent saw it."""
    headers = {"traceparent": traceparent, "x-agent-id": "planner", "Authorization": "Bearer demo"}
    messages = [{"role": "user", "content": "How are you?"}]
    whole = {"model": "gpt-4o-mini", "messages": messages}
    stream = {"model": MODEL, "messages": messages, "stream": True}
    tool = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": TOOL}
    part = {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": "pack"}]}
    work = {"jsonrpc": "2.0", "id": 2, "method": "SendMessage", "params": {"message": part}}
    answers = []
    async with aiohttp.ClientSession(headers=headers) as client:
        for path, body, more in (
            ("/llm/v1/chat/completions", whole, {}),
            ("/tools/mcp", tool, {"MCP-Protocol-Version": "2025-11-25", "Accept": "application/json, text/event-stream"}),
            ("/packer/a2a", work, {"A2A-Version": "1.0"}),
            ("/llm/v1/chat/completions", stream, {}),
        ):
            async with client.post(sidecar + path, json=body, headers=more) as answer:
                assert answer.status == 200
                answers.append(await answer.text())
    return answers[-1]
