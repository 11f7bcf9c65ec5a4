"""
Who reads the calls that begin with one head: found once, and remembered with it (wire/request.py).

An inspector knows the dialect, what the head asks for, and what may be changed. From the body it makes an `Asked`.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.dialects.dialect import Dialect, Heading, Unreadable
from sidecar.dialects.recognition import AUTO, PLAIN, recognise
from sidecar.dialects.well_known import is_card, is_certain
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked, ModelAsked
from sidecar.model.change import Change, Reroute
from sidecar.model.content import Content
from sidecar.model.facts import Mode
from sidecar.traffic.coding import Undecodable, decoded, is_identity, takes_identity
from sidecar.traffic.copying import MOST_BYTES
from sidecar.traffic.room import Room
from sidecar.traffic.spec import RouteSpec

if TYPE_CHECKING:
    from sidecar.traffic.router import Way
    from sidecar.traffic.transcript import Pricer
    from sidecar.traffic.wire.request_head import RequestHead

_log = logging.getLogger(__name__)

_GUESS_BYTES = 64 * 1024
"""What is a message by the look of its head only is not held back for longer than that."""

_DIGESTS = frozenset(
    ("content-digest", "repr-digest", "digest", "content-md5", "signature", "signature-input", "x-content-sha256",
     "x-amz-content-sha256", "trailer")
)  # fmt: skip
"""
Fields whose value would not be true any more if the body were changed (RFC 9530, RFC 9421, RFC 1864, those of AWS and OCI), and
the one that announces such a field behind the body.
"""

_UNSIGNED = frozenset(("", "bearer", "basic", "token", "apikey", "api-key", "key"))
"""Schemes of Authorization that are a secret, and no signature of what is sent."""


class Inspector:
    """
    Reads the requests of one head, and says what can be done with them.

    `most_bytes` bounds the body that is collected; `is_signed` forbids any change to it; `is_guess`: only a body can tell.
    `reroute` leads addresses in answers through the gateway. `keeps_content` and `tells_cost` are settings of the route.
    `adds_usage`: whoever counts wants streams to tell their usage, and what that adds can be taken out for this client.
    """

    __slots__ = (
        "_coding", "_operation", "adds_usage", "dialect", "heading", "host", "is_guess", "is_signed", "keeps_content",
        "most_bytes", "pricer", "reads_whole", "reroute", "room", "spec", "tells_cost",
    )  # fmt: skip

    def __init__(
        self, dialect: Dialect, operation: str, heading: Heading, *, is_guess: bool, most_bytes: int, pricer: "Pricer | None",
        spec: RouteSpec, room: Room, reroute: Reroute | None = None,
    ) -> None:  # fmt: skip
        self.dialect = dialect
        self.reads_whole: Callable[[Asked, int, str, bytes], Answered | None] | None = getattr(dialect, "whole", None)
        self.heading = heading
        self.host = heading.host
        self._operation = operation
        self.is_guess = is_guess
        fields = heading.fields
        self._coding = fields.get("content-encoding", "")
        self.is_signed = _is_signed(heading)
        self.most_bytes = min(most_bytes, _GUESS_BYTES) if is_guess else most_bytes
        self.pricer = pricer
        self.spec = spec
        self.keeps_content = spec.content
        self.tells_cost = spec.usage_on == "sidecar"
        self.adds_usage = spec.include_usage and self.tells_cost and takes_identity(fields.get("accept-encoding", ""))
        self.room = room
        self.reroute = reroute

    def read(self, body: bytes) -> tuple[Asked | None, str]:
        """
        Return what a whole body asks for, and in a word why it could not be read, else "".

        None where the head alone had made it look like a message of this dialect.
        """
        try:
            if self._coding:
                body = decoded(self._coding, body)
            return self.dialect.request(self._operation, self.heading, body), ""
        except Unreadable:
            unread = "unreadable"
        except Undecodable as fault:
            unread = fault.reason
        except Exception:  # noqa: BLE001 - a dialect that fails must not fail the call
            unread = "failed"
            _log.exception("the dialect %s failed to read a request", self.dialect.name)
        return (None, "") if self.is_guess else (self.unread(), unread)

    def unread(self) -> Asked:
        """What is known of a request whose body nobody has read."""
        heading = self.heading
        if not self.dialect.is_about_models:
            return Asked(self.dialect.name, self._operation)
        return ModelAsked(self.dialect.name, self._operation, provider=heading.provider or self.dialect.name)

    def edit(self, asked: Asked, body: bytes, change: Change) -> tuple[bytes, str]:
        """Return the body with a change made, or the body as it is and why it was not: `signed`, `coded` or `not_taken`."""
        if self.is_signed:
            return body, "signed"
        if not is_identity(self._coding):
            return body, "coded"
        try:
            return self.dialect.edit(asked, body, change), ""
        except Unreadable:
            return body, "not_taken"
        except Exception:  # noqa: BLE001 - as above
            _log.exception("the dialect %s failed to change a request", self.dialect.name)
            return body, "failed"

    def content(self, asked: Asked, body: bytes, answer: bytes, content_type: str) -> Content | None:
        """Return what was said, of a request's body as it was sent and a decoded answer, as far as anybody can read them."""
        is_cut = False
        try:
            body = decoded(self._coding, body)
        except Undecodable:
            body, is_cut = b"", True
        found = self.dialect.content(asked, body[:MOST_BYTES], answer, content_type)
        if found is not None:
            found.is_cut |= is_cut or len(body) > MOST_BYTES
        return found


