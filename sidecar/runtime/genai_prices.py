"""
The price list of the installed package `genai-prices`, without its client stack.

    catalogue = await asyncio.to_thread(read)       # after the proxy listens: 50 ms, nearly all of it in another process

A process of its own runs the package's data module and writes it down in a tenth of the size (price_export.py); what stays here
is compressed, provider by provider, and a provider's models are unpacked when the first call asks for them.
"""

import json
import logging
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sidecar.engines.prices.catalogue import Catalogue, Constraint, Model, Prices, Provider, Variant, clause

SOURCE = "genai-prices"
"""What costs name as their source."""

_EXPORT = Path(__file__).with_name("price_export.py")
_TIMEOUT_S = 60.0
_LARGEST = 64 << 20
_TROUBLE = (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, zlib.error)

_log = logging.getLogger(__name__)


def installed() -> Path | None:
    """The folder of the package, without importing it; None where it is not installed."""
    spec = find_spec("genai_prices")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(folders[0]) if folders else None


def read(folder: Path | None = None) -> Catalogue | None:
    """
    Read the list; blocks, so it is called in a worker thread.

    None where there is no package, or its data cannot be read; the log says so once, because then only the rules of the config
    have prices.
    """
    folder = folder or installed()
    if folder is None:
        _log.warning("the package genai-prices is not installed: calls that no rule under `prices` is about are unpriced")
        return None
    flags = "-BIS" if sys.dont_write_bytecode else "-IS"
    command = [sys.executable, flags, str(_EXPORT), str(folder)]
    try:
        return catalogue(_output_of(command))
    except _TROUBLE as error:
        _log.warning("the prices of %s cannot be read, so calls that no rule is about are unpriced: %s", folder, _words(error))
        return None


def _output_of(command: list[str]) -> bytes:
    """What our own program writes; it gets no input and a bounded time."""
    done = subprocess.run(  # noqa: S603 - interpreter, program and folder are ours, not a peer's
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=True
    )
    return done.stdout


def _words(error: Exception) -> str:
    said = getattr(error, "stderr", b"") or b""
    lines = said.decode(errors="replace").splitlines()
    return lines[-1] if lines else f"{type(error).__name__}: {error}"


def catalogue(export: bytes) -> Catalogue:
    """Make a catalogue of an export; raises ValueError, KeyError or TypeError for what is none."""
    if len(export) > _LARGEST:
        raise ValueError("larger than 64 MiB")
    head, _, packed = export.partition(b"\n")
    index = json.loads(head)
    providers = []
    for provider in index["providers"]:
        mine, packed = packed[: provider["size"]], packed[provider["size"] :]
        providers.append(
            Provider(
                provider["id"],
                _models(mine),
                _beginning(provider["serves"]),
                clause(provider["is_called"]),
                clause(provider["is_known_for"]),
                tuple(provider["lenders"]),
            )
        )
    return Catalogue(SOURCE, index["version"], tuple(providers))


def _beginning(pattern: str) -> Callable[[str], bool]:
    """Whether a URL begins as a pattern says; compiled when first asked, because most sidecars name their providers."""

    @cache
    def compiled() -> re.Pattern[str]:
        return re.compile(pattern)

    return lambda url: compiled().match(url) is not None


def _models(packed: bytes) -> Callable[[], tuple[Model, ...]]:
    @cache
    def models() -> tuple[Model, ...]:
        return tuple(map(_model, json.loads(zlib.decompress(packed))))

    return models


def _model(written: dict[str, Any]) -> Model:
    return Model(
        sys.intern(written["id"]),
        clause(written["matches"]),
        tuple((_constraint(constraint), _prices(prices)) for constraint, prices in written["prices"]),
        tuple(Variant(when, _prices(prices), _constraint(constraint)) for when, constraint, prices in written["variants"]),
        written["window"],
    )


def _constraint(written: list[int] | None) -> Constraint | None:
    return Constraint(*written) if written is not None else None


def _prices(written: dict[str, Any]) -> Prices:
    return Prices(
        written["by_class"],
        written.get("per_request"),
        written.get("per_hour"),
        written.get("least_seconds", 0),
        tuple(written.get("uncounted", ())),
    )
