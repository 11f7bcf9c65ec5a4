"""
The connections to one upstream: kept alive, bounded, handed to whoever waits first.

The pool decides and the dialer connects; each connection being made is a task that the pool owns and ends.
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
from sidecar.traffic.wire.outbound import Outbound, TlsOutbound
from sidecar.traffic.wire.outbox import Outbox

_FRESH_S = 0.5
"""A connection used this recently is not asked whether it is stale: no server closes so soon, and the loop hears of it."""

_TLS_BUFFER_BYTES = 64 * 1024


class Waiter(Protocol):
    """Somebody who needs a connection."""

    def connected(self, outbound: Outbound) -> None:
        """Here it is; use it at once."""

    def not_connected(self, fault: Refused) -> None:
        """There will be none."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds and times of a pool; seconds."""

    max_connections: int
    max_waiting: int
    connect_timeout_s: float
    pool_timeout_s: float
    keep_alive_timeout_s: float
    max_header_bytes: int
    max_header_count: int


@dataclass(frozen=True, slots=True)
class Target:
    """What a connection of the pool leads to; `tls` is None for plain HTTP."""

    dial: Callable[[], Awaitable[tuple[socket.socket, str]]]
    tls: Callable[[], Awaitable[ssl.SSLContext]] | None
    server_name: str


class Pool:
    """Connections to one upstream."""

    def __init__(self, target: Target, limits: PoolLimits, clock: Clock) -> None:
        self._target = target
        self._limits = limits
        self._clock = clock
        self.outbox = Outbox()
        self.max_header_bytes = limits.max_header_bytes
        self.max_header_count = limits.max_header_count
        self._idle: list[Outbound] = []
        self._open: set[Outbound] = set()
        self._making: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[float, Waiter]] = deque()
        self._is_closed = False
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
        """Return the free connection that was used last, or None where one has to be waited for."""
        while self._idle:
            outbound = self._idle.pop()
            if self._clock.monotonic() - outbound.idle_since < _FRESH_S or not outbound.is_stale():
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
        if self._is_closed:
            outbound.abort()
        elif self._waiting:
            self._waiting.popleft()[1].connected(outbound)
        else:
            outbound.idle_since = self._clock.monotonic()
            self._idle.append(outbound)

    def lost(self, outbound: Outbound) -> None:
        self._open.discard(outbound)
        with contextlib.suppress(ValueError):
            self._idle.remove(outbound)
        if self._waiting:
            self._make_more()

    def tick(self, now: float) -> None:
        """Close what has been idle for too long and tell those who have waited for too long."""
        oldest = now - self._limits.keep_alive_timeout_s
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle[0].abort()
        while self._waiting and self._waiting[0][0] < now:
            waiter = self._waiting.popleft()[1]
            waiter.not_connected(UpstreamFailed("pool_timeout", f"none was free within {self._limits.pool_timeout_s} s"))

    async def close(self) -> None:
        """Close every connection, idle or busy, and end those being made."""
        self._is_closed = True
        for task in self._making:
            task.cancel()
        await asyncio.gather(*self._making, return_exceptions=True)
        for outbound in tuple(self._open):
            outbound.abort()
        while self._waiting:
            self._waiting.popleft()[1].not_connected(UpstreamFailed("draining"))

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
            self._give_up(UpstreamFailed("connect_failed", str(fault)))
        else:
            self.release(outbound)

    async def _connect(self) -> Outbound:
        context = await self._target.tls() if self._target.tls is not None else None
        sock, address = await self._target.dial()
        try:
            _, outbound = await asyncio.get_running_loop().create_connection(
                lambda: self._made(sock, address),
                sock=sock,
                ssl=context,
                server_hostname=self._target.server_name if context is not None else None,
            )
        except BaseException:
            sock.close()
            raise
        if not outbound.is_open:
            raise UpstreamFailed("connect_failed", "the upstream closed the connection at once")
        self._open.add(outbound)
        return outbound

    def _made(self, sock: socket.socket, address: str) -> Outbound:
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
