import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.terminal import foreground as module
from sidecar.terminal.foreground import Foreground
from sidecar.terminal.signals import Caught
from tests.terminal.console import WRAPPED, WRAPPER, Console, environ, gone, is_running, on_terminal, without_terminal

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
bash = pytest.mark.skipif(shutil.which("bash") is None, reason="job control needs a shell that has it")

CTRL_C, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x1a", "\x1c"


def state(line: str) -> Any:
    return json.loads(line.partition("ready ")[2])


async def code_of(*command: str) -> int:
    return await Foreground(command, dict(os.environ)).run()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)])
async def test_its_exit_code_is_the_commands(script: str, code: int) -> None:
    assert await code_of("sh", "-c", script) == code


async def test_a_command_that_is_not_there_is_127_and_one_that_cannot_be_run_126(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").write_text("no program")
    assert await code_of(str(tmp_path / "missing")) == 127
    assert await code_of(str(tmp_path / "notes")) == 126
    assert await code_of(str(tmp_path)) == 126
    assert capfd.readouterr().err.splitlines() == [
        f"sidecar exec: {tmp_path}/missing: command not found",
        f"sidecar exec: {tmp_path}/notes: Permission denied",
        f"sidecar exec: {tmp_path}: Permission denied",
    ]


async def test_standard_streams_and_environment_are_the_commands(capfd: pytest.CaptureFixture[str]) -> None:
    env = {"PATH": os.environ["PATH"], "WHO": "you"}
    assert await Foreground(["sh", "-c", "echo out $WHO; echo err >&2; env | grep -c PYTHON"], env).run() == 1
    assert capfd.readouterr() == ("out you\n0\n", "err\n")


@linux
async def test_what_our_caller_opened_is_open_for_the_command_and_nothing_of_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "given").write_text("from the caller")
    given = os.open(tmp_path / "given", os.O_RDONLY)
    os.set_inheritable(given, True)
    ours = os.open(tmp_path / "given", os.O_RDONLY)
    try:
        assert await code_of("sh", "-c", f"cat /dev/fd/{given}; ls /proc/self/fd | grep -cx {ours}") == 1
    finally:
        os.close(given)
        os.close(ours)
    assert capfd.readouterr().out == "from the caller0\n"


async def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert await asyncio.wait_for(code_of("sh", "-c", f"sleep 60 >/dev/null 2>&1 & echo $! > {pid_file}"), 10) == 0
    left = int(pid_file.read_text())
    assert is_running(left)
    os.kill(left, signal.SIGKILL)


