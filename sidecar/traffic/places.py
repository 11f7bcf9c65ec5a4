"""
How many clients the listeners have room for: what the settings allow, or fewer where the file descriptors do not suffice.

A client takes two descriptors, its own and one to where its call or tunnel leads; upstreams keep idle connections besides.
"""

import logging
from collections.abc import Collection, Iterable
from typing import NamedTuple

_RESERVED = 64
"""For ports, logs, exporters, admin and look-ups."""
_MAX_TURNED_AWAY = 256
_A_CLIENTS = 2

_log = logging.getLogger(__name__)


class Places(NamedTuple):
    """The share of one listener: clients that it serves, and clients above that whom it waits for while it turns them away."""

    clients: int
    turned_away: int = _MAX_TURNED_AWAY


def descriptors_needed(clients: Iterable[int], kept: Iterable[int]) -> int:
    """Descriptors for listeners and upstreams with these `max_connections`."""
    return _RESERVED + sum(_A_CLIENTS * each + _MAX_TURNED_AWAY for each in clients) + sum(kept)


def share_out(clients: Collection[int], kept: Collection[int], descriptors: int) -> list[Places]:
    """
    What each listener gets of so many descriptors; `clients` and `kept` are `max_connections` of listeners and upstreams.

    Where they do not suffice, what calls need goes before what upstreams keep idle, and each listener has one place at least.
    """
    needed = descriptors_needed(clients, kept)
    if needed <= descriptors or not clients:
        return [Places(each) for each in clients]
    room = max(0, descriptors - _RESERVED)
    idle = min(sum(kept), room // 4)
    turned_away = min(_MAX_TURNED_AWAY, room // 8 // len(clients))
    left = (room - idle - turned_away * len(clients)) // _A_CLIENTS
    total = max(1, sum(clients))
    shares = [Places(max(1, min(each, left * each // total)), turned_away) for each in clients]
    if all(share.clients == each for share, each in zip(shares, clients, strict=True)):
        return shares
    _log.warning(
        "%d file descriptors are too few for max_connections of listeners and upstreams, which need %d: no more than %d clients"
        " are served at once; raise the hard limit (ulimit -Hn, LimitNOFILE=), or lower max_connections",
        descriptors, needed, sum(share.clients for share in shares),
    )  # fmt: skip
    return shares
