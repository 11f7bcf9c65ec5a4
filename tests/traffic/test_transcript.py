"""What is said in one attempt, and what it cost."""

import asyncio
import gzip
import os
from typing import Any

import pytest

from sidecar.dialects.bodies import WholeBody
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.dialogue import Dialogue
from sidecar.model.exchange import Attempt
from sidecar.traffic.copying import MOST_BYTES
from sidecar.traffic.inspector import Inspector
from sidecar.traffic.transcript import Fields, Transcript
from sidecar.traffic.wire.response_head import ResponseHead, parse_response
from tests.traffic.test_inspection import PASSAGE, exchange
from tests.traffic.test_inspector import inspector

ASKED = ModelAsked("parrot", "chat", model="m")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Parrot:\tpolly \r\nContent-Length: 3\r\n\r\n"


def head(raw: bytes = HEAD) -> ResponseHead:
    return parse_response(raw, method=b"POST", max_count=20)


class FixedPrice:
    """Every call costs 7 nano-dollars; what it was asked about is kept."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def cost(self, asked: ModelAsked, answered: ModelAnswered | None, **rest: Any) -> Cost:
        self.told.append((asked, answered, rest))
        return Cost(7, Pricing.EXACT)


def begun(one: Inspector | None = None, unread: str = "") -> tuple[Transcript, Attempt]:
    attempt = Attempt(exchange(), PASSAGE, b"a" * 8, 1_000)
    ticks = iter(range(2_001_000, 99_000_000, 1_000_000))
    return Transcript(one or inspector(), attempt, ASKED, unread, lambda: next(ticks)), attempt


def test_the_first_content_has_its_time() -> None:
    transcript, _ = begun()
    transcript.answers(head())
    transcript.feed(b"")
    transcript.feed(b"one")
    transcript.feed(b"two")
    assert transcript.dialogue(0).first_content_s == pytest.approx(0.002)


def test_the_content_that_came_with_the_end_has_its_time_too() -> None:
    transcript, _ = begun()
    transcript.answers(head())
    transcript.last = b"all of it"
    said = transcript.dialogue(0)
    assert said.first_content_s == pytest.approx(0.002)
    assert said.answered is not None
    assert said.answered.is_ended


def test_a_call_is_priced_by_what_was_asked_and_answered() -> None:
    one = inspector()
    one.pricer = prices = FixedPrice()
    transcript, attempt = begun(one)
    attempt.sent_bytes, attempt.received_bytes, attempt.status = 12, 33, 200
    transcript.answers(head())
    transcript.feed(b"one")
    said = transcript.dialogue(99)
    assert said.cost == Cost(7, Pricing.EXACT)
    assert prices.told == [
        (ASKED, said.answered, {"host": "llm.test", "at_ns": 99, "request_bytes": 12, "answered_bytes": 33, "status": 200})
    ]


def test_without_prices_nothing_is_priced_and_nothing_is_free() -> None:
    transcript, _ = begun()
    cost = transcript.dialogue(0).cost
    assert cost is not None
    assert cost.pricing is Pricing.UNPRICED


def test_what_was_too_large_to_be_read_is_unpriced() -> None:
    one = inspector()
    one.pricer = FixedPrice()
    transcript, _ = begun(one, "too_large")
    transcript.answers(head())
    cost = transcript.dialogue(0).cost
    assert cost is not None
    assert (cost.pricing, cost.why) == (Pricing.UNPRICED, "too_large")


def test_fields_are_found_however_they_are_written() -> None:
    for one in (head(), head(HEAD.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked"))):
        fields = Fields(one)
        assert fields["x-parrot"] == "polly"
        assert fields.get("content-type") == "text/plain"
        assert fields.get("parrot") is None
        assert "content-type" in fields
        assert {"content-type", "x-parrot"} <= set(fields)
        assert len(fields) == len(set(fields))


CODED = HEAD.replace(b"X-Parrot", b"Content-Encoding: gzip\r\nX-Parrot")


def said_in(transcript: Transcript) -> tuple[str, str, bool] | None:
    content = transcript.dialogue(0).content
    return (content.input[0].parts[0].text, content.output[0].parts[0].text, content.is_cut) if content is not None else None


def test_what_is_said_is_kept_where_the_route_collects_it() -> None:
    for raw, pieces in ((HEAD, (b"one ", b"two")), (CODED, (gzip.compress(b"one two"), b""))):
        transcript, _ = begun(inspector(content=True))
        transcript.body = b"hello"
        transcript.answers(head(raw))
        transcript.feed(pieces[0])
        transcript.last = pieces[1]
        assert said_in(transcript) == ("hello", "one two", False)


def test_of_a_call_that_nobody_answered_the_request_is_said() -> None:
    transcript, _ = begun(inspector(content=True))
    transcript.body = b"hello"
    assert said_in(transcript) == ("hello", "", False)


def test_what_was_too_large_or_too_much_is_known_to_be_cut() -> None:
    transcript, _ = begun(inspector(content=True), "too_large")
    transcript.answers(head())
    transcript.feed(b"x")
    assert said_in(transcript) == ("", "x", True)
    transcript, _ = begun(inspector(content=True))
    transcript.body = b""
    transcript.answers(head())
    for _ in range(5):
        transcript.feed(b"x" * (MOST_BYTES // 4))
    assert said_in(transcript) == ("", "x" * MOST_BYTES, True)


def test_nothing_is_kept_without_the_setting_or_without_a_sampled_trace_or_by_a_dialect_that_fails() -> None:
    for route, flags, body in ((False, 1, b"a"), (True, 0, b"a"), (True, 1, b"mute")):
        transcript, attempt = begun(inspector(content=route))
        attempt.exchange.flags = flags
        transcript.body = body
        transcript.answers(head())
        transcript.feed(b"x")
        assert said_in(transcript) is None


def test_an_answer_that_is_read_no_further_is_kept_as_far_as_it_was() -> None:
    transcript, _ = begun(inspector(content=True))
    transcript.body = b"hello"
    transcript.answers(head())
    transcript.feed(b"one")
    transcript.feed(b"?")
    transcript.feed(b"two")
    assert said_in(transcript) == ("hello", "one?two", False)


def test_events_that_cost_far_more_than_events_do_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_ns = iter(range(0, 10**12, 30_000_000))
    monkeypatch.setattr("sidecar.traffic.transcript.time.thread_time_ns", lambda: next(cpu_ns))

    async def read() -> Dialogue:
        transcript, _ = begun()
        transcript.answers(head())
        transcript.feed(b"x" * 100_000)
        for _ in range(20):
            await asyncio.sleep(0)
        return transcript.dialogue(0)

    said = asyncio.run(read())
    assert said.unread == "too_costly"
    assert said.answered is not None
    assert 0 < said.answered.content_bytes < 100_000


def test_very_long_events_may_cost_more_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_ns, steps = 0, 0

    def now() -> int:
        nonlocal cpu_ns, steps
        steps += 1
        cpu_ns += 50_000_000 if steps % 32 == 0 else 100_000
        return cpu_ns

    monkeypatch.setattr("sidecar.traffic.transcript.time.thread_time_ns", now)

    async def read() -> str:
        transcript, _ = begun()
        transcript.answers(head())
        for _ in range(20):
            transcript.feed(b"x" * 256 * 1024)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return transcript.dialogue(0).unread

    assert asyncio.run(read()) == ""


class Tap:
    """Notes whether the upstream is held back."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    def reading_is_behind(self, *, is_behind: bool) -> None:
        self.told.append(is_behind)


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_what_cannot_be_read_in_a_turn_is_read_in_the_next_ones_and_the_upstream_waits(
    monkeypatch: pytest.MonkeyPatch, coding: str
) -> None:
    cpu_ns = iter(range(0, 10**12, 1_000_000))  # a millisecond for each step of 16 KiB: four a turn
    monkeypatch.setattr("sidecar.traffic.transcript.time.thread_time_ns", lambda: next(cpu_ns))
    body = b"data: {}\n\n" * 26_000

    async def read() -> tuple[list[int], list[bool]]:
        transcript, _ = begun()
        transcript.flow = tap = Tap()
        transcript.answers(head(CODED) if coding else head())
        transcript.feed(gzip.compress(body, mtime=0) if coding else body)
        reader = transcript._reader
        assert reader is not None
        seen = []
        while transcript.is_late:
            seen.append(reader.answered.content_bytes)
            await asyncio.sleep(0)
        seen.append(reader.answered.content_bytes)
        return seen, tap.told

    seen, told = asyncio.run(read())
    assert seen[-1] == len(body)
    assert len(seen) >= 4
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= 5 * 16 * 1024
    assert (told[0], told[-1], told.count(False)) == (True, False, 1)


