"""
Run a command with a sidecar around it, which ends when the command ends.

    sidecar exec -- python agent.py
    sidecar exec --config sidecar.yaml -- npx some-agent --flag

The sidecar listens on free ports of loopback and reaches local servers too; the command is led to it by HTTP_PROXY and its kin.
With --config, its routes, policies and pipelines hold, but not its addresses; without, everything is forwarded, and spans go
where OTEL_EXPORTER_OTLP_ENDPOINT says. A proxy that the environment names until then is passed after the sidecar, unless the
config has a `traffic.proxy` of its own. At the end a summary of the calls is written to standard error. What the command leaves
running in the background is not waited for, and has no proxy any more.

The exit code is the command's, 128 + n where signal n ended it, 127 where it was not found, 126 where it could not be run,
and 125 where the sidecar itself failed. Signals are passed on to the command.
"""

import argparse
import asyncio
import logging
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.model.authority import bracketed
from sidecar.model.errors import ConfigFault, ConfigInvalid
from sidecar.model.facts import CommandFinished, ExchangeFinished, Mode
from sidecar.model.judgement import UNKNOWN, of_fact
from sidecar.model.trace import RANDOM, SAMPLED, format_traceparent, new_span_id, new_trace_id, parse_traceparent
from sidecar.terminal.around import SIDECAR_FAILED, Around, say
from sidecar.terminal.calls import Calls
from sidecar.terminal.environment import as_read, corporate, pointed_at
from sidecar.terminal.foreground import Foreground
from sidecar.terminal.launch import NOT_EXECUTABLE, NOT_FOUND
from sidecar.terminal.screen import Screen

if TYPE_CHECKING:
    from sidecar.app import App
    from sidecar.config import Config
    from sidecar.runtime.components import Declared

__all__ = ["HELP", "SIDECAR_FAILED", "Wrapped", "arguments", "around", "run"]

HELP = "run a command with a sidecar around it"

_FREE = "127.0.0.1:0"

_BUILT_IN = """
receivers: {{traffic: {{}}, otlp: {{protocols: {{http: {{}}}}}}}}
exporters: {{{exporter}: {{}}}}
service:
  pipelines:
    traces: {{receivers: [traffic, otlp], exporters: [{exporter}]}}
    metrics: {{receivers: [otlp], exporters: [{exporter}]}}
    logs: {{receivers: [otlp], exporters: [{exporter}]}}
"""

