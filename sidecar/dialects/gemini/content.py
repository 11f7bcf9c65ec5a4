"""What is said in the Gemini API: contents and candidates, in camelCase or snake_case, whole, as events or as an array."""

from collections.abc import Iterable
from typing import Any

from sidecar.dialects.gemini.elements import Elements
from sidecar.dialects.parts import Written, blob, bounded, called, located, responded, role_of, said
from sidecar.dialects.untyped import MOST_EVENTS, events_of, index, is_stream, items, member, raw, short, text, value_of
from sidecar.model.asked import Asked
from sidecar.model.content import Content, Kind, Message, Part

_MOST_CANDIDATES = 64


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Return what was asked and answered, as far as both came."""
    told = value_of(request)
    tools = items(told, "tools")
    contents = member(told, "contents")
    if isinstance(contents, dict):
        contents = [contents]
    elif not isinstance(contents, list):  # embeddings
        contents = [member(told, "content"), *(member(each, "content") for each in items(told, "requests"))]
    found = Content(
        instructions=_parts(member(told, "systemInstruction", "system_instruction")),
        input=[_message(each) for each in contents if isinstance(each, dict)],
        tools=raw(tools) if tools else b"",
    )
    if asked.operation != "embeddings":
        found.output = _candidates(_pieces(answer, content_type))
    return bounded(found)


def _pieces(answer: bytes, content_type: str) -> Iterable[Any]:
    """The pieces of a stream, of an array, or the one whole answer."""
    if is_stream(content_type):
        return (event for _, event in events_of(answer))
    if answer.lstrip()[:1] == b"[":
        return map(value_of, Elements(max(1, len(answer))).feed(answer)[:MOST_EVENTS])
    return (value_of(answer),)


def _candidates(pieces: Iterable[Any]) -> list[Message]:
    candidates: dict[int, Written] = {}
    for piece in pieces:
        for position, candidate in enumerate(items(piece, "candidates")[:_MOST_CANDIDATES]):
            at = index(candidate, "index") if member(candidate, "index") is not None else position
            if at not in candidates and len(candidates) >= _MOST_CANDIDATES:
                continue
            written = candidates.setdefault(at, Written())
            for part in _parts(member(candidate, "content")):
                _take(written, part)
            written.finish(short(candidate, "finishReason", "finish_reason"))
    return [message for written in candidates.values() for message in written.messages()]


def _take(written: Written, part: Part) -> None:
    """Texts of one kind are pieces of one text; all else is whole."""
    if part.kind in (Kind.TEXT, Kind.REASONING):
        written.say(part.kind, part.text, part.kind)
    else:
        written.add(object(), part)


def _message(told: Any) -> Message:
    parts = _parts(told)
    role = role_of(text(told, "role"))
    if parts and all(part.kind is Kind.TOOL_CALL_RESPONSE for part in parts):
        role = "tool"
    return Message(role, parts)


def _parts(told: Any) -> list[Part]:
    if isinstance(told, str):
        return said(told)
    return [part for each in items(told, "parts") or [member(told, "parts")] for part in _part(each)]


def _part(told: Any) -> list[Part]:
    if not isinstance(told, dict):
        return said(told)
    if isinstance(told.get("text"), str):
        return said(told["text"], Kind.REASONING if told.get("thought") is True else Kind.TEXT)
    call = member(told, "functionCall", "function_call")
    if call is not None:
        return [called(short(call, "id"), short(call, "name"), member(call, "args"))]
    response = member(told, "functionResponse", "function_response")
    if response is not None:
        return [responded(short(response, "id") or short(response, "name"), member(response, "response"))]
    inline = member(told, "inlineData", "inline_data")
    if inline is not None:
        return [blob(short(inline, "mimeType", "mime_type"))]
    file = member(told, "fileData", "file_data")
    if file is not None:
        return [located(text(file, "fileUri", "file_uri"), mime_type=short(file, "mimeType", "mime_type"))]
    code = member(told, "executableCode", "executable_code")
    if code is not None:
        return said(text(code, "code"))
    return said(text(member(told, "codeExecutionResult", "code_execution_result"), "output"))
