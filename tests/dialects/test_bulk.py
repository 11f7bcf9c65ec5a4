import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.bulk import LONG_BYTES, LongAsked, bulk_in, bulk_of, shortened, weighed
from sidecar.dialects.dialect import Clamp, Heading, IncludeUsage, Unreadable
from sidecar.dialects.recognition import dialect_named
from sidecar.dialects.splice import places, put
from sidecar.model.asked import ModelAsked

LONG = "x" * (LONG_BYTES + 1)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def test_only_a_long_body_has_bulk() -> None:
    asked = ModelAsked("d", "chat", model="m")
    assert weighed(asked, b"{}", messages=raw([1])) is asked
    long = weighed(asked, LONG.encode(), messages=raw([LONG]), tools=raw([1]), system=raw(None))
    assert isinstance(long, LongAsked) and long.model == "m"
    assert bulk_in(long) == (("messages", LONG_BYTES + 5),)
    assert bulk_in(asked) == ()


@pytest.mark.parametrize("indent", [None, 2])
def test_a_long_body_without_its_bulk_is_short_and_knows_its_places(indent: int | None) -> None:
    said = {"model": "m", "tools": [{"max": 1, "messages": 2}], "messages": [LONG], "max": 7, "system": LONG, "z": {"messages": 3}}
    body = json.dumps(said, indent=indent).encode()
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    bulk = bulk_of(body, messages=members["messages"], system=members["system"])
    short = shortened(body, bulk)
    assert short is not None
    assert json.loads(short.text) == {**said, "messages": None, "system": None}
    assert places(body, ("max", "model", "z"), bulk) == places(body, ("max", "model", "z"))
    for path in (("max",), ("model",), ("z", "messages"), ("z", "new"), ("new",), ("new", "inner")):
        assert put(body, path, b"5", bulk) == put(body, path, b"5")


@pytest.mark.parametrize(
    "body",
    [
        '{"messages":["short"],"max":9,"messages":["%s"]}',
        '{"max":9,"messages":["%s"],"messages":["short"]}',
        '{"meta":{"messages":1},"max":9,"messages":{"a":"%s","b":{"c":1}}}',
        '{"m\\u0065ssages":["%s"],"max":9}',
        '{"messages":["%s"],"max":8,"m\\u0061x":9}',
        '{"text":"\\"messages\\":","max":9,"messages":["%s"]}',
        '{"max":9,"text":"messages","messages":["%s"]}',
    ],
    ids=["twice", "twice-short-last", "nested", "escaped", "bound-twice", "in-a-text", "as-a-value"],
)
def test_what_counts_is_found_whatever_else_has_its_name(body: str) -> None:
    long = (body % LONG).encode()
    members = msgspec.json.decode(long, type=dict[str, msgspec.Raw])
    bulk = bulk_of(long, messages=members["messages"])
    assert json.loads(put(long, ("max",), b"5", bulk)) == {**json.loads(long), "max": 5}


@given(
    st.dictionaries(st.sampled_from(["messages", "max", "tools", "a", "b"]), st.sampled_from([1, "x", [1], {"messages": 1}, LONG, [LONG]])),
    st.integers(0, 200_000),
)
def test_wrong_lengths_never_change_the_wrong_place(said: dict[str, Any], length: int) -> None:
    body = json.dumps(said).encode()
    try:
        changed = put(body, ("max",), b"5", (("messages", length),))
    except Unreadable:
        return
    assert json.loads(changed) == {**said, "max": 5}


CLAMPED = [
    ("openai", "/v1/chat/completions", {"max_tokens": 100, "model": "m", "messages": [LONG]}, {"max_tokens": 5}),
    ("openai", "/v1/chat/completions", {"max_tokens": 100, "max_completion_tokens": 2, "messages": [LONG], "tools": [LONG]}, {"max_tokens": 5}),
    ("openai", "/v1/chat/completions", {"max_tokens": 100, "messages": [LONG], "max_completion_tokens": 2000}, {"max_tokens": 5, "max_completion_tokens": 5}),
    ("openai", "/v1/chat/completions", {"model": "m", "messages": [LONG]}, {"max_completion_tokens": 5}),
    ("openai", "/v1/responses", {"max_output_tokens": 100, "input": [LONG]}, {"max_output_tokens": 5}),
    ("openai", "/v1/responses", {"max_output_tokens": None, "input": [LONG], "model": "m"}, {"max_output_tokens": 5}),
    ("openai", "/v1/completions", {"max_tokens": 100, "prompt": LONG, "max_completion_tokens": 9}, {"max_tokens": 5}),
    ("anthropic", "/v1/messages", {"max_tokens": 100, "messages": [LONG], "model": "m"}, {"max_tokens": 5}),
    ("anthropic", "/v1/messages", {"messages": [LONG], "model": "m"}, {"max_tokens": 5}),
    ("gemini", "/v1beta/models/g:generateContent", {"generation_config": {"max_output_tokens": 9}, "contents": [LONG]}, {"generation_config": {"max_output_tokens": 5}}),
    ("gemini", "/v1beta/models/g:generateContent", {"contents": [LONG], "tools": []}, {"generationConfig": {"maxOutputTokens": 5}}),
    ("bedrock", "/model/amazon.nova-pro-v1:0/converse", {"inferenceConfig": {"maxTokens": 9}, "messages": [LONG]}, {"inferenceConfig": {"maxTokens": 5}}),
    ("bedrock", "/model/meta.llama3/invoke", {"max_gen_len": 9, "prompt": LONG}, {"max_gen_len": 5}),
    ("bedrock", "/model/anthropic.claude-4/invoke", {"max_tokens": 9, "messages": [LONG]}, {"max_tokens": 5}),
    ("cohere", "/v2/chat", {"max_tokens": 9, "messages": [LONG], "documents": [LONG]}, {"max_tokens": 5}),
    ("ollama", "/api/chat", {"options": {"num_predict": 9}, "messages": [LONG]}, {"options": {"num_predict": 5}}),
]  # fmt: skip


@pytest.mark.parametrize("behind", [b"", b'"y":"' + b"y" * 500_000 + b'",'], ids=["long", "longer"])
@pytest.mark.parametrize(("name", "path", "said", "changed"), CLAMPED, ids=[f"{each[0]}-{at}" for at, each in enumerate(CLAMPED)])
def test_every_dialect_finds_its_bound_in_a_long_body(
    name: str, path: str, said: dict[str, Any], changed: dict[str, Any], behind: bytes
) -> None:
    dialect = dialect_named(name)
    heading = Heading("POST", path)
    body = b"{" + behind + json.dumps(said).encode()[1:]
    asked = dialect.request(dialect.operation(heading), heading, body)
    assert json.loads(dialect.edit(asked, body, Clamp(5))) == {**json.loads(body), **changed}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_very_long_request_is_asked_for_its_usage_wherever_its_options_stand(path: str) -> None:
    dialect, heading = dialect_named("openai"), Heading("POST", path)
    said = {"stream_options": {"x": 1}, "stream": True, "messages" if "chat" in path else "prompt": LONG * 110}
    body = json.dumps(said).encode()
    assert len(body) > 7_000_000
    changed = dialect.edit(dialect.request(dialect.operation(heading), heading, body), body, IncludeUsage())
    assert json.loads(changed) == {**said, "stream_options": {"x": 1, "include_usage": True}}
