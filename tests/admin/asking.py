"""A client that sends exactly the bytes it is told to: browsers' headers, attackers' headers, half a request."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Reply:
    """A response, its body whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON, which it has to claim to be."""
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of an error, which has its advice."""
        assert self.json["advice"], self
        return str(self.json["error"])


def request(method: str = "GET", path: str = "/healthz", *, body: bytes = b"", **headers: str) -> bytes:
    """A request; header names are written with underscores, and there is a Host unless one is given (`host=""` for none)."""
    fields = {"host": "localhost", **headers}
    if body:
        fields["content_length"] = str(len(body))
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body


class Asking:
    """One connection, over TCP to (host, port) or to the path of a Unix socket."""

    def __init__(self, where: tuple[str, int] | str) -> None:
        self._where = where

    async def __aenter__(self) -> "Asking":
        open_it = (
            asyncio.open_unix_connection(self._where) if isinstance(self._where, str) else asyncio.open_connection(*self._where)
        )
        self.reader, self.writer = await open_it
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    async def ask(self, sent: bytes) -> Reply:
        """Send, and read one response."""
        self.writer.write(sent)
        async with asyncio.timeout(PATIENCE_S):
            return await self.reply(to_head=sent.startswith(b"HEAD"))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of a response."""
        status_line, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines]
        return int(status_line.split()[1]), {name.lower(): value for name, value in pairs}

    async def reply(self, *, to_head: bool = False) -> Reply:
        """Read a response to its end."""
        status, headers = await self.head()
        if to_head:
            return Reply(status, headers, b"")
        if "content-length" in headers:
            return Reply(status, headers, await self.reader.readexactly(int(headers["content-length"])))
        body = b""
        while chunk := await self.chunk():
            body += chunk
        return Reply(status, headers, body)

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body, b"" at its end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def ended(self) -> bool:
        """Whether the server closes the connection within our patience."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.reader.read() == b""
        except ConnectionError:
            return True


async def ask(where: tuple[str, int] | str, sent: bytes | None = None) -> Reply:
    """One request on a connection of its own."""
    async with Asking(where) as asking:
        return await asking.ask(sent or request())
