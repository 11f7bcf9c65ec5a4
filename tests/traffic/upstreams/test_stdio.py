import pytest

from sidecar.model.errors import Refused
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.graph import compile_graph
from sidecar.traffic.spec import RouteSpec, TrafficSpec
from sidecar.traffic.upstreams.stdio import Config, build
from sidecar.traffic.wire.request_head import RequestHead


def test_a_server_is_named_by_what_stands_behind_the_slash() -> None:
    assert build("stdio/files", Config(), Runtime()).host == "files"
    assert build("stdio", Config(), Runtime()).host == "stdio"


async def test_its_route_is_found_by_its_name_and_no_call_over_http_reaches_it() -> None:
    runtime = Runtime()
    upstream = build("stdio/files", Config(), runtime)
    traffic = TrafficSpec(routes={"files": RouteSpec(upstream="stdio/files", path="/files/")})
    graph = compile_graph(traffic, {}, {"stdio/files": upstream}, runtime)  # type: ignore[dict-item]  # as the plane, which has them as Any
    route = graph.router.by_destination("stdio", "files", 0, b"/")
    assert route is not None and route.name == "files"
    head = RequestHead()
    head.method, head.target = b"POST", b"/files/mcp"
    pool = graph.way(head).route.upstream.pool
    graph.tick(0.0)
    assert pool.take() is None
    with pytest.raises(Refused, match="sidecar mcp"):
        pool.wait(object())  # type: ignore[arg-type]  # who waits does not matter
    pool.leave(object())  # type: ignore[arg-type]  # as above
    await upstream.stop()
