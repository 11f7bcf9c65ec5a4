"""
A backend that comes and goes, is slow, overloaded and rude, under load: every span that was accepted is delivered or counted as lost.

    SOAK_SECONDS=120 make soak
"""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

from sidecar.app import App
from sidecar.config import parse
from sidecar.model.facts import AttemptFinished, ExchangeFinished
from sidecar.runtime.metrics import Counter, Gauge
from sidecar.runtime.runtime import Runtime
from tests.peers.echo import EchoUpstream
from tests.peers.wire import Wire, dials
from tests.scene import Opened
from tests.sidecar_under_test import eventually
from tests.soak.backend import MOODS, CountingBackend
from tests.soak.extent import SECONDS, SEED, extent

AT_ONCE = 6
PAUSE_S = 0.002
"""Between two calls of a client: it is the backend that is worn down here."""


def config(upstream: int, backend: int) -> str:
    return f"""
traffic:
  listeners: {{http: {{endpoint: 127.0.0.1:0}}}}
  upstreams: {{http/llm: {{url: "http://127.0.0.1:{upstream}"}}}}
  routes: {{llm: {{path: /llm/, upstream: http/llm}}}}
  drain: 100ms
receivers: {{traffic: {{flush_interval: 10ms}}}}
exporters:
  otlp_http:
    endpoint: "http://127.0.0.1:{backend}"
    timeout: 1s
    sending_queue: {{queue_size: 500, batch: {{flush_timeout: 20ms, max_size: 100}}}}
    retry_on_failure: {{initial_interval: 50ms, max_interval: 200ms, max_elapsed_time: 500ms}}
service: {{pipelines: {{traces: {{receivers: [traffic], exporters: [otlp_http]}}}}}}
admin: {{endpoint: 127.0.0.1:0}}
"""


def counted(runtime: Runtime) -> dict[str, int]:
    """The telemetry counters and gauges by the last part of their names."""
    found: dict[str, int] = {}
    for family in runtime.metrics:
        if family.name.startswith(("telemetry.receivers.traffic.", "telemetry.exporters.otlp_http.")):
            for metric in family.series.values():
                if isinstance(metric, Counter):
                    found[family.name.rpartition(".")[2]] = metric.value
                elif isinstance(metric, Gauge) and metric.read is not None:
                    found[family.name.rpartition(".")[2]] = int(metric.read())
    return found


@extent("seconds", short=2.0, long=SECONDS)
async def test_what_was_accepted_is_delivered_or_counted_as_lost(
    seconds: float, opened: Opened, free_port: Callable[[], int], tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    upstream = await opened(EchoUpstream())
    backend = await opened(CountingBackend(free_port()))
    runtime = Runtime(environ={"XDG_RUNTIME_DIR": str(tmp_path)})
    facts = [0]

    def count(fact: ExchangeFinished | AttemptFinished) -> None:
        facts[0] += 1

    runtime.bus.listen([ExchangeFinished, AttemptFinished], count)
    app = App(parse(config(upstream.port, backend.port), environ={}), runtime=runtime)
    await app.start()
    await app.ready()
    clients = [await dials("127.0.0.1", app.endpoints["traffic.listeners.http"][1]) for _ in range(AT_ONCE)]
    answered, slowest_s = 0, 0.0
    until = time.monotonic() + seconds

    async def calls(client: Wire) -> None:
        nonlocal answered, slowest_s
        while time.monotonic() < until:
            began = time.monotonic()
            await client.sends(b"GET /llm/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.response()).status == 200
            slowest_s = max(slowest_s, time.monotonic() - began)
            answered += 1
            await asyncio.sleep(PAUSE_S)

    async def moods() -> None:
        left = list(MOODS)
        while time.monotonic() < until:
            mood = left.pop() if left else rng.choice(MOODS)  # each one once, however short the test
            await backend.turns(mood)
            await asyncio.sleep(rng.uniform(0.2, 0.4) if seconds < 10 else rng.uniform(0.2, 3.0))
        await backend.turns("good")

    try:
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(calls(client))
            group.create_task(moods())
        await eventually(lambda: facts[0] == 2 * answered, "the facts of all calls")
        await eventually(lambda: not counted(runtime)["queue_size"] and _all_told(counted(runtime), facts[0]), "an empty queue")
        told = counted(runtime)
    finally:
        for client in clients:
            client.close()
        await app.stop()
    print(f"\n{answered} calls, the slowest took {slowest_s * 1000:.0f} ms; the backend was asked {backend.moods} (seed {SEED})\n  {told}")
    assert told["accepted_spans"] == told["sent_spans"] + told["send_failed_spans"] + told["rejected_spans"]
    assert told["refused_spans"] == told["enqueue_failed_spans"]
    assert told["sent_spans"] == backend.taken
    assert told["send_failed_spans"] > 0 and told["sent_spans"] > 0
    assert slowest_s < 1.0, "no call waits for telemetry"


def _all_told(told: dict[str, int], facts: int) -> bool:
    return told["accepted_spans"] + told["refused_spans"] + told["dropped_spans"] == facts
