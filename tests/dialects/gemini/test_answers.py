import json
import tracemalloc
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import gemini
from sidecar.dialects.dialect import Reader
from sidecar.dialects.gemini.answers import MOST_ARGUMENT_BYTES, MOST_CALLS
from sidecar.model.answered import ModelAnswered, ToolCall
from sidecar.model.asked import ModelAsked
from sidecar.model.usage import NONSENSE, Usage

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini"
FLASH = {"id": "mLkfabc123", "model": "gemini-2.5-flash"}
TEXT = {
    **FLASH,
    "is_ended": True,
    "events": 5,
    "content_bytes": len('Hello wörld, how are "you"?\n'.encode()),
    "finish_reasons": ["STOP"],
    "usage": Usage(input_tokens=9, output_tokens=16),
}
OVERLOADED = {
    **FLASH,
    "is_ended": True,
    "content_bytes": 3,
    "error_type": "UNAVAILABLE",
    "error_message": "The model is overloaded.",
    "usage": Usage(input_tokens=9, output_tokens=1),
}
QUOTA = {"is_ended": True, "error_type": "RESOURCE_EXHAUSTED", "error_message": "You exceeded your current quota"}
GROUNDED = {"id": "mLkfabc123", "is_ended": True, "content_bytes": 11, "finish_reasons": ["STOP"]}

TRANSCRIPTS: dict[str, dict[str, Any]] = {
    "text.sse": TEXT,
    "text.array.json": TEXT,
    "compact.array.json": TEXT,
    "tools.sse": {
        **FLASH, "is_ended": True, "events": 2, "content_bytes": len('**Plan**\n\nI thinkget_weathernow{"city": "Köln"}{}'.encode()), "finish_reasons": ["STOP"],
        "tool_calls": [ToolCall("fc_1", "get_weather", '{"city": "Köln"}'.encode()), ToolCall("", "now", b"{}")],
        "usage": Usage(input_tokens=120, output_tokens=31, reasoning_tokens=62),
    },
    "vertex_cached.sse": {
        "id": "v1", "model": "gemini-2.5-pro", "is_ended": True, "events": 3, "content_bytes": 6, "finish_reasons": ["STOP"], "service_tier": "priority",
        "usage": Usage(input_tokens=200, cache_read_tokens=600, input_audio_tokens=300, cache_read_audio_tokens=400, output_tokens=4, reasoning_tokens=15),
    },
    "unavailable.sse": {**OVERLOADED, "events": 2},
    "unavailable_bare.sse": {**OVERLOADED, "events": 1},
    "cut.sse": {**FLASH, "events": 3, "content_bytes": 21, "usage": Usage(input_tokens=9, output_tokens=12)},
    "blocked.sse": {"model": "gemini-2.5-flash", "is_ended": True, "events": 1, "finish_reasons": ["PROHIBITED_CONTENT"], "usage": Usage(input_tokens=7)},
    "quota.array.json": {**QUOTA, "events": 1},
    "quota.json": QUOTA,
    "whole.json": {
        **FLASH, "is_ended": True, "content_bytes": 6, "finish_reasons": ["STOP", "MAX_TOKENS"],
        "usage": Usage(input_tokens=10, output_tokens=5, reasoning_tokens=3),
    },
    "grounded.json": {**GROUNDED, "model": "gemini-3-pro-preview", "usage": Usage(input_tokens=320, output_tokens=50, reasoning_tokens=10, web_searches=2)},
    "grounded_2_5.json": {**GROUNDED, "model": "gemini-2.5-flash", "usage": Usage(input_tokens=320, output_tokens=50, reasoning_tokens=10, web_searches=1)},
    "modalities.json": {
        "id": "mLkfabc123", "model": "gemini-2.5-flash-image", "is_ended": True, "content_bytes": 4, "finish_reasons": ["STOP"],
        "usage": Usage(input_tokens=100, input_audio_tokens=100, input_image_tokens=300, input_video_tokens=500, output_tokens=10, output_image_tokens=1290),
    },
    "embedding.json": {"is_ended": True, "usage": Usage(input_tokens=5)},
    "embeddings_vertex.json": {"is_ended": True, "usage": Usage(input_tokens=7, input_characters=21)},
}  # fmt: skip


def asked(streams: bool = True) -> ModelAsked:
    return ModelAsked("gemini", "generate_content", streams=streams, model="gemini-2.5-flash")


def reader(file: str) -> Reader:
    is_array = file.endswith(".array.json")
    return gemini.reader(
        asked(file.endswith(".sse") or is_array),
        200,
        "text/event-stream" if file.endswith(".sse") else "application/json; charset=UTF-8",
        {},
    )


