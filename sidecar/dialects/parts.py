"""
Parts of messages, made of what all providers have: texts, calls of tools and their results, pictures, sounds and files.

    Message("user", [*said("What is this?"), located("https://x.example/cat.png", "image")])

Nothing here holds the bytes of a picture or a file: only what kind it is, and where it lies.
"""

from typing import Any

from sidecar.dialects.untyped import MOST_TEXT, raw, text
from sidecar.model.content import Content, Kind, Message, Part

MOST_MESSAGES = 256
"""Of one side of a call; of more the last stay, because the first have been said before."""
MOST_PARTS = 128
"""Of one message; of more the first stay."""

_MOST_ADDRESS = 2048
_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant", "model": "assistant",
    "chatbot": "assistant", "agent": "assistant", "ai": "assistant", "tool": "tool", "function": "tool", "ipython": "tool",
    "role_user": "user", "role_agent": "assistant",
}  # fmt: skip


def role_of(told: str, default: str = "user") -> str:
    """Return the schema's role for a provider's word."""
    return _ROLES.get(told[:16].lower(), default)


def said(told: Any, kind: Kind = Kind.TEXT) -> list[Part]:
    """Return a text, or reasoning, as a part; none where there is none."""
    return [Part(kind, told)] if isinstance(told, str) and told else []


def texts_of(told: Any, kind: Kind = Kind.TEXT) -> list[Part]:
    """Return the texts that stand in a list of blocks, each with a member `text`; nothing of other blocks."""
    return [part for block in told for part in said(text(block, "text"), kind)] if isinstance(told, list) else []


def called(call_id: str, name: str, arguments: Any) -> Part:
    """Return a call of a tool; `arguments` are an object, or JSON as a text."""
    if isinstance(arguments, str):
        written = arguments.encode("utf-8", "replace")
    else:
        written = raw(arguments) if arguments is not None else b""
    return Part(Kind.TOOL_CALL, json=written, id=call_id[:MOST_TEXT], name=name[:MOST_TEXT])


def responded(call_id: str, response: Any) -> Part:
    """Return what a tool has answered: a text, also where it comes as blocks of texts, or a structure."""
    if isinstance(response, list) and response:
        texts = [text(block, "text") for block in response]
        response = "\n".join(texts) if all(texts) else response
    if isinstance(response, str):
        return Part(Kind.TOOL_CALL_RESPONSE, response, id=call_id[:MOST_TEXT])
    return Part(Kind.TOOL_CALL_RESPONSE, json=raw(response) if response is not None else b"", id=call_id[:MOST_TEXT])


def modality_of(mime_type: str) -> str:
    """Return `image`, `audio` or `video` by the media type, `document` for all else."""
    kind = mime_type.partition("/")[0].lower()
    return kind if kind in ("image", "audio", "video") else "document"


def blob(mime_type: str, modality: str = "") -> Part:
    """Return bytes that stood in the message; only what kind they were."""
    return Part(Kind.BLOB, modality=modality or modality_of(mime_type), mime_type=mime_type[:128])


def stored(file_id: str, modality: str = "document") -> Part:
    """Return a file that the provider keeps."""
    return Part(Kind.FILE, file_id[:MOST_TEXT], modality=modality)


def located(address: str, modality: str = "", mime_type: str = "") -> Part:
    """Return what lies at an address; a `data:` URL is bytes."""
    if address[:5].lower() == "data:":
        told = address[5:133].partition(",")[0].partition(";")[0]
        return blob(told or mime_type, modality)
    return Part(Kind.URI, address[:_MOST_ADDRESS], modality=modality or modality_of(mime_type), mime_type=mime_type[:128])


def bounded(content: Content) -> Content:
    """Return the content with no more messages and parts than the bounds allow, marked where some were left out."""
    for side in (content.input, content.output):
        if len(side) > MOST_MESSAGES:
            content.is_cut = True
            del side[:-MOST_MESSAGES]
        for message in side:
            if len(message.parts) > MOST_PARTS:
                content.is_cut = True
                del message.parts[MOST_PARTS:]
    if len(content.instructions) > MOST_PARTS:
        content.is_cut = True
        del content.instructions[MOST_PARTS:]
    return content


class Written:
    """
    A message that comes in pieces, put together part by part in the order in which they began.

    A part is known by a key of the dialect's: an index, or the kind where there is one of each.
    """

    __slots__ = ("_parts", "finish_reason", "role")

    def __init__(self, role: str = "assistant") -> None:
        self.role = role
        self.finish_reason = ""
        self._parts: dict[object, tuple[Part, list[str]]] = {}

    def add(self, key: object, part: Part) -> None:
        """Begin a part; pieces may follow."""
        if key not in self._parts and len(self._parts) <= MOST_PARTS:  # one too many tells `bounded` that there was more
            self._parts[key] = (part, [])

    def say(self, key: object, piece: str, kind: Kind = Kind.TEXT) -> None:
        """Take a piece of a text, or of a call's arguments, which begins a text where nothing has begun."""
        if not piece:
            return
        if key not in self._parts:
            self.add(key, Part(kind))
        found = self._parts.get(key)
        if found is not None:
            found[1].append(piece)

    def call(self, key: object, call_id: str, name: str, arguments: str) -> None:
        """Take a piece of a call; the id and the name come with the first one."""
        if key not in self._parts:
            self.add(key, Part(Kind.TOOL_CALL))
        found = self._parts.get(key)
        if found is None:
            return
        part, pieces = found
        part.id = part.id or call_id[:MOST_TEXT]
        part.name = part.name or name[:MOST_TEXT]
        if arguments:
            pieces.append(arguments)

    def finish(self, reason: str) -> None:
        """Note why it ended, in the provider's own word; the last one counts."""
        if reason:
            self.finish_reason = reason[:MOST_TEXT]

    def messages(self) -> list[Message]:
        """Return the message, as far as it has come; none where nothing has."""
        parts: list[Part] = []
        for part, pieces in self._parts.values():
            if part.kind is Kind.TOOL_CALL:
                if pieces:
                    part.json = "".join(pieces).encode("utf-8", "replace")
                parts.append(part)
                continue
            if pieces:
                part.text += "".join(pieces)
                pieces.clear()
            if part.text or part.kind not in (Kind.TEXT, Kind.REASONING):
                parts.append(part)
        if not parts and not self.finish_reason:
            return []
        return [Message(self.role, parts, finish_reason=self.finish_reason)]
