"""
What is said over Bedrock: the blocks of Converse, and behind `invoke` what the vendors' own JSON says.

Anthropic's messages are read by their own dialect, chats that look like OpenAI's by that one; of the others the prompt and the
text are read here.
"""

import base64
from collections.abc import Iterator
from typing import Any

from sidecar.dialects.anthropic import content as messages_api
from sidecar.dialects.anthropic.content import streamed
from sidecar.dialects.bedrock.asked import BedrockAsked
from sidecar.dialects.bedrock.streams import CONTENT_TYPE
from sidecar.dialects.eventstream import Frames
from sidecar.dialects.openai.content import chat_answer, message_of, prompts_of, take_choice
from sidecar.dialects.parts import Written, blob, bounded, called, located, responded, role_of, said, texts_of
from sidecar.dialects.untyped import MOST_EVENTS, index, items, member, raw, short, text, value_of
from sidecar.model.asked import Asked
from sidecar.model.content import Content, Kind, Message, Part

_MEDIA = {"image": "image", "video": "video", "audio": "audio", "document": "document"}


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Return what was asked and answered, as far as both came."""
    is_stream = content_type.startswith(CONTENT_TYPE)
    ours = asked if isinstance(asked, BedrockAsked) else BedrockAsked(asked.dialect, asked.operation)
    if ours.api == "invoke" and ours.family == "anthropic":
        found = messages_api(asked, request, b"" if is_stream else answer, "application/json")
        if found is not None and is_stream:
            found.output = streamed(_chunks(answer))
        return bounded(found) if found is not None else None
    told = value_of(request)
    if ours.api == "invoke" and ours.family != "nova":
        return bounded(_invoke(told, answer, is_stream=is_stream, is_embedding=asked.operation == "embeddings"))
    events = _nova(answer) if ours.api == "invoke" else _frames(answer)
    return bounded(_converse(told, _streamed(events) if is_stream else _whole(value_of(answer))))


def _frames(answer: bytes) -> Iterator[tuple[str, Any]]:
    for headers, payload in Frames(max(16, len(answer))).feed(answer)[:MOST_EVENTS]:
        yield headers.get(":event-type", ""), value_of(payload)


def _chunks(answer: bytes) -> Iterator[Any]:
    """The vendor's own JSON out of each chunk."""
    for kind, told in _frames(answer):
        if kind == "chunk":
            try:
                yield value_of(base64.b64decode(text(told, "bytes")))
            except ValueError:
                continue


def _nova(answer: bytes) -> Iterator[tuple[str, Any]]:
    """Nova's chunks have the events of Converse as their only member."""
    for chunk in _chunks(answer):
        if isinstance(chunk, dict):
            yield from chunk.items()


# Converse


def _converse(told: Any, output: list[Message]) -> Content:
    tools = items(member(told, "toolConfig"), "tools")
    return Content(
        instructions=_blocks(member(told, "system")),
        input=[_message(each) for each in items(told, "messages")],
        output=output,
        tools=raw(tools) if tools else b"",
    )


def _message(told: Any) -> Message:
    parts = _blocks(member(told, "content"))
    role = role_of(text(told, "role"))
    if parts and all(part.kind is Kind.TOOL_CALL_RESPONSE for part in parts):
        role = "tool"
    return Message(role, parts)


def _blocks(told: Any) -> list[Part]:
    if not isinstance(told, list):
        return said(told)
    return [part for block in told for part in _block(block)]


def _block(told: Any) -> list[Part]:
    if not isinstance(told, dict):
        return said(told)
    if isinstance(told.get("text"), str):
        return said(told["text"])
    call = member(told, "toolUse")
    if call is not None:
        return [called(short(call, "toolUseId"), short(call, "name"), member(call, "input"))]
    result = member(told, "toolResult")
    if result is not None:
        return [responded(short(result, "toolUseId"), _result(items(result, "content")))]
    reasoning = member(told, "reasoningContent")
    if reasoning is not None:
        return said(text(member(reasoning, "reasoningText"), "text"), Kind.REASONING)
    for name, modality in _MEDIA.items():
        medium = member(told, name)
        if medium is not None:
            address = text(member(member(medium, "source"), "s3Location"), "uri")
            form = short(medium, "format")
            return [located(address, modality) if address else blob(f"{modality}/{form}" if form else "", modality)]
    guarded = text(member(member(told, "guardContent"), "text"), "text")
    return said(guarded) or texts_of(member(member(told, "citationsContent"), "content"))


def _result(told: list[Any]) -> Any:
    if len(told) == 1 and member(told[0], "json") is not None:
        return told[0]["json"]
    return told


def _whole(told: Any) -> list[Message]:
    parts = _blocks(member(member(member(told, "output"), "message"), "content"))
    reason = short(told, "stopReason")
    return [Message("assistant", parts, finish_reason=reason)] if parts or reason else []


def _streamed(events: Iterator[tuple[str, Any]]) -> list[Message]:
    written = Written()
    for kind, told in events:
        at = index(told, "contentBlockIndex")
        if kind == "contentBlockStart":
            call = member(member(told, "start"), "toolUse")
            if call is not None:
                written.call(at, short(call, "toolUseId"), short(call, "name"), "")
        elif kind == "contentBlockDelta":
            delta = member(told, "delta")
            written.say(at, text(delta, "text"))
            written.say(at, text(member(delta, "toolUse"), "input"))
            written.say(at, text(member(delta, "reasoningContent"), "text"), Kind.REASONING)
        elif kind == "messageStop":
            written.finish(short(told, "stopReason"))
    return written.messages()


# the vendors behind `invoke`


def _invoke(told: Any, answer: bytes, *, is_stream: bool, is_embedding: bool) -> Content:
    tools = items(told, "tools")
    inputs = [message_of(each) for each in items(told, "messages")]
    inputs = inputs or prompts_of(member(told, "prompt", "inputText", "message", "texts"))
    pieces = _chunks(answer) if is_stream else iter((value_of(answer),))
    return Content(input=inputs, output=[] if is_embedding else _pieces(pieces), tools=raw(tools) if tools else b"")


def _pieces(pieces: Iterator[Any]) -> list[Message]:
    """Texts of all vendors, whole or in chunks; what has choices is read as OpenAI's."""
    choices: dict[int, Written] = {}
    for piece in pieces:
        whole = chat_answer(piece) if member(_first_choice(piece), "message") is not None else []
        if whole and not choices:
            return whole
        told = items(piece, "choices") or items(piece, "outputs") or items(piece, "generations")
        for position, choice in enumerate(told[:128]):
            take_choice(choices, position, choice)
        results = items(piece, "results")
        for position, result in enumerate(results[:128] or [piece]):
            said_here = text(result, "generation", "outputText", "text")
            reason = short(result, "stop_reason", "completionReason", "finish_reason")
            if said_here or reason:
                written = choices.setdefault(position, Written())
                written.say("text", said_here)
                written.finish(reason)
    return [message for written in choices.values() for message in written.messages()]


def _first_choice(piece: Any) -> Any:
    choices = items(piece, "choices")
    return choices[0] if choices else None
