import httptools
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.traffic.wire.head import CHUNKED
from sidecar.traffic.wire.request_head import RequestHead, parse_request, refusal_of


def parsed(
    *fields: bytes, method: bytes = b"POST", target: bytes = b"/x", version: bytes = b"HTTP/1.1", host: bytes | None = b"Host: a"
) -> RequestHead:
    lines = [b" ".join((method, target, version)), *([host] if host is not None else []), *fields]
    return parse_request(b"\r\n".join([*lines, b"", b""]), max_count=20, max_url_bytes=100)


def refused(*fields: bytes, **others: bytes | None) -> str:
    with pytest.raises(Refused) as caught:
        parsed(*fields, **others)  # type: ignore[arg-type]
    return caught.value.code


def test_a_plain_request_is_taken_apart() -> None:
    request = parsed(b"User-Agent: x", b"Content-Length: 5")
    assert (request.method, request.target, request.host, request.host_at) == (b"POST", b"/x", b"a", 1)
    assert (request.is_1_1, request.keep_alive, request.length) == (True, True, 5)
    assert request.lines == [b"POST /x HTTP/1.1", b"Host: a", b"User-Agent: x", b"Content-Length: 5"]


# the request line


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"GET /", "http_version"),
        (b"GET  / HTTP/1.1", "bad_request_line"),
        (b"GET / a HTTP/1.1", "bad_request_line"),
        (b"GET", "bad_request_line"),
        (b"\x16\x03\x01", "tls_to_plain_port"),
        (b"GET / HTTP/2.0", "http_version"),
        (b"GET / HTTP/1.2", "http_version"),
        (b"GET / HTTP/0.9", "http_version"),
        (b"GET / HTTP/11", "bad_request_line"),
        (b"GET / http/1.1", "bad_request_line"),
        (b"GET / HTTP/1.1x", "bad_request_line"),
        (b"PRI * HTTP/2.0", "http2_preface"),
        (b" GET / HTTP/1.1", "bad_request_line"),
        (b"G\x00T / HTTP/1.1", "bad_request_line"),
        (b"G(T / HTTP/1.1", "bad_request_line"),
        (b"GET /\x00 HTTP/1.1", "bad_target"),
        (b"GET /\x7f HTTP/1.1", "bad_target"),
        (b"GET /a\tb HTTP/1.1", "bad_target"),
        (b"GET /\nA: HTTP/1.1", "bad_request_line"),
        (b"GET /\rA: HTTP/1.1", "bad_target"),
        (b"BREW /\nA: HTTP/1.1", "bad_target"),
        (b"GET / HTTP/1.1\nA:", "bad_request_line"),
    ],
)
def test_a_request_line_is_three_parts(line: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_request(line + b"\r\nHost: a\r\n\r\n", max_count=9, max_url_bytes=99)
    assert caught.value.code == code


@pytest.mark.parametrize("method", [b"BREW", b"get", b"X-!#$%&'*+.^_`|~9", b"QUERY", b"VERSION-CONTROL"])
def test_a_method_that_nobody_knows_passes(method: bytes) -> None:
    request = parsed(b"Content-Length: 3", b"X: 1", method=method)
    assert (request.method, request.length) == (method, 3)
    assert request.lines[0] == method + b" /x HTTP/1.1"


@pytest.mark.parametrize(
    "field",
    [b"Content-Length: x", b"A b: 1", b"A\x00: 1", b"A: \x00", b" folded: 1", b"Content-Length: 1\r\nTransfer-Encoding: chunked"],
)
def test_a_method_that_nobody_knows_excuses_nothing_else(field: bytes) -> None:
    assert refused(field, method=b"BREW") in {"bad_header", "bad_content_length", "length_and_chunked"}


def test_the_limits_are_exact() -> None:
    for count, is_ok in ((20, True), (21, False)):
        fields = [b"X-%d: 1" % number for number in range(count - 1)]
        if is_ok:
            assert len(parsed(*fields).lines) == 21
        else:
            assert refused(*fields) == "header_count"
    assert parsed(target=b"/" + b"x" * 99).target == b"/" + b"x" * 99
    assert refused(target=b"/" + b"x" * 100) == "url_length"


# Host


@pytest.mark.parametrize("value", [b"", b"a", b"a:80", b"a:", b"[::1]:80", b"[::1]", b"xn--a.b-c_d~", b"1.2.3.4:65535", b"a%20b"])
def test_a_host_may_be_written_so(value: bytes) -> None:
    assert parsed(host=b"Host: \t" + value + b"  ").host == value


@pytest.mark.parametrize(
    "value", [b"a b", b"a/b", b"a@b", b"a:b", b"a:123456", b"[::1", b"[x]", b"a,b", b"a?", b"a#b", b"http://a", b"\xe9"]
)
def test_a_host_may_not_be_written_so(value: bytes) -> None:
    assert refused(host=b"Host: " + value) == "bad_host"


def test_there_is_one_host() -> None:
    assert refused(b"Host: a") == "bad_host"
    assert refused(b"hOST: b") == "bad_host"
    assert refused(host=None) == "bad_host"


def test_http_1_0_needs_no_host() -> None:
    request = parsed(host=None, version=b"HTTP/1.0")
    assert (request.host, request.host_at) == (b"", 0)
    assert refused(b"Host: a", version=b"HTTP/1.0") == "bad_host"


GOES = [b"traceparent: x", b"tracestate: a=1", b"Baggage: a=1", b"X-Agent-Id: a", b"x-agent-task-id: t", b"Keep-Alive: 5",
        b"Proxy-Connection: close", b"TE: trailers", b"Proxy-Authorization: Basic x", b"Upgrade: h2c", b"Connection: X-Named"]  # fmt: skip
STAYS = [b"Accept: */*", b"Via: 1.1 x", b"Date: now", b"Content-Length: 0", b"X-Other: 2"]


@given(st.lists(st.sampled_from([*GOES, *STAYS, b"X-Named: 1"]), max_size=8, unique=True), st.integers(0, 8))
def test_the_place_of_host_is_known_whatever_is_taken_out(fields: list[bytes], place: int) -> None:
    fields.insert(place, b"hosT:  a:1 ")
    request = parsed(*fields, host=None)
    is_named = b"Connection: X-Named" in fields
    assert request.lines[request.host_at] == b"hosT:  a:1 "
    assert request.host == b"a:1"
    expected = [line for line in fields if line not in GOES and not (is_named and line == b"X-Named: 1")]
    assert request.lines[1:] == expected


def test_what_is_taken_out_is_kept_apart() -> None:
    request = parsed(
        b"traceparent: p", b"tracestate: a=1", b"TraceState:  b=2 ", b"baggage: k=v", b"X-Agent-ID: me", b"X-Agent-Task-Id: t",
        b"Proxy-Authorization: Basic x", b"Proxy-Authorization: Basic y", b"Via: 1.0 a", b"Via: 1.1 b",
    )  # fmt: skip
    assert request.traceparents == (b"p",)
    assert request.tracestates == (b"a=1", b"b=2")
    assert request.baggage == (b"k=v",)
    assert (request.agent, request.task) == (b"me", b"t")
    assert request.proxy_authorization == b"Basic x, Basic y"
    assert request.via == (b"1.0 a", b"1.1 b")
    assert request.lines[1:] == [b"Host: a", b"Via: 1.0 a", b"Via: 1.1 b"]


# Connection


@pytest.mark.parametrize(
    ("version", "value", "stays"),
    [
        (b"HTTP/1.1", None, True), (b"HTTP/1.1", b"keep-alive", True), (b"HTTP/1.1", b"close", False), (b"HTTP/1.1", b"CLOSE , x", False),
        (b"HTTP/1.1", b"close, keep-alive", False), (b"HTTP/1.1", b"", True),
        (b"HTTP/1.0", None, False), (b"HTTP/1.0", b"keep-alive", True), (b"HTTP/1.0", b"Keep-Alive", True), (b"HTTP/1.0", b"x", False),
    ],
)  # fmt: skip
def test_whether_the_connection_stays(version: bytes, value: bytes | None, stays: bool) -> None:
    assert parsed(*([b"Connection: " + value] if value is not None else []), version=version).keep_alive is stays


def test_what_connection_names_goes_no_further() -> None:
    request = parsed(b"X-A: 1", b"Connection: x-a, X-B", b"X-C: 3", b"connection: x-d", b"x-b: 2", b"X-D: 4")
    assert request.lines[1:] == [b"Host: a", b"X-C: 3"]


@pytest.mark.parametrize("name", [b"host", b"content-length", b"te", b"keep-alive", b"close", b"upgrade"])
def test_connection_cannot_take_framing_or_host_away(name: bytes) -> None:
    request = parsed(b"Connection: " + name, b"Content-Length: 5")
    assert request.length == 5
    assert request.lines[1:] == [b"Host: a", b"Content-Length: 5"]


def test_connection_cannot_take_transfer_encoding_away() -> None:
    request = parsed(b"Connection: transfer-encoding", b"Transfer-Encoding: chunked")
    assert request.length == CHUNKED
    assert request.lines[1:] == [b"Host: a", b"Transfer-Encoding: chunked"]


def test_connection_may_name_trace_headers() -> None:
    fields = (b"traceparent: p", b"tracestate: s", b"baggage: b", b"Expect: 100-continue")
    request = parsed(*fields, b"Connection: traceparent, baggage, expect")
    assert (request.traceparents, request.tracestates, request.baggage) == ((), (), ())
    assert not request.expects_continue
    assert b"Expect: 100-continue" not in request.lines
    request = parsed(*fields, b"Connection: tracestate")
    assert (request.traceparents, request.tracestates, request.baggage) == ((b"p",), (), (b"b",))


# framing


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ((), 0), ((b"Content-Length: 0",), 0), ((b"Content-Length: 007",), 7), ((b"CONTENT-LENGTH:7 ",), 7), ((b"Content-Length: \t7",), 7),
        ((b"Content-Length: 7", b"Content-Length: 7"), 7), ((b"Content-Length: 7, 7",), 7),
        ((b"Transfer-Encoding: chunked",), CHUNKED), ((b"transfer-encoding: Chunked",), CHUNKED), ((b"Transfer-Encoding:\tchunked ",), CHUNKED),
    ],
)  # fmt: skip
def test_how_long_the_body_is(fields: tuple[bytes, ...], length: int) -> None:
    assert parsed(*fields).length == length


