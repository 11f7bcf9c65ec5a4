"""The head of a request: read strictly, refused where it is ambiguous (RFC 9112 sections 2, 3, 5 and 6)."""

import re

import httptools

from sidecar.model.errors import Refused
from sidecar.traffic.wire.fields import Field
from sidecar.traffic.wire.head import CHUNKED, Seen, has_bare_line_feed, hop_by_hop, is_endless, tokens
from sidecar.traffic.wire.mending import mend_request

_HOST, _LENGTH, _CODING = int(Field.HOST), int(Field.CONTENT_LENGTH), int(Field.TRANSFER_ENCODING)
_CONNECTION, _PROXY_AUTH = int(Field.CONNECTION), int(Field.PROXY_AUTHORIZATION)
_UPGRADE, _EXPECT, _VIA, _DATE = int(Field.UPGRADE), int(Field.EXPECT), int(Field.VIA), int(Field.DATE)
_PARENT, _STATE, _BAGGAGE = int(Field.TRACEPARENT), int(Field.TRACESTATE), int(Field.BAGGAGE)
_AGENT, _TASK, _ORIGIN = int(Field.AGENT_ID), int(Field.AGENT_TASK_ID), int(Field.ORIGIN)

_VALID_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+;=\-]+)?(?::[0-9]{0,5})?")
_MOST_METHOD_BYTES = 64
"""The longest registered one has 17 (UPDATEREDIRECTREF); a method is part of keys that are kept."""
_OWS = b" \t"
_RequestJudge = httptools.HttpRequestParser


class RequestHead:
    """
    A request's head, judged and taken apart; what a request does not have is a default of the class.

    `lines` are the request line and the field lines that go on to the upstream, without hop-by-hop, trace and identity
    fields; `host_at` is the Host line's place among them (0: none). `length` is the body's size, or `CHUNKED`. `hop` are the
    fields that Connection names, for the trailers.
    """

    method: bytes
    target: bytes
    is_1_1: bool
    keep_alive: bool
    lines: list[bytes]
    host = b""
    host_at = 0
    origin = b""
    length = 0
    expects_continue = False
    upgrade = b""
    hop: frozenset[bytes] = frozenset()
    proxy_authorization = b""
    traceparents: tuple[bytes, ...] = ()
    tracestates: tuple[bytes, ...] = ()
    baggage: tuple[bytes, ...] = ()
    agent = b""
    task = b""
    via: tuple[bytes, ...] = ()


def parse_request(head: bytes, *, max_count: int, max_url_bytes: int) -> RequestHead:
    """
    Read a request head that ends with an empty line.

    Raises `Refused` with the code that names what is wrong; after any of these the connection's framing is not to be trusted.
    """
    lines = head.split(b"\r\n")
    del lines[-2:]
    try:
        method, target, version = lines[0].split(b" ")
    except ValueError:
        raise _bad_request_line(lines[0]) from None
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        raise _bad_version(method, version)
    if len(method) > _MOST_METHOD_BYTES:
        raise Refused("bad_request_line", f"the method has {len(method)} bytes, {_MOST_METHOD_BYTES} are allowed")
    if len(target) > max_url_bytes:
        raise Refused("url_length", f"the URL has {len(target)} bytes, {max_url_bytes} are allowed")
    if len(lines) - 1 > max_count:
        raise Refused("header_count", f"the head has {len(lines) - 1} fields, {max_count} are allowed")
    seen = Seen()
    try:
        _RequestJudge(seen).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        lines = mend_request(lines)
        seen = _judge_mended(lines)
    if len(seen.count) != len(lines) - 1:
        # llhttp lets a request line end with LF alone, and takes what follows for a field: its lines are not ours.
        raise Refused("bad_request_line", "the request line ends with LF alone")
    request = RequestHead()
    request.method = method
    request.target = target
    request.is_1_1 = request.keep_alive = version == b"HTTP/1.1"
    _take_request_apart(request, lines, seen.specials)
    if method == b"CONNECT":
        # Whatever follows belongs to the tunnel (RFC 9110 section 9.3.6). Where there is none, it may be there or under way all
        # the same, and must not be taken for another request: any answer but 2xx ends the connection (RFC 9931).
        request.keep_alive = False
        request.length = 0
        request.expects_continue = False
    return request


