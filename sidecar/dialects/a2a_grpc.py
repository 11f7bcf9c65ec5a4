"""
A2A over gRPC: which task, context and message a call is about, read from the protobuf bytes of its messages.

Version 1.0 (`/lf.a2a.v1.A2AService/`) and 0.3 (`/a2a.v1.A2AService/`); field numbers are those of their published .proto files.
What is fed is one message at a time, without gRPC's five bytes of framing, and decompressed. Wire format:
https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from sidecar.dialects.dialect import BodyEdit, Change, Heading, Spoken, Unreadable
from sidecar.model.answered import A2aAnswered, Answered
from sidecar.model.asked import A2aAsked, Asked
from sidecar.model.content import Content
from sidecar.model.errors import Refused

name = "a2a_grpc"
is_about_models = False

SERVICES = {"/lf.a2a.v1.A2AService/": "1.0", "/a2a.v1.A2AService/": "0.3"}
"""Prefixes of the paths that are read here, and the version that each speaks."""

STATES = (
    "TASK_STATE_UNSPECIFIED", "TASK_STATE_SUBMITTED", "TASK_STATE_WORKING", "TASK_STATE_COMPLETED", "TASK_STATE_FAILED",
    "TASK_STATE_CANCELED", "TASK_STATE_INPUT_REQUIRED", "TASK_STATE_REJECTED", "TASK_STATE_AUTH_REQUIRED",
)  # fmt: skip
"""The states of a task by their number, which is the same in both versions."""

_OLD_NAMES = {
    "TaskSubscription": "SubscribeToTask",
    "ListTaskPushNotificationConfig": "ListTaskPushNotificationConfigs",
}
"""Methods of 0.3 under the names that 1.0 gave them."""

_TENANT_AND_TASK = {
    "GetTask": (1, 2), "CancelTask": (1, 2), "SubscribeToTask": (1, 2), "CreateTaskPushNotificationConfig": (1, 3),
    "GetTaskPushNotificationConfig": (1, 2), "DeleteTaskPushNotificationConfig": (1, 2),
    "ListTaskPushNotificationConfigs": (4, 1),
}  # fmt: skip
"""1.0: the numbers of the fields `tenant` and `id`, `task_id` of requests about one task."""

_CARDS = frozenset(("GetAgentCard", "GetExtendedAgentCard"))
_SENDING = frozenset(("SendMessage", "SendStreamingMessage"))
_ANSWERED_BY_PAYLOAD = _SENDING | {"SubscribeToTask"}
_STREAMED = frozenset(("SendStreamingMessage", "SubscribeToTask"))
_METHODS = _SENDING | _TENANT_AND_TASK.keys() | _CARDS | {"ListTasks"}
_MOST_FIELDS = 256
"""Fields of one message that are looked at. Writers put low numbers first, so what is wanted comes before long lists."""
_MOST_REFERENCES = 64
_MOST_DETAILS = 16
_MOST_ID = 256
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_MOST_MESSAGE = 512

Value = int | tuple[int, int]


def operation(heading: Heading) -> str:
    """Return the method as 1.0 calls it, "" for another service, or a method that it does not have."""
    for prefix in SERVICES:
        if heading.path.startswith(prefix):
            method = heading.path[len(prefix) :]
            method = _OLD_NAMES.get(method, method)
            return method if method in _METHODS else ""
    return ""


def request(operation: str, heading: Heading, body: bytes) -> Asked:
    """Read the (first) message of a request; raises `Unreadable` where it is no protobuf message."""
    version = SERVICES[heading.path[: heading.path.rindex("/") + 1]]
    asked = A2aAsked(
        name, operation, streams=operation in _STREAMED, is_standing=operation == "SubscribeToTask", binding="GRPC",
        protocol_version=version, agent_card=operation in _CARDS,
    )  # fmt: skip
    if version == "1.0":
        _read_request(asked, body)
    else:
        _read_old_request(asked, body)
    return asked


def _read_request(asked: A2aAsked, body: bytes) -> None:
    told = dict(fields_of(body))
    if asked.operation in _SENDING:
        asked.tenant = _text(body, told.get(1))
        _read_message(asked, body, told.get(2))
        return
    tenant, task = _TENANT_AND_TASK.get(asked.operation, (1, 0))
    asked.tenant = _text(body, told.get(tenant))
    asked.task = _text(body, told.get(task))
    if asked.operation == "ListTasks":
        asked.context = _text(body, told.get(2))


def _read_old_request(asked: A2aAsked, body: bytes) -> None:
    """In 0.3 a task is named as a resource: `tasks/ID`, with more behind it."""
    told = dict(fields_of(body))
    if asked.operation in _SENDING:
        _read_message(asked, body, told.get(1))
        return
    kind, _, rest = _text(body, told.get(1)).partition("/")
    asked.task = rest.partition("/")[0] if kind == "tasks" else ""


def _read_message(asked: A2aAsked, body: bytes, where: Value | None) -> None:
    parts = list(_inside(body, where))
    told = dict(parts)
    asked.message = _text(body, told.get(1))
    asked.context = _text(body, told.get(2))
    asked.task = _text(body, told.get(3))
    if asked.protocol_version == "1.0":
        references = [value for number, value in parts if number == 8][:_MOST_REFERENCES]
        asked.references = tuple(_text(body, value) for value in references)


class MessageReader:
    """Reads the messages of one response, and the status that ends it."""

    __slots__ = ("_operation", "_version_number", "answered")

    def __init__(self, asked: A2aAsked) -> None:
        self.answered = A2aAnswered()
        self._operation = asked.operation
        self._version_number = 5 if asked.protocol_version == "1.0" else 8

    def feed(self, data: bytes) -> None:
        """Take one message; what is no protobuf is noted, and no error."""
        self.answered.events += 1
        try:
            self._read(data)
        except Unreadable:
            self.answered.is_unreadable = True

    def _read(self, data: bytes) -> None:
        if self._operation in ("GetTask", "CancelTask"):
            self._read_parts(data, (0, len(data)), task=1, context=2, status=3)
            return
        told = dict(fields_of(data))
        if self._operation in _CARDS:
            self.answered.agent = _text(data, told.get(1))
            self.answered.agent_version = _text(data, told.get(self._version_number))
        elif self._operation in _ANSWERED_BY_PAYLOAD:
            if 1 in told:
                self._read_parts(data, told[1], task=1, context=2, status=3)
            if 2 in told:
                self._read_parts(data, told[2], task=3, context=2)
            if 3 in told:
                self._read_parts(data, told[3], task=1, context=2, status=3, is_content=False)
            if 4 in told:
                self._read_parts(data, told[4], task=1, context=2)

    def _read_parts(
        self, data: bytes, where: Value, *, task: int, context: int, status: int = 0, is_content: bool = True
    ) -> None:
        answered = self.answered
        told = dict(_inside(data, where))
        answered.task = _text(data, told.get(task)) or answered.task
        answered.context = _text(data, told.get(context)) or answered.context
        if status in told:
            state = dict(_inside(data, told[status])).get(1, 0)
            if isinstance(state, int) and state < len(STATES):
                answered.state = STATES[state]
        if is_content and isinstance(where, tuple):
            answered.content_bytes += where[1] - where[0]

    def fail(self, code: int, word: str, message: str, details: bytes) -> None:
        """
        Take the status of a call that failed: its number, its name, its text and `grpc-status-details-bin` (b"": none).

        A2A says what went wrong by the reason of a google.rpc.ErrorInfo in those details (`TASK_NOT_FOUND`).
        """
        self.answered.code = code
        self.answered.error_type = reason_of(details) or word
        self.answered.error_message = message[:_MOST_MESSAGE]

    def end(self) -> None:
        """The call has ended well."""
        self.answered.is_ended = True


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> MessageReader:
    """Return the reader of the answer; a status that is no success comes by `fail`."""
    return MessageReader(asked if isinstance(asked, A2aAsked) else A2aAsked(name, asked.operation))


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """Say an error of ours as a response of trailers only (gRPC over HTTP/2, Responses): UNAVAILABLE, or else INTERNAL."""
    status = "14" if refused.meaning.retry else "13"
    text = quote(f"{refused.code}: {refused.detail or refused.meaning.advice}", safe=_PLAIN)
    fields = (("grpc-status", status), ("grpc-message", text), ("x-sidecar-error", refused.code))
    return Spoken(200, "application/grpc", b"", fields)


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """A stream of gRPC is ended by its status, not by a message."""
    return b""


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """Messages of gRPC are not changed; raises `Unreadable`."""
    raise Unreadable("a protobuf message is not changed")


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """Nothing has been put in."""
    return None


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Messages over gRPC are not collected: what is read of them is found without their schema."""
    return None


