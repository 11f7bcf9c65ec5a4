"""
A price list that somebody else keeps, in the shape and with the rules of the package `genai-prices`.

A list has providers, a provider has models, and each is found by clauses about its name. Prices have dates and hours; variants of
them belong to service tiers. What the package would answer, this answers too: tests compare the two.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.engines.prices.price import FREE, Price, price_of
from sidecar.engines.prices.service_tier import price_context

DAY_NS = 86_400 * 10**9

Matches = Callable[[str], bool]


def nothing(_: str) -> bool:
    """Match no text at all."""
    return False


def clause(written: Sequence[Any] | None) -> Matches:
    """
    Compile a clause, `["starts_with", "gpt-4"]` or `["or", [clause, …]]`; None matches nothing.

    What it is asked about has to be in lower case. Raises ValueError for a kind of clause that is not known.
    """
    if written is None:
        return nothing
    kind, value = written
    match kind:
        case "equals":
            wanted = value.lower()
            return lambda text: text == wanted
        case "starts_with":
            wanted = value.lower()
            return lambda text: text.startswith(wanted)
        case "ends_with":
            wanted = value.lower()
            return lambda text: text.endswith(wanted)
        case "contains":
            wanted = value.lower()
            return lambda text: wanted in text
        case "regex":
            search = re.compile(value).search  # not in lower case: the list means what it writes
            return lambda text: search(text) is not None
        case "or":
            any_of = [clause(each) for each in value]
            return lambda text: any(each(text) for each in any_of)
        case "and":
            all_of = [clause(each) for each in value]
            return lambda text: all(each(text) for each in all_of)
    raise ValueError(f"unknown clause {kind!r}")


@dataclass(slots=True, frozen=True)
class Constraint:
    """
    When a price counts: from a day on (days since 1970, UTC), or between two times of day (seconds, UTC), over midnight too.
    """

    day: int = 0
    begins: int = 0
    ends: int = 0

    def is_active(self, at_ns: int) -> bool:
        """Whether the price counts at a time."""
        day, of_day = divmod(at_ns, DAY_NS)
        if self.begins == self.ends:
            return day >= self.day
        begins, ends = self.begins * 10**9, self.ends * 10**9
        return begins <= of_day < ends if begins < ends else of_day >= begins or of_day < ends


@dataclass(slots=True, frozen=True)
class Prices:
    """
    One row of prices, as a list writes them: `by_class` in the classes of `price.CLASSES`, with tiers.

    `uncounted` names what the list has a price for and no usage of ours counts (pages of documents). None in a fee: not named.
    """

    by_class: Mapping[str, Any]
    per_request: int | None = None
    per_hour: int | None = None
    least_seconds: int = 0
    uncounted: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has a price: free, as lists write it."""
        return not self.by_class and self.per_request is None and self.per_hour is None and not self.uncounted

    def over(self, standard: "Prices") -> "Prices":
        """Return these prices, and for what they do not name the standard ones."""
        return Prices(
            {**standard.by_class, **self.by_class},
            standard.per_request if self.per_request is None else self.per_request,
            standard.per_hour if self.per_hour is None else self.per_hour,
            standard.least_seconds,
            tuple(dict.fromkeys((*standard.uncounted, *self.uncounted))),
        )


@dataclass(slots=True, frozen=True)
class Variant:
    """Prices for requests in a certain context (`{"processing": "batch"}`)."""

    when: Mapping[str, str]
    prices: Prices
    constraint: Constraint | None = None


@dataclass(slots=True, frozen=True)
class Quote:
    """A price and how long it counts: from `since` to before `until`, nanoseconds since 1970."""

    price: Price
    since: int
    until: int


@dataclass(slots=True, frozen=True)
class Model:
    """
    A model of a list: `prices` in the order of the list, of which the last that is active counts.

    `window` is the most tokens that the model takes in, 0 where the list does not say.
    """

    id: str
    matches: Matches
    prices: tuple[tuple[Constraint | None, Prices], ...]
    variants: tuple[Variant, ...] = ()
    window: int = 0

    def quote(self, at_ns: int, tier: str, *, has_variants: bool = True) -> Quote:
        """Return the price at a time in a service tier; without `has_variants` the tier changes nothing."""
        found = self.prices[0][1]
        for constraint, prices in reversed(self.prices):
            if constraint is None or constraint.is_active(at_ns):
                found = prices
                break
        is_known = not tier
        for variant in reversed(self._variants(at_ns, tier) if has_variants else []):
            found = variant.prices.over(found)  # the first one wins, so it comes last
            is_known = True
        since, until = self._window(at_ns)
        return Quote(_price(found, "" if is_known else "service_tier"), since, until)

    def _variants(self, at_ns: int, tier: str) -> list[Variant]:
        context = price_context(tier)
        return [
            variant
            for variant in self.variants
            if not variant.prices.is_empty
            and (variant.constraint is None or variant.constraint.is_active(at_ns))
            and all(context.get(key) == value for key, value in variant.when.items())
        ]

    def _window(self, at_ns: int) -> tuple[int, int]:
        """The time around `at_ns` in which nothing changes: the UTC day, or a part of it."""
        midnight = at_ns - at_ns % DAY_NS
        since, until = midnight, midnight + DAY_NS
        for constraint in [each for each, _ in self.prices] + [each.constraint for each in self.variants]:
            for second in (constraint.begins, constraint.ends) if constraint is not None else ():
                moment = midnight + second * 10**9
                if since < moment <= at_ns:
                    since = moment
                elif at_ns < moment < until:
                    until = moment
        return since, until


