"""
Real MCP servers and the official Python client: with the sidecar between them they say the same, and the sidecar knows what.

`foreign` is a server of the official Python SDK, `everything` the reference server of the TypeScript SDK.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.model.answered import McpAnswered
from sidecar.model.asked import McpAsked
from sidecar.model.facts import AttemptFinished
from sidecar.model.trace import parse_traceparent
from tests.peers.node import Program, needs_node
from tests.peers.providers.ways import SETTINGS
from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest, config_for, eventually

pytest.importorskip("mcp.server.mcpserver", reason="the official SDK is not installed (pip install 'mcp>=2')")
pytest.importorskip("uvicorn", reason="nothing serves the official SDK's server (pip install uvicorn)")

import httpx2
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.types import CreateMessageResult, ElicitResult, TextContent

from tests.peers.mcp_server import McpServer

pytestmark = pytest.mark.filterwarnings("ignore:.* deprecated as of 2026-07-28")  # sampling and logging: they are still spoken

EVERYTHING = "@modelcontextprotocol/server-everything/dist/index.js"

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True)
class Spoken:
    """A transport and an era; `way` is `stateless`, `sessions` or `sse`."""

    path: str
    way: str

    @property
    def version(self) -> str:
        return "2026-07-28" if self.way == "stateless" else "2025-11-25"


SPOKEN = [
    pytest.param(Spoken("/mcp", "stateless"), id="stateless"),
    pytest.param(Spoken("/mcp", "sessions"), id="sessions"),
    pytest.param(Spoken("/polled", "sessions"), id="resumable-sessions"),
    pytest.param(Spoken("/json", "sessions"), id="json-without-sessions"),
    pytest.param(Spoken("/sse", "sse"), id="http-sse"),
]
STREAMED = [SPOKEN[0], SPOKEN[1], SPOKEN[4]]


class Place:
    """A sidecar before a server, and the URL at which a client finds the server in one of the modes."""

    def __init__(self, sidecar: SidecarUnderTest, direct: str, through: str, prepare: Callable[[bool], None]) -> None:
        self.sidecar = sidecar
        self.direct = direct
        self.through = through
        self._prepare = prepare

    def url(self, *, direct: bool = False) -> str:
        self._prepare(direct)
        return self.direct if direct else self.through

    def read(self, operation: str) -> AttemptFinished:
        """The last attempt with this operation."""
        return next(each for each in reversed(self.sidecar.attempts) if asked(each).operation == operation)


@pytest.fixture
async def between(opened: Opened, mode: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Place]]:
    """`place = await between(server.url)`."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    async def place(url: str, path: str = "/llm/", **upstream: Any) -> Place:
        config = config_for(url, upstream={"url": url, **upstream}, route={"path": path})
        sidecar = await opened(SidecarUnderTest(config))

        def prepare(direct: bool) -> None:
            if mode == "forward" and not direct:
                monkeypatch.setenv("HTTP_PROXY", sidecar.url)
            else:
                monkeypatch.delenv("HTTP_PROXY", raising=False)

        return Place(sidecar, url, url if mode == "forward" else sidecar.url + path.rstrip("/"), prepare)

    return place


@asynccontextmanager
async def client_of(url: str, spoken: Spoken, **more: Any) -> AsyncIterator[Client]:
    """The client as an application makes it."""
    server: Any = sse_client(url + spoken.path) if spoken.way == "sse" else url + spoken.path
    mode = "auto" if spoken.way == "stateless" else "legacy"
    async with asyncio.timeout(15), Client(server, mode=mode, cache=None, **more) as client:
        yield client


async def attempted(call: Awaitable[Any]) -> Any:
    """What came of a call, as JSON would say it."""
    try:
        return (await call).model_dump(mode="json")
    except MCPError as error:
        return ("error", error.error.code, error.error.message)


