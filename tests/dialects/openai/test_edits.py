import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.dialect import Change, Clamp, Heading, IncludeUsage, Meta, Unreadable
from sidecar.dialects.openai.asked import OpenAiAsked, operation, request
from sidecar.dialects.openai.edits import UsageRemoval, edit, takes_out
from sidecar.model.asked import Asked

GOLDEN = Path(__file__).parent.parent / "golden" / "openai"
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "responses": "/v1/responses", "embeddings": "/v1/embeddings"}


def edited(endpoint: str, body: bytes, change: Change, host: str = "api.openai.com") -> bytes:
    heading = Heading("POST", PATHS[endpoint], host=host)
    return edit(request(operation(heading), heading, body), body, change)


@pytest.mark.parametrize(
    ("endpoint", "host", "body", "expected"),
    [
        ("chat", "api.openai.com", b'{"model":"m"}', b'{"model":"m","max_completion_tokens":50}'),
        ("chat", "x.openai.azure.com", b'{"model":"m"}', b'{"model":"m","max_completion_tokens":50}'),
        ("chat", "api.deepseek.com", b'{"model":"m"}', b'{"model":"m","max_tokens":50}'),
        ("chat", "api.openai.com", b'{ "max_tokens" : 100 }', b'{ "max_tokens" : 50 }'),
        ("chat", "api.openai.com", b'{"max_tokens":100,"max_completion_tokens":20}', b'{"max_tokens":50,"max_completion_tokens":20}'),
        ("chat", "api.openai.com", b'{"max_completion_tokens":null}', b'{"max_completion_tokens":50}'),
        ("chat", "api.openai.com", b'{"max_tokens":"100"}', b'{"max_tokens":50}'),
        ("chat", "api.openai.com", b'{"max_tokens":-1}', b'{"max_tokens":50}'),
        ("completions", "api.openai.com", b'{"max_tokens":51}', b'{"max_tokens":50}'),
        ("completions", "api.openai.com", b"{}", b'{"max_tokens":50}'),
        ("responses", "api.openai.com", b'{"input":"x"}', b'{"input":"x","max_output_tokens":50}'),
        ("responses", "api.openai.com", b'{"max_output_tokens":1e3}', b'{"max_output_tokens":50}'),
    ],
    ids=range(12),
)
def test_a_clamp_changes_the_member_that_the_endpoint_has(endpoint: str, host: str, body: bytes, expected: bytes) -> None:
    assert edited(endpoint, body, Clamp(50), host) == expected


@pytest.mark.parametrize(("endpoint", "body"), [("chat", b'{"max_tokens":50}'), ("chat", b'{"max_completion_tokens":1}'), ("responses", b'{"max_output_tokens":0}')])
def test_a_clamp_that_is_kept_already_changes_nothing(endpoint: str, body: bytes) -> None:
    assert edited(endpoint, body, Clamp(50)) is body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"stream":true}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"stream":true,"stream_options":null}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"stream":true,"stream_options":{"include_obfuscation":false}}', b'{"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}}'),
        (b'{"stream":true,"stream_options":{"include_usage":false}}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
    ],
    ids=range(4),
)
def test_usage_is_asked_for_in_its_place(body: bytes, expected: bytes) -> None:
    assert edited("chat", body, IncludeUsage()) == expected
    assert edited("completions", body, IncludeUsage()) == expected


@pytest.mark.parametrize(
    ("body", "host"),
    [(b'{"stream":true,"stream_options":{"include_usage":true}}', "api.openai.com"), (b'{"stream":true}', "api.mistral.ai"), (b'{"stream":true}', "api.groq.com")],
    ids=range(3),
)
def test_who_tells_the_usage_anyway_is_not_asked(body: bytes, host: str) -> None:
    assert edited("chat", body, IncludeUsage(), host) is body


