"""
Ollama's own API: `/api/chat`, `/api/generate`, `/api/embed` and `/api/embeddings`, answered by the line or whole.

What it offers under `/v1` is OpenAI's dialect. Source: https://docs.ollama.com/api and the `ollama` SDK, version 0.6.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sidecar.dialects.bodies import WholeBody
from sidecar.dialects.bulk import bulk_in, weighed
from sidecar.dialects.dialect import BodyEdit, Change, Clamp, Heading, IncludeUsage, Reader, Spoken, Unreadable
from sidecar.dialects.doubt import nonsense
from sidecar.dialects.lenient import Lenient, Lists, count, size
from sidecar.dialects.long_text import LONG_BYTES, Text, left_raw
from sidecar.dialects.ndjson import Lines
from sidecar.dialects.openai.content import message_of, prompts_of
from sidecar.dialects.parts import Written, blob, bounded, called, said
from sidecar.dialects.splice import put
from sidecar.dialects.untyped import items, lines_of, member, raw, short, text, value_of
from sidecar.model.answered import Answered, ModelAnswered, ToolCall
from sidecar.model.asked import Asked, ModelAsked, Parameter
from sidecar.model.content import Content, Kind, Message
from sidecar.model.errors import Refused
from sidecar.model.usage import Usage

name = "ollama"
is_about_models = True

MOST_ARGUMENTS = 1 << 16
"""Bytes of one tool call's arguments that are kept."""

_OPERATIONS = {
    "/api/chat": "chat",
    "/api/generate": "text_completion",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
}
_MEASURES = ("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
_BOUND = ("options", "num_predict")
_LONG = ("messages", "prompt", "system", "input", "images", "tools")
_MOST_TEXT = 256
_MOST_MESSAGE = 512
_MOST_CALLS = 128
_MOST_TOOLS = 1024
_MOST_STOPS = 16


@dataclass(slots=True)
class OllamaAnswered(ModelAnswered):
    """What Ollama answered; `is_between`: the last byte seen was the last of a line."""

    is_between: bool = True


class _Options(msgspec.Struct, gc=False):
    num_predict: int | float | None = None
    temperature: int | float | None = None
    top_p: int | float | None = None
    top_k: int | float | None = None
    seed: int | float | None = None
    frequency_penalty: int | float | None = None
    presence_penalty: int | float | None = None
    stop: list[str] | str | None = None


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"")


class _Call(msgspec.Struct, gc=False):
    id: str | None = None
    function: _Function | None = None


class _Request(msgspec.Struct, gc=False):
    model: str = ""
    stream: bool | None = None
    options: _Options | None = None
    tools: msgspec.Raw = msgspec.Raw(b"")
    format: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    images: msgspec.Raw = msgspec.Raw(b"")


class _Message(msgspec.Struct, gc=False):
    content: Text = None
    thinking: Text = None
    tool_calls: list[_Call] | None = None


class _Failure(msgspec.Struct, gc=False):
    message: str = ""


class _Line(msgspec.Struct, gc=False):
    model: str | None = None
    message: _Message | None = None
    response: Text = None
    thinking: Text = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | float | None = None
    eval_count: int | float | None = None
    error: str | _Failure | None = None


_request = Lenient(_Request).skim
_tools = Lists(_Call).read
_line = Lenient(_Line).decode
_long_line = Lenient(left_raw(_Line)).decode


def operation(heading: Heading) -> str:
    """Return `chat`, `text_completion` or `embeddings`."""
    if heading.method != "POST":
        return ""
    return _OPERATIONS.get(heading.path[max(0, heading.path.rfind("/api/")) :], "")


