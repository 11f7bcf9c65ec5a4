"""Reading a whole body: the pieces of an answer that is one JSON text are collected, and read when the last one has come."""

from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from sidecar.dialects.dialect import Unreadable
from sidecar.model.answered import Answered

A = TypeVar("A", bound=Answered)
MOST_BYTES = 16 << 20
"""Of one answer: to put it together and to leap over what is in it takes some 25 ms then."""
MOST_PARTS = 1 << 18
"""Objects and lists of one answer: each that is taken apart holds the loop for some microseconds; real ones have hundreds."""
_FEW_BYTES = 1 << 17
_PIECE_BYTES = 1 << 16  # shorter pieces are put together as they come: millions of them would cost more than their bytes
_FREE_BYTES = 1 << 16  # of an answer, which need no room: nearly all are no longer


class Space(Protocol):
    """Memory that all calls share."""

    def take(self, count: int) -> bool: ...

    def give_back(self, count: int) -> None: ...


class WholeBody(Generic[A]):
    """
    A reader of an answer that is not a stream.

    `read` gets the whole body, once, at the end, and fills `answered` in; it may raise a `ValueError` (`Unreadable`, and the
    errors of msgspec and json are such) or run out of stack: then, above `most_bytes`, and with more than `MOST_PARTS` parts,
    the answer is unreadable. An empty body is not read: it says nothing, and that is no fault.

    Who has set a `space` calls `drop` when the answer is over, however it ended. Where there is no room in it the answer is
    unreadable too, and `has_room` False; `taken` are the bytes of it that the answer has now.
    """

    __slots__ = ("_most_bytes", "_pieces", "_read", "_size", "answered", "has_room", "space", "taken")

    def __init__(self, answered: A, read: Callable[[bytes], None], most_bytes: int = MOST_BYTES) -> None:
        self.answered: A = answered
        self._read = read
        self._most_bytes = most_bytes
        self._pieces: bytes | list[bytes | bytearray] = b""  # the first piece is kept as it is: mostly it is all there is
        self._size = self.taken = 0
        self.space: Space | None = None
        self.has_room = True

    def feed(self, data: bytes) -> None:
        """Keep the next bytes, unless they are too many."""
        self._size += len(data)
        if self._size > self._most_bytes or not self.has_room:
            self.answered.is_unreadable = True
            self.drop()
        elif self._size - self.taken > _FREE_BYTES and self.space is not None and not self._take(self.space):
            self.has_room = False
            self.answered.is_unreadable = True
            self.drop()
        elif not self._pieces:
            self._pieces = data
        elif isinstance(self._pieces, list):
            _add(self._pieces, data)
        else:
            self._pieces = [self._pieces]
            _add(self._pieces, data)

    def _take(self, space: Space) -> bool:
        more = self._size - self.taken
        if not space.take(more):
            return False
        self.taken += more
        return True

    def drop(self) -> None:
        """Keep nothing, and give back what was taken of the space; harmless when called twice."""
        self._pieces = b""
        if self.taken and self.space is not None:
            self.space.give_back(self.taken)
            self.taken = 0

    def end(self) -> None:
        """Read what has come; the answer has ended, readable or not."""
        self.answered.is_ended = True
        pieces = self._pieces
        if not pieces or self.answered.is_unreadable:
            return
        self._pieces = b""
        body = b"".join(pieces) if isinstance(pieces, list) else pieces
        if len(body) > _FEW_BYTES and body.count(b"{") + body.count(b"[") > MOST_PARTS:
            self.answered.is_unreadable = True
            return
        try:
            self._read(body)
        except (ValueError, RecursionError):
            self.answered.is_unreadable = True


def _add(pieces: list[bytes | bytearray], data: bytes) -> None:
    last = pieces[-1]
    if len(data) >= _PIECE_BYTES:
        pieces.append(data)
    elif isinstance(last, bytearray) and len(last) < _PIECE_BYTES:
        last += data
    else:
        pieces.append(bytearray(data))


def unless_refused(read: Callable[[bytes], None], status: int) -> Callable[[bytes], None]:
    """Let `read` fail on the body of an error: what that says is not the protocol's affair, a proxy may have made it."""
    if status < 400:
        return read

    def read_it(body: bytes) -> None:
        with suppress(Unreadable):
            read(body)

    return read_it
