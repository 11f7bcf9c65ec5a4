"""What a hop that takes part in traces does: each rule of Trace Context level 2, and the cases of the official harness."""

import random
import re
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace as otel
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState

from sidecar.model.trace import (
    MAX_TRACESTATE_BYTES,
    MAX_TRACESTATE_MEMBERS,
    RANDOM,
    SAMPLED,
    Traceparent,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

TRACE = b"12345678901234567890123456789012"
PARENT = b"1234567890123456"
VALID = b"00-" + TRACE + b"-" + PARENT + b"-01"
UNSAMPLED = b"00-" + TRACE + b"-" + PARENT + b"-00"
LETTERS = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

Headers = Sequence[tuple[bytes, bytes]]


class Sent(NamedTuple):
    """The trace headers of one outgoing request."""

    traceparent: bytes
    tracestate: bytes


def hop(headers: Headers, calls: int = 1) -> list[Sent]:
    """A service that takes part in traces: it receives `headers` and makes `calls` requests of its own."""
    rng = random.Random(7)
    named: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        named.setdefault(name.lower(), []).append(value)
    values = named.get(b"traceparent", [])
    parent = parse_traceparent(values[0]) if len(values) == 1 else None
    state = parse_tracestate(named.get(b"tracestate", ())) if parent is not None else b""
    trace_id, _, flags = parent if parent is not None else (new_trace_id(rng), b"", SAMPLED | RANDOM)
    return [Sent(format_traceparent(trace_id, new_span_id(rng), flags), state) for _ in range(calls)]


def parents(*values: bytes) -> Headers:
    return [(b"traceparent", value) for value in values]


def states(*values: bytes) -> Headers:
    return [(b"traceparent", UNSAMPLED), *((b"tracestate", value) for value in values)]


def bars(first: int, last: int) -> bytes:
    return b",".join(b"bar%02d=%02d" % (number, number) for number in range(first, last + 1))


ALL_KEY_CHARACTERS = b"abcdefghijklmnopqrstuvwxyz0123456789_-*/"
ALL_VALUE_CHARACTERS = bytes(character for character in range(0x20, 0x7F) if character not in b",=")

# The cases of https://github.com/w3c/trace-context/blob/main/test/test.py, by the names that they have there. Where an
# older harness wanted the level 1 grammar of keys, or a tracestate with duplicates dropped, level 2 decides.
RESTARTED: list[tuple[str, Headers]] = [
    ("both_traceparent_and_tracestate_missing", []),
    ("traceparent_duplicated", parents(VALID.replace(b"12-", b"11-", 1), VALID)),
    ("traceparent_duplicated_same", parents(VALID, VALID)),
    ("traceparent_header_name", [(b"trace-parent", VALID)]),
    ("traceparent_header_name", [(b"trace.parent", VALID)]),
    ("traceparent_version_0x00", parents(VALID + b".")),
    ("traceparent_version_0x00", parents(VALID + b"-what-the-future-will-be-like")),
    ("traceparent_version_0x00_dash", parents(VALID + b"-")),
    ("traceparent_version_0xcc", parents(b"cc" + VALID[2:] + b".what-the-future-will-be-like")),
    ("traceparent_version_0xff", parents(b"ff" + VALID[2:])),
    ("traceparent_version_illegal_characters", parents(b".0" + VALID[2:])),
    ("traceparent_version_illegal_characters", parents(b"0." + VALID[2:])),
    ("traceparent_version_upper_case", parents(b"CC" + VALID[2:])),
    ("traceparent_version_too_long", parents(b"0" + VALID)),
    ("traceparent_version_too_long", parents(b"00" + VALID)),
    ("traceparent_version_too_short", parents(VALID[1:])),
    ("traceparent_trace_id_all_zero", parents(VALID.replace(TRACE, b"0" * 32))),
    ("traceparent_trace_id_illegal_characters", parents(VALID.replace(TRACE, b"." + TRACE[1:]))),
    ("traceparent_trace_id_illegal_characters", parents(VALID.replace(TRACE, TRACE[:-1] + b"."))),
    ("traceparent_trace_id_upper_case", parents(LETTERS.replace(b"4bf9", b"4BF9"))),
    ("traceparent_trace_id_too_long", parents(VALID.replace(TRACE, TRACE + b"3"))),
    ("traceparent_trace_id_too_short", parents(VALID.replace(TRACE, TRACE[:-1]))),
    ("traceparent_parent_id_all_zero", parents(VALID.replace(PARENT + b"-", b"0" * 16 + b"-"))),
    ("traceparent_parent_id_illegal_characters", parents(VALID.replace(b"-" + PARENT + b"-", b"-." + PARENT[1:] + b"-"))),
    ("traceparent_parent_id_illegal_characters", parents(VALID.replace(b"-" + PARENT + b"-", b"-" + PARENT[:-1] + b".-"))),
    ("traceparent_parent_id_upper_case", parents(LETTERS.replace(b"00f067aa", b"00F067AA"))),
    ("traceparent_parent_id_too_long", parents(VALID.replace(b"-" + PARENT + b"-", b"-" + PARENT + b"7-"))),
    ("traceparent_parent_id_too_short", parents(VALID.replace(b"-" + PARENT + b"-", b"-" + PARENT[:-1] + b"-"))),
    ("traceparent_trace_flags_illegal_characters", parents(VALID[:-2] + b".0")),
    ("traceparent_trace_flags_illegal_characters", parents(VALID[:-2] + b"0.")),
    ("traceparent_trace_flags_upper_case", parents(VALID[:-2] + b"0A")),
    ("traceparent_trace_flags_too_long", parents(VALID[:-2] + b"001")),
    ("traceparent_trace_flags_too_short", parents(VALID[:-2] + b"1")),
    ("traceparent_dash_missing", parents(VALID[:35] + b"_" + VALID[36:])),
    ("traceparent_dash_missing", parents(VALID[:52] + b"_" + VALID[53:])),
    ("traceparent_dash_missing", parents(VALID[:2] + b"_" + VALID[3:])),
    ("traceparent_line_end", parents(VALID + b"\n")),
    ("traceparent_two_in_one", parents(VALID + b"," + VALID)),
    ("traceparent_empty", parents(b"")),
    ("tracestate_included_traceparent_missing", [(b"tracestate", b"foo=1")]),
    ("tracestate_included_traceparent_missing", [(b"tracestate", b"foo=1,bar=2")]),
    ("tracestate_included_traceparent_invalid", [*parents(VALID + b"."), (b"tracestate", b"foo=1")]),
    ("tracestate_included_traceparent_duplicated", [*parents(VALID, VALID), (b"tracestate", b"foo=1")]),
]

CONTINUED: list[tuple[str, Headers, bytes]] = [
    ("traceparent_included_tracestate_missing", parents(VALID), b""),
    ("traceparent_header_name_valid_casing", [(b"TraceParent", VALID)], b""),
    ("traceparent_header_name_valid_casing", [(b"TrAcEpArEnT", VALID)], b""),
    ("traceparent_header_name_valid_casing", [(b"TRACEPARENT", VALID)], b""),
    ("traceparent_version_0xcc", parents(b"cc" + VALID[2:]), b""),
    ("traceparent_version_0xcc", parents(b"cc" + VALID[2:] + b"-what-the-future-will-be-like"), b""),
    ("traceparent_version_0xcc_dash", parents(b"cc" + VALID[2:] + b"-"), b""),
    ("traceparent_ows_handling", parents(b" " + VALID), b""),
    ("traceparent_ows_handling", parents(b"\t" + VALID), b""),
    ("traceparent_ows_handling", parents(VALID + b" "), b""),
    ("traceparent_ows_handling", parents(VALID + b"\t"), b""),
    ("traceparent_ows_handling", parents(b"\t " + VALID + b" \t"), b""),
    ("tracestate_included_traceparent_included", states(b"foo=1,bar=2"), b"foo=1,bar=2"),
    ("tracestate_header_name", [*parents(UNSAMPLED), (b"trace-state", b"foo=1")], b""),
    ("tracestate_header_name", [*parents(UNSAMPLED), (b"trace.state", b"foo=1")], b""),
    ("tracestate_header_name_valid_casing", [*parents(UNSAMPLED), (b"TraceState", b"foo=1")], b"foo=1"),
    ("tracestate_header_name_valid_casing", [*parents(UNSAMPLED), (b"TrAcEsTaTe", b"foo=1")], b"foo=1"),
    ("tracestate_header_name_valid_casing", [*parents(UNSAMPLED), (b"TRACESTATE", b"foo=1")], b"foo=1"),
    ("tracestate_empty_header", states(b""), b""),
    ("tracestate_empty_header", states(b"foo=1", b""), b"foo=1"),
    ("tracestate_empty_header", states(b"", b"foo=1"), b"foo=1"),
    ("tracestate_empty_members", states(b"foo=1, ,,\t,bar=2,"), b"foo=1,bar=2"),
    ("tracestate_empty_members", states(b"foo=1,"), b"foo=1"),
    (
        "tracestate_multiple_headers_different_keys",
        states(b"foo=1,bar=2", b"rojo=1,congo=2", b"baz=3"),
        b"foo=1,bar=2,rojo=1,congo=2,baz=3",
    ),
    ("tracestate_duplicated_keys", states(b"foo=1,foo=1"), b"foo=1,foo=1"),
    ("tracestate_duplicated_keys", states(b"foo=1,foo=2"), b"foo=1,foo=2"),
    ("tracestate_duplicated_keys", states(b"foo=1", b"foo=1"), b"foo=1,foo=1"),
    ("tracestate_duplicated_keys", states(b"foo=1", b"foo=2"), b"foo=1,foo=2"),
    (
        "tracestate_all_allowed_characters",
        states(ALL_KEY_CHARACTERS + b"=" + ALL_VALUE_CHARACTERS),
        ALL_KEY_CHARACTERS + b"=" + ALL_VALUE_CHARACTERS,
    ),
    (
        "tracestate_all_allowed_characters",
        states(ALL_KEY_CHARACTERS + b"@a-z0-9_-*/=" + ALL_VALUE_CHARACTERS),
        ALL_KEY_CHARACTERS + b"@a-z0-9_-*/=" + ALL_VALUE_CHARACTERS,
    ),
    ("tracestate_ows_handling", states(b"foo=1 \t , \t bar=2, \t baz=3"), b"foo=1,bar=2,baz=3"),
    ("tracestate_ows_handling", states(b"foo=1\t \t,\t \tbar=2,\t \tbaz=3"), b"foo=1,bar=2,baz=3"),
    ("tracestate_ows_handling", states(b" foo=1"), b"foo=1"),
    ("tracestate_ows_handling", states(b"\tfoo=1"), b"foo=1"),
    ("tracestate_ows_handling", states(b"foo=1 "), b"foo=1"),
    ("tracestate_ows_handling", states(b"foo=1\t"), b"foo=1"),
    ("tracestate_ows_handling", states(b"\t foo=1 \t"), b"foo=1"),
    ("tracestate_leading_space_belongs_to_the_value", states(b"foo=  1"), b"foo=  1"),
    ("tracestate_key_illegal_characters", states(b"foo =1"), b""),
    ("tracestate_key_illegal_characters", states(b"FOO=1"), b""),
    ("tracestate_key_illegal_characters", states(b"foo.bar=1"), b""),
    ("tracestate_key_missing", states(b"=1,bar=2"), b""),
    ("tracestate_key_begins_with_a_digit", states(b"0foo=1"), b"0foo=1"),
    ("tracestate_key_illegal_vendor_format", states(b"@foo=1,bar=2"), b""),
    ("tracestate_key_any_at_signs", states(b"foo@=1,bar=2"), b"foo@=1,bar=2"),
    ("tracestate_key_any_at_signs", states(b"foo@@bar=1,bar=2"), b"foo@@bar=1,bar=2"),
    ("tracestate_key_any_at_signs", states(b"foo@bar@baz=1,bar=2"), b"foo@bar@baz=1,bar=2"),
    (
        "tracestate_member_count_limit",
        states(bars(1, 10), bars(11, 20), bars(21, 30), bars(31, 32)),
        bars(1, 32),
    ),
    ("tracestate_member_count_limit", states(bars(1, 10), bars(11, 20), bars(21, 30), bars(31, 33)), b""),
    ("tracestate_member_count_limit_without_empty_ones", states(bars(1, 32), b" ,,"), bars(1, 32)),
    ("tracestate_key_length_limit", states(b"foo=1", b"z" * 256 + b"=1"), b"foo=1," + b"z" * 256 + b"=1"),
    ("tracestate_key_length_limit", states(b"foo=1", b"z" * 257 + b"=1"), b""),
    (
        "tracestate_key_length_limit",
        states(b"foo=1", b"t" * 241 + b"@" + b"v" * 14 + b"=1"),
        b"foo=1," + b"t" * 241 + b"@" + b"v" * 14 + b"=1",
    ),
    ("tracestate_key_length_no_vendor_part", states(b"t" * 242 + b"@v=1"), b"t" * 242 + b"@v=1"),
    ("tracestate_key_length_no_vendor_part", states(b"t@" + b"v" * 15 + b"=1"), b"t@" + b"v" * 15 + b"=1"),
    ("tracestate_value_illegal_characters", states(b"foo=bar=baz"), b""),
    ("tracestate_value_illegal_characters", states(b"foo=,bar=3"), b""),
    ("tracestate_value_illegal_characters", states(b"foo=b\tar"), b""),
    ("tracestate_value_illegal_characters", states(b"foo=\x7f"), b""),
    ("tracestate_value_illegal_characters", states(b"foo=\xc3\xa4"), b""),
    ("tracestate_value_only_spaces", states(b"foo=  ,bar=3"), b""),
    ("tracestate_value_missing", states(b"foo,bar=3"), b""),
    ("tracestate_value_length_limit", states(b"foo=" + b"v" * 256), b"foo=" + b"v" * 256),
    ("tracestate_value_length_limit", states(b"foo=" + b"v" * 257), b""),
    ("tracestate_line_end", states(b"foo=1\n"), b""),
]


def names(cases: Iterable[tuple[object, ...]]) -> list[str]:
    return [str(case[0]) for case in cases]


@pytest.mark.parametrize(("name", "headers"), RESTARTED, ids=names(RESTARTED))
def test_hop_begins_a_new_trace_and_drops_tracestate(name: str, headers: Headers) -> None:
    (sent,) = hop(headers)
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-03", sent.traceparent)
    assert not any(sent.traceparent[3:35] in value for _, value in headers)
    assert sent.tracestate == b""


@pytest.mark.parametrize(("name", "headers", "tracestate"), CONTINUED, ids=names(CONTINUED))
def test_hop_keeps_the_trace_under_a_new_parent(name: str, headers: Headers, tracestate: bytes) -> None:
    (sent,) = hop(headers)
    assert sent.traceparent[:36] == b"00-" + TRACE + b"-"
    assert sent.traceparent[36:52] != PARENT
    assert sent.traceparent[52:] == headers[0][1].strip()[52:55]  # flags as they came, and nothing after them
    assert sent.tracestate == tracestate


@pytest.mark.parametrize(
    ("headers", "continued"), [(parents(VALID), True), ([], False), (parents(VALID.replace(TRACE, b"0" * 32)), False)]
)
def test_hop_sends_several_requests_in_one_trace_with_parents_of_their_own(headers: Headers, continued: bool) -> None:
    sent = hop(headers, 3)
    assert len({request.traceparent[36:52] for request in sent}) == 3
    (trace,) = {request.traceparent[3:35] for request in sent}
    assert (trace == TRACE) is continued
    assert trace != b"0" * 32


@pytest.mark.parametrize(
    ("sent", "read"),
    [(b"00", 0), (b"01", SAMPLED), (b"02", RANDOM), (b"03", SAMPLED | RANDOM), (b"fc", 0), (b"ff", 3), (b"09", 1)],
)
def test_flags_keep_sampled_and_random_and_lose_the_others(sent: bytes, read: int) -> None:
    parent = parse_traceparent(VALID[:-2] + sent)
    assert parent is not None
    assert parent.flags == read
    assert format_traceparent(parent.trace_id, parent.parent_id, int(sent, 16))[-3:] == b"-%02x" % read


def test_ids_are_raw_bytes() -> None:
    parent = parse_traceparent(LETTERS)
    assert isinstance(parent, Traceparent)
    assert parent.trace_id == bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
    assert parent.parent_id == bytes.fromhex("00f067aa0ba902b7")
    assert parent.flags == SAMPLED
    assert not hasattr(parent, "__dict__")


def test_higher_version_is_sent_on_as_version_00() -> None:
    parent = parse_traceparent(b"01-" + LETTERS[3:] + b"-more")
    assert parent is not None
    assert format_traceparent(*parent) == LETTERS


def test_tracestate_of_32_members_of_full_size_passes_whole() -> None:
    members = [b"%03d" % number + b"k" * 253 + b"=" + b"v" * 256 for number in range(MAX_TRACESTATE_MEMBERS)]
    assert parse_tracestate([b",".join(members)]) == b",".join(members)
    assert parse_tracestate([b" , ".join(members)]) == b",".join(members)
    assert parse_tracestate(members) == b",".join(members)


def test_tracestate_above_the_size_limit_is_dropped() -> None:
    room = MAX_TRACESTATE_BYTES - len(b"foo=1")
    assert parse_tracestate([b"foo=1" + b"," * room]) == b"foo=1"
    assert parse_tracestate([b"foo=1" + b"," * (room + 1)]) == b""


@pytest.mark.parametrize(
    "value",
    [
        b",".join([b"k" * 256 + b"=" + b"v" * 256] * 31) + b",!=1",
        b",".join([b"k" * 256 + b"=" + b" " * 256] * 31),
        b"k" * 16_000,
        b"k=" + b" " * 16_000,
        b" \t" * 8_000 + b"!",
        b"," * 16_000,
        b"k=v ," * 3_200,
    ],
)
def test_hostile_tracestate_costs_no_more_than_its_length(value: bytes) -> None:
    started = time.process_time()
    assert parse_tracestate([value]) == b""
    assert time.process_time() - started < 0.1  # about 0.5 ms; backtracking would take minutes


class Stuck(random.Random):
    """Chance that always says zero."""

    def getrandbits(self, k: int, /) -> int:
        return 0


def test_new_ids_are_random_and_never_all_zero() -> None:
    rng = random.Random(1)
    assert len({new_trace_id(rng) for _ in range(1000)}) == len({new_span_id(rng) for _ in range(1000)}) == 1000
    assert {len(new_trace_id(rng)) for _ in range(1000)} == {16}
    assert {len(new_span_id(rng)) for _ in range(1000)} == {8}
    assert any(new_trace_id(Stuck()))
    assert any(new_span_id(Stuck()))


def test_new_ids_can_be_repeated_with_the_same_seed() -> None:
    assert new_trace_id(random.Random(3)) == new_trace_id(random.Random(3))


ids16 = st.binary(min_size=16, max_size=16).filter(any)
ids8 = st.binary(min_size=8, max_size=8).filter(any)


@given(ids16, ids8, st.integers(0, 255))
def test_what_is_formatted_is_parsed_back(trace_id: bytes, span_id: bytes, flags: int) -> None:
    value = format_traceparent(trace_id, span_id, flags)
    assert len(value) == 55
    assert parse_traceparent(value) == (trace_id, span_id, flags & 3)
    assert parse_traceparent(b"\t" + value) == (trace_id, span_id, flags & 3)
    assert parse_traceparent(b"01" + value[2:] + b"-") == (trace_id, span_id, flags & 3)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid traceparent after some bytes were replaced, put in, or taken out."""
    value = bytearray(format_traceparent(draw(ids16), draw(ids8), draw(st.integers(0, 3))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"0", b"f", b"F", b"-", b" ", b"\t", b"g", b"\xff"])
        )
    return bytes(value)


def by_the_prose(value: bytes) -> tuple[bytes, bytes, int] | None:
    """The rules of section 3.2 one by one, slowly."""
    text = value.strip(b" \t").decode("latin-1")
    version, trace, parent, flags = text[:2], text[3:35], text[36:52], text[53:55]
    if len(text) < 55 or text[2] + text[35] + text[52] != "---":
        return None
    if not set(version + trace + parent + flags) <= set("0123456789abcdef") or version == "ff":
        return None
    if trace == "0" * 32 or parent == "0" * 16:
        return None
    if len(text) > 55 and (version == "00" or text[55] != "-"):
        return None
    return bytes.fromhex(trace), bytes.fromhex(parent), int(flags, 16) & 3


@given(st.one_of(damaged(), st.binary(max_size=80)))
@example(VALID.upper())
@example(b"cc" + VALID[2:] + b"-\n\x00")
def test_any_bytes_are_read_as_the_prose_says(value: bytes) -> None:
    assert parse_traceparent(value) == by_the_prose(value)


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_tracestates_never_raise_and_are_clean_then(tracestates: list[bytes]) -> None:
    cleaned = parse_tracestate(tracestates)
    assert parse_tracestate([cleaned]) == cleaned


def propagator(traceparents: list[str], tracestates: list[str]) -> otel.SpanContext:
    carrier = {"traceparent": traceparents, "tracestate": tracestates}
    return otel.get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()


@given(damaged())
def test_traceparent_is_read_as_opentelemetry_reads_it(value: bytes) -> None:
    theirs = propagator([value.decode("latin-1")], [])
    ours = parse_traceparent(value)
    if ours is None:
        assert not theirs.is_valid
    else:
        assert ours.trace_id == theirs.trace_id.to_bytes(16, "big")
        assert ours.parent_id == theirs.span_id.to_bytes(8, "big")
        assert ours.flags == theirs.trace_flags & 3  # it keeps unknown flags, which the specification forbids


def test_opentelemetry_deviates_where_we_follow_the_specification() -> None:
    assert propagator([VALID.decode(), LETTERS.decode()], []).is_valid  # it takes the first of two traceparents
    assert hop(parents(VALID, LETTERS))[0].traceparent[3:35] not in (TRACE, LETTERS[3:35])
    assert propagator([VALID.decode() + "\n"], []).is_valid  # its `$` lets a line end pass
    assert parse_traceparent(VALID + b"\n") is None
    assert not propagator(["cc" + VALID.decode()[2:] + "-" + "x" * 500], []).is_valid  # it has a limit of its own
    assert parse_traceparent(b"cc" + VALID[2:] + b"-" + b"x" * 500) is not None
    assert not propagator([VALID.decode()], ["foo@@bar=1"]).trace_state  # it has the level 1 grammar of keys
    assert parse_tracestate([b"foo@@bar=1"]) == b"foo@@bar=1"
    assert not propagator([VALID.decode()], ["foo=1,foo=2"]).trace_state  # it drops the whole of it
    assert parse_tracestate([b"foo=1,foo=2"]) == b"foo=1,foo=2"


members = st.builds(
    lambda number, key, value: f"k{number}{key}={value}",
    st.integers(0, 99),
    st.text("az09_-*/", max_size=3),
    st.text("az AZ!~=\t\x7f", max_size=4),
)


@given(
    st.lists(st.lists(st.one_of(members, st.sampled_from(["", " ", "\t"])), max_size=20).map(",".join), min_size=1, max_size=3)
)
def test_tracestate_is_cleaned_as_opentelemetry_cleans_it(values: list[str]) -> None:
    keys = [part.split("=")[0].strip(" \t") for value in values for part in value.split(",") if part.strip(" \t")]
    expected = TraceState.from_header(values).to_header().encode()
    if len(set(keys)) == len(keys):
        assert parse_tracestate([value.encode() for value in values]) == expected
