"""What the Gemini API answers: a whole body, server-sent events, a JSON array in pieces, or an error in any of them."""

import re
from collections.abc import Mapping
from functools import partial

import msgspec

from sidecar.dialects.bodies import WholeBody
from sidecar.dialects.dialect import Reader, Unreadable
from sidecar.dialects.gemini.elements import Elements
from sidecar.dialects.gemini.usage import Metadata, searches, tier, usage
from sidecar.dialects.lenient import Lenient, size
from sidecar.dialects.long_text import LONG_BYTES, Text, left_raw
from sidecar.dialects.sse import EventStream
from sidecar.model.answered import ModelAnswered, ToolCall
from sidecar.model.asked import Asked
from sidecar.model.usage import Usage

MOST_EVENT_BYTES = 16 << 20
"""Bytes of one event; they are this large because a picture comes in one."""

MOST_CALLS = 128
MOST_ARGUMENT_BYTES = 1 << 20
"""Bytes of arguments that are kept, of all calls of one answer together."""

_MOST_TEXT = 256
_MOST_MESSAGE = 512
_MOST_CANDIDATES = 64
_MOST_QUERIES = 256
_MOST_LOOSE_BYTES = 1 << 16


_TEXT = re.compile(
    rb'data: \{"candidates": ?\[\{"content": ?\{(?:"role": ?"model", ?)?"parts": ?\[\{"text": ?"([^"\\\x00-\x1f]{0,65536})"'
    rb'(?:, ?"thought": ?true)?\}\](?:, ?"role": ?"model")?\}(?:, ?"index": ?0)?\}\]'
).match
_DIGITS = b"0123456789"


class StreamedContent(ModelAnswered):
    """
    Content that comes in pieces; `is_array` where they are elements of an array, which `is_open` and then `is_closed`.

    `is_between`: the last byte seen ended a piece, so that another may follow. `counted` is what stood behind the
    text of the last piece, with its `usageMetadata`: it is read when somebody asks for `usage`.
    """

    __slots__ = ("_usage", "counted", "is_array", "is_between", "is_closed", "is_open")

    def __init__(self, service_tier: str = "", *, is_array: bool = False) -> None:
        self._usage: Usage | None = None
        self.counted = b""
        self.is_array = is_array
        self.is_open = self.is_closed = False
        self.is_between = True
        super().__init__(service_tier=service_tier)

    @property
    def usage(self) -> Usage | None:
        """The counts of the last piece that told any."""
        if self.counted:
            told = _read_counts(self.counted)
            self.counted = b""
            if told is not None:
                told.web_searches = self._usage.web_searches if self._usage is not None else 0
                self._usage = told
        return self._usage

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self.counted = b""
        self._usage = usage


class _Call(msgspec.Struct, gc=False):
    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"")


class _Code(msgspec.Struct, gc=False):
    code: Text = None
    output: Text = None


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: Text = None
    function_call: _Call | None = None
    executable_code: _Code | None = None
    inline_data: msgspec.Raw = msgspec.Raw(b"")


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Grounding(msgspec.Struct, gc=False, rename="camel"):
    web_search_queries: list[str] | None = None
    image_search_queries: list[str] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = None
    grounding_metadata: _Grounding | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Error(msgspec.Struct, gc=False):
    code: int | None = None
    status: str | None = None
    message: str | None = None


class _Statistics(msgspec.Struct, gc=False, rename="camel"):
    token_count: float | None = None


class _Embedding(msgspec.Struct, gc=False):
    statistics: _Statistics | None = None


class _EmbeddingMetadata(msgspec.Struct, gc=False, rename="camel"):
    billable_character_count: int | None = None


