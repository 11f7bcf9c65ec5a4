import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.runtime.runtime import Health, State
from sidecar.telemetry.pipeline import Pipelines, fan_out
from sidecar.telemetry.signals import Batch, Consume, Signal
from sidecar.telemetry.spec import PipelineSpec

BATCH = Batch.of(Signal.TRACES, b"chunk", 1)


class Part:
    """A receiver, processor and exporter in one; it writes what happens to it into a common diary."""

    def __init__(self, name: str, diary: list[str], *, takes: bool = True, fails: str = "") -> None:
        self.name = name
        self.diary = diary
        self.takes = takes
        self.fails = fails
        self.taken: list[Batch] = []
        self.consumers: Mapping[Signal, Consume] = {}

    def connect(self, consumers: Mapping[Signal, Consume]) -> None:
        self.consumers = consumers
        self.diary.append(f"connect {self.name}")

    def consume(self, batch: Batch) -> bool:
        self.taken.append(batch)
        return all(consume(batch) for consume in self.consumers.values()) if self.consumers else self.takes

    async def start(self) -> None:
        self.diary.append(f"start {self.name}")
        if self.fails == "start":
            raise OSError(98, "address in use")

    async def stop(self) -> None:
        self.diary.append(f"stop {self.name}")
        if self.fails == "stop":
            raise RuntimeError("stuck")

    def health(self) -> Health:
        return Health(State.OK, self.name)


class Yard:
    """Makes parts by section and id; what was made before, and is to be kept, is found again."""

    def __init__(self, **settings: dict[str, Any]) -> None:
        self.diary: list[str] = []
        self.made: list[Part] = []
        self.kept: dict[str, Part] = {}
        self._settings = settings

    def __call__(self, section: str, name: str) -> Part:
        if section != "processors" and name in self.kept:
            return self.kept[name]
        part = Part(name, self.diary, **self._settings.get(name, {}))
        self.made.append(part)
        return part

    def part(self, name: str) -> Part:
        (found,) = (part for part in self.made if part.name == name)
        return found


def lay(yard: Yard, **pipelines: tuple[list[str], list[str], list[str]]) -> Pipelines:
    specs = {
        name.replace("__", "/"): PipelineSpec(receivers=tuple(receivers), processors=tuple(processors), exporters=tuple(exporters))
        for name, (receivers, processors, exporters) in pipelines.items()
    }
    return Pipelines(specs, yard)


async def test_everything_starts_from_the_end_and_stops_from_the_beginning() -> None:
    yard = Yard()
    pipelines = lay(yard, traces=(["traffic"], ["limit", "redact"], ["debug"]))
    yard.diary.clear()
    await pipelines.start()
    assert yard.diary == ["start debug", "start redact", "start limit", "connect traffic", "start traffic"]
    yard.diary.clear()
    await pipelines.stop()
    assert yard.diary == ["stop traffic", "stop redact", "stop limit", "stop debug"]


async def test_a_batch_passes_the_processors_in_order_and_reaches_every_exporter() -> None:
    yard = Yard()
    pipelines = lay(yard, traces=(["traffic"], ["limit", "redact"], ["debug", "file"]))
    pipelines.connect()
    assert yard.part("traffic").consumers[Signal.TRACES](BATCH)
    assert [yard.part(name).taken for name in ("limit", "redact", "debug", "file")] == [[BATCH]] * 4
    assert yard.part("limit").consumers[Signal.TRACES] == yard.part("redact").consume


async def test_a_receiver_and_an_exporter_are_made_once_a_processor_for_each_pipeline() -> None:
    yard = Yard()
    one, two = (["otlp"], ["limit"], ["debug"]), (["otlp"], ["limit"], ["debug"])
    pipelines = lay(yard, traces=one, traces__b=two, logs=two)
    assert [part.name for part in yard.made] == ["debug", "limit", "otlp", "limit", "limit"]
    pipelines.connect()
    otlp = yard.part("otlp")
    assert set(otlp.consumers) == {Signal.TRACES, Signal.LOGS}
    assert otlp.consumers[Signal.TRACES](BATCH)
    assert yard.part("debug").taken == [BATCH, BATCH]
    assert [path for path, _ in pipelines] == [
        "exporters.debug", "processors.traces.limit", "processors.traces/b.limit", "processors.logs.limit", "receivers.otlp",
    ]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "expected"), [(True, False, True), (False, True, True), (False, False, False)])
