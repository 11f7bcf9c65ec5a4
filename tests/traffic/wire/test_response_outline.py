import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.wire import response_head, response_outline
from sidecar.traffic.wire.head import CHUNKED
from sidecar.traffic.wire.reply import Signature, reframe, reply_head
from sidecar.traffic.wire.response_head import ResponseHead, parse_response
from sidecar.traffic.wire.response_outline import Outlines

SIGNATURE = Signature(b"Via: 1.1 us", b"Via: 1.0 us", b"now")
MAX_BYTES = 3000

PLAIN = [b"Server: nginx/1.22.1", b"Date: Fri, 20 Nov 2026 18:00:00 GMT", b"Content-Type: application/json", b"Content-Length: 5", b"Connection: keep-alive"]  # fmt: skip
PROVIDER = [
    b"Date: Fri, 20 Nov 2026 18:00:00 GMT", b"Content-Type: application/json", b"Content-Length: 5", b"Connection: keep-alive",
    b"openai-processing-ms: 1423", b"openai-version: 2020-10-01", b"x-ratelimit-remaining-tokens: 1998765", b"x-ratelimit-reset-tokens: 37ms",
    b"x-request-id: req_4f2b8e7a1c0d", b"cf-cache-status: DYNAMIC", b"Set-Cookie: __cf_bm=Yp3F; path=/; expires=Fri, 20-Nov-26 18:30:00 GMT",
    b"strict-transport-security: max-age=31536000; includeSubDomains; preload", b"Set-Cookie: _cfuvid=8jK2; path=/; HttpOnly",
    b"Server: cloudflare (a) [b]", b"CF-RAY: 9a1b2c3d4e5f6071-FRA", b'alt-svc: h3=":443"; ma=86400',
]  # fmt: skip
CONNECTION_FIRST = [b"connection: Keep-Alive", b"x-request-id: 1", b"content-length: 5", b"X-Last: \xff \t1"]
NO_CONNECTION = [b"Content-Length: 5", b"x-request-id: 1"]
STREAMED = [b"Date: x", b"Transfer-Encoding: chunked", b"Connection: keep-alive", b"x-request-id: 1"]
STREAMED_LAST = [b"Connection: keep-alive, x-named", b"x-request-id: 1", b"transfer-encoding: Chunked"]
FAMILIES = [PLAIN, PROVIDER, CONNECTION_FIRST, NO_CONNECTION, STREAMED, STREAMED_LAST]
CHANGE = (b"x-request-id", b"cf-ray", b"openai-processing-ms", b"x-ratelimit-re", b"set-cookie", b"date")


def head_of(fields: list[bytes], start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *fields, b"", b""])


def successor(fields: list[bytes], rng: random.Random) -> list[bytes]:
    """The same lines with other values, as the next call would bring them."""
    out = []
    for line in fields:
        name, _, _ = line.partition(b":")
        if name.lower() == b"content-length":
            line = name + b": %d" % rng.randrange(1, 100_000)
        elif name.lower().startswith(CHANGE):
            line = name + b": " + b"%x" % rng.getrandbits(rng.randrange(1, 99))
        out.append(line)
    return out


def in_full(head: bytes, *, max_count: int = 30) -> ResponseHead:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(response_head, "_parse_common", lambda head, max_count: None)
        return parse_response(head, method=b"GET", max_count=max_count)


def teach(outlines: Outlines, fields: list[bytes], start: bytes = b"HTTP/1.1 200 OK", *, times: int = 8) -> None:
    rng = random.Random(7)
    for _ in range(times):
        head = head_of(successor(fields, rng), start)
        outlines.learn(head, parse_response(head, method=b"GET", max_count=30))


def taught(*families: list[bytes], start: bytes = b"HTTP/1.1 200 OK", max_bytes: int = MAX_BYTES) -> Outlines:
    outlines = Outlines(max_bytes)
    for fields in families:
        outlines._rest = 0
        teach(outlines, fields, start)
    return outlines


def told(make: Any) -> tuple[Any, ...]:
    """All that anybody gets to know of a head: what was read, what goes to the client for whatever client, and its lines."""
    head = make()
    out = []
    for keeps in (True, False):
        for is_1_1 in (True, False):
            for content_only in (True, False):
                other = make()
                framing = reframe(other, is_1_1=is_1_1, content_only=content_only) if other.length <= 0 or content_only else None
                out.append((framing, reply_head(other, SIGNATURE, keeps_alive=keeps, is_1_1=is_1_1)))
    head.take_apart()
    known = (head.status, head.length, head.declared, head.keep_alive, head.is_1_1, head.has_date, head.upgrade, head.hop)
    return (*known, out, head.status_line, head.lines[1:])


