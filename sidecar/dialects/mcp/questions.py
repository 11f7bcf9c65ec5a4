"""
What a client says to an MCP server: requests, notifications, answers of its own, and the streams that it opens.

Read from the body alone wherever the body says it; of the head count what 2025-06-18 put there (session, version), and
`Mcp-Name` where a message names nothing itself.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw

from sidecar.dialects.dialect import Heading, Unreadable
from sidecar.dialects.jsonrpc import MOST_TEXT, NOTHING, check_again, described, is_as_usual, is_text, key, members, text
from sidecar.dialects.lenient import LONG_BYTES
from sidecar.dialects.splice import put, swap
from sidecar.model.asked import McpAsked

MESSAGE = "message"
"""A POST, whose method only its body tells."""
GUESS = "maybe"
"""A POST that accepts what clients of Streamable HTTP accept, as others do too; it is MCP where its body has a method of MCP."""
LISTEN = "listen"
"""A GET: the stream on which a server of the session era, or of HTTP+SSE, sends what it begins by itself."""
END_SESSION = "end_session"
"""A DELETE (2025-03-26 to 2025-11-25)."""
RESPONSE = "response"
"""A client's answer to a request of the server's."""

MOST_ID_BYTES = 1024
"""A longer id is taken for none: nobody's SDK makes one, and our answers would have to repeat it."""
MOST_ARGUMENT_BYTES = 64 * 1024
"""Longer arguments of a tool are left out of what is kept: cut, they would be no JSON."""
MOST_CONTEXT_BYTES = 8192
"""Longest member of `_meta` that is read; the bound that W3C Baggage sets."""

