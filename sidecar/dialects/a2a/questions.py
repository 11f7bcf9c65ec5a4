"""
What a client says to an agent: the head tells REST calls, cards and versions, the body the rest.

Both spellings of a member are read where the JSON is that of protocol buffers (`messageId`, `message_id`): parsers have to take
both, and a client of 0.3 sends the second.
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Raw

from sidecar.dialects.a2a.methods import (
    CARD,
    CARDS,
    CREATE_PUSH,
    LIST_TASKS,
    PUSH,
    STREAMING,
    SUBSCRIBE,
    json_rpc_method,
    rest_call,
)
from sidecar.dialects.dialect import Heading, Unreadable
from sidecar.dialects.jsonrpc import MOST_TEXT, NOTHING, Message, check_again, is_as_usual, key, members, messages, text
from sidecar.dialects.lenient import LONG_BYTES, is_crowded, is_object
from sidecar.dialects.well_known import is_public_card
from sidecar.model.asked import A2aAsked

GUESS = "message"
"""A POST of JSON that says nothing of A2A in its head, as clients of 0.3 send it; only the body can tell."""
CALL = "call"
"""A POST whose head names A2A, and whose method its body tells."""
OTHER = "other"
"""A JSON-RPC method that no version of A2A has, asked for in its name: an extension's."""

REST = "HTTP+JSON"
MEDIA_TYPE = "application/a2a+json"

MOST_ID_BYTES = 1024
"""A longer JSON-RPC id is taken for none: our answers would have to repeat it."""
MOST_REFERENCES = 32
_MOST_REFERENCE_BYTES = 32 * 1024

_MARKS = ("a2a-version", "a2a-extensions", "x-a2a-extensions")
_VERSION = "A2A-Version"
_OF_OTHERS = ("mcp-session-id", "mcp-protocol-version", "mcp-method", "anthropic-version", "x-goog-api-key", "x-amz-target")


@dataclass(slots=True)
class A2aCall(A2aAsked):
    """The same, with the id as the client wrote it (raw JSON, b"" where there is none): an answer has to repeat its type."""

    raw_id: bytes = b""


class _Params(
    msgspec.Struct,
    gc=False,
    rename={"task_id": "taskId", "task_id_": "task_id", "context_id": "contextId", "context_id_": "context_id"},
):
    id: Raw = NOTHING
    task_id: Raw = NOTHING
    task_id_: Raw = NOTHING
    context_id: Raw = NOTHING
    context_id_: Raw = NOTHING
    tenant: Raw = NOTHING
    message: Raw = NOTHING
    request: Raw = NOTHING


class _Message(
    msgspec.Struct,
    gc=False,
    rename={
        "message_id": "messageId",
        "message_id_": "message_id",
        "task_id": "taskId",
        "task_id_": "task_id",
        "context_id": "contextId",
        "context_id_": "context_id",
        "references": "referenceTaskIds",
        "references_": "reference_task_ids",
    },
):
    message_id: Raw = NOTHING
    message_id_: Raw = NOTHING
    task_id: Raw = NOTHING
    task_id_: Raw = NOTHING
    context_id: Raw = NOTHING
    context_id_: Raw = NOTHING
    references: Raw = NOTHING
    references_: Raw = NOTHING


class _Sent(
    msgspec.Struct,
    gc=False,
    rename={"task_id": "taskId", "task_id_": "task_id", "context_id": "contextId", "context_id_": "context_id"},
):
    """The same parameters, with a message in them that is read in the same decode."""

    id: Raw = NOTHING
    task_id: Raw = NOTHING
    task_id_: Raw = NOTHING
    context_id: Raw = NOTHING
    context_id_: Raw = NOTHING
    tenant: Raw = NOTHING
    message: _Message | None = None
    request: _Message | None = None


class _Called(msgspec.Struct, gc=False):
    """A message of JSON-RPC as nearly all are, in one decode."""

    id: Raw = NOTHING
    method: Raw = NOTHING
    params: _Sent | None = None


_sent = msgspec.json.Decoder(_Sent).decode
_called = msgspec.json.Decoder(_Called).decode
_params = msgspec.json.Decoder(_Params)
_message = msgspec.json.Decoder(_Message)
_references = msgspec.json.Decoder(list[Raw]).decode
_NO_PARAMS, _NO_MESSAGE, _NOTHING_SENT = _Params(), _Message(), _Sent()


def operation_of(heading: Heading) -> str:
    """
    Return the logical method of a card or a REST call, `CALL` or `GUESS` for what may be JSON-RPC, "" for what is no A2A.

    A path like `/tasks/7` counts only where the head names A2A; the versions before 1.0 had no field for that.
    """
    path, verb = heading.path, heading.method
    if verb in ("GET", "HEAD") and is_public_card(path):
        return CARD
    call = rest_call(verb, path)
    if call is not None and (call.is_certain or _is_marked(heading)):
        return call.method
    if verb != "POST":
        return ""
    if _is_marked(heading):
        return CALL
    return GUESS if _may_be_json_rpc(heading) else ""


def _is_marked(heading: Heading) -> bool:
    fields = heading.fields
    if any(mark in fields for mark in _MARKS) or heading.media_type == MEDIA_TYPE:
        return True
    return MEDIA_TYPE in fields.get("accept", "").lower() or (_VERSION.lower() + "=") in heading.query.lower()


def _may_be_json_rpc(heading: Heading) -> bool:
    """JSON to a path that is nobody's REST: no version among its segments, no verb and no file at its end."""
    if heading.media_type != "application/json" or any(name in heading.fields for name in _OF_OTHERS):
        return False
    *before, last = heading.path.rstrip("/").lower().split("/")
    if ":" in last or "." in last:
        return False
    if any("a2a" in segment or "agent" in segment or "rpc" in segment for segment in (*before, last)):
        return True
    return not any(segment[:1] == "v" and segment[1:2].isdigit() for segment in (*before, last))


