import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.jsonrpc import (
    MOST_MESSAGE,
    MOST_OBJECTS,
    MOST_TEXT,
    NOTHING,
    SIDECAR_ERROR,
    Kind,
    Message,
    check_again,
    described,
    failed,
    has_id,
    is_as_usual,
    is_text,
    key,
    messages,
    refusal,
    text,
    told,
)
from sidecar.dialects.lenient import LONG_BYTES, MOST_SECOND_TRY_BYTES
from sidecar.model.errors import CODES, Refused

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "method", "params", "code", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', Kind.REQUEST),
        (b'{"jsonrpc":"2.0","method":"notifications/x","params":{}}', Kind.NOTIFICATION),
        (b'{"jsonrpc":"2.0","id":null,"method":"notifications/x"}', Kind.NOTIFICATION),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', Kind.RESPONSE),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}', Kind.RESPONSE),
        (b'{"jsonrpc":"2.0","id":1}', Kind.OTHER),
        (b"{}", Kind.OTHER),
    ],
)
def test_a_message_is_what_its_members_make_it(body: bytes, kind: Kind) -> None:
    message, count = described(body)
    assert (message.kind, count) == (kind, 1)


def test_a_batch_is_described_by_its_first_request() -> None:
    message, count = described(b' [{"method":"n"},{"id":2,"method":"b","params":{"x":1}},{"id":3,"method":"c"}]')
    assert (text(message.method), bytes(message.id), bytes(message.params), count) == ("b", b"2", b'{"x":1}', 3)


def test_a_batch_of_answers_is_described_by_the_first() -> None:
    message, count = described(b'[{"id":2,"result":{}},{"id":3,"result":{}}]')
    assert (message.kind, bytes(message.id), count) == (Kind.RESPONSE, b"2", 2)


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"null", b"5", b'"x"', b"[]", b"[1]", b"[[]]", b'{"id":1', b'{"id":NaN}', b"\xff", b'{"a":"\x00"}', b'{"id":1}x',
        b'{"id":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"[" + b"{}," * MOST_OBJECTS + b"{}]", b"\xef\xbb\xbf{}",
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_message_cannot_be_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        messages(body)


def test_of_equal_names_the_last_counts() -> None:
    assert text(described(b'{"method":"a","method":"b","id":1}')[0].method) == "b"


def test_a_member_of_the_wrong_type_costs_nothing_but_itself() -> None:
    message, _ = described(b'{"id":{"a":1},"method":7,"params":[1]}')
    assert (key(message.id), text(message.id), text(message.method), bytes(message.params)) == (None, "", "7", b"[1]")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"abc"', "abc"), (b'"\\u0061\\n"', "a\n"), (b"12", "12"), (b"-1.5e3", "-1.5e3"), (b"null", ""), (b"true", ""), (b"[1]", ""),
        (b"", ""), (b'"\\ud800"', ""), (b'""', ""), (b'"\xff"', "\ufffd"), (b'"' + b"x" * 5000 + b'"', "x" * MOST_TEXT), (b"9" * 5000, "9" * MOST_TEXT),
        (b'"' + "é".encode() * 5000 + b'"', "é" * MOST_TEXT), (b'"\\t' + b"x" * 5000 + b'"', "\t" + "x" * (MOST_TEXT - 1)),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_text_is_the_characters_of_a_string_or_a_number_as_written(raw: bytes, expected: str) -> None:
    assert text(raw) == expected


def test_ids_are_the_same_however_they_are_written() -> None:
    assert key(b'"\\u0061"') == key(b'"a"') == "a"
    assert key(b"1") == key(b"1.0") == 1
    assert key(b'"1"') != key(b"1")


@pytest.mark.parametrize("raw", [b"", b"null", b"true", b"{}", b"[1]", b"1e999", b"9" * 5000, b'"\xff"'])
def test_what_cannot_be_an_id_is_the_same_as_nothing(raw: bytes) -> None:
    assert key(raw) is None


def test_null_is_no_id() -> None:
    assert not has_id(b"null") and not has_id(NOTHING) and has_id(b"0")


def test_only_a_string_is_a_text() -> None:
    assert is_text(b'""') and not is_text(b"1") and not is_text(NOTHING)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"code":-32601,"message":"no"}', (-32601, "no")),
        (b'{"code":-32000.0,"message":7}', (-32000, "7")),
        (b'{"code":"x","message":null}', (0, "")),
        (b'{"code":true}', (0, "")),
        (b'{"code":1e300,"message":"m"}', (0, "m")),
        (b'{"code":99999999999999999999}', (0, "")),
        (b'"text"', (0, "")),
        (b"", (0, "")),
        (b'{"message":"' + b"m" * 5000 + b'"}', (0, "m" * MOST_MESSAGE)),
    ],
    ids=range(9),
)
def test_an_error_tells_code_and_message_as_far_as_it_has_them(raw: bytes, expected: tuple[int, str]) -> None:
    assert told(raw) == expected


