"""Never an open proxy: which destinations are reached, judged after resolution, however they are spelt; and never ourselves."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.model.errors import ConfigInvalid
from tests.peers.raw import RawUpstream
from tests.peers.wire import dials
from tests.scene import OK, Opened, Scene, Stage
from tests.sidecar_under_test import SidecarUnderTest, config_for

NOWHERE = "http://upstream.invalid"
ANYWHERE = {"allow_loopback": True}
FOR_ALL = {**ANYWHERE, "allow_loopback_from_elsewhere": True}
SELF = ("loop_detected", "loopback_refused", "address_refused")


class Names:
    """A resolver of our own: `set` gives a name its answers, one list a look-up (the last one stays); `asked` counts look-ups."""

    def __init__(self) -> None:
        self._answers: dict[str, list[list[str]]] = {}
        self.asked: dict[str, int] = {}

    def set(self, name: str, *answers: list[str]) -> None:
        """Answer with these addresses, look-up by look-up."""
        self._answers[name] = list(answers)

    def look_up(self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
        """`socket.getaddrinfo` for the names that were set; anything else does not exist."""
        name = host.decode() if isinstance(host, bytes) else host
        self.asked[name] = self.asked.get(name, 0) + 1
        if name not in self._answers:
            try:
                socket.inet_pton(socket.AF_INET6 if ":" in name else socket.AF_INET, name)
            except OSError:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
            addresses = [name]
        else:
            answers = self._answers[name]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        number = int(port) if port else 0
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, number, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, number))
            for address in addresses
        ]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Take over name resolution in this process, both the blocking one and the loop's."""
    names = Names()

    async def look_up(host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
        return names.look_up(host, port, family, type, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    return names


async def asks(scene: Scene, authority: str, *, method: bytes = b"GET") -> None:
    """A plain call (or CONNECT) to this authority."""
    target = authority.encode() if method == b"CONNECT" else b"http://" + authority.encode() + b"/base/x"
    await scene.client.sends(b"%s %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (method, target, authority.encode()))


# ── link-local and metadata addresses ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "authority",
    [
        "169.254.169.254",
        "169.254.169.254:80",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.0.1:8080",
        "2852039166",
        "0xA9FEA9FE",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[fe80::1]",
        "[64:ff9b::169.254.169.254]",
        "[2002:a9fe:a9fe::1]",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
async def test_metadata_addresses_are_refused_however_they_are_spelt(stage: Stage, authority: str, method: bytes) -> None:
    scene = await stage(destinations=ANYWHERE)
    if method == b"CONNECT" and ":" not in authority.rpartition("]")[2]:
        authority += ":80"
    await asks(scene, authority, method=method)
    await scene.sidecar.refuses(scene.client, "address_refused", "bad_target", "dns_failed", to=method)


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "fe80::1", "::ffff:169.254.169.254"])
@pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
async def test_a_name_that_leads_to_metadata_is_refused(stage: Stage, names: Names, address: str, method: bytes) -> None:
    names.set("harmless.example", [address])
    scene = await stage(destinations=ANYWHERE)
    await asks(scene, "harmless.example:80", method=method)
    await scene.sidecar.refuses(scene.client, "address_refused", to=method)


async def test_a_name_with_one_good_and_one_closed_address_never_reaches_the_closed_one(stage: Stage, names: Names) -> None:
    upstream = RawUpstream()
    scene = await stage(peer=upstream, base=NOWHERE, destinations=ANYWHERE)
    names.set("mixed.example", ["169.254.169.254", "127.0.0.1"])
    await asks(scene, f"mixed.example:{upstream.port}")
    try:
        connection = await upstream.hears(patience_s=0.5)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "address_refused")
    else:
        await connection.request()
        await connection.sends(OK)
        assert (await scene.client.response()).status == 200
        assert (await _attempt(scene)).address == "127.0.0.1"


async def _attempt(scene: Scene) -> Any:
    await scene.sidecar.finished()
    return scene.sidecar.attempts[0]


async def test_the_address_that_was_judged_is_the_one_that_is_connected_to(stage: Stage, names: Names) -> None:
    """DNS rebinding: a second look-up would lead to the metadata service, so there must be none."""
    upstream = RawUpstream()
    scene = await stage(peer=upstream, base=NOWHERE, destinations=ANYWHERE)
    names.set("rebinding.example", ["127.0.0.1"], ["169.254.169.254"])
    for _ in range(3):
        await asks(scene, f"rebinding.example:{upstream.port}")
        connection = await upstream.hears()
        assert (await connection.request()).one(b"host") == f"rebinding.example:{upstream.port}".encode()
        await connection.sends(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        assert (await scene.client.response()).body == b"ok"
        connection.close()
    assert names.asked["rebinding.example"] == 1


async def test_an_answer_of_the_resolver_is_kept_for_its_time_only(stage: Stage, names: Names) -> None:
    upstream = RawUpstream()
    scene = await stage(peer=upstream, base=NOWHERE, destinations={**ANYWHERE, "dns_ttl": "50ms"})
    names.set("moving.example", ["127.0.0.1"], ["169.254.169.254"])
    await asks(scene, f"moving.example:{upstream.port}")
    await (await upstream.hears()).request()
    await upstream.taken[0].sends(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    assert (await scene.client.response()).body == b"ok"
    await asyncio.sleep(0.1)
    await asks(scene, f"moving.example:{upstream.port}")
    await scene.sidecar.refuses(scene.client, "address_refused")


async def test_a_configured_upstream_may_not_lead_to_metadata_either(stage: Stage, names: Names) -> None:
    names.set("llm.example", ["169.254.169.254"])
    scene = await stage(mode="gateway", base="http://llm.example")
    await scene.client.sends(scene.request())
    await scene.sidecar.refuses(scene.client, "address_refused")


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "ff02::1"])
async def test_addresses_that_are_no_hosts_are_refused(stage: Stage, names: Names, address: str) -> None:
    names.set("odd.example", [address])
    scene = await stage(destinations=ANYWHERE)
    await asks(scene, "odd.example")
    await scene.sidecar.refuses(scene.client, "address_refused", "connect_failed")


# ── private ranges ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd12:3456::1", "::ffff:10.0.0.1"]
)
async def test_private_ranges_are_refused_where_the_setting_says_so(stage: Stage, names: Names, address: str) -> None:
    names.set("inside.example", [address])
    scene = await stage(destinations={"allow_private": False})
    await asks(scene, "inside.example")
    await scene.sidecar.refuses(scene.client, "address_refused")


