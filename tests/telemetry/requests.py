"""OTLP requests of other senders, as protobuf's own classes write them."""

import time
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.telemetry.signals import Signal


def traces(spans: int = 1, *, resources: int = 1, padding: int = 0) -> ExportTraceServiceRequest:
    """So many spans under each resource, with one attribute of `padding` characters."""
    request = ExportTraceServiceRequest()
    now = time.time_ns()
    for resource_number in range(resources):
        resource = request.resource_spans.add(schema_url="https://example.org/schema")
        _name(resource.resource, f"agent-{resource_number}")
        scope = resource.scope_spans.add()
        scope.scope.name = "agent"
        for number in range(spans):
            span = scope.spans.add(name=f"span {number}", kind=1, start_time_unix_nano=now - 10**9, end_time_unix_nano=now)
            span.trace_id = (now + resource_number).to_bytes(16, "big")
            span.span_id = (number + 1).to_bytes(8, "big")
            if padding:
                span.attributes.add(key="padding").value.string_value = "x" * padding
    return request


def metrics(points: int = 2) -> ExportMetricsServiceRequest:
    """One sum with so many points, and one metric without data."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    _name(resource.resource, "agent")
    scope = resource.scope_metrics.add()
    metric = scope.metrics.add(name="calls", unit="{call}")
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = 2
    for number in range(points):
        metric.sum.data_points.add(as_int=number, time_unix_nano=time.time_ns())
    scope.metrics.add(name="nothing")
    return request


def logs(records: int = 1) -> ExportLogsServiceRequest:
    """So many log records."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    _name(resource.resource, "agent")
    scope = resource.scope_logs.add()
    for number in range(records):
        record = scope.log_records.add(time_unix_nano=time.time_ns(), severity_number=9, severity_text="INFO")
        record.body.string_value = f"line {number}"
    return request


def request_of(signal: Signal, items: int = 2) -> Any:
    """A request of this signal with so many items."""
    return {Signal.TRACES: traces, Signal.METRICS: metrics, Signal.LOGS: logs}[signal](items)


def _name(resource: Any, name: str) -> None:
    resource.attributes.add(key="service.name").value.string_value = name
