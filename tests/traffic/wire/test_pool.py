import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.wire.outbound import Outbound, TlsOutbound
from sidecar.traffic.wire.pool import Pool, PoolLimits, Target
from tests.sidecar_under_test import eventually
from tests.traffic.wire.stand import turns

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Waiting:
    """A waiter that keeps what it was told, and its order among others in `order`."""

    order: list["Waiting"]

    def __init__(self, stand: "Stand") -> None:
        self._order = stand.order
        self.outbound: Outbound | None = None
        self.fault: Refused | None = None
        self.ended = False

    def connected(self, outbound: Outbound) -> None:
        assert self.outbound is None and self.fault is None, "told twice"
        self.outbound = outbound
        self._order.append(self)

    def not_connected(self, fault: Refused) -> None:
        assert self.outbound is None and self.fault is None, "told twice"
        self.fault = fault
        self._order.append(self)

    # as a Sink

    def upstream_answers(self, outbound: Outbound, head: Any) -> bool:
        return True

    def upstream_ends(self, data: bytes, size: int) -> None:
        self.ended = True

    def upstream_fails(self, outbound: Outbound, fault: UpstreamFailed) -> None:
        self.fault = fault


class Stand:
    """A pool whose connections are pairs of sockets; `dials` are those that wait to be answered with `lets`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.order: list[Waiting] = []
        self.dials: list[asyncio.Future[None]] = []
        self.peers: list[socket.socket] = []
        self.ours: list[socket.socket] = []
        self.pools: list[Pool] = []
        self.tls: Any = None

    def pool(self, **limits: Any) -> Pool:
        settings = {"max_connections": 2, "max_waiting": 2, "connect_timeout_s": 5.0, "pool_timeout_s": 10.0, "keep_alive_timeout_s": 55.0,
                    "max_header_bytes": 1000, "max_header_count": 10}  # fmt: skip
        pool = Pool(Target(self._dial, self.tls, "up.test"), PoolLimits(**{**settings, **limits}), self.clock)
        self.pools.append(pool)
        return pool

    async def _dial(self) -> tuple[socket.socket, str]:
        dial: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.dials.append(dial)
        await dial
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        peer.setblocking(False)
        self.peers.append(peer)
        self.ours.append(ours)
        return ours, "192.0.2.7"

    async def lets(self, fault: Exception | None = None) -> None:
        """The oldest dial succeeds, or fails."""
        await turns()
        dial = self.dials.pop(0)
        if fault is None:
            dial.set_result(None)
        else:
            dial.set_exception(fault)
        await turns()

    async def waits(self, pool: Pool) -> Waiting:
        waiter = Waiting(self)
        pool.wait(waiter)
        await turns()
        return waiter

    async def idle(self, pool: Pool) -> Outbound:
        """A connection that is open and free."""
        waiter = await self.waits(pool)
        await self.lets()
        assert waiter.outbound is not None
        pool.release(waiter.outbound)
        return waiter.outbound


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    stand = Stand()
    yield stand
    for pool in stand.pools:
        await pool.close()
        assert pool.open_count == pool.idle_count == pool.waiting_count == 0
        assert not pool._making
    await turns()
    for sock in stand.peers:
        sock.close()
    assert all(sock.fileno() == -1 for sock in stand.ours), "a connection leaked"


def counts(pool: Pool) -> tuple[int, int, int]:
    return pool.open_count, pool.idle_count, pool.waiting_count


async def test_an_empty_pool_has_nothing_to_take(stand: Stand) -> None:
    pool = stand.pool()
    assert pool.take() is None
    assert counts(pool) == (0, 0, 0)


async def test_a_connection_is_made_for_who_waits(stand: Stand) -> None:
    pool = stand.pool()
    waiter = await stand.waits(pool)
    assert counts(pool) == (0, 0, 1)
    await stand.lets()
    assert waiter.outbound is not None
    assert waiter.outbound.address == "192.0.2.7"
    assert type(waiter.outbound) is Outbound
    assert counts(pool) == (1, 0, 0)


async def test_what_was_used_last_is_taken_first(stand: Stand) -> None:
    pool = stand.pool()
    waiters = [await stand.waits(pool) for _ in range(2)]
    await stand.lets()
    await stand.lets()
    first, second = (waiter.outbound for waiter in waiters)
    assert first is not None and second is not None
    pool.release(first)
    pool.release(second)
    assert counts(pool) == (2, 2, 0)
    assert pool.take() is second
    assert pool.take() is first
    assert pool.take() is None


async def test_there_are_no_more_connections_than_allowed_and_who_came_first_is_served_first(stand: Stand) -> None:
    pool = stand.pool(max_waiting=3)
    waiters = [await stand.waits(pool) for _ in range(5)]
    assert len(stand.dials) == 2
    with pytest.raises(UpstreamFailed) as caught:
        pool.wait(Waiting(stand))
    assert caught.value.code == "pool_exhausted"
    await stand.lets()
    await stand.lets()
    assert stand.order == waiters[:2]
    assert not stand.dials
    for served in range(2, 5):
        outbound = stand.order[served - 2].outbound
        assert outbound is not None
        pool.release(outbound)
        assert stand.order == waiters[: served + 1]
        assert stand.order[-1].outbound is outbound
    assert counts(pool) == (2, 0, 0)


async def test_one_that_is_released_goes_to_the_oldest_and_what_was_being_made_to_the_next(stand: Stand) -> None:
    pool = stand.pool()
    outbound = await stand.idle(pool)
    assert pool.take() is outbound
    first = await stand.waits(pool)
    pool.release(outbound)
    assert first.outbound is outbound
    await stand.lets()  # the one that was made for `first`
    assert counts(pool) == (2, 1, 0)


async def test_who_leaves_is_not_served(stand: Stand) -> None:
    pool = stand.pool(max_connections=1)
    waiters = [await stand.waits(pool) for _ in range(3)]
    pool.leave(waiters[0])
    pool.leave(waiters[0])
    pool.leave(waiters[1])
    await stand.lets()
    assert stand.order == [waiters[2]]


async def test_what_was_made_for_one_that_left_stays_idle(stand: Stand) -> None:
    pool = stand.pool()
    pool.leave(await stand.waits(pool))
    await stand.lets()
    assert counts(pool) == (1, 1, 0)
    assert pool.take() is not None


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (OSError(111, "refused"), "connect_failed"),
        (OSError(24, "too many open files"), "no_descriptors"),
        (UpstreamFailed("dns_failed"), "dns_failed"),
        (Refused("address_refused"), "address_refused"),
        (ssl.SSLError(1, "bad"), "tls_failed"),
        (ssl.CertificateError("bad name"), "tls_failed"),
    ],
)
async def test_a_failure_is_told_to_the_oldest_only_and_the_others_get_another_try(
    stand: Stand, fault: Exception, code: str
) -> None:
    pool = stand.pool(max_connections=1)
    waiters = [await stand.waits(pool) for _ in range(3)]
    await stand.lets(fault)
    assert stand.order == waiters[:1]
    assert waiters[0].fault is not None
    assert waiters[0].fault.code == code
    await stand.lets()
    assert waiters[1].outbound is not None
    assert waiters[2].outbound is None
    assert counts(pool) == (1, 0, 1)


async def test_a_failure_that_nobody_waits_for_is_forgotten(stand: Stand) -> None:
    pool = stand.pool()
    pool.leave(await stand.waits(pool))
    await stand.lets(OSError("no"))
    assert counts(pool) == (0, 0, 0)


async def test_the_reason_that_openssl_gives_is_told(stand: Stand) -> None:
    pool = stand.pool()
    waiter = await stand.waits(pool)
    fault = ssl.SSLCertVerificationError(1, "x")
    fault.verify_message = "self-signed certificate"
    await stand.lets(fault)
    assert waiter.fault is not None
    assert waiter.fault.detail == "self-signed certificate"


async def test_a_connection_that_takes_too_long_is_a_failure(stand: Stand) -> None:
    pool = stand.pool(connect_timeout_s=0.01)
    waiter = await stand.waits(pool)
    await eventually(lambda: waiter.fault is not None, "the failure")
    assert waiter.fault is not None
    assert waiter.fault.code == "connect_timeout"
    assert counts(pool) == (0, 0, 0)
    stand.dials.clear()


async def test_who_has_waited_too_long_for_a_place_is_told(stand: Stand) -> None:
    pool = stand.pool(max_connections=1, max_waiting=3)
    await stand.waits(pool)
    await stand.lets()
    first = await stand.waits(pool)
    stand.clock.advance(6.0)
    second = await stand.waits(pool)
    stand.clock.advance(4.0)
    pool.tick(stand.clock.monotonic())
    assert len(stand.order) == 1
    stand.clock.advance(0.1)
    pool.tick(stand.clock.monotonic())
    assert stand.order[1:] == [first]
    assert first.fault is not None and first.fault.code == "pool_timeout"
    assert second.fault is None


async def test_the_wait_for_a_place_does_not_undercut_the_time_to_connect(stand: Stand) -> None:
    pool = stand.pool(max_connections=1, connect_timeout_s=30.0, pool_timeout_s=10.0)
    dialling, queued = await stand.waits(pool), await stand.waits(pool)
    stand.clock.advance(10.1)
    pool.tick(stand.clock.monotonic())
    assert stand.order == [queued], "a connection is being made for the other one, and connect_timeout is its clock"
    assert queued.fault is not None and queued.fault.code == "pool_timeout"
    await stand.lets()
    assert dialling.outbound is not None


async def test_who_gets_a_place_after_a_wait_has_all_the_time_to_connect(stand: Stand) -> None:
    pool = stand.pool(max_connections=1, connect_timeout_s=30.0, pool_timeout_s=10.0)
    first = await stand.waits(pool)
    await stand.lets()
    second = await stand.waits(pool)
    stand.clock.advance(9.0)
    assert first.outbound is not None
    first.outbound.abort()
    stand.clock.advance(9.0)
    pool.tick(stand.clock.monotonic())
    assert second.fault is None
    await stand.lets()
    assert second.outbound is not None


async def test_an_idle_connection_is_closed_in_time(stand: Stand) -> None:
    pool = stand.pool()
    await stand.idle(pool)
    stand.clock.advance(50.0)
    pool.release(pool.take() or pytest.fail("it is there"))
    pool.tick(stand.clock.monotonic())
    stand.clock.advance(55.0)
    pool.tick(stand.clock.monotonic())
    assert counts(pool) == (1, 1, 0)
    stand.clock.advance(0.1)
    pool.tick(stand.clock.monotonic())
    assert counts(pool) == (0, 0, 0)
    await turns()
    assert stand.peers[0].recv(1) == b""


@pytest.mark.parametrize("how", ["closed", "spoke"])
async def test_a_stale_connection_is_not_given_out(stand: Stand, how: str) -> None:
    pool = stand.pool()
    outbound = await stand.idle(pool)
    stand.clock.advance(1.0)
    if how == "closed":
        stand.peers[0].close()
    else:
        stand.peers[0].send(b"HTTP/1.1 200 OK\r\n")
    assert outbound.is_open, "the loop has not heard of it"
    assert pool.take() is None
    assert counts(pool) == (0, 0, 0)


async def test_one_that_was_used_a_moment_ago_is_asked_too(stand: Stand) -> None:
    pool = stand.pool()
    await stand.idle(pool)
    stand.peers[0].close()
    assert pool.take() is None


@pytest.mark.parametrize("how", ["closed", "spoke"])
async def test_a_stale_connection_is_not_handed_to_who_waits(stand: Stand, how: str) -> None:
    pool = stand.pool(max_connections=1)
    first = await stand.waits(pool)
    await stand.lets()
    second = await stand.waits(pool)
    assert first.outbound is not None
    first.outbound.uses = 1
    if how == "closed":
        stand.peers[0].close()
    else:
        stand.peers[0].send(OK)
    pool.release(first.outbound)
    assert second.outbound is None
    await stand.lets()
    assert second.outbound is not None and second.outbound is not first.outbound


@pytest.mark.parametrize("how", ["closed", "spoke"])
async def test_an_idle_connection_that_ends_or_speaks_leaves_the_pool(stand: Stand, how: str) -> None:
    pool = stand.pool()
    await stand.idle(pool)
    if how == "closed":
        stand.peers[0].close()
    else:
        stand.peers[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await eventually(lambda: not pool.open_count, "the end of the connection")
    assert counts(pool) == (0, 0, 0)


async def test_one_that_is_lost_makes_room_for_who_waits(stand: Stand) -> None:
    pool = stand.pool(max_connections=1)
    first = await stand.waits(pool)
    await stand.lets()
    second = await stand.waits(pool)
    assert not stand.dials
    assert first.outbound is not None
    first.outbound.abort()
    await stand.lets()
    assert second.outbound is not None
    assert counts(pool) == (1, 0, 0)


async def test_a_whole_call_brings_the_connection_back(stand: Stand) -> None:
    pool = stand.pool()
    waiter = await stand.waits(pool)
    await stand.lets()
    assert waiter.outbound is not None
    waiter.outbound.send(waiter, b"GET", b"GET / HTTP/1.1\r\n\r\n", whole=True)
    await turns()
    assert stand.peers[0].recv(100) == b"GET / HTTP/1.1\r\n\r\n"
    stand.peers[0].send(OK)
    await eventually(lambda: waiter.ended, "the response")
    assert counts(pool) == (1, 1, 0)


async def test_one_that_is_dead_on_arrival_is_given_to_nobody(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    real = loop.create_connection

    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        transport, outbound = await real(*args, **kwargs)
        transport.abort()
        await turns(3)  # as TLS brings it about: handshake and EOF come in one read
        return transport, outbound

    monkeypatch.setattr(loop, "create_connection", create_connection)
    pool = stand.pool()
    waiter = await stand.waits(pool)
    await stand.lets()
    assert waiter.fault is not None and waiter.fault.code == "connect_failed"
    assert counts(pool) == (0, 0, 0)


async def test_a_socket_that_cannot_be_used_is_closed(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    waiter = await stand.waits(stand.pool())
    await stand.lets()
    assert waiter.fault is not None and waiter.fault.code == "connect_failed"


async def test_a_tls_connection_reads_into_the_pools_buffer(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def context() -> Any:
        return "context"

    loop = asyncio.get_running_loop()
    real = loop.create_connection

    async def create_connection(factory: Any, **kwargs: Any) -> Any:
        asked.append((kwargs.pop("ssl"), kwargs.pop("server_hostname")))
        return await real(factory, **kwargs)

    monkeypatch.setattr(loop, "create_connection", create_connection)
    stand.tls = context
    pool = stand.pool()
    waiters = [await stand.waits(pool) for _ in range(2)]
    await stand.lets()
    await stand.lets()
    assert asked == [("context", "up.test")] * 2
    made = [waiter.outbound for waiter in waiters]
    assert all(isinstance(outbound, TlsOutbound) for outbound in made)
    assert made[0].get_buffer(-1) is made[1].get_buffer(-1)  # type: ignore[union-attr]


async def test_closing_ends_everything_and_starts_nothing(stand: Stand) -> None:
    pool = stand.pool(max_connections=2, max_waiting=5)
    await stand.idle(pool)
    busy = pool.take()
    assert busy is not None
    waiters = [await stand.waits(pool) for _ in range(3)]
    assert len(stand.dials) == 1
    await pool.close()
    await turns()
    assert [waiter.fault and waiter.fault.code for waiter in waiters] == ["draining"] * 3
    assert not busy.is_open
    assert len(stand.dials) == 1 and stand.dials[0].cancelled()
    assert counts(pool) == (0, 0, 0)
    with pytest.raises(UpstreamFailed, match="draining"):
        pool.wait(Waiting(stand))
    await pool.close()


async def test_who_is_on_a_connection_hears_of_the_end_of_the_pool(stand: Stand) -> None:
    pool = stand.pool()
    waiter = await stand.waits(pool)
    await stand.lets()
    assert waiter.outbound is not None
    waiter.outbound.send(waiter, b"POST", b"POST / HTTP/1.1\r\n\r\n", whole=True)
    waiter.outbound.flush()
    await pool.close()
    assert waiter.fault is not None and waiter.fault.code == "draining"


async def test_what_is_there_when_the_time_to_connect_is_over_is_closed(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    real = loop.create_connection

    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        await real(*args, **kwargs)
        raise TimeoutError

    monkeypatch.setattr(loop, "create_connection", create_connection)
    waiter = await stand.waits(stand.pool())
    await stand.lets()
    assert waiter.fault is not None and waiter.fault.code == "connect_timeout"


async def test_only_what_may_stay_is_used_again(stand: Stand) -> None:
    pool = stand.pool()
    waiter = await stand.waits(pool)
    await stand.lets()
    await stand.idle(pool)
    busy = waiter.outbound
    assert busy is not None
    assert counts(pool) == (2, 1, 0)
    pool.keep_only(lambda address: address != "192.0.2.7")
    assert counts(pool) == (1, 0, 0)
    assert busy.is_open, "what is under way on it ends there"
    pool.release(busy)
    assert counts(pool) == (0, 0, 0)


async def test_one_that_is_made_while_the_rules_change_obeys_the_new_ones(stand: Stand) -> None:
    pool = stand.pool()
    waiter = await stand.waits(pool)
    pool.keep_only(lambda _: False)
    await stand.lets()
    assert waiter.outbound is None
    assert counts(pool) == (0, 0, 1)
    pool.keep_only(lambda _: True)
    await stand.lets()
    assert waiter.outbound is not None


async def test_rules_that_are_taken_back_leave_no_trace(stand: Stand) -> None:
    pool = stand.pool()
    waiter = await stand.waits(pool)
    await stand.lets()
    assert waiter.outbound is not None
    pool.keep_only(lambda _: False)
    pool.keep_only(lambda _: True)
    pool.release(waiter.outbound)
    assert counts(pool) == (1, 1, 0)


async def test_one_that_comes_back_after_the_end_is_closed(stand: Stand) -> None:
    pool = stand.pool()
    await stand.idle(pool)
    outbound = pool.take()
    assert outbound is not None
    await pool.close()
    pool.release(outbound)
    assert counts(pool) == (0, 0, 0)


async def test_whatever_happens_the_counts_are_right(stand: Stand) -> None:
    """A long walk over every path; the fixture looks for what it has left."""
    import random

    rng = random.Random(3)
    pool = stand.pool(max_connections=3, max_waiting=4)
    busy: list[Outbound] = []
    waiting: list[Waiting] = []
    for _ in range(400):
        what = rng.choice(["wait", "wait", "take", "lets", "lets", "fails", "release", "abort", "leave", "tick", "stale"])
        if what == "wait" and (outbound := pool.take()) is not None:
            busy.append(outbound)
        elif what == "wait":
            waiter = Waiting(stand)
            try:
                pool.wait(waiter)
                waiting.append(waiter)
            except UpstreamFailed:
                assert len(pool._open) + len(pool._making) >= 3
        elif what == "take" and (outbound := pool.take()) is not None:
            busy.append(outbound)
        elif what in ("lets", "fails"):
            await turns()
            if stand.dials:
                await stand.lets(OSError("no") if what == "fails" else None)
        elif what == "release" and busy:
            pool.release(busy.pop(rng.randrange(len(busy))))
        elif what == "abort" and busy:
            busy.pop(rng.randrange(len(busy))).abort()
        elif what == "leave" and waiting:
            pool.leave(waiting.pop(rng.randrange(len(waiting))))
        elif what == "tick":
            stand.clock.advance(rng.choice([0.1, 1.0, 8.0, 30.0]))
            pool.tick(stand.clock.monotonic())
        for waiter in [each for each in waiting if each.outbound or each.fault]:
            waiting.remove(waiter)
            if waiter.outbound is not None:
                busy.append(waiter.outbound)
        await turns()
        for waiter in [each for each in waiting if each.outbound or each.fault]:
            waiting.remove(waiter)
            if waiter.outbound is not None:
                busy.append(waiter.outbound)
        assert pool.open_count <= 3
        assert pool.open_count == pool.idle_count + len(busy), what
        assert pool.waiting_count == len(waiting)
        assert not (pool.idle_count and pool.waiting_count), "one is free while another waits"
