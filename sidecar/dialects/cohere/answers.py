"""
What Cohere answers: events of v2, lines of v1, whole bodies, errors, and how a cut stream comes to its end.

Billed units are what counts; `tokens`, which also holds what Cohere itself puts into a prompt, serves only where they are absent.
"""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.doubt import nonsense
from sidecar.dialects.lenient import Lenient, count, size
from sidecar.dialects.long_text import LONG_BYTES, Text, left_raw, words
from sidecar.dialects.ndjson import Lines
from sidecar.dialects.sse import EventStream, event
from sidecar.model.answered import ModelAnswered, ToolCall
from sidecar.model.usage import CONTRADICTION, Usage

MOST_ARGUMENTS = 1 << 16
"""Bytes of one tool call's arguments that are kept."""

_MOST_TEXT = 256
_MOST_MESSAGE = 512
_MOST_CALLS = 128
_DONE = b"[DONE]"


@dataclass(slots=True)
class CohereAnswered(ModelAnswered):
    """
    What Cohere answered, and where its stream stands.

    `is_between`: the last byte seen ended an event. `has_begun` after the first; `open_kind` (`content`, `tool-call`, "" for
    none) and `open_index` say what is being written. `is_lines`: the stream is one of v1, by the line.
    """

    is_between: bool = True
    has_begun: bool = False
    open_kind: str = ""
    open_index: int = 0
    is_lines: bool = False


class _Units(msgspec.Struct, gc=False):
    IS_OF_COUNTS: ClassVar[bool] = True

    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    image_tokens: int | float | None = None
    search_units: int | float | None = None


class _Counts(msgspec.Struct, gc=False):
    IS_OF_COUNTS: ClassVar[bool] = True

    billed_units: _Units | None = None
    tokens: _Units | None = None
    cached_tokens: int | float | None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Text = None


class _Call(msgspec.Struct, gc=False):
    id: str | None = None
    function: _Function | None = None
    name: str | None = None  # v1
    parameters: msgspec.Raw = msgspec.Raw(b"")  # v1


class _Part(msgspec.Struct, gc=False):
    text: Text = None
    thinking: Text = None


class _Said(msgspec.Struct, gc=False):
    """The message inside an event."""

    content: _Part | list[msgspec.Raw] | None = None  # a list only in `message-start`, and empty there
    tool_plan: str | None = None
    tool_calls: _Call | list[msgspec.Raw] | None = None


class _Delta(msgspec.Struct, gc=False):
    message: _Said | None = None
    finish_reason: str | None = None
    usage: _Counts | None = None
    error: str | None = None


class _Message(msgspec.Struct, gc=False):
    """The message of a whole answer."""

    content: list[_Part] | None = None
    tool_plan: Text = None
    tool_calls: list[_Call] | None = None


class _Whole(msgspec.Struct, gc=False):
    """A whole answer: of v2's chat, of v1's (also inside its last line), or of an embedding."""

    id: str | None = None
    message: _Message | str | None = None
    finish_reason: str | None = None
    usage: _Counts | None = None
    meta: _Counts | None = None
    text: Text = None
    generation_id: str | None = None
    response_id: str | None = None
    tool_calls: list[_Call] | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    event_type: str | None = None  # from here on v1
    text: str | None = None
    generation_id: str | None = None
    finish_reason: str | None = None
    response: _Whole | None = None
    message: str | None = None  # of an error in the middle


_whole = Lenient(_Whole).decode
_long = Lenient(left_raw(_Whole)).decode
_event = Lenient(_Event).decode


def read_error(answered: CohereAnswered, body: bytes) -> None:
    """Note the message of an error, which has no name but its status; raises `Unreadable`."""
    message = _whole(body).message
    if isinstance(message, str):
        answered.error_message = message[:_MOST_MESSAGE]


def read_whole(answered: CohereAnswered, body: bytes) -> None:
    """Note what a whole answer says; raises `Unreadable`."""
    _take_whole(answered, (_whole if len(body) <= LONG_BYTES else _long)(body))


