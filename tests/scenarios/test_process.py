"""The sidecar as a process of its own: what no test in its loop could see, it survives."""

import asyncio
import random
import signal
from collections.abc import Callable

from tests.peers.echo import EchoUpstream
from tests.peers.sse import SseUpstream
from tests.scene import Opened
from tests.sidecar_under_test import SidecarProcess, config_for

CALL = b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_random_garbage_never_ends_the_process_or_the_service(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream = await opened(EchoUpstream())
    sidecar = await opened(SidecarProcess(config_for(upstream.url), port=free_port()))
    chance = random.Random(4140)
    for number in range(300):
        client = await sidecar.connects()
        begin = chance.choice(
            [
                b"",
                b"GET ",
                b"GET /llm/x HTTP/1.1\r\n",
                CALL[:-2],
                b"CONNECT ",
                b"POST /llm/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n",
            ]
        )
        await client.sends_if_open(begin + chance.randbytes(chance.randrange(1, 400)) + b"\r\n\r\n")
        if number % 3 == 0:
            await client.resets()
        client.close()
    client = await sidecar.connects()
    await client.sends(CALL)
    assert (await client.response()).status == 200
    client.close()
    assert sidecar.alive
    assert "Traceback" not in sidecar.log
    assert await sidecar.ends() == 0


async def test_sigterm_lets_a_stream_finish_and_exits_with_zero(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream = await opened(SseUpstream())
    sidecar = await opened(SidecarProcess(config_for(upstream.url, drain="5s"), port=free_port()))
    client = await sidecar.connects()
    await client.sends(CALL)
    stream = await upstream.stream()
    await client.head()
    sidecar.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.2)
    await stream.event(b"late")
    await client.reads_until(b"late")
    assert sidecar.alive
    await stream.ends()
    await client.reads_until(b"0\r\n\r\n")
    assert await sidecar.exit_code() == 0


async def test_a_second_signal_ends_it_at_once(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream = await opened(SseUpstream())
    sidecar = await opened(SidecarProcess(config_for(upstream.url, drain="60s"), port=free_port()))
    client = await sidecar.connects()
    await client.sends(CALL)
    stream = await upstream.stream()
    await client.head()
    sidecar.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    assert sidecar.alive
    await sidecar.ends(signal.SIGTERM)
    await client.reads_to_end()
    await stream.saw_the_client_go()


async def test_after_sigterm_no_new_connection_is_accepted(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream = await opened(SseUpstream())
    sidecar = await opened(SidecarProcess(config_for(upstream.url, drain="5s"), port=free_port()))
    client = await sidecar.connects()
    await client.sends(CALL)
    stream = await upstream.stream()
    await client.head()
    sidecar.process.send_signal(signal.SIGTERM)
    refused = False
    for _ in range(200):
        try:
            late = await sidecar.connects()
        except OSError:
            refused = True
            break
        late.close()
        await asyncio.sleep(0.02)
    assert refused
    await stream.ends()
    await client.reads_until(b"0\r\n\r\n")
    assert await sidecar.exit_code() == 0
