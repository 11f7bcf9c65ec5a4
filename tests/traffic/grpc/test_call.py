"""Calls on a listener whose graph is made by hand: guards, permits, deadlines, and the messages of A2A."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange, Outcome
from sidecar.model.facts import AttemptFinished, ExchangeFinished
from sidecar.model.spec import Duration
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import Policy, Stage
from sidecar.traffic.graph import Graph, compile_graph
from sidecar.traffic.listeners.grpc import Config, GrpcListener
from sidecar.traffic.spec import RouteSpec, TrafficSpec
from sidecar.traffic.upstreams.grpc import Config as UpstreamConfig
from sidecar.traffic.upstreams.grpc import GrpcUpstream
from tests.dialects.test_a2a_grpc import MESSAGE, TASK, put
from tests.peers.rpc import RpcUpstream, channel, failure
from tests.scene import Opened
from tests.sidecar_under_test import eventually

SEND = "/lf.a2a.v1.A2AService/SendMessage"
SUBSCRIBE = "/lf.a2a.v1.A2AService/SubscribeToTask"


class Place:
    """A listener before one upstream; `now` moves only when told to."""

    def __init__(self, upstream: RpcUpstream, guards: dict[Stage, Callable[[Any], None]], **settings: Any) -> None:
        self.clock = ManualClock()
        self.runtime = Runtime(clock=self.clock)
        self.facts: list[Any] = []
        self.runtime.bus.listen((AttemptFinished, ExchangeFinished), self.facts.append)
        self.upstream = GrpcUpstream("grpc/a", UpstreamConfig(url=upstream.url, **settings), self.runtime)
        self.listener = GrpcListener("grpc", Config(endpoint="127.0.0.1:0"), self.runtime)
        policies = {stage.name: Policy(stage.name, stage, guard, is_filter=False) for stage, guard in guards.items()}
        routes = {"a": RouteSpec(upstream="grpc/a", path="/", policies=tuple(policies))}
        self.graph: Graph = compile_graph(TrafficSpec(routes=routes), policies, {"grpc/a": self.upstream}, self.runtime)

    async def __aenter__(self) -> "Place":
        self.listener.judge(self.graph)
        self.listener.serve(self.graph)
        await self.listener.start()
        await self.upstream.start()
        self.client = channel(self.listener.endpoint[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.listener.stop()
        await self.upstream.stop()
        await self.graph.close()

    def told(self, kind: type) -> list[Any]:
        """The facts of a kind so far."""
        self.runtime.bus.deliver()
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def fails(self, path: str = "/a.B/C", body: bytes = b"x") -> tuple[str, str]:
        """The status and the error of ours that a call ends with."""
        error = await failure(self.client.unary_unary(path)(body))
        return error.code().name, dict(error.trailing_metadata() or ()).get("x-sidecar-error", "")

    async def passes_time(self, seconds: float) -> None:
        """Time passes, and the listener looks at it."""
        self.clock.advance(seconds)
        await asyncio.sleep(0)
        for call in tuple(self.listener._calls):
            call.tick(self.clock.monotonic())


@pytest.fixture
def place(opened: Opened) -> Any:
    async def place(behave: Any = None, guards: Any = None, **settings: Any) -> Place:
        upstream = await opened(RpcUpstream(behave))
        place: Place = await opened(Place(upstream, guards or {}, **settings))
        place.heard = upstream  # type: ignore[attr-defined]  # for the tests that look at it
        return place

    return place


class Permit:
    """Remembers how it was settled."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


async def echoes(context: Any) -> None:
    await context.write(await context.read())


async def waits(context: Any) -> None:
    await context.read()
    await asyncio.sleep(30)


# ── guards ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_guards_are_asked_and_their_permits_settled_once(place: Any) -> None:
    above, below = Permit(), Permit()
    guards = {Stage.LOOP_GUARD: lambda exchange: exchange.holds(above), Stage.LIMIT: lambda attempt: attempt.holds(below)}
    here = await place(echoes, guards)
    assert await here.client.unary_unary("/a.B/C")(b"xyz") == b"xyz"
    await eventually(lambda: above.outcomes, "the end")
    assert above.outcomes == below.outcomes == [Outcome(200, "", 3, 3)]


