import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from sidecar.demo.peers import Addresses, Peers, listening, serve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made = listening()
    yield made
    for each in made:
        each.close()


async def status(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status


async def all_answer(at: Addresses) -> bool:
    urls = (f"{at.llm}/v1/models", f"{at.a2a}/.well-known/agent-card.json", f"{at.mcp}/mcp")
    return [await status(url) for url in urls] == [200, 200, 405]


def test_addresses_are_known_before_anybody_serves(sockets: list[socket.socket]) -> None:
    at = Addresses.of(sockets)
    assert len({at.llm, at.mcp, at.a2a}) == 3
    assert at.llm == f"http://127.0.0.1:{sockets[0].getsockname()[1]}"


async def test_all_three_answer_until_they_are_stopped(sockets: list[socket.socket]) -> None:
    peers, at = Peers(sockets, ""), Addresses.of(sockets)
    await peers.start()
    assert await all_answer(at)
    await peers.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await status(f"{at.llm}/v1/models")


async def test_they_serve_until_the_lifeline_is_cut(sockets: list[socket.socket]) -> None:
    at = Addresses.of(sockets)
    theirs, ours = os.pipe()
    copies = [os.dup(each.fileno()) for each in sockets]  # as a child process has them
    serving = asyncio.create_task(serve(copies, {"HTTP_PROXY": "http://127.0.0.1:1"}, theirs))
    assert await all_answer(at)
    os.close(ours)
    await asyncio.wait_for(serving, 5)
    os.close(theirs)


async def test_their_process_ends_with_its_parent(sockets: list[socket.socket]) -> None:
    at = Addresses.of(sockets)
    descriptors = [each.fileno() for each in sockets]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sidecar.demo.peers",
        *map(str, descriptors),
        pass_fds=descriptors,
        stdin=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert await all_answer(at)
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0
