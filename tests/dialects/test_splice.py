import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.splice import append, find, places, put, remove


def at(body: bytes, *path: str | int) -> bytes | None:
    place = find(body, path)
    return None if place is None else body[place[0] : place[1]]


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        (b'{"a":1}', ("a",), b"1"),
        (b' { "a" : "x\\"}" , "b" : [ 1 , {"c":null} ] } ', ("b", 1, "c"), b"null"),
        (b' { "a" : "x\\"}" , "b" : [ 1 , {"c":null} ] } ', ("a",), b'"x\\"}"'),
        (b'{"a":{"b":1},"a":{"b":22}}', ("a", "b"), b"22"),
        (b'{"a":1234,"b":{"a":9},"a":12}', ("b", "a"), b"9"),
        (b'{"a":1,"a":{"x":["]}",{"y":"\\\\"}],"z":-1.5e3},"b":true}', ("a", "z"), b"-1.5e3"),
        (b'{"\\u0061\\"":1}', ('a"',), b"1"),
        (b'{"\xc3\xa4":1}', ("ä",), b"1"),
        (b'{"a":1}', ("b",), None),
        (b'{"a":1}', ("a", "b"), None),
        (b'{"a":[1]}', ("a", 1), None),
        (b'{"0":1}', (0,), None),
        (b"[]", ("a",), None),
        (b" 5 ", (), b"5"),
        (b"5", ("a",), None),
        (b"{}", ("a",), None),
        (b"{}", (), b"{}"),
    ],
    ids=range(17),
)
def test_a_value_is_found_where_it_stands(body: bytes, path: tuple[str | int, ...], expected: bytes | None) -> None:
    assert at(body, *path) == expected


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        (b'{"a":1}', ("a",), b'{"a":7}'),
        (b'{"a":1 }', ("b",), b'{"a":1,"b":7 }'),
        (b"{ }", ("b",), b'{"b":7 }'),
        (b'{"a":{}}', ("a", "b", "c"), b'{"a":{"b":{"c":7}}}'),
        (b'{"a":null}', ("a", "b"), b'{"a":{"b":7}}'),
        (b'{"a":1,"a":2,"b":3}', ("a",), b'{"a":1,"a":7,"b":3}'),
        (b'[1, {"a":2}]\n', (1, "a"), b'[1, {"a":7}]\n'),
        (b"[1,2]", (0,), b"[7,2]"),
        (b"{}", ('"\\',), b'{"\\"\\\\":7}'),
    ],
    ids=range(9),
)
def test_a_value_is_put_in_its_place_and_nothing_else_moves(body: bytes, path: tuple[str | int, ...], expected: bytes) -> None:
    assert put(body, path, b"7") == expected


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        (b'{"a":1}', ("a",), b"{}"),
        (b'{ "a":1 }', ("a",), b"{  }"),
        (b'{ "a":1 , "b":2 }', ("a",), b'{ "b":2 }'),
        (b'{ "a":1 , "b":2 }', ("b",), b'{ "a":1 }'),
        (b'{"a":1,"b":2,"a":3}', ("a",), b'{"b":2}'),
        (b'{"a":1,"a":2,"b":2}', ("a",), b'{"b":2}'),
        (b'{"b":1,"a":1,"a":2}', ("a",), b'{"b":1}'),
        (b'{"a":1,"a":2}', ("a",), b"{}"),
        (b"[1,2,3]", (1,), b"[1,3]"),
        (b'{"x":{"a":1,"c":2}}', ("x", "a"), b'{"x":{"c":2}}'),
    ],
    ids=range(10),
)
def test_a_member_is_removed_with_one_comma(body: bytes, path: tuple[str | int, ...], expected: bytes) -> None:
    assert remove(body, path) == expected


@pytest.mark.parametrize(
    ("body", "path"), [(b'{"a":1}', ("b",)), (b'{"a":1}', ("a", "b")), (b"[]", ("b",)), (b"3", ("b",))], ids=range(4)
)
def test_what_is_absent_costs_no_copy(body: bytes, path: tuple[str | int, ...]) -> None:
    assert remove(body, path) is body


