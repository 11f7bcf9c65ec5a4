"""Print the version of the sidecar and of what it runs on."""

import argparse
import platform

from sidecar import __version__

HELP = "print the version"


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(arguments: argparse.Namespace) -> int:  # noqa: ARG001 - every command is called alike
    """Print one line, as in `sidecar 0.1.0 (Python 3.11.7, Linux x86_64)`."""
    print(f"sidecar {__version__} (Python {platform.python_version()}, {platform.system()} {platform.machine()})")
    return 0
