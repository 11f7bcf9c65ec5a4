"""
Prompts, completions and tool arguments as attributes of spans: masked, cut part by part, and always valid JSON.

The shapes are the JSON schemas of the GenAI conventions (gen-ai-input-messages.json and its neighbours), as JSON text, because
attributes of spans hold no structures. Secrets are masked (masks.py) before anything is cut, so that none is cut in two. Where
the whole is too long all the same, parts are cut shorter, and then the oldest messages are left out.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from sidecar.model.content import Content, Kind, Message, Part
from sidecar.telemetry import semconv
from sidecar.telemetry.masks import Masks
from sidecar.telemetry.redaction import redacted_target
from sidecar.telemetry.semconv import Name
from sidecar.telemetry.wire import bool_attribute, field

PART_CHARS = 4096
"""How much of one part is kept where nobody says otherwise."""
ATTRIBUTE_CHARS = 32768
"""How long one attribute may be then."""

_SHORTEST = 64  # a part is not cut shorter than this; then whole messages go
_MARGIN = 256  # a secret has shown that it is one after so many characters
_MOST_ITEMS = 64  # of one array or object in arguments of tools
_ROLES = frozenset({"system", "user", "assistant", "tool"})
_FINISHED = {
    "end_turn": "stop", "stop_sequence": "stop", "complete": "stop", "completed": "stop", "stop": "stop",
    "max_tokens": "length", "max_output_tokens": "length", "length": "length", "model_length": "length",
    "tool_use": "tool_call", "tool_calls": "tool_call", "tool_call": "tool_call", "function_call": "tool_call",
    "safety": "content_filter", "refusal": "content_filter", "content_filter": "content_filter", "recitation": "content_filter",
    "guardrail_intervened": "content_filter", "error": "error",
}  # fmt: skip


class ContentWriter:
    """Writes what was said; `part_chars` and `attribute_chars` bound one part, and one attribute as a whole."""

    def __init__(self, masks: Masks, *, part_chars: int = PART_CHARS, attribute_chars: int = ATTRIBUTE_CHARS) -> None:
        if part_chars < _SHORTEST or attribute_chars < 1024:
            raise ValueError(f"a part has at least {_SHORTEST} characters, and an attribute 1024")
        self._masks = masks
        self._part_chars = part_chars
        self._attribute_chars = attribute_chars

    def attributes(self, content: Content) -> list[bytes]:
        """What was said, as attributes of a span; nothing for what is empty."""
        instructions, said, answered = content.instructions, content.input, content.output
        found = [
            self._attribute(semconv.SYSTEM_INSTRUCTIONS, instructions, self._part),
            self._attribute(semconv.INPUT_MESSAGES, said, self._message),
            self._attribute(semconv.OUTPUT_MESSAGES, answered, self._message),
        ]
        for name, raw in (
            (semconv.TOOL_DEFINITIONS, content.tools),
            (semconv.TOOL_ARGUMENTS, content.arguments),
            (semconv.TOOL_RESULT, content.result),
        ):
            if raw:
                found.append(_text(name, self._json_text(raw, self._attribute_chars)))
        if content.is_cut:
            found.append(bool_attribute(semconv.CONTENT_CUT.latest, True))
        return [each for each in found if each]

    def _attribute(self, name: Name, items: Sequence[Any], write: Callable[[Any, int], dict[str, Any]]) -> bytes:
        """The items as one JSON text that is not too long: shorter parts first, then fewer items, of which the last stay."""
        if not items:
            return b""
        limit = self._part_chars
        while limit >= _SHORTEST:
            if _length(items, limit) <= self._attribute_chars:  # else it is not worth looking for secrets in it
                text = _dumped([write(item, limit) for item in items])
                if len(text) <= self._attribute_chars:
                    return _text(name, text)
            limit //= 4
        kept: list[str] = []
        room = self._attribute_chars - 200
        for item in reversed(items):
            one = _dumped(write(item, _SHORTEST))
            room -= len(one) + 1
            if room < 0:
                break
            kept.append(one)
        left_out = len(items) - len(kept)
        note = {"type": "text", "content": f"[{left_out} left out]"}
        first = note if write == self._part else {"role": "system", "parts": [note]}
        return _text(name, f"[{','.join((_dumped(first), *reversed(kept)))}]")

    def _message(self, message: Message, limit: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "role": message.role if message.role in _ROLES else "user",
            "parts": [self._part(part, limit) for part in message.parts],
        }
        if message.name:
            found["name"] = self._short(message.name, limit)
        if message.finish_reason:
            found["finish_reason"] = _FINISHED.get(message.finish_reason.lower(), message.finish_reason[:64])
        return found

    def _part(self, part: Part, limit: int) -> dict[str, Any]:
        kind = part.kind
        if kind in (Kind.TEXT, Kind.REASONING):
            return {"type": kind.value, "content": self._short(part.text, limit)}
        if kind is Kind.TOOL_CALL:
            called = {"type": kind.value, "id": part.id or None, "name": part.name[:256]}
            return called | {"arguments": self._structure(part.json, limit)}
        if kind is Kind.TOOL_CALL_RESPONSE:
            response = self._structure(part.json, limit) if part.json else self._short(part.text, limit)
            return {"type": kind.value, "id": part.id or None, "response": response}
        of_what = {"type": kind.value, "modality": part.modality or "image", "mime_type": part.mime_type[:128] or None}
        if kind is Kind.BLOB:
            return of_what | {"content": ""}
        if kind is Kind.FILE:
            return of_what | {"file_id": part.text[:256]}
        return of_what | {"uri": self._short(redacted_target(part.text[: 4 * limit]), limit)}

    def _short(self, text: str, limit: int) -> str:
        """The text masked, then cut; so much of it is masked that what stays has been looked at with what follows it."""
        ahead = limit + 2 * _MARGIN
        is_long = len(text) > ahead
        if is_long:
            text = text[:ahead]
        text = self._masks.text(text)
        if len(text) <= limit and not is_long:
            return text
        return f"{text[: min(limit, max(len(text) - _MARGIN, 0)) if is_long else limit]}…"

    def _structure(self, raw: bytes, limit: int) -> Any:
        """Raw JSON as a structure with its texts masked and cut, or as a text where it is none, or too long as a whole."""
        try:
            value = json.loads(raw) if len(raw) <= 4 * limit else None
        except (ValueError, RecursionError):
            value = None
        if value is None:
            return self._short(raw[: 4 * limit + 1024].decode("utf-8", "replace"), limit)
        value = self._cut(self._masks.value(value), limit)
        text = _dumped(value)
        return value if len(text) <= limit else f"{text[:limit]}…"

    def _json_text(self, raw: bytes, limit: int) -> str:
        """Raw JSON as a JSON text: what it was, masked, or a string with the beginning of it."""
        value = self._structure(raw, limit)
        text = _dumped(value)
        while len(text) > limit:  # a text that became longer by what JSON escapes
            value = f"{value[: len(value) // 2]}…"
            text = _dumped(value)
        return text

    def _cut(self, value: Any, limit: int) -> Any:
        if isinstance(value, str):
            return value if len(value) <= limit else f"{value[:limit]}…"
        if isinstance(value, list):
            return [self._cut(one, limit) for one in value[:_MOST_ITEMS]]
        if isinstance(value, dict):
            return {name[:256]: self._cut(one, limit) for name, one in list(value.items())[:_MOST_ITEMS]}
        return value


def _length(items: Sequence[Part | Message], limit: int) -> int:
    """How long parts, or messages, will be with each part cut at `limit`: at least, but for what masks make shorter."""
    parts = [part for item in items for part in (item.parts if isinstance(item, Message) else (item,))]
    return 24 * len(parts) + sum(min(len(part.text) or len(part.json), limit) for part in parts)


def _dumped(value: Any) -> str:
    """JSON without blanks; NaN and infinities, which JSON does not have, are left as nothing."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False, separators=(",", ":"))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return {name: _without_nan(one) for name, one in value.items()} if isinstance(value, dict) else value


def _text(name: Name, text: str) -> bytes:
    """A string attribute that is not cut: half of a JSON text is none."""
    value = field(1, text.encode("utf-8", "replace"))
    return field(9, field(1, name.latest.encode()) + field(2, value))
