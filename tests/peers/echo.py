"""
An upstream that answers every request with exactly the bytes that it received.

The answer is JSON: `head` and `body` (as latin-1 text, raw, with chunk framing where there was any), `connection` (its number).
"""

import json

from tests.peers.raw import RawUpstream
from tests.peers.wire import Ended, Message, Wire


class EchoUpstream(RawUpstream):
    """Keeps the connections alive; `seen` holds every request in the order in which they were complete."""

    def __init__(self, *, host: str = "127.0.0.1", **options: object) -> None:
        super().__init__(self._echo, host=host, **options)
        self.seen: list[Message] = []

    async def _echo(self, connection: Wire) -> None:
        number = len(self.connections)
        connection.patience_s = 60.0
        while True:
            try:
                request = await connection.request()
            except Ended:
                return
            self.seen.append(request)
            report = {"head": request.head.decode("latin-1"), "body": request.raw_body.decode("latin-1"), "connection": number}
            body = json.dumps(report).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            await connection.sends(head + (b"" if request.start_line.startswith(b"HEAD ") else body))
