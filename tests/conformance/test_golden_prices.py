"""
Every golden transcript of a model's, against genai-prices: its reading of the usage is ours, and so is its price of it.

The bytes of each answer go through the dialect and the price list, as they do in the sidecar; the same answer goes through the package's
`extract_usage` and `calc_price`. Where the two differ by right the case stands in a table, with what both say and why; a row that
has come to say nothing new fails. (MCP and A2A have no usage and no price, hence none of their transcripts is here.)
"""

import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING
from functools import cached_property
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers

from sidecar.dialects import anthropic, bedrock, cohere, gemini, ollama, openai
from sidecar.dialects.dialect import Dialect, Heading
from sidecar.dialects.eventstream import Frames
from sidecar.dialects.sse import EventStream
from sidecar.engines.prices.price_list import PriceList
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.usage import Usage
from tests.conformance.test_prices import as_the_package_counts, expected
from tests.dialects.transcripts import GOLDEN, Transcript, transcripts
from tests.engines.prices.calls import NOW, installed

Body = dict[str, Any]
Oracle = tuple[str, str]  # the package's provider and the flavor of its API
FRAMES = "application/vnd.amazon.eventstream"
SSE = "text/event-stream; charset=utf-8"

# --- the transcripts ---


@dataclass
class Golden:
    """One transcript; `oracle` is who reads it in the package, and whose prices count there."""

    dialect: Dialect
    heading: Heading
    request: bytes
    content_type: str
    body: bytes
    status: int
    fields: dict[str, str]
    oracle: Oracle
    is_cut: bool = False

    @cached_property
    def read(self) -> tuple[ModelAsked, ModelAnswered]:
        """What our dialect makes of it."""
        asked = self.dialect.request(self.dialect.operation(self.heading), self.heading, self.request)
        reader = self.dialect.reader(asked, self.status, self.content_type, self.fields)
        reader.feed(self.body)
        if not self.is_cut:
            reader.end()
        assert isinstance(asked, ModelAsked) and isinstance(reader.answered, ModelAnswered)
        return asked, reader.answered

    @cached_property
    def cost(self) -> Cost:
        """What our price list says of it."""
        return PRICES.cost(
            *self.read,
            host=self.heading.host,
            at_ns=NOW,
            request_bytes=len(self.request),
            answered_bytes=len(self.body),
            status=self.status,
        )

    @cached_property
    def extracted(self) -> genai_prices.Usage | None:
        """What the package reads in the last of its parts that it can read; None where it can read none."""
        provider = next((each for each in providers if each.id == self.oracle[0]), None)
        for part in reversed(list(self._parts())) if provider is not None else ():
            try:
                return provider.extract_usage(part, api_flavor=self.oracle[1])[1]
            except ValueError:
                continue
        return None

    def _parts(self) -> Iterator[Body]:
        """The JSON of the answer; of a stream each event, and what it wraps: that is where a whole answer has its usage."""
        events = list(json_in(self.content_type, self.body))
        if any(event.get("type") == "message_start" for event in events):
            yield accumulated(events)
            return
        for event in events:
            yield event
            yield from (event[name] for name in ("response", "delta", "metadata", "x_groq") if isinstance(event.get(name), dict))


def json_in(content_type: str, body: bytes) -> Iterator[Body]:
    """The JSON objects in a body of this media type, one after the other."""
    if content_type.startswith("text/event-stream"):
        texts = [data for _, data in EventStream().feed(body) if data != b"[DONE]"]
    elif content_type == FRAMES:
        texts = [payload for _, payload in Frames().feed(body)]
    elif content_type in ("application/x-ndjson", "application/stream+json"):
        texts = body.splitlines()
    else:
        texts = [body]
    for text in texts:
        if text[:1] not in (b"{", b"["):
            continue  # the words of an error
        found = json.loads(text)
        for each in found if isinstance(found, list) else [found]:
            yield json.loads(b64decode(each["bytes"])) if content_type == FRAMES and "bytes" in each else each


def accumulated(events: list[Body]) -> Body:
    """Anthropic's events as one message, as its SDK puts it together: what a later event tells of the usage replaces it."""
    message: Body = {}
    for event in events:
        message |= event.get("message", {})
        told = {name: value for name, value in event.get("usage", {}).items() if value is not None}
        message["usage"] = message.get("usage", {}) | told
    return message


OPENAI_HOSTS: dict[str, tuple[str, Oracle]] = {
    "azure": ("me.openai.azure.com", ("azure", "chat")),
    "mistral": ("api.mistral.ai", ("mistral", "default")),
    "groq": ("api.groq.com", ("groq", "default")),
    "deepseek": ("api.deepseek.com", ("deepseek", "chat")),
    "xai": ("api.x.ai", ("x-ai", "chat")),
    "perplexity": ("api.perplexity.ai", ("perplexity", "default")),
    "moonshot": ("api.moonshot.ai", ("moonshotai", "chat")),
    "openrouter": ("openrouter.ai", ("openrouter", "chat")),
    "vllm": ("localhost", ("openai", "chat")),
    "litellm": ("localhost", ("openai", "chat")),
}
OPENAI_PATHS: dict[str, tuple[str, str]] = {
    "completions": ("/v1/completions", "chat"),
    "embeddings": ("/v1/embeddings", "embeddings"),
    "responses": ("/v1/responses", "responses"),
}
GEMINI_MODELS = {
    "embedding.json": "gemini-embedding-001:embedContent",
    "embeddings_vertex.json": "text-embedding-005:embedContent",
}


