"""
What passes between a client and its tools: arguments and result of a tool's call, the messages of a prompt, a resource's text.

Of other methods nothing is shown: they list and negotiate.
"""

from typing import Any

from sidecar.dialects.jsonrpc import key
from sidecar.dialects.mcp.questions import McpCall
from sidecar.dialects.parts import blob, bounded, located, role_of, said
from sidecar.dialects.untyped import events_of, is_stream, items, member, raw, short, text, value_of
from sidecar.model.asked import Asked
from sidecar.model.content import Content, Message, Part

_CALL, _PROMPT, _RESOURCE = "tools/call", "prompts/get", "resources/read"


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Return what was asked and answered, as far as both came; None for methods in which nothing is said."""
    method = asked.operation
    if method not in (_CALL, _PROMPT, _RESOURCE):
        return None
    found = Content()
    result = _result(asked, answer, content_type)
    if method == _CALL:
        arguments = member(member(_request(asked, request), "params"), "arguments")
        found.arguments = raw(arguments) if arguments is not None else b""
        found.result = raw(result) if result is not None else b""
    elif method == _PROMPT:
        found.output = [_message(each) for each in items(result, "messages")]
    else:
        parts = [part for each in items(result, "contents") for part in _resource(each)]
        found.output = [Message("tool", parts)] if parts else []
    return bounded(found)


def _request(asked: Asked, request: bytes) -> Any:
    """The message that is described, of a batch the first request."""
    told = value_of(request)
    if isinstance(told, list):
        return next((each for each in told if text(each, "method") == asked.operation), None)
    return told


def _result(asked: Asked, answer: bytes, content_type: str) -> Any:
    """The result of the call, out of the answer with its id."""
    wanted = key(asked.raw_id) if isinstance(asked, McpCall) and asked.raw_id else None
    found = [event for _, event in events_of(answer)] if is_stream(content_type) else [value_of(answer)]
    for told in found:
        for message in told if isinstance(told, list) else [told]:
            result = member(message, "result")
            if result is None or "method" in message:
                continue
            is_alone = len(found) == 1 and not isinstance(told, list)
            if wanted is None or is_alone or message.get("id") in (wanted, None):
                return result
    return None


def _message(told: Any) -> Message:
    return Message(role_of(text(told, "role")), _part(member(told, "content")))


def _part(told: Any) -> list[Part]:
    """A block of content; one that a prompt's message has."""
    kind = text(told, "type")
    if kind in ("image", "audio"):
        return [blob(short(told, "mimeType"), kind)]
    if kind == "resource_link":
        return [located(text(told, "uri"), mime_type=short(told, "mimeType"))]
    if kind == "resource":
        return _resource(member(told, "resource"))
    return said(text(told, "text"))


def _resource(told: Any) -> list[Part]:
    if text(told, "text"):
        return said(text(told, "text"))
    return [blob(short(told, "mimeType"))] if member(told, "blob") is not None else []
