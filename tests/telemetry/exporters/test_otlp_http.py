import asyncio
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar.model.spec import Duration, Secret, Size
from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime, State
from sidecar.telemetry.destination import OWN_PORTS, TlsSpec
from sidecar.telemetry.exporters.otlp_http import Config, OtlpHttpExporter, build
from sidecar.telemetry.queue import BatchSpec, QueueSpec
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Batch, Signal
from sidecar.telemetry.spans import SpanWriter
from sidecar.telemetry.wire import text_attribute
from tests.otlp_collector import Answer, OtlpCollector, cut, fail, partial, slow, throttle
from tests.sidecar_under_test import eventually
from tests.telemetry.facts import attempt, exchange
from tests.telemetry.requests import request_of, traces

FAST_RETRY = RetrySpec(initial_interval=Duration("5ms"), max_interval=Duration("10ms"), max_elapsed_time=Duration("20s"))
FAST_QUEUE = QueueSpec(batch=BatchSpec(flush_timeout=Duration("2ms")))


class Scene:
    """An exporter in front of a strict collector."""

    def __init__(self, collector: OtlpCollector) -> None:
        self.collector = collector
        self.runtime = Runtime(environ={})
        self.exporters: list[OtlpHttpExporter] = []

    async def exporter(self, **settings: Any) -> OtlpHttpExporter:
        usual = {"endpoint": self.collector.http_endpoint, "sending_queue": FAST_QUEUE, "retry_on_failure": FAST_RETRY}
        made = build("otlp_http/test", Config(**{**usual, **settings}), self.runtime)
        self.exporters.append(made)
        await made.start()
        return made

    def count(self, name: str) -> int:
        found = self.runtime.metrics.counter(f"telemetry.exporters.otlp_http.{name}", "", exporter="otlp_http/test")
        assert isinstance(found, Counter)
        return found.value


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with OtlpCollector() as collector:
        made = Scene(collector)
        yield made
        for exporter in made.exporters:
            await exporter.stop()


WRITER = SpanWriter(text_attribute("service.name", "sidecar-under-test", number=1), scope_version="1")


def our_spans(calls: int = 1) -> Batch:
    facts = [fact for _ in range(calls) for fact in (attempt(span_id=os.urandom(8)), exchange(span_id=os.urandom(8)))]
    return Batch.of(Signal.TRACES, WRITER.request(facts), len(facts))


async def test_spans_arrive_as_the_conventions_want_them(scene: Scene) -> None:
    exporter = await scene.exporter()
    assert exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    assert scene.collector.span(kind="SERVER").attributes["url.path"] == "/openai/v1/chat/completions"
    assert scene.collector.span(kind="CLIENT").resource == {"service.name": "sidecar-under-test"}
    (request,) = scene.collector.requests
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["user-agent"].startswith("agent-sre-sidecar/")
    assert "content-encoding" not in request.headers  # not to loopback
    await eventually(lambda: scene.count("sent_spans") == 2, "the count")
    assert exporter.health().state is State.OK


@pytest.mark.parametrize("signal", Signal)
async def test_each_signal_goes_to_its_own_path(scene: Scene, signal: Signal) -> None:
    exporter = await scene.exporter()
    exporter.consume(Batch.of(signal, request_of(signal).SerializeToString(), 2))
    (request,) = await scene.collector.wait_for_requests(1)
    assert (request.signal, request.was_taken) == (signal.value, True)


async def test_a_full_url_is_used_as_it_is_and_headers_are_sent(scene: Scene) -> None:
    exporter = await scene.exporter(
        endpoint="http://127.0.0.1:1",
        traces_endpoint=f"{scene.collector.http_endpoint}/v1/traces",
        headers={"X-Api-Key": Secret("s3cret")},
    )
    exporter.consume(our_spans())
    (request,) = await scene.collector.wait_for_requests(1)
    assert request.headers["x-api-key"] == "s3cret"


