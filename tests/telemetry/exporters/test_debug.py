from typing import Any

import pytest

from sidecar.runtime.runtime import Runtime, State
from sidecar.telemetry.exporters.debug import Config, build
from sidecar.telemetry.signals import Batch, Signal
from sidecar.telemetry.spans import SpanWriter
from sidecar.telemetry.wire import text_attribute
from tests.telemetry.facts import AGENT_SPAN, TRACE_ID, attempt, exchange
from tests.telemetry.requests import logs, metrics

WRITER = SpanWriter(text_attribute("service.name", "sidecar-under-test", number=1), scope_version="1")
NOON_NS = 1_800_014_400_123_456_789


async def shown(capsys: pytest.CaptureFixture[str], batch: Batch, **settings: Any) -> list[str]:
    made = build("debug", Config(**settings), Runtime())
    await made.start()
    assert made.health().state is State.OK
    assert made.consume(batch)
    await made.stop()
    return capsys.readouterr().err.splitlines()


def spans(*facts: Any) -> Batch:
    return Batch.of(Signal.TRACES, WRITER.request(facts), len(facts))


async def test_a_span_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    fact = exchange(started_ns=NOON_NS, ended_ns=NOON_NS + 1_500_000_000, span_id=b"\x07" * 8)
    (line,) = await shown(capsys, spans(fact))
    assert line == (
        "12:00:00.123 SERVER POST 200 1.500s /openai/v1/chat/completions "
        f"trace={TRACE_ID.hex()} span={'07' * 8} parent={AGENT_SPAN.hex()}"
    )


async def test_an_error_shows_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = await shown(
        capsys,
        spans(attempt(status=0, error="dns_failed"), exchange(status=502, error="dns_failed", parent_id=b"", ended_ns=0)),
    )
    assert " CLIENT POST dns_failed ERROR " in first
    assert " SERVER POST 502 dns_failed ERROR 0.000s " in second and second.endswith("parent=-")


async def test_detailed_adds_attributes_and_resource(capsys: pytest.CaptureFixture[str]) -> None:
    lines = await shown(capsys, spans(exchange(status=404)), verbosity="detailed")
    assert "    http.response.status_code = 404" in lines
    assert lines[-1] == "    resource service.name = sidecar-under-test"


async def test_metrics_and_logs_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert await shown(capsys, Batch.of(Signal.METRICS, metrics(3).SerializeToString(), 3)) == [
        "metric calls sum {call}, 3 points",
        "metric nothing empty 1, 0 points",
    ]
    lines = await shown(capsys, Batch.of(Signal.METRICS, metrics(1).SerializeToString(), 1), verbosity="detailed")
    assert lines[1] == "    resource service.name = agent"
    request = logs()
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    record.severity_text = ""
    record.body.kvlist_value.values.add(key="a").value.array_value.values.add().bool_value = True
    record.body.kvlist_value.values.add(key="b")
    (line,) = await shown(capsys, Batch.of(Signal.LOGS, request.SerializeToString(), 1))
    assert line.endswith(" log 9 {a: [True], b: }")


async def test_a_terminal_obeys_nothing_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = await shown(capsys, spans(exchange(path="/\x1b[2J\r\nSERVER GET")))
    assert "/?[2J??SERVER GET" in line


async def test_strange_kinds_and_times_are_shown_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    request = logs()
    request.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano = 2**64 - 1
    assert len(await shown(capsys, Batch.of(Signal.LOGS, request.SerializeToString(), 1))) == 1


async def test_what_is_no_request_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    assert await shown(capsys, Batch.of(Signal.TRACES, b"\x0a\x05x", 1)) == []