def agrees(outlines: Outlines, data: bytes, *, max_bytes: int = MAX_BYTES) -> bool:
    """Whether an outline fitted; then it must have said what reading in full says."""
    read = outlines.read(data)
    if read is None:
        return False
    head_bytes = data[: data.index(b"\r\n\r\n") + 4]
    assert len(head_bytes) - 4 <= max_bytes
    assert read[1] == data[len(head_bytes) :]

    def again() -> ResponseHead:
        known = outlines.read(data)
        assert known is not None
        return known[0]

    assert told(again) == told(lambda: in_full(head_bytes))
    return True


ALL = [taught(family) for family in FAMILIES]
PIECES = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b"\x7f", b"\t", b" ", b":", b"\x80", b"\xff", b"0", b"7", b"a", b"", b"\r\n ", b"\n\n", b";", b",",
     b"9" * 16, b"a" * 2900, b"-1", b"+1", b"0x5", b"0005",
     b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 7", b"\r\ncontent-length:5", b"\r\nConnection: close", b"\r\nConnection: x-request-id",
       b"\r\nUpgrade: h2c", b"\r\nKeep-Alive: 5", b"\r\nTE: x", b"\r\nProxy-Connection: x", b"\nA: b", b"\rA: b", b"\r\n\tfolded", b"\r\nDate: 1", b"\r\nA : b"]
)  # fmt: skip


@given(
    st.integers(0, len(FAMILIES) - 1),
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 12), PIECES), max_size=3),
)
def test_an_outline_says_what_reading_in_full_says(which: int, seed: int, changes: list[tuple[int, int, bytes]]) -> None:
    head = head_of(successor(FAMILIES[which], random.Random(seed)))
    for place, count, piece in changes:
        place %= len(head)
        head = head[:place] + piece + head[place + count :]
    fitted = agrees(ALL[which], head + b"body\r\n\r\n")
    assert fitted or changes


@given(st.integers(0, len(FAMILIES) - 1), st.integers(0, 2**32), st.data())
def test_lines_that_come_go_or_change_places_are_seen(which: int, seed: int, data: st.DataObject) -> None:
    fields = successor(FAMILIES[which], random.Random(seed))
    others = st.sampled_from(
        [*fields, *(line for family in FAMILIES for line in family), b"Keep-Alive: 5", b"Upgrade: x", b"Content-Length: 5"]
    )
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(fields)))
        fields[place : place + data.draw(st.integers(0, 2))] = data.draw(st.lists(others, max_size=2))
    start = data.draw(
        st.sampled_from(
            [b"HTTP/1.1 200 OK"] * 3
            + [b"HTTP/1.0 200 OK", b"HTTP/1.1 204 OK", b"HTTP/1.1 304 OK", b"HTTP/1.1 200", b"http/1.1 200 OK"]
        )
    )
    head = head_of(fields, start)
    agrees(ALL[which], head)


@given(st.integers(0, len(FAMILIES) - 1), st.integers(0, 255), st.integers(0, 40))
def test_every_byte_in_every_value_is_judged_as_in_full(which: int, byte: int, at: int) -> None:
    fields = list(FAMILIES[which])
    line = fields[at % len(fields)]
    place = at % (len(line) + 1)
    fields[at % len(fields)] = line[:place] + bytes((byte,)) + line[place:]
    head = head_of(fields)
    if agrees(ALL[which], head[: head.index(b"\r\n\r\n") + 4]):
        assert byte not in b"\r\n\x00"


def test_every_control_character_in_a_changing_value_is_left_to_the_full_parser() -> None:
    outlines = taught(NO_CONNECTION)
    for byte in range(256):
        data = head_of([b"Content-Length: 5", b"x-request-id: 1" + bytes((byte,)) + b"2"])
        assert agrees(outlines, data) is (32 <= byte < 127)


@pytest.mark.parametrize("fields", FAMILIES)
def test_the_eighth_head_of_the_same_lines_makes_an_outline(fields: list[bytes]) -> None:
    outlines = Outlines(MAX_BYTES)
    teach(outlines, fields, times=7)
    following = head_of(successor(fields, random.Random(1)))
    assert outlines.read(following) is None
    outlines.learn(following, parse_response(following, method=b"GET", max_count=30))
    assert agrees(outlines, head_of(successor(fields, random.Random(2))) + b"rest")
    read = outlines.read(following + b"rest")
    assert read is not None
    assert read[1] == b"rest"
    assert outlines.read(following[:-1]) is None