def of_file(dialect: Dialect, path: Path) -> Golden:
    """A transcript that is an answer's bare body; what was asked for is what the like of it answers."""
    streams = path.suffix == ".sse"
    family = path.name.partition(".")[0].partition("_")[0]
    request: Body = {"messages": [{"role": "user", "content": "Hello"}], "stream": streams}
    if dialect is openai:
        url, flavor = OPENAI_PATHS.get(family, ("/v1/chat/completions", "chat"))
        host, oracle = OPENAI_HOSTS.get(family, ("api.openai.com", ("openai", flavor)))
        heading = Heading("POST", url, host=host)
        request |= {"model": "any"}
    elif dialect is anthropic:
        heading, oracle = Heading("POST", "/v1/messages", host="api.anthropic.com"), ("anthropic", "default")
        request |= {"model": "claude-sonnet-4-5"}
    else:
        verb = "streamGenerateContent" if streams or ".array." in path.name else "generateContent"
        model = GEMINI_MODELS.get(path.name, f"gemini-2.5-flash:{verb}")
        host = "aiplatform.googleapis.com" if "vertex" in path.name else "generativelanguage.googleapis.com"
        url = (
            f"/v1/projects/p/locations/l/publishers/google/models/{model}" if "vertex" in path.name else f"/v1beta/models/{model}"
        )
        heading = Heading("POST", url, "alt=sse" if streams else "", host)
        oracle = ("google", "default")
    is_refused = any(word in path.name for word in ("error_429", "rate_limit", "vertex_error", "quota"))
    content_type = SSE if streams else "application/json"
    status, is_cut = 429 if is_refused else 200, path.stem.endswith("cut")
    return Golden(dialect, heading, json.dumps(request).encode(), content_type, path.read_bytes(), status, {}, oracle, is_cut)


def of_transcript(each: Transcript) -> Golden:
    """A transcript that has its request with it."""
    oracle = ("ollama", "default")
    if each.dialect is bedrock:
        oracle = ("aws", "anthropic" if each.name.startswith("invoke_anthropic") else "default")
    elif each.dialect is cohere:
        oracle = ("cohere", {"embed": "embeddings", "chat_tokens_only": "tokens"}.get(each.name, "default"))
    return Golden(each.dialect, each.heading, each.request_body, each.content_type, each.body, each.status, each.fields, oracle)


PRICES = PriceList(catalogue=installed())
GOLDENS = {
    f"{dialect.name}/{path.name}": of_file(dialect, path)
    for dialect in (openai, anthropic, gemini)
    for path in sorted((GOLDEN / dialect.name).iterdir())
} | {
    f"{dialect.name}/{each.name}.json": of_transcript(each)
    for dialect in (bedrock, cohere, ollama)
    for each in transcripts(dialect.name, dialect)
}

# --- where the two differ by right ---

_NO_FORMAT = "the package has no extractor for the format of this family on Bedrock"
_COUNTED_IN_HEAD = "the tokens that Bedrock bills stand in the head; the package reads bodies"
_V1 = "the package reads chats of Cohere's v2 only, whose usage stands elsewhere"
_OWN_SERVER = "the package has no Ollama: nobody bills it"
_NO_TOOLS = "the package counts no calls of server-side tools in this API, which are billed beside tokens"
_NO_SEARCHES = "the package counts no searches of Gemini, which are billed beside tokens"

NOT_READ: dict[str, str] = {
    "openai/moonshot.sse": "the usage stands in the choice, where the package does not look",
    "gemini/embeddings_vertex.json": "the tokens are those of each embedding's statistics; the package reads usageMetadata only",
    "bedrock/invoke_llama_stream.json": _NO_FORMAT,
    "bedrock/invoke_mistral.json": _COUNTED_IN_HEAD,
    "bedrock/invoke_titan.json": _NO_FORMAT,
    "bedrock/invoke_titan_embed.json": _NO_FORMAT,
    "bedrock/invoke_titan_stream.json": _NO_FORMAT,
    "cohere/v1_chat.json": _V1,
    "cohere/v1_chat_stream.json": _V1,
    "ollama/chat.json": _OWN_SERVER,
    "ollama/chat_stream.json": _OWN_SERVER,
    "ollama/embed.json": _OWN_SERVER,
    "ollama/generate_stream.json": _OWN_SERVER,
}
"""Answers whose usage we read and the package cannot."""

