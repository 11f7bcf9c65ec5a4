import json
from typing import Any

import pytest
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import ollama
from sidecar.dialects.dialect import Clamp, Dialect, Heading, IncludeUsage, Meta, Unreadable
from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.errors import CODES, Refused
from sidecar.model.usage import NONSENSE
from tests.dialects.shown import part_of, shown
from tests.dialects.transcripts import Transcript, asked_members, members, read, splits, transcripts

DIALECT: Dialect = ollama  # a module is as good as an object
TRANSCRIPTS = transcripts("ollama", DIALECT)
ALL = pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript.name)
LINES = "application/x-ndjson"


def asked(path: str = "/api/chat", body: bytes = b'{"model":"m"}') -> ModelAsked:
    told = ollama.request(ollama.operation(Heading("POST", path)), Heading("POST", path), body)
    assert isinstance(told, ModelAsked)
    return told


def answered(*lines: Any, told: ModelAsked | None = None) -> ModelAnswered:
    reader = ollama.reader(told or asked(), 200, LINES, {})
    for line in lines:
        reader.feed((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
    assert isinstance(reader.answered, ModelAnswered)
    return reader.answered


@ALL
def test_a_request_is_understood(transcript: Transcript) -> None:
    assert asked_members(transcript.ask(), transcript.asked_members) == transcript.asked_members


@ALL
def test_an_answer_is_understood_in_whatever_pieces_it_comes(transcript: Transcript) -> None:
    for pieces in splits(transcript.body):
        assert read(transcript.reader(), pieces) == transcript.answered_members


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/chat", "chat"),
        ("/api/generate", "text_completion"),
        ("/api/embed", "embeddings"),
        ("/api/embeddings", "embeddings"),
        ("/proxy/api/chat", "chat"),
        ("/api/tags", ""),
        ("/api/chat/7", ""),
        ("/v1/chat/completions", ""),
        ("/chat", ""),
        ("", ""),
    ],
)
def test_the_path_says_what_is_asked_for(path: str, expected: str) -> None:
    assert ollama.operation(Heading("POST", path)) == expected
    assert ollama.operation(Heading("GET", path)) == ""


@pytest.mark.parametrize(("stream", "expected"), [(None, True), (True, True), (False, False), ("no", True)], ids=str)
def test_an_answer_streams_unless_the_request_says_otherwise(stream: Any, expected: bool) -> None:
    assert asked(body=json.dumps({"model": "m", "stream": stream}).encode()).streams is expected
    assert asked("/api/embed", b"{}").streams is False


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000], ids=["empty", "list", "bytes", "deep"])
def test_a_body_that_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        asked(body=body)


def test_members_of_the_wrong_type_lose_only_themselves() -> None:
    told = asked(body=b'{"model":7,"options":{"num_predict":"x","seed":3},"tools":[{"function":{"name":"f"}},9],"format":""}')
    assert (told.model, told.max_tokens, told.parameters, told.tools, told.output_type) == ("", 0, (("seed", 3),), ("f",), "")


def test_a_stream_that_is_answered_whole_is_read_whole() -> None:
    reader = ollama.reader(asked(), 200, "application/json; charset=utf-8", {})
    reader.feed(b'{\n "model": "m",\n "message": {"content": "Hi"}, "done": true, "done_reason": "stop"\n}')
    reader.end()
    assert members(reader.answered) == {"is_ended": True, "content_bytes": 2, "model": "m", "finish_reasons": ["stop"]}


def test_a_cut_stream_keeps_what_had_come() -> None:
    reader = ollama.reader(asked(), 200, LINES, {})
    reader.feed(b'{"message":{"content":"Hel"}}\n{"message":{"con')
    assert reader.answered.content_bytes == 3 and not reader.answered.is_ended


def test_a_last_line_without_its_end_counts() -> None:
    reader = ollama.reader(asked(), 200, LINES, {})
    reader.feed(b'{"done":true}')
    assert not reader.answered.is_ended
    reader.end()
    assert reader.answered.is_ended


def test_an_error_that_is_an_object_has_its_message() -> None:
    assert answered({"error": {"message": "no memory"}}).error_message == "no memory"
    assert len(answered({"error": "x" * 9_000}).error_message) == 512


