"""
What Converse and ConverseStream answer, and the events that end a stream which was cut.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

import json
from typing import ClassVar

import msgspec

from sidecar.dialects.bedrock.questions import Performance, Tier, tier_of
from sidecar.dialects.bedrock.streams import BedrockAnswered, event
from sidecar.dialects.doubt import nonsense
from sidecar.dialects.lenient import Lenient, count, raw_size, size
from sidecar.dialects.long_text import LONG_BYTES, Text, left_raw
from sidecar.model.answered import ModelAnswered, ToolCall
from sidecar.model.usage import CONTRADICTION, Usage

_MOST_NAME = 256
_MOST_CALLS = 128
MOST_ARGUMENTS = 1 << 16
"""Bytes of one tool call's arguments that are kept."""


class _CacheWrite(msgspec.Struct, gc=False, rename="camel"):
    IS_OF_COUNTS: ClassVar[bool] = True

    ttl: str = ""
    input_tokens: int | float = 0


class TokenUsage(msgspec.Struct, gc=False, rename="camel"):
    """Tokens as Converse counts them: cached ones are not among the input; Nova's own JSON has other names for those."""

    IS_OF_COUNTS: ClassVar[bool] = True

    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    cache_read_input_tokens: int | float | None = None
    cache_write_input_tokens: int | float | None = None
    cache_read_input_token_count: int | float | None = None
    cache_write_input_token_count: int | float | None = None
    cache_details: list[_CacheWrite] | None = None


class _ToolUse(msgspec.Struct, gc=False, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"")


class _ReasoningText(msgspec.Struct, gc=False):
    text: Text = ""


class _Reasoning(msgspec.Struct, gc=False, rename="camel"):
    reasoning_text: _ReasoningText | None = None


class _Text(msgspec.Struct, gc=False):
    text: Text = ""


class _Cited(msgspec.Struct, gc=False):
    content: list[_Text] | None = None


class _Written(msgspec.Struct, gc=False, rename="camel"):
    text: Text = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Cited | None = None
    image: msgspec.Raw = msgspec.Raw(b"")


class _WrittenMessage(msgspec.Struct, gc=False):
    content: list[_Written] | None = None


class _Output(msgspec.Struct, gc=False):
    message: _WrittenMessage | None = None


class _Answer(msgspec.Struct, gc=False, rename="camel"):
    """The body of an answer, and, without its output, the last event of a stream."""

    output: _Output | None = None
    stop_reason: str = ""
    usage: TokenUsage | None = None
    service_tier: Tier | None = None
    performance_config: Performance | None = None


class _ToolInput(msgspec.Struct, gc=False):
    input: str = ""


