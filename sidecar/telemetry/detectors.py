"""
OpenTelemetry's resource detectors: which cloud, host, container this is, found out by those who know.

A detector is an entry point of the group `opentelemetry_resource_detector`, where the SDK and the packages of the clouds
register theirs; which ones run is said by `service.telemetry.resource.detectors`, or else by the SDK's own variable
OTEL_EXPERIMENTAL_RESOURCE_DETECTORS (`*`: all that are installed). Only then is the SDK imported, after the proxy listens, in
threads: a detector may ask a metadata service that does not answer. Spans wait for them, but not for longer than `MOST_S`.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.resource import Attributes, Value, enrich

GROUP = "opentelemetry_resource_detector"
VARIABLE = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"

MOST_S = 5.0
"""How long all detectors together may take, as in the SDK; what has not been found out by then is left out."""

MOST_ATTRIBUTES = 128
_LAST_WAIT_S = 1.0
_SERVICE = "telemetry.detection"

_log = logging.getLogger(__name__)


def named(configured: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the detectors that are to run, each once; what the config says wins over the environment."""
    written = configured or environ.get(VARIABLE, "").split(",")
    return tuple(dict.fromkeys(name for name in map(str.strip, written) if name))


def is_detecting(runtime: Runtime) -> bool:
    """Whether the resource is about to be known better, so that spans had better wait a little."""
    detection = runtime.services.get(_SERVICE)
    return detection is not None and detection.is_under_way


class Detection:
    """One run of the named detectors; `is_under_way` from the moment it is made, where there are any."""

    def __init__(self, runtime: Runtime, configured: Sequence[str], *, most_s: float = MOST_S) -> None:
        self._runtime = runtime
        self._names = named(configured, runtime.environ)
        self._most_s = most_s
        self._task: asyncio.Task[None] | None = None
        self.is_under_way = bool(self._names)
        runtime.services[_SERVICE] = self

    def start(self) -> None:
        """Begin, where there is anything to find out."""
        if self._names:
            self._task = asyncio.create_task(self._run(), name="resource detectors")
        else:
            enrich(self._runtime, {})

    async def stop(self) -> None:
        """Wait a moment for the end, then go on without; harmless when called twice or without a start."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_LAST_WAIT_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.is_under_way = False

    async def _run(self) -> None:
        try:
            enrich(self._runtime, _bounded(await self._all()))
        except TimeoutError:
            _log.warning("the installed resource detectors were not listed within %g s", self._most_s)
        finally:
            self.is_under_way = False

    async def _all(self) -> Attributes:
        """What the detectors found, the later ones winning; those that take too long are left alone, in their threads."""
        names = self._names
        if "*" in names:
            async with asyncio.timeout(self._most_s):
                names = await self._in_thread(_installed)
        asked = {name: self._in_thread(_detected, name) for name in names}
        if asked:
            await asyncio.wait(asked.values(), timeout=self._most_s)
        found: Attributes = {}
        for name, answer in asked.items():
            if not answer.done():
                _log.warning("resource detector %r did not end within %g s and is left out", name, self._most_s)
            elif error := answer.exception():
                _log.warning("resource detector %r is left out: %s: %s", name, type(error).__name__, error)
            else:
                found |= answer.result()
        return found

    def _in_thread(self, function: Any, *arguments: Any) -> "asyncio.Future[Any]":
        """Run it in a thread of its own that nobody has to wait for: one of the loop's would hold the end of the process up."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = function(*arguments)
            except Exception as raised:  # noqa: BLE001 - the border of somebody else's code
                error = raised
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:  # the loop has ended meanwhile
                pass

        threading.Thread(target=run, name=f"detector {arguments[0] if arguments else '*'}", daemon=True).start()
        return answer


class _Unknown(Exception):
    """No package has registered a detector of this name."""


def _installed() -> list[str]:
    from importlib.metadata import entry_points  # slow, and only needed here

    return sorted(each.name for each in entry_points(group=GROUP))


def _detected(name: str) -> Attributes:
    """What one detector finds out; runs in a thread, and imports the SDK."""
    from importlib.metadata import entry_points  # as above

    found = entry_points(group=GROUP, name=name)
    if not found:
        raise _Unknown(f"not installed; known: {', '.join(_installed())}")
    attributes = next(iter(found)).load()().detect().attributes
    return {str(key): _plain(value) for key, value in attributes.items()}


def _plain(value: Any) -> Value:
    """A value that a resource may have: detectors may give sequences, and odd ones anything."""
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return tuple(each if isinstance(each, str | bool | int | float) else str(each) for each in value)
    return str(value)


def _bounded(found: Attributes) -> Attributes:
    if len(found) <= MOST_ATTRIBUTES:
        return found
    _log.warning("resource detectors found %d attributes; %d are kept", len(found), MOST_ATTRIBUTES)
    return dict(list(found.items())[:MOST_ATTRIBUTES])
