import socket
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.traffic.wire.inbound import _MAX_BLANK_BYTES, _NEXT_REQUEST_S
from sidecar.traffic.wire.lingering import LINGER_BYTES, LINGER_S, QUIET_S
from tests.traffic.wire.stand import CHUNKED, OK, Stand, error_of, request, status_of, turns
from tests.traffic.wire.transport import CLOSE_WAIT, FakeTransport

SetUp = Callable[..., Stand]


def answered(near: FakeTransport, far: FakeTransport) -> bytes:
    """The upstream answers, the client gets it; returns what the upstream saw."""
    seen = far.takes()
    far.says(OK)
    assert near.takes().endswith(b"ok")
    return seen


# heads


async def test_a_request_is_the_same_however_it_is_split(stand: SetUp) -> None:
    wire = stand()
    far = wire.connection()
    whole = request(b"POST", b"/llm/x", b"A: 1", body=b"hello")
    near = wire.client()
    near.says(whole)
    expected = answered(near, far).split(b"\r\ntraceparent")[0]
    for size in (1, 2, 3, 7, 20):
        near = wire.client()
        for at in range(0, len(whole), size):
            near.says(whole[at : at + size])
        assert answered(near, far).split(b"\r\ntraceparent")[0] == expected
    near = wire.client()
    for at in range(1, len(whole)):
        near.says(whole[:at])
        near.says(whole[at:])
        answered(near, far)


async def test_empty_lines_before_a_request_are_ignored(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(b"\r\n\r\n" + request())
    answered(near, far)
    near.says(b"\r")
    near.says(b"\n" + request())
    answered(near, far)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x16\x03\x01", "tls_to_plain_port"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "bad_header"),
        (b"GET /" + b"x" * 600, "url_length"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 600, "header_bytes"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 600 + b"\r\n\r\n", "header_bytes"),
        (b"GET / HTTP/9.9\r\n\r\n", "http_version"),
        (b"GET /llm/x HTTP/1.1\r\n\r\n", "bad_host"),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 10_000])
async def test_what_is_no_request_is_answered_once_and_the_rest_is_thrown_away(
    stand: SetUp, data: bytes, code: str, size: int
) -> None:
    wire = stand(listener={"max_header_bytes": 500, "max_url_bytes": 200})
    near = wire.client()
    for at in range(0, len(data), size):
        near.says(data[at : at + size])
    answer = near.takes()
    assert error_of(answer) == code
    assert answer.count(b"x-sidecar-error") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert near.has_written_eof and not near.ended
    near.says(request())
    assert near.takes() == b""
    assert wire.refused == {code: 1}
    assert wire.exchanges == []


async def test_what_is_thrown_away_has_a_bound_in_bytes_and_in_time(stand: SetUp) -> None:
    wire = stand()
    many, silent, talking = wire.client(), wire.client(), wire.client()
    for near in (many, silent, talking):
        near.says(b"\x16")
    many.says(b"x" * LINGER_BYTES)
    assert not many.ended
    many.says(b"x")
    assert many.ended == "abort"
    wire.passes(QUIET_S)
    assert not silent.ended
    talking.says(b"x")
    wire.passes(0.1)
    assert silent.ended == "abort"
    for _ in range(int(LINGER_S - QUIET_S - 0.1)):
        talking.says(b"x")
        wire.passes(1.0)
        assert not talking.ended
    talking.says(b"x")
    wire.passes(1.0)
    assert talking.ended == "abort"


async def test_lone_empty_lines_renew_no_deadline(stand: SetUp) -> None:
    wire = stand(listener={"keep_alive_timeout": 10.0}, upstream={"keep_alive_timeout": 500.0})
    far, fresh, kept = wire.connection(), wire.client(), wire.client()
    kept.says(request())
    answered(kept, far)
    for _ in range(5):
        wire.passes(1.9)
        for near in (fresh, kept):
            near.says(b"\r\n")
    assert not fresh.ended and not kept.ended
    wire.passes(0.6)
    assert (fresh.ended, kept.ended) == ("close", "close")
    assert wire.refused == {}


