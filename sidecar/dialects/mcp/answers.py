"""
What an MCP server says: one JSON body, a stream of events, or nothing.

On the stream of a request stand progress, requests of the server's own (sampling, elicitation, roots) and at last the answer with
the same id. On a standing stream nothing ends but `subscriptions/listen`, and nobody knows which call an answer there belongs
to, so it is counted and not judged.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from sidecar.dialects.bodies import WholeBody, unless_refused
from sidecar.dialects.dialect import Reader, Unreadable
from sidecar.dialects.jsonrpc import MOST_OBJECTS, MOST_TEXT, NOTHING, Kind, Message, is_text, key, members, messages, text, told
from sidecar.dialects.mcp.questions import LISTEN, McpCall, session_in
from sidecar.dialects.sse import EventStream
from sidecar.model.answered import McpAnswered
from sidecar.model.asked import Asked

MOST_EVENT_BYTES = 16 * 1024 * 1024
"""Largest event that is read: a tool's result with pictures in it is one event."""


_MOST_COUNTED_BYTES = 256 * 1024


class _Result(
    msgspec.Struct,
    gc=False,
    rename={
        "is_error": "isError",
        "result_type": "resultType",
        "structured": "structuredContent",
        "protocol_version": "protocolVersion",
        "server_info": "serverInfo",
        "meta": "_meta",
    },
):
    is_error: Raw = NOTHING
    result_type: Raw = NOTHING
    content: Raw = NOTHING
    structured: Raw = NOTHING
    contents: Raw = NOTHING
    messages: Raw = NOTHING
    protocol_version: Raw = NOTHING
    server_info: Raw = NOTHING
    meta: Raw = NOTHING


class _Meta(msgspec.Struct, gc=False, rename={"server_info": "io.modelcontextprotocol/serverInfo"}):
    server_info: Raw = NOTHING


class _Info(msgspec.Struct, gc=False):
    name: Raw = NOTHING


class _Part(msgspec.Struct, gc=False):
    text: Raw = NOTHING
    data: Raw = NOTHING
    blob: Raw = NOTHING
    content: Raw = NOTHING
    resource: Raw = NOTHING


class _Answer(msgspec.Struct, gc=False):
    """A message as nearly all answers are, in one decode."""

    id: Raw = NOTHING
    method: Raw = NOTHING
    params: Raw = NOTHING
    result: _Result | None = None
    error: Raw = NOTHING


_answer = msgspec.json.Decoder(_Answer).decode
_result = msgspec.json.Decoder(_Result)
_meta = msgspec.json.Decoder(_Meta)
_info = msgspec.json.Decoder(_Info)
_part = msgspec.json.Decoder(_Part)
_parts = msgspec.json.Decoder(list[_Part]).decode

_NO_RESULT, _NO_META, _NO_INFO, _NO_PART = _Result(), _Meta(), _Info(), _Part()


def answer_to(answered: McpAnswered, message: Message) -> None:
    """Take over what the answer to a call says, and that it is the end."""
    answered.is_ended = True
    if message.error:
        answered.code, answered.error_message = told(message.error)
        answered.error_type = str(answered.code) if answered.code else text(message.error)
        return
    _take(answered, members(message.result, _result, _NO_RESULT))


def _take(answered: McpAnswered, result: _Result) -> None:
    answered.is_tool_error = bytes(result.is_error) == b"true"
    if result.result_type:
        answered.result_type = text(result.result_type)
    if result.protocol_version:
        answered.protocol_version = text(result.protocol_version)
    server = result.server_info or (members(result.meta, _meta, _NO_META).server_info if result.meta else NOTHING)
    if server:
        answered.server = text(members(server, _info, _NO_INFO).name)
    answered.content_bytes += len(result.structured)
    for parts in (result.content, result.contents, result.messages):
        if parts:
            answered.content_bytes += _content_of(parts)


def _read(data: bytes) -> _Answer | None:
    """An answer that has a result; None for all else, which is looked at more closely."""
    try:
        found = _answer(data)
    except (ValueError, RecursionError):
        return None
    return found if found.result is not None and not found.method and not found.error else None


