"""What flows through the pipelines: batches of OTLP bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Signal(StrEnum):
    """The kinds of telemetry, as pipelines are named after them."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"

    @property
    def items(self) -> str:
        """What the things inside are called in names of metrics, as the Collector calls them."""
        return _ITEMS[self]


_ITEMS = {Signal.TRACES: "spans", Signal.METRICS: "metric_points", Signal.LOGS: "log_records"}


@dataclass(slots=True)
class Batch:
    """
    Telemetry of one signal on its way; nobody changes a batch, so that branches can share it.

    Each chunk is a serialized Export(Trace|Metrics|Logs)ServiceRequest. Such chunks concatenate to one valid request
    (protobuf: "Last one wins", repeated fields add up). `items` counts spans, data points or log records; `size_bytes` is
    the length of all chunks together.
    """

    signal: Signal
    chunks: tuple[bytes, ...]
    items: int
    size_bytes: int

    @classmethod
    def of(cls, signal: Signal, chunk: bytes, items: int) -> "Batch":
        """A batch of one chunk."""
        return cls(signal, (chunk,), items, len(chunk))


Consume = Callable[[Batch], bool]
"""Takes a batch at once, or counts it as dropped and returns False; never waits, never raises."""
