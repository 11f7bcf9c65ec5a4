"""
JSON-RPC of which the head does not tell whose it is: the first dialect that can read the body has it, and all that follows.

    found = Either([(mcp, "maybe"), (a2a, "message")])
    found.request("", heading, body).dialect        # "a2a"
"""

from collections.abc import Mapping

from sidecar.dialects.dialect import BodyEdit, Change, Dialect, Heading, Reader, Spoken, Unreadable
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked
from sidecar.model.content import Content
from sidecar.model.errors import Refused


class Either:
    """Several dialects in one; `guesses` are they, each with the operation that it has given to the head."""

    def __init__(self, guesses: list[tuple[Dialect, str]]) -> None:
        self._guesses = guesses
        self._by_name = {dialect.name: dialect for dialect, _ in guesses}
        self.name = guesses[0][0].name
        self.is_about_models = all(dialect.is_about_models for dialect, _ in guesses)

    def operation(self, heading: Heading) -> str:
        """Return what the first of them makes of the head."""
        return self._guesses[0][0].operation(heading)

    def request(self, operation: str, heading: Heading, body: bytes) -> Asked:
        """Have the first read it that can; raises `Unreadable` where none can."""
        for dialect, guessed in self._guesses[:-1]:
            try:
                return dialect.request(guessed, heading, body)
            except Unreadable:
                pass
        dialect, guessed = self._guesses[-1]
        return dialect.request(guessed, heading, body)

    def _of(self, asked: Asked | None) -> Dialect:
        return self._by_name.get(asked.dialect if asked is not None else "", self._guesses[0][0])

    def reader(self, asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
        return self._of(asked).reader(asked, status, content_type, fields)

    def error(self, refused: Refused, asked: Asked | None) -> Spoken:
        return self._of(asked).error(refused, asked)

    def ending(self, asked: Asked, answered: Answered, reason: str) -> bytes:
        return self._of(asked).ending(asked, answered, reason)

    def edit(self, asked: Asked, body: bytes, change: Change) -> bytes:
        return self._of(asked).edit(asked, body, change)

    def takes_out(self, asked: Asked, change: Change) -> BodyEdit | None:
        return self._of(asked).takes_out(asked, change)

    def content(self, asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
        return self._of(asked).content(asked, request, answer, content_type)
