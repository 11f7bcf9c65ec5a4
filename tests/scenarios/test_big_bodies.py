"""
Bodies of five megabytes: what reading them costs does not grow with what is in them, but for one pass in C.

The work is counted in calls that Python makes, of which a body of many messages must not need more than one of few. Beside that a
generous bound in time, against a decode that skips everything.
"""

import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import pytest

from sidecar.dialects.dialect import Change, Clamp, Dialect, Heading, IncludeUsage, Meta
from sidecar.dialects.recognition import dialect_named
from tests.counting import calls_made

BYTES = 5_000_000
MOST_CALLS = 500
_WORDS = "alpha beta gamma \"quoted\" line\nbreak Grüße "
_CONTEXT = Meta(b"00-11111111111111111111111111111111-2222222222222222-01")


class _Nothing(msgspec.Struct):
    nothing: int = 0


_skip = msgspec.json.Decoder(_Nothing).decode


def _chat(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _converse(part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [part]}


def _gemini(part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": [part]}


def _openai_image(data: str) -> dict[str, Any]:
    return _chat([{"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}}])


def _anthropic_image(data: str) -> dict[str, Any]:
    return _chat([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}])


ENDPOINTS: dict[str, tuple[str, str, Callable[[list[Any]], Any], Callable[[str], Any], Callable[[str], Any]]] = {
    "openai": ("openai", "/v1/chat/completions", lambda said: {"model": "m", "stream": True, "messages": said}, _chat, _openai_image),
    "responses": ("openai", "/v1/responses", lambda said: {"model": "m", "input": said}, _chat, lambda data: _chat([{"type": "input_image", "image_url": "data:" + data}])),
    "embeddings": ("openai", "/v1/embeddings", lambda said: {"model": "m", "input": said}, str, str),
    "completions": ("openai", "/v1/completions", lambda said: {"model": "m", "prompt": said}, str, str),
    "anthropic": ("anthropic", "/v1/messages", lambda said: {"model": "m", "messages": said}, _chat, _anthropic_image),
    "gemini": ("gemini", "/v1beta/models/gemini-3:generateContent", lambda said: {"contents": said}, lambda text: _gemini({"text": text}), lambda data: _gemini({"inlineData": {"mimeType": "image/png", "data": data}})),
    "converse": ("bedrock", "/model/amazon.nova-pro-v1:0/converse", lambda said: {"messages": said}, lambda text: _converse({"text": text}), lambda data: _converse({"image": {"source": {"bytes": data}}})),
    "bedrock_anthropic": ("bedrock", "/model/anthropic.claude-4/invoke", lambda said: {"anthropic_version": "x", "messages": said}, _chat, _anthropic_image),
    "bedrock_meta": ("bedrock", "/model/meta.llama3/invoke", lambda said: {"prompt": json.dumps(said)}, str, str),
    "cohere": ("cohere", "/v2/chat", lambda said: {"model": "m", "messages": said}, _chat, _openai_image),
    "ollama": ("ollama", "/api/chat", lambda said: {"model": "m", "messages": said}, _chat, lambda data: {"role": "user", "images": [data]}),
    "mcp": ("mcp", "/mcp", lambda said: {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {"x": said}}}, str, str),
    "a2a": ("a2a", "/a2a", lambda said: {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": {"messageId": "1", "parts": said}}}, lambda text: {"text": text}, lambda data: {"raw": data}),
}  # fmt: skip
SHAPES = ("text", "messages", "image")


@cache
def _body(endpoint: str, shape: str) -> bytes:
    _, _, whole, said, shown = ENDPOINTS[endpoint]
    if shape == "text":
        items = [said(_WORDS * (BYTES // len(json.dumps(_WORDS))))]
    elif shape == "image":
        items = [shown("QUJD" * (BYTES // 4))]
    else:
        items = [said(_WORDS)] * (BYTES // (len(json.dumps(said(_WORDS))) + 2))
    body = json.dumps(whole(items)).encode()
    assert 0.9 * BYTES < len(body) < 1.4 * BYTES
    return body


def _asks(endpoint: str) -> tuple[Dialect, str, Heading]:
    name, path, *_ = ENDPOINTS[endpoint]
    fields = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if name == "a2a":
        fields["a2a-version"] = "1.0"
    heading = Heading("POST", path, "", "x", fields)
    dialect = dialect_named(name)
    return dialect, dialect.operation(heading), heading


def _best(work: Callable[[], object], tries: int = 5) -> float:
    best = 1e9
    for _ in range(tries):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_large_request_is_read_in_one_pass(endpoint: str, shape: str) -> None:
    dialect, operation, heading = _asks(endpoint)
    body = _body(endpoint, shape)
    dialect.request(operation, heading, body)  # what is made once for all
    assert calls_made(lambda: dialect.request(operation, heading, body)) < MOST_CALLS
    assert _best(lambda: dialect.request(operation, heading, body)) < 2.5 * _best(lambda: _skip(body))


@pytest.mark.parametrize(
    ("endpoint", "change"),
    [("openai", Clamp(5)), ("openai", IncludeUsage()), ("responses", Clamp(5)), ("completions", Clamp(5)), ("mcp", _CONTEXT)],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_known_to_be_absent_is_put_into_a_large_request_at_the_cost_of_a_copy(
    endpoint: str, change: Change, shape: str
) -> None:
    dialect, operation, heading = _asks(endpoint)
    body = _body(endpoint, shape)
    asked = dialect.request(operation, heading, body)
    changed = dialect.edit(asked, body, change)
    assert len(body) < len(changed) < len(body) + 200
    assert calls_made(lambda: dialect.edit(asked, body, change)) < MOST_CALLS
    assert _best(lambda: dialect.edit(asked, body, change)) < _best(lambda: _skip(body))


@pytest.mark.parametrize("endpoint", ["openai", "anthropic", "gemini", "converse", "bedrock_anthropic", "bedrock_meta", "cohere", "ollama"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_clamp_of_a_large_request_is_a_few_passes(endpoint: str, shape: str) -> None:
    dialect, operation, heading = _asks(endpoint)
    body = _body(endpoint, shape)
    asked = dialect.request(operation, heading, body)
    changed = dialect.edit(asked, body, Clamp(5))
    assert len(body) < len(changed) < len(body) + 200
    assert json.loads(changed)
    assert calls_made(lambda: dialect.edit(asked, body, Clamp(5))) < MOST_CALLS


ANSWERS: dict[str, tuple[str, Callable[[list[Any]], Any], Callable[[str], Any]]] = {
    "openai": ("openai", lambda said: {"id": "1", "choices": [{"index": 0, "message": {"content": said}}]}, lambda text: {"type": "text", "text": text}),
    "anthropic": ("anthropic", lambda said: {"id": "1", "content": said}, lambda text: {"type": "text", "text": text}),
    "gemini": ("gemini", lambda said: {"candidates": [{"content": {"parts": said}}]}, lambda text: {"text": text}),
    "converse": ("converse", lambda said: {"output": {"message": {"content": said}}}, lambda text: {"text": text}),
    "cohere": ("cohere", lambda said: {"message": {"content": said}}, lambda text: {"type": "text", "text": text}),
    "mcp": ("mcp", lambda said: {"jsonrpc": "2.0", "id": 1, "result": {"content": said}}, lambda text: {"type": "text", "text": text}),
    "a2a": ("a2a", lambda said: {"jsonrpc": "2.0", "id": 1, "result": {"task": {"id": "t", "artifacts": [{"parts": said}]}}}, lambda text: {"text": text}),
}  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_large_answer_is_read_in_a_few_passes(answer: str) -> None:
    endpoint, whole, said = ANSWERS[answer]
    dialect, operation, heading = _asks(endpoint)
    asked = dialect.request(operation, heading, json.dumps(ENDPOINTS[endpoint][2]([])).encode())
    body = json.dumps(whole([said(_WORDS * (BYTES // len(json.dumps(_WORDS))))])).encode()

    def reads() -> None:
        reader = dialect.reader(asked, 200, "application/json", {})
        for at in range(0, len(body), 256 * 1024):
            reader.feed(body[at : at + 256 * 1024])
        reader.end()
        assert reader.answered.is_ended and reader.answered.content_bytes > BYTES // 2 and not reader.answered.is_unreadable

    assert calls_made(reads) < MOST_CALLS
    assert _best(reads) < 10 * _best(lambda: _skip(body))
