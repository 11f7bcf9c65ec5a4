"""
A reload every 50 ms, under load: no call fails, none is lost, and what is replaced goes away.

    SOAK_SECONDS=120 make soak
"""

import asyncio
import gc
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from sidecar.app import App
from sidecar.config import Config, parse
from sidecar.model.facts import ExchangeFinished
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.upstreams.http import HttpUpstream
from tests.peers.echo import EchoUpstream
from tests.peers.wire import Wire, dials
from tests.scene import Opened
from tests.sidecar_under_test import eventually
from tests.soak.extent import SECONDS, SEED, extent

EVERY_S = 0.05
AT_ONCE = 6


def variant(rng: random.Random, port: int, upstreams: list[int], folder: Path) -> Config:
    """
    One of many configs that all serve the same calls: another upstream, other settings, other routes, other exporters.

    The listener stays as it is: one with other settings is another listener, and closes the idle connections of the one before.
    """
    policy = rng.choice(["", "policies: [timeout/t], "])
    exporter = rng.choice(["file/a", "file/b"])
    more = "".join(f"    more{number}: {{path: /more{number}/, upstream: http/llm}}\n" for number in range(rng.randrange(3)))
    text = f"""
traffic:
  listeners: {{http: {{endpoint: 127.0.0.1:{port}}}}}
  policies: {{timeout/t: {{first_byte: {rng.randrange(20, 30)}s}}}}
  upstreams: {{http/llm: {{url: "http://127.0.0.1:{rng.choice(upstreams)}/base", max_connections: {rng.randrange(60, 64)}}}}}
  routes:
    llm: {{path: /llm/, {policy}upstream: http/llm}}
{more}  identity: {{agent: agent{rng.randrange(3)}}}
  drain: 1s
receivers: {{traffic: {{}}}}
exporters: {{{exporter}: {{path: "{folder / exporter[-1]}"}}}}
service: {{pipelines: {{traces: {{receivers: [traffic], exporters: [{exporter}]}}}}}}
admin: {{endpoint: 127.0.0.1:0}}
"""
    return parse(text, environ={})


def upstreams_standing() -> int:
    """How many upstreams there are in this process, those of earlier tests included."""
    gc.collect()
    return sum(isinstance(each, HttpUpstream) for each in gc.get_objects())


@extent("seconds", short=1.0, long=SECONDS)
async def test_no_call_fails_while_configs_come_and_go(seconds: float, opened: Opened, free_port: object, tmp_path: Path) -> None:
    rng, others = random.Random(SEED), upstreams_standing()
    upstreams = [(await opened(EchoUpstream())).port for _ in range(2)]
    assert callable(free_port)
    port = free_port()
    runtime = Runtime(environ={"XDG_RUNTIME_DIR": str(tmp_path)})
    finished: Counter[tuple[int, str]] = Counter()
    runtime.bus.listen([ExchangeFinished], lambda fact: finished.update([(fact.status, fact.error)]))
    app = App(variant(rng, port, upstreams, tmp_path), runtime=runtime)
    await app.start()
    await app.ready()
    clients = [await dials("127.0.0.1", port) for _ in range(AT_ONCE)]
    answered = reloads = changes = 0
    until = time.monotonic() + seconds

    async def calls(client: Wire) -> None:
        nonlocal answered
        while time.monotonic() < until:
            await client.sends(b"POST /llm/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
            response = await client.response()
            assert response.status == 200, f"{response.head!r} (seed {SEED})"
            answered += 1

    async def reload() -> None:
        nonlocal reloads, changes
        while time.monotonic() < until:
            changes += bool(await app.reload(variant(rng, port, upstreams, tmp_path)))
            reloads += 1
            await asyncio.sleep(EVERY_S)

    try:
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(calls(client))
            group.create_task(reload())
        await eventually(lambda: sum(finished.values()) == answered, "the facts of all calls")
        standing = upstreams_standing() - others
    finally:
        for client in clients:
            client.close()
        await app.stop()
    print(f"\n{reloads} reloads, {changes} of them with changes, {answered} calls (seed {SEED})")
    assert finished == {(200, ""): answered}
    assert changes > reloads / 2
    assert standing <= 4, "upstreams of configs that are gone"


@pytest.mark.parametrize("seed", range(5))
def test_every_variant_is_good(seed: int, tmp_path: Path) -> None:
    assert variant(random.Random(seed), 1234, [1, 2], tmp_path).unused() in ((), ("traffic.policies.timeout/t",))
