"""
Run the sidecar until SIGTERM or SIGINT.

It prints a line for each port that it listens on to standard output, and logs to standard error. SIGHUP or a changed config
file makes it read the config again; a config with faults changes nothing. The first SIGTERM drains (for at most
`traffic.drain`) and exits with 0, a second one ends at once with 1.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.app import App
    from sidecar.config import Config

HELP = "run the sidecar"

LEVELS = ("debug", "info", "warning", "error")

_LOOK_S = 1.0
"""How often to look whether a file of the config has changed."""
_SETTLE_S = 0.2
"""A file that has not changed for this long is not being written any more."""

_Status = tuple[int, int, int, int]

_log = logging.getLogger("sidecar.run")


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--config F` and `--log-level L`."""
    parser.add_argument("--config", metavar="FILE", help="default: $SIDECAR_CONFIG, else config/sidecar.yaml, else built in")
    parser.add_argument("--log-level", choices=LEVELS, help="default: $SIDECAR_LOG_LEVEL, else info")


def run(arguments: argparse.Namespace) -> int:
    """Run; 0 after a stop that was asked for, 1 where the config has faults or a port is taken."""
    level = arguments.log_level or os.environ.get("SIDECAR_LOG_LEVEL", "info").lower()
    if level not in LEVELS:
        print(f"sidecar run: SIDECAR_LOG_LEVEL is one of {', '.join(LEVELS)}, not {level!r}", file=sys.stderr)
        return 2
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    import uvloop

    from sidecar.app import descriptors_of
    from sidecar.config import load_located, located
    from sidecar.model.errors import ConfigInvalid
    from sidecar.runtime.descriptors import raise_limit

    def read() -> "Config":
        return load_located(arguments.config, os.environ)

    try:
        config = read()
        raise_limit(descriptors_of(config))
        running = Running(config, read, located(arguments.config, os.environ))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(running.until_stopped())
    except ConfigInvalid as invalid:
        for fault in invalid.faults:
            print(fault, file=sys.stderr)
        return 1
    return 0


class Running:
    """One run of the app: its signals, its files, and what it tells people."""

    def __init__(self, config: "Config", read: "Callable[[], Config]", path: Path | None) -> None:
        self._config = config
        self._read = read
        self._path = path
        self._stop = asyncio.Event()
        self._hang_up = asyncio.Event()
        self._told: set[str] = set()
        self._app: App | None = None

    async def until_stopped(self) -> None:
        """Start, obey signals and files, and stop; raises ConfigInvalid where the start fails."""
        from sidecar.app import App

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up.set)
        app = self._app = App(self._config, read=self._read)
        await app.start()
        self._tell_endpoints(app)
        work = asyncio.create_task(self._work(app), name="signals and files")
        stop = asyncio.create_task(self._stop.wait(), name="wait for the end")
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)
            await app.stop()
        _log.info("stopped")

    def _end(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            _log.warning("%s again: ending at once", number.name)
            if self._app is not None:
                self._app.leave_nothing_behind()
            logging.shutdown()
            os._exit(1)
        _log.info("%s: draining", number.name)
        self._stop.set()

    async def _work(self, app: "App") -> None:
        """Wait until everything is up; then read the config again as often as there is a reason to."""
        await app.ready()
        gc.freeze()  # a full collection went through all that is loaded: 10 ms in which no call goes on
        self._tell_endpoints(app)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(app))
            _log.info("%s asked for the end: draining", await app.asked_to_stop())
            watching.cancel()

    def _tell_endpoints(self, app: "App") -> None:
        from sidecar.model.authority import authority

        for path, (host, port) in app.endpoints.items():
            line = f"listening {path} http://{authority(host, port)}"
            if line not in self._told:
                self._told.add(line)
                print(line, flush=True)

    async def _watch(self, app: "App") -> None:
        seen = self._fingerprint(app)
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._hang_up.wait()
            except TimeoutError:
                if not await self._has_changed(app, seen):
                    continue
            who = "SIGHUP" if self._hang_up.is_set() else "changed file"
            self._hang_up.clear()
            seen = self._fingerprint(app)
            await self._reload(app, who)
            if len(seen) != len(self._fingerprint(app)):  # other files belong to the config now
                seen = self._fingerprint(app)
                await self._reload(app, who, is_second=True)  # one may have changed after it was read, and before this look

    async def _has_changed(self, app: "App", seen: list[_Status | None]) -> bool:
        """Whether files have changed and are complete: a missing one is about to be replaced, a growing one not yet written."""
        now = self._fingerprint(app)
        if now == seen or None in now:
            return False
        await asyncio.sleep(_SETTLE_S)
        return now == self._fingerprint(app)

    async def _reload(self, app: "App", who: str, *, is_second: bool = False) -> None:
        from sidecar.model.errors import ConfigInvalid

        try:
            changes = await app.operations.reload(who=who)
        except ConfigInvalid as invalid:
            _log.error("the config is refused, the last good one stays:\n%s", "\n".join(f"  {fault}" for fault in invalid.faults))
        except Exception as error:  # noqa: BLE001 - a reload that failed inside is no reason to end
            _log.error("the config could not be read again: %s: %s", type(error).__name__, error)
        else:
            if changes or not is_second:
                _log.info("config read again: %s", ", ".join(changes) or "nothing has changed")
            self._tell_endpoints(app)

    def _fingerprint(self, app: "App") -> list[_Status | None]:
        """What changes when a file does; symlinks are followed, because Kubernetes swaps those."""
        return [_status(path) for path in (*([self._path] if self._path else []), *app.config.files)]


def _status(path: Path) -> _Status | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