# ── loopback ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "0.0.0.0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::]",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.255.255.254",
    "[::ffff:7f00:1]",
]


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
async def test_a_loopback_port_that_is_not_configured_is_refused_by_any_name(
    stage: Stage, opened: Opened, host: str, method: bytes
) -> None:
    private = await opened(RawUpstream())
    scene = await stage()
    await asks(scene, f"{host}:{private.port}", method=method)
    await scene.sidecar.refuses(
        scene.client, "loopback_refused", "address_refused", "bad_target", "dns_failed", "connect_failed", to=method
    )
    await private.accepts_nothing(for_s=0.02)


async def test_a_name_that_leads_to_loopback_is_refused(stage: Stage, names: Names, opened: Opened) -> None:
    private = await opened(RawUpstream())
    names.set("evil.example", ["127.0.0.1"])
    scene = await stage()
    await asks(scene, f"evil.example:{private.port}")
    await scene.sidecar.refuses(scene.client, "loopback_refused")
    await private.accepts_nothing(for_s=0.02)


async def test_a_loopback_port_is_reached_where_the_setting_allows_it(stage: Stage, opened: Opened) -> None:
    other = await opened(RawUpstream())
    scene = await stage(destinations=ANYWHERE)
    await asks(scene, other.authority)
    connection = await other.hears()
    assert (await connection.request()).target == b"/base/x"
    await connection.sends(OK)
    assert (await scene.client.response()).body == b"ok"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_configured_loopback_upstream_is_reached(stage: Stage, host: str) -> None:
    scene = await stage(mode="forward")
    await asks(scene, f"{host}:{scene.upstream.port}")
    await scene.asks()
    assert (await scene.client.response()).body == b"ok"


# ── unknown destinations ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("default", "method", "code"),
    [
        ("deny", b"GET", "destination_denied"),
        ("deny", b"CONNECT", "destination_denied"),
        ("tunnel", b"GET", "destination_denied"),
    ],
)
async def test_unknown_destinations_are_denied_by_default_setting(
    stage: Stage, opened: Opened, default: str, method: bytes, code: str
) -> None:
    other = await opened(RawUpstream())
    scene = await stage(default=default, destinations=ANYWHERE)
    await asks(scene, other.authority, method=method)
    await scene.sidecar.refuses(scene.client, code, "connect_denied", to=method)
    await other.accepts_nothing(for_s=0.02)
    await scene.still_works()


