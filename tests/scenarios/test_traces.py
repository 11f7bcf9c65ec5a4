"""A call through the sidecar is two spans in a backend, between the agent's own span and nothing else."""

import asyncio
from typing import Any

import aiohttp
import pytest
import yaml

from sidecar.config import load
from tests.otlp_collector import OtlpCollector, fail
from tests.peers.echo import EchoUpstream
from tests.peers.raw import RawUpstream
from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest, config_for, eventually
from tests.telemetry.requests import traces

TRACE, AGENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PATIENCE = aiohttp.ClientTimeout(total=10)
AT_ONCE = {"batch": {"flush_timeout": "5ms"}}


def with_telemetry(upstream: RawUpstream, collector: OtlpCollector, exporter: str = "otlp_http") -> dict[str, Any]:
    """A config whose spans, and those of the agents, go to the collector."""
    config = config_for(upstream.url)
    settings = {"sending_queue": AT_ONCE, "retry_on_failure": {"initial_interval": "10ms", "max_interval": "20ms"}}
    config["receivers"] = {
        "traffic": {"flush_interval": "5ms"},
        "otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}},
    }
    config["exporters"] = {
        "otlp_http": {"endpoint": collector.http_endpoint, **settings},
        "otlp_grpc": {"endpoint": collector.grpc_endpoint, "tls": {"insecure": True}, **settings},
    }
    config["service"] = {"pipelines": {"traces": {"receivers": ["traffic", "otlp"], "exporters": [exporter]}}}
    return config


async def calls(sidecar: SidecarUnderTest, traceparent: str = f"00-{TRACE}-{AGENT_SPAN}-01", **headers: str) -> int:
    """One POST through the gateway; returns its status."""
    fields = {"traceparent": traceparent, "x-agent-id": "support-bot", "x-agent-task-id": "task-7", **headers}
    async with (
        aiohttp.ClientSession(timeout=PATIENCE) as client,
        client.post(f"{sidecar.url}/llm/v1/chat?key=secret", headers=fields, data=b"{}") as answer,
    ):
        await answer.read()
        return answer.status


@pytest.mark.parametrize("exporter", ["otlp_http", "otlp_grpc"])
async def test_the_sidecar_stands_between_the_agents_span_and_the_upstream(opened: Opened, exporter: str) -> None:
    collector = await opened(OtlpCollector())
    upstream = await opened(EchoUpstream())
    sidecar = await opened(SidecarUnderTest(with_telemetry(upstream, collector, exporter)))
    assert await calls(sidecar) == 200
    await collector.wait_for_spans(2)
    server, client = collector.span(kind="SERVER"), collector.span(kind="CLIENT")
    assert (server.trace_id, server.parent_id) == (TRACE, AGENT_SPAN)
    assert collector.parent_of(client) == server
    assert server.name == "POST /llm/"
    assert server.attributes["url.query"] == "key=REDACTED"
    assert server.attributes["gen_ai.agent.id"] == client.attributes["gen_ai.agent.id"] == "support-bot"
    assert server.attributes["sidecar.task.id"] == "task-7"
    assert client.attributes["url.full"] == f"{upstream.url}/base/v1/chat?key=REDACTED"
    assert client.attributes["http.request.body.size"] == 2
    assert server.attributes["client.address"] == client.attributes["network.peer.address"] == "127.0.0.1"
    assert server.resource["service.name"] == "agent-sre-sidecar"


async def test_what_is_not_sampled_leaves_no_span(opened: Opened) -> None:
    collector = await opened(OtlpCollector())
    upstream = await opened(EchoUpstream())
    sidecar = await opened(SidecarUnderTest(with_telemetry(upstream, collector)))
    assert await calls(sidecar, f"00-{TRACE}-{AGENT_SPAN}-00") == 200
    assert await calls(sidecar, f"00-{TRACE[::-1]}-{AGENT_SPAN}-01") == 200
    await collector.wait_for_spans(2)
    assert {span.trace_id for span in collector.spans} == {TRACE[::-1]}


