from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.otlp import GRPC_METHODS, status_of
from sidecar.telemetry.receivers.otlp import GrpcSpec
from sidecar.telemetry.receivers.otlp.grpc import build
from sidecar.telemetry.receivers.otlp.intake import Intake
from sidecar.telemetry.signals import Batch, Signal
from tests.telemetry.requests import request_of, traces


class Scene:
    """A server with pipelines for traces and logs, and a client."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.takes = True
        self.intake = Intake("otlp", Runtime(), most_at_once=2)
        self.intake.consumers = {Signal.TRACES: self._consume, Signal.LOGS: self._consume}
        self.server = build(GrpcSpec(max_recv_msg_size_mib=1), self.intake)
        self.channel: Any = None
        self.port = 0

    def _consume(self, batch: Batch) -> bool:
        self.batches.append(batch)
        return self.takes

    async def export(self, body: bytes, signal: Signal = Signal.TRACES, **how: Any) -> bytes:
        answer: bytes = await self.channel.unary_unary(GRPC_METHODS[signal])(body, timeout=10, **how)
        return answer

    async def refusal(self, body: bytes, signal: Signal = Signal.TRACES) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.export(body, signal)
        return refused.value


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    host, made.port = await made.server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"{host}:{made.port}") as made.channel:
        yield made
    made.channel = None  # the last channel holds a thread and two sockets
    await made.server.stop()


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_bytes_come_in_and_are_passed_on(scene: Scene, compression: Any) -> None:
    body = traces(3).SerializeToString()
    assert await scene.export(body, compression=compression) == b""
    assert scene.batches == [Batch.of(Signal.TRACES, body, 3)]


async def test_each_signal_has_its_service(scene: Scene) -> None:
    await scene.export(request_of(Signal.LOGS).SerializeToString(), Signal.LOGS)
    assert scene.batches[0].signal is Signal.LOGS
    refused = await scene.refusal(request_of(Signal.METRICS).SerializeToString(), Signal.METRICS)
    assert (refused.code(), refused.details()) == (grpc.StatusCode.UNIMPLEMENTED, "no pipeline takes metrics")


async def test_what_cannot_be_read_is_an_invalid_argument(scene: Scene) -> None:
    refused = await scene.refusal(b"\x0a\x05x")
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no valid traces" in refused.details()


async def test_a_request_that_is_too_large_is_not_to_come_again(scene: Scene) -> None:
    refused = await scene.refusal(b"0" * 1_100_000)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not [key for key, _ in refused.trailing_metadata() if key == "grpc-status-details-bin"]


async def test_without_room_the_sender_is_told_when_to_come_again(scene: Scene) -> None:
    scene.takes = False
    refused = await scene.refusal(traces().SerializeToString())
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(refused.trailing_metadata())["grpc-status-details-bin"]
    assert status_of(details) == ("no exporter has room", 1.0)


async def test_a_port_that_is_taken_is_an_error(scene: Scene) -> None:
    other = build(GrpcSpec(), scene.intake)
    with pytest.raises(OSError, match="cannot listen"):
        await other.start("127.0.0.1", scene.port)
    await other.stop()
