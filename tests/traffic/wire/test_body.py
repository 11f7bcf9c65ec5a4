import time
from collections.abc import Callable
from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.traffic.wire.body import (
    _MAX_EXTENSIONS_BYTES,
    _MAX_SIZE_LINE_BYTES,
    _MAX_TRAILER_BYTES,
    _NOT_IN_TRAILERS,
    Body,
    ChunkedBody,
    EndlessBody,
    LengthBody,
    content_of,
    reframed,
)

HEX = "0123456789abcdefABCDEF"


@st.composite
def sizes(draw: st.DrawFn, size: int) -> bytes:
    """One of the ways to write a chunk's size."""
    text = f"{size:{draw(st.sampled_from('xX'))}}"
    return (draw(st.sampled_from(["", "", "", "0", "000", "0000000000"])) + text).encode()


EXTENSIONS = st.sampled_from([b"", b"", b"", b";a", b";a=b", b' ; a="b c"', b"\t;\xc3\xa9=1", b";a;b;c", b";" + b"x" * 300])
TRAILERS = st.sampled_from(
    [b"X-Sum: 1", b"x-empty:", b"Server-Timing:  a;dur=1 ", b"X-Tab: a\tb", b"x-obs: \xe9", b"Cookie: a", b"TE: x"]
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes, list[bytes]]:
    """A legal chunked body: (as it is on the wire, its content, its trailers)."""
    wire, content = b"", b""
    for piece in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6)):
        wire += draw(sizes(len(piece))) + draw(EXTENSIONS) + b"\r\n" + piece + b"\r\n"
        content += piece
    trailers = draw(st.lists(TRAILERS, max_size=3))
    wire += draw(st.sampled_from([b"0", b"00", b"0000000000000000"])) + draw(EXTENSIONS) + b"\r\n"
    return wire + b"".join(line + b"\r\n" for line in trailers) + b"\r\n", content, trailers


class Reference:
    """A decoder that takes nothing but what RFC 9112 section 7.1 says, and no extension at all."""

    def __init__(self, wire: bytes) -> None:
        self.content = b""
        self.trailers: list[bytes] = []
        at = 0
        while True:
            eol = wire.index(b"\r\n", at)
            digits = wire[at:eol].decode()
            assert digits and not set(digits) - set(HEX), digits
            size, at = int(digits, 16), eol + 2
            if not size:
                break
            piece, at = wire[at : at + size], at + size + 2
            assert len(piece) == size and wire[at - 2 : at] == b"\r\n"
            self.content += piece
        while (eol := wire.index(b"\r\n", at)) != at:
            assert b":" in wire[at:eol]
            self.trailers.append(wire[at:eol])
            at = eol + 2
        assert at + 2 == len(wire), f"something stands behind the last chunk: {wire[at + 2 :]!r}"


class Heard:
    """What llhttp makes of a chunked body, in its strict mode."""

    def __init__(self, wire: bytes) -> None:
        self.content = b""
        self.is_over = False
        httptools.HttpResponseParser(self).feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + wire)
        assert self.is_over

    def on_body(self, body: bytes) -> None:
        self.content += body

    def on_message_complete(self) -> None:
        self.is_over = True


