"""
Which route a call takes: by path prefix (gateway), or by the destination's host and port (forward proxy and CONNECT).

Both lead to the same route object, so the same destination gets the same policies and names whichever way it is reached.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.model.errors import Refused
from sidecar.model.facts import Mode
from sidecar.traffic.chain import Chain
from sidecar.traffic.spec import Connect, RouteSpec
from sidecar.traffic.upstreams.http import HttpUpstream
from sidecar.traffic.wire.request_head import RequestHead
from sidecar.traffic.wire.resolver import as_literal

_DEFAULTS = RouteSpec(upstream="")
"""What holds for destinations that no route names."""


class Route:
    """One compiled way: everything that an exchange needs of the config, bound once."""

    __slots__ = ("_cards", "baggage", "chain", "connect", "leads_cards", "name", "prefix", "spec", "upstream")

    def __init__(
        self, name: str, prefix: bytes, upstream: HttpUpstream, chain: Chain, connect: Connect, *, baggage: bool,
        spec: RouteSpec = _DEFAULTS, cards: Callable[[], Chain] | None = None, leads_cards: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.prefix = prefix
        self.upstream = upstream
        self.chain = chain
        self.connect = connect
        self.baggage = baggage
        self.spec = spec
        self._cards = cards
        self.leads_cards = leads_cards

    def card_chain(self) -> Chain:
        """The chain of calls that ask for an agent's card, which has to lead its readers here; made when the first one comes."""
        return self._cards() if self._cards is not None else self.chain


@dataclass(slots=True)
class Way:
    """
    Where one call goes.

    `target` is the request target for the upstream and `host_line` the value of its Host; `asked` is the target as the
    agent sent it, without scheme and authority.
    """

    mode: Mode
    route: Route
    target: bytes
    host: str
    port: int
    host_line: bytes
    asked: bytes


class Router:
    """The routes of one graph, looked up in constant time for all but nested prefixes."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = tuple(routes)
        by_segment: dict[bytes, list[Route]] = {}
        by_destination: dict[tuple[str, str, int], list[Route]] = {}
        for route in routes:
            if route.prefix:
                by_segment.setdefault(_first_segment(route.prefix), []).append(route)
            upstream = route.upstream
            destination = (upstream.scheme, _same_host(upstream.host), upstream.port)
            by_destination.setdefault(destination, []).append(route)
        self._by_segment = {
            segment: tuple(sorted(found, key=lambda route: -len(route.prefix))) for segment, found in by_segment.items()
        }
        self._by_destination = {
            destination: tuple(sorted(found, key=lambda route: -len(route.upstream.base)))
            for destination, found in by_destination.items()
        }

    def gateway(self, request: RequestHead) -> Way:
        """Find the route of an origin-form target; raises `Refused("route_unknown")`."""
        target = request.target
        end = target.find(b"/", 1)
        for segment in (target[: end + 1], b"/"):
            for route in self._by_segment.get(segment, ()):
                prefix = route.prefix
                if target.startswith(prefix):
                    upstream = route.upstream
                    target_there = upstream.base + target[len(prefix) - 1 :]
                    return Way(Mode.GATEWAY, route, target_there, upstream.host, upstream.port, upstream.authority, target)
        raise Refused("route_unknown", f"no route begins with the path of {_shown(target)}")

    def by_destination(self, scheme: str, host: str, port: int, path: bytes) -> Route | None:
        """Find the route of a destination: the one whose upstream has the longest matching path, else the first."""
        found = self._by_destination.get((scheme, host, port))
        if found is None:
            return None
        for route in found:
            base = route.upstream.base
            if path.startswith(base) and path[len(base) : len(base) + 1] in (b"", b"/", b"?"):
                return route
        return found[0]

    def tunnel(self, host: str, port: int) -> Route | None:
        """Find the route of a CONNECT destination, whatever its upstream speaks inside."""
        return self.by_destination("https", host, port, b"/") or self.by_destination("http", host, port, b"/")


@dataclass(slots=True)
class Absolute:
    """An absolute-form target taken apart; `path` is origin-form, byte for byte, `*` for OPTIONS without a path."""

    scheme: str
    host: str
    port: int
    authority: bytes
    path: bytes


def read_absolute(target: bytes, method: bytes) -> Absolute:
    """Take an absolute-form target apart (RFC 9112 section 3.2.2); raises `Refused("bad_target")`."""
    scheme, separator, rest = target.partition(b"://")
    lowered = scheme.lower()
    if not separator or lowered not in (b"http", b"https"):
        raise Refused("bad_target", "the target is neither a path nor an http:// URL")
    ends = [place for place in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#")) if place >= 0]
    end = min(ends, default=len(rest))
    authority, path = rest[:end], rest[end:]
    if b"@" in authority:
        raise Refused("bad_target", "the URL has user information (RFC 9110 section 4.2.4)")
    if b"#" in path:
        raise Refused("bad_target", "the URL has a fragment")
    if not path:
        path = b"*" if method == b"OPTIONS" else b"/"
    elif path[:1] == b"?":
        path = b"/" + path
    host, port = read_authority(authority, 443 if lowered == b"https" else 80)
    return Absolute(lowered.decode(), host, port, authority, path)


_AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._~!$&'()*+;=\-]+))(?::([0-9]{1,5}))?")

_MOST_HOST_BYTES = 255
"""No name is longer (RFC 1035 section 2.3.4), and a host is part of keys that are kept."""


def read_authority(authority: bytes, default_port: int | None) -> tuple[str, int]:
    """
    Return (host, port) of `host:port`; raises `Refused("bad_target")`.

    The host is in lower case, without brackets and final dot; an address is spelt in its one canonical way.
    """
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise Refused("bad_target", "the authority is not host:port")
    if len(found[1] or found[2]) > _MOST_HOST_BYTES:
        raise Refused("bad_target", f"the authority's host has more than {_MOST_HOST_BYTES} bytes")
    port = int(found[3]) if found[3] else default_port
    if not port or port > 65535:
        raise Refused("bad_target", "the authority has no valid port")
    if found[1] is not None and (b":" not in found[1] or not as_literal(found[1].decode())):
        raise Refused("bad_target", "the authority's address in brackets is none")
    host = _same_host((found[1] or found[2]).decode())
    if not host:
        raise Refused("bad_target", "the authority is not host:port")
    return host, port


def _same_host(host: str) -> str:
    """One spelling for all that name the same host, so that another one does not lead past the route's policies."""
    host = host.lower().rstrip(".")
    return as_literal(host) or host


def _first_segment(prefix: bytes) -> bytes:
    return prefix[: prefix.find(b"/", 1) + 1] or b"/"


def _shown(target: bytes) -> str:
    return target.partition(b"?")[0][:80].decode("latin-1")
