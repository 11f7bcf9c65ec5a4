"""Golden transcripts of OpenAI and of those who speak its format: bytes in, model out, with genai-prices as the oracle of usage."""

import json
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import openai
from sidecar.dialects.dialect import Dialect, Heading
from sidecar.dialects.openai.asked import OpenAiAsked
from sidecar.dialects.sse import EventStream
from sidecar.model.asked import Asked
from sidecar.model.usage import Usage
from tests.dialects.transcripts import members, read, splits

GOLDEN = Path(__file__).parent / "golden" / "openai"
CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = "chat/completions", "completions", "responses", "embeddings"
GPT5 = {"id": "resp_68af40", "model": "gpt-5-2025-08-07", "service_tier": "default"}
GPT5_USAGE = {"input_tokens": 22, "cache_read_tokens": 1920, "cache_write_tokens": 64, "output_tokens": 44, "reasoning_tokens": 256}
WEATHER = {"id": "call_9", "name": "get_weather", "arguments": '{"city":"Köln"}'}
MINI = {"id": "chatcmpl-CZ3aXb1", "model": "gpt-5-mini-2025-08-07", "service_tier": "default"}
ENDED: dict[str, Any] = {"is_ended": True}

# name: (endpoint, provider, where genai-prices finds the usage, what has to be read)
EXPECTED: dict[str, tuple[str, str, tuple[str, str] | None, dict[str, Any]]] = {
    "chat.sse": (CHAT, "openai", ("openai", "chat"), ENDED | MINI | {"content_bytes": 22, "events": 8, "finish_reasons": ["stop"], "usage": {"input_tokens": 93, "cache_read_tokens": 1024, "output_tokens": 26, "reasoning_tokens": 20}}),
    "chat.json": (CHAT, "openai", ("openai", "chat"), ENDED | {"id": "chatcmpl-audio1", "model": "gpt-4o-audio-preview-2025-06-03", "service_tier": "priority", "content_bytes": 11, "finish_reasons": ["stop"], "usage": {"input_tokens": 30, "cache_read_tokens": 30, "cache_write_tokens": 10, "input_audio_tokens": 50, "output_tokens": 15, "reasoning_tokens": 5, "output_audio_tokens": 60}}),
    "chat_tools.sse": (CHAT, "openai", ("openai", "chat"), ENDED | MINI | {"content_bytes": 37, "events": 8, "finish_reasons": ["tool_calls"], "tool_calls": [{"id": "call_1", "name": "get_weather", "arguments": '{"city":"Köln"}'}, {"id": "call_2", "name": "get_time", "arguments": "{}"}], "usage": {"input_tokens": 77, "output_tokens": 38}}),
    "chat_two_choices.sse": (CHAT, "openai", None, ENDED | MINI | {"content_bytes": 5, "events": 9, "finish_reasons": ["content_filter", "length"]}),
    "chat_error.sse": (CHAT, "openai", None, ENDED | MINI | {"content_bytes": 3, "events": 3, "error_type": "server_error", "error_message": "The server had an error while processing your request."}),
    "chat_cut.sse": (CHAT, "openai", None, MINI | {"content_bytes": 6, "events": 2}),
    "chat_crlf.sse": (CHAT, "openai", None, ENDED | MINI | {"content_bytes": 1, "events": 4, "finish_reasons": ["stop"]}),
    "azure.sse": (CHAT, "azure.ai.openai", ("azure", "chat"), ENDED | {"id": "chatcmpl-az1", "model": "gpt-4.1-2025-04-14", "content_bytes": 8, "events": 7, "finish_reasons": ["stop"], "usage": {"input_tokens": 9, "output_tokens": 3}}),
    "mistral.sse": (CHAT, "mistral_ai", ("mistral", "default"), ENDED | {"id": "cmpl-mistral1", "model": "magistral-medium-2509", "content_bytes": 18, "events": 5, "finish_reasons": ["tool_calls"], "tool_calls": [{"id": "D681PevKs", "name": "f", "arguments": '{"a": 1}'}], "usage": {"input_tokens": 6, "cache_read_tokens": 4, "output_tokens": 15}}),
    "groq.sse": (CHAT, "groq", ("groq", "default"), ENDED | {"id": "chatcmpl-groq1", "model": "openai/gpt-oss-20b", "content_bytes": 8, "events": 5, "finish_reasons": ["stop"], "usage": {"input_tokens": 14, "cache_read_tokens": 64, "output_tokens": 19, "reasoning_tokens": 12}}),
    "deepseek.sse": (CHAT, "deepseek", ("deepseek", "chat"), ENDED | {"id": "ds-1", "model": "deepseek-reasoner", "content_bytes": 14, "events": 6, "finish_reasons": ["stop"], "usage": {"input_tokens": 36, "cache_read_tokens": 64, "output_tokens": 2, "reasoning_tokens": 28}}),
    "xai.json": (CHAT, "x_ai", ("x-ai", "chat"), ENDED | {"id": "xai-1", "model": "grok-4-0709", "content_bytes": 11, "finish_reasons": ["stop"], "usage": {"input_tokens": 26, "cache_read_tokens": 6, "output_tokens": 9, "reasoning_tokens": 94}}),
    "perplexity.json": (CHAT, "perplexity", ("perplexity", "default"), ENDED | {"id": "pplx-1", "model": "sonar-deep-research", "content_bytes": 6, "finish_reasons": ["stop"], "usage": {"input_tokens": 33, "output_tokens": 27179, "reasoning_tokens": 95305, "web_searches": 18}}),
    "vllm.sse": (CHAT, "openai", ("openai", "chat"), ENDED | {"id": "chatcmpl-vllm1", "model": "Qwen/Qwen3-8B", "content_bytes": 6, "events": 6, "finish_reasons": ["stop"], "usage": {"input_tokens": 15, "output_tokens": 3}}),
    "vllm_no_usage.sse": (CHAT, "openai", None, ENDED | {"id": "chatcmpl-vllm1", "model": "Qwen/Qwen3-8B", "content_bytes": 5, "events": 4, "finish_reasons": ["stop"]}),
    "litellm.sse": (CHAT, "openai", ("openai", "chat"), ENDED | {"id": "chatcmpl-vllm1", "model": "Qwen/Qwen3-8B", "content_bytes": 2, "events": 4, "finish_reasons": ["stop"], "usage": {"input_tokens": 11, "output_tokens": 5}}),
    "moonshot.sse": (CHAT, "moonshot_ai", None, ENDED | {"id": "chatcmpl-moon", "model": "kimi-k2-0905-preview", "content_bytes": 2, "events": 4, "finish_reasons": ["stop"], "usage": {"input_tokens": 3, "cache_read_tokens": 16, "output_tokens": 13}}),
    "openrouter.sse": (CHAT, "openrouter", ("openrouter", "chat"), ENDED | {"id": "gen-1", "model": "anthropic/claude-sonnet-4.5", "content_bytes": 3, "events": 3, "finish_reasons": ["stop"], "usage": {"input_tokens": 100, "cache_read_tokens": 1500, "cache_write_tokens": 400, "output_tokens": 4}}),
    "completions.sse": (COMPLETIONS, "openai", ("openai", "chat"), ENDED | {"id": "cmpl-1", "model": "gpt-3.5-turbo-instruct:20230824-v2", "content_bytes": 12, "events": 6, "finish_reasons": ["length"], "usage": {"input_tokens": 5, "output_tokens": 3}}),
    "completions.json": (COMPLETIONS, "openai", ("openai", "chat"), ENDED | {"id": "cmpl-1", "model": "gpt-3.5-turbo-instruct:20230824-v2", "content_bytes": 22, "finish_reasons": ["stop", "length"], "usage": {"input_tokens": 5, "output_tokens": 7}}),
    "embeddings.json": (EMBEDDINGS, "openai", ("openai", "embeddings"), ENDED | {"model": "text-embedding-3-small", "content_bytes": 74, "usage": {"input_tokens": 8}}),
    "responses.sse": (RESPONSES, "openai", ("openai", "responses"), ENDED | GPT5 | {"content_bytes": 9, "events": 11, "finish_reasons": ["completed"], "usage": GPT5_USAGE}),
    "responses.json": (RESPONSES, "openai", ("openai", "responses"), ENDED | GPT5 | {"content_bytes": 39, "finish_reasons": ["completed"], "tool_calls": [WEATHER], "usage": GPT5_USAGE | {"web_searches": 2, "tool_uses": 1}}),
    "responses_tools.sse": (RESPONSES, "openai", ("openai", "responses"), ENDED | GPT5 | {"content_bytes": 30, "events": 12, "finish_reasons": ["completed"], "tool_calls": [WEATHER], "usage": GPT5_USAGE | {"web_searches": 1}}),
    "responses_incomplete.sse": (RESPONSES, "openai", ("openai", "responses"), ENDED | GPT5 | {"content_bytes": 9, "events": 7, "finish_reasons": ["max_output_tokens"], "usage": GPT5_USAGE}),
    "responses_failed.sse": (RESPONSES, "openai", None, ENDED | GPT5 | {"content_bytes": 2, "events": 5, "finish_reasons": ["failed"], "error_type": "server_error", "error_message": "The model failed to generate a response."}),
    "responses_error.sse": (RESPONSES, "openai", None, ENDED | GPT5 | {"service_tier": "auto", "events": 2, "error_type": "rate_limit_exceeded", "error_message": "Slow down"}),
    "responses_cut.sse": (RESPONSES, "openai", None, GPT5 | {"service_tier": "auto", "content_bytes": 9, "events": 6}),
}  # fmt: skip


