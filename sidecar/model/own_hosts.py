"""
Which values of Host mean ourselves (RFC 9110 section 7.2).

A name of an attacker's that suddenly resolves to 127.0.0.1 ("DNS rebinding") makes a page of theirs one of the same origin as
ours, and its Host is what gives it away: it is neither localhost, nor an address of loopback, nor a name that was allowed.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

_HOST = re.compile(r"(?P<name>\[[^\[\]]+\]|[^\[\]:\s]+)(?::[0-9]{0,5})?")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def address(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a text spells, an IPv4 one behind ::ffff: as itself; None where it spells none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def is_loopback(host: str) -> bool:
    """True for localhost and the addresses of loopback, without brackets."""
    literal = address(host)
    return host == "localhost" or (literal is not None and literal.is_loopback)


def check_allowed(names: Iterable[str]) -> None:
    """Raise ValueError where one of these cannot stand in `allow_hosts`."""
    for name in names:
        if not _NAME.fullmatch(name) and address(name) is None:
            raise ValueError(f"allow_hosts holds names without scheme and port, as in 'sidecar.example.org', not {name!r}")


class OwnHosts:
    """
    Localhost, loopback, and the `names` that an operator gave; with `any_address`, every address that is spelt out.

    No attacker can have the browser of somebody else send an address that it is not connected to.
    """

    def __init__(self, names: Iterable[str] = (), *, any_address: bool = False) -> None:
        self._names = {"localhost", *map(_plain, names)}
        self._any_address = any_address

    def know(self, host: str, local: str = "") -> bool:
        """Whether a Host is one of ours; `local` is the address that was reached."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = _plain(found["name"])
        if name in self._names:
            return True
        literal = address(name)
        return literal is not None and (self._any_address or literal.is_loopback or literal == address(local))


def _plain(name: str) -> str:
    return name.strip("[]").lower().removesuffix(".")
