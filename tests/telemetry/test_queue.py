import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.spec import Duration, Size
from sidecar.runtime.metrics import Counter, Gauge
from sidecar.runtime.runtime import Runtime, State
from sidecar.telemetry.delivery import Outcome, Verdict
from sidecar.telemetry.queue import BatchSpec, QueueSpec, SendingQueue
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Batch, Signal
from tests.sidecar_under_test import eventually

LATER, NEVER, TAKEN = Outcome(Verdict.LATER, "down"), Outcome(Verdict.NEVER, "no"), Outcome(Verdict.TAKEN)


class Scene:
    """A queue in front of a backend whose answers a test gives one by one, or all at once."""

    def __init__(self, *, split: Any = None, stop_timeout_s: float = 2.0, retry: RetrySpec | None = None, **queue: Any) -> None:
        batch = {name: queue.pop(name) for name in ("flush_timeout", "max_size") if name in queue}
        if "batch_bytes" in queue:
            batch["max_bytes"] = queue.pop("batch_bytes")
        self.runtime = Runtime(clock=ManualClock(wall_ns=10**18))
        self.sent: list[tuple[Signal, bytes]] = []
        self.answer: Outcome = TAKEN
        self.gate = asyncio.Event()
        self.gate.set()
        self.queue = SendingQueue(
            "telemetry.exporters.test",
            "test",
            self.runtime,
            self._send,
            queue=QueueSpec(batch=BatchSpec(**{"flush_timeout": Duration("5ms"), **batch}), **queue),
            retry=retry or RetrySpec(initial_interval=Duration("1ms"), max_interval=Duration("1ms")),
            timeout_s=5.0,
            stop_timeout_s=stop_timeout_s,
            split=split,
        )

    async def _send(self, signal: Signal, body: bytes) -> Outcome:
        self.sent.append((signal, body))
        await self.gate.wait()
        return self.answer

    def put(self, text: str, items: int | None = None, signal: Signal = Signal.TRACES) -> bool:
        return self.queue.offer(Batch.of(signal, text.encode(), len(text) if items is None else items))

    async def has_sent(self, requests: int) -> list[str]:
        await eventually(lambda: len(self.sent) >= requests, f"{requests} requests")
        return [body.decode() for _, body in self.sent]

    def counts(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for family in self.runtime.metrics:
            ((labels, metric),) = family.series.items()
            assert labels == (("exporter", "test"),)
            assert isinstance(metric, Counter | Gauge)
            value = metric.read() if isinstance(metric, Gauge) and metric.read else metric.value
            found[family.name.removeprefix("telemetry.exporters.test.")] = value
        return {name: value for name, value in found.items() if value and name != "queue_capacity"}


async def test_batches_that_come_together_go_together() -> None:
    scene = Scene()
    await scene.queue.start()
    assert scene.put("ab") and scene.put("cde")
    assert await scene.has_sent(1) == ["abcde"]
    await scene.queue.stop()
    assert scene.counts() == {"sent_spans": 5}


async def test_a_full_request_does_not_wait_for_the_flush() -> None:
    scene = Scene(max_size=4, flush_timeout=Duration("1h"))
    await scene.queue.start()
    scene.put("ab")
    scene.put("cd")
    assert await scene.has_sent(1) == ["abcd"]
    scene.put("e")
    scene.put("fgh")
    assert await scene.has_sent(2) == ["abcd", "efgh"]
    await scene.queue.stop()


async def test_what_would_not_fit_into_the_request_waits_for_the_next() -> None:
    scene = Scene(max_size=4)
    for text in ("abc", "def", "g"):
        scene.put(text)
    await scene.queue.start()
    assert await scene.has_sent(2) == ["abc", "defg"]
    await scene.queue.stop()


async def test_bytes_bound_a_request_as_items_do() -> None:
    scene = Scene(batch_bytes=Size("1KiB"), flush_timeout=Duration("1h"))
    await scene.queue.start()
    scene.put("a" * 600, items=1)
    scene.put("b" * 600, items=1)
    assert await scene.has_sent(1) == ["a" * 600]
    await scene.queue.stop()
    assert await scene.has_sent(2) == ["a" * 600, "b" * 600]


async def test_signals_do_not_share_a_request() -> None:
    scene = Scene()
    scene.put("spans")
    scene.put("logs", signal=Signal.LOGS)
    scene.put("more")
    await scene.queue.start()
    await scene.has_sent(2)
    assert sorted(scene.sent) == [(Signal.LOGS, b"logs"), (Signal.TRACES, b"spansmore")]
    await scene.queue.stop()
    assert scene.counts() == {"sent_spans": 9, "sent_log_records": 4}


async def test_a_rare_signal_is_flushed_while_a_frequent_one_fills_requests() -> None:
    scene = Scene(max_size=2)
    await scene.queue.start()
    scene.put("x", signal=Signal.LOGS)
    async with asyncio.timeout(5):
        while (Signal.LOGS, b"x") not in scene.sent:
            scene.put("ab")
            await asyncio.sleep(0.001)
    await scene.queue.stop()


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({"queue_size": 4, "max_size": 2}, ("ab", "cd", "e")),
        ({"max_bytes": Size("1KiB"), "batch_bytes": Size("1KiB")}, ("a" * 1000, "b" * 25)),
    ],
    ids=["items", "bytes"],
)
async def test_a_full_queue_drops_the_newest_and_counts_it(settings: dict[str, Any], texts: tuple[str, ...]) -> None:
    scene = Scene(**settings)
    assert [scene.put(text) for text in texts] == [True] * (len(texts) - 1) + [False]
    assert scene.counts()["enqueue_failed_spans"] == len(texts[-1])
    assert "queue_size" not in scene.counts(), "what has not been started is not shown"
    await scene.queue.start()
    assert scene.counts()["queue_size"] == sum(map(len, texts[:-1])) == scene.counts()["queue_bytes"]
    await scene.queue.stop()
    assert "telemetry.exporters.test.queue_size" not in {family.name for family in scene.runtime.metrics}
    assert "".join(body.decode() for _, body in scene.sent) == "".join(texts[:-1])


