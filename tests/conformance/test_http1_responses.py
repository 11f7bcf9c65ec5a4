"""What the client gets of a response (RFC 9110, RFC 9112), and what becomes of one that is not HTTP."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peers.grammar import responses_in
from tests.peers.wire import Ended, Wire
from tests.scene import CHUNKED, OK, Scene, Stage
from tests.sidecar_under_test import eventually

# ── status line and fields ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "status", [200, 201, 202, 206, 226, 299, 300, 301, 307, 400, 401, 404, 407, 418, 422, 429, 451, 500, 503, 529, 599]
)
async def test_any_status_passes_with_its_reason(stage: Stage, status: int) -> None:
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 %d Some Reason, quite \xe9 long\r\nContent-Length: 2\r\n\r\nok" % status)
    assert response.start_line == b"HTTP/1.1 %d Some Reason, quite \xe9 long" % status
    assert response.body == b"ok"


async def test_a_status_line_without_a_reason_passes(stage: Stage) -> None:
    """RFC 9112 section 4: the reason may be empty, and a recipient ought to live without it."""
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok")
    assert response.start_line.split(b" ")[:2] == [b"HTTP/1.1", b"200"]
    assert response.body == b"ok"


async def test_order_case_duplicates_and_unknown_fields_of_a_response_survive(stage: Stage, mode: str) -> None:
    scene = await stage()
    fields = [
        (b"x-lower", b"1"),
        (b"X-UPPER", b"2"),
        (b"Set-Cookie", b"a=1; Path=/, x"),
        (b"Vary", b"Accept"),
        (b"SET-COOKIE", b"b=2"),
        (b"set-cookie", b"c=3; Expires=Wed, 09 Jun 2027 10:18:14 GMT"),
        (b"vary", b"Origin"),
        (b"WWW-Authenticate", b'Basic realm="a", Bearer'),
        (b"X-Empty", b""),
        (b"X-Latin", b"caf\xe9"),
        (b"Retry-After", b"3"),
        (b"x-ratelimit-remaining-tokens", b"17"),
        (b"Content-Length", b"2"),
        (b"ETag", b'W/"x"'),
        (b"Date", b"Fri, 20 Nov 2026 18:16:00 GMT"),
        (b"Server", b"upstream/1"),
    ]
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n"
    response = await scene.answered(head, b"ok")
    assert [field for field in response.fields if field[0].lower() != b"via"] == fields


async def test_set_cookie_is_never_folded(stage: Stage, mode: str) -> None:
    """RFC 9110 section 5.3."""
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n")
    assert response.all(b"set-cookie") == [b"a=1", b"b=2"]


async def test_hop_by_hop_fields_of_a_response_end_here(stage: Stage, mode: str) -> None:
    scene = await stage()
    response = await scene.answered(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Named\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
        b"X-Named: 1\r\nX-Kept: 2\r\nTransfer-Encoding: chunked\r\nUpgrade: foo/2\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    )
    assert response.all(b"x-named") == []
    assert response.all(b"keep-alive") in ([], [b"timeout=75"])
    assert not response.has(b"proxy-connection")
    assert not response.has(b"upgrade")
    assert response.one(b"x-kept") == b"2"
    assert response.body == b"ok"


async def test_via_is_added_to_a_response(stage: Stage, mode: str) -> None:
    scene = await stage()
    response = await scene.answered(OK)
    assert response.one(b"via").startswith(b"1.1 ")


async def test_via_of_a_response_keeps_those_who_came_before(stage: Stage, mode: str) -> None:
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nVia: 1.1 cdn\r\nContent-Length: 0\r\n\r\n")
    members = b", ".join(response.all(b"via")).split(b", ")
    assert members[0] == b"1.1 cdn"
    assert len(members) == 2


async def test_white_space_before_the_colon_of_a_response_field_is_removed(stage: Stage) -> None:
    """RFC 9112 section 5.1."""
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nX-Odd \t: 1\r\nContent-Length : 2\r\n\r\nok")
    assert (b"X-Odd", b"1") in response.fields
    assert response.one(b"Content-Length") == b"2"
    assert response.body == b"ok"


async def test_a_folded_response_field_is_unfolded_or_refused(stage: Stage) -> None:
    """RFC 9112 section 5.2: replace each obs-fold with spaces, or answer 502."""
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nX-Fold: a\r\n  b\r\n\tc\r\nContent-Length: 2\r\n\r\nok")
    if response.has(b"x-sidecar-error"):
        assert (response.status, response.one(b"x-sidecar-error")) == (502, b"upstream_malformed")
    else:
        assert response.one(b"x-fold").split() == [b"a", b"b", b"c"]
        assert b"\r\n " not in response.head and b"\r\n\t" not in response.head


@pytest.mark.parametrize("character", [b"\0", b"\r", b"\x0b", b"\x7f", b"\x01"], ids=["NUL", "CR", "VT", "DEL", "SOH"])
async def test_control_characters_in_a_response_value_never_pass(stage: Stage, character: bytes) -> None:
    """RFC 9110 section 5.5: CR, LF and NUL are refused or replaced by SP; others may be kept inside a value."""
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nX-Odd: a" + character + b"b\r\nContent-Length: 2\r\n\r\nok")
    if response.has(b"x-sidecar-error"):
        assert (response.status, response.one(b"x-sidecar-error")) == (502, b"upstream_malformed")
    elif character in b"\0\r":
        assert response.one(b"x-odd") == b"a b"
    else:
        assert response.one(b"x-odd") in (b"a b", b"a" + character + b"b")


async def test_error_answers_of_the_upstream_are_not_marked_as_ours(stage: Stage, mode: str) -> None:
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nmine")
    assert not response.has(b"x-sidecar-error")
    assert response.body == b"mine"
    assert scene.sidecar.refused == {}


# ── bodies and framing ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_response_with_content_length_keeps_its_framing(stage: Stage, mode: str) -> None:
    scene = await stage()
    body = bytes(range(256)) * 400
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    assert response.one(b"content-length") == b"%d" % len(body)
    assert response.body == body


async def test_a_chunked_response_stays_chunked(stage: Stage, mode: str) -> None:
    scene = await stage()
    response = await scene.answered(CHUNKED + b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert response.one(b"transfer-encoding").lower() == b"chunked"
    assert response.body == b"hello world"


async def test_an_encoded_body_is_not_touched(stage: Stage) -> None:
    """Content codings belong to the ends (RFC 9110 section 8.4)."""
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")
    assert (response.one(b"content-encoding"), response.body) == (b"gzip", b"\x1f\x8b\x08\x00")


async def test_response_trailers_are_forwarded_as_trailers_or_dropped(stage: Stage, mode: str) -> None:
    scene = await stage()
    response = await scene.answered(CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 99\r\nSet-Cookie: evil=1\r\n\r\n")
    assert response.body == b"ok"
    assert not response.has(b"x-sum")
    assert not response.has(b"set-cookie")
    assert (b"X-Sum", b"1") in response.trailers or response.trailers == []
    await scene.passes(scene.request())


@pytest.mark.parametrize("framing", [b"Content-Length: 1234\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_head_has_no_body_and_keeps_the_length(stage: Stage, mode: str, framing: bytes) -> None:
    """RFC 9110 section 9.3.2."""
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nX-A: b\r\n" + framing + b"\r\n", to=b"HEAD")
    assert response.one(b"x-a") == b"b"
    if framing.startswith(b"Content-Length"):
        assert response.one(b"content-length") == b"1234"
    await scene.client.saw_nothing()
    await scene.passes(scene.request())


@pytest.mark.parametrize("status", [204, 304])
async def test_204_and_304_have_no_body_whatever_their_length_says(stage: Stage, mode: str, status: int) -> None:
    """RFC 9112 section 6.3, rule 1."""
    scene = await stage()
    response = await scene.answered(b'HTTP/1.1 %d X\r\nContent-Length: 10\r\nETag: "a"\r\n\r\n' % status)
    assert response.status == status
    if status == 304:
        assert response.one(b"content-length") == b"10"
    await scene.client.saw_nothing()
    await scene.passes(scene.request())


@pytest.mark.parametrize("status", [204, 304])
async def test_204_and_304_without_a_length_leave_the_connection_open(stage: Stage, status: int) -> None:
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 %d X\r\n\r\n" % status)
    assert not response.has(b"transfer-encoding")
    await scene.passes(scene.request())
    assert len(scene.upstream.connections) == 1


async def test_a_body_that_ends_with_the_connection_is_chunked_for_a_1_1_client(stage: Stage, mode: str) -> None:
    """RFC 9112 section 6.3, rule 8; the client's connection lives on, or is closed as the only end."""
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 200 OK\r\n\r\nhello", b" world")
    await connection.closes()
    response = await scene.client.response()
    assert response.body == b"hello world"
    if response.has(b"transfer-encoding"):
        await scene.passes(scene.request())


