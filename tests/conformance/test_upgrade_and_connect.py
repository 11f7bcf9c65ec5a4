"""Tunnels: CONNECT (RFC 9110 section 9.3.6) and Upgrade (section 7.8), raw bytes both ways, closed and half-closed both ways."""

import asyncio
import base64
import os
from collections.abc import Callable

import pytest

from sidecar.model.facts import Mode
from tests.peers.raw import RawUpstream
from tests.peers.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocketUpstream, accept_of, reads_frame, sends_frame
from tests.peers.wire import Wire
from tests.scene import OK, Opened, Scene, Stage

ALLOWED = {"allow_loopback": True}


async def tunnels(scene: Scene, *, early: bytes = b"") -> Wire:
    """CONNECT to the scene's upstream; returns the upstream's end of the tunnel."""
    authority = scene.upstream.authority.encode()
    await scene.client.sends(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (authority, authority) + early)
    far: Wire = await scene.upstream.accepts()
    established = await scene.client.head()
    assert established.status == 200, established.head
    return far


# ── CONNECT ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_connect_opens_a_tunnel_of_blind_bytes(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene)
    await scene.client.sends(b"\x16\x03\x01 anything, GET / HTTP/1.1\r\n\r\n")
    await far.saw(b"\x16\x03\x01 anything, GET / HTTP/1.1\r\n\r\n")
    await far.sends(b"\0\xff not HTTP either\r\n\r\n")
    await scene.client.saw(b"\0\xff not HTTP either\r\n\r\n")


async def test_the_answer_to_connect_has_no_framing(stage: Stage) -> None:
    """RFC 9110 section 9.3.6: no Content-Length or Transfer-Encoding in a 2xx to CONNECT."""
    scene = await stage()
    authority = scene.upstream.authority.encode()
    await scene.client.sends(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (authority, authority))
    await scene.upstream.accepts()
    established = await scene.client.head()
    assert established.status == 200
    assert not established.has(b"content-length")
    assert not established.has(b"transfer-encoding")
    await scene.client.saw_nothing()


async def test_bytes_sent_together_with_connect_reach_the_other_end(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene, early=b"early bytes")
    await far.saw(b"early bytes")


async def test_a_tunnel_adds_nothing_of_its_own(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene)
    await far.saw_nothing()
    await scene.client.saw_nothing(for_s=0.02)


async def test_the_client_may_half_close_a_tunnel(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene)
    await scene.client.sends(b"question")
    await scene.client.half_closes()
    await far.saw(b"question")
    await far.saw_clean_end()
    await far.sends(b"a late ", b"answer")
    await scene.client.saw(b"a late answer")
    await far.closes()
    await scene.client.saw_clean_end()


async def test_the_upstream_may_half_close_a_tunnel(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene)
    await far.sends(b"greeting")
    await far.half_closes()
    await scene.client.saw(b"greeting")
    await scene.client.saw_clean_end()
    await scene.client.sends(b"still ", b"talking")
    await far.saw(b"still talking")
    await scene.client.half_closes()
    await far.saw_clean_end()


async def test_a_reset_of_the_upstream_ends_the_tunnel_of_the_client(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene)
    await far.sends(b"begin")
    await scene.client.saw(b"begin")
    await far.resets()
    await scene.client.saw_reset()


async def test_a_reset_of_the_client_ends_the_tunnel_of_the_upstream(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene)
    await scene.client.sends(b"begin")
    await far.saw(b"begin")
    await scene.client.resets()
    await far.saw_end()


async def test_a_tunnel_counts_its_bytes(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene, early=b"12345")
    await scene.client.sends(b"x" * 100_000)
    await far.reads(100_005)
    await far.sends(b"y" * 200_000)
    await scene.client.reads(200_000)
    await scene.client.closes()
    await far.closes()
    exchange = await scene.sidecar.finished()
    assert exchange.mode == Mode.CONNECT
    assert (exchange.request_bytes, exchange.response_bytes) == (100_005, 200_000)
    assert (exchange.method, exchange.host, exchange.port, exchange.status) == ("CONNECT", "127.0.0.1", scene.upstream.port, 200)
    assert exchange.route == "llm"


