import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sidecar.model.spec import Duration
from sidecar.runtime.runtime import Runtime, State
from sidecar.telemetry.exporters.file import Config, FileExporter, RotationSpec, build
from sidecar.telemetry.otlp import message
from sidecar.telemetry.otlp_json import from_json
from sidecar.telemetry.queue import BatchSpec, QueueSpec
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Batch, Signal
from tests.sidecar_under_test import eventually
from tests.telemetry.requests import request_of, traces

FAST_QUEUE = QueueSpec(batch=BatchSpec(flush_timeout=Duration("1ms")))
FAST_RETRY = RetrySpec(initial_interval=Duration("5ms"), max_interval=Duration("10ms"))


async def exporter(path: Path, **settings: Any) -> tuple[FileExporter, Runtime]:
    runtime = Runtime()
    usual = {"path": str(path), "sending_queue": FAST_QUEUE, "retry_on_failure": FAST_RETRY}
    made = build("file", Config(**{**usual, **settings}), runtime)
    await made.start()
    return made, runtime


def batch(signal: Signal = Signal.TRACES, request: Any = None, items: int = 2) -> Batch:
    return Batch.of(signal, (request or request_of(signal)).SerializeToString(), items)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def write(made: FileExporter, *batches: Batch) -> None:
    for each in batches:
        assert made.consume(each)
        await asyncio.sleep(0.01)
    await made.stop()


@pytest.mark.parametrize("signal", Signal)
async def test_a_request_is_a_line_of_otlp_json(tmp_path: Path, signal: Signal) -> None:
    path = tmp_path / "out.jsonl"
    request = request_of(signal)
    made, _ = await exporter(path)
    await write(made, batch(signal, request))
    (line,) = path.read_bytes().splitlines()
    assert from_json(line, message(signal)()) == request
    assert list(json.loads(line)) == [{"traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs"}[signal]]


async def test_the_file_is_for_its_owner_only_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for _ in range(2):
        made, runtime = await exporter(path)
        await write(made, batch())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(lines(path)) == 2
    assert runtime.metrics.counter("telemetry.exporters.file.sent_spans", "", exporter="file").value == 2
    assert made.health().state is State.STOPPED


async def test_without_append_a_new_start_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    made, _ = await exporter(path, append=False)
    await write(made, batch(), batch())
    assert len(lines(path)) == 2


async def test_a_file_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    made, _ = await exporter(path)
    made.consume(batch())
    await eventually(path.exists, "a file")
    await eventually(lambda: lines(path), "a line")
    os.rename(path, tmp_path / "moved")
    await write(made, batch())
    assert (len(lines(path)), len(lines(tmp_path / "moved"))) == (1, 1)


async def test_large_files_are_moved_away_and_the_oldest_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    made, _ = await exporter(path, rotation=RotationSpec(max_megabytes=1, max_backups=2))
    for number in range(4):
        request = traces(300, padding=2000)
        request.resource_spans[0].schema_url = f"https://example.org/{number}"
        made.consume(batch(request=request, items=300))
        await eventually(lambda expected=f"/{number}": path.exists() and expected in path.read_text()[-100:], "the next file")
    await made.stop()
    found = sorted(file.name for file in tmp_path.iterdir())
    assert found == ["out.jsonl", "out.jsonl.1", "out.jsonl.2"]
    numbers = [lines(tmp_path / name)[0]["resourceSpans"][0]["schemaUrl"][-1] for name in found]
    assert numbers == ["3", "2", "1"]


async def test_without_backups_a_large_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("x" * 2**20)
    made, _ = await exporter(path, rotation=RotationSpec(max_megabytes=1, max_backups=0))
    await write(made, batch())
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]
    assert len(lines(path)) == 1


async def test_a_folder_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "later" / "out.jsonl"
    made, _ = await exporter(path)
    made.consume(batch())
    await eventually(lambda: made.health().state is State.DEGRADED, "degradation")
    assert "No such file" in made.health().reason
    path.parent.mkdir()
    await eventually(lambda: made.health().state is State.OK, "recovery")
    await made.stop()
    assert len(lines(path)) == 1


async def test_a_disk_that_is_full_leaves_no_half_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    made, _ = await exporter(path)
    made.consume(batch())
    await eventually(lambda: lines(path), "a line")
    real_write = os.write
    full = [True, True]

    def write_half(file: int, data: Any) -> int:
        if not full or len(data) < 100 or os.fstat(file).st_ino != path.stat().st_ino:
            return real_write(file, data)
        if full.pop():
            return real_write(file, data[:50]) if len(full) == 1 else _no_space()
        raise AssertionError

    def _no_space() -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write_half)
    made.consume(batch())
    await eventually(lambda: len(path.read_bytes().splitlines()) == 2 and not full, "the second line")
    await made.stop()
    assert len(lines(path)) == 2


async def test_what_is_no_request_is_dropped(tmp_path: Path) -> None:
    made, runtime = await exporter(tmp_path / "out.jsonl")
    await write(made, Batch.of(Signal.TRACES, b"\x0a\x05x", 3), batch())
    assert runtime.metrics.counter("telemetry.exporters.file.send_failed_spans", "", exporter="file").value == 3
    assert len(lines(tmp_path / "out.jsonl")) == 1


@pytest.mark.parametrize(
    "make", [lambda: Config(path=""), lambda: RotationSpec(max_megabytes=0), lambda: RotationSpec(max_backups=-1)]
)
def test_settings_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError):
        make()


async def test_stopping_without_a_start_does_no_harm(tmp_path: Path) -> None:
    await build("file", Config(path=str(tmp_path / "x")), Runtime()).stop()
    assert not list(tmp_path.iterdir())
