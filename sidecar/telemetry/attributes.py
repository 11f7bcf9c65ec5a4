"""
HTTP semantic conventions (stable, v1.44) as protobuf bytes: name, attributes and status of the two kinds of spans.

opentelemetry.io/docs/specs/semconv/http/http-spans. Each function gives whole fields of opentelemetry.proto.trace.v1.Span,
b"" for what is not known.
"""

from sidecar.model.authority import authority, bracketed
from sidecar.model.errors import CODES, Fault
from sidecar.model.facts import Purpose
from sidecar.telemetry import agents
from sidecar.telemetry.redaction import redacted_target
from sidecar.telemetry.wire import field, int_attribute, text_attribute, utf8

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""Where the names come from."""

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
"""Methods that may be an attribute's value (RFC 9110, RFC 5789, and QUERY); others become `_OTHER`."""

_STATUS_ERROR = b"\x18\x02"


def span_name(method: str, template: str) -> bytes:
    """Span.name: the method, and the route where there is one; never a path, of which there may be any number."""
    shown = method if method in KNOWN_METHODS else "HTTP"
    return field(5, utf8(f"{shown} {template}" if template else shown))


def request_method(method: str) -> bytes:
    """http.request.method, and http.request.method_original for a method that is not known."""
    if method in KNOWN_METHODS:
        return text_attribute("http.request.method", method)
    return text_attribute("http.request.method", "_OTHER") + text("http.request.method_original", method)


def common(route: str, agent: str, purpose: Purpose, status: int, error: str, *, is_http: bool = True) -> bytes:
    """
    What spans of both kinds have; a message to a child process is no HTTP.

    network.protocol.version is that of the messages that the sidecar writes, which is 1.1 to an HTTP/1.0 client too (RFC
    9110 section 2.5).
    """
    shown_purpose = "" if purpose == Purpose.LIVE else purpose
    spoken = number("http.response.status_code", status) + text_attribute("network.protocol.version", "1.1") if is_http else b""
    return b"".join(
        (
            spoken, text("sidecar.route", route), agents.identity(agent), text("sidecar.purpose", shown_purpose),
            text("sidecar.error", error),
        )
    )  # fmt: skip


def server_error_type(status: int, error: str) -> str:
    """
    What failed, from the agent's view; "" where nothing did.

    4xx is the agent's own business and leaves a SERVER span's status unset; so does an agent that went away by itself.
    """
    if status >= 500:
        return error or str(status)
    if status >= 400 or not error:
        return ""
    meaning = CODES.get(error)
    return "" if meaning is not None and meaning.fault is Fault.CLIENT else error


def client_error_type(status: int, error: str) -> str:
    """What failed, from the view of the one who called the upstream; "" where nothing did."""
    return error or (str(status) if status >= 400 else "")


def outcome(error_type: str, error: str) -> bytes:
    """error.type and Span.status; a description only where the status code does not say it already."""
    if not error_type:
        return b""
    meaning = CODES.get(error)
    description = field(2, utf8(meaning.advice)) if meaning is not None else b""
    return text_attribute("error.type", error_type) + field(15, description + _STATUS_ERROR)


def full_url(scheme: str, host: str, port: int, target: str) -> bytes:
    """url.full, without credentials; only the authority for CONNECT, which has no scheme (RFC 9112 section 3.2.3)."""
    if not scheme:
        return text_attribute("url.full", authority(host, port))
    where = authority(host, port) if port != (443 if scheme == "https" else 80) else bracketed(host)
    shown = redacted_target(target) if target.startswith(("/", "?")) else ""
    return text_attribute("url.full", f"{scheme}://{where}{shown}")


def text(key: str, value: str) -> bytes:
    """A string attribute, nothing for ""."""
    return text_attribute(key, value) if value else b""


def number(key: str, value: int) -> bytes:
    """An integer attribute, nothing for 0."""
    return int_attribute(key, value) if value else b""
