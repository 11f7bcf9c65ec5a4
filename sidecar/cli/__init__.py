"""
The command line: `sidecar COMMAND …`, one file a command.

A command is a module `sidecar/cli/COMMAND.py` with `HELP` (one line), `arguments(parser)` and `run(arguments) -> int` (the exit
code). It is found by its file and only the chosen one is imported, so that `sidecar --help` is there at once. What is heavy
is imported inside `run`. The smallest one is `version.py`.
"""

import argparse
import ast
import difflib
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sidecar import __version__

_FOLDER = Path(__file__).parent
_USAGE_ERROR = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 not understood."""
    words = list(sys.argv[1:] if argv is None else argv)
    _hold_standard_descriptors()
    try:
        return _run(words)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough, as in `sidecar components | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def commands() -> list[str]:
    """The names of all commands."""
    return sorted(found.name for found in pkgutil.iter_modules([str(_FOLDER)]) if not found.name.startswith("_"))


def _run(words: list[str]) -> int:
    known = commands()
    if not words or words[0] not in known:
        return _introduce(words, known)
    command = words[0]
    module = importlib.import_module(f"sidecar.cli.{command}")
    parser = argparse.ArgumentParser(
        prog=f"sidecar {command}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.arguments(parser)
    code = module.run(parser.parse_args(words[1:]))
    if sys.stdout is not None:  # as it is where our caller has closed it
        sys.stdout.flush()  # here, where a broken pipe is still caught
    return int(code)


def _hold_standard_descriptors() -> None:
    """Open what our caller has closed of 0, 1 and 2: libuv aborts when a socket of its own gets one of these numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, and is closed for children, as it was for us


def _introduce(words: list[str], known: list[str]) -> int:
    """`--help`, `--version`, and everything that is no command."""
    width = max(map(len, known))
    listed = [f"  {name:{width}}  {_help_of(name)}" for name in known]
    parser = argparse.ArgumentParser(
        prog="sidecar",
        usage="sidecar COMMAND [OPTIONS]",
        description="SRE for AI agents, in the data path of their LLM, MCP and A2A calls.",
        epilog="\n".join(["commands:", *listed, "", "sidecar COMMAND --help says more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sidecar {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    command = parser.parse_known_args(words)[0].command
    if command is None:
        parser.print_help(sys.stderr)
    else:
        nearest = difflib.get_close_matches(command, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
        print(f"sidecar: {command!r} is no command ({hint})", file=sys.stderr)
    return _USAGE_ERROR


def _help_of(command: str) -> str:
    """The text of a module's `HELP`, read without importing the module."""
    for node in ast.parse((_FOLDER / f"{command}.py").read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="HELP")], value=ast.Constant(value=str(text))):
                return text
    return ""
