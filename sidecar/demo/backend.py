"""
A backend for traces, as small as one can be: receives OTLP/HTTP (protobuf), keeps the spans, gives them back decoded.

What the demo shows has come this way, over a socket, so it is what any other backend would have got.
"""

from dataclasses import dataclass
from typing import Any

from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

MAX_SPANS = 10_000
"""Spans that are kept; what comes on top is refused as OTLP says, in `partial_success`."""

_PROTOBUF = "application/x-protobuf"

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """A span as OTLP has it; `kind` is SERVER, CLIENT, …; ids are raw bytes, `parent_id` b"" at a root."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    kind: str
    name: str
    started_ns: int
    ended_ns: int
    failed: bool
    attributes: dict[str, Value]

    @property
    def duration_s(self) -> float:
        """How long it lasted."""
        return (self.ended_ns - self.started_ns) / 1e9


class Backend:
    """The server; `spans` holds what came, in the order in which it came, `refused` counts what found no room."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.refused = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen on a free port of loopback; returns the base URL that OTLP exporters are given."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return "http://{}:{}".format(*self._runner.addresses[0])

    async def stop(self) -> None:
        """Close the port; harmless when called twice or without a start."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _receive(self, request: web.Request) -> web.Response:
        if request.content_type != _PROTOBUF:
            return web.Response(status=415)
        try:
            message = ExportTraceServiceRequest.FromString(await request.read())  # aiohttp has undone gzip
        except DecodeError:
            return web.Response(status=400)
        came = [_span(span) for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]
        room = MAX_SPANS - len(self.spans)
        self.spans += came[:room]
        answer = ExportTraceServiceResponse()
        if len(came) > room:
            self.refused += len(came) - room
            answer.partial_success.rejected_spans = len(came) - room
            answer.partial_success.error_message = f"no more than {MAX_SPANS} spans are kept"
        return web.Response(body=answer.SerializeToString(), content_type=_PROTOBUF)


def _span(span: WireSpan) -> Span:
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        name=span.name,
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes={each.key: _value(each.value) for each in span.attributes},
    )


def _value(value: Any) -> Value:
    """A scalar as it is; arrays and maps, which nobody here reads, as text."""
    kind = value.WhichOneof("value")
    if kind in {"string_value", "int_value", "double_value", "bool_value"}:
        scalar: Value = getattr(value, kind)
        return scalar
    return str(value)
