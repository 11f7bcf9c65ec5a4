"""
A scene: a client on one side, the sidecar in the middle, an upstream on the other, and a request in either mode.

Whatever the mode, `/x` of the scene is `/base/x` at the upstream: as a gateway call it is `/llm/x`, as a forward-proxied
one `http://127.0.0.1:PORT/base/x`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.peers.raw import RawUpstream
from tests.peers.wire import Message, Wire
from tests.sidecar_under_test import SidecarUnderTest, config_for

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GATEWAY, FORWARD = "gateway", "forward"


class Scene:
    """The players; `client` is the first client, further ones come from `sidecar.connects()`."""

    def __init__(self, mode: str, sidecar: SidecarUnderTest, upstream: Any, client: Wire) -> None:
        self.mode = mode
        self.sidecar = sidecar
        self.upstream = upstream
        self.client = client

    def target(self, path: bytes) -> bytes:
        """The request target for `path` in this mode."""
        if self.mode == GATEWAY:
            return b"/llm" + path
        return self.upstream.url.encode() + b"/base" + path

    @property
    def host(self) -> bytes:
        """What a client would send as Host in this mode."""
        return b"127.0.0.1:%d" % self.sidecar.port if self.mode == GATEWAY else self.upstream.authority.encode()

    def request(
        self, method: bytes = b"GET", path: bytes = b"/x", *fields: bytes, body: bytes | None = None, version: bytes = b"HTTP/1.1"
    ) -> bytes:
        """A request: Host first, then `fields` as they stand; a `body` also brings its Content-Length."""
        lines = [b"%s %s %s" % (method, self.target(path), version), b"Host: " + self.host, *fields]
        if body is not None:
            lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")

    async def passes(self, request: bytes, *, answer: bytes = OK) -> Message:
        """Send it, let the upstream answer, hold the answer against what the client gets; returns what the upstream saw."""
        await self.client.sends(request)
        seen = await self.asks(answer)
        method = request.split(b" ", 1)[0]
        response = await self.client.response(to=method)
        assert response.status == 200, response.head
        assert method == b"HEAD" or response.body == b"ok"
        return seen

    async def asks(self, answer: bytes = OK) -> Message:
        """The upstream hears one whole request and answers it; returns the request."""
        connection: Wire = await self.upstream.hears()
        seen = await connection.request()
        await connection.sends(answer)
        return seen

    async def answered(self, answer: bytes, *pieces: bytes, to: bytes = b"GET") -> Message:
        """Send a plain request, let the upstream answer with these bytes; returns the response that the client got."""
        await self.client.sends(self.request(to))
        connection: Wire = await self.upstream.hears()
        await connection.request()
        await connection.sends(answer, *pieces)
        return await self.client.response(to=to)

    async def still_works(self) -> None:
        """A fresh client is served: whatever happened before has broken nothing."""
        self.client = await self.sidecar.connects("next client")
        assert (await self.passes(self.request())).target == b"/base/x"


Stage = Callable[..., Awaitable[Scene]]
Opened = Callable[[Any], Awaitable[Any]]


def stage_on(opened: Opened, default_mode: str) -> Stage:
    """
    A function that sets a scene: `mode`, `peer` (a RawUpstream unless given, or one that is already open), and the
    settings of `config_for`.
    """

    async def stage(
        *,
        mode: str = default_mode,
        peer: Any = None,
        is_open: bool = False,
        base: str | None = None,
        environ: dict[str, str] | None = None,
        **settings: Any,
    ) -> Scene:
        upstream = peer if peer is not None else RawUpstream()
        if not is_open:
            await opened(upstream)
        sidecar = await opened(SidecarUnderTest(config_for(base or upstream.url, **settings), environ=environ))
        return Scene(mode, sidecar, upstream, await sidecar.connects())

    return stage
