from typing import Any

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.spec import Duration, Secret
from sidecar.runtime.metrics import Gauge
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.destinations import Destinations
from sidecar.traffic.tls import TlsSpec
from sidecar.traffic.upstreams.http import Config, HttpUpstream, build
from sidecar.traffic.wire.dial import Dialer
from sidecar.traffic.wire.proxy import Proxies, proxies_of
from sidecar.traffic.wire.resolver import Resolver
from sidecar.traffic.wire.response_head import parse_response
from tests.peers.authority import Authority
from tests.peers.raw import RawUpstream
from tests.sidecar_under_test import eventually

# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "authority", "base"),
    [
        ("http://h", "http", "h", 80, b"h", b""),
        ("http://h/", "http", "h", 80, b"h", b""),
        ("http://h:80/", "http", "h", 80, b"h", b""),
        ("https://h:443", "https", "h", 443, b"h", b""),
        ("http://h:443", "http", "h", 443, b"h:443", b""),
        ("https://h:80", "https", "h", 80, b"h:80", b""),
        ("https://API.Example/v1/", "https", "api.example", 443, b"api.example", b"/v1"),
        ("https://h/a//b%2Fc///", "https", "h", 443, b"h", b"/a//b%2Fc"),
        ("http://[::1]:8080/x", "http", "::1", 8080, b"[::1]:8080", b"/x"),
        ("http://[2001:DB8::1]", "http", "2001:db8::1", 80, b"[2001:db8::1]", b""),
        ("https://xn--bcher-kva.example", "https", "xn--bcher-kva.example", 443, b"xn--bcher-kva.example", b""),
        ("HTTP://h", "http", "h", 80, b"h", b""),
        ("http://h/@scope/x", "http", "h", 80, b"h", b"/@scope/x"),
    ],
)
def test_a_url_says_where_to_connect_and_what_stands_before_each_path(
    url: str, scheme: str, host: str, port: int, authority: bytes, base: bytes
) -> None:
    upstream = build("http/a", Config(url=url), Runtime())
    assert (upstream.scheme, upstream.host, upstream.port) == (scheme, host, port)
    assert (upstream.authority, upstream.base) == (authority, base)


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "h:80", "//h", "ftp://h", "ws://h", "unix:/run/a", "http://", "http:///x", "http://:80", "http://h:x", "http://h:65536", "http://h:0",
        "http://[::1", "http://u@h", "http://u:p@h", "http://@h", "http://h?a", "http://h?", "http://h#f", "http://h#", "http://h/a b", "http://h\n", "http://h/\x7f",
        "http://bücher.example", "http://h/ü", " http://h",
    ],
)  # fmt: skip
def test_a_url_that_could_not_be_called_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Config(url=url)


def test_a_url_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError) as refused:
        Config(url="ftp://me:s3cret@h")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("settings", [{"max_connections": 0}, {"max_waiting": -1}, {"max_header_count": 0}])
def test_bounds_that_let_nothing_through_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="have to be"):
        Config(url="http://h", **settings)
    assert Config(url="http://h", max_connections=1, max_waiting=0, max_header_count=1).max_waiting == 0


@pytest.mark.parametrize("proxy", ["http://me:pw@proxy:3128", "environment", "direct"])
def test_a_proxy_is_a_url_or_a_word(proxy: str) -> None:
    assert Config(url="http://h", proxy=Secret(proxy)).proxy == Secret(proxy)


def test_a_proxy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="proxy has to look like"):
        Config(url="http://h", proxy=Secret("socks5://proxy:1080"))