def test_equal_lengths_go_on_as_one() -> None:
    request = parsed(b"A: 1", b"Content-Length: 7", b"Content-Length: 7, 7", b"B: 2")
    assert request.lines[1:] == [b"Host: a", b"A: 1", b"Content-Length: 7", b"B: 2"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((b"Content-Length: 5", b"Content-Length: 6"), "bad_content_length"),
        ((b"Content-Length: 5, 6",), "bad_content_length"),
        ((b"Content-Length: ",), "bad_content_length"),
        ((b"Content-Length: -1",), "bad_content_length"),
        ((b"Content-Length: +1",), "bad_content_length"),
        ((b"Content-Length: 0x5",), "bad_content_length"),
        ((b"Content-Length: 5 5",), "bad_content_length"),
        ((b"Content-Length: 5_0",), "bad_content_length"),
        ((b"Content-Length: \xb2",), "bad_content_length"),
        ((b"Content-Length: " + b"9" * 30,), "bad_content_length"),
        ((b"Content-Length: 18446744073709551616",), "bad_content_length"),
        ((b"Content-Length: 5", b"Transfer-Encoding: chunked"), "length_and_chunked"),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 5"), "length_and_chunked"),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 0"), "length_and_chunked"),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), "bad_transfer_encoding"),
        ((b"Transfer-Encoding: gzip, chunked",), "unknown_transfer_coding"),
        ((b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"), "bad_transfer_encoding"),
        ((b"Transfer-Encoding: chunked, gzip",), "bad_transfer_encoding"),
        ((b"Transfer-Encoding: identity",), "bad_transfer_encoding"),
        ((b"Transfer-Encoding: \x0bchunked",), "bad_header"),
        ((b"Transfer-Encoding: xchunked",), "bad_transfer_encoding"),
        ((b"Transfer-Encoding : chunked",), "bad_header"),
        ((b"Content-Length : 5",), "bad_header"),
        ((b"A: 1\r\n B: 2",), "bad_header"),
        ((b"A: 1\nB: 2",), "bad_header"),
        ((b"A: 1\rB: 2",), "bad_header"),
        ((b"A: \x00",), "bad_header"),
        ((b"A",), "bad_header"),
        ((b": 1",), "bad_header"),
        ((b"A(: 1",), "bad_header"),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_refused(fields: tuple[bytes, ...], code: str) -> None:
    got = refused(*fields)
    assert got == code or {got, code} <= {"bad_transfer_encoding", "unknown_transfer_coding", "bad_header"}


def test_a_chunked_request_of_http_1_0_ends_the_connection() -> None:
    request = parsed(b"Transfer-Encoding: chunked", b"Connection: keep-alive", version=b"HTTP/1.0")
    assert (request.length, request.keep_alive) == (CHUNKED, False)


# Expect and Upgrade


def test_expect_is_100_continue_or_refused() -> None:
    request = parsed(b"eXPECT: 100-Continue", b"Content-Length: 1")
    assert request.expects_continue
    assert b"eXPECT: 100-Continue" in request.lines
    assert refused(b"Expect: 200-ok") == "bad_expect"
    assert not parsed(b"Expect: 100-continue", version=b"HTTP/1.0").expects_continue


@pytest.mark.parametrize(
    ("fields", "version", "upgrade"),
    [
        ((b"Connection: Upgrade", b"Upgrade: websocket"), b"HTTP/1.1", b"websocket"),
        ((b"Upgrade: a", b"Connection: keep-alive, upgrade", b"Upgrade: b"), b"HTTP/1.1", b"a, b"),
        ((b"Upgrade: websocket",), b"HTTP/1.1", b""),
        ((b"Upgrade: websocket", b"Connection: keep-alive"), b"HTTP/1.1", b""),
        ((b"Upgrade: websocket", b"Connection: close"), b"HTTP/1.1", b""),
        ((b"Connection: Upgrade", b"Upgrade: websocket"), b"HTTP/1.0", b""),
        ((b"Connection: Upgrade",), b"HTTP/1.1", b""),
    ],
)
def test_an_upgrade_has_to_be_named_by_connection(fields: tuple[bytes, ...], version: bytes, upgrade: bytes) -> None:
    request = parsed(*fields, method=b"GET", version=version)
    assert request.upgrade == upgrade
    assert request.lines[1:] == [b"Host: a"]


def test_a_connect_has_no_body_of_its_own() -> None:
    request = parsed(b"Content-Length: 5", b"Expect: 100-continue", method=b"CONNECT", target=b"a:443")
    assert (request.length, request.expects_continue) == (0, False)
    assert not request.keep_alive, "refused, it would make another request of what was meant as its body"


@pytest.mark.parametrize("method", [b"GET", b"POST", b"CONNECT"])
def test_a_request_line_that_ends_with_lf_alone_hides_no_field(method: bytes) -> None:
    head = method + b" /x\nN:1 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eDp5\r\nTransfer-Encoding: chunked\r\nZ: 1\r\n\r\n"
    with pytest.raises(Refused) as caught:
        parse_request(head, max_count=128, max_url_bytes=1024)
    assert caught.value.code == "bad_request_line"


# agreement with llhttp


class Heard:
    """What llhttp itself reports of a head."""

    def __init__(self, head: bytes) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.target = b""
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        self.method: bytes = parser.get_method()
        self.keeps_alive: bool = parser.should_keep_alive()

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


NAMES = st.text("abcdefXYZ-_!0", min_size=1, max_size=12).map(lambda name: b"n" + name.encode())
VALUES = st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte == 9 or 32 <= byte != 127))


