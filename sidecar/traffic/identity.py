"""
Who calls: Proxy-Authorization first, then x-agent-id and x-agent-task-id, then baggage, then the config (in this order).

How far an agent is trusted (`agent.trust_score`) is what its baggage says, and nobody has checked it.

The credential and the two fields never reach the upstream; `wire.request_head` has taken them out already.
"""

import base64
import hmac
import re
from collections.abc import Mapping

from sidecar.model.baggage import find
from sidecar.model.errors import Refused
from sidecar.model.spec import Secret
from sidecar.traffic.wire.request_head import RequestHead

_LONGEST = 256
"""Characters of an id that are kept; a longer one is cut, because it names a metric series and a span attribute."""

_SCORE = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,9})?")
MOST_TRUST = 1000.0
"""Agent-Mesh scores from 0 to 1000, others from 0 to 1; what is above says nothing."""

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Controls, line ends and changes of writing direction: taken out, because an id is shown in logs, tables and terminals."""


class Doorkeeper:
    """Checks who may use a listener; with no `users` everybody may, and a Proxy-Authorization user is a name, not a proof."""

    def __init__(self, users: Mapping[str, Secret]) -> None:
        self._passwords = {user: password.reveal().encode() for user, password in users.items()}

    def admit(self, authorization: bytes) -> str:
        """Return the user of a Proxy-Authorization value, or ""; raises `Refused("proxy_auth_required")`."""
        named = basic_user(authorization) if authorization else None
        if not self._passwords:
            return named[0] if named is not None else ""
        if named is None:
            raise Refused("proxy_auth_required", "Proxy-Authorization: Basic is missing")
        user, password = named
        # An unknown user costs the same comparison, so that time does not tell names.
        expected = self._passwords.get(user, b"\0")
        if not hmac.compare_digest(expected, password.encode()) or user not in self._passwords:
            raise Refused("proxy_auth_required", "the user or the password is wrong")
        return user


def basic_user(authorization: bytes) -> tuple[str, str] | None:
    """Return (user, password) of a Basic credential (RFC 7617), or None for anything else."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (user, password) if colon else None


def agent_of(request: RequestHead, user: str, default: str) -> str:
    """The agent's id; `user` is what the doorkeeper returned, `default` comes from the config or the environment."""
    return _id(user) or _told(request.agent) or _carried(request, b"agent.id") or default


def task_of(request: RequestHead, default: str) -> str:
    """The task's id, from x-agent-task-id, else from baggage, else from the config or the environment."""
    return _told(request.task) or _carried(request, b"agent.task.id") or default


def trust_of(baggage: tuple[bytes, ...]) -> float | None:
    """The agent's trust score, from baggage; None where it says none, or something that can be none."""
    if not baggage:
        return None
    told = _SCORE.fullmatch(find(baggage, b"agent.trust_score"))
    if told is None:
        return None
    score = float(told[0])
    return score if score <= MOST_TRUST else None


def _told(value: bytes) -> str:
    return _id(value[: 4 * _LONGEST].decode("utf-8", "replace")) if value else ""


def _carried(request: RequestHead, key: bytes) -> str:
    return _id(find(request.baggage, key)) if request.baggage else ""


def _id(text: str) -> str:
    return _UNSEEN.sub("", text)[:_LONGEST] if text else ""
