"""Errors of ours in Google's words, and how content that is cut comes to a well-formed end."""

import json
import math
from typing import Any

from sidecar.dialects.dialect import Spoken
from sidecar.dialects.gemini.answers import StreamedContent
from sidecar.dialects.sse import event
from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import Asked, ModelAsked
from sidecar.model.errors import Refused
from sidecar.model.usage import Usage

_STATUSES = {
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP statuses as google/rpc/code.proto maps them."""

_TYPES = "type.googleapis.com/google.rpc."


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """Say it as google.rpc.Status in JSON, with `RetryInfo` where the time is known (google/rpc/error_details.proto)."""
    meaning = refused.meaning
    status = meaning.status
    details: list[dict[str, Any]] = [{"@type": _TYPES + "ErrorInfo", "reason": refused.code.upper(), "domain": "sidecar"}]
    if refused.retry_after_s is not None:
        details.append({"@type": _TYPES + "RetryInfo", "retryDelay": f"{max(math.ceil(refused.retry_after_s), 0)}s"})
    body = {
        "error": {
            "code": status,
            "message": f"{refused.code}: {refused.detail or meaning.advice}",
            "status": _STATUSES.get(status) or ("INTERNAL" if status >= 500 else "INVALID_ARGUMENT"),
            "details": details,
        }
    }
    return Spoken(status, "application/json", json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """
    Say a last piece with the finish reason `MAX_TOKENS`, unless one was told, and close the array where it is one.

    b"" where nothing is missing, and where it was no stream, could not be read, or was cut in the middle of a piece.
    """
    if answered.is_ended or answered.is_unreadable or not asked.streams or not isinstance(answered, ModelAnswered):
        return b""
    if isinstance(answered, StreamedContent) and not answered.is_between:
        return b""
    last = b"" if answered.finish_reasons else json.dumps(_last(asked, answered, reason)).encode()
    if isinstance(answered, StreamedContent) and answered.is_array:
        if answered.is_closed:
            return b""
        before = b"\n,\r\n" if answered.events else b"" if answered.is_open else b"["
        return (before + last if last else b"") + b"\n]\n"
    return event(last) if last else b""


def _last(asked: Asked, answered: ModelAnswered, reason: str) -> dict[str, Any]:
    usage = answered.usage or Usage()
    candidates, thoughts = usage.output_total - usage.reasoning_tokens, usage.reasoning_tokens
    counts = {
        "promptTokenCount": usage.input_total,
        "candidatesTokenCount": candidates,
        "totalTokenCount": usage.input_total + candidates + thoughts,
    }
    if thoughts:
        counts["thoughtsTokenCount"] = thoughts
    if usage.cache_read_total:
        counts["cachedContentTokenCount"] = usage.cache_read_total
    empty = {"parts": [{"text": ""}], "role": "model"}
    return {
        "candidates": [{"content": empty, "finishReason": "MAX_TOKENS", "index": 0}],
        "usageMetadata": counts,
        "modelVersion": answered.model or (asked.model if isinstance(asked, ModelAsked) else ""),
        "responseId": answered.id or reason,
    }
