import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.terminal.screen import Screen, cells
from sidecar.terminal.table import Cell, Column, draw

COLUMNS = (Column("name"), Column("calls", right=True), Column("p95", rank=1, right=True), Column("bytes", rank=2, right=True))
ROWS = [
    [Cell("api.openai.com"), Cell("12"), Cell("1.2 s"), Cell("30 KiB")],
    [Cell("localhost:8931"), Cell("3"), Cell("4 ms"), Cell("1 KiB")],
]


def test_columns_are_aligned_and_as_wide_as_their_texts() -> None:
    assert draw(COLUMNS, ROWS, Screen()) == [
        "name            calls    p95   bytes",
        "api.openai.com     12  1.2 s  30 KiB",
        "localhost:8931      3   4 ms   1 KiB",
    ]


def test_the_highest_rank_leaves_a_narrow_screen_first() -> None:
    columns = [Column("a" * 20), Column("b" * 10), Column("c" * 10, rank=1), Column("d" * 10, rank=2)]
    shown = {width: draw(columns, [], Screen(width))[0].split() for width in (60, 45, 30)}
    assert [len(shown[width]) for width in (60, 45, 30)] == [4, 3, 2]
    assert [text[0] for text in shown[45]] == ["a", "b", "c"]


def test_the_first_column_is_cut_when_nothing_else_can_go() -> None:
    lines = draw([Column("destination"), Column("calls", right=True)], [[Cell("x" * 100), Cell("1")]], Screen(40))
    assert lines[1] == "x" * 32 + "…" + "      1"


def test_colours_do_not_count_as_width() -> None:
    plain, coloured = (
        draw(COLUMNS[:2], [[Cell("a", "red"), Cell("1", "green")]], Screen(colour=colour)) for colour in (False, True)
    )
    assert plain == ["name  calls", "a         1"]
    assert coloured[1] == "\x1b[31ma   \x1b[0m  \x1b[32m    1\x1b[0m"


def test_control_characters_are_cleaned_out_of_cells() -> None:
    assert draw([Column("x")], [[Cell("a\x1b[31m\nb")]], Screen()) == ["x", "a?[31m?b"]


@given(
    st.lists(st.lists(st.text(max_size=60), min_size=4, max_size=4), max_size=5),
    st.integers(min_value=40, max_value=150),
    st.booleans(),
)
def test_no_line_is_wider_than_the_screen_whatever_the_first_column_holds(
    rows: list[list[str]], width: int, unicode: bool
) -> None:
    cut = [[row[0], row[1][:5], row[2][:5], row[3][:5]] for row in rows]
    lines = draw(COLUMNS, [[Cell(text) for text in row] for row in cut], Screen(width, unicode=unicode))
    assert len(lines) == 1 + len(rows)
    assert max(cells(line) for line in lines) <= width
    assert all("\n" not in line for line in lines)


def test_a_row_of_the_wrong_length_is_a_mistake_that_shows() -> None:
    with pytest.raises(IndexError):
        draw(COLUMNS, [[Cell("only one")]], Screen())
