import json

import pytest

from sidecar.dialects.glance import MOST_BYTES, outline


def test_a_short_body_is_looked_through_as_it_is() -> None:
    body = b"x" * MOST_BYTES
    assert outline(body) is body


def test_a_long_text_without_quotes_is_leapt_over() -> None:
    body = json.dumps({"a": "QUJD" * MOST_BYTES, "image_url": "x", "b": "QUJD" * MOST_BYTES, "end": 1}).encode()
    seen = outline(body)
    assert seen is not None and len(seen) < 64 * 1024
    assert b'"image_url": "x"' in seen and b'"end": 1}' in seen


@pytest.mark.parametrize("at", range(16_300, 16_500, 7))
def test_a_name_at_the_edge_of_a_step_is_not_lost(at: int) -> None:
    before = b'{"a":"' + b"x" * (at - 8) + b'",'
    body = before + b'"image_url":"http","b":"' + b"y" * 2 * MOST_BYTES + b'"}'
    seen = outline(body)
    assert seen is not None and b'"image_url":"http"' in seen


def test_a_body_with_quotes_all_over_is_too_much() -> None:
    assert outline(b'["a",' + b'"b",' * MOST_BYTES + b"1]") is None


def test_a_body_without_any_quote_is_nothing_to_look_for() -> None:
    seen = outline(b"[" + b"1," * MOST_BYTES + b"1]")
    assert seen is not None and len(seen) < 64 * 1024
