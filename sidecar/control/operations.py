"""The operator's verbs: what a person may do to a running sidecar, and the fact that tells everybody that it was done."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sidecar.model.errors import ConfigInvalid
from sidecar.model.facts import OperationPerformed
from sidecar.runtime.runtime import Runtime

OPERATION_TIMEOUT_S = 60.0
"""How long an operation may take before it is given up as failed."""

MOST_AT_ONCE = 16
"""Operations that may run at the same time; further ones are refused as `Busy`."""

_MOST_WORDS = 200
_log = logging.getLogger("sidecar.control")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verbs:
    """
    What the app does when it is asked to.

    `reload` reads the config again and returns the changes, or raises `ConfigInvalid`; `stop_exchange` takes a span id and
    a reason and returns False where no such exchange is in flight; `drain` takes a reason, begins to shut down and returns.
    """

    reload: Callable[[], Awaitable[tuple[str, ...]]]
    stop_exchange: Callable[[bytes, str], Awaitable[bool]]
    drain: Callable[[str], Awaitable[None]]


class ExchangeUnknown(LookupError):
    """No exchange with this span id is in flight; it may have ended a moment ago."""


class Busy(Exception):
    """Too many operations run already; try again when they are done."""


class Operations:
    """
    Performs the verbs for admin, CLI and signals, and publishes an `OperationPerformed` for each, also where it failed.

    An operation that has begun goes on when its caller goes away: half a reload would be worse than one too many. Reloads
    stand in line, the others do not wait for them.
    """

    def __init__(self, runtime: Runtime, verbs: Verbs, *, timeout_s: float = OPERATION_TIMEOUT_S) -> None:
        self._runtime = runtime
        self._verbs = verbs
        self._timeout_s = timeout_s
        self._running: set[asyncio.Task[object]] = set()
        self._reloading = asyncio.Lock()

    async def reload(self, *, who: str, why: str = "") -> tuple[str, ...]:
        """Read the config again and put it into effect; returns what changed, raises `ConfigInvalid` where it is not good."""

        async def act() -> tuple[str, ...]:
            async with self._reloading:
                return await self._verbs.reload()

        return await self._perform("reload", "", who, why, act)

    async def stop_exchange(self, span_id: bytes, *, who: str, why: str = "") -> None:
        """Stop one exchange in flight; raises `ExchangeUnknown` where it is not (or no longer) in flight."""

        async def act() -> None:
            if not await self._verbs.stop_exchange(span_id, _words(why) or "stopped by an operator"):
                raise ExchangeUnknown(f"no exchange {span_id.hex()} is in flight")

        await self._perform("stop_exchange", span_id.hex(), who, why, act)

    async def drain(self, *, who: str, why: str = "") -> None:
        """Begin to shut down: not ready, no new calls, those in flight may end; returns before the end."""

        async def act() -> None:
            await self._verbs.drain(_words(why) or "drained by an operator")

        await self._perform("drain", "", who, why, act)

    async def stop(self) -> None:
        """Cancel what still runs and wait for its end; harmless when called twice."""
        running = self._running - {asyncio.current_task()}  # `drain` may itself be on its way to here
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _perform(self, verb: str, target: str, who: str, why: str, act: Callable[[], Awaitable[T]]) -> T:
        if len(self._running) >= MOST_AT_ONCE:
            raise Busy(f"{len(self._running)} operations are running already")
        task = asyncio.create_task(self._told(verb, target, who, why, act), name=f"operation {verb}")
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # taken note of here, because the caller may have gone; the fact and the log have it

    async def _told(self, verb: str, target: str, who: str, why: str, act: Callable[[], Awaitable[T]]) -> T:
        outcome, detail = "failed", "cancelled"
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await act()
            outcome, detail = "done", ", ".join(result) if isinstance(result, tuple) else ""
        except (ConfigInvalid, ExchangeUnknown) as error:
            outcome, detail = "refused", str(error)
            raise
        except TimeoutError:
            detail = f"took longer than {self._timeout_s:g} s"
            raise
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._tell(OperationPerformed(self._runtime.clock.wall_ns(), verb, target, _words(who), _words(why), outcome, detail))
        return result

    def _tell(self, fact: OperationPerformed) -> None:
        _log.info("%s %s by %s: %s %s", fact.verb, fact.target or "sidecar", fact.who, fact.outcome, fact.detail)
        self._runtime.metrics.counter(
            "control.operations", "What operators asked for, by verb and outcome.", verb=fact.verb, outcome=fact.outcome
        ).value += 1
        self._runtime.bus.publish(fact)


def _words(text: str) -> str:
    """What a person wrote, fit for one line of a log."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_MOST_WORDS]).strip()
