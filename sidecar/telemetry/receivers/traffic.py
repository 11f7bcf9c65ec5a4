"""
Our own calls as spans: a SERVER span for each exchange, a CLIENT span for each attempt.

    traffic: {flush_interval: 200ms, queue_size: 4096}

It hears the facts of calls that have ended, and writes those that are sampled in batches of at most 64 a loop turn. A
gateway route's path prefix becomes `http.route`; the service `traffic.routes` of the runtime has it, by name of route. The
service `service.telemetry` is that section of the config: the edition of the GenAI conventions, and what content may be.
While resource detectors are at work (detectors.py) the facts wait, as long as there is room, to be written with what those
find out.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sidecar
from sidecar.model.facts import AttemptFinished, CommandFinished, ExchangeFinished
from sidecar.model.spec import Duration, Spec
from sidecar.model.trace import SAMPLED
from sidecar.runtime.complaints import Complaints
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.command import command_request
from sidecar.telemetry.content import ContentWriter
from sidecar.telemetry.detectors import is_detecting
from sidecar.telemetry.masks import masks_of
from sidecar.telemetry.resource import resource_of, serialized
from sidecar.telemetry.semconv import Semconv
from sidecar.telemetry.signals import Batch, Consume, Signal
from sidecar.telemetry.spans import SpanWriter
from sidecar.telemetry.spec import OwnTelemetrySpec
from sidecar.telemetry.waiting import Waiting

SIGNALS = (Signal.TRACES,)

AT_ONCE = 64
"""Spans written in one loop turn: 512 would hold the loop, and so every call, for a millisecond."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """How long spans wait before they are passed on."""

    flush_interval: Duration = Duration("200ms")
    """The longest that an ended call waits for others, to be written with them."""
    queue_size: int = 4096
    """Ended calls that may wait to be written; what comes on top is dropped and counted."""

    def __post_init__(self) -> None:
        if self.queue_size < AT_ONCE:
            raise ValueError(f"queue_size has to be at least {AT_ONCE}")
        if self.flush_interval <= 0:
            raise ValueError("flush_interval has to be more than 0")


def build(name: str, config: Config, runtime: Runtime) -> "TrafficReceiver":
    """The receiver of our own calls."""
    return TrafficReceiver(name, config, runtime)


class TrafficReceiver:
    """Hears facts from `connect` on, so that the calls of the first milliseconds are not lost, until `stop`."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self._config = config
        self._runtime = runtime
        self._resource = resource_of(runtime)
        self._routes: Mapping[str, str] = {}
        self._own: OwnTelemetrySpec = runtime.services.get("service.telemetry") or OwnTelemetrySpec()
        self._writer = self._new_writer()
        self._waiting = Waiting(config.queue_size)
        self._timer: asyncio.Handle | None = None
        self._complaints = Complaints(f"receivers.{name}", runtime.clock, _log)
        self._consume: Consume | None = None
        self._end: tuple[Callable[[], None], ...] = ()
        counter, path = runtime.metrics.counter, "telemetry.receivers.traffic"
        self._accepted = counter(f"{path}.accepted_spans", "Spans that were written and passed on.", receiver=name)
        self._refused = counter(f"{path}.refused_spans", "Spans that no exporter had room for.", receiver=name)
        self._dropped = counter(f"{path}.dropped_spans", "Ended calls that found queue_size others waiting.", receiver=name)
        self._emptied = counter(f"{path}.left_out_contents", "Ended calls whose content found no room.", receiver=name)
        self._unsampled = counter(f"{path}.unsampled_spans", "Ended calls whose trace is not sampled.", receiver=name)

    def connect(self, consumers: Mapping[Signal, Consume]) -> None:
        """Pass spans to this consumer from now on."""
        self._consume = consumers[Signal.TRACES]
        self._loop = asyncio.get_running_loop()
        if not self._end:
            bus = self._runtime.bus
            self._end = (
                bus.gather((ExchangeFinished, AttemptFinished), self._hear),
                bus.listen((CommandFinished,), self._hear_command),
            )

    async def stop(self) -> None:
        """Hear no more, and pass on what still waits."""
        ends, self._end = self._end, ()
        for end in ends:
            end()
        while self._waiting:
            self._flush()
            await asyncio.sleep(0)  # one batch a loop turn here too

    def _hear(self, facts: Sequence[ExchangeFinished | AttemptFinished]) -> None:
        """Let calls that have ended wait for others; enough for a batch are written in the next loop turn."""
        sampled = [fact for fact in facts if fact.flags & SAMPLED]
        self._unsampled.value += len(facts) - len(sampled)
        waiting = self._waiting
        waited = len(waiting)
        dropped, emptied = waiting.add(sampled)
        self._dropped.value += dropped
        self._emptied.value += emptied
        if len(waiting) >= AT_ONCE > waited:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_soon(self._flush)
        elif waiting and not waited:
            self._timer = self._loop.call_later(self._config.flush_interval, self._flush)

    def _flush(self) -> None:
        """Write up to 64 spans, fewer where much was said, and pass them on; then come back, at once or later, for the rest."""
        assert self._consume is not None
        waiting = self._waiting
        if is_detecting(self._runtime) and self._end and len(waiting) < self._config.queue_size // 2:
            self._timer = self._loop.call_later(self._config.flush_interval, self._flush)
            return
        services, resource = self._runtime.services, resource_of(self._runtime)
        routes, own = services.get("traffic.routes", self._routes), services.get("service.telemetry", self._own)
        if routes is not self._routes or resource is not self._resource or own is not self._own:
            self._routes, self._resource, self._own = routes, resource, own
            self._writer = self._new_writer()
        facts = waiting.take(AT_ONCE)
        self._pass_on(self._writer.request(facts), len(facts))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if len(waiting) >= AT_ONCE or (waiting and len(facts) < AT_ONCE):
            self._timer = self._loop.call_soon(self._flush)
        elif waiting:
            self._timer = self._loop.call_later(self._config.flush_interval, self._flush)

    def _pass_on(self, request: bytes, spans: int) -> None:
        assert self._consume is not None
        try:
            is_taken = self._consume(Batch.of(Signal.TRACES, request, spans))
        except Exception as error:  # noqa: BLE001 - the border of a component that may be somebody else's
            self._complaints.log("consume", "spans are lost, because who should take them failed", error)
            is_taken = False
        if is_taken:
            self._accepted.value += spans
        else:
            self._refused.value += spans

    def _hear_command(self, fact: CommandFinished) -> None:
        """The one command of this process: written at once."""
        if not fact.flags & SAMPLED:
            self._unsampled.value += 1
            return
        resource = serialized(resource_of(self._runtime))
        self._pass_on(command_request(fact, resource, scope_version=sidecar.__version__), 1)

    def _new_writer(self) -> SpanWriter:
        content = self._own.content
        masks = masks_of(content.key_prefixes)
        return SpanWriter(
            serialized(self._resource),
            scope_version=sidecar.__version__,
            routes=self._routes,
            semconv=Semconv(self._own.semconv),
            content=ContentWriter(masks, part_chars=content.part_chars, attribute_chars=content.attribute_chars),
        )
