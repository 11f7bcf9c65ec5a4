"""
What OTLP is made of: paths, services and messages of the three signals, partial success, and google.rpc.Status.

Source: opentelemetry-proto 1.11.0, docs/specification.md. Protobuf's own classes are loaded only by those who call `message`.
"""

import importlib
from collections.abc import Iterator
from typing import Any

from sidecar.telemetry.signals import Signal
from sidecar.telemetry.wire import Malformed, field, fields, utf8, varint

MAX_RESPONSE_BYTES = 4 * 1024 * 1024
"""A client reads no more of an answer than this (message size limits)."""

HTTP_PATHS = {signal: f"/v1/{signal}" for signal in Signal}
"""Where each signal is posted to, behind the base of an endpoint."""

GRPC_METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
"""The unary call of each signal."""

_MODULES = {
    Signal.TRACES: ("opentelemetry.proto.collector.trace.v1.trace_service_pb2", "ExportTraceService"),
    Signal.METRICS: ("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", "ExportMetricsService"),
    Signal.LOGS: ("opentelemetry.proto.collector.logs.v1.logs_service_pb2", "ExportLogsService"),
}

NESTING = {
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
}
"""The repeated fields on the way from a request to its items."""

_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"


def message(signal: Signal) -> Any:
    """The class of an Export…ServiceRequest; the first call loads protobuf (4 MiB, 30 ms): make it in a thread."""
    module, name = _MODULES[signal]
    return getattr(importlib.import_module(module), f"{name}Request")


def parse(signal: Signal, body: bytes) -> Any:
    """The request as a message; raises ValueError where it is none."""
    from google.protobuf.message import DecodeError  # protobuf weighs, and is loaded only where it is used

    try:
        return message(signal).FromString(body)
    except DecodeError as error:
        raise ValueError(str(error)) from None


def items_of(signal: Signal, leaf: Any) -> int:
    """How many items a span, log record or metric is: a metric counts with its data points."""
    if signal is not Signal.METRICS:
        return 1
    kind = leaf.WhichOneof("data")
    return len(getattr(leaf, kind).data_points) if kind else 0


def leaves(signal: Signal, request: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every span, metric or log record of a parsed request, with its resource's and its scope's envelope."""
    upper, middle, lower = NESTING[signal]
    for resource in getattr(request, upper):
        for scope in getattr(resource, middle):
            for leaf in getattr(scope, lower):
                yield resource, scope, leaf


def count(signal: Signal, request: Any) -> int:
    """How many spans, data points or log records a parsed request holds."""
    return sum(items_of(signal, leaf) for _, _, leaf in leaves(signal, request))


def split(signal: Signal, body: bytes, most_items: int, most_bytes: int) -> Iterator[tuple[bytes, int]]:
    """
    Cut a serialized request into such of at most so many items and bytes; pairs of bytes and items.

    What cannot be cut (one span, one metric with its points) stays whole, however large. Raises ValueError where the body is
    no request.
    """
    upper, middle, lower = NESTING[signal]
    piece, items, size = message(signal)(), 0, 0
    last: tuple[Any, Any] = (None, None)
    target: Any = None
    for resource, scope, leaf in leaves(signal, parse(signal, body)):
        leaf_items, leaf_size = items_of(signal, leaf), leaf.ByteSize() + 8
        if size and (items + leaf_items > most_items or size + leaf_size > most_bytes):
            yield piece.SerializeToString(), items
            piece, items, size, last = message(signal)(), 0, 0, (None, None)
        if last[0] is not resource or last[1] is not scope:
            envelope = getattr(piece, upper).add(resource=resource.resource, schema_url=resource.schema_url)
            inner = getattr(envelope, middle).add(scope=scope.scope, schema_url=scope.schema_url)
            target, last = getattr(inner, lower), (resource, scope)
            size += envelope.ByteSize() + 8
        target.append(leaf)
        items += leaf_items
        size += leaf_size
    if size:
        yield piece.SerializeToString(), items


def partial_success(response: bytes) -> tuple[int, str]:
    """Rejected items and the message of a serialized Export…ServiceResponse; raises Malformed where it is none."""
    rejected, text = 0, ""
    for number, value in fields(response):
        if number != 1 or not isinstance(value, bytes):
            continue
        for inner, found in fields(value):
            if inner == 1 and isinstance(found, int):
                rejected = found if found < 2**63 else 0
            elif inner == 2 and isinstance(found, bytes):
                text = found.decode("utf-8", "replace")
    return rejected, text


def status(code: int, text: str, *, retry_after_s: float | None = None) -> bytes:
    """A serialized google.rpc.Status; with `retry_after_s` a google.rpc.RetryInfo stands in its details."""
    details = b""
    if retry_after_s is not None:
        delay = b"\x08" + varint(int(retry_after_s)) + b"\x10" + varint(int(retry_after_s % 1 * 1e9))
        details = field(3, field(1, _RETRY_INFO) + field(2, field(1, delay)))
    return b"\x08" + varint(code) + field(2, utf8(text)) + details


def status_of(body: bytes) -> tuple[str, float | None]:
    """Message and retry delay in seconds of a serialized google.rpc.Status; raises Malformed where it is none."""
    text, retry_after_s = "", None
    for number, value in fields(body):
        if number == 2 and isinstance(value, bytes):
            text = value.decode("utf-8", "replace")
        elif number == 3 and isinstance(value, bytes):
            detail = dict(fields(value))
            if detail.get(1) == _RETRY_INFO:
                retry_after_s = _retry_delay_s(detail.get(2, b""))
    return text, retry_after_s


def _retry_delay_s(retry_info: int | bytes) -> float:
    if not isinstance(retry_info, bytes):
        raise Malformed("a RetryInfo has to be a message")
    duration = dict(fields(retry_info)).get(1, b"")
    if not isinstance(duration, bytes):
        raise Malformed("a Duration has to be a message")
    parts = dict(fields(duration))
    seconds, nanos = parts.get(1, 0), parts.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int) or max(seconds, nanos) >= 2**63:
        return 0.0  # a negative delay is none
    return seconds + nanos / 1e9
