"""
The port that agents call gRPC services through: any method of any service that a route leads to.

    grpc: {endpoint: 127.0.0.1:4143, max_message_bytes: 16MiB}
"""

import asyncio
import contextlib
import importlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

from sidecar.model.authority import authority, read_endpoint
from sidecar.model.errors import Refused
from sidecar.model.exchange import Exchange
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.model.own_hosts import is_loopback
from sidecar.model.spec import Duration, Secret, Size, Spec
from sidecar.runtime.runtime import Health, Runtime, State
from sidecar.traffic.graph import Graph
from sidecar.traffic.grpc.call import GrpcCall
from sidecar.traffic.grpc.connection import MOST_READ_BYTES
from sidecar.traffic.grpc.metadata import CallHead, hide_values
from sidecar.traffic.grpc.port import free
from sidecar.traffic.grpc.reading import operation_of
from sidecar.traffic.grpc.services import Services, check
from sidecar.traffic.grpc.trust import ServerTlsSpec, server_credentials
from sidecar.traffic.identity import Doorkeeper, agent_of, task_of, trust_of
from sidecar.traffic.places import Places
from sidecar.traffic.room import Room
from sidecar.traffic.router import Route

_log = logging.getLogger(__name__)

_LOOK_S = 0.1
"""How often the deadlines of calls are looked at."""
_WATCH_S = 0.2
"""How often it is looked whether the library still listens."""
_AGAIN_S = 1.0
"""After how long to try again to listen, where the port has been taken meanwhile."""
_NEVER_S = 24 * 3600.0
_LAST_S = 5.0
_MOST_HELD_BYTES = 256 * 1024 * 1024
"""Most that the messages which wait to be taken may come to, of all calls together."""
_MOST_WAYS = 1024
"""Ways that are remembered: who calls what from where; when there are more, all are found anew."""
_LONGEST_WAY = 512
_LONGEST_KEY = 80
_LEAST_PING_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where to listen, whom to let in, and what one call may cost."""

    endpoint: str = "127.0.0.1:4143"
    """Address and port; port 0 takes a free one."""
    tls: ServerTlsSpec = field(default_factory=ServerTlsSpec)
    """TLS towards agents; default: none (h2c)."""
    users: dict[str, Secret] = field(default_factory=dict)
    """Users and passwords for the metadata `proxy-authorization`; when set, everybody has to be one of them."""
    allow_unauthenticated: bool = False
    """Let anybody in on a non-loopback address; without it such an endpoint needs `users` or `tls.client_ca_file`."""
    routes: tuple[str, ...] = ()
    """Names of the routes that it serves; default: all that lead to an upstream of the type grpc."""
    max_connections: int = 1024
    """Connections of agents at once."""
    max_calls: int = 4096
    """Calls at once."""
    max_message_bytes: Size = Size("16MiB")
    """Longest message of a request."""
    max_metadata_bytes: Size = Size("64KiB")
    """Most metadata of a request."""
    idle_timeout: Duration = Duration("5m")
    """How long a client may take nothing of what waits for it."""
    keep_alive: Duration = Duration("1m")
    """How often a silent connection is asked for a sign of life."""
    keep_alive_timeout: Duration = Duration("20s")
    """How long the sign of life may take."""

    def __post_init__(self) -> None:
        host, _port = read_endpoint(self.endpoint)
        is_open = not self.users and not self.allow_unauthenticated and not self.tls.client_ca_file
        if not is_loopback(host) and is_open:
            raise ValueError(
                f"endpoint {self.endpoint} can be reached from elsewhere: set `users`, `tls.client_ca_file`,"
                " or `allow_unauthenticated: true`"
            )
        if self.max_connections < 1 or self.max_calls < 1:
            raise ValueError("max_connections and max_calls have to be 1 or more")


class Way(NamedTuple):
    """Where a call goes; `operation` is that of A2A, "" where its messages are not read."""

    route: Route
    passage: Passage
    operation: str


class GrpcListener:
    """Accepts agents' calls and keeps what they share: graph, limits, counters, the tick."""

    needs_library = True
    """It imports a library when it starts, so others listen before it."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self.name = name
        self.config = config
        self.runtime = runtime
        self.doorkeeper = Doorkeeper(config.users)
        self.idle_timeout_s = float(config.idle_timeout)
        self.is_draining = False
        self.graph: Graph
        self.now: Callable[[], float] = runtime.clock.monotonic
        self._pseudonym = f"agent-sre-{runtime.rng.getrandbits(32):08x}"
        self.via = f"2.0 {self._pseudonym}"
        self.eof: Any = None
        self.rpc_error: Any = None
        self.broken: Any = None
        self.codes: list[Any] = []
        self._services = Services(())
        self._ways: dict[tuple[str, str, str, str, float | None, str], Way] = {}
        self._calls: set[GrpcCall] = set()
        self._ended = asyncio.Event()
        self._given_up: dict[asyncio.Task[None], Any] = {}
        self._shares_port = False
        self.room = Room(max(_MOST_HELD_BYTES, 2 * int(config.max_message_bytes)))
        self._places = Places(config.max_connections)
        self._server: Any = None
        self._closing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._endpoint: tuple[str, int] | None = None
        self._shown: list[Callable[[], None]] = []

    # life

    def judge(self, graph: Graph) -> None:
        """Raise ValueError where this graph asks for what gRPC does not have."""
        check(graph.router.routes, self.config.routes)

    def serve(self, graph: Graph) -> None:
        """Send new exchanges through this graph; those in flight stay on theirs."""
        self.graph = graph
        self._services = Services(graph.router.routes, self.config.routes)
        self._ways.clear()

    def forget(self, graph: Graph) -> None:
        """Nothing is kept of an old graph but by the calls on it."""

    def limit_to(self, places: Places) -> None:
        """Accept no more clients than these; the library takes such a bound when it starts to listen."""
        self._places = places

    def hand_over(self) -> socket.socket | None:
        """Let go of the port: the library cannot listen on a socket of somebody else's, so a successor has to bind it anew."""
        self.stop_accepting()
        return None

    def take_over(self, handed: socket.socket | None) -> None:
        """Bind the endpoint at once, even while the predecessor is still leaving it."""
        self._shares_port = True
        if handed is not None:
            handed.close()

    async def start(self) -> None:
        """Load the library, in a thread, bind and listen; raises OSError where the endpoint cannot be bound."""
        grpc = await asyncio.to_thread(importlib.import_module, "grpc")
        aio = await asyncio.to_thread(importlib.import_module, "grpc.aio")
        self.eof, self.rpc_error, self.broken = aio.EOF, aio.AioRpcError, aio.InternalError
        self.codes = sorted(grpc.StatusCode, key=lambda code: code.value[0])  # their numbers alone would lose the last one
        hide_values()
        host, port = read_endpoint(self.config.endpoint)
        await self._listen(grpc, aio, "127.0.0.1" if host == "localhost" else host, port)
        self._ticking = asyncio.get_running_loop().call_later(_LOOK_S, self._tick)
        self._watching = asyncio.create_task(self._watch(grpc, aio), name=f"watch over {self.name}")
        self._show()

    async def _listen(self, grpc: Any, aio: Any, host: str, port: int) -> None:
        credentials = await asyncio.to_thread(server_credentials, grpc, self.config.tls) if self.config.tls.cert_file else None
        if not self._shares_port:
            await free(host, port)
        self._shares_port = False
        server = aio.server(options=self._options())
        server.add_generic_rpc_handlers([_Handlers(grpc, self)])
        address = authority(host, port)
        try:
            bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
        except RuntimeError as error:
            await server.stop(None)
            raise OSError(0, f"{error}") from None
        await server.start()
        self._server, self._endpoint = server, (host, bound)

    async def _watch(self, grpc: Any, aio: Any) -> None:
        """
        Listen again where the library has given up.

        A call whose path is no UTF-8 makes it do so (grpcio 1.85, `_server_main_loop`). Calls that are under way go on; but no
        client may take the port from all others.
        """
        while not self.is_draining:
            server = self._server
            try:
                await server.wait_for_termination(_WATCH_S)  # raises what has ended it, but not before this time is over
            except Exception as fault:  # noqa: BLE001 - whatever has come out of the library's loop
                _log.error("%s: gRPC's library takes no more calls (%s); listening again", self.name, fault)
                leaving = asyncio.create_task(server.stop(_NEVER_S), name=f"{self.name} leaves a server")
                self._given_up[leaving] = server
                leaving.add_done_callback(self._given_up.pop)
            while server in self._given_up.values() and self._server is server and not self.is_draining:
                await self._listen_again(grpc, aio)

    async def _listen_again(self, grpc: Any, aio: Any) -> None:
        self._shares_port = True  # it may be a moment before the other one has left it
        try:
            await self._listen(grpc, aio, *self.endpoint)
        except OSError as error:
            _log.error("%s: cannot listen again yet: %s", self.name, error)
            await asyncio.sleep(_AGAIN_S)

    def _options(self) -> list[tuple[str, int]]:
        config = self.config
        return [
            ("grpc.so_reuseport", 1),  # with a predecessor; that nobody else has it is looked at before
            ("grpc.max_receive_message_length", int(config.max_message_bytes)),
            ("grpc.max_send_message_length", -1),  # the upstream's bound has judged it
            ("grpc.max_metadata_size", int(config.max_metadata_bytes)),
            ("grpc.absolute_max_metadata_size", int(config.max_metadata_bytes)),
            ("grpc.max_concurrent_streams", config.max_calls),
            ("grpc.max_allowed_incoming_connections", self._places.clients),
            ("grpc.keepalive_time_ms", int(float(config.keep_alive) * 1000)),
            ("grpc.keepalive_timeout_ms", int(float(config.keep_alive_timeout) * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.experimental.tcp_max_read_chunk_size", MOST_READ_BYTES),
            ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_MS),  # agents may ask us as often as they like
            ("grpc.http2.max_ping_strikes", 0),
        ]

    def _show(self) -> None:
        """Not before the start: what a reload builds and then does not take must not be seen."""
        show, name = self.runtime.metrics.show, self.name
        self._shown = [show("traffic.listeners.grpc.calls", "Calls under way.", lambda: len(self._calls), listener=name)]

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where it listens; known after `start`."""
        assert self._endpoint is not None, "the listener has not been started"
        return self._endpoint

    @property
    def in_flight(self) -> int:
        """Exchanges that are under way."""
        return len(self._calls)

    def exchanges(self) -> list[Exchange]:
        """The exchanges that are under way."""
        return [call.exchange for call in self._calls]

    def health(self) -> Health:
        """Ready between start and drain."""
        if self.is_draining:
            return Health(State.STOPPED, "draining" if self._server is not None else "")
        return Health(State.OK if self._server is not None else State.STARTING)

    def stop_accepting(self) -> None:
        """Close the port and send GOAWAY: calls that are under way go on, and clients make no further ones here."""
        self.is_draining = True
        if self._server is not None and self._closing is None:
            self._closing = asyncio.create_task(self._server.stop(_NEVER_S), name=f"{self.name} drains")

    async def drain(self, seconds: float) -> int:
        """Wait until every call has ended, `seconds` at most; then cut the others, and return how many."""
        self.stop_accepting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_ended()
        cut = len(self._calls)
        await self._cut()
        if self._closing is not None:
            await asyncio.wait((self._closing,), timeout=_LAST_S)
        return cut

    async def _all_ended(self) -> None:
        while self._calls:
            self._ended.clear()
            await self._ended.wait()

    async def _cut(self) -> None:
        """End every call with an error of ours."""
        for call in tuple(self._calls):
            call.cut(Refused("draining"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await self._all_ended()

    async def stop(self) -> None:
        """Stop listening and end whatever is open; the graph is not ours to close, because others serve it too."""
        self.is_draining = True
        for end in self._shown:
            end()
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        await self._cut()
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
        server, self._server = self._server, None
        for each in (server, *self._given_up.values()):
            if each is not None:
                await each.stop(None)

    # for calls

    async def take(self, path: str, _requests: object, context: Any) -> None:
        """Pass one call on; what the library calls, in a task of its own."""
        await GrpcCall(self, path, context).run()

    def opened(self, call: GrpcCall) -> None:
        """Watch over a call; raises `Refused` where there are too many."""
        self._calls.add(call)
        if len(self._calls) > self.config.max_calls:
            raise Refused("too_many_connections", f"{self.config.max_calls} calls are under way", retry_after_s=1.0)

    def closed(self, call: GrpcCall) -> None:
        """Forget a call."""
        self._calls.discard(call)
        if not self._calls:
            self._ended.set()

    def way(self, head: CallHead, path: str, peer: str) -> Way:
        """Find who calls and where the call goes; raises `Refused` for a stranger, a loop, and an unknown destination."""
        user = self.doorkeeper.admit(head.proxy_authorization)
        if head.unwritable:
            raise Refused("bad_header", f"the value of {head.unwritable[:_LONGEST_KEY]} is not printable ASCII")
        if head.via and any(self._pseudonym.encode() in value for value in head.via):
            raise Refused("loop_detected", "the metadata `via` names this sidecar")
        agent, task = agent_of(head, user, self.graph.agent), task_of(head, self.graph.task)
        trust = trust_of(head.baggage)
        key = (path, peer, agent, task, trust, head.destination)
        way = self._ways.get(key)
        if way is None:
            way = self._find(head, path, peer, agent, task, trust)
            if len(self._ways) >= _MOST_WAYS:
                self._ways.clear()
            if len(path) + len(head.destination) <= _LONGEST_WAY:
                self._ways[key] = way
        return way

    def _find(self, head: CallHead, path: str, peer: str, agent: str, task: str, trust: float | None) -> Way:
        route = self._services.route(path, head.destination)
        upstream, method = route.upstream, head.target.decode("latin-1")
        passage = Passage(
            self.name, client_of(peer), Mode.GATEWAY, "POST", upstream.scheme, upstream.host, upstream.port, method, method,
            upstream.name, route.name, agent, task, Purpose.LIVE, trust,
        )  # fmt: skip
        return Way(route, passage, operation_of(path) if getattr(upstream, "reads_a2a", False) else "")

    def nowhere(self, head: CallHead, peer: str) -> Passage:
        """The passage of a call that goes nowhere, because it was refused."""
        method, scheme = head.target.decode("latin-1"), "https" if self.config.tls.cert_file else "http"
        agent, task = agent_of(head, "", self.graph.agent), task_of(head, self.graph.task)
        client = client_of(peer)
        return Passage(
            self.name, client, Mode.GATEWAY, "POST", scheme, "", 0, method, method, "", "", agent, task, Purpose.LIVE,
            trust_of(head.baggage),
        )  # fmt: skip

    def count_refused(self, code: str) -> None:
        """Count an error of ours by its code."""
        help_text = "Calls that the sidecar answered with an error of its own."
        self.runtime.metrics.counter("traffic.refused", help_text, code=code).value += 1

    def _tick(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(_LOOK_S, self._tick)
        now = self.now()
        for call in tuple(self._calls):
            call.tick(now)


class _Handlers:
    """What the library asks for the handler of a method: it has one for every method, of all four kinds, and no serializer."""

    def __init__(self, grpc: Any, listener: GrpcListener) -> None:
        self._of = grpc.stream_stream_rpc_method_handler
        self._listener = listener

    def service(self, details: Any) -> Any:
        """grpc.GenericRpcHandler."""
        return self._of(partial(self._listener.take, details.method))


def client_of(peer: str) -> str:
    """The address of a client as `ip:port`, of what the library calls `ipv4:ip:port` or `ipv6:[ip]:port`."""
    return unquote(peer.partition(":")[2])


def build(name: str, config: Config, runtime: Runtime) -> GrpcListener:
    """Make the listener; it binds when it starts."""
    return GrpcListener(name, config, runtime)
