"""Detectors: the SDK's own, one that a package brings, and those that are unknown, broken, late or generous."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.resources import OsResourceDetector, ProcessResourceDetector

from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.detectors import GROUP, MOST_ATTRIBUTES, VARIABLE, Detection, is_detecting, named
from sidecar.telemetry.resource import resource_of
from tests.sidecar_under_test import eventually


class Cloud:
    """What a package of a cloud would register."""

    found: ClassVar[dict[str, Any]] = {"cloud.provider": "acme", "cloud.region": "here", "host.name": "theirs", "service.name": "theirs"}
    gate = threading.Event()
    gate.set()

    def detect(self) -> Any:
        assert threading.current_thread() is not threading.main_thread(), "a detector may block"
        if not self.gate.wait(30):
            raise TimeoutError
        return SimpleNamespace(attributes=self.found)


class Broken(Cloud):
    def detect(self) -> Any:
        raise OSError("no metadata service")


class Odd(Cloud):
    found: ClassVar = {"odd.list": ["a", 1, True, None], "odd.bytes": b"x", "odd.float": 0.5, "odd.true": True, "odd.negative": -1, "cloud.region": "there"}


class Generous(Cloud):
    found: ClassVar = {f"key.{number}": number for number in range(MOST_ATTRIBUTES + 10)}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The entry points that are installed, and four of ours."""
    module = SimpleNamespace(Cloud=Cloud, Broken=Broken, Odd=Odd, Generous=Generous)
    monkeypatch.setitem(sys.modules, "acme_resources", module)  # type: ignore[arg-type]  # a module is anything with attributes
    ours = [EntryPoint(name.lower(), f"acme_resources:{name}", GROUP) for name in vars(module)]

    def with_ours(*, group: str, **rest: str) -> Any:
        assert group == GROUP
        return EntryPoints([*entry_points(group=GROUP), *ours]).select(**rest)

    monkeypatch.setattr("importlib.metadata.entry_points", with_ours)
    yield
    Cloud.gate.set()


async def detected(*names: str, environ: dict[str, str] | None = None, most_s: float = 20) -> tuple[Runtime, dict[str, Any]]:
    """The runtime after these detectors, and what they have added."""
    runtime = Runtime(environ=environ or {})
    before = dict(resource_of(runtime))
    detection = Detection(runtime, names, most_s=most_s)
    assert is_detecting(runtime)
    detection.start()
    await eventually(lambda: not is_detecting(runtime), "the end of the detectors")
    await detection.stop()
    after = resource_of(runtime)
    assert {key: after[key] for key in before} == before, "what we know by ourselves wins"
    return runtime, {key: value for key, value in after.items() if key not in before}


@pytest.mark.parametrize(
    ("configured", "variable", "expected"),
    [
        ((), "", ()),
        ((), "host, process,,host ", ("host", "process")),
        (("gcp", "gcp"), "host", ("gcp",)),
        ((), "*", ("*",)),
    ],
)
def test_the_config_wins_over_the_environment(configured: Sequence[str], variable: str, expected: tuple[str, ...]) -> None:
    assert named(configured, {VARIABLE: variable}) == expected


async def test_the_sdks_own_detectors_add_what_we_do_not_know(caplog: pytest.LogCaptureFixture) -> None:
    _, added = await detected("process", "os", "otel", "service_instance")
    theirs = {**ProcessResourceDetector().detect().attributes, **OsResourceDetector().detect().attributes}
    assert added == {key: theirs[key] for key in added}
    assert added["process.executable.path"] == sys.executable
    assert added["process.parent_pid"] == os.getppid()
    assert added["os.version"]
    assert not caplog.records


async def test_a_package_may_bring_a_detector_and_the_environment_may_name_it() -> None:
    environ = {VARIABLE: "cloud", "OTEL_RESOURCE_ATTRIBUTES": "cloud.region=mine", "OTEL_SERVICE_NAME": "me"}
    runtime = Runtime(environ=environ)
    detection = Detection(runtime, ())
    detection.start()
    await eventually(lambda: not is_detecting(runtime), "the end")
    await detection.stop()
    found = resource_of(runtime)
    assert (found["cloud.provider"], found["cloud.region"], found["service.name"]) == ("acme", "mine", "me")


async def test_of_two_detectors_the_later_one_wins() -> None:
    assert (await detected("cloud", "odd"))[1]["cloud.region"] == "there"
    assert (await detected("odd", "cloud"))[1]["cloud.region"] == "here"


async def test_a_star_is_all_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.telemetry.detectors.MOST_ATTRIBUTES", 200)
    _, added = await detected("*")
    assert {"cloud.provider", "key.0", "odd.list", "os.version", "process.parent_pid"} <= added.keys()


async def test_values_are_those_that_a_resource_may_have() -> None:
    _, added = await detected("odd")
    assert added == {
        "odd.list": ("a", 1, True, "None"), "odd.bytes": "b'x'", "odd.float": 0.5, "odd.true": True, "odd.negative": -1, "cloud.region": "there",
    }  # fmt: skip


async def test_unknown_and_broken_ones_are_complained_about_and_the_others_count(caplog: pytest.LogCaptureFixture) -> None:
    _, added = await detected("nobody", "broken", "cloud")
    assert added["cloud.provider"] == "acme"
    unknown, broken = (record.getMessage() for record in caplog.records)
    assert unknown.startswith("resource detector 'nobody' is left out: ")
    assert "known: broken, cloud, generous, " in unknown
    assert broken == "resource detector 'broken' is left out: OSError: no metadata service"


async def test_one_that_takes_too_long_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    Cloud.gate.clear()
    _, added = await detected("cloud", "os", most_s=0.3)
    assert "os.version" in added
    assert "cloud.provider" not in added
    assert "resource detector 'cloud' did not end within 0.3 s" in caplog.text
    Cloud.gate.set()


async def test_the_end_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.telemetry.detectors._LAST_WAIT_S", 0.01)
    Cloud.gate.clear()
    runtime = Runtime(environ={})
    detection = Detection(runtime, ("cloud",))
    detection.start()
    await asyncio.sleep(0)
    await detection.stop()
    await detection.stop()
    assert not is_detecting(runtime)
    Cloud.gate.set()


async def test_so_many_attributes_are_kept_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    _, added = await detected("generous")
    assert len(added) == MOST_ATTRIBUTES
    assert "resource detectors found 138 attributes; 128 are kept" in caplog.text


async def test_another_run_forgets_what_the_one_before_found() -> None:
    runtime, _ = await detected("cloud")
    Detection(runtime, ()).start()
    assert "cloud.provider" not in resource_of(runtime)
    assert not is_detecting(runtime)


def test_a_loop_that_has_ended_meanwhile_is_no_error() -> None:
    Cloud.gate.clear()

    async def begin() -> None:
        Detection(Runtime(environ={}), ("cloud",)).start()
        await asyncio.sleep(0.01)

    asyncio.run(begin())
    Cloud.gate.set()


def test_without_names_nothing_is_asked_and_nothing_changes() -> None:
    runtime = Runtime(environ={})
    before = resource_of(runtime)
    Detection(runtime, ()).start()
    assert resource_of(runtime) is before
    assert not is_detecting(Runtime())
