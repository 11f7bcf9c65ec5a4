"""Errors of ours in Anthropic's words, and how a message that is cut comes to a well-formed end."""

import json
from typing import Any

from sidecar.dialects.anthropic.answers import StreamedMessage
from sidecar.dialects.dialect import Spoken
from sidecar.dialects.sse import event
from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import Asked, ModelAsked
from sidecar.model.errors import Refused
from sidecar.model.usage import Usage

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """Say it as `{"type": "error", "error": {"type", "message"}}`; the SDK is told not to try again where that cannot help."""
    meaning = refused.meaning
    status = meaning.status
    kind = _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    body = {
        "type": "error",
        "error": {"type": kind, "message": f"{refused.code}: {refused.detail or meaning.advice}"},
        "request_id": None,
    }
    fields = () if meaning.retry else (("x-should-retry", "false"),)
    return Spoken(status, "application/json", json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), fields)


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """
    Close the open block and the message, with `max_tokens` as its stop reason unless one was told; also a stream without events.

    b"" where the stream has its end already, was no stream, could not be read, or was cut in the middle of an event.
    """
    if answered.is_ended or answered.is_unreadable or not asked.streams or not isinstance(answered, ModelAnswered):
        return b""
    seen = answered if isinstance(answered, StreamedMessage) else StreamedMessage()
    if not seen.is_between:
        return b""
    events = b""
    if not seen.has_begun:
        events += _said("message_start", message=_empty(asked, reason))
    if seen.open_block >= 0:
        events += _said("content_block_stop", index=seen.open_block)
    if not answered.finish_reasons:
        delta = {"stop_reason": "max_tokens", "stop_sequence": None}
        events += _said("message_delta", delta=delta, usage={"output_tokens": (answered.usage or Usage()).output_total})
    return events + _said("message_stop")


def _empty(asked: Asked, reason: str) -> dict[str, Any]:
    return {
        "id": f"msg_{reason}",
        "type": "message",
        "role": "assistant",
        "model": asked.model if isinstance(asked, ModelAsked) else "",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _said(kind: str, **members: Any) -> bytes:
    return event(json.dumps({"type": kind, **members}, ensure_ascii=False).encode("utf-8", "replace"), kind.encode())
