"""
Calls of every kind against an upstream that misbehaves: each is told exactly once, and nothing of them stays behind.

    SOAK_CALLS=200000 SOAK_SEED=1 make soak
"""

import asyncio
import ctypes
import gc
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.app import App
from sidecar.config import parse
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import AttemptFinished, ExchangeFinished
from sidecar.runtime import metrics
from sidecar.runtime.runtime import Runtime
from tests.scene import Opened
from tests.sidecar_under_test import eventually
from tests.soak import caller, troublemaker
from tests.soak.backend import CountingBackend
from tests.soak.caller import Caller
from tests.soak.extent import CALLS, SEED, extent
from tests.soak.troublemaker import Troublemaker

AT_ONCE = 32
WARM_UP = 0.1
"""Share of the calls that is made before memory is looked at: caches and rings fill."""

_LIBC = ctypes.CDLL(None)

MOST_GROWTH_BYTES = 8 * 1024 * 1024


def config(upstream: int, backend: int) -> str:
    return f"""
traffic:
  listeners: {{http: {{endpoint: 127.0.0.1:0}}}}
  upstreams: {{http/llm: {{url: "http://127.0.0.1:{upstream}/base", keep_alive_timeout: 300ms}}}}
  routes: {{llm: {{path: /llm/, upstream: http/llm}}}}
  drain: 100ms
receivers: {{traffic: {{flush_interval: 20ms}}}}
exporters: {{otlp_http: {{endpoint: "http://127.0.0.1:{backend}"}}}}
service: {{pipelines: {{traces: {{receivers: [traffic], exporters: [otlp_http]}}}}}}
admin: {{endpoint: 127.0.0.1:0}}
"""


class Told:
    """What the sidecar has told: how often of each call, and how many spans that makes."""

    def __init__(self, runtime: Runtime, calls: int) -> None:
        self.times = bytearray(calls)
        self.exchanges = self.attempts = 0
        self.attempts_announced = 0
        self.errors: Counter[str] = Counter()
        runtime.bus.listen([ExchangeFinished], self._exchange)
        runtime.bus.listen([AttemptFinished], self._attempt)

    def _exchange(self, fact: ExchangeFinished) -> None:
        self.exchanges += 1
        self.attempts_announced += fact.attempts
        self.errors[fact.error] += 1
        if fact.task:
            self.times[int(fact.task)] += 1

    def _attempt(self, fact: AttemptFinished) -> None:
        self.attempts += 1


class Left:
    """What a process holds while nothing happens; two of these are equal when nothing was left behind in between."""

    def __init__(self, runtime: Runtime) -> None:
        self.rss_bytes = resident_bytes()
        objects = gc.get_objects()  # after a whole suite tens of megabytes long, so it comes after the memory was looked at
        self.held = {
            "tasks": sorted(task.get_name().rstrip("0123456789") for task in asyncio.all_tasks()),
            "timers": timers(objects),
            "exchanges": sum(isinstance(each, Exchange) for each in objects),
            "attempts": sum(isinstance(each, Attempt) for each in objects),
            "files": len(os.listdir("/dev/fd")),
            "gauges": dict(gauges(runtime)),
        }


def resident_bytes() -> int:
    """Resident memory of this process, without what the allocator keeps for later (Linux)."""
    gc.collect()
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def timers(objects: list[Any]) -> int:
    """Timers that will still go off."""
    now = asyncio.get_running_loop().time()
    return sum(type(each).__name__ == "TimerHandle" and not each.cancelled() and each.when() > now for each in objects)


def gauges(runtime: Runtime) -> list[tuple[str, float]]:
    return [
        (f"{family.name}{dict(labels)}", gauge.read() if gauge.read else gauge.value)
        for family in runtime.metrics
        for labels, gauge in family.series.items()
        if isinstance(gauge, metrics.Gauge)
    ]


