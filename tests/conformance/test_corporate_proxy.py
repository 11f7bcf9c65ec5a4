"""
Through a corporate proxy: upstreams, unknown destinations and tunnels, with its rules, its credentials and its failures.

The names of these tests are known to the proxy alone, as inside a network whose DNS has nothing of the outside.
"""

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from sidecar.config import load
from tests.peers.authority import Authority
from tests.peers.chat import ASK, streams_as_it_comes
from tests.peers.proxy import CorporateProxy
from tests.peers.raw import RawUpstream
from tests.peers.sse import SseUpstream
from tests.peers.wire import Message, TlsWire, Wire, dials
from tests.scene import OK, Opened
from tests.sidecar_under_test import SidecarUnderTest, eventually

USER, LOGIN, WRONG = "user:p@ss", "user:p%40ss", "user:hunter2"
BASIC = b"Basic " + base64.b64encode(USER.encode())
NAMES = {"llm.test": "127.0.0.1", "other.test": "127.0.0.1"}


class Network:
    """A proxy, a server behind it, and sidecars that reach it through there."""

    def __init__(self, opened: Opened, proxy: CorporateProxy, upstream: RawUpstream) -> None:
        self._opened = opened
        self.proxy = proxy
        self.upstream = upstream

    def via(self, login: str = LOGIN) -> str:
        """The proxy's URL."""
        return f"http://{login + '@' if login else ''}127.0.0.1:{self.proxy.port}"

    def url(self, host: str = "llm.test") -> str:
        """The server's URL, by a name that only the proxy knows."""
        return f"{self.upstream.url.partition('://')[0]}://{host}:{self.upstream.port}"

    async def sidecar(
        self, *, proxy: Any = None, upstream: Any = None, environ: dict[str, str] | None = None, **traffic: Any
    ) -> SidecarUnderTest:
        """A sidecar with this `traffic.proxy`, and a route `/llm/` where there is an `upstream`."""
        config: dict[str, Any] = {
            "traffic": {
                "listeners": {"http": {"endpoint": "127.0.0.1:0", "allow_hosts": ["a", "x"]}},
                "drain": "100ms",
                **traffic,
            },
            "admin": {"endpoint": "127.0.0.1:0"},
        }
        if proxy is not None:
            config["traffic"]["proxy"] = proxy
        if upstream is not None:
            config["traffic"]["upstreams"] = {"http/llm": {"url": f"{self.url()}/base", **upstream}}
            config["traffic"]["routes"] = {"llm": {"path": "/llm/", "upstream": "http/llm"}}
        sidecar: SidecarUnderTest = await self._opened(SidecarUnderTest(config, environ=environ))
        return sidecar

    async def serves(self, *, answer: bytes = OK) -> Message:
        """The server hears a request and answers it; returns the request."""
        connection: Wire = await self.upstream.hears()
        request = await connection.request()
        await connection.sends(answer)
        return request


Set = Callable[..., Awaitable[Network]]


@pytest.fixture
async def network(opened: Opened) -> Set:
    """`await network(tls=, …)` sets one up; what else is given is the proxy's."""

    async def network(*, tls: ssl.SSLContext | None = None, upstream: RawUpstream | None = None, **proxy: Any) -> Network:
        server = await opened(upstream if upstream is not None else RawUpstream(tls=tls))
        rules = {"user": USER, "names": NAMES, **proxy}
        return Network(opened, await opened(CorporateProxy(**rules)), server)

    return network


def request(target: str, *fields: bytes, method: bytes = b"GET", host: str = "x", body: bytes = b"") -> bytes:
    lines = [b"%b %b HTTP/1.1" % (method, target.encode()), b"Host: " + host.encode(), *fields]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


# ── plain calls are asked of the proxy ───────────────────────────────────────────────────────────────────────────────


