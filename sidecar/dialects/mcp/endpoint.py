"""
The first event of the legacy transport (2024-11-05, HTTP with SSE) says where to post messages to.

    event: endpoint
    data: /messages?sessionId=1

Clients take the path from it, so behind a prefix of the gateway they would post past the route.
"""

from urllib.parse import urlsplit

from sidecar.dialects.sse import EventStream
from sidecar.model.change import Reroute

_MOST_BYTES = 64 * 1024


class EndpointLed:
    """Puts the sidecar's path in the place of the server's, in the first event; everything behind it passes as it is."""

    __slots__ = ("_is_past", "_reroute", "_waiting")

    def __init__(self, reroute: Reroute) -> None:
        self._reroute = reroute
        self._waiting = b""
        self._is_past = False

    def data(self, chunk: bytes) -> bytes:
        """Hold back what is not a whole event yet, within a bound."""
        if self._is_past:
            return chunk
        self._waiting += chunk
        end = _end_of_event(self._waiting)
        if not end and len(self._waiting) <= _MOST_BYTES:
            return b""
        first, rest = self._waiting[:end], self._waiting[end:]
        if first and not first.lstrip(b"\r\n \t").startswith((b"event", b"data", b"id", b"retry")):
            self._waiting = rest  # comments, which keep the connection alive, may stand before it
            return first + (self.data(b"") if rest else b"")
        self._is_past = True
        self._waiting = b""
        return self._led(first) + rest

    def _led(self, event: bytes) -> bytes:
        for name, data in EventStream().feed(event):
            if name == b"endpoint":
                ours = led(data.decode("utf-8", "replace").strip(), self._reroute)
                return event.replace(data, ours.encode()) if ours else event
        return event

    def end(self, error: str) -> bytes:
        """Give what never became an event."""
        waiting, self._waiting = self._waiting, b""
        return waiting


def _end_of_event(data: bytes) -> int:
    """Where the first event (or comment) ends, with its empty line; 0 where it has not."""
    ends = [at + len(blank) for blank in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := data.find(blank)) >= 0]
    return min(ends, default=0)


def led(url: str, reroute: Reroute) -> str:
    """Return the path by which an address of the server is reached through the sidecar, "" where it is another's or relative."""
    parts = urlsplit(url)
    if parts.netloc and f"{parts.scheme}://{parts.netloc}" != reroute.origin:
        return ""
    path = parts.path
    if not path.startswith("/") or not path.startswith(reroute.theirs):
        return ""
    return reroute.ours + path[len(reroute.theirs) :] + (f"?{parts.query}" if parts.query else "")
