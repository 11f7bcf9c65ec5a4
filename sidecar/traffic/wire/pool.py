"""
The connections to one upstream: kept alive, bounded, handed to whoever waits first.

The pool decides and the dialer connects; each connection being made is a task that the pool owns and ends.

A connection that has been used is given out again only after the kernel was asked whether anything has come on it since: the
end of the connection, or bytes that are no answer to anything. What comes after that question and before the request is
written is heard of by the connection itself (see outbound.py). What is left is the time that the request takes to the
upstream; a server that closes in that time has closed on a request, and no client can know whether it was looked at (RFC 9110
section 9.2.2).

There are two clocks, and the error says which ran out: `pool_timeout_s` runs while there is no place for a further connection,
`connect_timeout_s` while one is being made. So a call waits for the sum of both at most.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sidecar.model.clock import Clock
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.wire.dial import not_connected
from sidecar.traffic.wire.outbound import Outbound, ProxyOutbound, TlsOutbound
from sidecar.traffic.wire.outbox import Outbox
from sidecar.traffic.wire.proxy import Via
from sidecar.traffic.wire.response_outline import Outlines

_TLS_BUFFER_BYTES = 64 * 1024
_SINCE_NOW = -1.0
"""In the place of the time since when a connection is idle, until the next tick."""


class Waiter(Protocol):
    """Somebody who needs a connection."""

    def connected(self, outbound: Outbound) -> None:
        """Here it is; use it at once."""

    def not_connected(self, fault: Refused) -> None:
        """There will be none."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds and times of a pool; seconds. Of the first `heads_unlearnt` responses nothing is learnt (response_outline.py)."""

    max_connections: int
    max_waiting: int
    connect_timeout_s: float
    pool_timeout_s: float
    keep_alive_timeout_s: float
    max_header_bytes: int
    max_header_count: int
    heads_unlearnt: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What a connection of the pool leads to; `tls` is None for plain HTTP."""

    dial: Callable[[], Awaitable[tuple[socket.socket, str]]]
    tls: Callable[[], Awaitable[ssl.SSLContext]] | None
    server_name: str


class Pool:
    """Connections to one upstream; where `asks` is set they lead to that corporate proxy, which is asked for the upstream."""

    def __init__(self, target: Target, limits: PoolLimits, clock: Clock, outbox: Outbox | None = None) -> None:
        self._target = target
        self._limits = limits
        self._clock = clock
        self.outbox = outbox or Outbox()
        self.asks: Via | None = None
        self.outlines = Outlines(limits.max_header_bytes, rest=limits.heads_unlearnt)
        self.max_header_bytes = limits.max_header_bytes
        self.max_header_count = limits.max_header_count
        self._idle: list[Outbound] = []
        self._open: set[Outbound] = set()
        self._making: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[float, Waiter]] = deque()
        self._is_closed = False
        self._may_stay: Callable[[str], bool] = lambda _: True
        self._tls_buffer: memoryview | None = None

    @property
    def open_count(self) -> int:
        """Connections that are open, busy or idle."""
        return len(self._open)

    @property
    def idle_count(self) -> int:
        """Connections that are open and free."""
        return len(self._idle)

    @property
    def waiting_count(self) -> int:
        """Calls that wait for a connection."""
        return len(self._waiting)

    def take(self) -> Outbound | None:
        """Return the free connection that was used last and still stands, or None where one has to be waited for."""
        while self._idle:
            outbound = self._idle.pop()
            if not outbound.news(0):
                return outbound
            outbound.abort()
        return None

    def wait(self, waiter: Waiter) -> None:
        """
        Have the next connection given to `waiter`.

        Raises `UpstreamFailed("pool_exhausted")` where no further one may be made and too many wait for one already.
        """
        if self._is_closed:
            raise UpstreamFailed("draining", "the upstream is closed")
        may_connect = len(self._open) + len(self._making) < self._limits.max_connections
        if not may_connect and len(self._waiting) - len(self._making) >= self._limits.max_waiting:
            raise UpstreamFailed("pool_exhausted", f"{len(self._waiting)} calls wait for this upstream already")
        self._waiting.append((self._clock.monotonic() + self._limits.pool_timeout_s, waiter))
        self._make_more()

    def leave(self, waiter: Waiter) -> None:
        """Stop waiting; a connection that is being made for it will serve another, or stay idle."""
        for entry in self._waiting:
            if entry[1] is waiter:
                self._waiting.remove(entry)
                return

    # Keeper, for Outbound

    def release(self, outbound: Outbound) -> None:
        if self._is_closed or outbound.is_unwanted:
            outbound.abort()
        elif self._waiting:
            if outbound.uses and outbound.news(0):
                outbound.abort()
            else:
                self._waiting.popleft()[1].connected(outbound)
        else:
            outbound.idle_since = _SINCE_NOW  # `tick` looks at the clock, once for all of them
            self._idle.append(outbound)

    def lost(self, outbound: Outbound) -> None:
        self._open.discard(outbound)
        with contextlib.suppress(ValueError):
            self._idle.remove(outbound)
        if self._waiting:
            self._make_more()

    def tick(self, now: float) -> None:
        """Close what has been idle for too long and tell those who have waited for too long."""
        for outbound in reversed(self._idle):
            if outbound.idle_since != _SINCE_NOW:
                break
            outbound.idle_since = now
        oldest = now - self._limits.keep_alive_timeout_s
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle[0].abort()
        while len(self._waiting) > len(self._making) and self._waiting[len(self._making)][0] < now:
            # A connection is being made for each of those before it, and connect_timeout is their clock.
            waiter = self._waiting[len(self._making)][1]
            del self._waiting[len(self._making)]
            waiter.not_connected(UpstreamFailed("pool_timeout", f"no place was free within {self._limits.pool_timeout_s} s"))

    def keep_only(self, may_stay: Callable[[str], bool]) -> None:
        """Have no connection to an address used again that `may_stay` refuses; what is under way on one ends there."""
        self._may_stay = may_stay
        for outbound in tuple(self._open):
            outbound.is_unwanted = not may_stay(outbound.address)
        for outbound in [each for each in self._idle if each.is_unwanted]:
            outbound.abort()

    async def close(self) -> None:
        """Close every connection, idle or busy, and end those being made; every call that is here hears of it at once."""
        self._is_closed = True
        for outbound in tuple(self._open):
            outbound.fail(UpstreamFailed("draining", "the upstream is closed"))
        while self._waiting:
            self._waiting.popleft()[1].not_connected(UpstreamFailed("draining", "the upstream is closed"))
        for task in self._making:
            task.cancel()
        await asyncio.gather(*self._making, return_exceptions=True)

    def _make_more(self) -> None:
        if self._is_closed:
            return
        wanted = len(self._waiting) - len(self._making)
        allowed = self._limits.max_connections - len(self._open) - len(self._making)
        for _ in range(min(wanted, allowed)):
            task = asyncio.ensure_future(self._make())
            self._making.add(task)
            task.add_done_callback(self._tried)

    def _tried(self, task: "asyncio.Task[None]") -> None:
        self._making.discard(task)
        if self._waiting:
            self._make_more()  # now that this one does not count any more

    async def _make(self) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                outbound = await self._connect()
        except TimeoutError:
            self._give_up(UpstreamFailed("connect_timeout", f"not within {self._limits.connect_timeout_s} s"))
        except Refused as fault:
            self._give_up(fault)
        except (ssl.SSLError, ssl.CertificateError) as fault:
            self._give_up(UpstreamFailed("tls_failed", _tls_reason(fault)))
        except OSError as fault:
            self._give_up(not_connected(fault, str(fault)))
        else:
            self.release(outbound)

    async def _connect(self) -> Outbound:
        sock, address = await self._target.dial()  # first, because a dialer has a part of the time that begins now
        outbound = self._made(sock, address)
        try:
            context = await self._target.tls() if self._target.tls is not None else None
            await asyncio.get_running_loop().create_connection(
                lambda: outbound,
                sock=sock,
                ssl=context,
                server_hostname=self._target.server_name if context is not None else None,
            )
        except BaseException:
            if outbound.is_open:  # it was there when the time was over
                outbound.abort()
            sock.close()
            raise
        if not outbound.is_open:
            raise UpstreamFailed("connect_failed", "the upstream closed the connection at once")
        outbound.is_unwanted = not self._may_stay(address)  # the rules may have changed since it was dialled
        self._open.add(outbound)
        return outbound

    def _made(self, sock: socket.socket, address: str) -> Outbound:
        if self.asks is not None:
            return ProxyOutbound(self, sock, address, self.asks)
        if self._target.tls is None:
            return Outbound(self, sock, address)
        if self._tls_buffer is None:
            self._tls_buffer = memoryview(bytearray(_TLS_BUFFER_BYTES))
        return TlsOutbound(self, sock, address, self._tls_buffer)

    def _give_up(self, fault: Refused) -> None:
        """The oldest waiter hears of it; the others have tasks of their own, or will have one now."""
        if self._waiting:
            self._waiting.popleft()[1].not_connected(fault)


def _tls_reason(fault: ssl.SSLError | ssl.CertificateError) -> str:
    verify = getattr(fault, "verify_message", "")
    return verify or getattr(fault, "reason", "") or str(fault)