async def test_an_unknown_plain_destination_is_asked_of_the_proxy_by_its_whole_url(network: Set) -> None:
    net = await network(tunnels=set())
    sidecar = await net.sidecar(proxy={"url": net.via()})
    client = await sidecar.connects()
    await client.sends(
        request(f"{net.url()}/a%2Fb?q=1", b"Proxy-Authorization: Basic bWluZTptaW5l", method=b"POST", body=b"hello")
    )
    seen = await net.serves()
    assert (await client.response()).body == b"ok"
    assert net.proxy.lines == [b"POST %b/a%%2Fb?q=1 HTTP/1.1" % net.url().encode()]
    asked = net.proxy.asked[0]
    assert asked.all(b"proxy-authorization") == [BASIC], "the proxy's own, and never the client's"
    assert asked.one(b"host") == net.url().removeprefix("http://").encode()
    assert (seen.target, seen.body, seen.has(b"proxy-authorization")) == (b"/a%2Fb?q=1", b"hello", False)
    exchange = await sidecar.finished()
    assert (exchange.host, exchange.port, exchange.status, exchange.error) == ("llm.test", net.upstream.port, 200, "")
    assert exchange.path == "/a%2Fb?q=1"
    assert sidecar.attempts[0].address == "127.0.0.1"


@pytest.mark.parametrize("whose", ["everybody's", "its own"])
async def test_a_plain_upstream_is_asked_of_the_proxy_as_well(network: Set, whose: str) -> None:
    """Squid refuses CONNECT to any port but 443 out of the box, and so does this one."""
    net = await network(tunnels=set())
    own = {"proxy": net.via()} if whose == "its own" else {}
    sidecar = await net.sidecar(proxy=None if own else {"url": net.via()}, upstream=own)
    client = await sidecar.connects()
    for target in ("/llm/x", f"{net.url()}/base/x", "/llm/x"):
        await client.sends(request(target, method=b"POST", body=b"hello"))
        assert (await net.serves()).target == b"/base/x"
        assert (await client.response()).body == b"ok"
    assert net.proxy.lines == [b"POST %b/base/x HTTP/1.1" % net.url().encode()] * 3
    assert [asked.one(b"proxy-authorization") for asked in net.proxy.asked] == [BASIC] * 3
    assert len(net.proxy.connections) == 1, "kept alive"


async def test_options_for_the_whole_server_have_no_path(network: Set) -> None:
    """RFC 9112 section 3.2.4."""
    net = await network()
    sidecar = await net.sidecar(proxy={"url": net.via()})
    client = await sidecar.connects()
    await client.sends(request(net.url(), method=b"OPTIONS"))
    assert (await net.serves()).target == b"*"
    assert (await client.response(to=b"OPTIONS")).body == b"ok"
    assert net.proxy.lines == [b"OPTIONS %b HTTP/1.1" % net.url().encode()]


async def test_the_proxy_hears_the_name_that_was_judged_however_it_was_spelt(network: Set) -> None:
    net = await network()
    sidecar = await net.sidecar(proxy={"url": net.via()})
    client = await sidecar.connects()
    await client.sends(request(f"http://LLM.Test.:{net.upstream.port}/x"))
    await net.serves()
    assert (await client.response()).status == 200
    assert net.proxy.lines == [b"GET %b/x HTTP/1.1" % net.url().encode()]


