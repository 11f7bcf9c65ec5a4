"""
Dialogues in numbers, sampled or not: the metrics of the GenAI and MCP conventions with their buckets, and what was spent.

Attempts are counted, because these are what is billed. Dollars are counted in 10⁻⁹, so that sums are exact (up to nine million
dollars in Prometheus' doubles): `sidecar_cost_nano_usd_total / 1e9`. Models, tools, agents and words for errors come from
outside, so each table has a bound, and whoever comes when it is full shares the series with `otel_metric_overflow="true"`, as
OpenTelemetry's SDKs do it (metrics SDK, "Cardinality limits"); errors and methods that nobody knows are `_OTHER`.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import islice
from typing import Generic, TypeVar

from sidecar.model.answered import McpAnswered, ModelAnswered
from sidecar.model.asked import A2aAsked, McpAsked, ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.dialogue import Dialogue
from sidecar.model.facts import AttemptFinished
from sidecar.model.usage import Usage
from sidecar.runtime.metrics import Counter, Histogram, Metrics
from sidecar.telemetry import semconv
from sidecar.telemetry.dialogues import kind_of
from sidecar.telemetry.inference import sums, totals
from sidecar.telemetry.semconv import MCP_BOUNDS, SECONDS_BOUNDS, TOKEN_BOUNDS, Name, Semconv
from sidecar.telemetry.tool_calls import CALL, EXECUTE_TOOL, shown_method
from sidecar.telemetry.words import Words

MOST_SERIES = 200
"""Entries of each table; the five histograms of a model make 90 lines of a scrape."""
MOST_SESSIONS = 1000
"""MCP sessions whose beginning is remembered; of further ones the oldest are forgotten."""
MOST_CHUNKS = 1 << 20
"""Chunks that one stream may add to a histogram; more are a peer that plays games."""

_OVERFLOW = {"otel_metric_overflow": "true"}
_EXACT, _UNPRICED = Pricing.EXACT, Pricing.UNPRICED
_NONE: tuple[Histogram, ...] = ()
_T = TypeVar("_T")


class _Table(dict[tuple[object, ...], _T], Generic[_T]):
    """Series by what they are for, as many as there may be."""

    __slots__ = ("overflow",)

    def __init__(self) -> None:
        super().__init__()
        self.overflow: _T | None = None


class _Inference:
    """All that a call to a model adds to, whatever came of it but its error."""

    __slots__ = ("chunks", "durations", "firsts", "input", "output", "untold", "used")

    def __init__(
        self, metrics: Metrics, edition: Semconv, labels: dict[str, str], error: dict[str, str], *, streams: bool
    ) -> None:
        calls = "Calls to models, until the last byte."
        self.durations = _histograms(metrics, edition, semconv.DURATION, calls, SECONDS_BOUNDS, labels | error)
        self.firsts = self.chunks = _NONE
        if streams:
            first, between = "Until the first content came.", "Between two chunks, as the mean of their stream."
            self.firsts = _histograms(metrics, edition, semconv.FIRST_CHUNK, first, SECONDS_BOUNDS, labels)
            self.chunks = _histograms(metrics, edition, semconv.OUTPUT_CHUNK, between, SECONDS_BOUNDS, labels)
        self.input, self.output = (
            (
                *_tokens(metrics, edition, semconv.TOKEN_USAGE, "Tokens of a call.", labels | _label(semconv.TOKEN_TYPE, kind)),
                *_tokens(metrics, edition, each, f"Tokens of a call that were {kind}.", labels | error),
            )
            for kind, each in (("input", semconv.INFERENCE_INPUT), ("output", semconv.INFERENCE_OUTPUT))
        )
        self.used = _Used(metrics, labels) if edition is not Semconv.V1_41 else None
        self.untold = (self.input[-1], self.output[-1]) if self.used is not None else _NONE  # `latest` counts them as 0


class _Used:
    """The counters of tokens that `latest` has, by modality."""

    __slots__ = ("_counters", "_labels", "_metrics")

    def __init__(self, metrics: Metrics, labels: dict[str, str]) -> None:
        self._metrics = metrics
        self._labels = labels
        self._counters: dict[tuple[str, str], Counter] = {}

    def add(self, usage: Usage | None) -> None:
        """Add a call's tokens; a call that told none counts as 0, so that the series is there."""
        usage = usage or Usage()
        _, _, written, _ = sums(usage)
        for name, modality, count in (
            (semconv.USED_INPUT, "unknown", usage.input_tokens + usage.cache_read_tokens + usage.cache_read_video_tokens
             + written + usage.input_video_tokens),
            (semconv.USED_INPUT, "audio", usage.input_audio_tokens + usage.cache_read_audio_tokens),
            (semconv.USED_INPUT, "image", usage.input_image_tokens + usage.cache_read_image_tokens),
            (semconv.USED_OUTPUT, "unknown", usage.output_tokens + usage.reasoning_tokens + usage.output_video_tokens),
            (semconv.USED_OUTPUT, "audio", usage.output_audio_tokens),
            (semconv.USED_OUTPUT, "image", usage.output_image_tokens),
            (semconv.USED_CACHE_READ, "unknown", usage.cache_read_tokens + usage.cache_read_video_tokens),
            (semconv.USED_CACHE_READ, "audio", usage.cache_read_audio_tokens),
            (semconv.USED_CACHE_READ, "image", usage.cache_read_image_tokens),
            (semconv.USED_CACHE_WRITE, "unknown", written),
            (semconv.USED_REASONING, "unknown", usage.reasoning_tokens),
        ):  # fmt: skip
            if count or modality == "unknown":
                counter = self._counters.get((name.latest, modality)) or self._counter(name.latest, modality)
                counter.value += count

    def _counter(self, name: str, modality: str) -> Counter:
        labels = self._labels | _label(semconv.TOKEN_MODALITY, modality)
        made = self._counters[(name, modality)] = self._metrics.counter(name, "Tokens that models have used.", **labels)
        return made


