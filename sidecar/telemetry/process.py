"""What the operating system knows of this process, under the names that Prometheus' client libraries use everywhere."""

import os
import platform
import resource
import time
from pathlib import Path

import sidecar
from sidecar.model.clock import SYSTEM_CLOCK
from sidecar.runtime.metrics import Counter, Gauge
from sidecar.telemetry.metrics import Figure

_PROC = Path("/proc")
_LOADED_AT_S = SYSTEM_CLOCK.wall_ns() / 1e9


def process_figures(proc: Path = _PROC) -> list[Figure]:
    """
    The figures of this process and of this build, read now.

    Where there is no /proc (macOS), those that only Linux tells are left out, and the process began when this file was loaded.
    """
    return [
        Figure("process_cpu_seconds", Counter, "User and system CPU time, in seconds.", time.process_time()),
        *_resident(proc),
        Figure("process_open_fds", Gauge, "Open file descriptors.", _open_fds(proc)),
        Figure("process_max_fds", Gauge, "Most file descriptors that may be open.", _most_fds()),
        Figure("process_start_time_seconds", Gauge, "When the process began, in seconds since the epoch.", _started_at_s(proc)),
        Figure(
            "sidecar_build_info",
            Gauge,
            "Always 1; the labels say what runs.",
            1,
            (("python", platform.python_version()), ("version", sidecar.__version__)),
        ),
    ]


def _resident(proc: Path) -> list[Figure]:
    try:
        virtual, resident = (proc / "self/statm").read_text().split()[:2]
    except OSError:
        return []
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return [
        Figure("process_resident_memory_bytes", Gauge, "Resident memory, in bytes.", int(resident) * page_bytes),
        Figure("process_virtual_memory_bytes", Gauge, "Virtual memory, in bytes.", int(virtual) * page_bytes),
    ]


def _open_fds(proc: Path) -> int:
    listed = proc / "self/fd"
    return len(os.listdir(listed if listed.exists() else "/dev/fd")) - 1  # without the listing's own


def _most_fds() -> float:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if most == resource.RLIM_INFINITY else most


def _started_at_s(proc: Path) -> float:
    """See proc(5): field 22 of /proc/self/stat in clock ticks since boot, and `btime` of /proc/stat in seconds."""
    try:
        stat = (proc / "self/stat").read_text()
        boot = (proc / "stat").read_text()
    except OSError:
        return _LOADED_AT_S
    ticks = int(stat.rpartition(")")[2].split()[19])
    boot_s = int(boot.partition("\nbtime ")[2].split()[0])
    return boot_s + ticks / os.sysconf("SC_CLK_TCK")
