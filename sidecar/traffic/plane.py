"""
The data plane as a whole: upstreams, policies, the graph of them, and the listeners that serve it.

It is started, changed and stopped as one. A change either happens altogether or not at all: what can fail comes first, the
swap of the graph is one loop turn, and what is not needed any more ends when the exchanges that use it have ended.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sidecar.model.errors import ConfigInvalid
from sidecar.model.exchange import Exchange, Outcome
from sidecar.runtime.components import Declared
from sidecar.runtime.descriptors import most_descriptors
from sidecar.runtime.runtime import HasHealth, Health, Runtime, Starts, Stops
from sidecar.traffic.chain import Policy, as_policy
from sidecar.traffic.graph import Graph, compile_graph
from sidecar.traffic.places import descriptors_needed, share_out
from sidecar.traffic.spec import TrafficSpec

_log = logging.getLogger(__name__)

Part = Mapping[str, Declared]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What one config says about traffic: its spec, and the components that are used, by id."""

    spec: TrafficSpec
    listeners: Part
    policies: Part
    upstreams: Part

    @property
    def descriptors(self) -> int:
        """File descriptors that all of it may need at once."""
        return descriptors_needed(*_bounds(self))


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    """A component as it stands, beside what it was built from."""

    declared: Declared
    thing: Any


@runtime_checkable
class _Judges(Protocol):
    """A listener that cannot serve every graph."""

    def judge(self, graph: Graph) -> None:
        """Raise ValueError where it cannot serve this one."""


