"""A connection's way out: what it has to say leaves once a loop turn, or at once where nobody else has anything to say."""

import asyncio

from sidecar.traffic.wire.outbox import ALONE_S, Outbox

WRITE_HIGH_BYTES = 4 * 1024
"""
Above this a writer is told to pause. uvloop reads up to 250 KiB of a plain socket at once, and both together stay below 256 KiB;
so does what TLS brings, for which `TlsOutbound` has bounds of its own.
"""


class Outlet:
    """
    What both kinds of connection write with; `out` has not been given to the transport yet (see outbox.py).

    `has_written` is set by every write to the transport, for whoever clears it before.
    """

    __slots__ = ("has_written", "out", "outbox", "transport")

    transport: asyncio.Transport

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.out = b""
        self.has_written = False

    @property
    def has_unwritten(self) -> bool:
        """Whether bytes are left that the kernel has not taken yet."""
        return bool(self.out) or self.transport.get_write_buffer_size() > 0

    def write(self, data: bytes) -> None:
        """Write at the end of this loop turn, together with what else it brings, or at once if this connection is alone."""
        if self.out:
            self.out += data
        else:
            outbox = self.outbox
            if not outbox.is_crowded and (now_s := outbox.now()) - outbox.last_s > ALONE_S:
                outbox.last_s = now_s
                self.has_written = True
                if not self.transport.is_closing():
                    self.transport.write(data)
                return
            self.out = data
            outbox.add(self)
        if len(self.out) >= WRITE_HIGH_BYTES:
            self.flush()  # so that a peer that takes nothing is noticed before more is read

    def flush(self) -> None:
        """Write what there is now (outbox.Writer)."""
        data, self.out = self.out, b""
        self.has_written = True
        if data and not self.transport.is_closing():
            self.transport.write(data)
