"""The port that calls come in through: whether somebody has it already."""

import asyncio
import socket

_WAIT_S = 0.5
_LOOKS = 20


async def free(host: str, port: int) -> None:
    """
    Wait a moment for a port that a predecessor is leaving; raises OSError where it stays taken.

    The library says such a thing to standard error, and not why; and where ports may be shared, it takes one of somebody else's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for looks_left in reversed(range(_LOOKS)):
        try:
            socket.create_server((host, port), family=family, backlog=1, dualstack_ipv6=host == "::").close()
        except OSError:
            if not looks_left:
                raise
            await asyncio.sleep(_WAIT_S / _LOOKS)
        else:
            return
