import asyncio
import json
from typing import Any

import pytest

from sidecar.model.errors import Refused
from sidecar.model.spec import Duration
from sidecar.traffic.chain import Stage
from sidecar.traffic.response import Response
from sidecar.traffic.stdio.lines import MOST_BYTES
from tests.traffic.stdio.session import OK, Session, request, until


async def through(exchange: Any, forward: Any) -> Response:
    return await forward(exchange)


async def test_a_call_with_filters_passes_like_one_without() -> None:
    session = Session((Stage.RETRY, through))
    session.relay.client_sends(request())
    await until(lambda: session.asked == [request()])
    session.relay.server_sends(OK % b"1")
    await until(lambda: session.said == [OK % b"1"])
    (attempt,), (exchange,) = session.told()
    assert (attempt.status, attempt.error, exchange.status, exchange.error, exchange.attempts) == (200, "", 200, "", 1)


async def test_a_filter_may_ask_again() -> None:
    async def twice(exchange: Any, forward: Any) -> Response:
        first = await forward(exchange)
        first.drop()
        return await forward(exchange)

    session = Session((Stage.RETRY, twice))
    session.relay.client_sends(request())
    await until(lambda: len(session.asked) == 1)
    session.relay.server_sends(OK % b"1")
    await until(lambda: len(session.asked) == 2)
    session.relay.server_sends(OK % b"1")
    await until(lambda: session.said == [OK % b"1"])
    attempts, (exchange,) = session.told()
    assert ([attempt.resends for attempt in attempts], exchange.attempts) == ([0, 1], 2)


async def test_a_filter_may_answer_itself() -> None:
    async def playback(exchange: Any, forward: Any) -> Response:
        return Response(200, content=b'{\n "jsonrpc": "2.0",\n "id": 1, "result": {}\n}')

    session = Session((Stage.RECORD, playback))
    session.relay.client_sends(request())
    await until(lambda: bool(session.said))
    assert session.said == [b'{"jsonrpc":"2.0","id":1,"result":{}}\n'] and session.asked == []


async def test_a_filters_error_is_an_error_of_json_rpc() -> None:
    async def away(exchange: Any, forward: Any) -> Response:
        return Response(503, content=b"away")

    session = Session((Stage.RECORD, away))
    session.relay.client_sends(request())
    await until(lambda: bool(session.said))
    assert json.loads(session.said[0])["error"]["message"] == "a policy answered with status 503"
    assert session.told()[1][0].status == 503


async def test_an_answer_to_nobody_is_a_policys_failure() -> None:
    async def wrong(exchange: Any, forward: Any) -> Response:
        return Response(200, content=b'{"id":2,"result":{}}')

    session = Session((Stage.RECORD, wrong))
    session.relay.client_sends(request())
    await until(lambda: bool(session.said))
    assert session.codes() == ["policy_failed"]


async def test_a_refusal_of_a_filter_or_a_guard_below_it_reaches_the_client() -> None:
    def refuse(attempt: Any) -> None:
        raise Refused("host_refused")

    session = Session((Stage.RETRY, through), (Stage.LIMIT, refuse))
    session.relay.client_sends(request())
    await until(lambda: bool(session.said))
    attempts, (exchange,) = session.told()
    assert (session.codes(), session.asked, [attempt.error for attempt in attempts]) == (["host_refused"], [], ["host_refused"])
    assert exchange.error == "host_refused"


async def test_a_filter_that_thinks_too_long_is_not_waited_for() -> None:
    async def think(exchange: Any, forward: Any) -> Response:
        await asyncio.Event().wait()
        return await forward(exchange)

    session = Session((Stage.RETRY, think), policy_timeout=Duration("10ms"))
    session.relay.client_sends(request())
    await until(lambda: bool(session.said))
    assert session.codes() == ["policy_timeout"]


async def test_the_servers_time_is_not_the_filters() -> None:
    session = Session((Stage.RETRY, through), policy_timeout=Duration("10ms"))
    session.relay.client_sends(request())
    await until(lambda: bool(session.asked))
    await asyncio.sleep(0.02)
    session.relay.server_sends(OK % b"1")
    await until(lambda: session.said == [OK % b"1"])


async def test_a_call_that_is_cancelled_before_it_was_sent_never_is() -> None:
    session = Session((Stage.RETRY, through))
    cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}\n'
    session.relay.client_sends(request() + cancel)
    await asyncio.sleep(0)
    assert session.asked == [] and [fact.error for fact in session.told()[1]] == ["client_gone"]


