import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.destinations import Destinations, Endpoint
from sidecar.traffic.wire.dial import Dialer
from sidecar.traffic.wire.proxy import Via
from sidecar.traffic.wire.resolver import Resolver
from tests.sidecar_under_test import eventually

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

two_addresses = pytest.mark.skipif(sys.platform == "darwin", reason="loopback has one address on macOS")


def dialer(
    *,
    delay_s: float = 5.0,
    allow_loopback: bool = True,
    allow_private: bool = True,
    resolves_here: bool = False,
    own: tuple[Endpoint, ...] = (),
) -> Dialer:
    destinations = Destinations(
        allow_loopback=allow_loopback, allow_private=allow_private, own=lambda: own, configured=frozenset()
    )
    resolver = Resolver(ttl_s=30.0, timeout_s=5.0, clock=ManualClock())
    return Dialer(resolver, destinations, attempt_delay_s=delay_s, resolves_here=resolves_here)


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names lead to; every other name leads nowhere."""
    known: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: Any, **rest: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(-2, "unknown")
        return [(0, 0, 0, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.fixture
async def connecting(monkeypatch: pytest.MonkeyPatch) -> dict[str, asyncio.Future[None]]:
    """Addresses whose connection waits for its future; `asked` in the order in which they were tried is its keys' order."""
    loop = asyncio.get_running_loop()
    real = loop.sock_connect
    held: dict[str, asyncio.Future[None]] = {}

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        if address[0] in held:
            await held[address[0]]
        await real(sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    return held


@pytest.fixture
async def serving() -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """`port = await serving(handler, hosts…)`: a server on free ports of loopback."""
    servers: list[asyncio.Server] = []
    accepted: list[asyncio.StreamWriter] = []

    async def serve(handler: Handler | None = None, host: str = "127.0.0.1", port: int = 0) -> int:
        async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)
            if handler is not None:
                await handler(reader, writer)

        servers.append(await asyncio.start_server(handled, host, port))
        found: int = servers[-1].sockets[0].getsockname()[1]
        return found

    yield serve
    for writer in accepted:
        writer.close()
    for server in servers:
        server.close()
        await server.wait_closed()


# happy eyeballs


async def test_the_first_address_that_accepts_wins(names: dict[str, list[str]], serving: Any) -> None:
    port = await serving()
    names["a"] = ["127.0.0.1", "127.0.0.2"]
    sock, address = await dialer().dial("a", port, named_by_config=True)
    assert address == "127.0.0.1"
    assert sock.getpeername() == ("127.0.0.1", port)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    sock.close()


@two_addresses
async def test_one_that_refuses_makes_room_at_once(names: dict[str, list[str]], serving: Any) -> None:
    port = await serving(host="127.0.0.2")
    names["a"] = ["127.0.0.1", "127.0.0.2"]
    async with asyncio.timeout(2):  # and not after the delay of 5 s
        sock, address = await dialer().dial("a", port, named_by_config=True)
    assert address == "127.0.0.2"
    sock.close()


@two_addresses
async def test_a_silent_address_has_a_head_start_and_no_more(
    names: dict[str, list[str]], serving: Any, connecting: dict[str, asyncio.Future[None]]
) -> None:
    port = await serving(host="127.0.0.2")
    connecting["127.0.0.1"] = asyncio.get_running_loop().create_future()
    names["a"] = ["127.0.0.1", "127.0.0.2"]
    sock, address = await dialer(delay_s=0.01).dial("a", port, named_by_config=True)
    assert address == "127.0.0.2"
    assert connecting["127.0.0.1"].cancelled(), "the loser is ended"
    sock.close()