def check_begun(data: bytes, checked: int, *, max_bytes: int, max_url_bytes: int) -> None:
    """Raise `Refused` where what there is of a head cannot become a good one; its first `checked` bytes were asked before."""
    if data[:1] == b"\x16":
        raise Refused("tls_to_plain_port", "the first byte is that of a TLS handshake")
    if len(data) > max_bytes:
        code = "header_bytes" if b"\r\n" in data[:max_url_bytes] else "url_length"
        raise Refused(code, f"the request head has more than {max_bytes} bytes")
    if has_bare_line_feed(data, checked):
        raise Refused("bad_header", "a line ends with LF alone")


def too_long(length: int, limit: int) -> Refused:
    """The refusal of a body by the length that its head declares."""
    return Refused("body_bytes", f"the body has {length} bytes, {limit} are allowed")


def _judge_mended(lines: list[bytes]) -> Seen:
    seen = Seen()
    try:
        _RequestJudge(seen).feed_data(b"\r\n".join([b"POST / HTTP/1.1", *lines[1:], b"", b""]))
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as fault:
        raise refusal_of(fault) from None
    return seen


_KEPT = frozenset((_EXPECT, _VIA, _DATE, _ORIGIN))
"""Rare fields that are looked at and passed on all the same."""


def _take_request_apart(request: RequestHead, lines: list[bytes], specials: list[tuple[int, bytes, int]]) -> None:
    named = b""
    hosts = gone = length = 0
    for kind, value, place in specials:
        if kind == _HOST:
            hosts += 1
            request.host = value.strip(_OWS)
            request.host_at = place - gone
            continue
        if kind == _LENGTH:
            if is_endless(value):
                raise Refused("bad_content_length", "Content-Length has too many digits")
            length = int(value)
            if not length and value != b"0":
                at = place - gone  # every other number is written anew as well (request.py)
                lines[at] = lines[at].partition(b":")[0] + b": 0"
            continue
        if kind == _CODING:
            length = _coding(value, length)
            continue
        if kind == _CONNECTION:
            named = value if not named else named + b"," + value
        elif kind == _PARENT:
            request.traceparents += (value,)
        else:
            _read_rare(request, kind, value)
            if kind in _KEPT and (kind != _EXPECT or request.is_1_1):
                continue  # of HTTP/1.0 an expectation is ignored (RFC 9110 section 10.1.1), so it must not go on as one of 1.1
        del lines[place - gone]
        gone += 1
    request.lines = lines
    request.length = length
    if hosts != 1 or not _VALID_HOST.fullmatch(request.host):
        _judge_hosts(request, hosts)
    if named and named != b"keep-alive":
        _obey_connection(request, tokens(named))
    else:
        if named:
            request.keep_alive = True
        request.upgrade = b""
    if length == CHUNKED and not request.is_1_1:
        request.keep_alive = False  # RFC 9112 section 6.1: the framing of such a message is not to be trusted


def _read_rare(request: RequestHead, kind: int, value: bytes) -> None:
    value = value.strip(_OWS)
    if kind == _STATE:
        request.tracestates += (value,)
    elif kind == _BAGGAGE:
        request.baggage += (value,)
    elif kind == _AGENT:
        request.agent = value
    elif kind == _TASK:
        request.task = value
    elif kind == _PROXY_AUTH:
        request.proxy_authorization = value if not request.proxy_authorization else request.proxy_authorization + b", " + value
    elif kind == _UPGRADE:
        request.upgrade = value if not request.upgrade else request.upgrade + b", " + value
    elif kind == _VIA:
        request.via += (value,)
    elif kind == _ORIGIN:
        request.origin = value if not request.origin else request.origin + b", " + value
    elif kind == _EXPECT:
        if value.lower() != b"100-continue":
            raise Refused("bad_expect", "the expectation is not 100-continue")
        request.expects_continue = request.is_1_1