async def test_a_stream_through_the_proxy_comes_as_it_is_sent(network: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    net = await network(upstream=SseUpstream())
    sidecar = await net.sidecar(proxy={"url": net.via()}, upstream={})
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{sidecar.url}/llm") as client:
        await streams_as_it_comes(client, net.upstream, count=5)  # type: ignore[arg-type]  # it is an SseUpstream
    assert (await sidecar.finished()).error == ""


async def test_a_client_that_goes_cancels_the_call_at_the_proxy(network: Set) -> None:
    net = await network()
    sidecar = await net.sidecar(proxy={"url": net.via()})
    client = await sidecar.connects()
    await client.sends(request(f"{net.url()}/x"))
    await net.upstream.hears()
    await client.closes()
    await eventually(lambda: has_ended(net.proxy.connections[0]), "the end of the connection to the proxy", within_s=1.0)
    assert (await sidecar.finished()).error == "client_gone"


def has_ended(connection: Wire) -> bool:
    """Whether the other side has hung up; nothing is read."""
    try:
        return connection.sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_what_the_proxy_answers_to_a_plain_call_is_the_answer(network: Set) -> None:
    """It may well be the upstream's own; nobody can tell."""
    net = await network(denied=frozenset({"llm.test"}))
    sidecar = await net.sidecar(proxy={"url": net.via()})
    client = await sidecar.connects()
    await client.sends(request(f"{net.url()}/x"))
    response = await client.response()
    assert (response.status, response.body, response.has(b"x-sidecar-error")) == (403, b"<h1>No.</h1>", False)


async def test_credentials_that_the_proxy_does_not_take_are_no_question_to_the_client(network: Set) -> None:
    """A 407 would have the client send the proxy's users its credentials for us."""
    net = await network()
    sidecar = await net.sidecar(proxy={"url": net.via(WRONG)})
    client = await sidecar.connects()
    await client.sends(request(f"{net.url()}/x"))
    response = await sidecar.refuses(client, "proxy_auth_failed")
    assert not response.has(b"proxy-authenticate")
    assert b"it wants Negotiate, Basic" in response.body
    assert b"hunter2" not in response.head + response.body
    assert b"<h1>" not in response.body
    exchange = await sidecar.finished()
    assert (exchange.status, exchange.error) == (502, "proxy_auth_failed")
    await net.upstream.accepts_nothing()


# ── TLS and tunnels ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("whose", ["everybody's", "its own"])
async def test_a_tls_upstream_is_reached_through_a_tunnel(network: Set, authority: Authority, whose: str) -> None:
    net = await network(tls=authority.server("llm.test"))
    own: dict[str, Any] = {"tls": {"ca_file": authority.ca_file}}
    if whose == "its own":
        own["proxy"] = net.via()
    sidecar = await net.sidecar(proxy={"url": net.via()} if whose == "everybody's" else None, upstream=own)
    client = await sidecar.connects()
    for _ in range(2):
        await client.sends(request("/llm/x", b"Proxy-Authorization: Basic bWluZTptaW5l", method=b"POST", body=b"secret"))
        seen = await net.serves()
        assert (seen.target, seen.body, seen.has(b"proxy-authorization")) == (b"/base/x", b"secret", False)
        assert (await client.response()).body == b"ok"
    assert net.proxy.lines == [b"CONNECT llm.test:%d HTTP/1.1" % net.upstream.port], "one tunnel, kept alive"
    assert net.proxy.asked[0].all(b"proxy-authorization") == [BASIC]
    assert b"secret" not in net.proxy.connections[0].received


async def test_an_unknown_tls_destination_in_absolute_form_takes_a_tunnel_too(network: Set, authority: Authority) -> None:
    net = await network(tls=authority.server("llm.test"))
    sidecar = await net.sidecar(proxy={"url": net.via()})
    client = await sidecar.connects()
    await client.sends(request(f"{net.url()}/x"))
    await sidecar.refuses(client, "tls_failed")  # the authority is not one of the system's: the handshake was with the server
    assert net.proxy.lines == [b"CONNECT llm.test:%d HTTP/1.1" % net.upstream.port]


@pytest.mark.parametrize("known", [False, True])
async def test_a_blind_tunnel_goes_through_the_proxy(network: Set, authority: Authority, known: bool) -> None:
    net = await network(tls=authority.server("llm.test"))
    sidecar = await net.sidecar(proxy={"url": net.via()}, upstream={} if known else None)
    client = await sidecar.connects()
    await client.sends(request(f"llm.test:{net.upstream.port}", b"Proxy-Authorization: Basic bWluZTptaW5l", method=b"CONNECT"))
    assert (await client.head()).status == 200
    trusts = ssl.create_default_context(cafile=authority.ca_file)
    inside = TlsWire(client.sock, "client", trusts, server_side=False, server_name="llm.test")
    await inside.shakes_hands()
    await inside.sends(b"GET /direct HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await net.serves()).target == b"/direct"
    assert (await inside.response()).body == b"ok"
    assert net.proxy.lines == [b"CONNECT llm.test:%d HTTP/1.1" % net.upstream.port]
    assert net.proxy.asked[0].all(b"proxy-authorization") == [BASIC]


async def test_a_tunnel_to_a_plain_upstream_is_a_tunnel(network: Set) -> None:
    """Here CONNECT is what the client has asked for, whatever it will speak inside."""
    net = await network()
    sidecar = await net.sidecar(proxy={"url": net.via()}, upstream={})
    client = await sidecar.connects()
    await client.sends(request(f"llm.test:{net.upstream.port}", method=b"CONNECT"))
    assert (await client.head()).status == 200
    await client.sends(b"hello")
    far = await net.upstream.accepts()
    await far.saw(b"hello")
    await far.sends(b"hi")
    await client.saw(b"hi")
    assert net.proxy.lines == [b"CONNECT llm.test:%d HTTP/1.1" % net.upstream.port]


@pytest.mark.parametrize("kind", ["tunnel", "tls"])
@pytest.mark.parametrize(
    ("rules", "login", "host", "code"),
    [
        ({}, WRONG, "llm.test", "proxy_auth_failed"),
        ({}, "", "llm.test", "proxy_auth_failed"),
        ({"denied": frozenset({"llm.test"})}, LOGIN, "llm.test", "proxy_denied"),
        ({"tunnels": {443}}, LOGIN, "llm.test", "proxy_denied"),
        ({"names": {}}, LOGIN, "llm.test", "proxy_failed"),
    ],
)
async def test_what_the_proxy_says_to_connect_is_told_from_what_the_upstream_says(
    network: Set, kind: str, rules: dict[str, Any], login: str, host: str, code: str
) -> None:
    net = await network(upstream=RawUpstream(), **rules)
    url = {"url": f"https://{host}:{net.upstream.port}/base"}
    sidecar = await net.sidecar(proxy={"url": net.via(login)}, upstream=url)
    client = await sidecar.connects()
    target, method = ("/llm/x", b"GET") if kind == "tls" else (f"{host}:{net.upstream.port}", b"CONNECT")
    await client.sends(request(target, method=method))
    response = await sidecar.refuses(client, code, to=method)
    assert b"hunter2" not in response.body
    assert b"<h1>" not in response.body, "the proxy's page is for people"
    assert f"127.0.0.1:{net.proxy.port} answered".encode() in response.body
    await net.upstream.accepts_nothing()
    assert (await sidecar.finished()).error == code
    assert sidecar.attempts[0].error == code


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK", b"HTTP/1.1 " + b"x" * 100_000],
    ids=["closes", "nonsense", "half", "endless"],
)
async def test_a_proxy_that_misbehaves_is_a_502(network: Set, opened: Opened, answer: bytes) -> None:
    async def misbehaves(connection: Wire) -> None:
        await connection.head()
        await connection.sends_if_open(answer)

    net = await network()
    corporate = await opened(RawUpstream(misbehaves))
    sidecar = await net.sidecar(proxy={"url": corporate.url})
    client = await sidecar.connects()
    await client.sends(request("llm.test:443", method=b"CONNECT"))
    await sidecar.refuses(client, "proxy_failed", to=b"CONNECT")


async def test_a_proxy_that_is_away_and_one_that_is_silent_are_told_apart(network: Set, opened: Opened, free_port: Any) -> None:
    net = await network()
    silent = await opened(RawUpstream())
    for port, code in ((free_port(), "proxy_unreachable"), (silent.port, "proxy_timeout")):
        settings = {"url": "https://llm.test", "connect_timeout": "2s"}
        sidecar = await net.sidecar(proxy={"url": f"http://127.0.0.1:{port}"}, upstream=settings)
        client = await sidecar.connects()
        await client.sends(request("/llm/x"))
        response = await sidecar.refuses(client, code)
        assert f"127.0.0.1:{port}".encode() in response.body


# ── what goes through it, and what does not ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest", "http://[fd00:ec2::254]/", "http://2852039166/", "http://metadata.google.internal/", "http://metadata/",
        "http://localhost:{port}/", "http://127.0.0.1:{port}/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
async def test_destinations_are_judged_before_the_proxy_hears_of_them(network: Set, target: str, method: bytes) -> None:
    """The proxy is on loopback here, so that loopback goes through it: where it may."""
    net = await network(user="")
    sidecar = await net.sidecar(proxy={"url": net.via(""), "no_proxy": []})
    target = target.format(port=net.upstream.port)
    if method == b"CONNECT":
        authority = target.removeprefix("http://").partition("/")[0]
        target = authority if authority.count(":") == 1 or authority.endswith("]:80") else f"{authority}:80"
    client = await sidecar.connects()
    await client.sends(request(target, method=method))
    await sidecar.refuses(client, "address_refused", "loopback_refused", to=method)
    assert net.proxy.asked == []
    await net.upstream.accepts_nothing()


async def test_the_sidecar_is_not_reached_by_the_proxy(network: Set) -> None:
    net = await network(user="")
    sidecar = await net.sidecar(proxy={"url": net.via(""), "no_proxy": []}, destinations={"allow_loopback": True})
    for target, method in ((f"http://127.0.0.1:{sidecar.port}/", b"GET"), (f"localhost:{sidecar.port}", b"CONNECT")):
        client = await sidecar.connects()
        await client.sends(request(target, method=method))
        await sidecar.refuses(client, "loop_detected", to=method)
    assert net.proxy.asked == []


async def test_a_name_that_leads_back_to_the_sidecar_is_a_loop(network: Set) -> None:
    """Only the proxy knows where it leads, and so it is found when it comes back."""
    net = await network(user="")
    sidecar = await net.sidecar(proxy={"url": net.via("")})
    client = await sidecar.connects()
    await client.sends(request(f"http://other.test:{sidecar.port}/x"))
    response = await client.response()
    assert (response.status, response.one(b"x-sidecar-error")) == (508, b"loop_detected")
    assert len(net.proxy.asked) == 1


async def test_a_proxy_that_is_the_sidecar_itself_is_a_loop(network: Set, free_port: Any) -> None:
    net, port = await network(), free_port()
    listeners = {"http": {"endpoint": f"127.0.0.1:{port}"}}
    sidecar = await net.sidecar(proxy={"url": f"http://127.0.0.1:{port}"}, listeners=listeners)
    for target, method in ((f"{net.url()}/x", b"GET"), ("llm.test:443", b"CONNECT")):
        client = await sidecar.connects()
        await client.sends(request(target, method=method))
        await sidecar.refuses(client, "loop_detected", to=method)
    assert len(sidecar.exchanges) == 2, "nothing came round"


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "127.0.0.0/8", "127.0.0.1:{port}", "*"])
async def test_what_is_exempt_is_reached_directly(network: Set, no_proxy: str) -> None:
    net = await network()
    exempt = [no_proxy.format(port=net.upstream.port)]
    sidecar = await net.sidecar(proxy={"url": net.via(), "no_proxy": exempt}, destinations={"allow_loopback": True})
    client = await sidecar.connects()
    await client.sends(request(f"{net.upstream.url}/x"))
    assert (await net.serves()).target == b"/x"
    assert (await client.response()).status == 200
    assert net.proxy.asked == []


