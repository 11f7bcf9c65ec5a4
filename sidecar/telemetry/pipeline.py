"""The pipelines of a config: components wired, started from the end to the beginning, and stopped the other way round."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sidecar.model.clock import SYSTEM_CLOCK
from sidecar.runtime.complaints import Complaints
from sidecar.runtime.runtime import HasHealth, Health, Starts, State, Stops
from sidecar.telemetry.signals import Batch, Consume, Signal
from sidecar.telemetry.spec import PipelineSpec, signal_of

Make = Callable[[str, str], Any]
"""Builds (or finds again) the component of a section and an id, as in `make("exporters", "otlp_http/phoenix")`."""

_log = logging.getLogger(__name__)


class Pipelines:
    """
    All components that the pipelines name, by their YAML path (`exporters.otlp_http/phoenix`).

    Receivers and exporters are made once, however many pipelines name them; a processor is made for each pipeline that
    names it, because it may keep state. `make` may return a component that is already running (after a reload, where its
    config has not changed): `start(old)` takes it over as it is.
    """

    def __init__(self, pipelines: Mapping[str, PipelineSpec], make: Make) -> None:
        self._exporters: dict[str, Any] = {}
        self._processors: dict[str, Any] = {}
        self._receivers: dict[str, Any] = {}
        self._ways: dict[str, dict[Signal, list[Consume]]] = {}
        self.failures: dict[str, str] = {}
        """Why a component could not start, by its path."""
        for name, pipeline in pipelines.items():
            self._lay(name, pipeline, make)

    def _lay(self, name: str, pipeline: PipelineSpec, make: Make) -> None:
        signal = signal_of(name)
        for exporter in pipeline.exporters:
            if exporter not in self._exporters:
                self._exporters[exporter] = make("exporters", exporter)
        head = fan_out([self._exporters[exporter].consume for exporter in pipeline.exporters])
        for processor in reversed(pipeline.processors):
            made = make("processors", processor)
            made.connect({signal: head})
            self._processors[f"{name}.{processor}"] = made
            head = made.consume
        for receiver in pipeline.receivers:
            if receiver not in self._receivers:
                self._receivers[receiver] = make("receivers", receiver)
            self._ways.setdefault(receiver, {}).setdefault(signal, []).append(head)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Every component with its path, in the order in which they start: exporters, processors, receivers."""
        for section, components in (
            ("exporters", self._exporters),
            ("processors", self._processors),
            ("receivers", self._receivers),
        ):
            for name, component in components.items():
                yield f"{section}.{name}", component

    def connect(self) -> None:
        """Let the receivers pass on what they get; queues hold it until the exporters have started."""
        for name, receiver in self._receivers.items():
            receiver.connect({signal: fan_out(heads) for signal, heads in self._ways[name].items()})

    async def start(self, old: "Pipelines | None" = None) -> None:
        """
        Start everything, receivers last; with `old`, take over what it runs and stop what is not needed any more.

        A component that cannot start is logged, shown as failed by `health`, and does not keep the others from starting:
        calls matter more than telemetry of them.
        """
        running = {id(component) for path, component in old if path not in old.failures} if old else set()
        new = [(path, component) for path, component in self if id(component) not in running]
        staying = {id(component) for _, component in self}
        await self._start([(path, component) for path, component in new if not path.startswith("receivers.")])
        if old is not None:
            await _stop(old, staying, ("receivers.",))  # before new ones take their ports
        self.connect()
        await self._start([(path, component) for path, component in new if path.startswith("receivers.")])
        if old is not None:
            await _stop(old, staying, ("processors.", "exporters."))

    async def _start(self, components: Iterable[tuple[str, Any]]) -> None:
        for path, component in components:
            if not isinstance(component, Starts):
                continue
            try:
                await component.start()
            except Exception as error:  # noqa: BLE001 - the border of a component that may be somebody else's
                self.failures[path] = f"{type(error).__name__}: {error}"
                _log.error("%s could not start: %s", path, self.failures[path])

    async def stop(self) -> None:
        """Stop everything, receivers first; each exporter sends what it has within its own bound."""
        await _stop(self, set(), ("receivers.", "processors.", "exporters."))

    def health(self) -> dict[str, Health]:
        """How each component is, by its path."""
        return {path: self._health(path, component) for path, component in self}

    def _health(self, path: str, component: Any) -> Health:
        if path in self.failures:
            return Health(State.FAILED, self.failures[path])
        return component.health() if isinstance(component, HasHealth) else Health(State.OK)


def fan_out(consumers: list[Consume]) -> Consume:
    """
    One `consume` for several: all are given the batch, and it counts as taken when one of them took it.

    So a sender is told to come again only when nobody has the data: had one exporter taken it, it would send it twice. One
    that raises keeps it from nobody, and what it raised is told when all have been asked and none has taken it.
    """
    if len(consumers) == 1:
        return consumers[0]
    branches = tuple(consumers)
    complaints = Complaints("pipelines", SYSTEM_CLOCK, _log)

    def consume(batch: Batch) -> bool:
        taken = False
        fault: Exception | None = None
        for branch in branches:
            try:
                taken = branch(batch) or taken
            except Exception as error:  # noqa: BLE001 - the border of a component that may be somebody else's
                fault = error
                complaints.log(type(error).__name__, "an exporter or processor failed at a batch", error)
        if fault is not None and not taken:
            raise fault
        return taken

    return consume


async def _stop(pipelines: Pipelines, spare: set[int], sections: Iterable[str]) -> None:
    doomed = [(path, component) for path, component in pipelines if id(component) not in spare and isinstance(component, Stops)]
    for section in sections:
        here = [(path, component) for path, component in doomed if path.startswith(section)]
        results = await asyncio.gather(*(component.stop() for _, component in here), return_exceptions=True)
        for (path, _), result in zip(here, results, strict=True):
            if isinstance(result, BaseException):
                _log.error("%s could not stop: %s: %s", path, type(result).__name__, result)
