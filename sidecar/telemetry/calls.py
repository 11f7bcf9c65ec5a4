"""
Every call in numbers, sampled or not: the HTTP metrics of OpenTelemetry's semantic conventions, and who called how much.

`http.server.request.duration` counts exchanges, `http.client.request.duration` attempts (semantic conventions v1.44, HTTP
metrics, with the route's name as `sidecar_route`, as in the spans); `calls.*` count calls and bytes by agent, attempts and
bytes by upstream, and errors by code. What a call adds to is kept with its passage, so that the next one finds it at once;
methods, agents and hosts come from outside, so each table has a bound, and whoever comes when it is full shares the series
with `otel_metric_overflow="true"`. What was said in an attempt is counted by dialogue_metrics.py.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from sidecar.model.facts import AttemptFinished, ConfigReloaded, ExchangeFinished, Mode, Passage
from sidecar.runtime.metrics import DURATION_BOUNDS_S, Counter, Histogram, Metrics
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.attributes import KNOWN_METHODS, client_error_type, server_error_type
from sidecar.telemetry.dialogue_metrics import DialogueMetrics
from sidecar.telemetry.semconv import Semconv

MOST_SERIES = 500
"""Entries of each table; a histogram of 20 lines makes 10,000 lines of a scrape from them."""

_BOUNDS_NS = tuple(round(bound * 1e9) for bound in DURATION_BOUNDS_S)
_MOST_KEPT = 32  # of one passage: an upstream that answers with more statuses is playing games

_OVERFLOW = {"otel_metric_overflow": "true"}
_GATEWAY = Mode.GATEWAY


class _Timed:
    """How long calls of one kind took, and how many of them ended with an error of the sidecar's."""

    __slots__ = ("duration", "errors")

    def __init__(self, duration: Histogram, errors: Counter | None) -> None:
        self.duration = duration
        self.errors = errors


class _Moved:
    """How many calls there were of one kind, and how many bytes they moved there and back."""

    __slots__ = ("back", "calls", "there")

    def __init__(self, calls: Counter, there: Counter, back: Counter) -> None:
        self.calls = calls
        self.there = there
        self.back = back


class _Series:
    """All that one call adds to."""

    __slots__ = ("back", "calls", "counts", "duration", "there")

    def __init__(self, timed: _Timed, moved: _Moved) -> None:
        self.duration = timed.duration
        self.counts = timed.duration.counts
        self.calls = moved.calls
        self.there = moved.there
        self.back = moved.back


class CallMetrics:
    """
    Hears `ExchangeFinished` and `AttemptFinished` from the moment it is built until `stop`.

    The service `traffic.routes` maps names of routes to their path prefix in gateway mode, which becomes `http_route`;
    `service.telemetry` is that section of the config, which names the edition of the GenAI conventions.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._services = runtime.services
        self._metrics = runtime.metrics
        self._served: dict[tuple[str, str, int, str, str, bool], _Timed] = {}
        self._sent: dict[tuple[str, str, int, int, str], _Timed] = {}
        self._agents: dict[tuple[str, int], _Moved] = {}
        self._upstreams: dict[tuple[str, int], _Moved] = {}
        self._dialogues: DialogueMetrics | None = None
        self._end: tuple[Callable[[], None], ...] = (
            runtime.bus.gather((ExchangeFinished, AttemptFinished), self._count),
            runtime.bus.listen((ConfigReloaded,), self._reloaded),
        )

    async def stop(self) -> None:
        """Hear no more; harmless when called twice."""
        ends, self._end = self._end, ()
        for end in ends:
            end()

    def _reloaded(self, fact: ConfigReloaded) -> None:
        # The routes' prefixes and the edition of the conventions may be others now; every series that was there goes on.
        self._served.clear()
        if self._dialogues is not None and self._dialogues.edition is not self._edition():
            self._dialogues = None

    def _edition(self) -> Semconv:
        own = self._services.get("service.telemetry")
        return Semconv(own.semconv) if own is not None else Semconv.V1_41

    def _count(self, facts: Sequence[ExchangeFinished | AttemptFinished]) -> None:
        series: _Series | None
        for fact in facts:
            if isinstance(fact, ExchangeFinished):
                series = fact.passage.counted.get(fact.status)
                if series is None or fact.error:
                    series = self._exchange(fact)
                series.there.value += fact.request_bytes
                series.back.value += fact.response_bytes
            else:
                series = fact.passage.counted.get(~fact.status)
                if series is None or fact.error:
                    series = self._attempt(fact)
                series.there.value += fact.sent_bytes
                series.back.value += fact.received_bytes
                if fact.dialogue is not None:
                    (self._dialogues or self._read()).count(fact, fact.dialogue)
            series.calls.value += 1
            took_ns = fact.ended_ns - fact.started_ns
            series.counts[bisect_left(_BOUNDS_NS, took_ns)] += 1  # Histogram.observe, without the call
            if took_ns > 0:  # else the wall clock was put back meanwhile
                series.duration.sum += took_ns * 1e-9

    def _read(self) -> DialogueMetrics:
        """Who counts dialogues, from the first one on."""
        metrics = self._dialogues = DialogueMetrics(self._metrics, self._edition())
        return metrics

    def _exchange(self, fact: ExchangeFinished) -> _Series:
        """What an exchange adds to; one without an error is found in its passage the next time."""
        status, passage = fact.status, fact.passage
        # whether, not which mode: hashing an enum's member is a call
        key = (_method(passage.method), passage.scheme, status, passage.route, fact.error, passage.mode is _GATEWAY)
        timed = self._served.get(key) or self._serve(key)
        moved = self._agents.get((passage.agent, status // 100)) or self._agent(passage.agent, status)
        return _kept(passage, status, timed, moved)

    def _attempt(self, fact: AttemptFinished) -> _Series:
        status, passage = fact.status, fact.passage
        key = (_method(passage.method), passage.host, passage.port, status, fact.error)
        timed = self._sent.get(key) or self._send(key)
        moved = self._upstreams.get((passage.upstream, status // 100)) or self._upstream(passage.upstream, status)
        return _kept(passage, ~status, timed, moved)

    def _serve(self, key: tuple[str, str, int, str, str, bool]) -> _Timed:
        method, scheme, status, route, error, is_gateway = key
        full = len(self._served) >= MOST_SERIES
        labels = _OVERFLOW if full else {
            "http_request_method": method,
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
            "http_request_method": method,
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

    def _errors(self, of: str, code: str) -> Counter | None:
        if not code:
            return None
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


def _kept(passage: Passage, key: int, timed: _Timed, moved: _Moved) -> _Series:
    series = _Series(timed, moved)
    if timed.errors is not None:
        timed.errors.value += 1
    elif len(passage.counted) < _MOST_KEPT:
        passage.counted[key] = series
    return series


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
