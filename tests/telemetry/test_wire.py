from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.telemetry import wire
from sidecar.telemetry.wire import Cache, Malformed

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)


def attribute(field: bytes) -> tuple[str, Any]:
    """The only attribute of a Span of which this is the only field."""
    (found,) = Span.FromString(field).attributes
    return found.key, getattr(found.value, found.value.WhichOneof("value"))


@given(st.integers(0, 2**64 - 1))
def test_a_varint_reads_back(number: int) -> None:
    assert list(wire.fields(b"\x08" + wire.varint(number))) == [(1, number)]


@given(TEXTS, TEXTS)
def test_a_text_attribute_is_what_protobuf_reads(key: str, value: str) -> None:
    field = wire.text_attribute(key, value)
    assert attribute(field) == (key, value)
    expected = KeyValue(key=key)
    expected.value.string_value = value
    if key:  # protobuf leaves an empty key out
        assert Span(attributes=[expected]).SerializeToString() == field


@given(st.text(max_size=50))
def test_half_surrogates_do_not_spoil_the_request(value: str) -> None:
    assert attribute(wire.text_attribute("k", value))[1] == value.encode("utf-8", "replace").decode()


def test_a_text_that_is_too_long_is_cut() -> None:
    assert attribute(wire.text_attribute("k", "ä" * 5000))[1] == "ä" * wire.MAX_TEXT_CHARS


@given(st.integers(-5, 2**70))
def test_an_integer_beyond_64_bits_becomes_the_nearest_that_fits(value: int) -> None:
    assert attribute(wire.int_attribute("k", value)) == ("k", min(max(value, 0), 2**63 - 1))


@given(st.floats(allow_nan=False))
def test_a_double_attribute_is_what_protobuf_reads(value: float) -> None:
    assert attribute(wire.double_attribute("k", value)) == ("k", value)


SPANS = st.builds(
    Span, name=TEXTS, trace_id=st.binary(max_size=20), start_time_unix_nano=st.integers(0, 2**64 - 1), flags=st.integers(0, 7)
)


@given(SPANS)
def test_fields_of_what_protobuf_wrote_are_read(span: Any) -> None:
    found = dict(wire.fields(span.SerializeToString()))
    expected = {1: span.trace_id, 5: span.name.encode(), 7: span.start_time_unix_nano, 16: span.flags}
    assert found == {number: value for number, value in expected.items() if value}


@pytest.mark.parametrize(
    "message",
    [b"\x08", b"\x08\x80", b"\x0a\x05abc", b"\x0d\x01", b"\x09\x01\x02", b"\x0b", b"\x08" + b"\xff" * 10 + b"\x01"],
    ids=["no value", "half a varint", "short bytes", "short fixed32", "short fixed64", "group", "endless varint"],
)
def test_broken_bytes_are_malformed(message: bytes) -> None:
    with pytest.raises(Malformed):
        list(wire.fields(message))


def cache(**settings: int) -> tuple[Cache[str], list[str]]:
    written: list[str] = []

    def write(key: str) -> bytes:
        written.append(key)
        return key.encode()

    return Cache(write, weight=len, **{"limit": 3, "most_bytes": 20, **settings}), written


def test_a_cache_writes_once() -> None:
    kept, written = cache()
    assert (kept["a"], kept["a"], written) == (b"a", b"a", ["a"])


def test_a_full_cache_is_emptied_and_goes_on() -> None:
    kept, written = cache()
    for key in ("a", "b", "c", "d", "d", "a"):
        assert kept[key] == key.encode()
    assert (len(kept), written) == (2, ["a", "b", "c", "d", "a"])


def test_what_is_too_heavy_is_not_kept() -> None:
    kept, written = cache()
    assert kept["x" * 11] == kept["x" * 11] == b"x" * 11
    assert (len(kept), len(written)) == (0, 2)


@given(TEXTS, st.booleans(), st.lists(TEXTS, max_size=4))
def test_booleans_and_arrays_are_what_protobuf_reads(key: str, value: bool, values: list[str]) -> None:
    assert attribute(wire.bool_attribute(key, value)) == (key, value)
    name, array = attribute(wire.texts_attribute(key, values))
    assert (name, [each.string_value for each in array.values]) == (key, values)


@pytest.mark.parametrize("size", [0, 1, 60, 100, 110, 113, 114, 115, 116, 127, 128, 300, 5000])
def test_a_key_writes_texts_of_every_length_as_a_text_attribute_does(size: int) -> None:
    for text in ("x" * size, "ä" * size, "x" * size + "\udcff"):
        assert attribute(b"".join(wire.Key("gen_ai.x").text(text))) == attribute(wire.text_attribute("gen_ai.x", text))


@given(st.integers(0, 2**70), st.floats(allow_nan=False))
def test_a_key_writes_numbers_of_every_size(value: int, seconds: float) -> None:
    key = wire.Key("gen_ai.x")
    assert attribute(key.number(value)) == ("gen_ai.x", min(value, 2**63 - 1))
    assert attribute(key.seconds(seconds)) == ("gen_ai.x", seconds)


@given(st.integers(0, 2**19 - 1))
def test_a_padded_varint_is_the_same_number_in_four_bytes(number: int) -> None:
    padded = (number + wire.PADDED[number >> 7]).to_bytes(4, "little")
    assert list(wire.fields(b"\x08" + padded)) == [(1, number)]