def split(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def fed(body: Body, way: Callable[[bytes], bytes], pieces: list[bytes]) -> bytes:
    """Feed it until it is over; what comes behind goes to `rest` of the caller's checks."""
    out = b""
    for number, piece in enumerate(pieces):
        out += way(piece)
        if body.done:
            body.rest += b"".join(pieces[number + 1 :])
            break
    return out


def kept(trailers: list[bytes]) -> list[bytes]:
    return [line for line in trailers if line.split(b":")[0].lower() not in _NOT_IN_TRAILERS]


@given(streams(), st.data())
def test_content_is_the_same_however_the_stream_is_split(stream: tuple[bytes, bytes, list[bytes]], data: st.DataObject) -> None:
    wire, content, trailers = stream
    behind = data.draw(st.sampled_from([b"", b"G", b"\r\n", b"GET / HTTP/1.1\r\n\r\n"]))
    pieces = split(wire + behind, data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    body = ChunkedBody()
    assert fed(body, body.payload, pieces) == content
    assert body.done
    assert body.size == len(content)
    assert body.rest == behind
    assert list(body.trailers) == kept(trailers)


@given(streams(), st.data())
def test_what_is_relayed_means_the_same_to_everybody(stream: tuple[bytes, bytes, list[bytes]], data: st.DataObject) -> None:
    wire, content, trailers = stream
    behind = data.draw(st.sampled_from([b"", b"0\r\n\r\n", b"5\r\nhello\r\n"]))
    pieces = split(wire + behind, data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    body = ChunkedBody()
    relayed = fed(body, body.relay, pieces)
    assert body.done and body.rest == behind and body.size == len(content)
    reference = Reference(relayed)
    assert reference.content == content
    assert reference.trailers == kept(trailers)
    assert Heard(relayed).content == content


@given(streams())
def test_a_stream_that_comes_byte_by_byte_or_cut_in_two_anywhere_is_the_same(stream: tuple[bytes, bytes, list[bytes]]) -> None:
    wire, content, _ = stream
    for pieces in ([wire[at : at + 1] for at in range(len(wire))], *([wire[:at], wire[at:]] for at in range(1, len(wire)))):
        for way in ("payload", "relay"):
            body = ChunkedBody()
            out = fed(body, getattr(body, way), pieces)
            assert body.done and not body.rest
            assert (out if way == "payload" else Reference(out).content) == content


@given(streams())
def test_no_stream_is_over_before_its_last_byte(stream: tuple[bytes, bytes, list[bytes]]) -> None:
    wire, _, _ = stream
    for at in range(len(wire)):
        body = ChunkedBody()
        body.relay(wire[:at])
        assert not body.done


def test_whole_canonical_chunks_leave_as_they_came() -> None:
    body = ChunkedBody()
    chunks = b"5\r\nhello\r\n" * 20 + b"A\r\n0123456789\r\n"
    assert body.relay(chunks) is chunks
    assert body.size == 110
    assert body.relay(chunks + b"3\r\nab") == chunks + b"2\r\nab\r\n"
    assert body.relay(b"c\r\n0\r\nX: 1\r\n\r\nrest") == b"1\r\nc\r\n0\r\nX: 1\r\n\r\n"
    assert body.rest == b"rest"
    assert body.done
    assert body.last_chunk() == b"0\r\nX: 1\r\n\r\n"


ILLEGAL = {
    "no size": b"\r\nhello\r\n",
    "no hex": b"xyz\r\nhello\r\n",
    "a sign": b"+5\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "an underscore": b"1_0\r\n" + b"x" * 16 + b"\r\n",
    "space before the size": b" 5\r\nhello\r\n",
    "space behind the size": b"5 \r\nhello\r\n",
    "a size line that ends with LF": b"5\nhello\r\n",
    "a size line with a bare CR": b"5\r;a\r\nhello\r\n",
    "an extension with NUL": b"5;a=\0\r\nhello\r\n",
    "an extension with a bare CR": b"5;a\rb\r\nhello\r\n",
    "an extension with DEL": b"5;a\x7f\r\nhello\r\n",
    "an extension that ends with LF": b"5;a\nhello\r\n",
    "a chunk that is longer than its size": b"5\r\nhellox\r\n",
    "a chunk that is one byte longer and ends": b"5\r\nhello\r\r\n",
    "a chunk that ends with LF": b"5\r\nhello\n0\r\n\r\n",
    "a chunk that ends with CR and something": b"5\r\nhello\rx",
    "a chunk without an end": b"5\r\nhello5\r\nhello\r\n",
    "more than 63 bits": b"8000000000000000\r\n",
    "17 digits": b"00000000000000005\r\nhello\r\n",
    "a long size line": b"5;" + b"x" * _MAX_SIZE_LINE_BYTES + b"\r\nhello\r\n",
    "a size line without an end": b"5;" + b"x" * (2 * _MAX_SIZE_LINE_BYTES),
    "a last chunk that ends with LF": b"0\n\r\n",
    "trailers that end with LF": b"0\r\n\n",
    "a trailer without a colon": b"0\r\nnonsense\r\n\r\n",
    "a trailer without a name": b"0\r\n: 1\r\n\r\n",
    "a trailer with a space in its name": b"0\r\nA : 1\r\n\r\n",
    "a folded trailer": b"0\r\nA: 1\r\n 2\r\n\r\n",
    "a trailer with NUL": b"0\r\nA: \0\r\n\r\n",
    "a trailer with a bare CR": b"0\r\nA: b\rC: d\r\n\r\n",
    "a trailer with DEL": b"0\r\nA: \x7f\r\n\r\n",
    "a trailer that ends with LF": b"0\r\nA: 1\n\r\n",
    "a long trailer": b"0\r\nA: " + b"x" * _MAX_TRAILER_BYTES + b"\r\n\r\n",
}


@pytest.mark.parametrize("before", [b"", b"3\r\nabc\r\n"], ids=["at once", "after a chunk"])
@pytest.mark.parametrize("why", ILLEGAL)
def test_what_is_illegal_is_refused_wherever_it_is_split(why: str, before: bytes) -> None:
    wire = before + ILLEGAL[why]
    places = range(len(wire)) if len(wire) < 200 else (0, 1, 5, 100, len(wire) - 1)
    for way in ("payload", "relay"):
        for at in places:
            body = ChunkedBody()
            with pytest.raises(Refused) as caught:
                fed(body, getattr(body, way), [piece for piece in (wire[:at], wire[at:]) if piece])
            assert caught.value.code == "bad_chunk"
            assert not body.done


@pytest.mark.parametrize("why", [why for why, wire in ILLEGAL.items() if len(wire) < 200])
def test_what_is_illegal_is_refused_byte_by_byte(why: str) -> None:
    body = ChunkedBody()
    with pytest.raises(Refused):
        fed(body, body.relay, [bytes((byte,)) for byte in ILLEGAL[why]])


@given(st.binary(max_size=60), st.data())
def test_nothing_but_refused_comes_of_rubbish_and_the_split_does_not_matter(wire: bytes, data: st.DataObject) -> None:
    def outcome(pieces: list[bytes]) -> tuple[bool, bytes, bytes] | None:
        body = ChunkedBody()
        try:
            content = fed(body, body.payload, pieces)
        except Refused:
            return None
        return body.done, content, body.rest

    whole = outcome([wire] if wire else [])
    assert outcome(split(wire, data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))) == whole


def test_all_extensions_of_a_body_together_have_a_bound() -> None:
    body = ChunkedBody()
    with pytest.raises(Refused, match="extensions"):
        for _ in range(_MAX_EXTENSIONS_BYTES // 3000 + 2):
            body.relay(b"1;" + b"x" * 3000 + b"\r\na\r\n")
    assert body.size * 3000 > _MAX_EXTENSIONS_BYTES - 6000


def test_trailers_that_are_dropped_count_against_the_bound_too() -> None:
    body = ChunkedBody()
    body.relay(b"0\r\n")
    with pytest.raises(Refused, match="trailers"):
        for _ in range(_MAX_TRAILER_BYTES // 1000 + 2):
            body.relay(b"Cookie: " + b"x" * 1000 + b"\r\n")


@pytest.mark.parametrize("way", ["relay", "payload"])
def test_a_chunk_for_each_byte_does_not_cost_the_square_of_what_came(way: str) -> None:
    body = ChunkedBody()
    wire = b"1;x\r\na\r\n" + b"1\r\na\r\n" * 160_000
    started = time.process_time()
    getattr(body, way)(wire)
    assert body.size == 160_001
    assert time.process_time() - started < 3  # it took 7 s when what stood behind each line was copied


def test_many_short_trailers_cost_no_time() -> None:
    started = time.process_time()
    with pytest.raises(Refused, match="trailers"):
        ChunkedBody().payload(b"0\r\n" + b"a:\r\n" * 8000)
    assert time.process_time() - started < 0.1  # it took 0.6 s when each was counted anew


@given(st.integers(0, 40), st.binary(max_size=60), st.data())
def test_a_body_of_known_length_ends_there(length: int, wire: bytes, data: st.DataObject) -> None:
    body = LengthBody(length)
    assert body.done is (length == 0)
    if body.done:
        return
    got = fed(
        body,
        data.draw(st.sampled_from([body.relay, body.payload])),
        split(wire, data.draw(st.lists(st.integers(0, len(wire)), max_size=6))),
    )
    assert got == wire[:length]
    assert body.size == len(got)
    assert body.done is (len(wire) >= length)
    assert body.rest == wire[length:]
    assert body.trailers == ()


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_a_body_that_ends_with_the_connection_takes_everything(pieces: list[bytes]) -> None:
    body = EndlessBody()
    assert b"".join(map(body.relay, pieces)) == b"".join(pieces)
    assert body.size == len(b"".join(pieces))
    assert not body.done and body.rest == b"" and body.trailers == ()


def test_what_connection_names_is_no_trailer_either() -> None:
    body = ChunkedBody(frozenset((b"x-sum", b"y")))
    assert body.relay(b"1\r\na\r\n0\r\nX-Sum: 1\r\nZ: 2\r\nY:3\r\n\r\n") == b"1\r\na\r\n0\r\nZ: 2\r\n\r\n"
    assert body.trailers == (b"Z: 2",)
    body = ChunkedBody(frozenset((b"x-sum",)))
    body.payload(b"0\r\nx-SUM: 1\r\n\r\n")
    assert body.last_chunk() == b"0\r\n\r\n"


@pytest.mark.parametrize(
    "name", [b"Max-Forwards", b"expect", b"CACHE-CONTROL", b"Via", b"Proxy-Connection", b"WWW-Authenticate", b"If-Match"]
)
def test_what_steers_a_message_is_no_trailer(name: bytes) -> None:
    body = ChunkedBody()
    assert body.relay(b"0\r\n" + name + b": 1\r\nGrpc-Status: 0\r\n\r\n") == b"0\r\nGrpc-Status: 0\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.integers(1, 60), st.sampled_from([b"", b"X-T: 1\r\n"]))
def test_the_content_of_what_is_relayed_is_the_payload(pieces: list[bytes], step: int, trailer: bytes) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
    body, content, end = ChunkedBody(), b"", b""
    for at in range(0, len(wire), step):
        relayed = body.relay(wire[at : at + step])
        content += content_of(relayed)
        end += reframed(b"", relayed)
    assert content == b"".join(pieces)
    assert end == b"0\r\n" + trailer + b"\r\n"


def test_other_content_may_stand_before_the_end_of_a_body() -> None:
    relayed = b"3\r\none\r\n3\r\ntwo\r\n0\r\nX-T: 1\r\n\r\n"
    assert reframed(b"three", relayed) == b"5\r\nthree\r\n0\r\nX-T: 1\r\n\r\n"
    assert reframed(b"three", relayed[:8]) == b"5\r\nthree\r\n"
    assert reframed(b"", relayed[:16]) == b""
