import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.sse import EventStream, event


def model(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The standard, read as slowly as it is written."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, name, data = [], b"", None
    for line in text.split(b"\n")[:-1]:
        if not line:
            if data is not None:
                events.append((name, data))
            name, data = b"", None
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data = value if data is None else data + b"\n" + value
        elif field == b"event":
            name = value
    return events


def fed(stream: bytes, cuts: list[int]) -> list[tuple[bytes, bytes]]:
    reader = EventStream()
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    return [found for start, end in pairwise(places) for found in reader.feed(stream[start:end])]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [(b"", b"a")]),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data:  a\n\n", [(b"", b" a")]),
        (b"data\n\n", [(b"", b"")]),
        (b"data:\ndata:\n\n", [(b"", b"\n")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [(b"", b"a"), (b"", b"b"), (b"", b"c")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [(b"x", b"a"), (b"", b"b")]),
        (b"event: x\n\ndata: b\n\n", [(b"", b"b")]),
        (b"event: x\nevent: y\ndata: b\n\n", [(b"y", b"b")]),
        (b": ping\n\ndata: a\n:x\nid: 7\nretry: 3\ndatax: 1\n data: 2\ndata: b\n\n", [(b"", b"a\nb")]),
        (b"data: a\n\ndata: lost\n", [(b"", b"a")]),
        (b"data: a\n\n\n\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\n\n: b\n\nevent: x\ndata: c\ndata: d\n\n", [(b"", b"a"), (b"x", b"c\nd")]),
        (b"data: \xff\x00\n\n", [(b"", b"\xff\x00")]),
        (b"", []),
    ],
    ids=range(16),
)
def test_a_stream_is_split_as_the_standard_says_however_it_comes(stream: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert model(stream) == expected
    assert fed(stream, []) == expected
    assert fed(stream, list(range(len(stream)))) == expected
    for cut in range(len(stream)):
        assert fed(stream, [cut]) == expected


_PARTS = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"event: ",
        b"event:x",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b":",
        b" ",
        b"a",
        b"id: 1",
        b"\xef\xbb\xbf",
        b"\x00",
    ]
)


@given(st.lists(_PARTS | st.binary(max_size=3), max_size=40).map(b"".join), st.lists(st.integers(0, 200), max_size=10))
def test_any_bytes_in_any_pieces_are_split_as_by_the_slow_model(stream: bytes, cuts: list[int]) -> None:
    assert fed(stream, cuts) == model(stream)


@given(st.lists(_PARTS, max_size=60).map(b"".join), st.lists(st.integers(0, 200), max_size=10), st.integers(0, 30))
def test_a_small_bound_loses_only_events_that_are_too_big(stream: bytes, cuts: list[int], most_bytes: int) -> None:
    reader = EventStream(most_bytes)
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    found = [each for start, end in pairwise(places) for each in reader.feed(stream[start:end])]
    expected = model(stream)
    assert len(found) + reader.skipped >= len(expected)
    remaining = iter(expected)
    assert all(each in remaining for each in found)


@given(st.lists(st.tuples(st.binary(max_size=20), st.sampled_from([b"", b"x", b"response.completed"])), max_size=8))
def test_what_is_written_is_read_again(events: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(event(data, name) for data, name in events)
    expected = [(name, data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")) for data, name in events]
    assert EventStream().feed(stream) == expected


@pytest.mark.parametrize("cut", [1, 7, 100, 100_000])
def test_an_event_above_the_bound_is_passed_over_and_the_next_one_read(cut: int) -> None:
    stream = b"data: a\n\nevent: big\ndata: " + b"x" * 3000 + b"\ndata: y\n\ndata: b\n\n"
    reader = EventStream(most_bytes=1000)
    found = [each for start in range(0, len(stream), cut) for each in reader.feed(stream[start : start + cut])]
    assert found == [(b"", b"a"), (b"", b"b")]
    assert reader.skipped == 1


def test_a_long_comment_costs_no_event() -> None:
    reader = EventStream(most_bytes=100)
    stream = b"data: a\n:" + b" " * 5000 + b"\ndata: b\n\n"
    assert [each for at in range(0, len(stream), 50) for each in reader.feed(stream[at : at + 50])] == [(b"", b"a\nb")]
    assert reader.skipped == 0


@pytest.mark.parametrize(
    "flood", [b"data: xxxxxxxx", b"data:\n", b"x", b":", b"event: x\n"], ids=["line", "lines", "field", "comment", "name"]
)
def test_what_never_ends_is_never_kept(flood: bytes) -> None:
    reader = EventStream(most_bytes=10_000)
    tracemalloc.start()
    for _ in range(500):
        assert reader.feed(flood * 100) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000


def test_it_is_between_events_only_when_nothing_waits() -> None:
    reader = EventStream()
    states = []
    for piece in (b"d", b"ata: a\n", b"\n", b"\r", b"\n", b"event: x\n", b"\n", b"data: b\n\n"):
        reader.feed(piece)
        states.append(reader.is_between)
    assert states == [False, False, True, False, False, False, True, True]
