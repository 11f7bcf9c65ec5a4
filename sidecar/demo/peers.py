"""
The process of the endpoints: LLM, MCP and A2A on sockets that the parent has bound, so that nobody waits for anybody.

    python -m sidecar.demo.peers LLM_FD MCP_FD A2A_FD         HTTP_PROXY is what the packing agent uses

It says `ready` when all three serve, and lives as long as its standard input is open: when the parent goes, however it goes,
this process goes too.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from sidecar.demo.a2a import PackingAgent
from sidecar.demo.llm import LanguageModel
from sidecar.demo.mcp import WeatherTools


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs of the three endpoints."""

    llm: str
    mcp: str
    a2a: str

    @classmethod
    def of(cls, sockets: Sequence[socket.socket]) -> "Addresses":
        """The addresses that listening sockets, in the order of the fields, are bound to."""
        return cls(*("http://{}:{}".format(*each.getsockname()) for each in sockets))


def listening() -> list[socket.socket]:
    """Three sockets that listen on free ports of loopback, in the order of `Addresses`."""
    return [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]


class Peers:
    """The three servers; `start` serves on the given sockets, `stop` closes them."""

    def __init__(self, sockets: Sequence[socket.socket], proxy: str, *, pace: float = 1.0) -> None:
        at = Addresses.of(sockets)
        packer = PackingAgent(at.a2a, f"{at.llm}/v1", proxy)
        applications = (LanguageModel(pace=pace).application(), WeatherTools(pace=pace).application(), packer.application())
        self._runners = [web.AppRunner(each, access_log=None, shutdown_timeout=0.5) for each in applications]
        self._sockets = sockets

    async def start(self) -> None:
        """Serve from now on."""
        for runner, each in zip(self._runners, self._sockets, strict=True):
            await runner.setup()
            await web.SockSite(runner, each).start()

    async def stop(self) -> None:
        """Serve no longer."""
        for runner in self._runners:
            await runner.cleanup()


async def serve(descriptors: Sequence[int], environ: Mapping[str, str], lifeline: int) -> None:
    """Serve on these listening sockets, say so, and end when the other end of `lifeline` (a pipe) is closed."""
    peers = Peers([socket.socket(fileno=each) for each in descriptors], environ.get("HTTP_PROXY", ""))
    await peers.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(lifeline, closed.set)
    await closed.wait()
    asyncio.get_running_loop().remove_reader(lifeline)
    await peers.stop()


if __name__ == "__main__":
    asyncio.run(serve([int(each) for each in sys.argv[1:]], os.environ, sys.stdin.fileno()))
