"""
The contract: what every dialect answers. A module of this folder is a dialect when it has these functions.

    from sidecar.dialects import openai
    dialect: Dialect = openai              # a module is as good as an object here, and mypy checks it

Everything is pure: bytes in, model out; no clock, no network, no log. What a dialect cannot read it says with `Unreadable`
(of a request) or `answered.is_unreadable` (of a response); the bytes go on all the same. Unknown members, events and paths
are nobody's fault.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sidecar.model.answered import Answered
from sidecar.model.asked import Asked
from sidecar.model.change import Change, Clamp, IncludeUsage, Meta, Reroute
from sidecar.model.content import Content
from sidecar.model.errors import Refused

__all__ = [
    "BodyEdit", "Change", "Clamp", "Dialect", "Heading", "IncludeUsage", "Meta", "Reader", "Reroute", "Spoken", "Unreadable",
]  # fmt: skip


class Unreadable(ValueError):
    """A dialect cannot read a body, or cannot change it; the text says why, and never quotes the body."""


@dataclass(slots=True)
class Heading:
    """
    The head of a request as a dialect needs it.

    `path` and `query` are those that the upstream sees, without `?`; `fields` the header fields by lower-case name, equal names
    joined by ", " (RFC 9110 section 5.3): of a field that may stand only once, `only` gives the first value. `host` is the
    destination's. `provider` is what the config says the upstream is (`gen_ai.provider.name`), "" where it does not. Calls that
    begin with the same head share it: in `memo` a dialect keeps what it has made of it, so that it looks once.
    """

    method: str
    path: str
    query: str = ""
    host: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""
    memo: object = field(default=None, compare=False, repr=False)

    def only(self, name: str) -> str:
        """
        Return the first value of a field that may stand only once and whose values hold no ", ", or "" where there is none.

        Who sends it twice has no right to any meaning; what counts is never the joined text, which nobody has said.
        """
        return self.fields.get(name, "").partition(", ")[0]

    @property
    def media_type(self) -> str:
        """The media type of the body in lower case, without parameters; "" where the head names none."""
        return self.only("content-type").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Spoken:
    """A whole answer of ours in the client's dialect: an HTTP status, a media type, further fields and the body."""

    status: int
    content_type: str
    body: bytes
    fields: tuple[tuple[str, str], ...] = ()


class Reader(Protocol):
    """
    Reads one response as its content comes, in whatever pieces; `answered` is true at any moment.

    The bytes are the content without transfer coding and content coding. A reader never raises and never keeps more than one
    event, or one body, of which it bounds the size.
    """

    @property
    def answered(self) -> Answered: ...

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the content."""

    def end(self) -> None:
        """The content is whole; called at most once, and never after a cut."""


class BodyEdit(Protocol):
    """Takes something out of a response as it passes; the same shape as a stage of the traffic plane."""

    def data(self, chunk: bytes) -> bytes:
        """Pass content on, changed or not; b"" holds it back."""
        ...

    def end(self, error: str) -> bytes:
        """Give the last bytes; `error` is "" after a whole body."""
        ...


class ReadsWhole(Protocol):
    """What some dialects can do beside the rest, because most answers are a short JSON text that comes at once."""

    def whole(self, asked: Asked, status: int, content_type: str, body: bytes) -> Answered | None:
        """
        Read an answer that is not coded and came in one piece of at most 16 KiB: as its `reader` would, and faster.

        None where a reader has to be asked. Never raises.
        """
        ...


class Dialect(Protocol):
    """
    The questions that a dialect answers; `name` is its module's. It may also be one that `ReadsWhole`.

    `is_about_models`: what is asked in it is asked of models, and so has a price, also where nobody could read it.
    """

    name: str
    is_about_models: bool

    def operation(self, heading: Heading) -> str:
        """
        Return what the request asks for, by its head alone; "" where this dialect does not know it, which then passes unread.

        Called once for each head that a connection remembers, so it may take its time (10 µs).
        """
        ...

    def request(self, operation: str, heading: Heading, body: bytes) -> Asked:
        """
        Read a request; `body` is whole and decoded (b"" for a GET). One typed partial decode; raises `Unreadable`.
        """
        ...

    def reader(self, asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
        """
        Return the reader of the response that has this head; also for errors, whatever their media type. `fields` are by
        lower-case name, of equal names the first.
        """
        ...

    def error(self, refused: Refused, asked: Asked | None) -> Spoken:
        """Say an error of ours so that the client's official SDK raises the class that it has for this status."""
        ...

    def ending(self, asked: Asked, answered: Answered, reason: str) -> bytes:
        """
        Return the events that finish, well-formed, a stream which is cut after what `answered` has seen; b"" where that
        cannot be.

        `reason` is a code of `errors.CODES`. What the client's SDK sees is a response that ended by its length limit.
        """
        ...

    def edit(self, asked: Asked, body: bytes, change: Change) -> bytes:
        """
        Return the body with a change spliced in at its place, every other byte untouched; the same object where nothing has
        to change.

        Raises `Unreadable` where the endpoint does not take the change, or the place cannot be found.
        """
        ...

    def takes_out(self, asked: Asked, change: Change) -> BodyEdit | None:
        """Return what takes the consequence of a change out of the response again (the usage chunk); None where there is none."""
        ...

    def content(self, asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
        """
        Return what was said, word by word, as far as it came; None where nothing is said in such a call.

        Asked at the end of an attempt, and only where the route has content collected. `request` and `answer` are decoded
        bodies or the beginning of them, b"" where there is none; `content_type` is the answer's. Never raises, and what it
        returns holds no more than the bodies did; of pictures, sounds and files it has the kind and the address, no bytes.
        """
        ...
