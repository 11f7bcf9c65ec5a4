"""Calls as the meter tells them to a price list, and the list of the installed package, read once."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from sidecar.engines.prices.catalogue import Catalogue
from sidecar.engines.prices.price_list import PriceList
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.cost import Cost
from sidecar.model.usage import Usage
from sidecar.runtime import genai_prices


def at(text: str) -> int:
    """A time in UTC, `2026-11-20T12:00`, in nanoseconds since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


NOW = at("2026-11-20T12:00")


@cache
def installed() -> Catalogue:
    """The catalogue of the package that is installed here."""
    found = genai_prices.read()
    assert found is not None, "the tests need the package genai-prices"
    return found


def cost(
    prices: PriceList,
    provider: str,
    model: str,
    usage: Usage | None,
    *,
    answers_as: str | None = None,
    tier: str = "",
    host: str = "",
    when: int = NOW,
    status: int = 200,
    request_bytes: int | None = None,
    answered_bytes: int = 2000,
    asked: dict[str, Any] | None = None,
    **answered: Any,
) -> Cost:
    """What a call costs that was answered, to its end unless the arguments say otherwise; of what nothing is told nothing passed."""
    question = ModelAsked("any", **{"operation": "chat", "provider": provider, "model": model, **(asked or {})})
    content_bytes = 400 if usage is None or usage.output_total else 0
    told = {"is_ended": True, "content_bytes": content_bytes, "model": model if answers_as is None else answers_as, **answered}
    if request_bytes is None:
        request_bytes = 4000 if usage is None or usage.input_total else 0
    answer = ModelAnswered(usage=usage, service_tier=tier, **told)
    return prices.cost(
        question, answer, host=host, at_ns=when, request_bytes=request_bytes, answered_bytes=answered_bytes, status=status
    )
