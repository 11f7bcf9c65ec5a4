"""
How far a soak test goes: a short form that belongs to the suite, and a long one that `make soak` runs.

    SOAK_CALLS=200000 SOAK_SECONDS=120 SOAK_SEED=1 make soak

A failure names the seed; the same seed makes the same plan, though not the same timing.
"""

import os
from typing import Any

import pytest

CALLS = int(os.environ.get("SOAK_CALLS", "200000"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
SEED = int(os.environ.get("SOAK_SEED", "20261120"))


def extent(name: str, *, short: float, long: float) -> Any:
    """Parametrizes a test with `name`: its extent now, and its extent in `make soak`."""
    return pytest.mark.parametrize(name, [pytest.param(short, id="short"), pytest.param(long, id="long", marks=pytest.mark.soak)])
