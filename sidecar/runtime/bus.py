"""The bus: facts go from the plane where they happened to everybody who wants to hear them."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

Hear = Callable[[Any], None]


class Subscription:
    """
    A bounded queue of facts for a reader with a pace of its own.

    `limit` facts are kept; what comes on top is dropped, newest first, and counted in `dropped`.
    """

    __slots__ = ("_facts", "_limit", "dropped")

    def __init__(self, limit: int) -> None:
        self._facts: deque[Any] = deque()
        self._limit = limit
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._facts)

    def hear(self, fact: Any) -> None:
        """Keep the fact for the reader, or count it as dropped when the queue is full."""
        if len(self._facts) < self._limit:
            self._facts.append(fact)
        else:
            self.dropped += 1

    def take(self, most: int) -> list[Any]:
        """Remove and return up to `most` facts, oldest first."""
        facts = self._facts
        return [facts.popleft() for _ in range(min(most, len(facts)))]


class Bus:
    """
    Publishes facts: engines hear them before `publish` returns, everybody else reads a `Subscription`.

    The listeners of a type stand in a tuple that is replaced as a whole, so a publication never sees half a change.
    """

    __slots__ = ("_heard_by",)

    def __init__(self) -> None:
        self._heard_by: dict[type, tuple[Hear, ...]] = {}

    def publish(self, fact: object) -> None:
        """Tell everybody who listens to this very type of fact (not to its bases)."""
        for hear in self._heard_by.get(fact.__class__, ()):
            hear(fact)

    def listen(self, kinds: Iterable[type], hear: Hear) -> Callable[[], None]:
        """Call `hear` for each fact of these types from now on; returns the function that ends it."""
        kinds = tuple(kinds)
        for kind in kinds:
            self._heard_by[kind] = (*self._heard_by.get(kind, ()), hear)

        def end() -> None:
            for kind in kinds:
                self._heard_by[kind] = tuple(other for other in self._heard_by[kind] if other is not hear)

        return end

    def subscribe(self, kinds: Iterable[type], *, limit: int) -> tuple[Subscription, Callable[[], None]]:
        """Queue up to `limit` facts of these types; returns the queue and the function that ends the subscription."""
        queue = Subscription(limit)
        return queue, self.listen(kinds, queue.hear)
