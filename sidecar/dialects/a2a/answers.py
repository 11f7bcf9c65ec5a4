"""
What an agent says: a task, a message, or what becomes of a task, in one JSON body or a stream of events.

1.0 wraps what it says in a member (`task`, `message`, `statusUpdate`, `artifactUpdate`), 0.3 says it bare with a `kind`. Both
are read wherever they come, as are the error forms of JSON-RPC and of REST. A stream ends when its connection does: whether
it was at its end only the task's last state tells.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw

from sidecar.dialects.a2a.methods import CARDS, WITH_TASK
from sidecar.dialects.a2a.questions import REST
from sidecar.dialects.a2a.states import RESTING, UNSPECIFIED, named
from sidecar.dialects.bodies import WholeBody, unless_refused
from sidecar.dialects.dialect import Reader, Unreadable
from sidecar.dialects.jsonrpc import MOST_MESSAGE, NOTHING, Message, members, text, told
from sidecar.dialects.sse import EventStream
from sidecar.model.answered import A2aAnswered
from sidecar.model.asked import A2aAsked, Asked

MOST_EVENT_BYTES = 16 * 1024 * 1024
"""Largest event that is read: an artifact with a file in it is one event."""

_MOST_COUNTED_BYTES = 256 * 1024  # what is longer is not read another time

_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


class _Part(msgspec.Struct, gc=False):
    text: Raw = NOTHING
    data: Raw = NOTHING
    raw: Raw = NOTHING
    file: Raw = NOTHING
    url: Raw = NOTHING


class _Said(
    msgspec.Struct,
    gc=False,
    rename={
        "task_id": "taskId",
        "context_id": "contextId",
        "message_id": "messageId",
        "status_update": "statusUpdate",
        "artifact_update": "artifactUpdate",
    },
):
    """
    Whatever an agent says, in 1.0 in one of the last members, in 0.3 (where messages are `msg` too) bare.

    Every member stays raw until it is asked for: one of the wrong type costs that member, and no second try of the whole.
    """

    kind: Raw = NOTHING
    id: Raw = NOTHING
    task_id: Raw = NOTHING
    context_id: Raw = NOTHING
    message_id: Raw = NOTHING
    final: Raw = NOTHING
    status: Raw = NOTHING
    artifact: Raw = NOTHING
    artifacts: Raw = NOTHING
    parts: Raw = NOTHING
    content: Raw = NOTHING
    error: Raw = NOTHING
    message: Raw = NOTHING
    msg: Raw = NOTHING
    task: Raw = NOTHING
    status_update: Raw = NOTHING
    artifact_update: Raw = NOTHING


class _Answer(msgspec.Struct, gc=False):
    """An answer of JSON-RPC as nearly all are, in one decode."""

    result: _Said | None = None
    error: Raw = NOTHING


class _Spoken(msgspec.Struct, gc=False):
    """A message or an artifact, of which only the parts count; `content` is what REST of 0.3 calls them."""

    parts: Raw = NOTHING
    content: Raw = NOTHING


class _Status(msgspec.Struct, gc=False):
    state: Raw = NOTHING
    message: Raw = NOTHING


class _Failed(msgspec.Struct, gc=False):
    """What every answer may be instead; `type` and `message` are those of REST of 0.3."""

    error: Raw = NOTHING
    type: Raw = NOTHING
    message: Raw = NOTHING


class _Card(msgspec.Struct, gc=False):
    name: Raw = NOTHING
    version: Raw = NOTHING
    error: Raw = NOTHING
    result: Raw = NOTHING


class _RestError(msgspec.Struct, gc=False):
    message: Raw = NOTHING
    status: Raw = NOTHING
    details: Raw = NOTHING


class _Detail(msgspec.Struct, gc=False, rename={"type": "@type"}):
    type: Raw = NOTHING
    reason: Raw = NOTHING


_answer = msgspec.json.Decoder(_Answer).decode
_reply = msgspec.json.Decoder(Message)
_failed = msgspec.json.Decoder(_Failed)
_card = msgspec.json.Decoder(_Card)
_said = msgspec.json.Decoder(_Said)
_status = msgspec.json.Decoder(_Status)
_spoken = msgspec.json.Decoder(_Spoken)
_parts = msgspec.json.Decoder(list[_Part]).decode
_artifacts = msgspec.json.Decoder(list[_Spoken]).decode
_rest_error = msgspec.json.Decoder(_RestError)
_details = msgspec.json.Decoder(list[_Detail]).decode
_MOST_DETAIL_BYTES = 64 * 1024
_NO_SAID, _NO_STATUS, _NO_CARD, _NO_SPOKEN = _Said(), _Status(), _Card(), _Spoken()

S = TypeVar("S", bound=msgspec.Struct)


def _read(data: bytes, decoder: "msgspec.json.Decoder[S]") -> S:
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError):
        raise Unreadable("no JSON object") from None


def _is_object(raw: Raw) -> bool:
    return bool(raw) and memoryview(raw)[0] == 0x7B


class Hearing:
    """Takes over what the bodies or events of one answer say."""

    __slots__ = ("_is_rest", "_reads", "_status", "answered")

    def __init__(self, asked: Asked, status: int) -> None:
        call = asked if isinstance(asked, A2aAsked) else A2aAsked(asked.dialect, asked.operation)
        self._is_rest = call.binding == REST
        self.answered = A2aAnswered(task=call.task, context=call.context, code=status if self._is_rest and status >= 400 else 0)
        self._status = status
        self._reads = self._reader_for(call)

    def _reader_for(self, call: A2aAsked) -> Callable[[bytes], None]:
        if call.operation in CARDS:
            return self._hear_card
        if call.operation not in WITH_TASK:
            return self._hear_errors
        return self._hear_rest if self._is_rest else self._hear_reply

    def hear(self, data: bytes) -> None:
        """Take one JSON text; raises `Unreadable` where it is none."""
        if self._status >= 400 and self._is_rest:
            self._hear_errors(data)
        else:
            self._reads(data)

    def hear_whole(self, body: bytes) -> None:
        """Take the body that is the whole answer; raises `Unreadable` for one that is none."""
        try:
            self.hear(body)
        finally:
            self.answered.is_ended = True  # whatever state the task is in: nothing more comes

    def _hear_reply(self, data: bytes) -> None:
        try:
            answer = _answer(data)
            error, said = answer.error, answer.result or _NO_SAID
        except (ValueError, RecursionError):  # a result that is no object, or no JSON at all
            reply = _read(data, _reply)
            error, said = reply.error, members(reply.result, _said, _NO_SAID)
        if error:
            self._fail(error)
        else:
            self._take(said)

    def _hear_rest(self, data: bytes) -> None:
        said = _read(data, _said)
        if said.error:
            self._fail(said.error)
        else:
            self._take(said)

    def _hear_errors(self, data: bytes) -> None:
        if data.lstrip()[:1] == b"[":
            return  # configurations, of which 0.3 answers a bare list
        failed = _read(data, _failed)
        if failed.error:
            self._fail(failed.error)
        elif self._status >= 400:
            self._failed(text(failed.type), text(failed.message, MOST_MESSAGE), self._status)

    def _hear_card(self, data: bytes) -> None:
        card = _read(data, _card)
        if card.error:
            self._fail(card.error)
            return
        if card.result:
            card = members(card.result, _card, _NO_CARD)
        self.answered.agent = text(card.name)
        self.answered.agent_version = text(card.version)

    # errors

    def _fail(self, error: Raw) -> None:
        """Take an error: of JSON-RPC (a number and a text), or of REST (a google.rpc.Status with a reason in its details)."""
        if not self._is_rest:
            code, message = told(error)
            self._failed(str(code) if code else text(error), message, code)
            return
        status = members(error, _rest_error, _RestError())
        code, _ = told(error)
        self._failed(
            _reason(status.details) or text(status.status) or text(error),
            text(status.message, MOST_MESSAGE),
            code if 100 <= code < 600 else self._status if self._status >= 400 else 0,
        )

    def _failed(self, error_type: str, message: str, code: int) -> None:
        answered = self.answered
        answered.error_type = error_type
        answered.error_message = message
        answered.code = code
        answered.is_ended = True

    # what went well

    def _take(self, said: _Said) -> None:
        if _is_object(said.status_update):
            self._take_event(members(said.status_update, _said, _NO_SAID))
        elif _is_object(said.artifact_update):
            self._take_event(members(said.artifact_update, _said, _NO_SAID))
        elif _is_object(said.task):
            self._take_task(members(said.task, _said, _NO_SAID))
        elif _is_object(said.message) or _is_object(said.msg):
            self._take_message(members(said.message or said.msg, _said, _NO_SAID))
        elif said.task_id and (said.status or said.artifact):
            self._take_event(said)
        elif said.message_id or text(said.kind) == "message":
            self._take_message(said)
        elif said.id or said.kind:
            self._take_task(said)

    def _take_task(self, task: _Said) -> None:
        self._learn(task.id, task.context_id)
        self._take_status(task.status)
        if not task.artifacts:
            return
        if len(task.artifacts) > _MOST_COUNTED_BYTES:
            self.answered.content_bytes += len(task.artifacts)
            return
        try:
            artifacts = _artifacts(task.artifacts)
        except (ValueError, RecursionError):
            self.answered.content_bytes += len(task.artifacts)
            return
        for artifact in artifacts:
            self._count(artifact.parts or artifact.content)

    def _take_event(self, event: _Said) -> None:
        self._learn(event.task_id, event.context_id)
        self._take_status(event.status)
        self._count_of(event.artifact)
        if event.final and bytes(event.final) == b"true":
            self.answered.is_ended = True

    def _take_message(self, message: _Said) -> None:
        """A message is all that there is: tasks speak in their status."""
        self._learn(message.task_id, message.context_id)
        self._count(message.parts or message.content)
        self.answered.is_ended = True

    def _learn(self, task: Raw, context: Raw) -> None:
        self.answered.task = text(task) or self.answered.task
        self.answered.context = text(context) or self.answered.context

    def _take_status(self, raw: Raw) -> None:
        if not raw:
            return
        status = members(raw, _status, _NO_STATUS)
        state = named(text(status.state))
        if state:
            self.answered.state = state
            self.answered.is_ended = state in RESTING  # who was asked for input may get it, and work on
        self._count_of(status.message)

    def _count_of(self, spoken: Raw) -> None:
        if spoken:
            read = members(spoken, _spoken, _NO_SPOKEN)
            self._count(read.parts or read.content)

    def _count(self, raw: Raw) -> None:
        """Count what parts hold, without what is around it; parts that are none, or long, are counted as they are."""
        if not raw:
            return
        if len(raw) > _MOST_COUNTED_BYTES:
            self.answered.content_bytes += len(raw)
            return
        try:
            parts = _parts(raw)
        except (ValueError, RecursionError):
            self.answered.content_bytes += len(raw)
            return
        for part in parts:
            self.answered.content_bytes += (
                _inside(part.text) + _inside(part.raw) + _inside(part.url) + len(part.data) + len(part.file)
            )


def _inside(raw: Raw) -> int:
    return len(raw) - 2 if len(raw) > 2 else 0  # without its quotes


def _reason(details: Raw) -> str:
    """The agent's own word for an error: `reason` of the ErrorInfo among the details."""
    if not 2 < len(details) <= _MOST_DETAIL_BYTES:
        return ""
    try:
        found = _details(details)
    except (ValueError, RecursionError):
        return ""
    return next((text(detail.reason) for detail in found if text(detail.type) == _ERROR_INFO), "")


