"""When to try again: exponential backoff with jitter, as OTLP and the Collector have it, and what a backend asks for."""

import random
from dataclasses import dataclass

from sidecar.model.spec import Duration, Spec

LONGEST_WAIT_S = 3600.0
"""No backend can make us wait longer, even where retries never end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySpec(Spec):
    """What happens to a request that failed, but may succeed later."""

    enabled: bool = True
    """Without retries, what fails is dropped at once."""
    initial_interval: Duration = Duration("5s")
    """Wait after the first failure."""
    randomization_factor: float = 0.5
    """Share of the wait by which chance makes it shorter or longer."""
    multiplier: float = 1.5
    """How much longer each wait is than the one before."""
    max_interval: Duration = Duration("30s")
    """Longest wait that is chosen here; a backend may ask for a longer one."""
    max_elapsed_time: Duration = Duration("300s")
    """After this long the request is dropped; 0 is never."""

    def __post_init__(self) -> None:
        if not 0 <= self.randomization_factor <= 1:
            raise ValueError("randomization_factor has to lie between 0 and 1")
        if self.multiplier < 1:
            raise ValueError("multiplier has to be at least 1")
        if self.initial_interval <= 0 or self.max_interval <= 0:
            raise ValueError("intervals have to be more than 0")


class Backoff:
    """The waits between the tries of one request."""

    __slots__ = ("_interval_s", "_rng", "_spec")

    def __init__(self, spec: RetrySpec, rng: random.Random) -> None:
        self._spec = spec
        self._rng = rng
        self._interval_s = min(float(spec.initial_interval), spec.max_interval)

    def wait_s(self, elapsed_s: float, asked_s: float | None = None) -> float | None:
        """
        How long to wait after a failure, `elapsed_s` after the first try; None to give up.

        What the backend asked for (Retry-After, RetryInfo) counts where it is longer than what we would have waited.
        """
        spec = self._spec
        if not spec.enabled:
            return None
        spread = spec.randomization_factor
        chosen = self._interval_s * self._rng.uniform(1 - spread, 1 + spread)
        self._interval_s = min(self._interval_s * spec.multiplier, spec.max_interval)
        wait = max(chosen, asked_s or 0.0)
        if spec.max_elapsed_time and elapsed_s + wait > spec.max_elapsed_time:
            return None
        return min(wait, LONGEST_WAIT_S)
