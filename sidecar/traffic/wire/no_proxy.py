"""
What is reached without the corporate proxy: the list `no_proxy`, read as curl and Go read it.

    internal.example     the host, and all below it (so do .internal.example and *.internal.example)
    internal.example:8443, 10.1.2.3, [2001:db8::1]:443      with a port: that port alone
    10.0.0.0/8           addresses that are spelt out; names are not resolved for this
    *                    everything
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from sidecar.traffic.destinations import Address, plain
from sidecar.traffic.wire.resolver import as_literal


class NoProxy:
    """A list as it counts; entries that make no sense are passed over, as everybody does with those of the environment."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = [entry for entry in map(_Entry.read, entries) if entry is not None]

    def exempts(self, host: str, port: int) -> bool:
        """True where the destination is reached directly."""
        host = host.lower().rstrip(".")
        literal = as_literal(host)
        address = plain(literal) if literal else None
        return any(entry.matches(host, address, port) for entry in self._entries)


def check_no_proxy(entries: Iterable[str]) -> None:
    """Raise ValueError where one of the entries can never match anything."""
    for entry in entries:
        if _Entry.read(entry) is None:
            raise ValueError(f"no_proxy has hosts and addresses, with or without a port, CIDR ranges, and `*`, not {entry!r}")


_WITH_PORT = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"(?:\*?\.)?(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of no_proxy: a name with all below it, or a network; port 0 is any. `*` is the name ""."""

    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int = 0

    @classmethod
    def read(cls, text: str) -> "_Entry | None":
        """Read an entry as curl and Go do; None where it makes no sense."""
        text = text.strip().lower()
        if text == "*":
            return cls()
        if text.count(":") > 1 and not text.startswith("["):
            text = f"[{text}]" if "/" not in text else text
        try:
            if "/" in text:
                return cls(network=ip_network(text, strict=False))
            found = _WITH_PORT.fullmatch(text)
            if found is None:
                return None
            host, port = found["six"] or found["host"], int(found["port"] or 0)
            literal = as_literal(host)
            if literal:
                return cls(network=ip_network(plain(literal)), port=port)
        except ValueError:
            return None
        name = _NAME.fullmatch(host)
        return cls(name=name["name"], port=port) if name is not None and not found["six"] else None

    def matches(self, host: str, address: Address | None, port: int) -> bool:
        """True where a destination is exempt; `address` is the host's, where it is one."""
        if self.port and self.port != port:
            return False
        if self.network is not None:
            return address is not None and address in self.network
        return not self.name or (address is None and (host == self.name or host.endswith(f".{self.name}")))
