"""
What the admin API hears and says, free of any network library: `Call` in, `Answer` out.

Importing this file imports msgspec (25 ms), so it is done in a thread, after the proxy listens.
"""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One request to the admin API.

    `target` is the request target as it was sent; the names of `headers` are lower-case; `local` is the IP address at
    which the caller reached us, "" over the Unix socket; `caller` says who it is, as far as the socket knows.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    local: str = ""
    caller: str = ""
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target up to its query, as it was sent."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target behind its question mark."""
        return self.target.partition("?")[2]

    @property
    def over_unix(self) -> bool:
        """Whether the call came over the Unix socket, whose mode has already said who may."""
        return not self.local

    def values(self, name: str) -> list[str]:
        """All values of a header field, in their order; `name` in lower case."""
        return [value for key, value in self.headers if key == name]

    def value(self, name: str) -> str:
        """The values of a list-like header field in one, "" where there is none."""
        return ", ".join(self.values(name))


@dataclass(slots=True, kw_only=True)
class Answer:
    """
    One response: `body` as a whole, or `pieces` that are too many to send in one turn of the loop, or `events` without an end.

    Whoever takes an answer with `events` has to call their `aclose`.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterator[str] | None = None
    events: AsyncIterator[bytes] | None = None


def told(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer in JSON, indented, because it is people who read it with curl."""
    body = msgspec.json.format(in_json(value), indent=2) + b"\n"
    return Answer(status=status, body=body, headers=headers or {})


def in_json(value: Any) -> bytes:
    """A value as JSON in one line; what JSON does not know is shown as text, and half a surrogate pair as a question mark."""
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:  # rare, so it may take its time
        return json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace")