async def test_ipv6_is_tried_first(names: dict[str, list[str]], serving: Any) -> None:
    try:
        port = await serving(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    names["a"] = ["127.0.0.1", "::1"]
    sock, address = await dialer().dial("a", port, named_by_config=True)
    assert (address, sock.family) == ("::1", socket.AF_INET6)
    sock.close()


@two_addresses
async def test_two_that_accept_at_once_leave_one_socket(
    names: dict[str, list[str]], serving: Any, connecting: dict[str, asyncio.Future[None]]
) -> None:
    port = await serving()
    await serving(host="127.0.0.2", port=port)
    for address in ("127.0.0.1", "127.0.0.2"):
        connecting[address] = asyncio.get_running_loop().create_future()
    names["a"] = ["127.0.0.1", "127.0.0.2"]
    dialling = asyncio.ensure_future(dialer(delay_s=0.001).dial("a", port, named_by_config=True))
    await asyncio.sleep(0.02)
    for held in connecting.values():
        held.set_result(None)
    sock, _ = await dialling
    sock.close()  # that no other is left open is what the suite's own fixture looks at


@two_addresses
async def test_nobody_accepts_and_all_are_told(names: dict[str, list[str]], free_port: Callable[[], int]) -> None:
    names["a"] = ["127.0.0.1", "127.0.0.2"]
    port = free_port()
    with pytest.raises(UpstreamFailed) as caught:
        await dialer().dial("a", port, named_by_config=True)
    assert caught.value.code == "connect_failed"
    assert caught.value.detail.startswith(f"127.0.0.1, 127.0.0.2 port {port}: ")


async def test_what_is_no_os_error_is_told_as_well(
    names: dict[str, list[str]], connecting: dict[str, asyncio.Future[None]]
) -> None:
    names["a"] = ["127.0.0.1"]
    connecting["127.0.0.1"] = asyncio.get_running_loop().create_future()
    connecting["127.0.0.1"].set_exception(ValueError("odd"))
    with pytest.raises(UpstreamFailed, match="odd"):
        await dialer().dial("a", 1, named_by_config=True)


async def test_a_dial_that_is_cancelled_leaves_nothing(
    names: dict[str, list[str]], connecting: dict[str, asyncio.Future[None]]
) -> None:
    names["a"] = ["127.0.0.1"]
    connecting["127.0.0.1"] = asyncio.get_running_loop().create_future()
    dialling = asyncio.ensure_future(dialer().dial("a", 1, named_by_config=True))
    await asyncio.sleep(0.01)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling
    assert connecting["127.0.0.1"].cancelled()


# which addresses


@pytest.mark.parametrize("bad", ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "224.0.0.1"])
async def test_one_closed_address_refuses_the_whole_name(names: dict[str, list[str]], serving: Any, bad: str) -> None:
    port = await serving()
    for addresses in (["127.0.0.1", bad], [bad, "127.0.0.1"], [bad]):
        names["a"] = addresses
        with pytest.raises(Refused) as caught:
            await dialer().dial("a", port, named_by_config=True)
        assert caught.value.code == "address_refused"


async def test_a_private_address_is_closed_where_the_config_says_so(names: dict[str, list[str]]) -> None:
    names["a"] = ["10.1.2.3"]
    with pytest.raises(Refused, match="private"):
        await dialer(allow_private=False).dial("a", 1, named_by_config=False)


# through a corporate proxy


OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


def answering(answer: bytes, heard: list[bytes]) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await reader.read()
        except EOFError:
            return
        finally:
            writer.close()

    return handle


async def through(
    port: int, host: str, *, tunnels: bool = True, by: Dialer | None = None, via: str = "127.0.0.1", timeout_s: float = 5.0
) -> None:
    sock, address = await (by or dialer()).dial_through(
        Via.through(via, port), host, 443, named_by_config=False, tunnels=tunnels, timeout_s=timeout_s
    )
    assert address == "127.0.0.1", "what is connected to is the proxy"
    assert sock.getpeername() == ("127.0.0.1", port)
    sock.close()


async def refused(*given: Any, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await through(*given, **more)
    return caught.value


async def test_a_name_that_only_the_proxy_knows_is_no_business_of_ours(names: dict[str, list[str]], serving: Any) -> None:
    heard: list[bytes] = []
    await through(await serving(answering(OPEN, heard)), "known.only.to.the.proxy")
    assert heard == [b"CONNECT known.only.to.the.proxy:443 HTTP/1.1\r\nHost: known.only.to.the.proxy:443\r\n\r\n"]


async def test_a_proxy_that_is_to_be_asked_later_hears_nothing_yet(names: dict[str, list[str]], serving: Any) -> None:
    heard: list[bytes] = []
    await through(await serving(answering(OPEN, heard)), "up.test", tunnels=False)
    assert heard == [] or heard == [b""]


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "0xa9fea9fe", "metadata.google.internal", "METADATA.google.internal."]
)
@pytest.mark.parametrize("resolves_here", [False, True])
async def test_what_is_known_to_be_closed_is_closed_before_the_proxy_hears_of_it(
    names: dict[str, list[str]], serving: Any, host: str, resolves_here: bool
) -> None:
    heard: list[bytes] = []
    port = await serving(answering(OPEN, heard))
    names["metadata.google.internal"] = names["METADATA.google.internal."] = ["169.254.169.254"]
    assert (await refused(port, host, by=dialer(resolves_here=resolves_here))).code == "address_refused"
    assert heard == []


