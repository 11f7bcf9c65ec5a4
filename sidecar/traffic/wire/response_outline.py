"""
The outlines of the response heads that an upstream sends again and again, so that the next such head need not be taken apart.

Heads of one endpoint have the same lines in the same order; only some values change from call to call (Date, Content-Length,
request ids, rate limits, cookies). After a few heads that were read in full, what stays is one pattern: the same bytes,
printable ASCII in the place of the values that were seen to change, digits in that of Content-Length. Whatever differs in
anything else is read in full. What means something to the wire never changes within an outline: the status line, the names,
Connection, Transfer-Encoding.
"""

import re

from sidecar.traffic.wire.head import CHUNKED
from sidecar.traffic.wire.response_head import ResponseHead

_LESSONS = 8
"""Heads of the same lines that are compared before they become an outline; what changes has changed by then."""
_MOST_OUTLINES = 4
_MOST_IN_VAIN = 64
_FIRST_REST, _LONGEST_REST = 64, 4096
"""Heads without an outline that are let pass before more is learnt: making one costs as much as reading some hundred heads."""
_LONGEST_BYTES = 2 * 1024
"""Compiling holds the loop for some 0.6 us a byte, once: 1 ms at most. In a thread it would hold it longer, by the interpreter's
lock. It also bounds what `re` keeps of patterns (512 in all, whose code is some ten times as long as they are)."""
_LEAST_ROOM_BYTES, _MOST_ROOM_BYTES = 64, 8 * 1024
"""How long a changing value may become, within what a head may have in all."""

_LENGTH, _CODING, _CONNECTION = b"content-length", b"transfer-encoding", b"connection"
_WHOLE = frozenset((_CODING, _CONNECTION))
_MEDIA = frozenset((b"content-type", b"content-encoding"))
_ALWAYS_CHANGE = frozenset((b"date", b"set-cookie"))

Names = tuple[bytes, ...]


class Draft:
    """Heads of the same lines, compared: `changing` are the places of the lines whose values differ."""

    __slots__ = ("changing", "count", "lines")

    def __init__(self, lines: list[bytes], changing: set[int]) -> None:
        self.lines = lines
        self.changing = changing
        self.count = 1

    def compare(self, lines: list[bytes]) -> None:
        self.count += 1
        for place, (mine, other) in enumerate(zip(self.lines, lines, strict=True)):
            if mine != other:
                self.changing.add(place)


class Outline:
    """
    Heads that differ in the values at `changing` and nothing else.

    `match` takes the bytes that came and gives four groups: the lines before Connection, the value of Content-Length (b""
    for chunks), the lines behind Connection, and what follows the head.
    """

    __slots__ = ("changing", "has_date", "hop", "match", "media", "names", "status")

    def __init__(self, names: Names, draft: Draft, room: int, sample: ResponseHead) -> None:
        self.names = names
        is_told = not any(names[place].lower() in _MEDIA for place in draft.changing)
        self.media = (sample.field(b"content-type"), sample.field(b"content-encoding")) if is_told else None
        self.changing = draft.changing
        self.status = sample.status
        self.has_date = sample.has_date
        self.hop = sample.hop
        self.match = re.compile(_pattern(draft, room)).match


