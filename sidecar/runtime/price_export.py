"""
A program: read the data of the package `genai-prices`, and write it down as `genai_prices.py` wants it.

    python -IS price_export.py …/site-packages/genai_prices > export

It runs in a process of its own, because the data is a Python module of 1.6 MB, written in terms of classes that bring pydantic
and an HTTP client with them. Only the data module is run here, from its `.pyc` where there is one, and every name that it does
not define is a constructor that notes its arguments. So nothing hangs on how the file is laid out, and nothing else of the
package is imported.

The export: a line of JSON (`version`, `providers`), and after it the models of each provider, each as JSON compressed by zlib,
`size` bytes of it. Prices are integers: nano-dollars per million.
"""

import builtins
import datetime
import json
import re
import sys
import zlib
from collections.abc import Iterator
from decimal import Decimal
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

_MILLION, _NANO = 10**6, 10**9

_PER_MILLION = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "input_video_mtok": "input_video",
    "cache_audio_read_mtok": "cache_read_audio",
    "cache_image_read_mtok": "cache_read_image",
    "cache_video_read_mtok": "cache_read_video",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "output_video_mtok": "output_video",
    "input_mchars": "input_characters",
}
_PER_THOUSAND = {"web_searches_kcount": "web_search", "storage_searches_kcount": "tool_use"}
_UNKNOWN = [[None, {"by_class": {}, "uncounted": ["price"]}]]
"""A model without any prices; one whose prices are empty is free."""
_HOURS = ("input_audio_hours", "audio_hours")

_CLAUSES = {"equals", "starts_with", "ends_with", "contains", "regex", "or", "and"}

_BILLED_AT_LEAST = {("groq", "whisper-large-v3"): 10, ("groq", "whisper-large-v3-turbo"): 10}
"""Seconds; the package has this rule in its code and not in its data (types.ModelInfo.calc_price)."""


class Noted(dict[str, Any]):
    """The arguments of a constructor, and what it is called."""

    kind = ""


def noted(kind: str) -> type[Noted]:
    """Return a class that notes what it is made with."""
    return type(kind, (Noted,), {"kind": kind})


def providers_of(code: CodeType) -> list[Noted]:
    """Run a data module and return its list of providers."""
    names = {name: noted(name) for name in code.co_names if not hasattr(builtins, name) and name != "datetime"}
    here = SimpleNamespace(**{**names, "Decimal": Decimal, "__all__": ("Decimal", *names)})

    def instead_of_import(name: str, *_: object) -> object:
        return datetime if name == "datetime" else here

    scope: dict[str, Any] = {"__builtins__": {**vars(builtins), "__import__": instead_of_import}, "__name__": "data"}
    exec(code, scope)  # noqa: S102 - it is a module of an installed package, which importing would run too
    found: list[Noted] = scope["providers"]
    return found


def export(folder: Path) -> Iterator[bytes]:
    """Yield the export of the package in a folder; raises whatever its data raises."""
    loader = SourceFileLoader("genai_prices.data", str(folder / "data.py"))
    code = loader.get_code("genai_prices.data")
    assert isinstance(code, CodeType)
    index, packed = [], []
    for provider in providers_of(code):
        models = [_model(provider["id"], model) for model in provider["models"]]
        packed.append(zlib.compress(json.dumps(models, separators=(",", ":")).encode(), 9))
        index.append(
            {
                "id": provider["id"],
                "serves": provider["api_pattern"],
                "is_called": _clause(provider.get("provider_match")),
                "is_known_for": _clause(provider.get("model_match")),
                "lenders": provider.get("fallback_model_providers") or [],
                "size": len(packed[-1]),
            }
        )
    yield json.dumps({"version": _version(folder), "providers": index}, separators=(",", ":")).encode() + b"\n"
    yield from packed


def _version(folder: Path) -> str:
    infos = sorted(path.name for path in folder.parent.glob("genai_prices-*.dist-info"))
    return infos[-1].removeprefix("genai_prices-").removesuffix(".dist-info") if infos else ""


def _clause(written: Noted | None) -> list[Any] | None:
    """`ClauseOr(or_=[ClauseEquals(equals="x")])` as `["or", [["equals", "x"]]]`; what nobody could read later is an error now."""
    if written is None:
        return None
    ((name, value),) = written.items()
    name = name.rstrip("_")
    if name not in _CLAUSES:
        raise ValueError(f"a clause {name!r} is not known")
    if name == "regex":
        re.compile(value)
    return [name, [_clause(each) for each in value] if name in ("or", "and") else value]


def _model(provider_id: str, model: Noted) -> dict[str, Any]:
    prices = model.get("prices", [])
    rows = prices if isinstance(prices, list) else [{"prices": prices}]
    least = _BILLED_AT_LEAST.get((provider_id, model["id"]), 0)
    return {
        "id": model["id"],
        "matches": _clause(model["match"]),
        "prices": [[_constraint(row.get("constraint")), _prices(row["prices"], least)] for row in rows] or _UNKNOWN,
        "variants": [
            [row["when"], _constraint(row.get("constraint")), _prices(row["prices"], least)]
            for row in model.get("price_variants") or ()
        ],
        "window": model.get("context_window") or 0,
    }


def _constraint(written: Noted | None) -> list[int] | None:
    """[day, begins, ends], as `catalogue.Constraint` has them."""
    if written is None:
        return None
    if "start_date" in written:
        return [(written["start_date"] - datetime.date(1970, 1, 1)).days, 0, 0]
    return [0, _second_of_day(written["start_time"]), _second_of_day(written["end_time"])]


def _second_of_day(time: datetime.time) -> int:
    offset = time.utcoffset() or datetime.timedelta()
    seconds = datetime.timedelta(hours=time.hour, minutes=time.minute, seconds=time.second) - offset
    return int(seconds.total_seconds()) % 86_400


def _prices(written: Noted, least_seconds: int) -> dict[str, Any]:
    """The members of `catalogue.Prices`; those without a value are left out."""
    by_class: dict[str, Any] = {}
    found: dict[str, Any] = {"by_class": by_class}
    uncounted = []
    for key, price in written.items():
        if price is None:
            continue
        if key in _PER_MILLION:
            by_class[_PER_MILLION[key]] = _tiered(price, 1)
        elif key in _PER_THOUSAND:
            by_class[_PER_THOUSAND[key]] = _tiered(price, 1000)
        elif key == "requests_kcount":
            found["per_request"] = _nano(price / 1000)
        elif key in _HOURS:
            found["per_hour"] = _nano(written.get(_HOURS[0]) or price)
        else:
            uncounted.append(key)
    if uncounted:
        found["uncounted"] = uncounted
    if least_seconds:
        found["least_seconds"] = least_seconds
    return found


def _tiered(price: Any, scale: int) -> list[Any]:
    """[base, [[start, price], …]], lowest start first."""
    if isinstance(price, Noted):
        steps = sorted((tier["start"], _nano(tier["price"] * scale)) for tier in price["tiers"])
        return [_nano(price["base"] * scale), steps]
    return [_nano(price * scale), []]


def _nano(price: Decimal) -> int:
    """
    Dollars in nano-dollars, rounded to the nearest.

    What has more than nine places is a float that somebody multiplied (0.13999999999999999), or a third of a cent.
    """
    return round(price * _NANO)


if __name__ == "__main__":
    for part in export(Path(sys.argv[1])):
        sys.stdout.buffer.write(part)
