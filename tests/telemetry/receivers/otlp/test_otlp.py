import asyncio
import sys
from typing import Any

import aiohttp
import grpc.aio
import pytest

from sidecar.model.spec import Size
from sidecar.runtime.runtime import Runtime, State
from sidecar.telemetry.destination import OWN_PORTS
from sidecar.telemetry.otlp import GRPC_METHODS
from sidecar.telemetry.receivers.otlp import Config, GrpcSpec, HttpSpec, OtlpReceiver, ProtocolsSpec, build
from sidecar.telemetry.signals import Batch, Signal
from tests.telemetry.requests import traces

FREE = "127.0.0.1:0"


def receiver(runtime: Runtime, *, grpc: str | None = None, http: str | None = None) -> tuple[OtlpReceiver, list[Batch]]:
    protocols = ProtocolsSpec(
        grpc=GrpcSpec(endpoint=grpc) if grpc else None,
        http=HttpSpec(endpoint=http) if http else None,
    )
    made = build("otlp", Config(protocols=protocols), runtime)
    batches: list[Batch] = []

    def consume(batch: Batch) -> bool:
        batches.append(batch)
        return True

    made.connect({Signal.TRACES: consume})
    return made, batches


async def test_both_protocols_feed_the_same_pipelines() -> None:
    runtime = Runtime()
    made, batches = receiver(runtime, grpc=FREE, http=FREE)
    assert made.health().state is State.STARTING
    await made.start()
    assert made.health().state is State.OK
    assert set(made.endpoints) == {"grpc", "http"}
    ports = {port for _, port in made.endpoints.values()}
    assert runtime.services[OWN_PORTS][id(made)] - {0} == ports
    body = traces(2).SerializeToString()
    headers = {"Content-Type": "application/x-protobuf"}
    url = "http://{}:{}/v1/traces".format(*made.endpoints["http"])
    async with aiohttp.ClientSession() as client, client.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200
    async with grpc.aio.insecure_channel("{}:{}".format(*made.endpoints["grpc"])) as channel:
        await channel.unary_unary(GRPC_METHODS[Signal.TRACES])(body)
    assert batches == [Batch.of(Signal.TRACES, body, 2)] * 2
    await made.stop()
    assert (made.health().state, made.endpoints) == (State.STOPPED, {})
    await made.stop()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_protocol_that_is_not_named_is_off(protocol: str) -> None:
    made, _ = receiver(Runtime(), **{protocol: FREE})
    await made.start()
    assert set(made.endpoints) == {protocol}
    await made.stop()


async def test_where_one_port_is_taken_nothing_listens() -> None:
    first, _ = receiver(Runtime(), http=FREE)
    await first.start()
    host, port = first.endpoints["http"]
    second, _ = receiver(Runtime(), grpc=FREE, http=f"{host}:{port}")
    with pytest.raises(OSError, match="in use"):
        await second.start()
    assert second.endpoints == {}
    await first.stop()


def test_by_default_both_listen_on_loopback() -> None:
    protocols = Config().protocols
    assert protocols.grpc is not None
    assert protocols.http is not None
    assert (protocols.grpc.endpoint, protocols.http.endpoint) == ("127.0.0.1:4317", "127.0.0.1:4318")
    runtime = Runtime()
    build("otlp", Config(), runtime)
    assert [*runtime.services[OWN_PORTS].values()] == [{4317, 4318}]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProtocolsSpec(),
        lambda: GrpcSpec(endpoint="4317"),
        lambda: GrpcSpec(endpoint="localhost:70000"),
        lambda: HttpSpec(endpoint="http://localhost:4318"),
        lambda: HttpSpec(traces_url_path="v1/traces"),
        lambda: HttpSpec(max_request_body_size=Size("65MiB")),
        lambda: GrpcSpec(max_recv_msg_size_mib=0),
        lambda: Config(max_concurrent_requests=0),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Any) -> None:
    with pytest.raises(ValueError):
        make()


async def test_servers_are_loaded_by_start_only() -> None:
    code = (
        "import sys, sidecar.telemetry.receivers.otlp as m, sidecar.runtime.runtime as r;"
        "m.build('otlp', m.Config(), r.Runtime());"
        "bad = {'aiohttp', 'grpc', 'google.protobuf'} & sys.modules.keys();"
        "assert not bad, bad"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
