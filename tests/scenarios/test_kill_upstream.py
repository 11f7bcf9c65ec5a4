"""The upstream dies: at every byte of its answer, at every stage of a call, and as a process."""

import asyncio
import signal
import sys
from collections.abc import Callable

import pytest

from tests.peers.raw import RawUpstream
from tests.peers.wire import Ended, Wire
from tests.scene import CHUNKED, OK, Opened, Scene, Stage
from tests.sidecar_under_test import eventually

ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 11\r\n\r\nhello world",
    "chunked": b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("kind", list(ANSWERS))
async def test_an_upstream_that_dies_at_any_byte_of_its_answer_never_looks_complete(scene: Scene, kind: str, how: str) -> None:
    whole = ANSWERS[kind]
    for place in range(len(whole)):
        client = await scene.sidecar.connects()
        await client.sends(scene.request(b"POST", b"/%d" % place, body=b"{}"))
        connection = await scene.upstream.hears()
        await connection.request()
        if place:
            await connection.sends_one_by_one(whole[:place], size=place)
        await (connection.closes() if how == "close" else connection.resets())
        try:
            response = await client.response()
            while response.status < 200:
                response = await client.response()
        except Ended:
            pass
        else:
            assert response.status == 502, f"{how} at byte {place} of {kind} looks complete: {bytes(client.received)!r}"
            assert response.one(b"x-sidecar-error") in (b"upstream_closed", b"upstream_cut", b"upstream_malformed")
        client.close()
    await eventually(lambda: len(scene.sidecar.exchanges) == len(whole), "the end of every exchange")
    assert all(exchange.error for exchange in scene.sidecar.exchanges)
    await scene.still_works()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_http_1_0_client_never_takes_a_dead_upstreams_answer_for_whole(scene: Scene, how: str) -> None:
    """Without a length FIN would be the end of the body, so it has to be RST once a body has begun."""
    whole = ANSWERS["chunked"]
    for place in range(whole.index(b"\r\n\r\n") + 4, len(whole)):
        client = await scene.sidecar.connects()
        await client.sends(scene.request(b"POST", b"/x", body=b"{}", version=b"HTTP/1.0"))
        connection = await scene.upstream.hears()
        await connection.request()
        await connection.sends(whole[:place])
        await asyncio.sleep(0)
        await (connection.closes() if how == "close" else connection.resets())
        try:
            response = await client.response()
        except (Ended, AssertionError):
            pass
        else:
            assert response.status == 502, f"{how} at byte {place} looks complete: {bytes(client.received)!r}"
        client.close()
    await scene.still_works()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_upstream_that_dies_at_any_byte_of_the_request_is_a_502(scene: Scene, how: str) -> None:
    raw = scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    for read in (1, 20, 60, 120, 160, 180):
        client = await scene.sidecar.connects()
        await client.sends(raw[: len(raw) - 5])
        connection = await scene.upstream.hears()
        await connection.reads(read)
        await (connection.closes() if how == "close" else connection.resets())
        await client.sends_if_open(raw[len(raw) - 5 :])
        await scene.sidecar.refuses(client, "upstream_closed", "upstream_cut")
        client.close()
    await scene.still_works()


async def test_an_upstream_that_accepts_and_hangs_up_is_a_502(stage: Stage, mode: str) -> None:
    async def hangs_up(connection: Wire) -> None:
        await connection.resets()

    scene = await stage(peer=RawUpstream(hangs_up))
    for _ in range(20):
        await scene.client.sends(scene.request(b"POST", b"/x", body=b"{}"))
        await scene.sidecar.refuses(scene.client, "upstream_closed", "connect_failed", "upstream_cut")


async def test_an_upstream_that_stops_listening_is_a_502_and_its_return_is_noticed(stage: Stage, opened: Opened) -> None:
    scene = await stage()
    await scene.passes(scene.request())
    port = scene.upstream.port
    await scene.upstream.stops_listening()
    await scene.upstream.taken[0].resets()
    await asyncio.sleep(0.02)
    await scene.client.sends(scene.request())
    await scene.sidecar.refuses(scene.client, "connect_failed")
    scene.upstream = await opened(RawUpstream(port=port))
    await scene.passes(scene.request())


async def test_all_streams_are_cut_when_their_upstream_dies(stage: Stage, mode: str) -> None:
    scene = await stage()
    clients = [await scene.sidecar.connects(f"client {number}") for number in range(50)]
    connections = []
    for client in clients:
        await client.sends(scene.request())
        connection = await scene.upstream.accepts()
        await connection.request()
        await connection.sends(CHUNKED + b"5\r\nhello\r\n")
        connections.append(connection)
        await client.reads_until(b"hello\r\n")
    for connection in connections:
        await connection.resets()
    for client in clients:
        assert b"0\r\n\r\n" not in await client.reads_to_end()
    await eventually(lambda: len(scene.sidecar.exchanges) == 50, "the end of every exchange")
    assert {exchange.error for exchange in scene.sidecar.exchanges} == {"upstream_cut"}
    await scene.still_works()


