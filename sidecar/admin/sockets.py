"""The sockets on which admin listens: TCP on every address of a name, and a Unix socket that only its owner may use."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BACKLOG = 64


async def tcp_sockets(host: str, port: int) -> list[socket.socket]:
    """Bound sockets, one for each address of `host`, all on the same port (0: a free one); raises OSError that says where."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return _bound(list(dict.fromkeys((entry[0], entry[4]) for entry in found)), port)
    except OSError as error:
        raise OSError(error.errno, f"admin cannot listen on {host} port {port}: {error.strerror or error}") from error


def _bound(addresses: list[tuple[int, tuple[Any, ...]]], port: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, where in addresses:
            try:
                bound.append(_tcp_socket(family, (where[0], bound[0].getsockname()[1] if bound else port, *where[2:])))
            except OSError as error:  # localhost is often ::1 too where IPv6 is switched off
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing and not bound:
            raise missing
    except OSError:
        close(bound)
        raise
    return bound


def _tcp_socket(family: int, where: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
    except OSError:
        made.close()
        raise
    return made


def unix_socket(path: Path) -> socket.socket:
    """
    A Unix socket bound at `path` with mode 0600; one that a dead process left there is replaced, a live one is an OSError.

    Nobody can connect before it listens, which is after its mode has been set.
    """
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.bind(str(path))
        os.chmod(path, 0o600)
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"admin cannot listen on {path}: {error.strerror or error}") from error
    return made


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # not ours to remove; bind will say that it is in use
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            with contextlib.suppress(OSError):
                path.unlink()


def close(sockets: Iterable[socket.socket]) -> None:
    """Close them all."""
    for each in sockets:
        each.close()
