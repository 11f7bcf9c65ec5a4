"""The verbs: what is told about them, what waits for what, and what happens when the caller goes away."""

import asyncio
import logging

import pytest

from sidecar.control.operations import MOST_AT_ONCE, Busy, ExchangeUnknown, Operations, Verbs
from sidecar.model.clock import ManualClock
from sidecar.model.errors import ConfigFault, ConfigInvalid
from sidecar.model.facts import OperationPerformed
from sidecar.runtime.runtime import Runtime


class App:
    """Does what it is told, and remembers it; `gate` holds reloads back."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Exception | None = None
        self.in_flight = {b"12345678"}

    async def reload(self) -> tuple[str, ...]:
        self.done.append(("reload begins",))
        await self.gate.wait()
        if self.fails:
            raise self.fails
        self.done.append(("reload ends",))
        return ("traffic.routes.openai: changed",)

    async def stop_exchange(self, span_id: bytes, reason: str) -> bool:
        self.done.append(("stop", span_id, reason))
        return span_id in self.in_flight

    async def drain(self, reason: str) -> None:
        self.done.append(("drain", reason))

    def verbs(self) -> Verbs:
        return Verbs(reload=self.reload, stop_exchange=self.stop_exchange, drain=self.drain)


def made(app: App, *, timeout_s: float = 5.0) -> tuple[Operations, list[OperationPerformed], Runtime]:
    runtime = Runtime(clock=ManualClock(wall_ns=77))
    told: list[OperationPerformed] = []
    runtime.bus.listen((OperationPerformed,), told.append)
    return Operations(runtime, app.verbs(), timeout_s=timeout_s), told, runtime


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_reload_returns_the_changes_and_tells_who_why_and_when() -> None:
    operations, told, runtime = made(App())
    assert await operations.reload(who="signal SIGHUP", why="new route") == ("traffic.routes.openai: changed",)
    assert told == [OperationPerformed(77, "reload", "", "signal SIGHUP", "new route", "done", "traffic.routes.openai: changed")]
    assert runtime.metrics.counter("control.operations", "", verb="reload", outcome="done").value == 1


async def test_reload_of_a_bad_config_is_told_as_refused_and_raises_its_faults() -> None:
    app = App()
    app.fails = ConfigInvalid([ConfigFault("traffic.default", 3, "is not known")])
    operations, told, _ = made(app)
    with pytest.raises(ConfigInvalid) as caught:
        await operations.reload(who="token")
    assert caught.value.faults[0].line == 3
    assert (told[0].outcome, told[0].detail) == ("refused", "line 3: traffic.default: is not known")


async def test_reloads_stand_in_line_and_a_stop_does_not_wait_for_them() -> None:
    app = App()
    app.gate.clear()
    operations, _, _ = made(app)
    reloads = [asyncio.create_task(operations.reload(who="a")), asyncio.create_task(operations.reload(who="b"))]
    await turns()
    await operations.stop_exchange(b"12345678", who="c", why="too dear")
    assert app.done == [("reload begins",), ("stop", b"12345678", "too dear")]
    app.gate.set()
    await asyncio.gather(*reloads)
    assert app.done[2:] == [("reload ends",), ("reload begins",), ("reload ends",)]


async def test_stopping_what_is_not_in_flight_is_refused() -> None:
    operations, told, _ = made(App())
    with pytest.raises(ExchangeUnknown, match="3837363534333231"):
        await operations.stop_exchange(b"87654321", who="token")
    assert (told[0].verb, told[0].target, told[0].outcome) == ("stop_exchange", "3837363534333231", "refused")


async def test_drain_gives_the_reason_on_and_a_word_where_there_is_none() -> None:
    app = App()
    operations, told, _ = made(app)
    await operations.drain(who="unix socket", why="  node goes\naway ")
    await operations.drain(who="unix socket")
    assert app.done == [("drain", "node goes away"), ("drain", "drained by an operator")]
    assert [fact.why for fact in told] == ["node goes away", ""]


async def test_an_operation_goes_on_when_its_caller_goes_away() -> None:
    app = App()
    app.gate.clear()
    operations, told, _ = made(app)
    caller = asyncio.create_task(operations.reload(who="token"))
    await turns()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    app.gate.set()
    await turns()
    assert [fact.outcome for fact in told] == ["done"]


async def test_an_error_after_the_caller_has_gone_is_told_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.gate.clear()
    app.fails = RuntimeError("disk full")
    operations, told, _ = made(app)
    caller = asyncio.create_task(operations.reload(who="token"))
    await turns()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with caplog.at_level(logging.INFO):
        app.gate.set()
        await turns()
    assert (told[0].outcome, told[0].detail) == ("failed", "RuntimeError: disk full")
    assert caplog.messages == ["reload sidecar by token: failed RuntimeError: disk full"]


async def test_an_operation_that_takes_too_long_fails() -> None:
    app = App()
    app.gate.clear()
    operations, told, _ = made(app, timeout_s=0.01)
    with pytest.raises(TimeoutError):
        await operations.reload(who="token")
    assert (told[0].outcome, told[0].detail) == ("failed", "took longer than 0.01 s")


async def test_one_operation_too_many_is_busy_and_not_begun() -> None:
    app = App()
    app.gate.clear()
    operations, _, _ = made(app)
    waiting = [asyncio.create_task(operations.reload(who=str(number))) for number in range(MOST_AT_ONCE)]
    await turns()
    with pytest.raises(Busy):
        await operations.drain(who="token")
    assert ("drain", "drained by an operator") not in app.done
    await operations.stop()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


async def test_stop_cancels_what_runs_tells_it_and_may_be_called_again() -> None:
    app = App()
    app.gate.clear()
    operations, told, _ = made(app)
    await operations.stop()
    waiting = asyncio.create_task(operations.reload(who="token"))
    await turns()
    await operations.stop()
    await operations.stop()
    assert (told[0].outcome, told[0].detail) == ("failed", "cancelled")
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_drain_may_stop_the_operations_that_it_is_one_of() -> None:
    class Draining(App):
        async def drain(self, reason: str) -> None:
            await operations.stop()

    operations, told, _ = made(Draining())
    await operations.drain(who="token")
    assert [fact.outcome for fact in told] == ["done"]


async def test_words_of_people_are_cut_and_hold_no_control_characters() -> None:
    operations, told, _ = made(App())
    await operations.drain(who="x" * 1000, why="a\x1b[31mb")
    assert (told[0].who, told[0].why) == ("x" * 200, "a [31mb")
