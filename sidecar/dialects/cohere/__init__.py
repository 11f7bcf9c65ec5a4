"""
Cohere's API: `/v2/chat` and `/v2/embed`, and their elders under `/v1`, which stream lines instead of events.

`questions.py` reads requests, `answers.py` what is answered. Reranking, classifying and tokenizing pass unread.

Source: https://docs.cohere.com/reference/chat and the `cohere` SDK, version 7.3.
"""

import json
from collections.abc import Mapping

from sidecar.dialects.bodies import WholeBody
from sidecar.dialects.bulk import bulk_in
from sidecar.dialects.cohere import answers, questions
from sidecar.dialects.cohere.content import content
from sidecar.dialects.dialect import BodyEdit, Change, Clamp, Heading, IncludeUsage, Reader, Spoken, Unreadable
from sidecar.dialects.ndjson import Lines
from sidecar.dialects.splice import put
from sidecar.dialects.sse import EventStream
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked, ModelAsked
from sidecar.model.errors import Refused

name = "cohere"
is_about_models = True

__all__ = ["content", "edit", "ending", "error", "is_about_models", "name", "operation", "reader", "request", "takes_out"]

_OPERATIONS = {"/v2/chat": "chat", "/v1/chat": "chat", "/v2/embed": "embeddings", "/v1/embed": "embeddings"}


def operation(heading: Heading) -> str:
    """Return `chat` or `embeddings`."""
    if heading.method != "POST":
        return ""
    path = heading.path
    return _OPERATIONS.get(path[max(0, path.rfind("/v")) :], "")


def request(operation: str, heading: Heading, body: bytes) -> Asked:
    """Read a request; raises `Unreadable` where its body is no JSON object."""
    return questions.read(name, operation, heading, body)


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return the reader of events, of lines, or of a whole body, as status and media type say."""
    answered = answers.CohereAnswered()
    if status >= 400:
        return WholeBody(answered, lambda body: answers.read_error(answered, body))
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return answers.Stream(answered, EventStream())
    if asked.streams and kind != "application/json":
        return answers.Stream(answered, Lines())
    return WholeBody(answered, lambda body: answers.read_whole(answered, body))


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """Say it as `{"message": "…"}`."""
    text = f"{refused.code}: {refused.detail or refused.meaning.advice}"
    body = json.dumps({"message": text}, ensure_ascii=False).encode("utf-8", "replace")
    return Spoken(refused.meaning.status, "application/json", body)


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """Close what is open and end the message with `MAX_TOKENS`; b"" after a cut inside an event."""
    if not isinstance(answered, answers.CohereAnswered) or not asked.streams:
        return b""
    return answers.ending(answered)


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """Lower `max_tokens`; a stream tells its usage always, so that asking for it changes nothing."""
    if isinstance(change, IncludeUsage):
        return body
    if not isinstance(change, Clamp) or not isinstance(asked, ModelAsked) or asked.operation != "chat":
        raise Unreadable("a call of Cohere has no place for it")
    if 0 < asked.max_tokens <= change.max_tokens:
        return body
    return put(body, ("max_tokens",), b"%d" % change.max_tokens, bulk_in(asked))


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """No change has a consequence in the response."""
    return None
