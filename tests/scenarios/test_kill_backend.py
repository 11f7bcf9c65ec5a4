"""The telemetry backend is away, hangs, or dies: no call is slower or fails for it, and what was lost is counted."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.runtime.metrics import Counter
from tests.peers.raw import RawUpstream
from tests.peers.wire import Ended, Wire
from tests.scene import GATEWAY, Opened, Scene
from tests.sidecar_under_test import SidecarUnderTest, config_for, eventually

CALLS = 60
EXPORTERS = ["otlp_http", "otlp_grpc"]


async def scene_with_backend(opened: Opened, exporter: str, port: int, **settings: Any) -> Scene:
    """A scene whose spans go to this port."""
    upstream = await opened(RawUpstream())
    config = config_for(upstream.url)
    endpoint = f"http://127.0.0.1:{port}" if exporter == "otlp_http" else f"127.0.0.1:{port}"
    impatient = {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "50ms"}
    own = {"tls": {"insecure": True}} if exporter == "otlp_grpc" else {}
    config["receivers"] = {"traffic": {}}
    config["exporters"] = {
        exporter: {
            "endpoint": endpoint,
            "timeout": "200ms",
            "retry_on_failure": impatient,
            "stop_timeout": "300ms",
            **own,
            **settings,
        }
    }
    config["service"] = {"pipelines": {"traces": {"receivers": ["traffic"], "exporters": [exporter]}}}
    sidecar = await opened(SidecarUnderTest(config))
    await sidecar.app.ready()
    return Scene(GATEWAY, sidecar, upstream, await sidecar.connects())


def counted(scene: Scene, *endings: str) -> int:
    """The sum of all counters whose names end so."""
    return sum(
        metric.value
        for family in scene.sidecar.runtime.metrics
        if family.name.endswith(endings)
        for metric in family.series.values()
        if isinstance(metric, Counter)
    )


async def all_calls_pass(scene: Scene, calls: int = CALLS) -> float:
    """Make calls one after the other; returns the slowest, in seconds."""
    slowest = 0.0
    for _ in range(calls):
        began = time.monotonic()
        await scene.passes(scene.request())
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.parametrize("exporter", EXPORTERS)
async def test_a_backend_that_is_away_slows_no_call_and_what_is_lost_is_counted(
    opened: Opened, free_port: Callable[[], int], exporter: str
) -> None:
    scene = await scene_with_backend(opened, exporter, free_port())
    assert await all_calls_pass(scene) < 1.0
    await eventually(lambda: counted(scene, "send_failed_spans", "enqueue_failed_spans") >= 2 * CALLS, "the count of lost spans")


@pytest.mark.parametrize("exporter", EXPORTERS)
async def test_a_backend_that_never_answers_slows_no_call(opened: Opened, exporter: str) -> None:
    async def hangs(connection: Wire) -> None:
        connection.patience_s = 60.0
        await connection.reads_to_end()

    backend = await opened(RawUpstream(hangs))
    scene = await scene_with_backend(opened, exporter, backend.port)
    assert await all_calls_pass(scene) < 1.0
    await eventually(lambda: counted(scene, "send_failed_spans", "enqueue_failed_spans") >= 1, "the count of lost spans")


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"], ids=["hangs up", "nonsense", "503"]
)
async def test_a_backend_that_misbehaves_slows_no_call(opened: Opened, exporter: str, answer: bytes) -> None:
    async def misbehaves(connection: Wire) -> None:
        await connection.reads_some()
        await connection.sends_if_open(answer)

    backend = await opened(RawUpstream(misbehaves))
    scene = await scene_with_backend(opened, exporter, backend.port)
    assert await all_calls_pass(scene) < 1.0


async def test_a_backend_that_dies_and_comes_back_gets_the_spans_that_come_then(
    opened: Opened, free_port: Callable[[], int]
) -> None:
    port, posts = free_port(), []

    async def takes(connection: Wire) -> None:
        connection.patience_s = 60.0
        while True:
            try:
                posts.append(await connection.request())
            except Ended:
                return
            await connection.sends(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")

    scene = await scene_with_backend(opened, "otlp_http", port)
    await all_calls_pass(scene, 5)
    await eventually(lambda: counted(scene, "send_failed_spans", "enqueue_failed_spans") >= 10, "the count of lost spans")
    await opened(RawUpstream(takes, port=port))
    await all_calls_pass(scene, 5)
    await eventually(lambda: counted(scene, "sent_spans") >= 10, "the spans that came through")
    assert posts[0].target == b"/v1/traces"
    assert posts[0].one(b"content-type") == b"application/x-protobuf"


async def test_stopping_does_not_wait_for_a_dead_backend(opened: Opened) -> None:
    async def hangs(connection: Wire) -> None:
        connection.patience_s = 60.0
        await connection.reads_to_end()

    backend = await opened(RawUpstream(hangs))
    scene = await scene_with_backend(opened, "otlp_http", backend.port)
    await all_calls_pass(scene, 5)
    began = time.monotonic()
    async with asyncio.timeout(5):
        await scene.sidecar.app.stop()
    assert time.monotonic() - began < 4.0
