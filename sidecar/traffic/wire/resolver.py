"""Names to addresses: cached for a time, one look-up a name at once, bounded."""

import asyncio
import ipaddress
import socket
from collections import OrderedDict

from sidecar.model.clock import Clock
from sidecar.model.errors import UpstreamFailed

_MAX_NAMES = 4096
_MAX_LOOK_UPS = 64
_FAILURE_TTL_S = 1.0


class Resolver:
    """
    Resolves host names through the system's resolver.

    Answers are kept for `ttl_s`, failures for one second; at most 4,096 names are kept and 64 look-ups run at once.
    """

    def __init__(self, *, ttl_s: float, timeout_s: float, clock: Clock) -> None:
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._running: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def resolve(self, host: str) -> tuple[str, ...]:
        """
        Return the addresses of `host`, families interleaved with IPv6 first (RFC 8305 section 4).

        Raises `UpstreamFailed("dns_failed")`.
        """
        literal = as_literal(host)
        if literal:
            return (literal,)
        known = self._known.get(host)
        if known is not None and known[0] > self._clock.monotonic():
            if not known[1]:
                raise UpstreamFailed("dns_failed", f"{host} does not resolve")
            return known[1]
        running = self._running.get(host)
        if running is None:
            if len(self._running) >= _MAX_LOOK_UPS:
                raise UpstreamFailed("dns_failed", "too many names are being resolved at once")
            running = asyncio.ensure_future(self._look_up(host))
            self._running[host] = running
            running.add_done_callback(lambda done: self._forget(host, done))
        return await asyncio.shield(running)

    def _forget(self, host: str, done: "asyncio.Future[tuple[str, ...]]") -> None:
        self._running.pop(host, None)
        if not done.cancelled():
            done.exception()  # everybody who waited has got it; nobody may be left to

    async def _look_up(self, host: str) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(
                loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP), self._timeout_s
            )
        except TimeoutError:
            raise UpstreamFailed("dns_failed", f"{host} did not resolve within {self._timeout_s} s") from None
        except (OSError, UnicodeError) as fault:
            self._keep(host, (), _FAILURE_TTL_S)
            raise UpstreamFailed("dns_failed", f"{host}: {fault}") from None
        addresses = _interleave([str(info[4][0]) for info in found])
        self._keep(host, addresses, self._ttl_s if addresses else _FAILURE_TTL_S)
        if not addresses:
            raise UpstreamFailed("dns_failed", f"{host} has no address")
        return addresses

    def _keep(self, host: str, addresses: tuple[str, ...], ttl_s: float) -> None:
        self._known[host] = (self._clock.monotonic() + ttl_s, addresses)
        self._known.move_to_end(host)
        while len(self._known) > _MAX_NAMES:
            self._known.popitem(last=False)


def as_literal(host: str) -> str:
    """
    Return the address that `host` spells out, or "" for a name.

    The shorthands of inet_aton (2130706433, 0x7f.1) are spelt-out addresses too, because getaddrinfo takes them for one.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    if bare and bare[-1] in "0123456789abcdefABCDEFx.":
        try:
            return socket.inet_ntoa(socket.inet_aton(bare)) if " " not in bare else ""
        except OSError:
            return ""
    return ""


def _interleave(addresses: list[str]) -> tuple[str, ...]:
    unique = list(dict.fromkeys(addresses))
    six = [address for address in unique if ":" in address]
    four = [address for address in unique if ":" not in address]
    mixed: list[str] = []
    while six or four:
        if six:
            mixed.append(six.pop(0))
        if four:
            mixed.append(four.pop(0))
    return tuple(mixed)
