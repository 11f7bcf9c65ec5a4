import asyncio
from collections.abc import Callable

import pytest

from sidecar.traffic.wire import guests
from sidecar.traffic.wire.inbound import _NEXT_REQUEST_S
from tests.traffic.wire.stand import OK, Stand, turns
from tests.traffic.wire.transport import FakeTransport

SetUp = Callable[..., Stand]
ASKS = b"GET /llm/x HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "_LOOK_S", 0.0)


def tunnel(wire: Stand) -> tuple[FakeTransport, FakeTransport]:
    """Both sides of an upgraded connection."""
    far, near = wire.connection(), wire.client()
    near.says(ASKS + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    far.takes()
    far.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert near.takes().startswith(b"HTTP/1.1 101 ")
    return far, near


async def draining(wire: Stand) -> "asyncio.Task[int]":
    task = asyncio.create_task(wire.listener.drain(10.0))
    await turns()
    return task


def answered_but_not_taken(wire: Stand) -> FakeTransport:
    """A client whose call is over, and which has still to take the answer."""
    far, near = wire.connection(), wire.client()
    near.says(ASKS + b"\r\n")
    far.takes()
    near.takes_nothing = True
    far.says(OK)
    near.takes()
    near.close = lambda: None  # type: ignore[method-assign]  # a real one waits for its bytes to be taken
    return near


async def test_a_call_that_is_over_is_waited_for_until_its_bytes_have_gone(stand: SetUp) -> None:
    wire = stand()
    near = answered_but_not_taken(wire)
    assert wire.exchanges and wire.listener.in_flight == 0
    task = await draining(wire)
    assert not task.done()
    near.drains()
    wire.passes(_NEXT_REQUEST_S + 0.1)  # nor does its client ask for anything more
    assert await task == 0


async def test_what_waits_for_the_end_of_the_turn_has_not_gone_either(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(ASKS + b"\r\n")
    far.takes()
    far.says(OK)
    (inbound,) = wire.listener._connections
    assert inbound.out and inbound.has_unwritten
    near.takes()
    assert not inbound.has_unwritten


async def test_who_takes_nothing_is_cut_at_the_deadline_and_counted(stand: SetUp) -> None:
    wire = stand()
    near = answered_but_not_taken(wire)
    task = await draining(wire)
    wire.clock.advance(10.0)
    assert await task == 1
    assert near.ended == "abort"


async def test_a_refusal_that_its_client_has_still_to_read_is_waited_for(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(b"\x16")
    assert near.has_written_eof and not near.ended
    task = await draining(wire)
    assert not task.done()
    near.half_closes()
    assert await task == 0


async def test_a_tunnel_that_is_over_is_waited_for_and_takes_a_place_until_its_bytes_have_gone(stand: SetUp) -> None:
    wire = stand()
    far, near = tunnel(wire)
    near.takes_nothing = True
    far.says(b"late")
    near.close = lambda: None  # type: ignore[method-assign]
    far.breaks()
    assert wire.exchanges and wire.listener.in_flight == 0
    assert wire.listener._guests.count == 1
    task = await draining(wire)
    assert not task.done()
    near.drains()
    assert await task == 0
    assert wire.listener._guests.count == 0
    assert not near.ended


async def test_a_tunnel_whose_side_takes_nothing_is_cut_at_the_deadline(stand: SetUp) -> None:
    wire = stand()
    far, near = tunnel(wire)
    near.takes_nothing = True
    far.says(b"late")
    near.close = lambda: None  # type: ignore[method-assign]
    far.breaks()
    task = await draining(wire)
    wire.clock.advance(10.0)
    assert await task == 1
    assert near.ended == "reset"


async def test_a_tunnel_that_ends_with_nothing_to_write_is_forgotten_at_once(stand: SetUp) -> None:
    wire = stand()
    far, _near = tunnel(wire)
    far.breaks()
    assert wire.listener._guests.count == 0
    assert wire.listener.exchanges() == []
