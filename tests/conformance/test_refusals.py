"""Whatever the sidecar refuses, its answer arrives whole, at a client too that sends on without looking at it (RFC 9112, 9.6)."""

import asyncio
from typing import Any

import pytest

from tests.peers.wire import Wire
from tests.scene import Scene, Stage
from tests.sidecar_under_test import eventually

MEGABYTE = 1_000_000
MUCH = b"x" * MEGABYTE
CHUNKED = b"Transfer-Encoding: chunked"


def declared(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", body=MUCH)


def grown(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", CHUNKED) + b"f4240\r\n" + MUCH + b"\r\n"


def url(scene: Scene) -> bytes:
    return b"GET /llm/" + MUCH + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def field(scene: Scene) -> bytes:
    return scene.request(b"GET", b"/x", b"X-Much: " + MUCH)


def fields(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", *[b"X: 1"] * 2_000, body=MUCH)


def fragment(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x#part", body=MUCH)


def host(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", b"Host: b", body=MUCH)


def chunk(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", CHUNKED) + b"nonsense\r\n" + MUCH


def line(scene: Scene) -> bytes:
    return b"GET  /llm/x HTTP/1.1\r\nHost: a\r\n\r\n" + MUCH


def expectation(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", b"Expect: 200-ok", body=MUCH)


def version(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", body=MUCH, version=b"HTTP/3.0")


def coding(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", b"Transfer-Encoding: gzip, chunked") + MUCH


def route(scene: Scene) -> bytes:
    return scene.request(b"POST", b"/x", body=MUCH).replace(b"/llm/", b"/elsewhere/", 1)


def blank(scene: Scene) -> bytes:
    return b"\r\n" * (MEGABYTE // 2) + scene.request()


def tls(scene: Scene) -> bytes:
    return b"\x16\x03\x01" + MUCH


async def arrives(client: Wire, code: bytes, status: int) -> None:
    """The whole answer comes, and then a clean end of the connection."""
    response = await client.response()
    assert (response.status, response.one(b"x-sidecar-error")) == (status, code)
    assert response.one(b"connection") == b"close"
    assert response.body.endswith(b"}")
    await client.saw_clean_end()


@pytest.mark.parametrize("first", [0, 10_000], ids=["at-once", "after-its-first-bytes"])
@pytest.mark.parametrize(
    ("made", "code", "status"),
    [
        (declared, b"body_bytes", 413),
        (grown, b"body_bytes", 413),
        (url, b"url_length", 414),
        (field, b"header_bytes", 431),
        (fields, b"header_count", 431),
        (fragment, b"bad_target", 400),
        (host, b"bad_host", 400),
        (chunk, b"bad_chunk", 400),
        (line, b"bad_request_line", 400),
        (blank, b"bad_request_line", 400),
        (tls, b"tls_to_plain_port", 400),
        (expectation, b"bad_expect", 417),
        (coding, b"unknown_transfer_coding", 501),
        (version, b"http_version", 505),
        (route, b"route_unknown", 404),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_refusal_arrives_whole_at_a_client_that_has_written_a_megabyte(
    stage: Stage, made: Any, code: bytes, status: int, first: int
) -> None:
    scene = await stage(mode="gateway", listener={"max_body_bytes": "64KiB"})
    data = made(scene)
    assert len(data) >= MEGABYTE
    if first:
        await scene.client.sends(data[:first])
        await asyncio.sleep(0.05)
    await scene.client.sends(data[first:])
    await asyncio.sleep(0.05)  # now only does it look
    await arrives(scene.client, code, status)
    assert scene.sidecar.refused == {code.decode(): 1}
    assert not scene.sidecar.exchanges or scene.sidecar.exchanges[0].error == code.decode()


async def test_a_413_arrives_at_a_client_that_sends_the_whole_of_a_big_body_first(stage: Stage) -> None:
    scene = await stage(listener={"max_body_bytes": "64KiB"})
    await scene.client.sends(scene.request(b"POST", b"/x", body=MUCH * 8))
    await arrives(scene.client, b"body_bytes", 413)


async def test_a_connection_too_many_is_told_so_whatever_it_has_written_meanwhile(stage: Stage) -> None:
    scene = await stage(listener={"max_connections": 1})
    await scene.passes(scene.request())
    for data in (scene.request(), declared(scene)):
        client = await scene.sidecar.connects("one too many")
        await client.sends(data)
        await asyncio.sleep(0.05)
        await arrives(client, b"too_many_connections", 503)


async def test_who_was_turned_away_and_stays_is_closed_in_time(stage: Stage) -> None:
    scene = await stage(listener={"max_connections": 1})
    await scene.passes(scene.request())
    client = await scene.sidecar.connects("one too many")
    await client.sends(scene.request())
    await arrives(client, b"too_many_connections", 503)
    listener = scene.sidecar.app._traffic._listeners["http"].thing
    await eventually(lambda: not listener._turned_away, "its end", within_s=4.0)
    assert not await client.sends_if_open(b"x") or await _is_reset(client)


async def _is_reset(client: Wire) -> bool:
    """One write finds out that nobody is there, the next one fails."""
    await asyncio.sleep(0.05)
    return not await client.sends_if_open(b"x")
