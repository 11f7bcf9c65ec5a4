"""Answers of responses: whole ones, and streams of some sixty kinds of events of which a handful matter here."""

from collections.abc import Iterable
from typing import Any

import msgspec

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.lenient import Lenient, count, size
from sidecar.dialects.long_text import LONG_BYTES, Text, left_raw, words
from sidecar.dialects.openai import errors
from sidecar.dialects.openai.answered import OpenAiAnswered
from sidecar.dialects.openai.calls import ToolCalls
from sidecar.dialects.openai.stencil import Stencil
from sidecar.dialects.openai.usage import Told, searches, usage
from sidecar.dialects.sse import EventStream

_MOST_EVENT_BYTES = 16 << 20  # the last event holds the whole response, images in it
_MOST_BEGUN_BYTES = 1 << 16
_MOST_KINDS = 64
_CALLS = frozenset({"function_call", "custom_tool_call"})
_TEXTS = frozenset(
    {
        "response.output_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.refusal.delta",
    }
)
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class _Part(msgspec.Struct, gc=False):
    text: Text = None
    refusal: Text = None


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Text = None
    input: Text = None
    code: Text = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _WebSearch(msgspec.Struct, gc=False):
    num_requests: float | None = None


class _ToolUsage(msgspec.Struct, gc=False):
    web_search: _WebSearch | None = None


class _Response(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    error: msgspec.Raw = msgspec.Raw()
    incomplete_details: _Incomplete | None = None
    output: list[_Item] | None = None
    usage: Told | None = None
    tool_usage: _ToolUsage | None = None
    service_tier: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    sequence_number: int | None = None
    output_index: int | None = None
    delta: str | dict[str, Any] | None = None
    item: _Item | None = None
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_RESPONSE = Lenient(_Response)
_LONG_RESPONSE = Lenient(left_raw(_Response))
_EVENT = Lenient(_Event)


class ResponseAnswer:
    """Understands a response object, whole or as far as an event shows it, and notes it in `answered`."""

    __slots__ = ("_calls", "_provider", "answered")

    def __init__(self, answered: OpenAiAnswered, provider: str) -> None:
        self.answered = answered
        self._provider = provider
        self._calls = ToolCalls(answered.tool_calls)

    def read(self, body: bytes) -> None:
        """Read a response; its output is counted only where no deltas of it have been. Raises `Unreadable`."""
        answered = self.answered
        told = (_RESPONSE if len(body) <= LONG_BYTES else _LONG_RESPONSE).decode(body)
        answered.tell(told.id, told.model, told.service_tier)
        answered.created = answered.created or count(told.created_at)
        output = told.output or ()
        if not answered.content_bytes:
            for index, item in enumerate(output):
                self.item(index, item)
                answered.content_bytes += _item_bytes(item)
        found = usage(told.usage, self._provider)
        if found is not None:
            searched = told.tool_usage.web_search if told.tool_usage else None
            web, other = searches(_kinds(output), searched.num_requests if searched else None)
            if web or other:
                found.web_searches = found.web_searches or web
                found.tool_uses = found.tool_uses or other
                found.text = None
            answered.usage = found
        reason = told.incomplete_details.reason if told.incomplete_details else None
        if told.status in ("completed", "incomplete", "failed", "cancelled"):
            answered.finish(0, reason or told.status)
        errors.tell(answered, bytes(told.error))
        self._calls.settle()

    def item(self, index: int, item: _Item) -> None:
        """Take an item of the output, begun or complete; only what the client has to call is a tool call."""
        if item.type in _CALLS:
            self._calls.piece((0, index), item.call_id or item.id, item.name, words(item.arguments) or words(item.input))

    def arguments(self, index: int, piece: str) -> None:
        """Take a piece of a tool call's arguments."""
        self._calls.piece((0, index), None, None, piece)


class ResponseStream:
    """
    Reads a stream of events. It has ended with the event that shows the finished response, or with `error`.

    The content is what the deltas have (text, refusal, reasoning, arguments, code, audio, in one count).
    """

    __slots__ = ("_answer", "_events", "_has_read", "_stencil", "answered")

    def __init__(self, answered: OpenAiAnswered, provider: str) -> None:
        self.answered = answered
        self._answer = ResponseAnswer(answered, provider)
        self._events = EventStream(_MOST_EVENT_BYTES)
        self._has_read = False
        self._stencil = Stencil()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        events = self._events
        answered = self.answered
        before = answered.events
        if events.is_between:
            data = self._stencil.left(data, answered)
            answered.sequence_number += answered.events - before  # each event has the next one
            if not data:
                return
        for name, each in events.feed(data):
            if self._stencil.knows(name, each, answered):
                answered.sequence_number += 1
            else:
                self._take(name, each)
        if events.skipped:
            answered.is_unreadable = True

    def _take(self, name: bytes, data: bytes) -> None:
        answered = self.answered
        answered.events += 1
        if answered.is_ended or data[:6] == b"[DONE]":  # which some gateways add
            return
        before = answered.content_bytes
        try:
            event = _EVENT.decode(data)
            self._read(event, data)
        except Unreadable:
            answered.is_unreadable = answered.is_unreadable or not self._has_read
            return
        if not self._has_read:
            self._has_read = True
            answered.is_unreadable = False
        if event.type in _TEXTS:
            self._stencil.learn(name, data, answered.content_bytes - before, answered.events)

    def _read(self, event: _Event, data: bytes) -> None:
        answered = self.answered
        if event.sequence_number is not None and event.sequence_number > answered.sequence_number:
            answered.sequence_number = event.sequence_number
        kind = event.type or ""
        delta = event.delta
        if isinstance(delta, str):
            answered.content_bytes += len(delta) if delta.isascii() else size(delta)
            if kind == "response.function_call_arguments.delta" or kind == "response.custom_tool_call_input.delta":
                self._answer.arguments(event.output_index or 0, delta)
        elif event.item is not None:
            if kind == "response.output_item.added":
                self._answer.item(event.output_index or 0, event.item)
                if event.item.type in _CALLS:
                    answered.content_bytes += size(event.item.name)
        elif kind in _TERMINAL:
            self._answer.read(bytes(event.response))
            self._stencil.forget()
            answered.is_ended = True
        elif kind == "response.created":
            self._begin(bytes(event.response))
        elif kind == "error" or (not kind and bytes(event.error)[:1] in (b"{", b'"')):
            if not errors.tell(answered, bytes(event.error)):
                errors.tell_event(answered, data)
            self._stencil.forget()
            answered.is_ended = True

    def _begin(self, response: bytes) -> None:
        self._answer.read(response)
        if len(response) <= _MOST_BEGUN_BYTES:
            self.answered.begun = response

    def end(self) -> None:
        """The body is whole; without a terminal event it was cut by somebody before."""


def _kinds(items: Iterable[_Item]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for item in items:
        kind = item.type or ""
        if kind in kinds or len(kinds) < _MOST_KINDS:
            kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def _item_bytes(item: _Item) -> int:
    total = size(item.arguments) + size(item.input) + size(item.code)
    if item.type in _CALLS:
        total += size(item.name)
    for parts in (item.content, item.summary):
        for part in parts or ():
            total += size(part.text) + size(part.refusal)
    return total
