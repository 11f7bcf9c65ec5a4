"""The exposition, held against other people's parsers: prometheus_client in both formats, promtool, a real Prometheus."""

import asyncio
import math
import subprocess
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.runtime.metrics import Counter, Gauge, Metrics
from sidecar.telemetry.metrics import Figure, Form, exposed_name, exposition
from tests.peers import prometheus

pytest.importorskip("prometheus_client", reason="the test dependency prometheus_client is not installed")
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

NASTY = 'a"b\\c\nd\re\0f\ud800 ü {x="y"} # \\n'
SHOWN = 'a"b\\c\nd\re\ufffdf? ü {x="y"} # \\n'
"""What is left of it when it has been written and read again: no NUL, no half of a surrogate pair."""


def written(metrics: Metrics, form: Form, *figures: Figure) -> str:
    return "".join(exposition(metrics, form, figures=figures))


def samples(text: str, form: Form) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    parse = parse_openmetrics if form is Form.OPENMETRICS else parse_prometheus
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in parse(text) for sample in family.samples
    }


def some_metrics() -> Metrics:
    metrics = Metrics()
    metrics.counter("traffic.listeners.http.connections", "Connections that agents opened.", listener="http").value += 7
    metrics.counter("calls.request_bytes", "Bytes of request bodies from agents.", agent="bot").value += 1536
    metrics.gauge("admin.streams", "Clients that follow.", read=lambda: 3).value = 99
    metrics.gauge("traffic.load_ratio", "How busy it is.").value = 0.25
    histogram = metrics.histogram("http.server.request.duration_seconds", "How long.", bounds=(0.1, 1.0, 10.0), method="GET")
    for seconds in (0.05, 0.1, 0.5, 30.0):
        histogram.observe(seconds)
    return metrics


@pytest.mark.parametrize("form", Form)
def test_every_number_arrives_in_both_formats(form: Form) -> None:
    found = samples(written(some_metrics(), form), form)
    method = ("method", "GET")
    assert found == {
        ("sidecar_traffic_listeners_http_connections_total", (("listener", "http"),)): 7,
        ("sidecar_calls_request_bytes_total", (("agent", "bot"),)): 1536,
        ("sidecar_admin_streams", ()): 3,
        ("sidecar_traffic_load_ratio", ()): 0.25,
        ("http_server_request_duration_seconds_bucket", (("le", "0.1"), method)): 2,
        ("http_server_request_duration_seconds_bucket", (("le", "1.0"), method)): 3,
        ("http_server_request_duration_seconds_bucket", (("le", "10.0"), method)): 3,
        ("http_server_request_duration_seconds_bucket", (("le", "+Inf"), method)): 4,
        ("http_server_request_duration_seconds_count", (method,)): 4,
        ("http_server_request_duration_seconds_sum", (method,)): 30.65,
    }


def test_openmetrics_tells_types_units_and_the_end() -> None:
    text = written(some_metrics(), Form.OPENMETRICS)
    families = {family.name: (family.type, family.unit) for family in parse_openmetrics(text)}
    assert families == {
        "sidecar_traffic_listeners_http_connections": ("counter", ""),
        "sidecar_calls_request_bytes": ("counter", "bytes"),
        "sidecar_admin_streams": ("gauge", ""),
        "sidecar_traffic_load_ratio": ("gauge", "ratio"),
        "http_server_request_duration_seconds": ("histogram", "seconds"),
    }
    assert text.endswith("\n# EOF\n") and text.count("# EOF") == 1
    assert "# EOF" not in written(some_metrics(), Form.PROMETHEUS)


def test_prometheus_text_is_as_its_specification_shows_it() -> None:
    metrics = Metrics()
    metrics.counter("traffic.refused", "What was refused.", code="bad_host").value += 1
    assert written(metrics, Form.PROMETHEUS) == (
        "# HELP sidecar_traffic_refused_total What was refused.\n"
        "# TYPE sidecar_traffic_refused_total counter\n"
        'sidecar_traffic_refused_total{code="bad_host"} 1\n'
    )


@pytest.mark.parametrize("form", Form)
def test_labels_and_help_from_outside_cannot_break_a_line(form: Form) -> None:
    metrics = Metrics()
    metrics.counter("calls.exchanges", NASTY, agent=NASTY).value += 1
    text = written(metrics, form)
    text.encode()
    # one "\r" is a line break for str.splitlines, with which prometheus_client reads the classic form; not so for Prometheus
    if form is Form.PROMETHEUS:
        text, shown = text.replace("\r", ""), SHOWN.replace("\r", "")
    else:
        shown = SHOWN
    assert samples(text, form) == {("sidecar_calls_exchanges_total", (("agent", shown),)): 1}


@given(label=st.text(max_size=40), help_text=st.text(max_size=40), value=st.floats() | st.integers(0, 2**70))
def test_any_text_and_any_number_survive(label: str, help_text: str, value: float) -> None:
    metrics = Metrics()
    metrics.gauge("traffic.thing", help_text, thing=label).value = value
    text = written(metrics, Form.OPENMETRICS)
    ((_, labels),), (found,) = zip(*samples(text, Form.OPENMETRICS).items(), strict=True)
    assert dict(labels)["thing"] == label.replace("\0", "\ufffd")
    assert found == float(value) or (math.isnan(found) and math.isnan(value))


