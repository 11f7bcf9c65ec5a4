"""
Start an MCP server over stdio with a sidecar between it and its client.

    sidecar mcp -- npx -y @modelcontextprotocol/server-filesystem /data
    sidecar mcp --config sidecar.yaml --name files -- python server.py

It stands in a client's configuration in the place of the server's command. Messages pass both ways byte for byte; each request
of the client is a call with a span of its own. With --config, the policies of the route whose upstream is `stdio/NAME` are asked
about it, and the spans go where the config's pipelines lead; its ports stay closed. Without, spans go where
OTEL_EXPORTER_OTLP_ENDPOINT says. Standard output belongs to the protocol, whatever else there is to say goes to standard error.

When the client closes standard input, the server's is closed too; if it does not end by that, it gets SIGTERM and then SIGKILL.
Signals are passed on to the server. The exit code is the server's, 128 + n where signal n ended it, 127 where it was not found,
126 where it could not be run, and 125 where the sidecar itself failed.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.model.errors import ConfigInvalid
from sidecar.terminal.foreground import Foreground, in_foreground
from sidecar.terminal.signals import Caught, Signals

if TYPE_CHECKING:
    from sidecar.app import App
    from sidecar.config import Config
    from sidecar.traffic.stdio.listener import StdioListener
    from sidecar.traffic.stdio.pipe import Pipe
    from sidecar.traffic.stdio.relay import Relay

HELP = "start an MCP server over stdio with a sidecar before it"

SIDECAR_FAILED = 125
"""The exit code where the sidecar itself failed, as env, nice and timeout have it."""

GRACE_S = 5.0
"""How long a server may take to end when its input is closed, and again after SIGTERM; SDKs of clients wait for two seconds."""

LAST_WORDS_S = 1.0
"""How long what a server has left running may keep its output open."""
_TICK_S = 0.1
_ENDING = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}

_BUILT_IN = """
receivers: {{traffic: {{}}}}
exporters: {{{exporter}: {{}}}}
service: {{pipelines: {{traces: {{receivers: [traffic], exporters: [{exporter}]}}}}}}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--config F` and `--name N`, then the server's command."""
    parser.usage = "sidecar mcp [-h] [--config FILE] [--name NAME] -- COMMAND [ARGUMENT ...]"
    parser.add_argument("--config", metavar="FILE", help="default: built in")
    parser.add_argument("--name", help="what the server is called; default: the command's file name")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the server's command and its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Run the server; returns the exit code as the module's docstring says."""
    import uvloop

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("sidecar mcp: which server? As in: sidecar mcp -- npx -y some-server", file=sys.stderr)
        return 2
    name = arguments.name or Path(command[0]).name
    logging.basicConfig(level=logging.WARNING, format="sidecar mcp: %(message)s")
    with _Protocol() as protocol, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        served = Served(command, name, arguments.config, os.environ, runner.get_loop(), protocol.reads, protocol.writes)
        with Signals(served.hear, in_foreground=in_foreground) as signals:  # before anything can start a thread
            return runner.run(served.run(signals.before))


class _Protocol:
    """
    Standard input and output, taken out of everybody else's reach: what is printed meanwhile goes to standard error.

    They may be shared with our caller, so they are left as they were found (O_NONBLOCK is of the file, not of the descriptor).
    """

    def __enter__(self) -> "_Protocol":
        self._blocking = [os.get_blocking(each) for each in (0, 1)]
        self.reads, self.writes, self._kept_in, self._kept_out = os.dup(0), os.dup(1), os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0, inheritable=True)
        os.close(nothing)
        os.dup2(2, 1, inheritable=True)
        return self

    def __exit__(self, *raised: object) -> None:
        for standard, (kept, blocking) in enumerate(zip((self._kept_in, self._kept_out), self._blocking, strict=True)):
            os.dup2(kept, standard, inheritable=True)
            os.close(kept)
            os.set_blocking(standard, blocking)


class Served:
    """One server with its client, from start to end; `reads` and `writes` are the descriptors of the client."""

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        config: str | None,
        environ: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
        reads: int,
        writes: int,
    ) -> None:
        self._command = command
        self._name = name
        self._config = config
        self._environ = environ
        self._loop = loop
        self._client: tuple[int, ...] = (reads, writes)
        self._foreground: Foreground | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ladder: asyncio.Task[None] | None = None
        self._code: int | None = None

    def hear(self, caught: Caught) -> None:
        """Take a signal, in whatever thread it was caught."""
        self._loop.call_soon_threadsafe(self._obey, caught)

    def _obey(self, caught: Caught) -> None:
        """Signals are the server's; before it has started and after it has ended, those that end things end us."""
        if self._foreground is not None:
            self._foreground.pass_on(caught)
        elif caught.number in _ENDING and self._task is not None:
            self._code = 128 + caught.number if self._code is None else self._code
            self._task.cancel()

    async def run(self, blocked: frozenset[int]) -> int:
        """Start sidecar and server, carry what passes, and end both; returns the exit code."""
        self._task = asyncio.current_task()
        try:
            async with self._sidecar() as app:
                await self._serve(app, blocked)
        except asyncio.CancelledError:
            if self._code is None:
                raise
        except ConfigInvalid as invalid:
            for fault in invalid.faults:
                print(f"sidecar mcp: {fault}", file=sys.stderr)
            return SIDECAR_FAILED
        except OSError as error:
            print(f"sidecar mcp: the sidecar failed: {error}", file=sys.stderr)
            return SIDECAR_FAILED
        finally:
            for descriptor in self._client:
                os.close(descriptor)
        assert self._code is not None
        return self._code

    @asynccontextmanager
    async def _sidecar(self) -> AsyncIterator["App"]:
        from sidecar.app import App
        from sidecar.runtime.runtime import Runtime

        app = App(around(self._read(), server=self._name), runtime=Runtime(environ=dict(self._environ)), has_admin=False)
        try:
            await app.start()
            yield app
        finally:
            await app.stop()

    def _read(self) -> "Config":
        from sidecar.config import load, parse

        if self._config is not None:
            return load(self._config, environ=self._environ)
        if not any(name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT") for name in self._environ):
            logging.getLogger("sidecar.telemetry").setLevel(logging.CRITICAL)  # nobody has said that there is a backend
        grpc = self._environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc"
        exporter = "otlp_grpc" if grpc else "otlp_http"
        return parse(_BUILT_IN.format(exporter=exporter), source="built-in config", environ=self._environ)

    async def _serve(self, app: "App", blocked: frozenset[int]) -> None:
        """Carry what passes until the server has ended, and its last words after that."""
        from sidecar.traffic.stdio.listener import SERVICE
        from sidecar.traffic.stdio.pipe import Pipe

        listener: StdioListener = app.runtime.services[SERVICE]
        its_input, to_server = os.pipe()
        from_server, its_output = os.pipe()
        client, server = Pipe(*self._client), Pipe(from_server, to_server)
        self._client = ()
        client.other, server.other = server, client
        relay = listener.relay(client.write, server.write)
        foreground = Foreground(self._command, self._environ, blocked=blocked, stdin=its_input, stdout=its_output)
        running = asyncio.create_task(foreground.run(), name="the server")
        ticking = asyncio.create_task(_tick(listener, relay), name="deadlines of calls over stdio")
        try:
            try:
                await asyncio.sleep(0)  # the server is started in the first step of its task
            finally:
                os.close(its_input)
                os.close(its_output)
            self._foreground = foreground
            await self._connect(relay, client, server)
            self._code = await running
            self._foreground = None
            await self._last_words(relay, server)
        finally:
            self._foreground = None
            tasks = [task for task in (running, ticking, self._ladder) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(server.close(LAST_WORDS_S), client.close(LAST_WORDS_S))

    async def _last_words(self, relay: "Relay", server: "Pipe") -> None:
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await server.has_ended()
        except TimeoutError:
            relay.server_ends()

    async def _connect(self, relay: "Relay", client: "Pipe", server: "Pipe") -> None:
        def client_ended() -> None:
            relay.client_ends()
            server.close_writing()
            self._wait_for_end()

        def client_lost() -> None:
            relay.client_is_gone()
            client_ended()

        server.came, server.ended = relay.server_sends, relay.server_ends
        server.lost = lambda: None  # its end will tell what there is to tell
        client.came, client.ended, client.lost = relay.client_sends, client_ended, client_lost
        await server.open()
        await client.open()

    def _wait_for_end(self) -> None:
        if self._ladder is None and self._foreground is not None:
            self._ladder = asyncio.create_task(_end(self._foreground), name="the end of the server")


async def _end(foreground: Foreground) -> None:
    """The ladder: a server that does not end by itself is asked to, and then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        await asyncio.sleep(GRACE_S)
        foreground.pass_on(Caught(number, by_kernel=False))


async def _tick(listener: "StdioListener", relay: "Relay") -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        relay.tick(listener.now())


def around(config: "Config", *, server: str) -> "Config":
    """
    The config as it holds for one server over stdio: no port of it is opened, and its calls come from pipes.

    Pipelines keep what they get from our own calls; those that get nothing of it are left out.
    """
    from sidecar.runtime.components import ComponentType, Declared
    from sidecar.traffic.stdio import listener

    kind = ComponentType("traffic.listeners", "mcp_stdio", listener, listener.Config, listener.build)
    declared = Declared("mcp_stdio", kind, listener.Config(server=server), source=config.source)
    pipelines = {}
    for name, pipeline in config.service.pipelines.items():
        kept = tuple(each for each in pipeline.receivers if config.components["receivers"][each].kind.name == "traffic")
        if kept:
            pipelines[name] = replace(pipeline, receivers=kept)
    components = {**config.components, "traffic.listeners": {"mcp_stdio": declared}}
    return replace(config, components=components, service=replace(config.service, pipelines=pipelines))
