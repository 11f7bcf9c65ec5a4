"""How many file descriptors this process may have: each connection takes one, and what the system gives at first is few."""

import contextlib
import errno
import resource

_ENOUGH = 65_536
"""Asked for in any case, where the hard limit allows it: a reload may want more than the start."""
_ALWAYS_ALLOWED = 10_240
"""OPEN_MAX of macOS."""
_RUN_OUT = frozenset((errno.EMFILE, errno.ENFILE))


def most_descriptors() -> int:
    """The soft limit as it stands."""
    return _count(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def raise_limit(needed: int) -> int:
    """
    Raise the soft limit so that `needed` descriptors fit, as far as the hard one allows; it is never lowered.

    Returns the limit as it was, for commands that we start: some still use select(2), which ends at 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(needed, _ENOUGH), needed, _ALWAYS_ALLOWED):
        wanted = min(_count(hard), wanted)
        if wanted <= _count(soft):
            continue
        with contextlib.suppress(ValueError, OSError):  # macOS allows less than its hard limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
    return soft


def ran_out(fault: BaseException) -> bool:
    """Whether the process, or the whole system, has had no descriptor left."""
    return isinstance(fault, OSError) and fault.errno in _RUN_OUT


def _count(limit: int) -> int:
    return limit if limit != resource.RLIM_INFINITY else 1 << 30
