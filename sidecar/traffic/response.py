"""
What a filter gets and gives: a response whose body is pushed, not iterated.

    async def shout(exchange, forward):
        response = await forward(exchange)
        response.through(Upper())          # a stage: data(chunk) -> bytes, end(outcome) -> bytes
        return response
"""

from typing import TYPE_CHECKING, Protocol

from sidecar.traffic.wire.head import CHUNKED, ResponseHead

if TYPE_CHECKING:
    from sidecar.traffic.wire.reception import Reception


class BodyStage(Protocol):
    """Stands between upstream and client; what it returns goes on in place of what it got."""

    def data(self, chunk: bytes) -> bytes:
        """Pass content on, changed or not; b"" holds it back (within a bound that the stage states)."""
        ...

    def end(self, error: str) -> bytes:
        """Give the last bytes, after the last content; `error` is "" after a whole body, else why it was cut."""
        ...


class Response:
    """
    A response on its way to the agent.

    `fields` are its header lines (`b"Name: value"`), for a filter to read and change; `content` is the whole body of a
    response that a filter makes itself, and b"" for one that comes from an upstream.
    """

    __slots__ = ("content", "fields", "reception", "stages", "status", "status_line")

    def __init__(self, status: int, reason: str = "", fields: list[bytes] | None = None, content: bytes = b"") -> None:
        self.status = status
        self.status_line = f"{status} {reason}".encode()
        self.fields = fields if fields is not None else []
        self.content = content
        self.stages: tuple[BodyStage, ...] = ()
        self.reception: Reception | None = None

    @classmethod
    def received(cls, head: ResponseHead, reception: "Reception") -> "Response":
        """Wrap an upstream's response head; its body waits in `reception` until the response is delivered or dropped."""
        response = cls(head.status)
        response.status_line = head.status_line
        response.fields = head.lines[1:]
        response.reception = reception
        return response

    def through(self, stage: BodyStage) -> None:
        """Put a stage behind those that are there already, nearer to the client."""
        self.stages += (stage,)

    def drop(self) -> None:
        """Give the response up unread, before another attempt is made; harmless when called twice."""
        if self.reception is not None:
            self.reception.drop()


def made_head(response: Response) -> ResponseHead:
    """The head of a response as the wire writes it; with stages the length is not known any more."""
    head = ResponseHead()
    head.status = response.status
    head.status_line = response.status_line
    head.is_1_1 = head.keep_alive = True
    head.lines = [b"", *response.fields]
    head.has_date = any(line[:5].lower() == b"date:" for line in response.fields)
    head.length = head.declared = CHUNKED
    return head
