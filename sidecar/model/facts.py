"""
Facts: past-tense records with their own time, the only thing that crosses between planes.

They are milestones: at most one an attempt and one an exchange, never one a chunk. Nobody changes a fact; mypy and a
tidy test see to that, because a frozen dataclass costs eight times as much to make as one with slots.
"""

from dataclasses import dataclass
from enum import StrEnum


class Purpose(StrEnum):
    """Why a call was made; each engine states which purposes it counts."""

    LIVE = "live"
    PROBE = "probe"
    SHADOW = "shadow"
    REPLAY = "replay"
    CHAOS = "chaos"


class Mode(StrEnum):
    """How a call came to the sidecar."""

    FORWARD = "forward"
    GATEWAY = "gateway"
    CONNECT = "connect"


@dataclass(slots=True)
class AttemptFinished:
    """
    One try at an upstream is over: its last byte has gone, or it failed, or it was cancelled.

    Times: `started_ns` and `ended_ns` since the epoch; `first_byte_s` and `connect_s` are seconds from the start (0.0
    where it never came to that; `connect_s` is 0.0 on a reused connection). `status` is 0 where no response head came.
    `error` is a key of `errors.CODES` or "". `path` is the target that the upstream saw, query and all. Ids are raw bytes
    (16 and 8). `address` is the peer's IP, `resends` how many tries came before.
    """

    started_ns: int
    ended_ns: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    flags: int
    tracestate: bytes
    method: str
    scheme: str
    host: str
    port: int
    path: str
    address: str
    upstream: str
    route: str
    agent: str
    task: str
    purpose: Purpose
    status: int
    error: str
    sent_bytes: int
    received_bytes: int
    connect_s: float
    first_byte_s: float
    resends: int


@dataclass(slots=True)
class ExchangeFinished:
    """
    One request of the agent and its response are over, as the agent saw them.

    `parent_id` is the agent's span or b"" where it sent none. `path` is the target as the agent sent it, without scheme
    and authority; `host` and `port` name the destination; bytes count bodies (in tunnels: everything). `status` is what
    the agent got, 0 where it got nothing. `client` is the agent's address as `ip:port`. Otherwise as in `AttemptFinished`.
    """

    started_ns: int
    ended_ns: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    flags: int
    tracestate: bytes
    mode: Mode
    method: str
    scheme: str
    host: str
    port: int
    path: str
    client: str
    listener: str
    upstream: str
    route: str
    agent: str
    task: str
    purpose: Purpose
    status: int
    error: str
    request_bytes: int
    response_bytes: int
    first_byte_s: float
    attempts: int


@dataclass(slots=True)
class ConfigReloaded:
    """A changed config took effect; `changes` are YAML paths with a word on what happened to each."""

    at_ns: int
    changes: tuple[str, ...]


@dataclass(slots=True)
class ConfigRefused:
    """A changed config was not good, and the last good one stays; `faults` says why."""

    at_ns: int
    faults: tuple[str, ...]


@dataclass(slots=True)
class OperationPerformed:
    """
    An operator asked for something, through admin, CLI or a signal.

    `verb` is the operation (`reload`, `stop_exchange`, `drain`), `target` what it was done to ("" where there is only one), `who`
    the operator as far as we can know, `why` the operator's own words. `outcome` is `done`, `refused` or `failed`, with
    `detail` for people.
    """

    at_ns: int
    verb: str
    target: str
    who: str
    why: str
    outcome: str
    detail: str
