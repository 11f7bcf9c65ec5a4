import json
from typing import Any

import pytest

from sidecar.dialects.openai.answered import OpenAiAnswered
from sidecar.dialects.openai.responses import ResponseAnswer, ResponseStream
from sidecar.dialects.sse import event
from sidecar.model.answered import Answered, ToolCall


def said(kind: str, number: int, **members: Any) -> bytes:
    return event(json.dumps({"type": kind, "sequence_number": number, **members}, separators=(",", ":")).encode(), kind.encode())


def text(number: int, delta: str, padding: str = "x") -> bytes:
    return said("response.output_text.delta", number, item_id="msg_1", output_index=0, content_index=0, delta=delta, logprobs=[], obfuscation=padding)


def stream(*events: bytes) -> OpenAiAnswered:
    reader = ResponseStream(OpenAiAnswered(), "openai")
    for each in events:
        reader.feed(each)
    return reader.answered


def test_text_is_counted_and_the_last_number_known_whether_decoded_or_not() -> None:
    answered = stream(text(4, "In"), text(5, " the"), text(6, '"'), text(7, " beginning", ""), text(8, "!") + text(9, "?"), text(10, "ü"))
    assert (answered.content_bytes, answered.events, answered.sequence_number) == (21, 7, 10)


def test_the_next_text_is_known_without_being_decoded() -> None:
    reader = ResponseStream(OpenAiAnswered(), "openai")
    reader.feed(text(4, "In"))
    more = text(5, "the") + text(16, "x", "")
    assert reader._stencil.take(more, Answered()) == len(more)


@pytest.mark.parametrize(
    ("kind", "members", "expected"),
    [
        ("response.refusal.delta", {"delta": "no"}, 2),
        ("response.reasoning_summary_text.delta", {"delta": "why"}, 3),
        ("response.code_interpreter_call_code.delta", {"delta": "1+1"}, 3),
        ("response.shell_call_output_content.delta", {"delta": {"stdout": "x"}}, 0),
        ("response.output_text.done", {"text": "whole"}, 0),
        ("response.content_part.added", {"part": {"type": "output_text", "text": ""}}, 0),
        ("response.output_item.added", {"output_index": 0, "item": {"type": "function_call", "call_id": "c", "name": "fn", "arguments": ""}}, 2),
        ("response.output_item.added", {"output_index": 0, "item": {"type": "message", "content": []}}, 0),
        ("response.something.new", {"whatever": 1}, 0),
    ],
    ids=range(9),
)
def test_only_what_the_model_produced_is_content(kind: str, members: dict[str, Any], expected: int) -> None:
    assert stream(said(kind, 1, **members)).content_bytes == expected


def test_arguments_are_put_together_and_server_tools_are_no_calls_for_the_client() -> None:
    answered = stream(
        said("response.output_item.added", 1, output_index=0, item={"type": "mcp_call", "id": "m", "name": "x", "arguments": ""}),
        said("response.mcp_call_arguments.delta", 2, output_index=0, delta="{}"),
        said("response.output_item.added", 3, output_index=1, item={"type": "custom_tool_call", "id": "i", "call_id": "c", "name": "sh", "input": ""}),
        said("response.custom_tool_call_input.delta", 4, output_index=1, delta="ls"),
        said("response.custom_tool_call_input.delta", 5, output_index=1, delta=" -l"),
    )
    assert answered.tool_calls == [ToolCall("c", "sh", b"ls -l")]


def test_a_finished_response_that_streamed_nothing_is_counted_by_its_output() -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "abc"}]}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    answered = stream(said("response.completed", 1, response={"status": "completed", "output": output}))
    assert (answered.content_bytes, answered.tool_calls, answered.is_ended) == (6, [ToolCall("c", "f", b"{}")], True)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b'{"type":"error","code":"server_error","message":"m"}', "server_error", "m"),
        (b'{"type":"error","code":null,"message":"m"}', "error", "m"),
        (b'{"type":"error","error":{"type":"invalid_request_error","message":"m"}}', "invalid_request_error", "m"),
        (b'{"error":{"code":"x","message":"m"}}', "x", "m"),
    ],
    ids=range(4),
)
def test_an_error_ends_the_stream(data: bytes, kind: str, message: str) -> None:
    answered = stream(event(data, b"error"))
    assert (answered.error_type, answered.error_message, answered.is_ended) == (kind, message, True)


def test_a_failed_response_says_its_error() -> None:
    answered = stream(said("response.failed", 1, response={"status": "failed", "error": {"code": "server_error", "message": "m"}}))
    assert (answered.error_type, answered.finish_reasons) == ("server_error", ["failed"])


def test_a_done_that_a_gateway_adds_is_no_harm() -> None:
    answered = stream(b"data: [DONE]\n\n")
    assert not answered.is_ended and not answered.is_unreadable


def test_a_response_in_the_background_has_no_reason_yet() -> None:
    answered = OpenAiAnswered()
    ResponseAnswer(answered, "openai").read(b'{"id":"r","status":"queued","output":[],"usage":null,"error":null}')
    assert (answered.id, answered.finish_reasons, answered.usage, answered.error_type) == ("r", [], None, "")


def test_searches_are_counted_where_nobody_tells_them() -> None:
    answered = OpenAiAnswered()
    body = {"output": [{"type": "web_search_call"}, {"type": "web_search_call"}, {"type": "file_search_call"}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    ResponseAnswer(answered, "openai").read(json.dumps(body).encode())
    assert answered.usage is not None
    assert (answered.usage.web_searches, answered.usage.tool_uses) == (2, 1)


def test_what_began_is_kept_only_where_it_is_small() -> None:
    assert stream(said("response.created", 0, response={"id": "r"})).begun == b'{"id":"r"}'
    assert stream(said("response.created", 0, response={"id": "r", "instructions": "x" * 100_000})).begun == b""
