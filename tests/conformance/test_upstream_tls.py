"""TLS towards the upstream: verified unless told otherwise, with SNI, custom CA and mutual TLS."""

import asyncio
import os
import ssl
from typing import Any

from tests.peers.authority import Authority
from tests.peers.raw import RawUpstream
from tests.peers.wire import TlsWire, Wire
from tests.scene import CHUNKED, OK, Scene, Stage


async def tls_scene(stage: Stage, context: ssl.SSLContext, tls: dict[str, Any], **upstream: Any) -> Scene:
    """A scene whose upstream speaks TLS."""
    return await stage(mode="gateway", peer=RawUpstream(tls=context), upstream={"tls": tls, **upstream})


async def test_a_certificate_of_an_unknown_authority_is_refused(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {})
    await scene.client.sends(scene.request())
    await scene.sidecar.refuses(scene.client, "tls_failed")
    assert all(not connection.received for connection in scene.upstream.connections), (
        "not one byte before the certificate is known"
    )


async def test_a_certificate_of_the_configured_authority_is_accepted(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {"ca_file": authority.ca_file})
    seen = await scene.passes(scene.request(b"POST", b"/x", body=b"secret"))
    assert (seen.target, seen.body) == (b"/base/x", b"secret")
    await scene.passes(scene.request())
    assert len(scene.upstream.connections) == 1


async def test_a_certificate_for_another_name_is_refused(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("other.example"), {"ca_file": authority.ca_file})
    await scene.client.sends(scene.request())
    await scene.sidecar.refuses(scene.client, "tls_failed")


async def test_server_name_is_what_is_verified_and_sent_as_sni(stage: Stage, authority: Authority) -> None:
    context = authority.server("llm.example")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    scene = await tls_scene(stage, context, {"ca_file": authority.ca_file, "server_name": "llm.example"})
    await scene.passes(scene.request())
    assert asked == ["llm.example"]


async def test_verification_can_be_switched_off_by_name(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("other.example"), {"insecure_skip_verify": True})
    await scene.passes(scene.request())


async def test_mutual_tls_shows_our_certificate(stage: Stage, authority: Authority) -> None:
    cert_file, key_file = authority.client_files()
    context = authority.server("127.0.0.1", wants_client=True)
    scene = await tls_scene(stage, context, {"ca_file": authority.ca_file, "cert_file": cert_file, "key_file": key_file})
    await scene.passes(scene.request())
    connection = scene.upstream.connections[0]
    assert isinstance(connection, TlsWire)
    certificate = connection.tls.getpeercert()
    assert certificate
    assert ("email", "client@agents.example") in certificate["subjectAltName"]


async def test_without_our_certificate_mutual_tls_fails(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("127.0.0.1", wants_client=True), {"ca_file": authority.ca_file})
    await scene.client.sends(scene.request())
    await scene.sidecar.refuses(scene.client, "tls_failed", "upstream_closed")


async def test_an_upstream_that_does_not_speak_tls_is_a_tls_failure(stage: Stage, authority: Authority) -> None:
    async def speaks_plainly(connection: Wire) -> None:
        await connection.reads_some()
        await connection.sends(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    upstream = RawUpstream(speaks_plainly)
    scene = await stage(
        mode="gateway", peer=upstream, base=f"https://127.0.0.1:{upstream.port}", upstream={"tls": {"ca_file": authority.ca_file}}
    )
    await scene.client.sends(scene.request())
    await scene.sidecar.refuses(scene.client, "tls_failed")


async def test_a_stream_over_tls_is_not_held_back(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {"ca_file": authority.ca_file})
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(CHUNKED)
    await scene.client.head()
    for number in range(20):
        await connection.sends(b"1\r\n%d\r\n" % (number % 10))
        await scene.client.saw(b"1\r\n%d\r\n" % (number % 10))
    await connection.sends(b"0\r\n\r\n")
    await scene.client.saw(b"0\r\n\r\n")


async def test_large_bodies_cross_tls_both_ways(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {"ca_file": authority.ca_file})
    there, back = os.urandom(1_500_000), os.urandom(1_500_000)
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.client.sends(scene.request(b"POST", b"/x", body=there)))
        asked = group.create_task(scene.asks(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(back) + back))
        answered = group.create_task(scene.client.response())
    assert asked.result().body == there
    assert answered.result().body == back


async def test_a_tls_stream_that_ends_without_close_notify_is_a_cut(stage: Stage, authority: Authority) -> None:
    """RFC 9112 section 9.8: a close without notice is an incomplete close; a body without length is then incomplete as well."""
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {"ca_file": authority.ca_file})
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(CHUNKED + b"5\r\nhello\r\n")
    await scene.client.head()
    await scene.client.saw(b"5\r\nhello\r\n")
    connection.close()
    assert await scene.client.reads_to_end() == b""
    assert (await scene.sidecar.finished()).error == "upstream_cut"


async def test_a_client_that_goes_cancels_a_tls_upstream(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {"ca_file": authority.ca_file})
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await scene.client.closes()
    await connection.saw_end()


async def test_a_stale_tls_connection_is_noticed(stage: Stage, authority: Authority) -> None:
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {"ca_file": authority.ca_file})
    await scene.passes(scene.request())
    await scene.upstream.taken[0].closes()
    await asyncio.sleep(0.02)
    await scene.passes(scene.request(b"POST", b"/y", body=b"{}"))
    assert len(scene.upstream.connections) == 2


async def test_connect_to_a_tls_upstream_is_tls_from_end_to_end(stage: Stage, authority: Authority) -> None:
    """The client's own handshake goes through: the sidecar does not look inside."""
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {"ca_file": authority.ca_file})
    await scene.client.sends(b"CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\n" % scene.upstream.authority.encode())
    assert (await scene.client.head()).status == 200
    inside = TlsWire(
        scene.client.sock,
        "client",
        ssl.create_default_context(cafile=authority.ca_file),
        server_side=False,
        server_name="127.0.0.1",
    )
    await inside.shakes_hands()
    await inside.sends(b"GET /direct HTTP/1.1\r\nHost: a\r\n\r\n")
    far = await scene.upstream.accepts()
    seen = await far.request()
    assert seen.target == b"/direct"
    assert not seen.has(b"via")
    await far.sends(OK)
    assert (await inside.response()).body == b"ok"


async def test_a_forward_proxied_call_to_the_host_of_a_tls_upstream_is_encrypted(stage: Stage, authority: Authority) -> None:
    """`GET https://…` in absolute-form takes the route of that host and port."""
    scene = await tls_scene(stage, authority.server("127.0.0.1"), {"ca_file": authority.ca_file})
    scene.mode = "forward"
    seen = await scene.passes(scene.request())
    assert seen.target == b"/base/x"
