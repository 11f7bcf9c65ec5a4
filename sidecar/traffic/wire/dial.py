"""
From a host and port to a connected socket: resolve once, judge each address, race them (RFC 8305); or by a corporate proxy.

What is judged is what is connected to; nothing is looked up twice. Where a corporate proxy stands between, it is the proxy that
is connected to, and of the destination is judged what can be known here.
"""

import asyncio
import socket

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.runtime.descriptors import ran_out
from sidecar.traffic.destinations import Destinations
from sidecar.traffic.hosts import judge_unresolved
from sidecar.traffic.wire.connect import ask_for_tunnel
from sidecar.traffic.wire.proxy import NO_PROXIES, Proxies, Via
from sidecar.traffic.wire.resolver import Resolver


class Dialer:
    """
    Makes connected TCP sockets to where the destinations allow.

    `proxies` are those for whatever has none of its own; `resolves_here` says whether names that a proxy could resolve are
    resolved and judged here as well.
    """

    def __init__(
        self,
        resolver: Resolver,
        destinations: Destinations,
        *,
        attempt_delay_s: float,
        proxies: Proxies = NO_PROXIES,
        resolves_here: bool = False,
    ) -> None:
        self._resolver = resolver
        self._destinations = destinations
        self._attempt_delay_s = attempt_delay_s
        self._resolves_here = resolves_here
        self.proxies = proxies

    async def dial(self, host: str, port: int, *, named_by_config: bool) -> tuple[socket.socket, str]:
        """
        Return a connected socket and the peer's address.

        Raises `Refused` where no address of the host may be reached, `UpstreamFailed` where none can be.
        """
        return await self._race(await self._judged(host, port, named_by_config=named_by_config), port)

    async def dial_through(
        self, via: Via, host: str, port: int, *, named_by_config: bool, tunnels: bool, timeout_s: float
    ) -> tuple[socket.socket, str]:
        """
        Return a socket that is connected to a corporate proxy, and the proxy's address.

        With `tunnels` it leads to the destination already; without, the proxy is still to be asked. `timeout_s` is for the
        proxy's part. Raises `Refused` where the destination may not be reached, `UpstreamFailed` where the proxy fails.
        """
        if self._resolves_here:
            await self._judged(host, port, named_by_config=named_by_config)
        else:
            judge_unresolved(self._destinations, host, port, named_by_config=named_by_config)
        sock = None
        try:
            async with asyncio.timeout(timeout_s):
                sock, address = await self._reach(via)
                if tunnels:
                    await ask_for_tunnel(sock, host, port, via)
        except TimeoutError:
            if sock is None:
                raise UpstreamFailed("proxy_unreachable", f"{via.shown} did not accept within {timeout_s:g} s") from None
            sock.close()
            detail = f"{via.shown} opened no tunnel to {host}:{port} within {timeout_s:g} s"
            raise UpstreamFailed("proxy_timeout", detail) from None
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        return sock, address

    async def _reach(self, via: Via) -> tuple[socket.socket, str]:
        """Connect to a proxy; it is the operator's, and may stand anywhere but in our own place."""
        try:
            return await self._race(await self._judged(via.host, via.port, named_by_config=True), via.port)
        except UpstreamFailed as fault:
            raise UpstreamFailed("proxy_unreachable", f"{via.shown}: {fault.detail}") from None

    async def _judged(self, host: str, port: int, *, named_by_config: bool) -> list[str]:
        """Resolve a host; raises `Refused` where one of its addresses is closed: that makes the name suspect (DNS rebinding)."""
        addresses = await self._resolver.resolve(host)
        for address in addresses:
            self._destinations.judge(address, port, named_by_config=named_by_config)
        return list(addresses)

    def allows(self, address: str, port: int, *, named_by_config: bool) -> bool:
        """Whether a connection to this address might be made now; one that was made under other rules may have to go."""
        try:
            self._destinations.judge(address, port, named_by_config=named_by_config)
        except Refused:
            return False
        return True

    async def _race(self, addresses: list[str], port: int) -> tuple[socket.socket, str]:
        """Try the addresses one after the other, each with a head start; the first to accept wins, the others are closed."""
        waiting = list(addresses)
        running: dict[asyncio.Task[socket.socket], str] = {}
        fault: OSError | None = None
        try:
            while waiting or running:
                if waiting:
                    address = waiting.pop(0)
                    running[asyncio.ensure_future(_connect(address, port))] = address
                delay_s = self._attempt_delay_s if waiting else None
                done, _ = await asyncio.wait(running, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    address = running.pop(task)
                    failed = task.exception()
                    if failed is None:
                        return task.result(), address
                    fault = failed if isinstance(failed, OSError) else OSError(str(failed))
        finally:
            await _close_losers(running)
        raise not_connected(fault, f"{', '.join(addresses)} port {port}: {fault}")


def not_connected(fault: OSError | None, detail: str) -> Refused:
    """What it means that no connection could be made: whose fault it was is told by what the system said."""
    if fault is not None and ran_out(fault):
        return Refused("no_descriptors", detail, retry_after_s=1.0)
    return UpstreamFailed("connect_failed", detail)


async def _connect(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _close_losers(running: "dict[asyncio.Task[socket.socket], str]") -> None:
    for task in running:
        task.cancel()
    for result in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()