class _Response(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: Metadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    prompt_feedback: _Feedback | None = None
    error: _Error | str | None = None
    embedding: _Embedding | None = None
    embeddings: list[_Embedding] | None = None
    metadata: _EmbeddingMetadata | None = None


class _Counted(msgspec.Struct, gc=False, rename="camel"):
    usage_metadata: Metadata | None = None


_RESPONSE = Lenient(_Response)
_LONG_RESPONSE = Lenient(left_raw(_Response))
_COUNTED = Lenient(_Counted)


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return a reader of events, of an array's elements or of a whole body, as media type and path say."""
    tier = fields.get("x-gemini-service-tier", "")[:_MOST_TEXT].lower()
    kind = content_type.lower()
    if kind.startswith("text/event-stream"):
        return Events(StreamedContent(tier))
    if asked.streams:
        return Array(StreamedContent(tier, is_array=True))
    answered = ModelAnswered(service_tier=tier)
    return WholeBody(answered, partial(read, answered))


def read(answered: ModelAnswered, body: bytes) -> None:
    """Read a whole answer or an error, which may also stand in an array; raises `Unreadable`."""
    content = _Gathered(answered)
    for element in [body] if body[:64].lstrip()[:1] == b"{" else Elements(len(body)).feed(body):
        content.take(element)
    if not content.has_any:
        raise Unreadable("no answer is in it")


class Events:
    """
    Reads server-sent events.

    There is no last event: the stream has ended well where the connection's end comes after a finish reason. Google says some
    errors in the middle of a stream as bare JSON, without `data:`; from the first line that begins with a brace everything is
    taken for one.

    A piece of text whose rest differs from that of an earlier one in digits only is counted without being decoded: its text is
    new, and so are the counts that stand behind it.
    """

    __slots__ = ("_content", "_is_at_line", "_loose", "_shape", "_stream", "answered")

    def __init__(self, answered: StreamedContent) -> None:
        self.answered = answered
        self._content = _Gathered(answered)
        self._stream = EventStream(MOST_EVENT_BYTES)
        self._is_at_line = True
        self._loose: bytearray | None = None
        self._shape = b""  # of the rest of a piece of text that was read, without its digits

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        text = _TEXT(data) if self._loose is None and self._stream.is_between else None
        if text is None:
            self._read(data)
            return
        begin, end = text.span(1)
        rest = data[text.end() :]
        shape = rest.translate(None, _DIGITS)
        if shape == self._shape:
            self.answered.events += 1
            self.answered.content_bytes += end - begin
            self.answered.counted = rest
            return
        events = self.answered.events
        self._read(data)
        is_one = self.answered.events == events + 1 and self._stream.is_between
        self._shape = shape if is_one and not self.answered.is_unreadable else b""

    def _read(self, data: bytes) -> None:
        if self._loose is None and data:
            if (self._is_at_line and data[:1] == b"{") or b"\n{" in data:
                data = self._let_loose(data)
            self._is_at_line = data[-1:] == b"\n"
            for _, event in self._stream.feed(data):
                self.answered.events += 1
                try:
                    self._content.take(event)
                except Unreadable:
                    self.answered.is_unreadable = True
            self.answered.is_between = self._stream.is_between and self._loose is None
            if self._stream.skipped:
                self.answered.is_unreadable = True
        elif self._loose is not None and len(self._loose) < _MOST_LOOSE_BYTES:
            self._loose += data

    def end(self) -> None:
        """The content is whole; the answer is, where a finish reason has come."""
        if self._loose:
            try:
                self._content.take(bytes(self._loose))
            except Unreadable:
                self.answered.is_unreadable = True
        self._content.end()

    def _let_loose(self, data: bytes) -> bytes:
        at = 0 if self._is_at_line and data[:1] == b"{" else data.index(b"\n{") + 1
        self._loose = bytearray(data[at:])
        return data[:at]


class Array:
    """Reads a JSON array that comes in pieces; it has ended well where its bracket is closed after a finish reason."""

    __slots__ = ("_content", "_elements", "answered")

    def __init__(self, answered: StreamedContent) -> None:
        self.answered = answered
        self._content = _Gathered(answered)
        self._elements = Elements(MOST_EVENT_BYTES)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the array."""
        for element in self._elements.feed(data):
            self.answered.events += 1
            try:
                self._content.take(element)
            except Unreadable:
                self.answered.is_unreadable = True
        if self._elements.skipped:
            self.answered.is_unreadable = True
        self.answered.is_between = self._elements.is_between
        self.answered.is_open = self._elements.is_open
        self.answered.is_closed = self._elements.is_closed

    def end(self) -> None:
        """The content is whole; the answer is, where a finish reason has come."""
        self._content.end()


def _read_counts(rest: bytes) -> Usage | None:
    """The usage that stands in what comes after the comma behind the candidates; None where it tells none."""
    try:
        told = _COUNTED.decode(b"{" + rest[1:]).usage_metadata
    except Unreadable:
        return None
    return usage(told) if told is not None else None


class _Gathered:
    """Fills an answer in from the responses that it consists of: one, or one a piece of a stream."""

    __slots__ = ("_answered", "_left", "_queries", "_reasons", "has_any")

    def __init__(self, answered: ModelAnswered) -> None:
        self._answered = answered
        self._reasons: dict[int, str] = {}
        self._queries: set[str] = set()
        self._left = MOST_ARGUMENT_BYTES
        self.has_any = False

    def take(self, data: bytes) -> None:
        """Take one response; raises `Unreadable`."""
        told = (_RESPONSE if len(data) <= LONG_BYTES else _LONG_RESPONSE).decode(data)
        self.has_any = True
        answered = self._answered
        if told.candidates:
            for candidate in told.candidates[:_MOST_CANDIDATES]:
                self._take_candidate(candidate)
        if told.usage_metadata is not None:
            self._count(told.usage_metadata)
        if told.model_version and not answered.model:
            answered.model = told.model_version[:_MOST_TEXT]
        if told.response_id and not answered.id:
            answered.id = told.response_id[:_MOST_TEXT]
        if told.prompt_feedback is not None and told.prompt_feedback.block_reason:
            answered.finish_reasons = [told.prompt_feedback.block_reason[:_MOST_TEXT]]
        if told.error is not None:
            self._fail(told.error)
        if told.embedding is not None or told.embeddings is not None:
            self._count_embeddings(told)
        if self._queries and answered.usage is not None:
            answered.usage.web_searches = searches(answered.model, len(self._queries))

    def end(self) -> None:
        """The connection has ended; the answer has, where a reason for it was told."""
        if self._answered.finish_reasons:
            self._answered.is_ended = True

    def _take_candidate(self, told: _Candidate) -> None:
        if told.content is not None and told.content.parts:
            for part in told.content.parts:
                self._take_part(part)
        if told.finish_reason:
            index = told.index if told.index is not None and 0 <= told.index < _MOST_CANDIDATES else 0
            self._reasons[index] = told.finish_reason[:_MOST_TEXT]
            self._answered.finish_reasons = [reason for _, reason in sorted(self._reasons.items())]
        grounding = told.grounding_metadata
        if grounding is not None:
            for query in (grounding.web_search_queries or []) + (grounding.image_search_queries or []):
                if query and len(self._queries) < _MOST_QUERIES:  # an empty one is not billed, and equal ones are billed once
                    self._queries.add(query[:_MOST_MESSAGE])

    def _take_part(self, part: _Part) -> None:
        answered = self._answered
        if length := size(part.text):
            answered.content_bytes += length
        elif part.function_call is not None:
            self._call(part.function_call)
        elif part.executable_code is not None and part.executable_code.code:
            answered.content_bytes += size(part.executable_code.code)
        elif memoryview(part.inline_data).nbytes:
            answered.content_bytes += 1  # something came, but its bytes are no measure of its tokens

    def _call(self, told: _Call) -> None:
        arguments = bytes(told.args)
        self._answered.content_bytes += len(arguments) + len((told.name or "").encode("utf-8", "replace"))
        if told.name and len(self._answered.tool_calls) < MOST_CALLS:
            kept = arguments[: self._left]
            self._left -= len(kept)
            self._answered.tool_calls.append(ToolCall((told.id or "")[:_MOST_TEXT], told.name[:_MOST_TEXT], kept))

    def _count(self, told: Metadata) -> None:
        counted = usage(told)
        if counted is not None:
            self._answered.usage = counted
        if told.traffic_type or told.service_tier:
            self._answered.service_tier = tier(told)

    def _count_embeddings(self, told: _Response) -> None:
        """Vertex counts each text of its own, and characters; both only where the usage is not told as elsewhere."""
        if self._answered.usage is not None:
            return
        each = (told.embeddings or []) + ([told.embedding] if told.embedding is not None else [])
        tokens = sum(found.statistics.token_count or 0 for found in each if found.statistics is not None)
        characters = told.metadata.billable_character_count if told.metadata is not None else None
        if tokens > 0 or (characters or 0) > 0:
            self._answered.usage = Usage(input_tokens=int(min(max(tokens, 0), 1e12)), input_characters=max(characters or 0, 0))

    def _fail(self, told: _Error | str) -> None:
        if isinstance(told, str):
            told = _Error(message=told)
        self._answered.error_type = (told.status or str(told.code or "error"))[:_MOST_TEXT]
        self._answered.error_message = (told.message or "")[:_MOST_MESSAGE]
        self._answered.is_ended = True
