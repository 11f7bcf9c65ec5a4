import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from genai_prices import extract_usage
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.anthropic.usage import Counts, Tally, tier
from sidecar.model.usage import CONTRADICTION, NONSENSE, Usage

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic"


def counted(*parts: dict[str, Any]) -> Usage:
    tally = Tally()
    for part in parts:
        tally.hear(msgspec.convert(part, Counts))
    return tally.usage()


def test_what_is_null_or_absent_later_stands_as_it_was() -> None:
    first = {"input_tokens": 50, "cache_read_input_tokens": 7, "output_tokens": 1}
    assert counted(first, {"output_tokens": 9, "input_tokens": None}) == Usage(
        input_tokens=50, cache_read_tokens=7, output_tokens=9
    )


def test_later_figures_take_the_place_of_former_ones() -> None:
    assert counted({"input_tokens": 10, "output_tokens": 5}, {"input_tokens": 30, "output_tokens": 4}) == Usage(
        input_tokens=30, output_tokens=4
    )


@pytest.mark.parametrize(
    ("told", "written"),
    [
        ({"cache_creation_input_tokens": 9}, (9, 0, 0)),
        (
            {
                "cache_creation_input_tokens": 9,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 5},
            },
            (0, 4, 5),
        ),
        ({"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": 4}}, (5, 4, 0)),
        ({"cache_creation": {"ephemeral_1h_input_tokens": 5}}, (0, 0, 5)),
    ],
    ids=str,
)
def test_writes_to_the_cache_are_told_apart_by_lifetime_where_it_is_known(
    told: dict[str, Any], written: tuple[int, int, int]
) -> None:
    usage = counted(told)
    assert (usage.cache_write_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == written


def test_thinking_is_a_part_of_the_output_and_never_more() -> None:
    assert counted({"output_tokens": 10, "output_tokens_details": {"thinking_tokens": 30}}) == Usage(
        reasoning_tokens=10, doubt=CONTRADICTION
    )


@pytest.mark.parametrize("absurd", [-1, 10**15])
def test_absurd_counts_are_not_told(absurd: int) -> None:
    told = {"input_tokens": absurd, "output_tokens": absurd, "server_tool_use": {"web_search_requests": absurd}}
    assert counted({"input_tokens": 3}, told) == Usage(input_tokens=3, doubt=NONSENSE)


@pytest.mark.parametrize(
    ("told", "doubt"),
    [
        ({"cache_read_input_tokens": -1}, NONSENSE),
        ({"cache_creation": {"ephemeral_1h_input_tokens": 10**12}}, NONSENSE),
        ({"output_tokens_details": {"thinking_tokens": -1}}, NONSENSE),
        ({"cache_creation_input_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 6}}, CONTRADICTION),
        ({"output_tokens_details": {"thinking_tokens": 11}}, CONTRADICTION),
        ({"iterations": [{"type": "compaction", "input_tokens": -1}]}, NONSENSE),
        ({"iterations": [{"type": "message", "input_tokens": -1}]}, ""),
        ({"cache_creation_input_tokens": 6, "cache_creation": {"ephemeral_1h_input_tokens": 6}}, ""),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_so_leave_a_doubt(told: dict[str, Any], doubt: str) -> None:
    found = counted({"input_tokens": 7, "output_tokens": 10}, told)
    assert (found.doubt, found.input_tokens) == (doubt, 7)


def test_only_compactions_are_added_to_the_sums() -> None:
    each = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 2}
    iterations = [{"type": "compaction", **each}, {"type": "message", **each}, {"type": "advisor_message", **each}]
    told = {"input_tokens": 5, "output_tokens": 6, "iterations": iterations}
    assert counted(told, told) == Usage(input_tokens=105, output_tokens=16, cache_read_tokens=1, cache_write_tokens=2)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"service_tier": "priority"}, "priority"),
        ({"service_tier": "standard", "speed": "fast"}, "fast"),
        ({"speed": "standard"}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_the_tier_that_was_served(told: dict[str, Any], expected: str) -> None:
    assert tier(msgspec.convert(told, Counts)) == expected


COUNT = st.integers(0, 10**6)
SPLIT = st.tuples(COUNT, COUNT)


@given(COUNT, COUNT, SPLIT, COUNT, st.floats(0, 1), st.integers(0, 9))
def test_genai_prices_counts_the_same(
    fresh: int, read: int, split: tuple[int, int], output: int, thought: float, searches: int
) -> None:
    told = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": sum(split),
        "cache_creation": {"ephemeral_5m_input_tokens": split[0], "ephemeral_1h_input_tokens": split[1]},
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": int(output * thought)},
        "server_tool_use": {"web_search_requests": searches},
    }
    compare(counted(told), {"model": "claude-opus-5-5", "usage": told})


@pytest.mark.parametrize("file", ["whole.json", "whole_tools.json"])
def test_genai_prices_counts_whole_answers_the_same(file: str) -> None:
    body = json.loads((GOLDEN / file).read_bytes())
    compare(counted(body["usage"]), body)


def compare(usage: Usage, body: dict[str, Any]) -> None:
    theirs = extract_usage(body, provider_id="anthropic").usage
    assert (usage.input_total, usage.output_total, usage.cache_read_total, usage.cache_write_total) == (
        theirs.input_tokens,
        theirs.output_tokens,
        theirs.cache_read_tokens or 0,
        theirs.cache_write_tokens or 0,
    )
    split = (theirs.cache_write_5m_tokens, theirs.cache_write_1h_tokens)
    assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == tuple(each or 0 for each in split)
    assert (usage.reasoning_tokens, usage.web_searches) == (theirs.output_reasoning_tokens or 0, theirs.web_searches or 0)
