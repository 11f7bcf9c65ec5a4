"""What is said in the Messages API: the blocks of a request and of its answer, streamed or whole."""

from collections.abc import Iterable
from typing import Any

from sidecar.dialects.parts import Written, blob, bounded, called, located, responded, role_of, said, stored, texts_of
from sidecar.dialects.untyped import events_of, index, is_stream, items, member, raw, short, text, value_of
from sidecar.model.asked import Asked
from sidecar.model.content import Content, Kind, Message, Part


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Return what was asked and answered, as far as both came."""
    told = value_of(request)
    tools = items(told, "tools")
    output = streamed(event for _, event in events_of(answer)) if is_stream(content_type) else whole(value_of(answer))
    return bounded(
        Content(
            instructions=_blocks(member(told, "system")),
            input=[_message(each) for each in items(told, "messages")],
            output=output,
            tools=raw(tools) if tools else b"",
        )
    )


def whole(told: Any) -> list[Message]:
    """Return the message of a whole answer."""
    parts = _blocks(member(told, "content"))
    reason = short(told, "stop_reason")
    return [Message("assistant", parts, finish_reason=reason)] if parts or reason else []


def streamed(events: Iterable[Any]) -> list[Message]:
    """Return the message of a stream of events, as far as it came."""
    written = Written()
    for event in events:
        kind = text(event, "type")
        at = index(event, "index")
        if kind == "content_block_start":
            block = member(event, "content_block")
            if text(block, "type").endswith("tool_use"):
                written.call(at, short(block, "id"), short(block, "name"), _at_once(member(block, "input")))
            else:
                for part in _block(block):
                    written.add(at, part)
        elif kind == "content_block_delta":
            delta = member(event, "delta")
            written.say(at, text(delta, "text"))
            written.say(at, text(delta, "thinking"), Kind.REASONING)
            written.say(at, text(delta, "partial_json"))
        elif kind == "message_delta":
            written.finish(short(member(event, "delta"), "stop_reason"))
    return written.messages()


def _at_once(told: Any) -> str:
    """Arguments that are not streamed: some servers say all at once."""
    return raw(told).decode() if isinstance(told, dict) and told else ""


def _message(told: Any) -> Message:
    parts = _blocks(member(told, "content"))
    role = role_of(text(told, "role"))
    if parts and all(part.kind is Kind.TOOL_CALL_RESPONSE for part in parts):
        role = "tool"  # what the wire has as a user's message without a word of a user's
    return Message(role, parts)


def _blocks(told: Any) -> list[Part]:
    if not isinstance(told, list):
        return said(told)
    return [part for block in told for part in _block(block)]


def _block(told: Any) -> list[Part]:
    kind = text(told, "type")
    if kind == "text":
        return said(text(told, "text"))
    if kind == "thinking":
        return said(text(told, "thinking"), Kind.REASONING)
    if kind in ("image", "document"):
        return _source(member(told, "source"), "image" if kind == "image" else "document")
    if kind.endswith("tool_use"):
        return [called(short(told, "id"), short(told, "name"), member(told, "input"))]
    if kind.endswith("tool_result"):
        return [responded(short(told, "tool_use_id"), member(told, "content"))]
    if kind == "container_upload":
        return [stored(short(told, "file_id"))]
    if kind == "search_result":
        return texts_of(member(told, "content"))
    return []


def _source(told: Any, modality: str) -> list[Part]:
    kind, media = text(told, "type"), short(told, "media_type")
    if kind == "url":
        return [located(text(told, "url"), modality, media)]
    if kind == "file":
        return [stored(short(told, "file_id"), modality)]
    if kind == "text":
        return said(text(told, "data"))
    if kind == "content":
        return texts_of(member(told, "content"))
    return [blob(media, modality)]
