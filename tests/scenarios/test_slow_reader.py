"""A client that reads slowly gets all of an answer that is over, whoever wants to go meanwhile: at the end and in a reload."""

import asyncio
import contextlib
import socket
import time
from typing import Any

import pytest
import yaml

from sidecar.config import load
from tests.peers.raw import RawUpstream
from tests.peers.wire import PATIENCE_S, Wire
from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest, config_for, eventually

BODY = b"0123456789" * 30_000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
READ_S = 0.5
"""How long a slow reader takes for what is left."""


class Slow:
    """A call whose answer is over for the sidecar, most of it not yet read, and its sockets small; `read` is what came."""

    def __init__(self, sidecar: SidecarUnderTest, client: Wire, whole: bytes) -> None:
        self.sidecar = sidecar
        self.client = client
        self.whole = whole
        self.read = b""

    async def reads_slowly(self) -> bytes:
        """Read what is left in small pieces, up to the end."""
        while piece := await self._piece():
            self.read += piece
            await asyncio.sleep(READ_S * len(piece) / len(self.whole))
        return self.read

    async def until(self, is_over: Any) -> None:
        """Read no more than it takes for the sidecar to have nothing left to read itself."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_over():
                self.read += await self._piece()
                await asyncio.sleep(0.02)

    async def gets_the_rest(self) -> bytes:
        """Read what is left, up to a reset too."""
        with contextlib.suppress(ConnectionResetError):
            await self.reads_slowly()
        return self.read

    async def _piece(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.client.sock, 4096)


@pytest.fixture
def config(free_port: Any) -> dict[str, Any]:
    return config_for(
        "http://127.0.0.1:1", listener={"endpoint": f"127.0.0.1:{free_port()}"}, destinations={"allow_loopback": True}
    )


async def connected(opened: Opened, config: dict[str, Any], *, drain: str) -> tuple[SidecarUnderTest, RawUpstream, Wire]:
    """A client whose connection holds little in the kernel."""
    upstream = await opened(RawUpstream())
    config["traffic"] |= {"drain": drain}
    config["traffic"]["upstreams"]["http/llm"]["url"] = upstream.url
    sidecar = await opened(SidecarUnderTest(config))
    client = await sidecar.connects(receive_buffer=4096)
    listener = sidecar.app._traffic._listeners["http"].thing
    await eventually(lambda: listener._connections, "the connection")
    (inbound,) = listener._connections
    inbound.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 40_000)
    return sidecar, upstream, client


async def answered(opened: Opened, config: dict[str, Any], *, drain: str) -> Slow:
    """A call that is over, for the sidecar."""
    sidecar, upstream, client = await connected(opened, config, drain=drain)
    await client.sends(b"GET /llm/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    far = await upstream.hears()
    await far.request()
    sending = asyncio.create_task(far.sends(ANSWER))
    slow = Slow(sidecar, client, BODY)
    await slow.until(lambda: sidecar.exchanges)
    await sending
    assert sidecar.exchanges[0].error == ""
    assert len(slow.read) < len(BODY) - 20_000, "there is something left to lose"
    return slow


async def tunnelled(opened: Opened, config: dict[str, Any], *, drain: str) -> Slow:
    """A tunnel that both sides have ended, with bytes that the client has not read and the kernel has not taken."""
    sidecar, upstream, client = await connected(opened, config, drain=drain)
    await client.sends(b"CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\n" % upstream.authority.encode())
    await client.head()
    far = await upstream.accepts()
    await client.half_closes()
    await far.saw_end()
    (tunnel,) = sidecar.app._traffic._listeners["http"].thing._tunnels
    sent = b""
    while not tunnel.has_unwritten:
        sent += (piece := b"%06d," % len(sent) * 200)
        await far.sends(piece)
        whole = len(sent)
        await eventually(lambda whole=whole: tunnel.upstream.received == whole, "the piece")
    far.close()
    assert (await sidecar.finished()).error == ""
    return Slow(sidecar, client, sent)


@pytest.mark.parametrize("way", [answered, tunnelled])
async def test_the_end_leaves_it_nothing_to_miss(opened: Opened, config: dict[str, Any], way: Any) -> None:
    slow = await way(opened, config, drain="20s")
    stopping = asyncio.create_task(slow.sidecar.app.stop())
    await asyncio.sleep(0.2)  # five looks
    assert not stopping.done()
    assert (await slow.reads_slowly()).endswith(slow.whole)
    async with asyncio.timeout(3.0):
        await stopping


@pytest.mark.parametrize("way", [answered, tunnelled])
async def test_nor_does_a_reload_of_the_listeners_settings(opened: Opened, config: dict[str, Any], way: Any) -> None:
    slow = await way(opened, config, drain="20s")
    old = slow.sidecar.app._traffic._listeners["http"].thing
    config["traffic"]["listeners"]["http"]["keep_alive_timeout"] = "70s"
    assert await slow.sidecar.app.reload(load(yaml.safe_dump(config), environ={}))
    await asyncio.sleep(0.2)
    assert old._server is not None
    assert (await slow.reads_slowly()).endswith(slow.whole)
    await eventually(lambda: old._server is None, "the end of the old listener")


@pytest.mark.parametrize("way", [answered, tunnelled])
async def test_who_never_reads_is_not_waited_for_beyond_drain(
    opened: Opened, config: dict[str, Any], way: Any, caplog: Any
) -> None:
    slow = await way(opened, config, drain="1s")
    before_s = time.monotonic()
    await slow.sidecar.app.stop()
    assert 0.95 < time.monotonic() - before_s < 2.5
    assert "1 calls did not end within 1s and were cut" in caplog.text
    assert len(await slow.gets_the_rest()) < len(slow.whole)
