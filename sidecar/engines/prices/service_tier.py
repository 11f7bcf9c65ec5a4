"""
The service tiers under their many names: every provider has its own words for the same few prices.

What counts is the tier of the reply: a provider may serve less than what was asked for, and then bills less.
"""

STANDARD = ""

_NAMES = {
    "": STANDARD,
    "auto": STANDARD,
    "default": STANDARD,
    "standard": STANDARD,
    "on_demand": STANDARD,
    "unspecified": STANDARD,
    "service_tier_unspecified": STANDARD,
    "traffic_type_unspecified": STANDARD,
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
}
"""
OpenAI says `default`, Anthropic and Gemini `standard`, Groq and Vertex AI `on_demand`; `auto` is what a request asks for, and
what a server of the same dialect may repeat. `batch`, `flex`, `priority` and `fast` are called so by everybody.
"""

_LONGEST = 32


def service_tier(told: str) -> str:
    """Return the one name of a tier; "" is the standard one, and what nobody knows keeps its own name in lower case."""
    name = told[:_LONGEST].strip().lower().replace("-", "_").replace(" ", "_")
    return _NAMES.get(name, name)


def price_context(tier: str) -> dict[str, str]:
    """
    Return by which keys a price list may know a tier (of `service_tier`'s names).

    Anthropic's fast mode is `speed`, OpenAI's is a service tier; a list has one or the other for a model, never both.
    """
    match tier:
        case "":
            return {"service_tier": "default"}
        case "batch":
            return {"processing": "batch"}
        case "fast":
            return {"service_tier": "fast", "speed": "fast"}
        case _:
            return {"service_tier": tier}
