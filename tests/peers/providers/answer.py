"""What a provider answers: a status, fields, and a body in pieces, each of which may have to be heard before the next is sent."""

import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Fields = tuple[tuple[str, str], ...]
Piece = tuple[bytes, int]
"""Bytes, and how many things the application gets to hear by them."""

PRIMES = (1, 2, 3, 5, 7, 11, 13)


@dataclass(frozen=True)
class Answer:
    """
    One response.

    `pieces` are sent one by one where the body `streams`: as chunks, or, by `framing`, with their `length` told before, or until the
    connection is `close`d; else they are one body with its length. `is_cut`: the connection ends before the last chunk, or before
    the last byte; `is_reset`: with a reset. `codings` are those that the provider can write, the best first: it is compressed in
    the first of them that the client accepts.
    """

    status: int
    content_type: str
    pieces: tuple[Piece, ...]
    fields: Fields = ()
    streams: bool = False
    framing: str = "chunked"
    is_cut: bool = False
    is_reset: bool = False
    codings: tuple[str, ...] = ()

    def head(self, length: int, coding: str) -> bytes:
        """The response head."""
        lines = [f"HTTP/1.1 {self.status} {'OK' if self.status == 200 else 'No'}", f"Content-Type: {self.content_type}"]
        lines.append("Date: Sat, 21 Nov 2026 08:00:00 GMT")
        lines += [f"{name}: {value}" for name, value in self.fields]
        if coding:
            lines += [f"Content-Encoding: {coding}", "Vary: Accept-Encoding"]
        if not self.streams or self.framing == "length":
            lines.append(f"Content-Length: {length}")
        else:
            lines.append("Transfer-Encoding: chunked" if self.framing == "chunked" else "Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()

    def coding(self, accepted: str) -> str:
        """The content coding for a client that accepts these, "" for none."""
        offered = {each.partition(";")[0].strip().lower() for each in accepted.split(",")}
        return next((each for each in self.codings if each in offered), "")

    def coded(self, coding: str) -> Iterator[Piece]:
        """The pieces in this coding, each decodable when it has come."""
        if not coding:
            yield from self.pieces
            return
        write, flush, finish = _CODINGS[coding]()
        for data, heard in self.pieces:
            yield write(data) + flush(), heard
        yield finish(), 0

    @property
    def body(self) -> bytes:
        """All pieces, as they are before they are coded."""
        return b"".join(data for data, _ in self.pieces)


Writer = tuple[Callable[[bytes], bytes], Callable[[], bytes], Callable[[], bytes]]
"""Takes bytes, gives out what it has so far, and ends."""


def _gzip() -> Writer:
    it = zlib.compressobj(wbits=31)
    return it.compress, lambda: it.flush(zlib.Z_SYNC_FLUSH), it.flush


def _brotli() -> Writer:
    it = brotli.Compressor()
    return it.process, it.flush, it.finish


def _zstd() -> Writer:
    it = zstd.ZstdCompressor()
    return it.compress, lambda: it.flush(it.FLUSH_BLOCK), it.flush


_CODINGS: dict[str, Callable[[], Writer]] = {"gzip": _gzip, "br": _brotli, "zstd": _zstd}
USUAL = ("br", "gzip")

AnswerTo = Callable[[Any], Answer]
"""Makes an answer of the request's JSON."""


def dumped(value: Any) -> bytes:
    """JSON as most providers write it: without spaces, letters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def whole(value: Any, *, status: int = 200, fields: Fields = (), codings: tuple[str, ...] = USUAL) -> Answer:
    """An answer in one piece."""
    return Answer(status, "application/json", ((dumped(value), 0),), fields, codings=codings)


def failed(status: int, value: Any, *fields: tuple[str, str]) -> AnswerTo:
    """An error, whatever was asked."""
    return lambda _: whole(value, status=status, fields=fields)


def event(value: Any, name: str = "") -> bytes:
    """A server-sent event; a text goes out as it is."""
    data = value.encode() if isinstance(value, str) else dumped(value)
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"


def streamed(pieces: Sequence[Piece], *, content_type: str = "text/event-stream; charset=utf-8", fields: Fields = ()) -> Answer:
    """An answer that streams."""
    return Answer(200, content_type, tuple(pieces), fields, streams=True)


def oddly(answer_to: AnswerTo) -> AnswerTo:
    """The same stream with the ends of its chunks anywhere, in the middle of events and of letters; nobody waits for anybody."""

    def answer(asked: Any) -> Answer:
        whole_answer = answer_to(asked)
        return replace(whole_answer, pieces=tuple(_split(whole_answer.body)))

    return answer


def _split(body: bytes) -> Iterator[Piece]:
    at, turn = 0, 0
    while at < len(body):
        size = PRIMES[turn % len(PRIMES)]
        yield body[at : at + size], 0
        at, turn = at + size, turn + 1


def packed(answer_to: AnswerTo, *codings: str) -> AnswerTo:
    """The same answer, compressed where the client accepts it, and flushed after each piece."""
    return lambda asked: replace(answer_to(asked), codings=codings)


def framed(answer_to: AnswerTo, framing: str) -> AnswerTo:
    """The same stream in other bounds, as simple servers have them: `length` or `close`."""
    return lambda asked: replace(answer_to(asked), framing=framing)


def bare(answer_to: AnswerTo) -> AnswerTo:
    """The same answer, never compressed."""
    return lambda asked: replace(answer_to(asked), codings=())


def cut(answer_to: AnswerTo, after: int) -> AnswerTo:
    """The same stream, whose connection ends after so many pieces, as if the process behind it had died."""

    def answer(asked: Any) -> Answer:
        whole_answer = answer_to(asked)
        return replace(whole_answer, pieces=whole_answer.pieces[:after], is_cut=True)

    return answer


def reset(answer_to: AnswerTo, after: int) -> AnswerTo:
    """The same stream, whose connection is reset after so many pieces, as if the provider's machine had died."""
    return lambda asked: replace(cut(answer_to, after)(asked), is_reset=True)


def torn(answer_to: AnswerTo) -> AnswerTo:
    """The same body, of which the second half never comes."""

    return lambda asked: replace(answer_to(asked), codings=(), is_cut=True)