async def test_an_upstream_that_fails_is_an_error_on_both_spans(opened: Opened) -> None:
    async def closes(connection: Any) -> None:
        await connection.request()
        connection.close()

    collector = await opened(OtlpCollector())
    upstream = await opened(RawUpstream(closes))
    sidecar = await opened(SidecarUnderTest(with_telemetry(upstream, collector)))
    assert await calls(sidecar) == 502
    await collector.wait_for_spans(2)
    for span in collector.spans:
        assert span.is_error
        assert span.attributes["error.type"] == span.attributes["sidecar.error"] == "upstream_closed"


async def test_the_spans_of_the_agent_pass_through_to_the_same_backend(opened: Opened) -> None:
    collector = await opened(OtlpCollector())
    upstream = await opened(EchoUpstream())
    sidecar = await opened(SidecarUnderTest(with_telemetry(upstream, collector)))
    await sidecar.app.ready()
    host, port = sidecar.app.endpoints["receivers.otlp.protocols.http"]
    headers = {"Content-Type": "application/x-protobuf"}
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"http://{host}:{port}/v1/traces", data=traces(3).SerializeToString(), headers=headers) as answer,
    ):
        assert answer.status == 200
    await collector.wait_for_spans(3)
    assert {span.resource["service.name"] for span in collector.spans} == {"agent-0"}


async def test_calls_of_the_first_moment_are_not_lost(opened: Opened) -> None:
    collector = await opened(OtlpCollector())
    upstream = await opened(EchoUpstream())
    sidecar = await opened(SidecarUnderTest(with_telemetry(upstream, collector)))  # the proxy listens, exporters may not be up
    assert await asyncio.gather(*(calls(sidecar) for _ in range(5))) == [200] * 5
    await collector.wait_for_spans(10)
    assert len(collector.find(kind="SERVER")) == len(collector.find(kind="CLIENT")) == 5


async def test_what_waits_at_the_end_is_sent_before_the_end(opened: Opened) -> None:
    collector = await opened(OtlpCollector())
    upstream = await opened(EchoUpstream())
    config = with_telemetry(upstream, collector)
    config["receivers"]["traffic"] = {"flush_interval": "1h"}
    config["exporters"]["otlp_http"]["sending_queue"] = {"batch": {"flush_timeout": "1h"}}
    async with SidecarUnderTest(config) as sidecar:
        await sidecar.app.ready()
        assert await calls(sidecar) == 200
        await sidecar.finished()
        assert collector.spans == []
    assert len(collector.spans) == 2


async def test_a_reload_moves_the_spans_to_another_backend_and_loses_none(opened: Opened) -> None:
    first, second = await opened(OtlpCollector()), await opened(OtlpCollector())
    upstream = await opened(EchoUpstream())
    sidecar = await opened(SidecarUnderTest(with_telemetry(upstream, first)))
    await sidecar.app.ready()
    config = with_telemetry(upstream, second, "otlp_grpc")
    for number in range(20):
        assert await calls(sidecar) == 200
        if number == 10:
            await eventually(lambda: len(first.spans) == 22, "the spans of the calls so far")
            assert await sidecar.app.reload(load(yaml.safe_dump(config)))
    await eventually(lambda: len(first.spans) + len(second.spans) == 40, "all spans")
    assert first.spans
    assert len(second.spans) >= 18


async def test_a_backend_that_was_away_gets_what_waited(opened: Opened) -> None:
    collector = await opened(OtlpCollector())
    collector.answer_always(fail(503))
    upstream = await opened(EchoUpstream())
    sidecar = await opened(SidecarUnderTest(with_telemetry(upstream, collector)))
    assert await calls(sidecar) == 200
    await collector.wait_for_requests(3)
    health = sidecar.app.health()["exporters.otlp_http"]
    assert (health.state, health.ready) == ("degraded", True)
    collector.answer_always(None)
    await collector.wait_for_spans(2)
    await eventually(lambda: sidecar.app.health()["exporters.otlp_http"].state == "ok", "recovery")
