"""URLs without what must not leave the process: credentials and the values of sensitive query parameters."""

import re
from urllib.parse import unquote_plus

REDACTED = "REDACTED"
"""What stands in the place of a value (semconv, url.full)."""

_PARTS = re.compile(
    "token(?!s|iz)|secret|password|passwd|passphrase|signature|credential|bearer|authorization"
    "|(?:api|access|application|auth|private|subscription|session|signing)key"
)
"""What makes a name sensitive wherever it stands in it, written together in lower case; `max_tokens` is a number."""
_WORDS = frozenset({"auth", "sig", "sas", "pwd", "pass", "jwt", "otp"})
"""What does so as a word of its own."""
_WHOLE = _WORDS | {"key", "code"}
_CERTAIN = frozenset({"pwd", "jwt", "otp"})
_BEGINNINGS = ("xamz", "xgoog")

_WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def is_sensitive(name: str) -> bool:
    """Whether a query parameter of this name (as in the URL: `api_key`, `X-Api-Key`, `apiKey`) may hold a credential."""
    words = [word.lower() for word in _WORD.findall(unquote_plus(name))]
    joined = "".join(words)
    return (
        joined in _WHOLE
        or words[-1:] == ["key"]
        or not _WORDS.isdisjoint(words)
        or joined.startswith(_BEGINNINGS)
        or _PARTS.search(joined) is not None
    )


def is_certain(name: str) -> bool:
    """Whether what has this name is a credential whatever it looks like; of a `key`, a `code` or a `pass` that is open."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _CERTAIN.isdisjoint(words) or _PARTS.search("".join(words)) is not None


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
