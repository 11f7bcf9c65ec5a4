"""
Who may call the admin API.

Over the Unix socket: everybody whom the socket's mode lets in. Over TCP, first of all no page of a browser: `Host` has to
be localhost, the very address that was reached, or a name of `allow_hosts` (a name of the attacker's that suddenly
resolves to 127.0.0.1, "DNS rebinding", is none of them), and `Origin`, where a browser sends it, has to be the same
origin (RFC 6454). Then changes need the bearer token (RFC 6750); reads need it only beyond loopback.
"""

import re
from enum import Enum

from sidecar.admin.messages import Call
from sidecar.admin.refusals import AdminRefused
from sidecar.admin.token import Token
from sidecar.model.own_hosts import OwnHosts

_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/\s]+)", re.IGNORECASE)
_DEFAULT_PORT = {"http": ":80", "https": ":443"}
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sidecar admin"'}


class Kind(Enum):
    """What a path does, and so who may call it."""

    PROBE = "probe"
    READ = "read"
    CHANGE = "change"


class Access:
    """
    Decides over calls; `is_loopback` says whether admin is bound to loopback addresses only.

    `allow_hosts` are further names for `Host`, `open_probes` leaves `PROBE` open beyond loopback.
    """

    def __init__(self, token: Token, *, is_loopback: bool, allow_hosts: tuple[str, ...] = (), open_probes: bool = True) -> None:
        self._token = token
        self._is_loopback = is_loopback
        self._own = OwnHosts(allow_hosts)
        self._open_probes = open_probes

    def check_source(self, call: Call) -> None:
        """Raise `AdminRefused` where the call may come from a page that has no business here."""
        if call.over_unix:
            return
        host = _single(call, "host")
        if host is None:
            raise AdminRefused("bad_request", "there has to be exactly one Host header field")
        if not self._own.know(host, call.local):
            raise AdminRefused("host_refused", f"this API is not {_short(host)}")
        if call.values("origin") and not _is_same(_single(call, "origin"), host):
            raise AdminRefused("origin_refused", f"the origin {_short(call.value('origin'))} is not http://{_short(host)}")

    def check_right(self, call: Call, kind: Kind) -> None:
        """Raise `AdminRefused` where the call needs the token and does not bring it."""
        if call.over_unix or (kind is not Kind.CHANGE and self._is_loopback) or (kind is Kind.PROBE and self._open_probes):
            return
        scheme, _, offered = (_single(call, "authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not offered.strip():
            code = "token_missing" if self._token.written else "token_unwritten"
            raise AdminRefused(code, f"a {kind.value} needs the bearer token here", headers=_CHALLENGE)
        if not self._token.matches(offered.strip()):
            raise AdminRefused("token_wrong", "this is not the token", headers=_CHALLENGE)


def _single(call: Call, name: str) -> str | None:
    values = call.values(name)
    return values[0].strip() if len(values) == 1 else None


def _is_same(origin: str | None, host: str) -> bool:
    found = _ORIGIN.fullmatch(origin or "")
    if found is None:  # `null`, a file, an extension
        return False
    default = _DEFAULT_PORT[found["scheme"].lower()]
    return found["host"].lower().removesuffix(default) == host.lower().removesuffix(default)


def _short(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])
