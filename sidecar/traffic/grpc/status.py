"""
How a call ends: gRPC's status codes, and which of them says an error of ours.

The numbers and names are those of https://grpc.github.io/grpc/core/md_doc_statuscodes.html.
"""

from typing import NamedTuple

from sidecar.model.errors import Refused

NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""The name of each status code, by its number."""

ERROR_KEY = "x-sidecar-error"
"""The trailer that tells an error of ours by its code (`errors.CODES`)."""

RETRY_KEY = "grpc-retry-pushback-ms"
"""The trailer that says after how many milliseconds to try again (gRFC A6)."""

_BY_STATUS = {
    400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED", 407: "UNAUTHENTICATED", 408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED", 431: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL",
    501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE", 508: "FAILED_PRECONDITION",
}  # fmt: skip
_BY_CODE = {
    "first_byte_timeout": "DEADLINE_EXCEEDED",
    "idle_timeout": "DEADLINE_EXCEEDED",
    "too_many_connections": "RESOURCE_EXHAUSTED",
    "pool_exhausted": "RESOURCE_EXHAUSTED",
    "stopped": "FAILED_PRECONDITION",
}
"""What the HTTP status does not tell: UNAVAILABLE invites to try again, which is wrong where a call may have had an effect."""


class Status(NamedTuple):
    """What ends a call: a number of `NAMES`, a text for people, and the trailers as (key, value)."""

    code: int
    details: str
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    @property
    def name(self) -> str:
        """The name of the code."""
        return name_of(self.code)


def name_of(code: int) -> str:
    """The name of a status code; of a number that nobody knows, UNKNOWN."""
    return NAMES[code] if 0 <= code < len(NAMES) else "UNKNOWN"


def status_of(refused: Refused) -> Status:
    """The status that says an error of ours, with its code in the trailer `x-sidecar-error`."""
    name = _BY_CODE.get(refused.code) or _BY_STATUS.get(refused.meaning.status, "INTERNAL")
    trailers: tuple[tuple[str, str | bytes], ...] = ((ERROR_KEY, refused.code),)
    if refused.retry_after_s is not None:
        trailers += ((RETRY_KEY, f"{refused.retry_after_s * 1000:.0f}"),)
    elif not refused.meaning.retry:
        trailers += ((RETRY_KEY, "-1"),)  # a client's retry policy would try again otherwise (gRFC A6, "pushback")
    return Status(NAMES.index(name), f"{refused.code}: {refused.detail or refused.meaning.advice}", trailers)
