"""
The texts of a long answer: they stay raw JSON, as nobody asks for more than their length.

    class Part(msgspec.Struct):
        text: Text = None

    left_raw(Part)      # the same Struct, but that its texts are not decoded

To make a `str` of a text of many megabytes, and to count its bytes then, takes several times as long as to leap over it.
"""

import re
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

import msgspec

LONG_BYTES = 64 * 1024
"""The texts of an answer above this stay raw."""

MOST_WORDS_BYTES = 1 << 20
"""A raw text that is longer is never decoded."""

_SAMPLES, _SAMPLE_BYTES = 64, 256
_QUOTE = ord('"')
_SHORT = re.compile(rb"\\u(?:(00[0-7])|0[0-7]|d[89a-f])", re.IGNORECASE).findall  # of one byte, of two, half a pair: of two
_TEXT = object()
_words = msgspec.json.Decoder(str).decode

T = TypeVar("T", bound=msgspec.Struct)


def text_or(kind: Any) -> Any:
    """Return the type of a member that is a text, something of this kind, or null, and that is left raw like a text."""
    return Annotated[str | kind | None, _TEXT]


if TYPE_CHECKING:
    Text = str | msgspec.Raw | None
else:
    Text = text_or(None)


def text_bytes(raw: msgspec.Raw) -> int:
    """
    Return how many bytes in UTF-8 a raw text has; 0 for what is no text.

    Exact where nothing in it is escaped, and up to 16 KiB; of a longer one samples tell what share of it escapes are.
    """
    view = memoryview(raw)
    length = view.nbytes - 2
    if length <= 0 or view[0] != _QUOTE:
        return 0
    if length <= _SAMPLES * _SAMPLE_BYTES:
        sample = bytes(view[1:-1])
    else:
        sample = b"".join([view[at : at + _SAMPLE_BYTES] for at in range(1, length - _SAMPLE_BYTES, length // _SAMPLES)])
    return length if b"\\" not in sample else length * _said(sample) // len(sample)


def _said(sample: bytes) -> int:
    """How many bytes remain of some JSON when its escapes are what they stand for."""
    sample = sample.replace(rb"\\", b"-")
    short = _SHORT(sample)
    ascii_ones = sum(map(bool, short))
    return len(sample) - sample.count(b"\\") - 2 * sample.count(rb"\u") - len(short) - ascii_ones


def words(text: Text) -> str | None:
    """Return a text as such; None where it is absent, no text, or raw and above `MOST_WORDS_BYTES`."""
    if not isinstance(text, msgspec.Raw):
        return text
    try:
        return _words(text) if memoryview(text).nbytes <= MOST_WORDS_BYTES else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def left_raw(kind: type[T]) -> type[T]:
    """Return a kind of Struct, derived from this one, whose texts are left raw, and those of all Structs in it."""
    members = []
    for each in msgspec.structs.fields(kind):
        left = _left(each.type)
        if left is not each.type:
            members.append((each.name, left, msgspec.field(default=each.default, name=each.encode_name)))
    if not members:
        return kind
    return msgspec.defstruct(kind.__name__, members, bases=(kind,), gc=False)  # type: ignore[return-value]  # of that base


def _left(kind: Any) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return msgspec.Raw if _TEXT in kind.__metadata__ else kind
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return left_raw(kind)
    kinds = get_args(kind)
    left = [_left(each) for each in kinds]
    if all(one is other for one, other in zip(left, kinds, strict=True)):
        return kind
    return list[left[0]] if origin is list else reduce(or_, left)  # type: ignore[valid-type]  # made at run time
