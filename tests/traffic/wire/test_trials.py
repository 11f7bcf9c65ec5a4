"""A filter may forward as often as it likes, also at once: every future is resolved, every attempt is told of once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.model.answered import ModelAnswered, ToolCall
from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import ExchangeFinished
from sidecar.traffic.chain import Forward, Stage
from sidecar.traffic.response import Response
from sidecar.traffic.wire.trials import MOST_ATTEMPTS
from tests.traffic.wire.stand import CHUNKED, OK, Stand, error_of, filtering, request, status_of, turns
from tests.traffic.wire.transport import FakeTransport

SetUp = Callable[..., Stand]


async def goes(near: FakeTransport, data: bytes) -> None:
    near.says(data)
    await turns()


def hears(task: "asyncio.Task[Response]") -> None:
    """Take notice of how a task ended."""
    if not task.cancelled():
        task.exception()


class Hedges:
    """Forwards twice at once and returns what comes first; `kept` are the tasks, `given` what each came to."""

    def __init__(self, *, cancels: bool) -> None:
        self.cancels = cancels
        self.kept: list[asyncio.Task[Response]] = []

    @property
    def given(self) -> list[str]:
        assert all(task.done() for task in self.kept), "a future was left unresolved"
        return [
            "cancelled" if task.cancelled() else str(getattr(task.exception(), "code", task.exception() or "response"))
            for task in self.kept
        ]

    def policy(self) -> Any:
        async def hedges(exchange: Exchange, forward: Forward) -> Response:
            self.kept = [asyncio.ensure_future(forward(exchange)) for _ in range(2)]
            done, others = await asyncio.wait(self.kept, return_when=asyncio.FIRST_COMPLETED)
            if self.cancels:
                for task in others:
                    task.cancel()
            for task in others:
                task.add_done_callback(hears)  # a loser that nobody hears is logged whenever the garbage is collected
            return done.pop().result()

        return filtering(hedges)


@pytest.mark.parametrize("cancels", [True, False])
@pytest.mark.parametrize("answer", [OK, OK[:-1], CHUNKED])
@pytest.mark.parametrize("winner", [0, 1])
async def test_of_two_at_once_the_first_answer_wins_and_the_other_is_given_up(
    stand: SetUp, cancels: bool, answer: bytes, winner: int
) -> None:
    hedges = Hedges(cancels=cancels)
    wire = stand(hedges.policy())
    both, near = (wire.connection(), wire.connection()), wire.client()
    await goes(near, request())
    assert all(far.takes().startswith(b"GET ") for far in both)
    both[winner].says(answer)
    await turns()
    assert both[1 - winner].ended == "abort", "nobody knows what it has done with the request"
    rest = {OK: b"", OK[:-1]: b"k", CHUNKED: b"2\r\nok\r\n0\r\n\r\n"}[answer]
    if rest:
        both[winner].says(rest)
    assert b"ok" in near.takes()
    assert sorted(fact.error for fact in wire.attempts) == ["", "given_up"]
    assert [fact.attempts for fact in wire.exchanges] == [2]
    assert sorted(hedges.given) == sorted(["response", "cancelled" if cancels else "given_up"])
    assert wire.pool.open_count == wire.pool.idle_count == 1
    await turns()
    assert wire.is_clean


async def test_both_may_answer_before_the_filter_looks(stand: SetUp) -> None:
    hedges = Hedges(cancels=False)
    wire = stand(hedges.policy())
    first, second, near = wire.connection(), wire.connection(), wire.client()
    await goes(near, request())
    first.takes(), second.takes()
    first.says(OK)
    second.says(OK[:-1])
    await turns()
    answer = near.takes()
    for far in (first, second):
        if not far.ended and far.protocol.sink is not None:
            far.says(b"k")
            answer += near.takes()
    assert status_of(answer) == 200 and answer.endswith(b"ok")
    assert len(wire.attempts) == 2
    assert hedges.given == ["response", "response"]
    assert wire.is_clean


async def test_both_may_fail(stand: SetUp) -> None:
    hedges = Hedges(cancels=False)
    wire = stand(hedges.policy())
    near = wire.client()
    await goes(near, request())
    for _ in range(2):
        await wire.does_not_connect(OSError("no"))
    assert error_of(near.takes()) == "connect_failed"
    assert set(hedges.given) <= {"connect_failed", "given_up"}
    assert len(wire.attempts) == 2
    assert wire.is_clean


@pytest.mark.parametrize("how", ["gone", "stop", "cut", "drain"])
async def test_a_call_that_ends_ends_all_its_attempts(stand: SetUp, how: str) -> None:
    hedges = Hedges(cancels=True)
    wire = stand(hedges.policy())
    first, second, near = wire.connection(), wire.connection(), wire.client()
    await goes(near, request())
    first.takes(), second.takes()
    match how:
        case "gone":
            near.breaks()
        case "stop":
            wire.listener.exchanges()[0].stop("enough")
        case "cut":
            near.protocol.cut()
        case _:
            await wire.listener.drain(0)
    await turns()
    assert (first.ended, second.ended) == ("abort", "abort")
    code = {"gone": "client_gone", "stop": "stopped"}.get(how, "draining")
    assert [fact.error for fact in wire.attempts] == [code, code]
    assert [fact.error for fact in wire.exchanges] == [code]
    assert hedges.given == ["given_up", "given_up"]
    assert wire.is_clean


async def test_one_that_begins_anew_in_the_same_task_has_dropped_what_it_was_given(stand: SetUp) -> None:
    async def keeps(exchange: Exchange, forward: Forward) -> Response:
        first = await forward(exchange)
        assert first.status == 200
        await forward(exchange)
        return first

    wire = stand(filtering(keeps))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(CHUNKED)
    await turns()
    assert far.ended == "abort", "the connection does not wait for the end of the call"
    again = await wire.connects()
    again.takes()
    again.says(OK)
    await turns()
    assert error_of(near.takes()) == "policy_failed"
    assert len(wire.attempts) == 2
    assert wire.is_clean


async def test_after_the_answer_nothing_is_forwarded_any_more(stand: SetUp) -> None:
    late: list[str] = []
    gate = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def lingers(exchange: Exchange, forward: Forward) -> Response:
        async def shadow() -> None:
            await gate.wait()
            try:
                await forward(exchange)
            except Refused as refused:
                late.append(refused.code)

        tasks.append(asyncio.ensure_future(shadow()))
        return await forward(exchange)

    wire = stand(filtering(lingers))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(OK[:-1])
    await turns()
    gate.set()
    await turns()
    assert late == ["given_up"]
    far.says(b"k")
    assert near.takes().endswith(b"ok")
    assert [fact.attempts for fact in wire.exchanges] == [1]


async def test_attempts_have_a_bound(stand: SetUp) -> None:
    async def wild(exchange: Exchange, forward: Forward) -> Response:
        while True:
            try:
                return await forward(exchange)
            except Refused as refused:
                if refused.code == "policy_failed":
                    raise

    async def instead(attempt: Attempt, forward: Forward) -> Response:
        raise Refused("stopped")

    wire = stand(filtering(wild, name="wild"), filtering(instead, Stage.CHAOS, "instead"))
    near = wire.client()
    await goes(near, request())
    assert error_of(near.takes()) == "policy_failed"
    assert [fact.error for fact in wire.attempts] == ["stopped"] * MOST_ATTEMPTS
    assert wire.is_clean


async def test_an_attempt_is_sent_once(stand: SetUp) -> None:
    async def twice(attempt: Attempt, forward: Forward) -> Response:
        (await forward(attempt)).drop()
        return await forward(attempt)

    async def both(attempt: Attempt, forward: Forward) -> Response:
        first, second = await asyncio.gather(forward(attempt), forward(attempt))
        return first if first.status else second

    for policy in (twice, both):
        wire = stand(filtering(policy, Stage.CHAOS))
        far, near = wire.connection(), wire.client()
        await goes(near, request())
        if policy is twice:
            far.says(CHUNKED)
            await turns()
        assert error_of(near.takes()) == ("given_up" if policy is twice else "policy_failed")
        assert far.ended == "abort"
        assert len(wire.attempts) == 1
        assert wire.is_clean


async def test_what_is_forwarded_has_to_be_what_was_given(stand: SetUp) -> None:
    async def wrong(attempt: Attempt, forward: Forward) -> Response:
        return await forward(None)

    wire = stand(filtering(wrong, Stage.CHAOS))
    near = wire.client()
    await goes(near, request())
    assert status_of(near.takes()) in (500, 503)
    assert wire.is_clean


async def test_a_policy_that_stops_the_exchange_when_an_attempt_is_given_up_ends_it_once(stand: SetUp) -> None:
    class Stops:
        def __init__(self, attempt: Attempt) -> None:
            self._exchange = attempt.exchange

        def settle(self, outcome: Any) -> None:
            self._exchange.stop("the budget is used up")

    async def again(exchange: Exchange, forward: Forward) -> Response:
        (await forward(exchange)).drop()
        return await forward(exchange)

    async def takes(attempt: Attempt, forward: Forward) -> Response:
        attempt.holds(Stops(attempt))
        return await forward(attempt)

    wire = stand(filtering(again, name="again"), filtering(takes, Stage.BUDGET, "takes"))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(OK)
    await turns()
    assert error_of(near.takes()) == "stopped"
    assert (len(wire.attempts), len(wire.exchanges)) == (1, 1)
    assert wire.is_clean


async def test_a_policy_that_stops_the_exchange_when_a_hedge_has_lost_ends_it_with_all_its_attempts(stand: SetUp) -> None:
    class Stops:
        def __init__(self, attempt: Attempt) -> None:
            self._exchange = attempt.exchange

        def settle(self, outcome: Any) -> None:
            self._exchange.stop("the budget is used up")

    async def takes(attempt: Attempt, forward: Forward) -> Response:
        attempt.holds(Stops(attempt))
        return await forward(attempt)

    wire = stand(Hedges(cancels=False).policy(), filtering(takes, Stage.BUDGET, "takes"))
    first, second, near = wire.connection(), wire.connection(), wire.client()
    await goes(near, request())
    first.takes(), second.takes()
    first.says(CHUNKED)
    await turns()
    assert error_of(near.takes()) == "stopped"
    assert (first.ended, second.ended) == ("abort", "abort")
    assert (len(wire.attempts), len(wire.exchanges)) == (2, 1)
    assert wire.is_clean


async def test_a_policy_has_a_bound_to_decide_within(stand: SetUp) -> None:
    never = asyncio.Event()
    cancelled: list[bool] = []

    async def never_decides(exchange: Exchange, forward: Forward) -> Response:
        try:
            await never.wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError

    wire = stand(filtering(never_decides), route={"policy_timeout": 5.0})
    near = wire.client()
    await goes(near, request())
    wire.passes(4.9)
    assert near.takes() == b""
    wire.passes(0.2)
    answer = near.takes()
    assert (status_of(answer), error_of(answer)) == (503, "policy_timeout")
    await turns()
    assert cancelled == [True]
    assert wire.refused == {"policy_timeout": 1}
    assert wire.is_clean


@pytest.mark.parametrize("answer", [OK, OK[:-1], b""])
async def test_a_policy_has_the_bound_again_after_a_response_or_a_failure(stand: SetUp, answer: bytes) -> None:
    async def never_returns(exchange: Exchange, forward: Forward) -> Response:
        try:
            await forward(exchange)
        except Refused:
            pass
        await asyncio.Event().wait()
        raise AssertionError

    wire = stand(filtering(never_returns), route={"policy_timeout": 5.0}, upstream={"first_byte_timeout": 100.0})
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST"))
    far.takes()
    wire.passes(50)
    if answer:
        far.says(answer)
    else:
        far.breaks()
    await turns()
    wire.passes(4.9)
    assert near.takes() == b""
    wire.passes(0.2)
    assert error_of(near.takes()) == "policy_timeout"
    assert len(wire.attempts) == 1
    await turns()
    assert wire.is_clean


async def test_a_client_that_takes_nothing_of_what_came_before_is_late_while_a_policy_thinks(stand: SetUp) -> None:
    async def thinks(exchange: Exchange, forward: Forward) -> Response:
        if exchange.target.endswith(b"2"):
            await asyncio.Event().wait()
        return await forward(exchange)

    wire = stand(filtering(thinks), listener={"idle_timeout": 5.0}, route={"policy_timeout": 50.0})
    far, near = wire.connection(), wire.client()
    near.takes_nothing = True
    await goes(near, request())
    far.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)
    await turns()
    near.protocol.flush()
    await goes(near, request(path=b"/llm/2"))
    wire.passes(5.1)
    wire.passes(5.1)
    assert [fact.error for fact in wire.exchanges] == ["", "client_stalled"]


@pytest.mark.parametrize("how", ["own", "retried", "refused", "gone", "cut"])
async def test_what_is_large_in_attempts_that_were_not_delivered_is_let_go_when_the_exchange_is_over(stand: SetUp, how: str) -> None:
    gate = asyncio.Event()

    async def again(exchange: Exchange, forward: Forward) -> Response:
        (await forward(exchange)).drop()
        await gate.wait()
        if how == "refused":
            raise Refused("destination_denied")
        return Response(200, "OK", [], b"own") if how == "own" else await forward(exchange)

    wire = stand(filtering(again), upstream={"dialect": "tests.traffic.wire.parrot"})
    heard: list[bytes] = []
    wire.runtime.bus.listen([ExchangeFinished], lambda _fact: heard.append(calls[0].arguments))
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/say", body=b"hello"))
    far.says(OK)
    await turns()
    said = wire.attempts[0].dialogue
    assert said is not None
    assert isinstance(said.answered, ModelAnswered)
    calls = said.answered.tool_calls
    calls.append(ToolCall("1", "add", b"much"))
    gate.set()
    await turns()
    if how == "retried":
        far.says(OK)
    elif how == "cut":
        far.says(OK[:-1])
        await turns()
        far.breaks()
    elif how == "gone":
        near.breaks()
    await turns()
    assert len(wire.exchanges) == 1
    assert (heard, calls[0].arguments) == ([b"much"], b""), "whoever hears of the end may still look at it"
