import asyncio
import socket

import pytest

from sidecar.traffic.grpc import port as module
from sidecar.traffic.grpc.port import free


async def test_a_port_that_nobody_has_is_free_and_stays_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    await free("127.0.0.1", port)
    socket.create_server(("127.0.0.1", port)).close()


async def test_a_port_is_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await free("127.0.0.1", port)
        monkeypatch.undo()
        waiting = asyncio.ensure_future(free("127.0.0.1", port))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_a_port_that_may_be_shared_is_taken_all_the_same() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_WAIT_S", 0.0)
        with pytest.raises(OSError, match="in use"):
            await free("127.0.0.1", other.getsockname()[1])
