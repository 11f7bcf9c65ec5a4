"""
A command in our place: it has our terminal and our standard streams, it gets our signals, and we end as it ends.

On a terminal it stays in our process group, so pipelines, Ctrl-C, Ctrl-Z and `fg` work as without us: what the terminal
sends reaches the whole group, and must not be passed on again. Without one (a service, a CI job) it gets a group of its own,
which a signal to our group does not reach; so each signal reaches it exactly once, from us.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sidecar.terminal import launch
from sidecar.terminal.signals import Caught

_LAUNCH = str(Path(launch.__file__).resolve())

_GROUP_S = 0.02
"""A signal to a group reaches all its processes within this time."""

_JOB_CONTROL_STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


def has_terminal() -> bool:
    """Whether a terminal controls this process, even if no standard stream leads there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def in_foreground() -> bool:
    """Whether keys like Ctrl-C go to our process group at this moment."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


class Foreground:
    """
    One run of one command with this environment; `blocked` is the signal mask that it begins with, `descriptors` its soft limit
    of file descriptors (None: ours). `stdin` and `stdout` are descriptors that it gets in place of ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        blocked: frozenset[int] = frozenset(),
        descriptors: int | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> None:
        self._command = command
        self._environ = environ
        self._blocked = blocked
        self._descriptors = "" if descriptors is None else str(descriptors)
        self._stdin, self._stdout = stdin, stdout
        self._shares_group = has_terminal()
        self._asked_to_stop = False
        self._pid = 0

    async def run(self) -> int:
        """
        Run it and return its exit code, 128 + n where signal n ended it; 127 and 126 as in `launch`.

        What it leaves running in the background is not waited for. Call this in the main thread: for prctl(2), the end of the
        thread that started a process is the end of its parent.
        """
        self._start()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        waiter = threading.Thread(target=self._watch, args=(loop, ended), name="waiter", daemon=True)
        waiter.start()
        try:
            return await asyncio.shield(ended)
        finally:
            if not ended.done():  # we are cancelled, and nobody else would end it
                self.pass_on(Caught(signal.SIGKILL, by_kernel=False))
            waiter.join()

    def _start(self) -> None:
        mask = ",".join(str(int(each)) for each in sorted(self._blocked))
        process = subprocess.Popen(  # noqa: S603 - running the command that was asked for is what this is for
            [sys.executable, "-I", "-S", _LAUNCH, str(os.getpid()), mask, self._descriptors, *self._command],
            env=dict(self._environ),
            stdin=self._stdin,
            stdout=self._stdout,
            close_fds=False,  # what our caller opened for us (as in `<(…)`) is open for the command; ours are not inheritable
            process_group=None if self._shares_group else 0,
        )
        self._pid = process.pid
        process.returncode = 0  # the waiter reaps it; Popen must not try to

    def pass_on(self, caught: Caught) -> None:
        """Give the command a signal that came to us, unless it has it already."""
        pid = self._pid
        if caught.by_kernel:
            self._asked_to_stop = caught.number == signal.SIGTSTP or self._asked_to_stop
            return
        if not pid or (self._shares_group and caught.number == signal.SIGCONT):  # `_wake_too` knows better when we share a group
            return
        try:
            if self._shares_group:
                os.kill(pid, caught.number)
            else:
                os.killpg(pid, caught.number)
        except ProcessLookupError:  # it has just ended; the waiter is about to say so
            pass

    def _watch(self, loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[int]") -> None:
        """The waiter's work: stop and wake up with the command, and tell its end."""
        pid = self._pid
        status = os.waitpid(pid, os.WUNTRACED)[1]
        while os.WIFSTOPPED(status):
            again = self._wake_too() if self._stop_too(os.WSTOPSIG(status)) else None
            status = os.waitpid(pid, os.WUNTRACED)[1] if again is None else again
        self._pid = 0  # from here on the number may be somebody else's
        loop.call_soon_threadsafe(ended.set_result, _code(status))

    def _stop_too(self, number: int) -> bool:
        """
        A shell waits for us, not for the command: it gives its prompt back when we stop as well, so we do, after the command.

        Only for the stops of job control, which `fg` undoes for the whole group; after a plain SIGSTOP nobody would wake us. True
        when we have stopped, and are awake again.
        """
        if not self._shares_group or not (number in _JOB_CONTROL_STOPS or self._asked_to_stop):
            return False
        self._asked_to_stop = False
        signal.pthread_kill(
            threading.get_ident(), signal.SIGSTOP
        )  # to this thread, so that it has happened when the call is over
        return True

    def _wake_too(self) -> int | None:
        """Wake the command where we alone were woken; returns its status where it has stopped again or ended since."""
        time.sleep(_GROUP_S)
        changed, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if not changed:
            os.kill(self._pid, signal.SIGCONT)
        return status if changed and not os.WIFCONTINUED(status) else None


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
