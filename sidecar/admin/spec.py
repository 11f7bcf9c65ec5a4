"""
What a person may write under `admin:`.

    admin: {endpoint: 127.0.0.1:4141, unix_socket: /run/sidecar/admin.sock, allow_hosts: [sidecar.example.org]}
"""

import re
from dataclasses import dataclass

from sidecar.model.own_hosts import check_allowed
from sidecar.model.spec import Spec

_ENDPOINT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):(?P<port>[0-9]{1,5})")
_MOST_KEPT = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSpec(Spec):
    """The admin API. Reads are open on loopback; changes need the token, or the Unix socket."""

    endpoint: str = "127.0.0.1:4141"
    """Address and port; port 0 takes a free one. Beyond loopback, reads need the token too."""
    unix_socket: str = ""
    """Path of a Unix socket (made with mode 0600) over which everything is allowed; none by default."""
    token_file: str = ""
    """Where the token is written at start (mode 0600) and removed at stop; by default `agent-sre-sidecar/admin-token`
    (with the port behind it where that is not 4141) under $XDG_RUNTIME_DIR, $XDG_STATE_HOME or ~/.local/state."""
    allow_hosts: tuple[str, ...] = ()
    """Host names by which this API may be called, beside localhost and the address itself; without port."""
    open_probes: bool = True
    """Leave /healthz, /readyz and /metrics open beyond loopback too, for the kubelet and the scraper."""
    kept_exchanges: int = 512
    """Exchanges that /api/v1/exchanges remembers, about 2 KiB each; a reload keeps them, the latest ones where it shrinks."""

    def __post_init__(self) -> None:
        found = _ENDPOINT.fullmatch(self.endpoint)
        if found is None or int(found["port"]) > 65535:
            raise ValueError(f"endpoint is an address and a port, as in '127.0.0.1:4141' or '[::1]:4141', not {self.endpoint!r}")
        if not 0 <= self.kept_exchanges <= _MOST_KEPT:
            raise ValueError(f"kept_exchanges is a number from 0 to {_MOST_KEPT}")
        check_allowed(self.allow_hosts)

    @property
    def host(self) -> str:
        """The address of `endpoint`, without brackets."""
        return self.endpoint.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `endpoint`."""
        return int(self.endpoint.rpartition(":")[2])
