"""
Bound how long one attempt may keep silent, tighter or looser than its upstream says.

    timeout/chat: {first_byte: 30s, idle: 20s}
"""

from dataclasses import dataclass

from sidecar.model.exchange import Attempt
from sidecar.model.spec import Duration, Spec
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import AttemptGuard, Stage

STAGE = Stage.TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Deadlines of the calls of a route."""

    first_byte: Duration | None = None
    """From the last byte of the request to the first of the response; default: the upstream's `first_byte_timeout`."""
    idle: Duration | None = None
    """Longest silence in the middle of a response; default: the upstream's `idle_timeout`."""

    def __post_init__(self) -> None:
        if self.first_byte is None and self.idle is None:
            raise ValueError("set first_byte, idle, or both")


def build(name: str, config: Config, runtime: Runtime) -> AttemptGuard:
    """Make the guard; a deadline that is not set stays what a policy before it, or the upstream, says."""
    first_byte_s = float(config.first_byte or 0.0)
    idle_s = float(config.idle or 0.0)

    def timeout(attempt: Attempt) -> None:
        asked = attempt.exchange.asked
        if asked is not None and asked.is_standing:
            return  # it is silent on purpose, for as long as nothing happens
        if first_byte_s:
            attempt.first_byte_timeout_s = first_byte_s
        if idle_s:
            attempt.idle_timeout_s = idle_s

    return timeout
