"""
Facts: past-tense records with their own time, the only thing that crosses between planes.

They are milestones: at most one an attempt and one an exchange, never one a chunk. Nobody changes a fact; mypy and a
tidy test see to that, because a frozen dataclass costs eight times as much to make as one with slots.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, final

from sidecar.model.dialogue import Dialogue

MOST_TEXT = 4096
"""Characters of both targets of a call that a record should hold."""


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
    STDIO = "stdio"


@dataclass(slots=True)
class Passage:
    """
    Who calls what, and by which way: all of a call that its request head decides.

    Calls with the same head on the same connection share one. `client` is the agent's address as `ip:port`; `host` and
    `port` name the destination; `path` is the target as the agent sent it, without scheme and authority, `target` as the
    upstream sees it, both with their query. `upstream` and `route` are "" for destinations that the config does not name.
    `trust` is the agent's score as its baggage says (0 to 1000), None where it says none.
    """

    listener: str
    client: str
    mode: Mode
    method: str
    scheme: str
    host: str
    port: int
    path: str
    target: str
    upstream: str
    route: str
    agent: str
    task: str
    purpose: Purpose
    trust: float | None = None
    blocks: dict[object, bytes] = field(default_factory=dict, compare=False, repr=False)
    """Bytes that others have derived from this passage, by a key of their own; they are few and live as long as it does."""
    counted: dict[int, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """Where calls of this passage are counted, by status, and by its complement (`~status`) for attempts."""
    is_long: bool = field(default=False, init=False, compare=False, repr=False)
    """Whether both targets together are longer than what a record that is kept should hold."""

    def __post_init__(self) -> None:
        self.is_long = len(self.path) + len(self.target) > MOST_TEXT


class OfPassage:
    """What a fact and an exchange know through their passage."""

    __slots__ = ()

    passage: Passage

    @property
    def listener(self) -> str:
        return self.passage.listener

    @property
    def client(self) -> str:
        return self.passage.client

    @property
    def mode(self) -> Mode:
        return self.passage.mode

    @property
    def method(self) -> str:
        return self.passage.method

    @property
    def scheme(self) -> str:
        return self.passage.scheme

    @property
    def host(self) -> str:
        return self.passage.host

    @property
    def port(self) -> int:
        return self.passage.port

    @property
    def upstream(self) -> str:
        return self.passage.upstream

    @property
    def route(self) -> str:
        return self.passage.route

    @property
    def agent(self) -> str:
        return self.passage.agent

    @property
    def task(self) -> str:
        return self.passage.task

    @property
    def purpose(self) -> Purpose:
        return self.passage.purpose

    @property
    def trust(self) -> float | None:
        return self.passage.trust


@final
@dataclass(slots=True)
class AttemptFinished(OfPassage):
    """
    One try at an upstream is over: its last byte has gone, or it failed, or it was cancelled.

    Times: `started_ns` and `ended_ns` since the epoch; `first_byte_s` and `connect_s` are seconds from the start (0.0
    where it never came to that; `connect_s` is 0.0 on a reused connection). `status` is 0 where no response head came.
    `error` is a key of `errors.CODES` or "". Ids are raw bytes (16 and 8). `address` is the peer's IP, `resends` how many
    tries came before; bytes count bodies (in tunnels: everything). `dialogue` is what was said, where a dialect could read it.
    """

    passage: Passage
    started_ns: int
    ended_ns: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    flags: int
    tracestate: bytes
    address: str
    status: int
    error: str
    sent_bytes: int
    received_bytes: int
    connect_s: float
    first_byte_s: float
    resends: int
    dialogue: Dialogue | None = None

    @property
    def path(self) -> str:
        """The target that the upstream saw, query and all."""
        return self.passage.target


@final
@dataclass(slots=True)
class ExchangeFinished(OfPassage):
    """
    One request of the agent and its response are over, as the agent saw them.

    `parent_id` is the agent's span or b"" where it sent none. `status` is what the agent got, 0 where it got nothing.
    `dialogue` is that of the attempt whose answer the agent saw. `link` is another context that came with the call (16 bytes
    trace id, 8 bytes span id), or b"": that of the HTTP head, where an MCP body names the parent. `policy` is the policy that
    refused, answered or changed it, "" where none did. Otherwise as in `AttemptFinished`.
    """

    passage: Passage
    started_ns: int
    ended_ns: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    flags: int
    tracestate: bytes
    status: int
    error: str
    request_bytes: int
    response_bytes: int
    first_byte_s: float
    attempts: int
    dialogue: Dialogue | None = None
    link: bytes = b""
    policy: str = ""

    @property
    def path(self) -> str:
        """The target as the agent sent it, without scheme and authority."""
        return self.passage.path


@dataclass(slots=True)
class CommandFinished:
    """
    A command that ran with a sidecar around it has ended, and with it the trace whose root it was.

    `command` is the first word of its command line, `name` the file name in it; `exit_code` is 128 + n where signal n ended
    it. Ids are raw bytes, as in `ExchangeFinished`; `agent` is who its calls are said to come from.
    """

    started_ns: int
    ended_ns: int
    trace_id: bytes
    span_id: bytes
    flags: int
    command: str
    name: str
    agent: str
    exit_code: int


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
