import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from sidecar.dialects import mcp
from sidecar.dialects.dialect import Change, Clamp, Dialect, Heading, IncludeUsage, Meta, Reroute, Unreadable
from sidecar.dialects.mcp.questions import message_of
from sidecar.model.answered import Answered
from sidecar.model.asked import McpAsked
from sidecar.model.errors import CODES, Refused

CALL = message_of(b'{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"name":"t"}}')
META = Meta(b"00-p", b"a=b", b"k=v")


def test_it_is_a_dialect() -> None:
    dialect: Dialect = mcp
    assert dialect.name == "mcp"
    assert dialect.takes_out(CALL, META) is None


@pytest.mark.parametrize("code", CODES)
def test_no_error_of_ours_looks_like_another_era_or_a_lost_session(code: str) -> None:
    spoken = mcp.error(Refused(code), CALL)
    assert spoken.status not in (200, 400, 401, 404, 405) and spoken.status >= 400
    assert (spoken.content_type, json.loads(spoken.body)["id"], json.loads(spoken.body)["error"]["data"]["code"]) == (
        "application/json",
        "7",
        code,
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("draining", 503),
        ("connect_timeout", 504),
        ("host_refused", 403),
        ("route_unknown", 403),
        ("bad_header", 403),
        ("body_bytes", 413),
    ],
)
def test_a_status_that_says_error_and_nothing_else_stays(code: str, status: int) -> None:
    assert mcp.error(Refused(code), CALL).status == status


def test_an_error_says_when_to_come_again() -> None:
    assert mcp.error(Refused("draining", retry_after_s=1.2), None).fields == (("Retry-After", "2"),)


def test_an_error_before_the_body_was_read_has_no_id() -> None:
    assert json.loads(mcp.error(Refused("draining"), None).body)["id"] is None


def test_a_cut_stream_ends_with_an_answer() -> None:
    reader = mcp.reader(CALL, 200, "text/event-stream", {})
    reader.feed(b'data: {"jsonrpc":"2.0","id":"7","res')
    reader.feed(mcp.ending(CALL, reader.answered, "stopped"))
    assert (reader.answered.is_ended, reader.answered.error_type) == (True, "-32019")


def test_only_who_waits_for_an_answer_gets_an_ending() -> None:
    for body in (b'{"method":"notifications/initialized"}', b'{"id":1,"result":{}}'):
        assert mcp.ending(message_of(body), Answered(), "stopped") == b""
    assert mcp.ending(mcp.request("listen", Heading("GET", "/mcp"), b""), Answered(), "stopped") == b""
    assert mcp.ending(CALL, Answered(is_ended=True), "stopped") == b""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":"7","method":"ping"}', b'{"id":"7","method":"ping","params":{"_meta":{"traceparent":"00-p","tracestate":"a=b","baggage":"k=v"}}}'),
        (b'{"id":"7","params":{},"method":"x"}', b'{"id":"7","params":{"_meta":{"traceparent":"00-p","tracestate":"a=b","baggage":"k=v"}},"method":"x"}'),
        (b'{"id":"7","params":null,"method":"x"}', b'{"id":"7","params":{"_meta":{"traceparent":"00-p","tracestate":"a=b","baggage":"k=v"}},"method":"x"}'),
        (b'{"id":"7","params":{"_meta":null},"method":"x"}', b'{"id":"7","params":{"_meta":{"traceparent":"00-p","tracestate":"a=b","baggage":"k=v"}},"method":"x"}'),
        (b' {"id":"7","method":"x","params":{"_meta": {"baggage":"o", "progressToken":1.0}, "a":[1 ,2]}}\n', b' {"id":"7","method":"x","params":{"_meta": {"baggage":"k=v", "progressToken":1.0,"traceparent":"00-p","tracestate":"a=b"}, "a":[1 ,2]}}\n'),
    ],
    ids=range(5),
)  # fmt: skip
def test_trace_context_is_spliced_into_meta(body: bytes, expected: bytes) -> None:
    assert mcp.edit(message_of(body), body, META) == expected
    again = message_of(expected)
    assert (again.traceparent, again.tracestate, again.baggage) == (b"00-p", b"a=b", b"k=v")