def _judge_hosts(request: RequestHead, hosts: int) -> None:
    if hosts > 1:
        raise Refused("bad_host", "the Host header field is repeated")
    if hosts == 1:
        raise Refused("bad_host", "the Host header field is not a host with an optional port")
    if request.is_1_1:
        raise Refused("bad_host", "the Host header field is missing")


def _obey_connection(request: RequestHead, named: frozenset[bytes]) -> None:
    if b"close" in named:
        request.keep_alive = False
    elif b"keep-alive" in named:
        request.keep_alive = True
    if b"upgrade" not in named or not request.is_1_1:
        request.upgrade = b""
    elif b"h2c" in request.upgrade.lower():
        request.upgrade = _without_h2c(request.upgrade)
    gone = hop_by_hop(named)
    if gone:
        request.hop = gone
        _take_out(request, gone)


def _without_h2c(upgrade: bytes) -> bytes:
    """HTTP/2 in clear would carry requests past the policies (and RFC 9113 has given its upgrade up): it is not offered on."""
    protocols = [protocol.strip(_OWS) for protocol in upgrade.split(b",")]
    return b", ".join(protocol for protocol in protocols if protocol.lower() != b"h2c")


def _take_out(request: RequestHead, gone: frozenset[bytes]) -> None:
    """Remove the fields that Connection names, those that were read off already too."""
    if b"traceparent" in gone or b"tracestate" in gone:
        request.tracestates = ()
    if b"traceparent" in gone:
        request.traceparents = ()
    if b"baggage" in gone:
        request.baggage = ()
    if b"expect" in gone:
        request.expects_continue = False
    kept = [request.lines[0]]
    for place, line in enumerate(request.lines[1:], 1):
        if line[: line.index(b":")].lower() not in gone:
            kept.append(line)
        elif place < request.host_at:
            request.host_at -= 1
    request.lines = kept


def _coding(value: bytes, length: int) -> int:
    """Only `chunked` alone is understood; llhttp has refused Content-Length beside it already."""
    coding = value.strip(_OWS).lower()
    if coding == b"chunked" and length == 0:
        return CHUNKED
    if coding == b"chunked":
        raise Refused("bad_transfer_encoding", "Transfer-Encoding: chunked stands there twice")
    if coding.endswith(b"chunked"):
        raise Refused("unknown_transfer_coding", "another transfer coding stands before chunked")
    raise Refused("bad_transfer_encoding", "the last transfer coding is not chunked")


def _bad_request_line(line: bytes) -> Refused:
    if line[:1] == b"\x16":
        return Refused("tls_to_plain_port", "the first byte is that of a TLS handshake")
    if line.count(b" ") == 1:
        return Refused("http_version", "the request line has no version (HTTP/0.9)")
    return Refused("bad_request_line", "the request line has not exactly three parts")


def _bad_version(method: bytes, version: bytes) -> Refused:
    if method == b"PRI":
        return Refused("http2_preface", "the client began with the HTTP/2 preface")
    if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version):
        return Refused("http_version", f"the version is {version.decode()}")
    return Refused("bad_request_line", "the request line does not end with HTTP/1.1")


_REASONS: tuple[tuple[str, str], ...] = (
    ("Transfer-Encoding can't be present with Content-Length", "length_and_chunked"),
    ("Content-Length can't be present with Transfer-Encoding", "length_and_chunked"),
    ("Content-Length", "bad_content_length"),
    ("Transfer-Encoding", "bad_transfer_encoding"),
    ("method", "bad_request_line"),
    ("HTTP/", "bad_request_line"),
    ("version", "bad_request_line"),
    ("url", "bad_target"),
    ("URL", "bad_target"),
)


def refusal_of(fault: httptools.HttpParserError) -> Refused:
    """Translate llhttp's word for what is wrong with a request into ours."""
    said = str(fault)
    for part, code in _REASONS:
        if part in said:
            return Refused(code, said)
    return Refused("bad_header", said)
