import pytest

from sidecar.terminal.figures import count, dollars, duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 ms"),
        (0.000_42, "0.42 ms"), (0.009_996, "10.0 ms"), (0.0612, "61.2 ms"), (0.612, "612 ms"), (0.999_6, "1.00 s"),
        (1.43, "1.43 s"), (12.34, "12.3 s"), (59.9, "59.9 s"), (125, "2 min 5 s"),
    ],
)  # fmt: skip
def test_a_duration_has_three_digits_and_a_fitting_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (34_920, "34.1 KiB"), (1024**2 - 1, "1.0 MiB"), (5 * 1024**3, "5.0 GiB"),
        (7 * 1024**4, "7.0 TiB"),
    ],
)  # fmt: skip
def test_a_size_is_written_with_its_unit(number: float, text: str) -> None:
    assert size(number) == text


def test_one_thing_is_no_plural() -> None:
    assert [count(number, "call") for number in (0, 1, 2300)] == ["0 calls", "1 call", "2,300 calls"]


@pytest.mark.parametrize(
    ("amount_usd", "text"),
    [
        (0, "$0.00"), (1234.5, "$1,234.50"), (12.5, "$12.50"), (0.1, "$0.10"), (0.0999, "$0.100"), (0.0023, "$0.0023"),
        (0.000087, "$0.000087"), (1e-9, "$0.000000001"), (2.5e-10, "$0.000000000"),
    ],
)  # fmt: skip
def test_money_has_two_digits_that_count(amount_usd: float, text: str) -> None:
    assert dollars(amount_usd) == text
