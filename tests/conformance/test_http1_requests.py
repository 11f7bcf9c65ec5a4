"""What the upstream sees of a request (RFC 9110, RFC 9112): all of it, byte for byte, but for what belongs to the hop."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers.echo import EchoUpstream
from tests.peers.wire import Message
from tests.scene import CHUNKED, OK, Scene, Stage

ADDED = {b"host", b"via", b"traceparent", b"tracestate"}
"""Fields that the sidecar may add to, or set in, a request that has none of its own."""

HOP_BY_HOP = [
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
]


def own_fields(message: Message) -> list[tuple[bytes, bytes]]:
    """The fields that came from the client."""
    return [(name, value) for name, value in message.fields if name.lower() not in ADDED]


# ── the request line ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "method",
    [
        b"GET",
        b"POST",
        b"PUT",
        b"DELETE",
        b"PATCH",
        b"FOO",
        b"QUERY",
        b"PROPFIND",
        b"M-SEARCH",
        b"get",
        b"PURGE",
        b"X!#$%&'*+.^_`|~9",
    ],
)
async def test_any_method_passes_untouched(stage: Stage, mode: str, method: bytes) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(method, b"/x"))
    assert seen.start_line == method + b" /base/x HTTP/1.1"


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/v1/chat/completions",
        b"/a%2Fb%2fc",
        b"//double//slash//",
        b"/a/../b",
        b"/./a/./",
        b"/..",
        b"/a;v=1;w=2/b",
        b"/x?a=b&&",
        b"/x?",
        b"/x??q=/?",
        b"/x?q=%20+%2B&e=%C3%A9",
        b"/caf%C3%A9/%E2%98%83",
        b"/%zz%",
        b"/model/anthropic.claude-v1%3A0/converse-stream",
        b"/a:b@c!$&'()*+,=d",
        b"/~user/%7Euser",
        b"/tasks/1:cancel",
        b"/x?url=http://other.example/a?b",
        b"/x?a=[1]&b={2}|3^4",
        b"/" + b"long/" * 800,
    ],
)
async def test_path_and_query_are_byte_exact(stage: Stage, mode: str, path: bytes) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", path))
    assert seen.target == b"/base" + path


async def test_absolute_form_without_a_path_becomes_a_slash(stage: Stage) -> None:
    """RFC 9112 section 3.2.1: an empty path is sent as `/`."""
    scene = await stage(mode="forward")
    seen = await scene.passes(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (scene.upstream.url.encode(), scene.host))
    assert seen.target == b"/"


async def test_absolute_form_with_only_a_query_becomes_a_slash_with_the_query(stage: Stage) -> None:
    scene = await stage(mode="forward")
    seen = await scene.passes(b"GET %s?a=b HTTP/1.1\r\nHost: %s\r\n\r\n" % (scene.upstream.url.encode(), scene.host))
    assert seen.target == b"/?a=b"


async def test_scheme_and_host_of_absolute_form_are_case_insensitive(stage: Stage) -> None:
    """RFC 3986 section 6.2.2.1."""
    scene = await stage(mode="forward")
    seen = await scene.passes(b"GET HTTP://LOCALHOST:%d/base/X HTTP/1.1\r\nHost: LOCALHOST\r\n\r\n" % scene.upstream.port)
    assert seen.target == b"/base/X"


async def test_options_of_a_server_is_sent_on_in_asterisk_form(stage: Stage) -> None:
    """RFC 9112 section 3.2.4: the last proxy turns an OPTIONS without path or query into `*`."""
    scene = await stage(mode="forward")
    seen = await scene.passes(b"OPTIONS %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (scene.upstream.url.encode(), scene.host))
    assert seen.target == b"*"


async def test_options_asterisk_asks_the_sidecar_itself(stage: Stage) -> None:
    """RFC 9110 section 9.3.7: `*` names the server that it is sent to; no upstream hears of it."""
    scene = await stage()
    await scene.client.sends(b"OPTIONS * HTTP/1.1\r\nHost: sidecar\r\n\r\n")
    response = await scene.client.response(to=b"OPTIONS")
    assert response.status in (200, 204)
    await scene.upstream.hears_nothing()
    await scene.passes(scene.request())


async def test_an_asterisk_is_only_for_options(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(b"GET * HTTP/1.1\r\nHost: sidecar\r\n\r\n")
    await scene.sidecar.refuses(scene.client, "bad_target")


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
async def test_max_forwards_of_zero_is_answered_here(stage: Stage, mode: str, method: bytes) -> None:
    """RFC 9110 section 7.6.2: at zero an intermediary must not forward, but answers as the final recipient."""
    scene = await stage()
    await scene.client.sends(scene.request(method, b"/x", b"Max-Forwards: 0"))
    await scene.client.response(to=method)
    await scene.upstream.hears_nothing()


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
async def test_max_forwards_is_counted_down(stage: Stage, mode: str, method: bytes) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(method, b"/x", b"Max-Forwards: 7"))
    assert seen.one(b"max-forwards") == b"6"


async def test_max_forwards_of_other_methods_is_left_alone(stage: Stage) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", b"Max-Forwards: 0"))
    assert seen.one(b"max-forwards") == b"0"


async def test_empty_lines_before_the_request_line_are_skipped(stage: Stage, mode: str) -> None:
    """RFC 9112 section 2.2."""
    scene = await stage()
    seen = await scene.passes(b"\r\n\r\n" + scene.request())
    assert seen.target == b"/base/x"


async def test_an_empty_line_after_a_body_is_skipped(stage: Stage) -> None:
    """RFC 9112 section 2.2: an old client's extra CRLF after a POST is not a request."""
    scene = await stage()
    await scene.passes(scene.request(b"POST", b"/x", body=b"abc") + b"\r\n")
    seen = await scene.passes(scene.request(b"GET", b"/y"))
    assert seen.target == b"/base/y"