def test_an_answer_that_is_over_is_read_no_further_in_later_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_ns = iter(range(0, 10**12, 5_000_000))
    monkeypatch.setattr("sidecar.traffic.transcript.time.thread_time_ns", lambda: next(cpu_ns))

    async def read() -> tuple[Dialogue, int]:
        transcript, _ = begun()
        transcript.flow = tap = Tap()
        transcript.answers(head())
        transcript.feed(b"x" * 1_000_000)
        said = transcript.dialogue(0)
        assert said.answered is not None
        before = said.answered.content_bytes
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert tap.told == [True]
        return said, said.answered.content_bytes - before

    said, more = asyncio.run(read())
    assert (said.unread, more) == ("too_costly", 0)


def test_long_pieces_of_a_stream_that_costs_little_are_all_read() -> None:
    transcript, _ = begun()
    transcript.answers(head())
    for _ in range(20):
        transcript.feed(b"x" * 100_000)
    said = transcript.dialogue(0)
    assert (said.unread, said.answered is not None and said.answered.content_bytes) == ("", 2_000_000)


def test_short_pieces_are_read_together_once_content_has_come_and_none_is_lost() -> None:
    transcript, _ = begun()
    transcript.answers(head())
    transcript.feed(b"first")
    for number in range(20):
        transcript.feed(b" %d" % number)
    transcript.feed(b"x" * 5_000)
    transcript.feed(b" cut")
    said = transcript.dialogue(0)
    expected = b"first" + b"".join(b" %d" % number for number in range(20)) + b"x" * 5_000 + b" cut"
    assert said.answered is not None
    assert said.answered.content_bytes == len(expected)
    assert said.answered.id == expected.decode()  # type: ignore[attr-defined]  # a parrot's


