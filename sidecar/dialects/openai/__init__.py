"""
OpenAI's format: chat/completions, completions, responses and embeddings, of OpenAI itself and of all who speak the same.

Endpoints are known by how their path ends, as everybody puts something else before it. One file each: `asked` (the request),
`chat`, `responses` and `embeddings` (the answers; `usage` and `calls` serve them all, `stencil` is their fast path), `errors`,
`ending`, `edits`, and `content` (what is said).
"""

from collections.abc import Mapping
from functools import partial

from sidecar.dialects.bodies import WholeBody
from sidecar.dialects.dialect import Reader
from sidecar.dialects.openai import errors
from sidecar.dialects.openai.answered import OpenAiAnswered
from sidecar.dialects.openai.asked import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, OpenAiAsked, operation, request
from sidecar.dialects.openai.chat import ChatBody, ChatStream, take
from sidecar.dialects.openai.content import content
from sidecar.dialects.openai.edits import edit, takes_out
from sidecar.dialects.openai.embeddings import EmbeddingsBody
from sidecar.dialects.openai.ending import ending
from sidecar.dialects.openai.errors import error
from sidecar.dialects.openai.responses import ResponseAnswer, ResponseStream
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked

__all__ = [
    "content", "edit", "ending", "error", "is_about_models", "name", "operation", "reader", "request", "takes_out", "whole",
]  # fmt: skip

name = "openai"
is_about_models = True

_CHATS = frozenset((CHAT, COMPLETIONS))


def whole(asked: Asked, status: int, content_type: str, body: bytes) -> Answered | None:
    """Read an answer of chat/completions, or completions, that came in one piece; None for others."""
    if status >= 400 or content_type != "application/json" or not isinstance(asked, OpenAiAsked) or asked.endpoint not in _CHATS:
        return None
    answered = OpenAiAnswered()
    answered.is_ended = True
    try:
        take(body, answered, asked.provider)
    except (ValueError, RecursionError):
        answered.is_unreadable = True
    return answered


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return the reader for an answer: by its status, its media type and the endpoint that was asked."""
    answered = OpenAiAnswered()
    if status >= 400:
        return WholeBody(answered, partial(errors.read_body, answered, status=status), most_bytes=1 << 20)
    ours = asked if isinstance(asked, OpenAiAsked) else OpenAiAsked(asked.dialect, asked.operation, asked.streams)
    if content_type == "application/json" and ours.endpoint in _CHATS:
        return WholeBody(answered, ChatBody(answered, ours.provider).take)
    if "event-stream" in content_type.lower() or (not content_type and ours.streams):
        if ours.endpoint == RESPONSES:
            return ResponseStream(answered, ours.provider)
        return ChatStream(answered, ours.provider)
    if ours.endpoint == RESPONSES:
        return WholeBody(answered, ResponseAnswer(answered, ours.provider).read)
    if ours.endpoint == EMBEDDINGS:
        return WholeBody(answered, EmbeddingsBody(answered, ours.provider).read)
    return WholeBody(answered, ChatBody(answered, ours.provider).take)
