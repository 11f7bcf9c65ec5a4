"""Streams: every chunk at once, back-pressure with a bounded window, a client that goes cancels, a cut is never a clean end."""

import asyncio
import fcntl
import os
import select
import socket
import stat
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.raw import RawUpstream
from tests.peers.sse import SseUpstream
from tests.peers.wire import Wire
from tests.scene import CHUNKED, OK, Opened, Stage
from tests.sidecar_under_test import SidecarProcess, config_for, eventually

WINDOW_BYTES = 256 * 1024
"""What the sidecar itself may hold of one direction of one exchange."""

CANCEL_S = 0.050
"""How long after the client has gone the upstream may still believe in it."""

SMALL = 4_096
"""A socket buffer that is soon full."""


# ── every chunk at once ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_event_arrives_before_the_next_is_released(stage: Stage, mode: str) -> None:
    scene = await stage(peer=SseUpstream())
    await scene.client.sends(scene.request(b"POST", b"/stream", body=b"{}"))
    stream = await scene.upstream.stream()
    head = await scene.client.head()
    assert head.one(b"content-type") == b"text/event-stream"
    for number in range(50):
        event = b"data: %d\n\n" % number
        await stream.event(b"%d" % number)
        await scene.client.saw(b"%x\r\n%s\r\n" % (len(event), event))
    await stream.ends()
    await scene.client.saw(b"0\r\n\r\n")