def _price(prices: Prices, doubt: str) -> Price:
    if prices.is_empty:
        return FREE
    return price_of(
        prices.by_class,
        per_request=prices.per_request or 0,
        per_hour=prices.per_hour or 0,
        least_seconds=prices.least_seconds,
        doubt=doubt or (f"{prices.uncounted[0]}_not_counted" if prices.uncounted else ""),
    )


_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def _with_dashes(model: str) -> str:
    """`gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: routers write dates closely, makers do not."""
    return _COMPACT_DATE.sub(r"-\1-\2-\3", model)


@dataclass(slots=True, frozen=True)
class Provider:
    """A provider of a list; `models` gives its models, and may have to unpack them the first time."""

    id: str
    models: Callable[[], Sequence[Model]]
    serves: Matches = nothing
    is_called: Matches = nothing
    is_known_for: Matches = nothing
    lenders: tuple[str, ...] = ()

    def model(self, name: str) -> Model | None:
        """Return its own model of this name, in lower case."""
        return next((model for model in self.models() if model.matches(name)), None)


@dataclass(slots=True, frozen=True)
class Found:
    """A model of a list, and whether the provider sells it as its own: of another's its variants do not count."""

    provider: str
    model: Model
    is_own: bool


_OTEL_NAMES = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "fireworks_ai": "fireworks",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "z_ai": "zai",
}
"""
`gen_ai.provider.name` where a list calls the provider otherwise; `azure.ai.openai` would be taken for OpenAI by its clauses.
"""

_ROUTER = "litellm"
"""A name that is no provider: the model says whose it is, as in `anthropic/claude-sonnet-4-5`, or by its own name."""

_NAMED_BY_PATH = frozenset({"google", "aws"})
"""Who also takes a model's whole path or ARN (`publishers/google/models/…`, `arn:…:foundation-model/…`)."""

LONGEST_NAME = 256


@dataclass(slots=True, frozen=True)
class Catalogue:
    """A whole list: `source` is what it is called, `version` its edition."""

    source: str
    version: str
    providers: tuple[Provider, ...]

    def provider(self, name: str, host: str, model: str = "") -> Provider | None:
        """Find a provider by what it is called, or else by the host that was called; None: nobody knows it."""
        name = name[:LONGEST_NAME].strip().lower()
        if name == _ROUTER:
            return self._routed(model.lower())
        if name and (found := self._called(_OTEL_NAMES.get(name, name))) is not None:
            return found
        url = f"https://{host[:LONGEST_NAME].rsplit(':', 1)[0].lower()}/"
        return next((provider for provider in self.providers if provider.serves(url)), None) if host else None

    def _routed(self, model: str) -> Provider | None:
        named, slash, _ = model.partition("/")
        if slash and (found := self._called(named)) is not None:
            return found
        return next((provider for provider in self.providers if provider.is_known_for(model)), None)

    def _called(self, name: str) -> Provider | None:
        if not name:
            return None
        exactly = (provider for provider in self.providers if provider.id == name)
        return next(exactly, None) or next((provider for provider in self.providers if provider.is_called(name)), None)

    def find(self, provider: Provider, name: str, called: str = "") -> Found | None:
        """Find a model; `called` is the provider's name as the call has it, which may be that of a router."""
        name = name[:LONGEST_NAME].lower()
        if called.strip().lower() == _ROUTER and name.startswith(f"{provider.id}/"):
            name = name.partition("/")[2]
        for each in dict.fromkeys((name, _with_dashes(name), *self._last_parts(provider, name))):
            if each and (found := self._exactly(provider, each)) is not None:
                return found
        return None

    def _last_parts(self, provider: Provider, name: str) -> tuple[str, ...]:
        return (name.rpartition("/")[2],) if provider.id in _NAMED_BY_PATH and "/" in name else ()

    def _exactly(self, provider: Provider, name: str) -> Found | None:
        if (model := provider.model(name)) is not None:
            return Found(provider.id, model, is_own=True)
        for lender in provider.lenders:
            for other in self.providers:
                if other.id == lender and (model := other.model(name)) is not None:
                    return Found(provider.id, model, is_own=False)
        return None
