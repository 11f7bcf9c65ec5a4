"""
The bus: facts go from the plane where they happened to everybody who wants to hear them.

Engines hear a fact at once (`listen`). Who only counts, keeps or exports facts hears them in batches (`gather`), a few
milliseconds later and at a fraction of the cost a fact; or takes them in its own time from a queue (`subscribe`).

Who publishes, and who looks at numbers, is not to blame for those who hear: what these raise is logged, and the others hear.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sidecar.model.clock import SYSTEM_CLOCK, Clock
from sidecar.runtime.complaints import Complaints

Hear = Callable[[Any], None]
HearMany = Callable[[Sequence[Any]], None]

AT_ONCE = 32
"""Facts in a batch: some 50 µs of work for those who gather, so that no call waits longer for it."""
_GATHER_S = 0.01
"""The longest that a fact waits for others."""

_log = logging.getLogger(__name__)


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


class _Way:
    """Who hears facts of one type at once, and where they are gathered for others."""

    __slots__ = ("gathered", "hears")

    def __init__(self) -> None:
        self.hears: tuple[Hear, ...] = ()
        self.gathered: list[Any] | None = None


class Bus:
    """
    Publishes facts: who listens hears them before `publish` returns, who gathers hears them with others.

    A batch is delivered when it is full, after 10 ms, and on `deliver`, which whoever shows numbers calls first. Where no
    loop runs, it is delivered at once. The listeners of a type stand in a tuple that is replaced as a whole, so a
    publication never sees half a change.
    """

    __slots__ = ("_complaints", "_gathered", "_gatherers", "_timer", "_ways")

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._complaints = Complaints("bus", clock, _log)
        self._ways: dict[type, _Way] = {}
        self._gatherers: tuple[tuple[frozenset[type], HearMany], ...] = ()
        self._gathered: list[Any] = []
        self._timer: asyncio.TimerHandle | None = None

    def publish(self, fact: object) -> None:
        """Tell everybody who hears of this very type of fact (not of its bases)."""
        way = self._ways.get(fact.__class__)
        if way is None:
            return
        gathered = way.gathered
        if gathered is not None:
            gathered.append(fact)
            if self._timer is None:
                self._deliver_soon()
            elif len(gathered) >= AT_ONCE:
                self.deliver()
        if way.hears:
            self._tell(way.hears, fact)

    def _tell(self, hears: tuple[Hear, ...], fact: object) -> None:
        for hear in hears:
            try:
                hear(fact)
            except Exception as error:  # noqa: BLE001 - whoever hears may be somebody else's; logged
                self._complain(hear, error)

    def _complain(self, hear: Hear | HearMany, error: Exception) -> None:
        """Once a minute for each that hears; a failing one would else fill the log with every call."""
        name = getattr(hear, "__qualname__", type(hear).__qualname__)
        self._complaints.log(name, f"{name} failed at what it heard", error)

    def deliver(self) -> None:
        """Hand on what has been gathered so far, so that whoever looks now sees all that has happened."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._gathered:
            return
        facts = self._gathered.copy()
        self._gathered.clear()
        kinds = set(map(type, facts))
        for wanted, hear_many in self._gatherers:
            try:
                hear_many(facts if kinds <= wanted else [fact for fact in facts if fact.__class__ in wanted])
            except Exception as error:  # noqa: BLE001 - as in _tell
                self._complain(hear_many, error)

    def _deliver_soon(self) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self.deliver)
        except RuntimeError:  # no loop: nobody would come back
            self.deliver()

    def listen(self, kinds: Iterable[type], hear: Hear) -> Callable[[], None]:
        """Call `hear` for each fact of these types from now on; returns the function that ends it."""
        kinds = tuple(kinds)
        for kind in kinds:
            way = self._ways.setdefault(kind, _Way())
            way.hears = (*way.hears, hear)

        def end() -> None:
            for kind in kinds:
                way = self._ways[kind]
                way.hears = tuple(other for other in way.hears if other is not hear)

        return end

    def gather(self, kinds: Iterable[type], hear_many: HearMany) -> Callable[[], None]:
        """Call `hear_many` with batches of facts of these types, in their order; returns the function that ends it."""
        kinds = frozenset(kinds)
        self.deliver()  # what happened before is not for the new one
        entry = (kinds, hear_many)
        self._gatherers = (*self._gatherers, entry)
        self._mark()

        def end() -> None:
            if entry in self._gatherers:
                self.deliver()
                self._gatherers = tuple(other for other in self._gatherers if other is not entry)
                self._mark()

        return end

    def _mark(self) -> None:
        gathered = frozenset[type]().union(*(kinds for kinds, _ in self._gatherers))
        for kind in gathered:
            self._ways.setdefault(kind, _Way())
        for kind, way in self._ways.items():
            way.gathered = self._gathered if kind in gathered else None

    def subscribe(self, kinds: Iterable[type], *, limit: int) -> tuple[Subscription, Callable[[], None]]:
        """Queue up to `limit` facts of these types; returns the queue and the function that ends the subscription."""
        queue = Subscription(limit)
        return queue, self.listen(kinds, queue.hear)