class Outlines:
    """
    The outlines of one upstream; heads longer than `max_bytes` fit none, whatever their values.

    The first `rest` heads are let pass: an upstream that is seldom called is not worth an outline.
    """

    __slots__ = ("_drafts", "_in_vain", "_known", "_max_bytes", "_next_rest", "_rest")

    def __init__(self, max_bytes: int, *, rest: int = 0) -> None:
        self._max_bytes = max_bytes
        self._known: tuple[Outline, ...] = ()
        self._drafts: dict[Names, Draft] = {}
        self._in_vain = 0
        self._rest = rest
        self._next_rest = _FIRST_REST

    def read(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """Read the head at the start of `data`, which answers no HEAD: it and what follows it, or None where no outline fits."""
        for outline in self._known:
            found = outline.match(data)
            if found is not None:
                before, length, behind, rest = found.groups()
                head = ResponseHead()
                head.status = outline.status
                head.has_date = outline.has_date
                head.hop = outline.hop
                head.media = outline.media
                head.as_is = before + behind
                head.length = head.declared = int(length) if length else CHUNKED
                return head, rest
        return None

    def learn(self, head: bytes, response: ResponseHead) -> None:
        """Compare a head that fitted no outline, and was read as `response`, with others of the same lines."""
        if self._rest:
            self._rest -= 1
            return
        if len(head) > _LONGEST_BYTES or not (response.as_is or response.length == CHUNKED):
            return
        self._in_vain += 1
        lines = head[:-4].split(b"\r\n")
        is_made = (response.as_is or _goes_on(response, lines)) and self._compare(lines, response)
        if is_made or self._in_vain == _MOST_IN_VAIN:
            self._take_rest()

    def _compare(self, lines: list[bytes], response: ResponseHead) -> bool:
        """True when these lines were the last that their outline needed."""
        names = _names(lines)
        draft = self._drafts.get(names)
        if draft is None:
            self._drafts[names] = Draft(lines, self._changing(names))
            return False
        draft.compare(lines)
        if draft.count < _LESSONS:
            return False
        self._add(names, draft, response)
        return True

    def _take_rest(self) -> None:
        self._drafts.clear()
        self._in_vain = 0
        self._rest = self._next_rest
        self._next_rest = min(self._rest * 2, _LONGEST_REST)

    def _changing(self, names: Names) -> set[int]:
        """What changes in heads of these lines as far as is known; an outline that they do not fit any more is widened."""
        for outline in self._known:
            if outline.names == names:
                return set(outline.changing)
        return {place for place, name in enumerate(names) if name.lower() in _ALWAYS_CHANGE}

    def _add(self, names: Names, draft: Draft, response: ResponseHead) -> None:
        room = (self._max_bytes - sum(map(len, draft.lines)) - 2 * len(draft.lines)) // (len(draft.changing) + 1)
        if room < _LEAST_ROOM_BYTES:
            return
        room = min(room, _MOST_ROOM_BYTES)
        others = [outline for outline in self._known if outline.names != names]
        self._known = (Outline(names, draft, room, response), *others)[:_MOST_OUTLINES]


def _goes_on(response: ResponseHead, lines: list[bytes]) -> bool:
    """True for a head that was read in full, on a connection that stays, and goes on as it came but for one Connection."""
    if not response.keep_alive or not response.is_1_1:
        return False
    kept = [line for line in lines if line[: line.find(b":")].lower() != _CONNECTION]
    return kept == response.lines and len(lines) - len(kept) < 2


def _names(lines: list[bytes]) -> Names:
    """What has to be the same: the status line, the names of the fields, and all of Connection and Transfer-Encoding."""
    names = [line[: line.find(b":")] for line in lines]
    names[0] = lines[0]
    return tuple(lines[place] if name.lower() in _WHOLE else name for place, name in enumerate(names))


_DIGITS = b"([0-9]{1,15}+)"


def _pattern(draft: Draft, room: int) -> bytes:
    """
    Build the pattern of a head; each value has `room` bytes.

    Nothing in it goes back over what it has taken, so that a head costs one pass whatever is in it.
    """
    before, connection, behind = b"", b"", b""
    for place, line in enumerate(draft.lines):
        name = line[: line.find(b":")]
        known = name.lower() if place else b""
        if known == _CONNECTION:
            connection = re.escape(line) + b"\\r\\n"
            continue
        if known == _LENGTH:
            piece = re.escape(name) + b": " + _DIGITS
        elif place in draft.changing and known not in _WHOLE:
            piece = re.escape(name) + b":[ -~]{0,%d}+" % room
        else:
            piece = re.escape(line)
        if connection:
            behind += piece + b"\\r\\n"
        else:
            before += piece + b"\\r\\n"
    length = b"" if _DIGITS in before else b"()"
    if _DIGITS in behind:
        start, end = behind.split(_DIGITS)
        length = b"(?=%b%b\\r)" % (start, _DIGITS)  # the second group in any case: seen from here, and passed over below
        behind = start + b"[0-9]++" + end
    return b"(%b)%b%b(%b)\\r\\n((?s:.*))" % (before, connection, length, behind)
