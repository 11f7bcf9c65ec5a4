"""
Typed reading of JSON that may not be what its sender promised: what fits is kept, what does not is left at its default.

The first try is one typed decode, which is all that well-behaved peers ever cost. Only where that fails the members are tried
one by one, and text that no UTF-8 can say (half of a surrogate pair, which streams do break) is mended before.
"""

import json
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from sidecar.dialects.dialect import Unreadable

MOST_MENDED_BYTES = 1 << 20
"""JSON above this is not mended: that costs ten times a decode, and the loop would wait for it."""

MOST_SECOND_TRY_BYTES = 4 << 20
"""JSON above this whose members do not fit is unreadable: to look at each of them takes many times as long as to decode it."""

MOST_ITEMS = 20_000
"""Objects, or texts, of a list above 256 KiB: one that may have more of them is not taken apart."""
_MOST_LIST_BYTES = 1 << 18

_MOST_LEVELS = 8  # of the tolerant second try: each one reads what stands below it once more
_MOST_ITEMS = 1024  # of a list in the second try
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNFIT = object()

T = TypeVar("T")

MOST_COUNT = 2**32
"""A count above this is nonsense."""


def count(value: float | None) -> int:
    """Return a count as a peer told it: 0 for none, and for what cannot be one (negative, absurd)."""
    return int(value) if value is not None and 0 < value <= MOST_COUNT else 0


def least(value: float, total: int) -> int:
    """Return a count as a peer told it, but no more than the total that it is a part of."""
    if 0 < value <= MOST_COUNT:
        return int(value) if value < total else total
    return 0


def size(text: str | None) -> int:
    """Return how many bytes a text has in UTF-8."""
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def raw_size(raw: msgspec.Raw) -> int:
    """Return how many bytes of JSON a member is; 0 where it is absent or null (a union of Raw and None would take null only)."""
    size = memoryview(raw).nbytes
    return 0 if size == 4 and bytes(raw) == b"null" else size


class Lenient(Generic[T]):
    """Decodes JSON into one kind of msgspec Struct, all of whose members have defaults."""

    __slots__ = ("_decode", "_kind")

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def decode(self, data: bytes) -> T:
        """Return what could be read of `data`; raises `Unreadable` where it is no JSON object."""
        try:
            return self._decode(data)
        except _BROKEN:
            return self._second_try(data)

    def try_to(self, data: bytes) -> tuple[T, bool]:
        """As `decode`, and whether everything fitted: a member that is not told is not there then."""
        try:
            return self._decode(data), True
        except _BROKEN:
            return self._second_try(data), False

    def _second_try(self, data: bytes) -> T:
        if len(data) > MOST_SECOND_TRY_BYTES:
            raise Unreadable("too much to be read again, member by member")
        try:
            data = data.decode("utf-8", "replace").encode()  # costs little where all is well
            found = _fit(data, self._kind, _MOST_LEVELS)
            if found is _UNFIT:
                found = _fit(_mended(data), self._kind, _MOST_LEVELS)
        except (ValueError, RecursionError):
            found = _UNFIT
        if found is _UNFIT:
            raise Unreadable("no JSON object")
        return found  # type: ignore[no-any-return]  # what `_fit` returns is of the kind that it was given


class Lists(Generic[T]):
    """
    Decodes a list that was left as raw JSON until its length was known, of Structs or texts.

    What peers send may be millions of the smallest items; each would become an object.
    """

    __slots__ = ("_items", "_mark", "_most_marks")

    def __init__(self, kind: type[T]) -> None:
        self._mark = b'"' if kind is str else b"{"
        self._most_marks = 2 * MOST_ITEMS if kind is str else MOST_ITEMS
        self._items = Lenient(list[kind])  # type: ignore[valid-type]  # a type that is known at run time only

    def read(self, raw: bytes) -> list[T] | None:
        """Return the items that could be read, none of what is no list; None where there are more than anybody means."""
        if raw[:1] != b"[":
            return []
        if len(raw) > _MOST_LIST_BYTES and raw.count(self._mark) > self._most_marks:
            return None
        try:
            return self._items.decode(raw)
        except Unreadable:
            return []


def _mended(data: bytes) -> bytes:
    """The same JSON, rewritten so that a strict parser takes it; raises ValueError or RecursionError where nobody would."""
    if len(data) > MOST_MENDED_BYTES:
        raise Unreadable("too large to be mended")
    value = json.loads(data.decode("utf-8-sig", "replace"), parse_constant=lambda _: None)
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _fit(data: bytes | msgspec.Raw, kind: Any, levels: int) -> Any:
    """What of `data` fits `kind`: a Struct without the members that do not, a list without such items; or `_UNFIT`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except _BROKEN:
        pass
    if levels == 0:
        return _UNFIT
    try:
        if get_origin(kind) in (UnionType, Union):
            fits = (_fit(data, each, levels - 1) for each in get_args(kind) if each is not NoneType)
            return next((each for each in fits if each is not _UNFIT), _UNFIT)
        if get_origin(kind) is list:
            items = [_fit(item, get_args(kind)[0], levels - 1) for item in _ITEMS(data)[:_MOST_ITEMS]]
            return [item for item in items if item is not _UNFIT]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return _fit_members(_MEMBERS(data), kind, levels)
    except _BROKEN:
        pass
    return _UNFIT


def _fit_members(members: dict[str, msgspec.Raw], kind: type[msgspec.Struct], levels: int) -> msgspec.Struct:
    fitting = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name in members:
            value = _fit(members[field.encode_name], field.type, levels - 1)
            if value is not _UNFIT:
                fitting[field.name] = value
    return kind(**fitting)
