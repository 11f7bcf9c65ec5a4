"""What a request to Cohere asks for."""

import re

import msgspec

from sidecar.dialects.bulk import weighed
from sidecar.dialects.dialect import Heading
from sidecar.dialects.glance import outline
from sidecar.dialects.lenient import Lenient, Lists, count
from sidecar.model.asked import ModelAsked, Parameter

_MEASURES = {
    "temperature": "temperature",
    "p": "top_p",
    "k": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "output_dimension": "output_dimension",
}
_URL = re.compile(rb'"url"[ \t\r\n]*:[ \t\r\n]*"http')
_MOST_TEXT = 256
_MOST_TOOLS = 1024
_MOST_LISTED = 16


_ABSENT = msgspec.Raw(b"")


class _Function(msgspec.Struct, gc=False):
    name: str = ""


class _Tool(msgspec.Struct, gc=False):
    name: str = ""  # v1
    function: _Function | None = None


class _Format(msgspec.Struct, gc=False):
    type: str = ""


class _Image(msgspec.Struct, gc=False):
    url: str = ""


class _Part(msgspec.Struct, gc=False):
    image_url: _Image | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None


class _Request(msgspec.Struct, gc=False):
    model: str = ""
    stream: bool = False
    max_tokens: int | float | None = None
    temperature: int | float | None = None
    p: int | float | None = None
    k: int | float | None = None
    seed: int | float | None = None
    frequency_penalty: int | float | None = None
    presence_penalty: int | float | None = None
    output_dimension: int | None = None
    stop_sequences: list[str] | None = None
    embedding_types: list[str] | None = None
    tools: msgspec.Raw = _ABSENT
    response_format: _Format | None = None
    conversation_id: str | None = None
    connectors: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT
    documents: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT  # v1, and its history
    chat_history: msgspec.Raw = _ABSENT


class _Said(msgspec.Struct, gc=False):
    messages: list[_Message] | None = None


_request = Lenient(_Request).skim
_LONG = ("messages", "documents", "message", "chat_history", "tools")
_said = Lenient(_Said).decode
_tools = Lists(_Tool).read


def read(dialect: str, operation: str, heading: Heading, body: bytes) -> ModelAsked:
    """Read the body of a chat or of an embedding; raises `Unreadable`."""
    told = _request(body)
    tools = _tools(bytes(told.tools)) if told.tools is not _ABSENT else []
    unbounded = _unbounded(told, body)
    asked = ModelAsked(
        dialect,
        operation,
        told.stream,
        provider=heading.provider or dialect,
        model=told.model[:_MOST_TEXT],
        max_tokens=count(told.max_tokens),
        tools=tuple((tool.function or tool).name[:_MOST_TEXT] for tool in (tools or ())[:_MOST_TOOLS]),
        conversation=(told.conversation_id or "")[:_MOST_TEXT],
        parameters=_parameters(told),
        output_type="json" if told.response_format and told.response_format.type == "json_object" else "",
        unbounded=unbounded if tools is not None or "unread" in unbounded else (*unbounded, "unread"),
    )
    bulk = {name: getattr(told, name) for name in _LONG}
    return weighed(asked, body, **bulk)


def _parameters(told: _Request) -> tuple[tuple[str, Parameter], ...]:
    found: list[tuple[str, Parameter]] = []
    for member, measure in _MEASURES.items():
        value = getattr(told, member)
        if value is not None:
            found.append((measure, value))
    if told.stop_sequences:
        found.append(("stop_sequences", _listed(told.stop_sequences)))
    if told.embedding_types:
        found.append(("encoding_formats", _listed(told.embedding_types)))
    return tuple(found)


def _listed(texts: list[str]) -> tuple[str, ...]:
    return tuple(text[:_MOST_TEXT] for text in texts[:_MOST_LISTED])


def _unbounded(told: _Request, body: bytes) -> tuple[str, ...]:
    found = []
    if told.connectors is not _ABSENT and bytes(told.connectors).strip(b"[] \t\r\n") not in (b"", b"null"):
        found.append("server_tools")
    if told.conversation_id:
        found.append("stored_conversation")
    looked_at = outline(body)
    if looked_at is None:
        found.append("unread")
    elif b'"image_url"' in looked_at and (_has_urls(body) if looked_at is body else _URL.search(looked_at)):
        found.append("urls")
    return tuple(found)


def _has_urls(body: bytes) -> bool:
    return any(_has_url(message) for message in _said(body).messages or ())


def _has_url(message: _Message) -> bool:
    """Whether an image stands somewhere else; one inside the body is a `data:` URL."""
    if not isinstance(message.content, list):
        return False
    return any(part.image_url is not None and part.image_url.url.startswith("http") for part in message.content)
