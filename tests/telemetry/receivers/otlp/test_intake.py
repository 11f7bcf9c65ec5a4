import asyncio
import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.otlp_json import to_json
from sidecar.telemetry.receivers.otlp.intake import Intake, Refusal, decompressed
from sidecar.telemetry.signals import Batch, Signal
from tests.telemetry.requests import request_of, traces

MOST = 10_000


class Scene:
    """An intake whose only pipeline is for traces."""

    def __init__(self, *, takes: bool = True, most_at_once: int = 2) -> None:
        self.batches: list[Batch] = []
        self.takes = takes
        self.runtime = Runtime()
        self.intake = Intake("otlp", self.runtime, most_at_once=most_at_once)
        self.intake.consumers = {Signal.TRACES: self._consume}

    def _consume(self, batch: Batch) -> bool:
        self.batches.append(batch)
        return self.takes

    async def take(self, body: bytes, signal: Signal = Signal.TRACES, most_bytes: int = MOST, **how: Any) -> None:
        await self.intake.take(signal, body, most_bytes, protocol="http", **how)

    async def refusal(self, body: bytes, *args: Any, **how: Any) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await self.take(body, *args, **how)
        return refused.value

    def counts(self) -> dict[str, int]:
        found = {}
        for family in self.runtime.metrics:
            for labels, metric in family.series.items():
                assert dict(labels) == {"receiver": "otlp", "protocol": "http"}
                assert isinstance(metric, Counter)
                found[family.name.removeprefix("telemetry.receivers.otlp.")] = metric.value
        return found


async def test_a_request_is_passed_on_as_the_bytes_that_it_is() -> None:
    scene = Scene()
    body = traces(3).SerializeToString()
    await scene.take(body)
    assert scene.batches == [Batch(Signal.TRACES, (body,), 3, len(body))]
    assert scene.batches[0].chunks[0] is body
    assert scene.counts() == {"accepted_spans": 3}


async def test_json_becomes_protobuf() -> None:
    scene = Scene()
    request = traces(2)
    await scene.take(to_json(request), is_json=True)
    assert scene.batches == [Batch.of(Signal.TRACES, request.SerializeToString(), 2)]


@pytest.mark.parametrize(("body", "is_json"), [(b"", False), (b"{}", True), (traces(0).SerializeToString(), False)])
async def test_a_request_without_items_is_taken_and_forgotten(body: bytes, *, is_json: bool) -> None:
    scene = Scene()
    await scene.take(body, is_json=is_json)
    assert (scene.batches, scene.counts()) == ([], {})


@pytest.mark.parametrize(("body", "is_json"), [(b"\x0a\x05x", False), (b"{", True), (b"[]", True)])
async def test_what_cannot_be_read_is_refused_for_good(body: bytes, *, is_json: bool) -> None:
    scene = Scene()
    refused = await scene.refusal(body, is_json=is_json)
    assert (refused.http_status, refused.grpc_code, refused.retry_after_s) == (400, 3, None)
    assert "no valid traces" in str(refused)
    assert scene.counts() == {"failed_requests": 1}


async def test_without_room_the_sender_is_told_to_come_again() -> None:
    scene = Scene(takes=False)
    refused = await scene.refusal(traces(3).SerializeToString())
    assert (refused.http_status, refused.grpc_code, refused.retry_after_s) == (503, 14, 1.0)
    assert scene.counts() == {"refused_spans": 3}


async def test_a_signal_without_a_pipeline_is_unimplemented() -> None:
    refused = await Scene().refusal(request_of(Signal.LOGS).SerializeToString(), Signal.LOGS)
    assert (refused.http_status, refused.grpc_code) == (404, 12)


async def test_large_requests_are_read_in_a_thread() -> None:
    scene = Scene()
    body = traces(20, padding=5000).SerializeToString()
    assert len(body) > 64 * 1024
    await scene.take(body, most_bytes=2**20)
    refused = await scene.refusal(body[:-1], most_bytes=2**20)
    assert (refused.http_status, scene.counts()) == (400, {"accepted_spans": 20, "failed_requests": 1})


async def test_only_so_many_are_read_at_once() -> None:
    intake = Scene(most_at_once=2).intake
    with intake.place(), intake.place():
        with pytest.raises(Refusal) as refused, intake.place():
            pass
        assert refused.value.http_status == 503
    with intake.place():
        await asyncio.sleep(0)


ENCODE = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zlib": zlib.compress,
    "identity": bytes,
    "": bytes,
}


@given(st.binary(max_size=200), st.sampled_from(sorted(ENCODE)))
def test_every_encoding_reads_back(body: bytes, encoding: str) -> None:
    assert decompressed(ENCODE[encoding](body), encoding.upper(), MOST) == body


def test_deflate_without_zlibs_header_and_gzip_in_pieces_are_read() -> None:
    raw = zlib.compressobj(wbits=-15)
    assert decompressed(raw.compress(b"body") + raw.flush(), "deflate", MOST) == b"body"
    assert decompressed(gzip.compress(b"one ", mtime=0) + gzip.compress(b"two"), "gzip", MOST) == b"one two"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
def test_a_bomb_is_refused_before_it_is_large(encoding: str) -> None:
    body = ENCODE[encoding](b"0" * 50_000_000) if encoding else b"0" * (MOST + 1)
    with pytest.raises(Refusal) as refused:
        decompressed(body, encoding, MOST)
    assert (refused.value.http_status, refused.value.grpc_code) == (413, 8)
    with pytest.raises(Refusal):
        decompressed(gzip.compress(b"0" * MOST, mtime=0) + gzip.compress(b"0"), "gzip", MOST)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"no gzip", "gzip", 400),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "gzip", 400),
        (zlib.compress(b"x" * 100)[:-5], "deflate", 400),
        (b"x", "br", 415),
        (b"x", "gzip, gzip", 415),
    ],
)
def test_broken_and_unknown_encodings_are_refused(body: bytes, encoding: str, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        decompressed(body, encoding, MOST)
    assert refused.value.http_status == status
