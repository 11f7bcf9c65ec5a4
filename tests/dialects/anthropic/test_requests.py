import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import anthropic
from sidecar.dialects.dialect import Clamp, Heading, IncludeUsage, Meta, Unreadable
from sidecar.model.asked import ModelAsked

VERTEX = "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4-5@20250929"


def asked(path: str = "/v1/messages", provider: str = "", **members: Any) -> ModelAsked:
    heading = Heading("POST", path, provider=provider)
    return anthropic.request(anthropic.operation(heading), heading, json.dumps(members).encode())


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/messages", "chat"),
        ("/anthropic/v1/messages", "chat"),
        ("/messages", "chat"),
        (f"{VERTEX}:rawPredict", "chat"),
        (f"{VERTEX}:streamRawPredict", "chat"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict", ""),
        ("/v1/messages/count_tokens", ""),
        ("/v1/messages/batches", ""),
        ("/v1/messages/batches/msgbatch_1/results", ""),
        ("/v1/threads/thread_1/messages", ""),
        ("/v1/models", ""),
        ("/v1/complete", ""),
        ("/", ""),
    ],
)
def test_messages_are_known_by_their_path(path: str, operation: str) -> None:
    assert anthropic.operation(Heading("POST", path)) == operation
    assert anthropic.operation(Heading("GET", path)) == ""


def test_everything_that_is_asked_for_is_read() -> None:
    found = asked(
        model="claude-opus-5-5",
        max_tokens=1024,
        stream=True,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["END", "STOP"],
        service_tier="auto",
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": {}}},
        tools=[
            {"name": "get_weather", "input_schema": {"type": "object"}},
            {"type": "custom", "name": "now", "input_schema": {}},
            {"type": "bash_20250124", "name": "bash"},
        ],
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": "text", "text": "Yes?"}]}],
    )
    assert found == ModelAsked(
        dialect="anthropic",
        operation="chat",
        streams=True,
        provider="anthropic",
        model="claude-opus-5-5",
        max_tokens=1024,
        tools=("get_weather", "now", "bash"),
        parameters=(
            ("temperature", 0.5),
            ("top_p", 0.9),
            ("top_k", 40),
            ("stop_sequences", ("END", "STOP")),
            ("reasoning.level", "high"),
        ),
        output_type="json",
        service_tier="auto",
    )


def test_vertex_says_the_model_in_the_path() -> None:
    found = asked(f"{VERTEX}:streamRawPredict", anthropic_version="vertex-2023-10-16", max_tokens=5, messages=[])
    assert (found.model, found.provider, found.streams) == ("claude-sonnet-4-5@20250929", "gcp.vertex_ai", True)


def test_the_config_says_who_the_provider_is() -> None:
    assert asked(provider="z_ai", model="glm").provider == "z_ai"


def test_the_fast_mode_is_a_tier_to_whoever_prices_it() -> None:
    assert asked(speed="fast", service_tier="auto").service_tier == "fast"


def test_a_thread_goes_on_from_a_response() -> None:
    found = asked(thread={"type": "continue", "previous_message_id": "msg_1"})
    assert (found.previous_response, found.unbounded) == ("msg_1", ("stored_conversation",))


URL = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
FILE = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
BYTES = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}


@pytest.mark.parametrize(
    ("members", "unbounded"),
    [
        ({"messages": [{"content": "source"}]}, ()),
        ({"messages": [{"content": [BYTES]}]}, ()),
        ({"messages": [{"content": [BYTES, URL]}]}, ("urls",)),
        ({"messages": [{"content": [FILE]}, {"content": [URL]}]}, ("files", "urls")),
        ({"messages": [{"content": [{"type": "tool_result", "content": [URL]}]}]}, ("urls",)),
        ({"messages": [{"content": [{"type": "tool_result", "content": "source"}]}]}, ()),
        ({"messages": [{"content": [{"type": "container_upload", "file_id": "file_2"}]}]}, ("files",)),
        ({"messages": [{"content": [{"type": "search_result", "source": "https://x.example", "content": []}]}]}, ()),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ("server_tools",)),
        ({"tools": [{"type": "code_execution_20260521", "name": "code_execution"}]}, ("server_tools",)),
        ({"tools": [{"type": "text_editor_20250728", "name": "edit"}, {"type": "computer_20251124", "name": "computer"}]}, ()),
        ({"mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "m"}]}, ("server_tools",)),
        ({"mcp_servers": [], "container": None}, ()),
        ({"container": "container_1"}, ("server_tools",)),
    ],
    ids=str,
)
def test_what_keeps_the_cost_from_having_a_bound_is_said(members: dict[str, Any], unbounded: tuple[str, ...]) -> None:
    assert asked(**members).unbounded == unbounded


def test_a_server_tool_has_its_own_name_or_that_of_its_kind() -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}, {"type": "mcp_toolset", "mcp_server_name": "m"}]
    assert asked(tools=tools).tools == ("web_search", "mcp_toolset")


