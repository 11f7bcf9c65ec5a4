"""
Our own calls as spans: a SERVER span for each exchange, a CLIENT span for each attempt.

    traffic: {flush_interval: 200ms, queue_size: 4096}

It hears the facts of calls that have ended, and writes those that are sampled in batches of at most 64 a loop turn. A
gateway route's path prefix becomes `http.route`; the service `traffic.routes` of the runtime has it, by name of route.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sidecar
from sidecar.model.facts import AttemptFinished, ExchangeFinished
from sidecar.model.spec import Duration, Spec
from sidecar.model.trace import SAMPLED
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.resource import resource_of, serialized
from sidecar.telemetry.signals import Batch, Consume, Signal
from sidecar.telemetry.spans import SpanWriter

SIGNALS = (Signal.TRACES,)

AT_ONCE = 64
"""Spans written in one loop turn: 512 would hold the loop, and so every call, for a millisecond."""


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
        self._resource = serialized(resource_of(runtime))
        self._routes: Mapping[str, str] = {}
        self._writer = self._new_writer()
        self._waiting: deque[ExchangeFinished | AttemptFinished] = deque()
        self._timer: asyncio.Handle | None = None
        self._consume: Consume | None = None
        self._end: Callable[[], None] | None = None
        counter, path = runtime.metrics.counter, "telemetry.receivers.traffic"
        self._accepted = counter(f"{path}.accepted_spans", "Spans that were written and passed on.", receiver=name)
        self._refused = counter(f"{path}.refused_spans", "Spans that no exporter had room for.", receiver=name)
        self._dropped = counter(f"{path}.dropped_spans", "Ended calls that found queue_size others waiting.", receiver=name)
        self._unsampled = counter(f"{path}.unsampled_spans", "Ended calls whose trace is not sampled.", receiver=name)

    def connect(self, consumers: Mapping[Signal, Consume]) -> None:
        """Pass spans to this consumer from now on."""
        self._consume = consumers[Signal.TRACES]
        self._loop = asyncio.get_running_loop()
        if self._end is None:
            self._end = self._runtime.bus.listen((ExchangeFinished, AttemptFinished), self._hearing())

    async def stop(self) -> None:
        """Hear no more, and pass on what still waits."""
        if self._end is not None:
            self._end()
            self._end = None
        while self._waiting:
            self._flush()
            await asyncio.sleep(0)  # one batch a loop turn here too

    def _hearing(self) -> Callable[[ExchangeFinished | AttemptFinished], None]:
        """What the bus calls for each call that ends: as little as can be, for all that it needs is a local name."""
        waiting, unsampled = self._waiting, self._unsampled
        append, size, crowded = self._waiting.append, len, self._crowded

        def hear(fact: ExchangeFinished | AttemptFinished) -> None:
            if not fact.flags & SAMPLED:
                unsampled.value += 1
                return
            append(fact)
            count = size(waiting)
            if count == 1:
                self._timer = self._loop.call_later(self._config.flush_interval, self._flush)
            elif count >= AT_ONCE:
                crowded(count)

        return hear

    def _crowded(self, count: int) -> None:
        """Enough for a batch: write it in the next loop turn; or too many, and the newest goes."""
        if count == AT_ONCE:
            assert self._timer is not None
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._flush)
        elif count > self._config.queue_size:
            self._waiting.pop()
            self._dropped.value += 1

    def _flush(self) -> None:
        """Write up to 64 spans and pass them on; then come back in the next loop turn, or later, for the rest."""
        assert self._consume is not None
        if self._runtime.services.get("traffic.routes", self._routes) is not self._routes:
            self._routes = self._runtime.services["traffic.routes"]
            self._writer = self._new_writer()
        waiting = self._waiting
        facts = [waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))]
        if self._consume(Batch.of(Signal.TRACES, self._writer.request(facts), len(facts))):
            self._accepted.value += len(facts)
        else:
            self._refused.value += len(facts)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if len(waiting) >= AT_ONCE:
            self._timer = self._loop.call_soon(self._flush)
        elif waiting:
            self._timer = self._loop.call_later(self._config.flush_interval, self._flush)

    def _new_writer(self) -> SpanWriter:
        return SpanWriter(self._resource, scope_version=sidecar.__version__, routes=self._routes)
