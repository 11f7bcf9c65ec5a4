"""A program that runs another one in its place, as `sidecar exec` does, but without a sidecar: prints the exit code on stderr."""

import asyncio
import os
import sys

from sidecar.terminal.foreground import Foreground, in_foreground
from sidecar.terminal.signals import Caught, Signals


def main(command: list[str]) -> int:
    foreground: list[Foreground] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        def hear(caught: Caught) -> None:
            loop.call_soon_threadsafe(foreground[0].pass_on, caught)

        with Signals(hear, in_foreground=in_foreground) as signals:
            foreground.append(Foreground(command, os.environ, blocked=signals.before))
            code = runner.run(foreground[0].run())
    sys.stderr.write(f"code {code}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
