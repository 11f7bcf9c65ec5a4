"""
A2A 1.0 and 0.3, in its bindings JSON-RPC and HTTP+JSON; `methods.py` also knows the names of gRPC.

`questions.py` reads what clients send, `answers.py` what agents say, `methods.py` is the table of what can be asked. Operations
are the logical methods of 1.0, whatever was spoken. Cards are read here, and rewritten by `dialects/agent_card.py`.

Sources: https://a2a-protocol.org/v1.0.0/specification and v0.3.0; google.rpc.Status (https://google.aip.dev/193).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from sidecar.dialects import jsonrpc, sse
from sidecar.dialects.a2a.answers import reader_of
from sidecar.dialects.a2a.content import content
from sidecar.dialects.a2a.methods import CARDS
from sidecar.dialects.a2a.questions import REST, A2aCall, call_of, operation_of
from sidecar.dialects.dialect import BodyEdit, Change, Heading, Reader, Spoken, Unreadable
from sidecar.model.answered import Answered
from sidecar.model.asked import A2aAsked, Asked
from sidecar.model.errors import Refused

name = "a2a"
is_about_models = False

__all__ = [
    "DOMAIN", "content", "edit", "ending", "error", "is_about_models", "name", "operation", "reader", "request", "takes_out",
]  # fmt: skip

DOMAIN = "agent-sre-sidecar"
"""Whose reasons ours are, in a google.rpc.ErrorInfo; those of A2A itself are of `a2a-protocol.org`."""

_RPC_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT", 414: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 431: "INVALID_ARGUMENT", 499: "CANCELLED",
    500: "INTERNAL", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


def operation(heading: Heading) -> str:
    """Return the logical method where the head tells it, else `call` (JSON-RPC of A2A) or `message` (maybe, as of 0.3)."""
    return operation_of(heading)


def request(operation: str, heading: Heading, body: bytes) -> Asked:
    """Read a call; raises `Unreadable` where it is none of A2A."""
    return call_of(operation, heading, body)


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return the reader of a JSON body or a stream of events; anything else says nothing that could be read."""
    return reader_of(asked, status, content_type)


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """
    Say it as a JSON-RPC error with the call's id, or to REST as a google.rpc.Status.

    The HTTP status stays that of the error, in JSON-RPC too: SDKs raise their general client error for it, as for any gateway
    that fails before the agent does. With 200 it would count as an answer everywhere else.
    """
    status = refused.meaning.status
    if _is_rest(asked):
        return Spoken(status, "application/json", _encoded({"error": _status(refused)}))
    return Spoken(status, "application/json", _json_rpc(refused, asked))


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """
    End a stream with an error as its last event; b"" where it has come to its end already.

    No status is made up: the task is the agent's, it may still be worked on, and a terminal state is final in A2A, so a forged
    `TASK_STATE_FAILED` would contradict what the agent says next. After an error the client's SDK raises its general client
    error, as for a connection that breaks, and the application may ask for the task, or subscribe to it again.

    The empty lines before it end an event that was cut in the middle.
    """
    if answered.is_ended or not asked.streams:
        return b""
    refused = Refused(reason)
    data = _encoded({"error": _status(refused)}) if _is_rest(asked) else _json_rpc(refused, asked)
    return b"\n\n" + sse.event(data, b"error")


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """Nothing in A2A takes any of the changes; raises `Unreadable`."""
    raise Unreadable("A2A has no place for it")


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """Nothing has been put in."""
    return None


def _is_rest(asked: Asked | None) -> bool:
    if isinstance(asked, A2aAsked):
        return asked.binding == REST
    return asked is not None and asked.operation in CARDS


def _message(refused: Refused) -> str:
    text = f"{refused.code}: {refused.detail or refused.meaning.advice}"
    return text.encode("utf-8", "replace").decode()[: jsonrpc.MOST_MESSAGE]


def _details(refused: Refused) -> list[dict[str, Any]]:
    meaning = refused.meaning
    metadata = {"fault": meaning.fault.value, "retry": "true" if meaning.retry else "false", "advice": meaning.advice}
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": refused.code.upper(), "domain": DOMAIN}
    return [{**info, "metadata": metadata}]


def _status(refused: Refused) -> dict[str, Any]:
    status = refused.meaning.status
    word = _RPC_STATUS.get(status, "FAILED_PRECONDITION" if status < 500 else "INTERNAL")
    return {"code": status, "status": word, "message": _message(refused), "details": _details(refused)}


def _json_rpc(refused: Refused, asked: Asked | None) -> bytes:
    """A JSON-RPC error; its `data` is a list of typed objects, as 1.0 wants it and 0.3 allows it."""
    raw_id = asked.raw_id if isinstance(asked, A2aCall) else b""
    error = {"code": jsonrpc.SIDECAR_ERROR, "message": _message(refused), "data": _details(refused)}
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (raw_id or b"null", _encoded(error))


def _encoded(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
