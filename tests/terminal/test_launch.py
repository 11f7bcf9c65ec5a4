import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.terminal import launch
from tests.terminal.console import PATIENCE_S, environ, gone

linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's own")


def launched(*arguments: str, descriptors: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), "", descriptors, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def in_python(script: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, because what happens there would change this one for good."""
    code = f"import os, signal, sys\nfrom sidecar.terminal import launch\n{script}"
    return subprocess.run(
        [sys.executable, "-c", code], env=environ(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_it_becomes_the_command() -> None:
    ended = launched("sh", "-c", "echo $0 $1; exit 3", "a b", "c")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "a b c\n", "")


def test_the_command_has_the_process_of_the_launcher() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), "", "", "sh", "-c", "echo $$"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), 127, "command not found"),
        (PermissionError(errno.EACCES, "Permission denied"), 126, "Permission denied"),
        (OSError(errno.ENOEXEC, "Exec format error"), 126, "Exec format error"),
        (ValueError("embedded null byte"), 126, "embedded null byte"),
    ],
)
def test_what_cannot_be_run_is_said_with_the_code_that_posix_asks_for(
    error: Exception, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(file: str, arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(os, "execvp", fail)
    assert launch.become(["tool", "--flag"]) == code
    assert capsys.readouterr().err == f"sidecar exec: tool: {text}\n"


def test_a_file_without_a_known_format_cannot_be_run(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fnot a program")
    program.chmod(0o755)
    assert launched(str(program)).returncode == 126


def test_signals_are_as_our_caller_had_them() -> None:
    """Python's own habits are undone: SIGPIPE and SIGXFSZ act, SIGINT has no handler, the mask is the caller's."""
    ended = in_python(
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})\n"
        "launch.reset_signals({int(signal.SIGUSR1)})\n"
        "print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])) == [signal.SIGUSR1])\n"
        "print([signal.getsignal(n) == signal.SIG_DFL for n in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)])"
    )
    assert ended.stdout == "True\n[True, True, True]\n"


def test_what_our_caller_ignores_stays_ignored() -> None:
    ended = in_python(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "launch.reset_signals(set())\n"
        "print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    )
    assert ended.stdout == "True\n"


@linux
def test_the_death_of_the_parent_is_ours() -> None:
    """The parent starts the launcher and is killed; nobody else ever speaks to the command."""
    code = (
        "import subprocess, sys, os, time\n"
        "command = ['sh', '-c', 'echo $$; exec sleep 60']\n"
        "p = subprocess.Popen([sys.executable, '-I', '-S', sys.argv[1], str(os.getpid()), '', '', *command])\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, launch.__file__], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        command = int(parent.stdout.readline())
        parent.kill()
        assert gone(command)


@linux
def test_as_long_as_the_parent_lives_nothing_happens() -> None:
    script = "os.kill = lambda *sent: print('killed', sent[1].name)\nlaunch.die_with(os.getppid())\nlaunch.die_with(os.getpid())"
    assert in_python(script).stdout == "killed SIGKILL\n", "only the second one was no parent"


@linux
def test_a_parent_that_is_gone_already_is_noticed() -> None:
    ended = in_python(
        "launch.die_with(os.getppid()); print('alive', flush=True); launch.die_with(os.getpid()); print('still here')"
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "alive\n")


def test_where_there_is_no_prctl_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong parent would otherwise be the end of this very process."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(sys, "platform", "darwin")
        launch.die_with(-1)
    with monkeypatch.context() as bare:
        bare.setitem(sys.modules, "ctypes", None)
        launch.die_with(-1)


def test_the_program_reads_its_parent_its_mask_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(launch, "die_with", seen.append)
    monkeypatch.setattr(launch, "reset_signals", seen.append)
    monkeypatch.setattr(launch, "become", lambda command: len(command) + 123)
    monkeypatch.setattr(launch, "limit_descriptors", seen.append)
    assert launch.main(["77", "1,15", "", "tool", "--flag", ""]) == 126
    assert launch.main(["77", "", "1024", "tool"]) == 124
    assert seen == [77, {1, 15}, 77, set(), 1024]


def test_the_command_has_the_limit_of_open_files_that_our_caller_had() -> None:
    assert launched("sh", "-c", "ulimit -Sn", descriptors="200").stdout == "200\n"
    assert launched("sh", "-c", "ulimit -Sn").stdout != "200\n"
    beyond = launched("sh", "-c", "ulimit -Sn", descriptors=str(1 << 40))
    assert (beyond.returncode, beyond.stderr) == (0, ""), "a limit that cannot be had is no reason not to run it"
