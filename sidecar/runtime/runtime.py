"""The runtime: what every component is built with."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar, runtime_checkable

from sidecar.model.clock import SYSTEM_CLOCK, Clock
from sidecar.runtime.bus import Bus
from sidecar.runtime.metrics import Metrics


class State(StrEnum):
    """Where a component stands in its life (the Collector's component status, shortened)."""

    STARTING = "starting"
    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Health:
    """A component's own word about itself; `ready` says whether traffic may come, `reason` is for people."""

    state: State
    reason: str = ""

    @property
    def ready(self) -> bool:
        """A degraded component (say, an exporter whose backend is away) does not keep traffic out."""
        return self.state in (State.OK, State.DEGRADED)


@runtime_checkable
class Starts(Protocol):
    """A component that has something to start."""

    async def start(self) -> None:
        """Begin; return soon, and leave long work to a task that `stop` ends."""


@runtime_checkable
class Stops(Protocol):
    """A component that has something to stop."""

    async def stop(self) -> None:
        """End and wait for the end; harmless when called twice or without a start."""


@runtime_checkable
class HasHealth(Protocol):
    """A component that can tell how it is."""

    def health(self) -> Health:
        """The component's state at this moment."""
        ...


E = TypeVar("E")


class Runtime:
    """
    Clock, chance, bus, metrics and engines, handed to every `build`.

    `environ` is the process environment at start, so that tests can give another one.
    """

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.clock = clock
        self.rng = rng or random.Random()  # noqa: S311 - ids and jitter, no secrets
        self.environ = environ if environ is not None else {}
        self.bus = Bus(clock)
        self.metrics = Metrics(before_reading=self.bus.deliver)
        self.services: dict[str, Any] = {}
        self._engines: dict[tuple[type, str], Any] = {}

    def engine(self, kind: Callable[..., E], name: str, config: Any) -> E:
        """
        Return the one engine of this kind and name, made on the first call with `kind(config, clock=, rng=)`.

        A later call, as after a reload, finds it again with all its state and calls `reconfigure(config)`. An engine that
        has `hears` (types of facts) and `hear(fact)` is told of those facts from then on.
        """
        assert isinstance(kind, type)
        engine = self._engines.get((kind, name))
        if engine is not None:
            engine.reconfigure(config)
            return engine  # type: ignore[no-any-return]  # the key holds the type
        engine = kind(config, clock=self.clock, rng=self.rng)
        self._engines[(kind, name)] = engine
        if hasattr(engine, "hears"):
            self.bus.listen(engine.hears, engine.hear)
        return engine  # type: ignore[no-any-return]  # as above

    def engines(self) -> dict[tuple[str, str], Any]:
        """Every engine by kind and name, for admin and for tests."""
        return {(kind.__name__, name): engine for (kind, name), engine in self._engines.items()}
