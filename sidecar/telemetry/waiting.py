"""
Ended calls that wait to be written as spans, bounded by their number and by the content that they hold.

A call without content is small, and thousands may wait. What was said in one may be half a megabyte: above `MOST_CONTENT_BYTES`
a further call waits without it, and its span says that it is missing.
"""

from collections.abc import Sequence
from dataclasses import replace

from sidecar.model.content import Content
from sidecar.model.facts import AttemptFinished, ExchangeFinished

Ended = ExchangeFinished | AttemptFinished

MOST_CONTENT_BYTES = 32 * 1024 * 1024
"""Of what was said in all calls that wait together."""
AT_ONCE_CONTENT_BYTES = 64 * 1024
"""Of what is written in one loop turn: looking for secrets in it takes a millisecond for some kilobytes."""


class Waiting:
    """
    A queue of at most `limit` ended calls, oldest first; `content_bytes` is what was said in them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._facts: list[Ended] = []
        self.content_bytes = 0

    def __len__(self) -> int:
        return len(self._facts)

    def add(self, facts: Sequence[Ended]) -> tuple[int, int]:
        """Let these wait, as far as there is room; returns how many found none, and how many left their content behind."""
        room = self._limit - len(self._facts)
        dropped = max(0, len(facts) - room)
        if dropped:
            facts = facts[:room]
        emptied = 0
        first = len(self._facts)
        self._facts += facts
        for place, fact in enumerate(facts, first):
            if fact.dialogue is not None and fact.dialogue.content is not None:
                size = fact.dialogue.content.size_bytes()
                if self.content_bytes + size > MOST_CONTENT_BYTES:
                    emptied += 1
                    empty = Content(is_cut=True)
                    self._facts[place] = replace(fact, dialogue=replace(fact.dialogue, content=empty))
                    size = empty.size_bytes()
                self.content_bytes += size
        return dropped, emptied

    def take(self, most: int) -> list[Ended]:
        """Remove and return the oldest `most`, or fewer where they have much content; at least one if any waits."""
        if self.content_bytes:
            most = self._lighten(most)
        taken = self._facts[:most]
        del self._facts[:most]
        return taken

    def _lighten(self, most: int) -> int:
        """How many of the oldest to take, whose content is then not waiting any more."""
        size = 0
        for place, fact in enumerate(self._facts[:most]):
            content = fact.dialogue.content if fact.dialogue is not None else None
            if content is not None:
                more = content.size_bytes()
                if size and size + more > AT_ONCE_CONTENT_BYTES:
                    return place
                size += more
                self.content_bytes -= more
        return most