def test_lines_that_nobody_can_read_are_counted() -> None:
    found = answered(b"[1]", {"message": {"content": "a"}}, b"\xff")
    assert found.is_unreadable and found.content_bytes == 1 and found.events == 3
    assert answered(b"x" * (1 << 20) + b"x").is_unreadable


def test_calls_have_bounds() -> None:
    calls = [{"function": {"name": "n" * 999, "arguments": {"a": "x" * 70_000}}}, {"function": None}, {}] + [
        {"function": {"name": "f"}}
    ] * 500
    found = answered({"message": {"tool_calls": calls}})
    assert len(found.tool_calls) == 128
    assert (len(found.tool_calls[0].name), len(found.tool_calls[0].arguments)) == (256, 1 << 16)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "message",
                        "content",
                        "tool_calls",
                        "function",
                        "name",
                        "arguments",
                        "error",
                        "done",
                        "eval_count",
                        "response",
                        "model",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=10,
    )
)
def test_no_line_makes_it_raise(line: Any) -> None:
    answered(line)


def test_absurd_counts_are_not_told() -> None:
    usage = answered({"done": True, "prompt_eval_count": -1, "eval_count": 1e300}).usage
    assert usage is not None and (usage.input_total, usage.output_total, usage.doubt) == (0, 0, NONSENSE)


@pytest.mark.parametrize("code", CODES)
def test_an_error_of_ours_is_one_of_ollamas(code: str) -> None:
    spoken = ollama.error(Refused(code, "caf\udce9"), None)
    assert (spoken.status, json.loads(spoken.body)) == (CODES[code].status, {"error": f"{code}: caf?"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"options": {"num_predict": 100}}', b'{"options": {"num_predict": 5}}'),
        (b'{"options":{"num_predict":-1}}', b'{"options":{"num_predict":5}}'),
        (b'{"model":"m"}', b'{"model":"m","options":{"num_predict":5}}'),
        (b'{"options":{"num_predict":5}}', b'{"options":{"num_predict":5}}'),
    ],
    ids=["lower", "without-bound", "without-options", "same"],
)
def test_a_bound_is_put_among_the_options(body: bytes, expected: bytes) -> None:
    assert ollama.edit(asked(body=body), body, Clamp(5)) == expected


def test_what_cannot_be_changed_is_unreadable_and_usage_is_told_anyway() -> None:
    body = b"{}"
    assert ollama.edit(asked(), body, IncludeUsage()) is body
    assert ollama.takes_out(asked(), IncludeUsage()) is None
    with pytest.raises(Unreadable):
        ollama.edit(asked("/api/embed"), body, Clamp(5))
    with pytest.raises(Unreadable):
        ollama.edit(asked(), body, Meta(b"00-"))


def test_a_cut_stream_is_done_by_its_length_limit() -> None:
    for path, said in (("/api/chat", {"message": {"role": "assistant", "content": ""}}), ("/api/generate", {"response": ""})):
        told = asked(path)
        reader = ollama.reader(told, 200, LINES, {})
        ended = ollama.ending(told, reader.answered, "upstream_cut")
        assert json.loads(ended) == {"model": "m", **said, "done": True, "done_reason": "length"}
        reader.feed(ended)
        assert reader.answered.is_ended and ollama.ending(told, reader.answered, "upstream_cut") == b""


def test_nothing_ends_a_stream_inside_a_line_or_what_is_none() -> None:
    told = asked()
    reader = ollama.reader(told, 200, LINES, {})
    reader.feed(b'{"a')
    assert ollama.ending(told, reader.answered, "upstream_cut") == b""
    assert ollama.ending(told, answered(b"[]"), "upstream_cut") == b""
    assert ollama.ending(told, Answered(), "upstream_cut") == b""
    assert ollama.ending(asked("/api/embed"), answered(), "upstream_cut") == b""


def test_the_sdk_takes_our_ending_for_one_of_ollamas() -> None:
    sdk = pytest.importorskip("ollama")
    told = asked()
    part = sdk.ChatResponse(**json.loads(ollama.ending(told, answered(told=told), "upstream_cut")))
    assert (part.done, part.done_reason, part.message.content) == (True, "length", "")


