"""
The admin API on aiohttp: requests become `Call`s, `Answer`s become responses.

Importing this file imports aiohttp (15 MiB, 0.1 s), which is why only a server that starts does so, after the proxy listens. Of
aiohttp it takes the low-level server and nothing of its applications.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any, cast

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from sidecar.admin.api import MOST_BODY_BYTES, Api
from sidecar.admin.messages import Answer, Call
from sidecar.admin.refusals import AdminRefused

MOST_CONNECTIONS = 64
IDLE_S = 15.0
"""How long a connection may take to send the head of a request, the first one or the next."""

BODY_S = 5.0
LINGER_S = 1.0
"""How long the rest of a refused body is read, so that the client gets to read why."""

WRITE_S = 10.0
"""How long a client may take to accept the bytes of one write."""

_PIECE_BYTES = 64 * 1024
_SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "sidecar",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_log = logging.getLogger("sidecar.admin")


class HttpServer(Server):
    """A factory of connections to the API, as `loop.create_server` wants it; `most` is how many there may be at once."""

    def __init__(self, api: Api, *, most: int = MOST_CONNECTIONS, idle_s: float = IDLE_S, write_s: float = WRITE_S) -> None:
        super().__init__(self._respond, handler_cancellation=True)
        self._api = api
        self._most = most
        self._idle_s = idle_s
        self._write_s = write_s

    def __call__(self) -> Any:
        """Make the protocol of a new connection; beyond `most`, one that only says so."""
        if len(self.connections) >= self._most:
            return _Full()
        loop = asyncio.get_running_loop()
        return _Connection(
            self,
            loop=loop,
            keepalive_timeout=self._idle_s,
            lingering_time=LINGER_S,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for no log
            auto_decompress=False,
        )

    async def stop(self, most_s: float) -> None:
        """Let requests that are being answered go on for `most_s`, then cut all connections."""
        transports = [connection.transport for connection in self.connections]
        self.pre_shutdown()
        await self.shutdown(most_s)
        for transport in transports:
            if transport is not None:
                transport.abort()  # a client that does not read would keep it, and the listener's wait_closed, for ever

    async def _respond(self, request: BaseRequest) -> StreamResponse:
        try:
            call = await _call(request)
        except AdminRefused as refused:
            response = await self._send(request, refused.answer())
            response.force_close()  # the rest of the body is still on its way
            return response
        return await self._send(request, await self._api.answer(call))

    async def _send(self, request: BaseRequest, answer: Answer) -> StreamResponse:
        headers = {**_SAFE, "Content-Type": answer.content_type, **answer.headers}
        if answer.pieces is None and answer.events is None:
            return Response(status=answer.status, body=answer.body, headers=headers)
        if request.method == "HEAD":
            return Response(status=answer.status, headers=headers)
        response = StreamResponse(status=answer.status, headers=headers)
        try:
            await self._stream(request, response, answer)
        except TimeoutError:  # a client that does not read: what is in its buffers is not worth waiting for
            self._api.slow_clients.value += 1
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _stream(self, request: BaseRequest, response: StreamResponse, answer: Answer) -> None:
        await response.prepare(request)
        if answer.pieces is not None:
            for piece in _gathered(answer.pieces):
                await self._write(response, piece)
                await asyncio.sleep(0)  # the proxy's turn
        if answer.events is not None:
            response.force_close()
            async with aclosing(answer.events) as events:  # type: ignore[type-var]  # always a generator
                async for event in events:
                    await self._write(response, event)

    async def _write(self, response: StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(self._write_s):
            await response.write(data)


class _Connection(RequestHandler):
    """aiohttp's connection, with errors in our own form."""

    __slots__ = ()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """What aiohttp answers by itself: a request that cannot be parsed, or an error in this file."""
        if status >= 500:
            _log.error("the admin server failed", exc_info=exc)
        code, detail = ("failed", "an error that nobody thought of") if status >= 500 else ("bad_request", "this is not HTTP/1.1")
        answer = AdminRefused(code, detail).answer()
        response = Response(status=answer.status, body=answer.body, headers={**_SAFE, "Content-Type": answer.content_type})
        response.force_close()
        return response


class _Full(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.WriteTransport, transport)  # not asked of it: uvloop's is none by its class
        body = AdminRefused("too_many_connections", "try again later").answer().body
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        transport.close()


async def _call(request: BaseRequest) -> Call:
    sock = request.transport.get_extra_info("socket") if request.transport else None
    over_unix = sock is not None and sock.family == socket.AF_UNIX
    sockname = request.transport.get_extra_info("sockname") if request.transport else None
    return Call(
        method=request.method,
        target=request.raw_path,
        headers=tuple((name.lower(), value) for name, value in request.headers.items()),
        local="" if over_unix else str(sockname[0]) if sockname else "unknown",
        caller=_peer(sock) if over_unix else f"token from {request.remote}",
        body=await _body(request),
    )


async def _body(request: BaseRequest) -> bytes:
    if request.content_length is not None and request.content_length > MOST_BODY_BYTES:
        raise AdminRefused("body_bytes", f"a body has at most {MOST_BODY_BYTES} bytes")
    if not request.can_read_body:
        return b""
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            if request.headers.get("Expect", "").lower() == "100-continue":
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > MOST_BODY_BYTES:
                    raise AdminRefused("body_bytes", f"a body has at most {MOST_BODY_BYTES} bytes")
    except TimeoutError as error:
        raise AdminRefused("body_timeout", f"the body was not there after {BODY_S:g} s") from error
    return body


def _peer(sock: Any) -> str:
    """Who is at the other end of a Unix socket (SO_PEERCRED of unix(7)), where the system says it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return f"unix socket, uid {os.getuid()}"
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return f"unix socket, uid {uid}, pid {pid}"


def _gathered(pieces: Iterator[str]) -> Iterator[bytes]:
    """Small pieces as bytes of about one write."""
    gathered: list[str] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= _PIECE_BYTES:
            yield "".join(gathered).encode()
            gathered, size = [], 0
    yield "".join(gathered).encode()
