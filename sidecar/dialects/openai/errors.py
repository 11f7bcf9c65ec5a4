"""Errors, both ways: what a provider's body or event says, and how one of ours is said in OpenAI's words."""

import json

import msgspec

from sidecar.dialects.dialect import Spoken
from sidecar.dialects.lenient import Lenient
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked
from sidecar.model.errors import Refused

_LONGEST_TYPE = 256
_LONGEST_MESSAGE = 512

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class Told(msgspec.Struct, gc=False):
    """An error object: OpenAI's `error`, Mistral's and vLLM's whole body, Google's `status`, FastAPI's `detail`."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    status: str | int | None = None
    detail: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    object: str | None = None


_TOLD = Lenient(Told)


def tell(answered: Answered, raw: bytes) -> bool:
    """
    Note the error that stands in `raw`, the JSON value of a member `error`: an object or a text; False where it is none (null).
    """
    first = raw[:1]
    if first == b"{":
        told = _TOLD.decode(raw)
        _note(answered, told, told.message or "")
    elif first == b'"':
        text = _text(raw)
        answered.error_type = answered.error_type or "error"
        answered.error_message = text[:_LONGEST_MESSAGE]
    else:
        return False
    return True


def tell_event(answered: Answered, data: bytes) -> None:
    """Note what an event `{"type": "error", "code", "message"}` says; its `type` says nothing."""
    told = _TOLD.decode(data)
    told.type = None
    _note(answered, told, told.message or "")


def read_body(answered: Answered, body: bytes, status: int) -> None:
    """Read the body of an error response, in whatever of the known forms; what is none of them is kept as text."""
    try:
        told = _TOLD.decode(_first(body.strip(b" \t\r\n")))
    except ValueError:
        answered.error_message = body[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace").strip()[:_LONGEST_MESSAGE]
        answered.error_type = answered.error_type or str(status)
        return
    inner = bytes(told.error)
    if inner[:1] == b'"' and told.code:  # xAI: {"code": "…", "error": "a text"}
        _note(answered, told, _text(inner))
    elif not tell(answered, inner):
        detail = bytes(told.detail)
        _note(answered, told, told.message or (_text(detail) if detail[:1] == b'"' else detail.decode("utf-8", "replace")))
    if answered.error_type == "error":
        answered.error_type = str(status)


def _first(body: bytes) -> bytes:
    """Google's compatible endpoint answers a list with one error in it."""
    if body[:1] != b"[":
        return body
    items = msgspec.json.decode(body, type=list[msgspec.Raw])
    return bytes(items[0]) if items else b"{}"


_SCOPES = frozenset(("requests", "tokens"))
"""Types of a rate limit that say what was limited, beside a code that says what happened."""


def _note(answered: Answered, told: Told, message: str) -> None:
    word = (told.code if told.type in _SCOPES else None) or told.type or told.code or told.status or "error"
    answered.error_type = str(word)[:_LONGEST_TYPE]
    answered.error_message = message[:_LONGEST_MESSAGE]


def _text(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw[1:-1].decode("utf-8", "replace")


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """
    Say an error of ours; the SDKs of OpenAI, Groq and their like choose their class by the status.

    `code` is ours, so that it can be looked up. Where trying again cannot help they are told so, which they obey before any
    status; what is then still a 429 is a quota that is spent.
    """
    meaning = refused.meaning
    kind = _TYPES.get(meaning.status) or ("server_error" if meaning.status >= 500 else "invalid_request_error")
    if meaning.status == 429 and not meaning.retry:
        kind = "insufficient_quota"
    message = f"{refused.code}: {refused.detail or meaning.advice}"
    body = {"error": {"message": message, "type": kind, "param": None, "code": refused.code}}
    fields = () if meaning.retry else (("x-should-retry", "false"),)
    return Spoken(meaning.status, "application/json", json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), fields)
