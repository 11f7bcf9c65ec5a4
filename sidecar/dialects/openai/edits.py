"""Changes to a request: fewer tokens, and a stream that tells its usage; and what the latter adds, taken out again."""

import re

import msgspec

from sidecar.dialects.dialect import Change, Clamp, IncludeUsage, Unreadable
from sidecar.dialects.lenient import Lenient
from sidecar.dialects.openai.asked import CHAT, COMPLETIONS, RESPONSES, OpenAiAsked
from sidecar.dialects.splice import append, places, put, swap
from sidecar.dialects.sse import EventStream
from sidecar.model.asked import Asked

_NEW_MEMBER = frozenset({"openai", "azure.ai.openai"})
"""Whose newer models refuse `max_tokens`; everybody else of this format knows that one."""

_BOUNDS = {CHAT: ("max_completion_tokens", "max_tokens"), COMPLETIONS: ("max_tokens",), RESPONSES: ("max_output_tokens",)}

_MOST_BYTES = 1 << 20
_NO_CHOICES = re.compile(rb'"choices"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*\]')
_HAS_USAGE = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*\{')
_BLANK_LINE = re.compile(rb"\n\n|[\n\r]\r\n?")


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """Splice a change in; raises `Unreadable`."""
    if isinstance(asked, OpenAiAsked):
        if isinstance(change, Clamp):
            return _clamped(asked, body, change.max_tokens)
        if isinstance(change, IncludeUsage) and asked.streams and asked.endpoint in (CHAT, COMPLETIONS):
            if asked.tells_usage:
                return body
            if not asked.takes_options:
                raise Unreadable("this version of the API has no stream_options")
            longer = append(body, "stream_options", b'{"include_usage":true}') if asked.lacks_options else None
            return longer or put(body, ("stream_options", "include_usage"), b"true", asked.bulk)
    raise Unreadable("the endpoint takes no such change")


def _clamped(asked: OpenAiAsked, body: bytes, most: int) -> bytes:
    names = _BOUNDS.get(asked.endpoint)
    if names is None:
        raise Unreadable("the endpoint has no output tokens")
    own = names[0]
    if asked.endpoint == CHAT and asked.provider not in _NEW_MEMBER:
        own = "max_tokens"
    longer = append(body, own, b"%d" % most) if asked.bounds == () else None
    if longer is not None:
        return longer
    known = tuple(name for name in names if name in asked.bounds) if asked.bounds else names
    there = [place for place in places(body, known, asked.bulk).values() if body[slice(*place)] != b"null"]
    for place in sorted(there, reverse=True):  # a change moves what stands behind it only
        if not _is_within(body[slice(*place)], most):
            body = swap(body, place, b"%d" % most)
    return body if there else put(body, (own,), b"%d" % most, asked.bulk)


def _is_within(value: bytes, most: int) -> bool:
    try:
        return 0 <= msgspec.json.decode(value, type=float) <= most
    except msgspec.DecodeError:
        return False


def takes_out(asked: Asked, change: Change) -> "UsageRemoval | None":
    """Return what removes the chunk that `IncludeUsage` adds; None where nothing was added."""
    if isinstance(asked, OpenAiAsked) and isinstance(change, IncludeUsage) and asked.streams and not asked.tells_usage:
        return UsageRemoval() if asked.endpoint in (CHAT, COMPLETIONS) else None
    return None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, msgspec.Raw] | None = None


_CHUNK = Lenient(_Chunk)


class UsageRemoval:
    """
    Removes the event that has usage and an empty list of choices; all other bytes pass as they are.

    Whole events pass in the call that completes them; what is incomplete waits, and passes unread above 1 MiB.
    """

    __slots__ = ("_after_cr", "_passes_rest", "_removed_last", "_scanned", "_waiting")

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._scanned = 0  # of what waits: no event ends before here
        self._after_cr = False  # a LF that comes now belongs to the event before
        self._removed_last = False
        self._passes_rest = False  # of an event that was too large

    def data(self, chunk: bytes) -> bytes:
        """Pass on what is complete."""
        if not (self._waiting or self._after_cr or self._passes_rest) and chunk[-2:] == b"\n\n" and not _NO_CHOICES.search(chunk):
            return chunk
        passed: list[bytes] = []
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[:1] == b"\n":
                if not self._removed_last:
                    passed.append(b"\n")
                chunk = chunk[1:]
        self._waiting += chunk
        start = 0
        if _BLANK_LINE.search(self._waiting, self._scanned):  # otherwise what waits is not copied once more
            waiting = bytes(self._waiting)
            for found in _BLANK_LINE.finditer(waiting, self._scanned):
                self._complete(waiting[start : found.end()], passed)
                start = found.end()
            self._after_cr = start == len(waiting) and waiting[-1:] == b"\r"
            del self._waiting[:start]
        self._scanned = max(len(self._waiting) - 2, 0)
        if self._passes_rest or len(self._waiting) > _MOST_BYTES:
            self._passes_rest = True
            most = len(self._waiting.rstrip(b"\r\n"))  # a line end may be the first half of a blank line
            passed.append(bytes(self._waiting[:most]))
            del self._waiting[:most]
            self._scanned = 0
        return b"".join(passed)

    def _complete(self, event: bytes, passed: list[bytes]) -> None:
        self._removed_last = not self._passes_rest and _is_usage(event)
        self._passes_rest = False
        if not self._removed_last:
            passed.append(event)

    def end(self, error: str) -> bytes:
        """Pass on what never became complete, but for the beginning of what would have been removed, as far as that shows."""
        rest = bytes(self._waiting)
        self._waiting.clear()
        return b"" if error and not self._passes_rest and _NO_CHOICES.search(rest) and _HAS_USAGE.search(rest) else rest


def _is_usage(event: bytes) -> bool:
    if not _NO_CHOICES.search(event):
        return False
    for _, data in EventStream().feed(event.lstrip(b"\r\n")):
        try:
            chunk = _CHUNK.decode(data)
        except Unreadable:
            return False
        return chunk.choices == [] and chunk.usage is not None
    return False
