import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import gemini
from sidecar.dialects.dialect import Clamp, Heading, IncludeUsage, Meta, Unreadable
from sidecar.model.asked import ModelAsked

FLASH = "/v1beta/models/gemini-2.5-flash"
VERTEX = "/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-pro"


def asked(path: str = f"{FLASH}:generateContent", host: str = "generativelanguage.googleapis.com", **members: Any) -> ModelAsked:
    heading = Heading("POST", path, host=host)
    return gemini.request(gemini.operation(heading), heading, json.dumps(members).encode())


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        (f"{FLASH}:generateContent", "generate_content"),
        (f"{FLASH}:streamGenerateContent", "generate_content"),
        ("/v1/models/gemini-2.5-flash:generateContent", "generate_content"),
        ("/gateway/v1alpha/models/gemini-2.5-flash:generateContent", "generate_content"),
        ("/v1beta/tunedModels/mine-123:generateContent", "generate_content"),
        (f"{VERTEX}:streamGenerateContent", "generate_content"),
        ("/v1/projects/p/locations/l/endpoints/123:generateContent", "generate_content"),
        ("/v1beta/models/gemini-embedding-001:embedContent", "embeddings"),
        ("/v1beta/models/gemini-embedding-001:batchEmbedContents", "embeddings"),
        (f"{FLASH}:countTokens", ""),
        ("/v1beta/models/imagen-4:predict", ""),
        ("/v1beta/models", ""),
        ("/v1beta/cachedContents", ""),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict", ""),
        ("/v1/messages", ""),
    ],
)
def test_calls_are_known_by_their_path(path: str, operation: str) -> None:
    assert gemini.operation(Heading("POST", path)) == operation
    assert gemini.operation(Heading("GET", path)) == ""


CAMEL: dict[str, Any] = {
    "generationConfig": {
        "maxOutputTokens": 100, "temperature": 0.5, "topP": 0.9, "topK": 40, "candidateCount": 2, "seed": 7, "stopSequences": ["END"],
        "responseMimeType": "application/json", "frequencyPenalty": 0.1, "presencePenalty": -0.2, "thinkingConfig": {"thinkingLevel": "HIGH"},
    },
    "tools": [{"functionDeclarations": [{"name": "get_weather"}, {"name": "now"}]}, {"functionDeclarations": [{"name": "late"}]}],
    "serviceTier": "FLEX",
}  # fmt: skip
SNAKE: dict[str, Any] = {
    "generation_config": {
        "max_output_tokens": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "candidate_count": 2, "seed": "7", "stop_sequences": ["END"],
        "response_mime_type": "application/json", "frequency_penalty": 0.1, "presence_penalty": -0.2, "thinking_config": {"thinking_level": "HIGH"},
    },
    "tools": [{"function_declarations": [{"name": "get_weather"}, {"name": "now"}]}, {"function_declarations": [{"name": "late"}]}],
    "service_tier": "FLEX",
}  # fmt: skip


@pytest.mark.parametrize("members", [CAMEL, SNAKE], ids=["camel", "snake"])
def test_everything_that_is_asked_for_is_read_in_either_spelling(members: dict[str, Any]) -> None:
    assert asked(f"{FLASH}:streamGenerateContent", **members, contents=[{"parts": [{"text": "Hi"}]}]) == ModelAsked(
        dialect="gemini",
        operation="generate_content",
        streams=True,
        provider="gcp.gemini",
        model="gemini-2.5-flash",
        max_tokens=100,
        choices=2,
        tools=("get_weather", "now", "late"),
        parameters=(
            ("temperature", 0.5),
            ("top_p", 0.9),
            ("top_k", 40),
            ("seed", 7),
            ("frequency_penalty", 0.1),
            ("presence_penalty", -0.2),
            ("stop_sequences", ("END",)),
            ("reasoning.level", "high"),
        ),
        output_type="json",
        service_tier="flex",
    )


@pytest.mark.parametrize(
    ("path", "host", "provider", "model"),
    [
        (f"{VERTEX}:generateContent", "us-central1-aiplatform.googleapis.com", "gcp.vertex_ai", "gemini-2.5-pro"),
        (f"{VERTEX}:generateContent", "aiplatform.googleapis.com:443", "gcp.vertex_ai", "gemini-2.5-pro"),
        ("/v1/publishers/google/models/gemini-2.5-pro:generateContent", "localhost", "gcp.vertex_ai", "gemini-2.5-pro"),
        ("/v1/projects/p/locations/l/endpoints/123:generateContent", "l-aiplatform.googleapis.com", "gcp.vertex_ai", "123"),
        (f"{FLASH}:generateContent", "localhost", "gcp.gemini", "gemini-2.5-flash"),
    ],
)
def test_provider_and_model_are_those_of_the_address(path: str, host: str, provider: str, model: str) -> None:
    found = asked(path, host)
    assert (found.provider, found.model) == (provider, model)


def test_the_config_says_who_the_provider_is() -> None:
    assert (
        gemini.request("generate_content", Heading("POST", f"{FLASH}:generateContent", provider="mine"), b"{}").provider == "mine"
    )


def part(**members: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "See"}, members]}]}


