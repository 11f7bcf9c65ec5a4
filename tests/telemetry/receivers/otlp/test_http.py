import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from sidecar.model.spec import Size
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.otlp import message, status_of
from sidecar.telemetry.otlp_json import to_json
from sidecar.telemetry.receivers.otlp import HttpSpec
from sidecar.telemetry.receivers.otlp import http as over_http
from sidecar.telemetry.receivers.otlp.http import JSON, PROTOBUF, build
from sidecar.telemetry.receivers.otlp.intake import Intake
from sidecar.telemetry.signals import Batch, Signal
from tests.telemetry.requests import request_of, traces


class Scene:
    """A server with pipelines for every signal, and a client."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.client = client
        self.batches: list[Batch] = []
        self.takes = True
        self.intake = Intake("otlp", Runtime(), most_at_once=3)
        self.intake.consumers = dict.fromkeys(Signal, self._consume)
        self.server = build(HttpSpec(max_request_body_size=Size("64KiB"), logs_url_path="/my/logs"), self.intake)
        self.url = ""

    def _consume(self, batch: Batch) -> bool:
        self.batches.append(batch)
        return self.takes

    async def post(
        self, body: Any, path: str = "/v1/traces", content_type: str = PROTOBUF, method: str = "POST", **headers: str
    ) -> tuple[int, str, bytes, Any]:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(
            method, self.url + path, data=body, headers={"Content-Type": content_type, **headers}
        ) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), await answer.read(), answer.headers


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with aiohttp.ClientSession() as client:
        made = Scene(client)
        host, port = await made.server.start("127.0.0.1", 0)
        made.url = f"http://{host}:{port}"
        yield made
        await made.server.stop()


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
async def test_each_signal_is_taken_and_answered_in_the_type_of_the_request(scene: Scene, signal: Signal, content_type: str) -> None:
    request = request_of(signal)
    body = to_json(request) if content_type == JSON else request.SerializeToString()
    path = "/my/logs" if signal is Signal.LOGS else f"/v1/{signal}"
    status, answered_type, answer, _ = await scene.post(body, path, content_type)
    assert (status, answered_type.partition(";")[0], answer) == (200, content_type, b"{}" if content_type == JSON else b"")
    (batch,) = scene.batches
    assert (batch.signal, batch.items) == (signal, 2)
    assert message(signal).FromString(batch.chunks[0]) == request


@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
async def test_compressed_requests_are_read(scene: Scene, encoding: str) -> None:
    body = traces(3).SerializeToString()
    coded = {"gzip": gzip.compress, "deflate": zlib.compress, "": bytes}[encoding](body)
    status, *_ = await scene.post(coded, Content_Encoding=encoding)
    assert (status, scene.batches) == (200, [Batch.of(Signal.TRACES, body, 3)])


async def test_an_empty_request_is_a_success(scene: Scene) -> None:
    assert (await scene.post(b""))[0] == 200
    assert scene.batches == []


@pytest.mark.parametrize(
    ("how", "status", "text"),
    [
        ({"body": b"\x0a\x05x"}, 400, "no valid traces"),
        ({"body": b"no gzip", "Content_Encoding": "gzip"}, 400, "decompressed"),
        ({"body": b"x", "Content_Encoding": "zstd"}, 415, "Content-Encoding"),
        ({"body": b"x", "content_type": "text/plain"}, 415, "Content-Type"),
        ({"body": b"", "path": "/v1/spans"}, 404, "unknown path"),
        ({"body": b"", "path": "/v1/logs"}, 404, "unknown path"),
        ({"body": b"", "method": "PUT"}, 405, "posted"),
        ({"body": b"0" * 70_000}, 413, "at most 65536 bytes"),
        ({"body": gzip.compress(b"0" * 70_000), "Content_Encoding": "gzip"}, 413, "at most 65536 bytes"),
    ],
)
async def test_a_refusal_is_a_status_in_the_type_of_the_request(scene: Scene, how: dict[str, Any], status: int, text: str) -> None:
    found, content_type, answer, headers = await scene.post(**how)
    assert (found, content_type) == (status, PROTOBUF)
    assert text in status_of(answer)[0]
    assert "Retry-After" not in headers
    if status == 415:
        assert headers["Accept-Encoding"] == "gzip, deflate"
    if status == 405:
        assert headers["Allow"] == "POST"


async def test_a_refusal_of_json_is_json(scene: Scene) -> None:
    found, content_type, answer, _ = await scene.post(b'{"resourceSpans": 5}', content_type=f"{JSON}; charset=utf-8")
    assert (found, content_type.partition(";")[0]) == (400, JSON)
    assert json.loads(answer) == {"code": 3, "message": "no valid traces: resourceSpans: a list is expected, not 5"}


async def test_without_room_the_sender_is_told_when_to_come_again(scene: Scene) -> None:
    scene.takes = False
    status, _, answer, headers = await scene.post(traces().SerializeToString())
    assert (status, headers["Retry-After"], status_of(answer)[0]) == (503, "1", "no exporter has room")


async def test_a_body_in_chunks_is_bounded_too(scene: Scene) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"0" * 1024

    try:
        status, *_ = await scene.post(endless())
    except aiohttp.ClientError:
        return  # the server did not wait for the rest
    assert status == 413


async def test_a_sender_that_stops_in_the_middle_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_http, "BODY_TIMEOUT_S", 0.05)
    host, port = scene.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 10\r\n\r\nabc")
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()
    await writer.wait_closed()


async def test_many_slow_senders_do_not_take_all_the_memory(scene: Scene) -> None:
    host, port = scene.url.removeprefix("http://").split(":")
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 10\r\n\r\nabc"
    writers = []
    for _ in range(3):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head)
        writers.append(writer)
    status = 0
    async with asyncio.timeout(5):
        while status != 503:
            status, *_ = await scene.post(b"")
    for writer in writers:
        writer.close()
        await writer.wait_closed()


async def test_a_port_that_is_taken_is_an_error(scene: Scene) -> None:
    port = int(scene.url.rpartition(":")[2])
    other = build(HttpSpec(), scene.intake)
    with pytest.raises(OSError, match="address already in use"):
        await other.start("127.0.0.1", port)
    await other.stop()
