"""
W3C Baggage on bytes: what an agent says about its work, sent along with each of its requests.

Members that are malformed are left out and never fail a request; the others go on exactly as they came, because decoding
and encoding again would change them for readers that take `+` for a space. Source: https://www.w3.org/TR/baggage/.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

MAX_MEMBERS = 64
"""Members that a platform has to pass on (section 3.3.2); further ones are dropped and counted."""

MAX_BYTES = 8192
"""Size of the header that a platform has to pass on (section 3.3.2); members that do not fit are dropped and counted."""

_MAX_SCANNED = 512  # parts between commas that are looked at, so that a header of commas costs little
_OWS = b" \t"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_OCTETS = rb"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*+"
# Groups are not possessive: before Python 3.11.5 such a group may match what it does not (gh-106052). Nothing is tried twice.
_PROPERTY = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+%b)?" % (_TOKEN, _OCTETS)

_token = re.compile(_TOKEN).fullmatch
_member = re.compile(rb"(%b)[ \t]*+=[ \t]*+(%b)((?:%b)*)" % (_TOKEN, _OCTETS, _PROPERTY)).fullmatch
_properties = re.compile(rb"(?:%b)*" % _PROPERTY).fullmatch
_escape = re.compile(rb"%([0-9A-Fa-f]{2})")
# Of the legal octets % has to be encoded, and + is, because some readers take it for a space.
_unsafe = re.compile(rb"[^\x21\x23\x24\x26-\x2a\x2d-\x3a\x3c-\x5b\x5d-\x7e]")


class Member(NamedTuple):
    """One entry as on the wire: `key` is a token, `encoded` the percent-encoded value, `properties` b"" or from its ; on."""

    key: bytes
    encoded: bytes
    properties: bytes = b""

    @classmethod
    def of(cls, key: bytes, value: str, properties: bytes = b"") -> "Member":
        """A member with any text as its value; ValueError where `key` is no token or `properties` are malformed."""
        if not _token(key):
            raise ValueError(f"a baggage key has to be a token (RFC 9110, section 5.6.2), not {key!r}")
        if not _properties(properties):
            raise ValueError(f"baggage properties have to look like ;key=value, not {properties!r}")
        return cls(key, _unsafe.sub(_encode_octet, value.encode("utf-8", "replace")), properties)

    @property
    def value(self) -> str:
        """The value decoded; what is not UTF-8 reads as U+FFFD, `+` as itself."""
        return _decode(self.encoded)


class Baggage:
    """The members of a request's baggage in their order; `dropped` counts those that were malformed or above a limit."""

    __slots__ = ("dropped", "members")

    def __init__(self, members: Iterable[Member] = (), dropped: int = 0) -> None:
        self.members = tuple(members)
        self.dropped = dropped

    def get(self, key: bytes) -> str | None:
        """The value of `key`, or None; of several the last, as in OpenTelemetry, where a later one takes precedence."""
        for member in reversed(self.members):
            if member.key == key:
                return member.value
        return None

    def without(self, keys: Collection[bytes]) -> "Baggage":
        """The same baggage less all members of these keys; those were not lost, so `dropped` stays as it is."""
        return Baggage((member for member in self.members if member.key not in keys), self.dropped)

    def format(self) -> bytes:
        """The value of one baggage header; b"" where there is nothing to send."""
        return b",".join([b"%b=%b%b" % member for member in self.members])


def parse(values: Sequence[bytes]) -> Baggage:
    """The baggage in all baggage headers of a request, as much of it as is well formed and within the limits."""
    parts = b",".join(values).split(b",", _MAX_SCANNED)
    dropped = 0
    if len(parts) > _MAX_SCANNED:
        dropped = parts.pop().count(b",") + 1
    members: list[Member] = []
    room = MAX_BYTES + 1  # the first member needs no comma
    for part in parts:
        stripped = part.strip(_OWS)
        if not stripped:
            continue
        match = _member(stripped) if len(stripped) <= MAX_BYTES else None
        if match is None:
            dropped += 1
            continue
        member = Member(*match.groups())
        size = sum(map(len, member)) + len(",=")
        if size > room or len(members) == MAX_MEMBERS:
            dropped += 1
            continue
        room -= size
        members.append(member)
    return Baggage(members, dropped)


def find(values: Sequence[bytes], key: bytes) -> str:
    """
    The value of `key` in these headers, or "" where it is not there: what `parse` and `get` would say, without the rest.

    Made for every request: no header costs nothing, a header without the key one search. A member is found here even where
    it is too much to be passed on.
    """
    found = ""
    for value in values:
        if key in value:
            for part in value.split(b",", _MAX_SCANNED)[:_MAX_SCANNED]:
                match = _member(part.strip(_OWS)) if key in part else None
                if match is not None and match[1] == key:
                    found = _decode(match[2])
    return found


def _decode(encoded: bytes) -> str:
    if b"%" in encoded:
        encoded = _escape.sub(_decode_octet, encoded)
    return encoded.decode("utf-8", "replace")


def _decode_octet(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def _encode_octet(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
