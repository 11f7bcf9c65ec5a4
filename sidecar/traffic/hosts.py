"""
What can be said of a host without resolving it, for calls whose name only a corporate proxy resolves.

An address that is spelt out is judged as ever. Of names, those are known that lead to metadata services, to loopback and to
this machine itself; what any other leads to is the proxy's to know, and to judge.
"""

import socket

from sidecar.model import own_hosts
from sidecar.model.errors import Refused
from sidecar.traffic.destinations import Destinations
from sidecar.traffic.wire.resolver import as_literal

_METADATA = frozenset(
    (
        "metadata",  # GCP's short name, in the search domain of its machines
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",  # AWS
        "instance-data.ec2.internal",
        "metadata.tencentyun.com",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "rancher-metadata",
    )
)
_LOOPBACK = "127.0.0.1"
_UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 - which lead to loopback; compared with, not bound to


def is_loopback(host: str) -> bool:
    """True where a host is this machine's loopback by its spelling: `localhost` and all below it (RFC 6761), or an address."""
    host = as_literal(host) or _same(host)
    return own_hosts.is_loopback(host) or host in _UNSPECIFIED or host.endswith(".localhost")


def judge_unresolved(destinations: Destinations, host: str, port: int, *, named_by_config: bool) -> None:
    """Raise `Refused` where a host is closed, as far as that can be known without resolving it."""
    literal = as_literal(host)
    name = _same(host)
    if literal or is_loopback(host):
        destinations.judge(literal or _LOOPBACK, port, named_by_config=named_by_config)
    elif name in _METADATA:
        raise Refused("address_refused", f"{name} is the name of a metadata service")
    elif name == _same(socket.gethostname()):
        destinations.judge(_LOOPBACK, port, named_by_config=True)  # is it one of our own ports?


def _same(host: str) -> str:
    return host.lower().rstrip(".")
