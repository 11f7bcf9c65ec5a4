"""
The app: config → engines → components → started; stopped in reverse.

    app = App(load("config/sidecar.yaml"))
    await app.start()       # the proxy listens
    await app.ready()       # exporters, receivers and admin are up, too
    await app.stop()        # drained and flushed

The proxy listens before anything heavy is imported; what else there is follows in the background, exporters first, admin last.
"""

import asyncio
import importlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any

from sidecar.config import Config
from sidecar.dialects import recognition
from sidecar.engines.prices.price_list import PriceList
from sidecar.model.errors import ConfigFault, ConfigInvalid
from sidecar.model.facts import ConfigRefused, ConfigReloaded
from sidecar.runtime import genai_prices
from sidecar.runtime.runtime import Health, Runtime, State
from sidecar.telemetry import calls
from sidecar.telemetry.detectors import Detection
from sidecar.telemetry.pipeline import Pipelines
from sidecar.traffic.plane import Blueprint, TrafficPlane

_TELEMETRY = ("receivers", "processors", "exporters")

_log = logging.getLogger(__name__)

_catalogue = cache(genai_prices.read)  # what is installed does not change while we run


class App:
    """
    One sidecar. `read` reads the config again, for reloads that an operator asks for; without it nothing changes then. Where
    nobody could ask (`sidecar exec`), `has_admin=False` leaves the admin API out.

    `endpoints` says who listens where, by YAML path: `traffic.listeners.http`, `receivers.otlp.protocols.http`, `admin`.
    `operations` are the operator's verbs (control.operations.Operations), there when the app is ready.
    """

    def __init__(
        self,
        config: Config,
        *,
        runtime: Runtime | None = None,
        read: Callable[[], Config] | None = None,
        has_admin: bool = True,
    ) -> None:
        self.config = config
        self._has_admin = has_admin
        self.runtime = runtime or Runtime(environ=dict(os.environ))
        self._read = read or (lambda: self.config)
        self._prices = PriceList(config.prices)
        self.runtime.services["prices"] = self._prices
        self.runtime.services["service.telemetry"] = config.service.telemetry
        self._traffic = TrafficPlane(self.runtime, _blueprint(config))
        self._calls = calls.build(self.runtime)
        self._detection = Detection(self.runtime, config.service.telemetry.resource.detectors)
        self._pipelines: Pipelines | None = None
        self._admin: Any = None  # sidecar.admin.server.AdminServer, which is imported when the proxy listens
        self.operations: Any = None  # control.operations.Operations
        self._rest: asyncio.Task[None] | None = None
        self._moving_admin: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._asked_to_stop: asyncio.Future[str] | None = None
        self._health = Health(State.STARTING, "not started yet")
        self._is_stopping = False
        self.runtime.services["own_addresses"] = self._own_addresses
        self._pricing: asyncio.Task[None] | None = None

    # life

    async def start(self) -> None:
        """Build everything and listen; the rest follows in the background. Raises ConfigInvalid, and then nothing is left."""
        self._asked_to_stop = asyncio.get_running_loop().create_future()
        self._pipelines = self._lay_pipelines(self.config)
        self._pipelines.connect()
        try:
            await self._traffic.start()
        except BaseException:
            await self._pipelines.stop()
            raise
        self._detection.start()
        self._pricing = asyncio.create_task(self._read_prices(self.config), name="reading of prices")
        self._health = Health(State.STARTING, "exporters, receivers and admin are starting")
        self._rest = asyncio.create_task(self._start_rest(), name="start of the rest")

    async def ready(self) -> None:
        """Wait until everything is up; raises ConfigInvalid where admin cannot listen."""
        assert self._rest is not None, "an app is started before it is ready"
        await asyncio.shield(self._rest)

    async def _start_rest(self) -> None:
        assert self._pipelines is not None
        await asyncio.to_thread(recognition.load)
        if self._has_admin:
            self._admin = await self._make_admin(self.config)
        await self._pipelines.start()
        try:
            if self._admin is not None:
                await self._admin.start()
        except OSError as error:
            self._health = Health(State.FAILED, f"admin: {error}")
            hint = "another process listens there; choose another port"
            raise ConfigInvalid([ConfigFault("admin.endpoint", 0, str(error), hint, self.config.source)]) from error
        if self._pricing is not None:
            await asyncio.shield(self._pricing)
        self._health = Health(State.OK)

    async def _read_prices(self, config: Config) -> None:
        """The list of prices is read once the proxy listens, in a process of its own: until then no call has a price."""
        catalogue = await asyncio.to_thread(_catalogue) if config.prices.genai_prices else None
        if config.prices == self.config.prices:  # a reload may have said otherwise while we read
            self._prices.use(catalogue)

    async def stop(self) -> None:
        """
        Refuse new calls, let those in flight end, send what telemetry there is, and end; harmless when called twice.

        What fails at one of these steps is logged and keeps no other from being taken.
        """
        self._is_stopping = True
        self._health = Health(State.STOPPED, "draining")
        async with self._changing:
            await _ended(self._rest)
            await _ended(self._pricing)
            await _taken("draining", self._drain_traffic())
            for name, part in (
                ("traffic", self._traffic),
                ("the metrics of calls", self._calls),
                ("resource detection", self._detection),
                ("telemetry", self._pipelines),
            ):
                await _taken(f"stopping {name}", part.stop() if part is not None else None)
            await _ended(self._moving_admin)
            for name, part in (("operations", self.operations), ("admin", self._admin)):
                await _taken(f"stopping {name}", part.stop() if part is not None else None)

    def leave_nothing_behind(self) -> None:
        """Remove the files that others find us by, for an end at once: nothing is stopped, and nothing waited for."""
        if self._admin is not None:
            self._admin.remove_files()

    async def _drain_traffic(self) -> None:
        self._traffic.stop_accepting()
        cut = await self._traffic.drain(float(self.config.traffic.drain))
        if cut:
            _log.warning("%d calls did not end within %s and were cut", cut, self.config.traffic.drain)

    async def asked_to_stop(self) -> str:
        """Wait until an operator asks for the end, as admin's `drain` does; returns the reason. Nothing is stopped yet."""
        assert self._asked_to_stop is not None, "an app is started before it is asked to stop"
        return await asyncio.shield(self._asked_to_stop)

    # change

    async def reread(self) -> tuple[str, ...]:
        """Read the config again and take it on; as `reload`."""
        try:
            config = await asyncio.to_thread(self._read)
        except ConfigInvalid as invalid:
            self._tell_refused(invalid)
            raise
        return await self.reload(config)

    async def reload(self, config: Config) -> tuple[str, ...]:
        """
        Take on another config and return what changed, as YAML paths with a word on what happened to each.

        Exchanges in flight end on what they began on. Raises ConfigInvalid, and then the last good config stays.
        """
        await self.ready()
        async with self._changing:
            changes = config.changes_from(self.config)
            if not changes or self._is_stopping:
                return ()
            try:
                await self._change(config)
            except ConfigInvalid as invalid:
                self._tell_refused(invalid)
                raise
            self.runtime.bus.publish(ConfigReloaded(self.runtime.clock.wall_ns(), changes))
            return changes

    async def _change(self, config: Config) -> None:
        """Telemetry is only built before traffic changes, because building and binding are what may fail."""
        assert self._pipelines is not None
        old, standing = self.config, self._pipelines
        pipelines = standing
        if _telemetry(config) != _telemetry(old):
            pipelines = self._lay_pipelines(config)
        if _blueprint(config) != _blueprint(old):
            await self._traffic.change(_blueprint(config))
        self.config = config
        self.runtime.services["service.telemetry"] = config.service.telemetry
        if config.prices != old.prices:
            self._prices.reconfigure(config.prices)
            await self._read_prices(config)
        if pipelines is not standing:
            self._pipelines = pipelines
            await pipelines.start(standing)
        if config.service.telemetry != old.service.telemetry:
            await self._detection.stop()
            self._detection = Detection(self.runtime, config.service.telemetry.resource.detectors)
            self._detection.start()
        if config.admin != old.admin and self._has_admin:
            await _ended(self._moving_admin)
            self._moving_admin = asyncio.create_task(self._move_admin(old), name="admin moves")

    def _lay_pipelines(self, config: Config) -> Pipelines:
        """Build the pipelines; receivers and exporters that stand already, with equal settings, are kept."""
        standing = dict(self._pipelines) if self._pipelines is not None else {}

        def make(section: str, component_id: str) -> Any:
            declared = config.declared(section, component_id)
            if declared.path in standing and self.config.declared(section, component_id) == declared:
                return standing[declared.path]
            return declared.build(self.runtime)

        return Pipelines(config.service.pipelines, make)

    def _tell_refused(self, invalid: ConfigInvalid) -> None:
        faults = tuple(map(str, invalid.faults))
        self.runtime.bus.publish(ConfigRefused(self.runtime.clock.wall_ns(), faults))

    # admin

    async def _make_admin(self, config: Config) -> Any:
        server = await asyncio.to_thread(importlib.import_module, "sidecar.admin.server")
        api = importlib.import_module("sidecar.admin.api")
        if self.operations is None:
            operations = importlib.import_module("sidecar.control.operations")
            verbs = operations.Verbs(reload=self.reread, stop_exchange=self._stop_exchange, drain=self._drain)
            self.operations = operations.Operations(self.runtime, verbs)
        views = api.Views(config=lambda: self.config.effective(), components=self.health, in_flight=self._traffic.exchanges)
        return server.build(config.admin, self.runtime, self.operations, views)

    async def _move_admin(self, old: Config) -> None:
        """Start admin with its new settings; in the background, because it may be admin that asked for the reload."""
        for config in (self.config, old):
            await self._admin.stop()
            self._admin = await self._make_admin(config)
            try:
                await self._admin.start()
            except OSError as error:
                _log.error("admin cannot listen on %s: %s", config.admin.endpoint, error)
            else:
                return

    async def _stop_exchange(self, span_id: bytes, reason: str) -> bool:
        for exchange in self._traffic.exchanges():
            if exchange.span_id == span_id:
                exchange.stop(reason)
                return True
        return False

    async def _drain(self, reason: str) -> None:
        if self._asked_to_stop is not None and not self._asked_to_stop.done():
            self._health = Health(State.STOPPED, "draining")
            self._asked_to_stop.set_result(reason)

    # what others may know

    @property
    def endpoints(self) -> dict[str, tuple[str, int]]:
        """Who listens where: `traffic.listeners.http`, and OTLP receivers and `admin` once they are up."""
        found = dict(self._traffic.endpoints)
        for path, component in self._pipelines or ():
            for protocol, endpoint in getattr(component, "endpoints", {}).items():
                found[f"{path}.protocols.{protocol}"] = endpoint
        if self._admin is not None and self._admin.health().ready:
            found["admin"] = self._admin.endpoint
        return found

    def health(self) -> dict[str, Health]:
        """How the app and each of its components are, by YAML path; telemetry that has failed is degraded, no more."""
        found = {"app": self._health, **self._traffic.health()}
        if self._pipelines is not None:
            found |= {path: _not_in_the_way(health) for path, health in self._pipelines.health().items()}
        if self._admin is not None:
            found["admin"] = self._admin.health()
        return found

    def _own_addresses(self) -> Iterable[tuple[str, int]]:
        """Where the proxy must never lead: to itself, to our receivers, and to admin."""
        return self.endpoints.values()


