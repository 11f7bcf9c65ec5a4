"""Stages may do anything; each is told its ending once, and what is broken is never taken for whole."""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.traffic.stages import Stages
from tests.traffic.wire.stand import Holds


class Marks:
    """Puts a letter behind each chunk and at the end; does `does` instead where `when` comes."""

    def __init__(self, letter: bytes = b"m", *, when: str = "", does: Any = None) -> None:
        self.letter = letter
        self.when = when
        self.does = does
        self.seen: list[bytes] = []
        self.ended: list[str] = []

    def data(self, chunk: bytes) -> bytes:
        self.seen.append(chunk)
        return self._give(chunk + self.letter, "data")

    def end(self, error: str) -> bytes:
        self.ended.append(error)
        return self._give(self.letter.upper(), "end")

    def _give(self, given: bytes, now: str) -> bytes:
        if self.when != now:
            return given
        if isinstance(self.does, BaseException):
            raise self.does
        return self.does  # type: ignore[no-any-return]  # a stage may give what it must not


def made_of(*each: Any) -> Stages:
    stages = Stages()
    for stage in each:
        stages.put(stage)
    return stages


def test_no_stages_change_nothing() -> None:
    stages = Stages()
    assert (len(stages), stages.data(b"x"), stages.end("", b"y"), stages.end("")) == (0, b"x", b"y", b"")


def test_content_passes_all_stages_and_what_one_gives_at_its_end_passes_those_behind_it() -> None:
    first, second = Marks(b"a"), Marks(b"b")
    stages = made_of(first, second)
    assert stages.data(b"1") == b"1ab"
    assert stages.end("", b"2") == b"2aAbB"
    assert (first.ended, second.ended) == ([""], [""])


def test_a_stage_that_holds_back_keeps_the_next_from_being_asked() -> None:
    behind = Marks()
    stages = made_of(Holds(), behind)
    assert stages.data(b"1") == b""
    assert behind.seen == []
    assert stages.end("") == b"1mM"


@pytest.mark.parametrize("does", [ValueError("broken"), asyncio.CancelledError(), None, "text", 7])
@pytest.mark.parametrize("when", ["data", "end"])
def test_a_stage_that_fails_is_a_refusal_and_everybody_hears_an_ending(
    does: Any, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, broken, behind = Marks(), Marks(when=when, does=does), Marks()
    stages = made_of(before, broken, behind)
    if when == "data":
        with pytest.raises(Refused, match="policy_failed"):
            stages.data(b"x")
        assert stages.end("policy_failed") == b"", "what is left may have a hole in it"
        assert (before.ended, broken.ended, behind.ended) == (["policy_failed"],) * 3
    else:
        with pytest.raises(Refused, match="policy_failed"):
            stages.end("", b"x")
        assert (before.ended, broken.ended, behind.ended) == ([""], [""], ["policy_failed"])
        assert behind.seen == []
    assert "a stage failed: Marks" in caplog.text
    assert stages.end("") == b""
    assert [len(stage.ended) for stage in (before, broken, behind)] == [1, 1, 1]


def test_a_stage_may_refuse_to_go_on_and_what_the_others_have_left_is_given() -> None:
    stages = made_of(Holds(), Marks())
    stages.data(b"kept")
    refusing = made_of(Marks(when="data", does=Refused("stopped", "enough")), Marks(b"b"))
    with pytest.raises(Refused, match="stopped"):
        refusing.data(b"x")
    assert refusing.end("stopped") == b"MbB"
    assert stages.end("stopped") == b"keptmM"
    guarded = made_of(Marks(b"a"), Marks(when="data", does=Refused("stopped", "enough")), Marks(b"b"))
    with pytest.raises(Refused):
        guarded.data(b"x")
    assert guarded.end("stopped") == b"MbB", "and what the first has left does not pass the second"


def test_a_stage_that_fails_at_a_cut_does_not_change_why_it_was_cut() -> None:
    behind = Marks()
    stages = made_of(Marks(when="end", does=ValueError("broken")), behind)
    with pytest.raises(Refused, match="policy_failed"):
        stages.end("upstream_cut")
    assert behind.ended == ["upstream_cut"]


def test_a_stage_comes_in_time_or_hears_that_it_is_too_late() -> None:
    stages = made_of(Marks())
    stages.flow()
    with pytest.raises(RuntimeError, match="on its way"):
        stages.put(Marks())
    stages.end("client_gone")
    late = Marks()
    stages.put(late)
    assert late.ended == ["client_gone"]
    assert len(stages) == 1


@given(
    st.lists(st.sampled_from(["", "data", "end"]), max_size=4),
    st.lists(st.sampled_from(["data", "end", "cut"]), max_size=6),
)
def test_whatever_happens_every_stage_hears_one_ending(breaks: list[str], events: list[str]) -> None:
    each = [Marks(when=when, does=ValueError("broken")) for when in breaks]
    stages = made_of(*each)
    for event in [*events, "end"]:
        try:
            if event == "data" and not any(stage.ended for stage in each):
                stages.data(b"x")
            elif event != "data":
                stages.end("" if event == "end" else "upstream_cut")
        except Refused:
            with contextlib.suppress(Refused):
                stages.end("policy_failed")
    assert [len(stage.ended) for stage in each] == [1] * len(each)
