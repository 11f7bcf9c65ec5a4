"""
Upstreams that nobody here wrote: `@copilotkit/aimock` speaks for eight providers, MCP and A2A, and injects errors of its own.

What an application gets from it through the sidecar is what it gets without; and the sidecar has understood what it was.
"""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from sidecar.model.answered import A2aAnswered, McpAnswered, ModelAnswered
from sidecar.model.asked import A2aAsked, McpAsked, ModelAsked
from sidecar.model.facts import AttemptFinished
from tests.peers.node import NODE, PACKAGES, Program, needs_node
from tests.peers.providers.ways import SETTINGS
from tests.repository import ROOT
from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest, config_for

pytestmark = needs_node

AIMOCK = "@copilotkit/aimock/dist/aimock-cli.js"

TEXT = "Grüezi mitenand \U0001f600, how are you?"
ARGUMENTS = '{"city":"Zürich"}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

FIXTURES: list[dict[str, Any]] = [
    {"match": {"userMessage": "hello"}, "response": {"content": TEXT, "usage": USAGE}},
    {
        "match": {"userMessage": "weather"},
        "response": {"toolCalls": [{"name": "weather", "arguments": ARGUMENTS, "id": "call_1"}], "usage": USAGE},
    },
    {"match": {"userMessage": "short"}, "response": {"content": TEXT, "usage": USAGE, "finishReason": "length"}},
    {"match": {"userMessage": "limit"}, "response": {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429, "retryAfter": 7}},
    {"match": {"userMessage": "broken"}, "response": {"error": {"message": "oops", "type": "server_error"}, "status": 500}},
    {"match": {"userMessage": "busy"}, "response": {"error": {"message": "busy", "type": "overloaded_error"}, "status": 503}},
    {"match": {"userMessage": "torn"}, "response": {"content": TEXT * 3}, "truncateAfterChunks": 3, "latency": 10},
    {"match": {"inputText": "ü"}, "response": {"embedding": [0.25, -0.5, 0.125, 1]}},
    {"match": {"userMessage": "dropped"}, "response": {"content": TEXT}, "chaos": {"disconnectRate": 1.0}},
    {"match": {"userMessage": "garbage"}, "response": {"content": TEXT}, "chaos": {"malformedRate": 1.0}},
]  # fmt: skip

CONFIG: dict[str, Any] = {
    "strict": True,
    "llm": {"chunkSize": 5, "logLevel": "silent"},
    "mcp": {
        "path": "/mcp",
        "serverInfo": {"name": "mocked", "version": "1"},
        "tools": [
            {
                "name": "search",
                "description": "Searches.",
                "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}}},
                "result": "Found 3.",
            }
        ],
    },
    "a2a": {
        "path": "/a2a",
        "agents": [
            {
                "name": "mocked-agent",
                "description": "Agrees.",
                "version": "1.0.0",
                "capabilities": {"streaming": True},
                "messages": [{"pattern": "Will", "parts": [{"text": "Yes."}]}],
            }
        ],
    },
}

OF_THE_MOMENT = re.compile(
    r"\b(chatcmpl|msg|resp|fc|rs|gen|req|call|toolu|cmpl|item)[-_][\w-]{8,}"  # ids
    r"|[0-9a-f]{8}-[0-9a-f-]{27}"
    r"|\b1[78]\d{8}\b"  # times in seconds
    r"|20\d\d-\d\d-\d\dT[\d:.]+Z"
    r"|127\.0\.0\.1:\d+(/llm)?"
)
"""What aimock makes up anew for each call, and where it is."""

Application = Callable[[str], Awaitable[list[Any]]]


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder: Path = tmp_path_factory.mktemp("aimock")
    fixtures, config = folder / "fixtures.json", folder / "config.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    config.write_text(json.dumps({**CONFIG, "llm": {**CONFIG["llm"], "fixtures": str(fixtures)}}))
    with Program(AIMOCK, "--config", str(config), "--port", "{port}") as program:
        yield program


# ── what applications do ─────────────────────────────────────────────────────────────────────────────────────────────


def plain(thing: Any) -> Any:
    return thing.model_dump(mode="json") if hasattr(thing, "model_dump") else thing


@asynccontextmanager
async def of_openai(url: str) -> Any:
    async with openai.AsyncOpenAI(api_key="sk-test", base_url=f"{url}/v1", max_retries=0) as sdk:
        yield sdk


