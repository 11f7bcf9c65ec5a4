import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange, Outcome
from sidecar.traffic.chain import Forward, Stage
from sidecar.traffic.response import Response
from sidecar.traffic.wire.body import Body, ChunkedBody, LengthBody
from sidecar.traffic.wire.call import UPLOAD_WINDOW_BYTES
from tests.peers.raw import RawUpstream
from tests.sidecar_under_test import SidecarUnderTest, config_for
from tests.traffic.wire.stand import (
    CHUNKED,
    OK,
    UNTIL_CLOSE,
    Held,
    Holds,
    Stand,
    error_of,
    filtering,
    guard,
    request,
    status_of,
    turns,
)
from tests.traffic.wire.transport import FakeTransport

SetUp = Callable[..., Stand]
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"


async def passing(exchange: Exchange, forward: Forward) -> Response:
    return await forward(exchange)


class Waits:
    """A filter that waits for its gate before it goes on, and again for the second before it gives the response."""

    def __init__(self) -> None:
        self.before, self.after = asyncio.Event(), asyncio.Event()
        self.after.set()
        self.was_cancelled = False

    async def __call__(self, exchange: Exchange, forward: Forward) -> Response:
        try:
            await self.before.wait()
            response = await forward(exchange)
            await self.after.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return response

    def policy(self) -> Any:
        async def waits(exchange: Exchange, forward: Forward) -> Response:
            return await self(exchange, forward)

        return filtering(waits)


async def goes(near: FakeTransport, data: bytes) -> None:
    near.says(data)
    await turns()


# the plain way through


@pytest.mark.parametrize("answer", [OK, OK[:-1], CHUNKED + b"2\r\nok\r\n0\r\n\r\n", UNTIL_CLOSE + b"ok"])
async def test_a_filter_that_does_nothing_changes_nothing_of_the_content(stand: SetUp, answer: bytes) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", body=b"hello"))
    assert far.takes().endswith(b"hello")
    far.says(answer)
    await turns()
    if answer == OK[:-1]:
        far.says(b"k")
    if answer.startswith(UNTIL_CLOSE):
        far.half_closes()
    head, _, body = near.takes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == (b"ok" if b"Content-Length" in head else b"2\r\nok\r\n0\r\n\r\n")
    assert (wire.exchanges[0].status, wire.exchanges[0].error, wire.exchanges[0].response_bytes) == (200, "", 2)
    await turns()
    assert wire.is_clean


