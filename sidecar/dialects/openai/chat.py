"""Answers of chat/completions and completions, which differ in one member: whole ones, and those that come in chunks."""

from typing import TYPE_CHECKING, Any

import msgspec

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.lenient import MOST_COUNT, Lenient, Lists, count, size
from sidecar.dialects.long_text import LONG_BYTES, Text, left_raw, text_or, words
from sidecar.dialects.openai import errors
from sidecar.dialects.openai.answered import LONGEST, OpenAiAnswered
from sidecar.dialects.openai.calls import ToolCalls
from sidecar.dialects.openai.stencil import Stencil
from sidecar.dialects.openai.usage import Told, usage
from sidecar.dialects.sse import EventStream

_MOST_EVENT_BYTES = 4 << 20  # a chunk holds some tokens, and what audio they are
_MOST_CHOICES = 128
_ABSENT = msgspec.Raw()

if TYPE_CHECKING:
    Content = Text | list[Any]
else:
    Content = text_or(list[Any])  # Mistral's reasoning models send parts


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Text = None
    input: Text = None  # of a custom tool


class _Call(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Function | None = None


class _Audio(msgspec.Struct, gc=False):
    data: Text = None
    transcript: Text = None


class _Said(msgspec.Struct, gc=False):
    """A message, or a delta of it."""

    content: Content = None
    reasoning_content: Text = None
    reasoning: Text = None
    refusal: Text = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    audio: _Audio | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: _Said | None = None
    message: _Said | None = None
    text: Text = None
    finish_reason: str | None = None
    usage: Told | None = None  # Moonshot


class _Groq(msgspec.Struct, gc=False):
    usage: Told | None = None
    error: msgspec.Raw = msgspec.Raw()


class _Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[_Choice] | None = None
    usage: Told | None = None
    x_groq: _Groq | None = None
    service_tier: str | None = None
    error: msgspec.Raw = _ABSENT


class _Part(msgspec.Struct, gc=False):
    """A part of a long answer's content."""

    text: msgspec.Raw = msgspec.Raw()
    thinking: msgspec.Raw = msgspec.Raw()


_CHUNK = Lenient(_Chunk)
_LONG_CHUNK = Lenient(left_raw(_Chunk))
_PARTS = msgspec.json.Decoder(list[_Part]).decode
_ODD_PARTS = Lists(_Part)


class ChatAnswer:
    """Understands chunks and whole answers alike, and notes them in `answered`."""

    __slots__ = ("_calls", "_provider", "answered")

    _is_whole = False

    def __init__(self, answered: OpenAiAnswered, provider: str) -> None:
        self.answered = answered
        self._provider = provider
        self._calls: ToolCalls | None = None  # most answers have none

    def read(self, data: bytes) -> int:
        """Read one JSON text and return how many bytes of content it had; raises `Unreadable`."""
        return self.understand(_CHUNK.decode(data))

    def understand(self, chunk: _Chunk) -> int:
        """Note what a chunk says, and return how many bytes of content it had."""
        answered = self.answered
        if not answered.id or chunk.model != answered.model or chunk.service_tier:
            answered.tell(chunk.id, chunk.model, chunk.service_tier)
            answered.created = answered.created or count(chunk.created)
        before = answered.content_bytes
        choices = chunk.choices
        if choices:
            if len(choices) == 1:
                self._choice(0, choices[0])
            else:
                for position, choice in enumerate(choices[:_MOST_CHOICES]):
                    self._choice(position, choice)
        if chunk.usage is not None:
            self._use(chunk.usage)
        if chunk.x_groq is not None:
            self._use(chunk.x_groq.usage)
            errors.tell(answered, bytes(chunk.x_groq.error))
        if chunk.error is not _ABSENT:
            errors.tell(answered, bytes(chunk.error))
        return answered.content_bytes - before

    def _use(self, told: Told | None) -> None:
        self.answered.usage = usage(told, self._provider) or self.answered.usage

    def _choice(self, position: int, choice: _Choice) -> None:
        answered = self.answered
        index = position if choice.index is None else choice.index
        if choice.finish_reason or index not in answered.finished:
            answered.finish(index, choice.finish_reason)
        # Perplexity has both in each: a whole answer with an empty delta, and chunks with the whole message so far.
        said = choice.message or choice.delta if self._is_whole else choice.delta or choice.message
        if said is not None:
            answered.content_bytes += _said_bytes(said)
            if said.tool_calls:
                for at, call in enumerate(said.tool_calls):
                    self._call(index, at if self._is_whole else None, call)
            if said.function_call is not None:
                self._piece((index, -1), None, said.function_call)
        if choice.text:
            answered.content_bytes += size(choice.text)
        if choice.usage is not None:
            self._use(choice.usage)
        if self._calls is not None and choice.finish_reason:
            self._calls.settle()

    def _call(self, choice: int, at: int | None, call: _Call) -> None:
        place = call.index if call.index is not None else at
        self._piece(None if place is None else (choice, place), call.id, call.function or call.custom)

    def _piece(self, key: tuple[int, int] | None, call_id: str | None, function: _Function | None) -> None:
        name = function.name if function is not None else None
        arguments = (words(function.arguments) or words(function.input)) if function is not None else None
        if self._calls is None:
            self._calls = ToolCalls(self.answered.tool_calls)
        self.answered.content_bytes += self._calls.piece(key, call_id, name, arguments)
        if function is not None and not arguments:  # too long to be kept
            self.answered.content_bytes += size(function.arguments) or size(function.input)

    def settle(self) -> None:
        """No more will come."""
        if self._calls is not None:
            self._calls.settle()


class ChatBody(ChatAnswer):
    """An answer that is not streamed: `WholeBody` calls `take` with all of it."""

    __slots__ = ()

    _is_whole = True

    def take(self, body: bytes) -> None:
        """Read the whole answer; raises `Unreadable`."""
        take(body, self.answered, self._provider)


def take(body: bytes, answered: OpenAiAnswered, provider: str) -> None:
    """Read an answer that is not streamed, all of it; raises `Unreadable`."""
    chunk = _CHUNK.decode(body) if len(body) <= LONG_BYTES else _LONG_CHUNK.decode(body)
    choices = chunk.choices
    if (
        not choices
        or len(choices) > 1
        or (said := choices[0].message) is None
        or said.tool_calls
        or said.function_call is not None
        or choices[0].delta is not None
        or choices[0].text
        or choices[0].usage is not None
        or chunk.x_groq is not None
        or chunk.error is not _ABSENT
    ):
        answer = ChatBody(answered, provider)
        answer.understand(chunk)
        answer.settle()
        return
    # One choice that calls nothing, as nearly always: the same without looking for all that is not there.
    choice, content = choices[0], said.content
    reason = choice.finish_reason
    answered.id, answered.model = (chunk.id or "")[:LONGEST], (chunk.model or "")[:LONGEST]
    if chunk.service_tier:
        answered.service_tier = chunk.service_tier[:LONGEST]
    created = chunk.created
    if created is not None and 0 < created <= MOST_COUNT:
        answered.created = int(created)
    if reason:
        answered.finished[choice.index or 0] = reason = reason[:LONGEST]
        answered.finish_reasons.append(reason)
    else:
        answered.finished[choice.index or 0] = ""
    thinks = said.reasoning_content or said.reasoning
    if type(content) is str and content.isascii() and not (thinks or said.refusal or said.audio):
        answered.content_bytes = len(content)
    else:
        answered.content_bytes = _said_bytes(said)
    if chunk.usage is not None:
        answered.usage = usage(chunk.usage, provider)


class ChatStream:
    """
    Reads a stream of chunks; a chunk that differs from the one before it in its text alone is counted without being decoded.

    The stream has ended with `[DONE]`; some never say it: then with the body, where a choice has finished or an error was told.
    """

    __slots__ = ("_answer", "_events", "_has_read", "_stencil", "answered")

    def __init__(self, answered: OpenAiAnswered, provider: str) -> None:
        self.answered = answered
        self._answer = ChatAnswer(answered, provider)
        self._events = EventStream(_MOST_EVENT_BYTES)
        self._stencil = Stencil()
        self._has_read = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        events = self._events
        if events.is_between:
            data = self._stencil.left(data, self.answered)
            if not data:
                return
        for name, each in events.feed(data):
            if not self._stencil.knows(name, each, self.answered):
                self._take(name, each)
        if events.skipped:
            self.answered.is_unreadable = True

    def _take(self, name: bytes, data: bytes) -> None:
        answered = self.answered
        answered.events += 1
        if answered.is_ended:
            return
        if data[:6] == b"[DONE]":
            self._answer.settle()
            self._stencil.forget()
            answered.is_ended = True
            return
        try:
            length = self._answer.read(data)
        except Unreadable:
            # Nobody's fault where it is one event of many; without any that can be read it is no stream of ours.
            answered.is_unreadable = answered.is_unreadable or not self._has_read
            return
        if not self._has_read:
            self._has_read = True
            answered.is_unreadable = False
        self._stencil.learn(name, data, length, answered.events)

    def end(self) -> None:
        """The body is whole."""
        self._answer.settle()
        answered = self.answered
        answered.is_ended = answered.is_ended or bool(answered.finish_reasons or answered.error_type)


def _said_bytes(said: _Said) -> int:
    content = said.content
    if type(content) is str:
        length = len(content) if content.isascii() else size(content)
    elif isinstance(content, msgspec.Raw):
        length = _raw_bytes(content, 4)
    else:
        length = _parts_bytes(content, 4) if content else 0
    if said.reasoning_content or said.reasoning:  # the same may stand under both names
        length += size(said.reasoning_content) or size(said.reasoning)
    if said.refusal:
        length += size(said.refusal)
    if said.audio is not None:
        length += size(said.audio.transcript) + size(said.audio.data) * 3 // 4
    return length


def _parts_bytes(parts: Any, levels: int) -> int:
    """The text in a list of parts: `{"type": "text", "text": "…"}`, `{"type": "thinking", "thinking": [part, …]}`."""
    total = 0
    for part in parts if isinstance(parts, list) and levels else ():
        if isinstance(part, dict):
            for name in ("text", "thinking"):
                value = part.get(name)
                total += size(value) if isinstance(value, str) else _parts_bytes(value, levels - 1)
    return total


def _raw_bytes(content: msgspec.Raw, levels: int) -> int:
    """The same of the content of a long answer: a text, or a list of parts."""
    if not levels or bytes(memoryview(content)[:1]) != b"[":
        return size(content)
    try:
        parts = _PARTS(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parts = _ODD_PARTS.read(bytes(content)) or []
    return sum(size(part.text) + _raw_bytes(part.thinking, levels - 1) for part in parts)
