"""Names to addresses: cached for a time, one look-up a name at once, bounded."""

import asyncio
import ipaddress
import socket
from collections import OrderedDict

from sidecar.model.clock import Clock
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.wire.look_ups import LookUps

_MAX_NAMES = 4096
_FAILURE_TTL_S = 1.0


class Resolver:
    """
    Resolves host names through the system's resolver.

    Answers are kept for `ttl_s`, failures and silence for one second; at most 4,096 names are kept. An answer that comes after
    `timeout_s` is kept too, for whoever asks next. Resolvers that share their `look_ups` share the bound on them.
    """

    def __init__(self, *, ttl_s: float, timeout_s: float, clock: Clock, look_ups: LookUps | None = None) -> None:
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._look_ups = look_ups or LookUps()
        self._known: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._asked: dict[str, tuple[float, asyncio.Future[tuple[str, ...]]]] = {}

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
        deadline, answer = self._asked.get(host) or self._ask(host)
        await asyncio.wait((answer,), timeout=max(0.0, deadline - self._clock.monotonic()))
        if not answer.done():
            self._keep(host, (), _FAILURE_TTL_S)
            raise UpstreamFailed("dns_failed", f"{host} did not resolve within {self._timeout_s} s")
        return _interleave(answer.result())

    def _ask(self, host: str) -> "tuple[float, asyncio.Future[tuple[str, ...]]]":
        answer = self._look_ups.ask(host)
        asked = self._asked[host] = (self._clock.monotonic() + self._timeout_s, answer)
        answer.add_done_callback(lambda done: self._hear(host, done))
        return asked

    def _hear(self, host: str, answer: "asyncio.Future[tuple[str, ...]]") -> None:
        """Keep an answer, be it late."""
        del self._asked[host]
        fault = None if answer.cancelled() else answer.exception()
        if isinstance(fault, Refused) and fault.code == "no_descriptors":
            return  # nobody was asked
        if answer.cancelled() or fault is not None:
            self._keep(host, (), _FAILURE_TTL_S)
        else:
            self._keep(host, _interleave(answer.result()), self._ttl_s)

    def _keep(self, host: str, addresses: tuple[str, ...], ttl_s: float) -> None:
        self._known[host] = (self._clock.monotonic() + ttl_s, addresses)
        self._known.move_to_end(host)
        while len(self._known) > _MAX_NAMES:
            self._known.popitem(last=False)


def as_literal(host: str) -> str:
    """
    Return the address that `host` spells out, or "" for a name.

    The shorthands of inet_aton (2130706433, 0x7f.1) are spelt-out addresses too, because getaddrinfo takes them for one.
    IPv4-mapped IPv6 is given as the IPv4 that it is for the kernel; versions of Python differ in how they spell it.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        pass
    if bare and bare[-1] in "0123456789abcdefABCDEFx.":
        try:
            return socket.inet_ntoa(socket.inet_aton(bare)) if " " not in bare else ""
        except OSError:
            return ""
    return ""


def _interleave(addresses: tuple[str, ...]) -> tuple[str, ...]:
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
