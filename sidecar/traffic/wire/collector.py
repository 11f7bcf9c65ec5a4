"""A request's content, collected until it is whole, so that it can be read before it goes on."""

from sidecar.traffic.room import Room
from sidecar.traffic.wire.body import content_of
from sidecar.traffic.wire.head import CHUNKED

_PIECE_BYTES = 1 << 14  # shorter pieces are put together as they come: millions of them cost more than their bytes
_MOST_LINES = 1 << 16
"""Of a chunked body: to put together chunks of a byte each takes seconds."""


class Collector:
    """
    Collects one body of at most `most_bytes`; `length` is the request's, or `CHUNKED`.

    What waits here takes its place in a room that all calls share. `keeps`: so does what was collected, read or not, until it is
    dropped, as whoever gets it keeps it. `why` says why a body was not collected; `size` is the length of what has come.
    """

    __slots__ = (
        "_is_chunked", "_is_read", "_keeps", "_lines", "_most_bytes", "_pieces", "_room", "_taken", "is_collecting",
        "size", "why",
    )  # fmt: skip

    def __init__(self, length: int, most_bytes: int, room: Room, *, keeps: bool = False) -> None:
        self._room = room
        self._keeps = keeps
        self._taken = self._lines = 0
        self.why = "too_large"
        self._is_chunked = length == CHUNKED
        self._most_bytes = most_bytes
        self._pieces: list[bytes | bytearray] = []
        self._is_read = True
        self.size = 0
        self.is_collecting = length <= most_bytes

    def take(self, relayed: bytes, *, whole: bool) -> tuple[bytes, bytes | None] | None:
        """
        Take what has come, framed as it goes on; returns (content in its framing, body), or None while more is to come.

        The body is None where there is too much of it: what has come then goes on, and the rest as it comes.
        """
        return self.content() if self.add(relayed, whole=whole) else None

    def add(self, relayed: bytes, *, whole: bool) -> bool:
        """As `take`, for who asks for the `content` later: whether it is there, or too long to be waited for."""
        if whole and not self._pieces and not self._keeps:
            self._pieces, self.size = [relayed], len(relayed)
            return True
        has_room = self._room.take(len(relayed))
        if not has_room:
            self.why = "no_room"
            if self._keeps:
                self._room.occupy(len(relayed))
        if has_room or self._keeps:
            self._taken += len(relayed)
        self._put(relayed)
        if self._is_chunked:
            self._lines += relayed.count(b"\r\n")
            if self._lines > _MOST_LINES:
                whole, has_room, self.why = False, False, "too_many_chunks"
        self._is_read = whole and (has_room or not self._keeps)
        return whole or not has_room or self.size > self._most_bytes

    def content(self) -> tuple[bytes, bytes | None]:
        """Return what `take` does; nothing is collected after it."""
        pieces = self._pieces
        content = pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces)
        if self._keeps:
            self.is_collecting = False
            self._pieces = []
        else:
            self.drop()
        return content, self._body(content) if self._is_read else None

    def _put(self, relayed: bytes) -> None:
        self.size += len(relayed)
        last = self._pieces[-1] if self._pieces else b""
        if len(relayed) >= _PIECE_BYTES:
            self._pieces.append(relayed)
        elif isinstance(last, bytearray) and len(last) < 4 * _PIECE_BYTES:
            last += relayed
        else:
            self._pieces.append(bytearray(relayed))

    def keep(self, content: bytes) -> None:
        """Collect no more, and have the place of content that somebody else has collected."""
        self.is_collecting = False
        self._room.occupy(len(content))
        self._taken += len(content)

    def drop(self) -> None:
        """Collect no more, and keep nothing; harmless when called twice."""
        self.is_collecting = False
        self._pieces = []
        self._room.give_back(self._taken)
        self._taken = 0

    def _body(self, content: bytes) -> bytes:
        return content_of(content) if self._is_chunked else content