async def test_a_connection_that_brought_a_whole_answer_can_be_used_again(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    for number in range(3):
        await goes(near, request(path=b"/llm/%d" % number))
        assert b"/base/%d " % number in far.takes()
        far.says(OK)  # in one piece: paused at its head, and free again at its end
        await turns()
        assert near.takes().endswith(b"ok")
    assert wire.pool.open_count == 1


async def test_the_upstream_waits_until_the_filters_have_decided(stand: SetUp) -> None:
    waits = Waits()
    waits.before.set()
    waits.after.clear()
    wire = stand(waits.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(CHUNKED + b"2\r\nab\r\n")
    await turns()
    assert not far.reads
    assert near.takes() == b""
    waits.after.set()
    await turns()
    assert near.takes().endswith(b"\r\n\r\n2\r\nab\r\n")
    assert far.reads
    far.says(b"1\r\nc\r\n")
    assert near.takes() == b"1\r\nc\r\n"
    far.says(b"0\r\n\r\n")
    assert near.takes() == b"0\r\n\r\n"
    assert wire.is_clean


async def test_an_upstream_that_fails_while_a_filter_holds_its_response_is_told_when_that_is_returned(stand: SetUp) -> None:
    waits = Waits()
    waits.before.set()
    waits.after.clear()
    wire = stand(waits.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(CHUNKED)
    await turns()
    far.breaks(ConnectionResetError())
    await turns()
    assert [fact.error for fact in wire.attempts] == ["upstream_cut"]
    assert near.takes() == b"", "the filter may be about to try again"
    waits.after.set()
    await turns()
    assert error_of(near.takes()) == "upstream_cut"
    assert wire.is_clean


# filters that wait


async def test_a_filter_may_wait_and_content_waits_with_it(stand: SetUp) -> None:
    waits = Waits()
    wire = stand(waits.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 9") + b"abc")
    near.says(b"def")
    assert far.takes() == b""
    waits.before.set()
    await turns()
    assert far.takes().endswith(b"\r\n\r\nabcdef")
    near.says(b"ghi")
    assert far.takes() == b"ghi"
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert wire.exchanges[0].request_bytes == 9


async def test_a_client_is_paused_while_a_filter_waits_and_the_window_is_full(stand: SetUp) -> None:
    waits = Waits()
    wire = stand(waits.policy())
    far, near = wire.connection(), wire.client()
    size = UPLOAD_WINDOW_BYTES + 10
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: %d" % (size + 5)))
    near.says(b"x" * (size - 20))
    assert near.reads
    near.says(b"x" * 20)
    assert not near.reads
    waits.before.set()
    await turns()
    assert near.reads
    assert len(far.takes()) > size
    near.says(b"yyyyy")
    assert far.takes() == b"yyyyy"


@pytest.mark.parametrize("how", ["eof", "lost", "stop", "cut"])
async def test_a_call_that_ends_while_a_filter_waits_ends_the_filter(stand: SetUp, how: str) -> None:
    waits = Waits()
    wire = stand(waits.policy())
    near = wire.client()
    await goes(near, request())
    match how:
        case "eof":
            near.half_closes()
        case "lost":
            near.breaks(ConnectionResetError())
        case "stop":
            wire.listener.exchanges()[0].stop("enough")
        case _:
            near.protocol.cut()
    await turns()
    assert waits.was_cancelled
    assert [fact.error for fact in wire.exchanges] == [{"stop": "stopped", "cut": "draining"}.get(how, "client_gone")]
    assert wire.attempts == []
    assert wire.is_clean


async def test_a_client_that_goes_while_the_answer_is_awaited_ends_filter_and_upstream(stand: SetUp) -> None:
    waits = Waits()
    waits.before.set()
    wire = stand(waits.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    near.half_closes()
    assert far.ended == "abort"
    await turns()
    assert waits.was_cancelled
    assert [fact.error for fact in wire.attempts] == ["client_gone"]
    assert wire.is_clean


# filters that answer


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
async def test_a_filter_may_answer_itself(stand: SetUp, method: bytes) -> None:
    async def answers(exchange: Exchange, forward: Forward) -> Response:
        return Response(
            418, "Teapot", [b"Content-Type: text/plain", b"Content-Length: 99", b"transfer-encoding: chunked"], b"short"
        )

    wire = stand(filtering(answers))
    near = wire.client()
    await goes(near, request(method, b"/llm/x", body=b"hello" if method == b"POST" else None))
    head, _, body = near.takes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 418 Teapot\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nVia: 1.1 ")
    assert b"\r\nDate: " in head
    assert body == (b"" if method == b"HEAD" else b"short")
    assert wire.attempts == []
    assert (wire.exchanges[0].status, wire.exchanges[0].response_bytes) == (418, 0 if method == b"HEAD" else 5)
    assert wire.exchanges[0].first_byte_s > 0
    assert not near.ended
    assert wire.is_clean


async def test_a_filters_own_date_and_stages_are_respected(stand: SetUp) -> None:
    async def answers(exchange: Exchange, forward: Forward) -> Response:
        response = Response(200, "OK", [b"date: then"], b"short")
        response.through(Shout())
        return response

    wire = stand(filtering(answers))
    near = wire.client()
    await goes(near, request())
    answer = near.takes()
    assert answer.lower().count(b"\r\ndate:") == 1
    assert b"\r\nContent-Length: 6\r\n" in answer and answer.endswith(b"SHORT!")


async def test_a_filter_may_answer_in_place_of_the_upstream(stand: SetUp) -> None:
    async def covers(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        return Response(200, "OK", [], b"cached") if response.status == 503 else response

    wire = stand(filtering(covers))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(BUSY[:-2])
    await turns()
    assert near.takes().endswith(b"cached")
    assert far.ended == "abort", "nobody reads the rest"
    assert [fact.status for fact in wire.attempts] == [503]
    assert wire.is_clean


# filters that repeat


def retrying(tries: int = 3, *, drops: bool = True) -> Any:
    async def retry(exchange: Exchange, forward: Forward) -> Response:
        for number in range(tries):
            try:
                response = await forward(exchange)
            except UpstreamFailed:
                if number == tries - 1:
                    raise
                continue
            if response.status != 503 or number == tries - 1:
                return response
            if drops:
                response.drop()
                response.drop()
        raise AssertionError

    return filtering(retry)


async def test_a_filter_may_try_again_after_a_failure(stand: SetUp) -> None:
    wire = stand(retrying())
    near = wire.client()
    await goes(near, request(b"POST", b"/llm/x", body=b"hello"))
    await wire.does_not_connect(OSError("no"))
    far = await wire.connects()
    assert far.takes().endswith(b"hello")
    far.breaks()
    await turns()
    again = await wire.connects()
    assert again.takes().endswith(b"hello")
    again.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert [(fact.error, fact.resends) for fact in wire.attempts] == [("connect_failed", 0), ("upstream_closed", 1), ("", 2)]
    assert len({fact.span_id for fact in wire.attempts}) == 3
    assert (wire.exchanges[0].attempts, wire.exchanges[0].error) == (3, "")
    assert wire.is_clean


async def test_the_last_failure_is_the_answer(stand: SetUp) -> None:
    wire = stand(retrying(2))
    near = wire.client()
    await goes(near, request())
    for _ in range(2):
        await wire.does_not_connect(OSError("no"))
    assert error_of(near.takes()) == "connect_failed"
    assert wire.exchanges[0].attempts == 2
    assert wire.is_clean


@pytest.mark.parametrize("drops", [True, False])
@pytest.mark.parametrize("busy", [BUSY, BUSY[:-2]])
async def test_a_filter_may_drop_a_response_and_try_another(stand: SetUp, drops: bool, busy: bytes) -> None:
    wire = stand(retrying(drops=drops))
    far, other, near = wire.connection(), wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", body=b"hello"))
    assert far.takes() == b""
    other.takes()
    other.says(busy)
    await turns()
    (second,) = [each for each in (far, other) if not each.ended and each.takes()]
    second.says(OK)
    await turns()
    answer = near.takes()
    assert status_of(answer) == 200 and answer.endswith(b"ok") and b"busy" not in answer
    assert [fact.status for fact in wire.attempts] == [503, 200]
    assert wire.is_clean


async def test_an_attempts_deadline_is_the_filters_to_hear(stand: SetUp) -> None:
    wire = stand(retrying(2), upstream={"first_byte_timeout": 10.0, "keep_alive_timeout": 500.0})
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    wire.passes(10.1)
    await turns()
    again = await wire.connects()
    again.takes()
    again.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert [fact.error for fact in wire.attempts] == ["first_byte_timeout", ""]


async def test_a_body_that_was_streamed_cannot_be_sent_again(stand: SetUp) -> None:
    wire = stand(retrying())
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 10") + b"hello")
    assert far.takes().endswith(b"hello")
    near.says(b"world")
    far.breaks()
    await turns()
    answer = near.takes()
    assert (status_of(answer), error_of(answer)) == (502, "body_gone")
    assert wire.is_clean


async def test_a_body_that_is_still_coming_cannot_be_sent_again(stand: SetUp) -> None:
    wire = stand(retrying())
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 10") + b"hello")
    far.takes()
    far.breaks()
    await turns()
    assert error_of(near.takes()) == "body_gone"
    assert near.has_written_eof
    assert wire.is_clean


async def test_a_response_that_was_dropped_cannot_be_returned(stand: SetUp, caplog: pytest.LogCaptureFixture) -> None:
    async def forgets(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        response.drop()
        return response

    wire = stand(filtering(forgets))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(BUSY[:-2])
    await turns()
    assert error_of(near.takes()) == "policy_failed"
    assert "dropped" in caplog.text
    assert wire.is_clean


# stages


class Shout:
    """Upper case, and an exclamation mark at the end."""

    def data(self, chunk: bytes) -> bytes:
        return chunk.upper()

    def end(self, error: str) -> bytes:
        return b"!"


async def shouting(exchange: Exchange, forward: Forward) -> Response:
    response = await forward(exchange)
    response.fields.append(b"X-Loud: yes")
    response.through(Shout())
    return response


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", CHUNKED + b"4\r\nabcd\r\n0\r\n\r\n"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("size", [1, 1000])
async def test_a_stage_changes_the_body_whatever_its_length_was(stand: SetUp, answer: bytes, version: bytes, size: int) -> None:
    wire = stand(filtering(shouting))
    far, near = wire.connection(), wire.client()
    await goes(near, request(version=version))
    far.takes()
    for at in range(0, len(answer), size):
        far.says(answer[at : at + size])
        await turns()
    head, _, body = near.takes().partition(b"\r\n\r\n")
    assert b"\r\nX-Loud: yes\r\n" in head and b"Content-Length" not in head
    if version == b"1.0":
        assert body == b"ABCD!" and b"chunked" not in head
        assert near.ended == "close"
    else:
        content = b""
        while (line := body.partition(b"\r\n"))[0] != b"0":
            count = int(line[0], 16)
            content, body = content + line[2][:count], line[2][count + 2 :]
        assert content == b"ABCD!" and body == b"0\r\n\r\n"
    assert wire.exchanges[0].error == ""


async def test_stages_stand_one_behind_the_other_and_may_hold_back(stand: SetUp) -> None:
    async def both(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        response.through(Shout())
        response.through(Holds())
        return response

    wire = stand(filtering(both))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(CHUNKED + b"2\r\nab\r\n")
    await turns()
    assert near.takes().endswith(b"\r\n\r\n")
    far.says(b"2\r\ncd\r\n0\r\n\r\n")
    await turns()
    body = near.takes()
    assert b"ABCD" in body.replace(b"\r\n", b"") and body.endswith(b"0\r\n\r\n")


async def test_an_answer_without_a_body_stays_without_one(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"HEAD"))
    far.says(OK[:-2])
    await turns()
    answer = near.takes()
    assert b"\r\nContent-Length: 2\r\n" in answer and answer.endswith(b"\r\n\r\n")
    await goes(near, request())
    far.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    await turns()
    assert status_of(near.takes()) == 204
    assert wire.is_clean


async def test_a_cut_after_the_head_is_never_ended_cleanly(stand: SetUp) -> None:
    wire = stand(filtering(shouting))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(CHUNKED + b"2\r\nab\r\n")
    await turns()
    far.breaks(ConnectionResetError())
    got = near.takes()
    assert got.endswith(b"2\r\nAB\r\n1\r\n!\r\n"), "what the stage has left, and no last chunk"
    assert near.ended == "close"
    assert wire.exchanges[0].error == "upstream_cut"


# filters that fail


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Refused("destination_denied", "no"), "destination_denied"), (ValueError("broken"), "policy_failed"), (asyncio.CancelledError(), "policy_failed"), (TimeoutError(), "policy_failed")],
)  # fmt: skip
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_filter_that_raises_ends_the_call_and_nobody_hangs(
    stand: SetUp, fault: BaseException, code: str, when: str
) -> None:
    async def raises(exchange: Exchange, forward: Forward) -> Response:
        if when == "after":
            await forward(exchange)
        raise fault

    wire = stand(filtering(raises))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    if when == "after":
        far.takes()
        far.says(OK[:-1])
        await turns()
        assert far.ended == "abort"
    assert error_of(near.takes()) == code
    assert wire.exchanges[0].error == code
    assert not near.ended
    assert wire.is_clean


async def test_a_filter_that_gives_no_response_is_our_failure(stand: SetUp, caplog: pytest.LogCaptureFixture) -> None:
    async def nothing(exchange: Exchange, forward: Forward) -> Any:
        return None

    wire = stand(filtering(nothing))
    near = wire.client()
    await goes(near, request())
    assert status_of(near.takes()) == 500
    assert wire.is_clean


async def test_a_call_that_is_refused_before_the_filters_never_asks_them(stand: SetUp) -> None:
    asked: list[Exchange] = []

    async def asks(exchange: Exchange, forward: Forward) -> Response:
        asked.append(exchange)
        return await forward(exchange)

    wire = stand(filtering(asks), listener={"max_body_bytes": 10})
    near = wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 11"))
    assert error_of(near.takes()) == "body_bytes"
    near = wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked") + b"nonsense\r\n")
    assert error_of(near.takes()) == "bad_chunk"
    assert asked == []


# with guards and permits


@pytest.mark.parametrize("how", ["success", "refused", "broken"])
async def test_each_attempt_has_permits_of_its_own(stand: SetUp, how: str) -> None:
    told: list[tuple[str, Outcome]] = []

    def taking(attempt: Attempt) -> None:
        attempt.holds(Held(told, f"a{attempt.resends}"))
        if attempt.resends and how == "refused":
            raise Refused("destination_denied")
        if attempt.resends and how == "broken":
            raise ValueError("broken")

    holding = guard(lambda exchange: exchange.holds(Held(told, "e")), Stage.KILL_SWITCH, "e")
    wire = stand(holding, retrying(2), guard(taking))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(BUSY)
    await turns()
    if how == "success":
        assert [name for name, _ in told] == ["a0"]
        far.takes()
        far.says(OK)
        await turns()
    assert [name for name, _ in told] == ["a0", "a1", "e"]
    code = {"success": "", "refused": "destination_denied", "broken": "policy_failed"}[how]
    assert [(one.status, one.error) for _, one in told] == [
        (503, ""), (200 if how == "success" else 0, code), ({"": 200, "destination_denied": 403, "policy_failed": 500}[code], code),
    ]  # fmt: skip
    assert wire.is_clean


async def test_a_filter_below_the_attempt_gets_the_attempt(stand: SetUp) -> None:
    seen: list[Any] = []

    async def inner(attempt: Attempt, forward: Forward) -> Response:
        seen.append(attempt)
        return await forward(attempt)

    wire = stand(filtering(inner, Stage.CHAOS))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert isinstance(seen[0], Attempt) and seen[0].settled


async def test_expect_is_answered_for_a_filtered_call_too(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Expect: 100-continue", b"Content-Length: 5"))
    wire.passes(1.1)
    assert near.takes() == b"HTTP/1.1 100 Continue\r\n\r\n"
    near.says(b"hello")
    assert far.takes().endswith(b"hello")
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")


# every stage hears its ending


class Watched:
    """A stage that writes down what it hears, and raises where it is told to: at the nth chunk, or at the end."""

    def __init__(self, *, breaks: str = "", fault: BaseException | None = None, adds: bytes = b"") -> None:
        self.breaks = breaks
        self.fault = fault or ValueError("broken")
        self.adds = adds
        self.chunks: list[bytes] = []
        self.endings: list[str] = []

    def data(self, chunk: bytes) -> bytes:
        assert not self.endings, "nothing may come after the end"
        self.chunks.append(chunk)
        if self.breaks == f"data {len(self.chunks)}":
            raise self.fault
        return chunk

    def end(self, error: str) -> bytes:
        self.endings.append(error)
        if self.breaks == "end":
            raise self.fault
        return self.adds


def watching(stage: Watched) -> Any:
    async def watches(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        response.through(stage)
        return response

    return filtering(watches, name="watches")


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("whole", ""), ("cut", "upstream_cut"), ("malformed", "upstream_malformed"), ("idle", "idle_timeout"),
        ("stalled", "client_stalled"), ("gone", "client_gone"), ("lost", "client_gone"), ("stop", "stopped"),
        ("drain", "draining"),
    ],
)  # fmt: skip
async def test_a_stage_hears_its_ending_once_however_the_response_ends(stand: SetUp, how: str, error: str) -> None:
    stage = Watched()
    wire = stand(watching(stage), upstream={"idle_timeout": 5.0}, listener={"idle_timeout": 5.0})
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    near.takes_nothing = how == "stalled"
    far.says(CHUNKED + b"2\r\nab\r\n")
    await turns()
    assert stage.endings == []
    match how:
        case "whole":
            far.says(b"0\r\n\r\n")
        case "cut":
            far.breaks()
        case "malformed":
            far.says(b"nonsense\r\n")
        case "idle":
            wire.passes(5.1)
        case "stalled":
            wire.passes(5.1)
            wire.passes(5.1)
        case "gone":
            near.half_closes()
        case "lost":
            near.breaks()
        case "stop":
            wire.listener.exchanges()[0].stop("enough")
        case _:
            await wire.listener.drain(0)
    await turns()
    assert stage.endings == [error]
    assert [fact.error for fact in wire.exchanges] == [fact.error for fact in wire.attempts] == [error]
    await wire.listener.stop()
    assert stage.endings == [error]


@pytest.mark.parametrize("how", ["replaced", "dropped", "raises", "upstream", "gone", "timeout", "stop"])
async def test_a_stage_of_a_response_that_is_never_delivered_hears_its_ending_once(stand: SetUp, how: str) -> None:
    received, made = Watched(), Watched()

    async def inner(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        response.through(received)
        if how == "replaced":
            response = Response(203, "", [], b"other")
            response.through(made)
        return response

    async def outer(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        if how == "dropped":
            response.drop()
        if how == "raises":
            raise ValueError("broken")
        if how in ("replaced", "dropped"):
            return Response(200, "OK", [], b"own")
        await asyncio.Event().wait()
        raise AssertionError

    wire = stand(filtering(outer, Stage.RECORD, "outer"), filtering(inner), route={"policy_timeout": 9.0})
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(CHUNKED)
    await turns()
    match how:
        case "upstream":
            far.breaks()
        case "gone":
            near.breaks()
        case "timeout":
            wire.passes(9.1)
        case "stop":
            wire.listener.exchanges()[0].stop("enough")
    code = {
        "replaced": "given_up", "dropped": "given_up", "raises": "policy_failed", "upstream": "upstream_cut", "gone": "client_gone",
        "timeout": "policy_timeout", "stop": "stopped",
    }[how]  # fmt: skip
    assert received.endings == [code]
    assert made.endings == (["given_up"] if how == "replaced" else [])
    if how == "upstream":
        near.breaks()
    await turns()
    assert len(received.endings) == 1
    assert wire.is_clean


async def test_a_stage_on_an_answer_of_a_filters_own_hears_its_ending_too(stand: SetUp) -> None:
    stage = Watched(adds=b"!")

    async def answers(exchange: Exchange, forward: Forward) -> Response:
        response = Response(200, "OK", [], b"own")
        response.through(stage)
        return response

    wire = stand(filtering(answers))
    near = wire.client()
    await goes(near, request())
    assert near.takes().endswith(b"\r\n\r\nown!")
    assert (stage.chunks, stage.endings) == ([b"own"], [""])


async def test_a_stage_comes_before_the_response_is_on_its_way(stand: SetUp) -> None:
    kept: list[Response] = []

    async def keeps(exchange: Exchange, forward: Forward) -> Response:
        kept.append(await forward(exchange))
        return kept[0]

    wire = stand(filtering(keeps))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(OK[:-1])
    await turns()
    with pytest.raises(RuntimeError):
        kept[0].through(Watched())
    far.says(b"k")
    assert near.takes().endswith(b"ok")
    late = Watched()
    kept[0].through(late)
    assert late.endings == [""], "it is told at once"


# stages that fail


@pytest.mark.parametrize("fault", [ValueError("broken"), asyncio.CancelledError()])
@pytest.mark.parametrize("breaks", ["data 1", "data 2", "end"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_stage_that_raises_refuses_the_call_or_cuts_it(
    stand: SetUp, breaks: str, fault: BaseException, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage, other = Watched(breaks=breaks, fault=fault), Watched()
    both = filtering(passing, name="passing")
    wire = stand(watching(stage), both)

    async def adds(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        response.through(other)
        return response

    wire = stand(filtering(adds, Stage.RECORD, "adds"), watching(stage))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    pieces = [CHUNKED + b"2\r\nab\r\n", b"2\r\ncd\r\n", b"0\r\n\r\n"]
    if at_once and breaks != "data 2":
        far.says(b"".join(pieces))
        await turns()
    else:
        for piece in pieces:
            if not far.ended:
                far.says(piece)
                await turns()
    answer = near.takes()
    if breaks == "data 1" or (breaks == "end" and at_once):
        assert (status_of(answer), error_of(answer)) == (500, "policy_failed")
        assert not near.ended, "nothing was written, so the client may go on"
    else:
        assert answer.endswith(b"2\r\nab\r\n" if breaks == "data 2" else b"2\r\ncd\r\n")
        assert near.ended == "close"
    assert len(stage.endings) == 1
    assert other.endings == ["policy_failed"]
    assert [fact.error for fact in wire.exchanges] == ["policy_failed"]
    assert len(wire.attempts) == 1
    assert wire.refused == {"policy_failed": 1}
    assert far.ended == ("" if breaks == "end" or (at_once and breaks == "data 1") else "abort")
    assert "a stage failed: Watched" in caplog.text
    await turns()
    assert wire.is_clean
    if not far.ended:
        near = wire.client()
        stage.breaks, stage.endings, other.endings = "", [], []
        await goes(near, request())
        far.takes()
        far.says(OK)
        await turns()
        assert b"ok" in near.takes(), "the connection was clean when it went back"


async def test_a_stage_that_fails_when_the_client_has_gone_is_counted(stand: SetUp) -> None:
    stage = Watched(breaks="end")
    wire = stand(watching(stage))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(CHUNKED)
    await turns()
    near.breaks()
    assert [fact.error for fact in wire.exchanges] == ["client_gone"]
    assert [family.name for family in wire.runtime.metrics if family.name == "traffic.stages.failures"]
    await turns()
    assert wire.is_clean


@pytest.mark.parametrize("when", ["data 1", "data 2", "end"])
@pytest.mark.parametrize("how", ["refuses", "stops"])
async def test_a_stage_may_end_the_call_with_a_code_of_its_own(stand: SetUp, when: str, how: str) -> None:
    class Budget(Watched):
        def _spend(self, now: str) -> None:
            if now == when and how == "stops":
                wire.listener.exchanges()[0].stop("the budget is used up")
            elif now == when:
                raise Refused("stopped", "the budget is used up")

        def data(self, chunk: bytes) -> bytes:
            super().data(chunk)
            self._spend(f"data {len(self.chunks)}")
            return chunk

        def end(self, error: str) -> bytes:
            super().end(error)
            self._spend("end")
            return b"sorry" if error else b""

    stage = Budget()
    wire = stand(watching(stage))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    for piece in (CHUNKED + b"2\r\nab\r\n", b"2\r\ncd\r\n", b"0\r\n\r\n"):
        if not far.ended:
            far.says(piece)
            await turns()
    answer = near.takes()
    if when == "data 1":
        assert error_of(answer) == "stopped"
    else:
        assert answer.endswith(b"2\r\nab\r\n5\r\nsorry\r\n" if when == "data 2" else b"2\r\ncd\r\n")
        assert near.ended == "close"
    assert len(stage.endings) == 1
    assert ([fact.error for fact in wire.exchanges], len(wire.attempts)) == (["stopped"], 1)
    await turns()
    assert wire.is_clean


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"), (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("adds", [b"", b"!"])
async def test_bytes_for_a_response_without_a_body_are_never_written(
    stand: SetUp, method: bytes, answer: bytes, adds: bytes
) -> None:
    stage = Watched(adds=adds)
    wire = stand(watching(stage))
    far, near = wire.connection(), wire.client()
    await goes(near, request(method))
    far.takes()
    far.says(answer)
    await turns()
    head, _, body = near.takes().partition(b"\r\n\r\n")
    if adds:
        assert (status_of(head), error_of(head)) == (500, "policy_failed")
        assert method != b"HEAD" or body == b""
    else:
        assert head.startswith(answer[:12])
        assert body == b""
    assert stage.endings == [""]
    assert [fact.error for fact in wire.attempts] == [""], "the upstream has done nothing wrong"
    assert not near.ended
    assert wire.is_clean


async def test_a_cut_of_what_ends_with_the_connection_is_a_reset(stand: SetUp) -> None:
    wire = stand(filtering(shouting))
    far, near = wire.connection(), wire.client()
    await goes(near, request(version=b"1.0"))
    far.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    await turns()
    far.breaks()
    assert near.ended == "reset", "a clean end would look like a whole answer"


async def test_the_agent_is_said_to_have_got_what_it_got(stand: SetUp) -> None:
    wire = stand(watching(Watched(adds=b"more")))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(OK)
    await turns()
    assert b"more" in near.takes()
    assert (wire.attempts[0].received_bytes, wire.exchanges[0].response_bytes) == (2, 6)


@pytest.mark.parametrize("status", [204, 304, 100])
async def test_a_filters_own_answer_that_cannot_be_is_our_failure(stand: SetUp, status: int) -> None:
    async def answers(exchange: Exchange, forward: Forward) -> Response:
        return Response(status, "", [], b"body")

    wire = stand(filtering(answers))
    near = wire.client()
    await goes(near, request())
    assert error_of(near.takes()) == "policy_failed"
    assert wire.is_clean


# an answer before the request is over


@pytest.mark.parametrize("who", ["filter", "upstream"])
async def test_what_is_left_of_a_body_is_not_the_next_request(stand: SetUp, who: str) -> None:
    async def answers(exchange: Exchange, forward: Forward) -> Response:
        return Response(200, "OK", [], b"own") if who == "filter" else await forward(exchange)

    wire = stand(filtering(answers))
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 100") + b"abc")
    if who == "upstream":
        far.says(OK)
        await turns()
    answer = near.takes()
    assert b"\r\nConnection: close\r\n" in answer
    near.says(request(path=b"/llm/smuggled"))
    await turns()
    assert near.takes() == b""
    assert len(wire.exchanges) == 1


async def test_content_that_comes_after_an_early_answer_goes_on_while_the_answer_does(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 6") + b"abc")
    far.takes()
    far.says(CHUNKED + b"1\r\nx\r\n")
    await turns()
    near.says(b"def")
    assert far.takes() == b"def"
    far.says(b"0\r\n\r\n")
    assert near.takes().endswith(b"0\r\n\r\n")


async def test_100_continue_is_passed_on_once_however_many_attempts_there_are(stand: SetUp) -> None:
    wire = stand(retrying())
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Expect: 100-continue", b"Content-Length: 0"))
    far.takes()
    far.says(b"HTTP/1.1 100 Continue\r\n\r\n" + BUSY)
    await turns()
    assert far.takes()
    far.says(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    await turns()
    assert near.takes().count(b"100 Continue") == 1


# tunnels

UPGRADE = request(b"GET", b"/llm/ws", b"Connection: Upgrade", b"Upgrade: websocket")
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_an_upgrade_passes_the_filters_and_becomes_a_tunnel(stand: SetUp) -> None:
    stage, seen = Watched(), []

    async def looks(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        seen.append((response.status, response.has_content))
        response.through(stage)
        response.fields.append(b"X-Seen: yes")
        return response

    wire = stand(filtering(looks))
    far, near = wire.connection(), wire.client()
    await goes(near, UPGRADE)
    far.takes()
    far.says(ACCEPTED + b"hello")
    await turns()
    answer = near.takes()
    assert answer.startswith(b"HTTP/1.1 101 ") and b"\r\nX-Seen: yes\r\n" in answer and answer.endswith(b"\r\n\r\nhello")
    assert (seen, stage.endings, stage.chunks) == ([(101, False)], [""], [])
    assert not wire.listener._work, "no task waits for the end of a tunnel"
    near.says(b"four")
    assert far.takes() == b"four"
    near.protocol.eof_received()
    far.protocol.eof_received()
    assert [(fact.status, fact.error) for fact in wire.exchanges] == [(101, "")]
    assert len(wire.attempts) == 1
    await turns()
    assert wire.is_clean


@pytest.mark.parametrize("how", ["refuses", "replaces", "gone", "changes", "adds", "closed"])
async def test_a_filter_may_keep_an_upgrade_from_happening(stand: SetUp, how: str) -> None:
    gate = asyncio.Event()
    stage = Watched(adds=b"!" if how == "adds" else b"")

    async def decides(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        response.through(stage)
        await gate.wait()
        if how == "refuses":
            raise Refused("destination_denied")
        if how == "changes":
            response.status = 200
        return response if how in ("changes", "adds", "closed") else Response(403, "", [], b"no")

    wire = stand(filtering(decides))
    far, near = wire.connection(), wire.client()
    await goes(near, UPGRADE)
    far.takes()
    far.says(ACCEPTED)
    await turns()
    if how == "gone":
        near.breaks()
    if how == "closed":
        far.breaks()
    gate.set()
    await turns()
    answer = near.takes()
    codes = {"refuses": "destination_denied", "gone": "client_gone", "closed": "upstream_cut", "replaces": ""}
    code = codes.get(how, "policy_failed")
    if how != "gone":
        assert status_of(answer) == (403 if how in ("refuses", "replaces") else 502 if how == "closed" else 500)
    assert far.ended in ("abort", "broken")
    assert len(stage.endings) == 1
    assert [fact.error for fact in wire.exchanges] == [code]
    assert len(wire.attempts) == 1
    await turns()
    assert wire.is_clean


async def test_an_upgrade_that_nobody_asked_for_is_a_failure_of_the_upstream(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(ACCEPTED)
    await turns()
    assert error_of(near.takes()) == "upstream_malformed"
    assert wire.is_clean


async def test_a_connect_passes_the_filters_and_becomes_a_tunnel(stand: SetUp) -> None:
    seen: list[int] = []

    async def looks(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        seen.append(response.status)
        return response

    far, ours = socket.socketpair()
    wire = stand(filtering(looks))
    wire.upstream.dial_tunnel = lambda: _dialled(ours)  # type: ignore[method-assign]
    near = wire.client()
    await goes(near, b"CONNECT llm.test:8000 HTTP/1.1\r\nHost: llm.test:8000\r\n\r\nearly")
    for _ in range(50):
        await asyncio.sleep(0)
    assert near.takes().startswith(b"HTTP/1.1 200 ")
    assert seen == [200]
    far.setblocking(False)
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(far, 10), 1) == b"early"
    far.close()
    near.protocol.eof_received()
    await _until(lambda: bool(wire.exchanges))
    assert [(fact.status, fact.error) for fact in wire.exchanges] == [(200, "")]
    assert len(wire.attempts) == 1
    await _until(lambda: wire.is_clean)


@pytest.mark.parametrize("how", ["fails", "slow", "refused", "gone", "replaced", "late"])
async def test_a_connect_that_comes_to_nothing_leaves_nothing(stand: SetUp, how: str) -> None:
    gate = asyncio.Event()
    far, ours = socket.socketpair()
    kept: list[asyncio.Task[Response]] = []

    async def decides(exchange: Exchange, forward: Forward) -> Response:
        if how == "late":
            kept.append(asyncio.ensure_future(forward(exchange)))
            await asyncio.sleep(0)
            return Response(403, "", [], b"no")
        response = await forward(exchange)
        if how == "refused":
            raise Refused("destination_denied")
        if how == "replaced":
            return Response(403, "", [], b"no")
        return response

    async def dial() -> tuple[socket.socket, str]:
        if how == "fails":
            raise UpstreamFailed("connect_failed")
        if how in ("slow", "gone", "late"):
            await gate.wait()
        return ours, "192.0.2.7"

    wire = stand(filtering(decides), upstream={"connect_timeout": 0.01 if how == "slow" else 10.0})
    wire.upstream.dial_tunnel = dial  # type: ignore[method-assign]
    near = wire.client()
    await goes(near, b"CONNECT llm.test:8000 HTTP/1.1\r\nHost: llm.test:8000\r\n\r\n")
    if how == "gone":
        near.breaks()
    if how == "slow":
        await _until(lambda: bool(wire.exchanges))
    gate.set()
    await turns()
    answer = near.takes()
    if how != "gone":
        assert status_of(answer) == {"fails": 502, "slow": 504}.get(how, 403)
    if how in ("refused", "replaced", "late"):
        assert ours.fileno() == -1, "the connection was closed"
    assert len(wire.exchanges) == len(wire.attempts) == 1
    assert all(task.done() and task.exception() for task in kept)
    far.close()
    ours.close()
    await turns()
    assert wire.is_clean


async def _dialled(sock: socket.socket) -> tuple[socket.socket, str]:
    sock.setblocking(False)
    return sock, "192.0.2.7"


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in the wire, which has no event for it
            await asyncio.sleep(0.005)


# whatever happens, in whatever order


class Scene:
    """One call through filters and stages that do what they are told to, and everything that can happen to it."""

    def __init__(self, does: str, breaks: str, fault: str, adds: bytes, method: bytes) -> None:
        self.does = does
        self.stages: list[Watched] = []
        self.told: list[tuple[str, Outcome]] = []
        self.faults: list[str] = []
        self.gate = asyncio.Event()
        self._stage = (breaks, fault, adds)
        guards = guard(self._holds, Stage.BUDGET, "holds")
        inner = filtering(self._inner(), Stage.CHAOS, "inner")
        self.wire = Stand(
            filtering(self._outer(), Stage.RECORD, "outer"), guards, inner,
            upstream={"first_byte_timeout": 50.0, "idle_timeout": 50.0}, listener={"idle_timeout": 50.0},
            route={"policy_timeout": 50.0},
        )  # fmt: skip
        self.fars = [self.wire.connection(), self.wire.connection()]
        self.near = self.wire.client()
        self.got = b""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.faults.append(str(context)))
        self.near.says(request(method, b"/llm/x", b"Content-Length: 6") + b"abc" if method == b"POST" else request(method))

    def _holds(self, attempt: Attempt) -> None:
        attempt.holds(Held(self.told, str(attempt.resends)))

    def _watched(self) -> Watched:
        breaks, fault, adds = self._stage
        stage = Watched(breaks=breaks, fault=Refused("stopped") if fault == "refused" else ValueError("broken"), adds=adds)
        self.stages.append(stage)
        return stage

    def _inner(self) -> Any:
        async def inner(attempt: Attempt, forward: Forward) -> Response:
            response = await forward(attempt)
            response.through(self._watched())
            return response

        return inner

    def _outer(self) -> Any:
        async def outer(exchange: Exchange, forward: Forward) -> Response:
            if "waits" in self.does:
                await self.gate.wait()
            if "hedges" in self.does:
                tasks = [asyncio.ensure_future(forward(exchange)) for _ in range(2)]
                for task in tasks:
                    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                response = done.pop().result()
            else:
                try:
                    response = await forward(exchange)
                    if "drops" in self.does:
                        response.drop()
                        response = await forward(exchange)
                except UpstreamFailed:
                    response = await forward(exchange)
            if "holds" in self.does:
                await self.gate.wait()
            if "raises" in self.does:
                raise ValueError("broken")
            if "replaces" in self.does:
                response = Response(200, "OK", [], b"own")
                response.through(self._watched())
            return response

        return outer

    async def happens(self, event: str) -> None:
        wire, near = self.wire, self.near
        name, _, number = event.partition(" ")
        if number:
            far = self.fars[int(number) % len(self.fars)]
            if far.ended or (far.protocol.sink is None and name != "breaks"):
                return
            pieces = {
                "head": CHUNKED, "piece": CHUNKED + b"2\r\nab\r\n", "more": b"2\r\ncd\r\n", "last": b"0\r\n\r\n", "whole": OK,
                "part": OK[:-1], "none": b"HTTP/1.1 204 No Content\r\n\r\n", "hint": b"HTTP/1.1 103 Hint\r\n\r\n",
            }  # fmt: skip
            if name == "breaks":
                far.breaks()
            elif far.reads:
                far.says(pieces[name])
        elif name == "connects" and wire.dialled:
            self.fars.append(await wire.connects())
        elif name == "fails" and wire.dialled:
            await wire.does_not_connect(OSError("no"))
        elif name == "gone" and not near.ended and near.reads:
            near.half_closes()
        elif name == "lost" and not near.ended:
            near.breaks()
        elif name == "content" and not near.ended and near.reads and near.protocol.body is not None:
            near.says(b"def")
        elif name == "full":
            near.takes_nothing = True
        elif name == "drains":
            near.drains()
        elif name == "passes":
            wire.passes(30)
        elif name == "gate":
            self.gate.set()
        elif name == "stop":
            for exchange in wire.listener.exchanges():
                exchange.stop("enough")
        elif name == "cut":
            near.protocol.cut()
        await turns(4)

    async def ends(self) -> None:
        """Nothing happens any more but that time passes."""
        wire = self.wire
        for _ in range(8):
            while wire.dialled:
                await wire.does_not_connect(OSError("no"))
            wire.passes(60)
            await turns(6)
        self.got = self.near.takes()

    def is_right(self) -> None:
        wire = self.wire
        assert wire.listener.in_flight == 0, "it hangs"
        assert [len(stage.endings) for stage in self.stages] == [1] * len(self.stages)
        [exchange] = wire.exchanges
        assert exchange.attempts == len(wire.attempts) == len({fact.span_id for fact in wire.attempts})
        assert len(self.told) == len({name for name, _ in self.told}) == exchange.attempts
        assert "internal" not in wire.refused
        assert self.faults == []
        assert wire.is_clean
        self._is_framed(exchange.error)

    def _is_framed(self, error: str) -> None:
        """What the client got is a whole answer where the call ended well, and never one where it did not."""
        got = self.got
        while got.startswith(b"HTTP/1.1 1"):
            got = got.partition(b"\r\n\r\n")[2]
        if not got:
            assert error
            return
        head, _, content = got.partition(b"\r\n\r\n")
        body: Body = LengthBody(0) if status_of(head) == 204 else ChunkedBody()
        if b"\r\nContent-Length: " in head:
            body = LengthBody(int(head.split(b"\r\nContent-Length: ")[1].split(b"\r\n")[0]))
        body.payload(content)
        assert body.rest == b""
        assert body.done is (not error or b"\r\nx-sidecar-error: " in head)


EVENTS = [
    f"{name} {number}"
    for name in ("head", "piece", "more", "last", "whole", "part", "none", "hint", "breaks")
    for number in (0, 1, 2)
]
EVENTS += ["connects", "fails", "gone", "lost", "content", "full", "drains", "passes", "gate", "stop", "cut"]
DOES = [
    "passes",
    "waits",
    "holds",
    "hedges",
    "drops",
    "raises",
    "replaces",
    "waits hedges holds",
    "drops holds",
    "hedges replaces",
]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(DOES), st.sampled_from(["", "data 1", "data 2", "end"]), st.sampled_from(["raises", "refused"]),
    st.sampled_from([b"", b"!"]), st.sampled_from([b"GET", b"POST"]), st.lists(st.sampled_from(EVENTS), max_size=10),
)  # fmt: skip
def test_whatever_happens_every_stage_and_attempt_ends_once_and_nothing_hangs(
    does: str, breaks: str, fault: str, adds: bytes, method: bytes, events: list[str]
) -> None:
    async def run() -> None:
        scene = Scene(does, breaks, fault, adds, method)
        await turns(4)
        for event in events:
            await scene.happens(event)
        await scene.ends()
        scene.is_right()
        await scene.wire.stops()
        assert [len(stage.endings) for stage in scene.stages] == [1] * len(scene.stages)

    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)


# plugged in by a config

MODULE = '''
"""Answer what was answered before. Example: `parts_of_a_test.again: {tries: 2}`"""
from dataclasses import dataclass

from sidecar.model.errors import UpstreamFailed
from sidecar.model.spec import Spec
from sidecar.traffic.chain import Stage

STAGE = Stage.RETRY


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    tries: int = 2


def build(name, config, runtime):
    async def again(exchange, forward):
        for left in range(config.tries - 1, -1, -1):
            try:
                response = await forward(exchange)
            except UpstreamFailed:
                if not left:
                    raise
                continue
            if response.status < 500 or not left:
                return response
            response.drop()

    return again
'''


async def test_a_filter_of_somebody_elses_is_plugged_in_by_its_name(
    opened: Callable[[Any], Awaitable[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts_of_a_test").mkdir()
    (tmp_path / "parts_of_a_test" / "__init__.py").touch()
    (tmp_path / "parts_of_a_test" / "again.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    upstream = await opened(RawUpstream())
    policies = {"policies": {"parts_of_a_test.again": {"tries": 3}}}
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, route={"policies": ["parts_of_a_test.again"]}, **policies)))
    client = await sidecar.connects()
    for _ in range(2):
        await client.sends(request(b"POST", b"/llm/x", body=b"hello"))
        for answer in (BUSY, None, OK):
            connection = await upstream.hears()
            assert (await connection.request()).body == b"hello"
            if answer is None:
                await connection.closes()
            else:
                await connection.sends(answer)
        assert (await client.response()).body == b"ok"
    assert [fact.attempts for fact in sidecar.exchanges] == [3, 3]
    for name in [name for name in sys.modules if name.startswith("parts_of_a_test")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("is_made", [True, False])
async def test_what_follows_a_connect_that_a_filter_answers_is_no_request(stand: SetUp, is_made: bool) -> None:
    async def answers(exchange: Exchange, forward: Forward) -> Response:
        if is_made:
            return Response(200 if exchange.method != "CONNECT" else 429, "No")
        raise Refused("policy_timeout")

    wire = stand(filtering(answers))
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"CONNECT", b"llm.test:8000") + request(b"POST", b"/llm/smuggled", body=b"x"))
    await turns()
    answer = near.takes()
    assert status_of(answer) == (429 if is_made else 503)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert far.takes() == b""
    assert len(wire.exchanges) == 1


POSTED = {"upstream": {"dialect": "tests.traffic.wire.parrot"}, "traffic": {"inspect_total_bytes": 30}}


def posts(content: bytes, *fields: bytes) -> bytes:
    return request(b"POST", b"/llm/say", *(fields or (b"Content-Length: %d" % len(content),))) + content


async def test_what_waits_for_filters_has_its_place_in_the_room_read_or_not() -> None:
    waits = Waits()
    wire = Stand(waits.policy(), **POSTED)
    room = wire.listener.graph.room
    one, other = wire.client(), wire.client()
    far = wire.connection()
    await goes(one, posts(b"x" * 20))
    await goes(other, posts(b"y" * 25))
    assert room.taken_bytes == 45, "the second one waits all the same, unread"
    other.half_closes()
    await turns()
    assert room.taken_bytes == 20
    waits.before.set()
    await turns()
    assert far.takes().endswith(b"x" * 20)
    far.says(OK)
    await turns()
    assert one.takes().endswith(b"ok")
    assert room.taken_bytes == 0
    await wire.stops()


async def test_what_has_gone_on_while_more_is_to_come_has_no_place_in_the_room() -> None:
    waits = Waits()
    wire = Stand(waits.policy(), **POSTED)
    room = wire.listener.graph.room
    near, far = wire.client(), wire.connection()
    await goes(near, posts(b"x" * 40, b"Content-Length: 50"))
    assert room.taken_bytes == 40
    waits.before.set()
    await turns()
    assert far.takes().endswith(b"x" * 40)
    assert room.taken_bytes == 0
    await goes(near, b"y" * 10)
    assert far.takes() == b"y" * 10
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert room.taken_bytes == 0
    await wire.stops()
