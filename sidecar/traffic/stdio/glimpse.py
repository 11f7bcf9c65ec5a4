"""
What a line that is too long to be read looks like at both ends: enough to tell whose answer it is.

Servers write the id before a result or behind it, and a result that is too long is one of a tool with pictures in it. Who
writes anything else there is not understood, and so not heard.
"""

import re

from sidecar.dialects.jsonrpc import key

_EDGE_BYTES = 2048
_VERSION = rb'[ \t]*"jsonrpc"[ \t]*:[ \t]*"2\.0"[ \t]*'
_ID = rb'[ \t]*"id"[ \t]*:[ \t]*("[^"\\]{0,1000}"|-?[0-9]{1,30})[ \t]*'
_ID_FIRST = re.compile(rb"[ \t]*\{(?:" + _VERSION + rb",)?" + _ID + rb"(?:," + _VERSION + rb')?,[ \t]*"(?:result|error)"[ \t]*:')
_ANSWER = re.compile(rb"[ \t]*\{(?:" + _VERSION + rb',)?[ \t]*"(?:result|error)"[ \t]*:')
_ID_LAST = re.compile(rb"," + _ID + rb"(?:," + _VERSION + rb")?\}[ \t\r\n]*\Z")


class Glimpse:
    """One line, of which the pieces come one by one."""

    __slots__ = ("_end", "_start", "size")

    def __init__(self) -> None:
        self._start = self._end = b""
        self.size = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        if len(self._start) < _EDGE_BYTES:
            self._start += piece[: _EDGE_BYTES - len(self._start)]
        self._end = (self._end + piece[-_EDGE_BYTES:])[-_EDGE_BYTES:]
        self.size += len(piece)

    def answers(self) -> int | float | str | None:
        """The id that the whole line is the answer to, as `jsonrpc.key` tells it; None where that cannot be seen."""
        found = _ID_FIRST.match(self._start)
        if found is None and _ANSWER.match(self._start):
            found = _ID_LAST.search(self._end)
        return key(found[1]) if found is not None else None
