"""
JSON of which nobody knows the types: every question has an answer, and of wrong types it is "nothing".

For what is read seldom and in all its variety (content.py of each dialect); what is read of every call is typed (lenient.py).
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from sidecar.dialects.ndjson import Lines
from sidecar.dialects.sse import EventStream
from sidecar.dialects.unfinished import finished

MOST_DEPTH = 64
"""Of a value that is written again; what is deeper is left out."""
MOST_TEXT = 256
"""Characters of a name or an id."""
MOST_EVENTS = 4096
"""Of a stream; what comes after them is not read."""
MOST_ITEMS = 4096
"""Of a list; of more the last count."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_BROKEN = (ValueError, RecursionError)
_BASE64 = re.compile(r"[A-Za-z0-9+/_=\r\n-]{64,256}").fullmatch
_BYTES = frozenset({"data", "bytes", "blob", "raw", "base64", "b64_json", "file_data", "image_data", "result"})
_BEGINS = frozenset((b"{", b"[", b" ", b"\t", b"\r", b"\n", b"\xef"))  # the last one begins a byte order mark
_MEDIA_TYPES = frozenset({"mimeType", "mime_type", "mediaType", "media_type"})
_LEFT_OUT_FROM = 64  # what is shorter is no picture


def value_of(data: bytes) -> Any:
    """Return what an object or a list in JSON says, also one that breaks off; None where there is none."""
    if data[:1] not in _BEGINS:
        return None
    try:
        return _decode(data)
    except _BROKEN:
        pass
    try:
        closed = finished(data)
        try:
            return _decode(closed)
        except _BROKEN:
            return json.loads(closed.decode("utf-8-sig", "replace"), parse_constant=lambda _: None)
    except _BROKEN:
        return None


def is_stream(content_type: str) -> bool:
    """Whether a media type is that of server-sent events."""
    return "event-stream" in content_type.lower() and "amazon" not in content_type.lower()


def events_of(stream: bytes) -> Iterator[tuple[str, Any]]:
    """Read the server-sent events of a stream, or of the beginning of one: their names, and what their data say."""
    for name, data in EventStream(max(1, len(stream))).feed(stream)[:MOST_EVENTS]:
        yield name.decode("utf-8", "replace"), value_of(data)


def lines_of(stream: bytes) -> Iterator[Any]:
    """Read the lines of a stream, or of the beginning of one, each a JSON text."""
    lines = Lines(max(1, len(stream)))
    for line in [*lines.feed(stream), lines.rest()][:MOST_EVENTS]:
        yield value_of(line)


def member(value: Any, *names: str) -> Any:
    """Return the first of these members that is there and not null; None for none."""
    if isinstance(value, dict):
        for name in names:
            found = value.get(name)
            if found is not None:
                return found
    return None


def text(value: Any, *names: str) -> str:
    """Return the first of these members that is a text, "" for none."""
    if isinstance(value, dict):
        for name in names:
            found = value.get(name)
            if isinstance(found, str):
                return found
    return ""


def short(value: Any, *names: str) -> str:
    """Return a name or id: as `text`, but cut, and a number as it is written."""
    found = member(value, *names)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found) if -(1 << 63) < found < 1 << 64 else ""
    return found[:MOST_TEXT] if isinstance(found, str) else ""


def index(value: Any, name: str) -> int:
    """Return a member that is a position; 0 where it is none."""
    found = member(value, name)
    return found if isinstance(found, int) and 0 <= found < 1 << 31 else 0


def items(value: Any, *names: str) -> list[Any]:
    """Return the first of these members that is a list, no more than its last `MOST_ITEMS`; an empty one for none."""
    for name in names:
        found = member(value, name)
        if isinstance(found, list):
            return found if len(found) <= MOST_ITEMS else found[-MOST_ITEMS:]
    return []


def raw(value: Any) -> bytes:
    """Return a value as JSON, without the Base64 of pictures, sounds and files in it."""
    clean = without_bytes(value)
    try:
        return _encode(clean)
    except (ValueError, TypeError, OverflowError):  # half of a surrogate pair, or a number that is too large
        return json.dumps(clean, default=str).encode("ascii", "replace")


def without_bytes(value: Any, depth: int = MOST_DEPTH) -> Any:
    """Return a value in which what is Base64 by its name and its look, or a `data:` URL, is left out."""
    if isinstance(value, str):
        return value[: value.find(",") + 1] if value[:5] == "data:" and ";base64," in value[:256] else value
    if not isinstance(value, dict | list):
        return value
    if not depth:
        return None
    if isinstance(value, list):
        return [without_bytes(each, depth - 1) for each in value]
    is_medium = not _MEDIA_TYPES.isdisjoint(value)
    return {name: "" if _is_blob(name, each, is_medium) else without_bytes(each, depth - 1) for name, each in value.items()}


def _is_blob(name: str, value: Any, is_medium: bool) -> bool:
    """By its name and its look, or by its name beside a media type."""
    if name not in _BYTES or not isinstance(value, str):
        return False
    return is_medium or (len(value) >= _LEFT_OUT_FROM and _BASE64(value[:256]) is not None)
