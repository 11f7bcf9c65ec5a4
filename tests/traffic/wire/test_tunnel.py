import asyncio
import socket

import pytest

from sidecar.traffic.wire.tunnel import Tunnel
from tests.traffic.wire.stand import turns
from tests.traffic.wire.transport import FakeTransport


class Pair:
    """A tunnel between two transports; `over` is what it told at its end."""

    def __init__(self, *, idle_timeout_s: float = 10.0, joined: bool = True) -> None:
        self.over: list[str] = []
        self.tunnel = Tunnel(lambda _tunnel, error: self.over.append(error), idle_timeout_s=idle_timeout_s)
        self.client = FakeTransport(self.tunnel.client)
        self.upstream = FakeTransport(self.tunnel.upstream) if joined else None  # type: ignore[assignment]


async def test_bytes_pass_both_ways_and_are_counted() -> None:
    pair = Pair()
    pair.client.says(b"hello")
    pair.upstream.says(b"good day")
    assert (pair.upstream.takes(), pair.client.takes()) == (b"hello", b"good day")
    assert (pair.tunnel.client.received, pair.tunnel.upstream.received) == (5, 8)


async def test_a_half_close_is_passed_on_and_the_other_way_goes_on() -> None:
    pair = Pair()
    pair.client.half_closes()
    assert pair.upstream.has_written_eof
    assert not pair.client.ended and not pair.over
    pair.upstream.says(b"still here")
    assert pair.client.takes() == b"still here"
    pair.upstream.half_closes()
    assert pair.over == [""]
    assert (pair.client.ended, pair.upstream.ended) == ("close", "close")


async def test_a_half_close_that_cannot_be_passed_on_ends_the_tunnel() -> None:
    pair = Pair()
    pair.upstream.may_write_eof = False  # as in TLS
    pair.client.half_closes()
    assert pair.over == [""]
    assert pair.upstream.ended == "close"


async def test_a_half_close_before_there_is_another_side_ends_the_tunnel() -> None:
    pair = Pair(joined=False)
    pair.client.half_closes()
    assert pair.over == [""]


@pytest.mark.parametrize(("side", "error"), [("client", "client_gone"), ("upstream", "upstream_cut")])
async def test_a_reset_of_one_side_resets_the_other(side: str, error: str) -> None:
    pair = Pair()
    ends = {"client": pair.client, "upstream": pair.upstream}
    other = ends.pop("upstream" if side == "client" else "client")
    ends[side].breaks(ConnectionResetError())
    assert pair.over == [error]
    assert other.ended == "reset"


async def test_a_clean_end_of_one_side_closes_the_other() -> None:
    pair = Pair()
    pair.upstream.breaks()
    assert pair.over == [""]
    assert pair.client.ended == "close"


async def test_only_the_first_end_counts() -> None:
    pair = Pair()
    pair.tunnel.end("stopped")
    pair.tunnel.end("draining")
    await turns()
    assert pair.over == ["stopped"]
    assert (pair.client.ended, pair.upstream.ended) == ("reset", "reset")


async def test_a_slow_side_pauses_the_other() -> None:
    pair = Pair()
    pair.client.takes_nothing = True
    pair.upstream.says(b"x" * 10)
    assert not pair.upstream.reads and pair.client.reads
    pair.client.drains()
    assert pair.upstream.reads
    pair.upstream.close()
    pair.tunnel.client.pause_writing()  # a transport that closes is left alone
    assert pair.upstream.reads
    pair.tunnel.client.resume_writing()


async def test_silence_on_both_sides_ends_it() -> None:
    pair = Pair(idle_timeout_s=10.0)
    pair.tunnel.tick(100.0)
    pair.tunnel.tick(109.0)
    pair.upstream.says(b"x")
    pair.tunnel.tick(110.5)
    pair.tunnel.tick(120.5)
    assert pair.over == []
    pair.tunnel.tick(120.6)
    assert pair.over == ["idle_timeout"]
    assert pair.client.ended == "reset"


