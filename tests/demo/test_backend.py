import gzip
from collections.abc import AsyncIterator

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from sidecar.demo import backend as module
from sidecar.demo.backend import Backend

PROTOBUF = {"Content-Type": "application/x-protobuf"}
SPAN = WireSpan(
    trace_id=b"t" * 16,
    span_id=b"s" * 8,
    parent_span_id=b"p" * 8,
    name="POST",
    kind=WireSpan.SPAN_KIND_SERVER,
    start_time_unix_nano=1_000_000_000,
    end_time_unix_nano=1_250_000_000,
    status=Status(code=Status.STATUS_CODE_ERROR),
    attributes=[
        KeyValue(key="text", value=AnyValue(string_value="x")),
        KeyValue(key="number", value=AnyValue(int_value=7)),
        KeyValue(key="share", value=AnyValue(double_value=0.5)),
        KeyValue(key="fact", value=AnyValue(bool_value=True)),
        KeyValue(key="list", value=AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1)]))),
    ],
)


def request(*spans: WireSpan) -> bytes:
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])]).SerializeToString()


@pytest.fixture
async def backend() -> AsyncIterator[tuple[Backend, str]]:
    backend = Backend()
    yield backend, await backend.start()
    await backend.stop()
    await backend.stop()


async def export(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/traces", data=body, headers=headers) as response:
        return response.status, await response.read()


async def test_spans_come_back_as_they_were_sent(backend: tuple[Backend, str]) -> None:
    kept, url = backend
    status, answer = await export(url, request(SPAN), PROTOBUF)
    assert (status, ExportTraceServiceResponse.FromString(answer)) == (200, ExportTraceServiceResponse())
    (span,) = kept.spans
    assert (span.trace_id, span.span_id, span.parent_id) == (b"t" * 16, b"s" * 8, b"p" * 8)
    assert (span.kind, span.name, span.failed, span.duration_s) == ("SERVER", "POST", True, 0.25)
    assert {key: span.attributes[key] for key in ("text", "number", "share", "fact")} == {
        "text": "x",
        "number": 7,
        "share": 0.5,
        "fact": True,
    }
    assert "int_value: 1" in str(span.attributes["list"])


async def test_gzip_is_undone(backend: tuple[Backend, str]) -> None:
    kept, url = backend
    status, _ = await export(url, gzip.compress(request(SPAN, SPAN)), PROTOBUF | {"Content-Encoding": "gzip"})
    assert (status, len(kept.spans)) == (200, 2)


async def test_what_is_no_protobuf_is_refused(backend: tuple[Backend, str]) -> None:
    kept, url = backend
    assert (await export(url, b"{}", {"Content-Type": "application/json"}))[0] == 415
    assert (await export(url, b"\xff\xff\xff", PROTOBUF))[0] == 400
    assert kept.spans == []


async def test_spans_beyond_the_bound_are_refused_as_otlp_says(
    backend: tuple[Backend, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SPANS", 3)
    kept, url = backend
    await export(url, request(SPAN, SPAN), PROTOBUF)
    _, answer = await export(url, request(SPAN, SPAN), PROTOBUF)
    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 1
    assert (len(kept.spans), kept.refused) == (3, 1)


async def test_a_backend_that_was_never_started_can_be_stopped() -> None:
    await Backend().stop()
