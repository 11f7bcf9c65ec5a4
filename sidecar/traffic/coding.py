"""
Content codings: a decoded copy of a body that passes in its original bytes (RFC 9110 section 8.4).

A decoder is incremental and bounded: what a few bytes can blow up to (a bomb) ends the copy, never the call. It can be asked for
so much at a time, as what one read from the network brings may be twenty megabytes that mean no harm. `identity` has no decoder.
"""

import re
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST_DECODED_BYTES = 64 * 1024 * 1024
MOST_RATIO = 100
"""Decoded to coded bytes; what is below `_HARMLESS_BYTES` may have any."""
_HARMLESS_BYTES = 1024 * 1024
_STEP_BYTES = 256 * 1024
_MOST_MEMBERS = 1024
_MOST_WHOLE_BYTES = 4 * 1024 * 1024
_MOST_OF_FASTER = {"br": 2 * _MOST_WHOLE_BYTES, "zstd": 4 * _MOST_WHOLE_BYTES}
"""Of a request, which is decoded in one go: all other calls wait for what takes gzip 15 ms, the others hardly more."""


class Undecodable(Exception):
    """The copy ends here; `reason` is `too_large`, `bomb` or `broken`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Coding(Protocol):
    """One stream of one coding: at most `most` bytes a call, and whether there is more to be had without further input."""

    def more(self, data: bytes, most: int) -> tuple[bytes, bool]: ...


class _Zlib:
    """gzip and deflate; a gzip body may have several members (RFC 1952 section 2.2)."""

    __slots__ = ("_inflate", "_left", "_members", "_wbits")

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inflate = zlib.decompressobj(wbits)
        self._left = b""
        self._members = 1

    def more(self, data: bytes, most: int) -> tuple[bytes, bool]:
        data = self._left + data
        self._left = b""
        if self._inflate.eof:
            if not data.lstrip(b"\0"):
                return b"", False
            self._members = _next(self._members)
            self._inflate = zlib.decompressobj(self._wbits)
        out = self._inflate.decompress(data, most)
        self._left = self._inflate.unconsumed_tail or self._inflate.unused_data
        return out, bool(self._left) or len(out) == most


class _Deflate:
    """`deflate` means zlib (RFC 1950), but some send the bare stream (RFC 1951): the first two bytes tell."""

    __slots__ = ("_first", "_inner")

    def __init__(self) -> None:
        self._first = b""
        self._inner: _Zlib | None = None

    def more(self, data: bytes, most: int) -> tuple[bytes, bool]:
        if self._inner is None:
            self._first += data
            if len(self._first) < 2:
                return b"", False
            has_header = self._first[0] & 0x0F == 8 and int.from_bytes(self._first[:2], "big") % 31 == 0
            self._inner = _Zlib(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
            data, self._first = self._first, b""
        return self._inner.more(data, most)


class _Brotli:
    __slots__ = ("_inflate", "_waiting")

    def __init__(self) -> None:
        self._inflate = brotli.Decompressor()
        self._waiting = b""

    def more(self, data: bytes, most: int) -> tuple[bytes, bool]:
        if self._inflate.is_finished():
            return b"", False
        self._waiting += data
        if self._inflate.can_accept_more_data():
            data, self._waiting = self._waiting, b""
        else:
            data = b""  # what it has taken already still gives more
        out = bytes(self._inflate.process(data, output_buffer_limit=most))
        return out, bool(out)


_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}


class _Zstd:
    """Frames one after the other (RFC 8878 section 3); the window is bounded as browsers bound it (RFC 9659)."""

    __slots__ = ("_frames", "_inflate")

    def __init__(self) -> None:
        self._inflate = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        self._frames = 1

    def more(self, data: bytes, most: int) -> tuple[bytes, bool]:
        if self._inflate.eof:
            data = self._inflate.unused_data + data
            if not data:
                return b"", False
            self._frames = _next(self._frames)
            self._inflate = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        elif not data and self._inflate.needs_input:
            return b"", False
        out = self._inflate.decompress(data, most)
        return out, bool(self._inflate.unused_data) if self._inflate.eof else not self._inflate.needs_input


def _next(members: int) -> int:
    """Count one more member; raises `Undecodable` for what nobody makes who means well: each of them copies what follows it."""
    if members >= _MOST_MEMBERS:
        raise Undecodable("bomb")
    return members + 1


_CODINGS: dict[str, Callable[[], _Coding]] = {
    "gzip": lambda: _Zlib(16 + zlib.MAX_WBITS),
    "x-gzip": lambda: _Zlib(16 + zlib.MAX_WBITS),
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}

_FAULTS: tuple[type[Exception], ...] = (zlib.error, brotli.error, zstd.ZstdError, EOFError)


class Decoder:
    """
    Decodes one body; `coded_bytes` and `decoded_bytes` are what has gone in and come out.

    `behind_bytes` is 0 when all that came has been decoded, else an upper bound of what has not.
    """

    __slots__ = ("_coding", "behind_bytes", "coded_bytes", "decoded_bytes")

    def __init__(self, coding: _Coding) -> None:
        self._coding = coding
        self.coded_bytes = self.decoded_bytes = self.behind_bytes = 0

    def feed(self, data: bytes, most_bytes: int = MOST_DECODED_BYTES) -> list[bytes]:
        """
        Return what these bytes give, in pieces of some 256 KiB (Brotli's may be twice as long).

        When they are `most_bytes` or more, the rest is left for the next time, which may bring no further bytes. Raises
        `Undecodable`, after which it is of no use.
        """
        self.coded_bytes += len(data)
        self.behind_bytes += len(data)
        pieces: list[bytes] = []
        most = self.decoded_bytes + most_bytes
        is_more = self.behind_bytes > 0
        try:
            while is_more and self.decoded_bytes < most:
                piece, is_more = self._coding.more(data, _STEP_BYTES)
                data = b""
                if piece:
                    self.decoded_bytes += len(piece)
                    self._judge()
                    pieces.append(piece)
        except _FAULTS:
            raise Undecodable("broken") from None
        if not is_more:
            self.behind_bytes = 0
        return pieces

    def _judge(self) -> None:
        if self.decoded_bytes > MOST_DECODED_BYTES:
            raise Undecodable("too_large")
        if self.decoded_bytes > _HARMLESS_BYTES and self.decoded_bytes > MOST_RATIO * self.coded_bytes:
            raise Undecodable("bomb")


def is_identity(coding: str) -> bool:
    """True where the field Content-Encoding says that nothing has been done to the body."""
    return coding.strip().lower() in ("", "identity")


def decoder_of(coding: str) -> Decoder | None:
    """Return a decoder for the value of a Content-Encoding field, None for one that we cannot read (two of them, too)."""
    make = _CODINGS.get(coding.strip().lower())
    return Decoder(make()) if make is not None else None


def decoded(coding: str, body: bytes) -> bytes:
    """Decode a whole body; raises `Undecodable`, with `unknown_coding` for a coding that we cannot read."""
    if is_identity(coding):
        return body
    decoder = decoder_of(coding)
    if decoder is None:
        raise Undecodable("unknown_coding")
    most = _MOST_OF_FASTER.get(coding.strip().lower(), _MOST_WHOLE_BYTES)
    pieces = decoder.feed(body, most)
    if decoder.decoded_bytes > most or (decoder.behind_bytes and decoder.feed(b"", 1)):
        raise Undecodable("too_large")
    return b"".join(pieces)


_MEMBER = re.compile(r"\s*([^\s;,]+)")


def narrowed(accepted: str) -> str:
    """
    Return the value of Accept-Encoding without the codings that we cannot read; `identity` where none is left.

    `*` stands for any (RFC 9110 section 12.5.3), so it goes, but for `*;q=0`. Who refuses `identity`, and would be left with
    nothing, keeps all: an answer that nobody here can read is better than none.
    """
    kept: list[str] = []
    is_served = takes_identity(accepted)
    members = accepted.split(",")
    for member in members:
        name = _name(member)
        if name in _CODINGS or name == "identity" or (name == "*" and _is_refused(member)):
            kept.append(member.strip())
            is_served = is_served or (name in _CODINGS and not _is_refused(member))
    return accepted if len(kept) == len(members) or not is_served else ", ".join(kept) or "identity"


def takes_identity(accepted: str) -> bool:
    """Whether the value of Accept-Encoding allows an answer without any coding: unless it refuses that, alone or with `*`."""
    refused = {_name(member): _is_refused(member) for member in accepted.split(",")}
    return not refused.get("identity", refused.get("*", False))


def _name(member: str) -> str:
    found = _MEMBER.match(member)
    return found[1].lower() if found is not None else ""


def _is_refused(member: str) -> bool:
    quality = member.partition(";")[2].replace(" ", "").lower()
    return quality.startswith("q=0") and not quality[3:].strip(".0")
