"""
One end of a connection, spoken by hand: what a test sends is what goes out, what comes in is kept to the byte.

A test reads as the conversation:

    await client.sends(b"GET /llm/ HTTP/1.1\r\nHost: a\r\n\r\n")
    await upstream.saw(b"GET /base/ HTTP/1.1\r\n")
    await upstream.resets()

No transport lies between the test and the socket, so nothing is buffered, delayed or closed behind its back. Every wait
ends after `patience_s` with what was seen until then.
"""

import asyncio
import errno
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field

PATIENCE_S = 8.0
"""How long a conversation waits for anything: far above what any answer takes, so that only a real hang meets it."""


class Ended(Exception):
    """The other side ended the connection before what was waited for had come; `seen` is what came instead."""

    def __init__(self, wanted: str, seen: bytes, *, reset: bool) -> None:
        super().__init__(f"{'reset' if reset else 'end'} of the connection instead of {wanted}; seen: {seen[-2000:]!r}")
        self.seen = seen
        self.reset = reset


@dataclass(slots=True)
class Message:
    """A request or response as it stood on the wire: `head` with its blank line, `fields` in order, `body` without chunks."""

    head: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    raw_body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def start_line(self) -> bytes:
        """The request line or status line without its line end."""
        return self.head.split(b"\r\n", 1)[0]

    @property
    def status(self) -> int:
        """The status code of a response."""
        return int(self.start_line.split(b" ")[1])

    @property
    def target(self) -> bytes:
        """The request target, byte for byte."""
        return self.start_line.split(b" ")[1]

    def all(self, name: bytes) -> list[bytes]:
        """Every value of this field name (any case), in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name: bytes) -> bytes:
        """The value of a field that has to be there exactly once."""
        values = self.all(name)
        assert len(values) == 1, f"{name!r} {len(values)} times in {self.head!r}"
        return values[0]

    def has(self, name: bytes) -> bool:
        """Whether a field of this name is there at all."""
        return bool(self.all(name))


class Wire:
    """A connected TCP socket with patience; `received` keeps every byte that came, `unread` what no one has asked for yet."""

    def __init__(self, sock: socket.socket, name: str, *, patience_s: float = PATIENCE_S) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.name = name
        self.patience_s = patience_s
        self.received = bytearray()
        self.unread = bytearray()
        self.ended_at: float | None = None
        self.was_reset = False
        self._closed = False

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def sends(self, *pieces: bytes) -> None:
        """Write each piece with a write of its own; the other side may see them joined."""
        for piece in pieces:
            await self._patiently(self._write(piece), f"room to send {len(piece)} bytes")

    async def sends_one_by_one(self, data: bytes, *, size: int = 1) -> None:
        """Write `size` bytes at a time and let the loop turn in between, so that each piece is a read of its own."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            await self._patiently(self._write(data[start : start + size]), "room to send")
            for _ in range(3):
                await asyncio.sleep(0)

    async def sends_if_open(self, data: bytes) -> bool:
        """Write, and say whether the connection took it."""
        try:
            await self.sends(data)
        except OSError:
            return False
        return True

    async def half_closes(self) -> None:
        """Send FIN and keep reading; nothing is left to be done where the other side has hung up already."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    async def resets(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    async def closes(self) -> None:
        """Close both directions: FIN, and RST to whatever still comes."""
        self.close()

    def close(self) -> None:
        """Close the socket; harmless when called twice."""
        if not self._closed:
            self._closed = True
            self.sock.close()

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def saw(self, expected: bytes) -> None:
        """Read exactly as many bytes as `expected` has and hold them against it."""
        got = await self.reads(len(expected), wanted=repr(expected))
        assert got == expected, f"{self.name} saw {got!r}, not {expected!r}"

    async def reads(self, size: int, *, wanted: str = "") -> bytes:
        """Read exactly `size` bytes."""
        await self._until(lambda: len(self.unread) >= size, wanted or f"{size} bytes")
        return self._take(size)

    async def reads_until(self, marker: bytes) -> bytes:
        """Read up to and with the first `marker`."""
        await self._until(lambda: marker in self.unread, repr(marker))
        return self._take(self.unread.index(marker) + len(marker))

    async def reads_some(self) -> bytes:
        """Read whatever comes next, at least one byte."""
        await self._until(lambda: len(self.unread) > 0, "anything")
        return self._take(len(self.unread))

    async def reads_to_end(self) -> bytes:
        """Read until the other side ends the connection, cleanly or not (`was_reset` tells)."""
        try:
            await self._until(lambda: False, "the end")
        except Ended:
            pass
        return self._take(len(self.unread))

    def has_bytes(self) -> bool:
        """Whether something is there to be read now; not the end of the connection, and nothing of one that was read to its end."""
        if self._closed or self.ended_at is not None:
            return False
        if self.unread:
            return True
        try:
            return self.sock.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    async def saw_end(self) -> None:
        """The connection ends now (FIN or RST), and nothing more came before that."""
        rest = await self.reads_to_end()
        assert rest == b"", f"{self.name} saw {rest!r} before the end"

    async def saw_clean_end(self) -> None:
        """The connection ends with FIN, and nothing more came before that."""
        await self.saw_end()
        assert not self.was_reset, f"{self.name} saw a reset instead of a clean end"

    async def saw_reset(self) -> bytes:
        """The connection ends with RST; returns what came before."""
        rest = await self.reads_to_end()
        assert self.was_reset, f"{self.name} saw a clean end after {rest[-300:]!r}, not a reset"
        return rest

    async def saw_nothing(self, *, for_s: float = 0.08) -> None:
        """Nothing comes, and the connection stays open, for a while."""
        try:
            async with asyncio.timeout(for_s):
                while not self.unread:
                    if not await self._more():
                        raise AssertionError(f"{self.name} saw the end of the connection, where it should have stayed open")
        except TimeoutError:
            return
        raise AssertionError(f"{self.name} saw {bytes(self.unread[:2000])!r}, where nothing should have come")

    # ── whole messages ───────────────────────────────────────────────────────────────────────────────────────────

    async def head(self) -> Message:
        """Read one message head."""
        raw = await self.reads_until(b"\r\n\r\n")
        return Message(raw, fields_of(raw))

    async def request(self) -> Message:
        """Read one request with its body."""
        message = await self.head()
        if message.has(b"transfer-encoding"):
            await self.chunked_into(message)
        elif message.has(b"content-length"):
            message.body = message.raw_body = await self.reads(int(message.one(b"content-length")))
        return message

    async def response(self, *, to: bytes = b"GET") -> Message:
        """Read one response with its body; interim (1xx) responses are messages of their own."""
        message = await self.head()
        status = message.status
        if to == b"HEAD" or status < 200 or status in (204, 304):
            return message
        if message.has(b"transfer-encoding"):
            await self.chunked_into(message)
        elif message.has(b"content-length"):
            message.body = message.raw_body = await self.reads(int(message.one(b"content-length")))
        else:
            message.body = message.raw_body = await self.reads_to_end()
            if self.was_reset:
                raise Ended("the clean end of a close-delimited body", message.body, reset=True)
        return message

    async def chunked_into(self, message: Message) -> None:
        """Read a chunked body with its trailers; sizes have to be plain hex, or the sender broke RFC 9112 section 7.1."""
        assert message.one(b"transfer-encoding").lower() == b"chunked", message.head
        assert not message.has(b"content-length"), f"both framings in {message.head!r}"
        raw, body = bytearray(), bytearray()
        while True:
            line = await self.reads_until(b"\r\n")
            size = int(line[:-2].split(b";")[0], 16)
            raw += line
            if size == 0:
                break
            data = await self.reads(size + 2)
            assert data.endswith(b"\r\n"), data[-20:]
            raw += data
            body += data[:-2]
        while (line := await self.reads_until(b"\r\n")) != b"\r\n":
            raw += line
            message.trailers.append(_field(line[:-2]))
        message.body, message.raw_body = bytes(body), bytes(raw + b"\r\n")

    # ── the socket ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, 262_144)

    async def _write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def _more(self) -> bool:
        """Wait for bytes or the end; False at the end."""
        if self.ended_at is not None:
            return False
        try:
            data = await self._read()
        except (ConnectionError, ssl.SSLError) as error:
            self.was_reset = not isinstance(error, ssl.SSLEOFError)
            data = b""
        if not data:
            self.ended_at = time.monotonic()
            return False
        self.received += data
        self.unread += data
        return True

    async def _until(self, enough, wanted: str) -> None:
        async def read() -> None:
            while not enough():
                if not await self._more():
                    raise Ended(f"{wanted} at the {self.name}", bytes(self.unread), reset=self.was_reset)

        await self._patiently(read(), wanted)

    async def _patiently(self, doing, wanted: str) -> None:
        try:
            async with asyncio.timeout(self.patience_s):
                await doing
        except TimeoutError:
            seen = bytes(self.unread[-2000:])
            raise AssertionError(f"{self.name} waited {self.patience_s} s for {wanted}; unread: {seen!r}") from None

    def _take(self, size: int) -> bytes:
        taken = bytes(self.unread[:size])
        del self.unread[:size]
        return taken


class TlsWire(Wire):
    """The same conversation inside TLS, by memory BIOs, so that the socket below is still ours alone."""

    def __init__(
        self, sock: socket.socket, name: str, tls: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
    ) -> None:
        super().__init__(sock, name)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=server_name)

    async def shakes_hands(self) -> None:
        """Do the handshake; an `ssl.SSLError` says why it failed."""
        await self._patiently(self._while_it_wants(self.tls.do_handshake), "the TLS handshake")

    def has_bytes(self) -> bool:
        """As in `Wire`; records that have come but were not opened yet count."""
        return self._in.pending > 0 or self.tls.pending() > 0 or super().has_bytes()

    async def closes(self) -> None:
        """Send close_notify, then close."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:  # the peer has not answered it yet, and need not
            pass
        await self._flush()
        self.close()

    async def _read(self) -> bytes:
        result = await self._while_it_wants(lambda: self.tls.read(65_536))
        return result or b""

    async def _write(self, data: bytes) -> None:
        await self._while_it_wants(lambda: self.tls.write(data))

    async def _flush(self) -> None:
        if pending := self._out.read():
            await asyncio.get_running_loop().sock_sendall(self.sock, pending)

    async def _while_it_wants(self, step):
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError:
                await self._flush_quietly()
                raise
            else:
                await self._flush()
                return result

    async def _flush_quietly(self) -> None:
        try:
            await self._flush()
        except OSError:
            return


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """Names as they stand, values without the optional whitespace around them (RFC 9112 section 5)."""
    return [_field(line) for line in head.split(b"\r\n")[1:] if line]


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    assert colon, f"not a field line: {line!r}"
    return name, value.strip(b" \t")


async def dials(
    host: str, port: int, name: str = "client", *, receive_buffer: int | None = None, source: str | None = None
) -> Wire:
    """Connect; `receive_buffer` sets SO_RCVBUF before the handshake, so that the window is small from the start."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if source is not None:
        sock.bind((source, 0))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return Wire(sock, name)
