"""
Start an MCP server over stdio with a sidecar between it and its client.

    sidecar mcp -- npx -y @modelcontextprotocol/server-filesystem /data
    sidecar mcp --config sidecar.yaml --name files -- python server.py

It stands in a client's configuration in the place of the server's command. Messages pass both ways byte for byte, but for the
trace context that is written into `params._meta` of requests (not with `trace_in_meta: false`, nor with OTEL_SDK_DISABLED); each
request of the client is a call with a span of its own. With --config, the policies of the route whose upstream is `stdio/NAME`
are asked about it, and the spans go where the config's pipelines lead; its ports stay closed. Without, spans go where
OTEL_EXPORTER_OTLP_ENDPOINT says. Standard output belongs to the protocol, whatever else there is to say goes to standard error.

When the client closes standard input, the server's is closed too, behind what policies still hold. Calls that wait for an answer
then get it, within a minute; a server that has nothing more to answer and does not end gets SIGTERM and then SIGKILL.
Signals are passed on to the server. The exit code is the server's, 128 + n where signal n ended it, 127 where it was not found,
126 where it could not be run, and 125 where the sidecar itself failed.
"""

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.terminal.around import SIDECAR_FAILED, Around, say
from sidecar.terminal.foreground import Foreground
from sidecar.terminal.signals import Caught

if TYPE_CHECKING:
    from sidecar.app import App
    from sidecar.config import Config
    from sidecar.traffic.stdio.listener import StdioListener
    from sidecar.traffic.stdio.pipe import Pipe
    from sidecar.traffic.stdio.relay import Relay

__all__ = [
    "ANSWERS_S", "GRACE_S", "HELP", "LAST_WORDS_S", "READY_S", "SIDECAR_FAILED", "Served", "arguments", "around", "run",
]  # fmt: skip

HELP = "start an MCP server over stdio with a sidecar before it"

ANSWERS_S = 60.0
"""How long calls may wait for their answer, and policies hold them, when the client has nothing more to say."""

GRACE_S = 5.0
"""How long a server may take to end when its input is closed, and again after SIGTERM; SDKs of clients wait for two seconds."""

LAST_WORDS_S = 1.0
"""How long what a server has left running may keep its output open."""
READY_S = 2.0
"""How long exporters may take to start when the server has ended already."""
_TICK_S = 0.1

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
        say("sidecar mcp: which server? As in: sidecar mcp -- npx -y some-server")
        return 2
    name = arguments.name or Path(command[0]).name
    logging.basicConfig(level=logging.WARNING, format="sidecar mcp: %(message)s")
    with _Protocol() as protocol, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        client = (protocol.reads, protocol.writes)
        return Served(command, name, arguments.config, os.environ, runner.get_loop(), *client).main(runner)


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


class Served(Around):
    """One server with its client, from start to end; `reads` and `writes` are the descriptors of the client."""

    called, built_in = "sidecar mcp", _BUILT_IN

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
        super().__init__(command, config, environ, loop)
        self._name = name
        self._client: tuple[int, ...] = (reads, writes)
        self._ladder: asyncio.Task[None] | None = None

    async def work(self, blocked: frozenset[int]) -> None:
        """Start sidecar and server, carry what passes, and end both."""
        try:
            async with self._sidecar() as app:
                await self._serve(app, blocked)
        finally:
            for descriptor in self._client:
                os.close(descriptor)

    @asynccontextmanager
    async def _sidecar(self) -> AsyncIterator["App"]:
        from sidecar.app import App
        from sidecar.runtime.runtime import Runtime

        app = App(around(self.read(), server=self._name), runtime=Runtime(environ=dict(self.environ)), has_admin=False)
        try:
            await app.start()
            yield app
            await _ready(app)
        finally:
            await app.stop()

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
        foreground = Foreground(self.command, self.environ, blocked=blocked, stdin=its_input, stdout=its_output)
        running = asyncio.create_task(foreground.run(), name="the server")
        ticking = asyncio.create_task(_tick(listener, relay), name="deadlines of calls over stdio")
        try:
            try:
                await asyncio.sleep(0)  # the server is started in the first step of its task
            finally:
                os.close(its_input)
                os.close(its_output)
            self.foreground = foreground
            await self._connect(relay, client, server)
            self.code = await running
            self.foreground = None
            await self._last_words(relay, server)
        finally:
            self.foreground = None
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
            relay.client_ends(server.close_writing)
            self._wait_for_end(relay, server)

        def client_lost() -> None:
            relay.client_is_gone()
            client_ended()

        server.came, server.ended = relay.server_sends, relay.server_ends
        server.lost = lambda: None  # its end will tell what there is to tell
        client.came, client.ended, client.lost = relay.client_sends, client_ended, client_lost
        await server.open()
        await client.open()

    def _wait_for_end(self, relay: "Relay", server: "Pipe") -> None:
        if self._ladder is None and self.foreground is not None:
            self._ladder = asyncio.create_task(_end(relay, server, self.foreground), name="the end of the server")


async def _end(relay: "Relay", server: "Pipe", foreground: Foreground) -> None:
    """The ladder: a server that has nothing more to answer, and does not end by itself, is asked to, and then made to."""
    try:
        async with asyncio.timeout(ANSWERS_S):
            while relay.is_awaited:  # noqa: ASYNC110 - answers come in many ways; no event is worth it
                await asyncio.sleep(_TICK_S)
    except TimeoutError:
        server.close_writing()
    for number in (signal.SIGTERM, signal.SIGKILL):
        await asyncio.sleep(GRACE_S)
        foreground.pass_on(Caught(number, by_kernel=False))


async def _ready(app: "App") -> None:
    """Wait for the exporters, within a bound: a session may be over before there is anything that takes its spans."""
    try:
        async with asyncio.timeout(READY_S):
            await app.ready()
    except TimeoutError:
        pass  # the spans are lost, which is logged


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
    prices = replace(config.prices, genai_prices=False)  # nobody is asked for a price: it would be read for nothing
    return replace(config, components=components, service=replace(config.service, pipelines=pipelines), prices=prices)