@pytest.mark.parametrize("stage", [Stage.LOOP_GUARD, Stage.LIMIT], ids=["above the attempt", "at the attempt"])
async def test_a_guard_that_refuses_keeps_the_call_from_the_upstream(place: Any, stage: Stage) -> None:
    def refuses(subject: Exchange | Attempt) -> None:
        raise Refused("pool_exhausted", "no")

    here = await place(echoes, {stage: refuses})
    assert await here.fails() == ("RESOURCE_EXHAUSTED", "pool_exhausted")
    assert not here.heard.heard
    (exchange,) = here.told(ExchangeFinished)
    assert (exchange.error, exchange.route) == ("pool_exhausted", "a")
    assert [attempt.error for attempt in here.told(AttemptFinished)] == (["pool_exhausted"] if stage is Stage.LIMIT else [])


async def test_a_guard_that_breaks_is_an_error_of_ours(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sidecar.traffic.chain")  # a record that is kept keeps the frames of the call
    here = await place(echoes, {Stage.LIMIT: lambda attempt: 1 / 0})
    assert await here.fails() == ("INTERNAL", "policy_failed")


async def test_a_guard_that_stops_the_exchange_is_obeyed(place: Any) -> None:
    here = await place(echoes, {Stage.KILL_SWITCH: lambda exchange: exchange.stop("enough")})
    assert await here.fails() == ("FAILED_PRECONDITION", "stopped")
    assert not here.heard.heard


async def test_guards_know_what_is_asked_of_an_agent(place: Any) -> None:
    seen: list[Any] = []
    here = await place(echoes, {Stage.LOOP_GUARD: lambda exchange: seen.append((exchange.asked, exchange.target, exchange.fields))})
    await here.client.unary_unary(SEND)(put(2, MESSAGE), metadata=(("k", "v"),))
    ((asked, target, fields),) = seen
    assert (asked.operation, asked.task, asked.context, target) == ("SendMessage", "t-1", "ctx", SEND.encode())
    assert fields == [b"POST %b HTTP/2" % SEND.encode(), b"k: v"]


async def test_an_upstream_that_is_stopped_ends_its_calls_with_a_status(place: Any) -> None:
    here = await place(waits)
    failing = asyncio.create_task(here.fails())
    await here.heard.hears()
    await here.upstream.stop()
    assert await failing == ("UNAVAILABLE", "draining")


# ── A2A ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_of_an_agent_is_understood(place: Any) -> None:
    async def answers(context: Any) -> None:
        await context.read()
        await context.write(put(1, TASK))

    here = await place(answers)
    request = put(1, "acme") + put(2, MESSAGE)
    assert await here.client.unary_unary(SEND)(request) == put(1, TASK)
    (exchange,), (attempt,) = here.told(ExchangeFinished), here.told(AttemptFinished)
    assert exchange.dialogue is attempt.dialogue
    asked, answered = exchange.dialogue.asked, exchange.dialogue.answered
    assert (asked.dialect, asked.binding, asked.operation, asked.tenant) == ("a2a_grpc", "GRPC", "SendMessage", "acme")
    assert (answered.task, answered.state, answered.is_ended) == ("t-9", "TASK_STATE_COMPLETED", True)
    assert exchange.dialogue.first_content_s > 0


async def test_an_error_of_an_agent_is_understood(place: Any) -> None:
    info = put(3, put(1, "type.googleapis.com/google.rpc.ErrorInfo") + put(2, put(1, "TASK_NOT_FOUND")))

    async def answers(context: Any) -> None:
        await context.read()
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such task", (("grpc-status-details-bin", info),))

    here = await place(answers)
    assert await here.fails(SEND, put(2, MESSAGE)) == ("NOT_FOUND", "")
    (exchange,) = here.told(ExchangeFinished)
    assert (exchange.dialogue.answered.error_type, exchange.dialogue.answered.code) == ("TASK_NOT_FOUND", 5)


async def test_a_request_that_cannot_be_read_passes_as_it_is(place: Any) -> None:
    here = await place(echoes)
    assert await here.client.unary_unary(SEND)(b"\xff") == b"\xff"
    (exchange,) = here.told(ExchangeFinished)
    assert (exchange.dialogue.asked.dialect, exchange.dialogue.unread) == ("grpc", "unreadable")


async def test_with_plain_nothing_is_read(place: Any) -> None:
    here = await place(echoes, dialect="plain")
    await here.client.unary_unary(SEND)(put(2, MESSAGE))
    (exchange,) = here.told(ExchangeFinished)
    assert exchange.dialogue.asked.dialect == "grpc"


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_upstream_that_does_not_begin_to_answer_is_given_up(place: Any) -> None:
    here = await place(waits, first_byte_timeout=Duration("1m"))
    failing = asyncio.create_task(here.fails())
    await here.heard.hears()
    await eventually(lambda: all(call._is_sent for call in here.listener._calls), "the whole request")
    await here.passes_time(59)
    assert not failing.done()
    await here.passes_time(2)
    assert await failing == ("DEADLINE_EXCEEDED", "first_byte_timeout")


async def test_a_policy_may_set_another_limit(place: Any) -> None:
    def hurries(attempt: Attempt) -> None:
        attempt.first_byte_timeout_s = 3.0

    here = await place(waits, {Stage.TIMEOUT: hurries})
    failing = asyncio.create_task(here.fails())
    await here.heard.hears()
    await eventually(lambda: all(call._is_sent for call in here.listener._calls), "the whole request")
    await here.passes_time(4)
    assert await failing == ("DEADLINE_EXCEEDED", "first_byte_timeout")


async def test_a_subscription_is_never_slow(place: Any) -> None:
    here = await place(waits)
    call = here.client.unary_stream(SUBSCRIBE)(put(2, "t-1"))
    await here.heard.hears()
    await eventually(lambda: all(call._is_sent for call in here.listener._calls), "the whole request")
    await here.passes_time(100_000)
    await asyncio.sleep(0.01)
    assert not call.done()
    assert here.listener.in_flight == 1
    call.cancel()
    await eventually(lambda: not here.listener.in_flight, "the end")


async def test_a_stream_may_be_silent_unless_told_otherwise(place: Any) -> None:
    async def begins(context: Any) -> None:
        await context.write(b"one")
        await asyncio.sleep(30)

    patient, strict = await place(begins), await place(begins, idle_timeout=Duration("1m"))
    calls = [here.client.stream_stream("/a.B/C")() for here in (patient, strict)]
    for call in calls:
        assert await call.read() == b"one"
    for here in (patient, strict):
        await here.passes_time(61)
    error = await failure(calls[1].read())
    assert dict(error.trailing_metadata() or ())["x-sidecar-error"] == "idle_timeout"
    assert not calls[0].done()
    calls[0].cancel()
    await eventually(lambda: not patient.listener.in_flight, "the end")


async def test_a_client_that_takes_nothing_is_cut(place: Any) -> None:
    async def pours(context: Any) -> None:
        while True:
            await context.write(bytes(64 * 1024))

    here = await place(pours)
    call = here.client.stream_stream("/a.B/C")()
    assert await call.read()
    await eventually(lambda: any(each._writes_since == 0.0 and each._is_answered for each in here.listener._calls), "the answer")
    here.clock.advance(1)
    await asyncio.sleep(0.2)
    (stuck,) = here.listener._calls
    assert stuck._writes_since
    await here.passes_time(301)
    await eventually(lambda: not here.listener.in_flight, "the end")
    assert [exchange.error for exchange in here.told(ExchangeFinished)] == ["client_stalled"]
    call.cancel()


async def test_a_client_that_asks_nothing_of_an_agent_is_cut(place: Any) -> None:
    here = await place(echoes)
    call = here.client.stream_stream(SEND)()
    await eventually(lambda: here.listener.in_flight, "the call")
    await here.passes_time(301)
    await eventually(lambda: not here.listener.in_flight, "the end")
    assert [exchange.error for exchange in here.told(ExchangeFinished)] == ["body_timeout"]
    assert not here.heard.heard
    call.cancel()