_QUICK_BYTES = 64 * 1024
_HEAD_BYTES = 4096
_OBJECT_AT = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\{").match
_META_AT = re.compile(rb'[ \t\r\n]*"_meta"[ \t\r\n]*:[ \t\r\n]*').match
_EMPTY_AT = re.compile(rb"[ \t\r\n]*\}").match

_LISTENS = "subscriptions/listen"
_METHODS = frozenset(("initialize", "ping", "completion/complete", "logging/setLevel", "server/discover", _LISTENS))
_FAMILIES = ("tools/", "prompts/", "resources/", "notifications/")
_BY_URI = {"resources/read", "resources/subscribe", "resources/unsubscribe"}
_SESSION_PARAMETERS = ("sessionid", "session_id")


@dataclass(slots=True)
class McpCall(McpAsked):
    """
    The same, with the id as the client wrote it (raw JSON, b"" where there is none): an answer has to repeat its type.

    `meta` is `params._meta` as it stands in the body, b"" where it is absent, None where nobody has looked.
    """

    raw_id: bytes = b""
    meta: bytes | None = field(default=None, compare=False, repr=False)


class _Meta(
    msgspec.Struct,
    gc=False,
    rename={"progress_token": "progressToken", "protocol_version": "io.modelcontextprotocol/protocolVersion"},
):
    progress_token: Raw = NOTHING
    protocol_version: Raw = NOTHING
    traceparent: Raw = NOTHING
    tracestate: Raw = NOTHING
    baggage: Raw = NOTHING


class _Params(
    msgspec.Struct, gc=False, rename={"meta": "_meta", "request_id": "requestId", "protocol_version": "protocolVersion"}
):
    name: Raw = NOTHING
    uri: Raw = NOTHING
    ref: Raw = NOTHING
    arguments: Raw = NOTHING
    request_id: Raw = NOTHING
    protocol_version: Raw = NOTHING
    meta: Raw = NOTHING


class _Reference(msgspec.Struct, gc=False):
    name: Raw = NOTHING
    uri: Raw = NOTHING


class _Called(msgspec.Struct, gc=False):
    """A message as nearly all are, in one decode."""

    id: Raw = NOTHING
    method: Raw = NOTHING
    params: _Params | None = None
    result: Raw = NOTHING
    error: Raw = NOTHING


_called = msgspec.json.Decoder(_Called).decode
_params = msgspec.json.Decoder(_Params)
_meta = msgspec.json.Decoder(_Meta)
_reference = msgspec.json.Decoder(_Reference)


def operation_of(heading: Heading) -> str:
    """
    Return what a head says, `MESSAGE`, `GUESS`, `LISTEN` or `END_SESSION`, or "" where it speaks of no MCP.

    A client of Streamable HTTP always accepts JSON and event streams together, which is a guess; one of HTTP+SSE is known by
    its path and the session in its query. A path that ends in `/mcp` or `/sse` is taken at its word. Clients of A2A name their
    protocol.
    """
    fields = heading.fields
    if "a2a-version" in fields or "a2a-extensions" in fields:
        return ""
    path = heading.path.rstrip("/")
    has_fields = "mcp-session-id" in fields or "mcp-protocol-version" in fields or "mcp-method" in fields
    accepted = fields.get("accept", "").lower()
    if heading.method == "POST":
        if heading.media_type != "application/json":
            return ""
        if has_fields or path.endswith(("/mcp", "/sse")) or _is_of_a_stream(path, heading.query):
            return MESSAGE
        return GUESS if "application/json" in accepted and "text/event-stream" in accepted else ""
    if heading.method == "GET":
        is_ours = "text/event-stream" in accepted and (has_fields or path.endswith(("/mcp", "/sse")))
        return LISTEN if is_ours else ""
    return END_SESSION if heading.method == "DELETE" and "mcp-session-id" in fields else ""


def _is_of_a_stream(path: str, query: str) -> bool:
    """HTTP+SSE has no name for where messages go; every SDK puts the session into the query of a path like these."""
    return path.endswith(("/message", "/messages")) and bool(session_in(query))


def session_in(query: str) -> str:
    """The session that the query of an HTTP+SSE message names, as `sessionId` or `session_id`."""
    for name, value in parse_qsl(query[:4096]):
        if name.lower() in _SESSION_PARAMETERS:
            return value[:MOST_TEXT]
    return ""


def call_of(operation: str, heading: Heading, body: bytes) -> McpCall:
    """Read a request; raises `Unreadable` where a POST's body is no message, or a guess was wrong."""
    session = heading.only("mcp-session-id")[:MOST_TEXT] or (session_in(heading.query) if heading.query else "")
    version = heading.only("mcp-protocol-version")[:MOST_TEXT]
    if operation in (LISTEN, END_SESSION):
        listens = operation == LISTEN
        return McpCall("mcp", operation, streams=listens, is_standing=listens, session=session, protocol_version=version)
    named = heading.fields.get("mcp-name", "")
    if ", " in named:  # two lines of it, or a name with a comma: nobody can tell, and what is named in the body counts anyway
        named = ""
    call = message_of(body, session, version, named)
    if operation == GUESS and not is_method(call.operation):
        raise Unreadable("no method of MCP")
    return call


def is_method(name: str) -> bool:
    """
    Whether MCP alone has a method of this name, in any of its versions.

    `tasks/get` and its kin are A2A's too; where MCP has them (2025-11-25), its heads name the version.
    """
    return name in _METHODS or name.startswith(_FAMILIES)


def message_of(body: bytes, session: str = "", version: str = "", named: str = "") -> McpCall:
    """Read one message or batch, whatever brought it; `named` is the value of `Mcp-Name`. Raises `Unreadable`."""
    count = 1
    if len(body) <= LONG_BYTES or is_as_usual(body):
        try:
            message = _called(body)
            params = message.params or _NO_PARAMS
        except (ValueError, RecursionError):  # a batch, or parameters that are no object
            check_again(body)
            message, params, count = _described(body)
    else:
        message, params, count = _described(body)
    raw_id = b""
    if message.id and len(message.id) <= MOST_ID_BYTES:
        raw_id = bytes(message.id)
        if not raw_id.isdigit() and key(raw_id) is None:
            raw_id = b""
    if not message.method:
        if not (message.result or message.error):
            raise Unreadable("the message is neither a request, nor a notification, nor a response")
        return McpCall(
            "mcp", RESPONSE, id=text(raw_id), session=session, protocol_version=version, count=count, raw_id=raw_id
        )  # fmt: skip
    method = text(message.method)
    meta = members(params.meta, _meta, _NO_META) if params.meta else _NO_META
    listens = method == _LISTENS
    progress_token = text(meta.progress_token)
    # By position, as that costs a third: dialect, operation, streams, is_standing, id, target, arguments, session, version, …
    return McpCall(
        "mcp",
        method,
        listens or bool(progress_token),
        listens,
        text(raw_id),
        _target(method, params) or (_decoded(named)[:MOST_TEXT] if named else ""),
        bytes(params.arguments) if len(params.arguments) <= MOST_ARGUMENT_BYTES else b"",
        session,
        version or text(meta.protocol_version) or text(params.protocol_version),
        progress_token,
        _context(meta.traceparent) if meta.traceparent else b"",
        _context(meta.tracestate) if meta.tracestate else b"",
        _context(meta.baggage) if meta.baggage else b"",
        text(params.request_id) if method == "notifications/cancelled" else "",
        count,
        raw_id,
        bytes(params.meta) if len(params.meta) <= _QUICK_BYTES else None,
    )


def _described(body: bytes) -> "tuple[_Called, _Params, int]":
    """The same for whatever is not one message with an object in it; each part is read by itself."""
    message, count = described(body)
    params = members(message.params, _params, _NO_PARAMS)
    return _Called(message.id, message.method, None, message.result, message.error), params, count


def with_context(meta: bytes, context: Mapping[str, bytes]) -> bytes:
    """Return an object `_meta` with these members in it; those that are b"" are left as they are. Raises `Unreadable`."""
    known = members(meta, _meta, _NO_META)
    added = []
    for name, value in context.items():
        if not value:
            continue
        encoded = msgspec.json.encode(value.decode("utf-8", "replace"))
        if getattr(known, name):
            meta = put(meta, (name,), encoded)
        else:
            added.append(b'"%b":%b' % (name.encode(), encoded))
    if not added:
        return meta
    before = meta.rstrip()[:-1]
    return before + (b"," if before.rstrip()[-1:] != b"{" else b"") + b",".join(added) + b"}"


def quickly_with_context(body: bytes, context: Mapping[str, bytes]) -> bytes:
    """
    Return a request with these members in its `_meta`, at a part of what a search for the place costs; b"" where that is needed.

    The decoder tells what stands in a place, not where; but what stands only once in the body stands there.
    """
    if len(body) > 2 * _QUICK_BYTES:
        return b""
    params = bytes(described(body)[0].params)
    if params[:1] != b"{" or len(params) > _QUICK_BYTES:
        return b""
    at = body.find(params)
    if body.find(params, at + 1) >= 0:
        return b""
    meta = bytes(members(params, _params, _NO_PARAMS).meta)
    if meta:
        within = params.find(meta)
        if meta[:1] != b"{" or params.find(meta, within + 1) >= 0:
            return b""
        changed = params[:within] + with_context(meta, context) + params[within + len(meta) :]
    else:
        before = params[:-1].rstrip()
        comma = b"" if before == b"{" else b","
        changed = before + comma + b'"_meta":' + with_context(b"{}", context) + params[len(before) :]
    return body[:at] + changed + body[at + len(params) :]


def long_with_context(body: bytes, meta: bytes, context: Mapping[str, bytes]) -> bytes:
    """
    Return a long request with these members in its `_meta`, which is the text `meta` (b"": absent), at the cost of a copy.

    b"" where its parameters do not stand near the beginning, or where `_meta` is not the first of them: then a search is needed.
    """
    at = body.find(b'"params"', 0, _HEAD_BYTES)
    begin = _OBJECT_AT(body, at + 8) if at > 0 and body[at - 1] != 0x5C else None
    if begin is None:
        return b""
    try:  # what precedes the name of a member is, with another one behind it, an object; it is so for nothing else
        msgspec.json.decode(body[:at] + b'"":0}', type=dict[str, Raw])
    except (ValueError, RecursionError):
        return b""
    place = begin.end()
    there = _META_AT(body, place)
    if not meta and there is None:
        comma = b"" if _EMPTY_AT(body, place) else b","
        return swap(body, (place, place), b'"_meta":' + with_context(b"{}", context) + comma)
    if there is not None and meta[:1] == b"{" and body.startswith(meta, there.end()):
        return swap(body, (there.end(), there.end() + len(meta)), with_context(meta, context))
    return b""


def _target(method: str, params: _Params) -> str:
    """What a method is about: a tool's or prompt's name, a resource's URI."""
    if method in _BY_URI:
        return text(params.uri)
    if method == "completion/complete":
        reference = members(params.ref, _reference, _NO_REFERENCE)
        return text(reference.name) or text(reference.uri)
    return text(params.name) if method in ("tools/call", "prompts/get") else ""


def _context(raw: Raw) -> bytes:
    return text(raw, MOST_CONTEXT_BYTES).encode() if raw and len(raw) <= MOST_CONTEXT_BYTES + 2 and is_text(raw) else b""


def _decoded(named: str) -> str:
    """A value of `Mcp-Name`; what a field cannot hold as it is stands there in Base64 (2026-07-28, standard headers)."""
    if not (named.startswith("=?base64?") and named.endswith("?=")):
        return named
    try:
        return b64decode(named[9:-2], validate=True).decode()
    except (ValueError, binascii.Error):
        return named


_NO_PARAMS = _Params()
_NO_META = _Meta()
_NO_REFERENCE = _Reference()
