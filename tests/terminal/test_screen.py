import io
import os
import pty
from collections.abc import Iterator

import pytest

from sidecar.terminal.screen import WIDTH_OF_NO_TERMINAL, Screen, cells


class Ascii(io.StringIO):
    encoding = "ascii"


@pytest.fixture
def terminal() -> Iterator[io.TextIOWrapper]:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with open(theirs, "w", encoding="utf-8") as stream:
        yield stream
    os.close(ours)


def set_width(stream: io.TextIOWrapper, columns: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def test_a_pipe_is_a_wide_screen_without_colours() -> None:
    assert Screen.of(io.StringIO(), {"TERM": "xterm"}) == Screen(WIDTH_OF_NO_TERMINAL, colour=False, unicode=False)


def test_a_terminal_has_its_own_width_and_colours(terminal: io.TextIOWrapper) -> None:
    set_width(terminal, 77)
    assert Screen.of(terminal, {"TERM": "xterm"}) == Screen(77, colour=True, unicode=True)


@pytest.mark.parametrize(("environ", "colour"), [({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)])
def test_no_color_and_dumb_terminals_switch_colours_off(
    terminal: io.TextIOWrapper, environ: dict[str, str], colour: bool
) -> None:
    assert Screen.of(terminal, {"TERM": "xterm"} | environ).colour is colour


def test_a_terminal_that_does_not_know_its_width_gets_the_usual_one(terminal: io.TextIOWrapper) -> None:
    assert Screen.of(terminal, {}).width == WIDTH_OF_NO_TERMINAL


def test_a_stream_that_only_says_it_is_a_terminal_gets_the_usual_width() -> None:
    class Pretender(io.StringIO):
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            return 10_000

    assert Screen.of(Pretender(), {}).width == WIDTH_OF_NO_TERMINAL


@pytest.mark.parametrize(
    ("columns", "width"), [("64", 64), ("7", 40), ("wide", WIDTH_OF_NO_TERMINAL), ("0", WIDTH_OF_NO_TERMINAL)]
)
def test_columns_sets_the_width_within_reason(columns: str, width: int) -> None:
    assert Screen.of(io.StringIO(), {"COLUMNS": columns}).width == width


def test_a_stream_of_ascii_gets_ascii() -> None:
    screen = Screen.of(Ascii(), {})
    assert not screen.unicode
    assert screen.clean("Zürich→") == "Z?rich?"
    assert screen.cut("abcdef", 4) == "abc~"


def test_colours_are_painted_only_where_there_are_some() -> None:
    assert Screen(colour=True).paint("x", "red") == "\x1b[31mx\x1b[0m"
    assert Screen(colour=True).paint("x", "") == "x"
    assert Screen(colour=True).paint("", "red") == ""
    assert Screen(colour=False).paint("x", "red") == "x"


def test_escape_sequences_from_elsewhere_never_reach_the_terminal() -> None:
    assert Screen().clean("evil\x1b[2Jhost\r\n\x9b\u202e") == "evil?[2Jhost????"


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本語", 5, "日本…"), ("abc", 1, "…"), ("abc", 0, "")],
)
def test_text_is_cut_by_cells(text: str, width: int, expected: str) -> None:
    assert Screen().cut(text, width) == expected


@pytest.mark.parametrize(("text", "expected"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("", 0)])
def test_wide_and_combining_characters_count_as_terminals_count_them(text: str, expected: int) -> None:
    assert cells(text) == expected
