"""A call becomes a tunnel: its other side is dialled, and its exchange and attempt go on until both sides have ended."""

import asyncio
import socket
import time
from typing import TYPE_CHECKING

from sidecar.model.errors import UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange
from sidecar.traffic.meter import attempt_finished, exchange_finished
from sidecar.traffic.wire.tunnel import Tunnel

if TYPE_CHECKING:
    from sidecar.traffic.upstreams.http import HttpUpstream
    from sidecar.traffic.wire.inbound import Inbound
    from sidecar.traffic.wire.listener import Listener


async def dial_other_side(upstream: "HttpUpstream") -> tuple[socket.socket, str]:
    """Connect to the destination of a CONNECT within its `connect_timeout`; returns the socket and the peer's address."""
    timeout_s = float(upstream.config.connect_timeout)
    try:
        async with asyncio.timeout(timeout_s):
            return await upstream.dial_tunnel()
    except TimeoutError:
        raise UpstreamFailed("connect_timeout", f"not within {timeout_s} s") from None


def hand_over(
    listener: "Listener", inbound: "Inbound", exchange: Exchange, attempt: Attempt, *, status: int, opening: bytes
) -> Tunnel:
    """
    Answer the client with `opening` and make its connection one side of a tunnel.

    What the client has sent already stands in the tunnel's `early`; the other side is the caller's to join. The bytes of
    both directions are counted, and the facts published, when the tunnel is over.
    """
    attempt.status = exchange.status = status
    attempt.first_byte_at = exchange.first_byte_at = time.monotonic_ns()

    def over(tunnel: Tunnel, error: str) -> None:
        listener.tunnel_closed(tunnel)
        exchange.request_bytes = attempt.sent_bytes = tunnel.client.received
        exchange.response_bytes = attempt.received_bytes = tunnel.upstream.received
        exchange.error = attempt.error = error
        attempt_finished(listener.runtime, attempt, exchange)
        exchange_finished(listener.runtime, exchange)

    tunnel = Tunnel(over, idle_timeout_s=listener.tunnel_idle_timeout_s)
    tunnel.early = inbound.take_early()
    listener.tunnel_opened(tunnel, exchange)
    inbound.resume_client()
    inbound.call_left()
    exchange.when_stopped(lambda _reason: tunnel.end("stopped"))
    inbound.write(opening)
    inbound.flush()
    tunnel.client.is_full = inbound.is_full  # the transport says so once, and has said it to `inbound`
    tunnel.client.take_over(inbound.transport)
    return tunnel
