"""What the Messages API answers: a whole message, the events of a stream, or an error."""

import re
from collections.abc import Mapping
from functools import partial

import msgspec

from sidecar.dialects.anthropic.usage import Counts, Tally, tier
from sidecar.dialects.bodies import WholeBody
from sidecar.dialects.dialect import Reader, Unreadable
from sidecar.dialects.lenient import Lenient
from sidecar.dialects.lenient import size as _size
from sidecar.dialects.long_text import LONG_BYTES, Text, left_raw
from sidecar.dialects.sse import EventStream
from sidecar.model.answered import ModelAnswered, ToolCall
from sidecar.model.asked import Asked

MOST_CALLS = 128
MOST_ARGUMENT_BYTES = 1 << 20
"""Bytes of arguments that are kept, of all calls of one answer together."""

_MOST_TEXT = 256
_MOST_MESSAGE = 512
_MOST_HELD_BYTES = 2048
_PLAIN = re.compile(
    rb'event: content_block_delta\ndata: \{"type": ?"content_block_delta", ?"index": ?\d{1,9}, ?"delta": ?'
    rb'\{"type": ?"(?:text_delta", ?"text|thinking_delta", ?"thinking)": ?"([^"\\\x00-\x1f]{0,65536})"\} *\}\n\n'
).match  # the blanks are padding against eavesdroppers who measure


class StreamedMessage(ModelAnswered):
    """
    A message that comes in events; `has_begun` after `message_start`, `open_block` the index of the open block (-1: none).

    `is_between`: the last byte seen ended an event, so that another may follow.
    The last pieces of long arguments wait until there are enough of them, or somebody asks for the calls.
    """

    __slots__ = ("_calls", "_growing", "_pending", "has_begun", "is_between", "open_block")

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []
        self._growing: ToolCall | None = None  # the call whose arguments wait in `_pending`
        self._pending = bytearray()
        self.has_begun = False
        self.is_between = True
        self.open_block = -1
        super().__init__()

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls, with their arguments as far as they have come."""
        self.flush()
        return self._calls

    @tool_calls.setter
    def tool_calls(self, calls: list[ToolCall]) -> None:
        self._calls = calls

    def grow(self, call: ToolCall, piece: bytes) -> None:
        """Add to a call's arguments; a sixteenth of them may wait, so that many small pieces cost no more than few large ones."""
        if call is not self._growing:
            self.flush()
            self._growing = call
        self._pending += piece
        if len(self._pending) > len(call.arguments) >> 4:
            self.flush()

    def flush(self) -> None:
        """Add what waits."""
        if self._pending and self._growing is not None:
            self._growing.arguments += self._pending
            self._pending.clear()


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    name: str | None = None
    text: Text = None
    thinking: Text = None
    input: msgspec.Raw = msgspec.Raw(b"")


class _Error(msgspec.Struct, gc=False):
    type: str | None = None
    message: str | None = None
    status: str | None = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: Counts | None = None
    error: _Error | str | None = None


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: Counts | None = None
    error: _Error | None = None


