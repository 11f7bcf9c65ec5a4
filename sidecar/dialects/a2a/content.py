"""What agents say to each other: the parts of messages, of a task's status and of its artifacts, in 1.0 and 0.3."""

from collections.abc import Iterable
from typing import Any

from sidecar.dialects.a2a.methods import SEND, STREAM, WITH_TASK
from sidecar.dialects.parts import Written, blob, bounded, located, role_of, said
from sidecar.dialects.untyped import events_of, is_stream, items, member, raw, short, text, value_of
from sidecar.model.asked import Asked
from sidecar.model.content import Content, Kind, Message, Part

_MOST_SAID = 256  # messages and artifacts of one answer


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Return the message that was sent and what was answered, as far as both came; None for methods in which nothing is said."""
    if asked.operation not in WITH_TASK:
        return None
    found = Content()
    if asked.operation in (SEND, STREAM):
        told = value_of(request)
        params = member(told, "params") or told
        sent = member(params, "message", "request")
        found.input = [_message(sent, "user")] if isinstance(sent, dict) else []
    pieces = (event for _, event in events_of(answer)) if is_stream(content_type) else (value_of(answer),)
    found.output = _Answer().hear(pieces)
    return bounded(found)


class _Answer:
    """Puts together what an agent says, in whatever wrapping it comes."""

    def __init__(self) -> None:
        self._messages: dict[object, Message | Written] = {}

    def hear(self, pieces: Iterable[Any]) -> list[Message]:
        """Take all pieces, and return the messages; an artifact is one, too."""
        for piece in pieces:
            told = member(piece, "result") if member(piece, "jsonrpc") is not None else piece
            self._take(told)
        found: list[Message] = []
        for each in self._messages.values():
            found += each.messages() if isinstance(each, Written) else [each]
        return [message for message in found if message.parts]

    def _take(self, told: Any) -> None:
        update = member(told, "statusUpdate", "status_update", "artifactUpdate", "artifact_update", "task")
        if isinstance(update, dict):
            told = update
        message = member(told, "message", "msg")
        if isinstance(message, dict):
            self._say(message)
        elif member(told, "messageId", "message_id") is not None or text(told, "kind") == "message":
            self._say(told)
        self._say(member(member(told, "status"), "message", "update"))
        for artifact in items(told, "artifacts"):
            self._add(artifact, is_more=False)
        self._add(member(told, "artifact"), is_more=member(told, "append") is True)

    def _say(self, message: Any) -> None:
        key = short(message, "messageId", "message_id") or len(self._messages)
        if isinstance(message, dict) and len(self._messages) < _MOST_SAID:
            self._messages[key] = _message(message, "assistant")

    def _add(self, artifact: Any, *, is_more: bool) -> None:
        """Take an artifact, or what is appended to one: texts become one text."""
        if not isinstance(artifact, dict) or len(self._messages) >= _MOST_SAID:
            return
        key = "artifact", short(artifact, "artifactId", "artifact_id")
        known = self._messages.get(key)
        written = known if is_more and isinstance(known, Written) else Written()
        self._messages[key] = written
        for part in _parts(artifact):
            if part.kind is Kind.TEXT:
                written.say("text", part.text)
            else:
                written.add(object(), part)


def _message(told: dict[str, Any], default: str) -> Message:
    return Message(role_of(text(told, "role"), default), _parts(told))


def _parts(told: Any) -> list[Part]:
    return [part for each in items(told, "parts") or items(told, "content") for part in _part(each)]


def _part(told: Any) -> list[Part]:
    """A part: bare members in 1.0, a `kind` and a `file` in 0.3."""
    if text(told, "text"):
        return said(text(told, "text"))
    file = member(told, "file")
    place = file if isinstance(file, dict) else told
    media = short(place, "mediaType", "media_type", "mimeType", "mime_type")
    address = text(place, "url", "uri", "fileWithUri", "file_with_uri")
    if address:
        return [located(address, mime_type=media)]
    if member(place, "raw", "bytes", "fileWithBytes", "file_with_bytes") is not None:
        return [blob(media)]
    data = member(told, "data")
    return said(raw(data).decode("utf-8", "replace")) if data is not None else []
