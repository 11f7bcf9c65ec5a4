"""
Protobuf by hand: the few things that are needed to write spans fast and to read small answers without loading protobuf.

Source: protobuf.dev/programming-guides/encoding. A field is a tag (number << 3 | wire type) and its value; wire type 0 is a
varint, 1 eight bytes, 2 a length and that many bytes, 5 four bytes.
"""

import struct
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

MAX_TEXT_CHARS = 4095
"""Longer attribute values are cut: backends cut (New Relic: 4095) or refuse the whole batch."""

_INT64_MAX = 2**63 - 1
_DOUBLE, _PADDED4 = struct.Struct("<d"), struct.Struct("<I")

# Readers have to take a varint with needless bytes: protobuf bounds it at ten bytes and wants no shortest form; Perfetto
# (protozero) pads all its lengths likewise. Numbers hardly repeat, but their upper bits do; those up to 2^19 are here.
PADDED = tuple((0x808080 | (upper & 0x7F) << 8 | upper >> 7 << 16) - (upper << 7) for upper in range(2**12))
"""`number + PADDED[number >> 7]` is its varint, padded to four bytes, as a little-endian number; IndexError from 2^19 on."""


def varint(number: int) -> bytes:
    """A number from 0 to 2^64 - 1, seven bits a byte, lowest first."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: bytes) -> bytes:
    """A field of bytes, a string or a message."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def utf8(text: str) -> bytes:
    """The text as a protobuf string: valid UTF-8 whatever came in, and cut where it is too long."""
    return text[:MAX_TEXT_CHARS].encode("utf-8", "replace")


def text_attribute(key: str, value: str, *, number: int = 9) -> bytes:
    """A KeyValue with a string, as field `number` of its message (9 in a Span, 1 in a Resource)."""
    name, text = key.encode(), utf8(value)
    size, whole = len(text), len(name) + len(text) + 6
    if whole < 0x80:  # all four lengths are one byte, as nearly always
        return b"%c%c\x0a%c%b\x12%c\x0a%c%b" % (number << 3 | 2, whole, len(name), name, size + 2, size, text)
    return field(number, field(1, name) + field(2, field(1, text)))


def int_attribute(key: str, value: int, *, number: int = 9) -> bytes:
    """A KeyValue with a 64-bit integer; larger ones become the largest, negative ones 0."""
    value = min(max(value, 0), _INT64_MAX)
    return field(number, field(1, key.encode()) + field(2, b"\x18" + varint(value)))


def double_attribute(key: str, value: float, *, number: int = 9) -> bytes:
    """A KeyValue with a double."""
    return field(number, field(1, key.encode()) + field(2, b"\x21" + _DOUBLE.pack(value)))


def bool_attribute(key: str, value: bool, *, number: int = 9) -> bytes:
    """A KeyValue with a boolean."""
    return field(number, field(1, key.encode()) + field(2, b"\x10\x01" if value else b"\x10\x00"))


def texts_attribute(key: str, values: Iterable[str], *, number: int = 9) -> bytes:
    """A KeyValue with an array of strings."""
    array = b"".join(field(1, field(1, utf8(value))) for value in values)
    return field(number, field(1, key.encode()) + field(2, field(5, array)))


class Key:
    """
    The key of a span's attribute whose value is another in each span: all but the value is written once.

    `integer` stands before four bytes of a padded varint (PADDED), `double` before eight of a double.
    """

    __slots__ = ("_heads", "_name", "double", "integer")

    def __init__(self, name: str) -> None:
        self._name = name
        whole = text_attribute(name, "")
        assert len(whole) < 0x60, name  # its lengths are one byte each, with room for a text
        self._heads = tuple(text_attribute(name, "x" * size)[: len(whole)] for size in range(0x82 - len(whole)))
        self.integer = int_attribute(name, 2**28 - 1)[:-4]
        self.double = double_attribute(name, 0.0)[:-8]

    def text(self, value: str) -> tuple[bytes, ...]:
        """The attribute with this text, in pieces."""
        try:
            text = value.encode()
            return self._heads[len(text)], text
        except (IndexError, UnicodeEncodeError):  # longer than usual, or half of a surrogate pair
            return (text_attribute(self._name, value),)

    def number(self, value: int) -> bytes:
        """The attribute with this whole number."""
        try:
            return self.integer + _PADDED4.pack(value + PADDED[value >> 7])
        except (IndexError, struct.error):
            return int_attribute(self._name, value)

    def seconds(self, value: float) -> bytes:
        """The attribute with this number."""
        return self.double + _DOUBLE.pack(value)


K = TypeVar("K", bound=Hashable)


class Cache(dict[K, bytes]):
    """
    Bytes by what they were written from: `cache[key]` writes them on the first use.

    It holds at most `limit` entries and is emptied when full, so hostile keys cost time and never memory; `weight(key)`
    (the bytes that a key keeps alive) and the value together must not be more than `most_bytes`, or they are not kept.
    """

    __slots__ = ("_limit", "_most_bytes", "_weight", "_write")

    def __init__(self, write: Callable[[K], bytes], *, limit: int, most_bytes: int, weight: Callable[[K], int]) -> None:
        super().__init__()
        self._write = write
        self._limit = limit
        self._most_bytes = most_bytes
        self._weight = weight

    def __missing__(self, key: K) -> bytes:
        value = self._write(key)
        if len(value) + self._weight(key) <= self._most_bytes:
            if len(self) >= self._limit:
                self.clear()
            self[key] = value
        return value


class Malformed(ValueError):
    """These bytes are not a protobuf message."""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """
    The fields of a message, as number and value: an int for varints and fixed widths, bytes for everything with a length.

    Raises Malformed where the bytes end too early or a wire type is unknown.
    """
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        if kind == 2:
            length, at = _read_varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise Malformed(f"wire type {kind} at byte {at}")
        piece = message[at : at + length]
        if len(piece) != length:
            raise Malformed(f"field {number} ends after {len(piece)} of {length} bytes")
        at += length
        yield number, piece if kind == 2 else int.from_bytes(piece, "little")


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise Malformed("the message ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed(f"a number of more than ten bytes at byte {at}")
