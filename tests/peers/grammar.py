"""RFC 9112 as regular expressions: what the sidecar sends has to match to the letter, whatever it was sent itself."""

import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELD = rb"%b:%b\r\n" % (TOKEN, _VALUE)
_REQUEST = re.compile(rb"%b [\x21-\x7e\x80-\xff]+ HTTP/1\.1\r\n((?:%b)*)\r\n" % (TOKEN, _FIELD))
_RESPONSE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [\t\x20-\x7e\x80-\xff]*\r\n((?:%b)*)\r\n" % _FIELD)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:[ \t]*chunked[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_CODED = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)
_SIZED = re.compile(rb"^content-length:", re.IGNORECASE | re.MULTILINE)
_HOST = re.compile(rb"^host:", re.IGNORECASE | re.MULTILINE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")


def requests_in(raw: bytes) -> int:
    """Read whole requests from the stream of one connection, the last of which may be cut short; returns how many."""
    count = 0
    while raw:
        match = _REQUEST.match(raw)
        assert match, f"no request: {raw[:500]!r}"
        assert len(_HOST.findall(match[1])) == 1, f"one Host is needed: {match[0]!r}"
        raw = _without_body(match[1], raw[match.end() :], has_body=True)
        count += 1
    return count


def responses_in(raw: bytes) -> int:
    """The same for responses, none of them to HEAD; a body that ends with the connection takes the rest."""
    count = 0
    while raw:
        match = _RESPONSE.match(raw)
        assert match, f"no response: {raw[:500]!r}"
        status, rest = int(match[1]), raw[match.end() :]
        has_body = status >= 200 and status not in (204, 304)
        if has_body and not _SIZED.search(match[2]) and not _CODED.search(match[2]):
            return count + 1
        raw = _without_body(match[2], rest, has_body=has_body)
        count += 1
    return count


def _without_body(fields: bytes, rest: bytes, *, has_body: bool) -> bytes:
    lengths, codings = _SIZED.findall(fields), _CODED.findall(fields)
    assert len(lengths) + len(codings) <= 1, f"ambiguous framing: {fields!r}"
    if codings:
        assert _CHUNKED.search(fields), fields
        return _without_chunks(rest) if has_body else rest
    if lengths:
        length = _LENGTH.search(fields)
        assert length, fields
        return rest[int(length[1]) :] if has_body else rest
    return rest


def _without_chunks(rest: bytes) -> bytes:
    while rest:
        match = _CHUNK.match(rest)
        if match is None:
            assert b"\r\n" not in rest[:100], f"no chunk: {rest[:100]!r}"
            return b""
        size = int(match[1], 16)
        rest = rest[match.end() :]
        if size == 0:
            trailers = re.compile(rb"((?:%b)*)\r\n" % _FIELD).match(rest)
            return rest[trailers.end() :] if trailers else b""
        assert len(rest) <= size or b"\r\n".startswith(rest[size : size + 2]), f"no CRLF after a chunk: {rest[:100]!r}"
        rest = rest[size + 2 :]
    return b""
