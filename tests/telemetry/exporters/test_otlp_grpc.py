import asyncio
import os
import time
from collections.abc import AsyncIterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.model.spec import Duration, Secret
from sidecar.runtime.runtime import Runtime, State
from sidecar.telemetry.destination import OWN_PORTS, TlsSpec
from sidecar.telemetry.exporters.otlp_grpc import Config, OtlpGrpcExporter, build
from sidecar.telemetry.queue import BatchSpec, QueueSpec
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Batch, Signal
from sidecar.telemetry.spans import SpanWriter
from sidecar.telemetry.wire import text_attribute
from tests.otlp_collector import Answer, OtlpCollector, fail, partial, slow, throttle
from tests.sidecar_under_test import eventually
from tests.telemetry.facts import attempt, exchange
from tests.telemetry.requests import request_of

FAST_RETRY = RetrySpec(initial_interval=Duration("5ms"), max_interval=Duration("10ms"), max_elapsed_time=Duration("20s"))
FAST_QUEUE = QueueSpec(batch=BatchSpec(flush_timeout=Duration("2ms")))
PLAIN = TlsSpec(insecure=True)


class Scene:
    """An exporter in front of a strict collector."""

    def __init__(self, collector: OtlpCollector) -> None:
        self.collector = collector
        self.runtime = Runtime(environ={})
        self.exporters: list[OtlpGrpcExporter] = []

    async def exporter(self, **settings: Any) -> OtlpGrpcExporter:
        usual = {
            "endpoint": self.collector.grpc_endpoint,
            "tls": PLAIN,
            "sending_queue": FAST_QUEUE,
            "retry_on_failure": FAST_RETRY,
        }
        made = build("otlp_grpc/test", Config(**{**usual, **settings}), self.runtime)
        self.exporters.append(made)
        await made.start()
        return made

    def count(self, name: str) -> int:
        return self.runtime.metrics.counter(f"telemetry.exporters.otlp_grpc.{name}", "", exporter="otlp_grpc/test").value


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with OtlpCollector() as collector:
        made = Scene(collector)
        yield made
        for exporter in made.exporters:
            await exporter.stop()


WRITER = SpanWriter(text_attribute("service.name", "sidecar-under-test", number=1), scope_version="1")


def our_spans() -> Batch:
    facts = [attempt(span_id=os.urandom(8)), exchange(span_id=os.urandom(8))]
    return Batch.of(Signal.TRACES, WRITER.request(facts), len(facts))


async def test_spans_arrive_with_the_metadata_of_the_settings(scene: Scene) -> None:
    exporter = await scene.exporter(headers={"X-Api-Key": Secret("s3cret")})
    assert exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    (request,) = scene.collector.requests
    assert (request.protocol, request.headers["x-api-key"]) == ("grpc", "s3cret")
    assert request.headers["user-agent"].startswith("agent-sre-sidecar/")
    await eventually(lambda: scene.count("sent_spans") == 2, "the count")
    assert exporter.health().state is State.OK


@pytest.mark.parametrize("signal", Signal)
async def test_each_signal_goes_to_its_own_service(scene: Scene, signal: Signal) -> None:
    exporter = await scene.exporter(compression="gzip")
    exporter.consume(Batch.of(signal, request_of(signal).SerializeToString(), 2))
    (request,) = await scene.collector.wait_for_requests(1)
    assert (request.signal, request.was_taken) == (signal.value, True)


@pytest.mark.parametrize("code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"])
async def test_what_may_succeed_later_is_sent_again(scene: Scene, code: str) -> None:
    scene.collector.script(fail(503, code), fail(503, code))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    await eventually(lambda: scene.count("sent_spans") == 2, "the count")
    assert len(scene.collector.requests) == 3


@pytest.mark.parametrize(
    "code",
    [
        "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "FAILED_PRECONDITION", "UNIMPLEMENTED",
        "INTERNAL", "UNKNOWN", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED",
    ],
)  # fmt: skip
async def test_every_other_refusal_is_final(scene: Scene, code: str) -> None:
    scene.collector.script(fail(400, code, "no, thank you"))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("send_failed_spans") == 2, "the count")
    health = exporter.health()
    assert (health.state, f"{code}: no, thank you" in health.reason) == (State.DEGRADED, True)
    assert len(scene.collector.requests) == 1


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
async def test_retry_info_says_when_to_come_again(scene: Scene, code: str) -> None:
    scene.collector.script(throttle(0.5, grpc_code=code))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)
    first, second = scene.collector.requests
    assert 0.45 <= second.at - first.at < 5


