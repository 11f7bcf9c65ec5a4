"""
A real MCP server of the official Python SDK, all of its transports on one free port of 127.0.0.1.

    async with McpServer() as server:
        ... server.url + "/mcp" ...      # Streamable HTTP, both eras
        ... server.url + "/json" ...     # the same, without sessions, answering in compressed JSON
        ... server.url + "/polled" ...   # the same, keeping events for clients that come back
        ... server.url + "/sse" ...      # HTTP+SSE of 2024-11-05

Its tools, resources and prompts are those that the official conformance suite asks a server for, and some for tests of ours. It
takes no `Host` but its own and no `Origin` but this machine's: the SDK's protection against DNS rebinding. The SDK has to be
there: import this file behind `importorskip`, and let its deprecation warnings pass (MCPDeprecationWarning).
"""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Audio, Context, Image, MCPServer, UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import (
    Completion,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    RequestParams,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import Field
from starlette.middleware.gzip import GZipMiddleware

ORIGINS = ["http://127.0.0.1:*", "http://localhost:*"]
"""Pages that may speak to the server: the SDK's own default."""

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
SILENCE = b"RIFF\x26\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0\x02\0\x10\0data\x02\0\0\0\0\0"

FOR = "It is there for a test."

STEP_S = 0.01
"""How long a tool that works in steps takes for one."""

WHO = {
    "type": "object",
    "properties": {"username": {"type": "string"}, "email": {"type": "string"}},
    "required": ["username", "email"],
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@dataclass
class Received:
    """One message, as it came to the server; `meta` is its `_meta`, `fields` are those of its HTTP request."""

    method: str
    target: str
    version: str
    meta: dict[str, Any]
    fields: Mapping[str, str]


class _Events(EventStore):
    """Keeps what a stream has said, for a client that comes back."""

    def __init__(self) -> None:
        self._kept: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self._kept.append((stream_id, message))
        return str(len(self._kept) - 1)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        stream = self._kept[last][0]
        for number, (of, message) in enumerate(self._kept):
            if number > last and of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


class McpServer:
    """`received` are the messages that came, in order; `cancelled` is set when a tool that waits was told to stop."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.cancelled = asyncio.Event()
        self.waiting = asyncio.Event()
        self.requests: list[tuple[str, str]] = []

    async def __aenter__(self) -> "McpServer":
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        here = TransportSecuritySettings(allowed_hosts=[f"127.0.0.1:{self.port}"], allowed_origins=ORIGINS)
        self._apps = {
            "/mcp": self._made().streamable_http_app(transport_security=here),
            "/json": self._made().streamable_http_app(
                streamable_http_path="/json", json_response=True, stateless_http=True, transport_security=here
            ),
            "/polled": self._made().streamable_http_app(
                streamable_http_path="/polled", event_store=_Events(), retry_interval=20, transport_security=here
            ),
            "/sse": self._made().sse_app(transport_security=here),
        }
        self._apps["/json"].add_middleware(GZipMiddleware, minimum_size=1)
        self._apps["/messages"] = self._apps["/sse"]
        config = uvicorn.Config(
            self._app, interface="asgi3", log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._ending = asyncio.Event()
        started = asyncio.Event()
        self._serving = asyncio.create_task(self._serve(started))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({waiting, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._serving.done():
            self._serving.result()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        await self._serving
        self._socket.close()
        watchers = [task for task in asyncio.all_tasks() if "_shutdown_watcher" in repr(task.get_coro())]
        for watcher in watchers:  # sse-starlette starts one for each loop, and leaves it to the loop's end
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    async def _serve(self, started: asyncio.Event) -> None:
        """
        Run the apps' lifespans, which have to end in the task that they began in, and the server within them.

        Its own `serve` looks ten times a second only whether it is to end, and takes the signals of the process.
        """
        server, config = self._server, self._server.config
        async with AsyncExitStack() as stack:
            for app in {id(app): app for app in self._apps.values()}.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            config.load()
            server.lifespan = config.lifespan_class(config)
            await server.startup(sockets=[self._socket])
            started.set()
            await self._ending.wait()
            await server.shutdown(sockets=[self._socket])

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests.append((scope["method"], scope["path"]))
        place = "/" + scope["path"].split("/")[1]
        await self._apps.get(place, self._apps["/mcp"])(scope, receive, send)

    def of(self, method: str) -> Received:
        """The last message with this method."""
        return next(each for each in reversed(self.received) if each.method == method)

    async def _notes(self, ctx: Any, call_next: Any) -> Any:
        """A middleware of the SDK's: sees each message before its handler."""
        params = ctx.params or {}
        fields = dict(ctx.request.headers) if ctx.request is not None else {}
        meta = dict(params.get("_meta") or {})
        self.received.append(Received(ctx.method, str(params.get("name", "")), ctx.protocol_version, meta, fields))
        return await call_next(ctx)

    def _made(self) -> MCPServer:
        server = MCPServer("foreign", version="3.1", middleware=[self._notes], log_level="CRITICAL")
        _tools(server, self)
        _asking_tools(server)
        _modern_tools(server)
        _resources(server)
        _prompts(server)
        return server


def _tools(server: MCPServer, peer: McpServer) -> None:
    @server.tool(description=FOR)
    def test_simple_text() -> str:
        return "This is a simple text response for testing."

    @server.tool(description=FOR)
    def test_image_content() -> Image:
        return Image(data=PIXEL, format="png")

    @server.tool(description=FOR)
    def test_audio_content() -> Audio:
        return Audio(data=SILENCE, format="wav")

    @server.tool(description=FOR)
    def test_embedded_resource() -> EmbeddedResource:
        return _embedded("test://embedded-resource")

    @server.tool(description=FOR, structured_output=False)
    def test_multiple_content_types() -> list[Any]:
        return [TextContent(text="Multiple content types test:"), _pixel(), _embedded("test://mixed-content-resource")]

    @server.tool(description=FOR)
    async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(text)
            await asyncio.sleep(STEP_S)
        return "logged"

    @server.tool(description=FOR)
    def test_error_handling() -> str:
        raise ValueError("This tool intentionally returns an error for testing")

    @server.tool(description=FOR)
    async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"{done} of 100")
            await asyncio.sleep(STEP_S)
        return "done"

    @server.tool(description=FOR)
    async def test_reconnection(ctx: Context[Any, Any]) -> str:
        await ctx.close_sse_stream()
        await asyncio.sleep(10 * STEP_S)
        return "here again"

    @server.tool(description=FOR)
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool(description=FOR)
    async def wait(ctx: Context[Any, Any]) -> str:
        peer.waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            peer.cancelled.set()
            raise
        return "nobody came"

    @server.tool(description=FOR)
    async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    @server.tool(description=FOR)
    async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
        await ctx.notify_prompts_changed()
        return "changed"

    @server.tool(description=FOR)
    def test_custom_headers(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "",
        text: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Text"})] = "",
    ) -> str:
        return f"{region} {text}"

    @server.tool(description=FOR)
    async def tell(ctx: Context[Any, Any]) -> str:
        await ctx.session.send_resource_updated("test://watched-resource")
        await ctx.session.send_tool_list_changed()
        await ctx.notify_resource_updated("test://watched-resource")
        await ctx.notify_tools_changed()
        return "told"


def _asking_tools(server: MCPServer) -> None:
    """Tools that ask the client something, in the way of the session era."""

    @server.tool(description=FOR)
    async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> str:
        said = SamplingMessage(role="user", content=TextContent(text=prompt))
        answer = await ctx.session.create_message([said], max_tokens=100, related_request_id=ctx.request_id)
        return f"LLM response: {getattr(answer.content, 'text', '')}"

    async def asks(ctx: Context[Any, Any], message: str, schema: dict[str, Any]) -> str:
        answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
        return f"action={answer.action}, content={answer.content}"

    @server.tool(description=FOR)
    async def test_elicitation(message: str, ctx: Context[Any, Any]) -> str:
        return await asks(ctx, message, WHO)

    @server.tool(description=FOR)
    async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> str:
        return await asks(ctx, "Who is it?", PERSON)


def _modern_tools(server: MCPServer) -> None:
    """Tools that ask the client something, in the way of 2026-07-28: the call is answered with what is wanted, and comes again."""

    who = ElicitRequest(params=ElicitRequestFormParams(message="What is your name?", requested_schema=NAME))

    @server.tool(description=FOR)
    async def test_input_required_result_elicitation(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        answer: Any = (ctx.input_responses or {}).get("user_name")
        if answer is None or not (getattr(answer, "content", None) or {}).get("name"):
            return InputRequiredResult(input_requests={"user_name": who})
        return f"Hello, {answer.content['name']}!"

    @server.tool(description=FOR)
    async def test_input_required_result_list_roots(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        answer: Any = (ctx.input_responses or {}).get("client_roots")
        if answer is None:
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return f"{len(answer.roots)} roots"

    @server.tool(description=FOR)
    async def test_input_required_result_request_state(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        if ctx.request_state is None:
            return InputRequiredResult(input_requests={"confirm": who}, request_state="remembered")
        return "state-ok" if ctx.request_state == "remembered" else "another state"


def _resources(server: MCPServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def binary() -> bytes:
        return PIXEL

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        return "watched"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'

    async def nothing(ctx: Any, params: RequestParams) -> EmptyResult:
        return EmptyResult()

    low = server._lowlevel_server
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, nothing)
    low.add_request_handler("logging/setLevel", SetLevelRequestParams, nothing)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, nothing)

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:
        return Completion(values=["Paris", "Park"], total=2, has_more=False)


def _prompts(server: MCPServer) -> None:
    @server.prompt(description=FOR)
    def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(description=FOR)
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(description=FOR)
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's name
        return [UserMessage(content=_embedded(resourceUri))]

    @server.prompt(description=FOR)
    def test_prompt_with_image() -> list[UserMessage]:
        return [UserMessage(content=_pixel())]


def _pixel() -> ImageContent:
    return Image(data=PIXEL, format="png").to_image_content()


def _embedded(uri: str) -> EmbeddedResource:
    return EmbeddedResource(
        resource=TextResourceContents(uri=uri, mime_type="text/plain", text="This is an embedded resource content.")
    )
