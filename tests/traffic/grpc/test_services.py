from typing import Any

import pytest

from sidecar.model.errors import Refused
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import EMPTY, Chain, Policy, Stage
from sidecar.traffic.grpc.services import Services, check
from sidecar.traffic.router import Route
from sidecar.traffic.upstreams.grpc import Config, GrpcUpstream
from sidecar.traffic.upstreams.http import Config as HttpConfig
from sidecar.traffic.upstreams.http import HttpUpstream

A2A = "/lf.a2a.v1.A2AService/"


def route(name: str, prefix: str, port: int = 1, *, chain: Chain = EMPTY, host: str = "a.example") -> Route:
    upstream = GrpcUpstream(f"grpc/{name}", Config(url=f"http://{host}:{port}"), Runtime())
    return Route(name, prefix.encode(), upstream, chain, "tunnel", baggage=False)


def plain(name: str, prefix: str) -> Route:
    return Route(name, prefix.encode(), HttpUpstream("http", HttpConfig(url="http://a"), Runtime()), EMPTY, "tunnel", baggage=False)


def test_a_call_takes_the_route_of_its_service_else_that_of_all_services() -> None:
    services = Services([plain("web", "/x.Y/"), route("all", "/"), route("a2a", A2A)])
    assert services.route(f"{A2A}SendMessage").name == "a2a"
    assert services.route("/x.Y/Z").name == "all", "routes to other kinds of upstreams are none of ours"
    assert services.route("/lf.a2a.v1.A2AServiceX/SendMessage").name == "all"
    assert services.route("nonsense").name == "all"


def test_a_service_without_a_route_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        Services([route("a2a", A2A), route("by_name", "", 2)]).route("/x.Y/Z")
    assert caught.value.code == "route_unknown"


def test_a_call_may_name_its_upstream() -> None:
    services = Services([route("one", A2A, 1), route("two", "", 2), route("three", "/x.Y/", 2)])
    assert services.route(f"{A2A}SendMessage", "A.Example:2").name == "two"
    assert services.route("/x.Y/Z", "a.example:2").name == "three"
    for path, destination, code in (("/x.Y/Z", "a.example:1", "route_unknown"), ("/x.Y/Z", "b:1", "destination_denied")):
        with pytest.raises(Refused) as caught:
            services.route(path, destination)
        assert caught.value.code == code


def test_named_routes_are_the_only_ones_and_need_no_path() -> None:
    services = Services([route("one", A2A, 1), route("two", "", 2)], ["two"])
    assert services.route(f"{A2A}SendMessage").name == "two"
    with pytest.raises(Refused):
        services.route(f"{A2A}SendMessage", "a.example:1")


def filtering() -> Chain:
    async def waits(exchange: Any, forward: Any) -> Any:
        return await forward(exchange)

    return Chain([Policy("waits/x", Stage.RETRY, waits, is_filter=True)])


def test_what_grpc_does_not_have_is_said() -> None:
    check([route("one", A2A), plain("web", "/a/b/c/")], [])
    for routes, names, problem in (
        ([route("one", "/a.B/C/")], [], "has to be that of a service"),
        ([route("one", "/", chain=filtering())], [], "waits/x"),
        ([plain("web", "/")], ["web"], "no route to an upstream of the type grpc"),
    ):
        with pytest.raises(ValueError, match=problem):
            check(routes, names)
    check([route("one", "/", chain=filtering()), route("two", "/")], ["two"])
