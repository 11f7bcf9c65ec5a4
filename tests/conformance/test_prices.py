"""
Costs are right: against the package `genai-prices` itself, and against every trap that others have fallen into.

The package is the oracle: what it calculates in decimal numbers, rounded up to nano-dollars, is what our integers give.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import anthropic, bedrock, cohere, gemini, openai
from sidecar.dialects.dialect import Dialect, Heading
from sidecar.engines.prices.price_list import PriceList
from sidecar.engines.prices.service_tier import price_context
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.usage import Usage
from tests.engines.prices.calls import NOW, at, cost, installed

M = 10**6
DOLLAR = 10**9

EXACT, ESTIMATED, UNPRICED = Pricing.EXACT, Pricing.ESTIMATED, Pricing.UNPRICED


# --- the oracle ---


def as_the_package_counts(usage: Usage) -> genai_prices.Usage:
    """Our disjoint classes as its nested ones."""
    return genai_prices.Usage(
        input_tokens=usage.input_total,
        output_tokens=usage.output_total,
        cache_read_tokens=usage.cache_read_total,
        cache_write_tokens=usage.cache_write_total,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        input_audio_tokens=usage.input_audio_tokens + usage.cache_read_audio_tokens,
        input_image_tokens=usage.input_image_tokens + usage.cache_read_image_tokens,
        input_video_tokens=usage.input_video_tokens + usage.cache_read_video_tokens,
        cache_audio_read_tokens=usage.cache_read_audio_tokens,
        cache_image_read_tokens=usage.cache_read_image_tokens,
        cache_video_read_tokens=usage.cache_read_video_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        output_image_tokens=usage.output_image_tokens,
        output_video_tokens=usage.output_video_tokens,
        web_searches=usage.web_searches,
        storage_searches=usage.tool_uses,
        input_characters=usage.input_characters,
        audio_seconds=usage.billed_seconds,
        input_audio_seconds=usage.billed_seconds,
    )


def expected(provider: str, model: str, usage: Usage, tier: str, when: int) -> Decimal | None:
    """What the package says, in nano-dollars, not rounded yet; None where it knows no price."""
    try:
        found = genai_prices.calc_price(
            as_the_package_counts(usage),
            model,
            provider_id=provider,
            genai_request_timestamp=datetime.fromtimestamp(when // DOLLAR, UTC),
            price_context=price_context(tier),
        )
    except LookupError:
        return None
    return found.total_price * DOLLAR


def prices_of(model: ModelInfo) -> Iterator[Decimal]:
    rows = [model.prices] if isinstance(model.prices, ModelPrice) else [row.prices for row in model.prices]
    for row in [*rows, *(variant.prices for variant in model.price_variants or ())]:
        for price in vars(row).values():
            yield from [price.base, *(tier.price for tier in price.tiers)] if isinstance(price, TieredPrices) else [price]


def is_fine(model: ModelInfo) -> bool:
    """Whether its prices have at most nine places: the others are products of floats, which we round and the package does not."""
    return all(-int(price.as_tuple().exponent) <= 9 for price in prices_of(model))


def assert_as_the_package(prices: PriceList, provider: Provider, model: ModelInfo, usage: Usage, tier: str, when: int) -> None:
    ours = cost(prices, provider.id, model.id, usage, tier=tier, when=when, content_bytes=0)
    theirs = expected(provider.id, model.id, usage, tier, when)
    about = (provider.id, model.id, tier, when, usage, ours, theirs)
    if theirs is None:
        assert ours.pricing is UNPRICED, about
    elif is_fine(model):
        assert ours.nano_usd == theirs.to_integral_value(ROUND_CEILING), about
    else:
        assert abs(ours.nano_usd - theirs) <= 1 + theirs / 10**6, about


SHORT = Usage(input_tokens=1001, cache_read_tokens=333, cache_write_tokens=77, output_tokens=129, reasoning_tokens=55)
LONG = Usage(
    input_tokens=100_000,
    cache_read_tokens=300_001,
    cache_write_5m_tokens=777,
    cache_write_1h_tokens=99,
    output_tokens=7,
    web_searches=3,
)
SENSES = Usage(
    input_tokens=10, input_audio_tokens=11, input_image_tokens=12, input_video_tokens=13, cache_read_tokens=5, cache_read_audio_tokens=6,
    cache_read_image_tokens=7, cache_read_video_tokens=8, output_tokens=14, output_audio_tokens=15, output_image_tokens=16,
    output_video_tokens=17, tool_uses=2, input_characters=1234, billed_seconds=7.25,
)  # fmt: skip
TIERS = ("", "batch", "flex", "priority", "fast", "scale")
TIMES = (NOW, at("2026-10-11T02:30"), at("2025-02-03T03:00"))

SAMPLES = [(provider, model) for provider in providers for model in provider.models[:: 7 if provider.id == "openrouter" else 1]]


@pytest.fixture(scope="module")
def prices() -> PriceList:
    return PriceList(catalogue=installed())


def test_every_model_of_every_provider_costs_what_the_package_says(prices: PriceList) -> None:
    for provider, model in SAMPLES:
        for usage in (SHORT, LONG, SENSES):
            assert_as_the_package(prices, provider, model, usage, "", NOW)


def test_every_service_tier_costs_what_the_package_says(prices: PriceList) -> None:
    for provider, model in SAMPLES:
        for tier in TIERS if model.price_variants else ():
            for when in TIMES[:2]:
                assert_as_the_package(prices, provider, model, LONG, tier, when)


def test_every_price_of_the_past_and_of_an_hour_is_what_the_package_says(prices: PriceList) -> None:
    for provider, model in SAMPLES:
        if not isinstance(model.prices, ModelPrice):
            for when in (*TIMES, at("2024-06-01T12:00"), at("2026-11-20T00:30"), at("2026-11-20T16:30")):
                assert_as_the_package(prices, provider, model, SHORT, "", when)


SOME = st.integers(0, 400_000)
TRICKY = ("openai", "anthropic", "google", "aws", "azure", "deepseek", "perplexity")
BY_NAME = {f"{provider.id}: {model.id}": (provider, model) for provider, model in SAMPLES if provider.id in TRICKY}


@given(
    st.sampled_from(sorted(BY_NAME)),
    st.builds(Usage, **dict.fromkeys(["input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens"], SOME)),
    st.sampled_from(TIERS),
    st.sampled_from(TIMES),
)  # fmt: skip
def test_any_usage_costs_what_the_package_says(name: str, usage: Usage, tier: str, when: int) -> None:
    assert_as_the_package(PRICES, *BY_NAME[name], usage, tier, when)


PRICES = PriceList(catalogue=installed())


@pytest.mark.parametrize(
    "name",
    ["gpt-4o-2024-08-06", "GPT-4O-mini", "gpt-5.2-20251211", "o3-pro", "ft:gpt-4o-mini-2024-07-18:me::1", "claude-sonnet-4-5-20250929", "claude-3.5-sonnet", "gemini-2.5-flash-lite",
     "anthropic/claude-opus-4.5", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "global.anthropic.claude-opus-4-5-20251101-v1:0", "mistral-large-latest",
     "deepseek-chat", "llama-3.3-70b-versatile", "grok-4", "command-a-03-2025", "nobody-knows-this", "gpt", "x" * 200],
)  # fmt: skip
def test_any_name_finds_the_model_that_the_package_finds(name: str) -> None:
    for provider in providers:
        theirs = expected(provider.id, name, SHORT, "", NOW)
        ours = cost(PRICES, provider.id, name, SHORT)
        assert (ours.pricing is UNPRICED) is (theirs is None), provider.id
        assert theirs is None or ours.nano_usd == theirs.to_integral_value(ROUND_CEILING), provider.id


# --- traps ---

TRAPS: list[tuple[str, str, str, dict[str, Any], str, float, Pricing, str]] = [
    # OpenAI: cached input costs its own price once, and never that of input beside it (BerriAI/litellm#14849, langfuse/langfuse#12306)
    ("cached once", "openai", "gpt-4o", {"input_tokens": M, "cache_read_tokens": M}, "default", 2.5 + 1.25, EXACT, ""),
    ("reasoning is output", "openai", "gpt-5.1", {"reasoning_tokens": M}, "default", 10, EXACT, ""),
    ("a write is input where writes have no price", "openai", "gpt-5.1", {"cache_write_tokens": M}, "default", 1.25, EXACT, ""),
    ("272,000 tokens", "openai", "gpt-5.5", {"input_tokens": 272_000}, "default", 0.272 * 5, EXACT, ""),
    ("272,001 tokens", "openai", "gpt-5.5", {"input_tokens": 272_001}, "default", 0.272001 * 10, EXACT, ""),
    ("272,001 tokens, most of them cached", "openai", "gpt-5.5", {"input_tokens": 1, "cache_read_tokens": 272_000}, "default", 0.000001 * 10 + 0.272, EXACT, ""),
    ("priority has no long-context tier", "openai", "gpt-5.5", {"input_tokens": 272_001}, "priority", 0.272001 * 12.5, EXACT, ""),
    ("a tier in capitals", "openai", "gpt-5.1", {"input_tokens": M}, "PRIORITY", 2.5, EXACT, ""),
    ("flex", "openai", "gpt-5.1", {"input_tokens": M, "output_tokens": M}, "flex", 5.625, EXACT, ""),
    ("batch leaves cached input of this model alone", "openai", "gpt-4o", {"input_tokens": M, "cache_read_tokens": M}, "batch", 1.25 + 1.25, EXACT, ""),
    ("a tier that nobody knows", "openai", "gpt-4o", {"input_tokens": M}, "scale", 2.5, ESTIMATED, "service_tier"),
    ("file searches are billed by the call", "openai", "gpt-5.1", {"input_tokens": M, "tool_uses": 4, "web_searches": 2}, "", 1.25 + 0.01 + 0.02, EXACT, ""),
    ("sound without a price is a guess", "openai", "gpt-4o-audio-preview", {"input_audio_tokens": M}, "", 2.5, ESTIMATED, "no_input_audio_price"),
    ("pictures have prices", "openai", "gpt-image-1", {"input_image_tokens": M, "cache_read_image_tokens": M}, "", 10 + 2.5, EXACT, ""),
    ("an embedding has no output", "openai", "text-embedding-3-small", {"input_tokens": M}, "", 0.02, EXACT, ""),
    ("speech by characters", "openai", "tts-1", {"input_characters": M}, "", 15, EXACT, ""),
    ("sound by the hour", "openai", "whisper-1", {"billed_seconds": 90.0}, "", 0.009, EXACT, ""),
    ("sound by the hour, billed in tokens that have no price", "openai", "whisper-1", {"input_audio_tokens": M}, "", 0, UNPRICED, "no_price"),
    # Anthropic: three kinds of writes, tiers by all input, web searches, fast mode
    ("a write for five minutes", "anthropic", "claude-opus-5", {"cache_write_5m_tokens": M}, "standard", 6.25, EXACT, ""),
    ("a write for an hour", "anthropic", "claude-opus-5", {"cache_write_1h_tokens": M}, "standard", 10, EXACT, ""),
    ("a write for who knows how long", "anthropic", "claude-opus-5", {"cache_write_tokens": M}, "standard", 6.25, EXACT, ""),
    ("reads beside input", "anthropic", "claude-opus-5", {"input_tokens": M, "cache_read_tokens": M}, "standard", 5.5, EXACT, ""),
    ("writes make it long", "anthropic", "claude-haiku-5-5", {"input_tokens": 1, "cache_write_5m_tokens": 100_000}, "", 5 * (0.0000001 + 0.0125), EXACT, ""),
    ("batch halves caches too", "anthropic", "claude-opus-5", {"cache_read_tokens": M, "cache_write_1h_tokens": M}, "batch", 5.25, EXACT, ""),
    ("batch leaves web searches alone", "anthropic", "claude-opus-5", {"output_tokens": M, "web_searches": 10}, "batch", 12.5 + 0.1, EXACT, ""),
    ("fast mode", "anthropic", "claude-opus-5", {"input_tokens": M, "output_tokens": M}, "fast", 60, EXACT, ""),
    ("priority is a contract", "anthropic", "claude-opus-5", {"input_tokens": M}, "priority", 5, ESTIMATED, "service_tier"),
    # Gemini: the cliff at 200,000, thoughts beside candidates, sound dearer than text
    ("200,000 tokens", "gcp.gemini", "gemini-2.5-pro", {"input_tokens": 200_000}, "", 0.25, EXACT, ""),
    ("200,001 tokens", "gcp.gemini", "gemini-2.5-pro", {"input_tokens": 200_001, "output_tokens": M}, "", 0.2000010 * 2.5 + 15, EXACT, ""),
    ("thoughts", "gcp.vertex_ai", "gemini-2.5-pro", {"reasoning_tokens": M}, "ON_DEMAND", 10, EXACT, ""),
    ("sound", "gcp.gemini", "gemini-2.5-flash", {"input_tokens": M, "input_audio_tokens": M}, "", 1.3, EXACT, ""),
    ("sound from the cache", "gcp.gemini", "gemini-2.5-flash", {"cache_read_tokens": M, "cache_read_audio_tokens": M}, "", 0.13, EXACT, ""),
    ("film is input", "gcp.gemini", "gemini-2.5-flash", {"input_video_tokens": M, "input_image_tokens": M}, "", 0.6, EXACT, ""),
    ("searches", "gcp.gemini", "gemini-2.5-pro", {"input_tokens": 1000, "web_searches": 1}, "", 0.00125 + 0.035, EXACT, ""),
    ("a model's path", "gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro", {"input_tokens": 1000}, "", 0.00125, EXACT, ""),
    ("Claude on Vertex AI", "gcp.vertex_ai", "claude-opus-5", {"input_tokens": M}, "", 5, EXACT, ""),
    # Bedrock: the region is a part of the model's name, and of its price
    ("a region", "aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", {"input_tokens": M, "cache_write_1h_tokens": M}, "", 9.9, EXACT, ""),
    ("a profile of somebody's own", "aws.bedrock", "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", {"input_tokens": M}, "", 0, UNPRICED, "unknown_model"),
    # Azure sells OpenAI's models, without OpenAI's tiers; it is not OpenAI, whatever its name says
    ("a lent price", "azure.ai.openai", "gpt-4o", {"input_tokens": M, "cache_read_tokens": M}, "", 3.75, EXACT, ""),
    ("a lent price has no tiers", "azure.ai.openai", "gpt-4o", {"input_tokens": M}, "priority", 2.5, ESTIMATED, "service_tier"),
    # others
    ("DeepSeek by day", "deepseek", "deepseek-chat", {"input_tokens": M}, "", 0.27, EXACT, ""),
    ("a fee for each request", "perplexity", "sonar-pro", {"input_tokens": M}, "", 3.014, EXACT, ""),
    ("reasoning with a price of its own", "perplexity", "sonar-deep-research", {"reasoning_tokens": M}, "", 3, ESTIMATED, "output_citation_mtok_not_counted"),
    ("ten seconds at the least", "groq", "whisper-large-v3", {"billed_seconds": 1.0}, "on_demand", 0.111 / 360, EXACT, ""),
    ("Groq in a batch", "groq", "openai/gpt-oss-120b", {"input_tokens": M, "output_tokens": M}, "batch", 0.375, EXACT, ""),
    ("no discount known", "mistral_ai", "mistral-large-latest", {"cache_read_tokens": M}, "", 2, ESTIMATED, "no_cache_read_price"),
    ("xAI", "x_ai", "grok-4", {"input_tokens": M, "cache_read_tokens": M}, "", 3.75, EXACT, ""),
    ("Cohere", "cohere", "command-a-03-2025", {"output_tokens": M}, "", 10, EXACT, ""),
    ("free, because the list says so", "cerebras", "qwen-3-coder-480b", {"input_tokens": M}, "", 0, EXACT, "free"),
    ("a router's price is its own", "openrouter", "google/gemini-2.5-pro", {"input_tokens": 1000}, "", 0.00125, EXACT, ""),
    ("behind LiteLLM", "litellm", "anthropic/claude-opus-5", {"input_tokens": M}, "", 5, EXACT, ""),
    # nobody's price is not $0 (BerriAI/litellm#36561, #35913; maximhq/bifrost#6036)
    ("a server of one's own", "ollama", "llama3.3", {"input_tokens": M}, "", 0, UNPRICED, "unknown_provider"),
    ("another server of one's own", "vllm", "gpt-4o", {"input_tokens": M}, "", 0, UNPRICED, "unknown_provider"),
    ("a model that is too new", "openai", "gpt-99", {"input_tokens": M}, "", 0, UNPRICED, "unknown_model"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "model", "used", "tier", "dollars", "pricing", "why"),
    [trap[1:] for trap in TRAPS],
    ids=[f"{trap[1]}: {trap[0]}" for trap in TRAPS],
)
def test_nobody_falls_into_this_trap(
    provider: str, model: str, used: dict[str, Any], tier: str, dollars: float, pricing: Pricing, why: str
) -> None:
    found = cost(PRICES, provider, model, Usage(**used), tier=tier)
    assert (found.pricing, found.why) == (pricing, why)
    assert found.nano_usd in range(round(dollars * DOLLAR), round(dollars * DOLLAR) + 2)
    assert (found.source == "genai-prices") is (pricing is not UNPRICED)


def test_a_price_of_the_past_stays_the_price_of_the_past() -> None:
    used = Usage(input_tokens=M)
    dates = ("2025-06-09T23:59", "2025-06-10T00:00")
    assert [cost(PRICES, "openai", "o3", used, when=at(date)).nano_usd // DOLLAR for date in dates] == [10, 2]


def test_a_price_of_the_night_is_the_price_of_the_night() -> None:
    used = Usage(input_tokens=M)
    times = ("2026-11-20T00:29", "2026-11-20T00:30", "2026-11-20T16:29", "2026-11-20T16:30")
    assert [cost(PRICES, "deepseek", "deepseek-chat", used, when=at(time)).nano_usd for time in times] == [
        135 * M,
        270 * M,
        270 * M,
        135 * M,
    ]


def test_what_was_asked_for_is_not_what_is_billed() -> None:
    """BerriAI/litellm#37046: a provider served the standard tier, and the priority price was counted, or the other way round."""
    used = Usage(input_tokens=M)
    assert cost(PRICES, "openai", "gpt-5.1", used, tier="default", asked={"service_tier": "priority"}).nano_usd == 1_250_000_000
    assert cost(PRICES, "openai", "gpt-5.1", used, tier="priority", asked={"service_tier": "auto"}).nano_usd == 2_500_000_000


