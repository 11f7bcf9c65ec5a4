"""
Recognises an event that says the same as the last one, with another text in the same place.

Nearly all events of a stream are such. To decode one costs three times what it costs to see that the bytes around its text have
not changed; what the text is, nobody needs to know in order to count it.
"""

import re
from collections.abc import Callable

from sidecar.model.answered import Answered

_Match = Callable[[bytes, int], re.Match[bytes]]

_TEXT = re.compile(rb'"(?:content|text|reasoning_content|reasoning|delta)"[ \t]*:[ \t]*"')
_PADDING = re.compile(rb'"obfuscation"[ \t]*:[ \t]*"')  # as long as OpenAI likes
_NUMBER = re.compile(rb'"sequence_number"[ \t]*:[ \t]*(?=[0-9])')
_PLAIN: _Match = re.compile(rb'[^"\\\x00-\x1f]*').match  # type: ignore[assignment]  # what stands in a JSON text as it is; never None
_DIGITS: _Match = re.compile(rb"[0-9]*").match  # type: ignore[assignment]  # never None either
_ONE_LESSON_IN = 8  # events
_FREE_LESSONS = 4
_LONGEST = 1 << 12  # of a chunk that is one of many
_MOST_HELD_BYTES = 2048
_UNLEARNT = b"\x00"  # nothing begins with it


class Stencil:
    """
    The bytes between those that may differ: the text, the padding, the event's number.

    A stream whose events differ in more than that (a time, another number) is looked at again once in a while.
    """

    __slots__ = ("_after", "_held", "_lessons", "_steps")

    def __init__(self) -> None:
        self._lessons = 0
        self._steps: tuple[tuple[bytes, int, _Match, bool], ...] = ((_UNLEARNT, 1, _PLAIN, False),)
        self._after = b""
        self._held = b""

    def left(self, data: bytes, answered: Answered) -> bytes:
        """
        Count the events that `data`, which begins between two events, begins with; return what has to be split into events.

        The beginning of an event waits here, as long as it is short, so that the whole may be known when the rest of it comes.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        known = self.take(data, answered)
        if known == len(data):
            return b""
        if known:
            data = data[known:]
        if len(data) <= _MOST_HELD_BYTES and b"\n\n" not in data and b"\r" not in data:
            self._held = data
            return b""
        return data

    def take(self, data: bytes, answered: Answered) -> int:
        """Count the events that `data`, which begins between two events, begins with; return how many bytes they are."""
        done = 0
        while True:
            place = done
            text = 0
            for literal, length, match, is_text in self._steps:
                if not data.startswith(literal, place):
                    return done
                begin = place + length
                place = match(data, begin).end()
                if is_text:
                    text = place - begin
            if not data.startswith(self._after, place):
                return done
            answered.events += 1
            answered.content_bytes += text
            done = place + len(self._after)
            if done == len(data):
                return done

    def knows(self, name: bytes, data: bytes, answered: Answered) -> bool:
        """Count one event that came out of its frame already, where it is such a one."""
        if data[:1] != b"{" or len(self._steps[0][0]) == 1:
            return False
        framed = _frame(name) + data + b"\n\n"
        return self.take(framed, answered) == len(framed)

    def forget(self) -> None:
        """Know nothing any more."""
        self._steps = ((_UNLEARNT, 1, _PLAIN, False),)

    def learn(self, name: bytes, data: bytes, text_bytes: int, events: int) -> None:
        """Take the pattern of an event, the stream's `events`th, that was decoded and found to have so many bytes of text."""
        if not text_bytes or len(data) > _LONGEST or (self._lessons - _FREE_LESSONS) * _ONE_LESSON_IN > events:
            return
        if b"\\" in data or b"\n" in data:
            return
        self._lessons += 1
        found = _TEXT.search(data)
        if found is None or _TEXT.search(data, found.end()):
            return  # which of them is it?
        if _PLAIN(data, found.end()).end() - found.end() != text_bytes:
            return
        holes: list[tuple[int, _Match, bool]] = [(found.end(), _PLAIN, True)]
        for pattern, match in ((_PADDING, _PLAIN), (_NUMBER, _DIGITS)):
            place = pattern.search(data)
            if place is not None:
                holes.append((place.end(), match, False))
        steps = []
        begin = 0
        frame = _frame(name)
        for end, match, is_text in sorted(holes, key=lambda hole: hole[0]):
            literal = frame + data[begin:end]
            frame = b""
            steps.append((literal, len(literal), match, is_text))
            begin = match(data, end).end()
        self._steps = tuple(steps)
        self._after = data[begin:] + b"\n\n"


def _frame(name: bytes) -> bytes:
    return b"event: " + name + b"\ndata: " if name else b"data: "
