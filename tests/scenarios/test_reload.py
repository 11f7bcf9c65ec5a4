"""A changed config: validated, swapped at one stroke, the last good one kept; streams in flight end where they began."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import yaml

from tests.peers.echo import EchoUpstream
from tests.peers.sse import SseUpstream
from tests.peers.wire import PATIENCE_S, Message
from tests.scene import Opened
from tests.sidecar_under_test import SidecarProcess, config_for


def config(url: str, port: int) -> dict[str, Any]:
    """The usual config, on a port that stays."""
    return config_for(url, listener={"endpoint": f"127.0.0.1:{port}"}, drain="2s")


async def asks(sidecar: SidecarProcess, path: bytes) -> Message:
    """One call on a connection of its own."""
    client = await sidecar.connects()
    await client.sends(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
    response = await client.response()
    client.close()
    return response


async def until(sidecar: SidecarProcess, path: bytes, status: int) -> None:
    """Ask until the answer has this status."""
    for _ in range(200):
        if (await asks(sidecar, path)).status == status:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path!r} never got a {status}:\n{sidecar.log}")


async def test_sighup_takes_a_new_route_in_and_leaves_streams_alone(opened: Opened, free_port: Callable[[], int]) -> None:
    old, new, port = await opened(SseUpstream()), await opened(EchoUpstream()), free_port()
    sidecar = await opened(SidecarProcess(config(old.url, port), port=port))
    client = await sidecar.connects()
    await client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n")
    stream = await old.stream()
    await client.head()
    changed = config(new.url, port)
    changed["traffic"]["routes"]["other"] = {"path": "/other/", "upstream": "http/llm"}
    sidecar.rewrites(yaml.safe_dump(changed))
    sidecar.process.send_signal(signal.SIGHUP)
    await until(sidecar, b"/other/x", 200)
    assert b"GET /base/x" in (await asks(sidecar, b"/llm/x")).body
    await stream.event(b"still here")
    await client.reads_until(b"still here")
    await stream.ends()
    await client.reads_until(b"0\r\n\r\n")
    await client.sends(b"GET /llm/y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"GET /base/y" in (await client.response()).body, "the next call of an old connection takes the new graph"


async def test_a_broken_config_changes_nothing_and_says_why(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream, port = await opened(EchoUpstream()), free_port()
    good = config(upstream.url, port)
    sidecar = await opened(SidecarProcess(good, port=port))
    good["traffic"]["routes"]["llm"]["upstream"] = "http/nowhere"
    sidecar.rewrites(yaml.safe_dump(good))
    sidecar.process.send_signal(signal.SIGHUP)
    for _ in range(100):
        assert (await asks(sidecar, b"/llm/x")).status == 200
        if "nowhere" in sidecar.log:
            break
        await asyncio.sleep(0.02)
    assert "nowhere" in sidecar.log
    assert sidecar.alive


async def test_calls_never_fail_while_configs_come_and_go(opened: Opened, free_port: Callable[[], int]) -> None:
    first, second, port = await opened(EchoUpstream()), await opened(EchoUpstream()), free_port()
    sidecar = await opened(SidecarProcess(config(first.url, port), port=port))
    client = await sidecar.connects()
    for turn in range(8):
        upstream = (second, first)[turn % 2]
        before = len(upstream.seen)
        sidecar.rewrites(yaml.safe_dump(config(upstream.url, port)))
        sidecar.process.send_signal(signal.SIGHUP)
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while len(upstream.seen) < before + 10:
            await client.sends(b"POST /llm/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            assert (await client.response()).status == 200
            assert asyncio.get_running_loop().time() < deadline, sidecar.log


async def test_who_has_just_connected_is_served_while_the_listeners_settings_change(
    opened: Opened, free_port: Callable[[], int]
) -> None:
    upstream, port = await opened(EchoUpstream()), free_port()
    sidecar = await opened(SidecarProcess(config(upstream.url, port), port=port))
    closed = 0
    for turn in range(4):
        changed = config(upstream.url, port)
        changed["traffic"]["listeners"]["http"]["max_header_count"] = 100 + turn
        sidecar.rewrites(yaml.safe_dump(changed))
        sidecar.process.send_signal(signal.SIGHUP)
        for _ in range(10):
            client = await sidecar.connects()
            await asyncio.sleep(0.05)  # the listener may change hands meanwhile
            await client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n")
            response = await client.response()
            assert response.status == 200
            closed += response.has(b"connection")
            client.close()
    assert closed, f"none of them came to a listener that was about to go:\n{sidecar.log}"