def test_a_stream_without_a_usage_is_not_free() -> None:
    """BerriAI/litellm#37923: streams were priced 0, so that no cap was ever reached."""
    found = cost(PRICES, "openai", "gpt-5.1", None, asked={"streams": True}, request_bytes=40_000, content_bytes=4000)
    assert (found.pricing, found.why, found.nano_usd) == (ESTIMATED, "no_usage", 12_500_000 + 10_000_000)


def test_a_stream_that_was_cut_is_not_billed_at_the_one_token_of_its_beginning() -> None:
    begun = Usage(input_tokens=1000, cache_read_tokens=10_000, output_tokens=1)
    found = cost(PRICES, "anthropic", "claude-opus-5", begun, is_ended=False, content_bytes=4000)
    assert (found.pricing, found.why, found.nano_usd) == (ESTIMATED, "cut", 5_000_000 + 5_000_000 + 25_000_000)


def test_a_usage_that_is_priced_stays_as_it_was() -> None:
    before = asdict(SENSES)
    cost(PRICES, "openai", "gpt-5.1", SENSES, is_ended=False)
    assert asdict(SENSES) == before


# --- what cannot be so is never exact, whoever says it ---

Body = dict[str, Any]


def of_openai(usage: Body) -> Body:
    message = {"role": "assistant", "content": "Hello"}
    return {"id": "c", "model": "gpt-4o-mini", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


def of_responses(usage: Body) -> Body:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}]
    return {"id": "r", "object": "response", "status": "completed", "model": "gpt-4o-mini", "output": output, "usage": usage}