@pytest.mark.parametrize("calls", [1, 300], ids=["in the loop", "in a thread"])
async def test_gzip_is_what_it_says(scene: Scene, calls: int) -> None:
    exporter = await scene.exporter(compression="gzip")
    exporter.consume(our_spans(calls))
    await scene.collector.wait_for_spans(2 * calls)
    assert {request.headers["content-encoding"] for request in scene.collector.requests} == {"gzip"}
    await eventually(lambda: scene.count("sent_spans") == 2 * calls, "the count")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_may_succeed_later_is_sent_again(scene: Scene, status: int) -> None:
    scene.collector.script(fail(status), fail(status))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    await eventually(lambda: scene.count("sent_spans") == 2, "the count")
    assert len(scene.collector.requests) == 3
    assert exporter.health().state is State.OK


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 415, 422, 500, 501, 505])
async def test_every_other_refusal_is_final(scene: Scene, status: int) -> None:
    scene.collector.script(fail(status, text="no, thank you"))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("send_failed_spans") == 2, "the count")
    health = exporter.health()
    assert health.state is State.DEGRADED
    assert f"HTTP {status}: no, thank you" in health.reason
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    assert len(scene.collector.requests) == 2


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        ("text/html", b"<h1>no\r\n\x1b[2J such</h1>", "HTTP 404: <h1>no [2J such</h1>"),
        ("application/x-protobuf", b"\x0a\x05x", "HTTP 404; "),
        ("application/json", b"x" * 100_000, f"HTTP 404: {'x' * 200};"),
    ],
)
async def test_the_backends_own_words_are_shown_in_one_short_line(scene: Scene, content_type: str, body: bytes, told: str) -> None:
    scene.collector.script(Answer(http_status=404, body=body, content_type=content_type))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("send_failed_spans") == 2, "the count")
    assert told in exporter.health().reason


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_every_2xx_is_success(scene: Scene, status: int) -> None:
    scene.collector.script(Answer(http_status=status, body=b"", content_type="text/plain"))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("sent_spans") == 2, "the count")


async def test_a_partial_success_is_counted_and_not_sent_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.collector.script(partial(1, "too old"))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("rejected_spans") == 1, "the count")
    assert (scene.count("sent_spans"), len(scene.collector.requests)) == (1, 1)
    assert "rejected 1 of 2 spans: too old" in caplog.text


async def test_an_answer_that_cannot_be_read_is_success_all_the_same(scene: Scene) -> None:
    scene.collector.script(Answer(body=b"\x0a\x05garbage"))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("sent_spans") == 2, "the count")


async def test_an_answer_without_end_is_not_read_and_not_asked_for_again(scene: Scene) -> None:
    scene.collector.script(Answer(body=b"x" * (4 * 2**20 + 1)))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("send_failed_spans") == 2, "the count")
    assert "4 MiB" in exporter.health().reason


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
async def test_retry_after_is_obeyed(scene: Scene, *, as_date: bool) -> None:
    scene.collector.script(throttle(2 if as_date else 1, 503, as_date=as_date))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    first, second = scene.collector.requests
    assert 0.9 <= second.at - first.at < 5


async def test_a_retry_after_that_is_too_long_or_nonsense_is_not_waited_for(scene: Scene) -> None:
    long_ago = Answer(http_status=503, headers=(("Retry-After", "Mon, 01 Jan 2001 00:00:00 -0000"),))
    scene.collector.script(Answer(http_status=503, headers=(("Retry-After", "soon"),)), long_ago, throttle(86_400))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("send_failed_spans") == 2, "the count")
    assert len(scene.collector.requests) == 3


async def test_a_cut_connection_is_tried_again(scene: Scene) -> None:
    scene.collector.script(cut(), cut())
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)


async def test_a_backend_that_does_not_answer_in_time_is_tried_again(scene: Scene) -> None:
    scene.collector.script(Answer(http_status=503, delay_s=1.0))
    exporter = await scene.exporter(timeout=Duration("50ms"))
    started = time.monotonic()
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    assert time.monotonic() - started < 0.9


async def test_a_dead_backend_fails_no_caller_and_is_seen(scene: Scene, free_port: Any) -> None:
    exporter = await scene.exporter(endpoint=f"http://127.0.0.1:{free_port()}", stop_timeout=Duration("1s"))
    taken = [exporter.consume(our_spans(32)) for _ in range(200)]
    await eventually(lambda: exporter.health().state is State.DEGRADED, "degradation")
    assert (taken.count(True), taken.count(False)) == (128, 72)
    assert scene.count("enqueue_failed_spans") == 72 * 64
    assert "ClientConnectorError" in exporter.health().reason
    await exporter.stop()
    assert scene.count("send_failed_spans") == 128 * 64


