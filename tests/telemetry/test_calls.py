"""Facts in, series out: names and labels of the semantic conventions, and tables that outsiders cannot fill."""

from dataclasses import replace
from typing import Any

import pytest

from sidecar.model.facts import AttemptFinished, ConfigReloaded, ExchangeFinished, Mode, Passage, Purpose
from sidecar.runtime.metrics import Counter, Histogram
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry import calls
from sidecar.telemetry.calls import build
from sidecar.telemetry.spec import OwnTelemetrySpec
from tests.counting import calls_made
from tests.telemetry.dialogues import chat

PASSAGE = Passage(
    listener="http", client="127.0.0.1:5000", mode=Mode.GATEWAY, method="POST", scheme="https", host="api.openai.com",
    port=443, path="/openai/v1/chat", target="/v1/chat", upstream="http/openai", route="openai", agent="bot", task="t1",
    purpose=Purpose.LIVE,
)  # fmt: skip


def exchange(status: int = 200, error: str = "", ended_ns: int = 1_250_000_000, **passage: Any) -> ExchangeFinished:
    return ExchangeFinished(
        passage=replace(PASSAGE, **passage), started_ns=1_000_000_000, ended_ns=ended_ns, trace_id=b"t" * 16, span_id=b"s" * 8,
        parent_id=b"", flags=1, tracestate=b"", status=status, error=error, request_bytes=1500, response_bytes=1200,
        first_byte_s=0.1, attempts=1,
    )  # fmt: skip


def attempt(status: int = 200, error: str = "", ended_ns: int = 1_200_000_000, **passage: Any) -> AttemptFinished:
    return AttemptFinished(
        passage=replace(PASSAGE, **passage), started_ns=1_000_000_000, ended_ns=ended_ns, trace_id=b"t" * 16, span_id=b"a" * 8,
        parent_id=b"s" * 8, flags=1, tracestate=b"", address="1.2.3.4", status=status, error=error, sent_bytes=1500,
        received_bytes=1200, connect_s=0.01, first_byte_s=0.1, resends=0,
    )  # fmt: skip


def series(runtime: Runtime, name: str) -> dict[tuple[str, ...], float]:
    """Counts by labels, each label as `name=value`."""
    found: dict[tuple[str, ...], float] = {}
    for family in runtime.metrics:
        for labels, metric in family.series.items():
            if family.name == name:
                assert isinstance(metric, Counter | Histogram)
                value = metric.value if isinstance(metric, Counter) else sum(metric.counts)
                found[tuple(f"{key}={text}" for key, text in labels)] = value
    return found


def test_an_exchange_is_an_http_server_request() -> None:
    runtime = Runtime()
    runtime.services["traffic.routes"] = {"openai": "/openai/"}
    build(runtime)
    runtime.bus.publish(exchange())
    runtime.bus.publish(exchange(mode=Mode.FORWARD))
    assert series(runtime, "http.server.request.duration_seconds") == {
        (
            "http_request_method=POST", "http_response_status_code=200", "http_route=/openai/", "sidecar_route=openai",
            "url_scheme=https",
        ): 1,
        ("http_request_method=POST", "http_response_status_code=200", "sidecar_route=openai", "url_scheme=https"): 1,
    }  # fmt: skip


def test_an_attempt_is_an_http_client_request() -> None:
    runtime = Runtime()
    build(runtime)
    runtime.bus.publish(attempt())
    assert series(runtime, "http.client.request.duration_seconds") == {
        ("http_request_method=POST", "http_response_status_code=200", "server_address=api.openai.com", "server_port=443"): 1
    }


def test_durations_are_in_the_buckets_of_the_semantic_conventions() -> None:
    runtime = Runtime()
    build(runtime)
    runtime.bus.publish(exchange())
    runtime.bus.publish(exchange())
    (family,) = (family for family in runtime.metrics if family.name == "http.server.request.duration_seconds")
    (histogram,) = family.series.values()
    assert isinstance(histogram, Histogram)
    assert histogram.sum == pytest.approx(0.5)
    assert histogram.counts[histogram.bounds.index(0.25)] == 2, "a value on a bound belongs to it"


