"""
What one attempt cost: everything this folder knows, behind one question.

    prices = PriceList(config.prices)
    prices.use(catalogue)                       # when it has been read; until then only the rules have prices
    cost = prices.cost(asked, answered, host="api.openai.com", at_ns=…, request_bytes=…, answered_bytes=…, status=200)

The words of `Cost.why` are few, so that they can be counted: of what is unpriced `no_price_list`, `unknown_provider`,
`unknown_model`, `no_price`; of what is estimated `no_usage`, `cut`, `unreadable`, `no_answer`, `may_be_billed`, `service_tier`,
`no_cache_read_price` (and so on, by class), `requested_model`, `half_told` (of input or output no usage came), `nonsense` and
`contradiction` (what came cannot be so: negative or absurd counts, parts above their total); of what is exactly nothing
`nothing_sent`, `not_billed`, `free`.
"""

from dataclasses import dataclass, replace

from sidecar.engines.prices.catalogue import Catalogue
from sidecar.engines.prices.estimator import Estimator
from sidecar.engines.prices.overlay import Overlay
from sidecar.engines.prices.price import INPUTS, TOKENS, Price, counts_of
from sidecar.engines.prices.service_tier import service_tier
from sidecar.engines.prices.spec import PricesSpec
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.usage import NONSENSE, Usage

_MOST_KNOWN = 1024
"""Prices that are remembered, by what they were asked for; more only where somebody makes up names."""

_LESSONS = 64
"""The estimator learns from so many calls of a price, and then from one in sixteen."""
_NO_COUNTS: tuple[int, ...] = ()
_EXACT, _ESTIMATED = Pricing.EXACT, Pricing.ESTIMATED  # to look a member up in its enum is a call

MOST_TOKENS = 1 << 26
"""
Tokens of one side of a call that are believed: the last bucket of the conventions' token histogram, and thirty times what any
model takes in.
"""

_WITHOUT_CONTENT = (204, 205)
"""With 304, which is above 300, what has no content by its status (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5)."""

_BILLS_SOME_ERRORS = {"azure": (400, 408)}
"""Azure bills the work on what its content filter then refuses (400), and on what timed out there (408)."""


@dataclass(slots=True)
class _Known:
    """A call's price, known for some time; `name` is the model as the estimator learns it, `calls` counts its lessons."""

    price: Price | None
    since: int
    until: int
    source: str
    version: str
    why: str
    name: str
    window: int
    provider: str
    calls: int = 0