async def test_empty_lines_before_a_request_are_few(stand: SetUp) -> None:
    wire = stand()
    far, near, split, flood = wire.connection(), wire.client(), wire.client(), wire.client()
    for _ in range(3):  # before each request anew
        near.says(b"\r\n" * (_MAX_BLANK_BYTES // 2) + request())
        answered(near, far)
    for _ in range(_MAX_BLANK_BYTES):
        split.says(b"\n")
    assert split.takes() == b""
    split.says(b"\r")
    flood.says(b"\r\n" * 40_000 + request())
    for each in (split, flood):
        assert error_of(each.takes()) == "bad_request_line"
        assert each.has_written_eof
    assert wire.refused == {"bad_request_line": 2}
    assert far.takes() == b""


async def test_empty_lines_behind_a_request_count_for_the_next(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", body=b"x") + b"\r\n")
    answered(near, far)
    await turns()
    near.says(b"\r\n" * (_MAX_BLANK_BYTES // 2))
    assert error_of(near.takes()) == "bad_request_line"


async def test_a_head_that_does_not_come_in_time_is_refused(stand: SetUp) -> None:
    wire = stand(listener={"header_timeout": 10.0})
    near = wire.client()
    near.says(b"GET / HT")
    for _ in range(5):
        wire.passes(2.0)
        assert not near.takes()
        near.says(b"T")  # a byte now and then does not help
    wire.passes(0.1)
    assert error_of(near.takes()) == "request_timeout"


# keep-alive, pipelining


async def test_a_connection_without_a_request_is_closed_in_time(stand: SetUp) -> None:
    wire = stand(listener={"keep_alive_timeout": 75.0}, upstream={"keep_alive_timeout": 500.0})
    far, near = wire.connection(), wire.client()
    wire.passes(70.0)
    near.says(request())
    answered(near, far)
    wire.passes(75.0)
    assert not near.ended
    wire.passes(0.1)
    assert near.ended == "close"


@pytest.mark.parametrize(
    ("fields", "version", "stays"),
    [
        ((), b"1.1", True),
        ((b"Connection: close",), b"1.1", False),
        ((), b"1.0", False),
        ((b"Connection: keep-alive",), b"1.0", True),
    ],
)
async def test_the_client_says_whether_the_connection_stays(
    stand: SetUp, fields: tuple[bytes, ...], version: bytes, stays: bool
) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"GET", b"/llm/x", *fields, version=version))
    far.takes()
    far.says(OK)
    answer = near.takes()
    assert (b"\r\nConnection: close\r\n" in answer) is not stays
    assert (near.ended == "close") is not stays


async def test_pipelined_requests_are_answered_in_turn(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(path=b"/llm/1") + request(b"POST", b"/llm/2", body=b"two") + request(path=b"/llm/3")[:10])
    assert b"/base/1 " in answered(near, far)
    near.says(request(path=b"/llm/3")[10:])
    await turns()
    assert b"/base/2 " in (seen := answered(near, far)) and seen.endswith(b"two")
    await turns()
    assert b"/base/3 " in answered(near, far)
    assert [fact.path for fact in wire.exchanges] == ["/llm/1", "/llm/2", "/llm/3"]
    assert wire.is_clean


async def test_too_much_before_its_turn_is_dropped_and_the_connection_ends_after_the_answer(stand: SetUp) -> None:
    wire = stand(listener={"max_pipelined_bytes": 100})
    far, near = wire.connection(), wire.client()
    near.says(request())
    near.says(b"x" * 90)
    near.says(b"x" * 20)
    assert wire.refused == {"pipeline_bytes": 1}
    far.takes()
    far.says(OK)
    assert near.takes().endswith(b"ok")
    assert near.has_written_eof and not near.ended, "what came too early is read past, or a reset could lose the answer"
    near.says(b"x" * 20)
    wire.passes(2.1)
    assert near.ended == "abort"
    assert len(wire.exchanges) == 1


async def test_a_full_client_pauses_the_answer_to_its_next_request_too(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    near.takes_nothing = True
    far.says(OK)
    near.takes()
    assert near.is_full and far.reads
    near.says(request())
    far.takes()
    assert not far.reads, "or all of the next answer would pile up here"
    near.drains()
    assert far.reads
    answered(near, far)


async def test_a_client_that_has_gone_gets_no_further_request_answered(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request() + request(b"POST", body=b"x"))
    near.abort()  # found in the loop turn in which the first answer comes
    far.says(OK)
    far.takes()
    await turns()
    assert far.takes() == b"", "nobody is left to end this call"
    assert len(wire.exchanges) == 1
    assert wire.is_clean


async def test_a_tunnel_of_which_too_much_came_too_early_is_refused_and_not_opened_with_a_gap(stand: SetUp) -> None:
    for early in (b"Connection: Upgrade\r\nUpgrade: websocket", b""):
        wire = stand(listener={"max_pipelined_bytes": 100})
        wire.connection()
        near = wire.client()
        near.says(request(b"GET", b"/llm/x", early) if early else request(b"CONNECT", b"llm.test:8000"))
        near.says(b"x" * 90)
        near.says(b"x" * 20)
        assert error_of(near.takes()) == "pipeline_bytes"
        assert near.has_written_eof
        assert wire.refused == {"pipeline_bytes": 1}
        await turns()
        assert wire.is_clean


# bodies


async def test_a_body_is_streamed_as_it_comes(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked"))
    assert far.takes().endswith(b"\r\n\r\n")
    near.says(b"3\r\nabc\r\n")
    assert far.takes() == b"3\r\nabc\r\n"
    near.says(b"2;x\r\nde\r\n0\r\n\r\n")
    assert far.takes() == b"2\r\nde\r\n0\r\n\r\n"
    far.says(OK)
    assert near.takes().endswith(b"ok")
    assert wire.exchanges[0].request_bytes == 5
    assert wire.attempts[0].sent_bytes == 5


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_bad_chunk_ends_the_call_and_the_connection(stand: SetUp, at_once: bool) -> None:
    wire = stand()
    wire.connection()
    near = wire.client()
    head = request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked")
    if at_once:
        near.says(head + b"nonsense\r\n")
    else:
        near.says(head)
        near.says(b"nonsense\r\n")
    answer = near.takes()
    assert error_of(answer) == "bad_chunk"
    assert b"\r\nConnection: close\r\n" in answer
    assert near.has_written_eof
    assert wire.exchanges[0].error == "bad_chunk"
    assert wire.is_clean


@pytest.mark.parametrize(
    "pieces",
    [
        [request(b"POST", b"/llm/x", body=b"x" * 11)],
        [request(b"POST", b"/llm/x", b"Content-Length: 11")],
        [request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked") + b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n"],
        [request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked"), b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n"],
        [request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked") + b"6\r\nxxxxxx\r\n", b"5\r\nxxxxx\r\n"],
    ],
)
async def test_a_body_has_a_bound_where_the_config_sets_one(stand: SetUp, pieces: list[bytes]) -> None:
    wire = stand(listener={"max_body_bytes": 10})
    wire.connection()
    near = wire.client()
    for piece in pieces:
        near.says(piece)
    answer = near.takes()
    assert error_of(answer) == "body_bytes"
    assert b"\r\nConnection: close\r\n" in answer
    assert wire.is_clean


async def test_a_body_of_just_that_size_passes(stand: SetUp) -> None:
    wire = stand(listener={"max_body_bytes": 10})
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", body=b"x" * 10))
    answered(near, far)
    near.says(request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked") + b"a\r\n" + b"x" * 10 + b"\r\n0\r\n\r\n")
    answered(near, far)


async def test_a_refused_request_is_read_past_where_that_is_possible(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/nowhere", body=b"hello") + request())
    assert error_of(near.takes()) == "route_unknown"
    await turns()
    answered(near, far)
    near.says(request(b"POST", b"/nowhere", b"Content-Length: 100"))
    assert error_of(near.takes()) == "route_unknown"
    assert near.has_written_eof, "its body has not come, so there is no next request"
    near.says(b"GET /llm/x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert near.takes() == b"" and far.takes() == b""


async def test_a_refused_request_with_a_broken_body_ends_the_connection(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(request(b"POST", b"/nowhere", b"Transfer-Encoding: chunked") + b"nonsense\r\n")
    answer = near.takes()
    assert error_of(answer) == "route_unknown"
    assert b"\r\nConnection: close\r\n" in answer


@settings(max_examples=25)
@given(st.data())
async def test_conversations_are_the_same_however_they_are_split(data: st.DataObject) -> None:
    wire = Stand()
    far, near = wire.connection(), wire.client()
    bodies = data.draw(st.lists(st.one_of(st.none(), st.binary(max_size=30)), min_size=1, max_size=4))
    talk = b""
    for number, body in enumerate(bodies):
        path = b"/llm/%d" % number
        if body and data.draw(st.booleans()):
            talk += request(b"POST", path, b"Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            talk += request(b"GET" if body is None else b"POST", path, body=body)
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(talk)), max_size=10))), len(talk)]
    heard = b""
    for start, end in pairwise(edges):
        if start < end:
            near.says(talk[start:end])
        await turns(3)
        heard += far.takes()
    for number, body in enumerate(bodies):
        await turns(3)
        heard += far.takes()
        assert b"/base/%d HTTP/1.1" % number in heard
        if number + 1 < len(bodies):
            assert b"/base/%d HTTP/1.1" % (number + 1) not in heard, "one after the other"
        far.says(OK)
        assert near.takes().endswith(b"ok")
        assert wire.exchanges[number].request_bytes == len(body or b"")
    assert wire.is_clean
    await wire.stops()


# the client goes


@pytest.mark.parametrize("how", ["eof", "lost"])
async def test_a_client_that_goes_while_it_is_owed_an_answer_ends_the_call(stand: SetUp, how: str) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    if how == "eof":
        near.half_closes()
    else:
        near.breaks(ConnectionResetError())
    assert far.ended == "abort"
    assert [fact.error for fact in wire.exchanges] == [fact.error for fact in wire.attempts] == ["client_gone"]
    await turns()
    assert len(wire.exchanges) == 1
    assert wire.is_clean


async def test_an_answer_that_is_complete_goes_out_before_the_connection_closes(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.says(OK)
    near.half_closes()  # in the same loop turn
    assert near.written.endswith(b"ok")
    assert wire.exchanges[0].error == ""


async def test_a_client_that_goes_between_requests_is_no_error(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.half_closes()
    await turns()
    assert near.ended == "close"
    assert not wire.exchanges and not wire.refused
    assert not wire.listener._connections


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the kernel does not tell")
@pytest.mark.parametrize("is_gone", [True, False])
async def test_a_paused_client_that_hangs_up_is_found_by_asking_the_kernel(stand: SetUp, is_gone: bool) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Content-Length: 1000"))
    far.takes_nothing = True
    near.says(b"x" * 500)
    far.takes()
    assert not near.reads
    wire.ticks()
    assert not near.ended
    assert near.sock is not None
    if is_gone:
        near.sock.is_gone = True
    else:
        near.sock.state = CLOSE_WAIT
    wire.ticks()
    assert near.ended
    assert wire.exchanges[0].error == "client_gone"
    assert wire.is_clean


async def test_a_paused_client_without_a_socket_is_believed(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Content-Length: 1000"))
    far.takes_nothing = True
    near.says(b"x" * 500)
    far.takes()
    near.sock = None
    wire.ticks()
    assert not near.ended
    far.drains()
    assert near.reads


# draining


async def test_draining_closes_what_is_idle_and_lets_the_rest_end(stand: SetUp) -> None:
    wire = stand()
    far, busy, idle = wire.connection(), wire.client(), wire.client()
    busy.says(request())
    far.takes()
    wire.passes(2.0)
    for inbound in tuple(wire.listener._connections):
        inbound.drain()
    assert idle.ended == "close" and not busy.ended
    far.says(OK)
    answer = busy.takes()
    assert b"\r\nConnection: close\r\n" in answer and answer.endswith(b"ok")
    assert busy.ended == "close"


async def test_while_draining_a_new_connection_gets_one_answer(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    wire.listener.is_draining = True
    near.says(request())
    far.takes()
    far.says(OK)
    assert b"\r\nConnection: close\r\n" in near.takes()
    idle = wire.client()
    wire.passes(_NEXT_REQUEST_S)
    assert not idle.ended, "its request may be on the way"
    wire.passes(0.1)
    assert idle.ended == "close"


async def test_draining_lets_a_client_that_has_just_connected_say_what_it_wants(stand: SetUp) -> None:
    wire = stand()
    far, late, kept = wire.connection(), wire.client(), wire.client()
    kept.says(request())
    answered(kept, far)
    wire.passes(5.0)
    fresh, begun, slow = wire.client(), wire.client(), wire.client()
    begun.says(request()[:9])
    wire.listener.is_draining = True
    for inbound in tuple(wire.listener._connections):
        inbound.drain()
    assert (late.ended, kept.ended) == ("close", "close"), "neither is likely to have a request on the way"
    for near, data in ((fresh, request()), (begun, request()[9:])):
        assert not near.ended
        near.says(data)
        assert b"/base/x" in far.takes()
        far.says(OK)
        assert b"\r\nConnection: close\r\n" in near.takes()
        assert near.ended == "close"
    wire.passes(_NEXT_REQUEST_S + 0.1)
    assert slow.ended == "close"


async def test_draining_takes_no_answer_from_a_client_that_is_being_refused(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(b"\x16")
    for inbound in tuple(wire.listener._connections):
        inbound.drain()
    assert near.has_written_eof and not near.ended


async def test_what_is_cut_at_the_end_says_so_where_it_can(stand: SetUp) -> None:
    wire = stand()
    far, other = wire.connection(), wire.connection()
    asking, streaming, idle = wire.client(), wire.client(), wire.client()
    asking.says(request())
    streaming.says(request())
    for each in (far, other):
        each.takes()
        if each.protocol.sink is streaming.protocol.call:
            each.says(CHUNKED + b"2\r\nok\r\n")
    for near in (asking, streaming):
        near.protocol.drain()
    for inbound in tuple(wire.listener._connections):
        inbound.cut()
    answer = asking.takes()
    assert (status_of(answer), error_of(answer)) == (503, "draining")
    assert streaming.takes().endswith(b"2\r\nok\r\n")
    assert (asking.ended, streaming.ended, idle.ended) == ("close", "close", "abort")
    assert {fact.error for fact in wire.exchanges} == {"draining"}
    assert wire.is_clean


async def test_a_client_that_stays_full_is_given_up(stand: SetUp) -> None:
    wire = stand(listener={"idle_timeout": 300.0})
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    near.takes_nothing = True
    far.says(CHUNKED + b"2\r\nok\r\n")
    near.takes()
    assert not far.reads
    wire.passes(200.0)
    near.buffered -= 5  # it takes a little: it is slow, but there
    wire.passes(200.0)
    assert not near.ended
    wire.passes(301.0)
    assert near.ended == "reset", "a close would wait for ever for what is not taken"
    assert wire.exchanges[0].error == "client_stalled"
    assert wire.is_clean


async def test_a_connection_without_a_peer_name_has_none(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    assert near.protocol.client == "127.0.0.1:50000"
    assert near.protocol.exchange is None
    near.says(request())
    assert near.protocol.exchange is not None


async def test_a_closed_connection_whose_client_takes_nothing_is_given_up(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"GET", b"/llm/x", b"Connection: close"))
    far.takes()
    near.takes_nothing = True
    far.says(OK)
    assert near.is_closing()
    started_s = wire.listener.now()
    for passed_s in (0.0, 9.0):  # the transport of a test is gone by now; a real one waits for its bytes to be taken
        near.protocol.tick(started_s + passed_s)
        assert near.sock is not None and near.sock.lingers
    near.protocol.tick(started_s + 11.0)
    assert not near.sock.lingers, "it was reset"


async def test_much_in_one_turn_is_written_at_once_so_that_a_full_client_is_noticed(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    near.takes_nothing = True
    far.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 8192)
    assert near.is_full
    assert not far.reads, "the upstream is paused within the very read"


async def test_nothing_is_remembered_for_a_connection_that_ends_with_its_request(stand: SetUp) -> None:
    wire = stand()
    once, kept = wire.client(), wire.client()
    once.says(request(b"GET", b"/llm/x", b"Connection: close"))
    kept.says(request())
    assert once.protocol._ready is None
    assert kept.protocol._ready is not None


async def test_a_client_that_was_answered_just_now_is_not_closed_under_its_next_request(stand: SetUp) -> None:
    wire = stand()
    far, busy, idle = wire.connection(), wire.client(), wire.client()
    for near in (idle, busy):
        near.says(request())
        far.takes()
        far.says(OK)
        near.takes()
        if near is idle:
            wire.passes(_NEXT_REQUEST_S + 0.1)
    wire.listener.is_draining = True
    for inbound in tuple(wire.listener._connections):
        inbound.drain()
    assert idle.ended == "close"
    assert busy.ended == ""
    busy.says(request())
    far.takes()
    far.says(OK)
    assert b"\r\nConnection: close\r\n" in busy.takes()
    assert busy.ended == "close"