def of_anthropic(usage: Body) -> Body:
    content = [{"type": "text", "text": "Hello"}]
    return {"id": "m", "type": "message", "model": "claude-sonnet-4-5", "content": content, "stop_reason": "end_turn", "usage": usage}


def of_gemini(usage: Body) -> Body:
    candidate = {"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
    return {"modelVersion": "gemini-2.5-flash", "candidates": [candidate], "usageMetadata": usage}


def of_bedrock(usage: Body) -> Body:
    return {"output": {"message": {"content": [{"text": "Hello"}]}}, "stopReason": "end_turn", "usage": usage}


def of_cohere(usage: Body) -> Body:
    return {"id": "c", "message": {"content": [{"type": "text", "text": "Hello"}]}, "finish_reason": "COMPLETE", "usage": usage}


SPEAKERS: dict[str, tuple[Dialect, str, str, str, Callable[[Body], Body], Body]] = {
    "chat": (openai, "/v1/chat/completions", "openai", "gpt-4o-mini", of_openai, {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}),
    "responses": (openai, "/v1/responses", "openai", "gpt-4o-mini", of_responses, {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}),
    "anthropic": (anthropic, "/v1/messages", "anthropic", "claude-sonnet-4-5", of_anthropic, {"input_tokens": 10, "output_tokens": 2}),
    "gemini": (gemini, "/v1beta/models/gemini-2.5-flash:generateContent", "gcp.gemini", "gemini-2.5-flash", of_gemini, {"promptTokenCount": 10, "candidatesTokenCount": 2}),
    "bedrock": (bedrock, "/model/anthropic.claude-sonnet-4-5-20250929-v1:0/converse", "aws.bedrock", "", of_bedrock, {"inputTokens": 10, "outputTokens": 2}),
    "cohere": (cohere, "/v2/chat", "cohere", "command-r-08-2024", of_cohere, {"billed_units": {"input_tokens": 10, "output_tokens": 2}}),
}  # fmt: skip
NOT_SO: dict[str, tuple[Body, ...]] = {
    "chat": (
        {"prompt_tokens": -10}, {"completion_tokens": -1}, {"prompt_tokens": 10**15}, {"prompt_tokens": 2**31, "total_tokens": None},
        {"prompt_tokens": "10"}, {"prompt_tokens_details": {"cached_tokens": "many"}}, {"prompt_tokens": None}, {"prompt_tokens": 0}, {"prompt_tokens_details": {"cached_tokens": -5}},
        {"prompt_tokens_details": {"cached_tokens": 11}}, {"completion_tokens_details": {"reasoning_tokens": 3}}, {"total_tokens": 5},
    ),
    "responses": (
        {"input_tokens": -10}, {"output_tokens": -1}, {"input_tokens_details": {"cached_tokens": 11}},
        {"output_tokens_details": {"reasoning_tokens": -1}}, {"total_tokens": 1000},
    ),
    "anthropic": (
        {"cache_creation": {"ephemeral_1h_input_tokens": []}}, {"output_tokens_details": {"thinking_tokens": {}}},
        {"input_tokens": -10}, {"output_tokens": -1}, {"output_tokens": 10**15}, {"cache_read_input_tokens": -1}, {"input_tokens": None},
        {"cache_creation_input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 2}},
    ),
    "gemini": (
        {"thoughtsTokenCount": "3"}, {"promptTokenCount": -10}, {"candidatesTokenCount": -1}, {"thoughtsTokenCount": -1}, {"cachedContentTokenCount": 11},
        {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 11}]}, {"promptTokenCount": 2**40},
    ),
    "bedrock": ({"cacheReadInputTokens": True}, {"inputTokens": -10}, {"outputTokens": -1}, {"cacheReadInputTokens": -1}, {"cacheWriteInputTokens": 10**15}),
    "cohere": (
        {"billed_units": {"input_tokens": -10, "output_tokens": 2}}, {"billed_units": {"input_tokens": 10, "output_tokens": -2}},
        {"billed_units": {"input_tokens": 10, "output_tokens": 2, "search_units": -1}},
    ),
}  # fmt: skip


