"""
What `invoke` and `invoke-with-response-stream` answer: JSON of the model's vendor, in chunks where it streams.

Tokens stand in the head of a whole answer and in the last chunk of a stream, the same for all vendors. Anthropic's messages are
read by their own dialect; the others' text, its end and their tokens are read here.
"""

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from sidecar.dialects import anthropic
from sidecar.dialects.bedrock.answers import Conversation, TokenUsage, finish, last_events, read_answer, usage_of
from sidecar.dialects.bedrock.asked import BedrockAsked
from sidecar.dialects.bedrock.families import FAMILIES
from sidecar.dialects.bedrock.streams import BedrockAnswered, event
from sidecar.dialects.dialect import Reader
from sidecar.dialects.doubt import nonsense
from sidecar.dialects.lenient import Lenient, count, raw_size, size
from sidecar.dialects.long_text import LONG_BYTES, Text, left_raw
from sidecar.dialects.sse import EventStream
from sidecar.dialects.sse import event as sse_event
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.usage import Usage

_METRICS = b'"amazon-bedrock-invocationMetrics"'
_DELTA = b'{"type":"content_block_delta","index":'
_TEXT = b',"delta":{"type":"text_delta","text":"'
_TEXT_END = b'"}}'
_COUNT = "x-amzn-bedrock-%s-token-count"
_COUNTED = ("input", "output", "cache-read-input", "cache-write-input")
_MOST_NAME = 256
_MOST_DIGITS = 12


class _Chunk(msgspec.Struct, gc=False):
    data: bytes = msgspec.field(name="bytes", default=b"")  # msgspec takes the base64 off


class _Metrics(msgspec.Struct, gc=False, rename="camel"):
    input_token_count: int | float | None = None
    output_token_count: int | float | None = None
    cache_read_input_token_count: int | float | None = None
    cache_write_input_token_count: int | float | None = None


class _Measured(msgspec.Struct, gc=False):
    metrics: _Metrics | None = msgspec.field(name="amazon-bedrock-invocationMetrics", default=None)


class _Result(msgspec.Struct, gc=False, rename="camel"):
    output_text: Text = None
    token_count: int | float | None = None
    completion_reason: str | None = None


class _Spoken(msgspec.Struct, gc=False):
    content: Text = None
    reasoning_content: Text = None


class _Choice(msgspec.Struct, gc=False):
    text: Text = None
    message: _Spoken | None = None
    delta: _Spoken | None = None
    stop_reason: str | None = None
    finish_reason: str | None = None


class _Counted(msgspec.Struct, gc=False):
    IS_OF_COUNTS: ClassVar[bool] = True

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None


class _Piece(msgspec.Struct, gc=False):
    """All members that any vendor's whole answer or chunk has and that mean something here."""

    id: str | None = None
    model: str | None = None
    text: Text = None  # Cohere
    finish_reason: str | None = None
    generation: Text = None  # Meta
    stop_reason: str | None = None
    prompt_token_count: int | float | None = None
    generation_token_count: int | float | None = None
    output_text: Text = msgspec.field(name="outputText", default=None)  # Titan, streaming
    completion_reason: str | None = msgspec.field(name="completionReason", default=None)
    results: list[_Result] | None = None  # Titan
    input_text_token_count: int | float | None = msgspec.field(name="inputTextTokenCount", default=None)
    total_output: int | float | None = msgspec.field(name="totalOutputTextTokenCount", default=None)  # Titan, streaming
    outputs: list[_Choice] | None = None  # Mistral
    generations: list[_Choice] | None = None  # Cohere, formerly
    choices: list[_Choice] | None = None  # those who speak as OpenAI does
    usage: _Counted | None = None


class _Nova(msgspec.Struct, gc=False, rename="camel"):
    message_start: msgspec.Raw = msgspec.Raw(b"")
    content_block_start: msgspec.Raw = msgspec.Raw(b"")
    content_block_delta: msgspec.Raw = msgspec.Raw(b"")
    content_block_stop: msgspec.Raw = msgspec.Raw(b"")
    message_stop: msgspec.Raw = msgspec.Raw(b"")
    metadata: msgspec.Raw = msgspec.Raw(b"")