# ── header fields ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_order_case_duplicates_and_unknown_fields_survive(stage: Stage, mode: str) -> None:
    scene = await stage()
    fields = [
        (b"x-lower", b"1"),
        (b"X-UPPER", b"2"),
        (b"x-MiXeD-cAsE", b"3"),
        (b"X-Dup", b"first"),
        (b"Accept", b"text/html;q=0.5, */*"),
        (b"x-dup", b"second"),
        (b"Cookie", b"a=1"),
        (b"Cookie", b"b=2"),
        (b"X-DUP", b"third"),
        (b"X-Empty", b""),
        (b"X-Inner", b"a  b\tc"),
        (b"X-Quoted", b'"a, \\"b\\""'),
        (b"X-Latin", b"caf\xe9 \xff"),
        (b"X-Utf8", "schön ☃".encode()),
        (b"!#$%&'*+-.^_`|~09az", b"a legal name"),
        (b"Authorization", b"Bearer secret"),
        (b"User-Agent", b"me/1"),
        (b"traceparent-like", b"x"),
    ]
    seen = await scene.passes(scene.request(b"GET", b"/x", *(name + b": " + value for name, value in fields)))
    assert own_fields(seen) == fields


async def test_nothing_is_added_that_the_specification_does_not_ask_for(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request())
    assert own_fields(seen) == []


async def test_optional_whitespace_around_a_value_is_no_part_of_it(stage: Stage) -> None:
    """RFC 9110 section 5.5."""
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", b"A:1", b"B: \t 2 \t ", b"C:\t3"))
    assert own_fields(seen) == [(b"A", b"1"), (b"B", b"2"), (b"C", b"3")]


async def test_a_gateway_call_gets_the_host_of_its_upstream(stage: Stage) -> None:
    scene = await stage(mode="gateway")
    seen = await scene.passes(scene.request())
    assert seen.one(b"host") == scene.upstream.authority.encode()


async def test_the_authority_of_absolute_form_replaces_host(stage: Stage) -> None:
    """RFC 9112 section 3.2.2: a proxy must ignore the received Host and replace it by the target's."""
    scene = await stage(mode="forward")
    seen = await scene.passes(b"GET %s HTTP/1.1\r\nHost: evil.example\r\nX: y\r\n\r\n" % scene.target(b"/x"))
    assert seen.one(b"host") == scene.upstream.authority.encode()


