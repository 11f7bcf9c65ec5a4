import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.runtime.scalars import WrittenFloat, WrittenInt, bare, typed


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_null_has_five_spellings(text: str) -> None:
    assert typed(text) is None


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("TRUE", True), ("false", False), ("False", False), ("FALSE", False)]
)
def test_truth_is_spelt_in_english(text: str, value: bool) -> None:
    assert typed(text) is value


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("42", 42), ("-7", -7), ("+7", 7), ("0123", 123), ("0o17", 15), ("0xff", 255), ("0xFF", 255)]
)
def test_whole_numbers_are_decimal_unless_they_say_otherwise(text: str, value: int) -> None:
    assert typed(text) == value
    assert isinstance(typed(text), int)
    assert str(typed(text)) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
        ("1.10", 1.1),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_numbers_with_a_fraction_are_floats_that_know_their_text(text: str, value: float) -> None:
    assert typed(text) == value
    assert isinstance(typed(text), float)
    assert str(typed(text)).lower() == text.lower()


def test_not_a_number_is_a_number_in_yaml() -> None:
    assert math.isnan(typed(".nan"))  # type: ignore[arg-type]  # it is a float


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "yes",
        "on",
        "off",
        "y",
        "12:30",
        "1_000",
        "0b1",
        "0x",
        "1.2.3",
        "10.0.0.1",
        "nan",
        "inf",
        "e3",
        "-",
        ".",
        "30s",
        "tRUE",
        "9" * 301,
    ],
)
def test_everything_else_is_its_own_text(text: str) -> None:
    assert typed(text) == text


@given(st.text(max_size=40))
def test_no_text_is_too_strange_to_be_typed(text: str) -> None:
    value = typed(text)
    assert value is None or isinstance(value, bool | int | float | str)


def test_bare_forgets_how_numbers_were_written() -> None:
    tree: Any = bare({"a": [typed("0123"), typed("1.10")], "b": {"c": True}, "d": "x", "e": None})
    assert tree == {"a": [123, 1.1], "b": {"c": True}, "d": "x", "e": None}
    assert [type(value) for value in tree["a"]] == [int, float]
    assert type(WrittenInt.read("1")) is WrittenInt
    assert type(WrittenFloat.read("1.0")) is WrittenFloat