def _take_whole(answered: CohereAnswered, told: _Whole) -> None:
    _identify(answered, told.id or told.response_id or told.generation_id)
    _finish(answered, told.finish_reason, None)
    _count(answered, told.usage or told.meta)
    answered.content_bytes += size(told.text)
    message = told.message if isinstance(told.message, _Message) else _Message()
    answered.content_bytes += size(message.tool_plan)
    for part in message.content or ():
        answered.content_bytes += size(part.text) + size(part.thinking)
    for call in message.tool_calls or told.tool_calls or ():
        _call(answered, call)


class Stream:
    """Reads an answer by the event (v2) or by the line (v1); one that is no JSON, or too long, makes it unreadable."""

    __slots__ = ("_call", "_events", "_is_lines", "answered")

    def __init__(self, answered: CohereAnswered, events: EventStream | Lines) -> None:
        self.answered = answered
        self.answered.is_lines = isinstance(events, Lines)
        self._events = events
        self._call: ToolCall | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        answered, events = self.answered, self._events
        for item in events.feed(data):
            self._read(item if isinstance(item, bytes) else item[1])
        answered.is_between = events.is_between
        if events.skipped:
            answered.is_unreadable = True

    def end(self) -> None:
        """The stream is over; a last line may have no end."""
        if isinstance(self._events, Lines):
            rest = self._events.rest()
            if rest and not rest.isspace():
                self._read(rest)

    def _read(self, data: bytes) -> None:
        if data == _DONE:
            return
        answered = self.answered
        answered.events += 1
        answered.has_begun = True
        try:
            told = _event(data)
        except Unreadable:
            answered.is_unreadable = True
            return
        kind = told.type
        if kind == "content-delta":
            self._say(told)
        elif kind is not None:
            self._take(kind, told)
        else:
            _take_line(answered, told)

    def _say(self, told: _Event) -> None:
        said = told.delta.message if told.delta else None
        if said is not None and isinstance(said.content, _Part):
            self.answered.content_bytes += size(said.content.text) + size(said.content.thinking)

    def _take(self, kind: str, told: _Event) -> None:
        answered = self.answered
        delta = told.delta or _Delta()
        if kind == "message-start":
            _identify(answered, told.id)
        elif kind == "content-start":
            answered.open_kind, answered.open_index = "content", told.index or 0
            self._say(told)
        elif kind in ("content-end", "tool-call-end"):
            answered.open_kind = ""
            self._call = None
        elif kind == "tool-call-start":
            answered.open_kind, answered.open_index = "tool-call", told.index or 0
            if delta.message and isinstance(delta.message.tool_calls, _Call):
                self._call = _call(answered, delta.message.tool_calls)
        elif kind == "tool-call-delta":
            if delta.message and isinstance(delta.message.tool_calls, _Call) and delta.message.tool_calls.function:
                self._grow(words(delta.message.tool_calls.function.arguments) or "")
        elif kind == "tool-plan-delta":
            answered.content_bytes += size(delta.message.tool_plan) if delta.message else 0
        elif kind == "message-end":
            _identify(answered, told.id)
            _finish(answered, delta.finish_reason, delta.error)
            _count(answered, delta.usage)
            answered.is_ended = True
        elif kind == "error":
            answered.error_type = "error"
            answered.error_message = (told.message or delta.error or "")[:_MOST_MESSAGE]
            answered.is_ended = True

    def _grow(self, text: str) -> None:
        piece = text.encode("utf-8", "replace")
        self.answered.content_bytes += len(piece)
        call = self._call
        if call is not None and len(call.arguments) < MOST_ARGUMENTS:
            call.arguments += piece[: MOST_ARGUMENTS - len(call.arguments)]


def _take_line(answered: CohereAnswered, told: _Event) -> None:
    """Note what a line of v1 says; the last repeats the whole answer."""
    _identify(answered, told.generation_id)
    if told.event_type == "text-generation":
        answered.content_bytes += size(told.text)
    elif told.event_type == "stream-end":
        _finish(answered, told.finish_reason, None)
        if told.response is not None:
            _count(answered, told.response.meta)
            for call in told.response.tool_calls or ():
                _call(answered, call)
        answered.is_ended = True


