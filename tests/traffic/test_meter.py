import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.asked import Asked
from sidecar.model.dialogue import Dialogue
from sidecar.model.exchange import Exchange, Outcome
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode, Passage, Purpose
from sidecar.model.sampling import Sampler, from_environ
from sidecar.model.trace import RANDOM, SAMPLED
from sidecar.runtime.runtime import Runtime
from sidecar.traffic import meter
from sidecar.traffic.wire.request_head import RequestHead
from tests.scene import Stage

PASSAGE = Passage(
    listener="http", client="127.0.0.1:50000", mode=Mode.GATEWAY, method="POST", scheme="https", host="llm", port=443,
    path="/a", target="/b", upstream="http/llm", route="llm", agent="planner", task="t", purpose=Purpose.LIVE,
)  # fmt: skip
TRACE, PARENT = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
STARTED_NS = 1_700_000_000_000_000_000


class Meter:
    """A listener as the meter sees it, with time that is moved by hand: `wall` and `at` in nanoseconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.at = STARTED_NS, 5_000
        monkeypatch.setattr(meter, "_time_ns", lambda: self.wall)
        monkeypatch.setattr(meter, "_monotonic_ns", lambda: self.at)
        self.runtime = Runtime(rng=random.Random(1))
        self.facts: list[Any] = []
        self.runtime.bus.listen([ExchangeFinished, AttemptFinished], self.facts.append)
        self.graph = SimpleNamespace(sampler=from_environ({})[0])

    def begins(self, *traceparents: bytes, states: tuple[bytes, ...] = (), sampler: Sampler | None = None) -> Exchange:
        if sampler is not None:
            self.graph.sampler = sampler
        request = RequestHead()
        request.lines = [b"GET / HTTP/1.1", b"Host: a"]
        request.traceparents, request.tracestates, request.baggage = traceparents, states, (b"k=v",)
        return meter.begin_exchange(self, PASSAGE, request)  # type: ignore[arg-type]  # all of it that is used

    def passes(self, seconds: float) -> None:
        self.at += round(seconds * 1e9)
        self.wall += 999  # the wall may go its own way meanwhile


@pytest.fixture
def of(monkeypatch: pytest.MonkeyPatch) -> Meter:
    return Meter(monkeypatch)


def parent(flags: bytes = b"01", *, version: bytes = b"00") -> bytes:
    return b"-".join((version, TRACE, PARENT, flags))


# ── ids and flags ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exchange_begins_now_with_what_the_request_says(of: Meter) -> None:
    exchange = of.begins()
    assert (exchange.started_ns, exchange.started_at, exchange.passage) == (STARTED_NS, 5_000, PASSAGE)
    assert exchange.fields == [b"GET / HTTP/1.1", b"Host: a"]
    assert exchange.baggage == (b"k=v",)


def test_a_call_stays_in_the_trace_of_its_agent(of: Meter) -> None:
    exchange = of.begins(parent(), states=(b"a=1", b"b=2"))
    assert (exchange.trace_id.hex().encode(), exchange.parent_id.hex().encode()) == (TRACE, PARENT)
    assert len(exchange.span_id) == 8
    assert exchange.span_id != exchange.parent_id
    assert exchange.tracestate == b"a=1,b=2"


@pytest.mark.parametrize("traceparents", [(), (b"nonsense",), (parent(), parent()), (parent(version=b"ff"),), (b"",)])
def test_a_call_without_a_valid_parent_begins_a_trace(of: Meter, traceparents: tuple[bytes, ...]) -> None:
    exchange = of.begins(*traceparents, states=(b"a=1",))
    assert len(exchange.trace_id) == 16
    assert exchange.trace_id.hex().encode() != TRACE
    assert (exchange.parent_id, exchange.tracestate) == (b"", b"")
    assert exchange.flags == SAMPLED | RANDOM


def test_no_two_exchanges_have_the_same_ids(of: Meter) -> None:
    exchanges = [of.begins() for _ in range(100)]
    assert len({exchange.trace_id for exchange in exchanges}) == len({exchange.span_id for exchange in exchanges}) == 100


ALWAYS, NEVER = Sampler("always_on", 1.0), Sampler("always_off", 0.0)


@pytest.mark.parametrize(
    ("sampler", "traceparents", "flags"),
    [
        (ALWAYS, (), SAMPLED | RANDOM),
        (ALWAYS, (parent(b"00"),), 0),
        (ALWAYS, (parent(b"02"),), RANDOM),
        (ALWAYS, (parent(b"ff"),), SAMPLED | RANDOM),
        (NEVER, (), RANDOM),
        (NEVER, (parent(b"01"),), SAMPLED),
        (NEVER, (parent(b"00"),), 0),
        (NEVER, (parent(b"03"),), SAMPLED | RANDOM),
        (from_environ({"OTEL_SDK_DISABLED": "true"})[0], (), RANDOM),
        (from_environ({"OTEL_SDK_DISABLED": "true"})[0], (parent(b"01"),), 0),
    ],
)
def test_the_sampler_decides_and_randomness_is_passed_on(
    of: Meter, sampler: Sampler, traceparents: tuple[bytes, ...], flags: int
) -> None:
    assert of.begins(*traceparents, sampler=sampler).flags == flags


@given(st.lists(st.one_of(st.binary(max_size=60), st.just(parent())), max_size=3), st.lists(st.binary(max_size=20), max_size=3))
def test_no_trace_header_fails_a_call(traceparents: list[bytes], states: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        exchange = Meter(patch).begins(*traceparents, states=tuple(states))
    assert len(exchange.trace_id) == 16
    assert any(exchange.trace_id)


# ── facts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_attempt_becomes_a_fact_with_its_own_span_and_times(of: Meter) -> None:
    exchange = of.begins(parent(b"03"), states=(b"a=1",))
    of.passes(0.5)
    attempt = meter.begin_attempt(exchange, of.runtime.rng)
    of.passes(0.25)
    attempt.connected_at = of.at
    of.passes(1.0)
    attempt.first_byte_at = of.at
    of.passes(2.0)
    attempt.status, attempt.address, attempt.sent_bytes, attempt.received_bytes = 200, "127.0.0.1", 3, 4
    meter.attempt_finished(of.runtime, attempt, exchange)
    (fact,) = of.facts
    assert fact == AttemptFinished(
        PASSAGE, STARTED_NS + 500_000_000, STARTED_NS + 3_750_000_000, exchange.trace_id, attempt.span_id, exchange.span_id,
        SAMPLED | RANDOM, b"a=1", "127.0.0.1", 200, "", 3, 4, 0.25, 1.25, 0,
    )  # fmt: skip
    assert attempt.span_id != exchange.span_id


def test_what_never_came_to_pass_has_no_time(of: Meter) -> None:
    exchange = of.begins()
    attempt = meter.begin_attempt(exchange, of.runtime.rng)
    of.passes(1.0)
    attempt.error = exchange.error = "connect_failed"
    meter.attempt_finished(of.runtime, attempt, exchange)
    meter.exchange_finished(of.runtime, exchange)
    tried, over = of.facts
    assert (tried.connect_s, tried.first_byte_s, tried.status, tried.error) == (0.0, 0.0, 0, "connect_failed")
    assert (over.first_byte_s, over.status, over.error, over.attempts) == (0.0, 0, "connect_failed", 1)


def test_further_attempts_count_those_before_them(of: Meter) -> None:
    exchange = of.begins()
    for _ in range(3):
        of.passes(1.0)
        meter.attempt_finished(of.runtime, meter.begin_attempt(exchange, of.runtime.rng), exchange)
    assert [fact.resends for fact in of.facts] == [0, 1, 2]
    assert [fact.started_ns - STARTED_NS for fact in of.facts] == [1e9, 2e9, 3e9]
    assert len({fact.span_id for fact in of.facts}) == 3
    assert {fact.parent_id for fact in of.facts} == {exchange.span_id}


def test_an_exchange_becomes_a_fact_that_is_measured_by_the_clock_that_never_jumps(of: Meter) -> None:
    exchange = of.begins(parent(b"01"), states=(b"a=1",))
    of.passes(1.5)
    exchange.first_byte_at = of.at
    of.wall -= 3_600_000_000_000
    of.passes(1.0)
    exchange.status, exchange.request_bytes, exchange.response_bytes, exchange.attempts = 201, 10, 20, 2
    meter.exchange_finished(of.runtime, exchange)
    assert of.facts == [
        ExchangeFinished(
            PASSAGE, STARTED_NS, STARTED_NS + 2_500_000_000, exchange.trace_id, exchange.span_id, exchange.parent_id, SAMPLED,
            b"a=1", 201, "", 10, 20, 1.5, 2,
        )
    ]  # fmt: skip


def test_an_attempt_that_the_agent_hears_nothing_of_is_not_what_the_exchange_came_to(of: Meter) -> None:
    exchange, said = of.begins(), [Dialogue(Asked("d", each)) for each in ("failed", "dropped", "given up")]
    for dialogue, error, is_seen in zip(said, ("upstream_cut", "", "given_up"), (True, False, True), strict=True):
        attempt = meter.begin_attempt(exchange, of.runtime.rng)
        attempt.dialogue, attempt.error = dialogue, error
        meter.attempt_finished(of.runtime, attempt, exchange, is_seen=is_seen)
    assert exchange.dialogue is said[0]
    assert [fact.dialogue for fact in of.facts] == said


def test_what_is_held_is_settled_before_anybody_hears_of_the_end(of: Meter) -> None:
    order: list[str] = []

    class Permit:
        def __init__(self, name: str) -> None:
            self.name = name

        def settle(self, outcome: Outcome) -> None:
            order.append(f"{self.name} {outcome.status}")

    of.runtime.bus.listen([AttemptFinished, ExchangeFinished], lambda fact: order.append(type(fact).__name__))
    exchange = of.begins()
    exchange.holds(Permit("exchange"))
    attempt = meter.begin_attempt(exchange, of.runtime.rng)
    attempt.holds(Permit("attempt"))
    attempt.status, exchange.status = 500, 200
    meter.attempt_finished(of.runtime, attempt, exchange)
    meter.exchange_finished(of.runtime, exchange)
    assert order == ["attempt 500", "AttemptFinished", "exchange 200", "ExchangeFinished"]


def test_a_permit_that_fails_is_logged_and_the_call_ends_all_the_same(of: Meter, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def settle(self, outcome: Outcome) -> None:
            raise RuntimeError("no ledger")

    exchange = of.begins()
    attempt = meter.begin_attempt(exchange, of.runtime.rng)
    attempt.holds(Broken())
    exchange.holds(Broken())
    meter.attempt_finished(of.runtime, attempt, exchange)
    meter.exchange_finished(of.runtime, exchange)
    assert [type(fact) for fact in of.facts] == [AttemptFinished, ExchangeFinished]
    assert caplog.text.count("RuntimeError: no ledger") == 2


# ── on the wire ──────────────────────────────────────────────────────────────────────────────────────────────────────

DISABLED = {"OTEL_SDK_DISABLED": "true"}


async def test_every_call_is_one_exchange_and_one_attempt(stage: Stage, mode: str) -> None:
    scene = await stage()
    for _ in range(3):
        await scene.passes(scene.request())
    await scene.client.sends(scene.request(b"GET", b"/x", b"Transfer-Encoding: gzip"))
    await scene.client.response()
    await scene.sidecar.finished(3)
    assert (len(scene.sidecar.exchanges), len(scene.sidecar.attempts)) == (3, 3)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"traceparent: " + parent(b"01"),),
        (b"traceparent: " + parent(b"00"), b"tracestate: a=1", b"tracestate: b=2"),
        (b"traceparent: " + parent(b"ff", version=b"42") + b"-more",),
        (b"traceparent: not one of ours", b"tracestate: ;;;"),
        (b"traceparent: one", b"traceparent: two"),
        (b"tracestate: alone=1",),
    ],
)
@pytest.mark.parametrize("body", [None, b"hello"])
async def test_where_the_sdk_is_disabled_trace_headers_go_on_as_they_came(
    stage: Stage, fields: tuple[bytes, ...], body: bytes | None
) -> None:
    scene = await stage(environ=DISABLED)
    method = b"POST" if body else b"GET"
    for _ in range(3):  # the second and third are served by what was remembered of the first
        seen = await scene.passes(scene.request(method, b"/x", *fields, body=body))
        assert [b"%b: %b" % field for field in seen.fields if field[0].startswith(b"trace")] == list(fields)
        assert seen.body == (body or b"")
    assert not any(fact.flags & SAMPLED for fact in (*scene.sidecar.attempts, *scene.sidecar.exchanges))


async def test_where_the_sdk_is_disabled_each_call_on_a_connection_keeps_its_own_parent(stage: Stage) -> None:
    scene = await stage(environ=DISABLED)
    for number in range(4):
        value = b"00-%032x-%016x-01" % (number + 1, number + 1)
        seen = await scene.passes(scene.request(b"POST", b"/x", b"traceparent: " + value, body=b"x" * (number + 9)))
        assert seen.one(b"traceparent") == value
        assert seen.body == b"x" * (number + 9)
