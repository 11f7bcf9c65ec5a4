import random
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.model.clock import SYSTEM_CLOCK, Clock, ManualClock
from sidecar.runtime.runtime import HasHealth, Health, Runtime, Starts, State, Stops


@dataclass(slots=True)
class Failed:
    number: int


class Breaker:
    """An engine as the architecture has it: hears facts, is configured anew, keeps its state."""

    hears = (Failed,)

    def __init__(self, config: int, *, clock: Clock, rng: random.Random) -> None:
        self.configs = [config]
        self.clock, self.rng = clock, rng
        self.heard: list[Failed] = []

    def reconfigure(self, config: int) -> None:
        self.configs.append(config)

    def hear(self, fact: Failed) -> None:
        self.heard.append(fact)


class Deaf:
    def __init__(self, config: Any, *, clock: Clock, rng: random.Random) -> None: ...


def test_an_engine_is_made_once_and_found_again_with_its_state() -> None:
    runtime = Runtime()
    engine = runtime.engine(Breaker, "openai", 1)
    runtime.bus.publish(Failed(7))
    assert runtime.engine(Breaker, "openai", 2) is engine
    assert engine.configs == [1, 2]
    runtime.bus.publish(Failed(8))
    assert engine.heard == [Failed(7), Failed(8)], "it listens once, however often it is found"


def test_engines_are_told_apart_by_kind_and_name() -> None:
    runtime = Runtime()
    one, other = runtime.engine(Breaker, "one", 1), runtime.engine(Breaker, "other", 1)
    deaf = runtime.engine(Deaf, "one", None)
    assert runtime.engines() == {("Breaker", "one"): one, ("Breaker", "other"): other, ("Deaf", "one"): deaf}


def test_an_engine_gets_the_clock_and_the_chance_of_the_runtime() -> None:
    clock, rng = ManualClock(), random.Random(1)
    engine = Runtime(clock=clock, rng=rng).engine(Breaker, "x", 1)
    assert (engine.clock, engine.rng) == (clock, rng)


def test_a_runtime_stands_on_the_systems_clock_and_on_no_environment_by_default() -> None:
    runtime = Runtime()
    assert runtime.clock is SYSTEM_CLOCK
    assert runtime.environ == {}
    assert Runtime(environ={"A": "b"}).environ == {"A": "b"}


@pytest.mark.parametrize(
    ("state", "ready"), [("starting", False), ("ok", True), ("degraded", True), ("failed", False), ("stopped", False)]
)
def test_a_degraded_component_does_not_keep_traffic_out(state: str, ready: bool) -> None:
    assert Health(State(state)).ready is ready


def test_what_a_component_can_do_is_seen_by_its_methods() -> None:
    class Everything:
        async def start(self) -> None: ...

        async def stop(self) -> None: ...

        def health(self) -> Health:
            return Health(State.OK)

    assert isinstance(Everything(), Starts)
    assert isinstance(Everything(), Stops)
    assert isinstance(Everything(), HasHealth)
    assert not isinstance(Deaf(None, clock=SYSTEM_CLOCK, rng=random.Random()), Starts | Stops | HasHealth)
