"""Where the sidecar's microseconds go: perf and py-spy, whichever is here, under the load of 32 connections."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.bench.machine import Missing
from tests.bench.payload import request_body
from tests.bench.process import Process, cpu_ns
from tests.bench.proxy import CALLS_PATH, Bench, running
from tests.bench.subjects import CALLS_PREFIX, Subject
from tests.bench.upstreams import ROOT

_SHOWN = 50
_LOOP = "Runner.run (asyncio/runners.py)"
_WAITING = "_worker (concurrent/futures/thread.py)"
_LINE = re.compile(r":\d+\)$")
INSTALL = "apt-get install linux-perf, or pip install py-spy"


def profile(bench: Bench, subject: Subject, duration_s: int, *, tls: bool) -> str:
    """
    Sample the subject under load, once with each profiler that is installed; return a text for people.

    perf shows kernel, interpreter and libraries; py-spy shows Python functions, each with the C code that it calls.
    Both slow the sidecar down, so the µs a call are measured first, without them. Raises `Missing` without a profiler.
    """
    perf, py_spy = shutil.which("perf"), _py_spy()
    if not perf and not py_spy:
        raise Missing(f"no profiler here: {INSTALL}")
    parts = []
    with running(bench, subject, tls=tls) as proxy:
        _load(bench, proxy.port, 2)
        before_ns = cpu_ns(proxy.pids)
        calls = _load(bench, proxy.port, duration_s)
        call_us = (cpu_ns(proxy.pids) - before_ns) / 1e3 / calls
        parts.append(f"{call_us:.1f} µs a call without a profiler")
        if perf:
            parts.append(_perf(perf, bench, proxy.pids[0], proxy.port, duration_s))
        if py_spy:
            parts.append(stack_table(_sample(py_spy, bench, proxy.pids[0], proxy.port, duration_s), call_us))
    return "\n\n".join(parts)


def _load(bench: Bench, port: int, duration_s: int) -> int:
    return bench.wrk.run(port, CALLS_PREFIX + CALLS_PATH, request_body(), connections=32, duration_s=duration_s).calls


def _perf(program: str, bench: Bench, pid: int, port: int, duration_s: int) -> str:
    data = bench.folder / "perf.data"
    options = f"record -q -e cpu-clock -F 1999 -p {pid} -o {data} -- sleep {duration_s}"
    _while_recording([program, *options.split()], bench, port, duration_s)
    reports = []
    for title, keys, least in (("by library", "dso", "0.5"), ("by symbol", "dso,symbol", "0.6")):
        report = [program, "report", "-i", str(data), "--stdio", "-q", "--sort", keys, "--percent-limit", least]
        ended = subprocess.run(report, capture_output=True, text=True, check=True)
        lines = [line.rstrip() for line in ended.stdout.splitlines() if line.strip()]
        reports.append("\n".join([f"perf, {title}, share of samples", *lines[:_SHOWN]]))
    return "\n\n".join(reports)


def _sample(program: str, bench: Bench, pid: int, port: int, duration_s: int) -> str:
    stacks = bench.folder / "stacks.txt"
    options = f"record --nonblocking -p {pid} -d {duration_s} -r 400 -f raw -o {stacks}"
    _while_recording([program, *options.split()], bench, port, duration_s)
    return stacks.read_text()


def stack_table(stacks: str, call_us: float) -> str:
    """
    What each function costs a call, from collapsed stacks (`a;b;c 12` a line): alone and with all that it calls.

    `call_us` is what a call costs altogether. Threads of a pool that wait for work, which py-spy takes for busy, are left out.
    """
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_LINE.sub(")", frame) for frame in stack.split(";")]  # all lines of a function together
        frames = frames[frames.index(_LOOP) :] if _LOOP in frames else frames  # who called the loop is no news
        if frames[-1] != _WAITING:
            alone[frames[-1]] += int(count)
            within.update(dict.fromkeys(frames, int(count)))
    us = call_us / (alone.total() or 1)
    lines = ["py-spy, µs a call: alone (with the C code it calls), with all that it calls; the dearest alone first"]
    lines += [f"{count * us:7.2f} {within[frame] * us:7.2f}  {frame}" for frame, count in alone.most_common(_SHOWN)]
    lines += ["", "the same, the dearest with all that it calls first"]
    lines += [f"{alone[frame] * us:7.2f} {count * us:7.2f}  {frame}" for frame, count in within.most_common(_SHOWN)]
    return "\n".join(lines)


def _while_recording(command: list[str], bench: Bench, port: int, duration_s: int) -> None:
    """
    Have load while a profiler runs on the proxy's own core.

    From there it interrupts the proxy anywhere. On the load's core it would wake up when that core has nothing to do, which is
    when the proxy is in the middle of a write, and py-spy would see little else.
    """
    log = bench.folder / f"{Path(command[0]).name}.log"
    with Process(command, core=bench.proxy_core, log=log) as profiler:
        _load(bench, port, duration_s + 2)
        if profiler.wait(20) != 0:
            raise Missing(f"{profiler.name} failed: {profiler.last_words()}")


def _py_spy() -> str | None:
    places = (Path(sys.executable).parent / "py-spy", ROOT / ".venv-bench" / "bin" / "py-spy")
    return next((str(place) for place in places if place.exists()), None) or shutil.which("py-spy")