def test_an_error_has_the_id_that_it_answers_to() -> None:
    assert json.loads(failed(b'"a"', -1, "no")) == {"jsonrpc": "2.0", "id": "a", "error": {"code": -1, "message": "no"}}
    assert json.loads(failed(b"", -1, "no", {"x": 1})) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -1, "message": "no", "data": {"x": 1}},
    }


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_says_whose_fault_it_was_and_what_to_do(code: str) -> None:
    error = json.loads(refusal(b"1", Refused(code)))["error"]
    meaning = CODES[code]
    assert (error["code"], error["message"]) == (SIDECAR_ERROR, f"{code}: {meaning.advice}")
    assert error["data"] == {
        "type": "sidecar_error", "code": code, "fault": meaning.fault.value, "retry": meaning.retry, "advice": meaning.advice,
    }  # fmt: skip


def test_a_refusal_says_when_to_come_again() -> None:
    assert json.loads(refusal(b"1", Refused("draining", retry_after_s=2.5)))["error"]["data"]["retry_after_s"] == 2.5


def test_text_that_is_no_unicode_does_not_break_a_refusal() -> None:
    assert json.loads(refusal(b"1", Refused("stopped", "caf\udce9")))["error"]["message"] == "stopped: caf?"


@given(JSON)
def test_whatever_is_json_is_read_or_refused(value: object) -> None:
    body = json.dumps(value).encode()
    try:
        found = messages(body)
    except Unreadable:
        return
    for message in found:
        assert isinstance(message, Message) and message.kind in Kind
        text(message.method), key(message.id), told(message.error), text(message.params)


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    try:
        messages(body)
    except Unreadable:
        pass
    text(body), key(body), told(body)


@pytest.mark.parametrize("unit", ["\\u00e9", "\\ud83d\\ude00", "a\\n", '\\"'], ids=["escape", "pair", "line", "quote"])
def test_of_a_very_long_text_with_escapes_only_the_beginning_is_decoded(unit: str) -> None:
    raw = b'"' + unit.encode() * 100_000 + b'"'
    assert text(raw) == json.loads(raw)[:MOST_TEXT]
    assert text(raw, 7) == json.loads(raw)[:7]


def test_an_id_of_megabytes_is_none() -> None:
    assert key(b'"' + b"a" * 10_000 + b'"') is None
    assert key(b"1" * 10_000) is None
    assert key(b"[1]") is None


LONG_PARAMS = b'{"x":"' + b"x" * LONG_BYTES + b'"}'


@pytest.mark.parametrize(
    ("body", "is_so"),
    [
        (b'{"method":"m","params":"text"}', True),
        (b'{"id":1,"method":"m","params":%b}' % LONG_PARAMS, True),
        (b' {"id":1,"params" :\n%b}' % LONG_PARAMS, True),
        (b'{"id":1,"method":"m","params":[%b]}' % LONG_PARAMS, False),
        (b'{"id":1,"method":"m","params":"%b"}' % (b"x" * LONG_BYTES), False),
        (b'{"id":1,"result":%b}' % LONG_PARAMS, False),
        (b'[{"params":%b}]' % LONG_PARAMS, False),
    ],
    ids=["short", "long", "spaced", "list", "text", "response", "batch"],
)
def test_a_long_body_is_as_usual_where_it_shows_parameters_that_are_an_object(body: bytes, is_so: bool) -> None:
    assert is_as_usual(body) is is_so


def test_a_crowd_is_not_even_tried() -> None:
    with pytest.raises(Unreadable):
        is_as_usual(b'{"params":{' + b'"id":1,' * 1_000_000 + b'"id":1}}')


def test_only_what_is_not_very_long_is_read_again() -> None:
    check_again(bytes(MOST_SECOND_TRY_BYTES))
    with pytest.raises(Unreadable):
        check_again(bytes(MOST_SECOND_TRY_BYTES + 1))


def test_what_is_nothing_but_brackets_is_no_message() -> None:
    with pytest.raises(Unreadable):
        messages(b'{"params":[' + b"[]," * 3_000_000 + b"1]}")
