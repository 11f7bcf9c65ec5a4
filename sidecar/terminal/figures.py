"""Figures for people: durations, sizes, money and counts in a few characters."""

import math


def duration(seconds: float) -> str:
    """Three digits and the unit that fits: `0.42 ms`, `61.2 ms`, `1.43 s`, `2 min 5 s`."""
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{_three(seconds)} s" if seconds >= 0.9995 else f"{_three(seconds * 1e3)} ms"


def size(count: float) -> str:
    """Bytes as `812 B`, `1.2 KiB`, `34.1 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1023.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def dollars(amount_usd: float) -> str:
    """Two digits that count at least: `$12.50`, `$0.0023`, `$0.000045`."""
    if amount_usd >= 0.1 or not amount_usd:
        return f"${amount_usd:,.2f}"
    places = 1 - math.floor(math.log10(amount_usd))
    return f"${amount_usd:.{min(places, 9)}f}"


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 call`, `2,300 calls`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _three(number: float) -> str:
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:.0f}"
