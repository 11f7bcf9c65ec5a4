import json

import pytest

from sidecar.dialects.untyped import events_of, index, is_stream, items, lines_of, member, raw, short, text, value_of


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'{"a": "br', {"a": "br"}),
        (b'{"a": "\xff"}', {"a": "\ufffd"}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b'{"a": NaN}', {"a": None}),
        (b"", None),
        (b"no JSON", None),
        (b"[" * 100_000, None),
    ],
)
def test_json_is_read_as_far_as_it_goes(data: bytes, value: object) -> None:
    assert value_of(data) == value


def test_wrong_types_are_nothing() -> None:
    told = {"a": 7, "b": "x" * 999, "c": [1], "d": True, "e": None, "f": 10**5000}
    assert (text(told, "a", "b"), text([], "a"), text(told, "z")) == ("x" * 999, "", "")
    assert (short(told, "b"), short(told, "a"), short(told, "d"), short(told, "f")) == ("x" * 256, "7", "", "")
    assert (items(told, "a", "c"), items(told, "a"), items(7, "c")) == ([1], [], [])
    assert (member(told, "e", "a"), member("a", "a")) == (7, None)
    assert (index(told, "a"), index({"a": -1}, "a"), index(told, "b")) == (7, 0, 0)


def test_streams_are_read_as_far_as_they_came() -> None:
    assert list(events_of(b'event: a\ndata: {"x":1}\n\ndata: [DONE]\n\ndata: {"y')) == [("a", {"x": 1}), ("", None)]
    assert list(lines_of(b'{"x":1}\n{"y":"z')) == [{"x": 1}, {"y": "z"}]
    assert [is_stream(each) for each in ("Text/Event-Stream; a", "application/json", "application/vnd.amazon.eventstream")] == [True, False, False]


def test_json_is_written_again_without_bytes() -> None:
    long = "QUJD" * 30
    told = {
        "data": long, "blob": "short", "name": long, "url": f"data:image/png;base64,{long}", "text": "data: see above",
        "parts": [{"mimeType": "image/png", "data": "AAAA"}, {"bytes": "not Base64 but some words of somebody's, which stay where they are"}],
    }  # fmt: skip
    assert json.loads(raw(told)) == {
        "data": "", "blob": "short", "name": long, "url": "data:image/png;base64,", "text": "data: see above",
        "parts": [{"mimeType": "image/png", "data": ""}, told["parts"][1]],
    }  # fmt: skip


def test_what_no_encoder_takes_is_json_all_the_same() -> None:
    assert json.loads(raw(["\ud83d", 1e999, 2**80])) is not None
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    assert len(raw(deep)) < 200
