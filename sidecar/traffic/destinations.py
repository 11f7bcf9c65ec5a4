"""
Which addresses may be reached, judged after resolution on the very address that is then connected to.

So a name that leads to 169.254.169.254 (or to us) is refused however it is spelt, and a second look-up cannot change it. An
IPv6 address that carries an IPv4 address is judged by both: which of them is reached is for routers and translators to say.
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
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # carriers (RFC 6598)
        "fc00::/7",
        "fec0::/10",  # site-local, deprecated and still routed inside of sites (RFC 3879)
    )
)
_THIS_HOST = ipaddress.ip_network("0.0.0.0/8")
"""This host on this network (RFC 1122 section 3.2.1.3)."""

_CARRIERS = tuple(
    (ipaddress.IPv6Network(network), places)
    for network, places in (
        ("::/96", ((12, 13, 14, 15),)),  # IPv4-compatible, deprecated (RFC 4291 section 2.5.5.1)
        ("::ffff:0:0:0/96", ((12, 13, 14, 15),)),  # IPv4-translated (RFC 2765 section 2.1)
        ("64:ff9b::/96", ((12, 13, 14, 15),)),  # NAT64 (RFC 6052 section 2.1)
        ("64:ff9b:1::/48", ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))),  # NAT64, local (RFC 8215)
        ("2002::/16", ((2, 3, 4, 5),)),  # 6to4 (RFC 3056)
        ("2001::/32", ((4, 5, 6, 7),)),  # Teredo's server (RFC 4380 section 4); its client follows in `_carried`
    )
)
"""
Where IPv6 carries IPv4: for each network the places of the four octets, several where the prefix's length is not known.

NAT64 prefixes out of an operator's own space (RFC 6052 section 2.2) look like any other address and cannot be told.
"""
_TEREDO = ipaddress.IPv6Network("2001::/32")
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
"""Octets 8 to 11 of an address whose last four are IPv4 (RFC 5214 section 6.1)."""


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
        meant = meanings(ip)
        for address in meant:
            if any(address in network for network in (*_METADATA, *_NEVER)):
                raise Refused("address_refused", f"{address} is a link-local, metadata or multicast address")
        is_here = any(address.is_loopback or address.is_unspecified or address in _THIS_HOST for address in meant)
        for address in meant:
            self._judge_self(address, port, is_here=is_here)
        if named_by_config:
            return
        if is_here and not self._allow_loopback and ("localhost", port) not in self._configured:
            raise Refused("loopback_refused", f"port {port} of this host is no configured upstream")
        if self._allow_private:
            return
        for address in meant:
            if any(address in network for network in _PRIVATE):
                raise Refused("address_refused", f"{address} is in a private range, and allow_private is off")

    def _judge_self(self, address: Address, port: int, *, is_here: bool) -> None:
        for own_ip, own_port in self._own():
            if port != own_port:
                continue
            own = plain(own_ip)
            if own == address or ((is_here or own.is_unspecified) and (is_here or is_local(str(address)))):
                raise Refused("loop_detected", f"{address}:{port} is this sidecar itself")


def plain(ip: str) -> Address:
    """Return the address that `ip` spells, without its zone; IPv4-mapped IPv6 is IPv4, as it is for the kernel."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def meanings(ip: str) -> tuple[Address, ...]:
    """Return every address that `ip` may lead to: itself, and the IPv4 addresses that it carries inside."""
    address = plain(ip)
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    return (address, *_carried(address))


def _carried(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses inside of an IPv6 address; all that are possible where its form leaves that open."""
    octets = address.packed
    found: list[bytes] = []
    for network, places in _CARRIERS:
        if address not in network:
            continue
        # Behind an embedded address there is nothing but zeros (RFC 6052 section 2.2), so its end tells its place.
        told = [four for four in places if len(places) == 1 or not any(octets[four[-1] + 1 :])]
        possible = [bytes(octets[at] for at in four) for four in told]
        found += [four for four in possible if four[0]] or possible[:1]  # a place where 0.0.0.0/8 stands was not the one
    if address in _TEREDO:
        found.append(bytes(octet ^ 0xFF for octet in octets[12:]))  # the client, with its bits turned over
    if octets[8:12] in _ISATAP:
        found.append(octets[12:])
    return [ipaddress.IPv4Address(four) for four in found]


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
