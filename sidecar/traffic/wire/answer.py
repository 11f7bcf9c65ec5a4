"""The responses that the sidecar makes itself: errors that say so, and 200 to CONNECT."""

import math

from sidecar.dialects import plain
from sidecar.dialects.dialect import Spoken
from sidecar.model.errors import Refused

_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 407: "Proxy Authentication Required", 408: "Request Timeout", 413: "Content Too Large",
    414: "URI Too Long", 417: "Expectation Failed", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported", 508: "Loop Detected",
}  # fmt: skip

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def error_response(
    refused: Refused, *, date: bytes, via: bytes, keep_alive: bool, is_head: bool, spoken: Spoken | None = None
) -> bytes:
    """
    Build the whole error response, in the client's dialect where it is `spoken`.

    `x-should-retry` is what the SDKs of OpenAI, Anthropic and Groq obey before any status; `Retry-After` is whole seconds.
    """
    meaning = refused.meaning
    if spoken is None:
        spoken = plain.error(refused, None)
    body = spoken.body
    lines = [
        b"HTTP/1.1 %d %b" % (spoken.status, _REASONS.get(spoken.status, "Error").encode()),
        b"Date: " + date,
        via,
        b"Content-Type: " + spoken.content_type.encode(),
        b"Content-Length: %d" % len(body),
        b"x-sidecar-error: " + refused.code.encode(),
    ]
    said = {name.lower() for name, _ in spoken.fields}
    if "x-should-retry" not in said:
        lines.append(b"x-should-retry: true" if meaning.retry else b"x-should-retry: false")
    lines += [f"{name}: {value}".encode() for name, value in spoken.fields]
    retry_after_s = refused.retry_after_s
    if retry_after_s is None and meaning.status == 503 and meaning.retry:
        retry_after_s = 1.0  # a moment is what these need: a free connection, or the next sidecar
    if retry_after_s is not None and "retry-after" not in said:
        lines.append(b"Retry-After: %d" % math.ceil(retry_after_s))
    if meaning.status == 407:
        lines.append(b'Proxy-Authenticate: Basic realm="agent-sre-sidecar", charset="UTF-8"')
    if not keep_alive:
        lines.append(b"Connection: close")
    head = b"\r\n".join([*lines, b"", b""])
    return head if is_head else head + body


def tunnel_opened(via: bytes) -> bytes:
    """The answer to a CONNECT that succeeded; a 2xx to CONNECT has no framing (RFC 9110 section 9.3.6)."""
    return b"HTTP/1.1 200 Connection established\r\n" + via + b"\r\n\r\n"


def answer_here(method: bytes, lines: list[bytes], *, date: bytes, via: bytes, keep_alive: bool) -> tuple[int, bytes]:
    """
    Return status and answer for an OPTIONS or TRACE that goes no further.

    OPTIONS asked about the sidecar itself (RFC 9110 section 9.3.7); TRACE gets back what came, without credentials (9.3.8).
    """
    close = [] if keep_alive else [b"Connection: close"]
    if method != b"TRACE":
        return 204, b"\r\n".join([b"HTTP/1.1 204 No Content", b"Date: " + date, via, *close, b"", b""])
    shown = [line for line in lines if line.partition(b":")[0].lower() not in _NOT_REFLECTED]
    body = b"\r\n".join([*shown, b"", b""])
    head = [b"HTTP/1.1 200 OK", b"Date: " + date, via, b"Content-Type: message/http", b"Content-Length: %d" % len(body)]
    return 200, b"\r\n".join([*head, *close, b"", body])


_NOT_REFLECTED = frozenset((b"authorization", b"cookie", b"x-api-key", b"api-key", b"x-goog-api-key"))
