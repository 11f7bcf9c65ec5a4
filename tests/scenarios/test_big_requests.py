"""
A request of five megabytes passes a sidecar that runs: how long other calls have to wait for it.

They wait for what the loop does in one turn. The sidecar has a thread of its own here, and each turn of its loop is measured in
the CPU time of that thread, which no other process and no other thread of the test can lengthen. Of several requests the best one
counts, and a machine that is slow in leaping over JSON has as much longer.
"""

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from tests.scenarios.test_big_bodies import BYTES, _best, _skip
from tests.sidecar_under_test import SidecarUnderTest, config_for

MOST_S = 0.005
TRIES = 6
_USUAL_SKIP_S = 0.0015
_ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{},"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}'


class Turns:
    """The longest turn of a loop, in CPU time of its thread, since somebody asked last."""

    def __init__(self) -> None:
        self._ended = self._longest = 0.0

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Come again in each turn, as a call would that waits for nothing but the loop."""
        ended = time.thread_time()
        if self._ended:
            self._longest = max(self._longest, ended - self._ended)
        self._ended = ended
        loop.call_soon(self.watch, loop)

    def longest(self) -> float:
        longest, self._longest = self._longest, 0.0
        return longest


class Upstream:
    """Answers each request on one connection; `seen` is what came with the last one."""

    def __init__(self) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.seen = b""

    def serve(self) -> None:
        peer = self._door.accept()[0]
        with peer:
            while head := _until(peer, b"\r\n\r\n"):
                head, _, rest = head.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                self.seen = rest + _exactly(peer, length - len(rest))
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER) + _ANSWER)

    def close(self) -> None:
        self._door.close()


def _until(peer: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        more = peer.recv(65536)
        if not more:
            return b""
        data += more
    return data


def _exactly(peer: socket.socket, count: int) -> bytes:
    parts = []
    while count > 0 and (more := peer.recv(min(count, 1 << 20))):
        parts.append(more)
        count -= len(more)
    return b"".join(parts)


async def _serves(config: dict[str, Any], turns: Turns, began: "Future[int]", over: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    async with SidecarUnderTest(config) as sidecar:
        turns.watch(loop)
        began.set_result(sidecar.port)
        await loop.run_in_executor(None, over.wait)


def _runs(*told: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serves(*told))


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """A loop that never sleeps lets the other threads of the test in all the same."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(before)


def _holds(turns: Turns, port: int, request: bytes) -> Iterator[float]:
    with socket.create_connection(("127.0.0.1", port)) as client:
        for _ in range(TRIES):
            turns.longest()
            client.sendall(request)
            assert _until(client, _ANSWER).startswith(b"HTTP/1.1 200")
            yield turns.longest()


def _text(share: int) -> str:
    return "the quick brown fox \"jumps\" over\nthe lazy dog, " * (share // 50)


REQUESTS: dict[str, tuple[str, str, Any, bytes]] = {
    "openai": ("openai", "/v1/chat/completions", {"model": "m", "stream": True, "messages": [{"role": "user", "content": _text(2_500)}] * 2_000}, b'"include_usage":true'),
    "image": ("openai", "/v1/chat/completions", {"model": "m", "stream": True, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * (BYTES // 4)}}]}]}, b'"include_usage":true'),
    "anthropic": ("anthropic", "/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": _text(250)}] * 17_000, "model": "m"}, b'"max_tokens"'),
    "mcp": ("mcp", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {"x": _text(BYTES)}}}, b'"traceparent"'),
}  # fmt: skip


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_of_five_megabytes_delays_other_calls_by_less_than_five_milliseconds(
    kind: str, record_property: Callable[[str, object], None]
) -> None:
    dialect, path, asked, change = REQUESTS[kind]
    body = json.dumps(asked).encode()
    assert 0.9 * BYTES < len(body) < 1.2 * BYTES
    fields = b"Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: %d" % len(body)
    turns, upstream, over, began = Turns(), Upstream(), threading.Event(), Future[int]()
    with ThreadPoolExecutor(2) as threads:
        try:
            served = threads.submit(upstream.serve)
            ran = threads.submit(_runs, config_for(upstream.url, upstream={"dialect": dialect}), turns, began, over)
            request = b"POST /llm%b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (path.encode(), fields) + body
            holds = list(_holds(turns, began.result(10), request))
            assert change in upstream.seen, "the request was read, and changed"
        finally:
            over.set()
        ran.result(10)
        served.result(10)
    upstream.close()
    record_property("longest_hold_ms", round(min(holds) * 1e3, 2))
    assert min(holds) < MOST_S * max(1.0, _best(lambda: _skip(body)) / _USUAL_SKIP_S), holds
