import json
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.lenient import (
    LONG_BYTES,
    MOST_COUNT,
    MOST_MEMBER_BYTES,
    MOST_MENDED_BYTES,
    NO_COUNT,
    Lenient,
    Lists,
    count,
    is_crowded,
    is_object,
    least,
    raw_size,
    size,
)
from tests.counting import calls_made


class Inner(msgspec.Struct):
    text: str = ""
    number: int | None = None


class Outer(msgspec.Struct, rename="camel"):
    first_name: str = ""
    inner: Inner | None = None
    items: list[Inner] | None = None
    either: str | Inner | None = None
    rest: msgspec.Raw = msgspec.Raw(b"")


decode = Lenient(Outer).decode


def test_what_fits_is_decoded() -> None:
    told = decode(b'{"firstName":"a","inner":{"text":"b"},"items":[{"number":1}],"either":{"text":"c"},"rest":[1]}')
    assert (told.first_name, told.inner, told.items, told.either) == ("a", Inner("b"), [Inner(number=1)], Inner("c"))
    assert bytes(told.rest) == b"[1]"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"firstName":7,"inner":{"text":"b"}}', Outer(inner=Inner("b"))),
        (b'{"firstName":"a","inner":[]}', Outer("a")),
        (b'{"firstName":"a","inner":{"text":null,"number":2}}', Outer("a", Inner(number=2))),
        (b'{"items":[{"text":"a"},7,{"text":8,"number":9}]}', Outer(items=[Inner("a"), Inner(number=9)])),
        (b'{"items":{},"either":[]}', Outer()),
        (b'{"firstName":1,"either":"x"}', Outer(either="x")),
        (b'{"firstName":1,"either":{"text":"x","number":"y"}}', Outer(either=Inner("x"))),
        (b'{"firstName":"a","inner":{"number":1e400}}', Outer("a", Inner())),
        (b'{"firstName":"\\ud83d","inner":{"text":"b"}}', Outer("?", Inner("b"))),
        (b'{"firstName":"a\xff"}', Outer("a\ufffd")),
        (b'\xef\xbb\xbf{"firstName":"a"}', Outer("a")),
        (b'{"inner":{"number":NaN},"firstName":"a"}', Outer("a", Inner())),
        (b'{"firstName":"a","firstName":"b","inner":3}', Outer("b")),
    ],
    ids=[
        "string",
        "object",
        "null",
        "items",
        "list",
        "either",
        "either-part",
        "huge",
        "surrogate",
        "utf-8",
        "mark",
        "nan",
        "twice",
    ],
)
def test_what_does_not_fit_loses_only_itself(data: bytes, expected: Outer) -> None:
    assert decode(data) == expected


def test_raw_members_survive_the_second_try() -> None:
    assert bytes(decode(b'{"firstName":1,"rest":{"a": 1}}').rest) == b'{"a": 1}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"7",
        b'"a"',
        b"{",
        b'{"a":1}}',
        b'{"a":1,}',
        b"\x00",
        b"[" * 100_000,
        b'{"rest":' * 100_000,
        b'{"a":"\\ud800"' + b" " * MOST_MENDED_BYTES + b"}",
    ],
    ids=["empty", "list", "number", "string", "cut", "more", "comma", "nul", "deep-list", "deep-object", "too-large-to-mend"],
)
def test_what_is_no_object_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(data)


def test_a_long_list_with_a_flaw_is_kept_in_part() -> None:
    told = decode(b'{"items":[7' + b',{"number":1}' * 5_000 + b"]}")
    assert told.items is not None and len(told.items) == 1023


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["firstName", "inner", "items", "either", "text", "number"]), inner)
        ),
        max_leaves=12,
    ).map(msgspec.json.encode)
)
def test_nothing_else_is_ever_raised(data: bytes) -> None:
    try:
        told = decode(data)
    except Unreadable:
        return
    assert isinstance(told, Outer) and isinstance(told.first_name, str)


@pytest.mark.parametrize(
    ("told", "expected"), [(None, 0), (7, 7), (7.9, 7), (-1, 0), (MOST_COUNT + 1, 0), (float("inf"), 0), (float("nan"), 0)]
)
def test_a_count_that_cannot_be_one_is_none(told: Any, expected: int) -> None:
    assert count(told) == expected


def test_sizes_are_bytes() -> None:
    assert [size(text) for text in (None, "", "abc", "ü", "👋", "\ud83d")] == [0, 0, 3, 2, 4, 1]
    assert [raw_size(msgspec.Raw(data)) for data in (b"", b"null", b"{}")] == [0, 0, 2]


class _Item(msgspec.Struct):
    name: str = ""


def test_a_list_is_read_when_its_length_is_known() -> None:
    items = Lists(_Item)
    assert items.read(b'[{"name":"a"},{"name":7},null,{}]') == [_Item("a"), _Item(), _Item()]
    assert items.read(b'{"name":"a"}') == items.read(b"null") == items.read(b"") == items.read(b"[") == []
    assert Lists(str).read(b'["a",1,"b"]') == ["a", "b"]


def test_a_list_of_more_than_anybody_means_is_none() -> None:
    assert Lists(_Item).read(b"[" + b"{},          " * 30_000 + b"{}]") is None
    assert Lists(str).read(b"[" + b'"",        ' * 30_000 + b'""]') is None
    found = Lists(_Item).read(b"[" + b'{"name":"%b"},' % (b"n" * 999) * 9_000 + b"{}]")
    assert found is not None and len(found) == 9_001


