"""Content in attributes: the shapes of the JSON schemas, masked, and valid JSON whatever is cut."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.model.content import Content, Kind, Message, Part
from sidecar.telemetry.content import ContentWriter
from sidecar.telemetry.masks import Masks
from tests.otlp_collector import attributes_of


def read(content: Content, **bounds: int) -> dict[str, Any]:
    """The attributes, parsed; each has to be valid JSON."""
    span = Span.FromString(b"".join(ContentWriter(Masks(), **bounds).attributes(content)))
    found = attributes_of(span)
    for text in found.values():
        assert len(text) <= bounds.get("attribute_chars", 32768)
    return {key.removeprefix("gen_ai."): json.loads(text) for key, text in found.items()}


def test_each_kind_of_part_has_the_shape_of_its_schema() -> None:
    content = Content(
        instructions=[Part(Kind.TEXT, "Be brief.")],
        input=[
            Message("user", [
                Part(Kind.TEXT, "What is it?"), Part(Kind.URI, "https://x.example/a.png?sig=1", modality="image"),
                Part(Kind.BLOB, modality="audio", mime_type="audio/wav"), Part(Kind.FILE, "file-1", modality="video"),
            ], name="Ada"),
            Message("tool", [Part(Kind.TOOL_CALL_RESPONSE, json=b'{"ok":true}', id="c1"), Part(Kind.TOOL_CALL_RESPONSE, "plain", id="")]),
            Message("developer", []),
        ],
        output=[
            Message("assistant", [Part(Kind.REASONING, "Hm."), Part(Kind.TOOL_CALL, json=b'{"q": "x"}', id="c2", name="search")], finish_reason="tool_use"),
        ],
        tools=b'[{"type":"function","name":"search"}]', arguments=b'{"q":"x"}', result=b'{"content":[]}',
    )  # fmt: skip
    assert read(content) == {
        "system_instructions": [{"type": "text", "content": "Be brief."}],
        "input.messages": [
            {
                "role": "user", "name": "Ada",
                "parts": [
                    {"type": "text", "content": "What is it?"},
                    {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://x.example/a.png?sig=REDACTED"},
                    {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": ""},
                    {"type": "file", "modality": "video", "mime_type": None, "file_id": "file-1"},
                ],
            },
            {
                "role": "tool",
                "parts": [
                    {"type": "tool_call_response", "id": "c1", "response": {"ok": True}},
                    {"type": "tool_call_response", "id": None, "response": "plain"},
                ],
            },
            {"role": "user", "parts": []},
        ],
        "output.messages": [
            {
                "role": "assistant", "finish_reason": "tool_call",
                "parts": [
                    {"type": "reasoning", "content": "Hm."},
                    {"type": "tool_call", "id": "c2", "name": "search", "arguments": {"q": "x"}},
                ],
            },
        ],
        "tool.definitions": [{"type": "function", "name": "search"}],
        "tool.call.arguments": {"q": "x"},
        "tool.call.result": {"content": []},
    }  # fmt: skip
    assert read(Content()) == {}


@pytest.mark.parametrize(
    ("word", "shown"),
    [("end_turn", "stop"), ("STOP", "stop"), ("MAX_TOKENS", "length"), ("tool_calls", "tool_call"), ("SAFETY", "content_filter"), ("pause_turn", "pause_turn")],
)  # fmt: skip
def test_finish_reasons_are_words_of_the_schema_where_it_has_one(word: str, shown: str) -> None:
    (message,) = read(Content(output=[Message("assistant", [], finish_reason=word)]))["output.messages"]
    assert message["finish_reason"] == shown


def test_secrets_are_masked_in_texts_and_in_structures() -> None:
    found = read(
        Content(
            input=[Message("user", [Part(Kind.TEXT, "sk-abcdefghijklmnopqrst")])],
            arguments=b'{"api_key":"x","to":["me@example.com"]}',
            result=b"no JSON, me@example.com",
        )
    )
    assert found["input.messages"][0]["parts"][0]["content"] == "[key]"
    assert found["tool.call.arguments"] == {"api_key": "[secret]", "to": ["[email]"]}
    assert found["tool.call.result"] == "no JSON, [email]"


@pytest.mark.parametrize("before", range(40, 90, 3))
def test_no_secret_is_cut_in_two(before: int) -> None:
    text = "x " * (before // 2) + "sk-abcdefghijklmnopqrstuvwxyz0123456789" + " y" * 2000
    (message,) = read(Content(input=[Message("user", [Part(Kind.TEXT, text)])]), part_chars=64)["input.messages"]
    shown = message["parts"][0]["content"]
    assert "sk-" not in shown
    assert len(shown) <= 65


def test_a_long_part_is_cut_and_short_ones_stay() -> None:
    found = read(Content(input=[Message("user", [Part(Kind.TEXT, "word " * 5000), Part(Kind.TEXT, "short")])]), part_chars=100)
    long, short = (part["content"] for part in found["input.messages"][0]["parts"])
    assert (len(long), long[-1], short) == (101, "…", "short")


def test_of_many_messages_the_last_stay_and_the_rest_is_counted() -> None:
    messages = [Message("user", [Part(Kind.TEXT, f"{number} " + "word " * 200)]) for number in range(100)]
    found = read(Content(input=messages), attribute_chars=2048)["input.messages"]
    first, *rest = found
    assert first["role"] == "system"
    assert first["parts"][0]["content"] == f"[{100 - len(rest)} left out]"
    assert rest[-1]["parts"][0]["content"].startswith("99 ")
    one = read(Content(instructions=[Part(Kind.TEXT, "\0" * 4000)] * 90), attribute_chars=1024)["system_instructions"]
    assert one[0] == {"type": "text", "content": f"[{91 - len(one)} left out]"}


@pytest.mark.parametrize(
    "raw",
    [b"{", b"\xff\xfe", b"[" * 100_000, b'"' + b"\\u0000" * 60_000 + b'"', b"[NaN, 1e999]", b"{}" * 50_000, b'{"a":' * 90 + b"1" + b"}" * 90, b"null", b"7"],
    ids=["cut", "no UTF-8", "deep", "escaped", "NaN", "long", "nested", "null", "number"],
)  # fmt: skip
def test_arguments_of_any_kind_become_valid_json(raw: bytes) -> None:
    found = read(Content(arguments=raw, input=[Message("user", [Part(Kind.TOOL_CALL, json=raw)])]), attribute_chars=2048)
    assert found.keys() == {"tool.call.arguments", "input.messages"}


TEXTS = st.text(max_size=300)
PARTS = st.lists(
    st.builds(Part, st.sampled_from(Kind), TEXTS, st.binary(max_size=60) | st.just(b'{"a":[1,"b"]}'), TEXTS, TEXTS, TEXTS, TEXTS),
    max_size=6,
)
MESSAGES = st.lists(st.builds(Message, TEXTS, PARTS, TEXTS, TEXTS), max_size=6)


@given(st.builds(Content, PARTS, MESSAGES, MESSAGES, st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80)))
def test_whatever_was_said_the_json_is_valid_and_not_too_long(content: Content) -> None:
    read(content, part_chars=64, attribute_chars=1024)


def test_much_content_takes_little_time() -> None:
    content = Content(input=[Message("user", [Part(Kind.TEXT, "some words " * 20_000)]) for _ in range(50)])
    began = time.process_time()
    read(content)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("bounds", [{"part_chars": 63}, {"attribute_chars": 1023}], ids=str)
def test_bounds_that_leave_no_room_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="characters"):
        ContentWriter(Masks(), **bounds)


def test_it_is_said_that_there_was_more() -> None:
    span = Span.FromString(b"".join(ContentWriter(Masks()).attributes(Content(is_cut=True))))
    assert attributes_of(span) == {"sidecar.content.cut": True}


def test_very_many_messages_take_little_time() -> None:
    content = Content(input=[Message("user", [Part(Kind.TEXT, "some words " * 90)]) for _ in range(256)])
    began = time.process_time()
    read(content)
    assert time.process_time() - began < 3
