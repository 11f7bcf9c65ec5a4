"""The rings and those who follow: order, joins, bounds, and what becomes of a slow reader."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from sidecar.admin import exchanges as module
from sidecar.admin.exchanges import FOLLOWER_QUEUE, KEPT_ATTEMPTS, KEPT_EXCHANGES, MOST_FOLLOWERS, MOST_TEXT, Exchanges
from sidecar.admin.filter import Filter
from sidecar.admin.refusals import AdminRefused
from sidecar.model.asked import Asked
from sidecar.model.content import Content
from sidecar.model.dialogue import Dialogue
from sidecar.runtime.runtime import Runtime
from tests.admin.seen import attempt_finished, exchange_finished

ALL = Filter(limit=512)
NEW = Filter(limit=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE_S", 0.0)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def exchanges(runtime: Runtime) -> Exchanges:
    made = Exchanges(runtime, heartbeat_s=0.02)
    made.start()
    return made


def publish(runtime: Runtime, number: int, **changes: Any) -> None:
    runtime.bus.publish(attempt_finished(number))
    runtime.bus.publish(exchange_finished(number, **changes))


def ids(shown: list[dict[str, Any]]) -> list[int]:
    return [int(each["span_id"], 16) - 1 for each in shown]


def events(data: bytes) -> list[dict[str, Any]]:
    """The exchanges in a piece of an event stream."""
    found = []
    for block in data.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields.get("event") == "exchange":
            found.append(json.loads(fields["data"]))
            assert fields["id"] == found[-1]["span_id"]
    return found


async def next_events(stream: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        async for data in stream:
            if found := events(data):
                return found
    raise AssertionError("the stream has ended")


def test_the_newest_comes_first_with_its_attempts(runtime: Runtime, exchanges: Exchanges) -> None:
    for number in range(3):
        publish(runtime, number)
    runtime.bus.publish(attempt_finished(2, resends=1, status=500))
    found = exchanges.latest(ALL)
    assert ids(found) == [2, 1, 0]
    assert [len(each["attempts"]) for each in found] == [2, 1, 1]


def test_the_limit_counts_what_matches(runtime: Runtime, exchanges: Exchanges) -> None:
    for number in range(10):
        publish(runtime, number, agent="odd" if number % 2 else "even")
    assert ids(exchanges.latest(Filter(limit=2, agent="even"))) == [8, 6]
    assert exchanges.latest(NEW) == []


def test_the_rings_forget_the_oldest(runtime: Runtime, exchanges: Exchanges) -> None:
    for number in range(KEPT_EXCHANGES + 5):
        publish(runtime, number)
    found = exchanges.latest(Filter(limit=KEPT_EXCHANGES + 5))
    assert len(found) == KEPT_EXCHANGES
    assert ids(found)[-1] == 5
    for _ in range(KEPT_ATTEMPTS):
        runtime.bus.publish(attempt_finished(10_000))
    assert all(each["attempts"] == [] for each in exchanges.latest(ALL))


def test_a_very_long_target_is_cut_and_the_fact_of_others_is_not(runtime: Runtime, exchanges: Exchanges) -> None:
    whole = exchange_finished(0, path="/" + "x" * 60_000, blocks={"mine": b"kept"})
    runtime.bus.publish(whole)
    runtime.bus.publish(attempt_finished(0, target="/" + "y" * 60_000))
    (shown,) = exchanges.latest(ALL)
    assert len(shown["path"]) == len(shown["attempts"][0]["path"]) == MOST_TEXT // 2
    assert shown["path"][:2] + shown["attempts"][0]["path"][:2] == "/x/y"
    assert len(whole.path) == 60_001
    assert whole.passage.blocks == {"mine": b"kept"}


def test_the_latest_stay_when_less_is_kept_and_all_when_more_is(runtime: Runtime, exchanges: Exchanges) -> None:
    for number in range(5):
        publish(runtime, number)
    exchanges.keep(3)
    assert ids(exchanges.latest(ALL)) == [4, 3, 2]
    exchanges.keep(4)
    publish(runtime, 5)
    publish(runtime, 6)
    found = exchanges.latest(ALL)
    assert ids(found) == [6, 5, 4, 3]
    assert [len(each["attempts"]) for each in found] == [1, 1, 1, 1]
    exchanges.keep(0)
    publish(runtime, 7)
    assert exchanges.latest(ALL) == []


def test_before_start_and_after_stop_nothing_is_heard_and_both_may_be_called_twice(runtime: Runtime) -> None:
    exchanges = Exchanges(runtime)
    exchanges.stop()
    publish(runtime, 0)
    exchanges.start()
    exchanges.start()
    publish(runtime, 1)
    exchanges.stop()
    exchanges.stop()
    publish(runtime, 2)
    assert ids(exchanges.latest(ALL)) == [1]


async def test_a_follower_gets_the_backlog_oldest_first_and_then_what_happens(runtime: Runtime, exchanges: Exchanges) -> None:
    for number in range(3):
        publish(runtime, number)
    stream = exchanges.follow(Filter(limit=2))
    assert ids(await next_events(stream)) == [1, 2]
    publish(runtime, 3)
    publish(runtime, 4)
    found = await next_events(stream)
    assert ids(found) == [3, 4]
    assert len(found[0]["attempts"]) == 1
    exchanges.stop()
    assert [data async for data in stream][-1:] in ([], [b": alive\n\n"])


async def test_a_follower_gets_only_what_it_asked_for(runtime: Runtime, exchanges: Exchanges) -> None:
    stream = exchanges.follow(Filter(limit=0, agent="mine"))
    await anext(stream)
    publish(runtime, 0, agent="other")
    publish(runtime, 1, agent="mine")
    assert ids(await next_events(stream)) == [1]
    exchanges.stop()
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_a_silent_stream_says_that_it_is_alive(runtime: Runtime, exchanges: Exchanges) -> None:
    stream = exchanges.follow(NEW)
    assert await anext(stream) == b"retry: 2000\n\n"
    assert await anext(stream) == b": alive\n\n"
    exchanges.stop()
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_a_follower_that_does_not_read_is_dropped_and_counted_and_costs_no_more(
    runtime: Runtime, exchanges: Exchanges
) -> None:
    stream = exchanges.follow(NEW)
    await anext(stream)
    (follower,) = exchanges._followers
    for number in range(FOLLOWER_QUEUE + 100):
        publish(runtime, number)
    assert len(follower._facts) == FOLLOWER_QUEUE
    last = b""
    async for data in stream:
        last = data
    assert last == b"event: dropped\ndata: {}\n\n"
    assert runtime.metrics.counter("admin.slow_clients", "").value == 1
    assert exchanges._followers == set()


async def test_there_is_room_for_so_many_followers_and_again_when_one_has_gone(runtime: Runtime, exchanges: Exchanges) -> None:
    streams = [exchanges.follow(NEW) for _ in range(MOST_FOLLOWERS)]
    for stream in streams:
        await anext(stream)
    with pytest.raises(AdminRefused) as caught:
        exchanges.follow(NEW)
    assert caught.value.code == "too_many_streams"
    await streams[0].aclose()  # type: ignore[attr-defined]  # it is a generator
    streams[0] = exchanges.follow(NEW)
    gauge = runtime.metrics.gauge("admin.streams", "")
    assert gauge.read is not None and gauge.read() == MOST_FOLLOWERS
    exchanges.stop()
    for stream in streams:
        async for _ in stream:
            pass
    assert gauge.read() == 0


def test_what_was_said_is_not_kept(runtime: Runtime, exchanges: Exchanges) -> None:
    said = Dialogue(Asked("d", "o"), content=Content())
    runtime.bus.publish(replace(attempt_finished(1), dialogue=said))
    runtime.bus.publish(replace(exchange_finished(1), dialogue=said))
    (shown,) = exchanges.latest(ALL)
    assert len(shown["attempts"]) == 1
    assert [fact.dialogue for fact in (*exchanges._exchanges, *exchanges._attempts)] == [Dialogue(Asked("d", "o"))] * 2
    assert said.content == Content()
