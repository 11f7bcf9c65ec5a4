"""A request's content, collected until it is whole, so that it can be read before it goes on."""

from sidecar.traffic.room import Room
from sidecar.traffic.wire.body import content_of
from sidecar.traffic.wire.head import CHUNKED

_MOST_LINES = 1 << 16
"""Of a chunked body: to put together chunks of a byte each takes seconds."""


class Collector:
    """
    Collects one body of at most `most_bytes`; `length` is the request's, or `CHUNKED`.

    What waits here takes its place in a room that all calls share. `keeps`: so does what was collected, read or not, until it is
    dropped, as whoever gets it keeps it. `why` says why a body was not collected.
    """

    __slots__ = ("_is_chunked", "_keeps", "_lines", "_most_bytes", "_pending", "_room", "_taken", "is_collecting", "why")

    def __init__(self, length: int, most_bytes: int, room: Room, *, keeps: bool = False) -> None:
        self._room = room
        self._keeps = keeps
        self._taken = self._lines = 0
        self.why = "too_large"
        self._is_chunked = length == CHUNKED
        self._most_bytes = most_bytes
        self._pending = bytearray()
        self.is_collecting = length <= most_bytes

    def take(self, relayed: bytes, *, whole: bool) -> tuple[bytes, bytes | None] | None:
        """
        Take what has come, framed as it goes on; returns (content in its framing, body), or None while more is to come.

        The body is None where there is too much of it: what has come then goes on, and the rest as it comes.
        """
        if whole and not self._pending and not self._keeps:
            self.is_collecting = False
            return relayed, self._body(relayed)
        has_room = self._room.take(len(relayed))
        if not has_room:
            self.why = "no_room"
            if self._keeps:
                self._room.occupy(len(relayed))
        if has_room or self._keeps:
            self._taken += len(relayed)
        self._pending += relayed
        if self._is_chunked:
            self._lines += relayed.count(b"\r\n")
            if self._lines > _MOST_LINES:
                whole, has_room, self.why = False, False, "too_many_chunks"
        if not whole and has_room and len(self._pending) <= self._most_bytes:
            return None
        content = bytes(self._pending)
        if self._keeps:
            self.is_collecting = False
            self._pending = bytearray()
        else:
            self.drop()
        return content, self._body(content) if whole and (has_room or not self._keeps) else None

    def keep(self, content: bytes) -> None:
        """Collect no more, and have the place of content that somebody else has collected."""
        self.is_collecting = False
        self._room.occupy(len(content))
        self._taken += len(content)

    def drop(self) -> None:
        """Collect no more, and keep nothing; harmless when called twice."""
        self.is_collecting = False
        self._pending = bytearray()
        self._room.give_back(self._taken)
        self._taken = 0

    def _body(self, content: bytes) -> bytes:
        return content_of(content) if self._is_chunked else content
