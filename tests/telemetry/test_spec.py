from typing import Any, get_args

import pytest

from sidecar.telemetry.semconv import Semconv
from sidecar.telemetry.signals import Signal
from sidecar.telemetry.spec import ContentSpec, PipelineSpec, ResourceSpec, SemconvEdition, ServiceSpec, signal_of


def test_a_pipeline_is_named_after_its_signal() -> None:
    assert [signal_of(name) for name in ("traces", "metrics/agents", "logs/a/b")] == [Signal.TRACES, Signal.METRICS, Signal.LOGS]
    for name in ("spans", "", "Traces", "tracesx/1"):
        with pytest.raises(ValueError, match="named after its signal"):
            signal_of(name)


def test_a_service_refuses_pipelines_without_a_signal() -> None:
    pipeline = PipelineSpec(receivers=("traffic",), exporters=("debug",))
    assert ServiceSpec(pipelines={"traces": pipeline}).pipelines["traces"].processors == ()
    with pytest.raises(ValueError, match="profiles"):
        ServiceSpec(pipelines={"profiles": pipeline})


@pytest.mark.parametrize(
    ("receivers", "processors", "exporters", "problem"),
    [
        ((), (), ("debug",), "at least one receiver"),
        (("otlp",), (), (), "at least one exporter"),
        (("otlp",), ("redact", "batch", "redact"), ("debug",), "only once in a pipeline, not redact"),
    ],
)
def test_a_pipeline_that_leads_nowhere_is_refused(
    receivers: tuple[str, ...], processors: tuple[str, ...], exporters: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        PipelineSpec(receivers=receivers, processors=processors, exporters=exporters)


def test_a_detector_has_a_name_and_none_is_asked_by_default() -> None:
    assert ServiceSpec().telemetry.resource.detectors == ()
    with pytest.raises(ValueError, match="has a name"):
        ResourceSpec(detectors=("host", " "))


def test_the_names_are_those_of_v1_41_unless_asked_otherwise_and_each_edition_is_one_that_there_is() -> None:
    assert ServiceSpec().telemetry.semconv == "v1.41"
    assert get_args(SemconvEdition) == tuple(Semconv)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({"part_chars": 10}, "at least 64"), ({"attribute_chars": 10}, "an attribute 1024"), ({"key_prefixes": ("a",)}, "at least 3 characters")],
    ids=["part", "attribute", "prefix"],
)  # fmt: skip
def test_bounds_of_content_leave_room_and_prefixes_hit_no_words(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ContentSpec(**settings)
