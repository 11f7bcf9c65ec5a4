"""
The last moments of a connection whose client still sends: what it sends is read and thrown away, within bounds.

A connection that is closed with bytes unread ends by a reset, and a reset may take the answer from the client before it has
read it (RFC 9112 section 9.6). So the write side closes first, and the rest waits for the client to have had enough.
"""

LINGER_BYTES = 16 * 1024 * 1024
"""What is thrown away at most; many clients look at the answer only when they have sent all of a body."""
LINGER_S = 30.0
"""How long that may take altogether (nginx's lingering_time)."""
QUIET_S = 2.0
"""A client that has sent nothing for so long has had time to read the answer."""


class Lingering:
    """A connection that reads without looking; `until_s` is when that ends in any case."""

    __slots__ = ("_left_bytes", "until_s")

    def __init__(self, now: float) -> None:
        self._left_bytes = LINGER_BYTES
        self.until_s = now + LINGER_S

    def has_room_for(self, count: int) -> bool:
        """Throw `count` bytes away; False when that was more than is allowed."""
        self._left_bytes -= count
        return self._left_bytes >= 0

    def is_over(self, now: float, quiet_s: float) -> bool:
        """Whether the connection has lingered for long enough."""
        return quiet_s > QUIET_S or now > self.until_s
