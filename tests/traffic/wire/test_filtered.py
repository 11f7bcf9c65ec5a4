import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange, Outcome
from sidecar.traffic.chain import Forward, Stage
from sidecar.traffic.response import Response
from sidecar.traffic.wire.call import UPLOAD_WINDOW_BYTES
from tests.peers.raw import RawUpstream
from tests.sidecar_under_test import SidecarUnderTest, config_for
from tests.traffic.wire.stand import CHUNKED, OK, UNTIL_CLOSE, Held, Stand, error_of, filtering, guard, request, status_of, turns
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


async def test_an_upstream_that_fails_while_a_filter_holds_its_response_ends_the_call(stand: SetUp) -> None:
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
    assert error_of(near.takes()) == "upstream_cut"
    assert waits.was_cancelled
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
    assert (wire.exchanges[0].status, wire.exchanges[0].response_bytes) == (418, 5)
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


class Holds:
    """Keeps everything until the end."""

    def __init__(self) -> None:
        self.kept = b""

    def data(self, chunk: bytes) -> bytes:
        self.kept += chunk
        return b""

    def end(self, error: str) -> bytes:
        return self.kept


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
    assert got.endswith(b"2\r\nAB\r\n")
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
