from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sidecar.engines.prices.price import CLASSES
from sidecar.engines.prices.spec import Day, Dollars, PricesSpec, RatesSpec
from sidecar.runtime.document import Document, read_document
from sidecar.runtime.reading import read_spec
from sidecar.runtime.tree import shown
from tests.docs.guide import blocks
from tests.engines.prices.calls import at
from tests.repository import ROOT


def document(text: str) -> Document:
    return read_document(text, source="c.yaml", environ={}, folder=Path())


def read(text: str) -> Any:
    found = document(text)
    spec = read_spec(PricesSpec, found.value["prices"], found, ("prices",))
    found.raise_faults()
    return spec


def faults(rule: str) -> list[str]:
    found = document(f"prices:\n  rules:\n    - {rule}\n")
    assert read_spec(PricesSpec, found.value["prices"], found, ("prices",)) is None
    return [str(fault) for fault in found.faults]


@pytest.mark.parametrize(
    ("written", "nano"),
    [
        ("0.075", 75_000_000),
        ("1", 10**9),
        ("1.10", 1_100_000_000),
        ("0.000000001", 1),
        ("0", 0),
        ("2.", 2 * 10**9),
        ("9999999", 9999999 * 10**9),
    ],
)
def test_dollars_are_exact_from_yaml(written: str, nano: int) -> None:
    for text in (written, f"'{written}'"):
        assert read(f"prices: {{rules: [{{model: m, input: {text}}}]}}").rules[0].input.nano_usd == nano


@pytest.mark.parametrize("written", ["-1", "1e-3", ".inf", "$3", "3 USD", "0.0000000001", "10000000", "true", "[1]", "1,5", ".5"])
def test_what_is_no_amount_of_dollars_is_refused_at_its_place(written: str) -> None:
    (fault,) = faults(
        f"{{model: m, input: '{written}'}}" if "," in written or "$" in written else f"{{model: m, input: {written}}}"
    )
    assert "c.yaml:3: prices.rules[0].input" in fault
    assert "dollars" in fault


def test_dollars_and_days_are_shown_as_they_are_written() -> None:
    assert [str(Dollars.read(each)) for each in ("0.0750", "3", "0", 0.1)] == ["0.075", "3", "0", "0.1"]
    spec = read("prices: {rules: [{model: m, input: 0.10, since: 2026-01-01}]}")
    first = shown(spec)["rules"][0]
    assert (first["input"], first["since"], first["output"]) == ("0.1", "2026-01-01", None)


def test_a_day_begins_at_midnight_of_utc() -> None:
    assert Day.read("2026-11-20").begins_ns == at("2026-11-20T00:00")
    assert Day("2026-01-02") > Day("2026-01-01")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("{model: m}", "names no price"),
        ("{input: 1}", "model"),
        ("{model: '', input: 1}", "have to name something"),
        ("{model: m, free: true, input: 1}", "is free and has prices"),
        ("{model: m, free: true, per_request: 1}", "is free and has prices"),
        ("{model: m, inputs: 1}", "unknown"),
        ("{model: m, input: 1, since: 2026-02-30}", "since"),
        ("{model: m, input: 1, since: tomorrow}", "as in 2026-11-01"),
        ("{model: m, input: 1, since: 2026-02-01, until: 2026-02-01}", "has to be before until"),
        ("{model: m, input: 1, tiers: [{above: 200000}]}", "names no price"),
        ("{model: m, input: 1, tiers: [{above: 0, input: 2}]}", "number of tokens"),
        ("{model: m, input: 1, tiers: [{above: 9, input: 2}, {above: 9, input: 3}]}", "in order"),
        ("{model: m, input: 1, tiers: [{above: 9, output: 2}]}", "a tier has a price for output"),
    ],
)  # fmt: skip
def test_every_fault_of_a_rule_is_told_with_its_line_and_place(rule: str, problem: str) -> None:
    (fault,) = faults(rule)
    assert fault.startswith("c.yaml:3: prices.rules[0]")
    assert problem in fault


def test_a_rate_is_called_like_the_class_that_it_is_for() -> None:
    assert {field.name for field in fields(RatesSpec)} == CLASSES.keys() - {"web_search", "tool_use"}


def test_nothing_written_means_the_list_alone() -> None:
    assert read("prices:") == PricesSpec() == PricesSpec(genai_prices=True, version="", rules=())


def test_the_example_is_good() -> None:
    spec = read((ROOT / "config" / "prices.example.yaml").read_text())
    assert len(spec.rules) > 5


def test_every_config_of_the_guide_is_good() -> None:
    shown_there = [block for block in blocks(ROOT / "docs" / "prices.md") if block.kind == "yaml"]
    assert len(shown_there) > 2
    for block in shown_there:
        read(block.text)
