import random

import pytest

from sidecar.model.spec import Duration
from sidecar.telemetry.retry import Backoff, RetrySpec


def backoff(**settings: object) -> Backoff:
    return Backoff(RetrySpec(**settings), random.Random(1))  # type: ignore[arg-type]  # settings of the test's choice


def test_waits_grow_up_to_a_limit() -> None:
    waits = backoff(randomization_factor=0.0)
    assert [waits.wait_s(0) for _ in range(7)] == pytest.approx([5, 7.5, 11.25, 16.875, 25.3125, 30, 30])


def test_chance_spreads_the_waits_around_their_middle() -> None:
    found = [backoff().wait_s(0) for _ in range(2)] + [Backoff(RetrySpec(), random.Random(seed)).wait_s(0) for seed in range(200)]
    assert all(wait is not None and 2.5 <= wait <= 7.5 for wait in found)
    assert len({round(wait or 0, 3) for wait in found}) > 100


def test_what_the_backend_asks_for_counts_where_it_is_longer() -> None:
    assert backoff(randomization_factor=0.0).wait_s(0, 60.0) == 60.0
    assert backoff(randomization_factor=0.0).wait_s(0, 1.0) == 5.0


def test_it_gives_up_when_the_next_try_would_come_too_late() -> None:
    waits = backoff(randomization_factor=0.0, max_elapsed_time=Duration("10s"))
    assert waits.wait_s(0.0) == 5.0
    assert waits.wait_s(5.0) is None
    assert backoff(max_elapsed_time=Duration("10s")).wait_s(0.0, 11.0) is None


def test_without_an_end_no_backend_can_ask_for_more_than_an_hour() -> None:
    assert backoff(max_elapsed_time=Duration("0")).wait_s(1e6, 1e9) == 3600.0


def test_without_retries_it_gives_up_at_once() -> None:
    assert backoff(enabled=False).wait_s(0.0) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"randomization_factor": -0.1},
        {"randomization_factor": 1.1},
        {"multiplier": 0.9},
        {"initial_interval": Duration("0")},
        {"max_interval": Duration("0")},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        RetrySpec(**settings)  # type: ignore[arg-type]  # settings of the test's choice
