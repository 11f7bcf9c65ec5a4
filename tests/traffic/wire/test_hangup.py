import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.traffic.wire import hangup
from sidecar.traffic.wire.hangup import has_hung_up
from tests.traffic.wire.transport import CLOSE_WAIT, FakeTransport

kernel_tells = pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the kernel does not tell")


class Deaf(asyncio.Protocol):
    """A connection that is not read."""


def near_of(sock: socket.socket) -> Any:
    transport = FakeTransport(Deaf())
    transport.sock = sock  # type: ignore[assignment]  # a real one
    return transport


@pytest.fixture
def pair() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    yield near, far
    near.close()
    far.close()


def half_closes(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


@kernel_tells
@pytest.mark.parametrize("leaves", [half_closes, socket.socket.close])
def test_the_kernel_knows_of_a_peer_that_has_left_behind_unread_bytes(
    pair: tuple[socket.socket, socket.socket], leaves: Callable[[socket.socket], None]
) -> None:
    near, far = pair
    far.sendall(b"not read")
    assert not has_hung_up(near_of(near))
    leaves(far)
    assert has_hung_up(near_of(near))


@kernel_tells
def test_a_socket_that_is_gone_has_nobody_at_its_other_end() -> None:
    transport = FakeTransport(Deaf())
    assert transport.sock is not None
    assert not has_hung_up(transport)
    transport.sock.state = CLOSE_WAIT
    assert has_hung_up(transport)
    transport.sock.is_gone = True
    assert has_hung_up(transport)


def test_where_it_cannot_be_known_the_peer_is_believed_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FakeTransport(Deaf())
    transport.sock = None
    assert not has_hung_up(transport)
    other = FakeTransport(Deaf())
    monkeypatch.delattr(hangup.socket, "TCP_INFO", raising=False)
    assert not has_hung_up(other)
