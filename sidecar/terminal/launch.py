"""
The moment between fork and exec: becomes the command that `foreground` runs, in the state in which a shell would start it.

    python -I -S launch.py PARENT_PID SIGNAL_MASK DESCRIPTORS COMMAND [ARGUMENT …]

A program of its own (standard library only), because nothing but exec is safe in the child of a process with threads.
SIGNAL_MASK is the list of signal numbers, split by commas, that our own caller had blocked, DESCRIPTORS the soft limit
of open files that it had set ("": as it is; -1: none). It ends with 127 where the command cannot be found and with 126 where it
cannot be run, as POSIX asks of env, nice and nohup.
"""

import os
import signal
import sys

NOT_FOUND, NOT_EXECUTABLE = 127, 126

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """
    End when the parent ends, even by SIGKILL: nobody else is left to carry the calls (Linux only, prctl(2)).

    A command that changes its user loses this, as the manual says; where there is no prctl, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes  # here, because other systems do without it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, a libc without prctl
        return
    if os.getppid() != parent:  # it went before we could ask
        os.kill(os.getpid(), signal.SIGKILL)


def reset_signals(blocked: set[int]) -> None:
    """
    Undo what Python and our parent did: the command's signals are those of our caller.

    Python ignores SIGPIPE and SIGXFSZ, and exec keeps that; its own handler for SIGINT must not run any more.
    """
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def limit_descriptors(soft: int) -> None:
    """Take back what the sidecar has raised for itself: select(2) of some programs ends at 1,024."""
    import resource  # here, because only `exec` has raised it

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except (ValueError, OSError):  # the hard limit has been lowered since
        return


def become(command: list[str]) -> int:
    """Replace this process by the command; comes back only to say why that failed."""
    try:
        os.execvp(command[0], command)  # noqa: S606 - running the command that was asked for is what this is for
    except FileNotFoundError:
        reason, code = "command not found", NOT_FOUND
    except (OSError, ValueError) as error:
        reason, code = getattr(error, "strerror", None) or str(error), NOT_EXECUTABLE
    sys.stderr.write(f"sidecar exec: {command[0]}: {reason}\n")
    sys.stderr.flush()
    return code


def main(arguments: list[str]) -> int:
    """The program."""
    parent, mask, descriptors, *command = arguments
    die_with(int(parent))
    reset_signals({int(each) for each in mask.split(",") if each})
    if descriptors:
        limit_descriptors(int(descriptors))
    return become(command)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
