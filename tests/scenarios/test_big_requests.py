"""
A request of five megabytes passes a sidecar that runs: how long other calls have to wait for it.

They wait for what the loop does in one turn. The sidecar has a thread of its own here, and each turn of its loop is measured in
the CPU time of that thread, which no other process and no other thread of the test can lengthen. The first request
builds decoders and does not count; of those after it the median does, and a machine that is slow in leaping over JSON has as much
longer.
"""

import asyncio
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from sidecar.model.facts import AttemptFinished
from tests.scenarios.test_big_bodies import ENDPOINTS, _asks, _best, _body, _skip
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


async def _serves(config: dict[str, Any], turns: Turns, began: "Future[int]", over: threading.Event) -> list[AttemptFinished]:
    loop = asyncio.get_running_loop()
    async with SidecarUnderTest(config) as sidecar:
        turns.watch(loop)
        began.set_result(sidecar.port)
        await loop.run_in_executor(None, over.wait)
    return sidecar.attempts


def _runs(*told: Any) -> list[AttemptFinished]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serves(*told))


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """A loop that never sleeps lets the other threads of the test in all the same."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(before)


def _holds(turns: Turns, port: int, request: bytes) -> Iterator[float]:
    with socket.create_connection(("127.0.0.1", port)) as client:
        for _ in range(1 + TRIES):
            turns.longest()
            client.sendall(request)
            assert _until(client, _ANSWER).startswith(b"HTTP/1.1 200")
            yield turns.longest()


REQUESTS: dict[str, tuple[str, bytes, tuple[str, Any], bytes]] = {
    "openai": ("messages", b'"max_tokens":9,"stream_options":{"x":1}', ("max_tokens", 9), b'"include_usage":true'),
    "responses": ("messages", b'"max_output_tokens":9', ("max_tokens", 9), b""),
    "embeddings": ("messages", b'"encoding_format":"float"', ("model", "m"), b""),
    "completions": ("text", b'"max_tokens":9,"stream":true', ("max_tokens", 9), b'"include_usage":true'),
    "anthropic": ("messages", b'"max_tokens":9', ("max_tokens", 9), b""),
    "gemini": ("messages", b'"generationConfig":{"maxOutputTokens":9}', ("max_tokens", 9), b""),
    "converse": ("messages", b'"inferenceConfig":{"maxTokens":9}', ("max_tokens", 9), b""),
    "bedrock_anthropic": ("messages", b'"max_tokens":9', ("max_tokens", 9), b""),
    "bedrock_meta": ("text", b'"max_gen_len":9', ("max_tokens", 9), b""),
    "cohere": ("messages", b'"max_tokens":9', ("max_tokens", 9), b""),
    "ollama": ("messages", b'"options":{"num_predict":9}', ("max_tokens", 9), b""),
    "mcp": ("messages", b'"x":0', ("target", "t"), b'"traceparent"'),
    "a2a": ("messages", b'"x":0', ("message", "1"), b""),
    "openai-image": ("image", b'"max_tokens":9', ("max_tokens", 9), b'"include_usage":true'),
    "gemini-image": ("image", b'"generationConfig":{"maxOutputTokens":9}', ("max_tokens", 9), b""),
    "anthropic-text": ("text", b'"max_tokens":9', ("max_tokens", 9), b""),
    "mcp-text": ("text", b'"x":0', ("target", "t"), b'"traceparent"'),
}
"""By endpoint: what makes it long, what else stands at its head, what of it has to be read, and what the sidecar puts into it."""


def test_every_endpoint_is_asked() -> None:
    assert {kind.partition("-")[0] for kind in REQUESTS} == ENDPOINTS.keys()


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_of_five_megabytes_delays_other_calls_by_less_than_five_milliseconds(
    kind: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    endpoint = kind.partition("-")[0]
    shape, begins, (member, value), change = REQUESTS[kind]
    dialect, _, heading = _asks(endpoint)
    body = b"{%b,%b" % (begins, _body(endpoint, shape)[1:])
    fields = b"".join(b"%b: %b\r\n" % (name.encode(), told.encode()) for name, told in heading.fields.items())
    turns, upstream, over, began = Turns(), Upstream(), threading.Event(), Future[int]()
    with ThreadPoolExecutor(2) as threads:
        try:
            served = threads.submit(upstream.serve)
            ran = threads.submit(_runs, config_for(upstream.url, upstream={"dialect": dialect.name}), turns, began, over)
            head = b"POST /llm%b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (heading.path.encode(), fields, len(body))
            holds = list(_holds(turns, began.result(10), head + body))[1:]
        finally:
            over.set()
        attempts = ran.result(10)
        served.result(10)
    upstream.close()
    asked = [attempt.dialogue.asked for attempt in attempts if attempt.dialogue is not None]
    assert [getattr(each, member) for each in asked] == [value] * (1 + TRIES), "the request was read"
    assert change in upstream.seen, "and changed"
    median = statistics.median(holds)
    record_testsuite_property(f"median_hold_ms of {kind}", round(median * 1e3, 2))
    record_testsuite_property(f"longest_hold_ms of {kind}", round(max(holds) * 1e3, 2))
    assert median < MOST_S * max(1.0, _best(lambda: _skip(body)) / _USUAL_SKIP_S), holds
