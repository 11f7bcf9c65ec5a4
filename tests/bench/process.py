"""A child process with a core of its own: started, weighed and ended by its own pid."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Process:
    """
    A program that runs on one core, with everything that it spawns.

    Output goes to `log`. A child that outlives its parent by accident is ended by the kernel (PR_SET_PDEATHSIG); the
    regular way is `stop`, which ends this pid only.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        log: Path,
        cwd: Path | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self.log = log
        self.spawned_ns = time.perf_counter_ns()
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C goes to the harness alone, which then ends its children in order
                preexec_fn=lambda: _settle_in(core),  # safe: the harness has no threads
            )
        self.pid = self._popen.pid

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def stop(self, patience_s: float = 5.0) -> int:
        """End with SIGTERM, after `patience_s` with SIGKILL; return the exit code."""
        if self.is_alive:
            self._popen.send_signal(signal.SIGTERM)
        try:
            return self._popen.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()

    def wait(self, patience_s: float) -> int:
        """Wait for it to end by itself; return the exit code."""
        return self._popen.wait(patience_s)

    def tree(self) -> tuple[int, ...]:
        """The pid and those of all its descendants."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (parent := _parent(int(entry))) is not None:
                children.setdefault(parent, []).append(int(entry))
        found = [self.pid]
        for pid in found:
            found.extend(children.get(pid, ()))
        return tuple(found)

    def last_words(self, length: int = 2000) -> str:
        """The end of what it wrote, for an error message."""
        return self.log.read_text(errors="replace")[-length:].strip()


def cpu_ns(pids: Sequence[int]) -> int:
    """
    User and system time of these processes, all threads, in ns.

    This is utime + stime of /proc/PID/stat read through the process's CPU clock (clock_getcpuclockid(3)): the same sum
    without the 10 ms tick, which at 100 ms of work would be an error of 10 %.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def rss_bytes(pids: Sequence[int]) -> int:
    """Resident memory of these processes; pages that they share count once for each, as in ps(1)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def core_busy_ns(core: int) -> int:
    """Time that a core was not idle since boot, whoever used it (ticks of 10 ms)."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    raise ValueError(f"this machine has no core {core}")


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _settle_in(core: int) -> None:
    """Between fork and exec: take the core, and die with the harness."""
    os.sched_setaffinity(0, {core})
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _parent(pid: int) -> int | None:
    """The parent's pid, None when the process has gone meanwhile."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])
