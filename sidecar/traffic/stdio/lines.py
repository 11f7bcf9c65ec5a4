"""Bytes to lines, in whatever pieces they come; what is too long for a line that is read goes on in pieces."""

MOST_BYTES = 16 * 1024 * 1024
"""A longer line passes unread."""


class Splitter:
    """
    Splits one direction; a line keeps its end (LF).

    `is_within` says that a line too long to be read has begun and not ended: nothing may be written between its pieces.
    """

    __slots__ = ("_held", "_most_bytes", "_size", "is_within")

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.is_within = False
        self._most_bytes = most_bytes
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[bytes, bool]]:
        """Return what these bytes complete, in order: each a whole line (True), or a piece of one that is too long."""
        found: list[tuple[bytes, bool]] = []
        start = 0
        while True:
            end = data.find(b"\n", start) + 1
            if not end:
                break
            piece = data[start:end] if start or end < len(data) else data
            start = end
            if self.is_within:
                self.is_within = False
                found.append((piece, False))
            elif self._held:
                self._held.append(piece)
                found.append(self._taken())
            else:
                found.append((piece, len(piece) <= self._most_bytes))
        rest = data[start:]
        if rest:
            self._keep(rest, found)
        return found

    def _keep(self, rest: bytes, found: list[tuple[bytes, bool]]) -> None:
        if self.is_within:
            found.append((rest, False))
            return
        self._held.append(rest)
        self._size += len(rest)
        if self._size > self._most_bytes:
            found.append((self._taken()[0], False))
            self.is_within = True

    def _taken(self) -> tuple[bytes, bool]:
        line = b"".join(self._held)
        self._held = []
        self._size = 0
        return line, len(line) <= self._most_bytes

    def end(self) -> tuple[bytes, bool] | None:
        """Return a last line that nobody has ended; None where there is none."""
        self.is_within = False
        return self._taken() if self._held else None
