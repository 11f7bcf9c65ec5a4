"""
Requests to one backend: each is tried until it is taken or refused, and what becomes of its items is counted.

As OTLP says (opentelemetry-proto, docs/specification.md): what may succeed later is tried again with growing pauses, what was
refused is not, and neither is the part that was rejected of a request that was taken.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from sidecar.runtime.complaints import Complaints
from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.retry import Backoff, RetrySpec
from sidecar.telemetry.signals import Signal

_log = logging.getLogger(__name__)


class Verdict(Enum):
    """What a backend made of a request."""

    TAKEN = auto()
    LATER = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How a request ended.

    `reason` is for people; `rejected` items were refused for good although the request was taken (partial success);
    `retry_after_s` is how long the backend wants to be left alone.
    """

    verdict: Verdict
    reason: str = ""
    rejected: int = 0
    retry_after_s: float | None = None


Send = Callable[[Signal, bytes], Awaitable[Outcome]]
"""Sends one serialized request; an exception counts as `LATER`."""


class ItemCounters:
    """What became of the items of one signal, under the Collector's names."""

    __slots__ = ("enqueue_failed", "rejected", "send_failed", "sent")

    def __init__(self, path: str, name: str, signal: Signal, runtime: Runtime) -> None:
        def counter(what: str, help_text: str) -> Counter:
            return runtime.metrics.counter(f"{path}.{what}_{signal.items}", help_text, exporter=name)

        self.sent = counter("sent", "Items that the backend took.")
        self.send_failed = counter("send_failed", "Items that were dropped because the backend refused them or stayed away.")
        self.enqueue_failed = counter("enqueue_failed", "Items that were dropped because the queue was full.")
        self.rejected = counter("rejected", "Items that the backend refused while it took the rest of their request.")


class Delivery:
    """
    Sends to one backend; `path` is the exporter's place in the metrics (`telemetry.exporters.otlp_http`), `name` its id.

    `timeout_s` bounds one try (None: `send` has its own bound).
    """

    def __init__(
        self, path: str, name: str, runtime: Runtime, send: Send, *, retry: RetrySpec, timeout_s: float | None
    ) -> None:
        self.counters = {signal: ItemCounters(path, name, signal, runtime) for signal in Signal}
        self.complaints = Complaints(f"exporters.{name}", runtime.clock, _log)
        self.failing = ""
        """Why and since when the backend does not take what it is sent; "" when all is well."""
        self._name = name
        self._runtime = runtime
        self._send = send
        self._retry = retry
        self._timeout_s = timeout_s
        self._since = ""
        self._stopping = asyncio.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether each request is tried only once more."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End all pauses, and try nothing twice from now on."""
        self._stopping.set()

    async def settle(self, signal: Signal, body: bytes, items: int) -> bool:
        """Try until the backend takes or refuses the request, or time is up; False where the end came first."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        backoff = Backoff(self._retry, self._runtime.rng)
        while True:
            outcome = await self._try(signal, body)
            if outcome.verdict is Verdict.TAKEN:
                self._taken(signal, items, outcome)
                return True
            self._degrade(outcome.reason)
            if outcome.verdict is Verdict.NEVER:
                self.drop(signal, items, "refused", outcome.reason)
                return True
            if self._stopping.is_set():
                return False
            wait_s = backoff.wait_s(loop.time() - started, outcome.retry_after_s)
            if wait_s is None:
                self.drop(signal, items, "given_up", f"given up: {outcome.reason}")
                return True
            self.complaints.log("failing", f"{outcome.reason}; trying again in {wait_s:.1f} s")
            await self._pause(wait_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _try(self, signal: Signal, body: bytes) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(signal, body)
        except TimeoutError:
            return Outcome(Verdict.LATER, f"no answer within {self._timeout_s} s")
        except Exception as error:  # noqa: BLE001 - whatever a client library raises, the backend was not reached
            return Outcome(Verdict.LATER, f"{type(error).__name__}: {error}")

    def _taken(self, signal: Signal, items: int, outcome: Outcome) -> None:
        rejected = min(outcome.rejected, items)
        self.counters[signal].sent.value += items - rejected
        self.counters[signal].rejected.value += rejected
        if rejected or outcome.reason:
            self.complaints.log("partial", f"the backend rejected {rejected} of {items} {signal.items}: {outcome.reason}")
        if self.failing:
            _log.info("exporters.%s: the backend takes data again", self._name)
            self.failing = ""
            self.complaints.clear("failing")

    def _degrade(self, reason: str) -> None:
        if not self.failing:
            self._since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._runtime.clock.wall_ns() // 10**9))
        self.failing = f"since {self._since}: {reason}"

    def drop(self, signal: Signal, items: int, kind: str, why: str) -> None:
        """Count these items as lost, and log why, unless the same kind of loss was logged a moment ago."""
        self.counters[signal].send_failed.value += items
        self.complaints.log(kind, f"{items} {signal.items} are dropped: {why}")
