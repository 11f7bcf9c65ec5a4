"""
What a person may write under `prices:` in the config.

    prices:
      rules:
        - {provider: openai, model: gpt-5*, input: 1.00, cache_read: 0.10, output: 8.00}     # what was negotiated
        - {provider: ollama, model: "*", free: true}

A rule is a whole price: what it does not name is not filled in from the list.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sidecar.engines.prices.price import CLASSES
from sidecar.model.cost import NANO_USD
from sidecar.model.spec import Spec

_MONEY = re.compile(r"([0-9]{1,7})(?:\.([0-9]{0,9}))?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Dollars:
    """An amount of US dollars, exact to nine places: read from the text that was written, never from a float."""

    nano_usd: int

    @classmethod
    def read(cls, written: object) -> "Dollars":
        """Read `0.075` or `"0.075"`; raises ValueError for what is negative, no decimal number, or finer than nine places."""
        if isinstance(written, Dollars):
            return written
        is_text = isinstance(written, str | int | float) and not isinstance(written, bool)
        found = _MONEY.fullmatch(str(written)) if is_text else None
        if found is None:
            raise ValueError("has to be dollars, as in 0.075: no sign, no exponent, at most nine decimal places")
        whole, fraction = found.groups()
        return cls(int(whole) * NANO_USD + int((fraction or "").ljust(9, "0")))

    def __str__(self) -> str:
        whole, fraction = divmod(self.nano_usd, NANO_USD)
        return f"{whole}.{fraction:09}".rstrip("0").rstrip(".")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return _read_by(cls.read)


@dataclass(frozen=True, slots=True, order=True)
class Day:
    """A day, by the clock of UTC, as in `2026-11-01`; `begins_ns` is its midnight in nanoseconds since 1970."""

    written: str

    def __post_init__(self) -> None:
        if not _DAY.fullmatch(self.written):
            raise ValueError("has to be a day, as in 2026-11-01")
        date.fromisoformat(self.written)  # says itself what is wrong with a 30th of February

    @property
    def begins_ns(self) -> int:
        day = date.fromisoformat(self.written)
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**9

    def __str__(self) -> str:
        return self.written

    @classmethod
    def read(cls, written: object) -> "Day":
        """Read a day; raises ValueError for what is none."""
        return written if isinstance(written, Day) else cls(str(written))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return _read_by(cls.read)


def _read_by(read: Callable[[Any], Any]) -> dict[str, Any]:
    """The core schema of "call this function with what was written", as pydantic_core defines it, without importing it."""
    return {"type": "function-plain", "function": {"type": "no-info", "function": read}}


@dataclass(frozen=True, slots=True, kw_only=True)
class RatesSpec(Spec):
    """Prices in dollars per million tokens. What has none takes that of its nearest neighbour, and the cost says so."""

    input: Dollars | None = None
    """Input tokens that are neither cached nor sound, picture or film."""
    cache_read: Dollars | None = None
    """Input tokens that were read from a cache."""
    cache_write: Dollars | None = None
    """Input tokens that were written to a cache, for five minutes or for an unknown time."""
    cache_write_5m: Dollars | None = None
    """… for five minutes."""
    cache_write_1h: Dollars | None = None
    """… for an hour."""
    input_audio: Dollars | None = None
    """Sound that went in."""
    input_image: Dollars | None = None
    """Pictures that went in; else they cost what `input` costs."""
    input_video: Dollars | None = None
    """Films that went in; else they cost what `input` costs."""
    cache_read_audio: Dollars | None = None
    """Sound that was read from a cache."""
    cache_read_image: Dollars | None = None
    """Pictures that were read from a cache."""
    cache_read_video: Dollars | None = None
    """Films that were read from a cache."""
    output: Dollars | None = None
    """Output tokens."""
    reasoning: Dollars | None = None
    """Output tokens of reasoning; else they cost what `output` costs."""
    output_audio: Dollars | None = None
    """Sound that came out."""
    output_image: Dollars | None = None
    """Pictures that came out."""
    output_video: Dollars | None = None
    """Films that came out."""
    input_characters: Dollars | None = None
    """Characters that went in, where they are billed instead of tokens."""
    output_characters: Dollars | None = None
    """Characters that came out."""

    def by_class(self) -> dict[str, int]:
        """What is named, in nano-dollars per million."""
        written = {name: getattr(self, name) for name in CLASSES if hasattr(self, name)}
        return {name: dollars.nano_usd for name, dollars in written.items() if dollars is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LongContextSpec(RatesSpec):
    """
    What a call costs whose input, cached or not, is longer: these rates for all of its tokens, and the rule's for what is not
    named.
    """

    above: int
    """Tokens; with exactly so many the lower rates still count."""

    def __post_init__(self) -> None:
        if self.above < 1:
            raise ValueError("above has to be a number of tokens, as in 200000")
        if not self.by_class():
            raise ValueError("names no price")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSpec(RatesSpec):
    """The prices of a model, or of all models that a pattern matches; `*` stands for any text, `?` for one character."""

    provider: str = "*"
    """
    `gen_ai.provider.name` (`openai`, `aws.bedrock`), the list's name for it (`aws`), or the host that is called; may be a
    pattern.
    """
    model: str
    """The model as the answer or the request names it; may be a pattern."""
    service_tier: str = ""
    """Only for this tier of the reply (`batch`, `flex`, `priority`, `standard`); without it the rule serves for all."""
    since: Day | None = None
    """The first day (UTC) on which it counts."""
    until: Day | None = None
    """The first day (UTC) on which it counts no more."""
    free: bool = False
    """It costs nothing: a model of one's own."""
    per_request: Dollars | None = None
    """Dollars for each request, beside its tokens."""
    per_web_search: Dollars | None = None
    """Dollars for each web search that the provider makes."""
    per_tool_use: Dollars | None = None
    """Dollars for each other tool of the provider's that it uses."""
    per_audio_hour: Dollars | None = None
    """Dollars for each hour of sound, where it is billed by time."""
    tiers: tuple[LongContextSpec, ...] = ()
    """What longer inputs cost."""

    def __post_init__(self) -> None:
        if not self.model or not self.provider:
            raise ValueError("provider and model have to name something; '*' is everything")
        if self.since and self.until and self.since >= self.until:
            raise ValueError(f"since ({self.since}) has to be before until ({self.until})")
        starts = [tier.above for tier in self.tiers]
        if starts != sorted(set(starts)):
            raise ValueError("tiers have to stand in order, each above the one before")
        if self.free and (self.tiers or self._has_price()):
            raise ValueError("is free and has prices: leave one of them out")
        if not self.free and not self._has_price():
            raise ValueError("names no price: write one, or `free: true`")
        if unknown := {name for tier in self.tiers for name in tier.by_class()} - self.by_class().keys():
            raise ValueError(f"a tier has a price for {', '.join(sorted(unknown))}, which the rule has not")

    def _has_price(self) -> bool:
        fees = (self.per_request, self.per_web_search, self.per_tool_use, self.per_audio_hour)
        return bool(self.by_class()) or any(fee is not None for fee in fees)


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesSpec(Spec):
    """What model calls cost."""

    genai_prices: bool = True
    """Take prices from the package `genai-prices`, where it is installed."""
    version: str = ""
    """What the edition of these rules is called, for those who read costs later."""
    rules: tuple[RuleSpec, ...] = ()
    """Prices that come before the package's. The most exact one counts, by model first, then by provider, tier and date."""
