"""Every bound has its own error, every wait its own timeout; what is refused is said, counted, and hurts nobody else."""

import asyncio
import socket
import time
from collections.abc import Callable

import pytest

from tests.peers.wire import Wire
from tests.scene import CHUNKED, OK, Stage
from tests.sidecar_under_test import eventually

SHORT = "150ms"
LATEST_S = 3.0
"""A timeout of 150 ms has to have struck by then, however busy the machine is."""


# ── bounds on the request ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_url_at_the_limit_passes_and_one_above_is_a_414(stage: Stage) -> None:
    scene = await stage(listener={"max_url_bytes": "1KiB"})
    target = b"/llm/" + b"x" * (1024 - 5)
    assert (await scene.passes(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target)).target == b"/base/" + b"x" * 1019
    await scene.client.sends(b"GET %sx HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    await scene.sidecar.refuses(scene.client, "url_length", closes=True)
    await scene.upstream.hears_nothing(for_s=0.02)


async def test_an_endless_url_is_a_414_before_its_end(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(b"GET /llm/")
    for _ in range(100):
        if not await scene.client.sends_if_open(b"x" * 1_000):
            break
    await scene.sidecar.refuses(scene.client, "url_length", "header_bytes", closes=True)


async def test_an_endless_method_is_refused_before_its_end(stage: Stage) -> None:
    scene = await stage()
    for _ in range(100):
        if not await scene.client.sends_if_open(b"X" * 1_000):
            break
    await scene.sidecar.refuses(scene.client, "bad_request_line", "header_bytes", "url_length", closes=True)


async def test_too_many_header_bytes_are_a_431(stage: Stage, mode: str) -> None:
    scene = await stage(listener={"max_header_bytes": "2KiB"})
    await scene.passes(scene.request(b"GET", b"/x", b"X-Long: " + b"x" * 1_500))
    await scene.client.sends(scene.request(b"GET", b"/x", b"X-Long: " + b"x" * 2_048))
    await scene.sidecar.refuses(scene.client, "header_bytes", closes=True)
    await scene.upstream.hears_nothing(for_s=0.02)
    await scene.still_works()


async def test_an_endless_header_line_is_a_431_before_its_end(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\nX-Long: ")
    for _ in range(200):
        if not await scene.client.sends_if_open(b"x" * 1_000):
            break
    await scene.sidecar.refuses(scene.client, "header_bytes", closes=True)


async def test_too_many_header_fields_are_a_431(stage: Stage) -> None:
    scene = await stage(listener={"max_header_count": 20})
    await scene.passes(scene.request(b"GET", b"/x", *[b"X-N: 1"] * 19))
    await scene.client.sends(scene.request(b"GET", b"/x", *[b"X-N: 1"] * 20))
    await scene.sidecar.refuses(scene.client, "header_count", closes=True)
    await scene.still_works()


async def test_a_default_request_of_64_kib_of_headers_is_refused_and_half_of_it_passes(stage: Stage) -> None:
    scene = await stage()
    await scene.passes(scene.request(b"GET", b"/x", *[b"X-%d: %s" % (number, b"x" * 300) for number in range(100)]))
    await scene.client.sends_if_open(scene.request(b"GET", b"/x", *[b"X-%d: %s" % (number, b"x" * 700) for number in range(100)]))
    await scene.sidecar.refuses(scene.client, "header_bytes", closes=True)


async def test_a_body_whose_length_is_too_big_is_a_413_at_once(stage: Stage, mode: str) -> None:
    scene = await stage(listener={"max_body_bytes": "1KiB"})
    assert (await scene.passes(scene.request(b"POST", b"/x", body=b"x" * 1_024))).body == b"x" * 1_024
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 1025"))
    await scene.sidecar.refuses(scene.client, "body_bytes", closes=True)
    await scene.upstream.hears_nothing(for_s=0.02)
    await scene.still_works()


async def test_a_chunked_body_that_grows_too_big_is_a_413(stage: Stage, mode: str) -> None:
    scene = await stage(listener={"max_body_bytes": "1KiB"})
    await scene.client.sends(scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked"), b"400\r\n" + b"x" * 1_024 + b"\r\n")
    connection = await scene.upstream.hears()
    await connection.head()
    await scene.client.sends(b"1\r\nx\r\n0\r\n\r\n")
    await scene.sidecar.refuses(scene.client, "body_bytes", closes=True)
    assert not (await connection.reads_to_end()).endswith(b"0\r\n\r\n")


async def test_a_413_reaches_a_client_that_is_still_sending(stage: Stage) -> None:
    """RFC 9112 section 9.6: closing with unread bytes in the socket would send RST, and the answer would be lost."""
    scene = await stage(listener={"max_body_bytes": "1KiB"})
    body = b"x" * 400_000
    await scene.client.sends_if_open(scene.request(b"POST", b"/x", body=body))
    response = await scene.client.head()
    assert response.one(b"x-sidecar-error") == b"body_bytes"


async def test_without_a_bound_a_big_body_passes(stage: Stage) -> None:
    scene = await stage()
    body = b"0123456789abcdef" * (3 * 65_536)
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.client.sends(scene.request(b"POST", b"/x", body=body)))
        asked = group.create_task(scene.asks())
    assert asked.result().body == body
    assert (await scene.client.response()).body == b"ok"


async def test_too_many_connections_are_refused_and_places_become_free_again(stage: Stage) -> None:
    scene = await stage(listener={"max_connections": 2})
    second = await scene.sidecar.connects("second")
    await scene.passes(scene.request())
    third = await scene.sidecar.connects("third")
    await third.sends_if_open(scene.request())
    response = await third.response()
    assert (response.status, response.one(b"x-sidecar-error")) == (503, b"too_many_connections")
    assert response.one(b"x-should-retry") == b"true"
    await third.saw_end()
    await eventually(lambda: scene.sidecar.refused.get("too_many_connections") == 1, "the refusal's count")
    await scene.passes(scene.request())
    await second.closes()
    await asyncio.sleep(0.02)
    fourth = await scene.sidecar.connects("fourth")
    await fourth.sends(scene.request())
    await scene.asks()
    assert (await fourth.response()).status == 200


# ── timeouts of the client's side ────────────────────────────────────────────────────────────────────────────────────


async def ends_in_time(wire: Wire, began: float) -> None:
    """The connection ends, and no later than a short timeout may strike."""
    assert await wire.reads_to_end() == b""
    assert time.monotonic() - began < LATEST_S


async def test_a_head_that_does_not_come_in_time_is_a_408(stage: Stage) -> None:
    scene = await stage(listener={"header_timeout": SHORT})
    began = time.monotonic()
    await scene.client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n")
    await scene.sidecar.refuses(scene.client, "request_timeout", closes=True)
    assert 0.1 < time.monotonic() - began < LATEST_S


async def test_a_slow_drip_of_header_bytes_does_not_extend_the_time(stage: Stage) -> None:
    """Slowloris: the time counts for the whole head, not between bytes."""
    scene = await stage(listener={"header_timeout": "300ms"})
    began = time.monotonic()
    await scene.client.sends(b"GET /llm/x HTTP/1.1\r\nHost: a\r\nX: ")
    while time.monotonic() - began < LATEST_S and not scene.client.has_bytes():
        if not await scene.client.sends_if_open(b"x"):
            break
        await asyncio.sleep(0.05)
    await scene.sidecar.refuses(scene.client, "request_timeout", closes=True)
    assert time.monotonic() - began < LATEST_S


async def test_a_connection_that_never_says_anything_is_closed(stage: Stage) -> None:
    scene = await stage(listener={"header_timeout": SHORT, "keep_alive_timeout": SHORT})
    rest = await scene.client.reads_to_end()
    assert rest == b"" or b"request_timeout" in rest


async def test_a_body_that_stalls_is_a_408(stage: Stage, mode: str) -> None:
    scene = await stage(listener={"idle_timeout": SHORT})
    began = time.monotonic()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 10"), b"hello")
    connection = await scene.upstream.hears()
    await connection.head()
    await scene.sidecar.refuses(scene.client, "body_timeout", closes=True)
    assert time.monotonic() - began < LATEST_S
    assert await connection.reads_to_end() == b"hello"


async def test_a_slow_body_that_keeps_moving_is_not_cut(stage: Stage) -> None:
    scene = await stage(listener={"idle_timeout": "600ms"})
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 10"))
    for _ in range(10):
        await asyncio.sleep(0.1)
        await scene.client.sends(b"x")
    assert (await scene.asks()).body == b"x" * 10
    assert (await scene.client.response()).status == 200


async def test_an_idle_connection_is_closed_without_a_word(stage: Stage) -> None:
    scene = await stage(listener={"keep_alive_timeout": SHORT})
    await scene.passes(scene.request())
    began = time.monotonic()
    await ends_in_time(scene.client, began)
    assert not scene.client.was_reset
    assert time.monotonic() - began > 0.05


async def test_a_call_that_takes_longer_than_keep_alive_is_not_idle(stage: Stage) -> None:
    scene = await stage(listener={"keep_alive_timeout": "100ms", "header_timeout": "100ms", "idle_timeout": "100ms"})
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await asyncio.sleep(0.4)
    await connection.sends(OK)
    assert (await scene.client.response()).body == b"ok"


# ── timeouts of the upstream's side ──────────────────────────────────────────────────────────────────────────────────


async def test_an_upstream_that_does_not_begin_to_answer_is_a_504(stage: Stage, mode: str) -> None:
    scene = await stage(upstream={"first_byte_timeout": SHORT})
    began = time.monotonic()
    await scene.client.sends(scene.request(b"POST", b"/x", body=b"{}"))
    connection = await scene.upstream.hears()
    await connection.request()
    await scene.sidecar.refuses(scene.client, "first_byte_timeout")
    assert time.monotonic() - began < LATEST_S
    await connection.saw_end()
    await scene.upstream.hears_nothing(for_s=0.02)
    await scene.still_works()


async def test_the_wait_for_the_first_byte_begins_with_the_end_of_the_request(stage: Stage) -> None:
    scene = await stage(upstream={"first_byte_timeout": "400ms"})
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 8"))
    for _ in range(8):
        await asyncio.sleep(0.1)
        await scene.client.sends(b"x")
    await scene.asks()
    assert (await scene.client.response()).status == 200


async def test_an_upstream_that_stops_in_the_middle_is_cut_and_never_ended_cleanly(stage: Stage, mode: str) -> None:
    scene = await stage(upstream={"idle_timeout": SHORT})
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(CHUNKED + b"5\r\nhello\r\n")
    began = time.monotonic()
    await scene.client.head()
    await scene.client.saw(b"5\r\nhello\r\n")
    await ends_in_time(scene.client, began)
    await connection.saw_end()
    assert (await scene.sidecar.finished()).error == "idle_timeout"


async def test_an_upstream_that_keeps_talking_is_not_cut(stage: Stage) -> None:
    scene = await stage(upstream={"idle_timeout": "600ms"})
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(CHUNKED)
    await scene.client.head()
    for _ in range(10):
        await asyncio.sleep(0.1)
        await connection.sends(b"1\r\n:\r\n")
    await connection.sends(b"0\r\n\r\n")
    assert await scene.client.reads_until(b"0\r\n\r\n") == b"1\r\n:\r\n" * 10 + b"0\r\n\r\n"


async def test_a_client_that_reads_slowly_is_not_the_upstreams_silence(stage: Stage) -> None:
    """While we do not read from the upstream its silence is our own doing; the client's idleness has its own bound."""
    scene = await stage(upstream={"idle_timeout": SHORT})
    client = await scene.sidecar.connects("slow client", receive_buffer=4_096)
    total = 24 * 1024 * 1024
    await client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    connection.patience_s = client.patience_s = 30.0
    async with asyncio.TaskGroup() as group:
        group.create_task(connection.sends(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total, b"x" * total))
        await asyncio.sleep(0.6)
        response = await client.response()
    assert len(response.body) == total


async def test_a_port_that_no_one_listens_on_is_a_502(stage: Stage, free_port: Callable[[], int]) -> None:
    scene = await stage(base=f"http://127.0.0.1:{free_port()}")
    await scene.client.sends(scene.request(b"GET", b"/x"))
    await scene.sidecar.refuses(scene.client, "connect_failed")


async def test_an_upstream_that_does_not_accept_is_a_504(stage: Stage) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        scene = await stage(base=f"http://127.0.0.1:{full.getsockname()[1]}", upstream={"connect_timeout": SHORT})
        began = time.monotonic()
        await scene.client.sends(scene.request())
        await scene.sidecar.refuses(scene.client, "connect_timeout")
        assert time.monotonic() - began < LATEST_S


async def test_a_tls_handshake_that_never_ends_is_a_connect_timeout(stage: Stage) -> None:
    scene = await stage(upstream={"connect_timeout": SHORT})
    scene = await stage(
        base=scene.upstream.url.replace("http://", "https://"),
        peer=scene.upstream,
        is_open=True,
        upstream={"connect_timeout": SHORT},
    )
    await scene.client.sends(scene.request())
    await scene.sidecar.refuses(scene.client, "connect_timeout")


# ── the pool ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_calls_above_max_connections_wait_for_their_turn(stage: Stage, mode: str) -> None:
    scene = await stage(upstream={"max_connections": 1})
    other = await scene.sidecar.connects("other client")
    await scene.client.sends(scene.request(b"GET", b"/1"))
    connection = await scene.upstream.accepts()
    assert (await connection.request()).target == b"/base/1"
    await other.sends(scene.request(b"GET", b"/2"))
    await scene.upstream.accepts_nothing()
    await connection.sends(OK)
    assert (await scene.client.response()).body == b"ok"
    assert (await connection.request()).target == b"/base/2"
    await connection.sends(OK)
    assert (await other.response()).body == b"ok"


async def test_a_call_that_waits_too_long_for_a_connection_is_a_503(stage: Stage) -> None:
    scene = await stage(upstream={"max_connections": 1, "pool_timeout": SHORT})
    other = await scene.sidecar.connects("other client")
    await scene.client.sends(scene.request(b"GET", b"/1"))
    connection = await scene.upstream.accepts()
    await connection.request()
    await other.sends(scene.request(b"GET", b"/2"))
    await scene.sidecar.refuses(other, "pool_timeout", "pool_exhausted")
    await connection.sends(OK)
    assert (await scene.client.response()).body == b"ok"


async def test_more_waiting_calls_than_allowed_are_a_503_at_once(stage: Stage) -> None:
    scene = await stage(upstream={"max_connections": 1, "max_waiting": 0})
    other = await scene.sidecar.connects("other client")
    await scene.client.sends(scene.request(b"GET", b"/1"))
    connection = await scene.upstream.accepts()
    await connection.request()
    await other.sends(scene.request(b"GET", b"/2"))
    await scene.sidecar.refuses(other, "pool_exhausted")


async def test_a_client_that_leaves_the_queue_takes_no_connection(stage: Stage) -> None:
    scene = await stage(upstream={"max_connections": 1})
    leaver = await scene.sidecar.connects("leaver")
    await scene.client.sends(scene.request(b"GET", b"/1"))
    connection = await scene.upstream.accepts()
    await connection.request()
    await leaver.sends(scene.request(b"DELETE", b"/never"))
    await connection.saw_nothing(for_s=0.03)
    await leaver.closes()
    await asyncio.sleep(0.06)
    await connection.sends(OK)
    assert (await scene.client.response()).body == b"ok"
    await scene.upstream.hears_nothing()
    assert (await scene.passes(scene.request(b"GET", b"/2"))).target == b"/base/2"


async def test_a_place_in_the_pool_comes_back_however_a_call_ends(stage: Stage) -> None:
    """With one connection at most, a leak of a single place would stop everything."""
    scene = await stage(upstream={"max_connections": 1, "first_byte_timeout": SHORT, "idle_timeout": SHORT})
    for ending in ("answer", "client leaves", "upstream closes", "timeout", "cut", "malformed", "client leaves mid-stream"):
        client = await scene.sidecar.connects(ending)
        await client.sends(scene.request(b"POST", b"/" + ending.replace(" ", "-").encode(), body=b"{}"))
        connection = await scene.upstream.hears()
        await connection.request()
        match ending:
            case "answer":
                await connection.sends(OK)
                assert (await client.response()).body == b"ok"
            case "client leaves":
                await client.closes()
                await connection.saw_end()
            case "upstream closes":
                await connection.closes()
                await scene.sidecar.refuses(client, "upstream_closed")
            case "timeout":
                await scene.sidecar.refuses(client, "first_byte_timeout")
            case "cut":
                await connection.sends(CHUNKED + b"1\r\nx\r\n")
                await client.head()
                await connection.resets()
                await client.reads_to_end()
            case "malformed":
                await connection.sends(b"nonsense\r\n\r\n")
                await scene.sidecar.refuses(client, "upstream_malformed")
            case "client leaves mid-stream":
                await connection.sends(CHUNKED + b"1\r\nx\r\n")
                await client.head()
                await client.resets()
                await connection.saw_end()
        connection.close()
        client.close()
    await scene.still_works()


async def test_a_stale_connection_is_noticed_before_it_is_used(stage: Stage, mode: str) -> None:
    """The upstream closes its idle connection: the next call, even a POST, goes out on a new one and succeeds."""
    scene = await stage()
    await scene.passes(scene.request())
    await scene.upstream.taken[0].closes()
    await asyncio.sleep(0.02)
    seen = await scene.passes(scene.request(b"POST", b"/y", body=b"{}"))
    assert seen.body == b"{}"
    assert len(scene.upstream.connections) == 2


async def test_a_get_on_a_connection_that_dies_under_it_is_sent_again(stage: Stage) -> None:
    """RFC 9110 section 9.2.2: the race of a connection's end with a new idempotent request may be mended by a retry."""
    scene = await stage()
    await scene.passes(scene.request())
    first = scene.upstream.taken[0]
    await scene.client.sends(scene.request(b"GET", b"/again"))
    assert (await first.request()).target == b"/base/again"
    await first.closes()
    assert (await scene.asks()).target == b"/base/again"
    assert (await scene.client.response()).body == b"ok"


async def test_a_get_of_which_the_client_has_seen_something_is_not_sent_again(stage: Stage) -> None:
    """An interim answer has gone to the client already, so the failure belongs to the client as well."""
    scene = await stage()
    await scene.passes(scene.request())
    first = scene.upstream.taken[0]
    await scene.client.sends(scene.request(b"GET", b"/once"))
    await first.request()
    await first.sends(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert (await scene.client.response()).status == 103
    await first.closes()
    await scene.sidecar.refuses(scene.client, "upstream_closed", "upstream_cut")
    await scene.upstream.hears_nothing()


@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"POST", b"PATCH", b"FOO"])
async def test_what_is_sent_again_is_idempotent_and_whole(stage: Stage, method: bytes) -> None:
    """PUT and DELETE may be repeated with their content (RFC 9110 section 9.2.2), POST, PATCH and unknown methods never."""
    scene = await stage()
    await scene.passes(scene.request())
    first = scene.upstream.taken[0]
    await scene.client.sends(scene.request(method, b"/x", body=b"content"))
    assert (await first.request()).body == b"content"
    await first.resets()
    if method in (b"PUT", b"DELETE"):
        try:
            connection = await scene.upstream.hears(patience_s=0.3)
        except AssertionError:
            await scene.sidecar.refuses(scene.client, "upstream_closed")
        else:
            assert (await connection.request()).body == b"content"
            await connection.sends(OK)
            assert (await scene.client.response()).body == b"ok"
    else:
        await scene.sidecar.refuses(scene.client, "upstream_closed")
        await scene.upstream.hears_nothing()


async def test_a_post_on_a_connection_that_dies_under_it_is_not_sent_twice(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.passes(scene.request())
    first = scene.upstream.taken[0]
    await scene.client.sends(scene.request(b"POST", b"/once", body=b"{}"))
    assert (await first.request()).target == b"/base/once"
    await first.closes()
    await scene.sidecar.refuses(scene.client, "upstream_closed")
    await scene.upstream.hears_nothing()


async def test_a_get_on_a_fresh_connection_that_dies_is_not_sent_for_ever(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/x"))
    tries = 0
    while True:
        try:
            connection = await scene.upstream.hears(patience_s=0.2)
        except AssertionError:
            break
        await connection.request()
        await connection.closes()
        tries += 1
        assert tries <= 3
    await scene.sidecar.refuses(scene.client, "upstream_closed")


async def test_an_idle_connection_to_the_upstream_is_closed_after_its_time(stage: Stage) -> None:
    scene = await stage(upstream={"keep_alive_timeout": SHORT})
    await scene.passes(scene.request())
    began = time.monotonic()
    await ends_in_time(scene.upstream.taken[0], began)
    await scene.passes(scene.request())
    assert len(scene.upstream.connections) == 2


# ── what the sidecar's own errors look like ──────────────────────────────────────────────────────────────────────────


async def test_an_error_of_ours_keeps_the_clients_connection_where_the_framing_is_sound(
    stage: Stage, free_port: Callable[[], int]
) -> None:
    scene = await stage()
    await scene.client.sends(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
    await scene.sidecar.refuses(scene.client, "route_unknown")
    await scene.passes(scene.request())


async def test_an_error_of_ours_to_head_has_no_body(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(b"HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
    response = await scene.client.response(to=b"HEAD")
    assert response.one(b"x-sidecar-error") == b"route_unknown"
    await scene.client.saw_nothing(for_s=0.03)
    await scene.passes(scene.request())


async def test_an_error_of_ours_does_not_leave_a_body_to_be_read_as_the_next_request(stage: Stage) -> None:
    scene = await stage()
    body = b"GET /llm/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    await scene.client.sends(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    response = await scene.sidecar.refuses(scene.client, "route_unknown")
    if response.has(b"connection") and response.one(b"connection").lower() == b"close":
        await scene.client.saw_end()
    else:
        await scene.passes(scene.request(b"GET", b"/next"))
    await scene.upstream.hears_nothing(for_s=0.03)


async def test_every_refusal_is_an_exchange_with_its_error(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
    await scene.sidecar.refuses(scene.client, "route_unknown")
    exchange = await scene.sidecar.finished()
    assert (exchange.status, exchange.error, exchange.path, exchange.attempts) == (404, "route_unknown", "/nowhere", 0)


async def test_a_refusal_body_never_repeats_credentials(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(b"GET http://user:hunter2@127.0.0.1/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer hunter3\r\n\r\n")
    response = await scene.sidecar.refuses(scene.client, "bad_target")
    assert b"hunter" not in response.head + response.body


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_errors_of_ours_are_complete_messages_in_both_versions(stage: Stage, version: bytes) -> None:
    scene = await stage()
    await scene.client.sends(b"GET /nowhere %s\r\nHost: a\r\nConnection: close\r\n\r\n" % version)
    response = await scene.sidecar.refuses(scene.client, "route_unknown")
    assert response.has(b"content-length")
    await scene.client.saw_clean_end()
