"""
Every error that the sidecar itself makes: one tree, one table.

Each code says how to answer (HTTP status), whose fault it was, whether trying again can help, and what to do. Foreign
errors (sockets, TLS, parsers) are translated into these once, at the border where they enter.
"""

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Who has to change something so that the error goes away."""

    CLIENT = "client"
    OPERATOR = "operator"
    UPSTREAM = "upstream"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table: `status` is the HTTP status of the answer, `retry` whether the same call may succeed later."""

    status: int
    fault: Fault
    retry: bool
    advice: str


_C, _O, _U, _S = Fault.CLIENT, Fault.OPERATOR, Fault.UPSTREAM, Fault.SIDECAR

CODES: dict[str, Code] = {
    # the request itself (RFC 9110, RFC 9112)
    "bad_request_line": Code(400, _C, False, "Send METHOD SP TARGET SP HTTP/1.1, with one space between them."),
    "bad_header": Code(400, _C, False, "Send header fields as `name: value` without control characters, one a line."),
    "bad_target": Code(400, _C, False, "Send a path, an absolute http:// URL, or host:port with CONNECT."),
    "bad_host": Code(400, _C, False, "Send exactly one valid Host header field."),
    "bad_content_length": Code(400, _C, False, "Send one Content-Length of decimal digits."),
    "length_and_chunked": Code(400, _C, False, "Send Content-Length or Transfer-Encoding, never both."),
    "bad_transfer_encoding": Code(400, _C, False, "The last (and only) transfer coding has to be chunked."),
    "unknown_transfer_coding": Code(501, _C, False, "Only the transfer coding `chunked` is understood."),
    "bad_chunk": Code(400, _C, False, "Send chunks as RFC 9112 section 7.1 says."),
    "bad_expect": Code(417, _C, False, "The only expectation that HTTP knows is 100-continue."),
    "http_version": Code(505, _C, False, "Speak HTTP/1.1 (or 1.0) to the sidecar."),
    "http2_preface": Code(505, _C, False, "This port speaks HTTP/1.1; switch HTTP/2 prior knowledge off in the client."),
    "tls_to_plain_port": Code(400, _C, False, "This port speaks plain HTTP; write http:// in HTTP_PROXY or base_url."),
    "header_bytes": Code(431, _C, False, "Send fewer or shorter header fields, or raise max_header_bytes."),
    "header_count": Code(431, _C, False, "Send fewer header fields, or raise max_header_count."),
    "url_length": Code(414, _C, False, "Send a shorter URL, or raise max_url_bytes."),
    "body_bytes": Code(413, _C, False, "Send a smaller body, or raise max_body_bytes."),
    "request_timeout": Code(408, _C, True, "Send the whole request head in time (header_timeout)."),
    "body_timeout": Code(408, _C, True, "Keep sending the request body (idle_timeout)."),
    "client_stalled": Code(408, _C, True, "Keep reading the response (idle_timeout)."),
    "pipeline_bytes": Code(503, _C, True, "Send the next request after the response, or raise max_pipelined_bytes."),
    "too_many_connections": Code(503, _O, True, "Close idle connections, or raise max_connections."),
    # where it wants to go
    "proxy_auth_required": Code(407, _C, False, "Send Proxy-Authorization: Basic with a configured user and password."),
    "host_refused": Code(403, _O, False, "Use the address itself or localhost, or add the name to allow_hosts of the listener."),
    "origin_refused": Code(403, _O, False, "Pages of other sites may not call; see allow_hosts of the listener for this one."),
    "route_unknown": Code(404, _C, False, "No route has this path prefix; see /api/v1/config for the routes."),
    "destination_denied": Code(403, _O, False, "Add a route and upstream for this destination, or set `default: forward`."),
    "connect_denied": Code(403, _O, False, "This destination is not to be tunnelled; see `connect` of its route."),
    "address_refused": Code(403, _O, False, "The name leads to a link-local, metadata or otherwise closed address."),
    "loopback_refused": Code(403, _O, False, "Configure this loopback port as an upstream, or set allow_loopback."),
    "loop_detected": Code(508, _O, False, "The request came back to this sidecar; look at proxy settings and upstreams."),
    # the way there
    "dns_failed": Code(502, _U, True, "The host name did not resolve; check its spelling and the DNS."),
    "connect_failed": Code(502, _U, True, "Nobody accepted the connection; check address, port and network."),
    "connect_timeout": Code(504, _U, True, "The upstream did not accept in time (connect_timeout)."),
    "tls_failed": Code(502, _U, False, "TLS with the upstream failed; check its certificate, `tls.ca_file` and the server name."),
    "proxy_unreachable": Code(502, _O, True, "The corporate proxy cannot be connected to; check host and port of `proxy`."),
    "proxy_auth_failed": Code(502, _O, False, "The corporate proxy wants other credentials; check user and password in `proxy`."),
    "proxy_denied": Code(403, _O, False, "The corporate proxy does not allow this destination; ask its owners, or see no_proxy."),
    "proxy_timeout": Code(504, _U, True, "The corporate proxy did not reach the destination in time (connect_timeout)."),
    "proxy_failed": Code(502, _U, True, "The corporate proxy opened no tunnel; it cannot reach the destination, or is no proxy."),
    "pool_exhausted": Code(503, _O, True, "All connections to this upstream are busy; raise max_connections or slow down."),
    "pool_timeout": Code(503, _O, True, "No connection to this upstream became free in time (pool_timeout)."),
    # what came back
    "upstream_closed": Code(502, _U, True, "The upstream closed the connection before it answered."),
    "upstream_cut": Code(502, _U, True, "The upstream closed the connection in the middle of its answer."),
    "upstream_malformed": Code(502, _U, False, "The upstream's answer is not HTTP/1.1 as RFC 9112 defines it."),
    "first_byte_timeout": Code(504, _U, True, "The upstream did not begin to answer in time (first_byte_timeout)."),
    "idle_timeout": Code(504, _U, True, "The upstream stopped sending in the middle (idle_timeout)."),
    "agent_card_signed": Code(
        502, _O, False, "The agent's card is signed and cannot be rewritten; set `signed: pass`, or call as a forward proxy."
    ),
    # ourselves
    "client_gone": Code(499, _C, True, "The client closed the connection before the answer was complete."),
    "stopped": Code(503, _O, False, "An operator or a policy stopped this call."),
    "body_gone": Code(502, _S, False, "The request body was already sent on and cannot be repeated."),
    "draining": Code(503, _O, True, "The sidecar is shutting down; another one will take over."),
    "no_descriptors": Code(503, _S, True, "No file descriptor is left; raise its limit (LimitNOFILE), or lower max_connections."),
    "policy_failed": Code(500, _S, False, "A policy of the sidecar failed; its log has the details."),
    "policy_timeout": Code(503, _O, True, "No policy decided in time (policy_timeout of the route)."),
    "given_up": Code(503, _S, True, "A policy gave this attempt or response up, for another one or an answer of its own."),
    "internal": Code(500, _S, False, "The sidecar failed; its log has the details. Please report it."),
}
"""What each code means; tests hold the documentation and the admin API against this table."""


class Refused(Exception):
    """
    The sidecar itself answers, because the call may not pass.

    `code` is a key of `CODES`; `detail` says what exactly was wrong (never a credential); `retry_after_s` becomes
    Retry-After where it is known.
    """

    def __init__(self, code: str, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(code, detail)
        assert code in CODES, code
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def meaning(self) -> Code:
        """The row of `CODES`."""
        return CODES[self.code]

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class UpstreamFailed(Refused):
    """The call was passed on, but the upstream (or the way there) failed; `code` says how."""


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One thing that is wrong in a config: `path` as in `traffic.upstreams.http/openai.url`, `line` from 1 (0: unknown)."""

    path: str
    line: int
    problem: str
    hint: str = ""
    source: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}: " if self.source and self.line else f"line {self.line}: " if self.line else ""
        return f"{place}{self.path}: {self.problem}" + (f" ({self.hint})" if self.hint else "")


class ConfigInvalid(Exception):
    """A config that cannot be used; `faults` lists everything that is wrong with it, in the order of the file."""

    def __init__(self, faults: list[ConfigFault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
