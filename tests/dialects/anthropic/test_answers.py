import json
import tracemalloc
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import anthropic
from sidecar.dialects.anthropic.answers import MOST_ARGUMENT_BYTES, MOST_CALLS, Events
from sidecar.dialects.dialect import Reader
from sidecar.model.answered import ModelAnswered, ToolCall
from sidecar.model.asked import ModelAsked
from sidecar.model.usage import NONSENSE, Usage

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic"
SONNET = "claude-sonnet-4-5-20250929"

STREAMS: dict[str, dict[str, Any]] = {
    "text.sse": {
        "is_ended": True, "events": 9, "content_bytes": len('Hello, wörld! "Yes"\nand'.encode()), "finish_reasons": ["end_turn"],
        "usage": Usage(input_tokens=25, output_tokens=15),
    },
    "tools.sse": {
        "is_ended": True, "events": 15, "content_bytes": len('Lookingget_weathernow{"city": "São Paulo"}{}'.encode()), "finish_reasons": ["tool_use"],
        "tool_calls": [ToolCall("toolu_01A", "get_weather", '{"city": "São Paulo"}'.encode()), ToolCall("toolu_01B", "now", b"{}")],
        "usage": Usage(input_tokens=472, output_tokens=89),
    },
    "thinking.sse": {
        "is_ended": True, "events": 11, "content_bytes": len("17 × 23 is 391391".encode()), "finish_reasons": ["end_turn"],
        "model": "claude-opus-5-5", "service_tier": "priority",
        "usage": Usage(input_tokens=50, cache_read_tokens=12000, cache_write_5m_tokens=1000, cache_write_1h_tokens=2000, output_tokens=40, reasoning_tokens=200),
    },
    "search.sse": {
        "is_ended": True, "events": 12, "content_bytes": len('web_search{"query": "sre"}SRE is…'.encode()), "finish_reasons": ["end_turn"],
        "usage": Usage(input_tokens=10682, output_tokens=510, web_searches=2),
    },
    "compaction.sse": {
        "is_ended": True, "events": 6, "content_bytes": 2, "finish_reasons": ["end_turn"],
        "usage": Usage(input_tokens=225_000, output_tokens=4734, cache_read_tokens=7, cache_write_5m_tokens=5),
    },
    "overloaded.sse": {
        "is_ended": True, "events": 4, "content_bytes": 3, "error_type": "overloaded_error", "error_message": "Overloaded",
        "usage": Usage(input_tokens=25, output_tokens=1),
    },
    "cut.sse": {"is_ended": False, "events": 4, "content_bytes": 5, "usage": Usage(input_tokens=25, cache_read_tokens=500, output_tokens=1)},
}  # fmt: skip

BODIES: dict[str, dict[str, Any]] = {
    "whole.json": {
        "id": "msg_013", "model": SONNET, "content_bytes": 11, "finish_reasons": ["max_tokens"], "service_tier": "batch",
        "usage": Usage(input_tokens=12, cache_read_tokens=8, cache_write_tokens=40, output_tokens=6),
    },
    "rate_limit.json": {
        "error_type": "rate_limit_error", "error_message": "Number of request tokens has exceeded your per-minute rate limit",
    },
    "vertex_error.json": {"error_type": "RESOURCE_EXHAUSTED", "error_message": "Resource exhausted."},
}  # fmt: skip


def asked(streams: bool = True) -> ModelAsked:
    return ModelAsked("anthropic", "chat", streams=streams, model="m")


def reader(streams: bool = True, status: int = 200) -> Reader:
    return anthropic.reader(asked(streams), status, "text/event-stream; charset=utf-8" if streams else "application/json", {})


def read(*pieces: bytes, streams: bool = True) -> ModelAnswered:
    found = reader(streams)
    for piece in pieces:
        found.feed(piece)
    found.end()
    return told(found.answered)


def told(answered: Any) -> ModelAnswered:
    """What every reader of a model's answers tells, without what this one keeps for itself."""
    return ModelAnswered(**{each.name: getattr(answered, each.name) for each in fields(ModelAnswered)})


