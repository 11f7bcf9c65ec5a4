"""
Words of others that become dimensions: what an upstream calls its errors, what a client calls its methods, models and tools.

    errors = Words()
    errors("overloaded_error")              # as it is
    errors("request req_011CVf81 failed")   # "_OTHER"

`error.type` and the names of spans should be predictable and of low cardinality (OpenTelemetry, attribute registry, "Error";
trace API, "Span"), because backends group by them, and who pays for that is not who chooses the words. So a word has to look like
one, and of those that nobody knows only so many are taken.
"""

import re
from collections.abc import Callable

from sidecar.model.errors import CODES
from sidecar.model.judgement import FAILED_STATES, WORDS
from sidecar.telemetry.masks import masked_error

OTHER = "_OTHER"
"""What stands for a word that is not taken (semantic conventions, `error.type`, `http.request.method`)."""

MOST_WORDS = 100
"""Different words beyond those that everybody knows; all providers' together have fewer."""

MOST_NAMES = 1000
"""Different names of spans of one kind: models, tools and agents that a process meets."""

MOST_NAME_CHARS = 255
"""Longer names of spans are cut; many backends have a column of that width."""

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.:/#-]{0,63}")
_NUMBER = re.compile(r"[1-5][0-9][0-9]|-32[0-9]{3}")  # HTTP statuses, and what JSON-RPC 2.0 reserves
_DIGITS = re.compile(r"[0-9]")
_MOST_DIGITS = 6
"""More of them are an id, or a time."""


def is_word(text: str) -> bool:
    """Whether a text may be a value of `error.type` at all: one word of bounded length, no id and no secret."""
    if _NUMBER.fullmatch(text):
        return True
    return (
        _WORD.fullmatch(text) is not None and len(_DIGITS.findall(text)) <= _MOST_DIGITS and masked_error(text) == text
    )


class Words:
    """A vocabulary that learns: known words pass, and so do the first `most` others that `fits` takes."""

    __slots__ = ("_fits", "_most", "_seen")

    def __init__(self, most: int = MOST_WORDS, fits: Callable[[str], bool] = is_word) -> None:
        self._most = most
        self._fits = fits
        self._seen: set[str] = set()

    def __call__(self, word: str) -> str:
        """Return the word, or `_OTHER` in its place; "" is none."""
        if not word or word in self._seen or word in _KNOWN:
            return word
        if len(self._seen) >= self._most or not self._fits(word):
            return OTHER
        self._seen.add(word)
        return word


class Names:
    """Names of spans, `operation target`: of further targets the operation alone, because a span's name is no place for an id."""

    __slots__ = ("_targets",)

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._targets = Words(most, bool)

    def __call__(self, operation: str, target: str) -> str:
        """Return the name, at most 255 characters long."""
        target = target[:MOST_NAME_CHARS]
        shown = f"{operation} {target}" if target and self._targets(target) != OTHER else operation
        return shown[:MOST_NAME_CHARS]


_KNOWN = frozenset({*CODES, *WORDS, *FAILED_STATES, "tool_error"})