_NOTHING = _Counted()
_chunk = Lenient(_Chunk).decode
_measured = Lenient(_Measured).decode
_piece = Lenient(_Piece).decode
_long_piece = Lenient(left_raw(_Piece)).decode
_nova = Lenient(_Nova).decode
_NOVA = [(field.name, field.encode_name) for field in msgspec.structs.fields(_Nova)]


def head_usage(fields: Mapping[str, str]) -> Usage | None:
    """Return the tokens that the head of an answer tells; None where it tells none. Cached ones are not among the input."""
    read, written, cached, stored = (_digits(fields.get(_COUNT % kind)) for kind in _COUNTED)
    if read is None and written is None:
        return None
    return usage_of(TokenUsage(read, written, cached, stored))


def _digits(value: str | None) -> int | None:
    return int(value) if value and len(value) <= _MOST_DIGITS and value.isascii() and value.isdigit() else None


def read_body(asked: BedrockAsked, answered: BedrockAnswered, body: bytes) -> None:
    """Note what the body of a whole answer says, where the head has not said it; raises `Unreadable`."""
    head, answered.usage = answered.usage, None
    try:
        if asked.inner is not None:
            inner = anthropic.reader(asked.inner, 200, "application/json", {})
            inner.feed(body)
            inner.end()
            follow(answered, _model(inner))
        elif asked.family == "nova":
            read_answer(answered, body)
        else:
            _take(answered, (_piece if len(body) <= LONG_BYTES else _long_piece)(body))
    finally:  # also where the body is no JSON: an image, for instance
        if asked.inner is None or answered.usage is None:
            answered.usage = head or answered.usage


def follow(answered: BedrockAnswered, inner: ModelAnswered) -> None:
    """Note what the vendor's own dialect has read."""
    answered.inner = inner
    answered.id, answered.model = inner.id, inner.model
    answered.content_bytes = inner.content_bytes
    answered.finish_reasons, answered.tool_calls = inner.finish_reasons, inner.tool_calls
    answered.usage = inner.usage or answered.usage
    answered.service_tier = inner.service_tier or answered.service_tier
    answered.is_ended = inner.is_ended or answered.is_ended
    answered.is_unreadable = inner.is_unreadable or answered.is_unreadable
    if inner.error_type:
        answered.error_type, answered.error_message = inner.error_type, inner.error_message


class Chunks:
    """The chunks of one streamed `invoke` of a model that is read here."""

    __slots__ = ("_answered", "_conversation")

    def __init__(self, asked: BedrockAsked, answered: BedrockAnswered) -> None:
        self._answered = answered
        self._conversation = Conversation(answered) if asked.family == "nova" else None

    def event(self, kind: str, payload: bytes) -> None:
        """Take the frame of a chunk; raises `Unreadable`."""
        if kind != "chunk":
            return
        data = _chunk(payload).data
        if self._conversation is None:
            _take(self._answered, _piece(data))
        else:
            events = _nova(data)
            for member, name in _NOVA:
                raw = getattr(events, member)
                if raw_size(raw):
                    self._conversation.event(name, bytes(raw))
        if _METRICS in data:
            _measure(self._answered, data)


class Messages:
    """
    The chunks of one streamed `invoke` of Anthropic's, whose own dialect reads them.

    A piece of text in a chunk that differs from an earlier one in nothing but that text is known by its beginning and counted
    here: nine of ten chunks are such.
    """

    __slots__ = ("_answered", "_begins", "_quotes", "_reader")

    def __init__(self, inner: ModelAsked, answered: BedrockAnswered) -> None:
        self._answered = answered
        self._reader = anthropic.reader(inner, 200, "text/event-stream", {})
        self._begins = b""  # of such a chunk, up to its text
        self._quotes = 0  # in such a chunk; no text holds a bare one

    def event(self, kind: str, payload: bytes) -> None:
        """Take the frame of a chunk; raises `Unreadable`."""
        if kind != "chunk":
            return
        data = _chunk(payload).data
        if self._begins and data.startswith(self._begins) and self._is_text(data):
            told = _model(self._reader)
            more = len(data) - len(self._begins) - len(_TEXT_END)
            told.content_bytes += more
            self._answered.content_bytes += more
            return
        self._reader.feed(sse_event(data))
        follow(self._answered, _model(self._reader))
        if _METRICS in data:
            _measure(self._answered, data)
        elif data.startswith(_DELTA) and _TEXT in data:
            self._begins = data[: data.index(_TEXT) + len(_TEXT)]
            self._quotes = self._begins.count(b'"') + 1

    def _is_text(self, data: bytes) -> bool:
        return data.endswith(_TEXT_END) and data.count(b'"') == self._quotes and b"\\" not in data


