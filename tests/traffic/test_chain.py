import asyncio
from typing import Any

import pytest

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange, Outcome
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.traffic.chain import EMPTY, Chain, Policy, Stage, as_policy, ask
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
        self.told: list[str] = []
        self.faults: list[Exception] = []
        self.replays = False

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
        if self.faults:
            raise self.faults.pop(0)
        return Response(200)

    def gave(self, attempt: Attempt, response: Response) -> None:
        self.told.append(f"gave {attempt.resends} {response.status}")

    def failed(self, attempt: Attempt, fault: BaseException) -> bool:
        self.told.append(f"failed {attempt.resends} {fault!r}")
        return self.replays

    def saw(self, response: Response) -> None:
        self.told.append(f"saw {response.status}")


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


def test_a_single_guard_is_asked_where_it_stands(exchange: Exchange) -> None:
    asked: list[Any] = []
    above = Chain([as_policy("a", Stage.KILL_SWITCH, asked.append)])
    below = Chain([as_policy("a", Stage.LIMIT, asked.append)])
    assert above.admit is not None and above.take is None
    assert below.take is not None and below.admit is None
    above.admit(exchange)
    below.take(attempt := Attempt(exchange, PASSAGE, b"a" * 8, 0))
    assert asked == [exchange, attempt]


@pytest.mark.parametrize("stage", [Stage.KILL_SWITCH, Stage.LIMIT])
@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("fault", [Refused("stopped"), ValueError("broken")], ids=["refused", "broken"])
def test_the_guard_that_stops_a_call_is_named(exchange: Exchange, stage: Stage, others: int, fault: Exception) -> None:
    def stops(subject: Any) -> None:
        raise fault

    more = [as_policy(f"other/{number}", stage, lambda subject: None) for number in range(others)]
    chain = Chain([*more[:1], as_policy("cost_guard/team", stage, stops), *more[1:]])
    subject = Attempt(exchange, PASSAGE, b"a" * 8, 0) if stage.is_per_attempt else exchange
    guard = chain.take if stage.is_per_attempt else chain.admit
    assert guard is not None
    with pytest.raises(Refused):
        ask(guard, subject)
    assert exchange.policy == "cost_guard/team"


def test_guards_that_let_a_call_pass_are_not_named(exchange: Exchange) -> None:
    guard = Chain([as_policy("a", Stage.KILL_SWITCH, lambda subject: None)] * 2).admit
    assert guard is not None
    guard(exchange)
    assert exchange.policy == ""


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
    response = await chain.run(log)(exchange)
    assert response.status == 200
    assert log.lines == [
        "kill asks Exchange", "record takes Exchange", "begin", "budget asks Attempt", "chaos takes Attempt", "send 0",
        "chaos returns 200", "record returns 200",
    ]  # fmt: skip


async def test_a_retry_begins_an_attempt_each_time_and_asks_what_stands_below_it_anew(log: Log, exchange: Exchange) -> None:
    chain = Chain(
        [log.guard("kill", Stage.KILL_SWITCH), log.filter("retry", Stage.RETRY, times=2), log.guard("limit", Stage.LIMIT)]
    )
    await chain.run(log)(exchange)
    assert exchange.attempts == 2
    assert log.lines.count("kill asks Exchange") == 1
    assert [line for line in log.lines if line[:5] in ("begin", "limit", "send ")] == [
        "begin", "limit asks Attempt", "send 0", "begin", "limit asks Attempt", "send 1",
    ]  # fmt: skip


async def test_a_filter_alone_at_the_attempt_is_given_an_attempt(log: Log, exchange: Exchange) -> None:
    await Chain([log.filter("chaos", Stage.CHAOS)]).run(log)(exchange)
    assert log.lines == ["begin", "chaos takes Attempt", "send 0", "chaos returns 200"]


async def test_a_filter_may_answer_itself_and_then_nothing_is_begun(log: Log, exchange: Exchange) -> None:
    async def cached(exchange: Exchange, forward: Any) -> Response:
        return Response(203)

    chain = Chain([as_policy("cache", Stage.RECORD, cached), log.guard("limit", Stage.LIMIT)])
    assert (await chain.run(log)(exchange)).status == 203
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

    log.faults.append(UpstreamFailed("connect_failed"))
    chain = Chain([as_policy("retry", Stage.RETRY, second_chance)])
    assert (await chain.run(log)(exchange)).status == 299
    chain = Chain([as_policy("retry", Stage.RETRY, second_chance), log.guard("limit", Stage.LIMIT, refuses="stopped")])
    assert (await chain.run(log)(exchange)).status == 299
    assert heard == ["connect_failed", "stopped"]


async def test_a_guard_above_a_filter_keeps_it_from_being_asked(log: Log, exchange: Exchange) -> None:
    chain = Chain([log.guard("kill", Stage.KILL_SWITCH, refuses="stopped"), log.filter("record", Stage.RECORD)])
    with pytest.raises(Refused, match="stopped"):
        await chain.run(log)(exchange)
    assert log.lines == ["kill asks Exchange"]


async def test_an_object_that_is_called_like_an_async_function_is_a_filter_too() -> None:
    class Waits:
        async def __call__(self, subject: Any, forward: Any) -> Response:
            return await forward(subject)

    assert as_policy("w", Stage.RETRY, Waits()).is_filter


