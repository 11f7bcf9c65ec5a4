import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from sidecar.model.clock import ManualClock
from sidecar.runtime.bus import AT_ONCE, Bus, Subscription


@dataclass(slots=True)
class Opened:
    number: int


@dataclass(slots=True)
class Closed:
    number: int


class ReallyOpened(Opened):
    """A subclass is another type of fact."""


def test_listeners_hear_a_fact_before_publish_returns_and_in_their_order() -> None:
    bus, heard = Bus(), []
    bus.listen([Opened], lambda fact: heard.append(("first", fact.number)))
    bus.listen([Opened, Closed], lambda fact: heard.append(("second", fact.number)))
    bus.publish(Opened(1))
    bus.publish(Closed(2))
    assert heard == [("first", 1), ("second", 1), ("second", 2)]


def test_a_listener_hears_exactly_the_types_it_asked_for() -> None:
    bus, heard = Bus(), []
    bus.listen([Opened], heard.append)
    bus.publish(ReallyOpened(1))
    bus.publish("something else")
    assert heard == []


def test_a_listener_that_has_ended_hears_nothing_more_and_ends_twice_without_harm() -> None:
    bus, heard, other = Bus(), [], []
    end = bus.listen([Opened, Closed], heard.append)
    bus.listen([Opened], other.append)
    end()
    end()
    bus.publish(Opened(1))
    bus.publish(Closed(1))
    assert (heard, other) == ([], [Opened(1)])


def test_who_begins_to_listen_during_a_publication_hears_the_next_one() -> None:
    bus, late = Bus(), []
    ends = []
    ends.append(bus.listen([Opened], lambda fact: ends.append(bus.listen([Opened], late.append))))
    bus.publish(Opened(1))
    assert late == []
    ends[0]()
    bus.publish(Opened(2))
    assert late == [Opened(2)]


def test_a_subscription_keeps_facts_for_a_slower_reader() -> None:
    bus = Bus()
    queue, end = bus.subscribe([Opened], limit=10)
    for number in range(4):
        bus.publish(Opened(number))
    assert len(queue) == 4
    assert queue.take(3) == [Opened(0), Opened(1), Opened(2)]
    assert queue.take(3) == [Opened(3)]
    assert queue.take(3) == []
    end()
    bus.publish(Opened(5))
    assert len(queue) == 0


def test_a_full_subscription_drops_the_newest_and_counts_it() -> None:
    bus = Bus()
    queue, _ = bus.subscribe([Opened], limit=2)
    for number in range(5):
        bus.publish(Opened(number))
    assert (queue.take(9), queue.dropped) == ([Opened(0), Opened(1)], 3)


def test_who_ends_during_a_publication_still_hears_of_it_and_no_more() -> None:
    bus, heard = Bus(), []
    ends = []
    bus.listen([Opened], lambda fact: ends[0]())
    ends.append(bus.listen([Opened], heard.append))
    bus.publish(Opened(1))
    bus.publish(Opened(2))
    assert heard == [Opened(1)]


def test_a_subscription_that_was_emptied_takes_facts_again_and_keeps_its_count() -> None:
    bus = Bus()
    queue, _ = bus.subscribe([Opened], limit=1)
    for number in range(3):
        bus.publish(Opened(number))
    assert queue.take(1) == [Opened(0)]
    bus.publish(Opened(3))
    assert (queue.take(1), queue.dropped) == ([Opened(3)], 2)


def numbers(batches: list[list[Opened]]) -> list[list[int]]:
    return [[fact.number for fact in batch] for batch in batches]


async def test_who_gathers_hears_a_full_batch_before_publish_returns() -> None:
    bus, batches = Bus(), []
    bus.gather([Opened], lambda facts: batches.append(list(facts)))
    for number in range(AT_ONCE - 1):
        bus.publish(Opened(number))
    assert batches == []
    bus.publish(Opened(AT_ONCE - 1))
    assert numbers(batches) == [list(range(AT_ONCE))]


async def test_who_gathers_hears_of_a_few_facts_soon_and_only_once() -> None:
    bus, heard = Bus(), asyncio.Queue[list[int]]()
    bus.gather([Opened], lambda facts: heard.put_nowait([fact.number for fact in facts]))
    bus.publish(Opened(1))
    bus.publish(Opened(2))
    assert await asyncio.wait_for(heard.get(), 5) == [1, 2]
    bus.publish(Opened(3))
    assert await asyncio.wait_for(heard.get(), 5) == [3]
    assert heard.empty()