async def test_local_servers_are_not_asked_of_the_proxy_by_default(network: Set) -> None:
    net = await network()
    sidecar = await net.sidecar(proxy={"url": net.via()}, upstream={"url": f"{net.upstream.url}/base"})
    client = await sidecar.connects()
    await client.sends(request("/llm/x"))
    assert (await net.serves()).target == b"/base/x"
    assert (await client.response()).status == 200
    assert net.proxy.asked == []


async def test_an_upstream_may_go_direct_or_by_a_proxy_of_its_own(network: Set, opened: Opened) -> None:
    net = await network()
    second = await opened(CorporateProxy("me:two", names=NAMES))
    own = {"proxy": f"http://me:two@127.0.0.1:{second.port}"}
    sidecar = await net.sidecar(proxy={"url": net.via()}, upstream=own)
    client = await sidecar.connects()
    for target in ("/llm/x", f"{net.url('other.test')}/y"):
        await client.sends(request(target))
        await net.serves()
        assert (await client.response()).status == 200
    assert second.lines == [b"GET %b/base/x HTTP/1.1" % net.url().encode()]
    assert net.proxy.lines == [b"GET %b/y HTTP/1.1" % net.url("other.test").encode()]
    assert net.proxy.asked[0].one(b"proxy-authorization") == BASIC, "each its own credential"
    direct = await net.sidecar(proxy={"url": net.via()}, upstream={"proxy": "direct", "url": "http://llm.test:1"})
    client = await direct.connects()
    await client.sends(request("/llm/x"))
    await direct.refuses(client, "dns_failed")