@pytest.mark.parametrize(
    ("endpoint", "body", "change"),
    [
        ("chat", b"{}", IncludeUsage()),
        ("responses", b'{"stream":true}', IncludeUsage()),
        ("embeddings", b'{"stream":true}', IncludeUsage()),
        ("embeddings", b"{}", Clamp(5)),
        ("chat", b"{}", Meta(b"x")),
        ("chat", b'{"stream":true,"stream_options":7}', IncludeUsage()),
    ],
    ids=range(6),
)
def test_a_change_that_the_endpoint_does_not_take_is_refused(endpoint: str, body: bytes, change: Change) -> None:
    with pytest.raises(Unreadable):
        edited(endpoint, body, change)


def test_what_is_none_of_ours_is_left_alone() -> None:
    with pytest.raises(Unreadable):
        edit(Asked("openai", "chat"), b"{}", Clamp(5))
    assert takes_out(Asked("openai", "chat", True), IncludeUsage()) is None


@pytest.mark.parametrize(
    ("asked", "change", "expected"),
    [
        (OpenAiAsked("openai", "chat", True, tells_usage=False), IncludeUsage(), True),
        (OpenAiAsked("openai", "text_completion", True, tells_usage=False, endpoint="completions"), IncludeUsage(), True),
        (OpenAiAsked("openai", "chat", True, tells_usage=True), IncludeUsage(), False),
        (OpenAiAsked("openai", "chat", False), IncludeUsage(), False),
        (OpenAiAsked("openai", "chat", True, tells_usage=False), Clamp(5), False),
        (OpenAiAsked("openai", "chat", True, tells_usage=False, endpoint="responses"), IncludeUsage(), False),
    ],
    ids=range(6),
)
def test_only_what_was_added_is_taken_out(asked: OpenAiAsked, change: Change, expected: bool) -> None:
    assert (takes_out(asked, change) is not None) is expected


def chunk(**members: Any) -> bytes:
    return b"data: " + json.dumps({"id": "a", "object": "chat.completion.chunk"} | members).encode()


CONTENT = chunk(choices=[{"index": 0, "delta": {"content": '"choices": [] \n'}}], usage=None)
USAGE = chunk(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2})
FILTERED = chunk(choices=[], prompt_filter_results=[])
NULL = chunk(choices=[], usage=None)
BOTH = chunk(choices=[{"index": 0, "delta": {}}], usage={"prompt_tokens": 1})
DONE = b"data: [DONE]"
PING = b": ping"
BROKEN = b'data: {"choices":[],"usage":'


def removed(stream: bytes, cuts: list[int]) -> bytes:
    removal = UsageRemoval()
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return b"".join([*(removal.data(stream[start:end]) for start, end in pairwise(places)), removal.end("")])