def _content_of(raw: Raw) -> int:
    """
    Bytes of what parts of content hold: texts, pictures, sounds and resources, without what is around them.

    Those of a long result, and very many, are counted with their envelopes: they are not read another time.
    """
    if not raw:
        return 0
    if len(raw) > _MOST_COUNTED_BYTES or (len(raw) > MOST_OBJECTS and bytes(raw).count(b"{") > MOST_OBJECTS):
        return len(raw)
    try:
        parts = _parts(raw)
    except (ValueError, RecursionError):
        return len(raw)
    return sum(_size(part) for part in parts)


def _size(part: _Part) -> int:
    inner = part.content or part.resource  # that of a prompt's message, and an embedded resource
    if inner:
        part = members(inner, _part, _NO_PART)
    return sum(len(raw) - 2 for raw in (part.text, part.data, part.blob) if is_text(raw))


class Hearing:
    """What is heard in answer to one call, message by message; it is shared by everything that brings messages."""

    __slots__ = ("_key", "_stands", "answered")

    def __init__(self, asked: Asked, session: str = "") -> None:
        self.answered = McpAnswered(session=session[:MOST_TEXT])
        self._key = key(asked.raw_id) if isinstance(asked, McpCall) and asked.raw_id else None
        self._stands = asked.operation == LISTEN

    def body(self, data: bytes) -> None:
        """Take a whole body: what is in it is the answer, whatever its id (a server that could not read the request has none)."""
        answer = _read(data)
        if answer is not None:
            self.answered.is_ended = True
            _take(self.answered, answer.result or _NO_RESULT)
            return
        found = messages(data)
        for message in found:
            if message.kind is Kind.RESPONSE and (len(found) == 1 or self._is_answer(message)):
                answer_to(self.answered, message)
                return

    def event(self, data: bytes) -> None:
        """Take an event's data: one message, or a batch (2025-03-26)."""
        answer = None if self._stands or self.answered.is_ended else _read(data)
        if answer is not None and answer.id and (self._key is None or key(answer.id) == self._key):
            self.answered.is_ended = True
            _take(self.answered, answer.result or _NO_RESULT)
            return
        for message in messages(data):
            self.message(message)

    def message(self, message: Message) -> None:
        """Take one message of those that come until the call is answered."""
        kind = message.kind
        if kind is Kind.REQUEST:
            self.answered.server_requests += 1
        elif kind is Kind.NOTIFICATION:
            self.answered.progress += text(message.method) == "notifications/progress"
        elif kind is Kind.RESPONSE and not self._stands and not self.answered.is_ended and self._is_answer(message):
            answer_to(self.answered, message)

    def _is_answer(self, message: Message) -> bool:
        found = key(message.id) if message.id else None
        return self._key is None or found == self._key or (found is None and bool(message.error))


class EventReader:
    """Reads a stream of server-sent events."""

    __slots__ = ("_events", "_hearing", "answered")

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._events = EventStream(MOST_EVENT_BYTES)
        self.answered = hearing.answered

    def feed(self, data: bytes) -> None:
        """Take what comes."""
        answered = self.answered
        for name, content in self._events.feed(data):
            answered.events += 1
            if name == b"endpoint":
                where = content[:4096].decode("utf-8", "replace").partition("?")[2]
                answered.session = answered.session or session_in(where)
            elif content:  # a priming event has an id and nothing else (2025-11-25)
                try:
                    self._hearing.event(content)
                except Unreadable:
                    answered.is_unreadable = True
        if self._events.skipped:
            answered.is_unreadable = True

    def end(self) -> None:
        """The stream is over, which says nothing about whether the call was answered."""


class _Silence:
    """Reads an answer without a message in it."""

    __slots__ = ("answered",)

    def __init__(self, hearing: Hearing) -> None:
        self.answered = hearing.answered

    def feed(self, data: bytes) -> None:
        """Let it pass: it is for people."""

    def end(self) -> None:
        self.answered.is_ended = True


def reader_of(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return the reader of a response with this head."""
    hearing = Hearing(asked, fields.get("mcp-session-id", ""))
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return EventReader(hearing)
    if media_type == "application/json" or media_type.endswith("+json"):
        return WholeBody(hearing.answered, unless_refused(hearing.body, status))
    return _Silence(hearing)
