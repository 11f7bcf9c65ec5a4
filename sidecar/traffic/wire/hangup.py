"""A peer that has hung up on a connection that is not being read: its EOF is not seen then, but the kernel knows all the same."""

import asyncio
import socket

_GONE_STATES = frozenset((7, 8, 9))
"""TCP_CLOSE, TCP_CLOSE_WAIT and TCP_LAST_ACK in Linux's TCP_INFO: the peer has ended its side."""


def has_hung_up(transport: asyncio.Transport) -> bool:
    """True when the peer has closed its side; False where that cannot be known. Costs one system call."""
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        state: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:
        return True
    return state in _GONE_STATES
