"""Specs as plain trees: to be shown, with every secret redacted, and to be compared, down to the setting that changed."""

import dataclasses
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from sidecar.model.spec import REDACTED, Duration, Secret, Size, Spec

_USERINFO = re.compile(r"(?<=://)[^/?#@\s]*(?:@[^/?#@\s]*)*(?=@)")


def shown(value: Any) -> Any:
    """A spec as JSON can hold it: units as text, secrets and the user information of URLs redacted."""
    match value:
        case Spec():
            return {field.name: shown(getattr(value, field.name)) for field in dataclasses.fields(value)}  # type: ignore[arg-type]  # specs are dataclasses
        case Secret():
            return REDACTED if value else ""
        case Duration() | Size():
            return str(value)
        case Enum():
            return value.value
        case str():
            return _USERINFO.sub(REDACTED, value)
        case dict():
            return {str(key): shown(held) for key, held in value.items()}
        case tuple() | list() | frozenset() | set():
            return [shown(held) for held in value]
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)


def changes(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """What is different, as paths with a word: `traffic.drain changed`, `traffic.routes.openai added`."""
    old, new = _opened(old), _opened(new)
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield f"{path} changed"
        return
    for key in old.keys() | new.keys() if old.keys() != new.keys() else old:
        here = f"{path}.{key}" if path else str(key)
        if key not in new:
            yield f"{here} removed"
        elif key not in old:
            yield f"{here} added"
        else:
            yield from changes(old[key], new[key], here)


def _opened(value: Any) -> Any:
    if isinstance(value, Spec):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}  # type: ignore[arg-type]  # specs are dataclasses
    return value