async def test_hop_by_hop_fields_end_here(stage: Stage, mode: str) -> None:
    """RFC 9110 section 7.6.1: Connection, what it names, and what is known to belong to one hop."""
    scene = await stage()
    seen = await scene.passes(
        scene.request(
            b"GET",
            b"/x",
            b"Connection: keep-alive, X-Named",
            b"connection: x-also-named",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"Proxy-Authorization: Basic dXNlcjpwYXNz",
            b"TE: trailers, deflate;q=0.5",
            b"Upgrade: foo/2",
            b"X-Named: 1",
            b"X-Also-Named: 2",
            b"X-Kept: 3",
        )
    )
    assert own_fields(seen) == [(b"X-Kept", b"3")]


@pytest.mark.parametrize("name", [b"Host", b"Via", b"Authorization", b"Cache-Control", b"Content-Type"])
async def test_connection_may_not_strip_what_is_meant_for_the_end(stage: Stage, name: bytes) -> None:
    """RFC 9110 section 7.6.1 forbids to list such fields; a proxy that obeys would lose Host or credentials.

    Removing the field or keeping it are both within the letter, except for those that the proxy itself has to send.
    """
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", b"Connection: " + name, b"Authorization: Bearer a"))
    assert seen.one(b"host") == scene.upstream.authority.encode()
    assert seen.has(b"via")


async def test_connection_naming_content_length_does_not_unframe_the_body(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"POST", b"/x", b"Connection: content-length, transfer-encoding", body=b"hello"))
    assert seen.body == b"hello"


async def test_via_is_added_to_a_request(stage: Stage, mode: str) -> None:
    """RFC 9110 section 7.6.3: protocol version as received, then a pseudonym."""
    scene = await stage()
    seen = await scene.passes(scene.request())
    version, pseudonym = seen.one(b"via").split(b" ", 1)
    assert version == b"1.1"
    assert pseudonym


async def test_via_keeps_those_who_came_before(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", b"Via: 1.0 fred, 1.1 p.example.net"))
    members = b", ".join(seen.all(b"via")).split(b", ")
    assert members[:2] == [b"1.0 fred", b"1.1 p.example.net"]
    assert len(members) == 3
    assert members[2].startswith(b"1.1 ")


async def test_x_agent_headers_are_for_the_sidecar_only(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", b"X-Agent-Id: a", b"x-agent-task-id: t", b"x-agent-other: kept"))
    assert own_fields(seen) == [(b"x-agent-other", b"kept")]


async def test_expectations_that_http_does_not_know_are_refused(stage: Stage) -> None:
    """RFC 9110 section 10.1.1."""
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Expect: 200-maybe", body=b""))
    await scene.sidecar.refuses(scene.client, "bad_expect")
    await scene.upstream.hears_nothing()


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_body_with_content_length_keeps_its_framing(stage: Stage, mode: str) -> None:
    scene = await stage()
    body = bytes(range(256)) * 40
    seen = await scene.passes(scene.request(b"POST", b"/x", body=body))
    assert seen.one(b"content-length") == b"%d" % len(body)
    assert seen.body == body


async def test_a_content_length_of_zero_is_kept(stage: Stage) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"POST", b"/x", body=b""))
    assert seen.one(b"content-length") == b"0"


async def test_a_post_without_a_body_gets_no_framing(stage: Stage) -> None:
    """RFC 9112 section 6.3: neither field in a request means no body, whatever the method."""
    scene = await stage()
    seen = await scene.passes(scene.request(b"POST", b"/x"))
    assert not seen.has(b"transfer-encoding")
    assert seen.all(b"content-length") in ([], [b"0"])


