import time

import pytest

from sidecar.model.clock import SYSTEM_CLOCK, ManualClock


def test_system_clock_is_the_machines() -> None:
    before = time.time_ns(), time.monotonic()
    read = SYSTEM_CLOCK.wall_ns(), SYSTEM_CLOCK.monotonic()
    after = time.time_ns(), time.monotonic()
    assert before[0] <= read[0] <= after[0]
    assert before[1] <= read[1] <= after[1]


def test_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(wall_ns=5, monotonic=1.0)
    assert (clock.wall_ns(), clock.monotonic()) == (clock.wall_ns(), clock.monotonic()) == (5, 1.0)


def test_advance_moves_both_readings_by_the_same() -> None:
    clock = ManualClock(wall_ns=1_000, monotonic=10.0)
    clock.advance(0.25)
    assert (clock.wall_ns(), clock.monotonic()) == (250_001_000, 10.25)


def test_advance_never_goes_back() -> None:
    clock = ManualClock(monotonic=1.0)
    with pytest.raises(ValueError, match=r"cannot go back by 0\.5 s"):
        clock.advance(-0.5)
    assert clock.monotonic() == 1.0


def test_move_to_a_facts_time_moves_the_monotonic_reading_along() -> None:
    clock = ManualClock(wall_ns=1_000_000_000, monotonic=3.0)
    clock.move_to(3_500_000_000)
    assert (clock.wall_ns(), clock.monotonic()) == (3_500_000_000, 5.5)


def test_move_to_the_past_changes_nothing() -> None:
    clock = ManualClock(wall_ns=100, monotonic=3.0)
    clock.move_to(99)
    assert (clock.wall_ns(), clock.monotonic()) == (100, 3.0)
