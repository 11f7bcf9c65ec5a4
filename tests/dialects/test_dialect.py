"""Every dialect answers the same questions, with the same parameters."""

import inspect
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.dialects.dialect import Dialect, Heading, Unreadable
from sidecar.dialects.recognition import IN_ORDER, PLAIN, dialect_named
from sidecar.model.asked import A2aAsked, Asked, McpAsked, ModelAsked
from sidecar.model.content import Content
from sidecar.model.errors import CODES, Refused

QUESTIONS = [name for name in vars(Dialect) if not name.startswith("_")]
OF_MODELS = {"anthropic", "gemini", "bedrock", "openai", "cohere", "ollama"}


@pytest.mark.parametrize("name", [*IN_ORDER, PLAIN])
def test_a_dialect_has_every_function_of_the_contract(name: str) -> None:
    module = dialect_named(name)
    assert module.name == name
    assert module.is_about_models is (name in OF_MODELS)
    for question in QUESTIONS:
        theirs = inspect.signature(getattr(module, question)).parameters
        ours = [each for each in inspect.signature(getattr(Dialect, question)).parameters if each != "self"]
        assert list(theirs)[: len(ours)] == ours, question


@pytest.mark.parametrize("name", [*IN_ORDER, PLAIN])
@pytest.mark.parametrize("code", CODES)
def test_every_error_of_ours_can_be_said_in_every_dialect_whatever_is_known_of_the_request(name: str, code: str) -> None:
    for asked in (None, Asked(name, "?")):
        spoken = dialect_named(name).error(Refused(code, "caf\udce9\r\nX: y", retry_after_s=1.5), asked)
        assert 200 <= spoken.status < 600
        assert spoken.body
        for text in (spoken.content_type, *(part for pair in spoken.fields for part in pair)):
            assert text.isascii()
            assert text.isprintable()


@pytest.mark.parametrize("name", IN_ORDER)
@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 10_000, b'{"model": 1e999}'])
def test_rubbish_is_read_as_far_as_it_goes_or_unreadable(name: str, body: bytes) -> None:
    dialect = dialect_named(name)
    try:
        asked = dialect.request("chat", Heading("POST", "/v1/x"), body)
    except Unreadable:
        return
    assert isinstance(asked, Asked)


@pytest.mark.parametrize(
    ("value", "first"),
    [("a", "a"), ("a, b", "a"), ("a, a", "a"), (", b", ""), ("", ""), ("a,b", "a,b"), ("application/json; q=1, text/plain", "application/json; q=1")],
)
def test_a_field_that_stands_twice_counts_as_its_first_line(value: str, first: str) -> None:
    assert Heading("GET", "/", fields={"x": value}).only("x") == first
    assert Heading("GET", "/").only("x") == ""


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        ("Application/JSON ; charset=utf-8", "application/json"),
        ("application/json, application/json", "application/json"),
        ("application/json, text/plain", "application/json"),
        ("text/plain, application/json", "text/plain"),
        ('application/json; profile="a, b"', "application/json"),
        ("", ""),
    ],
)
def test_the_media_type_is_that_of_the_first_line(value: str, media_type: str) -> None:
    assert Heading("POST", "/", fields={"content-type": value}).media_type == media_type


NAMES = [
    "messages", "content", "role", "parts", "text", "type", "tool_calls", "function", "name", "arguments", "input", "output",
    "choices", "delta", "message", "system", "tools", "contents", "candidates", "params", "result", "status", "artifacts",
    "artifact", "artifactUpdate", "task", "toolUse", "toolResult", "reasoningContent", "source", "tool_use_id", "index",
    "event_type", "response", "content_block", "content_blocks", "id", "inlineData", "functionCall", "images", "prompt",
    "contentBlockIndex", "start",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["text", "tool_use", "message", "function_call", "é\ud83d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
ASKED: dict[str, list[Asked]] = {
    "mcp": [McpAsked("mcp", method) for method in ("tools/call", "prompts/get", "resources/read")],
    "a2a": [A2aAsked("a2a", "SendMessage")],
}
CONTENT_TYPES = ["application/json", "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream", ""]


@pytest.mark.parametrize("name", [*IN_ORDER, PLAIN])
@settings(max_examples=25)
@given(VALUES, VALUES, st.sampled_from(CONTENT_TYPES), st.integers(0, 200))
def test_nothing_that_is_said_makes_it_raise(name: str, request_: Any, answer: Any, content_type: str, cut: int) -> None:
    dialect = dialect_named(name)
    body, told = json.dumps(request_).encode(), json.dumps(answer).encode()
    if content_type == "text/event-stream":
        told = b"data: %b\n\n" % told * 2
    for asked in [*ASKED.get(name, []), Asked(name, "chat"), ModelAsked(name, "chat", streams=True), ModelAsked(name, "embeddings")]:
        for end in (cut, None):
            found = dialect.content(asked, body[:end], told[:end], content_type)
            assert found is None or isinstance(found, Content)


DEEP = b'{"messages":[{"role":"user","content":' + b'[{"type":"search_result","content":' * 400 + b"1"


@pytest.mark.parametrize("name", [*IN_ORDER, PLAIN])
@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, DEEP, b'{"a":' * 300, b"\xff" * 100, b'{"a":"' + b"\\" * 1001, b"data: {\n\n" * 1000],
    ids=["brackets", "deep", "nested", "bytes", "escapes", "events"],
)
@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_hostile_bodies_hold_nothing_that_was_said(name: str, body: bytes, content_type: str) -> None:
    for asked in [*ASKED.get(name, []), ModelAsked(name, "chat", streams=True)]:
        found = dialect_named(name).content(asked, body, body, content_type)
        assert found is None or isinstance(found, Content)
