"""
Which addresses may be reached, judged after resolution on the very address that is then connected to.

So a name that leads to 169.254.169.254 (or to us) is refused however it is spelt, and a second look-up cannot change it.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache

from sidecar.model.errors import Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Endpoint = tuple[str, int]

_METADATA = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local, with the metadata services of AWS, Azure, GCP, ECS, EKS
        "fe80::/10",
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::254/128",  # GCP over IPv6
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
        "168.63.129.16/32",  # Azure's wire server
    )
)
_NEVER = tuple(ipaddress.ip_network(network) for network in ("224.0.0.0/4", "ff00::/8", "255.255.255.255/32"))
_PRIVATE = tuple(
    ipaddress.ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


class Destinations:
    """
    Says which (ip, port) may be connected to.

    `own` gives the endpoints of our own listeners and admin; `configured` says whether an upstream names this address, as
    (host, port) with the host as an address or `localhost`.
    """

    def __init__(
        self,
        *,
        allow_loopback: bool,
        allow_private: bool,
        own: Callable[[], Iterable[Endpoint]],
        configured: frozenset[Endpoint],
    ) -> None:
        self._allow_loopback = allow_loopback
        self._allow_private = allow_private
        self._own = own
        self._configured = configured

    def judge(self, ip: str, port: int, *, named_by_config: bool) -> None:
        """Raise `Refused` where this address is closed; `named_by_config` is true for the upstreams of the config."""
        address = plain(ip)
        if any(address in network for network in (*_METADATA, *_NEVER)):
            raise Refused("address_refused", f"{address} is a link-local, metadata or multicast address")
        is_here = address.is_loopback or address.is_unspecified
        self._judge_self(address, port, is_here=is_here)
        if named_by_config:
            return
        if is_here and not self._allow_loopback and ("localhost", port) not in self._configured:
            raise Refused("loopback_refused", f"port {port} of this host is no configured upstream")
        if not self._allow_private and any(address in network for network in _PRIVATE):
            raise Refused("address_refused", f"{address} is in a private range, and allow_private is off")

    def _judge_self(self, address: Address, port: int, *, is_here: bool) -> None:
        for own_ip, own_port in self._own():
            if port != own_port:
                continue
            own = plain(own_ip)
            if own == address or ((is_here or own.is_unspecified) and (is_here or is_local(str(address)))):
                raise Refused("loop_detected", f"{address}:{port} is this sidecar itself")


def plain(ip: str) -> Address:
    """Return the address that `ip` means, with IPv4 unwrapped from its IPv6 forms (mapped, 6to4, NAT64) and no zone."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


@lru_cache(maxsize=256)
def is_local(ip: str) -> bool:
    """True for an address of one of this machine's interfaces: only such an address can be bound."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True