class TrafficPlane:
    """Listeners, policies and upstreams of one sidecar. Nothing listens before `start`."""

    def __init__(self, runtime: Runtime, blueprint: Blueprint) -> None:
        self._runtime = runtime
        self._blueprint = blueprint
        self._listeners: dict[str, _Built] = {}
        self._policies: dict[str, _Built] = {}
        self._upstreams: dict[str, _Built] = {}
        self._graph: Graph | None = None
        self._old_graphs: list[Graph] = []
        self._leaving: list[_Built] = []
        self._farewells: set[asyncio.Task[None]] = set()

    # life

    async def start(self) -> None:
        """Build everything and listen; raises ConfigInvalid, and then nothing listens."""
        try:
            self._upstreams = self._build(self._blueprint.upstreams, {})
            self._policies = self._build(self._blueprint.policies, {})
            self._graph = self._compile(self._blueprint, self._policies, self._upstreams)
            listeners = self._build(self._blueprint.listeners, {})
            _share_out(listeners, self._blueprint)
            await _start([*self._upstreams.values(), *self._policies.values()])
            self._show_routes()
            _judge(self._graph, listeners)
            for name, built in sorted(listeners.items(), key=_needs_library):
                self._leaving.append(built)  # so that it is stopped where it cannot listen
                await self._listen(built)
                self._leaving.remove(built)
                self._listeners[name] = built
            self._listeners = listeners  # in the order of the config
        except BaseException:
            await self.stop()
            raise

    async def change(self, blueprint: Blueprint) -> None:
        """Take on another config; raises ConfigInvalid, and then everything is as it was."""
        assert self._graph is not None, "a plane is started before it is changed"
        same_way = blueprint.spec.proxy == self._blueprint.spec.proxy  # else what an upstream's connections lead to may change
        upstreams = self._build(blueprint.upstreams, self._upstreams if same_way else {})
        listeners = self._build(blueprint.listeners, self._listeners)
        made = _only_in(upstreams, self._upstreams)
        try:
            await _start(made)
            await self._open(_only_in(listeners, self._listeners), _only_in(self._listeners, listeners), made)
            policies = self._build(blueprint.policies, self._policies)
            made += _only_in(policies, self._policies)
            await _start(_only_in(policies, self._policies))
            graph = self._compile(blueprint, policies, upstreams)
            _judge(graph, listeners)
        except BaseException:
            await self._undo(made)
            raise
        in_flight = self.exchanges()
        leaving = _only_in(self._listeners, listeners) + _only_in(self._policies, policies) + _only_in(self._upstreams, upstreams)
        self._blueprint, self._listeners, self._policies, self._upstreams = blueprint, listeners, policies, upstreams
        _share_out(listeners, blueprint)
        self._swap(graph, leaving, in_flight)

    def stop_accepting(self) -> None:
        """Close the ports; connections that are open stay."""
        for listener in self._every_listener():
            listener.stop_accepting()

    async def drain(self, seconds: float) -> int:
        """Let the exchanges in flight end, for at most `seconds`; returns how many had to be cut."""
        return sum(await asyncio.gather(*(listener.drain(seconds) for listener in self._every_listener())))

    async def stop(self) -> None:
        """End everything; harmless when called twice or without a start."""
        farewells = tuple(self._farewells)
        for farewell in farewells:
            farewell.cancel()
        await asyncio.gather(*farewells, return_exceptions=True)
        await _stop([*self._listeners.values(), *self._leaving, *self._policies.values(), *self._upstreams.values()])
        self._leaving = []
        for graph in (*self._old_graphs, *([self._graph] if self._graph is not None else [])):
            await graph.close()
        self._old_graphs = []

    # what others may know

    @property
    def endpoints(self) -> dict[str, tuple[str, int]]:
        """Where each listener listens, by its YAML path; known after `start`."""
        return {built.declared.path: built.thing.endpoint for built in self._listeners.values()}

    def exchanges(self) -> list[Exchange]:
        """The exchanges that are under way, on old graphs too."""
        return [exchange for listener in self._every_listener() for exchange in listener.exchanges()]

    def health(self) -> dict[str, Health]:
        """How each component is, by its YAML path."""
        parts = [*self._listeners.values(), *self._policies.values(), *self._upstreams.values()]
        return {built.declared.path: built.thing.health() for built in parts if isinstance(built.thing, HasHealth)}

    def _every_listener(self) -> list[Any]:
        leaving = [built.thing for built in self._leaving if built.declared.kind.section == "traffic.listeners"]
        return [*(built.thing for built in self._listeners.values()), *leaving]

    # steps

    def _build(self, wanted: Part, standing: Mapping[str, _Built]) -> dict[str, _Built]:
        """Build what is new or has changed, and keep what has not."""
        built = {}
        for name, declared in wanted.items():
            old = standing.get(name)
            is_same = old is not None and old.declared == declared
            built[name] = old if old is not None and is_same else _Built(declared, declared.build(self._runtime))
        return built

    def _compile(self, blueprint: Blueprint, policies: Mapping[str, _Built], upstreams: Mapping[str, _Built]) -> Graph:
        chain = {name: _policy(built) for name, built in policies.items()}
        return compile_graph(blueprint.spec, chain, {name: built.thing for name, built in upstreams.items()}, self._runtime)

    async def _listen(self, built: _Built) -> None:
        """Have a listener serve the graph that stands; raises ConfigInvalid where it cannot listen."""
        try:
            built.thing.serve(self._graph)
            await built.thing.start()
        except OSError as error:
            endpoint = getattr(built.declared.spec, "endpoint", "its endpoint")
            number = error.errno or 0
            problem = f"{endpoint} cannot be bound: {os.strerror(number) if number > 0 else error}"
            hint = "another process listens there; stop it, or choose another port" if number == errno.EADDRINUSE else ""
            raise built.declared.invalid(problem, hint, setting="endpoint") from error

    async def _open(self, coming: list[_Built], going: list[_Built], made: list[_Built]) -> None:
        """
        Let new listeners listen while the old ones still do; each that does is added to `made`.

        Where only settings have changed, the new one takes the port over without a gap; where both want the same port in
        another way, the old one has to let go of it first. Connections that the old one has stay either way.
        """
        for built in coming:
            for other in going:
                if _is_successor(built, other):
                    built.thing.take_over(other.thing.hand_over())
                elif _port(other) == _port(built) != "0":
                    other.thing.stop_accepting()
            made.append(built)
            await self._listen(built)

    async def _undo(self, made: list[_Built]) -> None:
        """A change has failed: end what it made, and bring back what it took away."""
        await _stop(made)
        standing = self._blueprint
        self._build(standing.policies, {})  # an engine that heard a new policy's settings gets its old ones back
        self._compile(standing, self._policies, self._upstreams)  # and so do upstreams their dialer
        for name, built in tuple(self._listeners.items()):
            if built.thing.health().ready:
                continue
            again = _Built(built.declared, built.declared.build(self._runtime))
            try:
                await self._listen(again)
            except ConfigInvalid as error:
                _log.error("%s", error)
                continue
            self._listeners[name] = again
            self._leave([built], None, _Last([]))
        _share_out(self._listeners, standing)

    def _swap(self, graph: Graph, leaving: list[_Built], in_flight: list[Exchange]) -> None:
        """In one loop turn: new exchanges take the new graph, those in flight stay on the old one until they end."""
        old, self._graph = self._graph, graph
        assert old is not None
        self._old_graphs.append(old)
        for earlier in self._old_graphs:
            earlier.reach_by(graph.dialer)
        for built in self._listeners.values():
            built.thing.serve(graph)
        self._show_routes()
        self._leave(leaving, old, _Last(in_flight))

    def _leave(self, leaving: list[_Built], graph: Graph | None, last: "_Last") -> None:
        self._leaving += leaving
        farewell = asyncio.create_task(self._farewell(leaving, graph, last), name="farewell to an old graph")
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def _farewell(self, leaving: list[_Built], graph: Graph | None, last: "_Last") -> None:
        """Stop what has been replaced, once nobody uses it."""
        listeners = [built for built in leaving if built.declared.kind.section == "traffic.listeners"]
        for built in listeners:
            built.thing.stop_accepting()
        await asyncio.gather(*(built.thing.drain(float(self._blueprint.spec.drain)) for built in listeners))
        await _stop(listeners)
        await last.ended.wait()
        await _stop([built for built in leaving if built not in listeners])
        if graph is not None:
            for built in self._listeners.values():
                built.thing.forget(graph)
            await graph.close()
            self._old_graphs.remove(graph)
        self._leaving = [built for built in self._leaving if built not in leaving]

    def _show_routes(self) -> None:
        """Tell the telemetry plane the routes' path prefixes, which become `http.route`."""
        routes = self._blueprint.spec.routes.items()
        self._runtime.services["traffic.routes"] = {name: route.path for name, route in routes if route.path}