@pytest.mark.parametrize(
    "body",
    [
        b'{"method":"notifications/initialized"}',
        b'{"id":1,"result":{}}',
        b'[{"id":1,"method":"a"},{"id":2,"method":"b"}]',
        b'{"id":{},"method":"a"}',
    ],
    ids=range(4),
)
def test_what_is_no_single_request_takes_no_context(body: bytes) -> None:
    with pytest.raises(Unreadable):
        mcp.edit(message_of(body), body, META)


@pytest.mark.parametrize("change", [Clamp(5), IncludeUsage(), Reroute("http://a", "/", "/x/")], ids=["clamp", "usage", "reroute"])
def test_changes_that_mean_nothing_here_are_not_taken(change: Change) -> None:
    with pytest.raises(Unreadable):
        mcp.edit(CALL, b'{"id":"7","method":"ping"}', change)


def test_a_context_without_anything_in_it_changes_nothing() -> None:
    body = b'{"id":"7","method":"ping"}'
    assert mcp.edit(CALL, body, Meta(b"")) is body


@pytest.mark.parametrize("params", [b"[1]", b'"x"', b'{"_meta":[]}', b'{"_meta":7}'])
def test_context_has_no_place_in_what_is_no_object(params: bytes) -> None:
    body = b'{"id":1,"method":"x","params":%b}' % params
    with pytest.raises(Unreadable):
        mcp.edit(message_of(body), body, META)


Answer = Callable[[web.Request, McpAsked], Awaitable[web.StreamResponse | None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """A server of the session era with one tool, of which `answer` may answer calls in its place."""

    async def receive(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = message_of(body)
        answered = await answer(request, asked)
        if answered is not None:
            return answered
        if not asked.id:
            return web.Response(status=202)
        results = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
        }
        if asked.operation not in results:
            error = {"code": -32601, "message": "Method not found"}
            return web.json_response({"jsonrpc": "2.0", "id": json.loads(body)["id"], "error": error})
        return web.json_response({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": results[asked.operation]})

    app = web.Application()
    app.router.add_post("/mcp", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("code", ["draining", "host_refused", "route_unknown", "connect_timeout", "bad_header"])
async def test_the_official_client_raises_our_error_for_a_refused_call(code: str) -> None:
    client = pytest.importorskip("mcp.client.client", reason="the official client is not installed (pip install 'mcp>=2')")
    exceptions = pytest.importorskip("mcp.shared.exceptions", reason="as above")

    async def answer(request: web.Request, asked: McpAsked) -> web.Response | None:
        if asked.operation != "tools/call":
            return None
        spoken = mcp.error(Refused(code, "not this one"), asked)
        return web.Response(status=spoken.status, content_type=spoken.content_type, body=spoken.body)

    async with asyncio.timeout(10), server(answer) as url, client.Client(url, mode="legacy") as session:
        with pytest.raises(exceptions.MCPError) as raised:
            await session.call_tool("t", {})
        assert (raised.value.error.code, raised.value.error.message) == (-32019, f"{code}: not this one")
        assert raised.value.error.data["code"] == code
        assert [tool.name for tool in (await session.list_tools()).tools] == ["t"], "the session is as good as before"


async def test_the_official_client_raises_our_error_for_a_cut_stream() -> None:
    client = pytest.importorskip("mcp.client.client", reason="the official client is not installed (pip install 'mcp>=2')")
    exceptions = pytest.importorskip("mcp.shared.exceptions", reason="as above")

    async def answer(request: web.Request, asked: McpAsked) -> web.StreamResponse | None:
        if asked.operation != "tools/call":
            return None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(
            b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}\n\n'
        )
        await response.write(mcp.ending(asked, Answered(), "stopped"))
        return response

    async with asyncio.timeout(10), server(answer) as url, client.Client(url, mode="legacy") as session:
        with pytest.raises(exceptions.MCPError, match="stopped"):
            await session.call_tool("t", {})