def _not_in_the_way(health: Health) -> Health:
    """
    The same, but never a reason to keep traffic out.

    Were a pod taken out of service for a backend of telemetry that is away, all pods would be, at once and by what none of
    them needs to serve: the calls go on, and whoever watches `/readyz`, the log or the metrics sees what is lost.
    """
    return Health(State.DEGRADED, f"failed: {health.reason}") if health.state is State.FAILED else health


def _blueprint(config: Config) -> Blueprint:
    return Blueprint(
        config.traffic, config.used("traffic.listeners"), config.used("traffic.policies"), config.used("traffic.upstreams")
    )


def descriptors_of(config: Config) -> int:
    """File descriptors that a sidecar with this config may need at once."""
    return _blueprint(config).descriptors


def _telemetry(config: Config) -> tuple[Any, ...]:
    return (config.service, *(config.used(section) for section in _TELEMETRY))


async def _taken(name: str, step: Awaitable[None] | None) -> None:
    """Take a step of the end; what fails in it is logged, so that the others are taken too."""
    try:
        if step is not None:
            await step
    except Exception:  # noqa: BLE001 - a part may fail in any way, and it is logged
        _log.exception("%s failed", name)


async def _ended(task: "asyncio.Task[None] | None") -> None:
    """Cancel a task of ours and wait for its end; what went wrong in it has been told already."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
