"""Sockets: where they are bound, who may use them, and what is left where something else stands in the way."""

import errno
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.admin import sockets
from sidecar.admin.sockets import close, tcp_sockets, unix_socket


@pytest.fixture
def bound() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    close(made)


async def test_port_0_takes_a_free_one(bound: list[socket.socket]) -> None:
    bound += await tcp_sockets("127.0.0.1", 0)
    assert [each.getsockname()[0] for each in bound] == ["127.0.0.1"]
    assert bound[0].getsockname()[1] > 0


@pytest.mark.skipif(sys.platform == "darwin", reason="loopback has one address on macOS")
async def test_a_name_with_two_addresses_is_bound_on_one_port(
    bound: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port)) for name in ("127.0.0.1", "127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *_, **__: both(host, port))
    bound += await tcp_sockets("two.example", 0)
    assert [each.getsockname()[0] for each in bound] == ["127.0.0.1", "127.0.0.2"]
    assert len({each.getsockname()[1] for each in bound}) == 1


async def test_an_address_that_this_machine_lacks_is_passed_over_when_another_is_there(
    bound: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = sockets._tcp_socket

    def without_ipv6(family: int, where: tuple[Any, ...]) -> socket.socket:
        if where[0] == "::1":
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return make(family, where)

    monkeypatch.setattr(sockets, "_tcp_socket", without_ipv6)
    bound += sockets._bound([(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))], 0)
    assert len(bound) == 1
    with pytest.raises(OSError, match="Cannot assign"):
        sockets._bound([(socket.AF_INET6, ("::1", 0, 0, 0))], 0)


async def test_a_port_in_use_is_an_error_that_says_where(bound: list[socket.socket]) -> None:
    bound += await tcp_sockets("127.0.0.1", 0)
    bound[0].listen()
    port = bound[0].getsockname()[1]
    with pytest.raises(OSError, match=f"admin cannot listen on 127.0.0.1 port {port}: Address already in use") as caught:
        await tcp_sockets("127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_an_ipv6_socket_takes_ipv6_only(bound: list[socket.socket]) -> None:
    try:
        bound += await tcp_sockets("::1", 0)
    except OSError as error:
        pytest.skip(f"IPv6 loopback is not there: {error}")
    assert bound[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_a_unix_socket_is_the_owners_alone(bound: list[socket.socket], tmp_path: Path) -> None:
    bound.append(unix_socket(tmp_path / "admin.sock"))
    status = (tmp_path / "admin.sock").stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_what_a_dead_process_left_is_replaced(bound: list[socket.socket], tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    bound.append(unix_socket(path))
    bound[-1].listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_socket_of_a_living_process_stays(bound: list[socket.socket], tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    bound.append(unix_socket(path))
    bound[-1].listen()
    with pytest.raises(OSError, match=f"admin cannot listen on {path}: Address already in use"):
        unix_socket(path)
    assert path.exists()


def test_a_file_in_its_place_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        unix_socket(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        unix_socket(tmp_path / ("x" * 200))
