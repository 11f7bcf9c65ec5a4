"""What is said reaches the backend where a route has it collected, masked and cut, and nowhere else."""

import gzip
import json
from typing import Any

import aiohttp
import pytest

from tests.otlp_collector import OtlpCollector, SeenSpan
from tests.peers.raw import RawUpstream
from tests.peers.wire import Wire
from tests.scenarios.test_traces import PATIENCE, with_telemetry
from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest

MARKER = "hippopotamus"
KEY = "sk-proj-abcdefghijklmnopqrstuvwx0123456789"
LONG = f"{MARKER} with {KEY} and " + "many words " * 9_500
REQUEST = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": LONG}, {"type": "text", "text": "Who is it?"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "find"}}],
}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": json.dumps({"what": MARKER, "api_key": "x"})}}
WHOLE = {"id": "1", "model": "m", "choices": [{"index": 0, "message": {"content": f"A {MARKER}."}, "finish_reason": "stop"}]}
PIECES = [
    {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "A "}}]},
    {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": f"{MARKER}."}}]},
    {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **CALL}]}}]},
    {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
]
STREAM = b"".join(b"data: %b\n\n" % json.dumps(piece).encode() for piece in PIECES) + b"data: [DONE]\n\n"


def answering(content_type: bytes, body: bytes, *fields: bytes) -> RawUpstream:
    """An upstream that says the same to everybody."""

    async def answers(connection: Wire) -> None:
        await connection.request()
        lines = [b"HTTP/1.1 200 OK", b"Content-Type: " + content_type, b"Content-Length: %d" % len(body), *fields]
        await connection.sends(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    return RawUpstream(answers)


async def client_span(opened: Opened, upstream: RawUpstream, path: str, request: Any, **route: Any) -> tuple[SeenSpan, OtlpCollector]:
    """The span of one call, and who has it."""
    collector = await opened(OtlpCollector())
    await opened(upstream)
    config = with_telemetry(upstream, collector)
    config["traffic"]["routes"]["llm"] |= route
    sidecar = await opened(SidecarUnderTest(config))
    async with (
        aiohttp.ClientSession(timeout=PATIENCE) as client,
        client.post(f"{sidecar.url}/llm{path}", json=request, headers={"accept": "application/json, text/event-stream"}) as answer,
    ):
        assert answer.status == 200
        assert MARKER.encode() in await answer.read()
    await collector.wait_for_spans(2)
    assert not [span for span in collector.find(kind="SERVER") if "gen_ai.input.messages" in span.attributes]
    return collector.span(kind="CLIENT"), collector


def received(collector: OtlpCollector) -> bytes:
    """All that the backend got."""
    return b"".join(request.message.SerializeToString() for request in collector.requests)


async def test_messages_arrive_masked_and_cut_part_by_part(opened: Opened) -> None:
    upstream = answering(b"application/json", json.dumps(WHOLE).encode())
    span, collector = await client_span(opened, upstream, "/v1/chat/completions", REQUEST, content=True)
    system, user = json.loads(span.attributes["gen_ai.input.messages"])
    long, short = user["parts"]
    assert (system["role"], system["parts"]) == ("system", [{"type": "text", "content": "Be brief."}])
    assert (user["role"], short) == ("user", {"type": "text", "content": "Who is it?"})
    assert long["content"].startswith(f"{MARKER} with [key] and many words")
    assert long["content"].endswith("…")
    assert len(long["content"]) == 4097
    assert json.loads(span.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": f"A {MARKER}."}], "finish_reason": "stop"}
    ]
    assert json.loads(span.attributes["gen_ai.tool.definitions"]) == REQUEST["tools"]
    assert KEY.encode() not in received(collector)


@pytest.mark.parametrize("is_coded", [False, True], ids=["plain", "gzip"])
async def test_a_stream_is_put_together(opened: Opened, is_coded: bool) -> None:
    body, fields = (gzip.compress(STREAM), [b"Content-Encoding: gzip"]) if is_coded else (STREAM, [])
    upstream = answering(b"text/event-stream", body, *fields)
    span, _ = await client_span(opened, upstream, "/v1/chat/completions", {**REQUEST, "stream": True}, content=True)
    (message,) = json.loads(span.attributes["gen_ai.output.messages"])
    said, called = message["parts"]
    assert (said["content"], message["finish_reason"]) == (f"A {MARKER}.", "tool_call")
    assert (called["name"], called["id"], called["arguments"]) == ("find", "c1", {"what": MARKER, "api_key": "[secret]"})


async def test_a_call_of_a_tool_has_its_arguments_and_its_result(opened: Opened) -> None:
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": MARKER}]}}
    upstream = answering(b"application/json", json.dumps(answer).encode())
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "find", "arguments": {"what": KEY}}}
    span, collector = await client_span(opened, upstream, "/mcp", request, content=True)
    assert json.loads(span.attributes["gen_ai.tool.call.arguments"]) == {"what": "[key]"}
    assert json.loads(span.attributes["gen_ai.tool.call.result"]) == answer["result"]
    assert KEY.encode() not in received(collector)


@pytest.mark.parametrize("route", [{}, {"content": False}], ids=["default", "off"])
async def test_a_route_without_it_tells_nobody_what_was_said(opened: Opened, route: dict[str, Any]) -> None:
    upstream = answering(b"text/event-stream", STREAM)
    span, collector = await client_span(opened, upstream, "/v1/chat/completions", {**REQUEST, "stream": True}, **route)
    assert span.name == "chat m"
    assert MARKER.encode() not in received(collector)
    assert not [name for name in span.attributes if "messages" in name or "definitions" in name or "content" in name]


async def test_the_admin_api_neither_keeps_nor_shows_it(opened: Opened) -> None:
    collector = await opened(OtlpCollector())
    upstream = await opened(answering(b"application/json", json.dumps(WHOLE).encode()))
    config = with_telemetry(upstream, collector)
    config["traffic"]["routes"]["llm"]["content"] = True
    sidecar = await opened(SidecarUnderTest(config))
    await sidecar.app.ready()
    host, port = sidecar.app.endpoints["admin"][:2]
    async with aiohttp.ClientSession(timeout=PATIENCE) as client:
        async with client.post(f"{sidecar.url}/llm/v1/chat/completions", json=REQUEST) as answer:
            await answer.read()
        await sidecar.finished()
        for path in ("/api/v1/exchanges", "/metrics"):
            async with client.get(f"http://{host}:{port}{path}") as answer:
                assert answer.status == 200
                assert MARKER.encode() not in await answer.read()
    (attempt,), (exchange,) = sidecar.attempts, sidecar.exchanges
    assert attempt.dialogue is not None
    assert attempt.dialogue.content is not None
    assert exchange.dialogue is not None
    assert exchange.dialogue.content is None
