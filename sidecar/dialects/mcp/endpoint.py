"""
The first event of the legacy transport (2024-11-05, HTTP with SSE) says where to post messages to.

    event: endpoint
    data: /messages?sessionId=1

Clients take the path from it, so behind a prefix of the gateway they would post past the route.
"""

import re
from urllib.parse import urlsplit

from sidecar.dialects.sse import EventStream
from sidecar.model.change import Reroute

_MOST_BYTES = 64 * 1024
_BLANK_LINE = re.compile(rb"\n\n|\r\n\r\n|\r\r")
_LONGEST_END = 4


class EndpointLed:
    """Puts the sidecar's path in the place of the server's, in the first event; everything behind it passes as it is."""

    __slots__ = ("_is_past", "_reroute", "_waiting")

    def __init__(self, reroute: Reroute) -> None:
        self._reroute = reroute
        self._waiting = bytearray()
        self._is_past = False

    def data(self, chunk: bytes) -> bytes:
        """Hold back what is not a whole event yet, within a bound; time is linear in what comes, also byte by byte."""
        if self._is_past:
            return chunk
        held = self._waiting
        looked_at = max(len(held) - _LONGEST_END + 1, 0)  # no empty line ends before that
        held += chunk
        if len(held) <= _MOST_BYTES and _BLANK_LINE.search(held, looked_at) is None:
            return b""
        waiting, at = bytes(held), 0
        held.clear()
        while True:
            end = _end_of_event(waiting, at)
            if not end and len(waiting) - at <= _MOST_BYTES:
                held += waiting[at:]
                return waiting[:at]
            first = waiting[at : end or len(waiting)]
            if not end or first.lstrip(b"\r\n \t").startswith((b"event", b"data", b"id", b"retry")):
                break
            at = end  # comments, which keep the connection alive, may stand before it
        self._is_past = True
        return waiting[:at] + self._led(first) + waiting[at + len(first) :]

    def _led(self, event: bytes) -> bytes:
        for name, data in EventStream().feed(event):
            if name == b"endpoint":
                ours = led(data.decode("utf-8", "replace").strip(), self._reroute)
                return event.replace(data, ours.encode()) if ours else event
        return event

    def end(self, error: str) -> bytes:
        """Give what never became an event."""
        waiting = bytes(self._waiting)
        self._waiting.clear()
        return waiting


def _end_of_event(data: bytes, start: int) -> int:
    """Where the event (or comment) that begins at `start` ends, with its empty line; 0 where it has not."""
    found = _BLANK_LINE.search(data, start)
    return found.end() if found is not None else 0


def led(url: str, reroute: Reroute) -> str:
    """Return the path by which an address of the server is reached through the sidecar, "" where it is another's or relative."""
    parts = urlsplit(url)
    if parts.netloc and f"{parts.scheme}://{parts.netloc}" != reroute.origin:
        return ""
    path = parts.path
    if not path.startswith("/") or not path.startswith(reroute.theirs):
        return ""
    return reroute.ours + path[len(reroute.theirs) :] + (f"?{parts.query}" if parts.query else "")