async def converses(url: str, spoken: Spoken) -> list[Any]:
    """Everything that an application may ask of the server, and what it hears."""
    heard: list[Any] = []

    async def progresses(done: float, total: float | None, message: str | None) -> None:
        heard.append(("progress", done, total, message))

    async def logs(params: Any) -> None:
        heard.append(("log", params.data))

    async def samples(context: Any, params: Any) -> CreateMessageResult:
        heard.append(("sampling", params.max_tokens))
        return CreateMessageResult(role="assistant", content=TextContent(text="sampled"), model="m", stop_reason="endTurn")

    async def elicits(context: Any, params: Any) -> ElicitResult:
        heard.append(("elicitation", params.message))
        return ElicitResult(action="accept", content={"username": "u", "email": "e@example.com", "name": "u"})

    callbacks = {"logging_callback": logs, "sampling_callback": samples, "elicitation_callback": elicits}
    async with client_of(url, spoken, **callbacks) as client:
        said = [client.protocol_version, client.server_info and client.server_info.name]
        said.append(await attempted(client.list_tools()))
        said.append(await attempted(client.call_tool("add", {"a": 1, "b": 2})))
        said.append(await attempted(client.call_tool("add", {"a": "no number"})))
        said.append(await attempted(client.call_tool("test_error_handling")))
        said.append(await attempted(client.call_tool("none")))
        said.append(await attempted(client.call_tool("test_multiple_content_types")))
        said.append(await attempted(client.call_tool("test_tool_with_progress", progress_callback=progresses)))
        said.append(await attempted(client.list_resources()))
        said.append(await attempted(client.read_resource("test://static-binary")))
        said.append(await attempted(client.read_resource("test://template/7/data")))
        said.append(await attempted(client.read_resource("test://none")))
        said.append(await attempted(client.list_prompts()))
        said.append(await attempted(client.get_prompt("test_prompt_with_arguments", {"arg1": "ü", "arg2": "\U0001f600"})))
        if spoken.way == "stateless":
            said.append(await attempted(client.call_tool("test_input_required_result_elicitation")))
        elif spoken.path != "/json":
            said.append(await attempted(client.call_tool("test_tool_with_logging")))
            said.append(await attempted(client.call_tool("test_sampling", {"prompt": "p"})))
            said.append(await attempted(client.call_tool("test_elicitation", {"message": "m"})))
        if spoken.path == "/polled":
            said.append(await attempted(client.call_tool("test_reconnection")))
    return [*said, *heard]


def asked(attempt: AttemptFinished) -> McpAsked:
    assert attempt.dialogue is not None, attempt.passage.target
    assert isinstance(attempt.dialogue.asked, McpAsked)
    return attempt.dialogue.asked


def answered(attempt: AttemptFinished) -> McpAnswered:
    assert attempt.dialogue is not None
    assert isinstance(attempt.dialogue.answered, McpAnswered), attempt.dialogue
    return attempt.dialogue.answered


def of_tool(place: Place, name: str) -> AttemptFinished:
    """The last call of a tool."""
    return next(each for each in reversed(place.sidecar.attempts) if asked(each).target == name)


@pytest.mark.parametrize("spoken", SPOKEN)
async def test_a_client_and_a_server_say_the_same_through_the_sidecar_which_knows_what(
    opened: Opened, between: Any, spoken: Spoken
) -> None:
    server = await opened(McpServer())
    place = await between(server.url)
    direct = await converses(place.url(direct=True), spoken)
    came, server.requests, server.received = sorted(server.requests), [], []
    assert await converses(place.url(), spoken) == direct
    assert sorted(server.requests) == came
    heard = [each[0] for each in direct if isinstance(each, tuple) and isinstance(each[1], float)]
    assert heard == ([] if spoken.path == "/json" else ["progress"] * 3)
    sent = len(server.requests)
    await eventually(lambda: len(place.sidecar.attempts) == sent, "the end of all exchanges")
    assert all(each.dialogue is not None and not each.dialogue.unread for each in place.sidecar.attempts)
    assert not any(each.error for each in place.sidecar.attempts if asked(each).operation != "listen")
    knows(place, server, spoken)


