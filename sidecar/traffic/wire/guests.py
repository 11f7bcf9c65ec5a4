"""
Who is connected to a listener: clients with their calls, those who are turned away, and tunnels; and how they leave.

A call is over when its last bytes have been given to the transport, and a tunnel when both sides have said all they had to. Where
the client reads slowly, those bytes have not gone by then, so whoever leaves is waited for until they have.
"""

import asyncio
from collections.abc import Callable

from sidecar.model.exchange import Exchange
from sidecar.traffic.wire.inbound import Inbound
from sidecar.traffic.wire.tunnel import Tunnel

_LOOK_S = 0.04


class Guests:
    """
    All of one listener: `connections` and `turned_away` hold each client until its connection is closed or a tunnel's.

    `tunnels` are those that are open; one that is over still counts while it has bytes to write. `now` is monotonic, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.connections: set[Inbound] = set()
        self.turned_away: set[Inbound] = set()
        self.tunnels: dict[Tunnel, Exchange] = {}
        self._closing: set[Tunnel] = set()

    @property
    def count(self) -> int:
        """The places that are taken."""
        return len(self.connections) + len(self.tunnels) + len(self._leaving())

    @property
    def in_flight(self) -> int:
        """Exchanges and tunnels that are under way."""
        return sum(inbound.exchange is not None for inbound in self.connections) + len(self.tunnels)

    def exchanges(self) -> list[Exchange]:
        """The exchanges that are under way, tunnels included."""
        calls = [inbound.call.exchange for inbound in self.connections if inbound.call is not None]
        return [*calls, *self.tunnels.values()]

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """The tunnel is over; what it has buffered may have to go yet."""
        self.tunnels.pop(tunnel, None)
        if tunnel.has_unwritten:
            self._closing.add(tunnel)

    def _leaving(self) -> set[Tunnel]:
        """Tunnels that are over and have bytes to write; the others are forgotten."""
        if self._closing:
            self._closing = {tunnel for tunnel in self._closing if tunnel.has_unwritten}
        return self._closing

    def _is_busy(self) -> bool:
        now = self._now()
        clients = (*self.connections, *self.turned_away)
        return bool(self.tunnels or self._leaving()) or any(inbound.is_awaited(now) for inbound in clients)

    async def drain(self, seconds: float) -> int:
        """
        Wait until everybody has what is theirs, `seconds` at most; then cut the others and return how many those were.

        Clients that have just connected have a moment to say what they want; it is answered, with `Connection: close`.
        """
        for inbound in tuple(self.connections):
            inbound.drain()
        deadline = self._now() + seconds
        while self._is_busy() and self._now() < deadline:  # noqa: ASYNC110 - calls end in many places; no event is worth it
            await asyncio.sleep(_LOOK_S)
        unwritten = sum(inbound.exchange is None and inbound.has_unwritten for inbound in self.connections)
        cut = self.in_flight + unwritten + len(self._leaving())
        self.cut()
        return cut

    def cut(self) -> None:
        """End whoever is here at once; a call that has no answer yet gets one that says so."""
        for inbound in tuple(self.connections):
            inbound.cut()
        for tunnel in tuple(self.tunnels):
            tunnel.end("draining")
        for tunnel in self._leaving():
            tunnel.give_up()