async def test_what_is_under_way_counts_as_waiting() -> None:
    scene = Scene(queue_size=2, max_size=2)
    scene.gate.clear()
    await scene.queue.start()
    scene.put("ab")
    await scene.has_sent(1)
    assert not scene.put("c")
    scene.gate.set()
    await eventually(lambda: scene.put("c"), "room")
    await scene.queue.stop()
    assert scene.counts()["sent_spans"] == 3


async def test_one_batch_that_is_larger_than_the_queue_is_taken_where_nothing_waits() -> None:
    scene = Scene(queue_size=4, max_size=4)
    assert scene.put("abcdefgh")
    assert not scene.put("i")
    await scene.queue.start()
    await scene.queue.stop()
    assert scene.counts() == {"sent_spans": 8, "enqueue_failed_spans": 1}


async def test_a_dead_backend_costs_data_and_nothing_else() -> None:
    scene = Scene(queue_size=8, max_size=2, retry=RetrySpec())
    scene.answer = LATER
    await scene.queue.start()
    taken = [scene.put("ab") for _ in range(100)]
    await scene.has_sent(1)
    assert taken.count(True) == 4
    health = scene.queue.health()
    assert (health.state, health.reason) == (State.DEGRADED, "since 2001-09-09T01:46:40Z: down; 8 items wait")
    assert health.ready
    await scene.queue.stop()
    assert scene.counts() == {"enqueue_failed_spans": 192, "send_failed_spans": 8}


async def test_a_backend_that_comes_back_gets_what_waited() -> None:
    scene = Scene()
    scene.answer = LATER
    await scene.queue.start()
    scene.put("ab")
    await scene.has_sent(3)
    assert scene.queue.health().state is State.DEGRADED
    scene.answer = TAKEN
    await eventually(lambda: scene.queue.health().state is State.OK, "recovery")
    await scene.queue.stop()
    assert scene.counts() == {"sent_spans": 2}


async def test_what_is_refused_makes_room_for_the_next() -> None:
    scene = Scene(max_size=2)
    scene.answer = NEVER
    await scene.queue.start()
    scene.put("ab")
    await scene.has_sent(1)
    scene.answer = TAKEN
    scene.put("cd")
    await scene.has_sent(2)
    await scene.queue.stop()
    assert scene.counts() == {"send_failed_spans": 2, "sent_spans": 2}


