"""
An agent's card, and the addresses in it: every client of A2A takes the agent's endpoints from there.

A reverse proxy is walked around unless the card leads to it, so `rewrite` puts the proxy's address in the place of the agent's.
It does so in the bytes: all else in the card, unknown members and the order of things included, stays as it came. A card that is
signed (`signatures`, RFC 8785 and RFC 7515) would not verify any more; it is never changed, and the caller is told.

Sources: https://a2a-protocol.org/v1.0.0/specification (AgentCard, AgentInterface) and v0.3.0 (`url`, `additionalInterfaces`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec
from msgspec import Raw

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.jsonrpc import MOST_TEXT, NOTHING, is_text, members, text
from sidecar.dialects.splice import find

MOST_INTERFACES = 64
MOST_URL_CHARACTERS = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NONE = (b"", b"null", b"[]", b"{}", b'""')
_LISTS = ("supportedInterfaces", "supported_interfaces", "additionalInterfaces", "additional_interfaces")
_GRPC = "GRPC"


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where an agent is, and how it is reached instead.

    `card` is the card's own URL at the agent, against which relative ones count. `agent` are base URLs of the agent; what lies
    below one of them is reached below `gateway`, a base URL too. `grpc` has our `host:port` for the agent's, where gRPC has a
    way through: it cannot take that of HTTP/1.1.
    """

    card: str
    agent: tuple[str, ...]
    gateway: str
    grpc: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Rewritten:
    """
    A card, and what has become of its addresses.

    `body` is the very object that came in where nothing had to change. `changed` counts addresses that lead to us now;
    `elsewhere` are those that do not, of other hosts or gRPC without a way (at most 256 characters of each). `is_signed`: the
    card has signatures, and `body` is untouched.
    """

    body: bytes
    changed: int = 0
    elsewhere: tuple[str, ...] = ()
    is_signed: bool = False


class _Card(msgspec.Struct, gc=False, rename={"transport": "preferredTransport", "transport_": "preferred_transport"}):
    url: Raw = NOTHING
    transport: Raw = NOTHING
    transport_: Raw = NOTHING
    signatures: Raw = NOTHING
    name: Raw = NOTHING
    skills: Raw = NOTHING
    capabilities: Raw = NOTHING


class _Interface(msgspec.Struct, gc=False, rename={"binding": "protocolBinding", "binding_": "protocol_binding"}):
    url: Raw = NOTHING
    binding: Raw = NOTHING
    binding_: Raw = NOTHING
    transport: Raw = NOTHING


_card = msgspec.json.Decoder(_Card).decode
_interface = msgspec.json.Decoder(_Interface)
_interfaces = msgspec.json.Decoder(list[Raw]).decode

_Place = tuple[int, int]


def rewrite(body: bytes, address: Address, within: tuple[str, ...] = (), *, is_certain: bool = True) -> Rewritten:
    """
    Return a card with the agent's addresses replaced; `within` is where it stands in the body (`("result",)` of JSON-RPC).

    Raises `Unreadable` for what is no card: no JSON object, or more than `MOST_INTERFACES` interfaces in one list; and, where
    nobody is certain that it is one, for an object without the name, skills and capabilities that every card has.
    """
    at = find(body, within)
    if at is None:
        raise Unreadable("no card is there")
    card = body[at[0] : at[1]]
    try:
        read = _card(card)
    except (ValueError, RecursionError):
        raise Unreadable("no JSON object") from None
    if not is_certain and not (is_text(read.name) and bytes(read.skills)[:1] == b"[" and bytes(read.capabilities)[:1] == b"{"):
        raise Unreadable("no card of an agent")
    if bytes(read.signatures) not in _NONE:
        return Rewritten(body, is_signed=True)
    moved: list[tuple[_Place, bytes]] = []
    elsewhere: list[str] = []
    for place, value, is_grpc in _addresses(card, read):
        url = text(value, MOST_URL_CHARACTERS) if bytes(value).startswith(b'"') else ""
        new = _moved(url, address, is_grpc=is_grpc) if len(url) < MOST_URL_CHARACTERS else None
        if new is None:
            elsewhere.append(url[:MOST_TEXT])
        elif new != url:
            moved.append((place, msgspec.json.encode(new)))
    for (start, end), quoted in sorted(moved, reverse=True):
        card = card[:start] + quoted + card[end:]
    whole = body[: at[0]] + card + body[at[1] :] if moved else body
    return Rewritten(whole, len(moved), tuple(elsewhere))


