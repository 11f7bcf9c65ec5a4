"""Signals that are meant for somebody else: caught with their sender, to be passed on or left alone."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

CAUGHT = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGCONT", "SIGWINCH")
    if hasattr(signal, name)
)
"""What people and supervisors send to a program; the rest keeps its usual effect on ourselves."""

_FROM_TERMINAL = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH}


@dataclass(frozen=True, slots=True)
class Caught:
    """A signal that came; `by_kernel` says that the terminal made it, and so the whole foreground group has it."""

    number: signal.Signals
    by_kernel: bool


class Signals:
    """
    While entered, the process obeys none of `CAUGHT`: each one that comes goes to `hear`, called in a thread of ours.

    Signals are blocked and waited for (sigwaitinfo), because a handler would not learn who sent them. So enter this
    before other threads start, and in the main thread; `before` is the mask that our caller had set. What the caller ignores
    (nohup) stays ignored. `in_foreground` is asked where the system does not tell the sender (macOS).
    """

    def __init__(self, hear: Callable[[Caught], None], *, in_foreground: Callable[[], bool]) -> None:
        self._hear = hear
        self._in_foreground = in_foreground
        self._signals = {each for each in CAUGHT if signal.getsignal(each) != signal.SIG_IGN}
        self._closed = False
        self._thread = threading.Thread(target=self._wait, name="signals", daemon=True)
        self.before: frozenset[int] = frozenset()

    def __enter__(self) -> "Signals":
        self.before = frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, self._signals | {signal.SIGUSR1}))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        signal.pthread_kill(self._thread.ident or 0, signal.SIGUSR1)  # any signal ends its waiting
        self._thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)

    def _wait(self) -> None:
        while True:
            caught = self._next()
            if self._closed:
                return
            if caught.number in self._signals:
                self._hear(caught)

    def _next(self) -> Caught:
        expected = self._signals | {signal.SIGUSR1}
        if hasattr(signal, "sigwaitinfo"):
            info = signal.sigwaitinfo(expected)
            return Caught(signal.Signals(info.si_signo), info.si_code > 0)  # SI_USER and its kin are 0 and below
        number = signal.Signals(signal.sigwait(expected))
        return Caught(number, number in _FROM_TERMINAL and self._in_foreground())
