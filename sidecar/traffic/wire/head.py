"""
What heads of requests and responses have in common: strict in what is a head at all, untouched in what a proxy need not know.

httptools (llhttp in its strict mode) judges each head, one fresh parser a head, so that no state of one message can leak
into the next; then its lines are split and only the fields of `fields.Field` are looked at. What llhttp refuses although
the RFC lets a proxy mend it (unknown methods, equal Content-Lengths, folded lines of a response) is mended first in `mending`.
"""

from collections.abc import Collection
from typing import Final

from sidecar.traffic.wire.fields import KINDS, Field

UNTIL_CLOSE: Final = -1
CHUNKED: Final = -2
"""`length` of a body that ends with the connection, or with its last chunk; otherwise the number of its bytes."""

_MOST_DIGITS, _MOST_LENGTH = 19, 64
"""Digits of a Content-Length that count, and all of them with leading zeros; int(3) itself gives up beyond 4,300."""

_FRAMING = frozenset((int(Field.CONTENT_LENGTH), int(Field.TRANSFER_ENCODING)))
_NEVER_NAMED = frozenset((b"", b"close", b"keep-alive", b"upgrade", b"te", b"host", b"content-length", b"transfer-encoding"))


class Seen:
    """
    What llhttp reports while it judges a head: for each field whether the wire looks at it.

    `specials` holds (kind, value, place) of those, `place` being the field's line in the head, counted from 1.
    """

    __slots__ = ("count", "specials")

    def __init__(self) -> None:
        self.count: list[None] = []
        self.specials: list[tuple[int, bytes, int]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        kind = KINDS[name]
        self.count.append(None)
        if kind:
            self.specials.append((kind, value, len(self.count)))


class Nothing:
    """Listens to nothing: llhttp only judges."""

    __slots__ = ()


NOTHING = Nothing()


def tokens(value: bytes) -> frozenset[bytes]:
    """The members of a comma-separated field value, in lower case."""
    return frozenset(token.strip(b" \t") for token in value.lower().split(b","))


def hop_by_hop(connection: Collection[bytes]) -> frozenset[bytes]:
    """The fields that Connection names, but for those that frame or address the message (RFC 9110 section 7.6.1)."""
    return frozenset(connection) - _NEVER_NAMED


def is_endless(length: bytes) -> bool:
    """True for a Content-Length that is too long to be one (RFC 9110 section 8.6 asks to mind overflows)."""
    return len(length) > _MOST_LENGTH or len(length.strip(b" \t").lstrip(b"0")) > _MOST_DIGITS


def without_framing(lines: list[bytes]) -> list[bytes]:
    """Take out Content-Length and Transfer-Encoding, for a body that goes on in another framing than it came."""
    return [line for line in lines if KINDS[line[: line.find(b":")]] not in _FRAMING]


def framing_of(lines: list[bytes]) -> list[bytes]:
    """Return those lines that `without_framing` takes out."""
    return [line for line in lines if KINDS[line[: line.find(b":")]] in _FRAMING]


def has_bare_line_feed(data: bytes, checked: int = 0) -> bool:
    """True when a line of an unfinished head ends with LF alone; the first `checked` bytes have been looked at."""
    start = max(checked - 1, 0)
    at = data.find(b"\n", start)
    while at >= 0:
        if at == 0 or data[at - 1] != 13:
            return True
        at = data.find(b"\n", at + 1)
    return False