def _addresses(card: bytes, read: _Card) -> list[tuple[_Place, Raw, bool]]:
    """Each endpoint's URL in a card: where it stands, its raw JSON, and whether it is one for gRPC."""
    found: list[tuple[_Place, Raw, bool]] = []
    place = find(card, ("url",)) if read.url else None
    if place is not None:
        found.append((place, read.url, _is_grpc(read.transport or read.transport_)))
    for name in _LISTS:
        place = find(card, (name,))
        if place is not None and card[place[0] : place[0] + 1] == b"[":
            found += _of_list(card, place)
    return found


def _of_list(card: bytes, place: _Place) -> list[tuple[_Place, Raw, bool]]:
    try:
        items = _interfaces(card[place[0] : place[1]])
    except (ValueError, RecursionError):
        raise Unreadable("nested too deeply") from None
    if len(items) > MOST_INTERFACES:
        raise Unreadable("too many interfaces")
    found: list[tuple[_Place, Raw, bool]] = []
    at = place[0] + 1
    for raw in items:
        item = bytes(raw)
        at = card.index(item, at)  # between items stand commas and white space only
        interface = members(item, _interface, _Interface())
        inside = find(item, ("url",)) if interface.url else None
        if inside is not None:
            is_grpc = _is_grpc(interface.binding or interface.binding_ or interface.transport)
            found.append(((at + inside[0], at + inside[1]), interface.url, is_grpc))
        at += len(item)
    return found


def _is_grpc(binding: Raw) -> bool:
    return text(binding).upper() == _GRPC


def _moved(url: str, address: Address, *, is_grpc: bool) -> str | None:
    """The URL by which we are asked instead, the same one where it leads to us already; None where it leads elsewhere."""
    if not url:
        return url
    if is_grpc:
        authority = url.partition("://")[2] or url
        return address.grpc.get(authority.rstrip("/").lower())
    gateway = address.gateway.rstrip("/")
    try:
        parts = urlsplit(urljoin(address.card, url))
        if _below(parts, urlsplit(gateway + "/")) is not None:
            return url
        for base in address.agent:
            rest = _below(parts, urlsplit(base))
            if rest is not None:
                return gateway + rest
    except ValueError:
        pass  # no URL at all, as with a port that is no number
    return None


def _below(url: SplitResult, base: SplitResult) -> str | None:
    """The rest of a URL behind a base, from its `/` on; None where it does not lie below it."""
    if url.scheme != base.scheme or "@" in url.netloc or not url.hostname or not base.hostname:
        return None
    default = _DEFAULT_PORTS.get(url.scheme)
    if (url.port or default) != (base.port or default) or not _is_same_host(url.hostname, base.hostname):
        return None
    folder = base.path.rstrip("/")
    path = url.path or "/"
    if not path.startswith(folder) or path[len(folder) : len(folder) + 1] not in ("", "/"):
        return None
    rest = (path[len(folder) :] or "/") + (f"?{url.query}" if url.query else "")
    return rest + (f"#{url.fragment}" if url.fragment else "")


def _is_same_host(one: str, other: str) -> bool:
    """
    Whether two names are of one host: in any case and with or without the final dot.

    All names of the loopback interface are one. `0.0.0.0`, which agents often put into their cards because they listen
    there, is no address that anybody could mean but their own.
    """
    one, other = one.lower().rstrip("."), other.lower().rstrip(".")
    return one == other or _is_unspecified(one) or (_is_loopback(one) and _is_loopback(other))


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