@pytest.mark.parametrize("where", ["everybody's", "its own"])
async def test_the_environment_can_say_it(network: Set, where: str) -> None:
    net = await network()
    environ = {"http_proxy": net.via(), "HTTP_PROXY": "http://evil.test:1", "NO_PROXY": "other.test"}
    settings = {"proxy": "environment"} if where == "its own" else {}
    sidecar = await net.sidecar(proxy=None if settings else {"url": "environment"}, upstream=settings, environ=environ)
    client = await sidecar.connects()
    await client.sends(request("/llm/x"))
    await net.serves()
    assert (await client.response()).status == 200
    assert len(net.proxy.asked) == 1
    await client.sends(request(f"{net.url('other.test')}/y"))
    await sidecar.refuses(client, "dns_failed")
    assert len(net.proxy.asked) == 1


async def test_without_the_setting_the_environment_counts_for_nothing(network: Set) -> None:
    net = await network()
    sidecar = await net.sidecar(environ={"http_proxy": net.via(), "ALL_PROXY": net.via()}, destinations={"allow_loopback": True})
    client = await sidecar.connects()
    await client.sends(request(f"{net.upstream.url}/x"))
    await net.serves()
    assert (await client.response()).status == 200
    assert net.proxy.asked == []


async def test_names_can_be_judged_here_before_the_proxy_has_them(network: Set) -> None:
    net = await network(user="")
    sidecar = await net.sidecar(proxy={"url": net.via(""), "resolve": "here", "no_proxy": []})
    client = await sidecar.connects()
    await client.sends(request(f"{net.url()}/x"))
    await sidecar.refuses(client, "dns_failed")
    await client.sends(request("localhost:1", method=b"CONNECT"))
    await sidecar.refuses(client, "loopback_refused", to=b"CONNECT")
    assert net.proxy.asked == []