@pytest.mark.parametrize("path", [b"/", b"/llm", b"/LLM/x", b"/other/x", b"/llmx/y", b"//llm/x", b"/x/llm/"])
async def test_a_gateway_path_without_a_route_is_a_404(stage: Stage, path: bytes) -> None:
    scene = await stage()
    await scene.client.sends(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
    await scene.sidecar.refuses(scene.client, "route_unknown")
    await scene.upstream.hears_nothing(for_s=0.02)


async def test_the_host_of_a_gateway_call_names_no_destination(stage: Stage, opened: Opened) -> None:
    """Origin-form with a foreign Host is not a forward-proxied call (no transparent proxying by accident)."""
    other = await opened(RawUpstream())
    scene = await stage(destinations=ANYWHERE)
    await scene.client.sends(b"GET /x HTTP/1.1\r\nHost: %s\r\n\r\n" % other.authority.encode())
    await scene.sidecar.refuses(scene.client, "route_unknown")
    await other.accepts_nothing(for_s=0.02)


async def test_the_same_destination_gets_the_same_route_either_way(stage: Stage) -> None:
    scene = await stage()
    for mode in ("gateway", "forward"):
        scene.mode = mode
        assert (await scene.passes(scene.request())).target == b"/base/x"
    first, second = (await scene.sidecar.finished(2), scene.sidecar.exchanges[0])
    assert {first.route, second.route} == {"llm"}
    assert {first.upstream, second.upstream} == {"http/llm"}
    assert {first.mode, second.mode} == {"gateway", "forward"}


async def test_names_that_do_not_exist_are_a_502(stage: Stage, names: Names) -> None:
    scene = await stage()
    await asks(scene, "no.such.name.example")
    await scene.sidecar.refuses(scene.client, "dns_failed")


async def test_https_in_absolute_form_is_spoken_over_tls_or_refused(stage: Stage) -> None:
    """A proxy may take `GET https://…`; it must never send such a call in the clear."""
    scene = await stage(destinations=ANYWHERE)
    await scene.client.sends(b"GET https://%s/x HTTP/1.1\r\nHost: a\r\n\r\n" % scene.upstream.authority.encode())
    try:
        connection = await scene.upstream.hears(patience_s=0.3)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "bad_target", "destination_denied", "tls_failed")
    else:
        assert (await connection.reads(2)) == b"\x16\x03"


async def test_the_next_address_is_tried_when_the_first_does_not_answer(stage: Stage, names: Names) -> None:
    """Happy eyeballs (RFC 8305): nobody listens on ::1, the upstream is at 127.0.0.1."""
    upstream = RawUpstream()
    names.set("two.example", ["::1", "127.0.0.1"])
    scene = await stage(peer=upstream, base=NOWHERE, destinations=ANYWHERE)
    await asks(scene, f"two.example:{upstream.port}")
    await scene.asks()
    assert (await scene.client.response()).body == b"ok"


