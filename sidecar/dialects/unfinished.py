"""
JSON that breaks off: what is there, closed so that a parser takes it.

    finished(b'{"a": [1, {"b": "some te')        # b'{"a": [1, {"b": "some te"}]}'

Of a text what has come stays; a name without its value, and half a number or word, go. Strings are leapt over, so a cut body of
long texts costs little.
"""

import re

MOST_DEPTH = 256
MOST_MARKS = 32_768
"""Nested deeper, or with more brackets and strings, it is left as it is."""

_MARK = re.compile(rb'["{}\[\]]').search
_WHITE = b" \t\r\n"
_CLOSES = {0x7B: b"}", 0x5B: b"]"}
_QUOTE, _BACKSLASH = 0x22, 0x5C


def finished(data: bytes) -> bytes:
    """Return the JSON text, closed where it breaks off; as it is where it is whole, or no JSON."""
    open_at: list[int] = []
    at = end = start = marks = 0
    while (mark := _MARK(data, at)) is not None:
        start = mark.start()
        sign = data[start]
        at = mark.end()
        marks += 1
        if marks > MOST_MARKS:
            return data
        if sign == _QUOTE:
            close = _close_of(data, at)
            if close < 0:
                return _in_string(data, start, open_at)
            at = close + 1
        elif sign in _CLOSES:
            if len(open_at) == MOST_DEPTH:
                return data
            open_at.append(start)
        elif not open_at:
            return data
        else:
            open_at.pop()
        end = at
    if not open_at:
        return data
    return _in_between(data, start, end, open_at)


def _close_of(data: bytes, at: int) -> int:
    """Where the string ends whose text begins at `at`; -1 where it does not."""
    while (quote := data.find(b'"', at)) >= 0:
        before = quote - 1
        while data[before] == _BACKSLASH:
            before -= 1
        if (quote - before) % 2:
            return quote
        at = quote + 1
    return -1


def _in_string(data: bytes, start: int, open_at: list[int]) -> bytes:
    """The text breaks off in a string: half a name goes, half a text stays without half an escape or character."""
    if _is_name(data, start, open_at):
        return _closed(data[:start], open_at)
    text = data[start + 1 :]
    escape = text.rfind(b"\\", max(0, len(text) - 6))
    if escape >= 0:
        run = len(text[: escape + 1]) - len(text[: escape + 1].rstrip(b"\\"))
        rest = text[escape + 1 :]
        if run % 2 and (not rest or (rest[:1] == b"u" and len(rest) < 5)):
            text = text[:escape]
    text = text.decode("utf-8", "ignore").encode()
    return _closed(data[: start + 1] + text + b'"', open_at)


def _in_between(data: bytes, start: int, end: int, open_at: list[int]) -> bytes:
    """The text breaks off after a mark: `end` is behind the last string or bracket, which begins at `start`."""
    rest = data[end:]
    comma = rest.rfind(b",")
    if comma >= 0:
        return _closed(data[: end + comma], open_at)
    if data[start] == _QUOTE and _is_name(data, start, open_at):
        return _closed(data[:start], open_at)
    return _closed(data[:end], open_at)


def _is_name(data: bytes, start: int, open_at: list[int]) -> bool:
    """Whether the string that begins at `start` is the name of a member."""
    if not open_at or data[open_at[-1]] != 0x7B:
        return False
    before = start - 1
    while data[before] in _WHITE:
        before -= 1
    return data[before] in b"{,"


def _closed(data: bytes, open_at: list[int]) -> bytes:
    data = data.rstrip(_WHITE)
    if data[-1:] == b",":
        data = data[:-1]
    return data + b"".join(_CLOSES[data[at]] for at in reversed(open_at))