async def test_an_idle_pool_survives_the_death_of_all_its_connections(stage: Stage) -> None:
    scene = await stage()
    clients = [await scene.sidecar.connects(f"client {number}") for number in range(20)]
    for client in clients:
        await client.sends(scene.request())
    connections = [await scene.upstream.accepts() for _ in clients]
    for connection in connections:
        await connection.request()
    for connection in connections:
        await connection.sends(OK)
    for client in clients:
        assert (await client.response()).body == b"ok"
    for place, connection in enumerate(connections):
        await (connection.resets() if place % 2 else connection.closes())
    await asyncio.sleep(0.02)
    for client in clients:
        await client.sends(scene.request(b"POST", b"/y", body=b"{}"))
        await scene.asks()
        assert (await client.response()).body == b"ok"


@pytest.mark.parametrize("size_bytes", [2, 10_000])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_upstream_that_closes_right_behind_its_answer_costs_nobody_a_call(stage: Stage, how: str, size_bytes: int) -> None:
    scene = await stage()
    post = scene.request(b"POST", b"/y", body=b"x" * size_bytes)
    first, second = [await scene.sidecar.connects(name) for name in ("first", "second")]
    for _ in range(20):
        await first.sends(post)
        connection = await scene.upstream.hears()
        await connection.request()
        # All of it before the sidecar reads any of it: the answer, the end behind it, and the next call.
        connection.sock.send(OK)
        await (connection.closes() if how == "close" else connection.resets())
        second.sock.send(post)
        assert (await scene.asks()).body == b"x" * size_bytes
        for client in (first, second):
            assert (await client.response()).body == b"ok"


@pytest.mark.parametrize("size_bytes", [2, 10_000])
async def test_bytes_behind_an_answer_are_never_the_answer_to_the_next_call(stage: Stage, size_bytes: int) -> None:
    scene = await stage()
    post = scene.request(b"POST", b"/y", body=b"x" * size_bytes)
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    for _ in range(20):
        await scene.client.sends(post)
        await scene.asks()
        assert (await scene.client.response()).body == b"ok"
        connection = scene.upstream.taken[-1]
        # The call comes first and the bytes before the sidecar has sent it on: nobody has asked for them.
        scene.client.sock.send(post)
        connection.sock.send(poison)
        assert (await scene.asks()).body == b"x" * size_bytes
        assert (await scene.client.response()).body == b"ok"


SERVER = """
import http.server, sys, time
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"5\\r\\ntick\\n\\r\\n")
            self.wfile.flush()
            time.sleep(0.01)
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Slow)
print("ready", flush=True)
server.serve_forever()
"""


async def test_an_upstream_process_that_is_killed_in_mid_stream_is_a_cut(stage: Stage, free_port: Callable[[], int]) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, str(port), stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        scene = await stage(base=f"http://127.0.0.1:{port}")
        await scene.client.sends(scene.request())
        await scene.client.reads_until(b"tick\n\r\n5\r\ntick")
        process.send_signal(signal.SIGKILL)
        assert not (await scene.client.reads_to_end()).endswith(b"0\r\n\r\n")
        assert (await scene.sidecar.finished()).error == "upstream_cut"
        await process.wait()
        scene.client = await scene.sidecar.connects()
        await scene.client.sends(scene.request())
        await scene.sidecar.refuses(scene.client, "connect_failed")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


EVENTS = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n',
    b"data: [DONE]\n\n",
)


async def test_of_a_stream_that_dies_while_its_usage_is_taken_out_the_client_gets_all_else_that_had_come(stage: Stage) -> None:
    scene = await stage()
    stream, before = b"".join(EVENTS), len(EVENTS[0] + EVENTS[1])
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    asked = scene.request(
        b"POST", b"/v1/chat/completions", b"Content-Type: application/json", body=b'{"model":"m","messages":[],"stream":true}'
    )
    for place in range(len(EVENTS[0]) - 1, len(stream) + 1):
        client = await scene.sidecar.connects()
        await client.sends(asked)
        connection = await scene.upstream.hears()
        assert b'"include_usage":true' in (await connection.request()).body
        await connection.sends(head + b"%x\r\n" % (len(stream) + 1) + stream[:place])
        await connection.closes()
        got = await client.reads_to_end()
        assert not got.endswith(b"0\r\n\r\n"), "it never looks complete"
        expected = stream[:place].replace(EVENTS[2], b"")
        found = _content(got)
        if before < place < before + len(EVENTS[2]):
            assert expected.startswith(found), "what is begun of the usage need not come"
            assert len(found) >= before
        else:
            assert found == expected, place
        client.close()
    await scene.still_works()


def _content(answer: bytes) -> bytes:
    """The content of whole chunks."""
    found, rest = b"", answer.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        found, rest = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found