async def test_a_get_may_have_a_body(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", body=b'{"query": 1}'))
    assert seen.body == b'{"query": 1}'


async def test_equal_content_lengths_collapse_into_one(stage: Stage, mode: str) -> None:
    """RFC 9110 section 8.6 allows it when all are the same decimal number."""
    scene = await stage()
    seen = await scene.passes(scene.request(b"POST", b"/x", b"Content-Length: 5", body=b"hello"))
    assert seen.one(b"content-length") == b"5"
    assert seen.body == b"hello"


async def test_a_chunked_body_stays_chunked(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await scene.passes(
        scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked") + b'5\r\nhello\r\n6;ext=1;q="a b"\r\n world\r\n0\r\n\r\n'
    )
    assert seen.one(b"transfer-encoding").lower() == b"chunked"
    assert seen.body == b"hello world"
    assert b"ext" not in seen.raw_body, "chunk extensions are for one hop (RFC 9112 section 7.1.1)"


@pytest.mark.parametrize("coding", [b"Chunked", b"CHUNKED", b"chunked , ", b" ,chunked"])
async def test_the_name_chunked_is_case_insensitive_and_lists_may_have_empty_members(stage: Stage, coding: bytes) -> None:
    """RFC 9112 section 7, RFC 9110 section 5.6.1: read as chunked, or refused; never anything else."""
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Transfer-Encoding: " + coding) + b"3\r\nabc\r\n0\r\n\r\n")
    if coding.lower() != b"chunked":
        response = await _answer_or_refusal(scene)
        if response.has(b"x-sidecar-error"):
            assert response.status in (400, 501)
            return
    else:
        assert (await scene.asks()).body == b"abc"
        assert (await scene.client.response()).status == 200


async def _answer_or_refusal(scene: Scene) -> Message:
    """Answer the upstream's request if one comes; the client's response in any case."""
    try:
        connection = await scene.upstream.hears(patience_s=0.3)
    except AssertionError:
        return await scene.client.response()
    assert (await connection.request()).body == b"abc"
    await connection.sends(OK)
    return await scene.client.response()


@pytest.mark.parametrize("size", [b"3", b"03", b"0000000000000003"])
async def test_chunk_sizes_may_have_leading_zeros(stage: Stage, size: bytes) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked") + size + b"\r\nabc\r\n0\r\n\r\n")
    assert seen.body == b"abc"


async def test_request_trailers_are_forwarded_as_trailers_or_dropped(stage: Stage, mode: str) -> None:
    """RFC 9110 section 6.5.1: never merged into the header section."""
    scene = await stage()
    seen = await scene.passes(
        scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked", b"Trailer: X-Sum") + b"3\r\nabc\r\n0\r\nX-Sum: 900\r\n\r\n"
    )
    assert seen.body == b"abc"
    assert not seen.has(b"x-sum")
    assert seen.trailers in ([], [(b"X-Sum", b"900")])


@pytest.mark.parametrize(
    "trailer",
    [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: evil.example", b"traceparent: 00-1-1-01", b"x-agent-id: evil"],
)
async def test_forbidden_trailers_do_no_harm(stage: Stage, trailer: bytes) -> None:
    """RFC 9110 section 6.5.1: framing, routing and authentication do not belong there."""
    scene = await stage()
    await scene.client.sends(
        scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n\r\n"
    )
    seen = await scene.asks()
    assert seen.body == b"abc"
    assert seen.one(b"host") == scene.upstream.authority.encode()
    assert not seen.has(b"content-length")
    assert (await scene.client.response()).status == 200
    assert (await scene.sidecar.finished()).agent != "evil"


async def test_a_request_body_flows_before_it_is_complete(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 6"), b"abc")
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.saw(b"abc")
    await scene.client.sends(b"def")
    await connection.saw(b"def")
    await connection.sends(OK)
    assert (await scene.client.response()).body == b"ok"


async def test_a_chunk_of_a_request_flows_before_the_next_is_sent(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked"), b"3\r\nabc\r\n")
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.saw(b"3\r\nabc\r\n")
    await scene.client.sends(b"4\r\ndefg\r\n")
    await connection.saw(b"4\r\ndefg\r\n")
    await scene.client.sends(b"0\r\n\r\n")
    await connection.saw(b"0\r\n\r\n")
    await connection.sends(OK)
    assert (await scene.client.response()).body == b"ok"


async def test_an_answer_that_comes_before_the_body_is_complete_is_relayed_at_once(stage: Stage, mode: str) -> None:
    """RFC 9112 section 9.5: the client may learn of an early 413 and stop."""
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Content-Length: 1000000"), b"begin")
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.sends(b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
    response = await scene.client.response()
    assert (response.status, response.body) == (413, b"big")


# ── Expect: 100-continue (RFC 9110 section 10.1.1) ───────────────────────────────────────────────────────────────────


async def test_a_client_that_waits_for_100_gets_it(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Expect: 100-continue", b"Content-Length: 5"))
    connection = await scene.upstream.hears()
    head = await connection.head()
    if head.has(b"expect"):
        await connection.sends(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await scene.client.response()).status == 100
    await scene.client.sends(b"hello")
    await connection.saw(b"hello")
    await connection.sends(OK)
    response = await scene.client.response()
    assert (response.status, response.body) == (200, b"ok")
    await scene.passes(scene.request())


async def test_a_refused_expectation_reaches_the_client(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Expect: 100-continue", b"Content-Length: 5"))
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.sends(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
    response = await scene.client.response()
    while response.status == 100:
        response = await scene.client.response()
    assert (response.status, response.body) == (417, b"no")


async def test_a_final_answer_without_100_reaches_the_waiting_client(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Expect: 100-continue", b"Content-Length: 5"))
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.sends(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
    response = await scene.client.response()
    while response.status == 100:
        response = await scene.client.response()
    assert (response.status, response.body) == (401, b"no")


async def test_after_a_final_answer_without_100_the_next_request_is_not_taken_for_the_body(stage: Stage) -> None:
    """The client may send the body or the next request: the connection closes, or it waits for the declared body."""
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Expect: 100-continue", b"Content-Length: 5"))
    connection = await scene.upstream.hears()
    await connection.head()
    await connection.sends(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
    response = await scene.client.response()
    while response.status == 100:
        response = await scene.client.response()
    if response.has(b"connection") and response.one(b"connection").lower() == b"close":
        await scene.client.saw_end()
    else:
        await scene.client.sends(b"hello", scene.request(b"GET", b"/next"))
        connection = await scene.upstream.hears()
        while (seen := await connection.head()).target != b"/base/next":
            pass
        assert seen.start_line == b"GET /base/next HTTP/1.1"


async def test_a_client_need_not_wait_for_100(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Expect: 100-continue", b"Content-Length: 5"), b"hello")
    connection = await scene.upstream.hears()
    assert (await connection.request()).body == b"hello"
    await connection.sends(OK)
    response = await scene.client.response()
    while response.status == 100:
        response = await scene.client.response()
    assert response.status == 200


async def test_a_waiting_client_with_a_chunked_body_is_served(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Expect: 100-Continue", b"Transfer-Encoding: chunked"))
    connection = await scene.upstream.hears()
    head = await connection.head()
    if head.has(b"expect"):
        await connection.sends(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await scene.client.response()).status == 100
    await scene.client.sends(b"5\r\nhello\r\n0\r\n\r\n")
    await connection.chunked_into(head)
    assert head.body == b"hello"
    await connection.sends(OK)
    assert (await scene.client.response()).status == 200


async def test_an_http_1_0_client_never_gets_an_interim_answer(stage: Stage) -> None:
    """RFC 9110 sections 10.1.1 and 15.2."""
    scene = await stage()
    await scene.client.sends(scene.request(b"POST", b"/x", b"Expect: 100-continue", body=b"hello", version=b"HTTP/1.0"))
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK)
    response = await scene.client.response()
    assert (response.status, response.body) == (200, b"ok")


# ── HTTP/1.0 clients ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_http_1_0_request_is_sent_on_as_1_1_with_its_version_in_via(stage: Stage, mode: str) -> None:
    """RFC 9112 section 2.3: an intermediary sends its own version."""
    scene = await stage()
    seen = await scene.passes(scene.request(b"GET", b"/x", version=b"HTTP/1.0"))
    assert seen.start_line == b"GET /base/x HTTP/1.1"
    assert seen.one(b"via").startswith(b"1.0 ")


async def test_an_expectation_of_http_1_0_is_ignored_and_does_not_become_one_of_1_1(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await scene.passes(scene.request(b"POST", b"/x", b"Expect: 100-continue", body=b"a", version=b"HTTP/1.0"))
    assert not seen.has(b"expect")
    assert seen.body == b"a"


async def test_a_trailer_that_connection_names_goes_no_further(stage: Stage, mode: str) -> None:
    scene = await stage()
    for _ in range(2):  # the second from memory
        await scene.client.sends(
            scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked", b"Connection: X-Sum"),
            b"1\r\na\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n",
        )
        connection = await scene.upstream.hears()
        assert (await connection.request()).trailers == [(b"X-Other", b"2")]
        await connection.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-sum\r\n\r\n")
        await connection.sends(b"2\r\nok\r\n0\r\nX-Other: 3\r\nX-SUM: 4\r\n\r\n")
        response = await scene.client.response()
        assert (response.body, response.trailers) == (b"ok", [(b"X-Other", b"3")])


async def test_an_http_1_0_request_needs_no_host(stage: Stage) -> None:
    scene = await stage()
    seen = await scene.passes(b"GET /llm/x HTTP/1.0\r\n\r\n")
    assert seen.one(b"host") == scene.upstream.authority.encode()


async def test_the_connection_of_an_http_1_0_client_closes_after_the_answer(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.passes(scene.request(b"GET", b"/x", version=b"HTTP/1.0"))
    await scene.client.saw_clean_end()


async def test_an_http_1_0_client_gets_no_chunks(stage: Stage, mode: str) -> None:
    """RFC 9112 section 6.1: no transfer coding to a client that does not know it; the body ends with the connection."""
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/x", version=b"HTTP/1.0"))
    await scene.asks(CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    head = await scene.client.head()
    assert not head.has(b"transfer-encoding")
    assert await scene.client.reads_to_end() == b"hello world"
    assert not scene.client.was_reset


async def test_an_http_1_0_client_that_asks_for_keep_alive_is_told_what_it_gets(stage: Stage) -> None:
    """RFC 9112 appendix C.2.2: kept alive with `Connection: keep-alive` and a length, or closed."""
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/x", b"Connection: keep-alive", version=b"HTTP/1.0"))
    await scene.asks()
    head = await scene.client.head()
    await scene.client.saw(b"ok")
    if head.has(b"connection") and head.one(b"connection").lower() == b"keep-alive":
        assert head.one(b"content-length") == b"2"
        await scene.client.sends(scene.request(b"GET", b"/y", version=b"HTTP/1.0"))
        assert (await scene.asks()).target == b"/base/y"
    else:
        await scene.client.saw_clean_end()


# ── persistence and pipelining ───────────────────────────────────────────────────────────────────────────────────────


async def test_many_requests_go_over_one_connection(stage: Stage, mode: str) -> None:
    scene = await stage()
    for number in range(20):
        seen = await scene.passes(scene.request(b"POST", b"/%d" % number, body=b"n%d" % number))
        assert (seen.target, seen.body) == (b"/base/%d" % number, b"n%d" % number)
    assert len(scene.upstream.connections) == 1, "the upstream's connection was kept alive as well"


async def test_connection_close_is_obeyed(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/x", b"Connection: close"))
    seen = await scene.asks()
    assert b"close" not in b",".join(seen.all(b"connection")), "the upstream's connection is another hop"
    response = await scene.client.response()
    assert response.one(b"connection").lower() == b"close"
    await scene.client.saw_clean_end()


async def test_what_follows_connection_close_is_never_executed(stage: Stage) -> None:
    """RFC 9112 section 9.6."""
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/x", b"Connection: close") + scene.request(b"DELETE", b"/all"))
    await scene.asks()
    assert (await scene.client.response()).status == 200
    await scene.client.saw_end()
    await scene.upstream.hears_nothing()


async def test_pipelined_requests_are_answered_in_order(stage: Stage, mode: str) -> None:
    scene = await stage(peer=EchoUpstream())
    count = 30
    await scene.client.sends(b"".join(scene.request(b"POST", b"/%d" % number, body=b"x" * number) for number in range(count)))
    for number in range(count):
        response = await scene.client.response()
        assert b"POST /base/%d HTTP/1.1" % number in response.body
    assert [seen.target for seen in scene.upstream.seen] == [b"/base/%d" % number for number in range(count)]


async def test_a_pipelined_request_waits_for_the_answer_before_it(stage: Stage) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/1") + scene.request(b"GET", b"/2"))
    first = await scene.upstream.accepts()
    await first.request()
    await scene.client.saw_nothing()
    await first.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
    assert (await scene.client.response()).body == b"one"
    assert (await scene.asks()).target == b"/base/2"
    assert (await scene.client.response()).body == b"ok"


async def test_a_pipelined_request_in_pieces_is_put_together(stage: Stage) -> None:
    scene = await stage()
    second = scene.request(b"POST", b"/2", body=b"hello")
    await scene.client.sends(scene.request(b"GET", b"/1") + second[:20])
    first = await scene.upstream.accepts()
    await first.request()
    await scene.client.sends_one_by_one(second[20:-2])
    await first.sends(OK)
    assert (await scene.client.response()).body == b"ok"
    await scene.client.sends(second[-2:])
    seen = await scene.asks()
    assert (seen.target, seen.body) == (b"/base/2", b"hello")
    assert (await scene.client.response()).status == 200


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────────


TOKEN = st.text(
    alphabet="!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=12
).map(lambda text: b"x-" + text.encode())
VALUE = st.binary(max_size=30).map(lambda raw: bytes(byte for byte in raw if byte >= 0x21 and byte != 0x7F))
PATH = st.text(alphabet="abcXYZ019-._~!$&'()*+,;=:@%/?", max_size=40).map(lambda text: b"/" + text.encode())


@given(
    method=st.sampled_from([b"GET", b"POST", b"FOO", b"QUERY"]),
    path=PATH,
    fields=st.lists(st.tuples(TOKEN, VALUE), max_size=8),
    chunks=st.none() | st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    cuts=st.lists(st.integers(min_value=0, max_value=600), max_size=8),
)
async def test_a_valid_request_arrives_the_same_however_it_is_split(
    scene: Scene, method: bytes, path: bytes, fields: list[tuple[bytes, bytes]], chunks: list[bytes] | None, cuts: list[int]
) -> None:
    scene.client = await scene.sidecar.connects()
    fields = [(name, value) for name, value in fields if name.lower() not in (b"x-agent-id", b"x-agent-task-id")]
    lines = [name + b": " + value for name, value in fields]
    if chunks is None:
        raw, body = scene.request(method, path, *lines), b""
    else:
        framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        raw, body = scene.request(method, path, *lines, b"Transfer-Encoding: chunked") + framed, b"".join(chunks)
    places = sorted({0, len(raw), *(min(cut, len(raw)) for cut in cuts)})
    for start, end in pairwise(places):
        await scene.client.sends_one_by_one(raw[start:end], size=end - start)
    seen = await scene.asks()
    assert (await scene.client.response(to=method)).status == 200
    assert seen.start_line == method + b" /base" + path + b" HTTP/1.1"
    assert [field for field in own_fields(seen) if field[0].lower() not in (b"transfer-encoding", b"content-length")] == fields
    assert seen.body == body
    scene.client.close()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_request_arrives_the_same_byte_by_byte(stage: Stage, mode: str, framing: str) -> None:
    scene = await stage()
    if framing == "length":
        raw = scene.request(b"POST", b"/x?y=1", b"X-A: b", body=b"hello world")
    else:
        raw = (
            scene.request(b"POST", b"/x?y=1", b"X-A: b", b"Transfer-Encoding: chunked")
            + b"5\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n"
        )
    await scene.client.sends_one_by_one(raw)
    seen = await scene.asks()
    assert seen.start_line == b"POST /base/x?y=1 HTTP/1.1"
    assert (b"X-A", b"b") in seen.fields
    assert seen.body == b"hello world"
    assert (await scene.client.response()).body == b"ok"


async def test_a_request_arrives_the_same_split_at_any_one_byte(scene: Scene) -> None:
    raw = scene.request(b"POST", b"/x", b"X-A: b", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    for place in range(1, len(raw)):
        await scene.client.sends_one_by_one(raw[:place], size=place)
        await scene.client.sends(raw[place:])
        seen = await scene.asks()
        assert (seen.start_line, seen.body) == (b"POST /base/x HTTP/1.1", b"hello world"), f"split at {place}"
        assert (await scene.client.response()).body == b"ok"
