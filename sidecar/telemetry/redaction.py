"""URLs without what must not leave the process: credentials and the values of sensitive query parameters."""

from urllib.parse import unquote_plus

REDACTED = "REDACTED"
"""What stands in the place of a value (semconv, url.full)."""

_SENSITIVE = frozenset({
    "key", "api_key", "apikey", "api-key", "token", "access_token", "refresh_token", "id_token", "auth", "authorization",
    "password", "passwd", "pwd", "secret", "client_secret", "sig", "signature", "awsaccesskeyid", "code", "subscription-key",
    "credential", "session_token", "jwt",
})  # fmt: skip
_SENSITIVE_BEGINNINGS = ("x-amz-", "x-goog-")


def is_sensitive(name: str) -> bool:
    """Whether a query parameter of this name (as it stands in the URL) may hold a credential."""
    plain = unquote_plus(name).strip().lower()
    return plain in _SENSITIVE or plain.startswith(_SENSITIVE_BEGINNINGS)


def redacted_query(query: str) -> str:
    """The query without the values of sensitive parameters; everything else stays as it was, byte for byte."""
    if "=" not in query:
        return query
    return "&".join(_redacted_parameter(parameter) for parameter in query.split("&"))


def redacted_target(target: str) -> str:
    """A request target (path and query) with its query redacted."""
    path, mark, query = target.partition("?")
    return path + mark + redacted_query(query)


def _redacted_parameter(parameter: str) -> str:
    name, mark, value = parameter.partition("=")
    return f"{name}={REDACTED}" if mark and value and is_sensitive(name) else parameter
