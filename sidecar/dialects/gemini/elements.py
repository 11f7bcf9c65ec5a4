"""A JSON array that comes in pieces: bytes in, whole elements out."""

import re

_IN_STRING = re.compile(rb'["\\]').search
_IN_ELEMENT = re.compile(rb'["{}]').search
_BETWEEN = re.compile(rb'["{\[\]]').search


class Elements:
    """
    Splits one array of objects into these; nothing is decoded, and at most one element is kept.

    An object that stands alone, as an error does, is an element too. One that has more than `most_bytes` is passed over and
    counted in `skipped`. `is_open` says that the array has begun, `is_closed` that its end has come.
    """

    __slots__ = ("_depth", "_is_escaped", "_is_in_string", "_kept", "_most_bytes", "_size", "is_closed", "is_open", "skipped")

    def __init__(self, most_bytes: int) -> None:
        self.skipped = 0
        self.is_open = self.is_closed = False
        self._most_bytes = most_bytes
        self._kept = bytearray()
        self._size = 0  # of the element so far
        self._depth = 0
        self._is_in_string = self._is_escaped = False

    @property
    def is_between(self) -> bool:
        """Whether no element is unfinished."""
        return not (self._depth or self._is_in_string)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the elements that these bytes complete."""
        elements: list[bytes] = []
        at = begin = 0
        while at < len(data):
            if self._is_in_string:
                at = self._pass_string(data, at)
                continue
            mark = (_IN_ELEMENT if self._depth else _BETWEEN)(data, at)
            if mark is None:
                break
            at = mark.end()
            sign = data[at - 1]
            if sign == 0x22:
                self._is_in_string = True
            elif sign == 0x7B:
                if not self._depth:
                    begin = at - 1
                self._depth += 1
            elif sign == 0x5B:
                self.is_open = True
            elif sign == 0x5D:
                self.is_closed = True
            else:
                self._depth -= 1
                if not self._depth:
                    self._finish(data[begin:at], elements)
        if self._depth:
            self._keep(data[begin:])
        return elements

    def _pass_string(self, data: bytes, at: int) -> int:
        if self._is_escaped:
            self._is_escaped = False
            return at + 1
        mark = _IN_STRING(data, at)
        if mark is None:
            return len(data)
        if data[mark.start()] == 0x22:
            self._is_in_string = False
        else:
            self._is_escaped = True
        return mark.end()

    def _finish(self, rest: bytes, elements: list[bytes]) -> None:
        if self._size + len(rest) > self._most_bytes:
            self.skipped += 1
        else:
            elements.append(bytes(self._kept) + rest if self._kept else rest)
        self._kept.clear()
        self._size = 0

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._most_bytes:
            self._kept += piece
        else:
            self._kept.clear()