@pytest.mark.parametrize("status", [b"404 Not Found", b"503 (Service) [Unavailable]", b"200 "])
def test_the_status_line_is_part_of_the_outline(status: bytes) -> None:
    outlines = taught(PLAIN, start=b"HTTP/1.1 " + status)
    assert agrees(outlines, head_of(PLAIN, b"HTTP/1.1 " + status))
    assert outlines.read(head_of(PLAIN)) is None


@pytest.mark.parametrize(
    ("fields", "start", "method"),
    [
        (PLAIN, b"HTTP/1.0 200 OK", b"GET"),
        (PLAIN, b"HTTP/1.1 204 No Content", b"GET"),
        (PLAIN, b"HTTP/1.1 304 Not Modified", b"GET"),
        (PLAIN, b"HTTP/1.1 103 Early Hints", b"GET"),
        (PLAIN, b"HTTP/1.1 200 OK", b"HEAD"),
        (STREAMED, b"HTTP/1.1 200 OK", b"HEAD"),
        (STREAMED, b"HTTP/1.0 200 OK", b"GET"),
        (STREAMED, b"HTTP/1.1 204 No Content", b"GET"),
        ([*STREAMED, b"Keep-Alive: timeout=5"], b"HTTP/1.1 200 OK", b"GET"),
        ([*STREAMED, b"Connection: keep-alive"], b"HTTP/1.1 200 OK", b"GET"),
        ([*STREAMED, b"Upgrade: h2c"], b"HTTP/1.1 200 OK", b"GET"),
        ([*STREAMED, b" folded"], b"HTTP/1.1 200 OK", b"GET"),
        ([*STREAMED, b"A : b"], b"HTTP/1.1 200 OK", b"GET"),
        ([b"Transfer-Encoding: chunked", b"Connection: close"], b"HTTP/1.1 200 OK", b"GET"),
        ([b"Transfer-Encoding: chunked", b"Connection: a", b"A: 1"], b"HTTP/1.1 200 OK", b"GET"),
        ([b"Server: x"], b"HTTP/1.1 200 OK", b"GET"),
        ([*PLAIN, b"X-Long: " + b"x" * 2048], b"HTTP/1.1 200 OK", b"GET"),
    ],
)
def test_what_is_not_passed_on_as_it_came_makes_no_outline(fields: list[bytes], start: bytes, method: bytes) -> None:
    outlines = Outlines(64 * 1024)
    head = head_of(fields, start)
    for _ in range(20):
        outlines.learn(head, parse_response(head, method=method, max_count=30))
    assert outlines.read(head) is None
    assert not outlines._known


def test_a_head_that_is_too_long_fits_no_outline() -> None:
    outlines = taught(NO_CONNECTION, max_bytes=300)
    longest = max(
        size
        for size in range(300)
        if outlines.read(head_of([b"Content-Length: 123456789012345", b"x-request-id:" + b"1" * size]))
    )
    assert longest >= 64
    assert len(head_of([b"Content-Length: 123456789012345", b"x-request-id:" + b"1" * longest])) - 4 <= 300
    assert taught(PROVIDER, max_bytes=900).read(head_of(PROVIDER)) is None  # no room for so many values
    assert taught(NO_CONNECTION, max_bytes=2**40).read(head_of([b"Content-Length: 1", b"x-request-id:" + b"1" * 8192]))
    assert not taught(NO_CONNECTION, max_bytes=2**40).read(head_of([b"Content-Length: 1", b"x-request-id:" + b"1" * 8193]))


def test_a_length_that_is_no_common_number_is_read_in_full() -> None:
    outlines = taught(NO_CONNECTION)
    for value in (b"", b" 5", b"5 ", b"+5", b"1234567890123456", b"5, 5", b"0x5", b"5_0", b"\xb2"):
        assert outlines.read(head_of([b"Content-Length: " + value, b"x-request-id: 1"])) is None
    for value in (b"0", b"05", b"123456789012345"):
        assert agrees(outlines, head_of([b"Content-Length: " + value, b"x-request-id: 1"]))


def test_there_are_a_few_outlines_the_newest_first() -> None:
    outlines = taught(*FAMILIES)
    assert [agrees(outlines, head_of(fields)) for fields in FAMILIES] == [False, False, True, True, True, True]


def test_lines_in_turn_are_learnt_one_after_the_other() -> None:
    outlines = Outlines(MAX_BYTES)
    rng = random.Random(3)
    for _ in range(100):
        for fields in (PLAIN, STREAMED):
            head = head_of(successor(fields, rng))
            if outlines.read(head) is None:
                outlines.learn(head, parse_response(head, method=b"GET", max_count=30))
    assert agrees(outlines, head_of(PLAIN))
    assert agrees(outlines, head_of(STREAMED))