async def test_a_body_that_ends_with_the_connection_ends_so_for_a_1_0_client(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(version=b"HTTP/1.0"))
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await connection.closes()
    assert (await scene.client.response()).body == b"hello"
    assert not scene.client.was_reset


async def test_an_http_1_0_upstream_is_understood(stage: Stage, mode: str) -> None:
    """The status line is ours (1.1), the version that we received stands in Via."""
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhello")
    await connection.closes()
    response = await scene.client.response()
    assert response.start_line == b"HTTP/1.1 200 OK"
    assert response.one(b"via").startswith(b"1.0 ")
    assert response.body == b"hello"


async def test_an_http_1_0_upstream_with_a_length_is_not_used_again(stage: Stage) -> None:
    """RFC 9112 section 9.3: no persistence in 1.0 unless it says so."""
    scene = await stage()
    response = await scene.answered(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert response.body == b"ok"
    await scene.upstream.taken[0].saw_end()
    await scene.passes(scene.request())
    assert len(scene.upstream.connections) == 2


async def test_an_upstream_that_says_close_is_not_used_again(stage: Stage, mode: str) -> None:
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    assert response.body == b"ok"
    assert b"close" not in response.all(b"connection"), "the client's connection is another hop"
    await scene.upstream.taken[0].saw_end()
    await scene.passes(scene.request())
    assert len(scene.upstream.connections) == 2


async def test_equal_content_lengths_of_a_response_collapse(stage: Stage) -> None:
    scene = await stage()
    response = await scene.answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")
    assert (response.one(b"content-length"), response.body) == (b"2", b"ok")


# ── interim responses (RFC 9110 section 15.2) ────────────────────────────────────────────────────────────────────────


async def test_early_hints_are_relayed_at_once(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\r\n")
    hints = await scene.client.response()
    assert hints.start_line == b"HTTP/1.1 103 Early Hints"
    assert hints.all(b"link") == [b"</a.css>; rel=preload", b"</b.js>"]
    await connection.sends(OK)
    assert (await scene.client.response()).body == b"ok"
    await scene.passes(scene.request())


@pytest.mark.parametrize("status", [100, 102, 103, 110, 199])
async def test_interim_answers_are_relayed_in_order(stage: Stage, status: int) -> None:
    scene = await stage()
    interim = b"HTTP/1.1 %d Wait\r\nX-N: 1\r\n\r\n" % status
    first = await scene.answered(interim, interim + interim + OK)
    assert first.status == status
    assert [(await scene.client.response()).status for _ in range(3)] == [status, status, 200]


async def test_a_101_that_no_one_asked_for_is_a_malformed_answer(stage: Stage) -> None:
    """RFC 9110 section 7.8: a server must not switch to a protocol that the client did not name."""
    scene = await stage()
    await scene.client.sends(scene.request())
    await scene.asks(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: upgrade\r\n\r\nraw bytes")
    await scene.sidecar.refuses(scene.client, "upstream_malformed")


async def test_endless_interim_answers_do_not_fill_memory_or_pass_for_an_answer(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    for _ in range(20):
        if not await connection.sends_if_open(interim * 20):
            break
    await connection.sends_if_open(OK)
    while (response := await scene.client.response()).status == 103:
        pass
    assert response.status in (200, 502)


# ── an upstream that does not speak HTTP: 502 upstream_malformed ─────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 5000 + b"2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 12345678901234567890\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTX/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail.example ESMTP\r\n",
        b"<html>hello</html>",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: empty name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\0Y: nul in name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\xe9: not a token\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
async def test_a_malformed_answer_is_a_502(stage: Stage, answer: bytes) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(answer)
    await scene.sidecar.refuses(scene.client, "upstream_malformed")
    await connection.saw_end()
    await scene.still_works()


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok"],
    ids=["all", "one"],
)
async def test_bare_line_feeds_in_a_response_are_read_or_refused_but_never_sent_on(stage: Stage, answer: bytes) -> None:
    """RFC 9112 section 2.2 allows a recipient to take a single LF as a line end."""
    scene = await stage()
    response = await scene.answered(answer)
    if response.has(b"x-sidecar-error"):
        assert (response.status, response.one(b"x-sidecar-error")) == (502, b"upstream_malformed")
    else:
        assert response.body == b"ok"
        assert response.head.count(b"\n") == response.head.count(b"\r\n")


async def test_a_response_head_that_is_too_big_is_a_502(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 200 OK\r\n")
    for _ in range(2_000):
        if not await connection.sends_if_open(b"X-Long: %s\r\n" % (b"x" * 1_000)):
            break
    await scene.sidecar.refuses(scene.client, "upstream_malformed")


async def test_an_endless_response_header_line_is_a_502(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(2_000):
        if not await connection.sends_if_open(b"x" * 1_000):
            break
    await scene.sidecar.refuses(scene.client, "upstream_malformed")


async def test_length_and_chunked_in_a_response_is_refused_or_read_as_chunked(stage: Stage) -> None:
    """RFC 9112 section 6.3, rule 3: never passed on with both, and the connection is not used again."""
    scene = await stage()
    response = await scene.answered(
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    )
    if response.has(b"x-sidecar-error"):
        assert (response.status, response.one(b"x-sidecar-error")) == (502, b"upstream_malformed")
    else:
        assert response.body == b"ok"
        assert not response.has(b"content-length")
    await scene.upstream.taken[0].saw_end()


@pytest.mark.parametrize(
    "bad",
    [
        b"zz\r\nok\r\n",
        b"-2\r\nok\r\n",
        b"0x2\r\nok\r\n",
        b"2\r\nokXX",
        b"FFFFFFFFFFFFFFFFF\r\nok",
        b"2 2\r\nok\r\n",
        b"\r\nok",
        b"2\nok\r\n",
    ],
)
async def test_a_malformed_chunk_never_ends_cleanly_towards_the_client(stage: Stage, mode: str, bad: bytes) -> None:
    scene = await stage()
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(CHUNKED + b"5\r\nhello\r\n")
    head = await scene.client.head()
    await scene.client.saw(b"5\r\nhello\r\n")
    await connection.sends(bad)
    rest = await scene.client.reads_to_end()
    assert b"0\r\n\r\n" not in rest
    assert head.status == 200
    await scene.still_works()


async def test_bytes_after_a_response_poison_nobody(stage: Stage, mode: str) -> None:
    """An upstream that sends more than it announced is not used again; the next call gets its own answer."""
    scene = await stage()
    response = await scene.answered(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    assert response.body == b"ok"
    await scene.upstream.taken[0].saw_end()
    await scene.passes(scene.request())


async def test_bytes_on_an_idle_connection_poison_nobody(stage: Stage) -> None:
    scene = await stage()
    await scene.passes(scene.request())
    await scene.upstream.taken[0].sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    await scene.upstream.taken[0].saw_end()
    await scene.passes(scene.request())
    assert len(scene.upstream.connections) == 2


async def test_a_body_after_head_poisons_nobody(stage: Stage) -> None:
    scene = await stage()
    await scene.answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", to=b"HEAD")
    await scene.passes(scene.request())
    assert len(scene.upstream.connections) == 2


async def test_an_answer_before_any_request_is_not_taken_for_one(stage: Stage) -> None:
    """A server that greets with a response has not answered what was not yet asked."""

    async def greets(connection: Wire) -> None:
        await connection.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await connection.reads_to_end()

    from tests.peers.raw import RawUpstream

    scene = await stage(peer=RawUpstream(greets))
    await scene.client.sends(scene.request())
    response = await scene.client.response()
    assert response.status in (200, 502)  # it may have come after the request was written, which no one can tell apart
    await eventually(
        lambda: scene.upstream.connections[0].ended_at is not None or response.status == 200, "the end of the greeting connection"
    )


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=60), max_size=8),
    framing=st.sampled_from(["length", "chunked"]),
    cuts=st.lists(st.integers(min_value=0, max_value=700), max_size=8),
)
async def test_a_valid_response_arrives_the_same_however_it_is_split(
    scene: Scene, chunks: list[bytes], framing: str, cuts: list[int]
) -> None:
    body = b"".join(chunks)
    if framing == "length":
        raw = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    else:
        raw = b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw += b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    client = await scene.sidecar.connects()
    await client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    places = sorted({0, len(raw), *(min(cut, len(raw)) for cut in cuts)})
    for start, end in pairwise(places):
        await connection.sends_one_by_one(raw[start:end], size=end - start)
    response = await client.response()
    assert (response.start_line, response.one(b"x-a"), response.body) == (b"HTTP/1.1 200 OK", b"b", body)
    client.close()


async def test_a_response_arrives_the_same_split_at_any_one_byte(scene: Scene) -> None:
    raw = b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n"
    raw += b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: 1\r\n\r\n"
    for place in range(1, len(raw)):
        await scene.client.sends(scene.request())
        connection = await scene.upstream.hears()
        await connection.request()
        await connection.sends_one_by_one(raw[:place], size=place)
        await connection.sends(raw[place:])
        assert (await scene.client.response()).status == 103, f"split at {place}"
        assert (await scene.client.response()).body == b"hello world", f"split at {place}"


@given(garbage=st.binary(min_size=1, max_size=300))
async def test_garbage_from_an_upstream_is_answered_and_survived(scene: Scene, garbage: bytes) -> None:
    client = await scene.sidecar.connects()
    await client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(garbage)
    await connection.half_closes()
    try:
        response = await client.response()
    except (Ended, AssertionError, ValueError):
        assert client.received.startswith(b"HTTP/1.1 ")  # the garbage happened to begin like a response
    else:
        assert response.status in (200, 502) or garbage.startswith(b"HTTP/1.")
    client.close()
    connection.close()
    assert scene.sidecar.refused.get("internal", 0) == 0


ALMOST = [
    *(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n",
        b"HTTP/1.1 204 No\r\n",
        b"HTTP/1.1 101 Up\r\n",
    ),
    *(
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"X: y\r\n",
        b"X: y\n",
        b" fold\r\n",
    ),
    *(b"\r\n", b"\r\n\r\n", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\0", b"\xff", b":", b"\n", b"\r"),
]
"""Pieces that responses are made of."""


@settings(max_examples=max(200, settings.default.max_examples))
@given(st.lists(st.sampled_from(ALMOST), min_size=1, max_size=12), st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]), st.booleans())
async def test_almost_http_of_an_upstream_reaches_the_client_as_http_or_not_at_all(
    scene: Scene, pieces: list[bytes], version: bytes, begins_well: bool
) -> None:
    client = await scene.sidecar.connects()
    await client.sends(scene.request(version=version))
    connection = await scene.upstream.hears()
    await connection.request()
    raw = b"".join(pieces)
    await connection.sends(b"HTTP/1.1 200 OK\r\n" + raw if begins_well else raw)
    await connection.half_closes()
    if await _answered(client):
        await client.half_closes()
    await client.reads_to_end()
    responses_in(bytes(client.received))
    client.close()
    connection.close()
    assert scene.sidecar.refused.get("internal", 0) == 0


async def _answered(client: Wire) -> bool:
    """Wait for a final answer's head; False where the connection ended before."""
    try:
        while (await client.head()).status < 200:
            pass
    except Ended:
        return False
    return True
