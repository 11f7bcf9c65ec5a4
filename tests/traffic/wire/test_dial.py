import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.destinations import Destinations
from sidecar.traffic.wire.dial import Dialer, Via
from sidecar.traffic.wire.resolver import Resolver

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def dialer(*, delay_s: float = 5.0, allow_private: bool = True) -> Dialer:
    destinations = Destinations(allow_loopback=True, allow_private=allow_private, own=lambda: (), configured=frozenset())
    return Dialer(Resolver(ttl_s=30.0, timeout_s=5.0, clock=ManualClock()), destinations, attempt_delay_s=delay_s)


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names lead to; every other name leads nowhere."""
    known: dict[str, list[str]] = {}

    async def getaddrinfo(host: str, port: Any, **rest: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(-2, "unknown")
        return [(0, 0, 0, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
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


async def test_one_that_refuses_makes_room_at_once(names: dict[str, list[str]], serving: Any) -> None:
    port = await serving(host="127.0.0.2")
    names["a"] = ["127.0.0.1", "127.0.0.2"]
    async with asyncio.timeout(2):  # and not after the delay of 5 s
        sock, address = await dialer().dial("a", port, named_by_config=True)
    assert address == "127.0.0.2"
    sock.close()


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


def answering(*pieces: bytes, heard: list[bytes] | None = None, closes: bool = True) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            told = await reader.readuntil(b"\r\n\r\n")
            if heard is not None:
                heard.append(told)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if closes:
                writer.close()
        except (OSError, EOFError):
            writer.close()

    return handle


OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def tunnel(port: int, *, host: str = "up.test", user: str = "", password: str = "") -> socket.socket:
    via = Via.through("127.0.0.1", port, user, password)
    sock, address = await dialer().dial(host, 443, named_by_config=True, via=via)
    assert address == "127.0.0.1"
    return sock


@pytest.mark.parametrize(
    ("host", "authority"),
    [("up.test", b"up.test:443"), ("2001:db8::1", b"[2001:db8::1]:443"), ("[2001:db8::1]", b"[2001:db8::1]:443")],
)
async def test_a_proxy_is_asked_for_a_tunnel(names: dict[str, list[str]], serving: Any, host: str, authority: bytes) -> None:
    heard: list[bytes] = []
    sock = await tunnel(await serving(answering(OPEN, heard=heard)), host=host)
    sock.close()
    assert heard == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority, authority)]


async def test_the_proxys_credential_goes_to_the_proxy(names: dict[str, list[str]], serving: Any) -> None:
    heard: list[bytes] = []
    sock = await tunnel(await serving(answering(OPEN, heard=heard)), user="me", password="p:w")
    sock.close()
    assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(b"me:p:w") + b"\r\n" in heard[0]


@pytest.mark.parametrize(
    "answer",
    [
        OPEN,
        b"HTTP/1.0 200 OK\r\nA: 1\r\n\r\n",
        b"HTTP/1.1 204 x\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 \r\nVia: x\r\n\r\n",
    ],
)
async def test_nothing_of_the_tunnel_is_swallowed(names: dict[str, list[str]], serving: Any, answer: bytes) -> None:
    for pieces in ((answer + b"first bytes",), (answer[:5], answer[5:20], answer[20:] + b"first bytes")):
        sock = await tunnel(await serving(answering(*pieces)))
        got = b""
        while piece := await asyncio.get_running_loop().sock_recv(sock, 100):
            got += piece
        assert got == b"first bytes"
        sock.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nhello", "502"),
        (b"HTTP/1.1 301 Moved\r\nLocation: x\r\n\r\n", "301"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "HTTP/2.0"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "2000"),
        (b"HTTP/1.1 \xff\x00\r\n\r\n", "answered"),
        (b"SSH-2.0-x\r\n\r\n 200 ", "SSH"),
        (b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "answered"),
        (b"200 200 200\r\n\r\n", "answered"),
        (b"", "closed"),
        (b"HTTP/1.1 200 OK\r\n", "closed"),
        (b"HTTP/1.1 200 OK\n\n", "closed"),
        (b"x" * 20_000, "too long"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 20_000, "too long"),
    ],
)
async def test_a_proxy_that_says_anything_else_has_failed(
    names: dict[str, list[str]], serving: Any, answer: bytes, said: str
) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        await tunnel(await serving(answering(answer)))
    assert caught.value.code == "proxy_failed"
    assert said in caught.value.detail
    assert len(caught.value.detail) < 300


async def test_a_proxy_that_resets_has_failed(names: dict[str, list[str]], serving: Any) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    with pytest.raises(UpstreamFailed) as caught:
        await tunnel(await serving(reset))
    assert caught.value.code == "proxy_failed"


async def test_what_can_be_judged_before_the_proxy_is(names: dict[str, list[str]], serving: Any) -> None:
    port = await serving(answering(OPEN))
    names["meta"] = ["169.254.169.254"]
    with pytest.raises(Refused) as caught:
        await tunnel(port, host="meta")
    assert caught.value.code == "address_refused"
    (await tunnel(port, host="known.only.to.the.proxy")).close()


async def test_a_proxy_that_cannot_be_reached_is_told(names: dict[str, list[str]], free_port: Callable[[], int]) -> None:
    with pytest.raises(UpstreamFailed, match="connect_failed"):
        await tunnel(free_port())
