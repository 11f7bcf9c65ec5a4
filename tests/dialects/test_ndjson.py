from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.ndjson import Lines


@given(st.lists(st.sampled_from([b"{}", b'{"a":1}', b"", b" ", b"\r", b"\n", b"\r\n", b"\n\n", b"x" * 20])))
def test_pieces_make_no_difference(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    whole, parts = Lines(), Lines()
    expected = [*whole.feed(data), whole.rest()]
    assert [*(line for piece in pieces for line in parts.feed(piece)), parts.rest()] == expected
    assert expected[:-1] == [line for line in data.split(b"\n")[:-1] if line.strip()]


def test_lines_come_when_they_are_complete() -> None:
    lines = Lines()
    assert lines.feed(b'{"a"') == []
    assert not lines.is_between
    assert lines.feed(b':1}\r\n{"b":2}\n\n{"c"') == [b'{"a":1}\r', b'{"b":2}']
    assert lines.rest() == b'{"c"'
    assert lines.is_between and lines.rest() == b""


def test_a_line_that_is_too_long_is_passed_over_and_counted() -> None:
    lines = Lines(most_bytes=10)
    assert lines.feed(b"1\n" + b"x" * 11 + b"\n2\n") == [b"1", b"2"]
    assert lines.feed(b"3\n" + b"y" * 8) == [b"3"]
    for _ in range(100):
        assert lines.feed(b"y" * 8) == []
        assert len(lines._held) <= 10
    assert not lines.is_between
    assert lines.feed(b"\n4\n") == [b"4"]
    assert lines.skipped == 2 and lines.is_between
    lines.feed(b"z" * 11)
    assert lines.rest() == b"" and lines.skipped == 3
