"""
Bodies in motion: where a message ends, found without holding any of it.

Each body has two ways to be fed. `relay(data)` returns the bytes to write for a peer that gets the body in the same
framing; `payload(data)` returns the content alone, for stages and for peers that get another framing. After either,
`done` says whether the body has ended, and `rest` holds what came behind it. `size` counts content bytes.

Chunks are judged strictly (RFC 9112 section 7.1) and leave re-framed: extensions are dropped, sizes are canonical, and
trailers stand in `trailers` and behind the last chunk. Where the bytes that came are canonical already they leave as they are.
"""

import re

from sidecar.model.errors import Refused

_HEX = b"0123456789abcdefABCDEF"
_MAX_SIZE_LINE_BYTES = 4 * 1024 + 32
"""One chunk's size and extensions; hardly anybody uses extensions, and without a bound they are free work (CVE-2023-39326)."""
_MAX_EXTENSIONS_BYTES = 64 * 1024
"""All extensions of one body together."""
_MAX_TRAILER_BYTES = 16 * 1024
_LINE_COST_BYTES = 32
"""What a trailer costs beside its bytes (as in RFC 9113 section 6.5.2), whether it is kept or not: it bounds their number."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_TRAILERS = frozenset(
    (b"content-length", b"transfer-encoding", b"host", b"trailer", b"te", b"connection", b"upgrade", b"keep-alive",
     b"proxy-connection", b"authorization", b"proxy-authorization", b"proxy-authenticate", b"www-authenticate", b"cookie",
     b"set-cookie", b"content-encoding", b"content-type", b"content-range", b"cache-control", b"pragma", b"expect",
     b"max-forwards", b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range",
     b"age", b"date", b"expires", b"location", b"retry-after", b"vary", b"via", b"forwarded",
     b"traceparent", b"tracestate", b"baggage", b"x-agent-id", b"x-agent-task-id")
)  # fmt: skip
"""
Fields that must not come as trailers (RFC 9110 section 6.5.1): framing, routing, authentication, modifiers of a request,
control data of a response, what its content is, and who asks.
"""


class LengthBody:
    """A body of a known number of bytes."""

    __slots__ = ("_left", "done", "rest", "size")

    trailers: tuple[bytes, ...] = ()

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.rest = b""
        self.size = 0

    def relay(self, data: bytes) -> bytes:
        count = len(data)
        left = self._left
        if count > left:
            self.rest = data[left:]
            data = data[:left]
            count = left
        self._left = left - count
        self.size += count
        self.done = left == count
        return data

    payload = relay


class EndlessBody:
    """A body that ends with the connection (RFC 9112 section 6.3, rule 8)."""

    __slots__ = ("done", "rest", "size")

    trailers: tuple[bytes, ...] = ()

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.size = 0

    def relay(self, data: bytes) -> bytes:
        self.size += len(data)
        return data

    payload = relay


class ChunkedBody:
    """
    A chunked body; raises `Refused("bad_chunk")` at the first byte that RFC 9112 does not allow.

    `hop` are the fields that Connection names, in lower case: as trailers they go no further either (RFC 9110 section 7.6.1).
    """

    __slots__ = ("_extensions", "_hop", "_left", "_line", "_part", "_trailer_bytes", "done", "rest", "size", "trailers")

    def __init__(self, hop: frozenset[bytes] = frozenset()) -> None:
        self._hop = hop
        self._part = _SIZE
        self._left = 0
        self._line = b""
        self._extensions = self._trailer_bytes = 0
        self.trailers: tuple[bytes, ...] = ()
        self.done = False
        self.rest = b""
        self.size = 0

    def relay(self, data: bytes) -> bytes:
        if self._part or self._line:  # in the middle of a chunk, of its end, or of a line
            return self._reframed(data)
        # Whole canonical chunks leave as they are; they are counted off here, in one function, because nearly all of them
        # come alone, to a sleeping proxy, where every further function is cold.
        start = 0
        total = len(data)
        while start < total:
            eol = data.find(b"\r\n", start, start + 10)
            if eol <= start:
                break
            digits = data[start:eol]
            if digits.translate(None, _HEX):
                break
            size = int(digits, 16)
            end = eol + 4 + size
            if size == 0 or end > total or data[end - 2 : end] != b"\r\n":
                break
            self.size += size
            start = end
        else:
            return data
        return data[:start] + self._reframed(data[start:])  # an incomplete, unusual or last chunk

    def _reframed(self, data: bytes) -> bytes:
        content = self.payload(data)
        framed = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
        return framed + self.last_chunk() if self.done else framed

    def last_chunk(self) -> bytes:
        """The bytes that end the body, trailers included."""
        if not self.trailers:
            return b"0\r\n\r\n"
        return b"0\r\n" + b"".join(line + b"\r\n" for line in self.trailers) + b"\r\n"

    def payload(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        at, total = 0, len(data)
        while at < total and not self.done:
            if self._part == _CONTENT:
                piece = data[at : at + self._left]
                count = len(piece)
                at += count
                self._left -= count
                self.size += count
                pieces.append(piece)
                if not self._left:
                    self._part = _CONTENT_END
            else:
                at = self._read_line(data, at)
        if self.done:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_line(self, data: bytes, at: int) -> int:
        """
        Take the line at `at` (or what is there of it); returns where the next one begins.

        What stands behind it is not copied: with a chunk for each byte, that would cost the square of what came.
        """
        eol = data.find(b"\n", at)
        line = self._line + (data[at:eol] if eol >= 0 else data[at:])
        limit = _MAX_TRAILER_BYTES if self._part == _TRAILER else _MAX_SIZE_LINE_BYTES if self._part == _SIZE else 2
        if len(line) > limit:
            raise Refused("bad_chunk", "a chunk's size line or trailer is too long")
        if eol < 0:
            if self._part == _CONTENT_END and line != b"\r":
                raise Refused("bad_chunk", "a chunk does not end with CRLF")
            self._line = line
            return len(data)
        self._line = b""
        if line[-1:] != b"\r":
            raise Refused("bad_chunk", "a line ends with LF alone")
        self._obey(line[:-1])
        return eol + 1

    def _obey(self, line: bytes) -> None:
        if self._part == _SIZE:
            self._left = _size_of(line)
            self._extensions += max(len(line) - 17, 0)
            if self._extensions > _MAX_EXTENSIONS_BYTES:
                raise Refused("bad_chunk", f"the chunk extensions have more than {_MAX_EXTENSIONS_BYTES} bytes")
            self._part = _CONTENT if self._left else _TRAILER
        elif self._part == _CONTENT_END:
            if line:
                raise Refused("bad_chunk", "a chunk is longer than its size")
            self._part = _SIZE
        elif line:
            self._keep_trailer(line)
        else:
            self.done = True

    def _keep_trailer(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN_BYTES) or _CONTROL.search(value):
            raise Refused("bad_chunk", "a trailer is not a header field")
        self._trailer_bytes += len(line) + _LINE_COST_BYTES
        if self._trailer_bytes > _MAX_TRAILER_BYTES:
            raise Refused("bad_chunk", f"the trailers have more than {_MAX_TRAILER_BYTES} bytes")
        name = name.lower()
        if name not in _NOT_IN_TRAILERS and name not in self._hop:
            self.trailers += (line,)


def content_of(relayed: bytes) -> bytes:
    """The content of what `relay` gave: whole chunks in their canonical form, the last one and its trailers maybe behind them."""
    eol = relayed.find(b"\r\n")
    size = int(relayed[:eol] or b"0", 16)
    end = eol + 2 + size
    if end + 2 == len(relayed):
        return relayed[eol + 2 : end]  # one chunk, which is what a stream nearly always brings
    pieces: list[bytes] = []
    while size:
        pieces.append(relayed[eol + 2 : end])
        at = end + 2
        eol = relayed.find(b"\r\n", at)
        size = int(relayed[at:eol] or b"0", 16)
        end = eol + 2 + size
    return b"".join(pieces)


def reframed(content: bytes, relayed: bytes) -> bytes:
    """Put other content in the place of that in `relayed`, which is as for `content_of`; the end of the body stays as it is."""
    at = 0
    while at < len(relayed):
        eol = relayed.find(b"\r\n", at)
        size = int(relayed[at:eol], 16)
        if not size:
            break
        at = eol + 4 + size
    return (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + relayed[at:]


_SIZE, _CONTENT, _CONTENT_END, _TRAILER = range(4)
_TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _size_of(line: bytes) -> int:
    digits, semicolon, extension = line.partition(b";")
    if semicolon:
        digits = digits.rstrip(b" \t")  # RFC 9112 section 7.1.1: BWS before an extension
        if _CONTROL.search(extension):
            raise Refused("bad_chunk", "a chunk extension has a control character")
    if not digits or len(digits) > 16 or digits.translate(None, _HEX):
        raise Refused("bad_chunk", "a chunk's size is not a hexadecimal number")
    size = int(digits, 16)
    if size >= 2**63:
        raise Refused("bad_chunk", "a chunk's size is more than 63 bits can count")
    return size


Body = LengthBody | EndlessBody | ChunkedBody
