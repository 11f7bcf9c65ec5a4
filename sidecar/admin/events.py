"""The live form of exchanges for browsers and people: server-sent events (WHATWG HTML, section 9.2)."""

from typing import Any

from sidecar.admin.messages import in_json

BEGIN = b"retry: 2000\n\n"
"""Sent first: a browser that loses the stream comes back after two seconds."""

ALIVE = b": alive\n\n"
DROPPED = b"event: dropped\ndata: {}\n\n"


def event(shown: dict[str, Any]) -> bytes:
    """One exchange; JSON without indentation has no line break in it."""
    return b"event: exchange\nid: %b\ndata: %b\n\n" % (shown["span_id"].encode(), in_json(shown))
