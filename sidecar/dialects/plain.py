"""
What the sidecar says to a client of which it knows nothing but HTTP; and the template of a dialect.

Nothing is asked of it by any head (`operation` is always ""), so of its functions only `error` is ever called.
"""

import json
from collections.abc import Mapping

from sidecar.dialects.dialect import BodyEdit, Change, Heading, Reader, Spoken, Unreadable
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked
from sidecar.model.content import Content
from sidecar.model.errors import Refused

name = "plain"
is_about_models = False

CONTENT_TYPE = "application/json"


def operation(heading: Heading) -> str:
    """Nothing is known here."""
    return ""


def request(operation: str, heading: Heading, body: bytes) -> Asked:
    """Nothing can be read; raises `Unreadable`."""
    raise Unreadable("plain HTTP has no calls")


class Silence:
    """A reader that understands nothing of what it is fed."""

    __slots__ = ("answered",)

    def __init__(self) -> None:
        self.answered = Answered()

    def feed(self, data: bytes) -> None:
        """Let the bytes pass."""

    def end(self) -> None:
        """Note that there are no more."""
        self.answered.is_ended = True


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return a reader that only notes the end."""
    return Silence()


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """Say code, whose fault, whether to try again, and what to do."""
    meaning = refused.meaning
    body = {
        "error": {
            "code": refused.code,
            "message": f"{refused.code}: {refused.detail or meaning.advice}",
            "fault": meaning.fault.value,
            "retry": meaning.retry,
            "advice": meaning.advice,
            "type": "sidecar_error",
        }
    }
    return Spoken(meaning.status, CONTENT_TYPE, json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """Nothing ends a body of which nothing is known."""
    return b""


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """Nothing can be changed; raises `Unreadable`."""
    raise Unreadable("plain HTTP has no place for it")


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """Nothing has been put in."""
    return None


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Nobody knows what is said."""
    return None
