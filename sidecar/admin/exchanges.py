"""
The latest exchanges, as facts in two rings, and those who follow them live.

Keeping a fact costs an append; that attempts belong to exchanges (by span and parent), and what may be shown, is worked out when
somebody asks. Rings, followers and their queues have bounds, and so has the text of a fact that is kept.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sidecar.admin import events
from sidecar.admin.filter import Filter
from sidecar.admin.refusals import AdminRefused
from sidecar.admin.showing import shown_exchange
from sidecar.model.facts import MOST_TEXT, AttemptFinished, ExchangeFinished, Passage
from sidecar.runtime.runtime import Runtime

KEPT_EXCHANGES = 512
KEPT_ATTEMPTS = 2 * KEPT_EXCHANGES

MOST_FOLLOWERS = 8
FOLLOWER_QUEUE = 1024
"""Facts that wait for a follower who reads slowly; one more, and it is dropped."""

HEARTBEAT_S = 15.0
PACE_S = 0.05
"""Between two writes to a follower, so that a busy sidecar does not spend its time on those who look on."""


class Forms(Protocol):
    """How a live form is written: `events` for browsers and people, `typed` for programs."""

    BEGIN: bytes
    ALIVE: bytes
    DROPPED: bytes

    def event(self, shown: dict[str, Any]) -> bytes:
        """One exchange that has finished."""
        ...


class Exchanges:
    """Hears facts between `start` and `stop`; the rest of the time it only remembers."""

    def __init__(self, runtime: Runtime, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._bus = runtime.bus
        self._heartbeat_s = heartbeat_s
        self._exchanges: deque[ExchangeFinished] = deque(maxlen=KEPT_EXCHANGES)
        self._attempts: deque[AttemptFinished] = deque(maxlen=KEPT_ATTEMPTS)
        self._followers: set[Follower] = set()
        self._end: tuple[Callable[[], None], ...] = ()
        runtime.metrics.gauge("admin.streams", "Clients that follow the exchanges.", read=lambda: len(self._followers))
        self.slow_clients = runtime.metrics.counter("admin.slow_clients", "Clients that were dropped as they read too slowly.")

    def start(self) -> None:
        """Hear facts from now on."""
        if not self._end:
            self._end = (self._bus.gather((ExchangeFinished, AttemptFinished), self._keep),)

    def keep(self, most: int) -> None:
        """Remember this many exchanges, and twice as many attempts, from now on; the oldest go where there are more."""
        if most != self._exchanges.maxlen:
            self._exchanges = deque(self._exchanges, maxlen=most)
            self._attempts = deque(self._attempts, maxlen=2 * most)

    def stop(self) -> None:
        """Hear no more, and let every follower come to its end."""
        ends, self._end = self._end, ()
        for end in ends:
            end()
        self.dismiss()

    def dismiss(self) -> None:
        """Let every follower come to its end; what happens is still remembered."""
        for follower in self._followers:
            follower.close()

    def latest(self, wanted: Filter) -> list[dict[str, Any]]:
        """The finished ones that are wanted, in the form in which they are shown, newest first."""
        self._bus.deliver()
        attempts = self._attempts_by_parent()
        found: list[dict[str, Any]] = []
        for fact in reversed(self._exchanges):
            if len(found) >= wanted.limit:
                break
            if wanted.matches(fact):
                found.append(shown_exchange(fact, attempts.get(fact.span_id, ())))
        return found

    def follow(self, wanted: Filter, forms: Forms = events) -> AsyncIterator[bytes]:
        """What is wanted, from now on, after the latest `wanted.limit`, in this form; raises `AdminRefused` when full."""
        self._bus.deliver()  # what has happened already belongs to the latest
        if len(self._followers) >= MOST_FOLLOWERS:
            raise AdminRefused("too_many_streams", f"{MOST_FOLLOWERS} streams are open already")
        follower = Follower(wanted)
        self._followers.add(follower)
        return self._events(follower, forms)

    async def _events(self, follower: "Follower", forms: Forms) -> AsyncIterator[bytes]:
        event = forms.event
        try:
            yield forms.BEGIN + b"".join(map(event, reversed(self.latest(follower.wanted))))
            while not follower.closed:
                facts = await follower.take(self._heartbeat_s)
                attempts = self._attempts_by_parent() if facts else {}
                yield b"".join(event(shown_exchange(fact, attempts.get(fact.span_id, ()))) for fact in facts) or forms.ALIVE
                await asyncio.sleep(PACE_S)
            if follower.lost:
                self.slow_clients.value += 1
                yield forms.DROPPED
        finally:
            self._followers.discard(follower)

    def _keep(self, facts: Sequence[ExchangeFinished | AttemptFinished]) -> None:
        """Keep a batch of facts, those with long targets cut, and none with what was said in it."""
        exchanges: list[ExchangeFinished] = []
        for fact in facts:
            kept = replace(fact, passage=_cut(fact.passage)) if fact.passage.is_long else fact
            if kept.dialogue is not None and kept.dialogue.content is not None:
                kept = replace(kept, dialogue=kept.dialogue.without_content())
            if isinstance(kept, ExchangeFinished):
                exchanges.append(kept)
            else:
                self._attempts.append(kept)
        self._exchanges.extend(exchanges)
        for follower in self._followers:
            for fact in exchanges:
                follower.hear(fact)

    def _attempts_by_parent(self) -> dict[bytes, list[AttemptFinished]]:
        found: dict[bytes, list[AttemptFinished]] = {}
        for fact in self._attempts:
            found.setdefault(fact.parent_id, []).append(fact)
        return found


class Follower:
    """One who follows: a queue with a bound, and whether that bound has been passed."""

    __slots__ = ("_arrived", "_facts", "closed", "lost", "wanted")

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self.closed = False
        self.lost = False
        self._facts: list[ExchangeFinished] = []
        self._arrived = asyncio.Event()

    def hear(self, fact: ExchangeFinished) -> None:
        """Keep a fact that is wanted; with a full queue, this is the end."""
        if self.closed or not self.wanted.matches(fact):
            return
        if len(self._facts) >= FOLLOWER_QUEUE:
            self.lost = True
            self.close()
            return
        self._facts.append(fact)
        self._arrived.set()

    def close(self) -> None:
        """Let the reader come to its end."""
        self.closed = True
        self._arrived.set()

    async def take(self, most_s: float) -> list[ExchangeFinished]:
        """What has arrived, oldest first; nothing when nothing came in time, or at the end."""
        try:
            async with asyncio.timeout(most_s):
                await self._arrived.wait()
        except TimeoutError:
            return []
        self._arrived.clear()
        facts, self._facts = self._facts, []
        return facts


def _cut(passage: Passage) -> Passage:
    """The same with targets of a bounded length (half of `MOST_TEXT` each), and nothing that others keep with it."""
    return replace(passage, path=passage.path[: MOST_TEXT // 2], target=passage.target[: MOST_TEXT // 2], blocks={})