@given(
    st.sampled_from([b"GET", b"POST", b"DELETE", b"OPTIONS", b"PATCH"]),
    st.text("abc/?=&%20~.", max_size=20).map(lambda text: b"/" + text.encode()),
    st.lists(st.tuples(NAMES, st.sampled_from([b":", b": ", b":\t "]), VALUES), max_size=8),
    st.sampled_from(
        [(), (b"Content-Length: 17",), (b"Transfer-Encoding: chunked",), (b"Connection: close",), (b"Connection: keep-alive",)]
    ),
)
def test_legal_heads_are_read_as_llhttp_reads_them(
    method: bytes, target: bytes, fields: list[tuple[bytes, bytes, bytes]], special: tuple[bytes, ...]
) -> None:
    lines = [b"".join(field) for field in fields]
    head = b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: a", *lines, *special, b"", b""])
    heard = Heard(head)
    request = parse_request(head, max_count=20, max_url_bytes=100)
    assert (request.method, request.target) == (heard.method, heard.target)
    assert request.lines[1:] == [b"Host: a", *lines, *(line for line in special if not line.startswith(b"Connection"))], (
        "untouched"
    )
    read = [(line.partition(b":")[0], line.partition(b":")[2].strip(b" \t")) for line in request.lines[1:]]
    assert read == [(name, value.strip(b" \t")) for name, value in heard.fields if name != b"Connection"]
    assert request.keep_alive is (b"Connection: close" not in special)


