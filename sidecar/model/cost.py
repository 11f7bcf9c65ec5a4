"""What a call cost, and how well that is known."""

from dataclasses import dataclass
from enum import StrEnum

NANO_USD = 10**9
"""Nano-dollars in a dollar."""


class Pricing(StrEnum):
    """How a cost came to be; `UNPRICED` is a state of its own and never means free."""

    EXACT = "exact"
    """The provider told the usage, and every class of it has a price."""
    ESTIMATED = "estimated"
    """The usage, or a part of it, was reckoned from bytes, or a class was priced by its nearest neighbour."""
    UNPRICED = "unpriced"
    """Nobody knows a price for this model, or nothing is known of what was used."""


@dataclass(slots=True)
class Cost:
    """
    What one attempt cost.

    `nano_usd` is in 10⁻⁹ dollars, rounded up once (0 where unpriced, or free); `source` names where the price is from
    (`genai-prices`, `overlay`, "" where unpriced), `version` which edition of it, `why` says in a word why it is not exact.
    """

    nano_usd: int
    pricing: Pricing
    source: str = ""
    version: str = ""
    why: str = ""
