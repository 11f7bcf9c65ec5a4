from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.wire import response_head
from sidecar.traffic.wire.head import CHUNKED, UNTIL_CLOSE
from sidecar.traffic.wire.reply import Signature, reply_head
from sidecar.traffic.wire.response_head import ResponseHead, parse_response

SIGNATURE = Signature(b"Via: 1.1 us", b"Via: 1.0 us", b"now")


def parsed(*fields: bytes, start: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET", max_count: int = 20) -> ResponseHead:
    return parse_response(b"\r\n".join([start, *fields, b"", b""]), method=method, max_count=max_count)


def lines_of(head: ResponseHead) -> list[bytes]:
    head.take_apart()
    return head.lines[1:]


# the common way and the full way


def results(head: bytes, *, max_count: int = 6) -> tuple[Any, Any, bool]:
    """What both ways make of a head, and whether the common way took it."""
    common = response_head._parse_common(head, max_count)

    def all_of_it(response: ResponseHead) -> tuple[Any, ...]:
        known = (
            response.status,
            response.length,
            response.declared,
            response.keep_alive,
            response.is_1_1,
            response.has_date,
            response.upgrade,
        )
        out = tuple(
            reply_head(response, SIGNATURE, keeps_alive=keeps, is_1_1=is_1_1)
            for keeps in (True, False)
            for is_1_1 in (True, False)
        )
        response.take_apart()
        return (*known, out, response.status_line, response.lines[1:])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(response_head, "_parse_common", lambda head, max_count: None)
        try:
            full: Any = all_of_it(parse_response(head, method=b"GET", max_count=max_count))
        except UpstreamFailed as fault:
            full = fault.code
    return (all_of_it(common) if common is not None else None), full, common is not None


STARTS = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 6
    + [b"HTTP/1.1 404 Not Found", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.1 599 \xe9", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 x",
       b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 999 x", b"HTTP/1.1 2000 x", b"HTTP/1.1 20 x", b"HTTP/1.1 2x0 x", b"http/1.1 200 OK",
       b"HTTP/1.1  200 OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 101 x"]
)  # fmt: skip
FIELDS = st.sampled_from(
    [b"Content-Length: 5", b"content-length: 5", b"CONTENT-LENGTH: 12", b"Content-Length:5", b"Content-Length:  5", b"Content-Length: 5 ",
     b"Content-Length: 05", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: " + b"9" * 25, b"Content-Length: x", b"Content-Length : 5",
     b"Connection: keep-alive", b"connection: Keep-Alive", b"Connection:keep-alive", b"Connection: keep-alive ", b"Connection: close",
     b"Connection: keep-alive, X-Named", b"Connection : keep-alive", b"X-Named: 1", b"Keep-Alive: timeout=5", b"Keep-Alive:5", b"Keep-alive : 5",
     b"Transfer-Encoding: chunked", b"transfer-encoding:chunked", b"Transfer-Encoding : chunked", b"TE: trailers", b"Upgrade: h2c", b"Proxy-Connection: x",
     b"Date: now", b"date:now", b"Date : now", b"X-Date: Date: now", b"X: content-length: 7", b" folded: 1", b"\tfolded", b"A: 1\nContent-Length: 7",
     b"A: 1\rB: 2", b"A: \x00", b"A:\t1 ", b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"nonsense", b"", b"x-te: 1", b"Via: 1.1 b", b"A: \xff"]
)  # fmt: skip