@extent("calls", short=800, long=CALLS)
async def test_every_call_is_told_once_and_nothing_is_left_behind(
    calls: int, opened: Opened, free_port: Callable[[], int], tmp_path: Path
) -> None:
    upstream = await opened(Troublemaker(SEED))
    backend = await opened(CountingBackend(free_port()))
    runtime = Runtime(environ={"XDG_RUNTIME_DIR": str(tmp_path)})
    told = Told(runtime, calls)
    app = App(parse(config(upstream.port, backend.port), environ={}), runtime=runtime)
    await app.start()
    await app.ready()
    callers = [Caller(app.endpoints["traffic.listeners.http"][1], upstream.port, SEED + number) for number in range(AT_ONCE)]
    try:
        warm = int(calls * WARM_UP)
        await make(callers, range(warm))
        before = await at_rest(app, runtime, upstream, told, backend)
        began = time.monotonic()
        await make(callers, range(warm, calls))
        took_s = time.monotonic() - began
        after = await at_rest(app, runtime, upstream, told, backend)
    finally:
        for each in callers:
            await each.hang_up()
        await app.stop()
    report(calls, took_s, callers, upstream, told, after.rss_bytes - before.rss_bytes)
    wrong = [number for number, times in enumerate(told.times) if times != 1]
    assert not wrong, f"{len(wrong)} of {calls} calls were not told exactly once: {wrong[:10]} (seed {SEED})"
    assert told.exchanges == calls
    assert told.attempts == told.attempts_announced
    assert backend.taken == told.exchanges + told.attempts, "one span for each"
    assert after.held == before.held, f"seed {SEED}"
    if calls == CALLS:  # a few hundred calls say nothing about memory, in a process in which thousands of tests ran before
        assert after.rss_bytes - before.rss_bytes <= MOST_GROWTH_BYTES
    kinds = {kind for each in callers for kind, _ in each.outcomes}
    assert kinds == caller.SHARES.keys()
    assert all(upstream.did[what] for what in troublemaker.SHARES)
    assert not told.errors["internal"]


async def make(callers: list[Caller], numbers: range) -> None:
    """Make the calls of these numbers, as many at once as there are callers, and hang up."""
    left = iter(numbers)

    async def work(each: Caller) -> None:
        for number in left:
            await each.call(number)
        await each.hang_up()

    async with asyncio.TaskGroup() as group:
        for each in callers:
            group.create_task(work(each))


async def at_rest(app: App, runtime: Runtime, upstream: Troublemaker, told: Told, backend: CountingBackend) -> Left:
    """Wait until nothing is under way any more, and look."""

    def rests() -> bool:
        busy: list[Any] = [*app._traffic.exchanges(), *upstream.connections]
        return not busy and backend.taken == told.exchanges + told.attempts

    await eventually(rests, "rest")
    seen, last = timers(gc.get_objects()), -1
    while seen != last:  # connections that were closed end in their own time
        await asyncio.sleep(0.4)
        seen, last = timers(gc.get_objects()), seen
    return Left(runtime)


def report(calls: int, took_s: float, callers: list[Caller], upstream: Troublemaker, told: Told, growth_bytes: int) -> None:
    outcomes: Counter[tuple[str, str]] = sum((each.outcomes for each in callers), Counter())
    print(
        f"\n{calls} calls, {calls * (1 - WARM_UP) / took_s:.0f} a second, memory grew by {growth_bytes / 2**20:.1f} MiB (seed {SEED})"
    )
    print(f"  the upstream did {upstream.did}")
    print(f"  the sidecar told {told.exchanges} exchanges, {told.attempts} attempts, errors {dict(told.errors)}")
    for (kind, outcome), count in sorted(outcomes.items()):
        print(f"  {kind:8} {outcome:28} {count}")


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_seed_makes_the_same_plan(seed: int) -> None:
    plans = [[Caller(1, 2, seed)._request(kind, 7) for kind in caller.SHARES] for _ in range(2)]
    assert plans[0] == plans[1]