def _identify(answered: CohereAnswered, told: str | None) -> None:
    if told and not answered.id:
        answered.id = told[:_MOST_TEXT]


def _finish(answered: CohereAnswered, reason: str | None, error: str | None) -> None:
    """Note why it stopped: `ERROR`, `ERROR_TOXIC` and the like, and `TIMEOUT`, are errors though the status was 200."""
    if reason:
        answered.finish_reasons = [reason[:_MOST_TEXT]]
    if error or (reason and ((reason.startswith("ERROR") and reason != "ERROR_LIMIT") or reason == "TIMEOUT")):
        answered.error_type = (reason or "ERROR")[:_MOST_TEXT]
        answered.error_message = (error or "")[:_MOST_MESSAGE]


def _count(answered: CohereAnswered, told: _Counts | None) -> None:
    if told is None:
        return
    billed = told.billed_units
    if billed is not None and (
        billed.input_tokens is not None or billed.output_tokens is not None or billed.image_tokens is not None
    ):
        answered.usage = Usage(
            input_tokens=count(billed.input_tokens),
            input_image_tokens=count(billed.image_tokens),
            output_tokens=count(billed.output_tokens),
            web_searches=count(billed.search_units),
            doubt=nonsense(billed.input_tokens, billed.image_tokens, billed.output_tokens, billed.search_units),
        )
    elif told.tokens is not None:
        cached = min(count(told.cached_tokens), count(told.tokens.input_tokens))
        doubt = nonsense(told.cached_tokens, told.tokens.input_tokens, told.tokens.output_tokens)
        answered.usage = Usage(
            input_tokens=count(told.tokens.input_tokens) - cached,
            cache_read_tokens=cached,
            output_tokens=count(told.tokens.output_tokens),
            doubt=doubt or (CONTRADICTION if cached < count(told.cached_tokens) else ""),
        )


def _call(answered: CohereAnswered, told: _Call) -> ToolCall | None:
    """Note a call, as far as it is told at once."""
    function = told.function or _Function(told.name)
    arguments = (words(function.arguments) or "").encode("utf-8", "replace") or bytes(told.parameters)
    answered.content_bytes += len(arguments) or size(function.arguments)  # what is too long to be kept counts all the same
    if len(answered.tool_calls) >= _MOST_CALLS:
        return None
    call = ToolCall((told.id or "")[:_MOST_TEXT], (function.name or "")[:_MOST_TEXT], arguments[:MOST_ARGUMENTS])
    answered.tool_calls.append(call)
    return call


def ending(answered: CohereAnswered) -> bytes:
    """Return the events, or the line, that end a cut stream; b"" where nothing can be said any more."""
    if answered.is_ended or answered.is_unreadable or not answered.is_between:
        return b""
    if answered.is_lines:
        said = {"text": "", "generation_id": answered.id, "finish_reason": "MAX_TOKENS"}
        return _json(is_finished=True, event_type="stream-end", finish_reason="MAX_TOKENS", response=said) + b"\n"
    events = b""
    if not answered.has_begun:
        message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        events += _say("message-start", id=answered.id, delta={"message": message})
    if answered.open_kind:
        events += _say(f"{answered.open_kind}-end", index=answered.open_index)
    usage = answered.usage or Usage()
    units = {"input_tokens": usage.input_total, "output_tokens": usage.output_total}
    delta = {"finish_reason": "MAX_TOKENS", "usage": {"billed_units": units, "tokens": units}}
    return events + _say("message-end", delta=delta) + event(_DONE)


def _say(kind: str, **members: Any) -> bytes:
    return event(_json(type=kind, **members), kind.encode())


def _json(**members: Any) -> bytes:
    return json.dumps(members, ensure_ascii=False).encode("utf-8", "replace")