COUNTED_OTHERWISE: dict[str, tuple[dict[str, tuple[int, int]], str]] = {
    "openai/responses.json": ({"web_searches": (2, 0), "storage_searches": (1, 0)}, _NO_TOOLS),
    "openai/responses_tools.sse": ({"web_searches": (1, 0)}, _NO_TOOLS),
    "gemini/grounded.json": ({"web_searches": (2, 0)}, _NO_SEARCHES),
    "gemini/grounded_2_5.json": ({"web_searches": (1, 0)}, _NO_SEARCHES),
    "anthropic/compaction.sse": (
        {"input_tokens": (225_012, 45_000), "output_tokens": (4734, 1234), "cache_read_tokens": (7, 0), "cache_write_tokens": (5, 0), "cache_write_5m_tokens": (5, 0)},
        "what compaction used stands in `iterations` alone, and Anthropic bills it; the package reads the totals without it",
    ),
    "bedrock/invoke_nova_stream.json": (
        {"input_tokens": (9, 2), "cache_read_tokens": (7, 0)},
        "Nova's own format says cacheReadInputTokenCount; the package knows Converse's cacheReadInputTokens only",
    ),
}  # fmt: skip
"""What we count and what the package counts, by its names."""

_WENT_ON = "the stream broke off before its last usage; what is seen of its content costs more than what it had told"

PRICED_OTHERWISE: dict[str, tuple[int, int, str]] = {
    "anthropic/cut.sse": (255_000, 240_000, _WENT_ON),
    "gemini/unavailable.sse": (7700, 5200, _WENT_ON),
    "gemini/unavailable_bare.sse": (7700, 5200, _WENT_ON),
}
"""Our price in nano-dollars and that of the usage that was told, by the package."""

NAMES = tuple(vars(as_the_package_counts(Usage())))


def reported(usage: genai_prices.Usage, name: str) -> Any:
    """A count as it was told; to ask the package for it would have it reckoned from others."""
    return vars(usage).get(name) or 0


def priced_by_the_package(golden: Golden) -> int | None:
    """What the package says of the usage that we read, in nano-dollars, rounded up once; None where it knows no price."""
    asked, answered = golden.read
    assert answered.usage is not None
    found = expected(golden.oracle[0], answered.model or asked.model, answered.usage, answered.service_tier, NOW)
    return None if found is None else int(found.to_integral_value(ROUND_CEILING))


# --- all of them ---


@pytest.mark.parametrize("name", GOLDENS)
def test_the_usage_of_every_golden_transcript_is_that_which_genai_prices_extracts(name: str) -> None:
    golden = GOLDENS[name]
    assert golden.read[0].operation
    ours, theirs = golden.read[1].usage, golden.extracted
    assert (theirs is None) == (ours is None or name in NOT_READ), NOT_READ.get(name)
    if ours is None or theirs is None:
        return
    mine = as_the_package_counts(ours)
    pairs = {each: (reported(mine, each), reported(theirs, each)) for each in NAMES}
    assert {each: pair for each, pair in pairs.items() if pair[0] != pair[1]} == COUNTED_OTHERWISE.get(name, ({}, ""))[0]


@pytest.mark.parametrize("name", [name for name, golden in GOLDENS.items() if golden.read[1].usage is not None])
def test_the_cost_of_every_golden_transcript_is_that_which_genai_prices_calculates(name: str) -> None:
    golden = GOLDENS[name]
    theirs = priced_by_the_package(golden)
    if theirs is None:
        assert (golden.cost.pricing, golden.cost.nano_usd) == (Pricing.UNPRICED, 0)
        assert golden.cost.why in ("unknown_model", "unknown_provider")
        return
    ours, other, _ = PRICED_OTHERWISE.get(name, (theirs, theirs, ""))
    assert (golden.cost.nano_usd, theirs) == (ours, other)
    assert (ours == other) is (name not in PRICED_OTHERWISE)


@pytest.mark.parametrize("name", [name for name, golden in GOLDENS.items() if golden.read[1].usage is None])
def test_a_golden_transcript_without_a_usage_is_never_exactly_something(name: str) -> None:
    found = GOLDENS[name].cost
    assert found.pricing is not Pricing.EXACT or (found.nano_usd, found.why) == (0, "not_billed")


def test_every_difference_is_that_of_a_transcript_that_is_there() -> None:
    assert {*NOT_READ, *COUNTED_OTHERWISE, *PRICED_OTHERWISE} <= {*GOLDENS}


def test_most_of_them_are_compared() -> None:
    told = [golden for golden in GOLDENS.values() if golden.read[1].usage is not None]
    extracted = [golden for golden in told if golden.extracted is not None]
    priced = [golden for golden in told if priced_by_the_package(golden) is not None]
    found = {"all": len(GOLDENS), "told": len(told), "extracted": len(extracted), "priced": len(priced)}
    least = {"all": 87, "told": 66, "extracted": 53, "priced": 58}
    assert all(found[each] >= least[each] for each in least), found
