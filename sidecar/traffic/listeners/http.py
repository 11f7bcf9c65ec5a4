"""
The port that agents talk to: forward proxy, CONNECT and gateway in one.

    http: {endpoint: 127.0.0.1:4140, max_connections: 4096}
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from sidecar.model.authority import read_endpoint
from sidecar.model.errors import Refused
from sidecar.model.exchange import Exchange
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.model.own_hosts import check_allowed, is_loopback
from sidecar.model.spec import Duration, Secret, Size, Spec
from sidecar.runtime.runtime import Health, Runtime, State
from sidecar.traffic.graph import Graph
from sidecar.traffic.identity import Doorkeeper, agent_of, task_of, trust_of
from sidecar.traffic.inspector import asks_for_card, certainly_asks_for_card, inspector_of
from sidecar.traffic.pages import pages_of
from sidecar.traffic.places import Places
from sidecar.traffic.upstreams.http import HttpUpstream
from sidecar.traffic.wire.call import Call
from sidecar.traffic.wire.guests import Guests
from sidecar.traffic.wire.handover import dial_other_side
from sidecar.traffic.wire.inbound import Inbound
from sidecar.traffic.wire.outbox import outbox_of
from sidecar.traffic.wire.reply import Signature
from sidecar.traffic.wire.request import Ready, counts_down
from sidecar.traffic.wire.request_head import RequestHead
from sidecar.traffic.wire.tunnel import Tunnel

_log = logging.getLogger(__name__)

_LOOK_S = 0.04
"""How often paused clients are looked at, so that one that hung up is found within 50 ms; every second time, everybody is."""
_BACKLOG = 1024
_COUNTED = frozenset((b"OPTIONS", b"TRACE"))
_READING = frozenset((b"GET", b"HEAD"))
"""Methods whose Max-Forwards an intermediary has to look at (RFC 9110 section 7.6.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where to listen, whom to let in, and what one connection may cost."""

    endpoint: str = "127.0.0.1:4140"
    """Address and port; port 0 takes a free one."""
    users: dict[str, Secret] = field(default_factory=dict)
    """Users and passwords for Proxy-Authorization; when set, everybody has to be one of them."""
    allow_unauthenticated: bool = False
    """Let anybody in on a non-loopback address; without it such an endpoint needs `users`."""
    allow_hosts: tuple[str, ...] = ()
    """Names in Host (and Origin) that gateway calls may have beside localhost; without any, they are judged on loopback only."""
    max_connections: int = 4096
    """Connections of agents at once."""
    max_header_bytes: Size = Size("64KiB")
    """Longest request head."""
    max_header_count: int = 128
    """Most header fields."""
    max_url_bytes: Size = Size("16KiB")
    """Longest request target."""
    max_body_bytes: Size | None = None
    """Longest request body; default: no bound."""
    max_pipelined_bytes: Size = Size("64KiB")
    """Requests that may wait behind the one that is being answered."""
    header_timeout: Duration = Duration("10s")
    """From the first byte of a request head to its last."""
    idle_timeout: Duration = Duration("5m")
    """Longest silence in the middle of a request body."""
    keep_alive_timeout: Duration = Duration("75s")
    """How long a connection without a request is kept."""
    tunnel_idle_timeout: Duration = Duration("1h")
    """Longest silence in a tunnel (CONNECT, WebSocket)."""

    def __post_init__(self) -> None:
        host, _port = read_endpoint(self.endpoint)
        check_allowed(self.allow_hosts)
        if not is_loopback(host) and not self.users and not self.allow_unauthenticated:
            raise ValueError(
                f"endpoint {self.endpoint} can be reached from elsewhere: set `users`, or `allow_unauthenticated: true`"
            )
        if self.max_connections < 1 or self.max_header_count < 1:
            raise ValueError("max_connections and max_header_count have to be 1 or more")


def _bound(host: str, port: int) -> socket.socket:
    """Bind an endpoint; `[::]` takes IPv4 as well, as people expect it, which asyncio alone would keep out."""
    is_v6 = ":" in host
    if host == "localhost":
        host = "127.0.0.1"
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=host == "::")


class HttpListener:
    """Accepts agents' connections and keeps what they share: graph, limits, date, counters, the tick."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self.name = name
        self.config = config
        self.runtime = runtime
        self.doorkeeper = Doorkeeper(config.users)
        self._pages = pages_of(read_endpoint(config.endpoint)[0], config.allow_hosts)
        self.max_header_bytes = int(config.max_header_bytes)
        self.max_header_count = config.max_header_count
        self.max_url_bytes = int(config.max_url_bytes)
        self.max_body_bytes = int(config.max_body_bytes or 0)
        self.max_pipelined_bytes = int(config.max_pipelined_bytes)
        self.header_timeout_s = float(config.header_timeout)
        self.idle_timeout_s = float(config.idle_timeout)
        self.keep_alive_timeout_s = float(config.keep_alive_timeout)
        self.tunnel_idle_timeout_s = float(config.tunnel_idle_timeout)
        self.is_draining = False
        self.outbox = outbox_of(runtime)
        self.graph: Graph
        self.now: Callable[[], float] = runtime.clock.monotonic
        self._pseudonym = b"agent-sre-%08x" % runtime.rng.getrandbits(32)
        self.signature = Signature(b"Via: 1.1 " + self._pseudonym, b"Via: 1.0 " + self._pseudonym, b"")
        self._dated_s = -1
        self._set_date()
        self._places = Places(config.max_connections)
        self._guests = Guests(self.now)
        self._connections, self._turned_away, self._tunnels = (
            self._guests.connections, self._guests.turned_away, self._guests.tunnels
        )  # fmt: skip
        self._work: dict[Call, asyncio.Task[None]] = {}
        self._retired: list[Graph] = []
        self._server: asyncio.Server | None = None
        self._handed: socket.socket | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._looks = 0
        self._endpoint: tuple[str, int] | None = None
        metrics = runtime.metrics
        self._accepted = metrics.counter("traffic.listeners.http.connections", "Connections that agents opened.", listener=name)
        help_text = "Connections above the bound that were closed before their client could read so."
        self._cut_short = metrics.counter("traffic.listeners.http.cut_short", help_text, listener=name)
        self._shown: list[Callable[[], None]] = []

    # life

    def serve(self, graph: Graph) -> None:
        """Send new exchanges through this graph; those in flight stay on theirs."""
        if hasattr(self, "graph") and self.graph is not graph:
            self._retired.append(self.graph)
        self.graph = graph

    def forget(self, graph: Graph) -> None:
        """Look after an old graph no more, because no exchange is on it any longer."""
        with contextlib.suppress(ValueError):
            self._retired.remove(graph)

    def limit_to(self, places: Places) -> None:
        """Serve no more clients than these from now on; those that are here stay."""
        self._places = places

    def hand_over(self) -> socket.socket | None:
        """Give the port, if it is one, to a successor and accept no more; connections that wait are its to accept."""
        sockets = self._server.sockets if self._server is not None else ()
        handed = socket.socket(fileno=os.dup(sockets[0].fileno())) if len(sockets) == 1 else None
        self.stop_accepting()
        return handed

    def take_over(self, handed: socket.socket | None) -> None:
        """Listen on what a predecessor has handed over, instead of binding the endpoint anew."""
        self._handed = handed

    async def start(self) -> None:
        """Bind and listen; raises OSError where the endpoint cannot be bound."""
        loop = asyncio.get_running_loop()
        handed, self._handed = self._handed, None
        sock = handed if handed is not None else _bound(*read_endpoint(self.config.endpoint))
        self._server = await loop.create_server(lambda: Inbound(self), sock=sock, backlog=_BACKLOG)
        address = self._server.sockets[0].getsockname()
        self._endpoint = (address[0], address[1])
        self._ticking = loop.call_later(_LOOK_S, self._tick)
        self._show()

    def _show(self) -> None:
        """Not before the start: what a reload builds and then does not take must not be seen."""
        show, name, tunnels = self.runtime.metrics.show, self.name, "Tunnels that are open."
        open_now = "traffic.listeners.http.open_connections"
        self._shown = [
            show(open_now, "Connections of agents.", lambda: len(self._connections), listener=name),
            show("traffic.listeners.http.tunnels", tunnels, lambda: len(self._tunnels), listener=name),
        ]

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where it listens; known after `start`."""
        assert self._endpoint is not None, "the listener has not been started"
        return self._endpoint

    @property
    def in_flight(self) -> int:
        """Exchanges and tunnels that are under way."""
        return self._guests.in_flight

    def exchanges(self) -> list[Exchange]:
        """The exchanges that are under way, tunnels included."""
        return self._guests.exchanges()

    def health(self) -> Health:
        """Ready between start and drain."""
        if self._server is None:
            return Health(State.STOPPED if self.is_draining else State.STARTING)
        return Health(State.STOPPED, "draining") if self.is_draining else Health(State.OK)

    def stop_accepting(self) -> None:
        """Close the port; connections that are open stay."""
        self.is_draining = True
        if self._server is not None:
            self._server.close()

    async def drain(self, seconds: float) -> int:
        """
        Wait until every exchange has ended and its bytes have gone, `seconds` at most; then cut the others, and return how many.

        Clients that have just connected have a moment to say what they want; it is answered, with `Connection: close`.
        """
        self.is_draining = True
        return await self._guests.drain(seconds)

    async def stop(self) -> None:
        """Stop listening and end whatever is open; the graph is not ours to close, because others serve it too."""
        self.stop_accepting()
        for end in self._shown:
            end()
        if self._handed is not None:
            self._handed.close()
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        self._guests.cut()
        for inbound in (*self._connections, *self._turned_away):
            inbound.transport.abort()
        for task in tuple(self._work.values()):
            task.cancel()
        await asyncio.gather(*self._work.values(), return_exceptions=True)
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(server.wait_closed(), 1.0)

    # for Inbound

    def opened(self, inbound: Inbound) -> None:
        """Take a new connection in, or answer that there are too many."""
        self._accepted.value += 1
        if self._guests.count < self._places.clients:
            self._connections.add(inbound)
            return
        refused = Refused("too_many_connections", f"{self._places.clients} connections are open", retry_after_s=1.0)
        has_room = len(self._turned_away) < self._places.turned_away
        if has_room:
            self._turned_away.add(inbound)
        else:
            self._cut_short.value += 1
        inbound.turn_away(refused, lingers=has_room)

    def closed(self, inbound: Inbound) -> None:
        """Forget a connection: it is closed, or a tunnel now."""
        self._connections.discard(inbound)
        self._turned_away.discard(inbound)

    def make_ready(self, request: RequestHead, client: str) -> Ready | None:
        """
        Find who calls and where the call goes; None for one that asks about the sidecar itself, and goes nowhere.

        Raises `Refused` for a stranger, a loop, and a destination that is unknown or closed.
        """
        user = self.doorkeeper.admit(request.proxy_authorization)
        if b"#" in request.target:
            raise Refused("bad_target", "the target has a fragment, which is no part of a request (RFC 9112 section 3.2)")
        if request.via and self.is_own_via(request.via):
            raise Refused("loop_detected", "the Via field names this sidecar")
        if self._pages is not None and request.target[:1] == b"/":
            self._pages.judge(request)
        graph = self.graph
        if request.target == b"*" or (request.method in _COUNTED and not counts_down(request)):
            return None
        way = graph.tunnel(request) if request.method == b"CONNECT" else graph.way(request)
        route = way.route
        passage = Passage(
            self.name,
            client,
            way.mode,
            request.method.decode("latin-1"),
            route.upstream.scheme,
            way.host,
            way.port,
            way.asked.decode("latin-1"),
            way.target.decode("latin-1"),
            route.upstream.name,
            route.name,
            agent_of(request, user, graph.agent),
            task_of(request, graph.task),
            Purpose.LIVE,
            trust_of(request.baggage),
        )
        signature = self.signature
        via_line = signature.via_line if request.is_1_1 else signature.via_line_1_0
        inspector = inspector_of(request, way, most_bytes=graph.inspect_body_bytes, pricer=graph.pricer, room=graph.room)
        is_card = way.mode is Mode.GATEWAY and request.method in _READING and asks_for_card(way.target)
        return Ready(
            request, way, passage, graph, via_line, takes_part=not graph.sampler.is_disabled, inspector=inspector,
            chain=route.card_chain() if is_card else route.chain,
            wants_whole=is_card and route.leads_cards and certainly_asks_for_card(way.target),
        )  # fmt: skip

    def nowhere(self, request: RequestHead, client: str) -> Passage:
        """The passage of a call that goes nowhere: it was refused, or asked about the sidecar itself."""
        mode = Mode.CONNECT if request.method == b"CONNECT" else Mode.GATEWAY if request.target[:1] == b"/" else Mode.FORWARD
        path = request.target.decode("latin-1")
        if mode is not Mode.GATEWAY:
            path = _without_user(path)
        agent, task = agent_of(request, "", self.graph.agent), task_of(request, self.graph.task)
        method = request.method.decode("latin-1")
        trust = trust_of(request.baggage)
        return Passage(self.name, client, mode, method, "http", "", 0, path, path, "", "", agent, task, Purpose.LIVE, trust)

    def is_own_via(self, via: tuple[bytes, ...]) -> bool:
        """True when a request has been here before."""
        return bool(via) and any(self._pseudonym in value for value in via)

    def count_refused(self, code: str) -> None:
        """Count an error of ours by its code."""
        help_text = "Calls that the sidecar answered with an error of its own."
        self.runtime.metrics.counter("traffic.refused", help_text, code=code).value += 1

    # tunnels

    def dial_tunnel(self, call: Call, upstream: HttpUpstream) -> None:
        """Connect to the destination of a CONNECT, in a task that ends with it or with the client."""
        self.own(call, self._dial_tunnel(call, upstream))

    async def _dial_tunnel(self, call: Call, upstream: HttpUpstream) -> None:
        try:
            sock, address = await dial_other_side(upstream)
        except Refused as refused:
            call.not_connected(refused)
            return
        tunnel = call.tunnel_reached(address)
        if tunnel is None:
            sock.close()
            return
        await tunnel.join(sock)

    def tunnel_opened(self, tunnel: Tunnel, exchange: Exchange) -> None:
        """Watch over a tunnel."""
        self._tunnels[tunnel] = exchange

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """Forget a tunnel."""
        self._guests.tunnel_closed(tunnel)

    # work that needs waiting

    def own(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        """Run what a call has to wait for, as a task that ends with the call."""
        task = asyncio.ensure_future(work)
        self._work[call] = task
        task.add_done_callback(lambda done: self._worked(call, done))

    def _worked(self, call: Call, task: "asyncio.Task[None]") -> None:
        if self._work.get(call) is task:
            del self._work[call]
        if not task.cancelled() and task.exception() is not None:
            _log.error("a call failed inside the sidecar", exc_info=task.exception())
            call.refuse(Refused("internal"))

    def cancel_work_of(self, call: Call) -> None:
        """End the task of a call that is over."""
        task = self._work.pop(call, None) if self._work else None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _set_date(self) -> None:
        second = self.runtime.clock.wall_ns() // 1_000_000_000
        if second != self._dated_s:
            self._dated_s = second
            self.signature.date = formatdate(second, usegmt=True).encode()

    def _tick(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(_LOOK_S, self._tick)
        self._set_date()
        self._looks += 1
        everybody: tuple[Inbound | Tunnel | Graph, ...]
        if self._looks % 2:
            everybody = tuple(inbound for inbound in self._connections if inbound.is_paused)
        else:
            everybody = (*self._connections, *self._turned_away, *self._tunnels, self.graph, *self._retired)
        now = self.now()
        for ticking in everybody:
            try:
                ticking.tick(now)
            except Exception:  # noqa: BLE001 - whatever it is, the deadlines of the others have to go on
                _log.exception("a deadline could not be looked at")


def build(name: str, config: Config, runtime: Runtime) -> HttpListener:
    """Make the listener; it binds when it starts."""
    return HttpListener(name, config, runtime)


def _without_user(target: str) -> str:
    """A target whose authority has no user information, which may be a password: it was refused for it, and is only told."""
    start = target.find("://") + 3 if "://" in target else 0
    end = min((at for at in (target.find(mark, start) for mark in "/?#") if at >= 0), default=len(target))
    return target[:start] + target[start:end].rpartition("@")[2] + target[end:]