def reader_of(name: str) -> Any:
    endpoint, provider, _, _ = EXPECTED[name]
    asked = OpenAiAsked("openai", "chat", streams=name.endswith(".sse"), provider=provider, endpoint=endpoint)
    return openai.reader(asked, 200, "text/event-stream; charset=utf-8" if name.endswith(".sse") else "application/json", {})


def test_it_is_a_dialect() -> None:
    dialect: Dialect = openai
    assert dialect.name == "openai"


def test_every_golden_file_has_its_row() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {*EXPECTED, "error_429.json"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_transcript_is_read_as_it_was_meant_however_it_is_split(name: str) -> None:
    body = (GOLDEN / name).read_bytes()
    expected = EXPECTED[name][3]
    for pieces in splits(body):
        assert read(reader_of(name), pieces) == expected


@pytest.mark.parametrize("name", [name for name in EXPECTED if EXPECTED[name][2]])
def test_the_usage_is_that_which_genai_prices_finds(name: str) -> None:
    oracle = EXPECTED[name][2]
    assert oracle is not None
    body = (GOLDEN / name).read_bytes()
    told = json.loads(body) if name.endswith(".json") else _last_with_usage(body)
    told.pop("model", None)  # an unknown one would be an error there
    theirs = genai_prices.extract_usage(told, provider_id=oracle[0], api_flavor=oracle[1]).usage
    reader = reader_of(name)
    reader.feed(body)
    reader.end()
    ours: Usage = reader.answered.usage
    assert ours.input_total == (theirs.input_tokens or 0)
    assert ours.output_total == (theirs.output_tokens or 0)
    assert ours.cache_read_total == (theirs.cache_read_tokens or 0)
    assert ours.cache_write_total == (theirs.cache_write_tokens or 0)
    assert ours.reasoning_tokens == (theirs.output_reasoning_tokens or 0)
    assert ours.input_audio_tokens == (theirs.input_audio_tokens or 0)
    assert ours.output_audio_tokens == (theirs.output_audio_tokens or 0)


def _last_with_usage(stream: bytes) -> dict[str, Any]:
    for _, data in reversed(EventStream().feed(stream)):
        if data == b"[DONE]":
            continue
        event = json.loads(data)
        for told in (event, event.get("response"), event.get("x_groq")):
            if told and told.get("usage"):
                return event | told
    raise AssertionError("no usage")


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.endswith(".sse")])
def test_a_cut_stream_keeps_what_had_come_and_has_not_ended(name: str) -> None:
    body = (GOLDEN / name).read_bytes()
    reader = reader_of(name)
    reader.feed(body[: len(body) * 3 // 4])
    assert not reader.answered.is_ended
    assert reader.answered.id == EXPECTED[name][3]["id"]


@given(st.sampled_from(sorted(EXPECTED)), st.lists(st.tuples(st.integers(0, 6000), st.binary(max_size=6)), min_size=1, max_size=4), st.integers(1, 500))
def test_a_spoilt_transcript_is_never_an_exception_and_never_a_negative_count(name: str, spoils: list[tuple[int, bytes]], step: int) -> None:
    body = (GOLDEN / name).read_bytes()
    for at, noise in spoils:
        at %= len(body)
        body = body[:at] + noise + body[at + len(noise) :]
    found = read(reader_of(name), [body[at : at + step] for at in range(0, len(body), step)])
    assert found.get("content_bytes", 0) >= 0
    assert all(count > 0 for count in found.get("usage", {}).values())


_HOSTILE = [
    b"null", b"[]", b"{}", b'""', b"1e999", b"[" * 3000, b'{"choices":' + b"[" * 500 + b"]" * 500 + b"}", b'{"choices":{}}', b'{"choices":[null,1,{"delta":7}]}',
    b'{"choices":[{"delta":{"tool_calls":[{"index":-1},{"index":1e9},{"function":7}]}}]}', b'{"usage":[]}', b'{"usage":{"prompt_tokens":-5}}',
    b'{"usage":{"prompt_tokens":1e300,"completion_tokens":"x"}}', b'{"usage":{"prompt_tokens":NaN}}', b'{"error":[]}', b'{"error":{"type":{}}}', b'{"error":"\\ud800"}',
    b'{"id":1,"model":[],"created":"x"}', b'{"choices":[{"delta":{"content":"\\ud83d"}}]}', b'{"choices":[{"delta":{"content":"\xff"}}]}', b'{"type":"response.completed"}',
    b'{"type":"response.completed","response":7}', b'{"type":"response.output_text.delta","delta":{"a":1}}', b'{"type":"response.created","response":{"output":[1]}}',
    b'{"type":"error"}', b'{"type":7,"sequence_number":"x"}', b'{"choices":[{"index":10000000000000000000000,"finish_reason":["x"]}]}', b'{"a":1,"a":2,"choices":null}',
]  # fmt: skip


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS])
@pytest.mark.parametrize("body", _HOSTILE, ids=range(len(_HOSTILE)))
def test_whatever_a_peer_sends_is_read_or_unreadable(endpoint: str, body: bytes) -> None:
    asked = OpenAiAsked("openai", "chat", endpoint=endpoint)
    for status, media, text in ((200, "application/json", body), (200, "text/event-stream", b"data: " + body + b"\n\n"), (500, "text/html", body)):
        reader = openai.reader(asked, status, media, {})
        reader.feed(text)
        reader.end()
        usage = reader.answered.usage
        assert usage is None or min(usage.input_tokens, usage.output_tokens) >= 0