def test_a_clock_that_was_put_back_counts_as_no_time_at_all() -> None:
    runtime = Runtime()
    build(runtime)
    runtime.bus.publish(exchange(ended_ns=0))
    runtime.bus.publish(attempt(ended_ns=0))
    for family in runtime.metrics:
        for metric in family.series.values():
            assert not isinstance(metric, Histogram) or (metric.sum == 0 and metric.counts[0] == 1)


def test_bytes_and_calls_are_counted_by_agent_and_upstream() -> None:
    runtime = Runtime()
    build(runtime)
    for status in (200, 201, 404):
        runtime.bus.publish(exchange(status=status))
        runtime.bus.publish(attempt(status=status))
    assert series(runtime, "calls.exchanges") == {("agent=bot", "status_class=2xx"): 2, ("agent=bot", "status_class=4xx"): 1}
    assert series(runtime, "calls.request_bytes") == {("agent=bot",): 4500}
    assert series(runtime, "calls.response_bytes") == {("agent=bot",): 3600}
    upstream = "upstream=http/openai"
    assert series(runtime, "calls.attempts") == {("status_class=2xx", upstream): 2, ("status_class=4xx", upstream): 1}
    assert series(runtime, "calls.sent_bytes") == {(upstream,): 4500}
    assert series(runtime, "calls.received_bytes") == {(upstream,): 3600}


def test_errors_are_counted_by_code_for_exchanges_and_attempts() -> None:
    runtime = Runtime()
    build(runtime)
    runtime.bus.publish(exchange(status=502, error="connect_failed"))
    runtime.bus.publish(attempt(status=0, error="connect_failed"))
    runtime.bus.publish(attempt(status=0, error="connect_failed"))
    runtime.bus.publish(exchange(status=500))
    assert series(runtime, "calls.errors") == {
        ("code=connect_failed", "of=exchange"): 1,
        ("code=connect_failed", "of=attempt"): 2,
    }
    assert ("agent=bot", "status_class=5xx") in series(runtime, "calls.exchanges")
    assert ("status_class=none", "upstream=http/openai") in series(runtime, "calls.attempts")


@pytest.mark.parametrize(
    ("fact", "error_type"),
    [
        (exchange(status=404), ""),
        (exchange(status=503), "error_type=503"),
        (exchange(status=504, error="first_byte_timeout"), "error_type=first_byte_timeout"),
        (attempt(status=404), "error_type=404"),
        (attempt(status=0, error="dns_failed"), "error_type=dns_failed"),
    ],
)
def test_the_error_type_is_that_of_the_spans(fact: ExchangeFinished | AttemptFinished, error_type: str) -> None:
    runtime = Runtime()
    build(runtime)
    runtime.bus.publish(fact)
    side = "server" if isinstance(fact, ExchangeFinished) else "client"
    (labels,) = series(runtime, f"http.{side}.request.duration_seconds")
    assert [label for label in labels if label.startswith("error_type")] == ([error_type] if error_type else [])


def test_an_agent_without_a_name_has_no_label() -> None:
    runtime = Runtime()
    build(runtime)
    runtime.bus.publish(exchange(agent=""))
    assert series(runtime, "calls.exchanges") == {("status_class=2xx",): 1}


def test_invented_methods_are_one() -> None:
    runtime = Runtime()
    build(runtime)
    for method in ("BREW", "PROPFIND"):
        runtime.bus.publish(exchange(method=method))
        runtime.bus.publish(attempt(method=method))
    for name in ("http.server.request.duration_seconds", "http.client.request.duration_seconds"):
        ((labels, count),) = series(runtime, name).items()
        assert "http_request_method=_OTHER" in labels
        assert count == 2


