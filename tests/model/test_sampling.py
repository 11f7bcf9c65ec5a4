"""Samplers decide as those of the OpenTelemetry SDK do, and all of them obey the parent."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace import sampling as sdk

from sidecar.model.sampling import Sampler, from_environ
from sidecar.model.trace import RANDOM, SAMPLED

LOW = bytes(15) + b"\x01"  # the lowest ids, sampled by any ratio above 0
HIGH = b"\x00" * 8 + b"\xff" * 8


def sampler_of(name: str, argument: str = "") -> Sampler:
    sampler, warning = from_environ({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert warning == ""
    return sampler


@pytest.mark.parametrize(("name", "root"), [("always_on", True), ("always_off", False)])
@pytest.mark.parametrize("prefix", ["", "parentbased_"])
def test_every_sampler_obeys_the_parent_and_decides_at_the_root(prefix: str, name: str, root: bool) -> None:
    sampler = sampler_of(prefix + name)
    assert sampler(HIGH, None) is sampler(LOW, None) is root
    for trace_id in (LOW, HIGH):
        assert sampler(trace_id, SAMPLED) is sampler(trace_id, SAMPLED | RANDOM) is True
        assert sampler(trace_id, 0) is sampler(trace_id, RANDOM) is False


@pytest.mark.parametrize("name", ["traceidratio", "parentbased_traceidratio"])
def test_ratio_sampler_decides_by_the_trace_id_at_the_root_only(name: str) -> None:
    sampler = sampler_of(name, "0.25")
    assert sampler.ratio == 0.25
    assert sampler(LOW, None)
    assert not sampler(HIGH, None)
    assert sampler(HIGH, SAMPLED)
    assert not sampler(LOW, 0)


def test_upper_half_of_the_trace_id_does_not_matter() -> None:
    sampler = sampler_of("traceidratio", "0.5")
    assert sampler(b"\xff" * 8 + LOW[8:], None)


@pytest.mark.parametrize(("argument", "decision"), [("0", False), ("0.0", False), ("1", True), ("1.0", True), ("", True)])
def test_ratio_0_takes_none_and_ratio_1_and_no_ratio_take_all(argument: str, decision: bool) -> None:
    sampler = sampler_of("traceidratio", argument)
    assert sampler(bytes(16), None) is sampler(b"\xff" * 16, None) is decision


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_SAMPLER": ""},
        {"OTEL_TRACES_SAMPLER": "  "},
        {"OTEL_TRACES_SAMPLER_ARG": "nonsense"},
        {"OTEL_SDK_DISABLED": "false"},
    ],
)
def test_default_is_parentbased_always_on(environ: Mapping[str, str]) -> None:
    sampler, warning = from_environ(environ)
    assert repr(sampler) == "Sampler(parentbased_always_on, ratio=1)"
    assert not sampler.is_disabled
    assert warning == ""


def test_names_are_read_in_any_case() -> None:
    assert sampler_of(" Always_OFF ").name == "always_off"


@pytest.mark.parametrize(
    "name",
    ["jaeger_remote", "parentbased_jaeger_remote", "xray", "parentbased_", "parentbased_parentbased_always_off", "none", "1"],
)
def test_unknown_sampler_means_the_default_and_a_warning(name: str) -> None:
    sampler, warning = from_environ({"OTEL_TRACES_SAMPLER": name})
    assert sampler.name == "parentbased_always_on"
    assert sampler(HIGH, None)
    assert not sampler(HIGH, 0)
    assert name in warning
    assert "parentbased_always_on" in warning


@pytest.mark.parametrize("argument", ["half", "-0.1", "1.01", "nan", "inf", "-inf", "0,5", "50%", "0x1"])
@pytest.mark.parametrize("name", ["traceidratio", "parentbased_traceidratio"])
def test_malformed_ratio_means_1_and_a_warning(name: str, argument: str) -> None:
    sampler, warning = from_environ({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert sampler.name == name
    assert sampler.ratio == 1.0
    assert sampler(HIGH, None)
    assert argument in warning


@pytest.mark.parametrize("text", ["true", "TRUE", " True "])
def test_disabled_sdk_records_nothing_whoever_asks(text: str) -> None:
    sampler, warning = from_environ({"OTEL_SDK_DISABLED": text, "OTEL_TRACES_SAMPLER": "always_on"})
    assert sampler.is_disabled
    assert not sampler(LOW, None)
    assert not sampler(LOW, SAMPLED)
    assert warning == ""


def test_other_words_do_not_disable_but_warn() -> None:
    sampler, warning = from_environ({"OTEL_SDK_DISABLED": "yes", "OTEL_TRACES_SAMPLER": "xray"})
    assert not sampler.is_disabled
    assert "OTEL_SDK_DISABLED='yes'" in warning
    assert "OTEL_TRACES_SAMPLER='xray'" in warning


@pytest.mark.parametrize("ratio", [-0.01, 1.01, float("nan")])
def test_sampler_refuses_a_ratio_outside_0_and_1(ratio: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Sampler("traceidratio", ratio)


ids = st.binary(min_size=16, max_size=16)


@given(st.floats(0, 1), ids)
@example(0.5, bytes(8) + b"\x80" + bytes(7))
@example(0.5, bytes(8) + b"\x7f" + b"\xff" * 7)
@example(5e-324, bytes(16))
@example(1.0, b"\xff" * 16)
def test_ratio_agrees_with_the_sdk(ratio: float, trace_id: bytes) -> None:
    theirs = sdk.TraceIdRatioBased(ratio).should_sample(None, int.from_bytes(trace_id, "big"), "span")
    assert sampler_of("traceidratio", repr(ratio))(trace_id, None) is (theirs.decision is sdk.Decision.RECORD_AND_SAMPLE)


@given(st.sampled_from(sorted(sdk._KNOWN_SAMPLERS)), st.floats(0, 1), ids.filter(any), st.sampled_from([None, 0, 1, 2, 3]))
def test_every_sampler_agrees_with_the_sdk_that_asks_the_parent_first(name: str, ratio: float, trace_id: bytes, parent: int | None) -> None:
    known: Any = sdk._KNOWN_SAMPLERS[name]
    theirs: sdk.Sampler = known(ratio) if isinstance(known, type) else known
    number = int.from_bytes(trace_id, "big")
    if not name.startswith("parentbased_"):
        theirs = sdk.ParentBased(theirs)
    context = Context()
    if parent is not None:
        span = otel.NonRecordingSpan(otel.SpanContext(number, 1, is_remote=True, trace_flags=otel.TraceFlags(parent)))
        context = otel.set_span_in_context(span, context)
    expected = theirs.should_sample(context, number, "span").decision
    assert sampler_of(name, repr(ratio))(trace_id, parent) is (expected is sdk.Decision.RECORD_AND_SAMPLE)