@given(
    st.lists(st.tuples(st.sampled_from([CONTENT, USAGE, FILTERED, NULL, BOTH, DONE, PING, BROKEN]), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\n\n\n"])), max_size=8),
    st.sampled_from([b"", b"data: rest", USAGE, b"\r"]),
    st.lists(st.integers(0, 2000), max_size=8),
)
def test_the_usage_chunk_goes_and_nothing_else_however_it_is_split(events: list[tuple[bytes, bytes]], rest: bytes, cuts: list[int]) -> None:
    stream = b"".join(data + end for data, end in events) + rest
    kept = b"".join(data + end for data, end in events if data != USAGE) + rest
    found = removed(stream, cuts)
    assert found.replace(b"\n", b"").replace(b"\r", b"") == kept.replace(b"\n", b"").replace(b"\r", b"")
    assert found == removed(stream, [])
    if all(end in (b"\n\n", b"\r\n\r\n", b"\n\r\n") for _, end in events):
        assert found == kept


@pytest.mark.parametrize("name", ["chat.sse", "azure.sse", "vllm.sse", "completions.sse", "chat_crlf.sse", "litellm.sse", "mistral.sse"])
def test_a_golden_stream_loses_only_its_usage_chunk_at_every_split(name: str) -> None:
    stream = (GOLDEN / name).read_bytes()
    kept = b"".join(block + b"\n\n" for block in stream.split(b"\n\n")[:-1] if not (b'"choices":[]' in block and b'"usage":{' in block))
    expected = stream if name == "chat_crlf.sse" else kept
    assert (expected != stream) == (name in ("chat.sse", "azure.sse", "vllm.sse", "completions.sse"))
    for cut in range(len(stream)):
        assert removed(stream, [cut]) == expected
    assert removed(stream, list(range(len(stream)))) == expected


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_whole_event_passes_in_the_call_that_completes_it(end: bytes) -> None:
    removal = UsageRemoval()
    event = CONTENT + end
    assert removal.data(event) == event
    assert removal.data(event[:20]) == b""
    assert removal.data(event[20:]) == event
    assert removal.data(event + USAGE + end) == event
    assert removal.data(event[:-1]) in (b"", event[:-1])


def test_a_content_chunk_is_the_very_object_that_came() -> None:
    event = CONTENT.replace(b"choices\\", b"x") + b"\n\n"
    assert UsageRemoval().data(event) is event


def test_an_event_that_is_too_large_passes_unread_and_the_next_one_is_read() -> None:
    removal = UsageRemoval()
    passed = []
    piece = b"x" * 100_000
    for _ in range(30):
        passed.append(removal.data(piece))
        assert len(removal._waiting) < 1_200_000
    passed += [removal.data(b"\n"), removal.data(b"\n" + USAGE + b"\n\n" + DONE + b"\n\n"), removal.end("")]
    assert b"".join(passed) == piece * 30 + b"\n\n" + DONE + b"\n\n"


def test_a_large_event_in_small_pieces_takes_no_square_of_time() -> None:
    removal = UsageRemoval()
    started = time.process_time()
    for _ in range(100_000):
        removal.data(b"0123456789")
    assert time.process_time() - started < 2


def test_of_a_cut_stream_the_beginning_of_the_usage_chunk_is_not_passed_on_as_soon_as_it_shows() -> None:
    for cut in range(len(USAGE)):
        removal = UsageRemoval()
        assert removal.data(USAGE[:cut]) == b""
        assert removal.end("upstream_cut") == (b"" if b'"usage": {' in USAGE[:cut] else USAGE[:cut])
    for event in (FILTERED, NULL, BOTH, CONTENT):
        removal = UsageRemoval()
        assert removal.data(event) + removal.end("upstream_cut") == event


def test_a_cut_stream_keeps_its_last_bytes() -> None:
    removal = UsageRemoval()
    assert removal.data(CONTENT) == b""
    assert removal.end("upstream_cut") == CONTENT


def test_a_second_clamp_only_ever_lowers_the_first() -> None:
    heading = Heading("POST", PATHS["chat"], host="api.openai.com")
    body = b'{"model":"m","stream":true}'
    asked = request(operation(heading), heading, body)
    once = edit(asked, body, Clamp(50))
    assert edit(asked, once, Clamp(80)) is once
    assert edit(asked, once, Clamp(20)) == b'{"model":"m","stream":true,"max_completion_tokens":20}'
    told = edit(asked, once, IncludeUsage())
    assert edit(asked, told, IncludeUsage()) == told == once[:-1] + b',"stream_options":{"include_usage":true}}'


def test_what_bounds_nothing_at_an_endpoint_is_left_alone() -> None:
    assert edited("completions", b'{"max_completion_tokens":9}', Clamp(5)) == b'{"max_completion_tokens":9,"max_tokens":5}'


@pytest.mark.parametrize(
    ("query", "takes"),
    [
        ("api-version=2024-02-01", False),
        ("api-version=2024-06-01", False),
        ("x=1&api-version=2024-05-01-preview", False),
        ("api-version=2024-09-01-preview", True),
        ("api-version=2025-01-01", True),
        ("api-version=preview", True),
        ("", True),
    ],
)
def test_a_version_of_azures_api_that_would_refuse_it_is_not_asked_for_usage(query: str, takes: bool) -> None:
    heading = Heading("POST", "/openai/deployments/d/chat/completions", query, host="x.openai.azure.com")
    body = b'{"stream":true}'
    asked = request("chat", heading, body)
    if takes:
        assert edit(asked, body, IncludeUsage()) == b'{"stream":true,"stream_options":{"include_usage":true}}'
    else:
        with pytest.raises(Unreadable):
            edit(asked, body, IncludeUsage())