@given(STARTS, st.lists(FIELDS, max_size=7), st.booleans())
def test_the_common_way_gives_what_the_full_way_gives(start: bytes, fields: list[bytes], with_length: bool) -> None:
    if with_length:
        fields.insert(len(fields) // 2, b"Content-Length: 5")
    head = b"\r\n".join([start, *fields, b"", b""])
    common, full, was_common = results(head[: head.index(b"\r\n\r\n") + 4])
    if was_common:
        assert common == full


@given(
    st.lists(
        st.sampled_from([b"Content-Type: a", b"Date: now", b"Server: x", b"x-Long: " + b"y" * 50, b"Set-Cookie: a=b"]), max_size=4
    ),
    st.sampled_from([b"Content-Length: 5", b"content-length: 12", b"CONTENT-LENGTH: 0"]),
    st.booleans(),
    st.sampled_from([b"200 OK", b"404 Not Found", b"503 Service Unavailable", b"200 "]),
    st.randoms(use_true_random=False),
)
def test_what_is_common_takes_the_common_way(fields: list[bytes], length: bytes, keeps: bool, status: bytes, rng: Any) -> None:
    every = [*fields, length, *([b"Connection: Keep-Alive"] if keeps else [])]
    rng.shuffle(every)
    common, full, was_common = results(b"\r\n".join([b"HTTP/1.1 " + status, *every, b"", b""]))
    assert was_common
    assert common == full


def test_the_common_way_takes_no_head_response() -> None:
    head = parsed(b"Content-Length: 5", method=b"HEAD")
    assert (head.length, head.declared, head.as_is) == (0, 5, b"")


def test_a_head_that_goes_on_as_it_came_can_be_taken_apart() -> None:
    head = parsed(b"Content-Length: 5", b"Connection: keep-alive", b"A: 1")
    assert head.as_is == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: 1\r\n"
    head.take_apart()
    head.take_apart()
    assert (head.status_line, head.lines, head.as_is) == (b"200 OK", [b"HTTP/1.1 200 OK", b"Content-Length: 5", b"A: 1"], b"")


# the full way


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 abc OK", b"HTTP/2.0 200 OK", b"HTTP/1.1200 OK", b"ICY 200 OK",
     b"HTTP/1.1  200 OK", b"HTTP/1.1 200OK", b"", b"HTTP/1.2 200 OK", b"HTTP/1.1 200 OK\nA: 1", b"HTTP/1.1 200 OK\rA: 1", b"HTTP/1.1 200\nA: 1", b"HTTP/1.1 200\tOK"],
)  # fmt: skip
def test_a_status_line_is_version_status_reason(start: bytes) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        parsed(start=start)
    assert caught.value.code == "upstream_malformed"