async def test_whoever_looks_has_the_rest_delivered_first() -> None:
    bus, batches = Bus(), []
    bus.gather([Opened, Closed], lambda facts: batches.append(list(facts)))
    bus.publish(Opened(1))
    bus.publish(Closed(2))
    bus.deliver()
    assert batches == [[Opened(1), Closed(2)]]
    bus.deliver()
    assert len(batches) == 1, "an empty batch is nobody's business"


def test_without_a_loop_facts_are_delivered_at_once() -> None:
    bus, batches = Bus(), []
    bus.gather([Opened], lambda facts: batches.append(list(facts)))
    bus.publish(Opened(1))
    bus.publish(Opened(2))
    assert numbers(batches) == [[1], [2]]


async def test_each_gatherer_gets_its_own_types_in_their_order() -> None:
    bus, opened, both = Bus(), [], []
    bus.gather([Opened], opened.extend)
    bus.gather([Closed, Opened], both.extend)
    for fact in (Opened(1), Closed(2), Opened(3), ReallyOpened(4)):
        bus.publish(fact)
    bus.deliver()
    assert opened == [Opened(1), Opened(3)]
    assert both == [Opened(1), Closed(2), Opened(3)]


async def test_who_stops_gathering_has_heard_all_until_then_and_nothing_after() -> None:
    bus, heard, other = Bus(), [], []
    end = bus.gather([Opened], heard.extend)
    bus.publish(Opened(1))
    end()
    assert heard == [Opened(1)]
    bus.gather([Opened], other.extend)
    bus.publish(Opened(2))
    end()
    bus.deliver()
    assert (heard, other) == ([Opened(1)], [Opened(2)])


async def test_who_begins_to_gather_hears_nothing_of_before() -> None:
    bus, early, late = Bus(), [], []
    bus.gather([Opened], early.extend)
    bus.publish(Opened(1))
    bus.gather([Opened], late.extend)
    bus.publish(Opened(2))
    bus.deliver()
    assert (early, late) == ([Opened(1), Opened(2)], [Opened(2)])


async def test_a_gatherer_that_fails_keeps_the_facts_from_nobody_else() -> None:
    bus, heard = Bus(), []

    def fails(facts: Sequence[Opened]) -> None:
        raise ValueError("broken")

    bus.gather([Opened], fails)
    bus.gather([Opened], heard.extend)
    bus.publish(Opened(1))
    bus.deliver()
    assert heard == [Opened(1)]
    bus.deliver()
    assert heard == [Opened(1)]


async def test_a_listener_that_fails_keeps_the_fact_from_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    bus, heard, gathered = Bus(), [], []

    def fails(fact: Opened) -> None:
        raise ValueError("broken")

    bus.listen([Opened], fails)
    bus.listen([Opened], heard.append)
    bus.gather([Opened], gathered.extend)
    bus.publish(Opened(1))
    bus.deliver()
    assert (heard, gathered) == ([Opened(1)], [Opened(1)])
    (record,) = caplog.records
    assert "fails failed at what it heard" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_those_who_end_or_begin_do_not_pay_for_another_who_fails(caplog: pytest.LogCaptureFixture) -> None:
    bus, heard, late = Bus(), [], []

    def fails(facts: Sequence[Opened]) -> None:
        raise ValueError("broken")

    bus.gather([Opened], fails)
    end = bus.gather([Opened], heard.extend)
    bus.publish(Opened(1))
    end()
    bus.publish(Opened(2))
    bus.gather([Opened], late.extend)
    bus.publish(Opened(3))
    bus.deliver()
    assert (heard, late) == ([Opened(1)], [Opened(3)])


def test_who_fails_at_every_fact_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    bus = Bus(clock)
    bus.listen([Opened], Subscription.take)  # has no such argument
    for number in range(5):
        bus.publish(Opened(number))
    assert len(caplog.records) == 1
    clock.advance(61)
    bus.publish(Opened(6))
    assert "4 more like this before" in caplog.messages[1]


async def test_a_listener_and_a_gatherer_of_one_type_both_hear() -> None:
    bus, at_once, later = Bus(), [], []
    bus.gather([Opened], later.extend)
    bus.listen([Opened], at_once.append)
    bus.publish(Opened(1))
    assert (at_once, later) == ([Opened(1)], [])
    bus.deliver()
    assert later == [Opened(1)]