def knows(place: Place, server: McpServer, spoken: Spoken) -> None:
    """The sidecar knows what was called and what came of it."""
    calls = [asked(each) for each in place.sidecar.attempts]
    operations = [each.operation for each in calls if each.operation not in ("listen", "response", "end_session")]
    assert sorted(operations) == sorted(each.method for each in server.received)
    tools = [each.target for each in calls if each.operation == "tools/call"]
    assert sorted(tools) == sorted(each.target for each in server.received if each.method == "tools/call")
    assert asked(of_tool(place, "test_prompt_with_arguments")).operation == "prompts/get"
    assert asked(of_tool(place, "test://template/7/data")).operation == "resources/read"
    if spoken.way != "sse":  # whose messages say no version, but the first
        assert {each.protocol_version for each in calls} == {spoken.version}
    sessions = {each.session for each in calls if each.operation not in ("initialize", "listen")}
    has_sessions = spoken.way != "stateless" and spoken.path != "/json"
    assert len(sessions) == 1
    assert (sessions != {""}) is has_sessions
    if spoken.way == "sse":
        return  # the answers come on the stream, which belongs to no call
    first = answered(place.read("server/discover" if spoken.way == "stateless" else "initialize"))
    assert first.server == "foreign"
    if spoken.way == "sessions":
        assert (first.protocol_version, first.session) == (spoken.version, next(iter(sessions)))
    assert answered(of_tool(place, "add")).is_ended
    assert answered(of_tool(place, "test_multiple_content_types")).content_bytes > 100
    failed = answered(of_tool(place, "test_error_handling"))
    assert (failed.is_tool_error, failed.code) == (True, 0)
    unknown = answered(of_tool(place, "test://none"))
    assert (unknown.is_tool_error, unknown.error_type) == (False, str(unknown.code))
    assert unknown.code < 0
    assert answered(of_tool(place, "test_tool_with_progress")).progress == (0 if spoken.path == "/json" else 3)
    if spoken.path == "/mcp" and spoken.way == "sessions":
        assert answered(of_tool(place, "test_sampling")).server_requests == 1
        assert len([each for each in calls if each.operation == "response"]) == 2
    if spoken.way == "stateless":
        rounds = [each for each in place.sidecar.attempts if asked(each).target == "test_input_required_result_elicitation"]
        assert [answered(each).result_type for each in rounds] == ["input_required", "complete"]


@pytest.mark.parametrize("spoken", STREAMED)
async def test_the_trace_reaches_the_server_in_the_message(opened: Opened, between: Any, spoken: Spoken) -> None:
    server = await opened(McpServer())
    place = await between(server.url)
    async with client_of(place.url(), spoken) as client:
        await client.call_tool("add", {"a": 1, "b": 2})
        ours = server.of("tools/call")
        await client.call_tool("add", {"a": 1, "b": 2}, meta={"traceparent": f"00-{TRACE}-{SPAN}-01", "vendor/x": 1})
        theirs = server.of("tools/call")
    await eventually(lambda: len(place.sidecar.attempts) == len(server.requests), "the end of all exchanges")
    first, second = [each for each in place.sidecar.attempts if asked(each).operation == "tools/call"]
    for attempt, received in ((first, ours), (second, theirs)):
        assert received.meta["traceparent"] == f"00-{attempt.trace_id.hex()}-{attempt.span_id.hex()}-{attempt.flags:02x}"
        parsed = parse_traceparent(received.fields["traceparent"].encode())
        assert parsed is not None
        assert attempt.dialogue is not None
        assert (attempt.dialogue.edits, attempt.dialogue.skipped) == (("meta",), ())
    exchange = next(each for each in place.sidecar.exchanges if each.trace_id == second.trace_id)
    assert (second.trace_id.hex(), exchange.parent_id.hex()) == (TRACE, SPAN)
    assert second.span_id.hex() != SPAN
    assert theirs.meta["vendor/x"] == 1
    assert first.trace_id != second.trace_id


@pytest.mark.parametrize("spoken", STREAMED)
async def test_a_stream_that_stands_open_brings_news_after_a_long_silence(opened: Opened, between: Any, spoken: Spoken) -> None:
    server = await opened(McpServer())
    place = await between(server.url, idle_timeout="100ms")
    news: list[str] = []

    async def hears(message: Any) -> None:
        news.append(getattr(message, "method", type(message).__name__))

    async def listens(client: Client) -> None:
        async with client.listen(tools_list_changed=True, resource_subscriptions=["test://watched-resource"]) as events:
            async for event in events:
                await hears(event)

    more = {} if spoken.way == "stateless" else {"message_handler": hears}
    async with client_of(place.url(), spoken, **more) as client:
        listening = asyncio.create_task(listens(client)) if spoken.way == "stateless" else None
        if spoken.way == "sessions":
            await eventually(lambda: ("GET", spoken.path) in server.requests, "the standing stream")
        elif listening is not None:
            await eventually(lambda: server.received[-1].method == "subscriptions/listen", "the subscription")
        await asyncio.sleep(0.3)  # the silence: three times what a stream that is not meant to stand may be silent
        await client.call_tool("tell")
        await eventually(lambda: len(news) >= 2, "the news")
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    if spoken.way == "stateless":
        assert sorted(news) == ["ResourceUpdated", "ToolsListChanged"]
    else:
        assert sorted(news) == ["notifications/resources/updated", "notifications/tools/list_changed"]
    await eventually(lambda: len(place.sidecar.attempts) == len(server.requests), "the end of all exchanges")
    standing = [each for each in place.sidecar.attempts if asked(each).is_standing]
    assert [asked(each).operation for each in standing] == ["subscriptions/listen" if spoken.way == "stateless" else "listen"]
    assert answered(standing[0]).events >= 2
    assert answered(standing[0]).code == 0
    assert not any(each.error for each in place.sidecar.attempts if each is not standing[0])


