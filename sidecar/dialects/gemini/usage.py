"""
Google's counts, sorted into classes that do not overlap.

On the wire the prompt's count has the cached tokens in it, and the details by modality have the cached ones of theirs; thoughts
stand beside the candidates, and what tools read beside the prompt. The kinds of tokens are put together as Google bills them:
documents count as images. Each `usageMetadata` of a stream takes the place of the one before. Numbers that cannot be so are cut
down, and the usage has a `doubt`.
"""

import re
from typing import ClassVar

import msgspec

from sidecar.dialects.doubt import nonsense
from sidecar.dialects.lenient import count
from sidecar.model.usage import CONTRADICTION, Usage

_MOST_DETAILS = 32
_BY_PROMPT = re.compile(r"gemini-[12]\b")  # up to 2.5 a grounded prompt is billed once, from 3 on every search


class Detail(msgspec.Struct, gc=False, rename="camel"):
    """How many tokens one modality has of a count."""

    IS_OF_COUNTS: ClassVar[bool] = True

    modality: str | None = None
    token_count: int | None = None


class Metadata(msgspec.Struct, gc=False, rename="camel"):
    """`usageMetadata`; Vertex also sends it with nothing but the traffic's type."""

    IS_OF_COUNTS: ClassVar[bool] = True

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    prompt_tokens_details: list[Detail] | None = None
    candidates_tokens_details: list[Detail] | None = None
    cache_tokens_details: list[Detail] | None = None
    tool_use_prompt_tokens_details: list[Detail] | None = None
    traffic_type: str | None = None
    service_tier: str | None = None


_TIERS = {"ON_DEMAND": "standard", "ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex", "ON_DEMAND_OFFPEAK": "offpeak"}


def usage(told: Metadata) -> Usage | None:
    """Return the counts in their classes, None where nothing was counted."""
    prompt, tools = told.prompt_token_count, told.tool_use_prompt_token_count
    candidates, thoughts = told.candidates_token_count, told.thoughts_token_count
    if prompt is None and candidates is None and thoughts is None and tools is None:
        return None
    sent = count(prompt) + count(tools)
    told_cached = told.cached_content_token_count
    cached = min(count(told_cached), sent)
    answered = count(candidates)
    doubt = nonsense(prompt, tools, candidates, thoughts, told_cached)
    if told_cached and told_cached > sent and not doubt:
        doubt = CONTRADICTION
    if told.cache_tokens_details or told.prompt_tokens_details or told.tool_use_prompt_tokens_details:
        read, fresh, is_fitting = _input_details(told, cached, sent - cached)
        doubt = doubt or ("" if is_fitting else CONTRADICTION)
        for details in (told.prompt_tokens_details, told.cache_tokens_details, told.tool_use_prompt_tokens_details):
            doubt = doubt or _nonsense(details)
    else:
        read = fresh = _NONE
    out = _NONE
    if told.candidates_tokens_details:
        kinds = _by_modality(told.candidates_tokens_details)
        out = _fitted(kinds, answered)
        doubt = doubt or ("" if out == kinds else CONTRADICTION) or _nonsense(told.candidates_tokens_details)
    if read is _NONE and fresh is _NONE and out is _NONE:  # text only, as most
        return Usage(sent - cached, cached, output_tokens=answered, reasoning_tokens=count(thoughts), doubt=doubt)
    return Usage(
        input_tokens=sent - cached - sum(fresh),
        cache_read_tokens=cached - sum(read),
        input_audio_tokens=fresh[0],
        input_image_tokens=fresh[1],
        input_video_tokens=fresh[2],
        cache_read_audio_tokens=read[0],
        cache_read_image_tokens=read[1],
        cache_read_video_tokens=read[2],
        output_tokens=answered - sum(out),
        reasoning_tokens=count(thoughts),
        output_audio_tokens=out[0],
        output_image_tokens=out[1],
        output_video_tokens=out[2],
        doubt=doubt,
    )


def tier(told: Metadata) -> str:
    """Return the tier that was served, in the words of its prices; "" where nothing is said."""
    if told.service_tier:
        return told.service_tier[:256].lower()
    kind = told.traffic_type or ""
    return _TIERS.get(kind, kind[:256].lower())


def searches(model: str, queries: int) -> int:
    """Return how many searches are billed for so many different queries."""
    return min(queries, 1) if _BY_PROMPT.match(model) else queries


_Kinds = tuple[int, int, int]  # audio, images (and documents), video

_NONE: _Kinds = (0, 0, 0)


def _input_details(told: Metadata, cached: int, uncached: int) -> tuple[_Kinds, _Kinds, bool]:
    """What was read from the cache, what was not, and whether that is what was told."""
    told_read = _by_modality(told.cache_tokens_details)
    read = _fitted(told_read, cached)
    prompt = _by_modality(told.prompt_tokens_details)
    tools = _by_modality(told.tool_use_prompt_tokens_details)
    if read is _NONE and prompt is _NONE and tools is _NONE:
        return _NONE, _NONE, True
    fresh = (
        max(prompt[0] + tools[0] - read[0], 0),
        max(prompt[1] + tools[1] - read[1], 0),
        max(prompt[2] + tools[2] - read[2], 0),
    )
    fitted = _fitted(fresh, uncached)
    return read, fitted, told_read == read and fresh == fitted


def _nonsense(details: list[Detail] | None) -> str:
    return nonsense(*(each.token_count for each in (details or ())[:_MOST_DETAILS]))


def _by_modality(details: list[Detail] | None) -> _Kinds:
    if not details or (len(details) == 1 and details[0].modality == "TEXT"):
        return _NONE
    audio = image = video = 0
    for detail in details[:_MOST_DETAILS]:
        tokens = count(detail.token_count)
        if detail.modality == "AUDIO":
            audio += tokens
        elif detail.modality == "IMAGE" or detail.modality == "DOCUMENT":
            image += tokens
        elif detail.modality == "VIDEO":
            video += tokens
    return audio, image, video


def _fitted(kinds: _Kinds, total: int) -> _Kinds:
    """No more than there are in all, whatever was told of the parts."""
    if kinds is _NONE:
        return kinds
    audio = min(kinds[0], total)
    image = min(kinds[1], total - audio)
    return audio, image, min(kinds[2], total - audio - image)
