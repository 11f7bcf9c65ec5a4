"""A program to be wrapped: says what it has, then names each signal that it gets; SIGTERM ends it with code 42."""

import json
import os
import signal

HEARD = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH")


def told(number: int, frame: object) -> None:
    os.write(1, f"got {signal.Signals(number).name}\n".encode())
    if number == signal.SIGTERM:
        os._exit(42)


def main() -> None:
    with open("/proc/self/status") as status:
        blocked = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk:"))
    inherited = {"blocked": blocked, "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgrp()}
    for name in HEARD:
        signal.signal(getattr(signal, name), told)
    os.write(1, b"ready " + json.dumps(inherited).encode() + b"\n")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
