"""
Exchanges as protobuf: what proto/agent_sre/sidecar/admin/v1/exchanges.proto says, made from what JSON would show.

Importing this file imports protobuf, so it is done in a thread, when the first client asks for it. The live form is a
sequence of FollowExchangesResponse, each with its length before it.
"""

from datetime import datetime
from typing import Any

from sidecar.pb.agent_sre.sidecar.admin.v1.exchanges_pb2 import (
    Attempt,
    Exchange,
    FollowExchangesResponse,
    ListExchangesResponse,
)
from sidecar.telemetry.wire import varint

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

_IDS = ("trace_id", "span_id", "parent_id")
_TIMES = ("started_at", "ended_at")
_ENUMS = ("state", "purpose", "mode")


def listed(shown: list[dict[str, Any]]) -> bytes:
    """A serialized ListExchangesResponse."""
    return ListExchangesResponse(exchanges=[exchange(each) for each in shown]).SerializeToString()


def exchange(shown: dict[str, Any]) -> Exchange:
    """The message that says what `showing` has shown; a member that the .proto does not know is a ValueError."""
    fields = _with_types(shown)
    for name in _ENUMS:
        fields[name] = f"{name}_{shown[name]}".upper()
    fields["attempts"] = [Attempt(**_with_types(attempt)) for attempt in shown.get("attempts", ())]
    return Exchange(**fields)


def event(shown: dict[str, Any]) -> bytes:
    """One exchange of the live form."""
    return _delimited(FollowExchangesResponse(exchange=exchange(shown)))


def _with_types(shown: dict[str, Any]) -> dict[str, Any]:
    fields = dict(shown)
    for name in _IDS:
        if name in fields:
            fields[name] = bytes.fromhex(fields[name])
    for name in _TIMES:
        if name in fields:
            fields[name] = _timestamp(fields[name])
    for name, value in fields.items():
        if isinstance(value, str):  # half a surrogate pair is no text for protobuf
            fields[name] = value.encode("utf-8", "replace").decode()
    return fields


def _timestamp(text: str) -> dict[str, int] | None:
    """The fields of a Timestamp, from ISO 8601; None for no time."""
    if not text:
        return None
    since = datetime.fromisoformat(text) - _EPOCH
    return {"seconds": since.days * 86400 + since.seconds, "nanos": since.microseconds * 1000}


def _delimited(message: FollowExchangesResponse) -> bytes:
    body = message.SerializeToString()
    return varint(len(body)) + body


ALIVE = _delimited(FollowExchangesResponse(alive=FollowExchangesResponse.Alive()))
DROPPED = _delimited(FollowExchangesResponse(dropped=FollowExchangesResponse.Dropped()))

BEGIN = ALIVE
"""Something has to be written, or the client would wait for the head of the response."""
