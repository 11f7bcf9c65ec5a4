import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.cohere.answers import MOST_ARGUMENTS, CohereAnswered, Stream, ending, read_error, read_whole
from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.ndjson import Lines
from sidecar.dialects.sse import EventStream, event
from sidecar.model.usage import CONTRADICTION, NONSENSE, Usage

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "delta",
                    "message",
                    "content",
                    "text",
                    "tool_calls",
                    "function",
                    "arguments",
                    "usage",
                    "billed_units",
                    "tokens",
                    "input_tokens",
                    "index",
                    "event_type",
                    "response",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=10,
)
TYPES = [
    "message-start",
    "content-start",
    "content-delta",
    "content-end",
    "tool-plan-delta",
    "tool-call-start",
    "tool-call-delta",
    "tool-call-end",
    "citation-start",
    "message-end",
    "debug",
    "error",
]


def stream(*events: Any) -> Stream:
    reader = Stream(CohereAnswered(), EventStream())
    for each in events:
        reader.feed(event(each if isinstance(each, bytes) else json.dumps(each).encode(), b"x"))
    return reader


def whole(**body: Any) -> CohereAnswered:
    answered = CohereAnswered()
    read_whole(answered, json.dumps(body).encode())
    return answered


def test_billed_units_count_before_tokens() -> None:
    tokens = {"input_tokens": 100, "output_tokens": 9}
    assert whole(
        usage={"billed_units": {"input_tokens": 3, "output_tokens": 4}, "tokens": tokens, "cached_tokens": 64}
    ).usage == Usage(input_tokens=3, output_tokens=4)
    assert whole(usage={"billed_units": {}, "tokens": tokens, "cached_tokens": 64}).usage == Usage(
        input_tokens=36, cache_read_tokens=64, output_tokens=9
    )
    assert whole(usage={"tokens": tokens, "cached_tokens": 640}).usage == Usage(
        cache_read_tokens=100, output_tokens=9, doubt=CONTRADICTION
    )
    assert whole(meta={"billed_units": {"image_tokens": 7.0}}).usage == Usage(input_image_tokens=7)
    assert whole(usage={}).usage is None and whole().usage is None


@pytest.mark.parametrize("number", [-5, 1e300, "7", None, True], ids=str)
def test_absurd_counts_are_not_told(number: Any) -> None:
    assert whole(usage={"billed_units": {"input_tokens": number, "output_tokens": 3}}).usage == Usage(
        output_tokens=3, doubt="" if number is None else NONSENSE
    )
    billed = {"input_tokens": 1, "output_tokens": 3, "search_units": -1}
    assert whole(usage={"billed_units": billed}).usage == Usage(input_tokens=1, output_tokens=3, doubt=NONSENSE)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("COMPLETE", ""),
        ("MAX_TOKENS", ""),
        ("ERROR", "ERROR"),
        ("ERROR_TOXIC", "ERROR_TOXIC"),
        ("ERROR_LIMIT", ""),
        ("TIMEOUT", "TIMEOUT"),
    ],
)
def test_a_reason_that_is_an_error_is_one(reason: str, expected: str) -> None:
    assert whole(finish_reason=reason).error_type == expected


def test_an_error_in_the_middle_is_told() -> None:
    found = stream({"type": "message-end", "delta": {"error": "x" * 9_000}}).answered
    assert (found.error_type, len(found.error_message), found.is_ended) == ("ERROR", 512, True)
    found = stream({"type": "error", "message": "no"}).answered
    assert (found.error_type, found.error_message) == ("error", "no")


def test_an_error_without_a_message_is_none() -> None:
    answered = CohereAnswered()
    read_error(answered, b'{"message":["a"]}')
    assert answered.error_message == ""
    with pytest.raises(Unreadable):
        read_error(answered, b"<html>")


def test_calls_and_their_arguments_have_bounds() -> None:
    call = {
        "type": "tool-call-start",
        "index": 0,
        "delta": {"message": {"tool_calls": {"id": "i" * 999, "function": {"name": "n" * 999}}}},
    }
    piece = {"type": "tool-call-delta", "delta": {"message": {"tool_calls": {"function": {"arguments": "x" * 10_000}}}}}
    found = stream(call, *[piece] * 10, {"type": "tool-call-end"}, piece, *[call] * 200).answered
    assert len(found.tool_calls) == 128
    assert (len(found.tool_calls[0].id), len(found.tool_calls[0].name), len(found.tool_calls[0].arguments)) == (
        256,
        256,
        MOST_ARGUMENTS,
    )
    assert found.content_bytes == 110_000


def test_events_that_nobody_can_read_are_counted() -> None:
    found = stream(b"[1]", b"nonsense", {"type": "content-delta", "delta": {"message": {"content": {"text": "a"}}}}).answered
    assert found.is_unreadable and found.content_bytes == 1 and found.events == 3
    assert stream(b"x" * (1 << 20)).answered.is_unreadable


def test_thinking_and_plans_are_content() -> None:
    found = stream(
        {"type": "content-delta", "delta": {"message": {"content": {"thinking": "ab"}}}},
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "c"}}},
    ).answered
    assert found.content_bytes == 3


def test_a_last_line_without_its_end_counts() -> None:
    reader = Stream(CohereAnswered(), Lines())
    reader.feed(b'{"event_type":"stream-end","finish_reason":"COMPLETE"}')
    assert not reader.answered.is_ended
    reader.end()
    assert reader.answered.is_ended


def ended(reader: Stream) -> list[Any]:
    data = ending(reader.answered)
    events = EventStream().feed(data)
    assert not data or events[-1] == (b"", b"[DONE]")
    return [json.loads(told) for _, told in events[:-1]]


def test_a_cut_message_is_closed_with_what_is_open() -> None:
    told = ended(stream({"type": "message-start", "id": "a"}, {"type": "content-start", "index": 2}))
    assert [each["type"] for each in told] == ["content-end", "message-end"]
    assert told[0]["index"] == 2 and told[1]["delta"]["finish_reason"] == "MAX_TOKENS"
    told = ended(stream({"type": "tool-call-start", "index": 1}))
    assert told[0] == {"type": "tool-call-end", "index": 1}
    assert [each["type"] for each in ended(stream())] == ["message-start", "message-end"]


def test_nothing_ends_a_stream_inside_an_event_or_after_its_end() -> None:
    reader = stream({"type": "message-start"})
    reader.feed(b"event: content-delta\nda")
    assert ending(reader.answered) == b""
    assert ended(stream({"type": "message-end"})) == []
    assert ended(stream(b"[]")) == []


def test_a_cut_stream_of_lines_ends_with_a_line() -> None:
    reader = Stream(CohereAnswered(), Lines())
    told = json.loads(ending(reader.answered))
    assert told["event_type"] == "stream-end" and told["finish_reason"] == "MAX_TOKENS"


@given(st.lists(st.tuples(st.sampled_from(TYPES), VALUES), max_size=6))
def test_no_event_makes_it_raise(events: list[tuple[str, Any]]) -> None:
    reader = stream(*({**(told if isinstance(told, dict) else {"delta": told}), "type": kind} for kind, told in events))
    reader.end()
    ending(reader.answered)


@given(VALUES)
def test_no_body_or_line_makes_it_raise_anything_else(body: Any) -> None:
    try:
        read_whole(CohereAnswered(), json.dumps(body).encode())
    except Unreadable:
        pass
    Stream(CohereAnswered(), Lines()).feed(json.dumps(body).encode() + b"\n")
