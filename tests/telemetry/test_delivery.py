import asyncio
from typing import Any

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.spec import Duration
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.delivery import Delivery, Outcome, Verdict
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Signal
from tests.sidecar_under_test import eventually

SOON = RetrySpec(initial_interval=Duration("1ms"), max_interval=Duration("1ms"))


class Backend:
    """Answers with what it was given, in order, then takes everything; an exception is raised."""

    def __init__(self, *answers: Outcome | Exception) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []

    async def __call__(self, signal: Signal, body: bytes) -> Outcome:
        self.bodies.append(body)
        answer = self.answers.pop(0) if self.answers else Outcome(Verdict.TAKEN)
        if isinstance(answer, Exception):
            raise answer
        return answer


LATER, NEVER = Outcome(Verdict.LATER, "HTTP 503"), Outcome(Verdict.NEVER, "HTTP 401: who are you?")


def delivery(backend: Any, retry: RetrySpec = SOON, timeout_s: float | None = 5.0) -> Delivery:
    runtime = Runtime(clock=ManualClock(wall_ns=1_800_000_000_000_000_000))
    return Delivery("telemetry.exporters.test", "test/1", runtime, backend, retry=retry, timeout_s=timeout_s)


def counts(one: Delivery) -> dict[str, int]:
    counters = one.counters[Signal.TRACES]
    values = {name: getattr(counters, name).value for name in ("sent", "send_failed", "enqueue_failed", "rejected")}
    return {name: value for name, value in values.items() if value}


async def test_what_may_succeed_later_is_tried_until_it_is_taken() -> None:
    backend = Backend(LATER, ConnectionRefusedError("nobody there"), LATER)
    one = delivery(backend)
    assert await one.settle(Signal.TRACES, b"body", 3)
    assert (backend.bodies, counts(one), one.failing) == ([b"body"] * 4, {"sent": 3}, "")


async def test_what_was_refused_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend(NEVER)
    one = delivery(backend)
    assert await one.settle(Signal.TRACES, b"body", 3)
    assert (len(backend.bodies), counts(one)) == (1, {"send_failed": 3})
    assert one.failing == "since 2027-01-15T08:00:00Z: HTTP 401: who are you?"
    assert caplog.messages == ["exporters.test/1: 3 spans are dropped: HTTP 401: who are you?"]


async def test_a_partial_success_is_counted_and_never_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend(Outcome(Verdict.TAKEN, "too old", rejected=2))
    one = delivery(backend)
    assert await one.settle(Signal.TRACES, b"body", 5)
    assert (len(backend.bodies), counts(one)) == (1, {"sent": 3, "rejected": 2})
    assert caplog.messages == ["exporters.test/1: the backend rejected 2 of 5 spans: too old"]


async def test_a_backend_cannot_reject_more_than_it_was_sent() -> None:
    one = delivery(Backend(Outcome(Verdict.TAKEN, rejected=99)))
    await one.settle(Signal.TRACES, b"body", 5)
    assert counts(one) == {"rejected": 5}


async def test_it_gives_up_when_time_is_over() -> None:
    backend = Backend(LATER, LATER, LATER)
    one = delivery(backend, RetrySpec(enabled=False))
    assert await one.settle(Signal.TRACES, b"body", 5)
    assert (len(backend.bodies), counts(one)) == (1, {"send_failed": 5})


async def test_the_pause_is_as_long_as_the_backend_asks_for() -> None:
    backend = Backend(Outcome(Verdict.LATER, "HTTP 429", retry_after_s=0.08))
    one = delivery(backend)
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await one.settle(Signal.TRACES, b"body", 1)
    assert loop.time() - started >= 0.08


async def test_a_try_that_takes_too_long_may_succeed_later() -> None:
    calls = []

    async def send(signal: Signal, body: bytes) -> Outcome:
        calls.append(body)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return Outcome(Verdict.TAKEN)

    one = delivery(send, timeout_s=0.01)
    assert await one.settle(Signal.TRACES, b"body", 1)
    assert (len(calls), counts(one)) == (2, {"sent": 1})


async def test_the_end_wakes_a_pause_and_allows_one_more_try() -> None:
    backend = Backend(LATER, LATER, LATER)
    one = delivery(backend, RetrySpec())  # pauses of seconds
    settling = asyncio.create_task(one.settle(Signal.TRACES, b"body", 4))
    await eventually(lambda: backend.bodies, "a first try")
    one.stop()
    assert await asyncio.wait_for(settling, 2) is False
    assert (len(backend.bodies), counts(one)) == (2, {})


async def test_recovery_is_logged_and_forgets_the_complaint(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    one = delivery(Backend(LATER, Outcome(Verdict.TAKEN), LATER))
    await one.settle(Signal.TRACES, b"body", 1)
    await one.settle(Signal.TRACES, b"body", 1)
    kinds = ["trying again" if "trying again" in text else text for text in caplog.messages]
    assert kinds == ["trying again", "exporters.test/1: the backend takes data again"] * 2
