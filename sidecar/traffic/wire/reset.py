"""A connection that ends by a reset, so that its peer cannot take the end for a clean one."""

import asyncio
import contextlib
import socket
import struct

_NO_LINGER = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close at once with RST instead of FIN (SO_LINGER of 0 s); what is unsent is lost, as it is meant to be."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # it is gone already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