# ── while it runs ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_another_proxy_takes_over_at_a_reload_and_no_connection_of_the_first_is_used_again(
    network: Set, opened: Opened
) -> None:
    net = await network()
    second = await opened(CorporateProxy(names=NAMES))
    sidecar = await net.sidecar(proxy={"url": net.via()}, upstream={})
    client = await sidecar.connects()
    for proxy in (net.proxy, second):
        for target in ("/llm/x", f"{net.url('other.test')}/y"):
            await client.sends(request(target))
            await net.serves()
            assert (await client.response()).status == 200
        assert len(proxy.asked) == 2
        await sidecar.app.reload(load(reconfigured(sidecar, {"url": second.url}), environ={}))
    await sidecar.app.reload(load(reconfigured(sidecar, {"url": "direct"}), environ={}))
    await client.sends(request("/llm/x"))
    await sidecar.refuses(client, "dns_failed")
    assert len(net.proxy.asked) + len(second.asked) == 4


def reconfigured(sidecar: SidecarUnderTest, proxy: dict[str, Any]) -> str:
    """The sidecar's config with another `traffic.proxy`."""
    config = json.loads(json.dumps(sidecar._config))
    config["traffic"]["proxy"] = proxy
    return json.dumps(config, indent=1)


async def test_the_admin_shows_no_credential(network: Set) -> None:
    net = await network()
    sidecar = await net.sidecar(proxy={"url": net.via()}, upstream={"proxy": net.via()})
    await sidecar.app.ready()
    host, port = sidecar.app.endpoints["admin"]
    admin = await dials(host, port)
    await admin.sends(request("/api/v1/config", b"Connection: close", host=f"{host}:{port}"))
    shown = await admin.reads_to_end()
    admin.close()
    assert b'"no_proxy"' in shown
    assert b"p%40ss" not in shown
    assert b"p@ss" not in shown


# ── the official SDK ─────────────────────────────────────────────────────────────────────────────────────────────────

COMPLETION = {
    "id": "c-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_openai_works_through_both(network: Set, authority: Authority, scheme: str) -> None:
    net = await network(tls=authority.server("llm.test") if scheme == "https" else None)
    sidecar = await net.sidecar(proxy={"url": net.via()}, upstream={"tls": {"ca_file": authority.ca_file}})
    body = json.dumps(COMPLETION).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{sidecar.url}/llm") as client:
        asking = asyncio.create_task(client.chat.completions.create(**ASK))
        seen = await net.serves(answer=head + body)
        assert (await asking).choices[0].message.content == "hello"
    assert (seen.target, seen.one(b"authorization")) == (b"/base/chat/completions", b"Bearer k")
    assert len(net.proxy.asked) == 1