def chats(say: str, *, streams: bool = False, **more: Any) -> Application:
    async def application(url: str) -> list[Any]:
        async with of_openai(url) as sdk:
            messages = [{"role": "user", "content": say}]
            answer = await sdk.chat.completions.create(model="gpt-5", messages=messages, stream=streams, **more)
            return [chunk async for chunk in answer] if streams else [answer]

    return application


def responds(say: str, *, streams: bool = False) -> Application:
    async def application(url: str) -> list[Any]:
        async with of_openai(url) as sdk:
            answer = await sdk.responses.create(model="gpt-5", input=say, stream=streams)
            return [event async for event in answer] if streams else [answer]

    return application


async def embeds(url: str) -> list[Any]:
    async with of_openai(url) as sdk:
        answer = await sdk.embeddings.create(model="text-embedding-3-small", input=["a", "ü"])
        return [len(answer.data), answer.data[1].embedding[:4], answer.model]


def asks_claude(say: str, *, streams: bool = False) -> Application:
    async def application(url: str) -> list[Any]:
        async with anthropic.AsyncAnthropic(api_key="sk-test", base_url=url, max_retries=0) as sdk:
            asked: dict[str, Any] = {
                "model": "claude-sonnet-4-6",
                "max_tokens": 99,
                "messages": [{"role": "user", "content": say}],
            }
            if not streams:
                return [await sdk.messages.create(**asked)]
            async with sdk.messages.stream(**asked) as stream:
                return [event async for event in stream]

    return application


def posts(path: str, **body: Any) -> Application:
    """A client without an SDK: what comes counts to the last byte."""

    async def application(url: str) -> list[Any]:
        async with httpx2.AsyncClient(headers={"Accept": "application/json, text/event-stream"}) as http:
            answer = await http.post(url + path, json=body)
            said = [answer.status_code, answer.headers["content-type"]]
            return [*said, without_moment(answer.content) if b"eventstream" in said[1].encode() else answer.text]

    return application


def without_moment(frames: bytes) -> int:
    """Of Bedrock's frames, whose checksums change with the ids in them, the length."""
    return len(frames)