def test_numbers_that_are_none_are_written_as_the_formats_want_them() -> None:
    metrics = Metrics()
    values = {"a": math.inf, "b": -math.inf, "c": math.nan, "d": True, "e": 1e300, "f": 0.1}
    for name, value in values.items():
        metrics.gauge(name, name).value = value
    lines = [line for line in written(metrics, Form.PROMETHEUS).splitlines() if not line.startswith("#")]
    shown = ["sidecar_a +Inf", "sidecar_b -Inf", "sidecar_c NaN", "sidecar_d 1", "sidecar_e 1e+300", "sidecar_f 0.1"]
    assert lines == shown


def test_names_of_others_keep_their_name_and_ours_get_the_prefix() -> None:
    assert exposed_name("http.client.request.duration_seconds") == "http_client_request_duration_seconds"
    assert exposed_name("process.open_fds") == "process_open_fds"
    assert exposed_name("traffic.policies.cost_guard/team-a.cut") == "sidecar_traffic_policies_cost_guard_team_a_cut"


def test_a_gauge_that_cannot_be_read_costs_only_itself_and_is_counted() -> None:
    metrics = Metrics()
    metrics.gauge("a.broken", "Divides.", read=lambda: 1 / 0)
    metrics.gauge("z.whole", "Is well.", read=lambda: 2)
    text = written(metrics, Form.PROMETHEUS)
    assert samples(text, Form.PROMETHEUS) == {("sidecar_z_whole", ()): 2}
    assert metrics.counter("telemetry.metrics.skipped", "", metric="a.broken").value == 1


def test_two_names_that_look_the_same_are_not_both_written() -> None:
    metrics = Metrics()
    metrics.gauge("traffic.open_calls", "First.").value = 1
    metrics.gauge("traffic.open.calls", "Second, and before the first in the order of names.").value = 2
    metrics.gauge("traffic.x_total", "Looks like the counter below.").value = 1
    metrics.counter("traffic.x", "A counter.").value = 5
    text = written(metrics, Form.PROMETHEUS)
    assert samples(text, Form.PROMETHEUS) == {("sidecar_traffic_open_calls", ()): 2, ("sidecar_traffic_x_total", ()): 5}
    assert metrics.counter("telemetry.metrics.skipped", "", metric="traffic.open_calls").value == 1


@pytest.mark.parametrize("form", Form)
def test_figures_are_written_like_metrics(form: Form) -> None:
    figures = (
        Figure("process_cpu_seconds", Counter, "CPU.", 1.5),
        Figure("sidecar_build_info", Gauge, "Build.", 1, (("version", "1.0"),)),
    )
    found = samples(written(Metrics(), form, *figures), form)
    assert found == {("process_cpu_seconds_total", ()): 1.5, ("sidecar_build_info", (("version", "1.0"),)): 1}


def test_each_piece_is_whole_lines_and_series_may_come_while_it_is_read() -> None:
    metrics = some_metrics()
    pieces = []
    for piece in exposition(metrics, Form.PROMETHEUS):
        pieces.append(piece)
        metrics.counter("calls.exchanges", "Exchanges.", agent=str(len(pieces))).value += 1
    assert all(piece.endswith("\n") for piece in pieces)
    samples("".join(pieces), Form.PROMETHEUS)


@pytest.mark.skipif(prometheus.PROMTOOL is None, reason="promtool is not installed (Debian package prometheus)")
def test_promtool_has_nothing_to_complain_about() -> None:
    metrics = some_metrics()
    metrics.counter("calls.exchanges", "Exchanges by agent and class of status.", agent='ü"\\\n').value += 1
    assert prometheus.PROMTOOL is not None
    text = written(metrics, Form.PROMETHEUS, Figure("process_cpu_seconds", Counter, "CPU.", 1.5))
    done = subprocess.run(
        [prometheus.PROMTOOL, "check", "metrics"], input=text.encode(), capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.skipif(prometheus.BINARY is None, reason="prometheus is not installed (Debian package prometheus)")
async def test_a_real_prometheus_scrapes_every_series_in_both_formats(tmp_path: Path, free_port: Callable[[], int]) -> None:
    metrics = some_metrics()
    metrics.counter("calls.exchanges", NASTY, agent=NASTY).value += 4

    async def serve(form: Form, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = written(metrics, form).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {form.value}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with AsyncExitStack() as stack:
        servers = [await asyncio.start_server(partial(serve, form), "127.0.0.1", 0) for form in Form]
        for server in servers:
            await stack.enter_async_context(server)
        targets = [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
        scraper = await stack.enter_async_context(prometheus.Prometheus(tmp_path, free_port(), *targets))
        scraped = await scraper.scraped()
    for target in targets:
        found = scraped[target]
        assert found["up"] == 1, "Prometheus could not read it"
        assert found["scrape_samples_scraped"] == 11
        assert found["sidecar_calls_exchanges_total"] == 4
        assert found["http_server_request_duration_seconds_count"] == 4
