import json
from typing import Any

import pytest

from sidecar.dialects.dialect import Heading, Unreadable
from sidecar.dialects.openai.asked import OpenAiAsked, operation, request


def ask(body: dict[str, Any], path: str = "/v1/chat/completions", host: str = "api.openai.com", provider: str = "") -> OpenAiAsked:
    heading = Heading("POST", path, host=host, provider=provider)
    return request(operation(heading), heading, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", "chat"),
        ("POST", "/chat/completions", "chat"),
        ("POST", "/v1/chat/completions/", "chat"),
        ("POST", "/openai/deployments/D/chat/completions", "chat"),
        ("POST", "/openai/v1/chat/completions", "chat"),
        ("POST", "/api/v1/chat/completions", "chat"),
        ("POST", "/inference/v1/chat/completions", "chat"),
        ("POST", "/v1beta/openai/chat/completions", "chat"),
        ("POST", "/v1/completions", "text_completion"),
        ("POST", "/v1/fim/completions", "text_completion"),
        ("POST", "/v1/responses", "chat"),
        ("POST", "/openai/responses", "chat"),
        ("POST", "/v1/embeddings", "embeddings"),
        ("POST", "/api/v1/embeddings", "embeddings"),
        ("POST", "/api/embeddings", ""),
        ("GET", "/v1/responses", ""),
        ("GET", "/v1/responses/resp_1", ""),
        ("POST", "/v1/responses/resp_1/cancel", ""),
        ("POST", "/v1/responses/input_tokens", ""),
        ("GET", "/v1/chat/completions", ""),
        ("POST", "/v1/mychat/xcompletions", ""),
        ("POST", "/v1/messages", ""),
        ("POST", "/", ""),
        ("POST", "", ""),
    ],
)
def test_an_endpoint_is_known_by_the_end_of_its_path(method: str, path: str, expected: str) -> None:
    assert operation(Heading(method, path)) == expected


def test_a_chat_is_read() -> None:
    asked = ask(
        {
            "model": "gpt-5",
            "messages": [{"role": "user", "content": "x"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": 100,
            "max_tokens": 7,
            "n": 2,
            "temperature": 0,
            "top_p": 0.5,
            "top_k": 40,
            "frequency_penalty": 1,
            "presence_penalty": -1.5,
            "seed": 2**60 + 1,
            "stop": "END",
            "reasoning_effort": "low",
            "service_tier": "flex",
            "response_format": {"type": "json_schema", "json_schema": {}},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}, {"type": "custom", "custom": {"name": "c"}}],
            "functions": [{"name": "old"}],
        }
    )
    assert asked == OpenAiAsked(
        dialect="openai",
        operation="chat",
        streams=True,
        provider="openai",
        model="gpt-5",
        max_tokens=100,
        choices=2,
        tools=("f", "c", "old"),
        parameters=(
            ("temperature", 0.0),
            ("top_p", 0.5),
            ("frequency_penalty", 1.0),
            ("presence_penalty", -1.5),
            ("top_k", 40),
            ("seed", 2**60 + 1),
            ("stop_sequences", ("END",)),
            ("reasoning.level", "low"),
        ),
        output_type="json",
        service_tier="flex",
        tells_usage=True,
        endpoint="chat/completions",
    )


def test_a_response_is_read() -> None:
    asked = ask(
        {
            "model": "gpt-5",
            "input": "x",
            "stream": True,
            "max_output_tokens": 50,
            "max_tokens": 3,
            "previous_response_id": "resp_0",
            "conversation": {"id": "conv_1"},
            "reasoning": {"effort": "high", "summary": "auto"},
            "text": {"format": {"type": "text"}},
            "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}, {"type": "mcp", "server_label": "x"}],
        },
        "/v1/responses",
    )
    assert (asked.endpoint, asked.operation, asked.max_tokens, asked.tells_usage) == ("responses", "chat", 50, True)
    assert (asked.previous_response, asked.conversation, asked.output_type) == ("resp_0", "conv_1", "text")
    assert asked.tools == ("f", "web_search", "mcp")
    assert asked.parameters == (("reasoning.level", "high"),)
    assert asked.unbounded == ("server_tools", "stored_conversation")


def test_embeddings_are_read() -> None:
    asked = ask({"model": "text-embedding-3-small", "input": ["a"], "encoding_format": "base64", "stream": True}, "/v1/embeddings")
    assert (asked.operation, asked.streams, asked.tells_usage) == ("embeddings", False, True)
    assert asked.parameters == (("encoding_formats", ("base64",)),)


@pytest.mark.parametrize(
    ("body", "choices"),
    [({}, 1), ({"prompt": "x", "n": 3}, 3), ({"prompt": ["a", "b"], "n": 3}, 6), ({"prompt": "x", "best_of": 5, "n": 2}, 5), ({"prompt": [1, 2]}, 1), ({"prompt": [[1], [2]]}, 2), ({"prompt": []}, 1), ({"n": -4}, 1)],
    ids=range(8),
)
def test_each_of_several_prompts_is_answered(body: dict[str, Any], choices: int) -> None:
    assert ask(body, "/v1/completions").choices == choices


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/openai/deployments/my%20gpt/chat/completions", {}, "my gpt"),
        ("/openai/deployments/d/chat/completions", {"model": "m"}, "m"),
        ("/v1/chat/completions", {}, ""),
        ("/v1/chat/completions", {"model": None}, ""),
    ],
    ids=range(4),
)
def test_azure_names_the_model_in_the_path(path: str, body: dict[str, Any], model: str) -> None:
    assert ask(body, path).model == model


@pytest.mark.parametrize(
    ("body", "host", "expected"),
    [
        ({}, "api.openai.com", True),
        ({"stream": True}, "api.openai.com", False),
        ({"stream": True, "stream_options": {}}, "api.openai.com", False),
        ({"stream": True, "stream_options": None}, "api.openai.com", False),
        ({"stream": True, "stream_options": {"include_usage": True}}, "api.openai.com", True),
        ({"stream": True}, "api.mistral.ai", True),
        ({"stream": True}, "api.groq.com", True),
        ({"stream": True}, "localhost:8000", False),
    ],
    ids=range(8),
)
def test_a_stream_tells_its_usage_where_it_is_asked_to_or_always_does(body: dict[str, Any], host: str, expected: bool) -> None:
    assert ask(body, host=host).tells_usage is expected


def test_the_config_knows_the_provider_better_than_the_host() -> None:
    assert ask({"stream": True}, host="10.0.0.1", provider="mistral_ai").provider == "mistral_ai"
    assert ask({}, host="api.x.ai").provider == "x_ai"


_PART = {"type": "text", "text": '"file_id": "x", "url": "http"'}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("chat/completions", {"messages": [{"content": [_PART]}]}, ()),
        ("chat/completions", {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]}, ("urls",)),
        ("chat/completions", {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]}, ()),
        ("chat/completions", {"messages": [{"content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}, ("files",)),
        ("responses", {"input": [{"content": [{"type": "input_image", "image_url": "http://x"}, {"type": "input_file", "file_url": "https://y"}]}]}, ("files", "urls")),
        ("chat/completions", {"web_search_options": {}}, ("server_tools",)),
        ("chat/completions", {"plugins": [{"id": "web"}]}, ("server_tools",)),
        ("chat/completions", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"file_id": {"type": "string"}}}}}]}, ()),
        ("responses", {"tools": [{"type": "custom", "name": "c"}, {"type": "apply_patch"}]}, ()),
        ("responses", {"tools": [{"type": "code_interpreter"}]}, ("server_tools",)),
        ("responses", {"tools": [{"type": "computer_use_preview"}]}, ("server_tools",)),
        ("responses", {"prompt": {"id": "pmpt_1"}}, ("stored_prompt",)),
        ("responses", {"conversation": "conv_1"}, ("stored_conversation",)),
        ("chat/completions", {"conversation": "conv_1", "previous_response_id": "x"}, ()),
    ],
    ids=range(14),
)
def test_what_has_no_bound_is_named(path: str, body: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert ask(body, "/v1/" + path).unbounded == expected


def test_audio_is_speech() -> None:
    assert ask({"modalities": ["text", "audio"]}).output_type == "speech"


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "max_tokens": "many", "temperature": [], "tools": 7, "stop": {"a": 1}, "n": None, "stream_options": 3},
        {"model": "m", "tools": [None, {"type": 7}, {"function": []}, {"function": {"name": None}}], "response_format": "x"},
        {"model": "m", "seed": 10**400, "top_k": -(10**30), "max_tokens": -5, "n": 10**30, "reasoning": "x", "text": 1},
    ],
    ids=range(3),
)
def test_members_of_a_wrong_type_lose_nothing_else(body: dict[str, Any]) -> None:
    asked = ask(body)
    assert (asked.model, asked.max_tokens, asked.choices) == ("m", 0, 1)


def test_what_is_kept_is_bounded() -> None:
    asked = ask({"model": "m" * 999, "stop": ["s" * 999] * 99, "tools": [{"type": "function", "function": {"name": "n" * 999}}] * 9999})
    assert len(asked.model) == 256
    assert len(asked.tools) == 512 and len(asked.tools[0]) == 256
    stops = dict(asked.parameters)["stop_sequences"]
    assert isinstance(stops, tuple) and len(stops) == 16 and len(stops[0]) == 256


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b'"x"', b"[" * 5000])
def test_what_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        request("chat", Heading("POST", "/v1/chat/completions"), body)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 100_000}}, ()),
        ({"x": "QUJD" * 100_000, "type": "image_url", "image_url": {"url": "https://x/y.png"}}, ("urls",)),
        ({"type": "file", "file": {"file_id": "f"}, "x": "QUJD" * 100_000}, ("files",)),
        ({"type": "text", "text": '"quoted" ' * 50_000}, ("unread",)),
    ],
    ids=range(4),
)
def test_a_long_request_is_looked_at_as_far_as_that_is_cheap(part: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert ask({"model": "m", "messages": [{"role": "user", "content": [part]}]}).unbounded == expected


def test_more_tools_or_prompts_than_anybody_means_are_not_read() -> None:
    asked = ask({"model": "m", "tools": [{"type": "function"}] * 30_000, "messages": []})
    assert (asked.tools, asked.unbounded) == ((), ("unread",))
    asked = ask({"model": "m", "prompt": ["x" * 100] * 5_000}, "/v1/completions")
    assert (asked.choices, asked.unbounded) == (1, ("unread",))


def test_a_part_with_a_file_is_seen_beside_members_of_a_wrong_type() -> None:
    content = [{"type": "file", "file": {"file_id": "f"}}]
    assert ask({"model": 7, "messages": [{"content": "x"}, {"content": content}]}).unbounded == ("files",)
    assert ask({"messages": {"content": content}}).unbounded == ("files",)