@pytest.mark.parametrize(
    ("members", "unbounded"),
    [
        (part(text="fileData"), ()),
        (part(inlineData={"mimeType": "image/png", "data": "iVBO"}), ()),
        (part(fileData={"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}), ("files",)),
        (part(file_data={"file_uri": "gs://bucket/x.pdf"}), ("files",)),
        (part(fileData={"fileUri": "https://www.youtube.com/watch?v=x"}), ("urls",)),
        ({"tools": [{"googleSearch": {}}]}, ("server_tools",)),
        ({"tools": [{"url_context": {}}, {"code_execution": {}}]}, ("server_tools",)),
        ({"tools": [{"computerUse": {}}, {"functionDeclarations": []}]}, ()),
        ({"cachedContent": "cachedContents/1"}, ("cached_content",)),
        ({"cached_content": ""}, ()),
    ],
    ids=str,
)
def test_what_keeps_the_cost_from_having_a_bound_is_said(members: dict[str, Any], unbounded: tuple[str, ...]) -> None:
    assert asked(**members).unbounded == unbounded


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"responseModalities": ["TEXT", "IMAGE"]}, "image"),
        ({"response_modalities": ["audio"]}, "speech"),
        ({"responseMimeType": "text/plain"}, "text"),
        ({"responseMimeType": "text/x.enum"}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_the_kind_of_output_is_that_which_was_asked_for(config: dict[str, Any], expected: str) -> None:
    assert asked(generationConfig=config).output_type == expected


def test_wrong_types_do_not_lose_the_rest() -> None:
    found = asked(
        generationConfig={"maxOutputTokens": [], "topK": 3, "stopSequences": 7, "temperature": "hot"},
        tools=[7, {"functionDeclarations": [8, {"name": "f"}]}],
        contents=7,
    )
    assert (found.max_tokens, found.parameters, found.tools) == (0, (("top_k", 3),), ("f",))
    assert asked(generationConfig=7, tools={}).parameters == ()


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b'{"a":1}x', b"\xff", b"[" * 100_000], ids=lambda body: repr(body[:9]))
def test_what_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        gemini.request("generate_content", Heading("POST", f"{FLASH}:generateContent"), body)


def test_what_is_kept_is_bounded() -> None:
    declarations = [{"name": "t" * 999}] * 999
    found = asked(
        generationConfig={"stopSequences": ["s" * 999] * 99, "maxOutputTokens": -5},
        tools=[{"functionDeclarations": declarations}] * 3,
    )
    assert (len(found.tools), found.max_tokens, {len(tool) for tool in found.tools}) == (128, 0, {256})
    assert found.parameters == (("stop_sequences", ("s" * 256,) * 16),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["maxOutputTokens", "max_output_tokens", "parts", "fileData", "functionDeclarations", "a"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["generationConfig", "generation_config", "tools", "contents", "cachedContent", "serviceTier"])


@given(st.dictionaries(NAMES, JSON, max_size=5))
def test_any_object_is_read_and_clamped_or_refused(members: dict[str, Any]) -> None:
    found = asked(**members)
    body = json.dumps(members).encode()
    try:
        clamped = json.loads(gemini.edit(found, body, Clamp(100)))
    except Unreadable:
        return
    told = [clamped[key] for key in ("generationConfig", "generation_config") if isinstance(clamped.get(key), dict)]
    assert any(each.get("maxOutputTokens", each.get("max_output_tokens", 101)) in range(1, 101) for each in told)


def clamped(most: int, body: str) -> str:
    return gemini.edit(asked(), body.encode(), Clamp(most)).decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"generationConfig": {"maxOutputTokens": 100, "topK": 1}}', '{"generationConfig": {"maxOutputTokens": 50, "topK": 1}}'),
        ('{"generation_config":{"max_output_tokens":100}}', '{"generation_config":{"max_output_tokens":50}}'),
        ('{"generationConfig":{"maxOutputTokens":"100"}}', '{"generationConfig":{"maxOutputTokens":50}}'),
        ('{"generation_config":{}}', '{"generation_config":{"maxOutputTokens":50}}'),
        ('{"contents":[]}', '{"contents":[],"generationConfig":{"maxOutputTokens":50}}'),
        ('{"generationConfig":null}', '{"generationConfig":{"maxOutputTokens":50}}'),
    ],
)
def test_a_bound_is_lowered_or_put_in_at_its_place(body: str, expected: str) -> None:
    assert clamped(50, body) == expected


def test_a_bound_that_is_low_enough_stays_the_same_object() -> None:
    body = b'{"generationConfig":{"maxOutputTokens":50}}'
    assert gemini.edit(asked(), body, Clamp(50)) is body


def test_a_clamp_that_has_no_place_is_refused() -> None:
    for body in ("[]", "", '{"generationConfig":7}'):
        with pytest.raises(Unreadable):
            clamped(50, body)
    with pytest.raises(Unreadable):
        clamped(0, "{}")
    with pytest.raises(Unreadable):
        gemini.edit(asked("/v1beta/models/gemini-embedding-001:embedContent"), b"{}", Clamp(50))
    with pytest.raises(Unreadable):
        gemini.edit(asked(), b"{}", Meta(b"00-"))


def test_the_usage_is_always_told_so_nothing_changes() -> None:
    body = b"{}"
    assert gemini.edit(asked(), body, IncludeUsage()) is body
    assert gemini.takes_out(asked(), IncludeUsage()) is None


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"inlineData": {"data": "QUJD" * 100_000}}, ()),
        ({"fileData": {"fileUri": "https://x.example/a.png"}, "x": "QUJD" * 100_000}, ("urls",)),
        ({"x": "QUJD" * 100_000, "file_data": {"file_uri": "gs://bucket/a"}}, ("files",)),
        ({"text": '"quoted" ' * 50_000}, ("unread",)),
    ],
    ids=range(4),
)
def test_a_long_request_is_looked_at_as_far_as_that_is_cheap(part: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert asked(contents=[{"parts": [part]}]).unbounded == expected
