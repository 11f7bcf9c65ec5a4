"""
A dialect for tests of the wire: it reads `{"say": TEXT, "stream": BOOL}` and answers that are made of letters.

`usage` in a body asks for usage, which is a `#` in the answer; `!` in an answer is an error. A body `"broken"` cannot be read.
"""

from collections.abc import Mapping

from sidecar.dialects.dialect import BodyEdit, Change, Clamp, Heading, IncludeUsage, Meta, Reader, Spoken, Unreadable
from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import Asked, McpAsked, ModelAsked
from sidecar.model.content import Content, Kind, Message, Part
from sidecar.model.errors import Refused

name = "parrot"
is_about_models = True


def operation(heading: Heading) -> str:
    return "say" if heading.path.endswith("/say") else "tools" if heading.path.endswith("/tool") else ""


def request(operation: str, heading: Heading, body: bytes) -> Asked:
    if b"broken" in body:
        raise Unreadable("it is broken")
    if operation == "tools":
        parent = body.partition(b"parent:")[2][:55]
        return McpAsked("mcp", "tools/call", id="1", target="t", traceparent=parent, is_standing=b"stands" in body)
    model = body.decode("latin-1")[:20]
    return ModelAsked("parrot", "chat", streams=b"stream" in body, provider="p", model=model, tells_usage=b"usage" in body)


class Ears:
    """Counts bytes; what it is fed after its end, or twice, would show."""

    def __init__(self) -> None:
        self.answered = ModelAnswered()
        self.heard = b""

    def feed(self, data: bytes) -> None:
        assert not self.answered.is_ended
        if b"?" in data:
            raise ValueError("a reader that fails")
        self.heard += data
        self.answered.content_bytes += len(data)
        self.answered.id = self.heard.decode("latin-1")
        if b"!" in data:
            self.answered.error_type = "squawk"

    def end(self) -> None:
        assert not self.answered.is_ended
        self.answered.is_ended = True


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    ears = Ears()
    ears.answered.model = f"{status} {content_type} {fields.get('x-parrot', '')}"
    return ears


def error(refused: Refused, asked: Asked | None) -> Spoken:
    return Spoken(refused.meaning.status, "text/parrot", f"squawk: {refused.code}".encode(), (("x-parrot", "polly"),))


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    return b""


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    if isinstance(change, Clamp):
        if change.max_tokens < 0:
            raise Unreadable("not that")
        if change.max_tokens == 7:
            return body  # it is so already
        return body + b" max=%d" % change.max_tokens
    if isinstance(change, Meta):
        return body + b" meta=" + change.traceparent
    return body + b" usage"


class TakesOut:
    def data(self, chunk: bytes) -> bytes:
        return chunk.replace(b"#", b"")

    def end(self, error: str) -> bytes:
        return b""


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    return TakesOut() if isinstance(change, IncludeUsage) else None


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    if b"mute" in request:
        raise ValueError("a dialect that fails")
    said, heard = request.decode("latin-1"), answer.decode("latin-1")
    return Content(
        input=[Message("user", [Part(Kind.TEXT, said)])], output=[Message("assistant", [Part(Kind.TEXT, heard)], content_type)]
    )
