"""Work that is counted, not timed: a clock would judge the machine, its load, and what measures the coverage."""

import sys
from collections.abc import Callable
from types import FrameType


def calls_made(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, are called while `work` is done."""
    calls = 0

    def count(frame: FrameType, event: str, of: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls
