"""
Golden transcripts: what a client asked, what the provider answered, and what a dialect has to make of both.

Each is a JSON file in `golden/DIALECT/`: `request` (path, fields, body) and `asked` (the members that have to be so), `response` (status,
content_type, fields, and one of `json`, `text` or `frames` as [headers, JSON or text]) and `answered` (all members of the
contract that are not at their default). `oracle` is where genai-prices finds the usage: its provider, flavor and body.
"""

import json
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from sidecar.dialects.dialect import Dialect, Heading, Reader
from sidecar.dialects.eventstream import frame
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import Asked, ModelAsked
from sidecar.model.usage import Usage

GOLDEN = Path(__file__).parent / "golden"


class Transcript:
    """One golden file."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self.name = path.stem
        self.dialect = dialect
        told = json.loads(path.read_text())
        self.asked_members: dict[str, Any] = told["asked"]
        self.answered_members: dict[str, Any] = told["answered"]
        self.oracle: dict[str, Any] | None = told.get("oracle")
        request, response = told["request"], told["response"]
        self.heading = Heading("POST", request["path"], fields=request.get("fields", {}))
        self.request_body = json.dumps(request["body"]).encode()
        self.status: int = response.get("status", 200)
        self.content_type: str = response["content_type"]
        self.fields: dict[str, str] = response.get("fields", {})
        self.body = _body(response)

    def ask(self) -> Asked:
        """What the dialect reads in the request."""
        return self.dialect.request(self.dialect.operation(self.heading), self.heading, self.request_body)

    def reader(self) -> Reader:
        """A new reader of the response."""
        return self.dialect.reader(self.ask(), self.status, self.content_type, self.fields)


def transcripts(name: str, dialect: Dialect) -> list[Transcript]:
    """All transcripts of a dialect, by name."""
    return [Transcript(path, dialect) for path in sorted((GOLDEN / name).glob("*.json"))]


def splits(body: bytes) -> Iterator[list[bytes]]:
    """The body whole, byte by byte, and in two pieces at every place."""
    yield [body]
    yield [body[at : at + 1] for at in range(len(body))]
    for at in range(1, len(body)):
        yield [body[:at], body[at:]]


def read(reader: Reader, pieces: list[bytes]) -> dict[str, Any]:
    """The members that are not at their default once all pieces were read."""
    for piece in pieces:
        reader.feed(piece)
    reader.end()
    return members(reader.answered)


def members(answered: Any) -> dict[str, Any]:
    """The members of the contract that are not at their default, as JSON would say them."""
    found: dict[str, Any] = {}
    for each in fields(ModelAnswered):
        value = getattr(answered, each.name)
        default = each.default if each.default is not MISSING else each.default_factory()  # type: ignore[misc]  # one of both is there
        if value != default:
            found[each.name] = _plain(value)
    return found


def asked_members(asked: Asked, names: Any) -> dict[str, Any]:
    """The named members, as JSON would say them; besides those that are no private ones of a dialect."""
    assert isinstance(asked, ModelAsked)
    return {name: json.loads(json.dumps(getattr(asked, name))) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, Usage):
        return {name: count for name, count in asdict(value).items() if count and name != "text"}
    if isinstance(value, list) and value and not isinstance(value[0], str):
        return [{**asdict(call), "arguments": call.arguments.decode()} for call in value]
    return value


def _body(response: dict[str, Any]) -> bytes:
    if "json" in response:
        return json.dumps(response["json"]).encode()
    if "text" in response:
        return "".join(response["text"]).encode()
    return b"".join(frame(headers, _text(payload)) for headers, payload in response["frames"])


def _text(said: Any) -> bytes:
    return (said if isinstance(said, str) else json.dumps(said)).encode()
