"""
What a filter gets and gives: a response whose body is pushed, not iterated.

    async def shout(exchange, forward):
        response = await forward(exchange)
        response.through(Upper())          # a stage: data(chunk) -> bytes, end(error) -> bytes
        return response
"""

from typing import Protocol

from sidecar.traffic.wire.response_head import ResponseHead


class BodyStage(Protocol):
    """Stands between upstream and client; what it returns goes on in place of what it got."""

    def data(self, chunk: bytes) -> bytes:
        """Pass content on, changed or not; b"" holds it back (within a bound that the stage states)."""
        ...

    def end(self, error: str) -> bytes:
        """Give the last bytes, after the last content; `error` is "" after a whole body, else why it was cut."""
        ...


class Source(Protocol):
    """Where the body of a received response waits."""

    def drop(self, response: "Response") -> None:
        """Nobody wants this response any more."""


class Response:
    """
    A response on its way to the agent.

    `fields` are its header lines (`b"Name: value"`), for a filter to read and change; `content` is the whole body of a
    response that a filter makes itself, and b"" for one that comes from an upstream (`head` is then what came).
    """

    __slots__ = ("_source", "content", "fields", "head", "stages", "status", "status_line")

    def __init__(self, status: int, reason: str = "", fields: list[bytes] | None = None, content: bytes = b"") -> None:
        self.status = status
        self.status_line = f"{status} {reason}".encode()
        self.fields = fields if fields is not None else []
        self.content = content
        self.stages: tuple[BodyStage, ...] = ()
        self.head: ResponseHead | None = None
        self._source: Source | None = None

    @classmethod
    def received(cls, head: ResponseHead, source: Source) -> "Response":
        """Wrap an upstream's response head; its body waits in `source` until the response is delivered or dropped."""
        head.take_apart()
        response = cls(head.status)
        response.status_line = head.status_line
        response.fields = head.lines[1:]
        response.head = head
        response._source = source
        return response

    def through(self, stage: BodyStage) -> None:
        """Put a stage behind those that are there already, nearer to the client."""
        self.stages += (stage,)

    def drop(self) -> None:
        """Give the response up unread, before another attempt is made; harmless when called twice."""
        source, self._source = self._source, None
        if source is not None:
            source.drop(self)