def told_by(speaker: str, different: Body) -> Cost:
    """What a whole answer with this usage costs, read by its dialect."""
    dialect, path, provider, model, body, usage = SPEAKERS[speaker]
    heading = Heading("POST", path, provider=provider)
    request = json.dumps({"model": model, "messages": [{"role": "user", "content": "x" * 30}]}).encode()
    asked = dialect.request(dialect.operation(heading), heading, request)
    reader = dialect.reader(asked, 200, "application/json", {})
    answer = json.dumps(body({**usage, **different})).encode()
    reader.feed(answer)
    reader.end()
    assert isinstance(asked, ModelAsked) and isinstance(reader.answered, ModelAnswered)
    return PriceList(catalogue=installed()).cost(
        asked, reader.answered, host="", at_ns=NOW, request_bytes=len(request), answered_bytes=len(answer), status=200
    )


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_what_can_be_so_is_exact(speaker: str) -> None:
    assert told_by(speaker, {}).pricing is EXACT


@pytest.mark.parametrize(
    ("speaker", "different"), [pytest.param(speaker, each, id=f"{speaker}: {each}") for speaker, all_of in NOT_SO.items() for each in all_of]
)
def test_what_cannot_be_so_is_estimated_and_neither_nothing_nor_a_fortune(speaker: str, different: Body) -> None:
    found = told_by(speaker, different)
    assert found.pricing is ESTIMATED and found.why in ("nonsense", "contradiction", "half_told"), found
    usual = told_by(speaker, {}).nano_usd
    assert usual / 10 < found.nano_usd < usual * 10