def _model(reader: Reader) -> ModelAnswered:
    answered = reader.answered
    assert isinstance(answered, ModelAnswered), "what the Messages API answers is a model's"
    return answered


def _measure(answered: BedrockAnswered, data: bytes) -> None:
    """The last chunk: what Bedrock itself counted, which serves where the vendor has not said more."""
    told = _measured(data).metrics
    if told is None:
        return
    answered.is_ended = answered.is_stopped = True
    if answered.usage is None or answered.usage.input_total == 0 or answered.inner is None:
        usage = TokenUsage(
            told.input_token_count,
            told.output_token_count,
            told.cache_read_input_token_count,
            told.cache_write_input_token_count,
        )
        answered.usage = usage_of(usage)


def _take(answered: BedrockAnswered, told: _Piece) -> None:
    """Note what a whole answer or a chunk of it says, whoever's it is."""
    answered.content_bytes += size(told.generation) or size(told.output_text) or size(told.text)
    reason = told.stop_reason or told.finish_reason or told.completion_reason
    if reason:
        finish(answered, reason)
    if told.id or told.model:
        answered.id = (told.id or answered.id)[:_MOST_NAME]
        answered.model = (told.model or answered.model)[:_MOST_NAME]
    for result in told.results or ():
        answered.content_bytes += size(result.output_text)
        finish(answered, result.completion_reason or "")
    for choice in told.outputs or told.generations or told.choices or ():
        spoken = choice.message or choice.delta or _Spoken()
        answered.content_bytes += size(choice.text) + size(spoken.content) + size(spoken.reasoning_content)
        finish(answered, choice.stop_reason or choice.finish_reason or "")
    _take_counts(answered, told)
    answered.is_stopped = bool(answered.finish_reasons)


def _take_counts(answered: BedrockAnswered, told: _Piece) -> None:
    """Note the tokens that a vendor's own JSON counts; a stream tells running totals, and those of the input once."""
    used = told.usage or _NOTHING
    told_read = told.prompt_token_count or told.input_text_token_count or used.prompt_tokens
    told_written = told.generation_token_count or told.total_output or used.completion_tokens
    read, written, doubt = count(told_read), count(told_written), nonsense(told_read, told_written)
    if told.results:
        written = sum(count(result.token_count) for result in told.results)
        doubt = doubt or nonsense(*(result.token_count for result in told.results))
    if read or written:
        usage = answered.usage = answered.usage or Usage()
        usage.doubt = usage.doubt or doubt
        usage.input_tokens = read or usage.input_tokens
        usage.output_tokens = written or usage.output_tokens


def ending(asked: BedrockAsked, answered: BedrockAnswered, reason: str) -> bytes:
    """Return the chunks that end a cut stream as the vendor's models do at their length limit; b"" where nobody knows how."""
    if answered.is_ended or answered.is_unreadable or not answered.is_between:
        return b""
    if asked.inner is not None:
        last = anthropic.ending(asked.inner, answered.inner or ModelAnswered(), reason)
        return b"".join(_write(data) for _, data in EventStream().feed(last))
    if asked.family == "nova":
        return b"".join(_write(b'{"%b":%b}' % (kind.encode(), payload)) for kind, payload in last_events(answered))
    family = FAMILIES.get(asked.family)
    return b"".join(map(_write, family.last)) if family and not answered.is_stopped else b""


def _write(data: bytes) -> bytes:
    return event("chunk", msgspec.json.encode({"bytes": data}))