SAID = {
    "chat": ["user: Hi", "assistant: Hi! [length]"],
    "chat_stream": ["user: Hi", 'assistant: (Hm) | Grüezi 👋 | get_weather({"city":"Bern"})#call_1 [stop]'],
    "chat_stream_error": ["user: Hi", "assistant: Gr"],
    "embed": ["user: a", "user: b"],
    "generate_stream": ["user: Hi", "assistant: (So) | Hello [stop]"],
    "refused": ["user: Hi"],
}


@ALL
def test_what_was_said_is_collected(transcript: Transcript) -> None:
    found = ollama.content(transcript.ask(), transcript.request_body, transcript.body, transcript.content_type)
    assert found is not None
    assert shown(found.input + found.output) == SAID[transcript.name]


def test_pictures_are_said_to_be_there_without_their_bytes() -> None:
    request = {"messages": [{"role": "user", "content": "Look", "images": ["iVBORw0KGgo"]}, {"role": "tool", "content": "7", "tool_name": "f"}]}
    found = ollama.content(asked(), json.dumps(request).encode(), b"", LINES)
    assert found is not None
    assert shown(found.input) == ["user: Look | <blob image>", "tool: =>7#f"]
    found = ollama.content(asked("/api/generate"), b'{"system":"Be brief.","prompt":"Look","images":["iVBORw0KGgo"]}', b"", LINES)
    assert found is not None
    assert ([part_of(part) for part in found.instructions], shown(found.input)) == (["Be brief."], ["user: Look | <blob image>"])
    assert "iVBORw0KGgo" not in repr(found)


# ── the official SDK as an oracle ────────────────────────────────────────────────────────────────────────────────────
# The package genai-prices, which is it for the others, has nothing for Ollama (see below).

_SDK_TYPES = {"/api/chat": "ChatResponse", "/api/generate": "GenerateResponse", "/api/embed": "EmbedResponse"}


def sdk_response(path: str, body: bytes) -> Any:
    """The lines of a body as the SDK hands them to the application."""
    types = pytest.importorskip("ollama._types", reason="the official SDK is not installed: make sdks")
    kind = getattr(types, _SDK_TYPES[path])
    lines = [json.loads(line) for line in body.splitlines() if line.strip()]
    return [kind.model_validate(line) for line in lines if "error" not in line]


@pytest.mark.parametrize(
    "transcript", [each for each in TRANSCRIPTS if each.status == 200], ids=lambda transcript: transcript.name
)
def test_the_official_sdk_counts_the_same(transcript: Transcript) -> None:
    told = sdk_response(transcript.heading.path, transcript.body)
    reader = transcript.reader()
    reader.feed(transcript.body)
    reader.end()
    answered = reader.answered
    assert isinstance(answered, ModelAnswered)
    counts = [(each.prompt_eval_count, each.eval_count) for each in told if each.prompt_eval_count or each.eval_count]
    usage = answered.usage
    expected = [(read or 0, written or 0) for read, written in counts[-1:]]
    assert ([(usage.input_total, usage.output_total)] if usage else []) == expected
    assert answered.model == next((each.model for each in told if each.model), "")
    assert answered.finish_reasons == [each.done_reason for each in told if each.done_reason]
    messages = [each.message for each in told if hasattr(each, "message")]
    calls = [call.function.name for message in messages for call in message.tool_calls or ()]
    assert [call.name for call in answered.tool_calls] == calls
    if messages:
        texts = "".join((message.content or "") + (message.thinking or "") for message in messages)
        arguments = sum(len(call.arguments) for call in answered.tool_calls)
        assert answered.content_bytes == len(texts.encode()) + arguments


def test_each_count_of_the_sdks_types_is_read() -> None:
    types = pytest.importorskip("ollama._types", reason="the official SDK is not installed: make sdks")
    for name in _SDK_TYPES.values():
        counts = {field for field in getattr(types, name).model_fields if field.endswith("_count")}
        assert counts == {"prompt_eval_count", "eval_count"}, "a new class of tokens"


def test_the_package_of_prices_has_no_oracle_for_ollama_yet() -> None:
    assert not [each.id for each in providers if "ollama" in each.id], "now it can be compared like the others"
