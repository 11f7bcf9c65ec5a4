"""
Heads of requests and responses: strict in what is a head at all, untouched in all that a proxy need not know.

httptools (llhttp in its strict mode) judges each head, one fresh parser a head, so that no state of one message can leak
into the next; then its lines are split and only the fields of `fields.Field` are looked at. What llhttp refuses although
the RFC lets a proxy mend it (unknown methods, equal Content-Lengths, folded lines of a response) is mended first in `mending`.
"""

import re
from typing import Final

import httptools

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.wire.fields import KINDS, Field
from sidecar.traffic.wire.mending import mend_request, mend_response

UNTIL_CLOSE: Final = -1
CHUNKED: Final = -2
"""`length` of a body that ends with the connection, or with its last chunk; otherwise the number of its bytes."""

_HOST, _LENGTH, _CODING = int(Field.HOST), int(Field.CONTENT_LENGTH), int(Field.TRANSFER_ENCODING)
_CONNECTION, _HOP, _PROXY_AUTH = int(Field.CONNECTION), int(Field.HOP_BY_HOP), int(Field.PROXY_AUTHORIZATION)
_UPGRADE, _EXPECT, _VIA, _DATE = int(Field.UPGRADE), int(Field.EXPECT), int(Field.VIA), int(Field.DATE)
_PARENT, _STATE, _BAGGAGE = int(Field.TRACEPARENT), int(Field.TRACESTATE), int(Field.BAGGAGE)
_AGENT, _TASK = int(Field.AGENT_ID), int(Field.AGENT_TASK_ID)

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALID_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+;=\-]+)?(?::[0-9]{0,5})?")
_OWS = b" \t"


class _Nothing:
    """Listens to nothing: llhttp only judges."""

    __slots__ = ()


_NOTHING = _Nothing()