async def test_what_comes_before_the_other_side_is_lost_to_nobody() -> None:
    pair = Pair(joined=False)
    pair.tunnel.early = b"early "
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    await pair.tunnel.join(ours)
    assert pair.client.reads
    pair.client.says(b"and late")
    await turns()
    assert peer.recv(100) == b"early and late"
    assert pair.tunnel.client.received == 14
    pair.tunnel.end("")
    await turns()
    peer.close()


async def test_the_client_waits_while_the_other_side_joins() -> None:
    pair = Pair(joined=False)
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    joining = asyncio.ensure_future(pair.tunnel.join(ours))
    await turns(1)
    assert not pair.client.reads
    await joining
    assert pair.client.reads
    pair.tunnel.end("")
    await turns()
    peer.close()


async def test_a_client_that_was_full_before_holds_the_other_side_back() -> None:
    pair = Pair(joined=False)
    pair.tunnel.client.is_full = True
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    await pair.tunnel.join(ours)
    there = pair.tunnel.upstream.transport
    assert there is not None and not there.is_reading()
    pair.tunnel.client.resume_writing()
    assert there.is_reading()
    pair.tunnel.end("")
    await turns()
    peer.close()


async def test_a_side_that_does_not_take_what_came_early_holds_the_client_back() -> None:
    pair = Pair(joined=False)
    pair.tunnel.early = bytes(4 * 1024 * 1024)
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    await pair.tunnel.join(ours)
    assert not pair.client.reads
    pair.tunnel.end("stopped")
    await turns()
    peer.close()


async def test_a_tunnel_that_ended_meanwhile_takes_nobody_in() -> None:
    pair = Pair(joined=False)
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    joining = asyncio.ensure_future(pair.tunnel.join(ours))
    await turns(1)
    pair.tunnel.end("client_gone")
    await joining
    await turns()
    assert peer.recv(1) == b""
    peer.close()


async def test_a_socket_that_cannot_join_ends_the_tunnel() -> None:
    pair = Pair(joined=False)
    ours, peer = socket.socketpair(type=socket.SOCK_DGRAM)
    with pytest.raises(ValueError, match="Stream Socket"):
        await pair.tunnel.join(ours)
    assert pair.over == ["connect_failed"]
    assert ours.fileno() == -1
    peer.close()


async def test_a_side_that_is_not_there_can_be_dropped_all_the_same() -> None:
    pair = Pair(joined=False)
    pair.tunnel.upstream.close()
    pair.tunnel.client.close()
    assert pair.client.ended == "abort"
    pair.tunnel.upstream.pause_writing()
    pair.tunnel.client.pause_writing()
    pair.tunnel.end("")


async def test_a_side_that_does_not_take_what_is_left_is_given_up() -> None:
    pair = Pair()
    pair.tunnel.end("")
    assert pair.client.sock is not None and pair.upstream.sock is not None
    assert pair.client.sock.lingers and pair.upstream.sock.lingers, "at first it may take its time"
    pair.tunnel.give_up()
    assert not pair.client.sock.lingers and not pair.upstream.sock.lingers, "they were reset"
    await turns()
    pair.tunnel.give_up()  # nobody is left


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_connection_that_spoke_http_goes_on_as_the_other_side(is_full: bool) -> None:
    pair = Pair(joined=False)
    pair.tunnel.client.is_full = is_full
    pair.tunnel.early = b"early"
    upstream = FakeTransport(asyncio.Protocol())
    pair.tunnel.go_on(upstream, b"rest")
    assert upstream.protocol is pair.tunnel.upstream
    assert (upstream.takes(), pair.client.takes()) == (b"early", b"rest")
    assert upstream.reads is not is_full


async def test_a_tunnel_whose_sides_are_gone_leaves_no_timer() -> None:
    pair = Pair()
    pair.tunnel.end("")
    timer = pair.tunnel._giving_up
    assert timer is not None and not timer.cancelled()
    await turns()
    assert timer.cancelled(), "both have closed in their own time"
    assert pair.tunnel._giving_up is None