@given(st.binary(max_size=80))
def test_nothing_but_refused_comes_of_rubbish(rubbish: bytes) -> None:
    assume(b"\r\n\r\n" not in rubbish)
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + rubbish + b"\r\n\r\n"
    try:
        request = parse_request(head[: head.index(b"\r\n\r\n") + 4], max_count=20, max_url_bytes=100)
    except Refused as refusal:
        fault: Refused | None = refusal
    else:
        fault = None
        assert all(b"\n" not in line and b"\0" not in line for line in request.lines)
    assert fault is None or fault.meaning.status in (400, 417, 431, 501)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Content-Length can't be present with Transfer-Encoding", "length_and_chunked"),
        ("Invalid character in Content-Length", "bad_content_length"),
        ("Invalid method encountered", "bad_request_line"),
        ("Unexpected char in url host", "bad_target"),
        ("whatever", "bad_header"),
    ],
)
def test_the_parsers_words_become_ours(said: str, code: str) -> None:
    assert refusal_of(httptools.HttpParserError(said)).code == code


def test_a_method_has_a_bound_because_it_is_kept_in_keys() -> None:
    assert parsed(method=b"M" * 64).method == b"M" * 64
    assert refused(method=b"M" * 65) == "bad_request_line"


@pytest.mark.parametrize("zeros", [0, 1, 40, 63, 4300, 5000])
@pytest.mark.parametrize("digits", [b"", b"7", b"1" * 19, b"1" * 20, b"9" * 4301])
def test_a_length_of_too_many_digits_is_refused(zeros: int, digits: bytes) -> None:
    value = b"0" * zeros + digits
    if not value:
        return
    if len(digits) <= 19 and len(value) <= 64:
        assert parsed(b"Content-Length: " + value).length == int(value)
    else:
        assert refused(b"Content-Length: " + value) == "bad_content_length"
        assert refused(b"Content-Length: " + value, method=b"BREW") == "bad_content_length"


def test_an_origin_is_seen_and_goes_on() -> None:
    request = parsed(b"Origin: https://a.example ", b"X: 1", b"ORIGIN: null")
    assert request.origin == b"https://a.example, null"
    assert request.lines[2:] == [b"Origin: https://a.example ", b"X: 1", b"ORIGIN: null"]
    assert parsed().origin == b""
