"""A proxy that runs, what all measures share, and the meter that is held to it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.client import LoadFailed, wait_until_answered, wait_until_open
from tests.bench.load import Wrk
from tests.bench.payload import request_body
from tests.bench.process import Process, core_busy_ns, cpu_ns
from tests.bench.subjects import CALLS_PREFIX, Subject
from tests.bench.upstreams import Upstreams

CALLS_PATH = "v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int = 5
    load_s: int = 2
    growth_calls: int = 20_000
    pairs: int = 3000
    first_bytes: int = 200
    cold_starts: int = 3
    idle_s: float = 1.0
    streams: int = 32
    stream_chunks: int = 200
    stream_pace_us: int = 10_000
    crowd: int = 1000
    crowd_pace_us: int = 400_000
    crowd_hold_s: float = 1.0


QUICK = Plan(rounds=1, load_s=1, pairs=1500, cold_starts=2, stream_chunks=150)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all steps share."""

    upstreams: Upstreams
    wrk: Wrk
    plan: Plan
    folder: Path
    proxy_core: int


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that has answered its first call."""

    subject: Subject
    process: Process
    port: int
    admin_port: int
    pids: tuple[int, ...]
    cold_start_s: float
    tls: bool


@dataclass(slots=True)
class Meter:
    """What a stretch of work cost; `others_ns` is time that processes outside the bench took on the proxy's core."""

    cpu_ns: int = 0
    elapsed_ns: int = 0
    others_ns: int = 0


@contextmanager
def running(bench: Bench, subject: Subject, *, tls: bool) -> Iterator[Running]:
    """Start a proxy, wait for its first answer (and its admin), and stop it at the end."""
    folder = bench.folder / f"{subject.name.replace('/', '_')}-{'tls' if tls else 'plain'}"
    folder.mkdir(exist_ok=True)
    launch = subject.launch(bench.upstreams, folder, tls=tls)
    with Process(launch.command, core=bench.proxy_core, log=folder / "log", cwd=launch.cwd, environ=launch.environ) as process:
        cold_start_s = wait_until_answered(process, launch.port, CALLS_PREFIX + CALLS_PATH, request_body())
        if launch.admin_port:
            wait_until_open(process, launch.admin_port)
        yield Running(subject, process, launch.port, launch.admin_port, process.tree(), cold_start_s, tls)
        code = process.stop()
        if code != 0:
            raise LoadFailed(f"{subject.name} ended with {code} after SIGTERM: {process.last_words()}")


@contextmanager
def metered(bench: Bench, proxy: Running) -> Iterator[Meter]:
    meter = Meter()
    busy_ns, used_ns, began_ns = core_busy_ns(bench.proxy_core), cpu_ns(proxy.pids), time.perf_counter_ns()
    yield meter
    meter.cpu_ns = cpu_ns(proxy.pids) - used_ns
    meter.elapsed_ns = time.perf_counter_ns() - began_ns
    meter.others_ns = max(0, core_busy_ns(bench.proxy_core) - busy_ns - meter.cpu_ns)
    if proxy.process.tree() != proxy.pids:
        raise LoadFailed(f"{proxy.subject.name} has other processes than at its start: {proxy.process.last_words()}")
