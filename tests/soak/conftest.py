"""The sidecar runs on uvloop, hence so does what wears it down."""

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give every test here a loop of the kind that the product uses."""
    return {"uvloop": uvloop.new_event_loop}
