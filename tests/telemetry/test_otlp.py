from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from sidecar.telemetry import otlp
from sidecar.telemetry.signals import Signal
from sidecar.telemetry.wire import Malformed
from tests.telemetry.requests import metrics, request_of, traces

PB = {Signal.TRACES: trace_service_pb2, Signal.METRICS: metrics_service_pb2, Signal.LOGS: logs_service_pb2}


@pytest.mark.parametrize("signal", Signal)
def test_paths_and_methods_are_those_of_the_services(signal: Signal) -> None:
    (service,) = PB[signal].DESCRIPTOR.services_by_name.values()
    (method,) = service.methods
    assert otlp.GRPC_METHODS[signal] == f"/{service.full_name}/{method.name}"
    assert otlp.message(signal).DESCRIPTOR is method.input_type
    assert otlp.HTTP_PATHS[signal] == f"/v1/{signal.value}"


@pytest.mark.parametrize("signal", Signal)
def test_items_are_counted_data_points_for_metrics(signal: Signal) -> None:
    assert otlp.count(signal, request_of(signal, 5)) == 5
    assert otlp.count(signal, otlp.parse(signal, b"")) == 0


@pytest.mark.parametrize("signal", Signal)
def test_what_is_no_request_is_refused(signal: Signal) -> None:
    with pytest.raises(ValueError):
        otlp.parse(signal, b"\x0a\x05garbage")


def names(request: Any) -> list[tuple[str, str, str, str]]:
    return [
        (resource.resource.attributes[0].value.string_value, resource.schema_url, scope.scope.name, leaf.name)
        for resource, scope, leaf in otlp.leaves(Signal.TRACES, request)
    ]


@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 12))
def test_splitting_keeps_every_span_under_its_resource_and_scope(resources: int, spans: int, most: int) -> None:
    whole = traces(spans, resources=resources)
    pieces = list(otlp.split(Signal.TRACES, whole.SerializeToString(), most, 2**20))
    parsed = [otlp.parse(Signal.TRACES, piece) for piece, _ in pieces]
    assert [name for piece in parsed for name in names(piece)] == names(whole)
    assert [otlp.count(Signal.TRACES, piece) for piece in parsed] == [items for _, items in pieces]
    assert all(0 < items <= most for _, items in pieces)
    assert all(items == most for _, items in pieces[:-1])


def test_splitting_keeps_to_the_bytes_where_it_can() -> None:
    whole = traces(20, resources=3, padding=500).SerializeToString()
    pieces = list(otlp.split(Signal.TRACES, whole, 1000, 2048))
    assert sum(items for _, items in pieces) == 60
    assert all(len(piece) <= 2048 for piece, _ in pieces)
    assert len(pieces) < 30
    alone = list(otlp.split(Signal.TRACES, traces(2, padding=5000).SerializeToString(), 1000, 2048))
    assert [items for _, items in alone] == [1, 1]


def test_a_metric_stays_whole_with_its_points() -> None:
    body = metrics(10).SerializeToString()
    assert [items for _, items in otlp.split(Signal.METRICS, body, 3, 2**20)] == [10, 0]


def test_nothing_splits_to_nothing_and_garbage_to_an_error() -> None:
    assert list(otlp.split(Signal.LOGS, b"", 5, 5000)) == []
    with pytest.raises(ValueError):
        list(otlp.split(Signal.LOGS, b"\x0a\x05x", 5, 5000))


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("rejected", [0, 7, 2**40, -1])
def test_a_partial_success_is_read(signal: Signal, rejected: int) -> None:
    name = {Signal.TRACES: "rejected_spans", Signal.METRICS: "rejected_data_points", Signal.LOGS: "rejected_log_records"}[signal]
    response = getattr(PB[signal], otlp.message(signal).__name__.replace("Request", "Response"))()
    setattr(response.partial_success, name, rejected)
    response.partial_success.error_message = "zu älter"
    assert otlp.partial_success(response.SerializeToString()) == (max(rejected, 0), "zu älter")


def test_full_success_is_no_partial_success() -> None:
    assert otlp.partial_success(b"") == (0, "")
    assert otlp.partial_success(b"\x10\x01") == (0, "")  # a field that we do not know
    with pytest.raises(Malformed):
        otlp.partial_success(b"\x0a\x05x")


@given(st.integers(0, 16), st.text(st.characters(exclude_categories=("Cs",)), max_size=50), st.none() | st.floats(0, 1e6))
def test_a_status_reads_back(code: int, text: str, retry_after_s: float | None) -> None:
    found, after_s = otlp.status_of(otlp.status(code, text, retry_after_s=retry_after_s))
    assert found == text
    assert after_s == (None if retry_after_s is None else pytest.approx(retry_after_s, abs=1e-6))


@pytest.mark.parametrize(
    ("retry_info", "expected"),
    [
        (b"", 0.0),
        (b"\x0a\x00", 0.0),
        (b"\x0a\x02\x08\x03", 3.0),
        (b"\x0a\x06\x10\x80\xca\xb5\xee\x01", 0.5),
        (b"\x0a\x0b\x08" + b"\xff" * 9 + b"\x01", 0.0),
    ],
    ids=["empty", "no time", "3 s", "0.5 s", "negative"],
)
def test_a_retry_delay_is_seconds_and_nanoseconds(retry_info: bytes, expected: float) -> None:
    kind = b"type.googleapis.com/google.rpc.RetryInfo"
    detail = b"\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(retry_info)]) + retry_info
    other = b"\x0a\x05other"
    status = b"\x08\x0e\x1a" + bytes([len(other)]) + other + b"\x1a" + bytes([len(detail)]) + detail
    assert otlp.status_of(status) == ("", expected)


@pytest.mark.parametrize(
    "value", [b"\x12\x03\x0a\x05x", b"\x10\x01", b"\x12\x02\x08\x01"], ids=["cut", "a number", "a number inside"]
)
def test_a_broken_retry_info_is_malformed(value: bytes) -> None:
    kind = b"type.googleapis.com/google.rpc.RetryInfo"
    detail = b"\x0a" + bytes([len(kind)]) + kind + value
    with pytest.raises(Malformed):
        otlp.status_of(b"\x1a" + bytes([len(detail)]) + detail)