_DRAIN = "1s"
_NO_ERRORS = {"", "client_gone"}  # whoever hangs up has what it wanted


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--config F`, then the command."""
    parser.usage = "sidecar exec [-h] [--config FILE] -- COMMAND [ARGUMENT ...]"
    parser.add_argument("--config", metavar="FILE", help="default: built in")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code as the module's docstring says."""
    import uvloop

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        say("sidecar exec: which command? As in: sidecar exec -- python agent.py")
        return 2
    logging.basicConfig(level=logging.WARNING, format="sidecar exec: %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return Wrapped(command, arguments.config, os.environ, runner.get_loop()).main(runner)


class Wrapped(Around):
    """One command with its sidecar, from start to summary."""

    called, built_in = "sidecar exec", _BUILT_IN

    def __init__(
        self, command: Sequence[str], config: str | None, environ: Mapping[str, str], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(command, config, environ, loop)
        self._calls = Calls()
        self._descriptors: int | None = None
        self._traceparent = _traceparent(environ)

    async def run(self, blocked: frozenset[int]) -> int:
        """Do the work, and tell what the sidecar saw, unless it failed itself."""
        code = await super().run(blocked)
        if self.code is not None:
            self._tell()
        return code

    async def work(self, blocked: frozenset[int]) -> None:
        async with self._sidecar() as app:
            self.foreground = Foreground(self.command, self._surroundings(app), blocked=blocked, descriptors=self._descriptors)
            started_ns = app.runtime.clock.wall_ns()
            try:
                self.code = await self.foreground.run()
            finally:
                self.foreground = None
            self._finish_trace(app, started_ns, self.code)

    @asynccontextmanager
    async def _sidecar(self) -> AsyncIterator["App"]:
        from sidecar.app import App, descriptors_of
        from sidecar.runtime.descriptors import raise_limit
        from sidecar.runtime.runtime import Runtime

        read, theirs = self.read(), corporate(self.environ)
        if theirs:
            whose = f"{', '.join(theirs)} says" if read.traffic.proxy.url is None else "traffic.proxy of the config says"
            say(f"sidecar exec: calls go on as {whose}")
        config = around(read, agent=_agent(self.command, self.environ), by_environment=bool(theirs))
        self._descriptors = raise_limit(descriptors_of(config))
        runtime = Runtime(environ=as_read(self.environ))
        runtime.bus.listen((ExchangeFinished,), self._count)
        app = App(config, runtime=runtime, has_admin=False)
        try:
            await app.start()
            await app.ready()
            yield app
        finally:
            await app.stop()

    def _surroundings(self, app: "App") -> dict[str, str]:
        listeners = [endpoint for path, endpoint in app.endpoints.items() if path.startswith("traffic.listeners.")]
        receivers = [endpoint for path, endpoint in app.endpoints.items() if path.endswith(".protocols.http")]
        return pointed_at(
            self.environ,
            proxy=f"http://127.0.0.1:{listeners[0][1]}",
            otlp=f"http://localhost:{receivers[0][1]}" if receivers else "",
            traceparent=self._traceparent,
        )

    def _finish_trace(self, app: "App", started_ns: int, code: int) -> None:
        """Tell the span that the command's own have as their parent, unless that one is our caller's."""
        root = parse_traceparent(self._traceparent.encode())
        if self._traceparent == self.environ.get("TRACEPARENT") or root is None:
            return
        runtime, command = app.runtime, self.command[0]
        agent = _agent(self.command, self.environ)
        runtime.bus.publish(
            CommandFinished(
                started_ns=started_ns, ended_ns=runtime.clock.wall_ns(), trace_id=root.trace_id, span_id=root.parent_id,
                flags=root.flags, command=command, name=Path(command).name, agent=agent, exit_code=code,
            )
        )  # fmt: skip

    def _count(self, fact: ExchangeFinished) -> None:
        judged = of_fact(fact)
        self._calls.add(
            _destination(fact),
            (fact.ended_ns - fact.started_ns) / 1e9,
            failed=judged.kind not in _NO_ERRORS and judged.row is not UNKNOWN,
            sent_bytes=fact.request_bytes,
            received_bytes=fact.response_bytes,
        )

    def _tell(self) -> None:
        lines = [f"sidecar exec: {self._calls.headline()}, trace {self._traceparent.split('-')[1]}"]
        if self._calls.total.calls and sys.stderr is not None:
            lines += self._calls.table(Screen.of(sys.stderr, self.environ))
        elif self.code not in (NOT_FOUND, NOT_EXECUTABLE):
            lines.append("Does the command obey HTTP_PROXY and HTTPS_PROXY, and does NO_PROXY leave something to see?")
        say(*lines)


def around(config: "Config", *, agent: str, by_environment: bool = False) -> "Config":
    """
    The config as it holds around a command: every address is a free port of loopback, without passwords, because only the
    command will know it; local servers are reached; calls without identity are the agent's; the end does not wait long.
    With `by_environment`, a config that names no corporate proxy takes the environment's, with its exceptions alone.
    Raises ConfigInvalid where there is no listener to lead the command to.
    """
    from sidecar.model.spec import Duration, Secret
    from sidecar.traffic.spec import DestinationsSpec, IdentitySpec, ProxySpec

    if not config.components["traffic.listeners"]:
        raise ConfigInvalid([ConfigFault("traffic.listeners", 0, "the command needs a listener", "name one", config.source)])
    traffic = config.traffic
    destinations: DestinationsSpec = replace(traffic.destinations, allow_loopback=True)
    identity: IdentitySpec = replace(traffic.identity, agent=traffic.identity.agent or agent)
    drain = min(traffic.drain, Duration(_DRAIN))
    moved = {
        section: {name: _moved(section, declared) for name, declared in components.items()}
        for section, components in config.components.items()
    }
    proxy = traffic.proxy
    if by_environment and proxy.url is None:
        proxy = ProxySpec(url=Secret("environment"), no_proxy=(), resolve=proxy.resolve)
    traffic = replace(traffic, destinations=destinations, identity=identity, drain=drain, proxy=proxy)
    return replace(config, traffic=traffic, components=moved)


def _moved(section: str, declared: "Declared") -> "Declared":
    """A component on free ports; the OTLP receiver speaks HTTP in any case, because that is what the command is told."""
    spec = declared.spec
    if section == "traffic.listeners":
        return replace(declared, spec=replace(spec, endpoint=_FREE, users={}))
    if section == "receivers" and declared.kind.name == "otlp":
        from sidecar.telemetry.receivers.otlp import HttpSpec

        grpc, http = spec.protocols.grpc, spec.protocols.http or HttpSpec()
        protocols = replace(spec.protocols, grpc=grpc and replace(grpc, endpoint=_FREE), http=replace(http, endpoint=_FREE))
        return replace(declared, spec=replace(spec, protocols=protocols))
    return declared


def _agent(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Who calls where the calls do not say: what the user calls the agent, else the command's name."""
    return environ.get("SIDECAR_AGENT_ID") or environ.get("OTEL_SERVICE_NAME") or Path(command[0]).name


def _traceparent(environ: Mapping[str, str]) -> str:
    """The trace that the environment is in, else a new one."""
    given = environ.get("TRACEPARENT", "")
    if parse_traceparent(given.encode("ascii", "replace")) is not None:
        return given
    rng = random.SystemRandom()
    return format_traceparent(new_trace_id(rng), new_span_id(rng), SAMPLED | RANDOM).decode()


def _destination(fact: ExchangeFinished) -> str:
    """The route's name, else scheme and authority; a tunnel says that it is one."""
    host = bracketed(fact.host)
    if fact.mode is Mode.CONNECT:
        return f"{host}:{fact.port} (tunnel)"
    return fact.route or (f"{fact.scheme}://{host}:{fact.port}" if host else "(no destination)")
