"""What is understood of a call's messages: those of A2A by their dialect, all others by their number, size and status."""

from typing import Protocol

from sidecar.dialects import a2a_grpc
from sidecar.dialects.dialect import Heading, Unreadable
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked

NAME = "grpc"
"""The dialect of calls whose messages nobody reads: `operation` is then `package.Service/Method`."""

_MOST_OPERATION = 256
_MOST_MESSAGE = 512


class Reader(Protocol):
    """Reads the messages of a response, and how it ended."""

    @property
    def answered(self) -> Answered: ...

    def feed(self, data: bytes) -> None:
        """Take one message."""

    def fail(self, code: int, word: str, message: str, details: bytes) -> None:
        """Take a status that is no success: number, name, text and `grpc-status-details-bin`."""

    def end(self) -> None:
        """The call has ended well."""


class MessageCounter:
    """Counts messages that nobody reads."""

    __slots__ = ("answered",)

    def __init__(self) -> None:
        self.answered = Answered()

    def feed(self, data: bytes) -> None:
        """Count one message."""
        self.answered.events += 1
        self.answered.content_bytes += len(data)

    def fail(self, code: int, word: str, message: str, details: bytes) -> None:
        """Note how the call failed."""
        self.answered.error_type = word
        self.answered.error_message = message[:_MOST_MESSAGE]

    def end(self) -> None:
        """Note that it went well."""
        self.answered.is_ended = True


def operation_of(path: str) -> str:
    """The operation of A2A that a path means, "" for any other method."""
    return a2a_grpc.operation(Heading("POST", path))


def plainly(path: str) -> Asked:
    """What is asked for as far as the path tells."""
    return Asked(NAME, path[1 : _MOST_OPERATION + 1])


def ask(operation: str, path: str, message: bytes) -> tuple[Asked, str]:
    """What the first message of a call of A2A asks for, and in a word why it could not be read ("": it could)."""
    try:
        return a2a_grpc.request(operation, Heading("POST", path), message), ""
    except Unreadable:
        return plainly(path), "unreadable"


def reader_of(asked: Asked) -> Reader:
    """The reader of the answer."""
    return a2a_grpc.reader(asked, 200, "application/grpc", {}) if asked.dialect == a2a_grpc.name else MessageCounter()
