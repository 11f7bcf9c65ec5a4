import json
from typing import Any

import pytest

from sidecar.dialects.bedrock.asked import BedrockAsked
from sidecar.dialects.bedrock.questions import Performance, Tier, read_converse, read_invoke, tier_of


def converse(**body: Any) -> BedrockAsked:
    asked = BedrockAsked("bedrock", "chat")
    read_converse(asked, json.dumps(body).encode())
    return asked


def invoke(family: str, **body: Any) -> BedrockAsked:
    asked = BedrockAsked("bedrock", "chat", family=family)
    read_invoke(asked, json.dumps(body).encode())
    return asked


@pytest.mark.parametrize("medium", ["document", "image", "video", "audio"])
def test_what_lies_in_a_bucket_keeps_the_cost_from_having_a_bound(medium: str) -> None:
    stored = {medium: {"source": {"s3Location": {"uri": "s3://b/o"}}}}
    inside = {medium: {"source": {"bytes": "AAAA"}}}
    assert converse(messages=[{"role": "user", "content": [stored]}]).unbounded == ("files",)
    assert converse(messages=[{"role": "user", "content": [{"toolResult": {"content": [stored]}}]}]).unbounded == ("files",)
    assert converse(messages=[{"role": "user", "content": [inside, {"text": '"s3Location"'}]}]).unbounded == ()


def test_names_and_lists_have_bounds() -> None:
    told = converse(
        toolConfig={"tools": [{"toolSpec": {"name": "n" * 999}}] * 5_000}, inferenceConfig={"stopSequences": ["s" * 999] * 50}
    )
    assert len(told.tools) == 1024 and len(told.tools[0]) == 256
    assert told.parameters == (("stop_sequences", ("s" * 256,) * 16),)


@pytest.mark.parametrize("bound", [-1, 0, 1e13, "7", None, True, [7]], ids=str)
def test_an_absurd_bound_is_none(bound: Any) -> None:
    assert converse(inferenceConfig={"maxTokens": bound}).max_tokens == 0
    assert invoke("meta", max_gen_len=bound).max_tokens == 0


def test_messages_in_messages_are_followed_only_as_deep_as_they_make_sense() -> None:
    body = b'{"messages":[{"content":[' + b'{"toolResult":{"content":[' * 150 + b"]}}" * 150 + b"]}]}"
    asked = BedrockAsked("bedrock", "chat")
    read_converse(asked, body)
    assert asked.unbounded == ()


def test_a_prompt_makes_a_completion_of_a_chat() -> None:
    assert invoke("meta", prompt="Hi").operation == "text_completion"
    assert invoke("mistral", messages=[]).operation == "chat"
    asked = BedrockAsked("bedrock", "embeddings", family="titan")
    read_invoke(asked, b'{"inputText":"x"}')
    assert asked.operation == "embeddings"


def test_the_first_bound_that_is_told_counts() -> None:
    assert invoke("openai", max_completion_tokens=7).max_tokens == 7
    assert invoke("", max_tokens_to_sample=8).max_tokens == 8
    assert invoke("cohere", max_tokens=9, stop_sequences=["x"], p=0.5).parameters == (("top_p", 0.5), ("stop_sequences", ("x",)))


def test_latency_is_a_tier_where_no_other_is_named() -> None:
    fast = Performance("optimized")
    assert [
        tier_of(None, None),
        tier_of(None, fast),
        tier_of(Tier("flex"), fast),
        tier_of(Tier(""), fast),
        tier_of(None, Performance("standard")),
    ] == ["", "optimized", "flex", "optimized", ""]