def _share_out(listeners: Mapping[str, _Built], blueprint: Blueprint) -> None:
    """Give each listener as many places for clients as there are file descriptors for."""
    shares = share_out(*_bounds(blueprint), most_descriptors())
    for built, places in zip(listeners.values(), shares, strict=True):
        built.thing.limit_to(places)


def _bounds(blueprint: Blueprint) -> tuple[list[int], list[int]]:
    parts = (blueprint.listeners, blueprint.upstreams)
    clients, kept = ([int(getattr(each.spec, "max_connections", 0)) for each in part.values()] for part in parts)
    return clients, kept


class _Last:
    """Waits for the last of some exchanges: each of them holds this as a permit, and so tells it of its end."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self.ended = asyncio.Event()
        self._left = 1
        for exchange in exchanges:
            if not exchange.settled:
                self._left += 1
                exchange.holds(self)
        self._count_down()

    def settle(self, outcome: Outcome) -> None:
        self._count_down()

    def _count_down(self) -> None:
        self._left -= 1
        if not self._left:
            self.ended.set()


def _policy(built: _Built) -> Policy:
    return as_policy(built.declared.id, built.declared.kind.module.STAGE, built.thing)


def _needs_library(named: tuple[str, _Built]) -> bool:
    """Whether a listener has to import something heavy first; all others listen before it."""
    return bool(getattr(named[1].thing, "needs_library", False))


def _judge(graph: Graph, listeners: Mapping[str, _Built]) -> None:
    """Raise ConfigInvalid where a listener cannot do what the graph asks of it."""
    for built in listeners.values():
        if isinstance(built.thing, _Judges):
            try:
                built.thing.judge(graph)
            except ValueError as error:
                raise built.declared.invalid(str(error)) from None


def _is_successor(built: _Built, other: _Built) -> bool:
    """Whether this listener is another with other settings for the same endpoint."""
    return built.declared.path == other.declared.path and built.declared.spec.endpoint == other.declared.spec.endpoint


def _port(built: _Built) -> str:
    return str(getattr(built.declared.spec, "endpoint", "")).rpartition(":")[2]


def _only_in(these: Mapping[str, _Built], those: Mapping[str, _Built]) -> list[_Built]:
    return [built for name, built in these.items() if those.get(name) is not built]


async def _start(parts: list[_Built]) -> None:
    for built in parts:
        if not isinstance(built.thing, Starts):
            continue
        try:
            await built.thing.start()
        except (ValueError, OSError) as error:
            raise built.declared.invalid(f"cannot start: {error}") from error


async def _stop(parts: list[_Built]) -> None:
    stopping = [built for built in parts if isinstance(built.thing, Stops)]
    results = await asyncio.gather(*(built.thing.stop() for built in stopping), return_exceptions=True)
    for built, result in zip(stopping, results, strict=True):
        if isinstance(result, Exception):
            _log.error("%s could not stop: %s: %s", built.declared.path, type(result).__name__, result)