def calls_tool(name: str) -> Application:
    async def application(url: str) -> list[Any]:
        fields = {"Accept": "application/json, text/event-stream"}
        async with httpx2.AsyncClient(headers=fields) as http:
            begin = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
            first = await http.post(f"{url}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin})
            http.headers["Mcp-Session-Id"] = first.headers["mcp-session-id"]
            await http.post(f"{url}/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
            call = {"name": name, "arguments": {"query": "x"}}
            answer = await http.post(f"{url}/mcp", json={"jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": call})
            return [first.json(), answer.status_code, answer.json()]

    return application


async def sends_message(url: str) -> list[Any]:
    message = {"role": "ROLE_USER", "messageId": "m1", "parts": [{"text": "Will you?"}]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
    async with httpx2.AsyncClient(headers={"A2A-Version": "1.0"}) as http:
        answer = await http.post(f"{url}/a2a", json=call)
        return [answer.status_code, answer.json()]


# ── what is expected of it ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Scene:
    """
    What an application does, the error that it sees, and what the sidecar has to have understood.

    `usage` are tokens in and out, None where aimock tells none.
    """

    name: str
    application: Application
    dialect: str
    model: str
    usage: tuple[int, int] | None = (11, 7)
    finish: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    raises: str = ""
    error_type: str = ""
    is_ended: bool = True
    operation: str = "chat"


CALL = (("weather", ARGUMENTS),)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
GENERATE = "/v1beta/models/gemini-2.5-pro"
CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
SAID = [{"role": "user", "content": "hello"}]
FAILED: dict[str, Any] = {"usage": None}


def gpt(name: str, application: Application, finish: str = "stop", **more: Any) -> Scene:
    return Scene(f"chat-{name}", application, "openai", "gpt-5", finish=finish, **more)


def response(name: str, application: Application, finish: str = "completed", **more: Any) -> Scene:
    return Scene(f"responses-{name}", application, "openai", "gpt-5", finish=finish, **more)


def claude(name: str, application: Application, finish: str = "end_turn", **more: Any) -> Scene:
    return Scene(f"anthropic-{name}", application, "anthropic", "claude-sonnet-4-6", finish=finish, **more)


SCENES = [
    gpt("ok", chats("hello")),
    gpt("stream", chats("hello", streams=True)),
    gpt("stream-with-usage", chats("hello", streams=True, stream_options={"include_usage": True})),
    gpt("tool", chats("weather", tools=[TOOL]), "tool_calls", tools=CALL),
    gpt("stream-tool", chats("weather", streams=True, tools=[TOOL]), "tool_calls", tools=CALL),
    gpt("length", chats("short"), "length"),
    gpt("429", chats("limit"), "", raises="RateLimitError", error_type="rate_limit_error", **FAILED),
    gpt("500", chats("broken"), "", raises="InternalServerError", error_type="server_error", **FAILED),
    gpt("503", chats("busy", streams=True), "", raises="InternalServerError", error_type="overloaded_error", **FAILED),
    gpt("torn", chats("torn", streams=True), "", raises="APIConnectionError", is_ended=False, **FAILED),
    gpt("garbage", chats("garbage"), "", raises="JSONDecodeError", **FAILED),
    response("ok", responds("hello")),
    response("stream", responds("hello", streams=True)),
    response("tool", responds("weather"), tools=CALL),
    response("stream-tool", responds("weather", streams=True), tools=CALL),
    response("429", responds("limit"), "", raises="RateLimitError", error_type="rate_limit_error", **FAILED),
    Scene("embeddings", embeds, "openai", "text-embedding-3-small", usage=None, operation="embeddings"),
    claude("ok", asks_claude("hello")),
    claude("stream", asks_claude("hello", streams=True)),
    claude("tool", asks_claude("weather"), "tool_use", tools=CALL),
    claude("stream-tool", asks_claude("weather", streams=True), "tool_use", tools=CALL),
    claude("429", asks_claude("limit", streams=True), "", raises="RateLimitError", error_type="rate_limit_error", **FAILED),
    claude("503", asks_claude("busy"), "", raises="ServiceUnavailableError", error_type="overloaded_error", **FAILED),
    Scene("gemini-ok", posts(f"{GENERATE}:generateContent", **GEMINI), "gemini", "gemini-2.5-pro", finish="STOP", operation="generate_content"),
    Scene("gemini-stream", posts(f"{GENERATE}:streamGenerateContent?alt=sse", **GEMINI), "gemini", "gemini-2.5-pro", finish="STOP", operation="generate_content"),
    Scene("ollama-ok", posts("/api/chat", model="llama3", messages=SAID, stream=False), "ollama", "llama3", (0, 0), finish="stop"),
    Scene("ollama-stream", posts("/api/chat", model="llama3", messages=SAID), "ollama", "llama3", (0, 0), finish="stop"),
    Scene("cohere-ok", posts("/v2/chat", model="command-a", messages=SAID), "cohere", "command-a", finish="COMPLETE"),
    Scene("cohere-stream", posts("/v2/chat", model="command-a", messages=SAID, stream=True), "cohere", "command-a", finish="COMPLETE"),
    Scene("bedrock-ok", posts(f"/model/{CLAUDE}/converse", **CONVERSE), "bedrock", CLAUDE, finish="end_turn"),
    Scene("bedrock-stream", posts(f"/model/{CLAUDE}/converse-stream", **CONVERSE), "bedrock", CLAUDE, finish="end_turn"),
]  # fmt: skip


class Ways:
    """aimock, and a sidecar before it; `said` is what an application got, `attempts` what the sidecar understood of the last call."""

    def __init__(self, upstream: Program, sidecar: SidecarUnderTest, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._upstream = upstream
        self.sidecar = sidecar
        self._mode = mode
        self._monkeypatch = monkeypatch
        self.tools: tuple[tuple[str, str], ...] = ()
        sidecar.runtime.bus.listen([AttemptFinished], self._keep_tools)

    def _keep_tools(self, attempt: AttemptFinished) -> None:
        """What tools are to be called with is forgotten once all who listen have heard it."""
        answered = attempt.dialogue.answered if attempt.dialogue is not None else None
        calls = answered.tool_calls if isinstance(answered, ModelAnswered) else []
        self.tools = tuple((call.name, call.arguments.decode()) for call in calls)

    async def compare(self, application: Application, raises: str = "") -> AttemptFinished:
        """Let the application run without and with the sidecar, compare, and return the last attempt."""
        direct, through = await self.both(application)
        assert through == direct
        assert direct[0] == raises, direct
        return self.sidecar.attempts[-1]

    async def both(self, application: Application) -> tuple[tuple[str, str], tuple[str, str]]:
        """What an application gets without and with the sidecar: the class of its error, and what it got as JSON."""
        direct = await self._goes(application, self._upstream.url)
        with self._monkeypatch.context() as patch:
            if self._mode == "forward":
                patch.setenv("HTTP_PROXY", self.sidecar.url)
                through = await self._goes(application, self._upstream.url)
            else:
                through = await self._goes(application, f"{self.sidecar.url}/llm")
        await self.sidecar.finished()
        return direct, through

    async def _goes(self, application: Application, url: str) -> tuple[str, str]:
        try:
            said, raised = [plain(each) for each in await application(url)], ""
        except Exception as error:
            said, raised = [str(error), getattr(error, "status_code", None), getattr(error, "body", None)], type(error).__name__
        return raised, OF_THE_MOMENT.sub("…", json.dumps(said, ensure_ascii=False))


@pytest.fixture
async def ways(aimock: Program, opened: Opened, mode: str, monkeypatch: pytest.MonkeyPatch) -> Ways:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    config = config_for(aimock.url, upstream={"url": aimock.url})
    config["prices"] = {"genai_prices": False}
    return Ways(aimock, await opened(SidecarUnderTest(config)), mode, monkeypatch)


def understood(attempt: AttemptFinished) -> tuple[Any, Any]:
    assert attempt.dialogue is not None, attempt.passage.target
    assert attempt.dialogue.unread == "", attempt.dialogue
    return attempt.dialogue.asked, attempt.dialogue.answered


@pytest.mark.parametrize("scene", [pytest.param(each, id=each.name) for each in SCENES])
async def test_a_model_answers_the_same_through_the_sidecar_which_knows_what(ways: Ways, scene: Scene) -> None:
    attempt = await ways.compare(scene.application, scene.raises)
    if scene.raises == "JSONDecodeError":
        assert attempt.dialogue is not None
        assert attempt.dialogue.unread == "unreadable"
        return
    asked, answered = understood(attempt)
    assert isinstance(asked, ModelAsked)
    assert isinstance(answered, ModelAnswered)
    assert (asked.dialect, asked.model, asked.operation) == (scene.dialect, scene.model, scene.operation)
    assert (answered.error_type, answered.is_ended) == (scene.error_type, scene.is_ended)
    assert answered.finish_reasons == ([scene.finish] if scene.finish else [])
    assert ways.tools == scene.tools
    used = answered.usage
    if scene.usage is None:
        assert used is None or used.output_total == 0
    else:
        assert used is not None
        assert (used.input_total, used.output_total) == scene.usage


async def test_a_connection_that_aimock_drops_is_a_failure_with_and_without(ways: Ways) -> None:
    direct, through = await ways.both(chats("dropped"))
    assert direct[0] == "APIConnectionError"
    assert through[0] == "InternalServerError"
    assert "502" in through[1]
    assert ways.sidecar.attempts[-1].error == "upstream_closed"


async def test_a_mocked_mcp_server_answers_the_same(ways: Ways) -> None:
    await ways.compare(calls_tool("search"))
    await ways.sidecar.finished(3)
    attempt = ways.sidecar.attempts[-1]
    asked, answered = understood(attempt)
    assert isinstance(asked, McpAsked)
    assert isinstance(answered, McpAnswered)
    assert (asked.operation, asked.target, asked.id) == ("tools/call", "search", "two")
    assert asked.session == ways.sidecar.attempts[0].dialogue.answered.session != ""
    assert (answered.is_ended, answered.is_tool_error, answered.content_bytes) == (True, False, 8)


async def test_a_mocked_agent_answers_the_same(ways: Ways) -> None:
    asked, answered = understood(await ways.compare(sends_message))
    assert isinstance(asked, A2aAsked)
    assert isinstance(answered, A2aAnswered)
    assert (asked.operation, asked.message, asked.protocol_version) == ("SendMessage", "m1", "1.0")
    assert answered.is_ended
    assert answered.error_type == ""


EVERYTHING = "@modelcontextprotocol/server-everything/dist/index.js"


async def test_a_server_over_stdio_does_not_mind_the_sidecar_before_it() -> None:
    """Its SDK writes the id behind the result, and refuses parameters that it does not know."""
    mcp = pytest.importorskip("mcp", reason="the official SDK is not installed (pip install 'mcp>=2')")
    client = pytest.importorskip("mcp.client.client", reason="as above")
    words = ["-m", "sidecar", "mcp", "--", str(NODE), str(PACKAGES / EVERYTHING), "stdio"]
    parameters = mcp.StdioServerParameters(command=sys.executable, args=words, env={"PYTHONPATH": str(ROOT)})
    async with asyncio.timeout(20), client.Client(mcp.stdio_client(parameters)) as session:
        assert len((await session.list_tools()).tools) > 5
        assert (await session.call_tool("echo", {"message": TEXT})).content[0].text == f"Echo: {TEXT}"
        assert (await session.call_tool("get-sum", {"a": 1})).is_error
        assert (await session.list_resources()).resources
