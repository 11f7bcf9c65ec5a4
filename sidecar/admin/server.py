"""
The admin server: made from the spec, started after the proxy listens, stopped last but one.

    admin: {endpoint: 127.0.0.1:4141}
"""

import asyncio
import contextlib
import importlib
import logging
import os
from pathlib import Path
from typing import Any

from sidecar.admin.access import Access
from sidecar.admin.api import Api, Views
from sidecar.admin.exchanges import Exchanges
from sidecar.admin.leftovers import remove_leftovers
from sidecar.admin.sockets import close, tcp_sockets, unix_socket
from sidecar.admin.spec import AdminSpec
from sidecar.admin.token import Token, default_path
from sidecar.control.operations import Operations
from sidecar.model.own_hosts import address
from sidecar.runtime.runtime import Health, Runtime, State

STOP_S = 1.0
"""How long requests that are being answered may go on at stop."""

_log = logging.getLogger("sidecar.admin")


class AdminServer:
    """
    Serves the API on TCP and, where the spec says so, on a Unix socket.

    From the moment it is built exchanges are remembered, also beyond its own end: after a reload its successor shows them.
    `endpoint` is the address and port that it listens on.
    """

    def __init__(self, spec: AdminSpec, runtime: Runtime, operations: Operations, views: Views) -> None:
        self._spec = spec
        self._runtime = runtime
        self._operations = operations
        self._views = views
        self._exchanges = _exchanges_of(runtime)
        self._exchanges.keep(spec.kept_exchanges)
        self._exchanges.start()
        self._token: Token | None = None
        self._http: Any = None  # sidecar.admin.http.HttpServer, which is not to be imported here
        self._listeners: list[asyncio.Server] = []
        self._unix_path: tuple[Path, int] | None = None
        self._health = Health(State.STARTING, "not started yet")
        self.endpoint: tuple[str, int] = (spec.host, spec.port)

    async def start(self) -> None:
        """Bind, write the token, then import aiohttp in a thread and serve; raises OSError where it cannot listen."""
        try:
            await self._start()
        except BaseException as error:
            await self.stop()
            self._health = Health(State.FAILED, str(error) or type(error).__name__)
            raise

    async def _start(self) -> None:
        sockets = await tcp_sockets(self._spec.host, self._spec.port)
        try:
            host, port = sockets[0].getsockname()[:2]
            if self._spec.unix_socket:
                sockets.append(unix_socket(Path(self._spec.unix_socket)))
                self._unix_path = Path(self._spec.unix_socket), os.lstat(self._spec.unix_socket).st_ino
            problem = self._write_token(port)
            assert self._token is not None
            if not self._spec.token_file and not problem:
                await asyncio.to_thread(remove_leftovers, self._token.path.parent, self._token.path)
            bound = [address(str(each.getsockname()[0])) for each in sockets if each.family.name != "AF_UNIX"]
            access = Access(
                self._token,
                is_loopback=all(each is not None and each.is_loopback for each in bound),
                allow_hosts=self._spec.allow_hosts,
                open_probes=self._spec.open_probes,
            )
            api = Api(self._runtime, self._operations, self._views, self._exchanges, access)
            http = await asyncio.to_thread(importlib.import_module, "sidecar.admin.http")
            self._http = http.HttpServer(api)
            await self._listen(sockets)
        except BaseException:
            close(sockets)
            raise
        self.endpoint = (host, port)
        self._health = Health(State.DEGRADED, problem) if problem else Health(State.OK)
        _log.info("admin listens on %s port %d, token in %s", host, port, self._token.path if not problem else "no file")

    async def _listen(self, sockets: list[Any]) -> None:
        loop = asyncio.get_running_loop()
        for each in sockets:
            make = loop.create_unix_server if each.family.name == "AF_UNIX" else loop.create_server
            self._listeners.append(await make(self._http, sock=each, backlog=64))

    def _write_token(self, port: int) -> str:
        """Make and write the token; returns what went wrong, raises OSError where the spec names the file."""
        configured = self._spec.token_file
        self._token = Token(Path(configured) if configured else default_path(self._runtime.environ, port))
        try:
            self._token.write()
        except OSError as error:
            if configured:
                raise
            problem = f"the token file could not be written ({error}), so changes are possible over unix_socket only"
            _log.warning("%s", problem)
            return problem
        return ""

    async def stop(self) -> None:
        """Close listeners and connections, remove token and socket; harmless when called twice or without a start."""
        self._exchanges.dismiss()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        http, self._http = self._http, None
        if http is not None:
            await http.stop(STOP_S)
        for listener in listeners:
            await listener.wait_closed()
        self.remove_files()
        self._health = Health(State.STOPPED)

    def remove_files(self) -> None:
        """Remove token and Unix socket, if they are ours still."""
        if self._token is not None:
            self._token.remove()
        self._remove_unix_socket()

    def _remove_unix_socket(self) -> None:
        if self._unix_path is None:
            return
        (path, inode), self._unix_path = self._unix_path, None
        with contextlib.suppress(OSError):
            if path.lstat().st_ino == inode:  # not one that a successor has bound meanwhile
                path.unlink()

    def health(self) -> Health:
        """Whether it serves; degraded where nobody can know the token."""
        return self._health


def _exchanges_of(runtime: Runtime) -> Exchanges:
    """What this process remembers, whichever server shows it."""
    if "admin.exchanges" not in runtime.services:
        runtime.services["admin.exchanges"] = Exchanges(runtime)
    found: Exchanges = runtime.services["admin.exchanges"]
    return found


def build(spec: AdminSpec, runtime: Runtime, operations: Operations, views: Views) -> AdminServer:
    """The admin server of a sidecar."""
    return AdminServer(spec, runtime, operations, views)