def request(operation: str, heading: Heading, body: bytes) -> Asked:
    """Read a request; it streams unless it says otherwise. Raises `Unreadable` where its body is no JSON object."""
    told = _request(body)
    options = told.options or _Options()
    found: list[tuple[str, Parameter]] = []
    for measure in _MEASURES:
        value = getattr(options, measure)
        if value is not None:
            found.append((measure, value))
    stops = [options.stop] if isinstance(options.stop, str) else options.stop
    if stops:
        found.append(("stop_sequences", tuple(stop[:_MOST_TEXT] for stop in stops[:_MOST_STOPS])))
    tools = _tools(bytes(told.tools))
    asked = ModelAsked(
        name,
        operation,
        operation != "embeddings" and told.stream is not False,
        provider=heading.provider or name,
        model=told.model[:_MOST_TEXT],
        max_tokens=count(options.num_predict),  # below 0 it means that there is no bound
        tools=tuple(tool.function.name[:_MOST_TEXT] for tool in (tools or ())[:_MOST_TOOLS] if tool.function),
        parameters=tuple(found),
        output_type="json" if bytes(told.format) not in (b"", b'""', b"null") else "",
        unbounded=() if tools is not None else ("unread",),
    )
    bulk = {each: getattr(told, each) for each in _LONG}
    return weighed(asked, body, **bulk)


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return the reader of lines or of a whole body, as status and media type say."""
    answered = OllamaAnswered()
    if status >= 400:
        return WholeBody(answered, lambda body: _fail(answered, _line(body), ""))
    if not asked.streams or content_type.startswith("application/json"):
        return WholeBody(answered, lambda body: _take(answered, (_line if len(body) <= LONG_BYTES else _long_line)(body)))
    return _Stream(answered)


class _Stream:
    """Reads an answer by the line; one that is no JSON, or too long, makes it unreadable."""

    __slots__ = ("_lines", "answered")

    def __init__(self, answered: OllamaAnswered) -> None:
        self.answered = answered
        self._lines = Lines()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        answered, lines = self.answered, self._lines
        for line in lines.feed(data):
            self._take(line)
        answered.is_between = lines.is_between
        if lines.skipped:
            answered.is_unreadable = True

    def end(self) -> None:
        """The stream is over; its last line may have no end."""
        rest = self._lines.rest()
        if rest and not rest.isspace():
            self._take(rest)

    def _take(self, line: bytes) -> None:
        self.answered.events += 1
        try:
            _take(self.answered, _line(line))
        except Unreadable:
            self.answered.is_unreadable = True


def _take(answered: OllamaAnswered, told: _Line) -> None:
    """Note what a line says; the whole of an answer is one line, too."""
    message = told.message
    if message is not None:
        answered.content_bytes += size(message.content) + size(message.thinking)
        for call in message.tool_calls or ():
            _call(answered, call)
    elif told.response is not None:
        answered.content_bytes += size(told.response) + size(told.thinking)
    if not answered.model and told.model:
        answered.model = told.model[:_MOST_TEXT]
    if told.error is not None:
        _fail(answered, told, "error")
    if told.prompt_eval_count is not None or told.eval_count is not None:
        # A prompt that lies in the cache as a whole is not counted at all.
        answered.usage = Usage(
            input_tokens=count(told.prompt_eval_count),
            output_tokens=count(told.eval_count),
            doubt=nonsense(told.prompt_eval_count, told.eval_count),
        )
    if told.done:
        answered.is_ended = True
        if told.done_reason:
            answered.finish_reasons = [told.done_reason[:_MOST_TEXT]]


def _call(answered: OllamaAnswered, call: _Call) -> None:
    function = call.function
    if function is None:
        return
    arguments = bytes(function.arguments)
    answered.content_bytes += len(arguments)
    if len(answered.tool_calls) < _MOST_CALLS:
        answered.tool_calls.append(ToolCall((call.id or "")[:_MOST_TEXT], function.name[:_MOST_TEXT], arguments[:MOST_ARGUMENTS]))


def _fail(answered: OllamaAnswered, told: _Line, kind: str) -> None:
    """Note an error, which has no name of its own: a status says what it was, a line in a stream only that it was one."""
    message = told.error.message if isinstance(told.error, _Failure) else told.error
    answered.error_type = kind
    answered.error_message = (message or "")[:_MOST_MESSAGE]
    answered.is_ended = True


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """Say it as `{"error": "…"}`."""
    text = f"{refused.code}: {refused.detail or refused.meaning.advice}"
    body = json.dumps({"error": text}, ensure_ascii=False).encode("utf-8", "replace")
    return Spoken(refused.meaning.status, "application/json", body)


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """Return the line that says `done` by the length limit; b"" after a cut inside a line."""
    if not isinstance(answered, OllamaAnswered) or not asked.streams or answered.is_ended:
        return b""
    if answered.is_unreadable or not answered.is_between:
        return b""
    model = answered.model or (asked.model if isinstance(asked, ModelAsked) else "")
    said = {"message": {"role": "assistant", "content": ""}} if asked.operation == "chat" else {"response": ""}
    line = {"model": model, **said, "done": True, "done_reason": "length"}
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """Lower the bound on the output; a stream tells its usage always, so that asking for it changes nothing."""
    if isinstance(change, IncludeUsage):
        return body
    if not isinstance(change, Clamp) or not isinstance(asked, ModelAsked) or asked.operation == "embeddings":
        raise Unreadable("a call of Ollama has no place for it")
    if 0 < asked.max_tokens <= change.max_tokens:
        return body
    return put(body, _BOUND, b"%d" % change.max_tokens, bulk_in(asked))


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """No change has a consequence in the response."""
    return None


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Return what was asked and answered, as far as both came; pictures, which stand in `images`, without their bytes."""
    told = value_of(request)
    tools = items(told, "tools")
    found = Content(
        instructions=said(text(told, "system")),
        input=[message_of(each) for each in items(told, "messages")] or prompts_of(member(told, "prompt", "input")),
        tools=raw(tools) if tools else b"",
    )
    for message, each in zip(found.input, items(told, "messages") or [told], strict=False):
        message.parts += [blob("", "image") for _ in items(each, "images")]
    if asked.operation != "embeddings":
        # A whole answer is one JSON text, which may have lines; a cut stream may have only one.
        is_whole = content_type.startswith("application/json") or not asked.streams
        found.output = _written((value_of(answer),) if is_whole else lines_of(answer))
    return bounded(found)


def _written(lines: Iterable[Any]) -> list[Message]:
    written = Written()
    for line in lines:
        message = member(line, "message")
        spoken = message if isinstance(message, dict) else line
        written.say("thinking", text(spoken, "thinking"), Kind.REASONING)
        written.say("text", text(spoken, "content") or text(line, "response"))
        for call in items(message, "tool_calls"):
            function = member(call, "function")
            written.add(object(), called(short(call, "id"), short(function, "name"), member(function, "arguments")))
        written.finish(short(line, "done_reason"))
    return written.messages()
