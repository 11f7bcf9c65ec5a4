"""
Which route a gRPC call takes: by the service in its path, or by the upstream that it names.

    path /lf.a2a.v1.A2AService/SendMessage   ->   the route whose path is /lf.a2a.v1.A2AService/, else the one whose path is /

The path goes on whole: to gRPC it is the name of a method. Nothing but upstreams of the config can be reached.
"""

from collections.abc import Collection, Iterable

from sidecar.model.authority import authority
from sidecar.model.errors import Refused
from sidecar.traffic.router import Route
from sidecar.traffic.upstreams.grpc import GrpcUpstream

_MOST_SHOWN = 80


class Services:
    """
    The routes of one graph that lead to gRPC upstreams; of those only `names`, where some are given.

    A route without a path is taken by calls that name its upstream, and where it was named here, by those of any service.
    """

    def __init__(self, routes: Iterable[Route], names: Collection[str] = ()) -> None:
        self._by_service: dict[str, Route] = {}
        self._by_destination: dict[tuple[str, str], Route] = {}
        self._reached: set[str] = set()
        for route in routes:
            upstream = route.upstream
            if not isinstance(upstream, GrpcUpstream) or (names and route.name not in names):
                continue
            destination = authority(upstream.host, upstream.port)
            prefix = route.prefix.decode() or ("/" if names else "")
            self._reached.add(destination)
            self._by_destination.setdefault((destination, prefix), route)
            if prefix:
                self._by_service.setdefault(prefix, route)

    def route(self, path: str, destination: str = "") -> Route:
        """Find the route of a method's path; raises `Refused` where there is none."""
        service = path[: path.find("/", 1) + 1]
        if not destination:
            found = self._by_service.get(service) or self._by_service.get("/")
            if found is None:
                raise Refused("route_unknown", f"no route to a gRPC upstream has the path of {path[:_MOST_SHOWN]}")
            return found
        there = destination.lower()
        for prefix in (service, "/", ""):
            found = self._by_destination.get((there, prefix))
            if found is not None:
                return found
        if there in self._reached:
            raise Refused("route_unknown", f"no route to {there[:_MOST_SHOWN]} has the path of {path[:_MOST_SHOWN]}")
        raise Refused("destination_denied", f"{there[:_MOST_SHOWN]} is no gRPC upstream of the config")


def check(routes: Iterable[Route], names: Collection[str]) -> None:
    """Raise ValueError for what a gRPC listener with these `names` of routes could not do."""
    leading = {route.name: route for route in routes if isinstance(route.upstream, GrpcUpstream)}
    for name in names:
        if name not in leading:
            raise ValueError(f"{name!r} is no route to an upstream of the type grpc")
    for name, route in leading.items():
        if names and name not in names:
            continue
        if route.prefix.count(b"/") > 2:
            raise ValueError(f"the path of route {name!r} has to be that of a service, as in /package.Service/, or /")
        if route.chain.filters:
            waiting = ", ".join(policy.name for policy in route.chain.policies if policy.is_filter)
            raise ValueError(f"route {name!r} has policies that wait, repeat or answer, which gRPC does not take: {waiting}")
