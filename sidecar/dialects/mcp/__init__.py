"""
MCP, both eras: with sessions (2024-11-05 to 2025-11-25), and without (2026-07-28); Streamable HTTP, HTTP+SSE, and stdio.

`questions.py` reads what clients send, `answers.py` what servers do. Operations are JSON-RPC methods; `response` is a client's
answer to a request of the server's, `listen` the GET of a standing stream, `end_session` the DELETE of a session.

Sources: https://modelcontextprotocol.io/specification/2025-11-25 and 2026-07-28 (basic, transports, server, client, schema).
"""

import math
from collections.abc import Mapping

from sidecar.dialects import jsonrpc, sse
from sidecar.dialects.dialect import BodyEdit, Change, Heading, Meta, Reader, Reroute, Spoken, Unreadable
from sidecar.dialects.mcp.answers import reader_of
from sidecar.dialects.mcp.content import content
from sidecar.dialects.mcp.endpoint import EndpointLed
from sidecar.dialects.mcp.questions import (
    LISTEN,
    McpCall,
    call_of,
    long_with_context,
    operation_of,
    quickly_with_context,
    with_context,
)
from sidecar.dialects.splice import find, put
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked
from sidecar.model.errors import Refused

name = "mcp"
is_about_models = False

__all__ = ["content", "edit", "ending", "error", "is_about_models", "name", "operation", "reader", "request", "takes_out"]

_UNDERSTOOD = {403, 407, 413, 429}
"""Statuses below 500 in which no client sees anything but an error."""


def operation(heading: Heading) -> str:
    """Return `message`, `listen` or `end_session`; the method is known when the body is."""
    return operation_of(heading)


def request(operation: str, heading: Heading, body: bytes) -> Asked:
    """Read a message, or the opening of a stream."""
    return call_of(operation, heading, body)


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return the reader of a JSON body or a stream of events; anything else has no message in it."""
    return reader_of(asked, status, content_type, fields)


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """
    Say it as a JSON-RPC error with the call's id.

    Clients take 400, 404 and 405 (some: 401 too) as a word about the protocol's version or the session, and begin anew with an
    older one; so whatever is not plainly understood as an error becomes 403, and the JSON-RPC error says what was wrong.
    """
    status = refused.meaning.status
    if status not in _UNDERSTOOD and status < 500:
        status = 403
    raw_id = asked.raw_id if isinstance(asked, McpCall) else b""
    fields: tuple[tuple[str, str], ...] = ()
    if refused.retry_after_s is not None:
        fields = (("Retry-After", str(max(0, math.ceil(refused.retry_after_s)))),)
    return Spoken(status, "application/json", jsonrpc.refusal(raw_id, refused), fields)


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """
    Answer the call with an error, as the last event; b"" where it has been answered, and where nobody waits for an answer.

    The empty lines before it end an event that was cut in the middle; clients pass over one that is no JSON.
    """
    if answered.is_ended or not isinstance(asked, McpCall) or not asked.raw_id or asked.operation == "response":
        return b""
    return b"\n\n" + sse.event(jsonrpc.refusal(asked.raw_id, Refused(reason)), b"message")


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """
    Write trace context into `params._meta` of a request, which need not have either.

    Raises `Unreadable` for batches, notifications and answers of the client's, and for every other change: MCP does not take
    them.
    """
    if not isinstance(change, Meta):
        raise Unreadable("MCP has no place for it")
    if not isinstance(asked, McpCall) or not asked.raw_id or asked.count != 1 or asked.operation == "response":
        raise Unreadable("only a request by itself takes trace context")
    context = {"traceparent": change.traceparent, "tracestate": change.tracestate, "baggage": change.baggage}
    if not any(context.values()):
        return body
    quickly = quickly_with_context(body, context)
    if not quickly and asked.meta is not None:
        quickly = long_with_context(body, asked.meta, context)
    if quickly:
        return quickly
    place = find(body, ("params", "_meta"))
    if place is None:
        return put(body, ("params", "_meta"), with_context(b"{}", context))
    start, end = place
    meta = body[start:end]
    if meta == b"null":
        meta = b"{}"
    elif meta[:1] != b"{":
        raise Unreadable("params._meta is no object")
    return body[:start] + with_context(meta, context) + body[end:]


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """Return what leads the address of the legacy transport's first event through the gateway; nothing else is put in or out."""
    return EndpointLed(change) if isinstance(change, Reroute) and asked.operation == LISTEN else None