async def test_a_slow_backend_is_waited_for_at_the_end_within_its_bound(scene: Scene) -> None:
    scene.collector.script(slow(0.1))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await exporter.stop()
    assert (scene.count("sent_spans"), exporter.health().state) == (2, State.STOPPED)
    scene.collector.script(slow(1.5))
    exporter = await scene.exporter(stop_timeout=Duration("100ms"))
    exporter.consume(our_spans())
    started = time.monotonic()
    await exporter.stop()
    assert time.monotonic() - started < 1.0
    assert scene.count("send_failed_spans") == 2


async def test_what_an_agent_sent_in_one_piece_is_split(scene: Scene) -> None:
    queue = QueueSpec(batch=BatchSpec(flush_timeout=Duration("2ms"), max_size=100, max_bytes=Size("16KiB")))
    exporter = await scene.exporter(sending_queue=queue)
    exporter.consume(Batch.of(Signal.TRACES, traces(350, resources=2).SerializeToString(), 700))
    await scene.collector.wait_for_spans(700)
    assert len(scene.collector.requests) >= 7
    assert all(request.size_bytes <= 16 * 1024 for request in scene.collector.requests)


async def test_redirects_are_not_followed_and_no_cookie_is_kept(scene: Scene) -> None:
    location = (("Location", f"{scene.collector.http_endpoint}/v1/traces"), ("Set-Cookie", "a=b"))
    scene.collector.script(Answer(http_status=307, headers=location))
    exporter = await scene.exporter(headers={"authorization": Secret("Bearer x")})
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("send_failed_spans") == 2, "the count")
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    assert "cookie" not in scene.collector.requests[-1].headers


async def test_proxies_of_the_environment_are_not_used(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)


async def test_it_does_not_send_to_ourselves(scene: Scene) -> None:
    port = int(scene.collector.http_endpoint.rpartition(":")[2])
    scene.runtime.services[OWN_PORTS] = {1: {port}}
    with pytest.raises(ValueError, match="own OTLP receiver"):
        await scene.exporter()


async def test_batches_taken_before_the_start_are_sent_after_it(scene: Scene) -> None:
    made = build("otlp_http/test", Config(endpoint=scene.collector.http_endpoint, sending_queue=FAST_QUEUE), scene.runtime)
    scene.exporters.append(made)
    assert made.consume(our_spans())
    assert made.health().state is State.STARTING
    await made.start()
    await scene.collector.wait_for_spans(2)


async def test_stopping_twice_and_without_a_start_does_no_harm() -> None:
    made = build("otlp_http", Config(), Runtime(environ={}))
    await made.stop()
    await made.stop()


async def test_aiohttp_is_loaded_by_start_only() -> None:
    code = (
        "import sys, sidecar.telemetry.exporters.otlp_http as m, sidecar.runtime.runtime as r;"
        "m.build('otlp_http', m.Config(), r.Runtime());"
        "bad = {'aiohttp', 'grpc', 'google.protobuf', 'opentelemetry'} & sys.modules.keys();"
        "assert not bad, bad"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": "localhost:4318"},
        {"logs_endpoint": "nonsense"},
        {"headers": {"bad name": Secret("x")}},
        {"headers": {"Content-Type": Secret("x")}},
        {"tls": TlsSpec(insecure=True)},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Config(**settings)


def test_no_secret_is_shown() -> None:
    assert "s3cret" not in repr(Config(headers={"x-api-key": Secret("s3cret")}))


async def test_https_verifies_with_the_authority_that_is_configured(tmp_path: Path, free_port: Any) -> None:
    trustme = pytest.importorskip("trustme", reason="needs the test dependency trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("collector.example.org").configure_cert(context)
    seen: list[bytes] = []

    async def take(request: web.BaseRequest) -> web.Response:
        seen.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    runtime = Runtime(environ={})
    trusting = TlsSpec(ca_file=str(tmp_path / "ca.pem"), server_name_override="collector.example.org")
    good = build("otlp_http/good", Config(endpoint=url, tls=trusting, sending_queue=FAST_QUEUE), runtime)
    bad = build("otlp_http/bad", Config(endpoint=url, sending_queue=FAST_QUEUE, stop_timeout=Duration("1s")), runtime)
    for exporter in (good, bad):
        await exporter.start()
        exporter.consume(our_spans())
    await eventually(lambda: len(seen) == 1 and bad.health().state is State.DEGRADED, "one span, and one refusal")
    assert "CERTIFICATE_VERIFY_FAILED" in bad.health().reason or "Certificate" in bad.health().reason
    for exporter in (good, bad):
        await exporter.stop()
    await runner.cleanup()
