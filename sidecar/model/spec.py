"""
Specs: what a person may write in the config, and the values that carry their unit there.

A spec is a frozen dataclass with slots and keyword arguments over `Spec`; a string literal under a field is its
documentation. Pydantic reads it, but only when a config is loaded: this file knows how pydantic asks, and imports nothing of it.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config(Spec):
        recovery_timeout: Duration = Duration("30s")
        '''How long the breaker stays open.'''
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar, Self

REDACTED = "[REDACTED]"
"""What stands in the place of a secret, as in the OpenTelemetry Collector."""


class Spec:
    """Base of everything that is read from the config: unknown keys are refused, a number may stand for its own text."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "coerce_numbers_to_str": True}


_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:us|µs|ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9.]+)([^0-9.]+)")
_PER_SECOND = {"us": 1e6, "µs": 1e6, "ms": 1e3}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 100 * 365.25 * 86400


class Duration(float):
    """
    A span of time in seconds, written with its unit: `30s`, `200ms`, `1h30m`, `30d` (us, ms, s, m, h, d).

    A bare number is refused, because nobody can see its unit; only 0 needs none. At most 100 years.
    """

    __slots__ = ()

    def __new__(cls, written: "str | Duration") -> Self:
        """Read a duration; raises ValueError when its unit is missing or unknown, or when it is too long."""
        if isinstance(written, cls):
            return written
        return super().__new__(cls, _seconds(written))

    def __str__(self) -> str:
        return _duration_text(float(self))

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"

    def __format__(self, format_spec: str) -> str:
        return format(float(self), format_spec) if format_spec else str(self)

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # float's own would give back a bare number
        return (str(self),)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return _read_by(cls)


def _seconds(written: object) -> float:
    text = str(written) if isinstance(written, int) and not isinstance(written, bool) else written
    if text == "0":
        return 0.0
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"a duration needs its unit (us, ms, s, m, h, d), as in '30s' or '1h30m', not {_short(written)}")
    seconds = 0.0
    for number, unit in _DURATION_PART.findall(text):
        seconds += float(number) / _PER_SECOND[unit] if unit in _PER_SECOND else float(number) * _SECONDS[unit]
    if seconds > _LONGEST_S:
        raise ValueError(f"{_short(written)} is longer than 100 years")
    return seconds


def _duration_text(seconds: float) -> str:
    micros = round(seconds * 1e6)
    if micros == 0:
        return "0s"
    text = ""
    day, hour, minute = 86_400_000_000, 3_600_000_000, 60_000_000
    if micros >= 2 * day:  # one day stays 24h, as people write it
        text, micros = f"{micros // day}d", micros % day
    for size, unit in ((hour, "h"), (minute, "m")):
        if micros >= size:
            text, micros = f"{text}{micros // size}{unit}", micros % size
    for size, unit in ((1_000_000, "s"), (1_000, "ms"), (1, "us")):
        if micros and micros % size == 0:
            return f"{text}{micros // size}{unit}"
    return text


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


class Size(int):
    """
    A number of bytes, written with its unit: `256KiB`, `1MB`, `512B` (B, kB, MB, GB, TB and KiB, MiB, GiB, TiB).

    A bare number is refused, because nobody can see its unit; only 0 needs none.
    """

    def __new__(cls, written: "str | Size") -> Self:
        """Read a size; raises ValueError when its unit is missing or unknown, or when it is no whole number of bytes."""
        if isinstance(written, cls):
            return written
        return super().__new__(cls, _bytes(written))

    def __str__(self) -> str:
        size = int(self)
        for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB"):
            if size and size % _BYTES[unit] == 0:
                return f"{size // _BYTES[unit]}{unit}"
        return f"{size}B"

    def __repr__(self) -> str:
        return f"Size({str(self)!r})"

    def __format__(self, format_spec: str) -> str:
        return format(int(self), format_spec) if format_spec else str(self)

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # int's own would give back a bare number
        return (str(self),)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return _read_by(cls)


def _bytes(written: object) -> int:
    text = str(written) if isinstance(written, int) and not isinstance(written, bool) else written
    if text == "0":
        return 0
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"a size needs its unit (B, kB, MB, GB, KiB, MiB, GiB), as in '256KiB' or '1MB', not {_short(written)}")
    number, unit = found.groups()
    whole, _, fraction = number.partition(".")
    scale: int = 10 ** len(fraction)
    scaled, rest = divmod(int(whole + fraction) * _BYTES[unit], scale)
    if rest:
        raise ValueError(f"{_short(written)} is no whole number of bytes")
    if scaled >= 2**63:
        raise ValueError(f"{_short(written)} is more than 64 bits can count")
    return scaled


class Secret:
    """
    A text that must not be seen: repr, str and every dump show `[REDACTED]`, only `reveal()` gives the text.

    It is deliberately no `str`, so that no encoder, log line or concatenation can let it out by accident.
    """

    __slots__ = ("_text",)

    def __init__(self, text: "str | Secret") -> None:
        self._text: str = text.reveal() if isinstance(text, Secret) else text

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __str__(self) -> str:
        return REDACTED

    def __repr__(self) -> str:
        return REDACTED

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a secret is not to be copied into a file or another process")

    @classmethod
    def _read(cls, written: object) -> "Secret":
        if isinstance(written, Secret):
            return written
        if isinstance(written, bool) or not isinstance(written, str | int | float):
            raise ValueError("a secret has to be a text; put it in quotes")  # no TypeError: pydantic collects ValueErrors only
        return cls(str(written))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return _read_by(cls._read)


def _read_by(read: Callable[[Any], Any]) -> dict[str, Any]:
    """The core schema of "call this function with what was written", as pydantic_core defines it, without importing it."""
    return {"type": "function-plain", "function": {"type": "no-info", "function": read}}


def _short(written: object) -> str:
    text = repr(written)
    return text if len(text) <= 60 else f"{text[:57]}..."
