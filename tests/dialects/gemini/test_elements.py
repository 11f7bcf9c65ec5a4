import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.gemini.elements import Elements

JSON = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('ab"\\{}[],:\n'), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('a"\\{}'), max_size=3), inner, max_size=3)
    ),
    max_leaves=9,
)
OBJECTS = st.lists(st.dictionaries(st.text(st.sampled_from('a"{}]'), max_size=3), JSON, max_size=3), max_size=4)


@given(OBJECTS, st.sampled_from([None, 1]), st.lists(st.integers(0, 200), max_size=6))
def test_the_elements_of_an_array_come_out_however_it_is_split(
    objects: list[dict[str, Any]], indent: int | None, cuts: list[int]
) -> None:
    data = json.dumps(objects, indent=indent).encode()
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    elements = Elements(1 << 20)
    found = [json.loads(each) for start, end in pairwise(places) for each in elements.feed(data[start:end])]
    assert found == objects
    assert elements.is_open and elements.is_closed


def test_an_object_that_stands_alone_is_an_element() -> None:
    elements = Elements(99)
    assert elements.feed(b' {"error": {"code": 1}}\n') == [b'{"error": {"code": 1}}']
    assert not (elements.is_open or elements.is_closed)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_element_above_the_bound_is_passed_over_and_counted(size: int) -> None:
    elements = Elements(100)
    data = b'[{"a":"' + b"x" * 5000 + b'"},{"b":1}]'
    found = [each for at in range(0, len(data), size) for each in elements.feed(data[at : at + size])]
    assert (found, elements.skipped) == ([b'{"b":1}'], 1)


@given(st.text(st.sampled_from('{}[]"\\a,'), max_size=60))
def test_anything_is_taken(text: str) -> None:
    whole, pieces = Elements(20), Elements(20)
    found = whole.feed(text.encode())
    assert [each for sign in text for each in pieces.feed(sign.encode())] == found
    assert (whole.skipped, whole.is_closed) == (pieces.skipped, pieces.is_closed)