async def test_the_response_head_does_not_wait_for_the_body(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(CHUNKED)
    assert (await scene.client.head()).status == 200
    await connection.sends(b"2\r\nok\r\n0\r\n\r\n")
    await scene.client.saw(b"2\r\nok\r\n0\r\n\r\n")


async def test_half_a_chunk_is_passed_on_as_far_as_it_came(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(CHUNKED + b"a\r\n01234")
    await scene.client.head()
    assert b"01234" in await scene.client.reads_until(b"01234")
    await connection.sends(b"56789\r\n0\r\n\r\n")
    assert b"56789" in await scene.client.reads_until(b"56789")
    await scene.client.reads_until(b"0\r\n\r\n")


async def test_bytes_of_a_body_with_length_are_passed_on_at_once(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
    await scene.client.head()
    for number in range(20):
        await connection.sends(b"%d" % (number % 10))
        await scene.client.saw(b"%d" % (number % 10))


async def test_bytes_of_a_body_that_ends_with_the_connection_are_passed_on_at_once(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(version=b"HTTP/1.0"))
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 200 OK\r\n\r\n")
    await scene.client.head()
    for _ in range(5):
        await connection.sends(b"event")
        await scene.client.saw(b"event")
    await connection.closes()
    await scene.client.saw_clean_end()


async def test_request_and_response_stream_at_the_same_time(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/echo", b"Transfer-Encoding: chunked"))
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.sends(CHUNKED)
    await scene.client.head()
    for _ in range(10):
        await scene.client.sends(b"4\r\nping\r\n")
        await connection.saw(b"4\r\nping\r\n")
        await connection.sends(b"4\r\npong\r\n")
        await scene.client.saw(b"4\r\npong\r\n")
    await scene.client.sends(b"0\r\n\r\n")
    await connection.saw(b"0\r\n\r\n")
    await connection.sends(b"0\r\n\r\n")
    await scene.client.saw(b"0\r\n\r\n")


async def test_a_thousand_streams_run_side_by_side(stage: Stage) -> None:
    count = 1_000
    scene = await stage(peer=SseUpstream())
    clients = [await scene.sidecar.connects(f"client {number}") for number in range(count)]
    for client in clients:
        client.patience_s = 30.0
        await client.sends(scene.request())
    streams = [await scene.upstream.stream() for _ in range(count)]
    for round_number in range(3):
        event = b"data: %d\n\n" % round_number
        for stream in streams:
            await stream.event(b"%d" % round_number)
        for client in clients:
            if round_number == 0:
                await client.head()
            await client.saw(b"%x\r\n%s\r\n" % (len(event), event))
    for stream in streams:
        await stream.ends()
    for client in clients:
        await client.saw(b"0\r\n\r\n")
    assert scene.sidecar.refused == {}
    for connection in scene.upstream.connections:
        connection.close()
    for client in clients:
        client.close()


# ── a bounded window ─────────────────────────────────────────────────────────────────────────────────────────────────


def sockets_here() -> Iterator[tuple[socket.socket, int, int]]:
    """Every connected TCP socket of this process with its own port and its peer's; the sidecar runs in this process, too."""
    for name in Path("/proc/self/fd").iterdir():
        try:
            sock = socket.socket(fileno=_duplicate(int(name.name)))
        except OSError:
            continue
        with sock:
            try:
                yield sock, sock.getsockname()[1], sock.getpeername()[1]
            except (OSError, IndexError, TypeError):
                continue


def _queued(sock: socket.socket, question: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(sock, question, b"\0" * 4))[0]
    return count


UNREAD, UNSENT = 0x541B, 0x5411
"""SIOCINQ and SIOCOUTQ of tcp(7): bytes that were received but not read, and sent but not acknowledged."""


def held_by_kernel(ports: set[int]) -> int:
    """Bytes that sit in this process's sockets from or to these ports."""
    return sum(
        _queued(sock, UNREAD) + _queued(sock, UNSENT) for sock, mine, theirs in sockets_here() if mine in ports or theirs in ports
    )


def unread_at(port: int) -> int:
    """Bytes that have come to sockets of this port and that nobody has read."""
    return sum(_queued(sock, UNREAD) for sock, mine, _ in sockets_here() if mine == port)


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _duplicate(fd: int) -> int:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        raise OSError("not a socket")
    return os.dup(fd)


async def pours(wire: Wire, data: bytes, total: int, stalled_s: float = 0.3) -> int:
    """Write until the socket has taken nothing for a while, or `total` bytes; returns how many it took."""
    sent, last = 0, time.monotonic()
    while sent < total and time.monotonic() - last < stalled_s:
        try:
            sent += wire.sock.send(data)
            last = time.monotonic()
        except BlockingIOError:
            await asyncio.sleep(0.005)
        else:
            await asyncio.sleep(0)
    return sent


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="socket queues are read through /proc (Linux)")


@needs_proc
async def test_a_reader_that_does_not_read_costs_no_memory(stage: Stage, opened: Opened, mode: str) -> None:
    """64 MiB want to go to a client that does not read: what is neither in a socket nor at the client is in the sidecar."""
    upstream = await opened(RawUpstream(send_buffer=SMALL))
    scene = await stage(peer=upstream, is_open=True)
    client = await scene.sidecar.connects("slow client", receive_buffer=SMALL)
    await client.sends(scene.request())
    connection = await upstream.hears()
    await connection.request()
    total = 64 * 1024 * 1024
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    await connection.sends(head)
    sent = await pours(connection, b"x" * 65_536, total)
    assert sent < total, "all of it went somewhere, with nobody reading"
    held = sent - held_by_kernel({upstream.port, scene.sidecar.port})
    assert held <= WINDOW_BYTES, f"{held} bytes are held by the sidecar"
    # and once the client reads, everything flows again
    opens_wide(client, connection)
    async with asyncio.TaskGroup() as group:
        group.create_task(_sends_the_rest(connection, total - sent))
        group.create_task(_swallows(client, total))


@needs_proc
async def test_an_upstream_that_does_not_read_costs_no_memory(stage: Stage, opened: Opened, mode: str) -> None:
    upstream = await opened(RawUpstream(receive_buffer=SMALL))
    scene = await stage(peer=upstream, is_open=True)
    client = scene.client
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    total = 64 * 1024 * 1024
    await client.sends(scene.request(b"POST", b"/x", b"Content-Length: %d" % total))
    connection = await upstream.hears()
    await connection.head()
    sent = await pours(client, b"x" * 65_536, total)
    assert sent < total, "all of it went somewhere, with nobody reading"
    held = sent - len(connection.unread) - held_by_kernel({upstream.port, scene.sidecar.port})
    assert held <= WINDOW_BYTES, f"{held} bytes are held by the sidecar"
    opens_wide(client, connection)
    async with asyncio.TaskGroup() as group:
        group.create_task(_sends_the_rest(client, total - sent))
        group.create_task(_swallows(connection, total, begun=len(connection.unread)))


@needs_proc
async def test_a_tunnel_to_a_slow_reader_costs_no_memory(stage: Stage, opened: Opened) -> None:
    upstream = await opened(RawUpstream(send_buffer=SMALL))
    scene = await stage(peer=upstream, is_open=True)
    client = await scene.sidecar.connects("slow client", receive_buffer=SMALL)
    await client.sends(b"CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\n" % upstream.authority.encode())
    far = await upstream.accepts()
    assert (await client.head()).status == 200
    total = 64 * 1024 * 1024
    sent = await pours(far, b"x" * 65_536, total)
    assert sent < total
    held = sent - held_by_kernel({upstream.port, scene.sidecar.port})
    assert held <= WINDOW_BYTES, f"{held} bytes are held by the sidecar"


@needs_proc
async def test_pipelined_requests_have_a_bounded_buffer(stage: Stage) -> None:
    """While a response is owed the sidecar goes on reading (so that it sees the client go), yet it keeps only so much."""
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/first"))
    connection = await scene.upstream.hears()
    await connection.request()
    requests = scene.request(b"GET", b"/next") * 1_000
    before = resident_bytes()
    try:
        await pours(scene.client, requests, 128 * 1024 * 1024)
    except ConnectionError:
        pass  # it refused to hold more, and said so by closing
    assert resident_bytes() - before < 16 * 1024 * 1024
    assert scene.sidecar.refused, "what did not fit was not counted"
    await connection.sends_if_open(OK)
    assert await scene.client.reads_to_end() in (b"", OK) or scene.client.received.startswith(b"HTTP/1.1 200 OK")
    await scene.upstream.hears_nothing()
    assert bytes(connection.received).count(b"HTTP/1.1") == 1, "after an overflow nothing of what came later is executed"


async def test_resident_memory_stays_flat_with_readers_that_do_not_read(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream = await opened(RawUpstream(send_buffer=SMALL))
    sidecar = await opened(SidecarProcess(config_for(upstream.url), port=free_port()))
    clients = []

    async def fills() -> None:
        client = await sidecar.connects(receive_buffer=SMALL)
        clients.append(client)
        await client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n")
        connection = await upstream.accepts()
        await connection.request()
        await connection.sends(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * 1024 * 1024))
        await pours(connection, b"x" * 65_536, 64 * 1024 * 1024)

    async def fill(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(fills())

    await fill(3)
    before = sidecar.resident_bytes()
    await fill(6)
    grown = sidecar.resident_bytes() - before
    for client in clients:
        client.close()
    assert grown <= 6 * 2 * WINDOW_BYTES, f"grew by {grown} bytes for 6 slow readers"


def opens_wide(*wires: Wire) -> None:
    """Give the sockets large buffers again, so that the rest of a test does not take its time."""
    for wire in wires:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            wire.sock.setsockopt(socket.SOL_SOCKET, option, 1024 * 1024)


async def _sends_the_rest(wire: Wire, count: int) -> None:
    wire.patience_s = 60.0
    block = b"x" * 262_144
    while count > 0:
        await wire.sends(block[:count])
        count -= min(count, len(block))


async def _swallows(wire: Wire, count: int, *, begun: int = 0) -> None:
    """Read a body of this size without keeping it; a head may come first."""
    wire.unread.clear()
    loop, got, head = asyncio.get_running_loop(), begun, b""
    is_response = wire.name.endswith("client")
    async with asyncio.timeout(60):
        while is_response and b"\r\n\r\n" not in head:
            head += await loop.sock_recv(wire.sock, 65_536)
        got += len(head.partition(b"\r\n\r\n")[2])
        while got < count:
            data = await loop.sock_recv(wire.sock, 1_048_576)
            assert data, f"the end after {got} of {count} bytes"
            got += len(data)
    assert got == count


# ── a client that goes away ──────────────────────────────────────────────────────────────────────────────────────────


async def leaves(client: Wire, how: str) -> float:
    """End the client's side in this way; returns when."""
    at = time.monotonic()
    if how == "close":
        await client.closes()
    elif how == "half-close":
        await client.half_closes()
    else:
        await client.resets()
    return at


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
@pytest.mark.parametrize("stage_of_call", ["before the first byte", "after the head", "in mid-stream"])
async def test_a_client_that_goes_cancels_the_upstream_within_50_ms(
    stage: Stage, mode: str, how: str, stage_of_call: str
) -> None:
    """While a response is owed, EOF from the client means that it has gone. Five rounds, judged by their median."""
    scene = await stage()
    took = []
    for _ in range(5):
        client = await scene.sidecar.connects()
        await client.sends(scene.request(b"POST", b"/x", body=b"{}"))
        connection = await scene.upstream.hears()
        await connection.request()
        if stage_of_call != "before the first byte":
            await connection.sends(CHUNKED)
            await client.head()
        if stage_of_call == "in mid-stream":
            await connection.sends(b"5\r\nhello\r\n")
            await client.saw(b"5\r\nhello\r\n")
        went = await leaves(client, how)
        await connection.saw_end()
        assert connection.ended_at is not None
        took.append(connection.ended_at - went)
        client.close()
    assert statistics.median(took) <= CANCEL_S, took
    await eventually(lambda: len(scene.sidecar.exchanges) == 5, "the end of all exchanges")
    assert {exchange.error for exchange in scene.sidecar.exchanges} == {"client_gone"}


async def hung_up(wire: Wire) -> float:
    """Wait until the other side has closed, without reading what it sent before; returns when."""
    poll = select.poll()
    poll.register(wire.sock, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    deadline = time.monotonic() + wire.patience_s
    while not poll.poll(0):
        assert time.monotonic() < deadline, f"{wire.name} was never hung up on"
        await asyncio.sleep(0.001)
    return time.monotonic()


needs_rdhup = pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="POLLRDHUP is Linux's")


async def uploads_until_held_back(client: Wire, port: int) -> None:
    """Send until bytes stay unread in the sidecar's socket, but never more than its kernel takes: else FIN would wait as well."""
    for _ in range(5_000):
        await client.sends(b"x" * 16_384)
        for _ in range(20):
            await asyncio.sleep(0.001)
            if not unread_at(port):
                break
        else:
            await eventually(lambda: _queued(client.sock, UNSENT) == 0, "the acknowledgement of all that was sent")
            return
    raise AssertionError("the upload was never held back")


@needs_proc
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
async def test_a_client_that_goes_while_its_upload_is_held_back_ends_the_call(stage: Stage, opened: Opened, how: str) -> None:
    """
    Back-pressure keeps the sidecar from reading the client, and so from reading its end: it has to look for it.

    What the upstream has not read yet stands before any FIN, so the time is taken from the fact, not at the upstream.
    """
    upstream = await opened(RawUpstream(receive_buffer=SMALL))
    scene = await stage(peer=upstream, is_open=True)
    took = []
    for number in range(3):
        client = await scene.sidecar.connects()
        await client.sends(scene.request(b"POST", b"/x", b"Content-Length: 100000000"))
        connection = await upstream.accepts()
        await uploads_until_held_back(client, scene.sidecar.port)
        went = await leaves(client, how)
        assert (await scene.sidecar.finished(number + 1)).error == "client_gone"
        took.append(time.monotonic() - went)
        client.close()
        connection.close()
    assert statistics.median(took) <= 2 * CANCEL_S, took


@needs_rdhup
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
async def test_a_client_that_goes_without_having_read_cancels_the_upstream(stage: Stage, opened: Opened, how: str) -> None:
    """The other direction: the upstream is held back, and the client, which has not read for a while, goes."""
    upstream = await opened(RawUpstream())
    scene = await stage(peer=upstream, is_open=True)
    took = []
    for _ in range(3):
        client = await scene.sidecar.connects("slow client")
        await client.sends(scene.request())
        connection = await upstream.accepts()
        await connection.request()
        await connection.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        await pours(connection, b"x" * 65_536, 100_000_000, stalled_s=0.15)
        went = await leaves(client, how)
        took.append(await hung_up(connection) - went)
        client.close()
        connection.close()
    assert statistics.median(took) <= CANCEL_S, took


async def test_a_client_that_goes_while_it_uploads_cancels_the_upstream(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked"), b"5\r\nhello\r\n")
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.saw(b"5\r\nhello\r\n")
    await scene.client.closes()
    rest = await connection.reads_to_end()
    assert rest == b"", "a body that was cut short was given an end"


async def test_a_client_that_half_closes_in_the_middle_of_its_body_has_not_sent_a_request(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 10"), b"hello")
    connection = await scene.upstream.hears()
    await connection.head()
    await scene.client.half_closes()
    assert await connection.reads_to_end() == b"hello"


async def test_a_client_that_goes_while_the_upstream_is_dialled_cancels_the_dialling(stage: Stage, opened: Opened) -> None:
    """An address at which a connection never comes about: the exchange must end all the same."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port = full.getsockname()[1]
    fillers = [_fills(port) for _ in range(2)]
    try:
        scene = await stage(base=f"http://127.0.0.1:{port}")
        await scene.client.sends(scene.request())
        await asyncio.sleep(0.05)
        await scene.client.closes()
        assert (await scene.sidecar.finished()).error in ("client_gone", "connect_failed")
    finally:
        for sock in (full, *fillers):
            sock.close()


def _fills(port: int) -> socket.socket:
    """Take a place in the backlog of a listener that never accepts."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


# ── an upstream that is cut short (RFC 9112 section 8) ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cut", ["close", "reset"])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"a\r\nhello",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        CHUNKED,
    ],
    ids=["length", "between-chunks", "in-a-chunk", "before-the-last-line", "before-any-chunk"],
)
async def test_an_upstream_cut_short_is_never_ended_cleanly(stage: Stage, mode: str, cut: str, answer: bytes) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(answer)
    head = await scene.client.head()
    if b"hello" in answer:
        await scene.client.reads_until(b"hello")
    await (connection.closes() if cut == "close" else connection.resets())
    rest = await scene.client.reads_to_end()
    body = scene.client.received.partition(b"\r\n\r\n")[2]
    if head.has(b"content-length"):
        assert len(body) < 10
    else:
        assert not body.endswith(b"0\r\n\r\n"), rest
    assert (await scene.sidecar.finished()).error == "upstream_cut"


@pytest.mark.parametrize("cut", ["close", "reset"])
@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n"],
    ids=["length", "chunked"],
)
async def test_an_upstream_cut_short_is_a_reset_for_a_1_0_client(stage: Stage, mode: str, cut: str, answer: bytes) -> None:
    """A 1.0 client takes FIN for the end of a body without length: only RST tells it the truth."""
    scene = await stage()
    await scene.client.sends(scene.request(version=b"HTTP/1.0"))
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(answer)
    head = await scene.client.head()
    await scene.client.saw(b"hello")
    await (connection.closes() if cut == "close" else connection.resets())
    if head.has(b"content-length"):
        assert await scene.client.reads_to_end() == b""
    else:
        await scene.client.saw_reset()


async def test_a_reset_of_a_body_without_length_is_no_end_of_it(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 200 OK\r\n\r\nhello")
    head = await scene.client.head()
    await scene.client.reads_until(b"hello")
    await connection.resets()
    rest = await scene.client.reads_to_end()
    if head.has(b"transfer-encoding"):
        assert not rest.endswith(b"0\r\n\r\n")
    else:
        assert scene.client.was_reset


@pytest.mark.parametrize("cut", ["close", "reset"])
@pytest.mark.parametrize(
    "begun",
    [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 103 Early\r\n\r\n"],
    ids=["nothing", "line", "head", "interim"],
)
async def test_an_upstream_that_leaves_before_its_answer_is_a_502(stage: Stage, mode: str, cut: str, begun: bytes) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", body=b"{}"))
    connection = await scene.upstream.hears()
    await connection.request()
    if begun:
        await connection.sends(begun)
        await asyncio.sleep(0.02)
    await (connection.closes() if cut == "close" else connection.resets())
    if begun.startswith(b"HTTP/1.1 103"):
        assert (await scene.client.response()).status == 103
    await scene.sidecar.refuses(scene.client, "upstream_closed", "upstream_cut")
    await scene.upstream.hears_nothing()  # a POST is not sent twice
    await scene.still_works()


async def test_an_upstream_that_closes_during_the_upload_is_a_502(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 100000"), b"x" * 1_000)
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.resets()
    await scene.client.sends_if_open(b"x" * 1_000)
    await scene.sidecar.refuses(scene.client, "upstream_closed", "upstream_cut")
