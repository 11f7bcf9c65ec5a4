from hypothesis import given
from hypothesis import strategies as st

from sidecar.traffic.room import Room
from sidecar.traffic.wire.collector import Collector
from sidecar.traffic.wire.head import CHUNKED


def framed(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def test_what_comes_whole_is_not_copied() -> None:
    body = b"as it came"
    collector = Collector(len(body), 100, Room(1000))
    collected = collector.take(body, whole=True)
    assert collected is not None
    assert collected[0] is body
    assert collected[1] is body
    assert not collector.is_collecting


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6))
def test_pieces_are_one_body_whichever_framing_they_have(pieces: list[bytes]) -> None:
    plain, chunked = Collector(100, 100, Room(1000)), Collector(CHUNKED, 1000, Room(1000))
    for piece in pieces[:-1]:
        assert plain.take(piece, whole=False) is None
        assert chunked.take(framed([piece]), whole=False) is None
    body = b"".join(pieces)
    assert plain.take(pieces[-1], whole=True) == (body, body)
    end = framed(pieces[-1:]) + b"0\r\nX-T: 1\r\n\r\n"
    assert chunked.take(end, whole=True) == (framed(pieces) + b"0\r\nX-T: 1\r\n\r\n", body)


def test_a_length_above_the_bound_is_not_collected_at_all() -> None:
    assert not Collector(101, 100, Room(1000)).is_collecting
    assert Collector(100, 100, Room(1000)).is_collecting


def test_what_grows_above_the_bound_is_given_back_without_a_body() -> None:
    collector = Collector(CHUNKED, 10, Room(1000))
    assert collector.take(b"5\r\n12345\r\n", whole=False) is None
    assert collector.take(b"5\r\n67890\r\n", whole=False) == (b"5\r\n12345\r\n5\r\n67890\r\n", None)
    assert not collector.is_collecting


def test_what_waits_takes_its_place_until_it_goes_on() -> None:
    room = Room(10)
    one, other = Collector(20, 100, room), Collector(20, 100, room)
    assert one.take(b"12345678", whole=False) is None
    assert room.taken_bytes == 8
    assert other.take(b"123", whole=False) == (b"123", None)
    assert (other.why, other.is_collecting, room.taken_bytes) == ("no_room", False, 8)
    assert one.take(b"9", whole=True) == (b"123456789", b"123456789")
    assert room.taken_bytes == 0


def test_who_drops_what_it_has_gives_its_place_back_once() -> None:
    room = Room(10)
    collector = Collector(20, 100, room)
    collector.take(b"123", whole=False)
    collector.drop()
    collector.drop()
    assert room.taken_bytes == 0


def test_chunks_of_a_byte_each_are_not_put_together_for_ever() -> None:
    collector = Collector(CHUNKED, 1 << 20, Room(1 << 20))
    chunk = b"1\r\nx\r\n" * 10_000
    assert [collector.take(chunk, whole=False) for _ in range(3)] == [None] * 3
    assert collector.take(chunk + b"0\r\n\r\n", whole=True) == (chunk * 4 + b"0\r\n\r\n", None)
    assert (collector.why, collector.is_collecting) == ("too_many_chunks", False)


def test_what_is_kept_by_who_collects_it_has_its_place_until_it_is_dropped() -> None:
    room = Room(10)
    one, other = (Collector(8, 100, room, keeps=True) for _ in range(2))
    assert one.take(b"12345678", whole=True) == (b"12345678", b"12345678")
    assert (one.is_collecting, room.taken_bytes) == (False, 8)
    assert other.take(b"abcdefgh", whole=True) == (b"abcdefgh", None)
    assert (other.why, other.is_collecting, room.taken_bytes) == ("no_room", False, 16)
    one.drop()
    assert room.taken_bytes == 8
    other.drop()
    assert room.taken_bytes == 0


def test_what_is_kept_unread_has_its_place_too() -> None:
    room = Room(10)
    collector = Collector(CHUNKED, 8, room, keeps=True)
    assert collector.take(b"3\r\nabc\r\n", whole=False) is None
    assert collector.take(b"3\r\ndef\r\n", whole=False) == (b"3\r\nabc\r\n3\r\ndef\r\n", None)
    assert room.taken_bytes == 16
    collector.drop()
    other = Collector(20, 100, room, keeps=True)
    other.keep(b"x" * 20)
    assert (other.is_collecting, room.taken_bytes) == (False, 20)
    other.drop()
    assert room.taken_bytes == 0


def test_what_is_kept_is_collected_in_pieces_too() -> None:
    room = Room(10)
    collector = Collector(CHUNKED, 100, room, keeps=True)
    assert collector.take(b"1\r\nx\r\n", whole=False) is None
    assert collector.take(b"\r\n", whole=False) is None
    assert room.taken_bytes == 8
    collector.drop()
    assert room.taken_bytes == 0


def test_content_that_is_there_may_be_asked_for_later() -> None:
    room = Room(1 << 20)
    collector = Collector(200_000, 200_000, room)
    sizes = (50_000, 3, 3, 99_994, 50_000)
    pieces = [b"%d" % each * size for each, size in enumerate(sizes)]
    assert [collector.add(piece, whole=piece is pieces[-1]) for piece in pieces] == [False, False, False, False, True]
    assert collector.is_collecting and collector.size == 200_000
    content, body = collector.content()
    assert content == b"".join(pieces) and body is content
    assert not collector.is_collecting and room.take(1 << 20)


def test_millions_of_small_pieces_are_few() -> None:
    collector = Collector(200_000, 1 << 20, Room(1 << 20))
    for _ in range(200_000):
        collector.add(b"x", whole=False)
    assert len(collector._pieces) < 10
    assert collector.add(b"", whole=True) and len(collector.content()[0]) == 200_000
