"""An app for the admin API to talk to, which only remembers what it was told."""

import asyncio
from pathlib import Path
from typing import Any

from sidecar.admin.api import Views
from sidecar.control.operations import Operations, Verbs
from sidecar.model.exchange import Exchange
from sidecar.model.facts import OperationPerformed
from sidecar.runtime.runtime import Health, Runtime, State


class App:
    """Stands for the app: what it was told is in `done`, what it shows can be set."""

    def __init__(self, home: Path) -> None:
        self.runtime = Runtime(environ={"HOME": str(home)})
        self.done: list[tuple[Any, ...]] = []
        self.told: list[OperationPerformed] = []
        self.fails: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.config: dict[str, Any] = {"admin": {"endpoint": "127.0.0.1:4141"}, "key": "[REDACTED]"}
        self.components = {"traffic.listeners.http": Health(State.OK), "exporters.file": Health(State.DEGRADED, "disk is slow")}
        self.live: list[Exchange] = []
        self.runtime.bus.listen((OperationPerformed,), self.told.append)
        verbs = Verbs(reload=self._reload, stop_exchange=self._stop, drain=self._drain)
        self.operations = Operations(self.runtime, verbs, timeout_s=0.5)
        self.views = Views(config=lambda: self.config, components=lambda: self.components, in_flight=lambda: self.live)

    async def _reload(self) -> tuple[str, ...]:
        self.done.append(("reload",))
        await self.gate.wait()
        if self.fails:
            raise self.fails
        return ("traffic.default: changed",)

    async def _stop(self, span_id: bytes, reason: str) -> bool:
        self.done.append(("stop", span_id, reason))
        return any(exchange.span_id == span_id for exchange in self.live)

    async def _drain(self, reason: str) -> None:
        self.done.append(("drain", reason))
        await self.gate.wait()

    def count(self, name: str, **labels: str) -> float:
        """The value of a counter."""
        return self.runtime.metrics.counter(name, "", **labels).value