_MESSAGE = Lenient(_Message)
_LONG_MESSAGE = Lenient(left_raw(_Message))
_EVENT = Lenient(_Event)


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return a reader of events or of a whole body, as the media type says; a stream without one is taken for events."""
    kind = content_type.lower()
    if kind.startswith("text/event-stream") or (not kind and asked.streams and status < 400):
        return Events()
    answered = ModelAnswered()
    return WholeBody(answered, partial(read, answered))


def read(answered: ModelAnswered, body: bytes) -> None:
    """Read a whole message, or an error in its place; raises `Unreadable`."""
    told = (_MESSAGE if len(body) <= LONG_BYTES else _LONG_MESSAGE).decode(body)
    _begin(answered, told)
    if told.error is not None:
        _fail(answered, told.error)
    if told.stop_reason:
        answered.finish_reasons = [told.stop_reason[:_MOST_TEXT]]
    if told.usage is not None:
        tally = Tally()
        tally.hear(told.usage)
        answered.usage = tally.usage()
    left = MOST_ARGUMENT_BYTES
    for block in told.content or ():
        answered.content_bytes += _size(block.text) + _size(block.thinking)
        if block.name:
            arguments = bytes(block.input)
            answered.content_bytes += _size(block.name) + len(arguments)
            if block.type == "tool_use" and len(answered.tool_calls) < MOST_CALLS:
                answered.tool_calls.append(ToolCall(_short(block.id), _short(block.name), arguments[:left]))
                left -= min(len(arguments), left)


class Events:
    """
    Reads the events of a streamed message.

    An event that is nothing but a piece of text, written as the provider writes it, is known by one expression and counted
    without being decoded: nine of ten are such.
    """

    __slots__ = ("_calls", "_held", "_left", "_stream", "_tally", "answered")

    def __init__(self) -> None:
        self.answered = StreamedMessage()
        self._stream = EventStream()
        self._tally = Tally()
        self._calls: dict[int, ToolCall] = {}
        self._left = MOST_ARGUMENT_BYTES
        self._held = b""  # the short beginning of an event, which may be a plain one

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if not data:
            return
        if self._stream.is_between:
            if self._held:
                data = self._held + data
                self._held = b""
                self.answered.is_between = True
            data = self._pass_plain(data)
            if not data:
                return
            if len(data) <= _MOST_HELD_BYTES and b"\n\n" not in data and b"\r" not in data:
                self._held = data
                self.answered.is_between = False
                return
        for name, event in self._stream.feed(data):
            self._take(name, event)
        self.answered.is_between = self._stream.is_between
        if self._stream.skipped:
            self.answered.is_unreadable = True

    def end(self) -> None:
        """The content is whole; the message is, where `message_stop` has come."""

    def _pass_plain(self, data: bytes) -> bytes:
        """Count the events that need no more than that, and return what comes after them."""
        at = 0
        plain = _PLAIN(data)
        while plain is not None:
            begin, end = plain.span(1)
            self.answered.events += 1
            self.answered.content_bytes += end - begin
            at = plain.end()
            if at == len(data):
                return b""
            plain = _PLAIN(data, at)
        return data[at:] if at else data

    def _take(self, name: bytes, data: bytes) -> None:
        self.answered.events += 1
        try:
            told = _EVENT.decode(data)
        except Unreadable:
            self.answered.is_unreadable = True
            return
        kind = told.type or name.decode("ascii", "replace")
        if kind == "content_block_delta":
            if told.delta is not None:
                self._grow(_index(told), told.delta)
        elif kind == "content_block_start":
            if told.content_block is not None:
                self._open(_index(told), told.content_block)
        elif kind == "content_block_stop":
            self.answered.flush()
            self.answered.open_block = -1
            self._calls.pop(_index(told), None)
        else:
            self._take_frame(kind, told)

    def _take_frame(self, kind: str, told: _Event) -> None:
        """What stands before, after and instead of the blocks."""
        answered = self.answered
        if kind == "message_start" and told.message is not None:
            answered.has_begun = True
            _begin(answered, told.message)
            self._count(told.message.usage)
        elif kind == "message_delta":
            if told.delta is not None and told.delta.stop_reason:
                answered.finish_reasons = [told.delta.stop_reason[:_MOST_TEXT]]
            self._count(told.usage)
        elif kind == "message_stop":
            self.answered.flush()
            answered.is_ended = True
        elif kind == "error":
            _fail(answered, told.error or _Error(type="error"))
            answered.is_ended = True

    def _count(self, told: Counts | None) -> None:
        if told is not None:
            self._tally.hear(told)
            self.answered.usage = self._tally.usage()
            self.answered.service_tier = tier(told) or self.answered.service_tier

    def _open(self, index: int, block: _Block) -> None:
        self.answered.flush()
        answered = self.answered
        answered.open_block = index
        answered.content_bytes += _size(block.text) + _size(block.thinking) + _size(block.name)
        if block.type == "tool_use" and len(answered.tool_calls) < MOST_CALLS:
            call = ToolCall(_short(block.id), _short(block.name))
            self._calls[index] = call
            answered.tool_calls.append(call)
            whole = bytes(block.input)
            if whole.strip(b" {}"):  # not streamed: some servers say all at once
                answered.content_bytes += len(whole)
                self._keep(call, whole)

    def _grow(self, index: int, delta: _Delta) -> None:
        answered = self.answered
        answered.content_bytes += _size(delta.text) + _size(delta.thinking)
        if delta.partial_json is not None:
            piece = delta.partial_json.encode("utf-8", "replace")
            answered.content_bytes += len(piece)
            call = self._calls.get(index)
            if call is not None:
                self._keep(call, piece)

    def _keep(self, call: ToolCall, piece: bytes) -> None:
        kept = piece[: self._left]
        self._left -= len(kept)
        self.answered.grow(call, kept)


def _begin(answered: ModelAnswered, told: _Message) -> None:
    answered.id = _short(told.id)
    answered.model = _short(told.model)
    if told.usage is not None:
        answered.service_tier = tier(told.usage)


def _fail(answered: ModelAnswered, told: _Error | str) -> None:
    if isinstance(told, str):
        told = _Error("error", told)
    answered.error_type = _short(told.type or told.status)
    answered.error_message = (told.message or "")[:_MOST_MESSAGE]


def _index(told: _Event) -> int:
    return told.index if told.index is not None and 0 <= told.index < 1 << 31 else 0


def _short(text: str | None) -> str:
    return text[:_MOST_TEXT] if text else ""
