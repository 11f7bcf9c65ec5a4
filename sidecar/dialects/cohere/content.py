"""What is said to Cohere: messages of v2, which are like OpenAI's, and the message with its history of v1."""

from typing import Any

from sidecar.dialects.openai.content import call_of, message_of, prompts_of
from sidecar.dialects.parts import Written, bounded, called, role_of, said
from sidecar.dialects.untyped import events_of, index, is_stream, items, lines_of, member, raw, short, text, value_of
from sidecar.model.asked import Asked
from sidecar.model.content import Content, Kind, Message


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Return what was asked and answered, as far as both came."""
    told = value_of(request)
    tools = items(told, "tools")
    found = Content(
        instructions=said(text(told, "preamble")),
        input=[_message(each) for each in items(told, "messages")] or _history(told),
        tools=raw(tools) if tools else b"",
    )
    if asked.operation != "embeddings":
        is_json = content_type.lower().startswith("application/json")
        if is_stream(content_type):
            found.output = _stream(answer)
        elif asked.streams and not is_json:
            found.output = _lines(answer)
        else:
            found.output = _whole(value_of(answer))
    return bounded(found)


def _message(told: Any) -> Message:
    found = message_of(told)
    if found.role == "assistant":
        found.parts[:0] = said(text(told, "tool_plan"), Kind.REASONING)
    return found


def _history(told: Any) -> list[Message]:
    """What v1 says, and the texts of an embedding."""
    found = [Message(role_of(text(each, "role")), said(text(each, "message"))) for each in items(told, "chat_history")]
    found += prompts_of(member(told, "message", "texts"))
    return found + [message_of({"role": "user", **each}) for each in items(told, "inputs") if isinstance(each, dict)]


def _whole(told: Any) -> list[Message]:
    message = member(told, "message")
    reason = short(told, "finish_reason")
    if isinstance(message, dict):
        parts = said(text(message, "tool_plan"), Kind.REASONING)
        for each in items(message, "content"):
            parts += said(text(each, "thinking"), Kind.REASONING) + said(text(each, "text"))
        parts += [call_of(call) for call in items(message, "tool_calls")]
    else:
        parts = said(text(told, "text"))
        parts += [called("", short(call, "name"), member(call, "parameters")) for call in items(told, "tool_calls")]
    return [Message("assistant", parts, finish_reason=reason)] if parts or reason else []


def _stream(answer: bytes) -> list[Message]:
    written = Written()
    for name, event in events_of(answer):
        kind = text(event, "type") or name
        delta = member(event, "delta")
        message = member(delta, "message")
        if kind in ("content-start", "content-delta"):
            part = member(message, "content")
            at = index(event, "index")
            written.say(("said", at), text(part, "thinking"), Kind.REASONING)
            written.say(("said", at), text(part, "text"))
        elif kind == "tool-plan-delta":
            written.say("plan", text(message, "tool_plan"), Kind.REASONING)
        elif kind in ("tool-call-start", "tool-call-delta"):
            call = member(message, "tool_calls")
            function = member(call, "function")
            key = "call", index(event, "index")
            written.call(key, short(call, "id"), short(function, "name"), text(function, "arguments"))
        elif kind == "message-end":
            written.finish(short(delta, "finish_reason"))
    return written.messages()


def _lines(answer: bytes) -> list[Message]:
    """The lines of v1: pieces of the text, and at the end the calls, with the whole once more."""
    written = Written()
    for line in lines_of(answer):
        kind = text(line, "event_type")
        if kind == "text-generation":
            written.say("text", text(line, "text"))
        elif kind == "stream-end":
            written.finish(short(line, "finish_reason"))
            for place, call in enumerate(items(member(line, "response"), "tool_calls")):
                written.add(("call", place), called("", short(call, "name"), member(call, "parameters")))
    return written.messages()
