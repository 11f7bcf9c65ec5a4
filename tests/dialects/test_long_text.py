"""Long texts that are not decoded: how long they are all the same."""

import json

import msgspec
import pytest

from sidecar.dialects import anthropic, bedrock, cohere, gemini, ollama, openai
from sidecar.dialects.dialect import Dialect, Heading
from sidecar.dialects.lenient import size
from sidecar.dialects.long_text import MOST_WORDS_BYTES, Text, left_raw, text_bytes, words
from sidecar.model.answered import ModelAnswered


class _Inner(msgspec.Struct, gc=False, rename="camel"):
    long_text: Text = None
    name: str | None = None


class _Outer(msgspec.Struct, gc=False):
    one: _Inner | str | None = None
    many: list[_Inner] | None = None
    count: int = 0
    names: list[str] | None = None


class _Plain(msgspec.Struct, gc=False):
    name: str = ""


_SAYINGS = ["plain", "a\nb\t\"c\"", "Grüße, 漢字", "\\\\ \\u0041 \\", "\x01\x7f\u0080\u07ff\u0800", "😀 and 😀", ""]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("text", _SAYINGS)
def test_a_short_raw_text_has_the_bytes_that_it_stands_for(text: str, ascii_only: bool) -> None:
    raw = msgspec.Raw(json.dumps(text, ensure_ascii=ascii_only).encode())
    assert text_bytes(raw) == size(raw) == size(text) == len(text.encode())
    assert words(raw) == text


@pytest.mark.parametrize("text", _SAYINGS[1:-1])
def test_a_long_one_has_about_as_many(text: str) -> None:
    text *= 50_000
    assert text_bytes(msgspec.Raw(json.dumps(text).encode())) == pytest.approx(len(text.encode()), rel=0.08)


def test_a_long_one_without_escapes_has_exactly_as_many() -> None:
    assert text_bytes(msgspec.Raw(json.dumps("Grüße" * 99_999, ensure_ascii=False).encode())) == 7 * 99_999


@pytest.mark.parametrize("raw", [b"", b"null", b"0", b"17", b"[1,2]", b'{"a":"b"}', b"true"])
def test_what_is_no_text_has_no_bytes_and_no_words(raw: bytes) -> None:
    assert text_bytes(msgspec.Raw(raw)) == 0
    assert words(msgspec.Raw(raw)) is None


@pytest.mark.parametrize("text", [None, "", "said"])
def test_words_that_are_there_are_there(text: str | None) -> None:
    assert words(text) == text


def test_what_is_very_long_has_no_words() -> None:
    raw = msgspec.Raw(b'"' + b"x" * MOST_WORDS_BYTES + b'"')
    assert words(raw) is None and size(raw) == MOST_WORDS_BYTES


def test_the_texts_of_a_struct_and_of_those_in_it_are_left_raw() -> None:
    body = b'{"one":{"longText":"\\n","name":"n"},"many":[{"longText":"ab"},{"longText":7,"name":"m"}],"count":3,"names":["x"]}'
    told = msgspec.json.decode(body, type=left_raw(_Outer))
    assert isinstance(told, _Outer) and isinstance(told.one, _Inner) and told.many
    assert (told.one.name, told.count, told.names) == ("n", 3, ["x"])
    assert [size(each.long_text) for each in (told.one, *told.many)] == [1, 2, 0]
    assert [each.name for each in told.many] == [None, "m"]


def test_a_struct_without_texts_stays_what_it_is() -> None:
    assert left_raw(_Plain) is _Plain


def _say(text: str, dialect: Dialect, path: str) -> dict[str, object]:
    if dialect is openai and path.endswith("responses"):
        said = {"type": "message", "content": [{"type": "output_text", "text": text}, {"type": "refusal", "refusal": "no"}]}
        call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a":1}'}
        return {"id": "i", "model": "m", "status": "completed", "output": [said, call], "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}}
    if dialect is openai:
        calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}]
        choice = {"index": 0, "message": {"content": text, "refusal": None, "tool_calls": calls}, "finish_reason": "stop"}
        return {"id": "i", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
    if dialect is anthropic or "anthropic" in path:
        blocks = [{"type": "text", "text": text}, {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1}}]
        return {"id": "i", "model": "m", "content": blocks, "stop_reason": "stop", "usage": {"input_tokens": 5, "output_tokens": 2}}
    if dialect is gemini:
        parts = [{"text": text}, {"text": None, "functionCall": {"id": "c1", "name": "look", "args": {"a": 1}}}]
        counts = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
        return {"candidates": [{"content": {"parts": parts}, "finishReason": "stop"}], "usageMetadata": counts, "modelVersion": "m", "responseId": "i"}
    if dialect is bedrock and "llama" in path:
        return {"generation": text, "stop_reason": "stop", "prompt_token_count": 5, "generation_token_count": 2}
    if dialect is bedrock:
        blocks = [{"text": text}, {"toolUse": {"toolUseId": "c1", "name": "look", "input": {"a": 1}}}]
        return {"output": {"message": {"content": blocks}}, "stopReason": "stop", "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}}
    if dialect is cohere:
        calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}]
        message = {"content": [{"type": "text", "text": text}], "tool_calls": calls}
        return {"id": "i", "message": message, "finish_reason": "stop", "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 2}}}
    calls = [{"id": "c1", "function": {"name": "look", "arguments": {"a": 1}}}]
    message = {"content": text, "tool_calls": calls}
    return {"model": "m", "message": message, "done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2}


ENDPOINTS = [
    (openai, "/v1/chat/completions"),
    (openai, "/v1/responses"),
    (anthropic, "/v1/messages"),
    (gemini, "/v1beta/models/m:generateContent"),
    (bedrock, "/model/m.m/converse"),
    (bedrock, "/model/meta.llama3/invoke"),
    (bedrock, "/model/anthropic.claude-4/invoke"),
    (bedrock, "/model/amazon.nova-pro/invoke"),
    (cohere, "/v2/chat"),
    (ollama, "/api/chat"),
]


def _answer(dialect: Dialect, path: str, text: str) -> ModelAnswered:
    heading = Heading("POST", path, "", "h", {"content-type": "application/json"})
    request = json.dumps({"model": "m", "messages": [], "stream": False}).encode()
    reader = dialect.reader(dialect.request(dialect.operation(heading), heading, request), 200, "application/json", {})
    reader.feed(json.dumps(_say(text, dialect, path)).encode())
    reader.end()
    assert isinstance(reader.answered, ModelAnswered)
    return reader.answered


def _told(answered: ModelAnswered) -> tuple[object, ...]:
    usage = answered.usage
    assert usage is not None
    calls = [(call.id, call.name, bytes(call.arguments)) for call in answered.tool_calls]
    counts = (usage.input_total, usage.output_total)
    return answered.id, answered.model, answered.finish_reasons, calls, counts, answered.is_ended, answered.is_unreadable


@pytest.mark.parametrize(("dialect", "path"), ENDPOINTS, ids=[path.strip("/").replace("/", "-") for _, path in ENDPOINTS])
def test_of_a_long_answer_everything_but_its_text_is_read_as_of_a_short_one(dialect: Dialect, path: str) -> None:
    short, long, escaped = (_answer(dialect, path, text) for text in ("x", "x" * 100_000, 'é"\n' * 25_000))
    assert _told(long) == _told(escaped) == _told(short)
    assert long.content_bytes == short.content_bytes + 99_999
    assert escaped.content_bytes == pytest.approx(short.content_bytes + 99_999, rel=0.05)
