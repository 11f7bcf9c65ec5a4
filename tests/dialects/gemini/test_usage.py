import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from genai_prices import extract_usage
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.gemini.usage import Metadata, searches, tier, usage
from sidecar.model.usage import CONTRADICTION, NONSENSE, Usage

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini"


def counted(**told: Any) -> Usage | None:
    return usage(msgspec.convert(told, Metadata))


def details(**kinds: int) -> list[dict[str, Any]]:
    return [{"modality": kind, "tokenCount": tokens} for kind, tokens in kinds.items()]


def test_cached_tokens_are_in_the_prompt_and_thoughts_beside_the_candidates() -> None:
    found = counted(
        promptTokenCount=100, cachedContentTokenCount=80, candidatesTokenCount=7, thoughtsTokenCount=30, totalTokenCount=137
    )
    assert found == Usage(input_tokens=20, cache_read_tokens=80, output_tokens=7, reasoning_tokens=30)


def test_what_tools_read_is_input_beside_the_prompt() -> None:
    assert counted(promptTokenCount=10, toolUsePromptTokenCount=300) == Usage(input_tokens=310)


def test_each_modality_is_its_own_class_cached_or_not() -> None:
    found = counted(
        promptTokenCount=1000,
        cachedContentTokenCount=500,
        candidatesTokenCount=90,
        promptTokensDetails=details(TEXT=200, AUDIO=300, IMAGE=250, DOCUMENT=50, VIDEO=200),
        cacheTokensDetails=details(TEXT=100, AUDIO=200, DOCUMENT=50, VIDEO=150),
        candidatesTokensDetails=details(TEXT=10, IMAGE=50, AUDIO=30),
    )
    assert found == Usage(
        input_tokens=100, cache_read_tokens=100,
        input_audio_tokens=100, input_image_tokens=250, input_video_tokens=50,
        cache_read_audio_tokens=200, cache_read_image_tokens=50, cache_read_video_tokens=150,
        output_tokens=10, output_image_tokens=50, output_audio_tokens=30,
    )  # fmt: skip


def test_nothing_counted_is_no_usage() -> None:
    assert counted(trafficType="ON_DEMAND") is None
    assert counted(promptTokenCount=0) == Usage()


def test_absurd_counts_are_not_told() -> None:
    assert counted(promptTokenCount=-5, candidatesTokenCount=10**15, thoughtsTokenCount=3) == Usage(
        reasoning_tokens=3, doubt=NONSENSE
    )


@pytest.mark.parametrize(
    ("told", "doubt"),
    [
        ({"thoughtsTokenCount": -3}, NONSENSE),
        ({"cachedContentTokenCount": 2**40}, NONSENSE),
        ({"cachedContentTokenCount": 101}, CONTRADICTION),
        ({"promptTokensDetails": details(TEXT=50, AUDIO=101)}, CONTRADICTION),
        ({"promptTokensDetails": details(TEXT=50, AUDIO=-1)}, NONSENSE),
        ({"cachedContentTokenCount": 10, "cacheTokensDetails": details(AUDIO=11)}, CONTRADICTION),
        ({"candidatesTokensDetails": details(IMAGE=8)}, CONTRADICTION),
        ({"candidatesTokensDetails": details(IMAGE=-8)}, NONSENSE),
        ({"cachedContentTokenCount": 100, "promptTokensDetails": details(TEXT=100)}, ""),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_so_leave_a_doubt(told: dict[str, Any], doubt: str) -> None:
    found = counted(**{"promptTokenCount": 100, "candidatesTokenCount": 7, **told})
    assert found is not None
    assert (found.doubt, found.input_total, found.output_total) == (doubt, 100, 7)


COUNT = st.integers(-3, 1000)
DETAILS = st.lists(st.tuples(st.sampled_from(["TEXT", "AUDIO", "IMAGE", "VIDEO", "DOCUMENT", "NEW"]), COUNT), max_size=6)


@given(COUNT, COUNT, COUNT, COUNT, st.tuples(DETAILS, DETAILS, DETAILS))
def test_the_classes_never_sum_to_more_than_was_told(
    prompt: int, cached: int, candidates: int, tools: int, lists: tuple[list[tuple[str, int]], ...]
) -> None:
    names = ("promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails")
    found = counted(
        promptTokenCount=prompt,
        cachedContentTokenCount=cached,
        candidatesTokenCount=candidates,
        toolUsePromptTokenCount=tools,
        **{
            name: [{"modality": kind, "tokenCount": tokens} for kind, tokens in each]
            for name, each in zip(names, lists, strict=True)
        },
    )
    assert found is not None
    assert found.input_total == max(prompt, 0) + max(tools, 0)
    assert found.output_total == max(candidates, 0)
    assert found.cache_read_total == min(max(cached, 0), found.input_total)
    assert all(getattr(found, name) >= 0 for name in Usage.__slots__ if name not in ("doubt", "text"))


@pytest.mark.parametrize(
    "file", ["whole.json", "modalities.json", "grounded.json", "embedding.json", "text.sse", "tools.sse", "vertex_cached.sse"]
)
def test_genai_prices_counts_the_same(file: str) -> None:
    text = (GOLDEN / file).read_text()
    body = json.loads(text.split("data: ")[-1])
    body.setdefault("modelVersion", "gemini-embedding-001")
    theirs = extract_usage(body, provider_id="google").usage
    ours = usage(msgspec.convert(body["usageMetadata"], Metadata))
    assert ours is not None
    assert (ours.input_total, ours.output_total, ours.cache_read_total) == (
        theirs.input_tokens,
        theirs.output_tokens or 0,
        theirs.cache_read_tokens or 0,
    )
    assert ours.reasoning_tokens == (theirs.output_reasoning_tokens or 0)
    assert (ours.input_audio_tokens + ours.cache_read_audio_tokens, ours.input_video_tokens) == (
        theirs.input_audio_tokens or 0,
        theirs.input_video_tokens or 0,
    )
    assert (ours.input_image_tokens, ours.output_image_tokens) == (
        theirs.input_image_tokens or 0,
        theirs.output_image_tokens or 0,
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"trafficType": "ON_DEMAND"}, "standard"),
        ({"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput"),
        ({"trafficType": "ON_DEMAND", "serviceTier": "FLEX"}, "flex"),
        ({}, ""),
    ],
    ids=str,
)
def test_the_tier_that_was_served(told: dict[str, Any], expected: str) -> None:
    assert tier(msgspec.convert(told, Metadata)) == expected


@pytest.mark.parametrize(
    ("model", "billed"),
    [
        ("gemini-2.5-flash", 1),
        ("gemini-2.0-flash-001", 1),
        ("gemini-1.5-pro", 1),
        ("gemini-3-pro-preview", 4),
        ("gemini-3.8-flash", 4),
        ("", 4),
    ],
)
def test_searches_are_billed_by_the_prompt_up_to_2_5_and_one_by_one_since(model: str, billed: int) -> None:
    assert (searches(model, 4), searches(model, 0)) == (billed, 0)
