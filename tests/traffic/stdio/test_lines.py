from hypothesis import given
from hypothesis import strategies as st

from sidecar.traffic.stdio.lines import Splitter


def test_lines_are_whole_however_they_come() -> None:
    lines = Splitter()
    assert lines.feed(b"a\nb\r\nc") == [(b"a\n", True), (b"b\r\n", True)]
    assert lines.feed(b"d") == []
    assert lines.feed(b"\n\n") == [(b"cd\n", True), (b"\n", True)]
    assert lines.end() is None


def test_a_line_that_is_too_long_goes_on_in_pieces() -> None:
    lines = Splitter(most_bytes=4)
    assert lines.feed(b"abc") == []
    assert (lines.feed(b"de"), lines.is_within) == ([(b"abcde", False)], True)
    assert lines.feed(b"fg") == [(b"fg", False)]
    assert (lines.feed(b"h\nok\n"), lines.is_within) == ([(b"h\n", False), (b"ok\n", True)], False)


def test_a_long_line_that_comes_at_once_is_one_piece() -> None:
    assert Splitter(most_bytes=4).feed(b"abcdef\nx\n") == [(b"abcdef\n", False), (b"x\n", True)]
    lines = Splitter(most_bytes=4)
    lines.feed(b"abc")
    assert lines.feed(b"def\n") == [(b"abcdef\n", False)]


def test_what_nobody_ended_is_a_line_at_the_end() -> None:
    lines = Splitter()
    lines.feed(b"a\nb")
    assert (lines.end(), lines.end()) == ((b"b", True), None)


@given(st.lists(st.sampled_from([b"a", b"\n", b"bcdefgh", b"\r\n", b"ij\nk"])))
def test_nothing_is_lost_or_changed(pieces: list[bytes]) -> None:
    lines = Splitter(most_bytes=8)
    came = [piece for data in pieces for piece, _ in lines.feed(data)]
    last = lines.end()
    assert b"".join([*came, *([last[0]] if last else [])]) == b"".join(pieces)