def test_a_fan_out_gives_to_all_and_is_refused_only_where_nobody_took(*, first: bool, second: bool, expected: bool) -> None:
    parts = [Part("a", [], takes=first), Part("b", [], takes=second)]
    assert fan_out([part.consume for part in parts])(BATCH) is expected
    assert [part.taken for part in parts] == [[BATCH], [BATCH]]


def test_a_branch_that_raises_keeps_the_batch_from_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fails(batch: Batch) -> bool:
        raise RuntimeError("broken")

    part, full = Part("a", []), Part("b", [], takes=False)
    assert fan_out([fails, part.consume])(BATCH)
    assert part.taken == [BATCH]
    assert "RuntimeError: broken" in caplog.text
    with pytest.raises(RuntimeError, match="broken"):
        fan_out([fails, full.consume])(BATCH)
    assert full.taken == [BATCH]


async def test_a_component_that_cannot_start_is_shown_and_keeps_nobody_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    yard = Yard(file={"fails": "start"})
    pipelines = lay(yard, traces=(["traffic"], [], ["file", "debug"]))
    await pipelines.start()
    assert yard.diary[-3:] == ["start debug", "connect traffic", "start traffic"]
    health = pipelines.health()
    assert health["exporters.file"] == Health(State.FAILED, "OSError: [Errno 98] address in use")
    assert not health["exporters.file"].ready
    assert health["exporters.debug"] == Health(State.OK, "debug")
    assert "exporters.file could not start" in caplog.text
    await pipelines.stop()


async def test_a_component_that_cannot_stop_keeps_nobody_from_stopping(caplog: pytest.LogCaptureFixture) -> None:
    yard = Yard(traffic={"fails": "stop"})
    pipelines = lay(yard, traces=(["traffic"], [], ["debug"]))
    await pipelines.stop()
    assert yard.diary == ["stop traffic", "stop debug"]
    assert "receivers.traffic could not stop: RuntimeError: stuck" in caplog.text


async def test_a_reload_keeps_what_is_the_same_and_frees_ports_before_they_are_taken_again() -> None:
    yard = Yard()
    old = lay(yard, traces=(["traffic", "otlp"], ["limit"], ["debug", "file"]))
    await old.start()
    yard.kept = {name: yard.part(name) for name in ("traffic", "debug")}
    new = lay(yard, traces=(["traffic", "otlp/2"], ["limit"], ["debug", "other"]))
    yard.diary.clear()
    await new.start(old)
    assert yard.diary == [
        "start other", "start limit", "stop otlp", "connect traffic", "connect otlp/2", "start otlp/2", "stop limit", "stop file",
    ]  # fmt: skip
    assert yard.part("traffic").consumers[Signal.TRACES](BATCH)
    assert (yard.part("other").taken, yard.part("file").taken) == ([BATCH], [])
    await new.stop()


async def test_a_reload_starts_again_what_had_failed() -> None:
    yard = Yard(file={"fails": "start"})
    old = lay(yard, traces=(["traffic"], [], ["file"]))
    await old.start()
    yard.kept = {name: yard.part(name) for name in ("traffic", "file")}
    yard.part("file").fails = ""
    new = lay(yard, traces=(["traffic"], [], ["file"]))
    yard.diary.clear()
    await new.start(old)
    assert yard.diary == ["start file", "connect traffic"]
    assert new.health()["exporters.file"].state is State.OK
    await new.stop()


async def test_what_has_neither_start_nor_stop_nor_health_is_fine() -> None:
    class Plain:
        def consume(self, batch: Batch) -> bool:
            return True

        def connect(self, consumers: Mapping[Signal, Consume]) -> None:
            pass

    spec = PipelineSpec(receivers=("a",), exporters=("b",))
    pipelines = Pipelines({"traces": spec}, lambda section, name: Plain())
    await asyncio.wait_for(pipelines.start(), 5)
    assert pipelines.health() == {"exporters.b": Health(State.OK), "receivers.a": Health(State.OK)}
    await pipelines.stop()