def test_who_needs_to_know_is_told_whether_everything_fitted() -> None:
    reader = Lenient(_Item)
    assert reader.try_to(b'{"name":"a"}') == (_Item("a"), True)
    assert reader.try_to(b'{"name":1}') == (_Item(), False)


@pytest.mark.parametrize(("value", "expected"), [(3.0, 3), (30.0, 10), (-1.0, 0), (0.0, 0), (1e300, 0), (0.5, 0)])
def test_a_part_is_no_more_than_its_total(value: float, expected: int) -> None:
    assert least(value, 10) == expected


def _long(members: bytes, fill: int = LONG_BYTES) -> bytes:
    return b'{"x":"' + b"x" * fill + b'",' + members + b"}"


@pytest.mark.parametrize(
    ("members", "expected", "fits"),
    [
        (b'"firstName":"a","inner":{"text":"b"}', Outer("a", Inner("b")), True),
        (b'"firstName":7,"inner":{"text":8,"number":2}', Outer(inner=Inner(number=2)), False),
        (b'"items":[{"text":"a"},7],"either":"x"', Outer(items=[Inner("a")], either="x"), False),
        (b'"firstName":"' + b"a" * MOST_MEMBER_BYTES + b'","either":"x"', Outer(either="x"), False),
        (b'"firstName":"a","firstName":"b"', Outer("b"), True),
    ],
    ids=["fits", "wrong", "items", "too-long", "twice"],
)
@pytest.mark.parametrize("fill", [LONG_BYTES, 5 << 20], ids=["long", "longer"])
def test_of_a_long_request_only_short_members_are_read(members: bytes, expected: Outer, fits: bool, fill: int) -> None:
    body = _long(members, fill)
    assert Lenient(Outer).skim(body) == expected
    assert Lenient(Outer).skim(b"\xef\xbb\xbf" + body) == expected
    assert Lenient(Outer).try_to(body) == (expected, fits)


def test_a_long_member_that_is_meant_to_stay_raw_is_kept() -> None:
    raw = b'["' + b"x" * MOST_MEMBER_BYTES + b'"]'
    assert bytes(Lenient(Outer).skim(_long(b'"rest":' + raw)).rest) == raw


@pytest.mark.parametrize("body", [_long(b'"a":tru'), _long(b'"a":"\\ud800"', 2 << 20), b"[" + _long(b'"a":1') + b"]", b" " * 9_000_000])
def test_a_long_request_that_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        Lenient(Outer).skim(body)


@pytest.mark.parametrize("part", [b"[],", b'{"a":1},', b'"a":1,', b"1,"], ids=["lists", "objects", "members", "numbers"])
def test_many_megabytes_of_the_smallest_parts_are_not_leapt_over(part: bytes) -> None:
    body = part * (16 * 1024 * 1024 // len(part))
    assert is_crowded(body)
    assert not is_crowded(body[: 1 << 20])
    with pytest.raises(Unreadable):
        Lenient(Outer).skim(b'{"a":[' + body + b"1]}")


def test_many_megabytes_of_turns_are_no_crowd() -> None:
    turn = b'{"role":"user","content":[{"type":"text","text":"' + b"It is, as they say: a {name} or a [list], but seldom any more.\\n" * 10 + b'"}]},'
    assert not is_crowded(turn * (16 * 1024 * 1024 // len(turn)))


def test_json_within_texts_is_no_crowd_but_by_itself_it_is() -> None:
    text = json.dumps([{"id": at, "name": "n", "is_new": False} for at in range(20)], separators=(",", ":"))
    turn = json.dumps({"role": "tool", "content": json.dumps({"text": text + " and so on, as it goes" * 10})}).encode() + b","
    assert not is_crowded(turn * (16 * 1024 * 1024 // len(turn)))
    assert is_crowded(text.encode() * (16 * 1024 * 1024 // len(text)))


@pytest.mark.parametrize("data", [b"1", b'"text"', b"tru", b"[1]", b"-", b"\xff", b" \n7", b""])
def test_what_begins_like_no_object_is_not_tried_twice(data: bytes) -> None:
    lenient = Lenient(Outer)

    def reads() -> None:
        with suppress(Unreadable):
            lenient.decode(data)
            raise AssertionError("it was read")

    assert calls_made(reads) < 16


@pytest.mark.parametrize("data", [b'{"a":1}', b' \n{"a":1}', b"\xef\xbb\xbf{}", b"\xef\xbb\xbf \t{}"])
def test_an_object_begins_with_its_brace_wherever_that_stands(data: bytes) -> None:
    assert is_object(data)
    assert Lenient(Outer).decode(data) == Outer()
    assert not is_object(data.replace(b"{", b"["))


class Counted(msgspec.Struct):
    IS_OF_COUNTS: ClassVar[bool] = True

    whole: int | None = None
    part: float | None = None
    name: str = ""
    inner: Inner | None = None


@pytest.mark.parametrize("wrong", ['"7"', "true", "[]", "{}", '"many"'])
def test_a_count_that_is_no_number_is_none_and_not_untold(wrong: str) -> None:
    told = Lenient(Counted).decode(f'{{"whole":{wrong},"part":{wrong},"name":7,"inner":7}}'.encode())
    assert told == Counted(NO_COUNT, NO_COUNT, "", None)
    assert Lenient(Counted).decode(b'{"whole":null,"part":1.5,"name":7}') == Counted(None, 1.5)
    assert count(NO_COUNT) == 0
