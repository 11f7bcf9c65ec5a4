"""WebSocket (RFC 6455) by hand: enough of both sides to see frames cross a proxy unchanged."""

import base64
import hashlib
import os

from tests.peers.raw import RawUpstream
from tests.peers.wire import Ended, Message, Wire

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def accept_of(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


async def sends_frame(wire: Wire, opcode: int, payload: bytes, *, masked: bool) -> None:
    """Send one final frame; a client has to mask."""
    length = len(payload)
    flag = 0x80 if masked else 0
    if length < 126:
        head = bytes((0x80 | opcode, flag | length))
    elif length < 65_536:
        head = bytes((0x80 | opcode, flag | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, flag | 127)) + length.to_bytes(8, "big")
    if masked:
        mask = os.urandom(4)
        head += mask
        payload = _masked(payload, mask)
    await wire.sends(head + payload)


async def reads_frame(wire: Wire) -> tuple[int, bytes]:
    """Read one final frame: opcode and unmasked payload."""
    first, second = await wire.reads(2)
    length = second & 0x7F
    if length == 126:
        length = int.from_bytes(await wire.reads(2), "big")
    elif length == 127:
        length = int.from_bytes(await wire.reads(8), "big")
    mask = await wire.reads(4) if second & 0x80 else b""
    payload = await wire.reads(length)
    return first & 0x0F, _masked(payload, mask) if mask else payload


def _masked(payload: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")


class WebSocketUpstream(RawUpstream):
    """Accepts every handshake and sends each frame back; `handshakes` keeps the requests."""

    def __init__(self) -> None:
        super().__init__(self._talk)
        self.handshakes: list[Message] = []

    async def _talk(self, connection: Wire) -> None:
        connection.patience_s = 60.0
        try:
            request = await connection.request()
            self.handshakes.append(request)
            await connection.sends(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %s\r\nX-Kept: yes\r\n\r\n" % accept_of(request.one(b"sec-websocket-key"))
            )
            while True:
                opcode, payload = await reads_frame(connection)
                await sends_frame(connection, PONG if opcode == PING else opcode, payload, masked=False)
                if opcode == CLOSE:
                    return
        except Ended:
            return