class EventReader:
    """Reads a stream; at most one event is kept."""

    __slots__ = ("_events", "_hearing", "answered")

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._events = EventStream(MOST_EVENT_BYTES)
        self.answered = hearing.answered

    def feed(self, data: bytes) -> None:
        """Read the events that these bytes complete; one that is no JSON, or too large, makes the answer unreadable."""
        answered = self.answered
        for _, event in self._events.feed(data):
            answered.events += 1
            try:
                self._hearing.hear(event)
            except Unreadable:
                answered.is_unreadable = True
        if self._events.skipped:
            answered.is_unreadable = True

    def end(self) -> None:
        """Judge the end: a task that was last heard of at work has been left there, and so has a stream that said nothing."""
        answered = self.answered
        if not answered.is_ended:
            answered.is_ended = bool(answered.events) and answered.state in ("", UNSPECIFIED)


class _Silence:
    """Reads an answer in which nothing is said: a media type that A2A does not have."""

    __slots__ = ("answered",)

    def __init__(self, answered: A2aAnswered) -> None:
        self.answered = answered

    def feed(self, data: bytes) -> None:
        """Let it pass."""

    def end(self) -> None:
        """Note that there is no more."""
        self.answered.is_ended = True


def reader_of(asked: Asked, status: int, content_type: str) -> Reader:
    """Return the reader of a response with this head."""
    hearing = Hearing(asked, status)
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return EventReader(hearing)
    if media_type == "application/json" or media_type.endswith("+json"):
        return WholeBody(hearing.answered, unless_refused(hearing.hear_whole, status))
    return _Silence(hearing.answered)
