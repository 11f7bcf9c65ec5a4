"""What a person may write under `service:`: which receivers feed which exporters, in the Collector's grammar."""

from dataclasses import dataclass, field
from typing import Literal

from sidecar.model.spec import Spec
from sidecar.telemetry.content import ContentWriter
from sidecar.telemetry.masks import masks_of
from sidecar.telemetry.signals import Signal

SemconvEdition = Literal["v1.41", "latest", "both"]
"""The values of semconv.Semconv."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec(Spec):
    """One way for a signal: from every receiver, through the processors in order, to every exporter."""

    receivers: tuple[str, ...]
    """Ids of receivers, at least one."""
    processors: tuple[str, ...] = ()
    """Ids of processors, in the order in which they see the data."""
    exporters: tuple[str, ...]
    """Ids of exporters, at least one."""

    def __post_init__(self) -> None:
        if not self.receivers:
            raise ValueError("a pipeline needs at least one receiver")
        if not self.exporters:
            raise ValueError("a pipeline needs at least one exporter")
        twice = {name for name in self.processors if self.processors.count(name) > 1}
        if twice:
            raise ValueError(f"a processor stands only once in a pipeline, not {', '.join(sorted(twice))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpec(Spec):
    """Who we are, beside what OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, process and pod say."""

    detectors: tuple[str, ...] = ()
    """OpenTelemetry resource detectors to ask, as in `[os, process]`; default: OTEL_EXPERIMENTAL_RESOURCE_DETECTORS, or none."""

    def __post_init__(self) -> None:
        if not all(name.strip() for name in self.detectors):
            raise ValueError("a detector has a name")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentSpec(Spec):
    """Prompts, completions and arguments of tools in spans, of routes that collect them."""

    part_chars: int = 4096
    """Characters of one part of a message that are kept."""
    attribute_chars: int = 32768
    """Characters of one attribute as a whole; some backends cut or refuse more than 4095."""
    key_prefixes: tuple[str, ...] = ()
    """How keys of your own begin, as in `[acme_]`: they are masked, like those of the usual providers, from 12 characters on."""

    def __post_init__(self) -> None:
        ContentWriter(masks_of(self.key_prefixes), part_chars=self.part_chars, attribute_chars=self.attribute_chars)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTelemetrySpec(Spec):
    """The telemetry of the sidecar itself, under the Collector's key for it."""

    resource: ResourceSpec = field(default_factory=ResourceSpec)
    """Who stands above all our own spans."""
    semconv: SemconvEdition = "v1.41"
    """Names of GenAI attributes and metrics: as released in `v1.41`, as the `latest` conventions have them, or `both`."""
    content: ContentSpec = field(default_factory=ContentSpec)
    """How much of what is said stands in spans, where a route has it collected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec(Spec):
    """The telemetry plane as a whole."""

    pipelines: dict[str, PipelineSpec] = field(default_factory=dict)
    """By id: `traces`, `metrics` or `logs`, with a name after a slash where there are several of one signal."""
    telemetry: OwnTelemetrySpec = field(default_factory=OwnTelemetrySpec)
    """Our own telemetry."""

    def __post_init__(self) -> None:
        for name in self.pipelines:
            signal_of(name)


def signal_of(pipeline: str) -> Signal:
    """The signal that a pipeline's id begins with; raises ValueError where it names none."""
    kind = pipeline.partition("/")[0]
    if kind not in tuple(Signal):
        raise ValueError(f"a pipeline is named after its signal ({', '.join(Signal)}), as in 'traces/agents', not {pipeline!r}")
    return Signal(kind)
