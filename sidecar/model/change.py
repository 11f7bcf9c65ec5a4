"""
Changes that a policy, or the sidecar itself, may want to make to a request; its dialect splices them into the body.

A change that cannot be made (the request is signed, was not read, its endpoint does not take it) is skipped, and who asked is
told.
"""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Clamp:
    """Let the output have at most `max_tokens`."""

    max_tokens: int


@dataclass(slots=True, frozen=True)
class IncludeUsage:
    """Have the stream tell its usage."""


@dataclass(slots=True, frozen=True)
class Meta:
    """Write this trace context into `params._meta`; what is b"" is left as it is."""

    traceparent: bytes
    tracestate: bytes = b""
    baggage: bytes = b""


@dataclass(slots=True, frozen=True)
class Reroute:
    """
    Lead addresses in the answer through the gateway: what begins with the path `theirs` becomes `ours`.

    `origin` is the server's, as in `http://tools:8080`; both paths end with a slash.
    """

    origin: str
    theirs: str
    ours: str


Change = Clamp | IncludeUsage | Meta | Reroute

NAMES: dict[type, str] = {Clamp: "clamp", IncludeUsage: "include_usage", Meta: "meta", Reroute: "reroute"}
"""What each change is called in metrics and on spans."""