def _is_signed(heading: Heading) -> bool:
    """Whether a change of the body would break a signature or a digest; a scheme that is not known may be one."""
    fields = heading.fields
    schemes = [each.strip().partition(" ")[0].lower() for each in fields.get("authorization", "").split(",")]
    return schemes[0] not in _UNSIGNED or not _DIGESTS.isdisjoint(fields) or "x-amz-signature=" in heading.query.lower()


def inspector_of(
    request: "RequestHead", way: "Way", *, most_bytes: int, pricer: "Pricer | None", room: Room
) -> Inspector | None:
    """Return who reads the calls that begin with this head, None where nobody does."""
    if not most_bytes or request.method == b"CONNECT" or request.upgrade:
        return None
    config = way.route.upstream.config
    dialect = getattr(config, "dialect", AUTO)  # an upstream of somebody else's may not know the setting
    if dialect == PLAIN:
        return None
    path, _, query = way.target.decode("latin-1").partition("?")
    fields: dict[str, str] = {}
    for line in request.lines[1:]:
        name, _, value = line.partition(b":")
        key, text = name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text  # RFC 9110 section 5.3
    provider = getattr(config, "provider", "")
    heading = Heading(request.method.decode("latin-1"), path, query, way.host, fields, provider)
    try:
        found = recognise(dialect, heading)
    except Exception:  # noqa: BLE001 - as above
        _log.exception("the dialect %s failed to recognise a request", dialect)
        return None
    if found is None:
        return None
    return Inspector(
        found.dialect, found.operation, heading, is_guess=found.is_guess, most_bytes=most_bytes, pricer=pricer,
        spec=way.route.spec, room=room, reroute=_reroute(way),
    )  # fmt: skip


def _reroute(way: "Way") -> Reroute | None:
    """What leads addresses in answers through the gateway, None where they need not be led."""
    if way.mode is not Mode.GATEWAY:
        return None
    upstream, ours = way.route.upstream, way.route.prefix.decode("latin-1")
    theirs = upstream.base.decode("latin-1") + "/"
    return Reroute(f"{upstream.scheme}://{upstream.authority.decode()}", theirs, ours) if ours != theirs else None


def asks_for_card(target: bytes) -> bool:
    """Whether a request target is, or may be, that of an agent's card."""
    return is_card(target.partition(b"?")[0].decode("latin-1"))


def certainly_asks_for_card(target: bytes) -> bool:
    """Whether it can be that of nothing else."""
    path = target.partition(b"?")[0].decode("latin-1")
    return is_card(path) and is_certain(path)