def test_an_environment_whose_proxy_makes_no_sense_is_found_when_it_is_built() -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY of the environment has to look like"):
        build("http/a", Config(url="https://h", proxy=Secret("environment")), Runtime(environ={"HTTPS_PROXY": "socks5://p:1"}))


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Caller:
    """Waits for connections as a call does."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def connected(self, outbound: Any) -> None:
        self.got.append(outbound)

    def not_connected(self, fault: Refused) -> None:
        self.got.append(fault)


def dialer(*own: tuple[str, int]) -> Dialer:
    open_to_all = Destinations(allow_loopback=False, allow_private=False, own=lambda: own, configured=frozenset())
    return Dialer(Resolver(ttl_s=1.0, timeout_s=1.0, clock=ManualClock()), open_to_all, attempt_delay_s=0.1)


async def taken(upstream: HttpUpstream) -> Any:
    """What a caller gets of this upstream: a connection, or why there is none."""
    caller = Caller()
    upstream.pool.wait(caller)
    await eventually(lambda: bool(caller.got), "a connection, or a fault")
    return caller.got[0]


def gauges(runtime: Runtime) -> dict[str, float]:
    """Every gauge by name and labels."""
    found = {}
    for family in runtime.metrics:
        for labels, gauge in family.series.items():
            assert isinstance(gauge, Gauge)
            assert gauge.read is not None
            found[" ".join([family.name.rpartition(".")[2], *(value for _, value in labels)])] = gauge.read()
    return found


async def test_gauges_follow_the_connections(opened: Any) -> None:
    peer = await opened(RawUpstream())
    runtime = Runtime()
    upstream = build("http/a", Config(url=peer.url, max_connections=1), runtime)
    upstream.reach_by(dialer())
    assert gauges(runtime) == {}, "what is not started may never be"
    await upstream.start()
    await upstream.start()
    assert gauges(runtime) == {"connections open http/a": 0, "connections idle http/a": 0, "waiting http/a": 0}
    outbound = await taken(upstream)
    second = Caller()
    upstream.pool.wait(second)
    assert gauges(runtime) == {"connections open http/a": 1, "connections idle http/a": 0, "waiting http/a": 1}
    upstream.pool.release(outbound)
    assert second.got == [outbound]
    upstream.pool.release(outbound)
    assert gauges(runtime) == {"connections open http/a": 1, "connections idle http/a": 1, "waiting http/a": 0}
    await upstream.stop()
    await upstream.stop()
    assert upstream.pool.open_count == 0
    assert gauges(runtime) == {}


@pytest.mark.parametrize(("named", "heads"), [(True, 8), (False, 64 + 8)])
def test_destinations_that_the_config_does_not_name_learn_heads_later(*, named: bool, heads: int) -> None:
    outlines = HttpUpstream("", Config(url="http://h"), Runtime(), named_by_config=named).pool.outlines
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    learnt = 0
    while outlines.read(head) is None and learnt < 1000:
        outlines.learn(head, parse_response(head, method=b"GET", max_count=9))
        learnt += 1
    assert learnt == heads


async def test_destinations_that_the_config_does_not_name_have_no_series() -> None:
    runtime = Runtime()
    await HttpUpstream("", Config(url="http://h"), runtime, named_by_config=False).start()
    assert gauges(runtime) == {}


async def test_connections_that_a_new_dialer_would_refuse_are_not_used_again(opened: Any) -> None:
    peer = await opened(RawUpstream())
    upstream = HttpUpstream("http/a", Config(url=peer.url), Runtime(), named_by_config=True)
    upstream.reach_by(dialer())
    idle, busy = await taken(upstream), await taken(upstream)
    upstream.pool.release(idle)
    upstream.reach_by(dialer())
    assert (upstream.pool.open_count, upstream.pool.idle_count) == (2, 1), "the same rules"
    upstream.reach_by(dialer(("127.0.0.1", peer.port)))
    assert (upstream.pool.open_count, upstream.pool.idle_count) == (1, 0)
    upstream.pool.release(busy)
    assert upstream.pool.open_count == 0
    assert (await taken(upstream)).code == "loop_detected"
    await upstream.stop()


async def test_it_can_be_started_and_stopped_without_ever_connecting() -> None:
    upstream = build("http/a", Config(url="https://h"), Runtime())
    await upstream.stop()
    await upstream.start()
    await upstream.stop()
    assert upstream.pool.open_count == 0


@pytest.mark.parametrize("named", [False, True])
async def test_only_what_the_config_names_may_stand_on_loopback(named: bool, opened: Any) -> None:
    peer = await opened(RawUpstream())
    upstream = HttpUpstream("http/a", Config(url=peer.url), Runtime(), named_by_config=named)
    upstream.reach_by(dialer())
    if not named:
        assert (await taken(upstream)).code == "loopback_refused"
        return
    sock, address = await upstream.dial()
    sock.close()
    assert address == "127.0.0.1"


async def test_what_has_no_dialer_yet_cannot_connect() -> None:
    with pytest.raises(AssertionError, match="dialer"):
        await build("http/a", Config(url="http://h"), Runtime()).dial()


async def test_limits_of_the_config_reach_the_pool() -> None:
    upstream = build("http/a", Config(url="http://h", first_byte_timeout=Duration("7s"), idle_timeout=Duration("8s")), Runtime())
    assert (upstream.first_byte_timeout_s, upstream.idle_timeout_s) == (7.0, 8.0)
    assert (upstream.pool.max_header_bytes, upstream.pool.max_header_count) == (64 * 1024, 256)


PROXY = "http://me:pw@127.0.0.1:{port}"


async def corporate(opened: Any) -> tuple[RawUpstream, list[bytes]]:
    """A proxy that opens every tunnel, and what it was asked."""
    heard: list[bytes] = []

    async def proxy(connection: Any) -> None:
        head = await connection.head()
        heard.append(head.start_line)
        assert head.one(b"proxy-authorization") == b"Basic bWU6cHc="
        await connection.sends(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await connection.reads_to_end()

    return await opened(RawUpstream(proxy)), heard


def through(proxies: Proxies) -> Dialer:
    made = dialer()
    made.proxies = proxies
    return made


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_tls_is_spoken_through_a_tunnel_and_plain_calls_are_asked_of_the_proxy(opened: Any, scheme: str) -> None:
    peer, heard = await corporate(opened)
    settings = Config(url=f"{scheme}://127.0.0.1:9", proxy=Secret(PROXY.format(port=peer.port)))
    upstream = build("http/a", settings, Runtime())
    upstream.reach_by(dialer())
    assert (upstream.asks is not None) is (scheme == "http")
    sock, address = await upstream.dial()
    assert (address, sock.getpeername()[1]) == ("127.0.0.1", peer.port)
    sock.close()
    assert heard == ([b"CONNECT 127.0.0.1:9 HTTP/1.1"] if scheme == "https" else [])


async def test_a_blind_tunnel_is_one_whatever_the_endpoint_speaks(opened: Any) -> None:
    peer, heard = await corporate(opened)
    upstream = build("http/a", Config(url="http://127.0.0.1:9", proxy=Secret(PROXY.format(port=peer.port))), Runtime())
    upstream.reach_by(dialer())
    sock, _ = await upstream.dial_tunnel()
    sock.close()
    assert heard == [b"CONNECT 127.0.0.1:9 HTTP/1.1"]


ALL = proxies_of(Secret("http://everybodys:3128"), {})


@pytest.mark.parametrize(
    ("proxy", "environ", "expected"),
    [
        (None, {}, "everybodys:3128"),
        ("direct", {}, None),
        ("http://own:1", {}, "own:1"),
        ("environment", {"http_proxy": "of-environ:2"}, "of-environ:2"),
        ("environment", {}, None),
    ],
)
def test_its_own_proxy_goes_before_that_of_everybody(proxy: str | None, environ: dict[str, str], expected: str | None) -> None:
    settings = Config(url="http://h.test", proxy=Secret(proxy) if proxy else None)
    upstream = build("http/a", settings, Runtime(environ=environ))
    upstream.reach_by(through(ALL))
    assert (upstream.asks.shown if upstream.asks else None) == expected


def test_what_its_connections_lead_to_never_changes() -> None:
    upstream = build("http/a", Config(url="http://h.test"), Runtime())
    upstream.reach_by(through(ALL))
    upstream.reach_by(dialer())
    assert upstream.asks is not None
    assert upstream.asks.shown == "everybodys:3128"


async def test_tls_is_verified_by_the_name_of_the_url(opened: Any, authority: Authority) -> None:
    peer = await opened(RawUpstream(tls=authority.server("localhost")))
    upstream = build("http/a", Config(url=f"https://localhost:{peer.port}", tls=TlsSpec(ca_file=authority.ca_file)), Runtime())
    upstream.reach_by(dialer())
    outbound = await taken(upstream)
    assert not isinstance(outbound, Refused), outbound
    assert upstream._made is not None
    assert upstream._made.context is await upstream._tls(), "the context is made once"
    await upstream.stop()


async def test_upstreams_of_one_runtime_share_their_context_unless_their_certificates_differ(authority: Authority) -> None:
    runtime = Runtime()
    cert_file, key_file = authority.client_files()
    mutual = TlsSpec(cert_file=cert_file, key_file=key_file)
    first, second = (build(name, Config(url=f"https://{name}"), runtime) for name in ("a", "b"))
    other = build("c", Config(url="https://c", tls=mutual), runtime)
    assert await first._tls() is await second._tls()
    assert await other._tls() is not await first._tls()


def test_the_final_dot_of_a_host_is_no_part_of_its_certificate() -> None:
    assert build("http/a", Config(url="https://h.example."), Runtime()).pool._target.server_name == "h.example"


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
async def test_a_certificate_file_that_is_not_there_is_found_at_the_start(setting: str) -> None:
    upstream = build("http/a", Config(url="https://h", tls=TlsSpec(**{setting: "/nowhere/file.pem"})), Runtime())
    with pytest.raises(OSError, match="No such file"):
        await upstream.start()


async def test_tls_fails_where_the_name_is_another_or_a_file_is_gone(opened: Any, authority: Authority) -> None:
    peer = await opened(RawUpstream(tls=authority.server("other.example")))
    url = f"https://localhost:{peer.port}"
    for tls, code in ((TlsSpec(ca_file=authority.ca_file), "tls_failed"), (TlsSpec(ca_file="/nowhere/ca.pem"), "connect_failed")):
        upstream = build("http/a", Config(url=url, tls=tls), Runtime())
        upstream.reach_by(dialer())
        fault = await taken(upstream)
        assert isinstance(fault, UpstreamFailed)
        assert fault.code == code
        await upstream.stop()
    named = build("http/a", Config(url=url, tls=TlsSpec(ca_file=authority.ca_file, server_name="other.example")), Runtime())
    named.reach_by(dialer())
    assert not isinstance(await taken(named), Refused)
    await named.stop()