def read(file: str, *pieces: bytes) -> ModelAnswered:
    found = reader(file)
    for piece in pieces:
        found.feed(piece)
    found.end()
    return told(found.answered)


def told(answered: Any) -> ModelAnswered:
    """What every reader of a model's answers tells, without what this one keeps for itself."""
    return ModelAnswered(**{each.name: getattr(answered, each.name) for each in fields(ModelAnswered)})


@pytest.mark.parametrize("file", TRANSCRIPTS)
def test_a_transcript_is_read_whole_byte_by_byte_and_split_anywhere(file: str) -> None:
    data, expected = (GOLDEN / file).read_bytes(), ModelAnswered(**TRANSCRIPTS[file])
    assert read(file, data) == expected
    assert read(file, *(data[at : at + 1] for at in range(len(data)))) == expected
    for at in range(len(data)):
        assert read(file, data[:at], data[at:]) == expected, at


@pytest.mark.parametrize("file", [file for file in TRANSCRIPTS if file.endswith(".sse")])
def test_a_transcript_is_read_event_by_event_and_with_other_ends_of_line(file: str) -> None:
    data, expected = (GOLDEN / file).read_bytes(), ModelAnswered(**TRANSCRIPTS[file])
    assert read(file, *data.replace(b"\n\r\n", b"\n\r\n\0").split(b"\0")) == expected
    plain = data.replace(b"\r\n", b"\n")
    assert read(file, plain) == read(file, *plain.replace(b"\n\n", b"\n\n\0").split(b"\0")) == expected


def test_every_transcript_is_expected_of() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(TRANSCRIPTS)


def piece(text: str, output: int, **more: Any) -> bytes:
    body = {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": output, **more},
        "modelVersion": "gemini-2.5-flash",
    }
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\r\n\r\n"


def test_the_usage_is_the_last_one_at_any_moment_also_to_whoever_keeps_the_answer() -> None:
    found = reader("x.sse")
    answered = found.answered
    assert isinstance(answered, ModelAnswered)
    assert answered.usage is None
    for output in (1, 5, 12, 300, 7):
        found.feed(piece("ä", output))
        assert answered.usage == Usage(input_tokens=9, output_tokens=output)
    found.feed(piece("b", 8))
    found.feed(piece("c", 9, thoughtsTokenCount=4))
    assert answered.usage == Usage(input_tokens=9, output_tokens=9, reasoning_tokens=4)
    assert (answered.events, answered.content_bytes) == (7, 12)


def test_several_events_in_one_piece_all_count() -> None:
    found = read("x.sse", piece("a", 1), piece("b", 2), piece("c", 3) + piece("d", 4), piece("e", 5))
    assert (found.events, found.content_bytes, found.usage) == (5, 5, Usage(input_tokens=9, output_tokens=5))


def test_searches_that_were_told_before_stay() -> None:
    grounding = b'data: {"candidates":[{"groundingMetadata":{"webSearchQueries":["a","b"]}}],"usageMetadata":{"promptTokenCount":1},"modelVersion":"gemini-3-pro"}\n\n'
    found = read("x.sse", grounding, piece("a", 1), piece("b", 2), piece("c", 3))
    assert found.usage == Usage(input_tokens=9, output_tokens=3, web_searches=2)


def test_a_stream_that_is_closed_without_a_reason_has_not_ended() -> None:
    assert not read("x.sse", piece("a", 1)).is_ended
    assert not read("x.array.json", b"[" + piece("a", 1)[6:] + b"]").is_ended


def test_the_head_tells_the_tier_where_the_body_does_not() -> None:
    found = gemini.reader(asked(), 200, "text/event-stream", {"x-gemini-service-tier": "FLEX"})
    found.feed(piece("a", 1))
    assert told(found.answered).service_tier == "flex"


