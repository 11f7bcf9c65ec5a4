"""
Plain scalars of YAML, typed by the core schema of YAML 1.2 (section 10.3.2).

So `no`, `on`, `0123` and `12:30` are what people see: texts, and a decimal number. A number remembers how it was written,
because a setting that wants a text (a password, a version) shall get `0123` and `1.10`, not `123` and `1.1`.
"""

import re
from typing import Self

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MOST_DIGITS = 300
"""Longer ones stay texts: no setting needs them, and Python refuses to read decimal integers of 4,300 digits."""


class WrittenInt(int):
    """A whole number whose text is what stood in the file."""

    text: str

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a decimal, octal (`0o17`) or hexadecimal (`0xff`) number."""
        number = cls(text, 0) if text[:2] in ("0o", "0x") else cls(text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


class WrittenFloat(float):
    """A number whose text is what stood in the file."""

    text: str

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a number with a fraction, an exponent or an infinity (`.inf`)."""
        number = cls(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1:].isalpha() else text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


Scalar = str | int | float | bool | None


def typed(text: str) -> Scalar:
    """What a plain scalar means: null, a truth value, a number, or else its own text."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if len(text) > _MOST_DIGITS:
        return text
    if _INT.fullmatch(text):
        return WrittenInt.read(text)
    if _FLOAT.fullmatch(text):
        return WrittenFloat.read(text)
    return WrittenFloat.read(text.lower()) if _INFINITE.fullmatch(text) else text


def bare(value: object) -> object:
    """The same tree without remembered texts: exactly `int`, `float`, `str`, `bool`, None, `list` and `dict`."""
    match value:
        case WrittenInt():
            return int(value)
        case WrittenFloat():
            return float(value)
        case dict():
            return {key: bare(inner) for key, inner in value.items()}
        case list():
            return [bare(inner) for inner in value]
        case _:
            return value
