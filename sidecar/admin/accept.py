"""Content negotiation by `Accept` (RFC 9110 section 12.5.1): quality values, specificity and parameters."""

import re
from collections.abc import Sequence

_MEDIA_RANGE = re.compile(r"\s*(?P<type>[^\s;,/]+)/(?P<subtype>[^\s;,/]+)\s*(?P<parameters>(?:;[^,]*)?)")
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_MOST_RANGES = 64

_Parameters = dict[str, str]


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """
    The offer that the header field likes best, the first of equals; None where it accepts none of them.

    Offers are media types with their parameters. A range without parameters matches any, a range with parameters only an
    offer that does not contradict them: Prometheus asks for `version=0.0.4` and also for `escaping=…`, of which we know nothing.
    The most specific range that matches says the quality; one that cannot be read is passed over; no field accepts everything.
    """
    ranges = [found for part in accept.split(",")[:_MOST_RANGES] if (found := _MEDIA_RANGE.fullmatch(part))]
    if not ranges:
        return offers[0]
    qualities = [_quality(offer, ranges) for offer in offers]
    best = max(qualities)
    return offers[qualities.index(best)] if best > 0 else None


def _quality(offer: str, ranges: Sequence[re.Match[str]]) -> float:
    best, specificity = 0.0, -1
    whole, _, parameters = offer.partition(";")
    kind, _, subtype = whole.strip().partition("/")
    offered = _parameters(parameters)
    for found in ranges:
        asked = _parameters(found["parameters"])
        quality = asked.pop("q", "1")
        if not _QUALITY.fullmatch(quality) or not _covers(found, kind, subtype):
            continue
        if any(offered.get(name, value) != value for name, value in asked.items()):
            continue
        how_specific = (found["type"] != "*") * 100 + (found["subtype"] != "*") * 100 + len(asked)
        if how_specific > specificity:
            best, specificity = float(quality), how_specific
        elif how_specific == specificity:
            best = max(best, float(quality))
    return best


def _covers(found: re.Match[str], kind: str, subtype: str) -> bool:
    if found["type"] == "*":
        return found["subtype"] == "*"
    return found["type"].lower() == kind and found["subtype"].lower() in (subtype, "*")


def _parameters(text: str) -> _Parameters:
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip().strip('"').lower() for name, _, value in pairs if name.strip()}
