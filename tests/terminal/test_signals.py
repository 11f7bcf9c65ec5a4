"""Signals are caught in processes of their own: those of the test run are pytest's."""

import signal
import subprocess
import sys
import textwrap

import pytest

from sidecar.terminal.signals import CAUGHT
from tests.terminal.console import PATIENCE_S, environ, on_terminal

PROGRAM = """
import os, queue, signal, subprocess, sys
from sidecar.terminal.signals import CAUGHT, Caught, Signals

heard = queue.SimpleQueue()

def next_one():
    caught = heard.get(timeout=10)
    return f"{caught.number.name} {'kernel' if caught.by_kernel else 'process'}"
"""


def printed(script: str, *, caller: str = "") -> str:
    """What the script prints, run by a shell that has done `caller` before."""
    code = PROGRAM + textwrap.dedent(script)
    command = ["sh", "-c", f'{caller}\nexec "$0" -c "$1"', sys.executable, code]
    ended = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_signal_is_heard_instead_of_obeyed() -> None:
    script = """
        with Signals(heard.put, in_foreground=lambda: False) as signals:
            for number in CAUGHT:
                os.kill(os.getpid(), number)
                assert next_one() == f"{number.name} process"
            print(sorted(signals.before))
        print(heard.empty())
    """
    assert printed(script) == "[]\nTrue\n"


def test_afterwards_signals_act_as_before() -> None:
    script = """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGQUIT})
        with Signals(heard.put, in_foreground=lambda: False) as signals:
            assert signals.before == {signal.SIGQUIT}
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGQUIT}
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted")
    """
    assert printed(script) == "interrupted\n"


def test_what_our_caller_ignores_stays_ignored() -> None:
    """As under nohup, or in the background of a script."""
    script = """
        with Signals(heard.put, in_foreground=lambda: False) as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
            print(next_one(), heard.empty())
    """
    assert printed(script, caller="trap '' HUP USR1") == "SIGTERM process True\n"


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system does not tell the sender")
def test_what_a_terminal_sends_is_the_kernels() -> None:
    script = PROGRAM + textwrap.dedent("""
        with Signals(heard.put, in_foreground=lambda: False) as signals:
            print("ready", flush=True)
            print(next_one(), flush=True)
            os.kill(os.getpid(), signal.SIGINT)
            print(next_one(), flush=True)
    """)
    with on_terminal([sys.executable, "-c", script]) as console:
        console.expect("ready\n")
        console.types("\x03")
        console.expect("SIGINT kernel\n")
        console.expect("SIGINT process\n")


@pytest.mark.parametrize("in_foreground", [True, False])
def test_where_the_sender_is_not_told_keys_are_the_kernels_in_the_foreground(in_foreground: bool) -> None:
    script = f"""
        if hasattr(signal, "sigwaitinfo"):
            del signal.sigwaitinfo
        with Signals(heard.put, in_foreground=lambda: {in_foreground}) as signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                print(next_one())
    """
    sender = "kernel" if in_foreground else "process"
    assert printed(script) == f"SIGINT {sender}\nSIGTERM process\n"


def test_what_supervisors_and_shells_send_is_among_them() -> None:
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT} <= set(CAUGHT)
