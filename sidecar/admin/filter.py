"""Which exchanges a caller wants to see: `limit`, `agent`, `route`, `status` and `state` of a query string."""

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl

from sidecar.admin.refusals import AdminRefused
from sidecar.model.dialogue import Dialogue
from sidecar.model.judgement import judge

MOST = 512
_NAMES = ("limit", "agent", "route", "status", "state")
_STATUS = re.compile(r"[1-5][0-9][0-9]|[1-5]xx|error|0")
_STATES = ("live", "finished")


class Seen(Protocol):
    """What a filter looks at: of a fact, or of an exchange in flight."""

    status: int
    error: str
    dialogue: Dialogue | None

    @property
    def agent(self) -> str: ...

    @property
    def route(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    `status` is `200`, `4xx`, `0` (nothing was answered) or `error` (something went wrong, whoever's doing it was, and also where
    only the answer itself says so); "" is any.
    """

    limit: int
    agent: str = ""
    route: str = ""
    status: str = ""
    state: str = ""

    @classmethod
    def read(cls, query: str, *, limit: int) -> "Filter":
        """Read a query string, where `limit` stands for what is not said; raises `AdminRefused` with what is wrong."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=16)
        except ValueError as error:
            raise AdminRefused("bad_query", f"the query cannot be read: {error}") from error
        given = dict(pairs)
        unknown = sorted(given.keys() - set(_NAMES))
        if unknown or len(given) != len(pairs):
            raise AdminRefused("bad_query", f"the parameters are {', '.join(_NAMES)}, each at most once")
        limit_text = given.pop("limit", str(limit))
        if not (limit_text.isascii() and limit_text.isdecimal() and len(limit_text) <= 3 and int(limit_text) <= MOST):
            raise AdminRefused("bad_query", f"limit is a number from 0 to {MOST}")
        if given.get("status") and not _STATUS.fullmatch(given["status"]):
            raise AdminRefused("bad_query", "status is a number such as 200, a class such as 4xx, 0, or error")
        if given.get("state") and given["state"] not in _STATES:
            raise AdminRefused("bad_query", f"state is {' or '.join(_STATES)}")
        return cls(limit=int(limit_text), **given)

    def matches(self, seen: Seen) -> bool:
        """Whether the caller wants to see this one (`limit` and `state` apart)."""
        if self.agent and seen.agent != self.agent:
            return False
        if self.route and seen.route != self.route:
            return False
        if not self.status:
            return True
        if self.status == "error":
            return bool(judge(seen.status, seen.error, seen.dialogue).kind)
        text = str(seen.status)
        return text == self.status or (self.status.endswith("xx") and len(text) == 3 and text[0] == self.status[0])
