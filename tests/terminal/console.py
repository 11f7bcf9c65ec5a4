"""Programs as tests start them: with pipes and no terminal at all, or in front of a terminal of their own."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

PATIENCE_S = 20.0

WRAPPER = [sys.executable, str(HERE / "wrapper.py")]
WRAPPED = [sys.executable, str(HERE / "wrapped.py")]


def environ(**more: str) -> dict[str, str]:
    """The environment of the tests, from which this repository can be imported."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


class Console:
    """What a running program says on `descriptor`, and what one can tell it there."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.said = ""

    def expect(self, text: str) -> str:
        """Wait until the program says this; returns everything from the last expectation up to it, and forgets that."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.said:
            assert self._read(deadline - time.monotonic()), f"no {text!r} in {self.said!r}"
        before, _, self.said = self.said.partition(text)
        return before + text

    def rest(self) -> str:
        """Wait for the end of what it says; returns all of it that nobody expected."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline - time.monotonic()):
            pass
        return self.said

    def types(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    def ends(self) -> int:
        """Wait for the end; returns the code as Python has it, negative for a signal."""
        return self.process.wait(PATIENCE_S)

    def _read(self, timeout_s: float) -> bool:
        if timeout_s <= 0 or not select.select([self._descriptor], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # a pty says so when its last program has gone
            return False
        self.said += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@contextlib.contextmanager
def without_terminal(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Console]:
    """Start it in a session of its own, as services are; standard output and error come together."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env or environ(),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield Console(process, process.stdout.fileno())
        finally:
            process.kill()


@contextlib.contextmanager
def on_terminal(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Console]:
    """Start it in front of a terminal of its own, of which it is the controlling process."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(HERE / "on_terminal.py"), *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=env or environ(),
        )
    finally:
        os.close(theirs)
    with process:
        try:
            yield Console(process, ours)
        finally:
            process.kill()
            os.close(ours)


def is_running(pid: int) -> bool:
    """Whether this process exists and is no zombie (Linux)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    """Wait until this process has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
