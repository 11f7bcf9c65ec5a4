import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engines.prices.overlay import Overlay, matches
from sidecar.engines.prices.price import FREE
from sidecar.engines.prices.spec import Day, Dollars, LongContextSpec, RuleSpec
from sidecar.model.usage import Usage
from tests.engines.prices.calls import NOW, at


def rule(input: str = "1", **settings: Any) -> RuleSpec:
    return RuleSpec(**{"model": "*", "input": Dollars.read(input), **settings})


def dollars(*rules: RuleSpec, provider: str = "openai", model: str = "gpt-5", tier: str = "", when: int = NOW) -> Any:
    price = Overlay(rules).ruling((provider, "api.openai.com"), (model, "asked-for"), tier, when).price
    return None if price is None else price.charge(Usage(input_tokens=10**6))[0] / 10**9


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_a_pattern_matches_as_a_regular_expression_would(pattern: str, text: str) -> None:
    expected = re.fullmatch(pattern.replace("*", ".*").replace("?", "."), text) is not None
    assert matches(pattern, text) is expected


def test_a_pattern_takes_no_time_that_explodes() -> None:
    assert not matches("*a" * 100 + "b", "a" * 256)


def test_without_a_rule_nobody_has_a_price() -> None:
    assert dollars() is None
    assert dollars(rule(model="gpt-4*")) is None
    assert dollars(rule(model="gpt-5*", provider="azure")) is None


@pytest.mark.parametrize(
    "ordered",
    [
        [rule("1", model="*"), rule("2", model="gpt-*"), rule("3", model="gpt-5*"), rule("4", model="gpt-5")],
        [rule("1", model="gpt-5", provider="*"), rule("2", model="gpt-5", provider="open*"), rule("4", model="gpt-5", provider="openai")],
        [rule("1", provider="openai"), rule("4", model="gpt-?")],
        [rule("1", model="gpt-5"), rule("4", model="gpt-5", since=Day("2026-01-01"))],
        [rule("1", model="gpt-5", since=Day("2026-01-01")), rule("4", model="gpt-5", since=Day("2026-06-01"))],
        [rule("1", model="gpt-5"), rule("4", model="gpt-5", service_tier="standard")],
        [rule("1", model="asked-*"), rule("4", model="gpt-5")],
        [rule("1", model="gpt-*"), rule("4", model="asked-for")],
        [rule("1", provider="*"), rule("4", provider="api.openai.com")],
    ],
    ids=["model", "provider", "model before provider", "dated", "later", "tier", "by either name", "exact by either name", "host"],
)  # fmt: skip
def test_the_most_exact_rule_counts_whatever_the_order(ordered: list[RuleSpec]) -> None:
    assert dollars(*ordered) == 4
    assert dollars(*reversed(ordered)) == 4


def test_of_equal_rules_the_later_line_counts() -> None:
    assert dollars(rule("1", model="gpt-5"), rule("2", model="gpt-5")) == 2


def test_names_are_compared_without_regard_to_case() -> None:
    assert dollars(rule("2", model="GPT-*", provider="OpenAI")) == 2


def test_a_rule_counts_from_a_day_until_a_day() -> None:
    rules = (rule("1", since=Day("2026-02-01"), until=Day("2026-03-01")), rule("2", since=Day("2026-04-01")))
    times = ("2026-01-31T23:59", "2026-02-01T00:00", "2026-02-28T23:59", "2026-03-01T00:00", "2026-04-01T00:00")
    assert [dollars(*rules, when=at(time)) for time in times] == [None, 1, 1, None, 2]


def test_a_ruling_says_until_when_it_counts() -> None:
    rules = (rule("1", model="*"), rule("2", model="gpt-5", since=Day("2026-02-01"), until=Day("2026-03-01")))
    overlay = Overlay(rules)
    for when, since, until in (
        ("2026-01-15", None, "2026-02-01"),
        ("2026-02-15", "2026-02-01", "2026-03-01"),
        ("2026-03-15", "2026-03-01", None),
    ):
        ruling = overlay.ruling(("openai",), ("gpt-5",), "", at(f"{when}T00:00"))
        assert ruling.since == (at(f"{since}T00:00") if since else 0)
        assert ruling.until == (at(f"{until}T00:00") if until else 1 << 63)


def test_a_rule_for_a_tier_is_for_that_tier_only() -> None:
    rules = (rule("1", service_tier="batch"), rule("4", service_tier="standard"))
    assert dollars(*rules, tier="batch") == 1
    assert dollars(*rules) == 4
    assert dollars(*rules, tier="priority") is None


def test_a_rule_for_all_tiers_is_a_guess_for_any_but_the_standard_one() -> None:
    of = Overlay([rule("1")])
    usage = Usage(input_tokens=10**6)
    prices = [of.ruling(("p",), ("m",), tier, NOW).price for tier in ("", "priority")]
    assert [price.charge(usage)[1] for price in prices if price] == ["", "service_tier"]


def test_what_is_free_is_free_in_every_tier() -> None:
    free = RuleSpec(model="*", provider="ollama", free=True)
    assert Overlay([free]).ruling(("ollama",), ("llama3",), "priority", NOW).price is FREE


def test_all_of_a_rule_becomes_a_price() -> None:
    written = RuleSpec(
        model="m", input=Dollars.read("1"), cache_read=Dollars.read("0.1"), output=Dollars.read("4"),
        per_request=Dollars.read("0.005"), per_web_search=Dollars.read("0.01"), per_tool_use=Dollars.read("0.0025"), per_audio_hour=Dollars.read("0.36"),
        tiers=(LongContextSpec(above=100, input=Dollars.read("2")), LongContextSpec(above=200, output=Dollars.read("9"))),
    )  # fmt: skip
    price = Overlay([written]).ruling(("p",), ("m",), "", NOW).price
    assert price is not None
    nano = lambda **used: price.charge(Usage(**used))[0] - 5_000_000  # noqa: E731 - the fee is in every line
    assert nano(web_searches=2, tool_uses=1) == 22_500_000
    assert nano(billed_seconds=10.0) == 1_000_000
    assert nano(input_tokens=100, output_tokens=1) == 100 * 1000 + 4000
    assert nano(input_tokens=101, output_tokens=1) == 101 * 2000 + 4000
    assert nano(input_tokens=201, output_tokens=1) == 201 * 2000 + 9000
    assert nano(input_tokens=1, cache_read_tokens=200, output_tokens=1) == 2000 + 200 * 100 + 9000
