"""
The rules that a person wrote, and which of them counts.

The most exact one does. A model's full name comes before a pattern, and among patterns the one with more letters; then the
same of the provider; then a rule for one service tier before one for all; then the later `since`; then the later line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.engines.prices.price import FREE, MILLION, Price, Tiered, price_of
from sidecar.engines.prices.service_tier import service_tier
from sidecar.engines.prices.spec import Dollars, RuleSpec

_FOREVER = 1 << 63


def matches(pattern: str, text: str) -> bool:
    """
    Whether a text is what a pattern says; both in lower case.

    `*` is any text, `?` one character, and everything else itself. It takes time in the order of pattern times text at the worst.
    """
    at = in_text = 0
    star, tried = -1, 0
    while in_text < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, tried = at, in_text
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[in_text]):
            at, in_text = at + 1, in_text + 1
        elif star >= 0:
            tried += 1
            at, in_text = star + 1, tried
        else:
            return False
    return pattern[at:].strip("*") == ""


def _exactness(pattern: str) -> tuple[bool, int]:
    letters = len(pattern.replace("*", "").replace("?", ""))
    return letters == len(pattern), letters


@dataclass(slots=True, frozen=True)
class _Rule:
    provider: str
    model: str
    tier: str | None
    since: int
    until: int
    price: Price
    rank: tuple[object, ...]


@dataclass(slots=True, frozen=True)
class Ruling:
    """A price by rule and how long it counts; nobody's (`price` is None) until some rule begins."""

    price: Price | None
    since: int
    until: int


class Overlay:
    """All rules of a config."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Sequence[RuleSpec] = ()) -> None:
        compiled = [_compiled(rule, place) for place, rule in enumerate(rules)]
        self._rules = sorted(compiled, key=lambda rule: rule.rank, reverse=True)

    def ruling(self, providers: Sequence[str], models: Sequence[str], tier: str, at_ns: int) -> Ruling:
        """
        Return what the rules say of a call.

        `providers` and `models` are the names that it may be known by, in lower case; `tier` is one of `service_tier`.
        """
        since, until, price = 0, _FOREVER, None
        for rule in self._rules:
            if not _covers(rule, providers, models, tier):
                continue
            if at_ns < rule.since:
                until = min(until, rule.since)
            elif at_ns >= rule.until:
                since = max(since, rule.until)
            else:
                price, since, until = rule.price, max(since, rule.since), min(until, rule.until)
                if tier and rule.tier is None and not price.is_free:
                    price = _doubted(price)
                break
        return Ruling(price, since, until)


def _covers(rule: _Rule, providers: Sequence[str], models: Sequence[str], tier: str) -> bool:
    return (
        (rule.tier is None or rule.tier == tier)
        and any(matches(rule.model, model) for model in models)
        and (rule.provider == "*" or any(matches(rule.provider, provider) for provider in providers))
    )


def _doubted(price: Price) -> Price:
    """The same price for a tier that it was not made for."""
    return Price(price.base, price.steps, price.per_request, price.per_hour, price.least_seconds, "service_tier")


def _compiled(rule: RuleSpec, place: int) -> _Rule:
    provider, model = rule.provider.lower(), rule.model.lower()
    since = rule.since.begins_ns if rule.since else 0
    until = rule.until.begins_ns if rule.until else _FOREVER
    rank = (*_exactness(model), *_exactness(provider), bool(rule.service_tier), since, place)
    tier = service_tier(rule.service_tier) if rule.service_tier else None
    return _Rule(provider, model, tier, since, until, FREE if rule.free else _price(rule), rank)


def _price(rule: RuleSpec) -> Price:
    by_class: dict[str, Tiered] = {}
    for name, base in rule.by_class().items():
        steps = [(tier.above, tier.by_class()[name]) for tier in rule.tiers if name in tier.by_class()]
        by_class[name] = (base, tuple(steps))
    for name, fee in (("web_search", rule.per_web_search), ("tool_use", rule.per_tool_use)):
        if fee is not None:
            by_class[name] = (fee.nano_usd * MILLION, ())
    return price_of(by_class, per_request=_nano(rule.per_request), per_hour=_nano(rule.per_audio_hour))


def _nano(fee: Dollars | None) -> int:
    return fee.nano_usd if fee is not None else 0
