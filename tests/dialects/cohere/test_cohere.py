import json
from typing import Any

import pytest

from sidecar.dialects import cohere
from sidecar.dialects.dialect import Clamp, Dialect, Heading, IncludeUsage, Meta, Unreadable
from sidecar.dialects.sse import EventStream
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked, ModelAsked
from sidecar.model.errors import CODES, Refused
from tests.dialects.transcripts import Transcript, asked_members, members, read, splits, transcripts

DIALECT: Dialect = cohere  # a module is as good as an object
TRANSCRIPTS = transcripts("cohere", DIALECT)
ALL = pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript.name)


def asked(path: str = "/v2/chat", **body: Any) -> Asked:
    heading = Heading("POST", path)
    return cohere.request(cohere.operation(heading), heading, json.dumps(body).encode())


@ALL
def test_a_request_is_understood(transcript: Transcript) -> None:
    assert asked_members(transcript.ask(), transcript.asked_members) == transcript.asked_members


@ALL
def test_an_answer_is_understood_in_whatever_pieces_it_comes(transcript: Transcript) -> None:
    for pieces in splits(transcript.body):
        assert read(transcript.reader(), pieces) == transcript.answered_members


@pytest.mark.parametrize("transcript", [each for each in TRANSCRIPTS if each.oracle], ids=lambda transcript: transcript.name)
def test_the_tokens_are_those_that_genai_prices_finds(transcript: Transcript) -> None:
    data = pytest.importorskip("genai_prices.data")
    assert transcript.oracle is not None
    provider = next(each for each in data.providers if each.id == transcript.oracle["provider"])
    _, found = provider.extract_usage(transcript.oracle["body"], api_flavor=transcript.oracle["flavor"])
    reader = transcript.reader()
    read(reader, [transcript.body])
    usage = reader.answered.usage  # type: ignore[attr-defined]  # what a model answered
    assert found.input_tokens == usage.input_total
    assert (found.output_tokens or 0) == usage.output_total
    assert (found.cache_read_tokens or 0) == usage.cache_read_total


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/chat", "chat"),
        ("/v1/chat", "chat"),
        ("/v2/embed", "embeddings"),
        ("/v1/embed", "embeddings"),
        ("/proxy/v2/chat", "chat"),
        ("/v2/rerank", ""),
        ("/v1/chat/completions", ""),
        ("/compatibility/v1/chat/completions", ""),
        ("/chat", ""),
        ("", ""),
    ],
)
def test_the_path_says_what_is_asked_for(path: str, expected: str) -> None:
    assert cohere.operation(Heading("POST", path)) == expected
    assert cohere.operation(Heading("GET", path)) == ""


def test_a_stream_that_is_answered_whole_is_read_whole() -> None:
    reader = cohere.reader(asked(stream=True), 200, "application/json; charset=utf-8", {})
    reader.feed(b'{"id":"a","finish_reason":"COMPLETE"}')
    reader.end()
    assert members(reader.answered) == {"is_ended": True, "id": "a", "finish_reasons": ["COMPLETE"]}


def test_an_error_that_is_no_json_is_unreadable() -> None:
    reader = cohere.reader(asked(stream=True), 502, "text/html", {})
    reader.feed(b"<html>")
    reader.end()
    assert members(reader.answered) == {"is_ended": True, "is_unreadable": True}


@pytest.mark.parametrize("code", CODES)
def test_an_error_of_ours_is_one_of_coheres(code: str) -> None:
    spoken = cohere.error(Refused(code, "caf\udce9"), None)
    assert (spoken.status, json.loads(spoken.body)) == (CODES[code].status, {"message": f"{code}: caf?"})


def test_a_bound_is_lowered_and_never_raised() -> None:
    assert cohere.edit(asked(max_tokens=9), b'{"max_tokens": 9}', Clamp(5)) == b'{"max_tokens": 5}'
    assert cohere.edit(asked(), b'{"model":"m"}', Clamp(5)) == b'{"model":"m","max_tokens":5}'
    body = b'{"max_tokens": 4}'
    assert cohere.edit(asked(max_tokens=4), body, Clamp(5)) is body


def test_what_cannot_be_changed_is_unreadable_and_usage_is_told_anyway() -> None:
    body = b"{}"
    assert cohere.edit(asked(), body, IncludeUsage()) is body
    assert cohere.takes_out(asked(), IncludeUsage()) is None
    with pytest.raises(Unreadable):
        cohere.edit(asked("/v2/embed"), body, Clamp(5))
    with pytest.raises(Unreadable):
        cohere.edit(asked(), body, Meta(b"00-"))


def test_only_streams_have_an_ending() -> None:
    told = asked(stream=True)
    assert isinstance(told, ModelAsked)
    reader = cohere.reader(told, 200, "text/event-stream", {})
    assert cohere.ending(told, reader.answered, "upstream_cut")
    assert cohere.ending(asked(), reader.answered, "upstream_cut") == b""
    assert cohere.ending(told, Answered(), "upstream_cut") == b""


def test_the_sdk_takes_our_ending_for_one_of_coheres() -> None:
    types = pytest.importorskip("cohere.v2.types.v2chat_stream_response")
    models = pytest.importorskip("cohere.core.unchecked_base_model")
    told = asked(stream=True)
    reader = cohere.reader(told, 200, "text/event-stream", {})
    reader.feed(b'event: content-start\ndata: {"type":"content-start","index":0}\n\n')
    events = [data for _, data in EventStream().feed(cohere.ending(told, reader.answered, "upstream_cut"))]
    assert events.pop() == b"[DONE]"
    parsed = [models.construct_type(type_=types.V2ChatStreamResponse, object_=json.loads(data)) for data in events]
    assert [each.type for each in parsed] == ["content-end", "message-end"]
    assert parsed[1].delta.finish_reason == "MAX_TOKENS"
