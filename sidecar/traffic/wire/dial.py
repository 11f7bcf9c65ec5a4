"""
From a host and port to a connected socket: resolve once, judge each address, race them (RFC 8305), tunnel if told to.

What is judged is what is connected to; nothing is looked up twice.
"""

import asyncio
import base64
import re
import socket
from dataclasses import dataclass

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.destinations import Destinations
from sidecar.traffic.wire.resolver import Resolver

_MAX_PROXY_ANSWER_BYTES = 16 * 1024
_OPENED = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9](?: |\r\n)")
"""Any 2xx opens the tunnel (RFC 9110 section 9.3.6); the reason may be left out."""


@dataclass(frozen=True, slots=True)
class Via:
    """A corporate proxy to go through; `authorization` is a ready Basic credential or ""."""

    host: str
    port: int
    authorization: str = ""

    @classmethod
    def through(cls, host: str, port: int, user: str = "", password: str = "") -> "Via":
        """Make the credential once, where the config is read."""
        token = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        return cls(host, port, f"Basic {token}" if token else "")


class Dialer:
    """Makes connected TCP sockets to where the destinations allow."""

    def __init__(self, resolver: Resolver, destinations: Destinations, *, attempt_delay_s: float) -> None:
        self._resolver = resolver
        self._destinations = destinations
        self._attempt_delay_s = attempt_delay_s

    async def dial(self, host: str, port: int, *, named_by_config: bool, via: Via | None = None) -> tuple[socket.socket, str]:
        """
        Return a connected socket and the peer's address.

        Raises `Refused` where no address of the host may be reached, `UpstreamFailed` where none can be.
        """
        if via is not None:
            # The proxy resolves the name; what can be judged here is judged all the same.
            await self._judge_if_known(host, port, named_by_config=named_by_config)
            return await self._tunnel(host, port, via)
        addresses = await self._resolver.resolve(host)
        allowed: list[str] = []
        refusal: Refused | None = None
        for address in addresses:
            try:
                self._destinations.judge(address, port, named_by_config=named_by_config)
                allowed.append(address)
            except Refused as refused:
                refusal = refusal or refused
        if refusal is not None:
            raise refusal  # one closed address makes the whole name suspect (DNS rebinding)
        return await self._race(allowed, port)

    async def _judge_if_known(self, host: str, port: int, *, named_by_config: bool) -> None:
        try:
            addresses = await self._resolver.resolve(host)
        except UpstreamFailed:
            return  # often only the proxy can resolve names
        for address in addresses:
            self._destinations.judge(address, port, named_by_config=named_by_config)

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
        raise UpstreamFailed("connect_failed", f"{', '.join(addresses)} port {port}: {fault}")

    async def _tunnel(self, host: str, port: int, via: Via) -> tuple[socket.socket, str]:
        addresses = await self._resolver.resolve(via.host)
        sock, address = await self._race(list(addresses), via.port)
        try:
            await _ask_for_tunnel(sock, host, port, via)
        except BaseException:
            sock.close()
            raise
        return sock, address


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


async def _ask_for_tunnel(sock: socket.socket, host: str, port: int, via: Via) -> None:
    """CONNECT through the corporate proxy, byte by byte at the end so that nothing of the tunnel is swallowed."""
    loop = asyncio.get_running_loop()
    authority = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if via.authorization:
        lines.append(f"Proxy-Authorization: {via.authorization}")
    await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode("latin-1"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        if len(answer) > _MAX_PROXY_ANSWER_BYTES:
            raise UpstreamFailed("proxy_failed", "the corporate proxy's answer to CONNECT is too long")
        try:
            piece = await loop.sock_recv(sock, 1 if answer else 12)
        except OSError as fault:
            raise UpstreamFailed("proxy_failed", str(fault)) from None
        if not piece:
            raise UpstreamFailed("proxy_failed", "the corporate proxy closed the connection")
        answer += piece
    if not _OPENED.match(answer):
        said = answer.split(b"\r\n", 1)[0].decode("latin-1")
        raise UpstreamFailed("proxy_failed", f"the corporate proxy answered {said!r} to CONNECT")
