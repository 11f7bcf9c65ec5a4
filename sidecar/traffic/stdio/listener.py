"""
The listener of `sidecar mcp`: it has no port, but a client's pipes, and makes exchanges of what comes there as any other does.

It is no type for configs: the command puts it in the place of the listeners that a config names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sidecar.dialects.mcp.questions import McpCall
from sidecar.model.exchange import Exchange
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.model.spec import Spec
from sidecar.runtime.runtime import Health, Runtime, State
from sidecar.traffic.chain import EMPTY, Chain
from sidecar.traffic.graph import Graph
from sidecar.traffic.identity import trust_of
from sidecar.traffic.meter import begin_exchange, join_trace
from sidecar.traffic.places import Places
from sidecar.traffic.router import Route
from sidecar.traffic.spec import RouteSpec
from sidecar.traffic.stdio.relay import Relay
from sidecar.traffic.upstreams.stdio import SCHEME
from sidecar.traffic.wire.request_head import RequestHead

if TYPE_CHECKING:
    from sidecar.traffic.wire.listener import Listener

MOST_PASSAGES = 256
"""Pairs of method and target whose calls share what is known of them."""

SERVICE = "traffic.stdio"
"""The name of the listener among the runtime's services."""

_BY_NAME = {"tools/call", "prompts/get"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Which server this is."""

    server: str
    """Its name: that of the upstream `stdio/NAME`, whose route it takes."""


class StdioListener:
    """One client and one server; `chain` is what the route of the server's name asks of each call."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self.name = name
        self.runtime = runtime
        self.server = config.server
        self.graph: Graph
        self.chain: Chain = EMPTY
        self.writes_context = False
        self.collects_content = False
        self.is_draining = False
        self.now = runtime.clock.monotonic
        self.endpoint = ("stdio", 0)
        self._route: Route | None = None
        self._relay: Relay | None = None
        self._passages: dict[tuple[str, str, float | None], Passage] = {}
        ambient = runtime.environ.get("TRACEPARENT", "").encode("ascii", "replace")
        self._ambient = ((ambient,), (runtime.environ.get("TRACESTATE", "").encode("ascii", "replace"),)) if ambient else ((), ())
        unread = "Lines that were too long, or no JSON-RPC, and passed unread."
        self._unread = runtime.metrics.counter("traffic.stdio.unread", unread)
        runtime.services[SERVICE] = self

    def relay(self, to_client: Callable[[bytes], None], to_server: Callable[[bytes], None]) -> Relay:
        """Begin the one session that there is."""
        self._relay = Relay(self, to_client, to_server)
        return self._relay

    # what the relay asks

    def begin(self, asked: McpCall) -> Exchange:
        """Begin the exchange of a call: its parent is what its `_meta` says, else the trace that our environment is in."""
        head = RequestHead()
        named = asked.target if asked.operation in _BY_NAME else ""
        head.lines = [f"{asked.operation} {named or '-'} MCP".encode("utf-8", "replace")]
        head.length = -1
        head.traceparents, head.tracestates = self._ambient
        head.baggage = (asked.baggage,) if asked.baggage else ()
        listener = cast("Listener", self)  # of which only runtime and graph are asked
        passage = self._passage(asked.operation, named, trust_of(head.baggage))
        exchange = begin_exchange(listener, passage, head)
        if asked.traceparent:
            join_trace(listener, exchange, asked.traceparent, asked.tracestate)
        return exchange

    def _passage(self, method: str, named: str, trust: float | None) -> Passage:
        passage = self._passages.get((method, named, trust))
        if passage is None:
            if len(self._passages) >= MOST_PASSAGES:
                self._passages.clear()
            route = self._route
            passage = self._passages[method, named, trust] = Passage(
                listener=self.name, client="", mode=Mode.STDIO, method=method, scheme=SCHEME, host=self.server, port=0,
                path=named, target=named, upstream=route.upstream.name if route is not None else "",
                route=route.name if route is not None else "", agent=self.graph.agent, task=self.graph.task, purpose=Purpose.LIVE,
                trust=trust,
            )  # fmt: skip
        return passage

    def count_unread(self) -> None:
        """Count a line that nobody could read."""
        self._unread.value += 1

    def count_refused(self, code: str) -> None:
        """Count an error of ours."""
        self.runtime.metrics.counter("traffic.stdio.refused", "Calls that got an error of the sidecar's.", code=code).value += 1

    # what the plane asks

    def serve(self, graph: Graph) -> None:
        """Send new exchanges through this graph."""
        self.graph = graph
        route = self._route = graph.router.by_destination(SCHEME, self.server.lower(), 0, b"/")
        self.chain = route.chain if route is not None else EMPTY
        spec = route.spec if route is not None else RouteSpec(upstream="")  # as for a call over HTTP that no route names
        self.writes_context = spec.trace_in_meta and not graph.sampler.is_disabled
        self.collects_content = bool(spec.content)
        self._passages.clear()

    def forget(self, graph: Graph) -> None:
        """An exchange holds nothing of its graph."""

    def limit_to(self, places: Places) -> None:
        """There is one client, and it is here."""

    def hand_over(self) -> None:
        """There is no port."""

    def take_over(self, handed: None) -> None:
        """There is no port."""

    async def start(self) -> None:
        """The pipes are there already."""

    def stop_accepting(self) -> None:
        """Refuse requests from now on; what is under way may end."""
        self.is_draining = True

    async def drain(self, seconds: float) -> int:
        """End what is under way: when this is asked, the client or the server has gone."""
        left = len(self.exchanges())
        await self.stop()
        return left

    def exchanges(self) -> list[Exchange]:
        """Those in flight."""
        return [call.exchange for call in self._relay.calls.values()] if self._relay is not None else []

    async def stop(self) -> None:
        """Tell of the end of whatever is still under way."""
        if self._relay is not None:
            self._relay.client_is_gone()

    def health(self) -> Health:
        """It cannot fail by itself."""
        return Health(State.STOPPED, "draining") if self.is_draining else Health(State.OK)


def build(name: str, config: Config, runtime: Runtime) -> StdioListener:
    """Make the listener, and leave it where the command finds it."""
    return StdioListener(name, config, runtime)
