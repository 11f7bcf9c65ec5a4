from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engines.prices.price import CLASSES, FREE, MILLION, NO_PRICE, Tiered, price_of
from sidecar.model.usage import Usage

DOLLAR = 10**9


def flat(**dollars: float) -> dict[str, Tiered]:
    return {name: (round(price * DOLLAR), ()) for name, price in dollars.items()}


def test_the_classes_are_those_of_a_usage_and_the_inputs_come_first() -> None:
    told = Usage(**dict.fromkeys(list(CLASSES.values())[:11], 1))
    assert (told.input_total, told.output_total) == (11, 0)
    assert set(CLASSES.values()) == set(Usage.__slots__) - {"billed_seconds", "doubt", "text"}


def test_a_call_is_summed_in_integers_and_rounded_up_once() -> None:
    price = price_of({"input": (75_000_000, ()), "output": (300_000_000, ())})
    assert price.charge(Usage(input_tokens=1)) == (75, "")
    assert price_of({"input": (1, ()), "output": (1, ())}).charge(Usage(input_tokens=1, output_tokens=1)) == (1, "")
    assert price_of({"input": (500_001, ()), "output": (500_000, ())}).charge(Usage(input_tokens=1, output_tokens=1)) == (2, "")


@given(st.integers(0, 10**9), st.integers(0, 10**12), st.integers(0, 10**9), st.integers(0, 10**12))
def test_the_sum_is_exact_whatever_the_numbers(tokens: int, price: int, more: int, dearer: int) -> None:
    charge, why = price_of({"input": (price, ()), "output": (dearer, ())}).charge(Usage(input_tokens=tokens, output_tokens=more))
    assert (charge - 1) * MILLION < tokens * price + more * dearer <= charge * MILLION
    assert why == ""


@pytest.mark.parametrize(
    ("prices", "used", "dollars", "why"),
    [
        ({"input": 1, "output": 2}, {"cache_read_tokens": 1}, 1, "no_cache_read_price"),
        ({"input": 1, "output": 2}, {"cache_write_tokens": 1}, 1, "no_cache_write_price"),
        ({"input": 1, "cache_read": 0.1, "output": 2}, {"cache_write_tokens": 1}, 1, ""),
        ({"input": 1, "cache_read": 0.1, "output": 2}, {"cache_write_1h_tokens": 1}, 1, ""),
        ({"input": 1, "cache_write": 1.25, "output": 2}, {"cache_write_5m_tokens": 1}, 1.25, ""),
        ({"input": 1, "cache_write_5m": 1.25, "output": 2}, {"cache_write_tokens": 1}, 1.25, ""),
        ({"input": 1, "cache_write": 1.25, "output": 2}, {"cache_write_1h_tokens": 1}, 1.25, "no_cache_write_1h_price"),
        ({"input": 1, "cache_write": 1.25, "cache_write_1h": 2}, {"cache_write_1h_tokens": 1}, 2, ""),
        ({"input": 1, "output": 2}, {"reasoning_tokens": 1}, 2, ""),
        ({"input": 1, "output": 2, "reasoning": 3}, {"reasoning_tokens": 1}, 3, ""),
        ({"input": 1, "output": 2}, {"input_image_tokens": 1}, 1, ""),
        ({"input": 1, "output": 2}, {"input_video_tokens": 1}, 1, ""),
        ({"input": 1, "output": 2}, {"input_audio_tokens": 1}, 1, "no_input_audio_price"),
        ({"input": 1, "input_audio": 5}, {"input_audio_tokens": 1}, 5, ""),
        ({"input": 1, "input_audio": 5, "cache_read": 0.1}, {"cache_read_audio_tokens": 1}, 5, "no_cache_read_audio_price"),
        ({"input": 1, "cache_read": 0.1}, {"cache_read_audio_tokens": 1}, 0.1, "no_cache_read_audio_price"),
        ({"input": 1, "cache_read": 0.1}, {"cache_read_image_tokens": 1}, 0.1, ""),
        ({"input": 1, "cache_read": 0.1}, {"cache_read_video_tokens": 1}, 0.1, ""),
        ({"input": 1, "output": 2}, {"output_audio_tokens": 1}, 2, "no_output_audio_price"),
        ({"input": 1, "output": 2, "output_image": 30}, {"output_image_tokens": 1}, 30, ""),
        ({"input": 1}, {"input_tokens": 1, "output_tokens": 1}, 1, "no_output_price"),
        ({"input": 1, "output": 2}, {"input_tokens": 1, "web_searches": 1}, 1, "no_web_search_price"),
        ({"input_characters": 15}, {"input_characters": 1}, 15, ""),
    ],
)  # fmt: skip
def test_a_class_without_a_price_takes_that_of_its_neighbour_and_says_so(
    prices: dict[str, float], used: dict[str, int], dollars: float, why: str
) -> None:
    usage = Usage(**{name: count * MILLION for name, count in used.items()})
    assert price_of(flat(**prices)).charge(usage) == (round(dollars * DOLLAR), why)