class PriceList:
    """All prices there are; rules first, then the catalogue. Not for several threads at once."""

    def __init__(self, spec: PricesSpec | None = None, catalogue: Catalogue | None = None) -> None:
        self.estimator = Estimator()
        self._catalogue = catalogue
        self._known: dict[tuple[str, str, str, str, str], _Known] = {}
        self.reconfigure(spec or PricesSpec())

    def reconfigure(self, spec: PricesSpec) -> None:
        """Take on other rules; what was learned of models stays."""
        self._spec = spec
        self._overlay = Overlay(spec.rules)
        self._known.clear()

    def use(self, catalogue: Catalogue | None) -> None:
        """Take prices from this catalogue from now on."""
        self._catalogue = catalogue
        self._known.clear()

    def cost(
        self,
        asked: ModelAsked,
        answered: ModelAnswered | None,
        *,
        host: str,
        at_ns: int,
        request_bytes: int,
        answered_bytes: int,
        status: int = 0,
    ) -> Cost:
        """
        Say what an attempt cost; once an attempt, because it also learns from it. 3 µs.

        `at_ns` is when the attempt began (nanoseconds since 1970), `status` the HTTP status (0: none came, or no HTTP).
        `request_bytes` is how much of the request's body reached the upstream (0: nobody ever connected), `answered_bytes` the
        body of the answer, without content coding.

        What has no answer, or for one an error, a redirection or nothing at all (204, 304), is billed by nobody, with the
        exceptions in `_BILLS_SOME_ERRORS`: it is exactly nothing. Where an answer may yet have been in the making, the input is
        estimated.
        """
        usage = None if answered is None else answered.usage
        if usage is None and _is_nothing(answered, request_bytes, status) and not self._may_bill(asked, host, status):
            return Cost(0, Pricing.EXACT, why="not_billed" if request_bytes else "nothing_sent")
        model, told = (answered.model, answered.service_tier) if answered is not None else ("", "")
        known = self._known.get((asked.provider, host, asked.model, model, told))
        if known is None or not known.since <= at_ns < known.until:
            known = self._look_up(asked, model, told, host, at_ns)
        if known.price is None:
            return Cost(0, Pricing.UNPRICED, why=known.why)
        if known.price.is_free:
            return Cost(0, Pricing.EXACT, known.source, known.version, "free")
        why, counts = "", _NO_COUNTS
        if usage is None or answered is None or not _is_whole(answered):
            usage, why = self._estimated(known, asked, answered, request_bytes, answered_bytes, _why(answered, status))
        else:
            text = usage.text
            if text is None:
                counts = counts_of(usage)
                into, out = sum(counts[:INPUTS]), sum(counts[INPUTS:TOKENS])
            else:
                into, out = text[0] + text[1], text[2] + text[3]
            if not (0 < into <= MOST_TOKENS and 0 < out <= MOST_TOKENS) or usage.doubt:
                why = usage.doubt or _doubt(asked, answered, usage, request_bytes)
            if why:
                usage, why = self._estimated(known, asked, answered, request_bytes, answered_bytes, why)
                counts = _NO_COUNTS
            else:
                known.calls += 1
                if (known.calls <= _LESSONS or not known.calls & 15) and not known.why:
                    self._learn(known, asked, answered, usage, request_bytes, answered_bytes)
        nano_usd, doubt = known.price.charge(usage, counts)
        if nano_usd < 0:
            return Cost(0, Pricing.UNPRICED, why=doubt)
        why = why or doubt or known.why
        return Cost(nano_usd, _ESTIMATED if why else _EXACT, known.source, known.version, why)

    # which price

    def _look_up(self, asked: ModelAsked, model: str, told: str, host: str, at_ns: int) -> _Known:
        """Find the price of what answered as this model in this tier, and remember it."""
        key = (asked.provider, host, asked.model, model, told)
        known = self._looked_up(asked, model, service_tier(told), host, at_ns)
        if len(self._known) >= _MOST_KNOWN and key not in self._known:
            del self._known[next(iter(self._known))]
        self._known[key] = known
        return known

    def _looked_up(self, asked: ModelAsked, model: str, tier: str, host: str, at_ns: int) -> _Known:
        catalogue = self._catalogue
        models = tuple(dict.fromkeys(name.lower() for name in (model, asked.model) if name))
        provider = catalogue.provider(asked.provider, host, model or asked.model) if catalogue is not None else None
        provider_id = provider.id if provider is not None else ""
        name = f"{provider_id or asked.provider}/{model or asked.model}"
        ruling = self._overlay.ruling(_names(asked.provider, provider_id, host), models, tier, at_ns)
        known = _Known(ruling.price, ruling.since, ruling.until, "overlay", self._spec.version, "", name, 0, provider_id)
        if ruling.price is not None:
            return known
        if catalogue is None or provider is None:
            return replace(known, why="unknown_provider" if catalogue is not None else "no_price_list")
        all_found = [(each, found) for each in models if (found := catalogue.find(provider, each, asked.provider)) is not None]
        if not all_found:
            return replace(known, why="unknown_model")
        each, found = all_found[0]
        quote = found.model.quote(at_ns, tier, has_variants=found.is_own)
        since, until = max(known.since, quote.since), min(known.until, quote.until)
        why = "requested_model" if model and each != model.lower() else ""
        name = f"{found.provider}/{found.model.id}"
        return _Known(
            quote.price, since, until, catalogue.source, catalogue.version, why, name, found.model.window, found.provider
        )

    def _may_bill(self, asked: ModelAsked, host: str, status: int) -> bool:
        """Whether this provider bills an error of this status."""
        if not any(status in statuses for statuses in _BILLS_SOME_ERRORS.values()):
            return False
        found = self._catalogue.provider(asked.provider, host, asked.model) if self._catalogue is not None else None
        return found is not None and status in _BILLS_SOME_ERRORS.get(found.id, ())

    # what was used

    def _estimated(
        self,
        known: _Known,
        asked: ModelAsked,
        answered: ModelAnswered | None,
        request_bytes: int,
        answered_bytes: int,
        why: str,
    ) -> tuple[Usage, str]:
        """What a call has used as far as one can tell: of what was told and can be, and what the bytes say, the larger."""
        told = answered.usage if answered is not None else None
        if told is None or max(told.input_total, told.output_total) > MOST_TOKENS:
            told = Usage()
        output = 0 if why == "may_be_billed" else self._output(known.name, asked, answered, answered_bytes)
        is_cut = not told.output_total or answered is None or not _is_whole(answered)
        more = max(0, output - told.output_total) if is_cut and not _is_metered(told) else 0
        size = told.input_tokens
        if not told.input_total and not _is_metered(told):
            size = self.estimator.request(known.name, request_bytes, known.window)
        return replace(told, input_tokens=size, output_tokens=told.output_tokens + more), why

    def _output(self, name: str, asked: ModelAsked, answered: ModelAnswered | None, answered_bytes: int) -> int:
        if answered is None or asked.operation == "embeddings":
            return 0
        if answered.is_unreadable and not answered.content_bytes:
            tokens = self.estimator.body(name, answered_bytes, streams=asked.streams)
        else:
            tokens = self.estimator.content(name, answered.content_bytes)
        return min(tokens, asked.max_tokens * max(1, asked.choices)) if asked.max_tokens > 0 else tokens

    def _learn(
        self, known: _Known, asked: ModelAsked, answered: ModelAnswered, usage: Usage, request_bytes: int, answered_bytes: int
    ) -> None:
        """Learn what a token weighs; of requests only where all that went in stood in them, as text."""
        if not (asked.previous_response or asked.conversation or asked.unbounded or usage.input_image_tokens):
            self.estimator.learn_request(known.name, request_bytes, usage.input_total)
        if answered.content_bytes:
            tokens = usage.output_total
            self.estimator.learn_answer(known.name, answered.content_bytes, answered_bytes, tokens, streams=asked.streams)