def test_what_waits_is_read_before_the_end_even_where_nothing_comes_with_it() -> None:
    transcript, _ = begun()
    transcript.answers(head())
    transcript.feed(b"one")
    transcript.feed(b"two")
    transcript.last = b""
    said = transcript.dialogue(0)
    assert said.answered is not None
    assert (said.answered.content_bytes, said.answered.is_ended) == (6, True)


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "cut"])
def test_what_has_come_of_a_decoded_copy_is_read_when_the_attempt_is_over(is_whole: bool) -> None:
    body = os.urandom(64 << 10).hex().encode() + b"data: {}\n\n" * 100_000

    async def read() -> int:
        transcript, _ = begun()
        transcript.answers(head(CODED))
        transcript.feed(gzip.compress(body, mtime=0))
        transcript.last = b"" if is_whole else None
        answered = transcript.dialogue(0).answered
        await asyncio.sleep(0)
        return answered.content_bytes  # type: ignore[union-attr]  # a parrot's

    assert asyncio.run(read()) == len(body)


def test_whole_answers_have_their_place_in_the_room_until_they_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    one = inspector()
    monkeypatch.setattr(one.dialect, "reader", lambda *told: WholeBody(ModelAnswered(), lambda body: None))
    (first, _), (second, _) = begun(one), begun(one)
    for transcript in (first, second):
        transcript.answers(head())
        transcript.feed(b"x" * 700_000)
    assert 600_000 < one.room.taken_bytes <= 700_000
    assert second.dialogue(0).unread == "no_room"
    assert first.dialogue(0).unread == ""
    assert one.room.taken_bytes == 0
