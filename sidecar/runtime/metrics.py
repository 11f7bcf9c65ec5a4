"""
Metrics are plain numbers in slots: a component binds them once, and adding to them costs one attribute access.

    calls = metrics.counter("traffic.requests", "Requests that were answered.", route="openai")
    calls.value += 1

Names are dotted as in the YAML (`traffic.upstreams.http.connections`); the exposition turns them into
`sidecar_traffic_upstreams_http_connections`. A unit is the last word (`_seconds`, `_bytes`); counters get `_total` there.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator

Labels = tuple[tuple[str, str], ...]

DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Bounds of http.*.request.duration (OpenTelemetry HTTP metrics, v1.44), with the tail that LLM calls need."""

MAX_SERIES = 2000
"""Label sets a metric may have (the SDK's cardinality limit); further ones share one, as OpenTelemetry's SDKs do it."""


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Gauge:
    """A number that goes up and down; `read` replaces `value` where the number is known only when asked."""

    __slots__ = ("read", "shown", "value")

    def __init__(self, read: Callable[[], float] | None = None) -> None:
        self.value: float = 0
        self.read = read
        self.shown: list[Callable[[], float]] = []


class Histogram:
    """Counts of observations at or below each bound, with their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = DURATION_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation; a value on a bound belongs to that bound's bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


Metric = Counter | Gauge | Histogram


class Family:
    """All series of one name: its kind, its help, and a metric for each set of labels."""

    __slots__ = ("help", "kind", "name", "series")

    def __init__(self, name: str, kind: type, help: str) -> None:  # noqa: A002 - Prometheus calls it HELP
        self.name = name
        self.kind = kind
        self.help = help
        self.series: dict[Labels, Metric] = {}


class Metrics:
    """
    Every metric of the process; asking again for the same name and labels returns the same one, so it outlives a reload.

    `before_reading` is called before all are shown: whoever counts in batches is up to date then.
    """

    def __init__(self, before_reading: Callable[[], None] | None = None) -> None:
        self._families: dict[str, Family] = {}
        self._before_reading = before_reading

    def __iter__(self) -> Iterator[Family]:
        if self._before_reading is not None:
            self._before_reading()
        return iter(sorted(self._families.values(), key=lambda family: family.name))

    def counter(self, name: str, help: str, **labels: str) -> Counter:  # noqa: A002 - as above
        """The counter of this name and these labels."""
        found = self._series(name, Counter, help, labels, Counter)
        assert isinstance(found, Counter)
        return found

    def gauge(self, name: str, help: str, *, read: Callable[[], float] | None = None, **labels: str) -> Gauge:  # noqa: A002 - as above
        """The gauge of this name and these labels; a new `read` replaces the old one."""
        found = self._series(name, Gauge, help, labels, Gauge)
        assert isinstance(found, Gauge)
        if read is not None:
            found.read = read
        return found

    def show(self, name: str, help: str, read: Callable[[], float], **labels: str) -> Callable[[], None]:  # noqa: A002 - as above
        """
        Show a number as long as its owner lives, and return what ends that; a second call of it does nothing.

        In a reload an old owner and a new one stand beside each other: the one that came last is asked, and when it goes (the
        change failed) the other one again. The gauge goes with the last of them.
        """
        gauge = self.gauge(name, help, read=read, **labels)
        gauge.shown.append(read)

        def end() -> None:
            if read in gauge.shown:
                gauge.shown.remove(read)
                gauge.read = gauge.shown[-1] if gauge.shown else None
                if not gauge.shown:
                    self._remove(name, gauge)

        return end

    def _remove(self, name: str, gauge: Gauge) -> None:
        family = self._families[name]
        family.series = {labels: metric for labels, metric in family.series.items() if metric is not gauge}
        if not family.series:
            del self._families[name]

    def histogram(self, name: str, help: str, *, bounds: tuple[float, ...] = DURATION_BOUNDS_S, **labels: str) -> Histogram:  # noqa: A002 - as above
        """The histogram of this name and these labels."""
        found = self._series(name, Histogram, help, labels, lambda: Histogram(bounds))
        assert isinstance(found, Histogram)
        return found

    def _series(self, name: str, kind: type, help: str, labels: dict[str, str], make: Callable[[], Metric]) -> Metric:  # noqa: A002 - as above
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Family(name, kind, help)
        if family.kind is not kind:
            raise ValueError(f"{name} is a {family.kind.__name__}, not a {kind.__name__}")
        key: Labels = tuple(sorted(labels.items()))
        found = family.series.get(key)
        if found is None:
            if len(family.series) >= MAX_SERIES:
                key = (("otel_metric_overflow", "true"),)
            found = family.series.setdefault(key, make())
        return found