async def test_an_address_that_hangs_does_not_hold_up_the_next(stage: Stage, names: Names, opened: Opened) -> None:
    with (
        socket.socket(socket.AF_INET6) as full,
        socket.socket(socket.AF_INET6) as first,
        socket.socket(socket.AF_INET6) as second,
    ):
        full.bind(("::1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(("::1", port))
        upstream = await opened(RawUpstream(port=port))
        names.set("slow6.example", ["::1", "127.0.0.1"])
        scene = await stage(peer=upstream, is_open=True, base=NOWHERE, destinations={**ANYWHERE, "attempt_delay": "50ms"})
        await asks(scene, f"slow6.example:{port}")
        await scene.asks()
        assert (await scene.client.response()).body == b"ok"


async def test_an_ipv6_upstream_is_reached_and_named_with_brackets(stage: Stage) -> None:
    scene = await stage(peer=RawUpstream(host="::1"))
    seen = await scene.passes(scene.request())
    assert seen.one(b"host") == b"[::1]:%d" % scene.upstream.port
    scene.mode = "forward"
    assert (await scene.passes(scene.request())).one(b"host") == b"[::1]:%d" % scene.upstream.port


# ── ourselves ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
async def test_the_sidecar_never_proxies_to_its_own_listener(stage: Stage, host: str, method: bytes) -> None:
    """Even where loopback is allowed in general."""
    scene = await stage(destinations=ANYWHERE)
    await asks(scene, f"{host}:{scene.sidecar.port}", method=method)
    await scene.sidecar.refuses(scene.client, *SELF, "bad_target", "dns_failed", "connect_failed", to=method)
    await scene.still_works()


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
async def test_the_sidecar_never_proxies_to_its_own_admin(stage: Stage, host: str, method: bytes) -> None:
    scene = await stage(destinations=ANYWHERE)
    await scene.sidecar.app.ready()
    port = scene.sidecar.app.endpoints["admin"][1]
    await asks(scene, f"{host}:{port}", method=method)
    await scene.sidecar.refuses(scene.client, *SELF, "bad_target", "dns_failed", "connect_failed", to=method)


async def test_the_sidecar_does_not_reach_itself_by_the_machines_own_name(stage: Stage, names: Names) -> None:
    names.set("my-own-hostname", ["127.0.0.1"])
    scene = await stage(destinations=ANYWHERE)
    await asks(scene, f"my-own-hostname:{scene.sidecar.port}")
    await scene.sidecar.refuses(scene.client, "loop_detected", "loopback_refused")


async def test_an_upstream_that_is_the_sidecar_itself_is_refused(
    stage: Stage, opened: Opened, free_port: Callable[[], int]
) -> None:
    """By configuration, and by any spelling of it: at load, or at the first call."""
    port = free_port()
    config = config_for(f"http://localhost:{port}", listener={"endpoint": f"127.0.0.1:{port}"}, destinations=ANYWHERE)
    try:
        sidecar = await opened(SidecarUnderTest(config))
    except ConfigInvalid:
        return
    client = await sidecar.connects()
    await client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n")
    await sidecar.refuses(client, *SELF)


async def test_a_request_that_comes_back_is_a_508(stage: Stage, mode: str) -> None:
    """RFC 9110 section 7.6.3: a proxy finds its own pseudonym in Via."""
    scene = await stage()
    via = (await scene.passes(scene.request())).one(b"via")
    await scene.client.sends(scene.request(b"GET", b"/x", b"Via: 1.0 other, " + via + b", 1.1 another"))
    await scene.sidecar.refuses(scene.client, "loop_detected")
    await scene.client.sends(scene.request(b"GET", b"/x", b"Via: 1.1 other", b"Via: " + via))
    await scene.sidecar.refuses(scene.client, "loop_detected")
    await scene.upstream.hears_nothing(for_s=0.02)
    await scene.still_works()


async def test_another_sidecar_on_the_way_is_no_loop(stage: Stage, opened: Opened) -> None:
    """Two sidecars in a row have two pseudonyms."""
    far = await stage()
    near = await opened(SidecarUnderTest(config_for(far.sidecar.url, upstream={"url": far.sidecar.url + "/llm"})))
    client = await near.connects()
    await client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n")
    seen = await far.asks()
    assert len(b", ".join(seen.all(b"via")).split(b", ")) == 2
    assert (await client.response()).body == b"ok"


async def test_two_sidecars_that_point_at_each_other_end_their_loop(opened: Opened, free_port: Callable[[], int]) -> None:
    ports = [free_port(), free_port()]
    sidecars = []
    for mine, other in (ports, reversed(ports)):
        config = config_for("", listener={"endpoint": f"127.0.0.1:{mine}"}, upstream={"url": f"http://127.0.0.1:{other}/llm"})
        sidecars.append(await opened(SidecarUnderTest(config)))
    client = await sidecars[0].connects()
    await client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n")
    response = await client.response()
    assert response.status == 508
    assert sidecars[0].refused == {"loop_detected": 1}


# ── who may connect ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("endpoint", ["0.0.0.0:0", "[::]:0"])
async def test_a_bind_beyond_loopback_demands_authentication_or_a_word(endpoint: str, opened: Opened) -> None:
    with pytest.raises(ConfigInvalid):
        await opened(SidecarUnderTest(config_for(NOWHERE, listener={"endpoint": endpoint})))
    for setting in ({"allow_unauthenticated": True}, {"users": {"agent": "secret"}}):
        sidecar = await opened(SidecarUnderTest(config_for(NOWHERE, listener={"endpoint": endpoint, **setting})))
        (await dials("127.0.0.1" if endpoint.startswith("0") else "::1", sidecar.port)).close()


async def test_a_bind_beyond_loopback_opens_loopback_only_by_a_further_word(opened: Opened) -> None:
    listener = {"endpoint": "0.0.0.0:0", "allow_unauthenticated": True}
    with pytest.raises(ConfigInvalid, match="can be reached from elsewhere"):
        await opened(SidecarUnderTest(config_for(NOWHERE, listener=listener, destinations=ANYWHERE)))
    await opened(SidecarUnderTest(config_for(NOWHERE, listener=listener, destinations=FOR_ALL)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"])
async def test_a_sidecar_on_all_addresses_still_finds_itself(stage: Stage, host: str) -> None:
    scene = await stage(listener={"endpoint": "0.0.0.0:0", "allow_unauthenticated": True}, destinations=FOR_ALL)
    await asks(scene, f"{host}:{scene.sidecar.port}")
    await scene.sidecar.refuses(scene.client, *SELF, "connect_failed")


async def test_a_sidecar_on_all_addresses_finds_itself_by_the_address_of_an_interface(stage: Stage) -> None:
    own = _own_address()
    if own is None:
        pytest.skip("this machine has no address beyond loopback")
    scene = await stage(listener={"endpoint": "0.0.0.0:0", "allow_unauthenticated": True}, destinations=FOR_ALL)
    await asks(scene, f"{own}:{scene.sidecar.port}")
    await scene.sidecar.refuses(scene.client, *SELF)


def _own_address() -> str | None:
    """An address of ours that is not loopback: the one from which a datagram would leave (none is sent)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address
