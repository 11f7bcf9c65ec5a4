import asyncio
from typing import Any

import pytest

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange, Outcome
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.traffic.chain import EMPTY, Chain, Policy, Stage, as_policy
from sidecar.traffic.response import Response

PASSAGE = Passage(
    listener="http", client="", mode=Mode.FORWARD, method="GET", scheme="http", host="h", port=80, path="/", target="/",
    upstream="", route="", agent="", task="", purpose=Purpose.LIVE,
)  # fmt: skip


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(PASSAGE, 0, 0, b"t" * 16, b"s" * 8, b"", 1, b"")


class Log:
    """Policies that write down when they are asked."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def guard(self, name: str, stage: Stage, *, refuses: str = "") -> Policy:
        def ask(subject: Any) -> None:
            self.lines.append(f"{name} asks {type(subject).__name__}")
            if refuses:
                raise Refused(refuses)

        return as_policy(name, stage, ask)

    def filter(self, name: str, stage: Stage, *, times: int = 1) -> Policy:
        async def surround(subject: Any, forward: Any) -> Response:
            response = None
            for _ in range(times):
                self.lines.append(f"{name} takes {type(subject).__name__}")
                response = await forward(subject)
                self.lines.append(f"{name} returns {response.status}")
            assert response is not None
            return response

        return as_policy(name, stage, surround)

    def begin(self, exchange: Exchange) -> Attempt:
        self.lines.append("begin")
        return Attempt(exchange, exchange.passage, b"a" * 8, 0)

    async def send(self, attempt: Attempt) -> Response:
        self.lines.append(f"send {attempt.resends}")
        await asyncio.sleep(0)
        return Response(200)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize(
    ("stage", "is_per_attempt"),
    [(Stage.KILL_SWITCH, False), (Stage.LOOP_GUARD, False), (Stage.RECORD, False), (Stage.RETRY, False)]
    + [(stage, True) for stage in (Stage.BUDGET, Stage.BREAKER, Stage.LIMIT, Stage.TIMEOUT, Stage.CHAOS)],
)
def test_from_the_budget_on_policies_are_asked_for_each_attempt(stage: Stage, is_per_attempt: bool) -> None:
    assert stage.is_per_attempt is is_per_attempt


def test_what_repeats_stands_above_what_is_taken_for_each_attempt() -> None:
    assert list(Stage) == sorted(Stage)
    assert Stage.RETRY < Stage.BUDGET < Stage.BREAKER < Stage.LIMIT < Stage.TIMEOUT < Stage.CHAOS


# ── without filters ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_policies_cost_nothing() -> None:
    assert (EMPTY.admit, EMPTY.take, EMPTY.filters, EMPTY.policies) == (None, None, False, ())


def test_a_single_guard_is_called_itself() -> None:
    def guard(subject: Any) -> None: ...

    above = Chain([as_policy("a", Stage.KILL_SWITCH, guard)])
    assert (above.admit, above.take) == (guard, None)
    below = Chain([as_policy("a", Stage.LIMIT, guard)])
    assert (below.admit, below.take) == (None, guard)


def test_guards_become_one_function_above_and_one_at_the_attempt(log: Log, exchange: Exchange) -> None:
    stages = {
        "kill": Stage.KILL_SWITCH,
        "loop": Stage.LOOP_GUARD,
        "budget": Stage.BUDGET,
        "limit": Stage.LIMIT,
        "chaos": Stage.CHAOS,
    }
    chain = Chain([log.guard(name, stage) for name, stage in stages.items()])
    assert chain.admit is not None
    assert chain.take is not None
    assert [policy.name for policy in chain.policies] == list(stages)
    chain.admit(exchange)
    assert log.lines == ["kill asks Exchange", "loop asks Exchange"]
    log.lines.clear()
    chain.take(Attempt(exchange, PASSAGE, b"a" * 8, 0))
    assert log.lines == ["budget asks Attempt", "limit asks Attempt", "chaos asks Attempt"]


def test_who_refuses_keeps_the_next_from_being_asked(log: Log, exchange: Exchange) -> None:
    chain = Chain([log.guard("a", Stage.BUDGET), log.guard("b", Stage.BREAKER, refuses="stopped"), log.guard("c", Stage.LIMIT)])
    assert chain.take is not None
    with pytest.raises(Refused, match="stopped"):
        chain.take(Attempt(exchange, PASSAGE, b"a" * 8, 0))
    assert log.lines == ["a asks Attempt", "b asks Attempt"]


def test_what_was_taken_before_a_refusal_is_settled_with_the_attempt(exchange: Exchange) -> None:
    settled: list[tuple[str, Outcome]] = []

    class Permit:
        def __init__(self, name: str) -> None:
            self.name = name

        def settle(self, outcome: Outcome) -> None:
            settled.append((self.name, outcome))

    def takes(name: str) -> Policy:
        return as_policy(name, Stage.LIMIT, lambda attempt: attempt.holds(Permit(name)))

    def refuses(attempt: Attempt) -> None:
        raise Refused("stopped")

    chain = Chain([takes("outer"), takes("inner"), as_policy("no", Stage.CHAOS, refuses), takes("never")])
    attempt = Attempt(exchange, PASSAGE, b"a" * 8, 0)
    assert chain.take is not None
    with pytest.raises(Refused):
        chain.take(attempt)
    attempt.error = "stopped"
    attempt.settle()
    attempt.settle()
    assert settled == [("inner", Outcome(0, "stopped", 0, 0)), ("outer", Outcome(0, "stopped", 0, 0))]


# ── with filters ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_async_function_is_a_filter_and_any_other_a_guard() -> None:
    async def wait(subject: Any, forward: Any) -> Response:
        return await forward(subject)

    assert as_policy("w", Stage.RETRY, wait).is_filter
    assert not as_policy("g", Stage.RETRY, lambda exchange: None).is_filter


async def test_guards_and_filters_are_asked_from_the_outside_in(log: Log, exchange: Exchange) -> None:
    chain = Chain(
        [
            log.guard("kill", Stage.KILL_SWITCH),
            log.filter("record", Stage.RECORD),
            log.guard("budget", Stage.BUDGET),
            log.filter("chaos", Stage.CHAOS),
        ]
    )
    assert (chain.filters, chain.admit, chain.take) == (True, None, None)
    response = await chain.run(log.begin, log.send)(exchange)
    assert response.status == 200
    assert log.lines == [
        "kill asks Exchange", "record takes Exchange", "begin", "budget asks Attempt", "chaos takes Attempt", "send 0",
        "chaos returns 200", "record returns 200",
    ]  # fmt: skip


async def test_a_retry_begins_an_attempt_each_time_and_asks_what_stands_below_it_anew(log: Log, exchange: Exchange) -> None:
    chain = Chain(
        [log.guard("kill", Stage.KILL_SWITCH), log.filter("retry", Stage.RETRY, times=2), log.guard("limit", Stage.LIMIT)]
    )
    await chain.run(log.begin, log.send)(exchange)
    assert exchange.attempts == 2
    assert log.lines.count("kill asks Exchange") == 1
    assert [line for line in log.lines if line[:5] in ("begin", "limit", "send ")] == [
        "begin", "limit asks Attempt", "send 0", "begin", "limit asks Attempt", "send 1",
    ]  # fmt: skip


async def test_a_filter_alone_at_the_attempt_is_given_an_attempt(log: Log, exchange: Exchange) -> None:
    await Chain([log.filter("chaos", Stage.CHAOS)]).run(log.begin, log.send)(exchange)
    assert log.lines == ["begin", "chaos takes Attempt", "send 0", "chaos returns 200"]


async def test_a_filter_may_answer_itself_and_then_nothing_is_begun(log: Log, exchange: Exchange) -> None:
    async def cached(exchange: Exchange, forward: Any) -> Response:
        return Response(203)

    chain = Chain([as_policy("cache", Stage.RECORD, cached), log.guard("limit", Stage.LIMIT)])
    assert (await chain.run(log.begin, log.send)(exchange)).status == 203
    assert log.lines == []
    assert exchange.attempts == 0


async def test_a_filter_hears_of_refusals_and_failures_from_below(log: Log, exchange: Exchange) -> None:
    heard: list[str] = []

    async def second_chance(exchange: Exchange, forward: Any) -> Response:
        try:
            return await forward(exchange)
        except Refused as refused:
            heard.append(refused.code)
            return Response(299)

    async def fail(attempt: Attempt) -> Response:
        raise UpstreamFailed("connect_failed")

    chain = Chain([as_policy("retry", Stage.RETRY, second_chance)])
    assert (await chain.run(log.begin, fail)(exchange)).status == 299
    chain = Chain([as_policy("retry", Stage.RETRY, second_chance), log.guard("limit", Stage.LIMIT, refuses="stopped")])
    assert (await chain.run(log.begin, log.send)(exchange)).status == 299
    assert heard == ["connect_failed", "stopped"]


async def test_a_guard_above_a_filter_keeps_it_from_being_asked(log: Log, exchange: Exchange) -> None:
    chain = Chain([log.guard("kill", Stage.KILL_SWITCH, refuses="stopped"), log.filter("record", Stage.RECORD)])
    with pytest.raises(Refused, match="stopped"):
        await chain.run(log.begin, log.send)(exchange)
    assert log.lines == ["kill asks Exchange"]