async def test_loopback_and_private_addresses_are_judged_as_ever(names: dict[str, list[str]], serving: Any) -> None:
    port = await serving()
    for host in ("localhost", "x.localhost", "127.0.0.1", "0.0.0.0", "::1"):
        assert (await refused(port, host, by=dialer(allow_loopback=False))).code == "loopback_refused"
    assert (await refused(port, "10.1.2.3", by=dialer(allow_private=False))).code == "address_refused"


async def test_our_own_ports_are_not_reached_by_the_proxy_either(names: dict[str, list[str]], serving: Any) -> None:
    port = await serving()
    for host in ("127.0.0.1", "localhost", socket.gethostname().upper()):
        assert (await refused(port, host, by=dialer(own=(("127.0.0.1", 443),)))).code == "loop_detected"


async def test_names_can_be_resolved_and_judged_here_as_well(names: dict[str, list[str]], serving: Any) -> None:
    heard: list[bytes] = []
    port = await serving(answering(OPEN, heard))
    names["meta"], names["good"] = ["8.8.8.8", "169.254.169.254"], ["8.8.8.8"]
    here = dialer(resolves_here=True)
    assert (await refused(port, "meta", by=here)).code == "address_refused"
    assert (await refused(port, "unknown", by=here)).code == "dns_failed"
    await through(port, "meta")
    await through(port, "good", by=here)
    assert [told.split(b" ")[1] for told in heard] == [b"meta:443", b"good:443"], "the proxy's rules are about names"


async def test_the_proxy_may_stand_where_destinations_may_not(names: dict[str, list[str]], serving: Any) -> None:
    names["proxy.corp"] = ["127.0.0.1"]
    strict = dialer(allow_loopback=False, allow_private=False)
    await through(await serving(answering(OPEN, [])), "up.test", by=strict, via="proxy.corp")


async def test_the_proxy_cannot_be_the_sidecar_itself(names: dict[str, list[str]], serving: Any) -> None:
    port = await serving()
    assert (await refused(port, "up.test", by=dialer(own=(("127.0.0.1", port),)))).code == "loop_detected"


async def test_a_proxy_that_cannot_be_reached_is_told(names: dict[str, list[str]], free_port: Callable[[], int]) -> None:
    port = free_port()
    fault = await refused(port, "up.test")
    assert (fault.code, fault.detail.startswith(f"127.0.0.1:{port}: ")) == ("proxy_unreachable", True)
    assert (await refused(port, "up.test", via="no.such.proxy")).code == "proxy_unreachable"


async def test_a_proxy_that_does_not_accept_is_told_from_one_that_does_not_answer(
    names: dict[str, list[str]], serving: Any, connecting: dict[str, asyncio.Future[None]]
) -> None:
    port = await serving(answering(b"", []))
    fault = await refused(port, "up.test", timeout_s=0.05)
    assert (fault.code, fault.detail) == ("proxy_timeout", f"127.0.0.1:{port} opened no tunnel to up.test:443 within 0.05 s")
    connecting["127.0.0.1"] = asyncio.get_running_loop().create_future()
    fault = await refused(port, "up.test", timeout_s=0.05)
    assert (fault.code, fault.detail) == ("proxy_unreachable", f"127.0.0.1:{port} did not accept within 0.05 s")


async def test_a_dial_through_a_proxy_that_is_cancelled_leaves_nothing(names: dict[str, list[str]], serving: Any) -> None:
    heard: list[bytes] = []
    dialling = asyncio.ensure_future(through(await serving(answering(b"", heard)), "up.test"))
    await eventually(lambda: heard, "the proxy hears of it")
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling


@pytest.mark.parametrize("through_proxy", [False, True])
async def test_without_file_descriptors_it_is_not_the_upstream_that_failed(
    monkeypatch: pytest.MonkeyPatch, through_proxy: bool
) -> None:
    async def none_left(*_: Any) -> Any:
        raise OSError(24, "Too many open files")

    made = dialer()
    monkeypatch.setattr("sidecar.traffic.wire.dial._connect", none_left)
    via = Via("127.0.0.1", 9)
    with pytest.raises(Refused, match="Too many open files") as caught:
        if through_proxy:
            await made.dial_through(via, "10.0.0.1", 9, named_by_config=True, tunnels=True, timeout_s=5.0)
        else:
            await made.dial("127.0.0.1", 9, named_by_config=True)
    assert (caught.value.code, caught.value.retry_after_s) == ("no_descriptors", 1.0)
