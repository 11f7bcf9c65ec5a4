from binascii import crc32
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.eventstream import MOST_FRAME_BYTES, MOST_HEADER_BYTES, Frames, frame

HEADERS = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
ONE = frame(HEADERS, b'{"bytes":""}')
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)
MESSAGES = st.lists(st.tuples(st.dictionaries(TEXTS, TEXTS, max_size=4), st.binary(max_size=200)), max_size=4)


def raw(block: bytes, payload: bytes = b"", total: int | None = None, block_bytes: int | None = None) -> bytes:
    """A frame with right checksums, whatever its lengths and headers say."""
    size = 16 + len(block) + len(payload) if total is None else total
    prelude = pack("!II", size, len(block) if block_bytes is None else block_bytes)
    body = prelude + pack("!I", crc32(prelude)) + block + payload
    return body + pack("!I", crc32(body))


def test_a_frame_is_written_as_the_specification_draws_it() -> None:
    # Worked out by hand: 12 bytes of prelude, a header of 1 + 1 + 1 + 2 + 2, a payload of 2, a checksum of 4.
    expected = bytes.fromhex("00000019 00000007") + pack("!I", crc32(bytes.fromhex("0000001900000007")))
    expected += b"\x01a\x07\x00\x02bc{}"
    assert frame({"a": "bc"}, b"{}") == expected + pack("!I", crc32(expected))


@given(MESSAGES, st.data())
def test_what_was_written_is_read_in_whatever_pieces(messages: list[tuple[dict[str, str], bytes]], data: st.DataObject) -> None:
    written = b"".join(frame(headers, payload) for headers, payload in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=6)))
    frames = Frames()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(written)], strict=True):
        found += frames.feed(written[begin:end])
    assert found == messages
    assert frames.is_between and not frames.is_broken


def test_bytes_may_come_one_by_one() -> None:
    frames = Frames()
    stream = ONE * 3
    found = [each for at in range(len(stream)) for each in frames.feed(stream[at : at + 1])]
    assert found == [(HEADERS, b'{"bytes":""}')] * 3
    assert frames.is_between


def test_every_flipped_bit_is_noticed() -> None:
    for at in range(len(ONE) * 8):
        spoiled = bytearray(ONE)
        spoiled[at // 8] ^= 1 << at % 8
        frames = Frames()
        assert frames.feed(bytes(spoiled)) == []
        assert frames.is_broken, f"bit {at}"
        assert not frames.is_between


def test_what_came_before_the_damage_counts_and_nothing_after_it() -> None:
    frames = Frames()
    assert len(frames.feed(ONE + b"garbage that is no frame" + ONE)) == 1
    assert frames.is_broken
    assert frames.feed(ONE) == []


def test_a_length_that_is_damaged_is_not_waited_for() -> None:
    frames = Frames()
    frames.feed(pack("!III", 1 << 20, 0, 1))
    assert frames.is_broken


@pytest.mark.parametrize(
    "data",
    [
        raw(b"", total=15),
        raw(b"", total=0),
        raw(b"", block_bytes=1),
        raw(b"", total=MOST_FRAME_BYTES + 1),
        raw(b"", total=1 << 31, block_bytes=MOST_HEADER_BYTES + 1),
        raw(b"\x01"),
        raw(b"\x05a"),
        raw(b"\x01a\x0a"),
        raw(b"\x01a\x07\x00\x09b"),
        raw(b"\x01a\x07\x00"),
        raw(b"\x01\xff\x07\x00\x00"),
        raw(b"\x01a\x04\x00\x00"),
    ],
    ids=[
        "short",
        "empty",
        "headers",
        "large",
        "many-headers",
        "name",
        "cut-name",
        "type",
        "cut-text",
        "cut-length",
        "utf-8",
        "cut-integer",
    ],
)
def test_malformed_frames_break_the_stream(data: bytes) -> None:
    frames = Frames()
    assert frames.feed(data) == []
    assert frames.is_broken


def test_headers_of_other_types_are_passed_over() -> None:
    others = b"\x01a\x00" + b"\x01b\x01" + b"\x01c\x02\x07" + b"\x01d\x03\x00\x07" + b"\x01e\x04\x00\x00\x00\x07"
    others += b"\x01f\x05" + bytes(8) + b"\x01g\x06\x00\x02xy" + b"\x01h\x08" + bytes(8) + b"\x01i\x09" + bytes(16)
    assert Frames().feed(raw(others + b"\x01j\x07\x00\x01z", b"p")) == [({"j": "z"}, b"p")]


def test_a_frame_that_is_too_large_is_passed_over_without_being_kept() -> None:
    frames = Frames(most_bytes=200)
    stream = ONE + frame(HEADERS, bytes(5_000)) + ONE
    found = []
    for at in range(0, len(stream), 7):
        found += frames.feed(stream[at : at + 7])
        assert len(frames._held) <= 200
    assert [payload for _, payload in found] == [b'{"bytes":""}'] * 2
    assert frames.skipped == 1 and frames.is_between
    whole = Frames(most_bytes=200)
    assert len(whole.feed(stream)) == 2 and whole.skipped == 1


def test_headers_that_change_all_the_time_are_not_remembered_without_bound() -> None:
    frames = Frames()
    for number in range(1_000):
        assert frames.feed(frame({"n": str(number)}, b"")) == [({"n": str(number)}, b"")]
    assert len(frames._known) <= 32


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    frames = Frames()
    frames.feed(data)
    frames.feed(ONE + data)


def test_the_client_of_aws_reads_our_frames() -> None:
    stream = pytest.importorskip("botocore.eventstream")
    buffer = stream.EventStreamBuffer()
    buffer.add_data(ONE * 2)
    assert [(message.headers, message.payload) for message in buffer] == [(HEADERS, b'{"bytes":""}')] * 2