# protobuf


def fields_of(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, Value]]:
    """
    Yield (number, value) of the fields between two places: the number of a varint, the place of bytes; fixed sizes are skipped.

    At most `_MOST_FIELDS` are looked at, and of fields with the same number their reader takes the last: so a message is read in
    a time that has a bound, whatever it holds. Raises `Unreadable` for what is no message.
    """
    at, end = start, len(data) if end is None else end
    for _ in range(_MOST_FIELDS):
        if at >= end:
            return
        key, at = _varint(data, at, end)
        kind, number = key & 7, key >> 3
        if kind == 0:
            value, at = _varint(data, at, end)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at, end)
            if size > end - at:
                raise Unreadable("a field is longer than its message")
            yield number, (at, at + size)
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise Unreadable("groups, and wire types above 5, are not known")
        if at > end or not number:
            raise Unreadable("a message ends in the middle of a field, or a field has no number")


def reason_of(details: bytes) -> str:
    """The reason of the first google.rpc.ErrorInfo in a google.rpc.Status, "" where there is none."""
    try:
        for detail in [value for number, value in fields_of(details) if number == 3][:_MOST_DETAILS]:
            told = dict(_inside(details, detail))  # of google.protobuf.Any: 1 type_url, 2 value
            if _text(details, told.get(1)).endswith("/google.rpc.ErrorInfo"):
                return _text(details, dict(_inside(details, told.get(2))).get(1))
    except Unreadable:
        pass
    return ""


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise Unreadable("a varint does not end")


def _inside(data: bytes, where: Value | None) -> Iterator[tuple[int, Value]]:
    """The fields of a message in a message; one of another wire type is not read, like an unknown one."""
    return fields_of(data, *where) if isinstance(where, tuple) else iter(())


def _text(data: bytes, where: Value | None) -> str:
    if not isinstance(where, tuple):
        return ""
    start, end = where
    return data[start : min(end, start + 4 * _MOST_ID)].decode("utf-8", "replace")[:_MOST_ID]
