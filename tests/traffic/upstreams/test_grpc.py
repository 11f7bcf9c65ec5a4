import asyncio
from typing import Any

import pytest

from sidecar.model.errors import Refused
from sidecar.model.spec import Duration, Secret
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.graph import compile_graph
from sidecar.traffic.spec import DestinationsSpec, ProxySpec, RouteSpec, TrafficSpec
from sidecar.traffic.tls import TlsSpec
from sidecar.traffic.upstreams.grpc import Config, GrpcUpstream, build
from tests.peers.rpc import RpcUpstream
from tests.scene import Opened
from tests.sidecar_under_test import eventually


@pytest.mark.parametrize(
    "url", ["", "a:1", "grpc://a:1", "http://a:1/base", "http://u:p@a:1", "http://a:1?q", "dns:///a:1"],
    ids=["nothing", "no scheme", "grpc", "path", "credentials", "query", "dns"],
)  # fmt: skip
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        Config(url=url)


def test_settings_that_the_library_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="always verifies"):
        Config(url="https://a", tls=TlsSpec(insecure_skip_verify=True))


def test_ports_are_those_of_the_scheme() -> None:
    assert [(each.port, each.authority) for each in (upstream("http://a"), upstream("https://a"), upstream("http://[::1]:5"))] == [
        (80, b"a"), (443, b"a"), (5, b"[::1]:5"),
    ]  # fmt: skip


def upstream(url: str, **settings: Any) -> GrpcUpstream:
    return build("grpc/a", Config(url=url, **settings), Runtime())


def reachable(upstream: GrpcUpstream, **traffic: Any) -> None:
    """Give it a dialer, as a graph does."""
    compile_graph(TrafficSpec(routes={"a": RouteSpec(upstream="grpc/a")}, **traffic), {}, {"grpc/a": upstream}, Runtime())


async def test_all_calls_share_one_connection(opened: Opened) -> None:
    there = upstream((await opened(RpcUpstream())).url)
    reachable(there)
    assert there.ready() is None
    first, second = await asyncio.gather(there.reach(), there.reach())
    assert first is second is there.ready()
    await there.stop()
    assert there.ready() is None
    await there.stop()


async def test_a_connection_that_was_lost_is_made_anew(opened: Opened) -> None:
    peer = await opened(RpcUpstream())
    there = upstream(peer.url)
    reachable(there)
    first = await there.reach()
    await peer.stops()
    await eventually(lambda: there.ready() is None, "the loss")
    with pytest.raises(Refused) as caught:
        await there.reach()
    assert caught.value.code == "connect_failed"
    await opened(RpcUpstream(port=peer.port))
    assert await there.reach() is not first
    await there.stop()


async def test_an_address_that_is_closed_by_now_takes_no_further_calls(opened: Opened) -> None:
    peer = await opened(RpcUpstream())
    there = upstream(peer.url)
    reachable(there)
    await there.reach()
    reachable(there, destinations=DestinationsSpec(allow_private=False))
    assert there.ready() is not None
    own = Runtime()
    own.services["own_addresses"] = [("127.0.0.1", peer.port), ("::1", peer.port)]
    compile_graph(TrafficSpec(routes={"a": RouteSpec(upstream="grpc/a")}), {}, {"grpc/a": there}, own)
    assert there.ready() is None
    with pytest.raises(Refused) as caught:
        await there.reach()
    assert caught.value.code == "loop_detected"
    await there.stop()


async def test_a_stop_ends_the_wait_for_a_connection() -> None:
    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(says_nothing, "127.0.0.1", 0) as server:
        there = upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", connect_timeout=Duration("300ms"))
        reachable(there)
        waiting = asyncio.create_task(there.reach())
        await asyncio.sleep(0.05)
        await there.stop()
        with pytest.raises(Refused) as caught:
            await waiting
        assert caught.value.code == "draining"


async def test_metadata_services_are_closed_to_it() -> None:
    there = upstream("http://169.254.169.254")
    reachable(there)
    with pytest.raises(Refused) as caught:
        await there.reach()
    assert caught.value.code == "address_refused"
    await there.stop()


async def test_a_handshake_that_takes_too_long_is_given_up() -> None:
    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        has_ended.set()

    has_ended = asyncio.Event()
    async with await asyncio.start_server(says_nothing, "127.0.0.1", 0) as server:
        there = upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", connect_timeout=Duration("100ms"))
        reachable(there)
        with pytest.raises(Refused) as caught:
            await there.reach()
        assert caught.value.code == "connect_timeout"
        await there.stop()
        await has_ended.wait()


async def test_plain_http_calls_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        await upstream("http://a").dial()
    assert caught.value.code == "route_unknown"


async def test_a_corporate_proxy_is_refused_at_the_start() -> None:
    there = upstream("http://a.example")
    reachable(there, proxy=ProxySpec(url=Secret("http://proxy:3128")))
    with pytest.raises(ValueError, match="no corporate proxy"):
        await there.start()
    exempt = upstream("http://a.example")
    reachable(exempt, proxy=ProxySpec(url=Secret("http://proxy:3128"), no_proxy=("a.example",)))
    await exempt.start()
    await exempt.stop()
