"""
The latest exchanges, as facts in two rings, and those who follow them live.

Keeping a fact costs an append; that attempts belong to exchanges (by span and parent), and what may be shown, is worked out when
somebody asks. Rings, followers and their queues have bounds, and so has the text of a fact that is kept.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from sidecar.admin.filter import Filter
from sidecar.admin.refusals import AdminRefused
from sidecar.admin.showing import shown_exchange
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Passage
from sidecar.runtime.runtime import Runtime

KEPT_EXCHANGES = 512
KEPT_ATTEMPTS = 1024
MOST_TEXT = 4096
"""Characters of both targets of a call that are kept with a fact; of longer ones, half of it each."""

MOST_FOLLOWERS = 8
FOLLOWER_QUEUE = 1024
"""Facts that wait for a follower who reads slowly; one more, and it is dropped."""

HEARTBEAT_S = 15.0
PACE_S = 0.05
"""Between two writes to a follower, so that a busy sidecar does not spend its time on those who look on."""


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
            self._end = (
                self._bus.listen((ExchangeFinished,), self._exchange),
                self._bus.listen((AttemptFinished,), self._attempt),
            )

    def stop(self) -> None:
        """Hear no more, and let every follower come to its end."""
        ends, self._end = self._end, ()
        for end in ends:
            end()
        for follower in self._followers:
            follower.close()

    def latest(self, wanted: Filter) -> list[dict[str, Any]]:
        """The finished ones that are wanted, in the form in which they are shown, newest first."""
        attempts = self._attempts_by_parent()
        found: list[dict[str, Any]] = []
        for fact in reversed(self._exchanges):
            if len(found) >= wanted.limit:
                break
            if wanted.matches(fact):
                found.append(shown_exchange(fact, attempts.get(fact.span_id, ())))
        return found

    def follow(self, wanted: Filter) -> AsyncIterator[bytes]:
        """Server-sent events of what is wanted, from now on, after the latest `wanted.limit`; raises `AdminRefused` when full."""
        if len(self._followers) >= MOST_FOLLOWERS:
            raise AdminRefused("too_many_streams", f"{MOST_FOLLOWERS} streams are open already")
        follower = Follower(wanted)
        self._followers.add(follower)
        return self._events(follower)

    async def _events(self, follower: "Follower") -> AsyncIterator[bytes]:
        try:
            yield b"retry: 2000\n\n" + b"".join(map(_event, reversed(self.latest(follower.wanted))))
            while not follower.closed:
                facts = await follower.take(self._heartbeat_s)
                attempts = self._attempts_by_parent() if facts else {}
                yield b"".join(_event(shown_exchange(fact, attempts.get(fact.span_id, ()))) for fact in facts) or b": alive\n\n"
                await asyncio.sleep(PACE_S)
            if follower.lost:
                self.slow_clients.value += 1
                yield b"event: dropped\ndata: {}\n\n"
        finally:
            self._followers.discard(follower)

    def _exchange(self, fact: ExchangeFinished) -> None:
        passage = fact.passage
        if len(passage.path) + len(passage.target) > MOST_TEXT:
            fact = replace(fact, passage=_cut(passage))
        self._exchanges.append(fact)
        for follower in self._followers:
            follower.hear(fact)

    def _attempt(self, fact: AttemptFinished) -> None:
        passage = fact.passage
        if len(passage.path) + len(passage.target) > MOST_TEXT:
            fact = replace(fact, passage=_cut(passage))
        self._attempts.append(fact)

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
    """The same with targets of a bounded length, and nothing that others keep with it."""
    return replace(passage, path=passage.path[: MOST_TEXT // 2], target=passage.target[: MOST_TEXT // 2], blocks={})


def _event(shown: dict[str, Any]) -> bytes:
    """One event of the stream (WHATWG HTML, server-sent events); JSON without indentation has no line break in it."""
    return f"event: exchange\nid: {shown['span_id']}\ndata: {json.dumps(shown)}\n\n".encode()
