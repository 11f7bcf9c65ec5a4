"""Log lines about what goes wrong again and again, without flooding the log."""

import logging

from sidecar.model.clock import Clock

INTERVAL_S = 60.0
"""The same complaint is logged once in this time; the next line says how often it came meanwhile."""


class Complaints:
    """Logs under one name; `kinds` of complaints are a few words of the code, so there is no bound to keep."""

    __slots__ = ("_clock", "_log", "_name", "_quiet_until", "_suppressed")

    def __init__(self, name: str, clock: Clock, log: logging.Logger) -> None:
        self._name = name
        self._clock = clock
        self._log = log
        self._quiet_until: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def log(self, kind: str, text: str, error: BaseException | None = None) -> None:
        """Log the text, and where `error` was raised, as a warning, unless one of this kind was logged within the last minute."""
        now = self._clock.monotonic()
        if now < self._quiet_until.get(kind, now):
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return
        suppressed = self._suppressed.pop(kind, 0)
        self._quiet_until[kind] = now + INTERVAL_S
        before = f" ({suppressed} more like this before)" if suppressed else ""
        self._log.warning("%s: %s%s", self._name, text, before, exc_info=error)

    def clear(self, kind: str) -> None:
        """Forget the complaint, because its cause is gone: the next one is logged at once."""
        self._quiet_until.pop(kind, None)
        self._suppressed.pop(kind, None)