def _names(provider: str, provider_id: str, host: str) -> tuple[str, ...]:
    """Everything that a rule may call a provider."""
    return tuple(name.lower() for name in (provider, provider_id, host, host.rpartition(":")[0]) if name)


def _is_nothing(answered: ModelAnswered | None, request_bytes: int, status: int) -> bool:
    """Whether nobody bills this: no request, an answer in which nothing can have been made, or an error and no content."""
    if not request_bytes and answered is None:
        return True
    if status >= 300 or status in _WITHOUT_CONTENT:
        return True
    return answered is not None and bool(answered.error_type) and not answered.content_bytes


def _is_whole(answered: ModelAnswered) -> bool:
    """Whether all was told: an error in the middle of an answer ends it before its last usage."""
    return answered.is_ended and not answered.is_unreadable and not (answered.error_type and answered.content_bytes)


def _doubt(asked: ModelAsked, answered: ModelAnswered, usage: Usage, request_bytes: int) -> str:
    """
    Why a usage cannot be all there was, "" where it can: something went in, and where content came, something came out.

    Servers that do not count send zeros; what a dialect could not take for a count is a zero, too.
    """
    into, out = usage.input_total, usage.output_total
    if into > MOST_TOKENS or out > MOST_TOKENS:
        return NONSENSE
    lacks_input = not into and request_bytes > 0
    lacks_output = not out and answered.content_bytes > 0 and asked.operation != "embeddings"
    if not (lacks_input or lacks_output) or _is_metered(usage):
        return ""
    if into or out:
        return "half_told"
    is_refusal = answered.error_type and not answered.content_bytes  # an error that says itself that it costs nothing
    return "" if is_refusal else "no_usage"


def _is_metered(usage: Usage) -> bool:
    """Whether it is told in something else than tokens."""
    return bool(usage.input_characters or usage.output_characters or usage.billed_seconds)


def _why(answered: ModelAnswered | None, status: int) -> str:
    if status >= 400:
        return "may_be_billed"
    if answered is None:
        return "no_answer"
    if answered.is_unreadable:
        return "unreadable"
    return "no_usage" if answered.is_ended else "cut"
