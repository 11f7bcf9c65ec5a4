import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.unfinished import MOST_DEPTH, MOST_MARKS, finished

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("cut", "closed"),
    [
        (b'{"a": [1, {"b": "some te', b'{"a": [1, {"b": "some te"}]}'),
        (b'{"a": 1, "b', b'{"a": 1}'),
        (b'{"a": 1, "b"', b'{"a": 1}'),
        (b'{"a": 1, "b":', b'{"a": 1}'),
        (b'{"a": 1, "b": tr', b'{"a": 1}'),
        (b"[1, 2.", b"[1]"),
        (b'{"a": "x"', b'{"a": "x"}'),
        (b'["x\\', b'["x"]'),
        (b'["x\\\\', b'["x\\\\"]'),
        (b'["x\\u00', b'["x"]'),
        ('["é'.encode()[:-1], b'[""]'),
        (b'{"a": 1}', b'{"a": 1}'),
        (b"nothing", b"nothing"),
        (b"]", b"]"),
        (b"", b""),
    ],
)
def test_what_breaks_off_is_closed(cut: bytes, closed: bytes) -> None:
    assert finished(cut) == closed


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_json_may_break_off_anywhere(value: Any, is_ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "replace")
    for end in range(1, len(text) + 1):
        assert isinstance(json.loads(finished(text[:end])), dict)


@given(st.binary(max_size=60) | st.text('{}[]",:\\ u0', max_size=40).map(str.encode))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    finished(data)


@pytest.mark.parametrize("data", [b"[" * (MOST_DEPTH + 1), b'["",' * 1 + b'"",' * MOST_MARKS], ids=["deep", "many"])
def test_what_is_too_deep_or_too_much_stays_as_it_is(data: bytes) -> None:
    assert finished(data) is data


def test_long_texts_cost_little() -> None:
    data = b'{"a": "' + b"word \\n " * 500_000
    began = time.process_time()
    assert json.loads(finished(data))
    assert time.process_time() - began < 3
