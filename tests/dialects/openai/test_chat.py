import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.openai.answered import OpenAiAnswered
from sidecar.dialects.openai.chat import ChatBody, ChatStream
from sidecar.dialects.openai.stencil import Stencil
from sidecar.model.answered import ToolCall
from tests.counting import calls_made

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1763683200, "model": "gpt-4o-2024-08-06", "system_fingerprint": "fp_44709d6fcb"}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    told = HEAD | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]} | more
    return b"data: " + json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def stream() -> ChatStream:
    return ChatStream(OpenAiAnswered(), "openai")


def body(told: dict[str, Any]) -> OpenAiAnswered:
    answered = OpenAiAnswered()
    ChatBody(answered, "openai").take(json.dumps(told).encode())
    return answered


WORDS = st.sampled_from([None, "", "w", "\u00e4", "x" * 300])
CALLS = st.sampled_from([None, [], [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]])
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "content": st.one_of(WORDS, st.just([{"type": "text", "text": "ab"}])), "reasoning": WORDS, "refusal": WORDS, "tool_calls": CALLS,
        "function_call": st.sampled_from([None, {"name": "f", "arguments": "{"}]), "audio": st.sampled_from([None, {"transcript": "hi"}]),
    },
)  # fmt: skip
USAGES = st.sampled_from([None, {}, {"prompt_tokens": 7, "completion_tokens": 3}])
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([None, 0, 3]), "message": MESSAGES, "delta": st.one_of(st.none(), MESSAGES), "text": WORDS,
        "finish_reason": WORDS, "usage": USAGES,
    },
)  # fmt: skip
ANSWERS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, max_size=2)},
    optional={
        "id": WORDS, "model": WORDS, "created": st.sampled_from([None, 5, -1]), "service_tier": WORDS, "usage": USAGES,
        "error": st.sampled_from([None, {"message": "no", "type": "t"}]), "x_groq": st.sampled_from([None, {"usage": {"prompt_tokens": 9}}]),
    },
)  # fmt: skip


@given(ANSWERS)
def test_a_whole_answer_says_what_reading_it_as_a_chunk_says(told: dict[str, Any]) -> None:
    answered = OpenAiAnswered()
    reader = ChatBody(answered, "openai")
    reader.read(json.dumps(told).encode())
    reader.settle()
    assert body(told) == answered


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"role": "assistant", "content": ""}, 0),
        ({"role": "assistant", "content": None, "refusal": None}, 0),
        ({"content": "äb"}, 3),
        ({"reasoning_content": "abc"}, 3),
        ({"reasoning": "abc", "reasoning_content": "abc"}, 3),
        ({"refusal": "no"}, 2),
        ({"content": [{"type": "text", "text": "ab"}, {"type": "thinking", "thinking": [{"type": "text", "text": "c"}]}, 7]}, 3),
        ({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}, 3),
        ({"function_call": {"name": "f", "arguments": "{"}}, 2),
        ({"audio": {"transcript": "hi", "data": "AAAA"}}, 5),
        ({"tool_calls": [{"index": 0, "id": "a", "custom": {"name": "f", "input": "xyz"}}]}, 4),
    ],
    ids=range(11),
)
def test_the_content_of_a_chunk_is_what_the_model_produced(delta: dict[str, Any], expected: int) -> None:
    reader = stream()
    reader.feed(chunk(delta))
    assert reader.answered.content_bytes == expected


def test_chunks_like_the_last_one_are_counted_all_the_same() -> None:
    texts = ["Hello", ",", ' "quoted"', "\n", " Grüße", "", " \\", "a", "b"]
    reader = stream()
    for text in texts:
        reader.feed(chunk({"content": text}))
    assert reader.answered.content_bytes == sum(len(text.encode()) for text in texts)
    assert reader.answered.events == len(texts)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_DELTA = st.one_of(
    st.builds(lambda text: {"content": text}, _TEXT),
    st.builds(lambda text: {"content": text, "reasoning_content": None}, _TEXT),
    st.builds(lambda text: {"content": None, "reasoning_content": text}, _TEXT),
    st.builds(lambda text, index: {"tool_calls": [{"index": index, "function": {"arguments": text}}]}, _TEXT, st.integers(0, 1)),
)
_MORE = st.sampled_from([{}, {}, {"usage": None}, {"obfuscation": "aB"}, {"obfuscation": "aBcD1"}, {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}, {"error": {"type": "x", "message": "content"}}])
_CHUNKS = st.lists(st.one_of(st.builds(chunk, _DELTA, st.sampled_from([None, None, None, "stop"])), st.builds(lambda d, m: chunk(d, **m), _DELTA, _MORE), st.just(b": ping\n\n")), max_size=25)