class DialogueMetrics:
    """Counts dialogues in the names of one edition of the conventions; asked for again, it goes on with the same series."""

    def __init__(self, metrics: Metrics, edition: Semconv) -> None:
        self.edition = edition
        self._metrics = metrics
        self._inferences: _Table[_Inference] = _Table()
        self._durations: _Table[tuple[Histogram, ...]] = _Table()
        self._counters: _Table[Counter] = _Table()
        self._sessions: dict[str, int] = {}
        self._words = Words()

    def count(self, fact: AttemptFinished, dialogue: Dialogue) -> None:
        """Count an attempt of which this is what was said."""
        asked = dialogue.asked
        if isinstance(asked, ModelAsked):
            self._inference(fact, dialogue, asked)
        elif isinstance(asked, McpAsked):
            self._message(fact, dialogue, asked)
        elif isinstance(asked, A2aAsked) and not asked.is_standing:
            self._delegation(fact, dialogue, asked)
        if dialogue.unread:
            self._add(semconv.UNREAD_ANSWERS, "Calls that were not read in full.", 1, dialect=asked.dialect, why=dialogue.unread)
        for word in dialogue.skipped:
            self._add(semconv.SKIPPED_EDITS, "Changes to requests that could not be made.", 1, dialect=asked.dialect, edit=word)

    def _inference(self, fact: AttemptFinished, dialogue: Dialogue, asked: ModelAsked) -> None:
        answered = dialogue.answered if isinstance(dialogue.answered, ModelAnswered) else None
        model = answered.model if answered is not None else ""
        kind, passage = kind_of(fact, dialogue), fact.passage
        if kind:
            kind = self._words(kind)
        key = (asked.operation, asked.provider, asked.model, model, passage.host, passage.port, kind, asked.streams)
        series = self._inferences.get(key) or self._new_inference(key)
        took_s = max(fact.ended_ns - fact.started_ns, 0) / 1e9
        for each in series.durations:  # _observe, without the call; and so below
            each.counts[bisect_left(each.bounds, took_s)] += 1
            each.sum += took_s
        if asked.streams and dialogue.first_content_s:
            _observe(series.firsts, dialogue.first_content_s)
            if answered is not None and 1 < answered.events <= MOST_CHUNKS:
                _observe_mean(series.chunks, took_s - dialogue.first_content_s, answered.events - 1)
        if dialogue.cost is not None:
            usage = answered.usage if answered is not None else None
            if usage is not None:
                into, _, _, out = totals(dialogue, usage)
                for each in series.input:
                    each.counts[bisect_left(each.bounds, into)] += 1
                    each.sum += into
                for each in series.output:
                    each.counts[bisect_left(each.bounds, out)] += 1
                    each.sum += out
            else:
                _observe(series.untold, 0.0)
            if series.used is not None:
                series.used.add(usage)
            cost, told = dialogue.cost, model or asked.model
            spent = self._counters.get((asked.provider, told, passage.agent, cost.pricing is _EXACT))
            if spent is not None and cost.pricing is not _UNPRICED:
                spent.value += cost.nano_usd
            else:
                self._spent(cost, asked.provider, told, passage.agent)

    def _spent(self, cost: Cost, provider: str, model: str, agent: str) -> None:
        pricing = cost.pricing
        if pricing is _UNPRICED:
            text = "Calls to models whose cost nobody knows."
            self._add(semconv.UNPRICED_CALLS, text, 1, provider=provider, model=model, why=cost.why)
            return
        key = (provider, model, agent, pricing is _EXACT)  # hashing an enum's member is a call
        counter = self._counters.get(key)
        if counter is None:
            text = "Nano-dollars (1e-9) that calls to models have cost."
            labels = {"provider": provider, "model": model, "agent": agent, "pricing": pricing.value}
            counter = self._new_counter(key, semconv.SPENT, text, labels)
        counter.value += cost.nano_usd

    def _message(self, fact: AttemptFinished, dialogue: Dialogue, asked: McpAsked) -> None:
        answered = dialogue.answered if isinstance(dialogue.answered, McpAnswered) else None
        self._session(fact, asked, answered)
        if asked.is_standing:
            return
        passage, code = fact.passage, str(answered.code) if answered is not None and answered.code else ""
        method, code, kind = shown_method(asked.operation), self._words(code), self._words(kind_of(fact, dialogue))
        is_call = asked.operation == CALL
        target = asked.target if is_call or asked.operation == "prompts/get" else ""
        key = (method, target, code, kind, passage.host, passage.port)
        series = self._durations.get(key)
        if series is None:
            labels = (
                _label(semconv.MCP_METHOD, method)
                | _label(semconv.OPERATION_NAME, EXECUTE_TOOL if is_call else "")
                | _label(semconv.TOOL_NAME if is_call else semconv.PROMPT_NAME, target)
                | _label(semconv.RPC_STATUS, code)
                | _label(semconv.ERROR_TYPE, kind)
                | _server(passage.host, passage.port)
            )
            series = self._new_duration(key, semconv.MCP_DURATION, "Messages to MCP servers, until the last byte.", labels)
        _observe(series, max(fact.ended_ns - fact.started_ns, 0) / 1e9)

    def _session(self, fact: AttemptFinished, asked: McpAsked, answered: McpAnswered | None) -> None:
        """A session lasts from the answer to `initialize` until it is deleted; of one that is left alone nobody knows the end."""
        sessions = self._sessions
        if answered is not None and answered.session and asked.operation == "initialize":
            if len(sessions) >= MOST_SESSIONS:
                for oldest in list(islice(sessions, MOST_SESSIONS // 10)):
                    del sessions[oldest]
            sessions[answered.session] = fact.ended_ns
        elif asked.session and fact.passage.method == "DELETE" and fact.status < 400:
            began_ns = sessions.pop(asked.session, 0)
            if began_ns:
                passage = fact.passage
                key = ("session", passage.host, passage.port)
                series = self._durations.get(key)
                if series is None:
                    text, labels = "MCP sessions that were ended.", _server(passage.host, passage.port)
                    series = self._new_duration(key, semconv.MCP_SESSION_DURATION, text, labels)
                _observe(series, max(fact.ended_ns - began_ns, 0) / 1e9)

    def _delegation(self, fact: AttemptFinished, dialogue: Dialogue, asked: A2aAsked) -> None:
        passage = fact.passage
        key = ("a2a", asked.operation, self._words(kind_of(fact, dialogue)), passage.host, passage.port)
        series = self._durations.get(key)
        if series is None:
            labels = _label(semconv.A2A_METHOD, asked.operation) | _label(semconv.ERROR_TYPE, key[2])
            text = "Calls to other agents, until the last byte."
            series = self._new_duration(key, semconv.A2A_DURATION, text, labels | _server(passage.host, passage.port))
        _observe(series, max(fact.ended_ns - fact.started_ns, 0) / 1e9)

    def _new_inference(self, key: tuple[str, str, str, str, str, int, str, bool]) -> _Inference:
        table, (operation, provider, asked, answering, host, port, kind, streams) = self._inferences, key
        if len(table) >= MOST_SERIES:
            if table.overflow is None:
                table.overflow = _Inference(self._metrics, self.edition, _OVERFLOW, {}, streams=True)
            return table.overflow
        labels = (
            _label(semconv.OPERATION_NAME, operation)
            | _label(semconv.PROVIDER_NAME, provider)
            | _label(semconv.REQUEST_MODEL, asked)
            | _label(semconv.RESPONSE_MODEL, answering)
            | _server(host, port)
        )
        made = table[key] = _Inference(self._metrics, self.edition, labels, _label(semconv.ERROR_TYPE, kind), streams=streams)
        return made

    def _new_duration(self, key: tuple[object, ...], name: Name, text: str, labels: dict[str, str]) -> tuple[Histogram, ...]:
        full = len(self._durations) >= MOST_SERIES
        made = _histograms(self._metrics, self.edition, name, text, MCP_BOUNDS, _OVERFLOW if full else labels)
        if not full:
            self._durations[key] = made
        return made

    def _add(self, name: Name, text: str, count: int, **labels: str) -> None:
        key = (name.latest, *labels.values())
        counter = self._counters.get(key) or self._new_counter(key, name, text, labels)
        counter.value += count

    def _new_counter(self, key: tuple[object, ...], name: Name, text: str, labels: dict[str, str]) -> Counter:
        full = len(self._counters) >= MOST_SERIES * 4  # a counter is one line of a scrape
        shown = _OVERFLOW if full else {word: value for word, value in labels.items() if value}
        made = self._metrics.counter(name.latest, text, **shown)
        if not full:
            self._counters[key] = made
        return made


def _label(name: Name, value: str) -> dict[str, str]:
    return {name.latest.replace(".", "_"): value} if value else {}


def _server(host: str, port: int) -> dict[str, str]:
    return _label(semconv.SERVER_ADDRESS, host) | _label(semconv.SERVER_PORT, str(port or ""))


def _histograms(
    metrics: Metrics, edition: Semconv, name: Name, text: str, bounds: tuple[float, ...], labels: dict[str, str]
) -> tuple[Histogram, ...]:
    return tuple(metrics.histogram(f"{each}_seconds", text, bounds=bounds, **labels) for each in name.of(edition))


def _tokens(metrics: Metrics, edition: Semconv, name: Name, text: str, labels: dict[str, str]) -> tuple[Histogram, ...]:
    return tuple(metrics.histogram(each, text, bounds=TOKEN_BOUNDS, **labels) for each in name.of(edition))


def _observe(series: tuple[Histogram, ...], value: float) -> None:
    for each in series:
        each.counts[bisect_left(each.bounds, value)] += 1
        each.sum += value


def _observe_mean(series: Iterable[Histogram], total: float, count: int) -> None:
    """So many observations that make this total: their sum and count are right, their spread is not known."""
    total = max(total, 0.0)
    for each in series:
        each.counts[bisect_left(each.bounds, total / count)] += count
        each.sum += total