def test_those_who_come_when_a_table_is_full_share_one_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST_SERIES", 3)
    runtime = Runtime()
    build(runtime)
    for number in range(10):
        runtime.bus.publish(exchange(agent=f"agent-{number}", route=f"route-{number}"))
        runtime.bus.publish(attempt(host=f"host-{number}", upstream=f"upstream-{number}"))
    runtime.bus.publish(exchange(agent="agent-0", route="route-0"))
    names = (
        "http.server.request.duration_seconds", "http.client.request.duration_seconds", "calls.exchanges", "calls.attempts",
        "calls.request_bytes", "calls.sent_bytes",
    )  # fmt: skip
    for name in names:
        found = series(runtime, name)
        assert len(found) == 4
        assert ("otel_metric_overflow=true",) in found
    assert series(runtime, "calls.exchanges")[("otel_metric_overflow=true",)] == 7
    assert series(runtime, "calls.exchanges")[("agent=agent-0", "status_class=2xx")] == 2


def test_new_routes_take_effect_and_nothing_is_lost() -> None:
    runtime = Runtime()
    build(runtime)
    for prefix in ("/openai/", "/llm/", "/openai/"):
        runtime.services["traffic.routes"] = {"openai": prefix}
        runtime.bus.publish(ConfigReloaded(0, ()))
        runtime.bus.publish(exchange())
    counts = {labels[2]: count for labels, count in series(runtime, "http.server.request.duration_seconds").items()}
    assert counts == {"http_route=/openai/": 2, "http_route=/llm/": 1}


async def test_after_stop_nothing_is_counted_and_stop_may_be_called_again() -> None:
    runtime = Runtime()
    metrics = build(runtime)
    runtime.bus.publish(exchange())
    await metrics.stop()
    await metrics.stop()
    runtime.bus.publish(exchange())
    runtime.bus.publish(attempt())
    assert series(runtime, "calls.exchanges") == {("agent=bot", "status_class=2xx"): 1}
    assert series(runtime, "calls.attempts") == {}


def test_a_fact_costs_no_more_than_a_few_calls_however_many_come() -> None:
    """Counted, not timed: a clock would judge the machine and what measures the coverage; 0.5 µs a fact were measured."""
    runtime = Runtime()
    build(runtime)
    fact = exchange()

    def publishes() -> None:
        for _ in range(5_000):
            runtime.bus.publish(fact)

    assert calls_made(publishes) / 5_000 < 16  # 12 today, bus and batches included


async def test_methods_that_nobody_knows_take_no_more_than_one_place() -> None:
    runtime = Runtime()
    metrics = build(runtime)
    for number in range(calls.MOST_SERIES + 10):
        metrics._count([exchange(method=f"M{number}"), attempt(method=f"M{number}")])
    assert len(metrics._served) == len(metrics._sent) == 1
    await metrics.stop()


def test_what_was_said_in_an_attempt_is_counted_once_and_not_again_for_its_exchange() -> None:
    runtime = Runtime()
    build(runtime)
    said = chat()
    runtime.bus.publish(replace(attempt(), dialogue=said))
    runtime.bus.publish(replace(exchange(), dialogue=said))
    runtime.bus.publish(attempt())
    assert sum(series(runtime, "gen_ai.client.operation.duration_seconds").values()) == 1
    assert sum(series(runtime, "http.client.request.duration_seconds").values()) == 2


def test_a_reload_takes_on_another_edition_of_the_conventions() -> None:
    runtime = Runtime()
    build(runtime)
    runtime.bus.publish(replace(attempt(), dialogue=chat()))
    runtime.services["service.telemetry"] = OwnTelemetrySpec(semconv="latest")
    runtime.bus.publish(ConfigReloaded(1, ()))
    runtime.bus.publish(replace(attempt(), dialogue=chat()))
    assert sum(series(runtime, "gen_ai.client.operation.duration_seconds").values()) == 1
    assert sum(series(runtime, "gen_ai.client.inference.duration_seconds").values()) == 1
    runtime.bus.publish(ConfigReloaded(2, ()))
    runtime.bus.publish(replace(attempt(), dialogue=chat()))
    assert sum(series(runtime, "gen_ai.client.inference.duration_seconds").values()) == 2
