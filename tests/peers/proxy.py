"""
A corporate proxy, small and strict: CONNECT, plain calls in absolute-form, Basic credentials.

What a client gets wrong is an AssertionError that fails the test. It knows names that nobody else knows, refuses CONNECT to
ports that are not for TLS unless told otherwise (as Squid does out of the box), and keeps what it was asked.
"""

import asyncio
import base64

from tests.peers.raw import RawUpstream
from tests.peers.wire import Ended, Message, Wire, dials

_PATIENCE_S = 60.0
_MANNERS = b'Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm="corp"\r\n'


class CorporateProxy(RawUpstream):
    """
    Lets in whoever has `user` (`name:password`; "" lets in everybody); `asked` are the heads of requests as they came.

    `names` says which address a name has, in front of all others; `tunnels` are the ports to which CONNECT leads, None for any;
    `denied` are hosts for which it answers 403.
    """

    def __init__(
        self,
        user: str = "",
        *,
        names: dict[str, str] | None = None,
        tunnels: set[int] | None = None,
        denied: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(self._talks)
        self.asked: list[Message] = []
        self._wanted = b"Basic " + base64.b64encode(user.encode()) if user else b""
        self._names = names or {}
        self._tunnels = tunnels
        self._denied = denied

    @property
    def lines(self) -> list[bytes]:
        """The request lines, in order."""
        return [request.start_line for request in self.asked]

    async def _talks(self, near: Wire) -> None:
        near.patience_s = _PATIENCE_S
        while True:
            try:
                request = await near.head()
            except Ended:
                return
            self.asked.append(request)
            method, target, version = request.start_line.split(b" ")
            assert version == b"HTTP/1.1", request.head
            given = request.all(b"proxy-authorization")
            assert len(given) <= 1, request.head
            if self._wanted and given != [self._wanted]:
                await self._answers(near, b"407 Who Are You", _MANNERS, b"<h1>Who are you?</h1>" * 1000)
                return
            if method == b"CONNECT":
                await self._opens(near, request, target)
                return
            if not await self._forwards(near, request, method, target):
                return

    async def _answers(self, near: Wire, status: bytes, fields: bytes, page: bytes = b"") -> None:
        head = b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n" % (status, fields, len(page))
        if await near.sends_if_open(head + page):
            await near.reads_to_end()

    async def _far(self, near: Wire, request: Message, authority: bytes) -> Wire | None:
        """The connection to the destination; None where it was refused."""
        assert request.one(b"host") == authority, request.head
        host, colon, port = authority.decode().rpartition(":")
        if not colon:
            host, port = authority.decode(), "80"
        if host in self._denied:
            await self._answers(near, b"403 Forbidden", b"X-Squid-Error: ERR_ACCESS_DENIED 0\r\n", b"<h1>No.</h1>")
            return None
        if host not in self._names and not host.replace(".", "").isdigit():
            await self._answers(near, b"503 Service Unavailable", b"X-Squid-Error: ERR_DNS_FAIL 0\r\n")
            return None
        try:
            return await dials(self._names.get(host, host), int(port), "proxy's other end")
        except OSError:
            await self._answers(near, b"502 Bad Gateway", b"")
            return None

    async def _opens(self, near: Wire, request: Message, authority: bytes) -> None:
        assert b":" in authority, request.head
        if self._tunnels is not None and int(authority.rpartition(b":")[2]) not in self._tunnels:
            await self._answers(near, b"403 Forbidden", b"X-Squid-Error: ERR_ACCESS_DENIED 0\r\n")
            return
        far = await self._far(near, request, authority)
        if far is None:
            return
        far.patience_s = _PATIENCE_S
        try:
            await near.sends(b"HTTP/1.1 200 Connection established\r\nX-Corp: yes\r\n\r\n")
            async with asyncio.TaskGroup() as group:
                group.create_task(_copies(near, far))
                group.create_task(_copies(far, near))
        finally:
            far.close()

    async def _forwards(self, near: Wire, request: Message, method: bytes, target: bytes) -> bool:
        """One call in absolute-form; True where another may follow on this connection."""
        assert target.startswith(b"http://"), request.head
        authority, slash, path = target.removeprefix(b"http://").partition(b"/")
        assert authority and b"@" not in authority, request.head
        assert not request.has(b"connection") or request.has(b"upgrade"), request.head
        far = await self._far(near, request, authority)
        if far is None:
            return False
        far.patience_s = _PATIENCE_S
        try:
            asterisk = b"*" if method == b"OPTIONS" and not slash else b"/" + path
            fields = [name + b": " + value for name, value in request.fields if name.lower() != b"proxy-authorization"]
            await far.sends(b"\r\n".join([b"%b %b HTTP/1.1" % (method, asterisk), *fields, b"Via: 1.1 corp", b"", b""]))
            await _body(near, far, request)
            answer = await far.head()
            await near.sends(answer.head)
            if method == b"HEAD" or answer.status in (204, 304):
                return True
            return await _body(far, near, answer)
        finally:
            far.close()


async def _copies(source: Wire, sink: Wire) -> None:
    """Bytes as they come, until one side has none any more; then the other is told."""
    try:
        while True:
            await sink.sends(await source.reads_some())
    except (Ended, OSError):
        await sink.half_closes()


async def _body(source: Wire, sink: Wire, message: Message) -> bool:
    """A body in its own framing, as it comes; False where only the end of the connection ends it."""
    if message.has(b"transfer-encoding"):
        while True:
            line = await source.reads_until(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            await sink.sends(line + await source.reads(size + 2))
            if not size:
                return True
    if message.has(b"content-length") or not message.head.startswith(b"HTTP/"):
        left = int(message.one(b"content-length")) if message.has(b"content-length") else 0
        while left:
            piece = await source.reads(min(left, max(1, len(source.unread))))
            await sink.sends(piece)
            left -= len(piece)
        return True
    try:
        while True:
            await sink.sends(await source.reads_some())
    except Ended:
        return False