async def test_a_large_transfer_through_a_tunnel_is_the_same_at_both_ends(stage: Stage) -> None:
    scene = await stage()
    far = await tunnels(scene)
    there, back = os.urandom(3_000_000), os.urandom(3_000_000)
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.client.sends(there))
        group.create_task(far.sends(back))
        at_far = group.create_task(far.reads(len(there)))
        at_client = group.create_task(scene.client.reads(len(back)))
    assert at_far.result() == there
    assert at_client.result() == back


async def test_a_tunnel_to_an_unknown_destination_opens_where_the_default_allows_it(stage: Stage, opened: Opened) -> None:
    for default in ("forward", "tunnel"):
        other = await opened(RawUpstream())
        scene = await stage(peer=other, is_open=True, base="http://upstream.invalid", default=default, destinations=ALLOWED)
        far = await tunnels(scene)
        await far.sends(b"hello")
        await scene.client.saw(b"hello")


async def test_a_tunnel_to_an_unknown_destination_is_denied_by_default_deny(stage: Stage) -> None:
    scene = await stage(base="http://upstream.invalid", default="deny", destinations=ALLOWED)
    await scene.client.sends(b"CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\n" % scene.upstream.authority.encode())
    await scene.sidecar.refuses(scene.client, "destination_denied", "connect_denied", to=b"CONNECT")
    await scene.upstream.accepts_nothing()


async def test_a_route_may_deny_tunnels(stage: Stage) -> None:
    scene = await stage(route={"connect": "deny"})
    await scene.client.sends(b"CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\n" % scene.upstream.authority.encode())
    await scene.sidecar.refuses(scene.client, "connect_denied", to=b"CONNECT")
    await scene.upstream.accepts_nothing()


