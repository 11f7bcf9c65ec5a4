"""
What a filter gets and gives: a response whose body is pushed, not iterated.

    async def shout(exchange, forward):
        response = await forward(exchange)
        response.through(Upper())          # a stage: data(chunk) -> bytes, end(error) -> bytes
        return response

A stage may give more or fewer bytes than it gets: a response that has one goes on in chunks (to an HTTP/1.0 client: until the
connection ends) and without the upstream's Content-Length. What is not about the framing is the filter's to mend, as in
Content-Encoding, Content-Range, ETag or Digest of a body that it changes. Where there is no body (`has_content` is False: HEAD,
204, 304, nothing) a stage hears its ending only, and must not give bytes.
"""

from typing import Protocol

from sidecar.model.errors import Refused
from sidecar.traffic.stages import BodyStage, Stages
from sidecar.traffic.wire.response_head import ResponseHead


class Source(Protocol):
    """Where the body of a received response waits."""

    def drop(self, response: "Response") -> None:
        """Nobody wants this response any more."""

    async def whole(self, most_bytes: int) -> bytes | None:
        """Wait for the whole body, and return it; None as soon as it has more bytes than that. Raises `Refused`."""
        ...


class Response:
    """
    A response on its way to the agent.

    `fields` are its header lines (`b"Name: value"`), for a filter to read and change; those that frame the message are the
    wire's, whatever stands there. `content` is the whole body of a response that a filter makes itself, and b"" for one
    that comes from an upstream (`head` is then what came).
    """

    __slots__ = ("_source", "content", "fields", "head", "stages", "status", "status_line")

    def __init__(self, status: int, reason: str = "", fields: list[bytes] | None = None, content: bytes = b"") -> None:
        self.status = status
        self.status_line = f"{status} {reason}".encode()
        self.fields = fields if fields is not None else []
        self.content = content
        self.stages = Stages()
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

    @property
    def has_content(self) -> bool:
        """False where no byte of a body will come, so that a stage would have nothing to look at."""
        return self.head.length != 0 if self.head is not None else bool(self.content)

    async def whole(self, most_bytes: int) -> bytes | None:
        """
        Wait for the whole body and return it, in the content coding that it has; None where it has more than `most_bytes`.

        It is still the response's: where that is returned, the body goes through its stages to the client. Raises `Refused`
        where the upstream fails meanwhile, and for a response that was dropped.
        """
        if self.head is None or not self.has_content:
            return self.content if len(self.content) <= most_bytes else None
        if self._source is None:
            raise Refused("given_up", "the response was dropped before")
        return await self._source.whole(most_bytes)

    def through(self, stage: BodyStage) -> None:
        """
        Put a stage behind those that are there already, nearer to the client.

        From the moment that the response is returned, whatever becomes of it, the stage hears its ending exactly once; on
        a response that is over already, at once. Raises RuntimeError for one that is on its way to the client.
        """
        self.stages.put(stage)

    def drop(self) -> None:
        """Give the response up unread, before another attempt is made; harmless when called twice."""
        source, self._source = self._source, None
        if source is not None:
            source.drop(self)