def halves(signal: Signal, body: bytes, most_items: int, most_bytes: int) -> Iterator[tuple[bytes, int]]:
    if b"!" in body:
        raise ValueError("cannot be read")
    for start in range(0, len(body), most_items):
        piece = body[start : start + most_items]
        yield (piece * 2000 if b"L" in piece else piece), len(piece)


async def test_a_batch_that_is_too_large_is_split() -> None:
    scene = Scene(max_size=3, split=halves)
    await scene.queue.start()
    scene.put("abcdefgh")
    assert await scene.has_sent(3) == ["abc", "def", "gh"]
    await scene.queue.stop()
    assert scene.counts() == {"sent_spans": 8}


async def test_a_batch_that_cannot_be_split_is_dropped_and_the_next_one_sent(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(max_size=3, split=halves)
    await scene.queue.start()
    scene.put("abcd!")
    scene.put("xyz")
    assert await scene.has_sent(1) == ["xyz"]
    await scene.queue.stop()
    assert scene.counts() == {"sent_spans": 3, "send_failed_spans": 5}
    assert "no valid traces: cannot be read" in caplog.text


async def test_a_piece_that_is_still_too_large_is_dropped_alone(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(max_size=2, split=halves, batch_bytes=Size("1KiB"))
    await scene.queue.start()
    scene.put("abLdef")
    assert await scene.has_sent(2) == ["ab", "ef"]
    await scene.queue.stop()
    assert scene.counts() == {"sent_spans": 4, "send_failed_spans": 2}
    assert "larger than batch.max_bytes" in caplog.text


async def test_the_end_sends_what_waits_without_waiting_for_more() -> None:
    scene = Scene(flush_timeout=Duration("1h"), max_size=4)
    await scene.queue.start()
    for text in ("abc", "def", "g"):
        scene.put(text)
    async with asyncio.timeout(2):
        await scene.queue.stop()
    assert [body for _, body in scene.sent] == [b"abc", b"defg"]
    assert scene.queue.health().state is State.STOPPED


async def test_the_end_does_not_wait_for_a_backend_that_hangs() -> None:
    scene = Scene(stop_timeout_s=0.05, max_size=2)
    scene.gate.clear()
    await scene.queue.start()
    scene.put("ab")
    scene.put("cd")
    await scene.has_sent(1)
    async with asyncio.timeout(2):
        await scene.queue.stop()
    assert scene.counts() == {"send_failed_spans": 4}


async def test_the_end_tries_a_dead_backend_once_and_counts_the_rest() -> None:
    scene = Scene(retry=RetrySpec(), max_size=2)
    scene.answer = LATER
    for text in ("ab", "cd", "ef"):
        scene.put(text)
    await scene.queue.start()
    await scene.has_sent(1)
    async with asyncio.timeout(2):
        await scene.queue.stop()
    assert (len(scene.sent), scene.counts()) == (2, {"send_failed_spans": 6})


async def test_stopping_twice_or_without_a_start_does_no_harm() -> None:
    scene = Scene()
    assert scene.queue.health().state is State.STARTING
    scene.put("ab")
    await scene.queue.stop()
    await scene.queue.stop()
    assert scene.counts() == {"send_failed_spans": 2}
    assert not scene.put("c")
    await scene.queue.start()
    assert scene.queue.health().state is State.STOPPED


async def test_a_task_that_died_is_a_failure_that_shows() -> None:
    scene = Scene(split=lambda *_: 1 / 0, max_size=1)
    await scene.queue.start()
    scene.put("ab")
    await eventually(lambda: scene.queue.health().state is State.FAILED, "failure")
    assert scene.counts() == {"send_failed_spans": 2}
    await scene.queue.stop()


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchSpec(max_size=0),
        lambda: BatchSpec(max_bytes=Size("100B")),
        lambda: BatchSpec(max_bytes=Size("65MiB")),
        lambda: QueueSpec(queue_size=1023),
        lambda: QueueSpec(max_bytes=Size("1MiB")),
    ],
)
def test_bounds_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError):
        make()
