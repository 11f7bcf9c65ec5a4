"""
Anthropic's counts, sorted into classes that do not overlap.

On the wire `input_tokens` has neither what was read from the cache nor what was written to it; `output_tokens` has the thinking
in it. In a stream they come in parts, and each later figure takes the place of the former one; what is null or absent stands, and
what can be no count leaves a doubt.
"""

from typing import ClassVar

import msgspec

from sidecar.dialects.doubt import nonsense
from sidecar.dialects.lenient import MOST_COUNT, count
from sidecar.model.usage import CONTRADICTION, NONSENSE, Usage

_MOST_ITERATIONS = 256


class Written(msgspec.Struct, gc=False):
    """`cache_creation`: what was written to the cache, by lifetime."""

    IS_OF_COUNTS: ClassVar[bool] = True

    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class ServerTools(msgspec.Struct, gc=False):
    """`server_tool_use`: how often the server's own tools were used."""

    IS_OF_COUNTS: ClassVar[bool] = True

    web_search_requests: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    """`output_tokens_details`: what of the output was thinking."""

    IS_OF_COUNTS: ClassVar[bool] = True

    thinking_tokens: int | None = None


class Iteration(msgspec.Struct, gc=False):
    """One of `iterations` (beta); only a compaction's tokens are not in the sums beside it."""

    IS_OF_COUNTS: ClassVar[bool] = True

    type: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: Written | None = None


class Counts(msgspec.Struct, gc=False):
    """`usage`, of a message, of `message_start` or of `message_delta`."""

    IS_OF_COUNTS: ClassVar[bool] = True

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: Written | None = None
    server_tool_use: ServerTools | None = None
    output_tokens_details: OutputDetails | None = None
    iterations: list[Iteration] | None = None
    service_tier: str | None = None
    speed: str | None = None


class Tally:
    """The counts of one message as far as they are known; `hear` each part, then ask for `usage`."""

    __slots__ = (
        "_compactions",
        "_input",
        "_is_nonsense",
        "_output",
        "_read",
        "_searches",
        "_thinking",
        "_written",
        "_written_1h",
        "_written_5m",
    )  # fmt: skip

    def __init__(self) -> None:
        self._input = self._output = self._read = self._written = self._written_5m = self._written_1h = 0
        self._thinking = self._searches = 0
        self._compactions: list[Iteration] = []
        self._is_nonsense = False

    def hear(self, told: Counts) -> None:
        """Let what is told take the place of what was known."""
        self._input = self._count(told.input_tokens, self._input)
        self._output = self._count(told.output_tokens, self._output)
        self._read = self._count(told.cache_read_input_tokens, self._read)
        self._written = self._count(told.cache_creation_input_tokens, self._written)
        if told.cache_creation is not None:
            self._written_5m = self._count(told.cache_creation.ephemeral_5m_input_tokens, self._written_5m)
            self._written_1h = self._count(told.cache_creation.ephemeral_1h_input_tokens, self._written_1h)
        if told.server_tool_use is not None:
            self._searches = self._count(told.server_tool_use.web_search_requests, self._searches)
        if told.output_tokens_details is not None:
            self._thinking = self._count(told.output_tokens_details.thinking_tokens, self._thinking)
        if told.iterations is not None:
            self._compactions = [each for each in told.iterations[:_MOST_ITERATIONS] if each.type == "compaction"]

    def _count(self, told: int | None, known: int) -> int:
        if told is None:
            return known
        if 0 <= told <= MOST_COUNT:
            return told
        self._is_nonsense = True
        return known

    def usage(self) -> Usage:
        """Return everything that is known now; a message's compactions are billed like itself and counted in."""
        thinking = min(self._thinking, self._output)
        usage = Usage(
            input_tokens=self._input,
            cache_read_tokens=self._read,
            cache_write_tokens=max(self._written - self._written_5m - self._written_1h, 0),
            cache_write_5m_tokens=self._written_5m,
            cache_write_1h_tokens=self._written_1h,
            output_tokens=self._output - thinking,
            reasoning_tokens=thinking,
            web_searches=self._searches,
        )
        by_lifetime = self._written_5m + self._written_1h
        if self._is_nonsense:
            usage.doubt = NONSENSE
        elif thinking < self._thinking or (by_lifetime > self._written and self._written):
            usage.doubt = CONTRADICTION
        for each in self._compactions:
            _add(usage, each)
        return usage


def tier(told: Counts) -> str:
    """Return the tier that was served, "" where nothing is said; the fast mode is told apart from it and priced like one."""
    return "fast" if told.speed == "fast" else (told.service_tier or "")[:256]


def _add(usage: Usage, each: Iteration) -> None:
    written = each.cache_creation or Written()
    told = (
        each.input_tokens, each.output_tokens, each.cache_read_input_tokens, each.cache_creation_input_tokens,
        written.ephemeral_5m_input_tokens, written.ephemeral_1h_input_tokens,
    )  # fmt: skip
    into, out, read, stored, stored_5m, stored_1h = (count(each) for each in told)
    usage.doubt = usage.doubt or nonsense(*told)
    usage.input_tokens += into
    usage.output_tokens += out
    usage.cache_read_tokens += read
    usage.cache_write_tokens += max(stored - stored_5m - stored_1h, 0)
    usage.cache_write_5m_tokens += stored_5m
    usage.cache_write_1h_tokens += stored_1h