@given(_CHUNKS, st.lists(st.integers(0, 5000), max_size=6))
def test_the_fast_path_reads_what_decoding_reads_however_the_stream_is_split(chunks: list[bytes], cuts: list[int]) -> None:
    slow, fast, split = stream(), stream(), stream()
    for each in chunks:
        slow._stencil = Stencil()  # which knows nothing yet
        slow.feed(each)
        fast.feed(each)
    whole = b"".join(chunks)
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        split.feed(whole[start:end])
    assert fast.answered == slow.answered == split.answered


def test_what_comes_after_the_end_does_not_count() -> None:
    reader = stream()
    for each in (chunk({"content": "a"}), chunk({"content": "b"}), b"data: [DONE]\n\n", chunk({"content": "c"})):
        reader.feed(each)
    assert (reader.answered.content_bytes, reader.answered.is_ended, reader.answered.events) == (2, True, 4)


@pytest.mark.parametrize(
    ("events", "ended"),
    [
        ([chunk({"content": "a"})], False),
        ([chunk({"content": "a"}), chunk({}, "stop")], True),
        ([b'data: {"error":{"type":"x"}}\n\n'], True),
        ([], False),
    ],
    ids=range(4),
)
def test_a_stream_without_done_has_ended_where_a_choice_has_or_an_error_came(events: list[bytes], ended: bool) -> None:
    reader = stream()
    for each in events:
        reader.feed(each)
    assert not reader.answered.is_ended
    reader.end()
    assert reader.answered.is_ended is ended


def test_one_event_that_nobody_can_read_spoils_no_stream_and_only_such_are_unreadable() -> None:
    reader = stream()
    reader.feed(b"data: ping\n\n")
    assert reader.answered.is_unreadable
    reader.feed(chunk({"content": "a"}))
    assert not reader.answered.is_unreadable
    reader.feed(b"data: {\n\n" + chunk({"content": "b"}))
    assert (reader.answered.is_unreadable, reader.answered.content_bytes) == (False, 2)


def test_half_of_a_surrogate_pair_loses_nothing_else() -> None:
    reader = stream()
    reader.feed(b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"x\\ud83d"},"finish_reason":"stop"}]}\n\n')
    assert (reader.answered.id, reader.answered.finish_reasons, reader.answered.is_unreadable) == ("a", ["stop"], False)
    assert reader.answered.content_bytes > 0


def test_an_event_above_the_bound_makes_the_stream_unreadable() -> None:
    reader = stream()
    reader.feed(b"data: " + b"x" * (5 << 20) + b"\n\n")
    reader.feed(chunk({"content": "a"}))
    assert reader.answered.is_unreadable


def test_tool_calls_of_a_whole_answer_need_no_index() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    answered = body({"choices": [{"index": 0, "message": {"content": None, "tool_calls": [call | {"id": "a"}, call | {"id": "b"}, call]}, "finish_reason": "tool_calls"}]})
    assert answered.tool_calls == [ToolCall("a", "f", b"{}"), ToolCall("b", "f", b"{}"), ToolCall("", "f", b"{}")]


def test_an_error_under_200_is_told() -> None:
    answered = body({"error": {"message": "no", "type": "server_error"}})
    assert (answered.error_type, answered.error_message) == ("server_error", "no")


def test_null_usage_keeps_the_usage_that_had_come() -> None:
    reader = stream()
    reader.feed(chunk({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 1}))
    reader.feed(chunk({"content": "a"}, usage=None))
    assert reader.answered.usage is not None and reader.answered.usage.input_tokens == 3


def test_a_content_chunk_costs_a_few_calls_only() -> None:
    """Measured 0.5 µs; one that is decoded takes some forty calls."""
    reader = stream()
    one = chunk({"content": " hello"})
    reader.feed(one)
    reader.feed(one)
    assert calls_made(lambda: reader.feed(one)) < 16
    assert reader.answered.content_bytes == 18