async def test_details_that_cannot_be_read_ask_for_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.otlp_collector._status", lambda *_: b"\x0a\x05x")
    scene.collector.script(throttle(0.5))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("send_failed_spans") == 2, "the count")


async def test_a_partial_success_is_counted_and_not_sent_again(scene: Scene) -> None:
    scene.collector.script(partial(1, "too old"))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("rejected_spans") == 1, "the count")
    assert (scene.count("sent_spans"), len(scene.collector.requests)) == (1, 1)


async def test_an_answer_that_cannot_be_read_is_success_all_the_same(scene: Scene) -> None:
    scene.collector.script(Answer(body=b"\x0a\x05garbage"))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("sent_spans") == 2, "the count")


async def test_an_answer_without_end_is_not_asked_for_again(scene: Scene) -> None:
    scene.collector.script(Answer(body=b"x" * (4 * 2**20 + 1)))
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await eventually(lambda: scene.count("send_failed_spans") == 2, "the count")
    assert len(scene.collector.requests) == 1


async def test_a_dead_backend_fails_no_caller_and_is_sent_to_when_it_comes(scene: Scene, free_port: Any) -> None:
    exporter = await scene.exporter(endpoint=f"http://127.0.0.1:{free_port()}", stop_timeout=Duration("1s"))
    assert exporter.consume(our_spans())
    await eventually(lambda: exporter.health().state is State.DEGRADED, "degradation")
    assert "UNAVAILABLE" in exporter.health().reason
    started = time.monotonic()
    await exporter.stop()
    assert time.monotonic() - started < 3
    assert scene.count("send_failed_spans") == 2


async def test_a_backend_that_does_not_answer_in_time_is_tried_again(scene: Scene) -> None:
    scene.collector.script(Answer(grpc_code="UNAVAILABLE", delay_s=1.0))
    exporter = await scene.exporter(timeout=Duration("100ms"))
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)


async def test_the_end_sends_what_waits(scene: Scene) -> None:
    scene.collector.script(slow(0.1))
    exporter = await scene.exporter(sending_queue=QueueSpec(batch=BatchSpec(flush_timeout=Duration("1h"))))
    exporter.consume(our_spans())
    await exporter.stop()
    await exporter.stop()
    assert (scene.count("sent_spans"), exporter.health().state) == (2, State.STOPPED)


async def test_proxies_of_the_environment_are_not_used(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    exporter = await scene.exporter()
    exporter.consume(our_spans())
    await scene.collector.wait_for_spans(2)


async def test_it_does_not_send_to_ourselves(scene: Scene) -> None:
    scene.runtime.services[OWN_PORTS] = {1: {int(scene.collector.grpc_endpoint.rpartition(":")[2])}}
    with pytest.raises(ValueError, match="own OTLP receiver"):
        await scene.exporter()


async def test_stopping_without_a_start_does_no_harm() -> None:
    await build("otlp_grpc", Config(), Runtime(environ={})).stop()


@pytest.mark.parametrize(
    "settings", [{"endpoint": "collector"}, {"tls": TlsSpec(insecure_skip_verify=True)}, {"endpoint": "ftp://x:1"}]
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        build("otlp_grpc", Config(**settings), Runtime(environ={}))


async def test_tls_verifies_with_the_authority_that_is_configured(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme", reason="needs the test dependency trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("collector.example.org")
    client = authority.issue_cert("sidecar.example.org")
    client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    credentials = grpc.ssl_server_credentials(
        [(issued.private_key_pem.bytes(), chain)], authority.cert_pem.bytes(), require_client_auth=True
    )
    seen: list[bytes] = []

    def export(body: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(body)
        return b""

    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    pool = futures.ThreadPoolExecutor(1)
    server = grpc.server(pool)
    handler = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": handler})])
    endpoint = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    runtime = Runtime(environ={})
    files = {"ca_file": str(tmp_path / "ca.pem"), "cert_file": str(tmp_path / "client.pem")}
    trusting = TlsSpec(**files, server_name_override="collector.example.org")
    good = build("otlp_grpc/good", Config(endpoint=endpoint, tls=trusting, sending_queue=FAST_QUEUE), runtime)
    bad = build("otlp_grpc/bad", Config(endpoint=endpoint, sending_queue=FAST_QUEUE, stop_timeout=Duration("1s")), runtime)
    for exporter in (good, bad):
        await exporter.start()
        exporter.consume(our_spans())
    await eventually(lambda: len(seen) == 1 and bad.health().state is State.DEGRADED, "one span, and one refusal")
    for exporter in (good, bad):
        await exporter.stop()
    await asyncio.to_thread(server.stop(0).wait, 5)
    pool.shutdown()