@pytest.mark.parametrize(
    "body",
    [b"", b"  ", b"{", b'{"a"', b'{"a":1', b'{"a":1,}', b'{"a":1}}', b"{'a':1}", b'{"a":\xff}', b'{"\xff":1}', b"\xef\xbb\xbf{}", b"xyz",
     b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a":1,"a":' + b"[" * 600 + b"]" * 600 + b"}",
     b"{" + b",".join(b'"%d":1' % each for each in range(10_001)) + b"}", b"{" + b'"a":1,' * 10_001 + b'"a":1}'],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_json_or_goes_too_far_is_unreadable(body: bytes) -> None:
    for change in (find, remove):
        with pytest.raises(Unreadable):
            change(body, ("a",))
    with pytest.raises(Unreadable):
        put(body, ("a",), b"1")


@pytest.mark.parametrize(
    ("body", "path"),
    [(b'{"a":1}', ("a", "b")), (b"[]", ("b",)), (b"[]", (0,)), (b"null", ("a",)), (b'{"a":null}', ("a", 0))],
    ids=range(5),
)
def test_nothing_is_put_where_another_kind_of_value_stands(body: bytes, path: tuple[str | int, ...]) -> None:
    with pytest.raises(Unreadable):
        put(body, path, b"1")


def test_a_name_that_stands_twice_in_a_large_text_is_refused_and_not_searched_for() -> None:
    body = b'{"a":1,"a":2,"x":[' + b'"a",' * 1_000_000 + b"1]}"
    started = time.process_time()
    with pytest.raises(Unreadable):
        put(body, ("a",), b"3")
    assert time.process_time() - started < 0.4


def test_the_whole_text_can_be_replaced_but_not_removed() -> None:
    assert put(b" 1 ", (), b"2") == b" 2 "
    with pytest.raises(Unreadable):
        remove(b"1", ())


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.sampled_from(['"', "\\", '\\"', "{", "}]", "\n"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", '"', "\\", "ä{", ""]), inner, max_size=4)
    ),
    max_leaves=15,
)
_PATH = st.lists(st.sampled_from(["a", "b", '"', "\\", "ä{", ""]) | st.integers(0, 3), min_size=1, max_size=4).map(tuple)
_FORM = st.sampled_from(
    [{}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" , ", "\t:\r\n "), "ensure_ascii": False}]
)


def _get(value: object, path: tuple[str | int, ...]) -> tuple[bool, object]:
    for step in path:
        items = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        if step not in items:
            return False, None
        value = items[step]
    return True, value


@given(_JSON, _PATH, _FORM)
def test_any_value_is_found_put_and_removed_as_in_the_decoded_text(
    value: object, path: tuple[str | int, ...], form: dict
) -> None:
    body = json.dumps(value, **form).encode()
    is_there, expected = _get(value, path)
    place = find(body, path)
    assert (place is not None) == is_there
    if place is not None:
        assert json.loads(body[slice(*place)]) == expected
        changed = put(body, path, b'"new"')
        assert changed == body[: place[0]] + b'"new"' + body[place[1] :]
        removed = json.loads(remove(body, path))
        parent = _get(value, path[:-1])[1]
        del parent[path[-1]]
        assert removed == value
    else:
        assert remove(body, path) is body
        try:
            changed = put(body, path, b'"new"')
        except Unreadable:
            return
        assert _get(json.loads(changed), path) == (True, "new")
        assert find(changed, path) is not None


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "\\u0061"]), _JSON), max_size=6), _FORM)
def test_of_equal_names_the_last_counts_and_all_go(members: list[tuple[str, object]], form: dict) -> None:
    comma = form.get("separators", (", ", ": "))[0]
    body = ("{" + comma.join(f'"{name}":{json.dumps(value, **form)}' for name, value in members) + "}").encode()
    expected = json.loads(body)
    place = find(body, ("a",))
    assert (place is not None) == ("a" in expected)
    if place is not None:
        assert json.loads(body[slice(*place)]) == expected["a"]
        assert json.loads(put(body, ("a",), b"7")) == expected | {"a": 7}
        del expected["a"]
        assert json.loads(remove(body, ("a",))) == expected


