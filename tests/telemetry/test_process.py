"""The figures of this process, against what else can be known of it."""

import os
import resource
import time
from pathlib import Path

import pytest

import sidecar
from sidecar.telemetry.process import process_figures


def values(proc: Path = Path("/proc")) -> dict[str, float]:
    return {figure.name: figure.value for figure in process_figures(proc)}


def test_the_figures_have_the_names_that_dashboards_expect() -> None:
    found = values()
    assert found.keys() >= {
        "process_cpu_seconds", "process_open_fds", "process_max_fds", "process_start_time_seconds", "sidecar_build_info",
    }  # fmt: skip


def test_cpu_time_grows_with_work() -> None:
    before = values()["process_cpu_seconds"]
    while time.process_time() - before < 0.02:
        sum(range(1000))
    assert values()["process_cpu_seconds"] >= before + 0.02


def test_an_opened_file_is_counted() -> None:
    before = values()["process_open_fds"]
    with open(os.devnull, "rb"):
        assert values()["process_open_fds"] == before + 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc here")
def test_resident_memory_is_below_the_peak_and_the_start_is_in_the_past() -> None:
    found = values()
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0.1 * peak_bytes < found["process_resident_memory_bytes"] <= peak_bytes * 1.05
    assert found["process_virtual_memory_bytes"] >= found["process_resident_memory_bytes"]
    assert time.time() - 86400 < found["process_start_time_seconds"] <= time.time()


def test_without_proc_the_rest_is_still_there(tmp_path: Path) -> None:
    found = values(tmp_path)
    assert "process_resident_memory_bytes" not in found
    assert found["process_open_fds"] > 0
    assert time.time() - 86400 < found["process_start_time_seconds"] <= time.time()


def test_no_limit_on_files_is_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert values()["process_max_fds"] == float("inf")


def test_the_build_says_its_version() -> None:
    (info,) = (figure for figure in process_figures() if figure.name == "sidecar_build_info")
    assert info.value == 1
    assert dict(info.labels)["version"] == sidecar.__version__
