"""
A client that makes calls of every kind, one after the other, some of which it gives up; each has a number of its own.

The number is the call's task id, so that the sidecar's facts can be held against the plan. Whatever the upstream does, a call has to
come to an end within `PATIENCE_S`: an answer, an error that says so, or a connection that is cut.
"""

import asyncio
import random
from collections import Counter

SHARES = {"post": 40, "get": 15, "forward": 12, "upload": 8, "head": 5, "unknown": 5, "gone": 10, "tunnel": 5}
"""Kinds of calls, and how often in a hundred."""

PATIENCE_S = 20.0


class Caller:
    """`port` is the sidecar's, `upstream` the upstream's; `outcomes` counts by kind and outcome."""

    def __init__(self, port: int, upstream: int, seed: int) -> None:
        self._port = port
        self._upstream = upstream
        self._rng = random.Random(seed)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.outcomes: Counter[tuple[str, str]] = Counter()

    async def call(self, number: int) -> None:
        """Make the call of this number, and wait for its end."""
        kind = self._rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
        try:
            async with asyncio.timeout(PATIENCE_S):
                outcome = await self._call(kind, number)
        except TimeoutError:
            raise AssertionError(f"call {number} ({kind}) did not end within {PATIENCE_S} s") from None
        self.outcomes[kind, outcome] += 1

    async def hang_up(self) -> None:
        """Close the connection, if there is one."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass

    async def _call(self, kind: str, number: int) -> str:
        if kind in ("gone", "tunnel", "upload"):  # nothing of an earlier call may still be on its way when these end
            await self.hang_up()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        assert self._reader is not None
        self._writer.write(self._request(kind, number))
        if kind == "upload":
            await self._upload(self._writer)
        if kind == "gone":
            await self._stay_a_while(self._reader)
            await self.hang_up()
            return "left"
        try:
            outcome, is_reusable = await self._answer(self._reader, to_head=kind == "head")
            if kind == "tunnel" and outcome == "200":
                self._writer.write(b"GET /base/through HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                outcome = f"through {(await self._answer(self._reader))[0]}"
                is_reusable = False
        except (asyncio.IncompleteReadError, ConnectionError):
            outcome, is_reusable = "cut", False
        except ValueError:
            assert kind == "tunnel", "the sidecar let pass what is no HTTP"
            outcome, is_reusable = "through garbage", False
        if not is_reusable:
            await self.hang_up()
        return outcome

    def _request(self, kind: str, number: int) -> bytes:
        target = {
            "forward": b"http://127.0.0.1:%d/base/x?number=%d" % (self._upstream, number),
            "tunnel": b"127.0.0.1:%d" % self._upstream,
            "unknown": b"/nowhere/%d" % number,
        }.get(kind, b"/llm/x?number=%d" % number)
        method = {"post": b"POST", "upload": b"PUT", "head": b"HEAD", "tunnel": b"CONNECT"}.get(kind, b"GET")
        host = target if kind == "tunnel" else b"127.0.0.1:%d" % (self._upstream if kind == "forward" else self._port)
        body = b"q" * self._rng.randrange(3000) if kind == "post" else b""
        framing = {"post": b"Content-Length: %d\r\n" % len(body), "upload": b"Transfer-Encoding: chunked\r\n"}.get(kind, b"")
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\nx-agent-task-id: %d\r\n%b\r\n" % (method, target, host, number, framing)
        return head + body

    async def _upload(self, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(self._rng.randrange(1, 6)):
                size = self._rng.randrange(1, 2000)
                writer.write(b"%x\r\n%b\r\n" % (size, b"u" * size))
                await asyncio.sleep(self._rng.choice((0, 0, 0.002)))
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except ConnectionError:  # an upstream may have answered, and the sidecar closed, before the end
            pass

    async def _stay_a_while(self, reader: asyncio.StreamReader) -> None:
        """Leave before the answer, or in the middle of it."""
        if self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.uniform(0, 0.005))
            return
        try:
            await reader.read(100)
        except ConnectionError:
            pass

    async def _answer(self, reader: asyncio.StreamReader, *, to_head: bool = False) -> tuple[str, bool]:
        """Read a response to its end; its status (with the sidecar's own error), and whether the connection may go on."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:] if line)
        status = lines[0].split(b" ")[1].decode()
        outcome = f"{status} {fields[b'x-sidecar-error'].decode()}" if b"x-sidecar-error" in fields else status
        closes = fields.get(b"connection") == b"close"
        if to_head:
            return outcome, not closes
        if b"content-length" in fields:
            await reader.readexactly(int(fields[b"content-length"]))
        elif fields.get(b"transfer-encoding") == b"chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        elif status == "200" and not closes:
            return outcome, True  # a tunnel has no body
        else:
            await reader.read(-1)
            closes = True
        return outcome, not closes
