import dataclasses

import pytest

from sidecar.model import facts
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode, OfPassage, Passage, Purpose

PASSAGE = Passage(
    listener="http", client="127.0.0.1:50000", mode=Mode.GATEWAY, method="POST", scheme="https", host="api.openai.com", port=443,
    path="/openai/v1/models?a=1", target="/v1/models?a=1", upstream="http/openai", route="openai", agent="planner", task="t-1",
    purpose=Purpose.LIVE,
)  # fmt: skip

EVERY_FACT = [
    each
    for each in vars(facts).values()
    if dataclasses.is_dataclass(each) and isinstance(each, type) and each.__module__ == facts.__name__ and each is not Passage
]


def filled(kind: type) -> object:
    """A fact with something in every field."""
    made = {"passage": PASSAGE}
    return kind(**{field.name: made.get(field.name, index) for index, field in enumerate(dataclasses.fields(kind))})


@pytest.mark.parametrize("kind", EVERY_FACT)
def test_a_fact_has_slots_so_that_it_is_cheap_and_nothing_is_added_to_it(kind: type) -> None:
    with pytest.raises(AttributeError):
        filled(kind).something_new = 1  # type: ignore[attr-defined]  # that is the point


@pytest.mark.parametrize("kind", EVERY_FACT)
def test_a_fact_is_past_tense_and_has_its_own_time(kind: type) -> None:
    assert kind.__name__.endswith(("ed", "Opened", "Spent"))
    names = {field.name for field in dataclasses.fields(kind)}
    assert {"at_ns"} <= names or {"started_ns", "ended_ns"} <= names


@pytest.mark.parametrize("kind", [AttemptFinished, ExchangeFinished])
def test_a_fact_knows_what_its_passage_knows(kind: type) -> None:
    fact = filled(kind)
    shared = {name for name, value in vars(OfPassage).items() if isinstance(value, property)}
    assert shared == {field.name for field in dataclasses.fields(Passage)} - {"path", "target", "blocks", "counted", "is_long"}
    assert all(getattr(fact, name) == getattr(PASSAGE, name) for name in shared)


def test_an_attempt_tells_the_target_that_the_upstream_saw_and_an_exchange_what_the_agent_sent() -> None:
    attempt, exchange = filled(AttemptFinished), filled(ExchangeFinished)
    assert isinstance(attempt, AttemptFinished)
    assert isinstance(exchange, ExchangeFinished)
    assert (attempt.path, exchange.path) == ("/v1/models?a=1", "/openai/v1/models?a=1")


def test_passages_of_the_same_head_are_equal_whatever_was_derived_from_them() -> None:
    other = dataclasses.replace(PASSAGE, blocks={"spans": b"bytes"})
    assert other == PASSAGE
    assert "bytes" not in repr(other)
