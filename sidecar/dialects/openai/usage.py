"""
Usage as those who speak OpenAI's format tell it, sorted into classes that do not overlap.

What OpenAI means: cached, written, audio and image tokens are part of `prompt_tokens` (`input_tokens` of responses), reasoning,
audio and image tokens part of `completion_tokens` (`output_tokens`). Who means something else is named below. Numbers that
contradict each other are cut down to what their total allows, so that a total is never exceeded and no class is negative; the
usage then has a `doubt`.
"""

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from sidecar.dialects.lenient import MOST_COUNT, count, least
from sidecar.model.usage import CONTRADICTION, NONSENSE, Usage

_ADDS_REASONING = frozenset({"x_ai"})
"""Whose reasoning stands beside `completion_tokens` of chat, where `total_tokens` does not say otherwise."""
_TOTALS_MORE = frozenset({"perplexity"})
"""Whose `total_tokens` are another sum than that of input and output."""


class Details(msgspec.Struct, gc=False):
    """What a total consists of; of the input, or of the output."""

    IS_OF_COUNTS: ClassVar[bool] = True

    cached_tokens: float | None = None
    cache_read_input_tokens: float | None = None
    cache_write_tokens: float | None = None
    audio_tokens: float | None = None
    image_tokens: float | None = None
    reasoning_tokens: float | None = None


class Told(msgspec.Struct, gc=False):
    """The member `usage`, of chat, completions, responses and embeddings."""

    IS_OF_COUNTS: ClassVar[bool] = True

    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    total_tokens: float | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None
    prompt_cache_hit_tokens: float | None = None  # DeepSeek
    cached_tokens: float | None = None  # Moonshot, Together
    num_cached_tokens: float | None = None  # Mistral
    cache_read_input_tokens: float | None = None  # Databricks
    reasoning_tokens: float | None = None  # Perplexity, Databricks
    citation_tokens: float | None = None  # Perplexity
    num_search_queries: float | None = None  # Perplexity
    num_server_side_tools_used: float | None = None  # xAI


_NONE = Details()


def usage(told: Told | None, provider: str) -> Usage | None:
    """Sort what was told; None where nothing was (`usage: null`, `usage: {}`, only nonsense)."""
    if told is None:
        return None
    given, made = told.prompt_tokens, told.completion_tokens
    if given and made and told.total_tokens == given + made and provider not in _TOTALS_MORE:
        into = told.prompt_tokens_details or told.input_tokens_details or _NONE
        out = told.completion_tokens_details or told.output_tokens_details or _NONE
        cached, thought = into.cached_tokens or 0, out.reasoning_tokens or 0
        more = (  # than input, output, and what of them was cached or thought
            into.audio_tokens
            or out.audio_tokens
            or into.cache_write_tokens
            or into.image_tokens
            or out.image_tokens
            or into.cache_read_input_tokens
            or told.prompt_cache_hit_tokens
            or told.cached_tokens
            or told.num_cached_tokens
            or told.cache_read_input_tokens
            or told.reasoning_tokens
            or told.num_search_queries
            or told.num_server_side_tools_used
        )
        if not more and 0 <= cached <= given <= MOST_COUNT and 0 <= thought <= made <= MOST_COUNT:
            # As nearly all tell it: the same, without putting each class in its place.
            read, reasoning = int(cached), int(thought)
            fresh, said = int(given) - read, int(made) - reasoning
            found = Usage(fresh, read, 0, 0, 0, 0, 0, 0, 0, 0, 0, said, reasoning)
            found.text = (fresh, read, said, reasoning)
            return found
    return _sorted(told, provider)


