import asyncio
import base64
import socket
from collections.abc import AsyncIterator

import pytest

from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.wire.connect import ask_for_tunnel
from sidecar.traffic.wire.proxy import Via

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Pair:
    """Two ends of one connection: `ours` asks, `theirs` is the proxy's."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)

    async def asks(self, *pieces: bytes, via: Via | None = None, host: str = "up.test", ends: bool = True) -> bytes:
        """Ask for a tunnel, let the proxy answer in these pieces; returns what it was told."""
        loop = asyncio.get_running_loop()
        asking = asyncio.ensure_future(ask_for_tunnel(self.ours, host, 443, via or Via("proxy", 3128)))
        told = await loop.sock_recv(self.theirs, 4096)
        for piece in pieces:
            await loop.sock_sendall(self.theirs, piece)
            await asyncio.sleep(0.002)
        if ends and not asking.done():
            self.theirs.shutdown(socket.SHUT_WR)
        await asking
        return told

    async def fails(self, *pieces: bytes, via: Via | None = None) -> UpstreamFailed:
        with pytest.raises(UpstreamFailed) as caught:
            await self.asks(*pieces, via=via)
        assert len(caught.value.detail) < 700
        return caught.value


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    yield pair
    pair.ours.close()
    pair.theirs.close()


@pytest.mark.parametrize(
    ("host", "authority"),
    [("up.test", b"up.test:443"), ("2001:db8::1", b"[2001:db8::1]:443"), ("[2001:db8::1]", b"[2001:db8::1]:443")],
)
async def test_a_proxy_is_asked_for_a_tunnel(pair: Pair, host: str, authority: bytes) -> None:
    assert await pair.asks(OPEN, host=host) == b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority, authority)


async def test_the_proxys_credential_goes_to_the_proxy(pair: Pair) -> None:
    told = await pair.asks(OPEN, via=Via.through("proxy", 3128, "me", "p:w"))
    assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(b"me:p:w") + b"\r\n" in told


@pytest.mark.parametrize(
    "answer",
    [
        OPEN,
        b"HTTP/1.0 200 OK\r\nA: 1\r\n\r\n",
        b"HTTP/1.1 204 x\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 \r\nVia: x\r\n\r\n",
        b"HTTP/1.1 103 Wait\r\nA: 1\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OPEN,
    ],
)
@pytest.mark.parametrize("first", [b"first bytes", b"\r\n", b"\n\r\n\r\n"])
async def test_nothing_of_the_tunnel_is_swallowed(answer: bytes, first: bytes) -> None:
    for size in (1, 5, len(answer) - 1, len(answer), len(answer) + 100):
        pair, whole = Pair(), answer + first
        await pair.asks(*(whole[at : at + size] for at in range(0, len(whole), size)), ends=False)
        assert await asyncio.get_running_loop().sock_recv(pair.ours, 100) == first[: len(first)]
        pair.ours.close()
        pair.theirs.close()


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy_auth_failed", "407"),
        (b"HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n<h1>", "proxy_denied", "ERR_ACCESS_DENIED 0"),
        (b"HTTP/1.0 401 Unauthorized\r\n\r\n", "proxy_auth_failed", "401"),
        (b"HTTP/1.1 451 Law\r\n\r\n", "proxy_denied", "451"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nhello", "proxy_failed", "502"),
        (b"HTTP/1.1 503 x\r\nProxy-Status: corp; error=dns_error\r\n\r\n", "proxy_failed", "corp; error=dns_error"),
        (b"HTTP/1.1 301 Moved\r\nLocation: x\r\n\r\n", "proxy_failed", "301"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "proxy_failed", "HTTP/2.0"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "proxy_failed", "2000"),
        (b"HTTP/1.1 \xff\x00\r\n\r\n", "proxy_failed", "answered"),
        (b"SSH-2.0-x\r\n\r\n 200 ", "proxy_failed", "SSH"),
        (b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "proxy_failed", "answered ''"),
        (b"200 200 200\r\n\r\n", "proxy_failed", "answered"),
        (b"", "proxy_failed", "closed"),
        (b"HTTP/1.1 200 OK\r\n", "proxy_failed", "closed"),
        (b"HTTP/1.1 200 OK\n\n", "proxy_failed", "closed"),
        (b"x" * 40_000, "proxy_failed", "too long"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40_000, "proxy_failed", "too long"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000, "proxy_failed", "too long"),
        (b"HTTP/1.1 403 " + b"x" * 2_000 + b"\r\nProxy-Status: " + b"y" * 2_000 + b"\r\n\r\n", "proxy_denied", "xxx"),
    ],
)
async def test_an_answer_that_opens_no_tunnel_says_whose_fault_it_is(pair: Pair, answer: bytes, code: str, said: str) -> None:
    fault = await pair.fails(answer)
    assert fault.code == code
    assert said in fault.detail
    assert fault.detail.startswith("proxy:3128 ") or fault.detail.startswith("proxy:3128: ")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (b"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n", "it wants Negotiate, NTLM"),
        (b'proxy-authenticate: Basic realm="a, b", Digest nonce="x", qop="auth"\r\n', "it wants Basic, Digest"),
        (b"Proxy-Authenticate: Negotiate YII=, Basic realm=x\r\n", "it wants Negotiate, Basic"),
        (b"A: 1\r\n", "407 Who'"),
    ],
)
async def test_what_credentials_a_proxy_wants_is_told(pair: Pair, fields: bytes, wanted: str) -> None:
    fault = await pair.fails(b"HTTP/1.1 407 Who\r\n%b\r\n" % fields)
    assert fault.detail.endswith(wanted)


async def test_the_credential_is_in_no_error(pair: Pair) -> None:
    via = Via.through("proxy", 3128, "me", "hunter2")
    fault = await pair.fails(b"HTTP/1.1 407 Who\r\n\r\n", via=via)
    shown = f"{fault} {fault.args} {via!r} {via}"
    assert "hunter2" not in shown
    assert base64.b64encode(b"me:hunter2").decode() not in shown


@pytest.mark.parametrize("where", [b"%b", b"Who\r\nX-Squid-Error: %b 0", b"Who\r\nProxy-Authenticate: Basic, %b"])
@pytest.mark.parametrize("told", [b"Basic bWU6aHVudGVyMg==", b"bWU6aHVudGVyMg", b"me:hunter2", b"hunter2"])
async def test_a_proxy_that_repeats_the_credential_does_not_spread_it(pair: Pair, where: bytes, told: bytes) -> None:
    fault = await pair.fails(b"HTTP/1.1 407 " + where % told + b"\r\n\r\n", via=Via.through("proxy", 3128, "me", "hunter2"))
    assert "bWU6aHVudGVyMg" not in fault.detail
    assert "hunter2" not in fault.detail


async def test_a_proxy_that_resets_has_failed(pair: Pair) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listening.getsockname())
    theirs, _ = listening.accept()
    ours.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    asking = asyncio.ensure_future(ask_for_tunnel(ours, "up.test", 443, Via("proxy", 3128)))
    await asyncio.sleep(0.01)
    theirs.close()
    with pytest.raises(UpstreamFailed, match="proxy_failed"):
        await asking
    ours.close()
    listening.close()
