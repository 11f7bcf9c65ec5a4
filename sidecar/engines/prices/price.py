"""
One model's prices, and what a call costs by them.

A price is an integer: nano-dollars per million tokens (characters, searches, requests), so that $0.075 per million tokens is
75,000,000. A call is summed in that unit, and rounded up once, to whole nano-dollars: no float, and no cent lost in many
roundings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter, mul

from sidecar.model.usage import Usage

MILLION = 10**6

CLASSES: dict[str, str] = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "input_audio": "input_audio_tokens",
    "input_image": "input_image_tokens",
    "input_video": "input_video_tokens",
    "cache_read_audio": "cache_read_audio_tokens",
    "cache_read_image": "cache_read_image_tokens",
    "cache_read_video": "cache_read_video_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
    "output_video": "output_video_tokens",
    "web_search": "web_searches",
    "tool_use": "tool_uses",
    "input_characters": "input_characters",
    "output_characters": "output_characters",
}
"""
Everything that has a price per million, with the member of `Usage` that counts it; those that make `input_total` come first.
"""

INPUTS, TOKENS = 11, 16
"""So many classes are input, and so many are tokens: those of the output follow."""
_NAMES = tuple(CLASSES)

_TEXT = tuple(map(_NAMES.index, ("input", "cache_read", "output", "reasoning")))
assert _TEXT == (0, 1, INPUTS, INPUTS + 1)

counts_of = attrgetter(*CLASSES.values())
"""The counts of a usage in the order of `CLASSES`."""

_NEIGHBOURS: dict[str, tuple[tuple[str, bool], ...]] = {
    "cache_read": (("input", False),),
    "cache_write": (("cache_write_5m", True), ("input", False)),
    "cache_write_5m": (("cache_write", True), ("input", False)),
    "cache_write_1h": (("cache_write", False), ("cache_write_5m", False), ("input", False)),
    "input_audio": (("input", False),),
    "input_image": (("input", True),),
    "input_video": (("input", True),),
    "cache_read_audio": (("input_audio", False), ("cache_read", False), ("input", False)),
    "cache_read_image": (("input_image", False), ("cache_read", True), ("input", False)),
    "cache_read_video": (("input_video", False), ("cache_read", True), ("input", False)),
    "reasoning": (("output", True),),
    "output_audio": (("output", False),),
    "output_image": (("output", False),),
    "output_video": (("output", False),),
}
"""
Who lends a class its price that has none of its own, the nearest first, and whether the cost is still exact.

