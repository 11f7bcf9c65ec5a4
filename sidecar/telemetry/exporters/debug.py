"""
Telemetry to read: one line a span on standard error, or all that there is.

    debug: {verbosity: detailed}
"""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sidecar.model.spec import Duration, Spec
from sidecar.runtime.runtime import Health, Runtime
from sidecar.telemetry.delivery import Outcome, Verdict
from sidecar.telemetry.otlp import leaves, parse
from sidecar.telemetry.queue import QueueSpec, SendingQueue
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Signal

_KINDS = ("-", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUS = {1: " ok", 2: " ERROR"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """How much to show."""

    verbosity: Literal["basic", "detailed"] = "basic"
    """`basic` is one line a span, metric or log record; `detailed` adds its attributes and its resource."""


def build(name: str, config: Config, runtime: Runtime) -> "DebugExporter":
    """The exporter."""
    return DebugExporter(name, config, runtime)


class DebugExporter:
    """Writes in a thread: standard error may be a pipe that nobody reads."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self._is_detailed = config.verbosity == "detailed"
        self._queue = SendingQueue(
            "telemetry.exporters.debug",
            name,
            runtime,
            self._show,
            queue=QueueSpec(),
            retry=RetrySpec(enabled=False),
            timeout_s=None,
            stop_timeout_s=Duration("2s"),
        )
        self.consume = self._queue.offer

    async def start(self) -> None:
        """Begin to write."""
        await self._queue.start()

    async def stop(self) -> None:
        """Write what waits."""
        await self._queue.stop()

    def health(self) -> Health:
        """As the queue sees it."""
        return self._queue.health()

    async def _show(self, signal: Signal, body: bytes) -> Outcome:
        return await asyncio.to_thread(self._write, signal, body)

    def _write(self, signal: Signal, body: bytes) -> Outcome:
        try:
            request = parse(signal, body)
        except ValueError as error:
            return Outcome(Verdict.NEVER, f"no valid {signal}: {error}")
        sys.stderr.write("".join(f"{line}\n" for line in _lines(signal, request, is_detailed=self._is_detailed)))
        sys.stderr.flush()
        return Outcome(Verdict.TAKEN)


def _lines(signal: Signal, request: Any, *, is_detailed: bool) -> Iterator[str]:
    shows = {Signal.TRACES: _span, Signal.METRICS: _metric, Signal.LOGS: _log_record}
    for resource, _, leaf in leaves(signal, request):
        yield _plain(shows[signal](leaf))
        if is_detailed:
            attributes = () if signal is Signal.METRICS else leaf.attributes
            yield from (_plain(f"    {one.key} = {_value(one.value)}") for one in attributes)
            yield from (_plain(f"    resource {one.key} = {_value(one.value)}") for one in resource.resource.attributes)


def _span(span: Any) -> str:
    parent = span.parent_span_id.hex() or "-"
    took_s = max(span.end_time_unix_nano - span.start_time_unix_nano, 0) / 1e9
    attributes = {one.key: _value(one.value) for one in span.attributes}
    told = [attributes[key] for key in ("http.response.status_code", "error.type") if key in attributes]
    where = attributes.get("url.full") or attributes.get("url.path") or ""
    kind = _KINDS[span.kind] if span.kind < len(_KINDS) else "-"
    return (
        f"{_time(span.start_time_unix_nano)} {kind} {span.name} {' '.join(told)}{_STATUS.get(span.status.code, '')} "
        f"{took_s:.3f}s {where} trace={span.trace_id.hex()} span={span.span_id.hex()} parent={parent}"
    )


def _metric(metric: Any) -> str:
    kind = metric.WhichOneof("data") or "empty"
    points = getattr(metric, kind).data_points if kind != "empty" else ()
    return f"metric {metric.name} {kind} {metric.unit or '1'}, {len(points)} points"


def _log_record(record: Any) -> str:
    severity = record.severity_text or str(record.severity_number)
    return f"{_time(record.time_unix_nano or record.observed_time_unix_nano)} log {severity} {_value(record.body)}"


def _time(unix_nano: int) -> str:
    seconds, nanos = divmod(unix_nano, 1_000_000_000)
    moment = datetime.fromtimestamp(min(seconds, 253402300799), UTC)  # the year 9999
    return f"{moment:%H:%M:%S}.{nanos // 1_000_000:03d}"


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return "[" + ", ".join(_value(one) for one in value.array_value.values) + "]"
    if kind == "kvlist_value":
        return "{" + ", ".join(f"{one.key}: {_value(one.value)}" for one in value.kvlist_value.values) + "}"
    return str(getattr(value, kind)) if kind else ""


def _plain(line: str) -> str:
    """The line without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in line)
