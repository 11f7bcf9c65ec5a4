"""Ended calls that wait: so many, and so much of what was said in them."""

from sidecar.model.content import Content, Kind, Message, Part
from sidecar.telemetry.waiting import AT_ONCE_CONTENT_BYTES, MOST_CONTENT_BYTES, Ended, Waiting
from tests.telemetry.dialogues import chat
from tests.telemetry.facts import attempt, exchange


def talk(chars: int) -> Ended:
    return attempt(dialogue=chat(content=Content(input=[Message("user", [Part(Kind.TEXT, "x" * chars)])])))


def content_of(fact: Ended) -> Content:
    assert fact.dialogue is not None
    assert fact.dialogue.content is not None
    return fact.dialogue.content


def test_what_finds_no_room_is_counted() -> None:
    waiting = Waiting(3)
    facts = [exchange(), attempt(), exchange(), attempt()]
    assert waiting.add(facts[:2]) == (0, 0)
    assert waiting.add(facts[2:]) == (1, 0)
    assert (len(waiting), waiting.take(2), waiting.take(9), waiting.take(9)) == (3, facts[:2], facts[2:3], [])


def test_calls_without_content_are_taken_as_many_as_are_wanted() -> None:
    waiting = Waiting(1000)
    waiting.add([exchange() for _ in range(100)])
    assert [len(waiting.take(64)), len(waiting.take(64)), waiting.content_bytes] == [64, 36, 0]


def test_all_that_waits_holds_no_more_than_the_bound_whatever_was_said() -> None:
    waiting = Waiting(8192)
    facts = [talk(256 * 1024) for _ in range(300)]
    dropped, emptied = waiting.add(facts)
    assert (dropped, len(waiting)) == (0, 300)
    assert 0 < waiting.content_bytes <= MOST_CONTENT_BYTES + 300 * 512
    assert emptied == 300 - MOST_CONTENT_BYTES // content_of(facts[0]).size_bytes()
    taken = [fact for _ in range(300) for fact in waiting.take(64)]
    assert [fact.span_id for fact in taken] == [fact.span_id for fact in facts]
    assert [content_of(fact).is_cut for fact in taken] == [False] * (300 - emptied) + [True] * emptied
    assert waiting.content_bytes == 0
    assert not any(content_of(fact).is_cut for fact in facts), "others have the fact as it was"


def test_where_much_was_said_few_are_taken_at_once() -> None:
    waiting = Waiting(1000)
    waiting.add([exchange(), talk(AT_ONCE_CONTENT_BYTES), exchange(), talk(10), *(talk(1000) for _ in range(200))])
    assert len(waiting.take(64)) == 3
    assert 20 < len(waiting.take(64)) < 64
