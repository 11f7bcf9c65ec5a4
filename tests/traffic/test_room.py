from hypothesis import given
from hypothesis import strategies as st

from sidecar.traffic.room import Room


@given(st.lists(st.integers(0, 50), max_size=30))
def test_never_is_more_taken_than_there_is(wanted: list[int]) -> None:
    room = Room(100)
    had = [count for count in wanted if room.take(count)]
    assert sum(had) == room.taken_bytes <= 100
    for count in had:
        room.give_back(count)
    assert room.taken_bytes == 0


def test_what_is_there_already_takes_its_place_whether_it_fits_or_not() -> None:
    room = Room(10)
    room.occupy(15)
    assert (room.taken_bytes, room.take(1)) == (15, False)
    room.give_back(15)
    assert room.take(10)


def test_what_does_not_fit_takes_nothing() -> None:
    room = Room(10)
    assert room.take(10)
    assert not room.take(1)
    room.give_back(1)
    assert room.take(1)