def test_a_million_tiny_events_take_no_memory() -> None:
    asked = OpenAiAsked("openai", "chat", True)
    reader = openai.reader(asked, 200, "text/event-stream", {})
    for number in range(2000):
        reader.feed(b'data: {"choices":[{"index":%d,"finish_reason":"%d","delta":{"tool_calls":[{"index":%d,"id":"c%d"}]}}]}\n\n' % (number, number, number, number))
    answered = reader.answered
    assert (len(answered.finish_reasons), len(answered.tool_calls), answered.events) == (128, 256, 2000)


@pytest.mark.parametrize(
    ("asked", "status", "media", "kind"),
    [
        (OpenAiAsked("openai", "chat", True), 200, "text/event-stream;charset=utf-8", "ChatStream"),
        (OpenAiAsked("openai", "chat", True), 200, "", "ChatStream"),
        (OpenAiAsked("openai", "chat", True), 200, "application/json", "WholeBody"),
        (OpenAiAsked("openai", "chat", True), 429, "text/event-stream", "WholeBody"),
        (OpenAiAsked("openai", "chat", True, endpoint=RESPONSES), 200, "Text/Event-Stream", "ResponseStream"),
        (Asked("openai", "chat", True), 200, "text/event-stream", "ChatStream"),
    ],
    ids=range(6),
)
def test_the_reader_fits_the_head(asked: Asked, status: int, media: str, kind: str) -> None:
    assert type(openai.reader(asked, status, media, {})).__name__ == kind


def test_an_error_body_is_told() -> None:
    reader = openai.reader(OpenAiAsked("openai", "chat"), 429, "application/json", {})
    found = read(reader, [(GOLDEN / "error_429.json").read_bytes()])
    assert found == {"is_ended": True, "error_type": "insufficient_quota", "error_message": "You exceeded your current quota, please check your plan and billing details."}


def test_what_was_asked_and_what_is_answered_go_together_from_the_head_on() -> None:
    heading = Heading("POST", "/openai/deployments/my-gpt/chat/completions", "api-version=1", "x.openai.azure.com")
    assert openai.operation(heading) == "chat"
    asked = openai.request("chat", heading, b'{"messages":[]}')
    reader = openai.reader(asked, 200, "application/json", {})
    reader.feed(b'{"model":"gpt-4.1","choices":[]}')
    reader.end()
    assert members(reader.answered) == {"is_ended": True, "model": "gpt-4.1"}
