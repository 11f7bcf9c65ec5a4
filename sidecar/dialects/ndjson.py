"""
JSON by the line (`application/x-ndjson`), read as it comes: complete lines out of whatever pieces the network makes.
"""


class Lines:
    """
    Splits a stream into its lines, which end in LF or CRLF; blank ones are left out.

    A line above `most_bytes` is passed over and counted in `skipped`; no more than one line is kept. Time is linear in what is
    fed, also byte by byte.
    """

    __slots__ = ("_held", "_is_skipping", "_most_bytes", "skipped")

    def __init__(self, most_bytes: int = 1 << 20) -> None:
        self.skipped = 0
        self._most_bytes = most_bytes
        self._held = bytearray()
        self._is_skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes, and give the lines that are complete with them, without their ends."""
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and (self._held or self._is_skipping):
            self._hold(lines[0])
            lines[0] = self.rest()
        if rest:
            self._hold(rest)
        return [line for line in lines if self._is_wanted(line)]

    @property
    def is_between(self) -> bool:
        """Whether the bytes so far end with a line; False after a cut in the middle of one."""
        return not self._held and not self._is_skipping

    def rest(self) -> bytes:
        """What stands after the last LF, and is no longer kept: at the end of a stream, its last line if nothing ended it."""
        held = bytes(self._held)
        self._held.clear()
        self._is_skipping = False
        return held

    def _hold(self, piece: bytes) -> None:
        if self._is_skipping:
            return
        if len(self._held) + len(piece) > self._most_bytes:
            self._held.clear()
            self._is_skipping = True
            self.skipped += 1
        else:
            self._held += piece

    def _is_wanted(self, line: bytes) -> bool:
        if len(line) > self._most_bytes:  # whole in one piece, so it was never held
            self.skipped += 1
            return False
        return bool(line) and not line.isspace()
