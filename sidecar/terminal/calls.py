"""Calls by destination: how many, how many failed, how long they took, how many bytes went and came."""

from math import ceil, floor, log

from sidecar.terminal.figures import count, duration, size
from sidecar.terminal.screen import Screen
from sidecar.terminal.table import Cell, Column, draw

MAX_DESTINATIONS = 100
"""Destinations that get a line of their own; what comes on top shares one."""

OTHERS = "(other destinations)"

_STEP = log(1.02)
_LEAST_S = 1e-6

_COLUMNS = (
    Column("destination"),
    Column("calls", right=True),
    Column("errors", right=True),
    Column("p50", right=True),
    Column("p95", rank=1, right=True),
    Column("sent", rank=2, right=True),
    Column("received", rank=2, right=True),
)


class Durations:
    """Quantiles from buckets that grow by 2 %, so a figure is at most 1 % off and a million calls take no more room."""

    __slots__ = ("_buckets", "_count")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = floor(log(max(seconds, _LEAST_S)) / _STEP)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._count += 1

    def quantile(self, share: float) -> float:
        """Seconds that `share` (0 to 1) of the durations did not exceed; 0.0 where there are none (nearest rank)."""
        rank = max(ceil(share * self._count), 1)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return float(1.02 ** (bucket + 0.5))
        return 0.0


class Destination:
    """What went to one destination; plain numbers."""

    __slots__ = ("calls", "durations", "errors", "received_bytes", "sent_bytes")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.durations = Durations()

    def add(self, seconds: float, failed: bool, sent_bytes: int, received_bytes: int) -> None:
        """Count one call."""
        self.calls += 1
        self.errors += failed
        self.sent_bytes += sent_bytes
        self.received_bytes += received_bytes
        self.durations.add(seconds)


class Calls:
    """All calls of a run by destination; bounded by `MAX_DESTINATIONS`."""

    def __init__(self) -> None:
        self.by_destination: dict[str, Destination] = {}
        self.total = Destination()

    def add(self, destination: str, seconds: float, *, failed: bool, sent_bytes: int, received_bytes: int) -> None:
        """Count one call; bytes are those of the bodies."""
        if destination not in self.by_destination and len(self.by_destination) >= MAX_DESTINATIONS:
            destination = OTHERS
        for tally in (self.by_destination.setdefault(destination, Destination()), self.total):
            tally.add(seconds, failed, sent_bytes, received_bytes)

    def headline(self) -> str:
        """The total in one line."""
        total = self.total
        if not total.calls:
            return "no calls"
        return (
            f"{count(total.calls, 'call')} to {count(len(self.by_destination), 'destination')}, {count(total.errors, 'error')}, "
            f"p50 {duration(total.durations.quantile(0.5))}, {size(total.sent_bytes)} sent, {size(total.received_bytes)} received"
        )

    def table(self, screen: Screen) -> list[str]:
        """One line a destination, the busiest first; nothing where there was no call."""
        if not self.total.calls:
            return []
        busiest = sorted(self.by_destination.items(), key=lambda item: (-item[1].calls, item[0]))
        return draw(_COLUMNS, [_row(name, tally) for name, tally in busiest], screen)


def _row(name: str, tally: Destination) -> list[Cell]:
    return [
        Cell(name),
        Cell(f"{tally.calls:,}"),
        Cell(f"{tally.errors:,}", "red" if tally.errors else ""),
        Cell(duration(tally.durations.quantile(0.5))),
        Cell(duration(tally.durations.quantile(0.95))),
        Cell(size(tally.sent_bytes)),
        Cell(size(tally.received_bytes)),
    ]
