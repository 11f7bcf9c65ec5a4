"""
The policy chain of a route, compiled once.

A *guard* is a plain function: `(exchange) -> None` above the attempt, `(attempt) -> None` from there on; it raises
`Refused`, or takes something and leaves it with `holds`. A *filter* is `async (exchange, forward) -> response` (or with an
attempt): it may wait, repeat, or answer itself. Neighbouring guards become one loop; a route without filters starts no task.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange

if TYPE_CHECKING:
    from sidecar.traffic.response import Response

_log = logging.getLogger(__name__)


class Stage(IntEnum):
    """Where a policy stands, outermost first: what repeats stands above what is taken for each attempt."""

    KILL_SWITCH = 10
    LOOP_GUARD = 20
    RECORD = 30
    RETRY = 40
    BUDGET = 50
    BREAKER = 60
    LIMIT = 70
    TIMEOUT = 80
    CHAOS = 90

    @property
    def is_per_attempt(self) -> bool:
        """From the budget on, a policy is asked anew for each attempt."""
        return self >= Stage.BUDGET


ExchangeGuard = Callable[[Exchange], None]
AttemptGuard = Callable[[Attempt], None]
Forward = Callable[[Any], "Awaitable[Response]"]
Filter = Callable[[Any, Forward], "Awaitable[Response]"]


class Policy:
    """A built policy: `call` is the guard or the filter, `is_filter` says which, `stage` where it stands."""

    __slots__ = ("call", "is_filter", "name", "stage")

    def __init__(self, name: str, stage: Stage, call: Callable[..., Any], *, is_filter: bool) -> None:
        self.name = name
        self.stage = stage
        self.call = call
        self.is_filter = is_filter


class Chain:
    """
    The compiled policies of one route.

    Without filters, `admit` and `take` are the guards above and at the attempt (None where there are none). With filters,
    `run` is the whole chain as one async function, and `admit` and `take` are None.
    """

    __slots__ = ("admit", "filters", "policies", "take")

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = tuple(policies)
        self.filters = any(policy.is_filter for policy in policies)
        above = [policy.call for policy in policies if not policy.stage.is_per_attempt]
        below = [policy.call for policy in policies if policy.stage.is_per_attempt]
        self.admit: ExchangeGuard | None = None if self.filters else _one(above)
        self.take: AttemptGuard | None = None if self.filters else _one(below)

    def run(self, begin: Callable[[Exchange], Attempt], send: Callable[[Attempt], "Awaitable[Response]"]) -> Forward:
        """Compose guards and filters around `begin` (makes the attempt) and `send` (sends it); returns the outermost call."""
        forward: Forward = send
        attempts = [policy for policy in self.policies if policy.stage.is_per_attempt]
        for policy in reversed(attempts):
            forward = _around(policy, forward)

        inner = forward

        async def attempt_it(exchange: Exchange) -> "Response":
            return await inner(begin(exchange))

        forward = attempt_it
        for policy in reversed(self.policies[: len(self.policies) - len(attempts)]):
            forward = _around(policy, forward)
        return forward


def ask(guard: Callable[[Any], None], subject: Exchange | Attempt) -> None:
    """Ask a guard; raises what it refuses with, or `Refused("policy_failed")` where it fails in any other way."""
    try:
        guard(subject)
    except Refused:
        raise
    except Exception:  # noqa: BLE001 - a policy may raise anything, and it is logged
        _log.exception("a policy of route %r failed", subject.passage.route)
        raise Refused("policy_failed") from None


def _one(guards: list[Callable[[Any], None]]) -> Callable[[Any], None] | None:
    if not guards:
        return None
    if len(guards) == 1:
        return guards[0]
    together = tuple(guards)

    def ask_all(subject: Any) -> None:
        for guard in together:
            guard(subject)

    return ask_all


def _around(policy: Policy, forward: Forward) -> Forward:
    call = policy.call
    if policy.is_filter:

        async def filtered(subject: Any) -> "Response":
            return await call(subject, forward)  # type: ignore[no-any-return]  # a filter returns a Response by contract

        return filtered

    async def guarded(subject: Any) -> "Response":
        call(subject)
        return await forward(subject)

    return guarded


def as_policy(name: str, stage: Stage, built: Callable[..., Any]) -> Policy:
    """Wrap what a policy's `build` returned; an async function is a filter, any other a guard."""
    return Policy(name, stage, built, is_filter=inspect.iscoroutinefunction(built))


EMPTY = Chain(())