@pytest.mark.parametrize("spoken", STREAMED)
async def test_a_call_that_its_client_gives_up_ends_at_the_server(opened: Opened, between: Any, spoken: Spoken) -> None:
    server = await opened(McpServer())
    place = await between(server.url)
    async with client_of(place.url(), spoken) as client:
        call = asyncio.create_task(client.call_tool("wait"))
        await server.waiting.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(5):
            await server.cancelled.wait()
        assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}
    await eventually(lambda: len(place.sidecar.attempts) == len(server.requests), "the end of all exchanges")
    if spoken.way == "stateless":
        assert of_tool(place, "wait").error == "client_gone"
    else:
        assert asked(place.read("notifications/cancelled")).cancels == asked(of_tool(place, "wait")).id


async def test_a_page_from_elsewhere_is_refused_as_the_server_itself_would(opened: Opened, between: Any) -> None:
    server = await opened(McpServer())
    place = await between(server.url)
    body = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {}}
    statuses: list[int] = []
    for direct in (True, False):
        async with httpx2.AsyncClient(headers={"Accept": "application/json, text/event-stream"}) as http:
            url = place.url(direct=direct) + "/mcp"
            origins = ("http://localhost:3000", "http://evil.example")
            statuses += [(await http.post(url, json=body, headers={"Origin": origin})).status_code for origin in origins]
    assert statuses[0] != 403
    assert statuses[1] == 403
    assert statuses[2:] == statuses[:2]


@needs_node
@pytest.mark.parametrize(
    "spoken", [pytest.param(Spoken("/mcp", "sessions"), id="sessions"), pytest.param(Spoken("/sse", "sse"), id="http-sse")]
)
async def test_the_everything_server_says_the_same_through_the_sidecar(opened: Opened, between: Any, spoken: Spoken) -> None:
    server = await opened(Program(EVERYTHING, "sse" if spoken.way == "sse" else "streamableHttp"))
    place = await between(server.url)

    async def asks(url: str) -> list[Any]:
        heard: list[Any] = []

        async def progresses(done: float, total: float | None, message: str | None) -> None:
            heard.append((done, total, message))

        async with client_of(url, spoken) as client:
            said = [
                client.protocol_version,
                await attempted(client.list_tools()),
                await attempted(client.list_resource_templates()),
            ]
            said.append(await attempted(client.call_tool("echo", {"message": "Grüezi"})))
            said.append(await attempted(client.call_tool("get-sum", {"a": 1})))
            said.append(await attempted(client.call_tool("get-tiny-image")))
            said.append(await attempted(client.call_tool("get-structured-content", {"location": "New York"})))
            long = {"duration": 0.1, "steps": 4}
            said.append(await attempted(client.call_tool("trigger-long-running-operation", long, progress_callback=progresses)))
            await eventually(lambda: len(heard) == 4, "progress, which may come on a stream of its own")
            said.append(await attempted(client.get_prompt("args-prompt", {"city": "Bern"})))
            said.append(await attempted(client.read_resource("demo://resource/dynamic/blob/none")))
        return [*said, heard]

    direct = await asks(place.url(direct=True))
    through = await asks(place.url())
    assert through == direct
    assert len(direct[-1]) == 4
    await eventually(lambda: any(asked(each).operation == "resources/read" for each in place.sidecar.attempts), "the last call")
    assert all(not each.dialogue.unread for each in place.sidecar.attempts if each.dialogue is not None)
    if spoken.way == "sessions":
        assert answered(of_tool(place, "trigger-long-running-operation")).progress == 4
        assert answered(of_tool(place, "get-sum")).is_tool_error
        assert answered(place.read("initialize")).server.endswith("everything")


@pytest.mark.parametrize("spoken", SPOKEN[:2])
async def test_a_server_that_cannot_be_reached_is_an_error_of_the_call(
    between: Any, free_port: Callable[[], int], spoken: Spoken
) -> None:
    place = await between(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ExceptionGroup) as told:
        async with client_of(place.url(), spoken):
            pass
    error: BaseException = told.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, MCPError)
    assert error.error.data["code"] == "connect_failed"
    await eventually(lambda: len(place.sidecar.attempts) >= 1, "the end of the exchange")
    assert asked(place.sidecar.attempts[-1]).operation == "initialize"  # where the older handshake was tried, too
