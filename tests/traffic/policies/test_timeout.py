import asyncio
import time
from typing import Any

import pytest

from sidecar.model.asked import Asked
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.model.spec import Duration
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import Stage as ChainStage
from sidecar.traffic.chain import as_policy
from sidecar.traffic.policies import timeout
from tests.scene import CHUNKED, Scene, Stage

PASSAGE = Passage(
    listener="http", client="", mode=Mode.FORWARD, method="GET", scheme="http", host="h", port=80, path="/", target="/",
    upstream="", route="", agent="", task="", purpose=Purpose.LIVE,
)  # fmt: skip


def deadlines(**settings: str) -> tuple[float, float]:
    """What the guard makes of an attempt's deadlines: first byte and idle, in seconds."""
    config = timeout.Config(**{name: Duration(value) for name, value in settings.items()})
    attempt = Attempt(Exchange(PASSAGE, 0, 0, b"", b"", b"", 0, b""), PASSAGE, b"", 0)
    timeout.build("timeout", config, Runtime())(attempt)
    return attempt.first_byte_timeout_s, attempt.idle_timeout_s


def test_what_is_set_is_set_and_the_rest_is_left_to_the_upstream() -> None:
    assert deadlines(first_byte="30s", idle="200ms") == (30.0, 0.2)
    assert deadlines(first_byte="30s") == (30.0, 0.0)
    assert deadlines(idle="1m") == (0.0, 60.0)


def test_one_timeout_leaves_what_another_has_set() -> None:
    attempt = Attempt(Exchange(PASSAGE, 0, 0, b"", b"", b"", 0, b""), PASSAGE, b"", 0)
    for limits in ({"first_byte": "5s"}, {"idle": "20s"}, {"idle": "10s"}):
        config = timeout.Config(**{name: Duration(value) for name, value in limits.items()})
        timeout.build("timeout", config, Runtime())(attempt)
    assert (attempt.first_byte_timeout_s, attempt.idle_timeout_s) == (5.0, 10.0)


def test_a_stream_that_stands_open_on_purpose_is_left_alone() -> None:
    exchange = Exchange(PASSAGE, 0, 0, b"", b"", b"", 0, b"")
    exchange.asked = Asked("mcp", "listen", streams=True, is_standing=True)
    attempt = Attempt(exchange, PASSAGE, b"", 0)
    timeout.build("timeout", timeout.Config(first_byte=Duration("1s"), idle=Duration("1s")), Runtime())(attempt)
    assert (attempt.first_byte_timeout_s, attempt.idle_timeout_s) == (0.0, 0.0)


def test_a_timeout_without_any_time_is_refused() -> None:
    with pytest.raises(ValueError, match="set first_byte, idle, or both"):
        timeout.Config()


def test_it_is_a_guard_below_retries_so_that_each_attempt_has_its_own_time() -> None:
    guard = timeout.build("timeout", timeout.Config(idle=Duration("1s")), Runtime())
    assert not as_policy("timeout", timeout.STAGE, guard).is_filter
    assert timeout.STAGE is ChainStage.TIMEOUT
    assert timeout.STAGE.is_per_attempt


def settings(upstream: dict[str, Any] | None = None, **limits: str) -> dict[str, Any]:
    return {"policies": {"timeout/t": limits}, "route": {"policies": ["timeout/t"]}, "upstream": upstream or {}}


async def silence(scene: Scene) -> Any:
    """A call that the upstream hears and does not answer."""
    await scene.client.sends(scene.request())
    far = await scene.upstream.hears()
    await far.request()
    return far


async def test_an_upstream_that_does_not_begin_in_time_is_given_up(stage: Stage, mode: str) -> None:
    scene = await stage(**settings(first_byte="80ms"))
    began = time.monotonic()
    far = await silence(scene)
    await scene.sidecar.refuses(scene.client, "first_byte_timeout")
    assert 0.07 < time.monotonic() - began < 2.0
    await far.saw_end()
    await scene.sidecar.finished()
    assert [attempt.error for attempt in scene.sidecar.attempts] == ["first_byte_timeout"]


async def test_the_head_of_a_standing_stream_may_come_as_late_as_its_first_event(stage: Stage, mode: str) -> None:
    scene = await stage(**settings({"first_byte_timeout": "60ms", "idle_timeout": "60ms"}, first_byte="60ms", idle="60ms"))
    await scene.client.sends(scene.request(b"GET", b"/mcp", b"Accept: text/event-stream", b"Mcp-Session-Id: s"))
    far = await scene.upstream.hears()
    await far.request()
    await scene.client.saw_nothing(for_s=0.3)
    await far.sends(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    await scene.client.reads_until(b"\r\n\r\n")
    await scene.client.saw_nothing(for_s=0.3)
    await far.sends(b"8\r\ndata: {}\r\n0\r\n\r\n")
    await scene.client.reads_until(b"0\r\n\r\n")
    assert (await scene.sidecar.finished()).error == ""


async def test_a_response_that_falls_silent_is_cut(stage: Stage, mode: str) -> None:
    scene = await stage(**settings(idle="80ms"))
    far = await silence(scene)
    await far.sends(CHUNKED + b"2\r\nhi\r\n")
    assert b"hi" in await scene.client.reads_until(b"hi\r\n")
    assert b"0\r\n\r\n" not in await scene.client.reads_to_end()
    assert (await scene.sidecar.finished()).error == "idle_timeout"


async def test_a_response_that_keeps_coming_is_not_cut(stage: Stage) -> None:
    scene = await stage(**settings(idle="250ms"))
    far = await silence(scene)
    await far.sends(CHUNKED)
    for _ in range(12):
        await far.sends(b"2\r\nhi\r\n")
        await scene.client.reads_until(b"hi\r\n")
        await asyncio.sleep(0.03)
    await far.sends(b"0\r\n\r\n")
    await scene.client.reads_until(b"0\r\n\r\n")
    assert (await scene.sidecar.finished()).error == ""


async def test_a_route_may_be_more_patient_than_its_upstream(stage: Stage) -> None:
    scene = await stage(**settings({"first_byte_timeout": "50ms", "idle_timeout": "50ms"}, first_byte="1m", idle="1m"))
    far = await silence(scene)
    await scene.client.saw_nothing(for_s=0.25)
    await far.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    await scene.client.head()
    await scene.client.saw_nothing(for_s=0.25)
    await far.sends(b"ok")
    await scene.client.saw(b"ok")


async def test_what_the_route_does_not_say_the_upstream_does(stage: Stage) -> None:
    scene = await stage(**settings({"first_byte_timeout": "60ms"}, idle="1m"))
    await silence(scene)
    await scene.sidecar.refuses(scene.client, "first_byte_timeout")