def test_what_has_no_price_at_all_is_not_free() -> None:
    assert price_of(flat(input_audio=1)).charge(Usage(input_tokens=5)) == NO_PRICE
    assert price_of({}, per_hour=DOLLAR).charge(Usage(input_tokens=5)) == NO_PRICE
    assert price_of({}).charge(Usage(output_tokens=5)) == NO_PRICE
    assert FREE.charge(Usage(input_tokens=10**9, web_searches=5)) == (0, "")
    assert price_of(flat(input=0, output=0)).charge(Usage(input_tokens=5, output_tokens=5)) == (0, "")


def test_a_long_input_makes_the_whole_call_dearer_and_cached_tokens_count_for_its_length() -> None:
    price = price_of({"input": (DOLLAR, ((200_000, 2 * DOLLAR),)), "output": (DOLLAR, ())})
    assert price.charge(Usage(input_tokens=200_000))[0] == 200_000_000
    assert price.charge(Usage(input_tokens=200_001))[0] == 400_002_000
    assert price.charge(Usage(input_tokens=1, cache_read_tokens=200_000))[0] == 400_002_000
    assert price.charge(Usage(input_tokens=1, output_tokens=300_000))[0] == 300_001_000


def test_each_class_may_have_thresholds_of_its_own() -> None:
    price = price_of({"input": (1, ((10, 3), (30, 4))), "output": (1, ((20, 2),))})

    def rates(tokens: int) -> tuple[int, int]:
        of = next((rates for above, rates in reversed(price.steps) if tokens > above), price.base)
        return of.per_million[0], of.per_million[11]

    assert [rates(tokens) for tokens in (10, 11, 21, 31)] == [(1, 1), (3, 1), (3, 2), (4, 2)]


def test_a_fee_and_sound_by_the_hour_are_rounded_with_the_rest() -> None:
    price = price_of(flat(input=1), per_request=5_000_000, per_hour=360_000_000)
    assert price.charge(Usage(input_tokens=1000)) == (5_000_000 + 1_000_000, "")
    assert price.charge(Usage(billed_seconds=1.0)) == (5_000_000 + 100_000, "")
    assert price_of({}, per_hour=1).charge(Usage(billed_seconds=0.001)) == (1, "")
    at_least = price_of({}, per_hour=3600, least_seconds=10)
    assert [at_least.charge(Usage(billed_seconds=each))[0] for each in (0.5, 10.0, 11.0)] == [10, 10, 11]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 1e300])
def test_absurd_seconds_cost_nothing_and_break_nothing(seconds: float) -> None:
    assert price_of(flat(input=1), per_hour=DOLLAR).charge(Usage(input_tokens=MILLION, billed_seconds=seconds))[0] == DOLLAR


_SOME = st.sampled_from([0, 1, 999, 10**6])
_LISTED = st.sets(st.sampled_from(["input", "cache_read", "output", "reasoning", "input_audio"]))


@given(
    st.builds(Usage, input_tokens=_SOME, cache_read_tokens=_SOME, output_tokens=_SOME, reasoning_tokens=_SOME, input_audio_tokens=_SOME),
    _LISTED,
)
def test_a_call_of_nothing_but_text_costs_what_the_sum_over_all_classes_says(usage: Usage, listed: set[str]) -> None:
    price = price_of({name: (1234 + len(name), ()) for name in listed})
    everything = replace(price, base=replace(price.base, text=None)).charge(usage)
    assert price.charge(usage) == everything
    if not usage.input_audio_tokens:
        usage.text = (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens, usage.reasoning_tokens)
        assert price.charge(usage) == everything
