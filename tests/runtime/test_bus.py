from dataclasses import dataclass

from sidecar.runtime.bus import Bus


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