async def test_a_tunnel_that_nobody_answers_is_a_502(stage: Stage, free_port: Callable[[], int]) -> None:
    scene = await stage(destinations=ALLOWED)
    await scene.client.sends(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: a\r\n\r\n" % free_port())
    await scene.sidecar.refuses(scene.client, "connect_failed", to=b"CONNECT")


@pytest.mark.parametrize(
    "target",
    [
        *(b"127.0.0.1", b"127.0.0.1:", b":443", b"127.0.0.1:0", b"127.0.0.1:65536", b"127.0.0.1:44x", b"127.0.0.1:-1"),
        *(b"http://127.0.0.1:{port}/", b"/llm/x", b"user@127.0.0.1:{port}", b"[::1:443", b"::1:443", b"127.0.0.1:{port}/path"),
        *(b"*", b"a b:443", b"127.0.0.1:{port}:{port}"),
    ],
)
async def test_connect_wants_a_host_and_a_port(stage: Stage, target: bytes) -> None:
    """RFC 9112 section 3.2.3."""
    scene = await stage(destinations=ALLOWED)
    await scene.client.sends(b"CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\n" % target.replace(b"{port}", b"%d" % scene.upstream.port))
    await scene.sidecar.refuses(scene.client, "bad_target", "bad_request_line", to=b"CONNECT")
    await scene.upstream.accepts_nothing(for_s=0.02)


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_what_follows_connect_is_never_taken_for_a_body(stage: Stage, framing: bytes) -> None:
    """RFC 9110 section 9.3.6: CONNECT has no content; refused, or every byte behind the head belongs to the tunnel."""
    scene = await stage()
    authority = scene.upstream.authority.encode()
    await scene.client.sends(
        b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n" % (authority, authority, framing) + b"0\r\n\r\n rest"
    )
    head = await scene.client.head()
    if head.status == 200:
        far = await scene.upstream.accepts()
        await far.saw(b"0\r\n\r\n rest")
    else:
        assert head.status == 400
        await scene.upstream.accepts_nothing(for_s=0.02)


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_connect_works_in_both_versions(stage: Stage, version: bytes) -> None:
    scene = await stage()
    authority = scene.upstream.authority.encode()
    await scene.client.sends(
        b"CONNECT %s %s\r\nHost: %s\r\nProxy-Connection: keep-alive\r\nUser-Agent: x\r\n\r\n" % (authority, version, authority)
    )
    far = await scene.upstream.accepts()
    assert (await scene.client.head()).status == 200
    await far.sends(b"hi")
    await scene.client.saw(b"hi")


async def test_connect_after_other_requests_on_the_same_connection(stage: Stage) -> None:
    scene = await stage(mode="forward")
    await scene.passes(scene.request())
    authority = scene.upstream.authority.encode()
    await scene.client.sends(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (authority, authority))
    far = await scene.upstream.accepts()
    assert (await scene.client.head()).status == 200
    await scene.client.sends(b"raw")
    await far.saw(b"raw")


async def test_a_tunnel_ends_when_it_has_been_idle_for_too_long(stage: Stage) -> None:
    """A silent tunnel is bounded as everything else is."""
    scene = await stage(listener={"tunnel_idle_timeout": "150ms"})
    far = await tunnels(scene)
    await scene.client.saw_end()
    await far.saw_end()


# ── Upgrade ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def handshake(scene: Scene, key: bytes) -> bytes:
    """A WebSocket handshake as a browser would send it."""
    fields = [
        *(b"Upgrade: websocket", b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Key: " + key, b"Sec-WebSocket-Version: 13"),
        *(b"Sec-WebSocket-Protocol: realtime, x", b"Origin: http://page.example"),
    ]
    return scene.request(b"GET", b"/ws", *fields)


async def test_a_websocket_speaks_through_the_sidecar(stage: Stage, mode: str) -> None:
    scene = await stage(peer=WebSocketUpstream())
    client, key = scene.client, base64.b64encode(b"0123456789abcdef")
    await client.sends(handshake(scene, key))
    accepted = await client.head()
    assert accepted.status == 101
    assert accepted.one(b"upgrade").lower() == b"websocket"
    assert accepted.one(b"connection").lower() == b"upgrade"
    assert accepted.one(b"sec-websocket-accept") == accept_of(key)
    assert accepted.one(b"x-kept") == b"yes"
    for opcode, payload in [(TEXT, b"hello"), (BINARY, os.urandom(70_000)), (TEXT, b""), (BINARY, b"x" * 126)]:
        await sends_frame(client, opcode, payload, masked=True)
        assert await reads_frame(client) == (opcode, payload)
    await sends_frame(client, PING, b"p", masked=True)
    assert await reads_frame(client) == (PONG, b"p")
    await sends_frame(client, CLOSE, b"\x03\xe8", masked=True)
    assert await reads_frame(client) == (CLOSE, b"\x03\xe8")
    await client.saw_clean_end()
    await client.closes()
    seen = scene.upstream.handshakes[0]
    assert seen.start_line == b"GET /base/ws HTTP/1.1"
    assert seen.one(b"upgrade") == b"websocket"
    assert seen.one(b"connection").lower() == b"upgrade"
    assert seen.one(b"sec-websocket-key") == key
    assert seen.one(b"sec-websocket-protocol") == b"realtime, x"
    assert seen.has(b"via")
    assert seen.has(b"traceparent")
    exchange = await scene.sidecar.finished()
    assert exchange.status == 101


async def test_frames_that_come_together_with_the_101_are_not_lost(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(handshake(scene, base64.b64encode(b"0" * 16)))
    far = await scene.upstream.hears()
    await far.head()
    await far.sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi")
    assert (await scene.client.head()).status == 101
    await scene.client.saw(b"\x81\x02hi")
    await scene.client.sends(b"\x81\x80....")
    await far.saw(b"\x81\x80....")


async def test_any_other_protocol_may_be_switched_to(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/exec", b"Connection: Upgrade", b"Upgrade: SPDY/3.1"))
    far = await scene.upstream.hears()
    seen = await far.head()
    assert seen.one(b"upgrade") == b"SPDY/3.1"
    await far.sends(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
    assert (await scene.client.head()).one(b"upgrade") == b"SPDY/3.1"
    await scene.client.sends(b"\0raw")
    await far.saw(b"\0raw")
    await far.sends(b"raw\0")
    await scene.client.saw(b"raw\0")


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_request_with_a_body_may_ask_for_an_upgrade(stage: Stage, framing: str) -> None:
    """As container engines do for attach and exec: the body first, then the switch, then raw bytes."""
    scene = await stage()
    fields = [b"Connection: Upgrade", b"Upgrade: tcp"]
    if framing == "length":
        await scene.client.sends(scene.request(b"POST", b"/attach", *fields, body=b"hello"))
    else:
        await scene.client.sends(
            scene.request(b"POST", b"/attach", *fields, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
        )
    far = await scene.upstream.hears()
    assert (await far.request()).body == b"hello"
    await far.sends(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    assert (await scene.client.head()).status == 101
    await scene.client.sends(b"raw")
    await far.saw(b"raw")
    await far.sends(b"more")
    await scene.client.saw(b"more")


async def test_half_close_is_passed_on_both_ways_after_an_upgrade(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(handshake(scene, base64.b64encode(b"0" * 16)))
    far = await scene.upstream.hears()
    await far.head()
    await far.sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await scene.client.head()).status == 101
    await scene.client.half_closes()
    await far.saw_clean_end()
    await far.sends(b"last words")
    await far.half_closes()
    await scene.client.saw(b"last words")
    await scene.client.saw_clean_end()


@pytest.mark.parametrize("status", [200, 400, 403, 426, 503])
async def test_an_upstream_that_does_not_switch_answers_as_usual(stage: Stage, mode: str, status: int) -> None:
    scene = await stage()
    await scene.client.sends(handshake(scene, base64.b64encode(b"0" * 16)))
    await scene.asks(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
    response = await scene.client.response()
    assert (response.status, response.body) == (status, b"no")
    await scene.passes(scene.request())


async def test_an_upgrade_without_connection_upgrade_is_not_asked_for(stage: Stage) -> None:
    """RFC 9110 section 7.8: without the connection option the field is not for the next hop."""
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", b"Upgrade: websocket"))
    assert not seen.has(b"upgrade")


async def test_an_upgrade_of_http_1_0_is_ignored(stage: Stage) -> None:
    """RFC 9110 section 7.8."""
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/x", b"Upgrade: websocket", b"Connection: upgrade", version=b"HTTP/1.0"))
    seen = await scene.asks()
    assert not seen.has(b"upgrade")


async def test_a_switch_to_another_protocol_than_the_one_named_is_refused_or_relayed_as_it_is(stage: Stage) -> None:
    """RFC 9110 section 7.8 forbids the server to do so; the client can see for itself what it got."""
    scene = await stage()
    await scene.client.sends(handshake(scene, base64.b64encode(b"0" * 16)))
    await scene.asks(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\n")
    head = await scene.client.head()
    if head.status == 101:
        assert head.one(b"upgrade") == b"evil"
    else:
        assert (head.status, head.one(b"x-sidecar-error")) == (502, b"upstream_malformed")


async def test_an_upgraded_connection_is_never_used_again(stage: Stage) -> None:
    scene = await stage(peer=WebSocketUpstream())
    await scene.client.sends(handshake(scene, base64.b64encode(b"0" * 16)))
    assert (await scene.client.head()).status == 101
    await scene.client.closes()
    await scene.upstream.connections[0].saw_end()


async def test_bytes_before_the_101_wait_for_it(stage: Stage) -> None:
    """A hasty client's bytes are either held until the switch or end the exchange; they are never sent as HTTP."""
    scene = await stage()
    await scene.client.sends(handshake(scene, base64.b64encode(b"0" * 16)) + b"\x81\x80mask")
    far = await scene.upstream.hears()
    await far.head()
    await far.saw_nothing(for_s=0.03)
    await far.sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await scene.client.head()).status == 101
    await far.saw(b"\x81\x80mask")


async def test_a_pipelined_request_behind_a_refused_upgrade_is_answered(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(handshake(scene, base64.b64encode(b"0" * 16)) + scene.request(b"GET", b"/next"))
    await scene.asks(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno")
    assert (await scene.client.response()).status == 400
    assert (await scene.asks(OK)).target == b"/base/next"
    assert (await scene.client.response()).body == b"ok"


async def test_an_upgrade_to_http2_in_clear_is_not_passed_on(stage: Stage, mode: str) -> None:
    """Inside such a tunnel requests would pass the policies unseen; the request goes on without the offer."""
    scene = await stage()
    fields = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    seen = await scene.passes(scene.request(b"GET", b"/x", *fields))
    assert not seen.has(b"upgrade")
    assert not seen.has(b"http2-settings")
    assert not seen.has(b"connection")
