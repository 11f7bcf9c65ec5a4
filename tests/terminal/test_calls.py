import random

import pytest

from sidecar.terminal.calls import MAX_DESTINATIONS, OTHERS, Calls, Durations
from sidecar.terminal.screen import Screen


def test_quantiles_are_at_most_one_percent_off() -> None:
    rng = random.Random(7)
    durations, truth = Durations(), sorted(rng.lognormvariate(-3, 2) for _ in range(5001))
    for seconds in truth:
        durations.add(seconds)
    for share in (0.01, 0.5, 0.95, 1.0):
        exact = truth[max(-(-int(share * 5001 * 100) // 100), 1) - 1]
        assert durations.quantile(share) == pytest.approx(exact, rel=0.011)


def test_quantiles_of_nothing_and_of_impossible_times_are_harmless() -> None:
    durations = Durations()
    assert durations.quantile(0.5) == 0.0
    durations.add(-1.0)  # the wall clock was put back
    assert 0 < durations.quantile(0.5) < 0.000_002


def test_a_million_durations_take_no_more_room_than_their_buckets() -> None:
    durations = Durations()
    for step in range(100_000):
        durations.add(0.001 + step * 1e-5)
    assert len(durations._buckets) < 400


def test_calls_are_told_by_destination_the_busiest_first() -> None:
    calls = Calls()
    calls.add("mcp", 0.010, failed=False, sent_bytes=100, received_bytes=200)
    for _ in range(2):
        calls.add("llm", 0.200, failed=True, sent_bytes=1024, received_bytes=4096)
    assert calls.table(Screen()) == [
        "destination  calls  errors      p50      p95     sent  received",
        "llm              2       2   199 ms   199 ms  2.0 KiB   8.0 KiB",
        "mcp              1       0  10.0 ms  10.0 ms    100 B     200 B",
    ]
    assert calls.headline() == "3 calls to 2 destinations, 2 errors, p50 199 ms, 2.1 KiB sent, 8.2 KiB received"


def test_errors_are_red() -> None:
    calls = Calls()
    calls.add("llm", 0.1, failed=True, sent_bytes=0, received_bytes=0)
    assert "\x1b[31m     1\x1b[0m" in calls.table(Screen(colour=True))[1]


def test_no_call_is_said_and_not_drawn() -> None:
    assert Calls().headline() == "no calls"
    assert Calls().table(Screen()) == []


def test_destinations_beyond_the_bound_share_a_line() -> None:
    calls = Calls()
    for port in range(MAX_DESTINATIONS + 50):
        calls.add(f"host:{port}", 0.001, failed=False, sent_bytes=0, received_bytes=0)
    assert len(calls.by_destination) == MAX_DESTINATIONS + 1
    assert calls.by_destination[OTHERS].calls == 50
    assert calls.total.calls == MAX_DESTINATIONS + 50