async def test_a_filter_hears_that_the_server_has_ended() -> None:
    heard: list[str] = []

    async def listen(exchange: Any, forward: Any) -> Response:
        try:
            return await forward(exchange)
        except Refused as refused:
            heard.append(refused.code)
            raise

    session = Session((Stage.RETRY, listen))
    session.relay.client_sends(request())
    await until(lambda: bool(session.asked))
    session.relay.server_ends()
    await until(lambda: bool(session.said))
    assert (heard, session.codes()) == (["upstream_closed"], ["upstream_closed"])
    session.relay.client_sends(request("2"))
    await until(lambda: len(session.said) == 2)


async def test_what_filters_hold_is_sent_before_the_servers_input_is_closed() -> None:
    may_go, ended = asyncio.Event(), list[str]()

    async def hold(exchange: Any, forward: Any) -> Response:
        await may_go.wait()
        return await forward(exchange)

    session = Session((Stage.RETRY, hold))
    session.relay.client_sends(request("1") + request("2"))
    session.relay.client_ends(lambda: ended.append("closed"))
    await asyncio.sleep(0)
    assert (session.asked, ended, session.relay.is_awaited) == ([], [], True)
    may_go.set()
    await until(lambda: bool(ended))
    assert (session.asked, ended) == ([request("1"), request("2")], ["closed"])
    session.relay.server_sends(OK % b"1" + OK % b"2")
    await until(lambda: not session.relay.calls)
    assert sorted(session.said) == [OK % b"1", OK % b"2"]
    assert ended == ["closed"]


async def test_what_filters_answer_themselves_holds_the_servers_input_no_longer() -> None:
    async def refuse(exchange: Any, forward: Any) -> Response:
        raise Refused("stopped", "no")

    session, ended = Session((Stage.RETRY, refuse)), list[str]()
    session.relay.client_sends(request("1"))
    session.relay.client_ends(lambda: ended.append("closed"))
    await until(lambda: bool(ended))
    assert session.codes() == ["stopped"]


async def test_an_answer_that_is_too_long_goes_past_the_filters_and_ends_them() -> None:
    session = Session((Stage.RETRY, through))
    session.relay.client_sends(request("1"))
    await until(lambda: bool(session.asked))
    whole = b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * MOST_BYTES + b'"}\n'
    session.relay.server_sends(whole)
    await asyncio.sleep(0)
    assert session.said == [whole] and not session.relay.calls
    (attempt,), (exchange,) = session.told()
    assert (attempt.status, attempt.error, exchange.status, exchange.error) == (200, "", 200, "")


async def test_a_call_that_is_stopped_ends_its_filters() -> None:
    session = Session((Stage.RETRY, through))
    session.relay.client_sends(request())
    await until(lambda: bool(session.asked))
    session.listener.exchanges()[0].stop("enough")
    await until(lambda: len(session.asked) == 2)
    assert session.codes() == ["stopped"] and b"notifications/cancelled" in session.asked[1]
    session.relay.server_sends(OK % b"1")
    assert len(session.said) == 1


async def test_a_stage_of_a_filter_sees_the_answer() -> None:
    ended: list[str] = []

    class Shout:
        def data(self, chunk: bytes) -> bytes:
            return chunk.replace(b'"x"', b'"X"')

        def end(self, error: str) -> bytes:
            ended.append(error)
            return b""

    async def shout(exchange: Any, forward: Any) -> Response:
        response = await forward(exchange)
        response.through(Shout())
        return response  # type: ignore[no-any-return]  # the test's filters are loosely typed

    session = Session((Stage.RECORD, shout))
    session.relay.client_sends(request())
    await until(lambda: bool(session.asked))
    session.relay.server_sends(OK % b"1")
    await until(lambda: bool(session.said))
    assert session.said == [(OK % b"1").replace(b'"x"', b'"X"')] and ended == [""]


async def test_two_attempts_at_once_are_refused() -> None:
    async def both(exchange: Any, forward: Any) -> Response:
        first = asyncio.create_task(forward(exchange))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="follow each other"):
            await forward(exchange)
        return await first

    session = Session((Stage.RETRY, both))
    session.relay.client_sends(request())
    await until(lambda: bool(session.asked))
    session.relay.server_sends(OK % b"1")
    await until(lambda: session.said == [OK % b"1"])
