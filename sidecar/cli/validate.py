"""Check a config without starting anything; every fault is printed with its file, line, path and a hint."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.config import Config

HELP = "check a config and print everything that is wrong with it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--config F`, as often as there are files."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        action="append",
        help="the file to check, again for each further one (default: $SIDECAR_CONFIG, else config/sidecar.yaml)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print faults, or one line that says what the config holds; 1 where a file has faults."""
    return max(_check(name) for name in arguments.config or [None])


def _check(name: str | None) -> int:
    from sidecar.config import load_located
    from sidecar.model.errors import ConfigInvalid

    try:
        config = load_located(name, os.environ)
    except ConfigInvalid as invalid:
        for fault in invalid.faults:
            print(fault, file=sys.stderr)
        print(f"{invalid.faults[0].source}: {_counted(len(invalid.faults), 'fault', 'faults')}", file=sys.stderr)
        return 1
    print(f"{config.source}: ok ({_summary(config)})")
    for path in config.unused():
        print(f"{config.source}: {path} is declared, but nothing uses it")
    return 0


def _summary(config: "Config") -> str:
    used = {name: len(config.used(f"traffic.{name}")) for name in ("listeners", "upstreams", "policies")}
    return ", ".join((
        _counted(used["listeners"], "listener", "listeners"),
        _counted(len(config.traffic.routes), "route", "routes"),
        _counted(used["upstreams"], "upstream", "upstreams"),
        _counted(used["policies"], "policy", "policies"),
        _counted(len(config.service.pipelines), "pipeline", "pipelines"),
    ))  # fmt: skip


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