def _sorted(told: Told, provider: str) -> Usage | None:
    total_in = told.prompt_tokens if told.prompt_tokens is not None else told.input_tokens
    total_out = told.completion_tokens if told.completion_tokens is not None else told.output_tokens
    if total_in is None and total_out is None:
        total_in = told.total_tokens  # embeddings of some tell nothing else
    if (total_in is None or total_in < 0) and (total_out is None or total_out < 0):
        return None
    sorted_out = Usage()
    given = int(total_in) if total_in is not None and 0 < total_in <= MOST_COUNT else 0
    made = int(total_out) if total_out is not None and 0 < total_out <= MOST_COUNT else 0
    if (total_in and not given) or (total_out and not made):
        sorted_out.doubt = NONSENSE
    _sort_input(sorted_out, told, given)
    made = _sort_output(sorted_out, told, given, made, provider)
    if told.num_search_queries or told.num_server_side_tools_used:
        sorted_out.web_searches = _uses(sorted_out, told.num_search_queries)
        sorted_out.tool_uses = _uses(sorted_out, told.num_server_side_tools_used)
    if told.total_tokens and told.total_tokens != given + made and not sorted_out.doubt and provider not in _TOTALS_MORE:
        sorted_out.doubt = CONTRADICTION
    return sorted_out


def _sort_input(into: Usage, told: Told, total: int) -> None:
    details = told.prompt_tokens_details or told.input_tokens_details or _NONE
    cached = (
        details.cached_tokens
        or details.cache_read_input_tokens
        or told.prompt_cache_hit_tokens
        or told.cached_tokens
        or told.num_cached_tokens
        or told.cache_read_input_tokens
    )
    if cached:
        into.cache_read_tokens = _part(into, cached, total)
        total -= into.cache_read_tokens
    if details.cache_write_tokens:
        into.cache_write_tokens = _part(into, details.cache_write_tokens, total)
        total -= into.cache_write_tokens
    if details.audio_tokens:
        into.input_audio_tokens = _part(into, details.audio_tokens, total)
        total -= into.input_audio_tokens
    if details.image_tokens:
        into.input_image_tokens = _part(into, details.image_tokens, total)
        total -= into.input_image_tokens
    into.input_tokens = total


def _sort_output(into: Usage, told: Told, total_in: int, total: int, provider: str) -> int:
    """Sort the output and return how much there was of it, with what was told beside its total."""
    details = told.completion_tokens_details or told.output_tokens_details or _NONE
    told_reasoning = details.reasoning_tokens or told.reasoning_tokens
    if told_reasoning:
        reasoning = count(told_reasoning)
        if reasoning and _is_beside(told, reasoning, total_in, total, provider):
            total += reasoning
        into.reasoning_tokens = _part(into, told_reasoning, total)
    left = total - into.reasoning_tokens
    if details.audio_tokens:
        into.output_audio_tokens = _part(into, details.audio_tokens, left)
        left -= into.output_audio_tokens
    if details.image_tokens:
        into.output_image_tokens = _part(into, details.image_tokens, left)
        left -= into.output_image_tokens
    into.output_tokens = left
    if provider == "perplexity":
        into.output_tokens += _uses(into, told.citation_tokens)
    return total


def _part(of: Usage, told: float, total: int) -> int:
    """A part of a total, and a doubt where it cannot be one."""
    if not 0 < told <= total:
        of.doubt = CONTRADICTION if 0 < told <= MOST_COUNT else NONSENSE
    return least(told, total)


def _uses(of: Usage, told: float | None) -> int:
    """A count that is a part of nothing, and a doubt where it can be no count."""
    if told and not 0 < told <= MOST_COUNT:
        of.doubt = NONSENSE
    return count(told)


def _is_beside(told: Told, reasoning: int, total_in: int, total_out: int, provider: str) -> bool:
    """Whether reasoning tokens were told beside the output, not as a part of it."""
    if provider == "perplexity":
        return told.completion_tokens is not None and not count((told.completion_tokens_details or _NONE).reasoning_tokens)
    total = count(told.total_tokens)
    if total == total_in + total_out + reasoning:
        return True
    return provider in _ADDS_REASONING and told.completion_tokens is not None and total != total_in + total_out


def searches(counted: Mapping[str, int], told: float | None) -> tuple[int, int]:
    """Return web searches and other tool uses that are billed by the call; `counted` are the items of an output by type."""
    return count(told) or counted.get("web_search_call", 0), counted.get("file_search_call", 0)