def call_of(operation: str, heading: Heading, body: bytes) -> A2aCall:
    """Read a request; raises `Unreadable` where it is no A2A JSON-RPC, or REST without the JSON that it has to have."""
    if operation == CARD:
        return A2aCall("a2a", CARD, binding=REST, protocol_version=_told_version(heading), agent_card=True)
    if operation in (CALL, GUESS):
        return _of_json_rpc(operation, heading, body)
    return _of_rest(operation, heading, body)


def _of_json_rpc(operation: str, heading: Heading, body: bytes) -> A2aCall:
    if is_as_usual(body):
        try:
            message = _called(body)
        except (ValueError, RecursionError):  # what should be an object is none, or all of it is no JSON
            check_again(body)
            message = _member_by_member(body)
    else:
        message = _member_by_member(body)
    logical, spelt = json_rpc_method(text(message.method))
    if not logical:
        if operation == GUESS or not bytes(message.method).startswith(b'"'):
            raise Unreadable("no method of A2A")
        logical = OTHER
    call = _call(logical, "JSONRPC", message.params or _NOTHING_SENT, version=spelt or "0.3")
    call.protocol_version = _told_version(heading) or spelt or "0.3"
    if message.id and len(message.id) <= MOST_ID_BYTES and key(message.id) is not None:
        call.raw_id = bytes(message.id)
        call.id = text(call.raw_id)
    return call


def _member_by_member(body: bytes) -> _Called:
    one = _one(body)
    return _Called(one.id, one.method, _apart(members(one.params, _params, _NO_PARAMS)))


def _apart(params: _Params) -> _Sent:
    """Parameters of which some member is of the wrong type, which costs that member."""
    return _Sent(
        params.id,
        params.task_id,
        params.task_id_,
        params.context_id,
        params.context_id_,
        params.tenant,
        members(params.message, _message, _NO_MESSAGE) if params.message else None,
        members(params.request, _message, _NO_MESSAGE) if params.request else None,
    )


def _one(body: bytes) -> Message:
    found = messages(body)
    if len(found) != 1 or body.lstrip()[:1] == b"[":
        raise Unreadable("A2A has no batches")
    return found[0]


def _of_rest(operation: str, heading: Heading, body: bytes) -> A2aCall:
    """A body is there where the method sends something; a query has what GET would say in it."""
    found = rest_call(heading.method, heading.path)
    version = found.version if found is not None else "1.0"
    task = unquote(found.task)[:MOST_TEXT] if found is not None else ""
    params = _NOTHING_SENT
    if len(body) > LONG_BYTES and (is_crowded(body) or not is_object(body)):
        raise Unreadable("no object, or more lists and objects than anybody means")
    if body:
        try:
            params = _sent(body)
        except (ValueError, RecursionError):
            check_again(body)
            params = _apart(_object(body))
    call = _call(operation, REST, params, version=version)
    call.protocol_version = _told_version(heading) or version
    call.task = task or call.task
    if heading.query and operation == LIST_TASKS:
        call.context = call.context or _in_query(heading.query, "contextId")
    if heading.query:
        call.tenant = call.tenant or _in_query(heading.query, "tenant")
    return call


def _object(body: bytes) -> _Params:
    if body.isspace():
        return _NO_PARAMS
    try:
        return _params.decode(body)
    except (ValueError, RecursionError):
        raise Unreadable("no JSON object") from None


def _call(logical: str, binding: str, params: _Sent, *, version: str) -> A2aCall:
    streams = logical in STREAMING
    message = params.message or params.request or _NO_MESSAGE
    return A2aCall(
        "a2a",
        logical,
        streams=streams,
        # Silence on a subscription means that nobody works on the task. A streamed message is somebody's work for this very
        # call: how long its first event takes is what the caller waits for.
        is_standing=logical == SUBSCRIBE,
        binding=binding,
        task=text(message.task_id or message.task_id_) or _task(logical, params, version),
        context=text(message.context_id or message.context_id_ or params.context_id or params.context_id_),
        message=text(message.message_id or message.message_id_),
        references=_listed(message.references or message.references_),
        tenant=text(params.tenant),
        agent_card=logical in CARDS,
    )


def _task(logical: str, params: _Sent, version: str) -> str:
    """The task that parameters name: `id`, but for push configurations, whose own id 1.0 calls so."""
    named = text(params.task_id or params.task_id_)
    if named or logical in (OTHER, *CARDS):
        return named
    if logical in PUSH and (version != "0.3" or logical == CREATE_PUSH):
        return ""
    return text(params.id)


def _listed(raw: Raw) -> tuple[str, ...]:
    if not 2 < len(raw) <= _MOST_REFERENCE_BYTES:
        return ()
    try:
        found = _references(raw)
    except (ValueError, RecursionError):
        return ()
    return tuple(filter(None, map(text, found[:MOST_REFERENCES])))


def _told_version(heading: Heading) -> str:
    """Major and minor of the version that head or query name, "" where they name none (patch levels do not count)."""
    told = heading.only("a2a-version").strip() or (_in_query(heading.query, _VERSION) if heading.query else "")
    major, _, rest = told.partition(".")
    minor = rest.partition(".")[0]
    is_version = major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit() and len(major) + len(minor) < 9
    return f"{major}.{minor}" if is_version else ""


def _in_query(query: str, name: str) -> str:
    for told, value in parse_qsl(query[:4096]):
        if told.lower() == name.lower():
            return value[:MOST_TEXT]
    return ""