class _Delta(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    tool_use: _ToolInput | None = None
    reasoning_content: _Text | None = None
    image: msgspec.Raw = msgspec.Raw(b"")


class _BlockDelta(msgspec.Struct, gc=False, rename="camel"):
    content_block_index: int = 0
    delta: _Delta | None = None


class _Start(msgspec.Struct, gc=False, rename="camel"):
    tool_use: _ToolUse | None = None


class _BlockStart(msgspec.Struct, gc=False, rename="camel"):
    content_block_index: int = 0
    start: _Start | None = None


class _Stop(msgspec.Struct, gc=False, rename="camel"):
    stop_reason: str = ""


_answer = Lenient(_Answer).decode
_long_answer = Lenient(left_raw(_Answer)).decode
_delta = Lenient(_BlockDelta).decode
_start = Lenient(_BlockStart).decode
_stop = Lenient(_Stop).decode


def usage_of(told: TokenUsage) -> Usage:
    """Sort tokens into their classes; writes to the cache whose lifetime the details do not tell stay `cache_write_tokens`."""
    doubt = nonsense(
        told.input_tokens, told.output_tokens, told.cache_read_input_tokens, told.cache_write_input_tokens,
        told.cache_read_input_token_count, told.cache_write_input_token_count,
    )  # fmt: skip
    five_minutes = one_hour = 0
    for write in told.cache_details or ():
        if write.ttl == "5m":
            five_minutes += count(write.input_tokens)
        elif write.ttl == "1h":
            one_hour += count(write.input_tokens)
        doubt = doubt or nonsense(write.input_tokens)
    written = count(told.cache_write_input_tokens) or count(told.cache_write_input_token_count)
    if five_minutes + one_hour > written and not doubt:
        doubt = CONTRADICTION
    return Usage(
        input_tokens=count(told.input_tokens),
        output_tokens=count(told.output_tokens),
        cache_read_tokens=count(told.cache_read_input_tokens) or count(told.cache_read_input_token_count),
        cache_write_tokens=max(0, written - five_minutes - one_hour),
        cache_write_5m_tokens=five_minutes,
        cache_write_1h_tokens=one_hour,
        doubt=doubt,
    )


def read_answer(answered: ModelAnswered, body: bytes) -> None:
    """Note what a whole answer says; raises `Unreadable`."""
    told = (_answer if len(body) <= LONG_BYTES else _long_answer)(body)
    _take_metadata(answered, told)
    finish(answered, told.stop_reason)
    message = told.output.message if told.output else None
    for block in (message and message.content) or ():
        answered.content_bytes += size(block.text)
        answered.content_bytes += raw_size(block.image)
        if block.reasoning_content and block.reasoning_content.reasoning_text:
            answered.content_bytes += size(block.reasoning_content.reasoning_text.text)
        if block.citations_content:
            answered.content_bytes += sum(size(part.text) for part in block.citations_content.content or ())
        if block.tool_use:
            arguments = bytes(block.tool_use.input)
            answered.content_bytes += len(arguments)
            call = _called(answered, block.tool_use)
            if call:
                call.arguments = arguments[:MOST_ARGUMENTS]


def finish(answered: ModelAnswered, reason: str) -> None:
    """Note why the model stopped; "" says nothing."""
    if reason:
        answered.finish_reasons[:] = [reason[:_MOST_NAME]]


def _take_metadata(answered: ModelAnswered, told: _Answer) -> None:
    """Note usage and tier."""
    if told.usage:
        answered.usage = usage_of(told.usage)
    answered.service_tier = tier_of(told.service_tier, told.performance_config) or answered.service_tier


def _called(answered: ModelAnswered, tool: _ToolUse) -> ToolCall | None:
    if len(answered.tool_calls) >= _MOST_CALLS:
        return None
    call = ToolCall(tool.tool_use_id[:_MOST_NAME], tool.name[:_MOST_NAME])
    answered.tool_calls.append(call)
    return call


class Conversation:
    """The events of one streamed answer, by the names that they have in Converse; Nova's own streams have the same."""

    __slots__ = ("_answered", "_call")

    def __init__(self, answered: BedrockAnswered) -> None:
        self._answered = answered
        self._call: ToolCall | None = None

    def event(self, kind: str, payload: bytes) -> None:
        """Take one event; unknown ones mean nothing. Raises `Unreadable`."""
        answered = self._answered
        if kind == "contentBlockDelta":
            self._delta(_delta(payload))
        elif kind == "contentBlockStart":
            told = _start(payload)
            answered.open_block = told.content_block_index
            if told.start and told.start.tool_use:
                self._call = _called(answered, told.start.tool_use)
        elif kind == "contentBlockStop":
            answered.open_block = -1
            self._call = None
        elif kind == "messageStart":
            answered.is_started = True
        elif kind == "messageStop":
            answered.is_stopped = True
            finish(answered, _stop(payload).stop_reason)
        elif kind == "metadata":
            _take_metadata(answered, _answer(payload))
            answered.is_ended = True

    def _delta(self, told: _BlockDelta) -> None:
        answered = self._answered
        answered.open_block = told.content_block_index
        delta = told.delta
        if delta is None:
            return
        if delta.text is not None:
            answered.content_bytes += size(delta.text)
        elif delta.tool_use:
            piece = delta.tool_use.input.encode("utf-8", "replace")
            answered.content_bytes += len(piece)
            call = self._call
            if call and len(call.arguments) < MOST_ARGUMENTS:
                call.arguments += piece[: MOST_ARGUMENTS - len(call.arguments)]
        elif delta.reasoning_content:
            answered.content_bytes += size(delta.reasoning_content.text)
        else:
            answered.content_bytes += raw_size(delta.image)


def last_events(answered: BedrockAnswered) -> list[tuple[str, bytes]]:
    """Return the events (name, JSON) that are missing after what was seen, so that a message ended by its length limit."""
    events: list[tuple[str, bytes]] = []
    if not answered.is_stopped:
        if not answered.is_started:
            events.append(("messageStart", b'{"role":"assistant"}'))
        if answered.open_block >= 0:
            events.append(("contentBlockStop", b'{"contentBlockIndex":%d}' % answered.open_block))
        events.append(("messageStop", b'{"stopReason":"max_tokens"}'))
    events.append(("metadata", _metadata(answered.usage or Usage())))
    return events


def ending(answered: BedrockAnswered) -> bytes:
    """Return the frames that end a cut stream; b"" where nothing can be said any more."""
    if answered.is_ended or answered.is_unreadable or not answered.is_between:
        return b""
    return b"".join(event(kind, payload) for kind, payload in last_events(answered))


def _metadata(usage: Usage) -> bytes:
    told = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_total + usage.output_total,
        "cacheReadInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": usage.cache_write_total,
    }
    return json.dumps({"usage": told, "metrics": {"latencyMs": 0}}, separators=(",", ":")).encode()
