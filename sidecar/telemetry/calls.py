"""
Every call in numbers, sampled or not: the HTTP metrics of OpenTelemetry's semantic conventions, and who called how much.

`http.server.request.duration` counts exchanges, `http.client.request.duration` attempts (semantic conventions v1.44, HTTP
metrics, with the route's name as `sidecar_route`, as in the spans); `calls.*` count calls and bytes by agent, attempts and
bytes by upstream, and errors by code. All series that a fact touches are found with two look-ups; methods, agents and hosts
come from outside, so each table has a bound, and whoever comes when it is full shares the series with `overflow="true"`.
"""

from bisect import bisect_left
from collections.abc import Callable

from sidecar.model.facts import AttemptFinished, ConfigReloaded, ExchangeFinished, Mode
from sidecar.runtime.metrics import DURATION_BOUNDS_S, Counter, Histogram, Metrics
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.attributes import KNOWN_METHODS, client_error_type, server_error_type

MOST_SERIES = 500
"""Entries of each table; a histogram of 20 lines makes 10,000 lines of a scrape from them."""

_OVERFLOW = {"overflow": "true"}
_GATEWAY = Mode.GATEWAY


class _Timed:
    """How long calls of one kind took, and how many of them ended with an error of the sidecar's."""

    __slots__ = ("counts", "duration", "errors")

    def __init__(self, duration: Histogram, errors: Counter) -> None:
        self.duration = duration
        self.counts = duration.counts
        self.errors = errors


class _Moved:
    """How many calls there were of one kind, and how many bytes they moved there and back."""

    __slots__ = ("back", "calls", "there")

    def __init__(self, calls: Counter, there: Counter, back: Counter) -> None:
        self.calls = calls
        self.there = there
        self.back = back


