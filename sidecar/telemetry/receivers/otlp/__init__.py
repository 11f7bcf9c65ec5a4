"""
OTLP from the agents, over gRPC and HTTP, on the ports where their SDKs look for it.

    otlp: {protocols: {grpc: {endpoint: 127.0.0.1:4317}, http: {endpoint: 127.0.0.1:4318}}}

What comes in is checked and passed on as the bytes that it is. A protocol that is not named is off; without `protocols`
both are on. Where no exporter has room, the sender is told to come again (503 and UNAVAILABLE, with a delay).
"""

import asyncio
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.model.spec import Size, Spec
from sidecar.runtime.runtime import Health, Runtime, State
from sidecar.telemetry.destination import OWN_PORTS
from sidecar.telemetry.otlp import HTTP_PATHS
from sidecar.telemetry.receivers.otlp.intake import Intake
from sidecar.telemetry.signals import Consume, Signal

_ENDPOINT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):(?P<port>[0-9]{1,5})")


def checked_endpoint(endpoint: str) -> tuple[str, int]:
    """Host (without brackets) and port; raises ValueError where it is no endpoint."""
    found = _ENDPOINT.fullmatch(endpoint)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f"endpoint has to be an address and a port, as in '127.0.0.1:4318', not {endpoint!r}")
    return found["host"].strip("[]"), int(found["port"])


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSpec(Spec):
    """OTLP over gRPC."""

    endpoint: str = "127.0.0.1:4317"
    """Address and port; port 0 takes a free one."""
    max_recv_msg_size_mib: int = 20
    """Most MiB of a request, after decompression too."""

    def __post_init__(self) -> None:
        checked_endpoint(self.endpoint)
        if not 1 <= self.max_recv_msg_size_mib <= 64:
            raise ValueError("max_recv_msg_size_mib has to lie between 1 and 64")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSpec(Spec):
    """OTLP over HTTP, protobuf and JSON."""

    endpoint: str = "127.0.0.1:4318"
    """Address and port; port 0 takes a free one."""
    max_request_body_size: Size = Size("20MiB")
    """Most bytes of a request, after decompression too."""
    traces_url_path: str = HTTP_PATHS[Signal.TRACES]
    """Where traces are posted to."""
    metrics_url_path: str = HTTP_PATHS[Signal.METRICS]
    """Where metrics are posted to."""
    logs_url_path: str = HTTP_PATHS[Signal.LOGS]
    """Where logs are posted to."""

    def __post_init__(self) -> None:
        checked_endpoint(self.endpoint)
        if not 1024 <= self.max_request_body_size <= 64 * 1024 * 1024:
            raise ValueError("max_request_body_size has to lie between 1KiB and 64MiB")
        if not all(path.startswith("/") for path in self.paths.values()):
            raise ValueError("a url_path has to begin with '/'")

    @property
    def paths(self) -> dict[Signal, str]:
        """The paths by signal."""
        return {
            Signal.TRACES: self.traces_url_path,
            Signal.METRICS: self.metrics_url_path,
            Signal.LOGS: self.logs_url_path,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolsSpec(Spec):
    """What is spoken; null means the defaults, a protocol that is not there is off."""

    grpc: GrpcSpec | None = None
    """OTLP over gRPC."""
    http: HttpSpec | None = None
    """OTLP over HTTP."""

    def __post_init__(self) -> None:
        if self.grpc is None and self.http is None:
            raise ValueError("name at least one protocol, grpc or http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where to listen, and how much to take."""

    protocols: ProtocolsSpec = field(default_factory=lambda: ProtocolsSpec(grpc=GrpcSpec(), http=HttpSpec()))
    """What is spoken where."""
    max_concurrent_requests: int = 64
    """Requests that may be read at once; further ones are told to come again."""

    def __post_init__(self) -> None:
        if self.max_concurrent_requests < 1:
            raise ValueError("max_concurrent_requests has to be at least 1")


def build(name: str, config: Config, runtime: Runtime) -> "OtlpReceiver":
    """The receiver."""
    return OtlpReceiver(name, config, runtime)


class OtlpReceiver:
    """Two servers in front of one intake; what they need is loaded when they start."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self._protocols = config.protocols
        self._intake = Intake(name, runtime, most_at_once=config.max_concurrent_requests)
        self._servers: list[Any] = []
        self._is_stopped = False
        self._own_ports: set[int] = runtime.services.setdefault(OWN_PORTS, {}).setdefault(id(self), set())
        for spec in (config.protocols.grpc, config.protocols.http):
            if spec is not None:
                self._own_ports.add(checked_endpoint(spec.endpoint)[1])
        self.endpoints: dict[str, tuple[str, int]] = {}
        """Where it listens, by protocol, once it has started."""

    def connect(self, consumers: Mapping[Signal, Consume]) -> None:
        """Pass what comes in to these consumers from now on."""
        self._intake.consumers = consumers

    async def start(self) -> None:
        """Load the servers, in a thread, and listen; raises OSError where a port is taken, and then nothing listens."""
        for protocol, spec in (("grpc", self._protocols.grpc), ("http", self._protocols.http)):
            if spec is None:
                continue
            module = await asyncio.to_thread(importlib.import_module, f"{__name__}.{protocol}")
            server = module.build(spec, self._intake)
            host, port = checked_endpoint(spec.endpoint)
            try:
                self.endpoints[protocol] = await server.start(host, port)
            except OSError:
                await self.stop()
                raise
            self._servers.append(server)
            self._own_ports.add(self.endpoints[protocol][1])

    async def stop(self) -> None:
        """Listen no more; requests that are being read get a second to end."""
        self._is_stopped = True
        servers, self._servers = self._servers, []
        self.endpoints.clear()
        self._own_ports.clear()
        await asyncio.gather(*(server.stop() for server in servers))

    def health(self) -> Health:
        """Whether it listens."""
        if self._is_stopped:
            return Health(State.STOPPED)
        return Health(State.OK) if self._servers else Health(State.STARTING)