@linux
async def test_a_cancelled_run_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    popen = subprocess.Popen

    def remembered(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", remembered)
    task = asyncio.ensure_future(code_of("sleep", "60"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_running(started[0])


def test_a_signal_before_the_start_or_after_the_end_reaches_nobody() -> None:
    command = Foreground(["true"], dict(os.environ))
    command.pass_on(Caught(signal.SIGTERM, by_kernel=False))
    asyncio.run(command.run())
    command.pass_on(Caught(signal.SIGTERM, by_kernel=False))


def test_a_process_that_is_already_gone_takes_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_terminal", lambda: True)
    command = Foreground(["true"], {})
    with subprocess.Popen(["true"]) as process:
        process.wait()
        command._pid = process.pid
    command.pass_on(Caught(signal.SIGTERM, by_kernel=False))


def test_without_a_terminal_there_is_no_foreground() -> None:
    with without_terminal(
        [sys.executable, "-c", "from sidecar.terminal.foreground import *; print(has_terminal(), in_foreground())"]
    ) as console:
        assert console.rest() == "False False\n"


def test_on_a_terminal_its_first_program_stands_in_the_foreground() -> None:
    with on_terminal(
        [sys.executable, "-c", "from sidecar.terminal.foreground import *; print(has_terminal(), in_foreground())"]
    ) as console:
        console.expect("True True\n")
        assert console.ends() == 0


@linux
def test_without_a_terminal_the_command_gets_each_signal_exactly_once() -> None:
    """Whether a supervisor sends it to our process or to our whole group."""
    with without_terminal([*WRAPPER, *WRAPPED]) as console:
        inherited = state(console.expect("}\n"))
        assert (inherited["parent"], inherited["group"]) == (console.process.pid, inherited["pid"])
        assert inherited["blocked"] == 0
        os.killpg(console.process.pid, signal.SIGINT)
        assert console.expect("got SIGINT\n") == "got SIGINT\n"
        for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            os.kill(console.process.pid, number)
            assert console.expect("\n") == f"got {number.name}\n"
        os.killpg(console.process.pid, signal.SIGTERM)
        assert console.rest() == "got SIGTERM\ncode 42\n"
        assert console.ends() == 42


@linux
def test_without_a_terminal_a_stop_and_a_continue_are_passed_on_and_we_go_on() -> None:
    with without_terminal([*WRAPPER, *WRAPPED]) as console:
        pid = state(console.expect("}\n"))["pid"]
        os.kill(console.process.pid, signal.SIGTSTP)
        while stat(pid) != "T":
            pass
        assert stat(console.process.pid) != "T"
        os.kill(console.process.pid, signal.SIGCONT)
        console.expect("got SIGCONT\n")
        os.kill(console.process.pid, signal.SIGTERM)
        assert console.ends() == 42


@linux
def test_keys_of_the_terminal_reach_the_command_exactly_once() -> None:
    with on_terminal([*WRAPPER, *WRAPPED]) as console:
        inherited = state(console.expect("}\n"))
        assert inherited["group"] == os.getpgid(console.process.pid) != inherited["pid"]
        for key, name in ((CTRL_C, "SIGINT"), (CTRL_BACKSLASH, "SIGQUIT"), (CTRL_C, "SIGINT")):
            console.types(key)
            console.expect(f"got {name}\n")
        while pending(console.process.pid):  # two signals of a number that meet become one, in any program
            pass
        os.kill(console.process.pid, signal.SIGINT)
        console.expect("got SIGINT\n")
        os.kill(console.process.pid, signal.SIGTERM)
        assert "got SIGINT" not in console.expect("code 42\n")
        assert console.ends() == 42


@linux
def test_a_change_of_size_reaches_the_command_once() -> None:
    import fcntl
    import struct
    import termios

    with on_terminal([*WRAPPER, *WRAPPED]) as console:
        console.expect("}\n")
        fcntl.ioctl(console._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
        console.expect("got SIGWINCH\n")
        os.kill(console.process.pid, signal.SIGTERM)
        assert "SIGWINCH" not in console.expect("code 42\n")


@linux
def test_a_terminal_that_hangs_up_ends_both() -> None:
    with on_terminal([*WRAPPER, "sleep", "60"], environ(PS1="")) as console:
        while not (children := children_of(console.process.pid)):
            pass
        os.kill(console.process.pid, signal.SIGHUP)
        assert console.ends() == 128 + signal.SIGHUP
        assert gone(children[0])


@bash
@linux
def test_job_control_of_a_shell_works_as_without_us() -> None:
    """Ctrl-Z gives the prompt back once both have stopped, `fg` wakes both, and Ctrl-C then arrives once."""
    with shell() as console:
        console.expect("prompt> ")
        console.types(" ".join([*WRAPPER, *WRAPPED]) + "\n")
        pid = state(console.expect("}\n"))["pid"]
        console.types(CTRL_Z)
        assert "Stopped" in console.expect("prompt> ")
        assert stat(pid) == "T"
        console.types("fg\n")
        console.expect("got SIGCONT\n")
        console.types(CTRL_C)
        console.expect("got SIGINT\n")
        console.types(CTRL_Z)
        console.expect("prompt> ")
        console.types("bg; kill %1; wait %1; echo ended $?\n")
        assert "got SIGTERM" in console.expect("ended 42\n")
        console.types("exit\n")
        console.ends()


@bash
@linux
def test_a_continue_to_our_process_alone_wakes_the_command_as_well() -> None:
    with shell() as console:
        console.types(" ".join([*WRAPPER, *WRAPPED]) + "\n")
        inherited = state(console.expect("}\n"))
        os.kill(inherited["parent"], signal.SIGTSTP)
        assert "Stopped" in console.expect("prompt> ")
        os.kill(inherited["parent"], signal.SIGCONT)
        console.expect("got SIGCONT\n")
        os.kill(inherited["parent"], signal.SIGTERM)
        console.expect("code 42\n")


@bash
@linux
def test_a_loop_of_stops_and_continues_loses_none() -> None:
    with shell() as console:
        console.types(" ".join([*WRAPPER, *WRAPPED]) + "\n")
        inherited = state(console.expect("}\n"))
        for _ in range(5):
            console.types(CTRL_Z)
            assert "Stopped" in console.expect("prompt> ")
            assert [stat(inherited[who]) for who in ("pid", "parent")] == ["T", "T"]
            console.types("fg\n")
            assert console.expect("got SIGCONT\n").count("got") == 1
        os.kill(inherited["parent"], signal.SIGTERM)
        console.expect("code 42\n")


@bash
@linux
def test_a_pipeline_on_a_terminal_stays_one_job() -> None:
    """A pager behind the command may read the terminal, and Ctrl-C ends both."""
    with shell() as console:
        console.expect("prompt> ")
        console.types(" ".join([*WRAPPER, "sleep", "60"]) + " | (read key </dev/tty; echo the key is $key; exec cat)\n")
        console.types("k\n")
        console.expect("the key is k\n")
        console.types(CTRL_C)
        console.expect("prompt> ")
        console.types("echo status ${PIPESTATUS[0]}\n")
        console.expect("status 130\n")


@linux
def test_when_we_are_killed_the_command_ends_as_well() -> None:
    for start in (without_terminal, on_terminal):
        with start([*WRAPPER, *WRAPPED]) as console:
            pid = state(console.expect("}\n"))["pid"]
            os.kill(console.process.pid, signal.SIGKILL)
            assert gone(pid)


def test_a_plain_stop_of_the_command_does_not_stop_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would wake us: only the stops of job control are undone for the whole group."""
    stopped: list[int] = []
    monkeypatch.setattr(module, "has_terminal", lambda: True)
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: stopped.append(number))
    command = Foreground(["true"], {})
    assert not command._stop_too(signal.SIGSTOP)
    assert command._stop_too(signal.SIGTSTP)
    command.pass_on(Caught(signal.SIGTSTP, by_kernel=True))  # Ctrl-Z; many full-screen programs then stop themselves
    assert command._stop_too(signal.SIGSTOP)
    assert not command._stop_too(signal.SIGSTOP)
    assert stopped == [signal.SIGSTOP] * 2


def shell() -> contextlib.AbstractContextManager[Console]:
    environment = environ(PS1="prompt> ", HISTFILE="/dev/null", TERM="dumb")
    return on_terminal(["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)


def pending(pid: int) -> bool:
    """Whether a signal waits to be taken by the process."""
    return any(
        int(line.split()[1], 16) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("ShdPnd")
    )


def stat(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
