import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sidecar.traffic.stdio.pipe import MOST_UNWRITTEN, Pipe
from tests.sidecar_under_test import eventually

Made = Callable[[int, int], Pipe]


class Heard:
    def __init__(self, pipe: Pipe) -> None:
        self.came = bytearray()
        self.ended = self.lost = 0
        pipe.came = self.came.extend
        pipe.ended = self._end
        pipe.lost = self._lose

    def _end(self) -> None:
        self.ended += 1

    def _lose(self) -> None:
        self.lost += 1


@pytest.fixture
async def made() -> AsyncIterator[Made]:
    pipes: list[Pipe] = []

    def make(reads: int, writes: int) -> Pipe:
        pipes.append(Pipe(reads, writes))
        return pipes[-1]

    yield make
    for pipe in pipes:
        await pipe.close(0.1)


async def until(condition: Callable[[], object]) -> None:
    await eventually(condition, "what was sent", within_s=5.0)


async def test_what_is_written_comes_and_ends(made: Made) -> None:
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    pipe = made(ours_in, ours_out)
    heard = Heard(pipe)
    await pipe.open()
    os.write(theirs_out, b"hello")
    pipe.write(b"hi")
    await until(lambda: heard.came == b"hello")
    assert os.read(theirs_in, 10) == b"hi"
    os.close(theirs_out)
    await pipe.has_ended()
    pipe.close_writing()
    pipe.write(b"too late")
    await until(lambda: heard.lost)
    assert os.read(theirs_in, 10) == b"" and heard.ended == 1
    os.close(theirs_in)


async def test_one_socket_both_ways_is_as_good(made: Made) -> None:
    ours, theirs = socket.socketpair()
    pipe = made(os.dup(ours.fileno()), os.dup(ours.fileno()))
    ours.close()
    heard = Heard(pipe)
    await pipe.open()
    theirs.sendall(b"hello")
    pipe.write(b"hi")
    await until(lambda: heard.came == b"hello")
    assert theirs.recv(10) == b"hi"
    theirs.sendall(b" again")
    await until(lambda: heard.came == b"hello again")
    theirs.close()
    await until(lambda: heard.ended)
    pipe.write(b"nobody reads this")
    await until(lambda: heard.lost)


async def test_files_are_carried_by_threads(made: Made, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 200_000)
    pipe = made(os.open(tmp_path / "in", os.O_RDONLY), os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT))
    heard = Heard(pipe)
    await pipe.open()
    await pipe.has_ended()
    pipe.write(b"hi")
    await pipe.close(5.0)
    assert len(heard.came) == 200_000 and (tmp_path / "out").read_bytes() == b"hi"


async def test_nothing_is_read_for_a_peer_that_does_not_read(made: Made) -> None:
    (slow_in, to_slow), (from_slow, slow_out) = os.pipe(), os.pipe()
    (fast_in, to_fast), (from_fast, fast_out) = os.pipe(), os.pipe()
    slow, fast = made(from_slow, to_slow), made(from_fast, to_fast)
    slow.other, fast.other = fast, slow
    passed = 0

    def pass_on(data: bytes) -> None:
        nonlocal passed
        passed += len(data)
        slow.write(data)

    fast.came = pass_on
    await slow.open()
    await fast.open()
    os.set_blocking(fast_out, False)
    written = 0
    for _ in range(2_000):  # more than all buffers on the way hold
        try:
            written += os.write(fast_out, b"x" * 4096)
        except BlockingIOError:
            pass
        await asyncio.sleep(0)
    assert MOST_UNWRITTEN <= passed < 2 * MOST_UNWRITTEN and written < 2_000 * 4096
    read = 0
    os.set_blocking(slow_in, False)
    async with asyncio.timeout(5):
        while read < written:
            try:
                read += len(os.read(slow_in, 65536))
            except BlockingIOError:
                await asyncio.sleep(0)
    assert passed == written
    for each in (slow_in, slow_out, fast_in, fast_out):
        os.close(each)


async def test_a_peer_that_never_reads_is_not_waited_for(made: Made) -> None:
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    pipe = made(ours_in, ours_out)
    await pipe.open()
    pipe.write(b"x" * 500_000)
    async with asyncio.timeout(2):
        await pipe.close(0.01)
    os.close(theirs_in)
    os.close(theirs_out)


async def test_a_pipe_that_was_never_opened_is_closed(made: Made) -> None:
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    pipe = made(ours_in, ours_out)
    await pipe.close(0.1)
    os.close(theirs_out)
    assert os.read(theirs_in, 1) == b""
    os.close(theirs_in)
