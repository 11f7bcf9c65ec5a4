import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.openai.calls import MOST_BYTES, MOST_CALLS, ToolCalls
from sidecar.model.answered import ToolCall


def test_the_pieces_of_two_calls_are_put_together_by_their_index() -> None:
    found: list[ToolCall] = []
    calls = ToolCalls(found)
    assert calls.piece((0, 0), "a", "f", "") == 1
    assert calls.piece((0, 1), "b", "g", '{"x"') == 5
    assert calls.piece((0, 0), None, None, "{}") == 2
    assert calls.piece((0, 1), None, None, ":1}") == 3
    assert found == [ToolCall("a", "f", b"{}"), ToolCall("b", "g", b'{"x":1}')]


@pytest.mark.parametrize("key", [(0, 0), None])
def test_another_id_begins_another_call_though_the_index_is_the_same_or_missing(key: tuple[int, int] | None) -> None:
    found: list[ToolCall] = []
    calls = ToolCalls(found)
    for call_id, text in (("a", "1"), (None, "2"), ("b", "3"), ("b", "4")):
        calls.piece(key, call_id, "f" if call_id else None, text)
    assert found == [ToolCall("a", "f", b"12"), ToolCall("b", "f", b"34")]


def test_calls_above_the_bound_are_counted_and_not_kept() -> None:
    found: list[ToolCall] = []
    calls = ToolCalls(found)
    assert sum(calls.piece((0, index), None, None, "xy") for index in range(1000)) == 2000
    assert len(found) == MOST_CALLS


def test_arguments_above_the_bound_are_cut_at_a_piece() -> None:
    found: list[ToolCall] = []
    calls = ToolCalls(found)
    for _ in range(40):
        assert calls.piece((0, 0), "a", None, "x" * 50_000) == 50_000
    assert calls.piece((0, 1), "b", None, "y") == 1
    calls.settle()
    assert len(found[0].arguments) == MOST_BYTES // 50_000 * 50_000
    assert found[1].arguments == b""


def test_names_and_ids_are_cut() -> None:
    found: list[ToolCall] = []
    calls = ToolCalls(found)
    calls.piece((0, 0), "i" * 1000, "n" * 1000, None)
    calls.piece((0, 0), "i" * 1000, None, "x")
    assert [(len(call.id), len(call.name), call.arguments) for call in found] == [(256, 256, b"x")]


@given(st.lists(st.tuples(st.integers(0, 2), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)), max_size=30))
def test_all_that_comes_is_there_at_once(pieces: list[tuple[int, str]]) -> None:
    found: list[ToolCall] = []
    calls = ToolCalls(found)
    expected: dict[int, bytes] = {}
    for index, text in pieces:
        calls.piece((0, index), None, None, text)
        expected[index] = expected.get(index, b"") + text.encode()
        assert sorted(call.arguments for call in found) == sorted(expected.values())


def test_a_megabyte_in_small_pieces_takes_no_square_of_time() -> None:
    found: list[ToolCall] = []
    calls = ToolCalls(found)
    started = time.process_time()
    for _ in range(100_000):
        calls.piece((0, 0), None, None, "0123456789")
    assert time.process_time() - started < 2
    assert len(found[0].arguments) > 850_000
    calls.settle()
    assert found[0].arguments == b"0123456789" * 100_000
