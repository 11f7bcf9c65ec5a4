import json

import msgspec
import pytest

from sidecar.dialects.bodies import WholeBody, unless_refused
from sidecar.dialects.dialect import Unreadable
from sidecar.model.answered import Answered


def test_the_pieces_are_read_as_one_when_the_last_has_come() -> None:
    read: list[bytes] = []
    reader = WholeBody(Answered(), read.append)
    for piece in (b'{"a"', b"", b":1}"):
        reader.feed(piece)
        assert read == [] and not reader.answered.is_ended
    reader.end()
    assert read == [b'{"a":1}']
    assert reader.answered == Answered(is_ended=True)


def test_a_cut_body_is_not_read() -> None:
    reader = WholeBody(Answered(), pytest.fail)
    reader.feed(b"{")
    assert reader.answered == Answered()


def test_an_empty_body_is_not_read_and_no_fault() -> None:
    reader = WholeBody(Answered(), pytest.fail)
    reader.feed(b"")
    reader.end()
    assert reader.answered == Answered(is_ended=True)


@pytest.mark.parametrize(
    "error",
    [
        Unreadable("x"),
        msgspec.DecodeError("x"),
        msgspec.ValidationError("x"),
        json.JSONDecodeError("x", "", 0),
        RecursionError(),
        UnicodeDecodeError("utf-8", b"", 0, 0, ""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_read_is_said_and_not_raised(error: Exception) -> None:
    def read(body: bytes) -> None:
        raise error

    reader = WholeBody(Answered(), read)
    reader.feed(b"x")
    reader.end()
    assert reader.answered == Answered(is_ended=True, is_unreadable=True)


def test_pieces_of_all_lengths_are_one_body_and_small_ones_few() -> None:
    read: list[bytes] = []
    reader = WholeBody(Answered(), read.append)
    pieces = [b"a" * 70_000, *[b"b"] * 100_000, b"c" * 66_000, b"d", b"e" * 66_000]
    for piece in pieces:
        reader.feed(piece)
    assert isinstance(reader._pieces, list) and len(reader._pieces) == 6
    reader.end()
    assert read == [b"".join(pieces)]


@pytest.mark.parametrize("piece", [1, 3, 50])
def test_a_body_above_the_bound_is_let_go(piece: int) -> None:
    reader = WholeBody(Answered(), pytest.fail, most_bytes=10)
    for _ in range(20):
        reader.feed(b"x" * piece)
    assert reader.answered.is_unreadable and not reader._pieces
    reader.end()
    assert reader.answered.is_ended


def test_a_body_at_the_bound_is_read() -> None:
    read: list[bytes] = []
    reader = WholeBody(Answered(), read.append, most_bytes=10)
    reader.feed(b"x" * 10)
    reader.end()
    assert read == [b"x" * 10]


def test_an_answer_of_very_many_parts_is_not_taken_apart() -> None:
    read: list[bytes] = []
    body = WholeBody(Answered(), read.append)
    body.feed(b"[" + b"{}," * 300_000 + b"{}]")
    body.end()
    assert (read, body.answered.is_unreadable, body.answered.is_ended) == ([], True, True)


def _fails(body: bytes) -> None:
    raise Unreadable("no answer")


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_the_body_of_an_error_may_be_anything(status: int) -> None:
    unless_refused(_fails, status)(b"<html>")


@pytest.mark.parametrize("status", [200, 202, 399])
def test_the_body_of_an_answer_is_what_its_protocol_says_or_unreadable(status: int) -> None:
    with pytest.raises(Unreadable):
        unless_refused(_fails, status)(b"<html>")


@pytest.mark.parametrize("status", [200, 503])
def test_what_can_be_read_is_read_whatever_the_status(status: int) -> None:
    read: list[bytes] = []
    unless_refused(read.append, status)(b"{}")
    assert read == [b"{}"]


class _Space:
    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, count: int) -> bool:
        if count > self.left:
            return False
        self.left -= count
        return True

    def give_back(self, count: int) -> None:
        self.left += count


def test_a_long_body_takes_its_place_until_it_is_dropped() -> None:
    space = _Space(1_000_000)
    read: list[bytes] = []
    reader = WholeBody(Answered(), read.append)
    reader.space = space
    reader.feed(b"x" * 60_000)
    assert space.left == 1_000_000, "a short one needs no room"
    for _ in range(3):
        reader.feed(b"x" * 60_000)
    assert 1_000_000 - 240_000 <= space.left < 1_000_000 - 240_000 + 65_536
    reader.end()
    reader.drop()
    reader.drop()
    assert space.left == 1_000_000
    assert read == [b"x" * 240_000] and reader.has_room


def test_a_body_for_which_there_is_no_room_is_let_go() -> None:
    space = _Space(100_000)
    reader = WholeBody(Answered(), pytest.fail)
    reader.space = space
    reader.feed(b"x" * 90_000)
    assert space.left == 10_000
    reader.feed(b"x" * 90_000)
    reader.feed(b"x")
    reader.end()
    assert space.left == 100_000
    assert not reader.has_room and reader.answered == Answered(is_ended=True, is_unreadable=True)
