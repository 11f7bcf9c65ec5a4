"""
What stands around one command, whichever it is for: it passes signals on, ends as the command ends, and says what went wrong.

    class Served(Around):
        called = "sidecar mcp"
        async def work(self, blocked): ...      # start what there is to start; keep `foreground` and `code` up to date
"""

import asyncio
import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sidecar.model.errors import ConfigInvalid
from sidecar.terminal.foreground import Foreground, in_foreground
from sidecar.terminal.signals import Caught, Signals

if TYPE_CHECKING:
    from sidecar.config import Config

SIDECAR_FAILED = 125
"""The exit code where the sidecar itself failed, as env, nice and timeout have it."""

_ENDING = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}


class Around(ABC):
    """
    One command with its sidecar, from start to end.

    `foreground` is the command while it runs, `code` its exit code as soon as there is one. `config_path` is None for the
    built-in config, whose text has the name of an exporter to be filled in.
    """

    called: ClassVar[str]
    built_in: ClassVar[str]

    def __init__(
        self, command: Sequence[str], config_path: str | None, environ: Mapping[str, str], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.command = command
        self.environ = environ
        self.foreground: Foreground | None = None
        self.code: int | None = None
        self._config_path = config_path
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None

    @abstractmethod
    async def work(self, blocked: frozenset[int]) -> None:
        """Start the sidecar, run the command with this signal mask, and stop the sidecar."""

    def main(self, runner: asyncio.Runner) -> int:
        """Do all of it in the main thread, before anything can start another one; returns the exit code."""
        with Signals(self.hear, in_foreground=in_foreground) as signals:
            return runner.run(self.run(signals.before))

    async def run(self, blocked: frozenset[int]) -> int:
        """Do the work; returns the command's exit code, 128 + n where signal n ended us before, or `SIDECAR_FAILED`."""
        self._task = asyncio.current_task()
        try:
            await self.work(blocked)
        except asyncio.CancelledError:
            if self.code is None:
                raise
        except ConfigInvalid as invalid:
            say(*(f"{self.called}: {fault}" for fault in invalid.faults))
            return SIDECAR_FAILED
        except OSError as error:
            say(f"{self.called}: the sidecar failed: {error}")
            return SIDECAR_FAILED
        assert self.code is not None
        return self.code

    def hear(self, caught: Caught) -> None:
        """Take a signal, in whatever thread it was caught."""
        self._loop.call_soon_threadsafe(self._obey, caught)

    def _obey(self, caught: Caught) -> None:
        """Signals are the command's; before it has started and after it has ended, those that end things end us."""
        if self.foreground is not None:
            self.foreground.pass_on(caught)
        elif caught.number in _ENDING and self._task is not None:
            self.code = 128 + caught.number if self.code is None else self.code
            self._task.cancel()

    def read(self) -> "Config":
        """The config, or what is built in: then spans go where OTEL_EXPORTER_OTLP_ENDPOINT says. Raises `ConfigInvalid`."""
        from sidecar.config import load, parse

        environ = self.environ
        if self._config_path is not None:
            return load(self._config_path, environ=environ)
        if not any(name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT") for name in environ):
            logging.getLogger("sidecar.telemetry").setLevel(logging.CRITICAL)  # nobody has said that there is a backend
        exporter = "otlp_grpc" if environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" else "otlp_http"
        return parse(self.built_in.format(exporter=exporter), source="built-in config", environ=environ)


def say(*lines: str) -> None:
    """Write to standard error, if our caller has left it open and somebody reads it: the command's code counts in any case."""
    if sys.stderr is None:
        return
    try:
        os.write(sys.stderr.fileno(), "".join(f"{line}\n" for line in lines).encode(sys.stderr.encoding, "replace"))
    except OSError:
        pass
