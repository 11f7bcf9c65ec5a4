"""
Ambiguity is refused (RFC 9112 sections 2.2, 3.2, 5, 6.3, 7.1, 11.2): two parsers may never read two messages from one.

Each vector says what the client gets and that the upstream saw nothing of it (or nothing complete), that the connection
ends, so that what follows on it is never taken for a request, and that the refusal is counted under its code.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peers.grammar import requests_in, responses_in
from tests.peers.wire import Ended, Wire
from tests.scene import OK, Scene, Stage

SMUGGLED = b"GET /llm/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


async def refused_unseen(scene: Scene, raw: bytes, *codes: str, closes: bool = True) -> None:
    """The request is refused with one of the codes, the connection ends, and the upstream hears nothing of it."""
    await scene.client.sends_if_open(raw)
    await scene.sidecar.refuses(scene.client, *codes, closes=closes)
    await scene.upstream.hears_nothing(for_s=0.02)
    await scene.still_works()


async def refused_unfinished(scene: Scene, raw: bytes, *codes: str) -> None:
    """The same for a body that turns out bad: the upstream may have seen its beginning, never its end, and no next request."""
    await scene.client.sends_if_open(raw)
    await scene.sidecar.refuses(scene.client, *codes, closes=True)
    for connection in scene.upstream.connections:
        rest = bytes(connection.received) + await connection.reads_to_end()
        assert not rest.endswith(b"0\r\n\r\n"), rest
        assert b"smuggled" not in rest
    scene.upstream.taken.clear()
    await scene.still_works()


# ── Content-Length against Transfer-Encoding ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 4", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 4"),
        (b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        (b"content-length: 4", b"TRANSFER-ENCODING: CHUNKED"),
        (b"Content-Length: 4", b"Transfer-Encoding: chunked", b"Content-Length: 4"),
        (b"Content-Length: 4", b"Connection: transfer-encoding", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 4", b"Connection: content-length", b"Transfer-Encoding: chunked"),
    ],
    ids=["CL.TE", "TE.CL", "CL0.TE", "case", "CL.TE.CL", "connection-te", "connection-cl"],
)
async def test_length_and_chunked_together_are_refused(stage: Stage, mode: str, fields: tuple[bytes, ...]) -> None:
    """RFC 9112 section 6.3, rule 3."""
    scene = await stage()
    await refused_unseen(scene, scene.request(b"POST", b"/x", *fields) + b"0\r\n\r\n" + SMUGGLED, "length_and_chunked")


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunkedx",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked;a=b",
        b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding: 'chunked'",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chunked\x0b",
        b"Transfer-Encoding: chun\x00ked",
        b"Transfer-Encoding: chun ked",
        b"Transfer-Encoding: \xffchunked",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: ,",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b" Transfer-Encoding: chunked",
        b"X: a\r\n Transfer-Encoding: chunked",
        b"Transfer-Encoding\r\n : chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"X: a\nTransfer-Encoding: chunked",
        b"X: a\rTransfer-Encoding: chunked",
    ],
)
@pytest.mark.parametrize("with_length", [False, True], ids=["alone", "with-length"])
async def test_an_obfuscated_transfer_encoding_is_refused(stage: Stage, field: bytes, with_length: bool) -> None:
    """TE.TE: whatever some server might take for chunked, and another not."""
    scene = await stage()
    fields = [field, b"Content-Length: 4"] if with_length else [field]
    raw = scene.request(b"POST", b"/x", *fields) + b"0\r\n\r\n" + SMUGGLED
    await refused_unseen(scene, raw, "bad_transfer_encoding", "unknown_transfer_coding", "length_and_chunked", "bad_header")


async def test_a_last_coding_that_is_not_chunked_is_a_400(stage: Stage) -> None:
    """RFC 9112 section 6.3, rule 4."""
    scene = await stage()
    await refused_unseen(scene, scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked, gzip"), "bad_transfer_encoding")


async def test_an_unknown_coding_before_chunked_is_a_501(stage: Stage) -> None:
    """RFC 9112 section 6.1."""
    scene = await stage()
    await refused_unseen(scene, scene.request(b"POST", b"/x", b"Transfer-Encoding: gzip, chunked"), "unknown_transfer_coding")


async def test_transfer_encoding_in_http_1_0_is_refused_or_the_last_of_its_connection(stage: Stage) -> None:
    """RFC 9112 section 6.1: faulty framing, close the connection after processing."""
    scene = await stage()
    raw = scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked", b"Connection: keep-alive", version=b"HTTP/1.0")
    await scene.client.sends(raw + b"3\r\nabc\r\n0\r\n\r\n" + SMUGGLED)
    try:
        connection = await scene.upstream.hears(patience_s=0.2)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "bad_transfer_encoding", closes=True)
        return
    seen = await connection.request()
    assert (seen.target, seen.body) == (b"/base/x", b"abc")
    await connection.sends(OK)
    assert (await scene.client.response()).status == 200
    await scene.client.saw_end()
    await connection.saw_nothing()


# ── Content-Length ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-1",
        b"+4",
        b"4 4",
        b"4, 5",
        b"0x4",
        b"4.0",
        b"4e0",
        b"four",
        b"4a",
        b"\x0b4",
        b"4\x0b",
        b"4;a",
        b'"4"',
        b"4,",
        b",4",
        b"1_0",
        "٤".encode(),
        b"9" * 20,
        b"18446744073709551617",
    ],
)
async def test_a_content_length_that_is_no_number_is_refused(stage: Stage, value: bytes) -> None:
    """RFC 9112 section 6.3, rule 5; a number that fits no counter is no number either."""
    scene = await stage()
    raw = scene.request(b"POST", b"/x", b"Content-Length: " + value) + b"abcd" + SMUGGLED
    await refused_unseen(scene, raw, "bad_content_length", "bad_header")


@pytest.mark.parametrize("values", [(b"4", b"5"), (b"0", b"4"), (b"4", b"04"), (b"4", b"4 "), (b"4", b"4, 4")])
async def test_content_lengths_that_differ_are_refused(stage: Stage, mode: str, values: tuple[bytes, bytes]) -> None:
    """`04` and `4 ` are the same number written otherwise: reading them as one is allowed, sending both on is not."""
    scene = await stage()
    raw = scene.request(b"POST", b"/x", *(b"Content-Length: " + value for value in values)) + b"abcd" + SMUGGLED
    if values in ((b"4", b"5"), (b"0", b"4")):
        await refused_unseen(scene, raw, "bad_content_length")
        return
    await scene.client.sends(raw)
    try:
        connection = await scene.upstream.hears(patience_s=0.2)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "bad_content_length", closes=True)
    else:
        seen = await connection.request()
        assert (seen.one(b"content-length"), seen.body) == (b"4", b"abcd")


async def test_a_list_of_equal_content_lengths_is_refused_or_collapses(stage: Stage) -> None:
    """RFC 9110 section 8.6."""
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 4, 4") + b"abcd")
    try:
        connection = await scene.upstream.hears(patience_s=0.2)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "bad_content_length", closes=True)
    else:
        seen = await connection.request()
        assert (seen.one(b"content-length"), seen.body) == (b"4", b"abcd")


# ── chunks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"\t3\r\nabc\r\n0\r\n\r\n",
        b"3 4\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b";a=b\r\nabc\r\n0\r\n\r\n",
        b"g\r\nabc\r\n0\r\n\r\n",
        b"3_0\r\nabc\r\n0\r\n\r\n",
        "３\r\nabc\r\n0\r\n\r\n".encode(),
        b"3\nabc\r\n0\r\n\r\n",
        b"3\rabc\r\n0\r\n\r\n",
        b"3\r\rabc\r\n0\r\n\r\n",
        b"3;a\nabc\r\n0\r\n\r\n",
        b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        b"3;a\0b\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nabcXX0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\n\n",
        b"3\r\nabc\r\n0\r\nX: a\n\r\n",
        b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX : a\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
        b"10000000000000003\r\nabc\r\n0\r\n\r\n",
        b"8000000000000000\r\nabc\r\n0\r\n\r\n" + b"F" * 70_000,
        b"0" * 70_000 + b"3\r\nabc\r\n0\r\n\r\n",
        b"3;" + b"x" * 70_000 + b"\r\nabc\r\n0\r\n\r\n",
    ],
)
async def test_a_bad_chunk_is_refused_and_never_completed_upstream(stage: Stage, body: bytes) -> None:
    """RFC 9112 section 7.1; the head may have gone already, its body may not be given an end."""
    scene = await stage()
    raw = scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked") + body + SMUGGLED
    if body.startswith(b"8000"):  # a legal size, though no one will ever send it: refused, or waited for
        await scene.client.sends(raw)
        try:
            await scene.upstream.hears(patience_s=0.1)
        except AssertionError:
            await scene.sidecar.refuses(scene.client, "bad_chunk", "body_bytes", closes=True)
        return
    await refused_unfinished(scene, raw, "bad_chunk", "bad_header", "header_bytes", "body_bytes")


async def test_a_flood_of_tiny_chunk_extensions_is_bounded(stage: Stage) -> None:
    """Extensions are read and thrown away: without a bound they would be free work for an attacker (CVE-2023-39326)."""
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked"))
    chunk = b"1;" + b"x" * 4_000 + b"\r\na\r\n"
    for _ in range(60):
        if not await scene.client.sends_if_open(chunk * 10):
            break
    await scene.client.sends_if_open(b"0\r\n\r\n")
    try:
        connection = await scene.upstream.hears(patience_s=0.3)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "bad_chunk", closes=True)
    else:
        assert (await connection.request()).body == b"a" * 600


async def test_trailers_without_end_are_refused(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n")
    for _ in range(400):
        if not await scene.client.sends_if_open(b"X-T: %s\r\n" % (b"x" * 1_000)):
            break
    await scene.sidecar.refuses(scene.client, "bad_chunk", "header_bytes", "header_count", "bad_header", closes=True)


# ── lines and fields ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "line",
    [
        b"GET  /llm/x HTTP/1.1",
        b"GET /llm/x  HTTP/1.1",
        b"GET\t/llm/x\tHTTP/1.1",
        b"GET /llm/x\tHTTP/1.1",
        b"GET /llm/x HTTP/1.1 ",
        b" GET /llm/x HTTP/1.1",
        b"GET /llm/x",
        b"GET",
        b"GET /llm/a b HTTP/1.1",
        b"GET /llm/x\x0b HTTP/1.1",
        b"GET /llm/x\0 HTTP/1.1",
        b"GET /llm/x\x7f HTTP/1.1",
        b"GET /llm/x\r HTTP/1.1",
        b"G(T /llm/x HTTP/1.1",
        b"G\xcbT /llm/x HTTP/1.1",
        b"G:T /llm/x HTTP/1.1",
        b" /llm/x HTTP/1.1",
        b"GET /llm/x HTTP/1.1x",
        b"GET /llm/x http/1.1",
        b"GET /llm/x HTTP/11",
        b"GET /llm/x HTTP/1.",
        b"GET /llm/x HTTP/.1",
        b"GET /llm/x HTTP/01.1",
        b"GET /llm/x HTTP/1.10",
        b"GET /llm/x HTTP 1.1",
        b"GET /llm/x HTTPS/1.1",
        b"GET /llm/x ICY/1.1",
        b"GET /llm/x RTSP/1.0",
        b"GET /llm/x HTTP/0.9",
        b"GET /llm/x HTTP/2.0",
        b"GET /llm/x HTTP/3.0",
    ],
)
async def test_a_bad_request_line_is_refused(stage: Stage, line: bytes) -> None:
    """RFC 9112 section 3: no lenient white space, for others would split it elsewhere."""
    scene = await stage()
    raw = line + b"\r\nHost: a\r\n\r\n" + SMUGGLED
    await refused_unseen(scene, raw, "bad_request_line", "bad_target", "http_version", "bad_header")


@pytest.mark.parametrize(
    "target",
    [
        b"llm/x",
        b"http://",
        b"http:///x",
        b"http://user@{authority}/base/x",
        b"http://user:pw@{authority}/base/x",
        b"http://a b/x",
        b"http://{authority}:80:80/x",
        b"http://127.0.0.1:99999/x",
        b"http://127.0.0.1:-1/x",
        b"http://127.0.0.1:8o/x",
        b"http://[::1/x",
        b"http://::1/x",
        b"http://[zz]/x",
        b"http://a\\b/x",
        b"http://a%00b/x",
        b"ftp://{authority}/x",
        b"file:///etc/passwd",
        b"gopher://{authority}/x",
        b"//{authority}/x@llm",
        b"/llm/x\xe9",
        b"/llm/x#fragment",
        b"?a=b",
        b"{authority}",
        b"http:/llm/x",
        b"http:llm",
    ],
)
async def test_a_bad_target_is_refused_or_at_most_passed_on_as_it_is(stage: Stage, target: bytes) -> None:
    """RFC 9112 section 3.2, RFC 9110 section 4.2.4 (userinfo); never resolved to something that the client did not write."""
    scene = await stage()
    target = target.replace(b"{authority}", scene.upstream.authority.encode())
    await scene.client.sends(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    try:
        connection = await scene.upstream.hears(patience_s=0.1)
    except AssertionError:
        codes = ("bad_target", "bad_request_line", "route_unknown", "bad_host")
        await scene.sidecar.refuses(scene.client, *codes)
    else:
        assert target.startswith(b"/llm/"), f"{target!r} reached the upstream"
        assert (await connection.request()).target == b"/base/" + target.removeprefix(b"/llm/")
    await scene.sidecar.connects()
    scene.upstream.taken.clear()
    await scene.still_works()


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("userinfo", b"http://user:pw@{authority}/base/x"),
        ("userinfo that looks like a host", b"http://{authority}@evil.example/x"),
        ("userinfo with an empty name", b"http://@{authority}/base/x"),
    ],
)
async def test_userinfo_in_a_target_is_an_error(stage: Stage, name: str, raw: bytes) -> None:
    """RFC 9110 section 4.2.4."""
    scene = await stage()
    target = raw.replace(b"{authority}", scene.upstream.authority.encode())
    await refused_unseen(scene, b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target, "bad_target", closes=False)


@pytest.mark.parametrize(
    "line",
    [
        b"X-Space : a",
        b"X-Tab\t: a",
        b"X Y: a",
        b"no colon",
        b": no name",
        b"X\0Y: a",
        b"X(Y): a",
        b"X\xe9: a",
        b"\x0bX: a",
        b'"X": a',
        b"X\x7f: a",
        b"X@Y: a",
        b"X/Y: a",
    ],
)
async def test_a_bad_field_name_is_refused(stage: Stage, mode: str, line: bytes) -> None:
    """RFC 9112 section 5.1: white space before the colon is a 400; the rest are no tokens."""
    scene = await stage()
    await refused_unseen(scene, scene.request(b"GET", b"/x", line) + SMUGGLED, "bad_header")


@pytest.mark.parametrize("character", [b"\0", b"\r", b"\n"], ids=["NUL", "CR", "LF"])
async def test_nul_and_line_ends_in_a_value_are_refused(stage: Stage, character: bytes) -> None:
    """RFC 9110 section 5.5: refused or replaced by SP; a single LF would end the line for some, so it is refused."""
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/x", b"X-Odd: a" + character + b"b"))
    try:
        connection = await scene.upstream.hears(patience_s=0.1)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "bad_header", closes=True)
    else:
        assert character != b"\n", "the line after a bare LF was read as a field, or as part of the value"
        assert (await connection.request()).one(b"x-odd") == b"a b"


@pytest.mark.parametrize("fold", [b"X-Fold: a\r\n b", b"X-Fold: a\r\n\tb", b"X-Fold:\r\n b", b"Host2: a\r\n \r\n b"])
async def test_a_folded_field_is_refused_or_unfolded(stage: Stage, fold: bytes) -> None:
    """RFC 9112 section 5.2."""
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/x", fold))
    try:
        connection = await scene.upstream.hears(patience_s=0.1)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "bad_header", closes=True)
    else:
        seen = await connection.request()
        assert b"\r\n " not in seen.head and b"\r\n\t" not in seen.head


async def test_a_fold_before_the_first_field_is_refused(stage: Stage) -> None:
    """RFC 9112 section 2.2: white space between the start line and the first field."""
    scene = await stage()
    await refused_unseen(scene, b"GET /llm/x HTTP/1.1\r\n Host: evil\r\nHost: a\r\n\r\n", "bad_header", "bad_request_line")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /llm/x HTTP/1.1\nHost: a\n\n",
        b"GET /llm/x HTTP/1.1\nHost: a\r\n\r\n",
        b"GET /llm/x HTTP/1.1\r\nHost: a\n\r\n",
        b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\n",
        b"GET /llm/x HTTP/1.1\r\nHost: a\n\n",
        b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n",
        b"GET /llm/x HTTP/1.1\rHost: a\r\r",
    ],
)
async def test_bare_line_ends_are_refused(stage: Stage, raw: bytes) -> None:
    """RFC 9112 section 2.2 allows to read a single LF as a line end; we do not, because not everybody does."""
    scene = await stage()
    await scene.client.sends(raw + b"\r\n\r\n")
    await scene.sidecar.refuses(scene.client, "bad_header", "bad_request_line", closes=True)
    await scene.upstream.hears_nothing(for_s=0.02)


# ── Host (RFC 9112 section 3.2) ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b"Host: a", b"Host: b"],
        [b"Host: a", b"host: a"],
        [b"Host: a b"],
        [b"Host: a/b"],
        [b"Host: a@b"],
        [b"Host: user:pw@a"],
        [b"Host: a:b"],
        [b"Host: http://a"],
        [b"Host: [::1"],
        [b"Host: a\\b"],
        [b"Host: a?b"],
        [b"Host: a#b"],
        [b"Host: \x80"],
    ],
)
@pytest.mark.parametrize("form", ["origin", "absolute"])
async def test_a_missing_repeated_or_invalid_host_is_refused(stage: Stage, hosts: list[bytes], form: str) -> None:
    scene = await stage(mode="gateway" if form == "origin" else "forward")
    raw = b"\r\n".join([b"GET %s HTTP/1.1" % scene.target(b"/x"), *hosts]) + b"\r\n\r\n"
    await refused_unseen(scene, raw + SMUGGLED, "bad_host", "bad_header")


async def test_an_empty_host_of_a_gateway_call_is_refused_or_ignored(stage: Stage) -> None:
    """RFC 9112 section 3.2 allows an empty Host where the target has no authority; the upstream gets its own name."""
    scene = await stage()
    await scene.client.sends(b"GET /llm/x HTTP/1.1\r\nHost:\r\n\r\n")
    try:
        connection = await scene.upstream.hears(patience_s=0.1)
    except AssertionError:
        await scene.sidecar.refuses(scene.client, "bad_host", closes=True)
    else:
        assert (await connection.request()).one(b"host") == scene.upstream.authority.encode()


# ── what follows ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("length", [b"3", b"5"])
async def test_a_wrong_length_only_hurts_its_own_connection(stage: Stage, length: bytes) -> None:
    """What is left over is the next request of the same client, or a bad one; no other client ever gets to see it."""
    scene = await stage()
    await scene.client.sends(
        scene.request(b"POST", b"/x", b"Content-Length: " + length) + b"abcdGET /llm/y HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    seen = await scene.asks()
    assert seen.body == b"abcdG"[: int(length)]
    assert (await scene.client.response()).body == b"ok"
    if length == b"3":  # `dGET` is a method; it is sent on as what it is
        assert (await scene.asks()).start_line == b"dGET /base/y HTTP/1.1"
    else:
        assert (await scene.asks()).start_line == b"ET /base/y HTTP/1.1"
    assert (await scene.client.response()).body == b"ok"


async def test_a_poisoned_pipeline_is_cut_at_the_first_error(stage: Stage) -> None:
    scene = await stage()
    bad = scene.request(b"POST", b"/bad", b"Content-Length: 1", b"Transfer-Encoding: chunked")
    await scene.client.sends(scene.request(b"GET", b"/1") + bad + b"0\r\n\r\n" + SMUGGLED)
    assert (await scene.asks()).target == b"/base/1"
    assert (await scene.client.response()).body == b"ok"
    await scene.sidecar.refuses(scene.client, "length_and_chunked", closes=True)
    await scene.upstream.hears_nothing()


async def test_a_response_cannot_be_queued_for_the_next_client(stage: Stage) -> None:
    """A client that leaves before its answer takes the upstream's connection with it: its answer can reach no one else."""
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/secret"))
    connection = await scene.upstream.hears()
    await connection.request()
    await scene.client.closes()
    await connection.sends_if_open(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
    await connection.saw_end()
    await scene.still_works()


async def test_a_get_with_a_body_is_framed_for_the_upstream_as_well(stage: Stage) -> None:
    """The GET-body variant of smuggling: the body is the request's own, never the next request."""
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", body=SMUGGLED))
    assert (seen.one(b"content-length"), seen.body) == (b"%d" % len(SMUGGLED), SMUGGLED)
    await scene.upstream.hears_nothing()


# ── wrong protocols at the door ──────────────────────────────────────────────────────────────────────────────────────


async def test_http_2_with_prior_knowledge_is_told_so(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    await scene.sidecar.refuses(scene.client, "http2_preface", closes=True)


async def test_tls_to_the_plain_port_is_told_so(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(bytes.fromhex("1603010200010001fc0303") + b"\x5a" * 300)
    await scene.sidecar.refuses(scene.client, "tls_to_plain_port", closes=True)


@given(garbage=st.binary(min_size=1, max_size=400))
async def test_garbage_is_refused_or_waited_for_but_never_passed_on(scene: Scene, garbage: bytes) -> None:
    client = await scene.sidecar.connects()
    await client.sends(garbage)
    await client.sends_if_open(b"\r\n\r\n")
    await client.half_closes()
    try:
        response = await client.response()
    except Ended:
        assert client.received == b""
    else:
        assert 400 <= response.status < 600
        assert response.one(b"x-sidecar-error") != b"internal"
    client.close()
    assert scene.upstream.connections == []


ALMOST = [
    *(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n", b"POST /llm/x HTTP/1.1\r\nHost: a\r\n", b"Content-Length: 5\r\n", b"hello"),
    *(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"X: y\r\n", b"\r\n\r\n"),
    *(
        b"GET ",
        b"POST ",
        b"/llm/x ",
        b"http://",
        b"*",
        b"HTTP/1.1",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b",",
        b"\0",
        b"\xff",
    ),
    *(b"Host: a", b"Content-Length: ", b"5", b"0", b"Transfer-Encoding: ", b"chunked", b"Connection: close", b"Upgrade: x"),
    b"Expect: 100-continue",
]
"""Pieces that requests are made of."""


@settings(max_examples=max(200, settings.default.max_examples))
@given(
    st.lists(
        st.sampled_from(ALMOST),
        min_size=1,
        max_size=30,
    )
)
async def test_almost_http_never_leaves_the_sidecar_as_anything_but_http(scene: Scene, pieces: list[bytes]) -> None:
    """Mutations near the grammar: whatever reaches the upstream is HTTP/1.1 to the letter, and so is what comes back."""
    client = await scene.sidecar.connects()
    await client.sends_one_by_one(b"".join(pieces), size=7)
    await client.sends_if_open(b"\r\n\r\n")
    await answers_whatever_comes(scene)
    await client.half_closes()
    await client.reads_to_end()
    client.close()
    responses_in(bytes(client.received))
    for connection in scene.upstream.connections:
        requests_in(bytes(connection.received) + drained(connection))
    assert scene.sidecar.refused.get("internal", 0) == 0


async def answers_whatever_comes(scene: Scene) -> None:
    """Answer the heads that reach the upstream at once, so that what stands behind them in the pipeline is tried as well."""
    for _ in range(3):
        try:
            connection = await scene.upstream.hears(patience_s=0.003)
        except AssertionError:
            return
        await connection.reads_some()
        await connection.sends_if_open(OK)


def drained(connection: Wire) -> bytes:
    """What lies in the socket still."""
    try:
        return connection.sock.recv(65_536)
    except OSError:
        return b""


# ── lengths that no integer holds, and what follows a tunnel that is refused ─────────────────────────────────────────


@pytest.mark.parametrize("length", [b"0" * 5000 + b"4", b"9" * 20, b"0" * 5000, b"1" + b"0" * 4300])
async def test_a_length_of_too_many_digits_is_refused(stage: Stage, mode: str, length: bytes) -> None:
    scene = await stage()
    await refused_unseen(scene, scene.request(b"POST", b"/x", b"Content-Length: " + length) + SMUGGLED, "bad_content_length")


async def test_what_follows_a_refused_connect_is_never_a_request(stage: Stage) -> None:
    """RFC 9931: proxies close the connection when they reject CONNECT, without processing any further data on it."""
    scene = await stage()
    await refused_unseen(scene, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, "loopback_refused")