Exact are the providers' own rules: a cache write lives five minutes unless the caller asks for an hour, reasoning is billed as
output, pictures and films are turned into input tokens. The others are guesses, and the call says so; but see `_lent`.
"""


@dataclass(slots=True, frozen=True)
class Rates:
    """
    One number for each class of `CLASSES`, in nano-dollars per million.

    `doubts` names, by class, why a cost that needs this class is not exact (`no_cache_read_price`), "" where it is. `lacking`
    marks the classes that nobody lent a price. `text` are the rates of input, cache reads, output and reasoning, None where one
    of them is in doubt.
    """

    per_million: tuple[int, ...]
    doubts: tuple[str, ...]
    lacking: tuple[bool, ...]
    has_doubts: bool
    text: tuple[int, int, int, int] | None = None

    @classmethod
    def of(cls, prices: Mapping[str, int]) -> "Rates":
        """Fill in for every class what its neighbours lend it."""
        rates, doubts, lacking = [], [], []
        for name in _NAMES:
            lent = (prices[name], True) if name in prices else _lent(name, prices)
            rates.append(lent[0] if lent else 0)
            doubts.append("" if lent and lent[1] else f"no_{name}_price")
            lacking.append(lent is None)
        is_sure = not any(doubts[place] for place in _TEXT)
        a, b, c, d = (rates[place] for place in _TEXT)
        return cls(tuple(rates), tuple(doubts), tuple(lacking), any(doubts), (a, b, c, d) if is_sure else None)


def _lent(name: str, prices: Mapping[str, int]) -> tuple[int, bool] | None:
    for neighbour, is_exact in _NEIGHBOURS.get(name, ()):
        if neighbour in prices:
            # who sells reads at a discount and prints no price for writes has a cache that fills by itself, at the price of input
            fills_itself = name.startswith("cache_write") and neighbour == "input" and "cache_read" in prices
            return prices[neighbour], is_exact or fills_itself
    return None


Charge = tuple[int, str]
"""What a usage costs, in nano-dollars, and in a word what makes that inexact; negative where nothing of it has a price."""

NO_PRICE: Charge = (-1, "no_price")


@dataclass(slots=True, frozen=True)
class Price:
    """
    The prices of one model at one time and service tier.

    `steps` are the long-context tiers, lowest first: with more than that many input tokens, cached ones counted, the whole
    call has these rates. `per_request` and `per_hour` (of audio) are nano-dollars; `least_seconds` is what is billed at least.
    `doubt` makes every cost of it inexact, in a word. `is_free` is said by the list, and never follows from missing prices.
    """

    base: Rates
    steps: tuple[tuple[int, Rates], ...] = ()
    per_request: int = 0
    per_hour: int = 0
    least_seconds: int = 0
    doubt: str = ""
    is_free: bool = False

    def charge(self, usage: Usage, counts: tuple[int, ...] = ()) -> Charge:
        """Sum up a usage, of which `counts` are the counts where somebody has them already; 1 µs."""
        rates, text = self.base, usage.text
        if text is not None and rates.text is not None and not self.steps and not self.per_request:
            into, cached, out, thought = text
            a, b, c, d = rates.text
            return -(-(into * a + cached * b + out * c + thought * d) // MILLION), self.doubt
        counts = counts or counts_of(usage)
        if self.steps:
            total = sum(counts[:INPUTS])
            for above, higher in self.steps:
                if total > above:
                    rates = higher
        into, cached, out, thought = counts[0], counts[1], counts[INPUTS], counts[INPUTS + 1]
        if rates.text is not None and into + cached + out + thought == sum(counts):  # text in, text out, as nearly always
            a, b, c, d = rates.text
            due, has_doubts = into * a + cached * b + out * c + thought * d, False
        else:
            due, has_doubts = sum(map(mul, counts, rates.per_million)), rates.has_doubts
        why = self.doubt
        if has_doubts and (doubts := [*filter(None, compress(rates.doubts, counts))]):
            if not due and not self._bills_otherwise(usage) and any(compress(rates.lacking, counts)):
                return NO_PRICE
            why = why or doubts[0]
        if self.per_request or (self.per_hour and usage.billed_seconds):
            return self._with_fees(due, usage.billed_seconds), why
        return -(-due // MILLION), why

    def _bills_otherwise(self, usage: Usage) -> bool:
        return bool(self.is_free or self.per_request or (self.per_hour and usage.billed_seconds))

    def _with_fees(self, due: int, seconds: float) -> int:
        """Add the fee of the request and audio by the hour: everything over 3600 million, so that it is rounded once here too."""
        micros = round(max(seconds, self.least_seconds) * MILLION) if 0 < seconds < 1e9 else 0
        whole = (due + self.per_request * MILLION) * 3600 + self.per_hour * micros
        return -(-whole // (3600 * MILLION))


FREE = Price(Rates((0,) * len(_NAMES), ("",) * len(_NAMES), (False,) * len(_NAMES), False), is_free=True)
"""What costs nothing, because somebody says so."""

Tiered = tuple[int, tuple[tuple[int, int], ...]]
"""A base price and what it becomes above so many input tokens, lowest first."""


def price_of(
    prices: Mapping[str, Tiered], *, per_request: int = 0, per_hour: int = 0, least_seconds: int = 0, doubt: str = ""
) -> Price:
    """Make a price of what is written down class by class, each with tiers of its own."""
    starts = sorted({start for _, steps in prices.values() for start, _ in steps})
    rates = {start: Rates.of({name: _above(tiered, start) for name, tiered in prices.items()}) for start in (-1, *starts)}
    steps = tuple((start, rates[start]) for start in starts)
    return Price(rates[-1], steps, per_request, per_hour, least_seconds, doubt)


def _above(tiered: Tiered, start: int) -> int:
    price, steps = tiered
    for above, higher in steps:
        if above <= start:
            price = higher
    return price
