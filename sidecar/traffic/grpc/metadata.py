"""
What a gRPC call brings along: read once, and told apart into what is for the sidecar and what goes on.

Keys keep their order and may stand there several times; a value is text, or bytes where its key ends in `-bin`. What is for one
hop, or is gRPC's own to write, does not go on: the channel to the upstream writes its own.
"""

import base64
import logging
from collections.abc import Iterable

from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.trace import format_traceparent
from sidecar.traffic.wire.request_head import RequestHead

Pair = tuple[str, str | bytes]

DESTINATION_KEY = "x-sidecar-authority"
"""Names the upstream, as `host:port`, where several routes lead to the same service; it goes no further."""

_HOP = frozenset((
    "connection", "content-length", "content-type", "grpc-accept-encoding", "grpc-encoding", "grpc-message", "grpc-status",
    "grpc-timeout", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
))  # fmt: skip
_READ = frozenset((
    "baggage", "proxy-authorization", "traceparent", "tracestate", "via", "x-agent-id", "x-agent-task-id", DESTINATION_KEY,
))  # fmt: skip
_WRITTEN = frozenset(("baggage", "traceparent", "tracestate", "via"))
"""What is read here, and goes on as well."""
_LENGTH_UNKNOWN = -2
"""As of a chunked request: how many bytes will come is known when they have."""


class CallHead(RequestHead):
    """
    The head of a gRPC call: its path, who calls, its trace, and in `pairs` the metadata that goes on.

    `destination` is what the call says of where to go, "" where it leaves that to its path. `unwritable` is the key of a value
    that cannot go on, "" where there is none.
    """

    pairs: list[Pair]
    destination = ""
    unwritable = ""


def read_head(path: str, metadata: Iterable[Pair]) -> CallHead:
    """Tell the metadata of a call apart; nothing in it is an error."""
    head = CallHead()
    head.method = b"POST"
    head.target = path.encode()
    head.is_1_1 = head.keep_alive = True
    head.length = _LENGTH_UNKNOWN
    head.pairs = []
    for key, value in metadata:
        if key in _READ:
            _take(head, key, value if isinstance(value, bytes) else value.encode())
        elif key not in _HOP:
            head.pairs.append((key, value))
            if not can_be_written(value):
                head.unwritable = key
    head.lines = [b"POST %b HTTP/2" % head.target, *(line(key, value) for key, value in head.pairs)]
    return head


def can_be_written(value: str | bytes) -> bool:
    """
    Whether gRPC allows a value: printable ASCII, or bytes (of a key that ends in `-bin`).

    The library lets others through as it reads (UTF-8, Latin-1), and refuses to write them.
    """
    return isinstance(value, bytes) or (value.isascii() and value.isprintable())


def _take(head: CallHead, key: str, value: bytes) -> None:
    if key in _WRITTEN and not can_be_written(value.decode()):
        return  # as if it were not there, as any other invalid trace context
    match key:
        case "traceparent":
            head.traceparents += (value,)
        case "tracestate":
            head.tracestates += (value,)
        case "baggage":
            head.baggage += (value,)
        case "x-agent-id":
            head.agent = value
        case "x-agent-task-id":
            head.task = value
        case "proxy-authorization":
            head.proxy_authorization = value if not head.proxy_authorization else head.proxy_authorization + b", " + value
        case "via":
            head.via += (value,)
        case _:
            head.destination = value.decode()


def hide_values() -> None:
    """Keep the library from logging values: it does so with those that are no UTF-8, and they may be credentials."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_tells_no_value)


def _tells_no_value(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Invalid encoding on")


def line(key: str, value: str | bytes) -> bytes:
    """One field line as a policy reads it; bytes stand there in base64, as they do on the wire."""
    return b"%b: %b" % (key.encode(), base64.b64encode(value) if isinstance(value, bytes) else value.encode())


def going_on(
    head: CallHead, exchange: Exchange, attempt: Attempt, via: str, *, has_baggage: bool, takes_part: bool
) -> tuple[Pair, ...]:
    """
    The metadata of one attempt: what goes on, then what is the sidecar's to write.

    `via` is our own entry. With `takes_part` the trace context is the attempt's, without it the agent's goes on as it came.
    """
    own: list[Pair] = [("via", b", ".join((*head.via, via.encode())).decode())]
    if has_baggage:
        own += [("baggage", value.decode()) for value in head.baggage]
    if takes_part:
        own.append(("traceparent", format_traceparent(exchange.trace_id, attempt.span_id, exchange.flags).decode()))
        if exchange.tracestate:
            own.append(("tracestate", exchange.tracestate.decode()))
    else:
        own += [("traceparent", value.decode()) for value in head.traceparents]
        own += [("tracestate", value.decode()) for value in head.tracestates]
    return (*head.pairs, *own)


def coming_back(metadata: Iterable[Pair]) -> tuple[Pair, ...]:
    """The metadata of a response, or its trailers, without what is for one hop, and without what gRPC does not allow."""
    return tuple((key, value) for key, value in metadata if key not in _HOP and can_be_written(value))