@pytest.mark.parametrize("start", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.0 999 Any Thing \xe9"])
def test_a_reason_may_be_anything(start: bytes) -> None:
    head = parsed(start=start)
    assert head.status_line == start[9:]
    assert head.is_1_1 is (start[7:8] == b"1")


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 5", b"Content-Length: 6"), (b"Content-Length: 5, 6",), (b"Content-Length: x",), (b"Content-Length: -5",),
        (b"Content-Length: " + b"9" * 30,), (b"Transfer-Encoding: gzip",), (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"), (b" folded: 1",), (b"A: \x00",), (b"A: 1\nB: 2",), (b"A",), (b": 1",),
        (b"Content-Length: 5", b"Content-Length : 6"), (b"Connection: close", b"Upgrade : x", b"A: \x00"),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_malformed(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        parsed(*fields)
    assert caught.value.code == "upstream_malformed"


def test_there_may_be_so_many_fields_and_no_more() -> None:
    fields = [b"X: 1"] * 5
    assert len(lines_of(parsed(*fields, max_count=5))) == 5
    assert len(lines_of(parsed(*fields[1:], b"Content-Length: 5", max_count=5))) == 5
    for too_many in ([*fields, b"X: 2"], [*fields, b"Content-Length: 5"]):
        with pytest.raises(UpstreamFailed, match="more than 5 fields"):
            parsed(*too_many, max_count=5)


@pytest.mark.parametrize(
    ("start", "method", "fields", "length", "declared"),
    [
        (b"HTTP/1.1 200 OK", b"GET", (), UNTIL_CLOSE, UNTIL_CLOSE),
        (b"HTTP/1.1 200 OK", b"GET", (b"Content-Length: 7",), 7, 7),
        (b"HTTP/1.1 200 OK", b"GET", (b"Content-Length: 0",), 0, 0),
        (b"HTTP/1.0 200 OK", b"GET", (b"Content-Length: 7",), 7, 7),
        (b"HTTP/1.1 200 OK", b"GET", (b"Transfer-Encoding: Chunked ",), CHUNKED, CHUNKED),
        (b"HTTP/1.1 200 OK", b"HEAD", (b"Transfer-Encoding: chunked",), 0, CHUNKED),
        (b"HTTP/1.1 200 OK", b"HEAD", (b"Content-Length: 7",), 0, 7),
        (b"HTTP/1.1 204 No Content", b"GET", (b"Content-Length: 7",), 0, 7),
        (b"HTTP/1.1 304 Not Modified", b"GET", (b"Content-Length: 7",), 0, 7),
        (b"HTTP/1.1 103 Early Hints", b"GET", (b"Content-Length: 7",), 0, 7),
        (b"HTTP/1.1 205 Reset", b"GET", (b"Content-Length: 0",), 0, 0),
        (b"HTTP/1.1 200 OK", b"GET", (b"Content-Length: 7", b"Content-Length : 7"), 7, 7),
    ],
)
def test_how_long_the_body_is(start: bytes, method: bytes, fields: tuple[bytes, ...], length: int, declared: int) -> None:
    head = parsed(*fields, start=start, method=method)
    assert (head.length, head.declared) == (length, declared)


@pytest.mark.parametrize(
    ("start", "fields", "stays"),
    [
        (b"HTTP/1.1 200 OK", (b"Content-Length: 1",), True),
        (b"HTTP/1.1 200 OK", (b"Content-Length: 1", b"Connection: close"), False),
        (b"HTTP/1.1 200 OK", (b"Content-Length: 1", b"Connection: Close, x"), False),
        (b"HTTP/1.1 200 OK", (b"Content-Length: 1", b"Connection: x", b"Connection: close"), False),
        (b"HTTP/1.1 200 OK", (b"Content-Length: 1", b"Connection: keep-alive"), True),
        (b"HTTP/1.1 200 OK", (), False),
        (b"HTTP/1.1 204 x", (), True),
        (b"HTTP/1.0 200 OK", (b"Content-Length: 1",), False),
        (b"HTTP/1.0 200 OK", (b"Content-Length: 1", b"Connection: keep-alive"), True),
        (b"HTTP/1.0 200 OK", (b"Content-Length: 1", b"Connection: Keep-Alive"), True),
        (b"HTTP/1.0 200 OK", (b"Transfer-Encoding: chunked", b"Connection: keep-alive"), False),
        (b"HTTP/1.0 200 OK", (b"Connection: keep-alive",), False),
    ],
)
def test_whether_the_connection_may_be_used_again(start: bytes, fields: tuple[bytes, ...], stays: bool) -> None:
    assert parsed(*fields, start=start).keep_alive is stays


def test_hop_by_hop_fields_are_taken_out_and_the_rest_stays_as_it_is() -> None:
    head = parsed(
        b"X-A: 1", b"Keep-Alive: timeout=5", b"Connection: x-a, X-B", b"transfer-ENCODING: chunked", b"Proxy-Connection: close", b"TE: x",
        b"x-b: 2", b"Upgrade: h2c ", b"Date: now", b"Proxy-Authenticate: x", b"X-C:3",
    )  # fmt: skip
    assert lines_of(head) == [b"transfer-ENCODING: chunked", b"Date: now", b"Proxy-Authenticate: x", b"X-C:3"]
    assert head.has_date
    assert head.upgrade == b"h2c"


def test_folded_lines_and_spaces_before_colons_are_mended() -> None:
    head = parsed(b"A: 1", b"  2", b"Content-Length : 5", b"Date\t: now")
    assert lines_of(head) == [b"A: 1 2", b"Content-Length: 5", b"Date: now"]
    assert head.length == 5
    assert head.has_date


def test_a_101_is_read_although_llhttp_stops_there() -> None:
    head = parsed(b"Connection: Upgrade", b"Upgrade: websocket", start=b"HTTP/1.1 101 Switching Protocols")
    assert (head.status, head.upgrade, head.length) == (101, b"websocket", 0)
    with pytest.raises(UpstreamFailed):
        parsed(start=b"HTTP/1.1 101 Switching Protocols")  # to what?
    mended = parsed(b"Connection: Upgrade", b"Upgrade : websocket", start=b"HTTP/1.1 101 Switching Protocols")
    assert mended.upgrade == b"websocket"


@given(st.binary(max_size=80))
def test_nothing_but_upstream_failed_comes_of_rubbish(rubbish: bytes) -> None:
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"):
        head = start + rubbish + b"\r\n\r\n"
        try:
            parse_response(head[: head.index(b"\r\n\r\n") + 4], method=b"GET", max_count=20)
        except UpstreamFailed as fault:
            code = fault.code
        else:
            code = ""
        assert code in ("", "upstream_malformed")


@pytest.mark.parametrize("zeros", [0, 1, 40, 63, 4300, 5000])
@pytest.mark.parametrize("digits", [b"", b"7", b"1" * 19, b"1" * 20, b"9" * 4301])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_length_of_too_many_digits_is_malformed(zeros: int, digits: bytes, method: bytes) -> None:
    value = b"0" * zeros + digits
    if not value:
        return
    if len(digits) <= 19 and len(value) <= 64:
        assert parsed(b"Content-Length: " + value, method=method).declared == int(value)
        return
    with pytest.raises(UpstreamFailed, match="upstream_malformed"):
        parsed(b"Content-Length: " + value, method=method)
