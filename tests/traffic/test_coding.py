"""A decoded copy, whatever the pieces; bombs and rubbish end the copy and nothing else."""

import gzip
import os
import sys
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.traffic.coding import MOST_DECODED_BYTES, Undecodable, decoded, decoder_of, is_identity, narrowed, takes_identity

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(body: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(body) + squeeze.flush()


CODERS = {
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "x-gzip": lambda body: gzip.compress(body, mtime=0),
    "deflate": zlib.compress,
    "br": lambda body: brotli.compress(body, quality=4),
    "zstd": lambda body: zstd.compress(body),
}


@pytest.mark.parametrize("coding", CODERS)
@given(body=st.binary(max_size=400), step=st.integers(1, 50))
def test_the_copy_is_the_body_in_whatever_pieces_it_comes(coding: str, body: bytes, step: int) -> None:
    coded = CODERS[coding](body)
    decoder = decoder_of(coding)
    assert decoder is not None
    out = b"".join(piece for at in range(0, len(coded), step) for piece in decoder.feed(coded[at : at + step]))
    assert out == body == decoded(coding, coded)
    assert (decoder.coded_bytes, decoder.decoded_bytes) == (len(coded), len(body))


@pytest.mark.parametrize("coding", CODERS)
def test_large_bodies_come_whole(coding: str) -> None:
    body = os.urandom(300_000) + bytes(500_000) + os.urandom(300_000)
    assert decoded(coding, CODERS[coding](body)) == body


def test_deflate_without_its_header_is_read_too() -> None:
    assert decoded("deflate", raw_deflate(b"hello" * 50)) == b"hello" * 50


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_are_one_body(coding: str) -> None:
    assert decoded(coding, CODERS[coding](b"one ") + CODERS[coding](b"two")) == b"one two"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_member_with_nothing_in_it_is_passed_over(coding: str) -> None:
    empty = CODERS[coding](b"")
    assert decoded(coding, empty + CODERS[coding](b"one") + empty + CODERS[coding](b"two")) == b"onetwo"


def test_a_frame_that_is_to_be_skipped_is_skipped() -> None:
    assert decoded("zstd", b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + CODERS["zstd"](b"one")) == b"one"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_very_many_members_end_the_copy(coding: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decoded(coding, CODERS[coding](b"") * 2_000)
    assert caught.value.reason == "bomb"


def test_zeros_behind_a_gzip_member_are_padding() -> None:
    assert decoded("gzip", CODERS["gzip"](b"one") + bytes(9)) == b"one"


@pytest.mark.parametrize("coding", CODERS)
def test_what_blows_up_a_hundredfold_ends_the_copy(coding: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decoded(coding, CODERS[coding](bytes(8 << 20)))
    assert caught.value.reason == "bomb"


@pytest.mark.parametrize("coding", CODERS)
def test_what_one_read_brings_may_be_many_megabytes_and_is_had_in_steps(coding: str) -> None:
    body = os.urandom(128 << 10) + b"data: {}\n\n" * 800_000
    coded = CODERS[coding](body)
    decoder = decoder_of(coding)
    assert decoder is not None
    steps = [b"".join(decoder.feed(coded, 1 << 20))]
    while decoder.behind_bytes:
        steps.append(b"".join(decoder.feed(b"", 1 << 20)))
    assert b"".join(steps) == body
    assert len(steps) > 4 and max(map(len, steps)) < 2 << 20
    assert decoder.feed(b"") == []


@pytest.mark.parametrize("coding", CODERS)
def test_who_is_behind_takes_more_all_the_same(coding: str) -> None:
    body = os.urandom(64 << 10) + b"data: {}\n\n" * 900_000 + os.urandom(64 << 10)
    coded = CODERS[coding](body)
    decoder = decoder_of(coding)
    assert decoder is not None
    out = [piece for at in range(0, len(coded), 10_000) for piece in decoder.feed(coded[at : at + 10_000], 1)]
    assert 0 < decoder.behind_bytes <= len(coded)
    assert b"".join([*out, *decoder.feed(b"")]) == body
    assert decoder.behind_bytes == 0


@pytest.mark.parametrize(("coding", "most"), [("gzip", 4 << 20), ("deflate", 4 << 20), ("br", 8 << 20), ("zstd", 16 << 20)])
def test_a_request_is_no_longer_than_what_can_be_decoded_in_one_go(coding: str, most: int) -> None:
    body = os.urandom(256 << 10) + bytes(most)
    with pytest.raises(Undecodable) as caught:
        decoded(coding, CODERS[coding](body))
    assert caught.value.reason == "too_large"
    assert decoded(coding.upper(), CODERS[coding](body[:most])) == body[:most]


def test_a_copy_is_bounded_whatever_its_ratio() -> None:
    decoder = decoder_of("gzip")
    assert decoder is not None
    decoder.coded_bytes = decoder.decoded_bytes = MOST_DECODED_BYTES
    with pytest.raises(Undecodable) as caught:
        decoder.feed(CODERS["gzip"](b"one more"))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("coding", list(CODERS))
def test_rubbish_ends_the_copy(coding: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decoded(coding, b"\xff\xfe rubbish that is no stream of any kind" * 4)
    assert caught.value.reason == "broken"


@pytest.mark.parametrize("coding", CODERS)
def test_a_body_that_is_cut_gives_what_had_come(coding: str) -> None:
    body = os.urandom(3_000)
    assert body.startswith(decoded(coding, CODERS[coding](body)[:-5]))


def test_a_window_that_is_too_large_is_refused() -> None:
    coded = zstd.compress(os.urandom(100), options={zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0})
    with pytest.raises(Undecodable):
        decoded("zstd", coded[:4] + bytes([coded[4] & 0xDF]) + b"\x88" + coded[5:])


@pytest.mark.parametrize("coding", ["", "identity", " Identity "])
def test_identity_is_no_coding(coding: str) -> None:
    assert is_identity(coding)
    assert decoded(coding, b"as it is") == b"as it is"


@pytest.mark.parametrize("coding", ["compress", "gzip, br", "dcb", "aes128gcm"])
def test_a_coding_that_nobody_reads_is_said(coding: str) -> None:
    assert decoder_of(coding) is None
    with pytest.raises(Undecodable) as caught:
        decoded(coding, b"")
    assert caught.value.reason == "unknown_coding"


@pytest.mark.parametrize(
    ("accepted", "left"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd"),
        ("gzip;q=0.5, dcb, dcz;q=1, BR", "gzip;q=0.5, BR"),
        ("compress", "identity"),
        ("*", "identity"),
        ("gzip, *;q=0", "gzip, *;q=0"),
        ("gzip, *;q=0.000", "gzip, *;q=0.000"),
        ("gzip, *;q=0.1", "gzip"),
        ("identity", "identity"),
        ("", "identity"),
        (" , ;q=1", "identity"),
        ("gzip,, br", "gzip, br"),
        ("dcb, gzip;q=0", "gzip;q=0"),
        ("dcb, gzip, identity;q=0", "gzip, identity;q=0"),
    ],
)
def test_what_we_cannot_read_is_not_asked_for(accepted: str, left: str) -> None:
    assert narrowed(accepted) == left


@pytest.mark.parametrize(
    "accepted", ["dcb, identity;q=0", "*, identity; q=0.0", "dcb, *;q=0", "dcb, gzip;q=0, *;q=0", "dcb, gzip;q=0, Identity;Q=0"]
)
def test_who_would_be_left_with_nothing_keeps_what_we_cannot_read(accepted: str) -> None:
    assert narrowed(accepted) == accepted


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("", True), ("gzip", True), ("*", True), ("gzip, identity;q=0.1", True), ("identity, *;q=0", True),
        ("gzip, identity;q=0", False), ("gzip, *;q=0", False), ("identity ; q=0.000", False), ("*;q=0, identity;q=0.001", True),
    ],
)  # fmt: skip
def test_no_coding_at_all_is_fine_unless_it_is_refused(accepted: str, takes: bool) -> None:
    assert takes_identity(accepted) is takes
