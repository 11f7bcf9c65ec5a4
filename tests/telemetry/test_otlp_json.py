import json
import math
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.telemetry.otlp import message
from sidecar.telemetry.otlp_json import from_json, to_json
from sidecar.telemetry.signals import Signal
from tests.telemetry.requests import request_of

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.builds(AnyValue, string_value=TEXTS)
    | st.builds(AnyValue, bool_value=st.booleans())
    | st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1))
    | st.builds(AnyValue, double_value=st.floats(allow_nan=False))
    | st.builds(AnyValue, bytes_value=st.binary(max_size=20)),
    lambda values: st.lists(values, max_size=3).map(lambda found: AnyValue(array_value={"values": found})),
    max_leaves=5,
)
SPANS = st.builds(
    Span,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    parent_span_id=st.binary(max_size=8),
    name=TEXTS,
    kind=st.integers(0, 5),
    start_time_unix_nano=st.integers(0, 2**64 - 1),
    flags=st.integers(0, 2**32 - 1),
    dropped_attributes_count=st.integers(0, 5),
    attributes=st.lists(st.builds(dict, key=TEXTS, value=VALUES), max_size=3),
)


@given(SPANS)
def test_what_was_written_reads_back(span: Any) -> None:
    assert from_json(to_json(span), Span()) == span


@pytest.mark.parametrize("signal", Signal)
def test_every_signal_is_written_and_read(signal: Signal) -> None:
    request = request_of(signal)
    written = to_json(request)
    assert b"\n" not in written
    assert from_json(written, message(signal)()) == request


def test_it_is_protobufs_json_but_for_ids_and_enums() -> None:
    request = request_of(Signal.METRICS)
    assert json.loads(to_json(request)) == MessageToDict(request, use_integers_for_enums=True)


def test_ids_are_hexadecimal_enums_numbers_and_long_integers_strings() -> None:
    span = Span(trace_id=b"\xab" * 16, span_id=b"\x01" * 8, kind=Span.SPAN_KIND_CLIENT, start_time_unix_nano=5, flags=257)
    span.attributes.add(key="b").value.bytes_value = b"\xff\xfe"
    span.status.code = 2
    assert json.loads(to_json(span)) == {
        "traceId": "ab" * 16,
        "spanId": "01" * 8,
        "kind": 3,
        "startTimeUnixNano": "5",
        "flags": 257,
        "attributes": [{"key": "b", "value": {"bytesValue": "//4="}}],
        "status": {"code": 2},
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_doubles_that_json_does_not_know_are_words(value: float) -> None:
    written = to_json(AnyValue(double_value=value))
    assert json.loads(written)["doubleValue"] in ("NaN", "Infinity", "-Infinity")
    found = from_json(written, AnyValue()).double_value
    assert found == value or (math.isnan(found) and math.isnan(value))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"traceId": "AB" * 16}, Span(trace_id=b"\xab" * 16)),
        ({"startTimeUnixNano": 5, "endTimeUnixNano": "6"}, Span(start_time_unix_nano=5, end_time_unix_nano=6)),
        ({"kind": 99}, Span(kind=99)),  # enums are open: a newer sender may know more
        ({"trace_id": "ab", "nobodyKnows": {"a": [1]}, "name": None}, Span()),
        ({"status": {}}, Span(status={})),
        ({}, Span()),
    ],
)
def test_decoders_are_lenient_where_otlp_says_so(written: dict[str, Any], expected: Any) -> None:
    assert from_json(json.dumps(written).encode(), Span()) == expected


def test_base64_may_be_url_safe_and_without_padding() -> None:
    for written in ("//4=", "//4", "__4"):
        assert from_json(json.dumps({"bytesValue": written}).encode(), AnyValue()).bytes_value == b"\xff\xfe"
    assert from_json(b'{"doubleValue": 3}', AnyValue()).double_value == 3.0
    assert from_json(b'{"boolValue": true}', AnyValue()).bool_value is True


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("[]", "the request"),
        ('{"resourceSpans": {}}', "resourceSpans: a list"),
        ('{"resourceSpans": [1]}', r"resourceSpans\[0\]: an object"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xy"}]}]}]}', r"spans\[0\].traceId: an id is hexadecimal"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 5}]}]}]}', "a string"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": "SPAN_KIND_CLIENT"}]}]}]}', "an enum is its number"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": true}]}]}]}', "an enum is its number"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "x"}]}]}]}', "an integer"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 1.5}]}]}]}', "an integer"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": -1}]}]}]}', "startTimeUnixNano"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "99999999999999999999999"}]}]}]}', "an integer"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 1}]}]}]}', "a string"),
        ('{"resourceSpans": [{"schemaUrl": "\\ud800 and so on"}]}', r"surrogate pair \(byte \d+\)"),
        ('{"resourceSpans": [{"resource": {"entityRefs": [{"idKeys": [1]}]}}]}', r"idKeys\[0\]: a string"),
        ("{", "truncated"),
        ('{"resourceSpans": [1,]}', r"malformed: .*\(byte 21\)"),
        ('{"resourceSpans": NaN}', r"malformed: .*\(byte \d+\)"),
        ("\xff", r"malformed: .*\(byte 0\)"),
        ("[" * 100_000, "deeply"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(written: str, place: str) -> None:
    with pytest.raises(ValueError, match=place):
        from_json(written.encode("latin-1"), ExportTraceServiceRequest())


@pytest.mark.parametrize(
    "written", ['{"boolValue": 1}', '{"doubleValue": "x"}', '{"doubleValue": true}', '{"bytesValue": "a"}', '{"bytesValue": "%%%%"}']
)
def test_values_of_the_wrong_kind_are_refused(written: str) -> None:
    with pytest.raises(ValueError):
        from_json(written.encode(), AnyValue())


def test_values_nested_without_end_are_refused() -> None:
    depth = 5_000
    written = '{"arrayValue":{"values":[' * depth + "]}}" * depth
    with pytest.raises(ValueError):
        from_json(written.encode(), AnyValue())
