import asyncio

import grpc.aio
import pytest

from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.grpc.connection import Connection, options_of
from tests.peers.rpc import RpcUpstream
from tests.scene import Opened
from tests.sidecar_under_test import eventually

OPTIONS = options_of(
    max_message_bytes=1000,
    max_metadata_bytes=8192,
    connect_timeout_ms=5000,
    keep_alive_ms=300_000,
    keep_alive_timeout_ms=20_000,
    authority="a.example:1",
)


def to(port: int) -> Connection:
    return Connection(grpc.aio.insecure_channel(f"ipv4:127.0.0.1:{port}", OPTIONS), "127.0.0.1", is_encrypted=False)


async def test_it_is_ready_once_it_is_reached(opened: Opened) -> None:
    upstream = await opened(RpcUpstream())
    connection = to(upstream.port)
    assert not connection.is_ready()
    await connection.reached()
    assert connection.is_ready()
    assert await connection.channel.unary_unary("/test.Echo/UnaryUnary")(b"x") == b"x"
    assert (await upstream.hears()).user_agent.startswith("agent-sre-sidecar/")
    await connection.close()
    assert not connection.is_ready()


async def test_it_is_left_when_its_last_call_has_ended(opened: Opened) -> None:
    connection = to((await opened(RpcUpstream())).port)
    await connection.reached()
    connection.took()
    connection.took()
    left: list[Connection] = []
    connection.leave(left.append)
    connection.let_go()
    await asyncio.sleep(0)
    assert not left
    connection.let_go()
    await eventually(lambda: left == [connection], "the end")


async def test_an_upstream_that_goes_away_takes_no_further_calls(opened: Opened) -> None:
    upstream = await opened(RpcUpstream())
    connection = to(upstream.port)
    await connection.reached()
    await upstream.leaves(1)
    await eventually(lambda: not connection.is_ready(), "GOAWAY")
    await connection.close()


async def test_what_does_not_speak_http2_is_malformed() -> None:
    async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(closes, "127.0.0.1", 0) as server:
        connection = to(server.sockets[0].getsockname()[1])
        with pytest.raises(UpstreamFailed) as caught:
            async with asyncio.timeout(5):
                await connection.reached()
        assert caught.value.code == "upstream_malformed"
        await connection.close()