def test_wrong_types_do_not_lose_the_rest() -> None:
    found = asked(
        model="m",
        max_tokens="many",
        stream="yes",
        temperature=[],
        tools=[7, {"name": 8}, {"name": "f"}],
        messages={},
        stop_sequences=3,
    )
    assert (found.model, found.max_tokens, found.streams, found.parameters) == ("m", 0, False, ())
    assert "f" in found.tools


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b'{"a":1}x', b"\xff", b"[" * 100_000], ids=lambda body: repr(body[:9]))
def test_what_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        anthropic.request("chat", Heading("POST", "/v1/messages"), body)


def test_what_is_kept_is_bounded() -> None:
    found = asked(
        model="m" * 9999,
        stop_sequences=["s" * 9999] * 99,
        tools=[{"name": "t" * 999}] * 999,
        max_tokens=-5,
        service_tier="x" * 9999,
    )
    assert (len(found.model), len(found.tools), found.max_tokens, len(found.service_tier)) == (256, 128, 0, 256)
    assert {len(tool) for tool in found.tools} == {256}
    assert found.parameters == (("stop_sequences", ("s" * 256,) * 16),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "source", "content", "name", "budget_tokens"]), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = (
    "model",
    "max_tokens",
    "stream",
    "top_k",
    "stop_sequences",
    "tools",
    "thinking",
    "thread",
    "output_config",
    "messages",
    "container",
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5))
def test_any_object_is_read_and_clamped_or_refused(members: dict[str, Any]) -> None:
    found = asked(**members)
    body = json.dumps(members).encode()
    try:
        clamped = anthropic.edit(found, body, Clamp(100))
    except Unreadable:
        return
    assert json.loads(clamped)["max_tokens"] <= 100


def clamped(most: int, body: str) -> str:
    return anthropic.edit(asked(), body.encode(), Clamp(most)).decode()


def test_a_bound_is_lowered_in_its_place() -> None:
    assert clamped(50, '{"model":"m", "max_tokens" : 4096,\n"messages":[]}') == '{"model":"m", "max_tokens" : 50,\n"messages":[]}'


def test_a_bound_that_is_absent_is_put_in() -> None:
    assert json.loads(clamped(50, '{"model":"m"}')) == {"model": "m", "max_tokens": 50}


@pytest.mark.parametrize("told", ["50", "7", "0"])
def test_a_bound_that_is_low_enough_stays_the_same_object(told: str) -> None:
    body = b'{"max_tokens":%s}' % told.encode()
    assert anthropic.edit(asked(), body, Clamp(50)) is body


@pytest.mark.parametrize(
    "body",
    [
        '{"max_tokens":4096,"thinking":{"type":"enabled","budget_tokens":2000}}',
        '{"max_tokens":"4096"}',
        "[]",
        "",
    ],
)
def test_a_clamp_that_would_break_the_request_is_refused(body: str) -> None:
    with pytest.raises(Unreadable):
        clamped(2000, body)


def test_thinking_without_a_budget_of_its_own_may_be_clamped() -> None:
    assert (
        clamped(2000, '{"max_tokens":4096,"thinking":{"type":"adaptive"}}')
        == '{"max_tokens":2000,"thinking":{"type":"adaptive"}}'
    )
    assert clamped(2001, '{"max_tokens":4096,"thinking":{"type":"enabled","budget_tokens":2000}}').startswith(
        '{"max_tokens":2001'
    )


def test_a_clamp_to_nothing_is_refused() -> None:
    with pytest.raises(Unreadable):
        clamped(0, '{"max_tokens":5}')


def test_the_usage_is_always_told_so_nothing_changes() -> None:
    body = b'{"stream":true}'
    assert anthropic.edit(asked(), body, IncludeUsage()) is body
    assert anthropic.takes_out(asked(), IncludeUsage()) is None


def test_there_is_no_place_for_a_trace_context() -> None:
    with pytest.raises(Unreadable):
        anthropic.edit(asked(), b"{}", Meta(b"00-"))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "image", "source": {"type": "base64", "data": "QUJD" * 100_000}}, ()),
        ({"type": "image", "source": {"type": "url", "url": "https://x"}, "x": "QUJD" * 100_000}, ("urls",)),
        ({"type": "document", "x": "QUJD" * 100_000, "source": {"type": "file", "file_id": "f"}}, ("files",)),
        ({"type": "container_upload", "file_id": "f", "x": "QUJD" * 100_000}, ("files",)),
        ({"type": "text", "text": '"quoted" ' * 50_000}, ("unread",)),
    ],
    ids=range(5),
)
def test_a_long_request_is_looked_at_as_far_as_that_is_cheap(block: dict[str, Any], expected: tuple[str, ...]) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [block]}]}).encode()
    assert anthropic.request("chat", Heading("POST", "/v1/messages"), body).unbounded == expected
