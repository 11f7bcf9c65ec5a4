"""Which words of others become dimensions, and how many."""

import tracemalloc

import pytest
from opentelemetry.semconv.attributes.error_attributes import ErrorTypeValues

from sidecar.model.errors import CODES
from sidecar.telemetry.words import MOST_NAME_CHARS, OTHER, Names, Words, is_word


@pytest.mark.parametrize(
    "word",
    [
        *sorted(CODES)[:5], "overloaded_error", "RESOURCE_EXHAUSTED", "ThrottlingException", "tool_error", "TASK_STATE_FAILED", "503",
        "-32602", "insufficient_quota", "com.amazon.coral.service#ThrottlingException", "content-filter", "some_new_error", "e2",
    ],
)  # fmt: skip
def test_a_word_is_taken_as_it_is(word: str) -> None:
    assert Words()(word) == word


@pytest.mark.parametrize(
    "text",
    [
        "request failed", "req_0123456789", "a" * 65, "é", "a\nb", "a=b", "1e300", "-1", "-327680", "999", "", "sk-abcdefgh", "error:" + "9" * 7,
        "2026-11-20", "{}", "api_key:abc", "__import__", "-", "error\udcff",
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_word_is_other(text: str) -> None:
    assert not is_word(text)
    assert Words()(text) == (OTHER if text else "")


def test_other_is_what_the_conventions_call_it() -> None:
    assert ErrorTypeValues.OTHER.value == OTHER


def test_of_unknown_words_so_many_are_taken_and_known_ones_always() -> None:
    words = Words(most=3)
    assert [words(f"error_{letter}") for letter in "abcdab"] == ["error_a", "error_b", "error_c", OTHER, "error_a", "error_b"]
    assert words("rate_limit_error") == "rate_limit_error"


def test_a_hundred_thousand_words_take_no_memory() -> None:
    words, names = Words(), Names()
    tracemalloc.start()
    shown = set()
    for number in range(100_000):
        letters = "".join(chr(97 + int(digit)) for digit in str(number))
        shown |= {words(f"error_{letters}"), names("chat", f"model-{letters}")}
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert OTHER in shown and len(shown) == 101 + 1001
    assert kept < 300_000


def test_a_name_is_cut_and_further_targets_are_left_out() -> None:
    names = Names(most=2)
    assert names("chat", "") == "chat"
    assert len(names("chat", "m" * 300)) == len(names("x" * 300, "")) == MOST_NAME_CHARS
    assert names("chat", "two") == "chat two"
    assert names("chat", "three") == "chat"
    assert names("embeddings", "two") == "embeddings two"
