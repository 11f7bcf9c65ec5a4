import json
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import mcp
from sidecar.dialects.dialect import Heading
from sidecar.dialects.jsonrpc import MOST_OBJECTS
from sidecar.dialects.mcp.answers import MOST_EVENT_BYTES, Hearing, reader_of
from sidecar.dialects.mcp.questions import message_of
from sidecar.model.answered import McpAnswered
from tests.repository import ROOT

GOLDEN = sorted((ROOT / "tests" / "dialects" / "golden" / "mcp").glob("*.json"))
CALL = message_of(b'{"id":7,"method":"tools/call","params":{"name":"t"}}')


def told(thing: Any) -> dict[str, Any]:
    """What is not as it is by default, bytes as text."""
    default = {each.name: None if each.default is MISSING else each.default for each in fields(thing)}
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in asdict(thing).items()
        if value != default[name] and name != "meta"
    }


def answered(content: bytes, media_type: str = "text/event-stream", status: int = 200, **more: str) -> McpAnswered:
    reader = reader_of(CALL, status, media_type, more)
    reader.feed(content)
    reader.end()
    assert isinstance(reader.answered, McpAnswered)
    return reader.answered


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_a_transcript_is_understood_however_it_is_split(path: Path) -> None:
    golden = json.loads(path.read_text())
    request, response = golden["request"], golden["response"]
    heading = Heading(request["method"], request["path"], request["query"], fields=request["fields"])
    operation = mcp.operation(heading)
    asked = mcp.request(operation, heading, request["body"].encode())
    assert (operation, told(asked)) == (golden["operation"], golden["asked"])
    content = response["content"].encode()
    for at in range(len(content) + 1):
        reader = mcp.reader(asked, response["status"], response["fields"].get("content-type", ""), response["fields"])
        reader.feed(content[:at])
        reader.feed(content[at:])
        if response["is_whole"]:
            reader.end()
        assert told(reader.answered) == golden["answered"]


def test_there_are_transcripts_of_both_eras() -> None:
    names = {path.stem.partition("_")[0] for path in GOLDEN}
    assert {"modern", "session", "sse", "batch"} <= names


def test_the_answer_to_another_call_is_not_this_ones() -> None:
    found = answered(b'data: {"id":8,"result":{"isError":true}}\n\ndata: {"id":"7","result":{"isError":true}}\n\n')
    assert (found.is_ended, found.is_tool_error, found.events) == (False, False, 2)


def test_an_error_without_an_id_is_this_ones() -> None:
    assert answered(b'data: {"id":null,"error":{"code":-32700,"message":"?"}}\n\n').code == -32700


def test_nothing_counts_after_the_answer() -> None:
    assert not answered(b'data: {"id":7,"result":{}}\n\ndata: {"id":7,"result":{"isError":true}}\n\n').is_tool_error


@pytest.mark.parametrize(
    ("content", "size"),
    [
        ('[{"type":"text","text":"abc"}]', 3),
        ('[{"type":"image","data":"AAAA","mimeType":"image/png"},{"type":"text","text":"é"}]', 6),
        ('[{"type":"resource","resource":{"uri":"memo://1","text":"abcd"}}]', 4),
        ('[{"type":"resource_link","uri":"memo://1"}]', 0),
        ('[{"text":7}]', 0),
        ('"text"', 6),
        ("[]", 0),
        ("null", 4),
    ],
    ids=range(8),
)
def test_content_is_counted_without_what_is_around_it(content: str, size: int) -> None:
    assert answered(f'data: {{"id":7,"result":{{"content":{content}}}}}\n\n'.encode()).content_bytes == size


def test_very_many_parts_are_counted_with_their_envelopes() -> None:
    content = b"[" + b"{}," * MOST_OBJECTS + b"{}]"
    assert answered(b'{"id":7,"result":{"content":%b}}' % content, "application/json").content_bytes == len(content)


def test_structured_content_counts() -> None:
    assert answered(b'{"id":7,"result":{"structuredContent":{"a":1}}}', "application/json").content_bytes == 7


@pytest.mark.parametrize(
    ("content", "media_type", "status", "is_unreadable"),
    [
        (b"data: {broken\n\n", "text/event-stream", 200, True),
        (b"data: " + b"x" * (MOST_EVENT_BYTES + 1) + b"\n\n", "text/event-stream", 200, True),
        (b"{broken", "application/json", 200, True),
        (b"[]", "application/json", 200, True),
        (b"", "application/json", 202, False),
        (b"{broken", "application/json", 500, False),
        (b"<html>", "text/html", 200, False),
        (b"[" * 100_000, "application/json", 200, True),
        (b"\xff\xfe", "application/json", 200, True),
    ],
    ids=range(9),
)
def test_what_cannot_be_read_is_said(content: bytes, media_type: str, status: int, is_unreadable: bool) -> None:
    assert answered(content, media_type, status).is_unreadable == is_unreadable


def test_a_broken_event_does_not_hide_the_answer_behind_it() -> None:
    found = answered(b'data: {broken\n\ndata: {"id":7,"result":{"content":[{"type":"text","text":"x"}]}}\n\n')
    assert (found.is_ended, found.is_unreadable, found.content_bytes) == (True, True, 1)


def test_a_batch_in_a_stream_is_taken_apart() -> None:
    found = answered(b'data: [{"method":"notifications/progress"},{"id":1,"method":"ping"},{"id":7,"result":{}}]\n\n')
    assert (found.progress, found.server_requests, found.is_ended, found.events) == (1, 1, True, 1)


def test_a_cut_stream_keeps_what_had_come() -> None:
    reader = reader_of(CALL, 200, "text/event-stream", {})
    reader.feed(b'data: {"method":"notifications/progress"}\n\ndata: {"id":7,"resu')
    assert told(reader.answered) == {"events": 1, "progress": 1}


def test_the_session_is_that_of_the_head() -> None:
    assert answered(b'{"id":7,"result":{}}', "application/json", **{"mcp-session-id": "s" * 999}).session == "s" * 256


@given(st.binary(max_size=300))
def test_no_body_breaks_a_reader(content: bytes) -> None:
    for media_type in ("application/json", "text/event-stream", "application/problem+json", ""):
        answered(content, media_type)


@given(
    st.lists(
        st.sampled_from(
            [b"data: ", b'{"id":7,', b'"result":', b"{}", b"}", b"\n\n", b"\r", b"[", b"]", b"1e999", b'"method":"x"', b","]
        )
    )
)
def test_no_pieces_of_events_break_a_reader(pieces: list[bytes]) -> None:
    reader = reader_of(CALL, 200, "text/event-stream", {})
    for piece in pieces:
        reader.feed(piece)


def test_an_error_in_words_of_another_protocol_keeps_its_word() -> None:
    assert answered(b'{"error":"invalid_token"}', "application/json", 401).error_type == "invalid_token"


def test_a_hearing_takes_messages_from_anywhere() -> None:
    hearing = Hearing(CALL)
    hearing.body(b'{"id":7,"result":{"isError":true}}')
    assert hearing.answered.is_tool_error