# ── what fails ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", [ValueError("broken"), asyncio.CancelledError(), TimeoutError()])
@pytest.mark.parametrize("kind", ["guard", "filter"])
async def test_whatever_a_policy_raises_is_heard_further_out_as_a_refusal(
    log: Log, exchange: Exchange, fault: BaseException, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    async def outer(exchange: Exchange, forward: Any) -> Response:
        try:
            return await forward(exchange)
        except Refused as refused:
            heard.append(refused.code)
            raise

    def guard(subject: Any) -> None:
        raise fault

    async def inner(subject: Any, forward: Any) -> Response:
        raise fault

    chain = Chain([as_policy("outer", Stage.RECORD, outer), as_policy("inner", Stage.LIMIT, guard if kind == "guard" else inner)])
    with pytest.raises(Refused, match="policy_failed"):
        await chain.run(log)(exchange)
    assert heard == ["policy_failed"]
    assert [line[:8] for line in log.told] == ["failed 0"]
    assert "failed" in caplog.text


@pytest.mark.parametrize("fault", [ValueError("broken"), asyncio.CancelledError()])
def test_a_guard_may_raise_anything_and_is_a_refusal(exchange: Exchange, fault: BaseException) -> None:
    def guard(subject: Any) -> None:
        raise fault

    with pytest.raises(Refused, match="policy_failed"):
        ask(guard, exchange)


async def test_a_filter_that_is_cancelled_because_the_call_is_over_has_not_failed(log: Log, exchange: Exchange) -> None:
    async def waits(exchange: Exchange, forward: Any) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.ensure_future(Chain([as_policy("w", Stage.RETRY, waits)]).run(log)(exchange))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("given", [None, b"bytes", 200])
async def test_a_filter_that_returns_no_response_fails(log: Log, exchange: Exchange, given: Any) -> None:
    async def forgets(exchange: Exchange, forward: Any) -> Any:
        await forward(exchange)
        return given

    with pytest.raises(Refused, match="policy_failed"):
        await Chain([as_policy("f", Stage.RETRY, forgets)]).run(log)(exchange)


async def test_each_attempt_is_told_of_once_and_each_response_that_a_filter_returns(log: Log, exchange: Exchange) -> None:
    async def answers(attempt: Attempt, forward: Any) -> Response:
        await forward(attempt)
        return Response(429)

    chain = Chain([log.filter("retry", Stage.RETRY, times=2), as_policy("chaos", Stage.CHAOS, answers)])
    await chain.run(log)(exchange)
    assert log.told == ["saw 429", "gave 0 429", "saw 429", "gave 1 429", "saw 429"]


async def test_an_attempt_may_be_made_once_more_with_everything_below_it_asked_anew(log: Log, exchange: Exchange) -> None:
    log.faults.append(UpstreamFailed("upstream_closed"))
    log.replays = True
    chain = Chain([log.filter("record", Stage.RECORD), log.guard("limit", Stage.LIMIT)])
    assert (await chain.run(log)(exchange)).status == 200
    assert log.lines == [
        "record takes Exchange", "begin", "limit asks Attempt", "send 0", "begin", "limit asks Attempt", "send 1",
        "record returns 200",
    ]  # fmt: skip


# ── who decided ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _stops(fault: BaseException) -> Any:
    async def stop(subject: Any, forward: Any) -> Response:
        raise fault

    return stop


async def test_a_guard_among_filters_is_named_and_the_filters_around_it_are_not(log: Log, exchange: Exchange) -> None:
    chain = Chain([log.filter("record", Stage.RECORD), log.guard("limit/org", Stage.LIMIT, refuses="stopped")])
    with pytest.raises(Refused):
        await chain.run(log)(exchange)
    assert exchange.policy == "limit/org"


@pytest.mark.parametrize("stage", [Stage.RETRY, Stage.LIMIT])
@pytest.mark.parametrize("fault", [Refused("stopped"), ValueError("broken")], ids=["refused", "broken"])
async def test_a_filter_that_refuses_or_fails_is_named(log: Log, exchange: Exchange, stage: Stage, fault: Exception) -> None:
    chain = Chain([log.filter("record", Stage.RECORD), as_policy("throttle", stage, _stops(fault))])
    with pytest.raises(Refused):
        await chain.run(log)(exchange)
    assert exchange.policy == "throttle"


@pytest.mark.parametrize("fault", [UpstreamFailed("connect_failed"), Refused("draining")], ids=["upstream", "ours"])
async def test_what_fails_at_the_upstream_is_no_policys_doing(log: Log, exchange: Exchange, fault: Refused) -> None:
    log.faults.append(fault)
    chain = Chain([log.filter("record", Stage.RECORD), log.filter("throttle", Stage.LIMIT)])
    with pytest.raises(Refused):
        await chain.run(log)(exchange)
    assert exchange.policy == ""


async def test_a_filter_that_answers_by_itself_is_named_and_one_that_forwards_is_not(log: Log, exchange: Exchange) -> None:
    async def plays_back(subject: Any, forward: Any) -> Response:
        return Response(200)

    await Chain([log.filter("record", Stage.RECORD)]).run(log)(exchange)
    assert exchange.policy == ""
    other = Exchange(PASSAGE, 0, 0, b"t" * 16, b"s" * 8, b"", 1, b"")
    await Chain([as_policy("playback", Stage.RECORD, plays_back)]).run(log)(other)
    assert other.policy == "playback"
