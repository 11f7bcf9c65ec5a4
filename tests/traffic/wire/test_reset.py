import asyncio
import socket

import pytest

from sidecar.traffic.wire.reset import reset
from tests.traffic.wire.transport import FakeTransport


async def test_a_reset_cannot_be_taken_for_an_end() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=accepted)
    transport.write(b"half of it")
    await asyncio.sleep(0)
    reset(transport)
    await asyncio.sleep(0)
    client.settimeout(2)
    with pytest.raises(ConnectionResetError):
        while client.recv(100):
            pass
    client.close()
    listening.close()


def test_a_transport_without_a_socket_is_aborted() -> None:
    transport = FakeTransport(asyncio.Protocol())
    transport.sock = None
    reset(transport)
    assert transport.ended == "abort"


def test_a_socket_that_is_gone_already_is_no_fault() -> None:
    transport = FakeTransport(asyncio.Protocol())
    assert transport.sock is not None
    transport.sock.is_gone = True
    reset(transport)
    assert transport.ended == "abort"
