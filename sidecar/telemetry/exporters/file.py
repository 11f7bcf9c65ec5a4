"""
A file of JSON lines: one OTLP/JSON request a line, as the Collector's file exporter writes them.

    file: {path: /var/log/sidecar/traces.jsonl, rotation: {max_megabytes: 100, max_backups: 10}}

The file is made with mode 0600 and opened for each write, so it can be moved away at any time; what is written is whole lines.
"""

import asyncio
import os
from dataclasses import dataclass, field

from sidecar.model.spec import Duration, Spec
from sidecar.runtime.runtime import Health, Runtime
from sidecar.telemetry.delivery import Outcome, Verdict
from sidecar.telemetry.otlp import parse
from sidecar.telemetry.otlp_json import to_json
from sidecar.telemetry.queue import QueueSpec, SendingQueue
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationSpec(Spec):
    """When a new file is begun, and how many old ones are kept (`PATH.1` is the youngest)."""

    max_megabytes: int = 100
    """The file is moved away before it would grow beyond this many MiB."""
    max_backups: int = 10
    """Files that are kept beside the one that is written."""

    def __post_init__(self) -> None:
        if self.max_megabytes < 1 or not 0 <= self.max_backups <= 1000:
            raise ValueError("max_megabytes has to be at least 1, max_backups between 0 and 1000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where to write to."""

    path: str
    """The file; its folder has to be there."""
    append: bool = True
    """Go on in a file that is there already; false empties it at the start (the Collector's default)."""
    rotation: RotationSpec = field(default_factory=RotationSpec)
    """How much disk it may take."""
    sending_queue: QueueSpec = field(default_factory=QueueSpec)
    """What may wait for the disk."""
    retry_on_failure: RetrySpec = field(default_factory=RetrySpec)
    """What happens when the disk is full."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path has to name a file")


def build(name: str, config: Config, runtime: Runtime) -> "FileExporter":
    """The exporter."""
    return FileExporter(name, config, runtime)


class FileExporter:
    """Writes batches in a thread, so that a slow disk does not hold the loop."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self._path = config.path
        self._rotation = config.rotation
        self._empties = not config.append
        self._queue = SendingQueue(
            "telemetry.exporters.file",
            name,
            runtime,
            self._append,
            queue=config.sending_queue,
            retry=config.retry_on_failure,
            timeout_s=None,  # a write that was begun cannot be taken back
            stop_timeout_s=Duration("5s"),
        )
        self.consume = self._queue.offer

    async def start(self) -> None:
        """Begin to write."""
        await self._queue.start()

    async def stop(self) -> None:
        """Write what waits."""
        await self._queue.stop()

    def health(self) -> Health:
        """As the queue sees it."""
        return self._queue.health()

    async def _append(self, signal: Signal, body: bytes) -> Outcome:
        return await asyncio.to_thread(self._append_line, signal, body)

    def _append_line(self, signal: Signal, body: bytes) -> Outcome:
        try:
            line = to_json(parse(signal, body)) + b"\n"
        except ValueError as error:
            return Outcome(Verdict.NEVER, f"no valid {signal}: {error}")
        try:
            self._write(line)
        except OSError as error:
            return Outcome(Verdict.LATER, f"{self._path}: {error.strerror}")
        return Outcome(Verdict.TAKEN)

    def _write(self, line: bytes) -> None:
        emptying = os.O_TRUNC if self._empties else 0
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | emptying, 0o600)
        self._empties = False
        size = os.fstat(file).st_size
        if size and size + len(line) > self._rotation.max_megabytes * 1024 * 1024:
            os.close(file)
            self._rotate()
            self._write(line)
            return
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(file, left) :]
        except OSError:
            os.ftruncate(file, size)  # no half a line, and no line twice when it is tried again
            raise
        finally:
            os.close(file)

    def _rotate(self) -> None:
        """`traces.jsonl` becomes `traces.jsonl.1`, that one `.2`, and so on; the oldest goes."""
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._rotation.max_backups + 1))]
        if len(names) == 1:
            os.unlink(self._path)
        for older, younger in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if os.path.exists(younger):
                os.replace(younger, older)
