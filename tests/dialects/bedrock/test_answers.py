import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.bedrock.answers import MOST_ARGUMENTS, Conversation, TokenUsage, ending, read_answer, usage_of
from sidecar.dialects.bedrock.streams import BedrockAnswered
from sidecar.dialects.dialect import Unreadable
from sidecar.model.usage import CONTRADICTION, NONSENSE, Usage

KINDS = ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "later"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "delta",
                    "start",
                    "toolUse",
                    "text",
                    "input",
                    "contentBlockIndex",
                    "usage",
                    "inputTokens",
                    "stopReason",
                    "reasoningContent",
                    "cacheDetails",
                    "ttl",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


def told(answered: BedrockAnswered, *events: tuple[str, Any]) -> BedrockAnswered:
    conversation = Conversation(answered)
    for kind, payload in events:
        conversation.event(kind, json.dumps(payload).encode())
    return answered


def test_writes_to_the_cache_are_counted_once() -> None:
    assert usage_of(TokenUsage(cache_write_input_tokens=10)) == Usage(cache_write_tokens=10)
    usage = usage_of(TokenUsage(input_tokens=1, cache_write_input_tokens=1_000, cache_read_input_tokens=5, output_tokens=2))
    assert (usage.input_total, usage.output_total) == (1_006, 2)


def test_details_above_the_sum_do_not_make_a_class_negative() -> None:
    answered = told(
        BedrockAnswered(),
        (
            "metadata",
            {
                "usage": {
                    "cacheWriteInputTokens": 5,
                    "cacheDetails": [{"ttl": "5m", "inputTokens": 9}, {"ttl": "2d", "inputTokens": 9}, 7],
                }
            },
        ),
    )
    assert answered.usage == Usage(cache_write_5m_tokens=9, doubt=CONTRADICTION)


@pytest.mark.parametrize("number", [-5, 1e300, "7", None, True], ids=str)
def test_absurd_counts_are_not_told(number: Any) -> None:
    answered = told(BedrockAnswered(), ("metadata", {"usage": {"inputTokens": number, "outputTokens": 3}}))
    assert answered.usage == Usage(output_tokens=3, doubt="" if number is None else NONSENSE)


@pytest.mark.parametrize("member", ["cache_read_input_tokens", "cache_write_input_token_count", "output_tokens"])
def test_a_class_that_cannot_be_so_leaves_a_doubt_on_all(member: str) -> None:
    assert usage_of(TokenUsage(**{"input_tokens": 5, member: -1})) == Usage(input_tokens=5, doubt=NONSENSE)


def test_text_in_half_a_surrogate_pair_is_read_all_the_same() -> None:
    answered = BedrockAnswered()
    Conversation(answered).event("contentBlockDelta", b'{"delta":{"text":"ab\\ud83d"}}')
    assert answered.content_bytes == 3


def test_arguments_and_calls_have_bounds() -> None:
    answered = BedrockAnswered()
    conversation = Conversation(answered)
    for _ in range(200):
        conversation.event(
            "contentBlockStart", json.dumps({"start": {"toolUse": {"name": "n" * 999, "toolUseId": "i" * 999}}}).encode()
        )
    piece = json.dumps({"delta": {"toolUse": {"input": "x" * 10_000}}}).encode()
    conversation.event("contentBlockStart", b'{"start":{"toolUse":{"name":"none"}}}')
    conversation.event("contentBlockDelta", piece)
    assert len(answered.tool_calls) == 128 and len(answered.tool_calls[0].name) == 256
    again = told(BedrockAnswered(), ("contentBlockStart", {"start": {"toolUse": {"name": "f"}}}))
    conversation = Conversation(again)
    conversation.event("contentBlockStart", b'{"start":{"toolUse":{"name":"g"}}}')
    for _ in range(20):
        conversation.event("contentBlockDelta", piece)
    assert len(again.tool_calls[1].arguments) == MOST_ARGUMENTS
    assert again.content_bytes == 200_000


def test_arguments_belong_to_the_call_that_is_open() -> None:
    answered = told(
        BedrockAnswered(),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"name": "a", "toolUseId": "1"}}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "lost"}}}),
    )
    assert [call.arguments for call in answered.tool_calls] == [b"{}"]


def test_an_image_is_content() -> None:
    image = {"format": "png", "source": {"bytes": "AAAA"}}
    answered = told(BedrockAnswered(), ("contentBlockDelta", {"delta": {"image": image}}), ("contentBlockDelta", {}))
    assert answered.content_bytes == len(json.dumps(image))
    whole = BedrockAnswered()
    read_answer(whole, json.dumps({"output": {"message": {"content": [{"image": image}]}}}).encode())
    assert whole.content_bytes == len(json.dumps(image))


def test_the_usage_so_far_is_in_the_ending() -> None:
    answered = BedrockAnswered(usage=Usage(input_tokens=3, output_tokens=4, cache_write_1h_tokens=5), is_started=True)
    assert b'"inputTokens":3,"outputTokens":4,"totalTokens":12,"cacheReadInputTokens":0,"cacheWriteInputTokens":5' in ending(
        answered
    )


@given(st.lists(st.tuples(st.sampled_from(KINDS), VALUES), max_size=8))
def test_no_event_makes_it_raise_anything_else(events: list[tuple[str, Any]]) -> None:
    answered = BedrockAnswered()
    for event in events:
        try:
            told(answered, event)
        except Unreadable:
            pass
    ending(answered)


@given(VALUES | st.fixed_dictionaries({"output": VALUES, "usage": VALUES, "stopReason": VALUES}))
def test_no_body_makes_it_raise_anything_else(body: Any) -> None:
    try:
        read_answer(BedrockAnswered(), json.dumps(body).encode())
    except Unreadable:
        pass
