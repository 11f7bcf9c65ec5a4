import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio
import pytest

from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.grpc.connection import MOST_READ_BYTES, Connection, options_of, write
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


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED], ids=["OK", "error"])
async def test_a_message_that_comes_too_late_does_not_hide_how_the_call_ended(opened: Opened, code: grpc.StatusCode) -> None:
    async def behave(context: Any) -> None:
        await context.write(b"enough")
        context.set_code(code)

    upstream = await opened(RpcUpstream(behave))
    connection = to(upstream.port)
    await connection.reached()
    call = connection.channel.stream_stream("/a.B/C")()
    await call.initial_metadata()
    await (await upstream.hears()).ended.wait()
    with contextlib.suppress(grpc.aio.InternalError):  # or it was in time, and nobody reads it
        for _ in range(10):
            await write(call, b"more")
    assert await call.read() == b"enough"
    assert await call.code() is code
    await connection.close()


def test_little_is_read_at_once() -> None:
    assert ("grpc.experimental.tcp_max_read_chunk_size", MOST_READ_BYTES) in OPTIONS
