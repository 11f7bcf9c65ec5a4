"""
The policy chain of a route, compiled once.

A *guard* is a plain function: `(exchange) -> None` above the attempt, `(attempt) -> None` from there on; it raises
`Refused`, or takes something and leaves it with `holds`. A *filter* is `async (exchange, forward) -> response` (or with an
attempt): it may wait, repeat, or answer itself. Neighbouring guards become one loop; a route without filters starts no task.

A policy that fails in any other way than by `Refused` is logged where it stands, and heard of further out as
`Refused("policy_failed")`. Which policy refused or answered a call stands in `exchange.policy`.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Any, Protocol

from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange
from sidecar.traffic.response import Response

_log = logging.getLogger(__name__)

POLICY_TIMEOUT_S = 300.0
"""How long the filters of a route may think before they forward or answer, where the route does not say."""


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
Forward = Callable[[Any], Awaitable[Response]]
Filter = Callable[[Any, Forward], Awaitable[Response]]


class Attempts(Protocol):
    """Who makes, sends and ends the attempts of one exchange for a chain with filters."""

    def begin(self, exchange: Exchange) -> Attempt:
        """Make the next attempt; raises `Refused` where there may be none."""
        ...

    async def send(self, attempt: Attempt) -> Response:
        """Send an attempt and return its response as soon as its head has come; raises `Refused`."""
        ...

    def gave(self, attempt: Attempt, response: Response) -> None:
        """The policies at the attempt return this response, which need not be the attempt's own."""

    def failed(self, attempt: Attempt, fault: BaseException) -> bool:
        """The attempt came to nothing; True asks for one more in its place."""
        ...

    def saw(self, response: Response) -> None:
        """A filter returns this response."""


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
    `run` is the whole chain as one async function, and `admit` and `take` are None. `policy_timeout_s` bounds how long filters
    may think while nothing is asked of an upstream.
    """

    __slots__ = ("admit", "filters", "policies", "policy_timeout_s", "take")

    def __init__(self, policies: Sequence[Policy], *, policy_timeout_s: float = POLICY_TIMEOUT_S) -> None:
        self.policies = tuple(policies)
        self.policy_timeout_s = policy_timeout_s
        self.filters = any(policy.is_filter for policy in policies)
        above = [policy for policy in policies if not policy.stage.is_per_attempt]
        below = [policy for policy in policies if policy.stage.is_per_attempt]
        self.admit: ExchangeGuard | None = None if self.filters else _one(above)
        self.take: AttemptGuard | None = None if self.filters else _one(below)

    def run(self, attempts: Attempts) -> Forward:
        """Compose guards and filters around `attempts`; returns the outermost call."""
        below = [policy for policy in self.policies if policy.stage.is_per_attempt]
        inner: Forward = attempts.send
        for policy in reversed(below):
            inner = _around(policy, inner, attempts)

        async def attempt_it(exchange: Exchange) -> Response:
            while True:
                attempt = attempts.begin(exchange)
                try:
                    response = await inner(attempt)
                except BaseException as fault:
                    if not attempts.failed(attempt, fault):
                        raise
                else:
                    attempts.gave(attempt, response)
                    return response

        forward: Forward = attempt_it
        for policy in reversed(self.policies[: len(self.policies) - len(below)]):
            forward = _around(policy, forward, attempts)
        return forward


def ask(guard: Callable[[Any], None], subject: Exchange | Attempt) -> None:
    """Ask a guard; raises what it refuses with, or `Refused("policy_failed")` where it fails in any other way."""
    try:
        guard(subject)
    except Refused:
        raise
    except (Exception, asyncio.CancelledError):  # noqa: BLE001 - a policy may raise anything, and it is logged
        _log.exception("a policy of route %r failed", subject.passage.route)
        raise Refused("policy_failed") from None


def _one(policies: list[Policy]) -> Callable[[Any], None] | None:
    if not policies:
        return None
    if len(policies) == 1:
        (policy,) = policies
        guard, name = policy.call, policy.name

        def ask_it(subject: Any) -> None:
            try:
                guard(subject)
            except BaseException:
                _note(subject, name)
                raise

        return ask_it
    together = tuple((policy.call, policy.name) for policy in policies)

    def ask_all(subject: Any) -> None:
        name = ""
        try:
            for guard, name in together:  # noqa: B007 - who was asked when one refuses
                guard(subject)
        except BaseException:
            _note(subject, name)
            raise

    return ask_all


def _note(subject: Exchange | Attempt, policy: str) -> None:
    """This policy has decided what becomes of the call."""
    exchange = subject.exchange if isinstance(subject, Attempt) else subject
    exchange.policy = policy


def _around(policy: Policy, forward: Forward, attempts: Attempts) -> Forward:
    call = policy.call
    if policy.is_filter:

        async def filtered(subject: Any) -> Response:
            inner: Refused | None = None  # what is not the filter's own doing

            async def onward(within: Any) -> Response:
                nonlocal inner
                try:
                    return await forward(within)
                except Refused as refused:
                    inner = refused
                    raise

            try:
                response = await call(subject, onward)
                if not isinstance(response, Response):
                    raise TypeError(f"a filter has to return a Response, not {type(response).__name__}")
            except Refused as refused:
                if refused is not inner:
                    _note(subject, policy.name)
                raise
            except (Exception, asyncio.CancelledError) as fault:
                if isinstance(fault, asyncio.CancelledError) and _is_cancelled():
                    raise  # the call is over; otherwise something that the policy awaited was cancelled
                _log.exception("the policy %r failed", policy.name)
                _note(subject, policy.name)
                raise Refused("policy_failed", f"the policy {policy.name} failed") from None
            finally:
                inner = None  # with its traceback it would be a cycle for the garbage collector
            if not (subject.exchange if isinstance(subject, Attempt) else subject).attempts:
                _note(subject, policy.name)  # it has answered by itself
            attempts.saw(response)
            return response

        return filtered

    async def guarded(subject: Any) -> Response:
        try:
            ask(call, subject)
        except Refused:
            _note(subject, policy.name)
            raise
        return await forward(subject)

    return guarded


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def as_policy(name: str, stage: Stage, built: Callable[..., Any]) -> Policy:
    """Wrap what a policy's `build` returned; an async function, or an object called like one, is a filter, any other a guard."""
    is_async = inspect.iscoroutinefunction(built) or inspect.iscoroutinefunction(type(built).__call__)
    return Policy(name, stage, built, is_filter=is_async)


EMPTY = Chain(())