def test_an_outline_is_widened_where_a_value_changes_that_never_did() -> None:
    outlines = taught(NO_CONNECTION, [b"A: 1", b"Content-Length: 5"])
    other = [b"A: 2", b"Content-Length: 5"]
    assert outlines.read(head_of(other)) is None
    outlines._rest = 0
    for value in range(8):
        teach(outlines, [b"A: %d" % value, b"Content-Length: 5"], times=1)
    assert agrees(outlines, head_of([b"A: 99", b"Content-Length: 5"]))
    assert agrees(outlines, head_of(NO_CONNECTION))
    assert len(outlines._known) == 2
    outlines._rest = 0
    teach(outlines, [b"A: 7", b"Content-Length: 5"])
    assert agrees(outlines, head_of([b"A: 3", b"Content-Length: 5"]))  # what changed once stays open


def test_learning_rests_ever_longer_after_an_outline_and_after_heads_that_are_never_the_same() -> None:
    made = taught(PLAIN)
    assert made._rest == 64
    vain = Outlines(MAX_BYTES)
    rests = []
    for number in range(50_000):
        before = vain._rest
        head = head_of([b"X-%d: 1" % number, b"Transfer-Encoding: chunked"])
        if before:
            vain.learn(head, ResponseHead())  # not looked at
        else:
            vain.learn(head, parse_response(head, method=b"GET", max_count=30))
        if vain._rest > before:
            rests.append(vain._rest)
            assert not vain._drafts
        assert len(vain._drafts) < 64
    assert rests[:8] == [64, 128, 256, 512, 1024, 2048, 4096, 4096]
    assert max(rests) == response_outline._LONGEST_REST


def test_the_first_heads_may_be_let_pass_before_anything_is_learnt() -> None:
    outlines = Outlines(MAX_BYTES, rest=64)
    teach(outlines, PLAIN, times=64 + 7)
    assert outlines.read(head_of(PLAIN)) is None
    teach(outlines, PLAIN, times=1)
    assert agrees(outlines, head_of(PLAIN))


def test_heads_of_2_kib_are_learnt_and_longer_ones_are_not_because_compiling_holds_the_loop() -> None:
    room = 2048 - len(head_of([*PROVIDER, b"X-Long: "]))
    for size, is_learnt in ((room, True), (room + 1, False)):
        head = head_of([*PROVIDER, b"X-Long: " + b"-" * size])
        outlines = Outlines(64 * 1024)
        for _ in range(20):
            outlines.learn(head, parse_response(head, method=b"GET", max_count=30))
        assert agrees(outlines, head) is is_learnt


@pytest.mark.parametrize("named", [b"X-Tr", b"keep-alive, X-Tr"])
def test_what_connection_names_is_known_though_the_head_has_no_such_field(named: bytes) -> None:
    fields = [b"Connection: " + named, b"Transfer-Encoding: chunked", b"x-request-id: 1"]
    outlines = taught(fields)
    read = outlines.read(head_of(fields))
    assert read is None or read[0].hop == frozenset((b"x-tr",)), "a trailer of this name is not to go on"


def test_heads_that_never_go_on_as_they_came_are_not_looked_at_forever() -> None:
    outlines = Outlines(MAX_BYTES)
    head = head_of([*STREAMED, b"Keep-Alive: timeout=5"])
    for _ in range(64):
        assert not outlines._rest
        outlines.learn(head, parse_response(head, method=b"GET", max_count=30))
    assert outlines._rest == 64


def test_a_head_of_chunks_that_fits_an_outline_may_be_reframed() -> None:
    read = taught(STREAMED).read(head_of(STREAMED))
    assert read is not None
    assert read[0].length == read[0].declared == CHUNKED
    framing = reframe(read[0], is_1_1=False)
    assert framing.ends_with_connection
    assert reply_head(read[0], SIGNATURE, keeps_alive=False, is_1_1=False) == (
        b"HTTP/1.1 200 OK\r\nDate: x\r\nx-request-id: 1\r\nVia: 1.1 us\r\nConnection: close\r\n\r\n"
    )


@given(st.binary(max_size=60), st.integers(0, 150))
def test_rubbish_fits_no_outline_that_full_reading_refuses(rubbish: bytes, at: int) -> None:
    head = head_of(PLAIN)
    data = head[:at] + rubbish + head[at:]
    if ALL[0].read(data) is not None:
        try:
            in_full(data[: data.index(b"\r\n\r\n") + 4])
        except UpstreamFailed:  # pragma: no cover
            pytest.fail("an outline took what is malformed")
