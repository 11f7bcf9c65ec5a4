"""Reading a whole body: the pieces of an answer that is one JSON text are collected, and read when the last one has come."""

from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from sidecar.dialects.dialect import Unreadable
from sidecar.model.answered import Answered

A = TypeVar("A", bound=Answered)
MOST_BYTES = 64 << 20
MOST_PARTS = 1 << 17
"""Objects and lists of one answer: each that is taken apart holds the loop for some microseconds; real ones have hundreds."""
_FEW_BYTES = 1 << 17


class WholeBody(Generic[A]):
    """
    A reader of an answer that is not a stream.

    `read` gets the whole body, once, at the end, and fills `answered` in; it may raise a `ValueError` (`Unreadable`, and the
    errors of msgspec and json are such) or run out of stack: then, above `most_bytes`, and with more than `MOST_PARTS` parts,
    the answer is unreadable. An empty body is not read: it says nothing, and that is no fault.
    """

    __slots__ = ("_most_bytes", "_pieces", "_read", "_size", "answered")

    def __init__(self, answered: A, read: Callable[[bytes], None], most_bytes: int = MOST_BYTES) -> None:
        self.answered: A = answered
        self._read = read
        self._most_bytes = most_bytes
        self._pieces: bytes | bytearray = b""  # the first piece is kept as it is: mostly it is all there is
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Keep the next bytes, unless they are too many."""
        self._size += len(data)
        if self._size > self._most_bytes:
            self.answered.is_unreadable = True
            self._pieces = b""
        elif not self._pieces:
            self._pieces = data
        elif type(self._pieces) is bytearray:
            self._pieces += data
        else:
            self._pieces = bytearray(self._pieces)
            self._pieces += data

    def end(self) -> None:
        """Read what has come; the answer has ended, readable or not."""
        self.answered.is_ended = True
        body = self._pieces
        if not body or self.answered.is_unreadable:
            return
        self._pieces = b""
        if len(body) > _FEW_BYTES and body.count(b"{") + body.count(b"[") > MOST_PARTS:
            self.answered.is_unreadable = True
            return
        try:
            self._read(bytes(body))
        except (ValueError, RecursionError):
            self.answered.is_unreadable = True


def unless_refused(read: Callable[[bytes], None], status: int) -> Callable[[bytes], None]:
    """Let `read` fail on the body of an error: what that says is not the protocol's affair, a proxy may have made it."""
    if status < 400:
        return read

    def read_it(body: bytes) -> None:
        with suppress(Unreadable):
            read(body)

    return read_it
