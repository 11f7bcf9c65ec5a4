"""
OTLP's own JSON: like protobuf's, but ids are hexadecimal, enums are numbers, and names are lowerCamelCase only.

Source: opentelemetry-proto 1.11.0, docs/specification.md, JSON Protobuf Encoding. It follows the descriptors of protobuf's
classes, so it knows every message; what it has learnt of a field it remembers. At 15 to 50 µs a span it is for files and for
rare senders, not for the way of every call. The first call loads msgspec (25 ms): make it in a thread.
"""

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any

_IDS = frozenset({"trace_id", "span_id", "parent_span_id"})
_SPECIAL_DOUBLES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(message: Any) -> bytes:
    """A message as JSON in one line; fields without a value are left out."""
    import msgspec  # it weighs, and is loaded only where it is used

    return msgspec.json.encode(_encoded(message))


def from_json(body: bytes, message: Any) -> Any:
    """Fill the (empty) message from JSON and return it; unknown fields are ignored. Raises ValueError with the place."""
    import msgspec  # as above

    try:
        _fill(message, msgspec.json.decode(body), "")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return message


def _encoded(message: Any) -> dict[str, Any]:
    shown = {}
    for field, value in message.ListFields():
        name, write = _WRITERS[field]
        shown[name] = write(value)
    return shown


class _Writers(dict[Any, tuple[str, Callable[[Any], Any]]]):
    """How each field is written: its name in JSON, and what makes JSON's value of protobuf's. There are as many as OTLP has."""

    __slots__ = ()

    def __missing__(self, field: Any) -> tuple[str, Callable[[Any], Any]]:
        write = _writer(field)
        found = self[field] = (field.json_name, (lambda values: list(map(write, values))) if field.is_repeated else write)
        return found


_WRITERS = _Writers()


def _writer(field: Any) -> Callable[[Any], Any]:
    match field.cpp_type:
        case field.CPPTYPE_MESSAGE:
            return _encoded
        case field.CPPTYPE_INT64 | field.CPPTYPE_UINT64:
            return str
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return _written_double
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            return bytes.hex if field.name in _IDS else _written_base64
        case _:
            return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _written_double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _written_base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


class _Names(dict[Any, dict[str, Any]]):
    """The fields of each kind of message by their names in JSON."""

    __slots__ = ()

    def __missing__(self, descriptor: Any) -> dict[str, Any]:
        found = self[descriptor] = {field.json_name: field for field in descriptor.fields}
        return found


_NAMES = _Names()


def _fill(message: Any, written: Any, place: str) -> None:
    if not isinstance(written, dict):
        raise ValueError(f"{place or 'the request'}: an object is expected, not {_short(written)}")
    fields = _NAMES[message.DESCRIPTOR]
    for key, value in written.items():
        field = fields.get(key)
        if field is None or value is None:
            continue
        here = f"{place}.{key}" if place else key
        if not field.is_repeated:
            _set(message, field, value, here)
            continue
        if not isinstance(value, list):
            raise ValueError(f"{here}: a list is expected, not {_short(value)}")
        for index, one in enumerate(value):
            _append(getattr(message, field.name), field, one, f"{here}[{index}]")


def _set(message: Any, field: Any, written: Any, place: str) -> None:
    if field.cpp_type == field.CPPTYPE_MESSAGE:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _fill(inner, written, place)
        return
    try:
        setattr(message, field.name, _decoded(field, written))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None


def _append(target: Any, field: Any, written: Any, place: str) -> None:
    if field.cpp_type == field.CPPTYPE_MESSAGE:
        _fill(target.add(), written, place)
        return
    try:
        target.append(_decoded(field, written))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None


def _decoded(field: Any, written: Any) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_INT32 | field.CPPTYPE_UINT32 | field.CPPTYPE_INT64 | field.CPPTYPE_UINT64:
            return _integer(written)
        case field.CPPTYPE_ENUM:
            if isinstance(written, bool) or not isinstance(written, int):
                raise ValueError(f"an enum is its number, not {_short(written)}")
            return written
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return _double(written)
        case field.CPPTYPE_BOOL if not isinstance(written, bool):
            raise ValueError(f"true or false is expected, not {_short(written)}")
        case field.CPPTYPE_STRING if not isinstance(written, str):
            raise ValueError(f"a string is expected, not {_short(written)}")
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            return _hexadecimal(written) if field.name in _IDS else _base64(written)
        case _:
            return written


def _integer(written: Any) -> int:
    """A number, or, as JSON's numbers have only 53 bits, a decimal string."""
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise ValueError(f"an integer is expected, not {_short(written)}")
    if isinstance(written, str) and (len(written) > 20 or not written.removeprefix("-").isdecimal() or not written.isascii()):
        raise ValueError(f"an integer is expected, not {_short(written)}")
    return int(written)


def _double(written: Any) -> float:
    if isinstance(written, str) and written in _SPECIAL_DOUBLES:
        return _SPECIAL_DOUBLES[written]
    if isinstance(written, bool) or not isinstance(written, int | float):
        raise ValueError(f"a number is expected, not {_short(written)}")
    return float(written)


def _hexadecimal(written: str) -> bytes:
    try:
        return binascii.unhexlify(written)
    except ValueError:
        raise ValueError(f"an id is hexadecimal, not {_short(written)}") from None


def _base64(written: str) -> bytes:
    """Standard or URL-safe base64, with or without padding, as protobuf's JSON allows."""
    plain = written.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ValueError(f"base64 is expected, not {_short(written)}") from None


def _short(written: Any) -> str:
    text = repr(written)
    return text if len(text) <= 40 else f"{text[:37]}..."
