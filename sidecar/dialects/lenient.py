"""
Typed reading of JSON that may not be what its sender promised: what fits is kept, what does not is left at its default.

The first try is one typed decode, which is all that well-behaved peers ever cost. Only where that fails the members are tried
one by one, and text that no UTF-8 can say (half of a surrogate pair, which streams do break) is mended before.

A request may be of many megabytes, and all of it anything. Of a long one (`skim`) the members are left as they are first, which
costs one pass in C whatever they hold, and those that are short enough to be meant are read then.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.long_text import Text, text_bytes

MOST_MENDED_BYTES = 1 << 20
"""JSON above this is not mended: that costs ten times a decode, and the loop would wait for it."""
_MOST_MENDED_PARTS = 50_000  # values of a text that is mended, or what looks like them: each becomes an object

MOST_SECOND_TRY_BYTES = 4 << 20
"""JSON above this whose members do not fit is unreadable: to look at each of them takes many times as long as to decode it."""

LONG_BYTES = 256 * 1024
"""A request above this is skimmed."""

MOST_MEMBER_BYTES = 128 * 1024
"""A member of a long request that is longer does not fit, unless it stays raw: no number, name or option is."""

MOST_ITEMS = 20_000
"""Objects, or texts, of a list above 256 KiB: one that may have more of them is not taken apart."""
_MOST_LIST_BYTES = 1 << 18
_MOST_BYTES = 16 << 20  # of a list of objects; one of texts is shorter
_MOST_COMMAS = 150_000  # of a list above 256 KiB in the second try: as many items would become objects

_NOTHING = msgspec.Raw()
_MARK = b"\xef\xbb\xbf"  # of byte order
_CROWD_BYTES = 2 << 20
_MOST_NAMES, _MOST_VALUES = 500_000, 4_000_000  # a name that is looked for costs some 50 ns, anything else some 5
_HEAD_BYTES = 4096
_SAMPLES, _SAMPLE_BYTES = 128, 512
_MOST_LEVELS = 8  # of the tolerant second try: each one reads what stands below it once more
_MOST_ITEMS = 1024  # of a list in the second try
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNFIT = object()

T = TypeVar("T")

NO_COUNT = -1
"""
What stands for a count that is no number, in a Struct that says `IS_OF_COUNTS`: there it is nonsense, as if it had not been told
the others would be taken for all there was.
"""

MOST_COUNT = 2**32
"""A count above this is nonsense."""


def count(value: float | None) -> int:
    """Return a count as a peer told it: 0 for none, and for what cannot be one (negative, absurd)."""
    return int(value) if value is not None and 0 < value <= MOST_COUNT else 0


def is_crowded(data: bytes) -> bool:
    """
    Whether a request of many megabytes is made of so many members, lists or numbers that even to leap over them takes too long.

    Told by samples, taken where their sender cannot foresee it. JSON, or program text, within a text has colons and brackets too,
    but its quotes are escaped.
    """
    if len(data) <= _CROWD_BYTES:
        return False
    step = len(data) // _SAMPLES
    first = hash(data[: 4 * _SAMPLE_BYTES]) % (step - _SAMPLE_BYTES)
    sample = b"".join([data[at : at + _SAMPLE_BYTES] for at in range(first, len(data), step)])
    share = len(data) / len(sample)
    quotes = sample.count(b'"') - sample.count(b'\\"')
    names = min(sample.count(b":"), quotes // 2)
    values = sample.count(b",") + sample.count(b"[") + sample.count(b"{")
    return names * share > _MOST_NAMES or values * share > _MOST_VALUES


def is_object(data: bytes) -> bool:
    """Whether JSON begins like an object: of a long text that is none a decoder says so when it has read all of it."""
    return _begins(data, b"{")


def _begins(data: bytes, sign: bytes) -> bool:
    return data[:1] == sign or data[:_HEAD_BYTES].removeprefix(_MARK).lstrip()[:1] == sign


def least(value: float, total: int) -> int:
    """Return a count as a peer told it, but no more than the total that it is a part of."""
    if 0 < value <= MOST_COUNT:
        return int(value) if value < total else total
    return 0


def size(text: Text) -> int:
    """Return how many bytes a text has in UTF-8; of a long one that was left raw, a good estimate (`text_bytes`)."""
    if not text:
        return 0
    if isinstance(text, msgspec.Raw):
        return text_bytes(text)
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def raw_size(raw: msgspec.Raw) -> int:
    """Return how many bytes of JSON a member is; 0 where it is absent or null (a union of Raw and None would take null only)."""
    size = memoryview(raw).nbytes
    return 0 if size == 4 and bytes(raw) == b"null" else size


class Lenient(Generic[T]):
    """Decodes JSON into one kind of msgspec Struct, all of whose members have defaults."""

    __slots__ = ("_begins", "_decode", "_kind")

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._begins = b"[" if get_origin(kind) is list else b"{"
        self._decode = msgspec.json.Decoder(kind).decode

    def decode(self, data: bytes, most_bytes: int = MOST_SECOND_TRY_BYTES) -> T:
        """
        Return what could be read of `data`; raises `Unreadable` where it is no JSON object, or does not fit and has more bytes.
        """
        try:
            return self._decode(data)
        except _BROKEN:
            return self._second_try(data, most_bytes)

    def try_to(self, data: bytes) -> tuple[T, bool]:
        """As `skim`, and whether everything fitted: a member that is not told is not there then."""
        if len(data) > LONG_BYTES:
            return self._skimmed(data)
        try:
            return self._decode(data), True
        except _BROKEN:
            return self._second_try(data), False

    def skim(self, data: bytes) -> T:
        """As `decode`, for what may be of many megabytes: of these no member counts that is long and not meant to stay raw."""
        return self._skimmed(data)[0] if len(data) > LONG_BYTES else self.decode(data)

    def _skimmed(self, data: bytes) -> tuple[T, bool]:
        """One pass that takes no wrong type for an error; then the members that are short."""
        kind: Any = self._kind
        if is_crowded(data) or not is_object(data):
            raise Unreadable("no object, or more lists and objects than anybody means")
        try:
            members = _members(data[3:] if data[:3] == _MARK else data, kind)
        except _BROKEN:
            if len(data) > MOST_MENDED_BYTES:
                raise Unreadable("no JSON object") from None
            return self._second_try(data), False
        fitting, fits = {}, True
        for name, (raw, its_kind) in members.items():
            if its_kind is msgspec.Raw:
                fitting[name] = raw
            elif memoryview(raw).nbytes > MOST_MEMBER_BYTES:
                fits = False
            else:
                value, is_whole = _fit_or_part(raw, its_kind)
                fits = fits and is_whole
                if value is not _UNFIT:
                    fitting[name] = value
        return kind(**fitting), fits

    def _second_try(self, data: bytes, most_bytes: int = MOST_SECOND_TRY_BYTES) -> T:
        if len(data) > most_bytes:
            raise Unreadable("too much to be read again, member by member")
        if not _begins(data, self._begins):  # lines of a byte each are not worth more than that
            raise Unreadable("no JSON object")
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

    __slots__ = ("_items", "_mark", "_most_bytes", "_most_marks")

    def __init__(self, kind: type[T]) -> None:
        self._mark = b'"' if kind is str else b"{"
        self._most_marks = 2 * MOST_ITEMS if kind is str else MOST_ITEMS
        self._most_bytes = MOST_MENDED_BYTES if kind is str else _MOST_BYTES
        self._items = Lenient(list[kind])  # type: ignore[valid-type]  # a type that is known at run time only

    def read(self, raw: bytes) -> list[T] | None:
        """Return the items that could be read, none of what is no list; None where there are more than anybody means."""
        if raw[:1] != b"[":
            return []
        if len(raw) > _MOST_LIST_BYTES and (len(raw) > self._most_bytes or raw.count(self._mark) > self._most_marks):
            return None
        try:
            return self._items.decode(raw, MOST_MENDED_BYTES)
        except Unreadable:
            return [] if len(raw) <= MOST_MENDED_BYTES else None


def _mended(data: bytes) -> bytes:
    """The same JSON, rewritten so that a strict parser takes it; raises ValueError or RecursionError where nobody would."""
    parts = data.count(b",") + data.count(b"[") + data.count(b"{") if len(data) <= MOST_MENDED_BYTES else 0
    if len(data) > MOST_MENDED_BYTES or parts > _MOST_MENDED_PARTS:
        raise Unreadable("too large to be mended")
    value = json.loads(data.decode("utf-8-sig", "replace"), parse_constant=lambda _: None)
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


@cache
def _left(kind: type[msgspec.Struct]) -> tuple[Callable[[bytes | msgspec.Raw], msgspec.Struct], dict[str, Any]]:
    """What decodes the members of a Struct, each left as it is, and the kinds that they should have."""
    fields = msgspec.structs.fields(kind)
    members = [(each.name, msgspec.Raw, msgspec.field(default=_NOTHING, name=each.encode_name)) for each in fields]
    return msgspec.json.Decoder(msgspec.defstruct("Left", members, gc=False)).decode, {each.name: each.type for each in fields}


def _members(data: bytes | msgspec.Raw, kind: type[msgspec.Struct]) -> dict[str, tuple[msgspec.Raw, Any]]:
    """Those members of an object that a Struct has, with their kinds; of others there may be millions, which are leapt over."""
    decode, kinds = _left(kind)
    left = decode(data)
    found = ((name, getattr(left, name), each) for name, each in kinds.items())
    return {name: (raw, each) for name, raw, each in found if raw is not _NOTHING}


def _fit_or_part(raw: msgspec.Raw, kind: Any) -> tuple[Any, bool]:
    try:
        return msgspec.json.decode(raw, type=kind), True
    except _BROKEN:
        return _fit(raw, kind, _MOST_LEVELS - 1), False


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
            return _fit_items(data, get_args(kind)[0], levels)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return _fit_members(data, kind, levels)
    except _BROKEN:
        pass
    return _UNFIT


def _fit_items(data: bytes | msgspec.Raw, kind: Any, levels: int) -> Any:
    if memoryview(data).nbytes > _MOST_LIST_BYTES and bytes(data).count(b",") > _MOST_COMMAS:
        return _UNFIT
    items = [_fit(item, kind, levels - 1) for item in _ITEMS(data)[:_MOST_ITEMS]]
    return [item for item in items if item is not _UNFIT]


def _fit_members(data: bytes | msgspec.Raw, kind: type[msgspec.Struct], levels: int) -> msgspec.Struct:
    fitting = {}
    for name, (raw, its_kind) in _members(data, kind).items():
        value = _fit(raw, its_kind, levels - 1)
        if value is not _UNFIT:
            fitting[name] = value
        elif getattr(kind, "IS_OF_COUNTS", False):
            with suppress(msgspec.ValidationError):  # it takes no number
                fitting[name] = msgspec.convert(NO_COUNT, its_kind)
    return kind(**fitting)