class _Seen:
    """
    What llhttp reports while it judges a head: for each field whether the wire looks at it.

    `specials` holds (kind, value, place) of those, `place` being the field's line in the head, counted from 1.
    """

    __slots__ = ("count", "specials")

    def __init__(self) -> None:
        self.count: list[None] = []
        self.specials: list[tuple[int, bytes, int]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        kind = KINDS[name]
        self.count.append(None)
        if kind:
            self.specials.append((kind, value, len(self.count)))


_RequestJudge = httptools.HttpRequestParser
_ResponseJudge = httptools.HttpResponseParser


class RequestHead:
    """
    A request's head, judged and taken apart; what a request does not have is a default of the class.

    `lines` are the request line and the field lines that go on to the upstream, without hop-by-hop, trace and identity
    fields; `host_at` is the Host line's place among them (0: none). `length` is the body's size, or `CHUNKED`.
    """

    method: bytes
    target: bytes
    is_1_1: bool
    keep_alive: bool
    lines: list[bytes]
    host = b""
    host_at = 0
    length = 0
    expects_continue = False
    upgrade = b""
    proxy_authorization = b""
    traceparents: tuple[bytes, ...] = ()
    tracestates: tuple[bytes, ...] = ()
    baggage: tuple[bytes, ...] = ()
    agent = b""
    task = b""
    via: tuple[bytes, ...] = ()


class ResponseHead:
    """
    A response's head, judged and taken apart.

    `status_line` is what follows the version (`200 OK`), byte for byte; `lines` are the status line and the field lines that
    go on to the client. `length` is the size that the body has on this connection (0 after HEAD), `declared` what
    Content-Length or Transfer-Encoding said, which HEAD and 304 pass on. A head that may go on as it came stands whole in
    `as_is`, but for the empty line at its end; then the other two are not filled in.
    """

    status: int
    status_line: bytes
    is_1_1 = True
    keep_alive = True
    as_is = b""
    lines: list[bytes]
    length: int
    declared = UNTIL_CLOSE
    has_date = False
    upgrade = b""

    def take_apart(self) -> None:
        """Fill in `status_line` and `lines` of a head that was read `as_is`, for somebody who wants to change them."""
        if self.as_is:
            self.lines = self.as_is[:-2].split(b"\r\n")
            self.status_line = self.lines[0][9:]
            self.as_is = b""


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
    if len(target) > max_url_bytes:
        raise Refused("url_length", f"the URL has {len(target)} bytes, {max_url_bytes} are allowed")
    if len(lines) - 1 > max_count:
        raise Refused("header_count", f"the head has {len(lines) - 1} fields, {max_count} are allowed")
    seen = _Seen()
    try:
        _RequestJudge(seen).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        lines = mend_request(lines)
        seen = _judge_mended(lines)
    request = RequestHead()
    request.method = method
    request.target = target
    request.is_1_1 = request.keep_alive = version == b"HTTP/1.1"
    _take_request_apart(request, lines, seen.specials)
    return request


def _judge_mended(lines: list[bytes]) -> _Seen:
    seen = _Seen()
    try:
        _RequestJudge(seen).feed_data(b"\r\n".join([b"POST / HTTP/1.1", *lines[1:], b"", b""]))
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as fault:
        raise refusal_of(fault) from None
    return seen


_KEPT = frozenset((_EXPECT, _VIA, _DATE))
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
            length = int(value)
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
            if kind in _KEPT:
                continue
        del lines[place - gone]
        gone += 1
    request.lines = lines
    request.length = length
    if hosts != 1 or not _VALID_HOST.fullmatch(request.host):
        _judge_hosts(request, hosts)
    if named and named != b"keep-alive":
        _obey_connection(request, tuple(token.strip(_OWS) for token in named.lower().split(b",")))
    elif request.upgrade:
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


def _obey_connection(request: RequestHead, named: tuple[bytes, ...]) -> None:
    if b"close" in named:
        request.keep_alive = False
    elif b"keep-alive" in named:
        request.keep_alive = True
    if b"upgrade" not in named or not request.is_1_1:
        request.upgrade = b""
    request.lines = without_named(request.lines, named, request)


_OWN_TOKENS = frozenset((b"", b"close", b"keep-alive", b"upgrade", b"te", b"host", b"content-length", b"transfer-encoding"))


def without_named(lines: list[bytes], named: tuple[bytes, ...], request: RequestHead | None = None) -> list[bytes]:
    """Take out the fields that Connection names (RFC 9110 section 7.6.1), except those that frame or address the message."""
    gone = frozenset(named) - _OWN_TOKENS
    if not gone:
        return lines
    if request is not None:
        _forget(request, gone)
    kept = [lines[0]]
    for place, line in enumerate(lines[1:], 1):
        if line[: line.index(b":")].lower() not in gone:
            kept.append(line)
        elif request is not None and place < request.host_at:
            request.host_at -= 1
    return kept


def _forget(request: RequestHead, gone: frozenset[bytes]) -> None:
    """Fields that were read off already are hop-by-hop too, once Connection names them."""
    if b"traceparent" in gone or b"tracestate" in gone:
        request.tracestates = ()
    if b"traceparent" in gone:
        request.traceparents = ()
    if b"baggage" in gone:
        request.baggage = ()
    if b"expect" in gone:
        request.expects_continue = False


def _coding(value: bytes, length: int) -> int:
    """Only `chunked` alone is understood; llhttp has refused Content-Length beside it already."""
    coding = value.lower()
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


def parse_response(head: bytes, *, method: bytes, max_count: int) -> ResponseHead:
    """
    Read a response head that ends with an empty line; `method` is the request's, because HEAD and CONNECT change the framing.

    Raises `UpstreamFailed("upstream_malformed")`.
    """
    response = _parse_common(head, max_count) if method != b"HEAD" else None
    if response is not None:
        return response
    lines = head.split(b"\r\n")
    del lines[-2:]
    start = lines[0]
    if start[:9] not in _VERSIONS or not start[9:12].isdigit() or start[12:13] not in _AFTER_STATUS or start[9:10] == b"0":
        raise UpstreamFailed("upstream_malformed", "the status line is not `HTTP/1.x NNN reason`")
    if len(lines) - 1 > max_count:
        raise UpstreamFailed("upstream_malformed", f"the response head has more than {max_count} fields")
    seen = _Seen()
    try:
        _ResponseJudge(seen).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as fault:
        lines = mend_response(lines, fault)
        seen = _judge_mended_response(lines)
    response = ResponseHead()
    response.status = int(start[9:12])
    response.status_line = start[9:]
    response.is_1_1 = start[7:8] == b"1"
    _take_response_apart(response, lines, seen.specials)
    _frame_response(response, method)
    return response


_UNCOMMON = re.compile(rb"\n(?:transfer-encoding|keep-alive|upgrade|te|proxy-connection)[ \t]*:")
_KEEP_ALIVE = b"\r\nconnection: keep-alive\r\n"


def _parse_common(head: bytes, max_count: int) -> ResponseHead | None:
    """
    Read a head of the commonest form without taking it apart: HTTP/1.1, a Content-Length, nothing but keep-alive to remove.

    None for any other head. It costs a third of the full way, and gives the same: a property test holds both together.
    """
    low = head.lower()
    at = low.find(b"\r\ncontent-length: ") + 18
    if at == 17 or head[:9] != b"HTTP/1.1 " or _UNCOMMON.search(low) or head.count(b"\n") > max_count + 2:
        return None
    length, status = head[at : head.find(b"\r\n", at)], head[9:12]
    if not length.isdigit() or not status.isdigit() or status < b"200" or status == b"204" or status == b"304":
        return None
    place = low.find(b"\r\nconnection:")
    if place >= 0:
        if low[place : place + 26] != _KEEP_ALIVE or low.find(b"\r\nconnection:", place + 1) >= 0:
            return None
        as_is = head[:place] + head[place + 24 : -2]
    else:
        as_is = head[:-2]
    try:
        _ResponseJudge(_NOTHING).feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    response = ResponseHead()
    response.status = int(status)
    response.as_is = as_is
    response.length = response.declared = int(length)
    response.has_date = b"\r\ndate:" in low
    return response


_VERSIONS = frozenset((b"HTTP/1.1 ", b"HTTP/1.0 "))
_AFTER_STATUS = frozenset((b" ", b""))


def _judge_mended_response(lines: list[bytes]) -> _Seen:
    seen = _Seen()
    try:
        _ResponseJudge(seen).feed_data(b"\r\n".join([*lines, b"", b""]))
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as fault:
        raise UpstreamFailed("upstream_malformed", str(fault)) from None
    return seen


def _take_response_apart(response: ResponseHead, lines: list[bytes], specials: list[tuple[int, bytes, int]]) -> None:
    named = b""
    gone = 0
    for kind, value, place in specials:
        if kind == _DATE:
            response.has_date = True
            continue
        if kind == _LENGTH:
            response.declared = int(value)
            continue
        if kind == _CODING:
            if value.strip(_OWS).lower() != b"chunked" or response.declared != UNTIL_CLOSE:
                raise UpstreamFailed("upstream_malformed", "the response's transfer coding is not `chunked`")
            response.declared = CHUNKED
            continue
        if kind == _CONNECTION:
            named = value if not named else named + b"," + value
        elif kind == _UPGRADE:
            response.upgrade = value.strip(_OWS)
        elif kind != _HOP:
            continue
        del lines[place - gone]
        gone += 1
    response.keep_alive = response.is_1_1
    if named and named != b"keep-alive":
        tokens = tuple(token.strip(_OWS) for token in named.lower().split(b","))
        response.keep_alive = b"close" not in tokens if response.is_1_1 else b"keep-alive" in tokens
        lines = without_named(lines, tokens)
    elif named:
        response.keep_alive = True
    response.lines = lines


def _frame_response(response: ResponseHead, method: bytes) -> None:
    """RFC 9112 section 6.3: HEAD, 1xx, 204 and 304 have no body, whatever their fields say."""
    status = response.status
    length = response.declared
    if status < 200 or status == 204 or status == 304 or method == b"HEAD":
        length = 0
    response.length = length
    if length == UNTIL_CLOSE or (length == CHUNKED and not response.is_1_1):
        response.keep_alive = False


def without_framing(lines: list[bytes]) -> list[bytes]:
    """Take out Content-Length and Transfer-Encoding, for a body that goes on in another framing than it came."""
    return [line for line in lines if KINDS[line[: line.find(b":")]] not in (_LENGTH, _CODING)]


def is_token(name: bytes) -> bool:
    """True for a method or field name as RFC 9110 section 5.6.2 defines a token."""
    return _TOKEN.fullmatch(name) is not None

def has_bare_line_feed(data: bytes, checked: int = 0) -> bool:
    """True when a line of an unfinished head ends with LF alone; the first `checked` bytes have been looked at."""
    start = max(checked - 1, 0)
    at = data.find(b"\n", start)
    while at >= 0:
        if at == 0 or data[at - 1] != 13:
            return True
        at = data.find(b"\n", at + 1)
    return False
