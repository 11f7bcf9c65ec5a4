"""Time as an argument: what asks for it gets a `Clock`, the system's or one that is moved by hand."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings that must not be mixed: calendars need the wall, waiting needs a clock that never jumps."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, for facts, spans and calendar windows."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, for timeouts, ages and open times."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    wall_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)


class ManualClock:
    """A clock that stands still until it is moved, for tests and for replaying facts at their own time."""

    __slots__ = ("_monotonic", "_wall_ns")

    def __init__(self, *, wall_ns: int = 0, monotonic: float = 0.0) -> None:
        self._wall_ns = wall_ns
        self._monotonic = monotonic

    def wall_ns(self) -> int:
        return self._wall_ns

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both readings forward by `seconds`; a negative step is refused, because monotonic time never goes back."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back by {-seconds} s")
        self._monotonic += seconds
        self._wall_ns += round(seconds * 1e9)

    def move_to(self, wall_ns: int) -> None:
        """Move both readings forward to a fact's time; a time in the past leaves the clock where it is."""
        if wall_ns > self._wall_ns:
            self._monotonic += (wall_ns - self._wall_ns) / 1e9
            self._wall_ns = wall_ns


SYSTEM_CLOCK: Clock = SystemClock()
