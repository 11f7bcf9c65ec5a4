from collections.abc import Callable
from typing import Any

import pytest

from sidecar.traffic.wire.inbound import Inbound
from sidecar.traffic.wire.listener import Listener
from tests.repository import PACKAGE, imports, name
from tests.traffic.wire.stand import OK, Stand, error_of, filtering, request, turns
from tests.traffic.wire.transport import FakeTransport

SetUp = Callable[..., Stand]
ASKED = {member for member in {*vars(Listener), *Listener.__annotations__} if not member.startswith("_")}


class Narrow:
    """A listener of which nothing is to be seen but what the wire says that it needs."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener

    def __getattr__(self, member: str) -> Any:
        assert member in ASKED, f"the wire uses {member}, which `Listener` does not name"
        return getattr(self._listener, member)


def client(wire: Stand) -> FakeTransport:
    narrow: Any = Narrow(wire.listener)
    return FakeTransport(Inbound(narrow))


async def passed_on(exchange: Any, forward: Any) -> Any:
    return await forward(exchange)


@pytest.mark.parametrize("is_filtered", [False, True])
async def test_a_listener_needs_no_more_than_that(stand: SetUp, is_filtered: bool) -> None:
    wire = stand(*([filtering(passed_on)] if is_filtered else []))
    far, near = wire.connection(), client(wire)
    for asked in (request(), request(b"POST", b"/llm/x", b"Expect: 100-continue", body=b"hello")):
        near.says(asked)
        await turns()
        assert b" /base/x HTTP/1.1" in far.takes()
        far.says(OK)
        await turns()
        assert near.takes().endswith(b"ok")
        wire.ticks()
    near.says(request(path=b"/nowhere"))
    assert error_of(near.takes()) == "route_unknown"
    near.says(b"\x16")
    assert error_of(near.takes()) == "tls_to_plain_port"
    near.breaks()
    assert len(wire.exchanges) == 3


async def test_nor_for_a_tunnel(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), client(wire)
    near.says(request(b"GET", b"/llm/x", b"Connection: Upgrade", b"Upgrade: websocket"))
    far.takes()
    far.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert near.takes().startswith(b"HTTP/1.1 101 ")
    near.says(b"ping")
    assert far.takes() == b"ping"
    (tunnel,) = wire.listener._tunnels
    tunnel.end("")
    await turns()
    assert wire.is_clean


def test_the_wire_knows_no_listener_of_its_own() -> None:
    files = (PACKAGE / "traffic" / "wire").glob("*.py")
    wrong = [name(path) for path in files for each in imports(path) if each.module.startswith("sidecar.traffic.listeners")]
    assert not wrong, "ask for a member of wire/listener.py instead"