def expected(file: str) -> ModelAnswered:
    if file in BODIES:
        return ModelAnswered(is_ended=True, **BODIES[file])
    return ModelAnswered(**{"id": "msg_01Qy", "model": SONNET, "service_tier": "standard", **STREAMS[file]})


@pytest.mark.parametrize("file", [*STREAMS, *BODIES])
def test_a_transcript_is_read_whole_byte_by_byte_and_split_anywhere(file: str) -> None:
    data, streams = (GOLDEN / file).read_bytes(), file in STREAMS
    assert read(data, streams=streams) == expected(file)
    assert read(*(data[at : at + 1] for at in range(len(data))), streams=streams) == expected(file)
    for at in range(len(data)):
        assert read(data[:at], data[at:], streams=streams) == expected(file), at


@pytest.mark.parametrize("file", STREAMS)
def test_a_transcript_is_read_event_by_event_and_with_other_ends_of_line(file: str) -> None:
    data = (GOLDEN / file).read_bytes()
    assert read(*data.replace(b"\n\n", b"\n\n\0").split(b"\0")) == expected(file)
    assert read(data.replace(b"\n", b"\r\n")) == expected(file)


def test_every_transcript_is_expected_of() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {*STREAMS, *BODIES, "whole_tools.json"}


def test_a_whole_answer_with_calls_tells_them_and_what_the_server_did_itself_is_none() -> None:
    found = read((GOLDEN / "whole_tools.json").read_bytes(), streams=False)
    assert [(call.id, call.name, json.loads(call.arguments)) for call in found.tool_calls] == [("toolu_9", "f", {"a": [1, 2]})]
    assert found.usage == Usage(input_tokens=5, cache_write_1h_tokens=30, output_tokens=13, reasoning_tokens=20)
    assert found.service_tier == "fast"


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def opened(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def piece(index: int, text: str) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": text})


def test_a_ping_is_no_content() -> None:
    assert read(event("ping")) == ModelAnswered(events=1)


def test_a_cut_stream_keeps_the_usage_and_the_arguments_that_had_come() -> None:
    found = reader()
    answered = found.answered
    found.feed(
        event("message_start", message={"usage": {"input_tokens": 5, "output_tokens": 1}})
        + opened(0, type="tool_use", id="t", name="f", input={})
    )
    expected = ""
    for number in range(5000):
        found.feed(piece(0, f"{number},"))
        expected += f"{number},"
    assert isinstance(answered, ModelAnswered)
    assert answered.tool_calls == [ToolCall("t", "f", expected.encode())]
    assert answered.usage == Usage(input_tokens=5, output_tokens=1)
    assert not answered.is_ended


def test_blocks_may_grow_in_turns() -> None:
    begun = opened(0, type="tool_use", id="a", name="f") + opened(1, type="tool_use", id="b", name="g")
    found = read(begun, piece(0, "1"), piece(1, "2"), piece(0, "3"), piece(7, "9"))
    assert found.tool_calls == [ToolCall("a", "f", b"13"), ToolCall("b", "g", b"2")]


def test_a_call_whose_arguments_come_at_once_keeps_them() -> None:
    assert read(opened(0, type="tool_use", id="a", name="f", input={"x": 1})).tool_calls[0].arguments == b'{"x": 1}'


def test_events_without_a_name_are_read_by_their_type_and_without_a_type_by_their_name() -> None:
    named = b'event: message_delta\ndata: {"delta":{"stop_reason":"refusal"}}\n\n'
    unnamed = b'data: {"type":"message_stop"}\n\n'
    assert read(named, unnamed) == ModelAnswered(events=2, is_ended=True, finish_reasons=["refusal"])


def test_an_event_that_is_no_json_is_said_and_the_rest_is_read() -> None:
    found = read(b"event: content_block_delta\ndata: {oops\n\n", event("message_stop"))
    assert (found.is_unreadable, found.is_ended) == (True, True)


def test_wrong_types_in_the_usage_do_not_lose_the_rest_of_it() -> None:
    found = read(
        event("message_delta", delta={"stop_reason": 7}, usage={"output_tokens": 9, "input_tokens": "many", "cache_creation": []})
    )
    assert (found.usage, found.finish_reasons) == (Usage(output_tokens=9, doubt=NONSENSE), [])


@pytest.mark.parametrize(("body", "kind", "message"), [(b'{"error":"no"}', "error", "no"), (b'{"error":{"message":7}}', "", "")])
def test_errors_in_other_shapes_are_errors_all_the_same(body: bytes, kind: str, message: str) -> None:
    found = read(body, streams=False)
    assert (found.error_type, found.error_message, found.is_unreadable) == (kind, message, False)


@pytest.mark.parametrize("body", [b"<html>502</html>", b"[]", b"{", b"[" * 100_000, b"\xff"], ids=lambda body: repr(body[:9]))
def test_a_body_that_cannot_be_read_is_unreadable(body: bytes) -> None:
    found = anthropic.reader(asked(), 502, "text/html", {})
    found.feed(body)
    found.end()
    assert found.answered.is_unreadable


def test_a_stream_without_a_media_type_is_one() -> None:
    assert isinstance(anthropic.reader(asked(), 200, "", {}), Events)
    assert not isinstance(anthropic.reader(asked(), 500, "", {}), Events)
    assert not isinstance(anthropic.reader(asked(streams=False), 200, "", {}), Events)


def test_what_a_hostile_server_says_is_bounded() -> None:
    found = reader()
    found.feed(event("message_start", message={"id": "i" * 9999, "model": "m" * 9999}))
    tracemalloc.start()
    for index in range(MOST_CALLS + 50):
        found.feed(opened(index, type="tool_use", id="i" * 999, name="n" * 999))
        found.feed(piece(index, "x" * 20_000))
    found.feed(event("error", error={"type": "t" * 999, "message": "m" * 9999}))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    answered = found.answered
    assert isinstance(answered, ModelAnswered)
    assert (len(answered.id), len(answered.error_type), len(answered.error_message)) == (256, 256, 512)
    assert len(answered.tool_calls) == MOST_CALLS
    assert sum(len(call.arguments) for call in answered.tool_calls) == MOST_ARGUMENT_BYTES
    assert kept < 3 * MOST_ARGUMENT_BYTES


def test_an_event_above_the_bound_is_passed_over_and_said() -> None:
    found = read(
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * (1 << 20)}), event("message_stop")
    )
    assert (found.is_unreadable, found.is_ended, found.content_bytes) == (True, True, 0)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.lists(st.tuples(st.sampled_from(["text", "thinking"]), TEXT, st.integers(0, 9), st.booleans()), max_size=9),
    st.integers(0, 2000),
)
def test_text_counts_the_same_however_it_is_written_and_split(told: list[tuple[str, str, int, bool]], cut: int) -> None:
    stream = b""
    for kind, text, blanks, is_ascii in told:
        data = json.dumps(
            {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", kind: text}},
            ensure_ascii=is_ascii,
            separators=(",", ":") if blanks % 2 else None,
        )
        stream += f"event: content_block_delta\ndata: {data[:-1]}{' ' * blanks}}}\n\n".encode()
    expected = ModelAnswered(events=len(told) + 1, content_bytes=sum(len(text.encode()) for _, text, _, _ in told))
    assert read(event("ping"), stream) == read(event("ping") + stream[:cut], stream[cut:]) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "usage", "content", "input_tokens", "text", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)
KINDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
    "new",
]
MEMBERS = st.sampled_from(["message", "index", "delta", "content_block", "usage", "error", "type"])


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(MEMBERS, JSON, max_size=4)), max_size=6))
def test_a_reader_never_raises(events: list[tuple[str, dict[str, Any]]]) -> None:
    read(*(f"data: {json.dumps({'type': kind, **members})}\n\n".encode() for kind, members in events))
    for _, members in events:
        read(json.dumps(members).encode(), streams=False)


@given(st.binary(max_size=200))
def test_a_reader_takes_any_bytes(data: bytes) -> None:
    read(data)
    read(b"data: " + data + b"\n\n")
    read(data, streams=False)
