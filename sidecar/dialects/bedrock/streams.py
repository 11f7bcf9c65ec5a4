"""What all of Bedrock's streams have in common: frames, exceptions in the middle, and how far an answer has come."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.eventstream import Frames, Headers, frame
from sidecar.dialects.lenient import Lenient
from sidecar.model.answered import ModelAnswered

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_MOST_NAME = 256
_MOST_MESSAGE = 512


@dataclass(slots=True)
class BedrockAnswered(ModelAnswered):
    """
    What Bedrock answered, and where its stream stands.

    `is_between`: the last byte seen was the last of a frame. `is_started` and `is_stopped`: the message has begun, has ended;
    `open_block` is the content block that is being written, -1 for none. `inner` is the same answer where the vendor's own
    dialect reads it (`invoke`).
    """

    is_between: bool = True
    is_started: bool = False
    is_stopped: bool = False
    open_block: int = -1
    inner: ModelAnswered | None = None


class Failed(msgspec.Struct, gc=False):
    """The body of an error, and of an exception's frame."""

    message: str = ""
    upper: str = msgspec.field(name="Message", default="")
    kind: str = msgspec.field(name="__type", default="")


_failed = Lenient(Failed).decode


def tell_error(answered: ModelAnswered, kind: str, body: bytes) -> None:
    """Note an error: `kind` is its name where head or frame gave one, else the body's own counts; raises `Unreadable`."""
    answered.error_type = kind[:_MOST_NAME]
    failed = _failed(body)
    answered.error_type = (kind or failed.kind.rpartition("#")[2])[:_MOST_NAME]
    answered.error_message = (failed.message or failed.upper)[:_MOST_MESSAGE]


class FrameReader:
    """
    Reads a stream of frames; `event` is told each event (its name, its payload) and may raise `Unreadable`.

    A checksum that does not fit, or an event that is no JSON, makes the answer unreadable; of the former nothing more is read.
    """

    __slots__ = ("_event", "_frames", "answered")

    def __init__(self, answered: BedrockAnswered, event: Callable[[str, bytes], None]) -> None:
        self.answered = answered
        self._event = event
        self._frames = Frames()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        frames, answered = self._frames, self.answered
        for headers, payload in frames.feed(data):
            answered.events += 1
            try:
                kind = headers.get(":event-type")
                if kind is not None:
                    self._event(kind, payload)
                else:
                    self._fault(headers, payload)
            except Unreadable:
                answered.is_unreadable = True
        answered.is_between = frames.is_between
        if frames.is_broken:
            answered.is_unreadable = True

    def end(self) -> None:
        """The stream is over: whole if its message had been, even where nobody counted the tokens."""
        if self.answered.is_stopped and not self.answered.is_unreadable:
            self.answered.is_ended = True

    def _fault(self, headers: Headers, payload: bytes) -> None:
        kind = headers.get(":exception-type")
        if kind is not None:
            self.answered.is_ended = True
            tell_error(self.answered, kind, payload)
        elif headers.get(":message-type") == "error":
            self.answered.is_ended = True
            self.answered.error_type = headers.get(":error-code", "")[:_MOST_NAME]
            self.answered.error_message = headers.get(":error-message", "")[:_MOST_MESSAGE]


def event(kind: str, payload: bytes) -> bytes:
    """Write the frame of an event as Bedrock does."""
    return frame({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, payload)
