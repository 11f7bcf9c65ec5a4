"""
The wire on a test stand: a listener, a graph with one route, and connections on both sides that have no sockets.

    stand = Stand(policies...)
    far = stand.connection()                    # an idle connection to the upstream
    near = stand.client()
    near.says(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert far.takes().startswith(b"GET /base/x HTTP/1.1\r\n")

Time stands still until `stand.passes(seconds)`.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from sidecar.model.clock import ManualClock
from sidecar.model.exchange import Outcome
from sidecar.model.facts import AttemptFinished, ExchangeFinished
from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import Policy, Stage, as_policy
from sidecar.traffic.graph import compile_graph
from sidecar.traffic.listeners.http import Config as ListenerConfig
from sidecar.traffic.listeners.http import HttpListener
from sidecar.traffic.spec import RouteSpec, TrafficSpec
from sidecar.traffic.upstreams.http import Config as UpstreamConfig
from sidecar.traffic.upstreams.http import HttpUpstream
from sidecar.traffic.wire.inbound import Inbound
from sidecar.traffic.wire.outbound import Outbound
from sidecar.traffic.wire.outbox import Outbox
from tests.traffic.wire.transport import FakeSocket, FakeTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


class Holds:
    """Keeps everything until the end."""

    def __init__(self) -> None:
        self.kept = b""

    def data(self, chunk: bytes) -> bytes:
        self.kept += chunk
        return b""

    def end(self, error: str) -> bytes:
        return self.kept


class AtTheEnd(Outbox):
    """An outbox that is always crowded, so that no clock decides when bytes are written: at the end of the turn, or by `takes`."""

    __slots__ = ()
    is_crowded = property(lambda self: True, lambda self, value: None)  # type: ignore[assignment]  # shadows a slot


class Stand:
    """Everything between two transports; `exchanges` and `attempts` are the facts, `refused` counts by code."""

    def __init__(
        self,
        *policies: Policy,
        listener: dict[str, Any] | None = None,
        upstream: dict[str, Any] | None = None,
        route: dict[str, Any] | None = None,
        traffic: dict[str, Any] | None = None,
    ) -> None:
        self.clock = ManualClock(monotonic=1_000.0)
        self.runtime = Runtime(clock=self.clock, rng=random.Random(7))
        self.runtime.services["traffic.outbox"] = AtTheEnd()
        self.exchanges: list[ExchangeFinished] = []
        self.attempts: list[AttemptFinished] = []
        self.runtime.bus.listen([ExchangeFinished], self.exchanges.append)
        self.runtime.bus.listen([AttemptFinished], self.attempts.append)
        self.listener = HttpListener("http", ListenerConfig(**{"allow_hosts": ("a",), **(listener or {})}), self.runtime)
        self.upstream = HttpUpstream(
            "http/llm", UpstreamConfig(url="http://llm.test:8000/base", **(upstream or {})), self.runtime
        )
        self.pool = self.upstream.pool
        self.dialled: list[asyncio.Future[Outbound]] = []
        self.pool._connect = self._connect  # type: ignore[method-assign]
        self._policies = policies
        self._route = route or {}
        self._traffic = traffic or {}
        self.serves()

    def serves(self) -> None:
        """Compile the graph (anew) and serve it."""
        route = RouteSpec(
            upstream="http/llm", path="/llm/", policies=tuple(policy.name for policy in self._policies), **self._route
        )
        policies = {policy.name: policy for policy in self._policies}
        spec = TrafficSpec(routes={"llm": route}, **self._traffic)
        self.listener.serve(compile_graph(spec, policies, {"http/llm": self.upstream}, self.runtime))

    async def _connect(self) -> Outbound:
        dialled: asyncio.Future[Outbound] = asyncio.get_running_loop().create_future()
        self.dialled.append(dialled)
        return await dialled

    def client(self) -> FakeTransport:
        """A new connection of an agent."""
        return FakeTransport(Inbound(self.listener))

    def connection(self) -> FakeTransport:
        """A connection to the upstream that is idle in the pool."""
        far = self._made()
        self.pool.release(far.protocol)
        return far

    async def connects(self) -> FakeTransport:
        """The oldest connection that is being made is there now."""
        await turns()
        far = self._made()
        self.dialled.pop(0).set_result(far.protocol)
        await turns()
        return far

    async def does_not_connect(self, fault: Exception) -> None:
        """The oldest connection that is being made fails."""
        await turns()
        self.dialled.pop(0).set_exception(fault)
        await turns()

    def _made(self) -> FakeTransport:
        sock = FakeSocket()
        outbound = Outbound(self.pool, sock, "192.0.2.7")  # type: ignore[arg-type]
        outbound.news = sock.poll
        far = FakeTransport(outbound)
        far.sock = sock
        self.pool._open.add(outbound)
        return far

    def passes(self, seconds: float) -> None:
        """Let time pass, and the listener look at its deadlines, before and after."""
        self.ticks()
        self.clock.advance(seconds)
        self.ticks()

    def ticks(self) -> None:
        """What the listener does every 40 ms."""
        now = self.listener.now()
        for inbound in tuple(self.listener._connections):
            inbound.tick(now)
        for tunnel in tuple(self.listener._tunnels):
            tunnel.tick(now)
        self.listener.graph.tick(now)

    @property
    def refused(self) -> dict[str, int]:
        """`traffic.refused` by its label `code`."""
        found: dict[str, int] = {}
        for family in self.runtime.metrics:
            if family.name == "traffic.refused":
                for labels, counter in family.series.items():
                    assert isinstance(counter, Counter)
                    found[dict(labels)["code"]] = counter.value
        return found

    @property
    def is_clean(self) -> bool:
        """Nothing is under way any more, and the pool has no connection that nobody has."""
        return not self.listener.in_flight and not self.listener._work and self.pool.open_count == self.pool.idle_count

    async def stops(self) -> None:
        """End what a test has left open."""
        await self.listener.stop()
        await self.pool.close()
        await turns()


class Held:
    """A permit that keeps what it was told, in a list that several may share."""

    def __init__(self, told: list[tuple[str, Outcome]], name: str) -> None:
        self._told = told
        self._name = name

    def settle(self, outcome: Outcome) -> None:
        self._told.append((self._name, outcome))


def guard(call: Callable[[Any], None], stage: Stage = Stage.LIMIT, name: str = "guard") -> Policy:
    """A guard; from `Stage.BUDGET` on it is asked for each attempt."""
    return as_policy(name, stage, call)


def filtering(call: Callable[..., Any], stage: Stage = Stage.RETRY, name: str = "filter") -> Policy:
    """A filter."""
    return as_policy(name, stage, call)


async def turns(count: int = 12) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


def request(
    method: bytes = b"GET", path: bytes = b"/llm/x", *fields: bytes, body: bytes | None = None, version: bytes = b"1.1"
) -> bytes:
    """A request: Host first, then `fields`; a `body` brings its Content-Length."""
    lines = [b"%b %b HTTP/%b" % (method, path, version), b"Host: a", *fields]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + (body or b"")


def error_of(answer: bytes) -> str:
    """The code of an answer that the sidecar made itself."""
    assert b"\r\nx-sidecar-error: " in answer, answer
    return answer.split(b"\r\nx-sidecar-error: ")[1].split(b"\r\n")[0].decode()


def status_of(answer: bytes) -> int:
    """The status of a response."""
    return int(answer[9:12])
