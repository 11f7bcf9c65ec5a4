"""An admin server as the app would have it, with an app that only remembers what it was told."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.admin.server import AdminServer, build
from sidecar.admin.spec import AdminSpec
from tests.admin.app import App


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    """An app whose home is a folder of the test's own."""
    made = App(tmp_path)
    yield made
    await made.operations.stop()


@pytest.fixture
async def serving(app: App) -> AsyncIterator[Callable[..., Awaitable[AdminServer]]]:
    """`await serving(endpoint=…, …)` starts an admin server, on a free port of 127.0.0.1 where nothing else is said."""
    started: list[AdminServer] = []

    async def start(**settings: Any) -> AdminServer:
        server = build(AdminSpec(**{"endpoint": "127.0.0.1:0", **settings}), app.runtime, app.operations, app.views)
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        await server.stop()