def test_wrong_types_do_not_lose_the_rest() -> None:
    body = {
        "candidates": [7, {"content": 7, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": "x", "candidatesTokenCount": 4, "promptTokensDetails": 7},
    }
    found = read("x.sse", b"data: " + json.dumps(body).encode() + b"\n\n")
    assert (found.finish_reasons, found.usage) == (["STOP"], Usage(output_tokens=4, doubt=NONSENSE))


def test_a_call_in_parts_is_one_call() -> None:
    def call(**members: Any) -> bytes:
        return b"data: " + json.dumps({"candidates": [{"content": {"parts": [{"functionCall": members}]}}]}).encode() + b"\n\n"

    found = read(
        "x.sse",
        call(name="f", id="1", willContinue=True),
        call(partialArgs=[{"jsonPath": "$.a", "stringValue": "x"}], willContinue=True),
        call(),
    )
    assert [each.name for each in found.tool_calls] == ["f"]


@pytest.mark.parametrize(
    "body", [b"<html>502</html>", b"[]", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff"], ids=lambda body: repr(body[:9])
)
def test_a_body_that_cannot_be_read_is_unreadable(body: bytes) -> None:
    assert read("x.json", body).is_unreadable


def test_an_event_that_is_no_json_is_said_and_the_rest_is_read() -> None:
    found = read("x.sse", b"data: {oops\n\n", (GOLDEN / "text.sse").read_bytes())
    assert (found.is_unreadable, found.is_ended) == (True, True)
    found = read("x.array.json", b"[{oops},", (GOLDEN / "compact.array.json").read_bytes()[1:])
    assert (found.is_unreadable, found.is_ended) == (True, True)


@pytest.mark.parametrize(("body", "kind"), [(b'{"error":"no"}', "error"), (b'{"error":{"code":418}}', "418")])
def test_errors_in_other_shapes_are_errors_all_the_same(body: bytes, kind: str) -> None:
    assert read("x.json", body).error_type == kind


def test_what_a_hostile_server_says_is_bounded() -> None:
    found = reader("x.sse")
    tracemalloc.start()
    for _ in range(MOST_CALLS + 9):
        parts = [{"functionCall": {"name": "n" * 999, "id": "i" * 999, "args": {"a": "x" * 20_000}}}]
        body = {
            "candidates": [{"content": {"parts": parts}, "finishReason": "F" * 999, "index": each} for each in (0, 10**9, -1)],
            "modelVersion": "m" * 999,
        }
        found.feed(b"data: " + json.dumps(body).encode() + b"\n\n")
    found.feed(b"data: " + json.dumps({"error": {"status": "s" * 999, "message": "m" * 9999}}).encode() + b"\n\n")
    found.feed(b"{" * 1_000_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    answered = told(found.answered)
    assert (len(answered.model), len(answered.error_type), len(answered.error_message), len(answered.finish_reasons)) == (
        256,
        256,
        512,
        1,
    )
    assert (len(answered.tool_calls), sum(len(call.arguments) for call in answered.tool_calls)) == (
        MOST_CALLS,
        MOST_ARGUMENT_BYTES,
    )
    assert kept < 4 * MOST_ARGUMENT_BYTES


WORDS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.lists(st.tuples(WORDS, st.integers(0, 5000), st.booleans()), max_size=9), st.integers(0, 3000))
def test_text_counts_the_same_however_it_is_split(pieces: list[tuple[str, int, bool]], cut: int) -> None:
    events = [piece(text, output, **({"thoughtsTokenCount": 5} if thought else {})) for text, output, thought in pieces]
    stream = b"".join(events)
    whole, split, each = read("x.sse", stream), read("x.sse", stream[:cut], stream[cut:]), read("x.sse", *events)
    assert whole == split == each
    assert each.content_bytes == sum(len(text.encode()) for text, _, _ in pieces)
    if pieces:
        assert each.usage == Usage(input_tokens=9, output_tokens=pieces[-1][1], reasoning_tokens=5 if pieces[-1][2] else 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["parts", "content", "functionCall", "text", "index", "promptTokenCount"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    [
        "candidates",
        "usageMetadata",
        "modelVersion",
        "responseId",
        "promptFeedback",
        "error",
        "embedding",
        "embeddings",
        "metadata",
    ]
)


@given(st.lists(st.dictionaries(MEMBERS, JSON, max_size=4), max_size=4))
def test_a_reader_never_raises(bodies: list[dict[str, Any]]) -> None:
    read("x.sse", *(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies))
    read("x.array.json", json.dumps(bodies).encode())
    for body in bodies:
        read("x.json", json.dumps(body).encode())


@given(st.binary(max_size=200))
def test_a_reader_takes_any_bytes(data: bytes) -> None:
    read("x.sse", data)
    read("x.sse", b"data: " + data + b"\n\n")
    read("x.array.json", b"[" + data)
    read("x.json", data)


def test_bare_json_that_is_none_is_said() -> None:
    found = read("x.sse", piece("a", 1), b"{oops", b"}\n")
    assert (found.is_unreadable, found.events) == (True, 1)


def test_a_count_without_digits_leaves_the_one_before() -> None:
    found = read("x.sse", piece("a", 1), piece("b", 2), piece("c", 3).replace(b": 3}", b": }"))
    assert found.usage == Usage(input_tokens=9, output_tokens=2)
