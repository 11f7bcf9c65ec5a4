"""How the admin API says no: one table of codes, one exception, one JSON form `{error, detail, advice}`."""

from typing import Any

from sidecar.admin.messages import Answer, told
from sidecar.model.errors import Code, Fault

_C, _O, _S = Fault.CLIENT, Fault.OPERATOR, Fault.SIDECAR

ADMIN_CODES: dict[str, Code] = {
    "bad_request": Code(400, _C, False, "Speak HTTP/1.1, with a path as the target and one Host header field."),
    "bad_query": Code(400, _C, False, "Look at the names and forms of the query parameters in the detail."),
    "bad_body": Code(400, _C, False, 'Send no body, or JSON such as {"reason": "…"} as application/json.'),
    "body_bytes": Code(413, _C, False, "Send a smaller body; a reason is all that is read."),
    "body_timeout": Code(408, _C, True, "Send the whole body in time."),
    "token_missing": Code(401, _C, False, "Send `Authorization: Bearer` with what is in the token file, or use the Unix socket."),
    "token_wrong": Code(401, _C, False, "Read the token file again: each start makes a new token."),
    "token_unwritten": Code(403, _O, False, "The token file cannot be written; set admin.token_file, or use admin.unix_socket."),
    "host_refused": Code(403, _O, False, "Use the address itself or localhost, or add the name to admin.allow_hosts."),
    "origin_refused": Code(403, _C, False, "A page of another origin may not call this API."),
    "path_unknown": Code(404, _C, False, "The paths are in the detail."),
    "exchange_unknown": Code(404, _C, False, "It may have ended; /api/v1/exchanges lists those in flight with state `live`."),
    "method_not_allowed": Code(405, _C, False, "The header field Allow names the methods of this path."),
    "not_acceptable": Code(406, _C, False, "Accept one of the types in the detail."),
    "config_invalid": Code(422, _O, False, "The last good config stays; correct the faults and reload again."),
    "too_many_streams": Code(503, _O, True, "Close another stream first."),
    "too_many_connections": Code(503, _O, True, "Close other connections to admin first."),
    "busy": Code(503, _O, True, "Wait until the operations that run are done."),
    "timed_out": Code(504, _S, True, "The operation took too long and was given up; its log has the details."),
    "failed": Code(500, _S, False, "The sidecar failed; its log has the details. Please report it."),
}
"""What each code of the admin API means; /api/v1/errors shows it beside the codes of the data plane."""


class AdminRefused(Exception):
    """A call to the admin API gets an error: `code` is a key of `ADMIN_CODES`, `more` are further members of the JSON."""

    def __init__(
        self, code: str, detail: str, *, headers: dict[str, str] | None = None, more: dict[str, Any] | None = None
    ) -> None:
        super().__init__(code, detail)
        assert code in ADMIN_CODES, code
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.more = more or {}

    def answer(self) -> Answer:
        """The error as the caller gets it."""
        meaning = ADMIN_CODES[self.code]
        body = {"error": self.code, "detail": self.detail, "advice": meaning.advice, **self.more}
        return told(body, status=meaning.status, headers=self.headers)
