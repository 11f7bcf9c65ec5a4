"""A peer of the demo on a port of its own, and a client for it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Serve on a free port of loopback; gives the base URL and a session."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            yield "http://{}:{}".format(*runner.addresses[0]), session
    finally:
        await runner.cleanup()


def events(body: bytes) -> list[Any]:
    """The data of each server-sent event: JSON decoded, anything else as text."""
    data = [line.removeprefix("data: ") for line in body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(each) if each.startswith("{") else each for each in data]