@given(st.binary(max_size=40) | st.text('{}[]",:\\ax1 \n', max_size=40).map(str.encode), _PATH)
def test_any_bytes_are_unreadable_at_worst(body: bytes, path: tuple[str | int, ...]) -> None:
    for change in (lambda: find(body, path), lambda: put(body, path, b"1"), lambda: remove(body, path)):
        try:
            change()
        except Unreadable:
            pass


@pytest.mark.parametrize(
    "messages",
    [
        b",".join([b'{"role":"user","content":"hello world, hello world"}'] * 90_000),
        b'"' + b"x" * 5_000_000 + b'"',
        b'"' + b'a\\"\\n' * 1_000_000 + b'"',
    ],
    ids=["turns", "image", "code"],
)
def test_a_body_of_five_megabytes_takes_milliseconds(messages: bytes) -> None:
    body = b'{"messages":[' + messages + b'],"stream":true,"max_tokens":5}'
    started = time.process_time()
    changed = put(body, ("stream_options", "include_usage"), b"true")
    assert time.process_time() - started < 0.3
    assert changed.endswith(b'"max_tokens":5,"stream_options":{"include_usage":true}}')


def test_a_member_near_the_end_of_a_long_text_is_found_there_and_no_other_one() -> None:
    long = b'{"max":1,"x":"' + b"x" * 100_000 + b'","tools":[{"max":3}],"y":["max"],"max": 7 ,"z":{"max":4},"m":"\\"max\\":9"}'
    assert find(long, ("max",)) == (long.index(b" 7 ") + 1, long.index(b" 7 ") + 2)
    assert put(long, ("max",), b"5") == long.replace(b" 7 ", b" 5 ")
    assert put(long, ("z", "max"), b"5") == long.replace(b'{"max":4}', b'{"max":5}')
    assert put(long, ("z", "min"), b"5") == long.replace(b'{"max":4}', b'{"max":4,"min":5}')


@pytest.mark.parametrize(
    "end",
    [
        b'"max":1,"m\\u0061x":2}',
        b'"m\\u0061x":2,"max":3}',
        b'"tools":[{"max":3}]}',
        b'"max":[1,{"max":2}]}',
        b'"a":"\\\\","max":"\\"}"}  \n',
        b'"a":{"max":1},"b":["max","max"],"c":"max"}',
        b'"\\"max":1}',
    ],
)  # fmt: skip
def test_near_the_end_is_found_what_a_walk_would_find(end: bytes) -> None:
    long = b'{"max":0,"x":"' + b"x" * 70_000 + b'",' + end
    where = find(long, ("max",))
    assert where is not None
    assert json.loads(long[slice(*where)]) == json.loads(long)["max"]
    told = json.loads(long)
    told["max"] = None
    assert json.loads(put(long, ("max",), b"null")) == told


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"a":1}'),
        (b'{"b":2}', b'{"b":2,"a":1}'),
        (b' { "b" : 2 } \n', b' { "b" : 2,"a":1 } \n'),
        (b"{ }", b'{"a":1 }'),
        (b'{"a":2}', None),
        (b'{"b":{"a":2}}', None),
    ],
)
def test_a_member_is_appended_unless_it_may_have_been_before(body: bytes, expected: bytes | None) -> None:
    assert append(body, "a", b"1") == expected


@pytest.mark.parametrize("body", [b"", b"[]", b" ", b"7", b"}", b'{"a"'])
def test_nothing_is_appended_to_what_is_no_object(body: bytes) -> None:
    with pytest.raises(Unreadable):
        append(body, "b", b"1")


def test_several_places_are_found_in_one_walk() -> None:
    body = b' {"a":1,"b":{"c":2},"d":[3]} '
    assert {name: body[slice(*at)] for name, at in places(body, ("d", "a", "c", "x")).items()} == {"a": b"1", "d": b"[3]"}
    with pytest.raises(Unreadable):
        places(b"[1]", ("a",))