class CallMetrics:
    """
    Hears `ExchangeFinished` and `AttemptFinished` from the moment it is built until `stop`.

    The service `traffic.routes` maps names of routes to their path prefix in gateway mode, which becomes `http_route`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._services = runtime.services
        self._metrics = runtime.metrics
        self._no_error = Counter()  # adding to nobody's counter is cheaper than asking whether to
        self._served: dict[tuple[str, str, int, str, str, bool], _Timed] = {}
        self._sent: dict[tuple[str, str, int, int, str], _Timed] = {}
        self._agents: dict[tuple[str, int], _Moved] = {}
        self._upstreams: dict[tuple[str, int], _Moved] = {}
        self._end: tuple[Callable[[], None], ...] = (
            runtime.bus.listen((ExchangeFinished,), self._exchange),
            runtime.bus.listen((AttemptFinished,), self._attempt),
            runtime.bus.listen((ConfigReloaded,), self._reloaded),
        )

    async def stop(self) -> None:
        """Hear no more; harmless when called twice."""
        ends, self._end = self._end, ()
        for end in ends:
            end()

    def _reloaded(self, fact: ConfigReloaded) -> None:
        self._served.clear()  # the routes' prefixes may be others now; every series that was there goes on

    def _exchange(self, fact: ExchangeFinished) -> None:
        status, passage = fact.status, fact.passage
        # whether, not which mode: hashing an enum's member is a call
        key = (passage.method, passage.scheme, status, passage.route, fact.error, passage.mode is _GATEWAY)
        timed = self._served.get(key) or self._serve(key)
        seconds = (fact.ended_ns - fact.started_ns) * 1e-9
        if seconds < 0:  # the wall clock was put back meanwhile
            seconds = 0.0
        timed.counts[bisect_left(DURATION_BOUNDS_S, seconds)] += 1  # Histogram.observe, without the call
        timed.duration.sum += seconds
        timed.errors.value += 1
        moved = self._agents.get((passage.agent, status // 100)) or self._agent(passage.agent, status)
        moved.calls.value += 1
        moved.there.value += fact.request_bytes
        moved.back.value += fact.response_bytes

    def _attempt(self, fact: AttemptFinished) -> None:
        status, passage = fact.status, fact.passage
        key = (passage.method, passage.host, passage.port, status, fact.error)
        timed = self._sent.get(key) or self._send(key)
        seconds = (fact.ended_ns - fact.started_ns) * 1e-9
        if seconds < 0:  # the wall clock was put back meanwhile
            seconds = 0.0
        timed.counts[bisect_left(DURATION_BOUNDS_S, seconds)] += 1
        timed.duration.sum += seconds
        timed.errors.value += 1
        moved = self._upstreams.get((passage.upstream, status // 100)) or self._upstream(passage.upstream, status)
        moved.calls.value += 1
        moved.there.value += fact.sent_bytes
        moved.back.value += fact.received_bytes

    def _serve(self, key: tuple[str, str, int, str, str, bool]) -> _Timed:
        method, scheme, status, route, error, is_gateway = key
        full = len(self._served) >= MOST_SERIES
        labels = _OVERFLOW if full else {
            "http_request_method": _method(method),
            "http_response_status_code": str(status or ""),
            "http_route": self._services.get("traffic.routes", {}).get(route, "") if is_gateway else "",
            "url_scheme": scheme,
            "error_type": server_error_type(status, error),
            "sidecar_route": route,
        }  # fmt: skip
        duration = _durations(self._metrics, "server", "exchanges took, as the agent saw them", labels)
        timed = _Timed(duration, self._errors("exchange", error))
        if not full:
            self._served[key] = timed
        return timed

    def _send(self, key: tuple[str, str, int, int, str]) -> _Timed:
        method, host, port, status, error = key
        full = len(self._sent) >= MOST_SERIES
        labels = _OVERFLOW if full else {
            "http_request_method": _method(method),
            "http_response_status_code": str(status or ""),
            "server_address": host,
            "server_port": str(port),
            "error_type": client_error_type(status, error),
        }  # fmt: skip
        duration = _durations(self._metrics, "client", "attempts at upstreams took, connecting included", labels)
        timed = _Timed(duration, self._errors("attempt", error))
        if not full:
            self._sent[key] = timed
        return timed

    def _errors(self, of: str, code: str) -> Counter:
        if not code:
            return self._no_error
        return self._metrics.counter("calls.errors", "Calls that the sidecar itself ended with an error.", of=of, code=code)

    def _agent(self, agent: str, status: int) -> _Moved:
        full = len(self._agents) >= MOST_SERIES
        moved = _moved(self._metrics, _AGENT_NAMES, _OVERFLOW if full else _class_labels("agent", agent, status))
        if not full:
            self._agents[(agent, status // 100)] = moved
        return moved

    def _upstream(self, upstream: str, status: int) -> _Moved:
        full = len(self._upstreams) >= MOST_SERIES
        moved = _moved(self._metrics, _UPSTREAM_NAMES, _OVERFLOW if full else _class_labels("upstream", upstream, status))
        if not full:
            self._upstreams[(upstream, status // 100)] = moved
        return moved


def build(runtime: Runtime) -> CallMetrics:
    """The one of this runtime; it listens at once, so build it before traffic flows."""
    return CallMetrics(runtime)


_Names = tuple[tuple[str, str], tuple[str, str], tuple[str, str]]

_AGENT_NAMES: _Names = (
    ("calls.exchanges", "Exchanges by agent and class of status."),
    ("calls.request_bytes", "Bytes of request bodies from agents."),
    ("calls.response_bytes", "Bytes of response bodies to agents."),
)
_UPSTREAM_NAMES: _Names = (
    ("calls.attempts", "Attempts by upstream and class of status."),
    ("calls.sent_bytes", "Bytes of request bodies to upstreams."),
    ("calls.received_bytes", "Bytes of response bodies from upstreams."),
)


def _durations(metrics: Metrics, side: str, text: str, labels: dict[str, str]) -> Histogram:
    name = f"http.{side}.request.duration_seconds"
    return metrics.histogram(name, f"How long {text}.", bounds=DURATION_BOUNDS_S, **_told(labels))


def _moved(metrics: Metrics, names: _Names, labels: dict[str, str]) -> _Moved:
    """Calls by all labels; bytes without the class of status, which would only split them."""
    (calls, calls_text), (there, there_text), (back, back_text) = names
    whole = {name: value for name, value in labels.items() if name != "status_class"}
    return _Moved(
        metrics.counter(calls, calls_text, **labels),
        metrics.counter(there, there_text, **whole),
        metrics.counter(back, back_text, **whole),
    )


def _class_labels(name: str, value: str, status: int) -> dict[str, str]:
    return _told({name: value}) | {"status_class": f"{status // 100}xx" if status else "none"}


def _method(method: str) -> str:
    """Methods that nobody has registered become one, as the semantic conventions want it (http.request.method)."""
    return method if method in KNOWN_METHODS else "_OTHER"


def _told(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value}
