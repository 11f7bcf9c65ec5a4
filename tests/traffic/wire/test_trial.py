"""One attempt of a filtered call: its clock is the upstream's, its connection is never lost, its fact comes once."""

import asyncio
from collections.abc import Callable

import pytest

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange, Outcome
from sidecar.model.judgement import of_fact
from sidecar.traffic.chain import Forward, Stage
from sidecar.traffic.response import Response
from tests.traffic.wire.stand import CHUNKED, OK, Held, Stand, error_of, filtering, guard, request, status_of, turns
from tests.traffic.wire.transport import FakeTransport

SetUp = Callable[..., Stand]


async def passing(exchange: Exchange, forward: Forward) -> Response:
    return await forward(exchange)


async def goes(near: FakeTransport, data: bytes) -> None:
    near.says(data)
    await turns()


# a stale connection


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE"])
async def test_an_idempotent_request_is_sent_once_more_where_a_kept_connection_dies_under_it(stand: SetUp, method: bytes) -> None:
    told: list[tuple[str, Outcome]] = []
    wire = stand(filtering(passing), guard(lambda attempt: attempt.holds(Held(told, f"a{attempt.resends}"))))
    other, far, near = wire.connection(), wire.connection(), wire.client()
    await goes(near, request(method, body=b"hello" if method == b"PUT" else None))
    assert far.takes()
    far.breaks()
    await turns()
    assert other.takes() == b"", "the other idle connections are as old"
    again = await wire.connects()
    assert (again.takes().endswith(b"hello")) is (method == b"PUT")
    again.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert [(fact.error, fact.resends) for fact in wire.attempts] == [("upstream_closed", 0), ("", 1)]
    assert [(name, outcome.error) for name, outcome in told] == [("a0", "upstream_closed"), ("a1", "")]
    await turns()
    assert wire.is_clean


async def test_it_is_sent_once_more_and_not_again(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.breaks()
    await turns()
    again = await wire.connects()
    again.takes()
    again.breaks()
    await turns()
    assert error_of(near.takes()) == "upstream_closed"
    assert len(wire.attempts) == 2
    assert wire.is_clean


@pytest.mark.parametrize("why", ["a post", "a fresh connection", "a byte came", "the content is streamed", "a guard refuses"])
async def test_nothing_is_sent_again_that_may_have_been_done(stand: SetUp, why: str) -> None:
    def refuses(attempt: Attempt) -> None:
        if attempt.resends and why == "a guard refuses":
            raise Refused("destination_denied")

    wire = stand(filtering(passing), guard(refuses))
    near = wire.client()
    far = wire.connection() if why != "a fresh connection" else None
    if why == "the content is streamed":
        await goes(near, request(b"PUT", b"/llm/x", b"Content-Length: 5") + b"he")
    else:
        await goes(near, request(b"POST" if why == "a post" else b"GET"))
    far = far or await wire.connects()
    assert far.takes()
    if why == "a byte came":
        far.says(b"H")
    far.breaks()
    await turns()
    code = {"a byte came": "upstream_cut", "a guard refuses": "destination_denied"}.get(why, "upstream_closed")
    assert error_of(near.takes()) == code
    assert not wire.dialled
    await turns()
    assert wire.is_clean


async def test_what_was_never_written_is_no_further_attempt(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    far.protocol.uses = 1
    near.says(request(b"POST", body=b"hello"))
    while far.protocol.sink is None:  # noqa: ASYNC110 - not one loop turn later: then it is written
        await asyncio.sleep(0)
    far.breaks()
    again = await wire.connects()
    assert again.takes().endswith(b"hello")
    again.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert [fact.error for fact in wire.attempts] == [""]


# its clock


async def test_the_upstreams_clock_starts_when_the_request_is_sent_and_not_while_a_filter_thinks(stand: SetUp) -> None:
    gate = asyncio.Event()

    async def thinks(exchange: Exchange, forward: Forward) -> Response:
        await gate.wait()
        return await forward(exchange)

    wire = stand(filtering(thinks), upstream={"first_byte_timeout": 10.0, "keep_alive_timeout": 900.0})
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    wire.passes(100)
    gate.set()
    await turns()
    assert far.takes()
    wire.passes(9.9)
    assert wire.attempts == []
    wire.passes(0.2)
    await turns()
    assert error_of(near.takes()) == "first_byte_timeout"
    assert far.ended == "abort"
    assert wire.is_clean


async def test_the_upstreams_clock_stands_still_while_a_filter_looks_at_the_response(stand: SetUp) -> None:
    gate = asyncio.Event()

    async def thinks(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        await gate.wait()
        return response

    wire = stand(filtering(thinks), upstream={"first_byte_timeout": 10.0, "idle_timeout": 10.0})
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.says(OK[:-1])
    await turns()
    wire.passes(100)
    gate.set()
    await turns()
    assert status_of(near.takes()) == 200
    wire.passes(9.9)
    far.says(b"k")
    assert near.takes() == b"k"
    assert [fact.error for fact in wire.attempts] == [""]


async def test_interim_responses_and_content_start_the_clock_anew(stand: SetUp) -> None:
    wire = stand(filtering(passing), upstream={"first_byte_timeout": 10.0}, listener={"idle_timeout": 10.0})
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 4") + b"ab")
    wire.passes(9)
    near.says(b"cd")
    assert far.takes().endswith(b"abcd")
    wire.passes(9)
    far.says(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")
    assert near.takes().startswith(b"HTTP/1.1 103 ")
    wire.passes(9)
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")


async def test_a_client_that_stops_sending_is_late_and_an_upstream_that_takes_nothing_too(stand: SetUp) -> None:
    wire = stand(filtering(passing), upstream={"idle_timeout": 5.0}, listener={"idle_timeout": 10.0})
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 4") + b"ab")
    wire.passes(10.1)
    assert error_of(near.takes()) == "body_timeout"
    assert far.ended == "abort"
    far, near = wire.connection(), wire.client()
    far.takes_nothing = True
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 4") + b"ab")
    far.protocol.flush()
    assert not near.reads
    wire.passes(5.1)
    await turns()
    assert error_of(near.takes()) == "idle_timeout"
    assert [fact.error for fact in wire.attempts] == ["body_timeout", "idle_timeout"]
    await turns()
    assert wire.is_clean


async def test_an_upstream_that_takes_content_again_lets_the_client_send(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    far, near = wire.connection(), wire.client()
    far.takes_nothing = True
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 4") + b"ab")
    far.protocol.flush()
    assert not near.reads
    far.drains()
    assert near.reads


# its connection


async def test_content_waits_for_a_connection_within_a_bound(stand: SetUp) -> None:
    wire = stand(filtering(passing))
    near = wire.client()
    await goes(near, request(b"POST", b"/llm/x", b"Content-Length: 100000") + b"ab")
    near.says(b"x" * 70_000)
    assert not near.reads
    far = await wire.connects()
    assert near.reads
    assert len(far.takes()) > 70_000


@pytest.mark.parametrize("whole", [True, False])
async def test_what_a_filter_waits_no_longer_for_is_given_up(stand: SetUp, whole: bool) -> None:
    async def impatient(exchange: Exchange, forward: Forward) -> Response:
        try:
            async with asyncio.timeout(0):
                return await forward(exchange)
        except TimeoutError:
            return Response(203, "Not Yet", [], b"later")

    wire = stand(filtering(impatient))
    far, near = wire.connection() if whole else None, wire.client()
    await goes(near, request())
    assert near.takes().endswith(b"later")
    assert far is None or far.ended == "abort"
    assert wire.pool.waiting_count == 0
    assert [(fact.error, fact.status) for fact in wire.attempts] == [("given_up", 0)]
    if not whole:
        await wire.connects()
    assert wire.is_clean


async def test_a_policy_at_the_attempt_that_answers_itself_ends_it(stand: SetUp) -> None:
    async def instead(attempt: Attempt, forward: Forward) -> Response:
        if attempt.resends:
            await forward(attempt)
        return Response(429, "Slow Down", [], b"no")

    async def twice(exchange: Exchange, forward: Forward) -> Response:
        await forward(exchange)
        return await forward(exchange)

    wire = stand(filtering(twice, name="twice"), filtering(instead, Stage.CHAOS, "instead"))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(CHUNKED)
    await turns()
    assert status_of(near.takes()) == 429
    assert [(fact.error, fact.status, fact.address) for fact in wire.attempts] == [("given_up", 0, ""), ("", 200, "192.0.2.7")]
    assert far.ended == "abort"
    assert wire.is_clean


async def test_an_attempt_whose_response_was_replaced_at_the_attempt_ends_while_others_still_think(stand: SetUp) -> None:
    gate = asyncio.Event()

    async def instead(attempt: Attempt, forward: Forward) -> Response:
        await forward(attempt)
        return Response(429, "Slow Down", [], b"no")

    async def thinks(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        await gate.wait()
        return response

    wire = stand(filtering(thinks, name="thinks"), filtering(instead, Stage.CHAOS, "instead"))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(CHUNKED)
    await turns()
    assert far.ended == "abort"
    assert [(fact.error, fact.status) for fact in wire.attempts] == [("", 200)]
    gate.set()
    await turns()
    assert status_of(near.takes()) == 429


async def test_bytes_are_counted_for_each_attempt(stand: SetUp) -> None:
    async def again(exchange: Exchange, forward: Forward) -> Response:
        try:
            return await forward(exchange)
        except UpstreamFailed:
            (await forward(exchange)).drop()
            return await forward(exchange)

    wire = stand(filtering(again))
    near = wire.client()
    await goes(near, request(b"POST", body=b"hello"))
    await wire.does_not_connect(OSError("no"))
    far = await wire.connects()
    far.takes()
    far.says(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
    await turns()
    far.takes()
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert [(fact.error, fact.sent_bytes, fact.received_bytes) for fact in wire.attempts] == [
        ("connect_failed", 0, 0), ("", 5, 4), ("", 5, 2),
    ]  # fmt: skip
    assert wire.pool.open_count == 1, "what has come whole frees its connection, whether it is wanted or not"


async def test_a_response_that_comes_in_pieces_while_paused_frees_a_connection_that_reads(stand: SetUp) -> None:
    gate = asyncio.Event()

    async def thinks(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        await gate.wait()
        return response

    wire = stand(filtering(thinks))
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(OK[:-1])
    far.protocol.data_received(b"k")  # TLS may still bring what it has read, whatever it was asked for
    assert far.reads
    gate.set()
    await turns()
    assert near.takes().endswith(b"ok")
    assert wire.is_clean


async def test_a_pool_that_takes_nobody_more_is_heard_by_the_filter(stand: SetUp) -> None:
    heard: list[str] = []

    async def hears(exchange: Exchange, forward: Forward) -> Response:
        try:
            return await forward(exchange)
        except UpstreamFailed as fault:
            heard.append(fault.code)
            raise

    wire = stand(filtering(hears), upstream={"max_connections": 1, "max_waiting": 0})
    first, near = wire.client(), wire.client()
    await goes(first, request())
    await goes(near, request())
    assert heard == [error_of(near.takes())] == ["pool_exhausted"]
    await wire.does_not_connect(OSError("no"))
    assert wire.is_clean


# a body that a filter wants first


class Reads:
    """A filter that wants the body of at most `most_bytes` before it returns the response; `body` is what it got."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.body: bytes | None = b"not asked"

    def policy(self) -> object:
        async def reads(exchange: Exchange, forward: Forward) -> Response:
            response = await forward(exchange)
            self.body = await response.whole(self.most_bytes)
            return response

        return filtering(reads)


@pytest.mark.parametrize(
    "pieces", [[b"5\r\nhello\r\n0\r\n\r\n"], [b"3\r\nhel\r\n", b"2\r\nlo\r\n", b"0\r\n\r\n"]], ids=["one", "three"]
)
async def test_a_filter_may_have_the_body_before_it_decides_and_it_goes_on_all_the_same(
    stand: SetUp, pieces: list[bytes]
) -> None:
    reads = Reads(5)
    wire = stand(reads.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    for piece in [CHUNKED, *pieces]:
        assert near.takes() == b""
        far.says(piece)
        await turns()
    assert reads.body == b"hello"
    assert near.takes().endswith(b"5\r\nhello\r\n0\r\n\r\n")
    assert (wire.exchanges[0].response_bytes, wire.attempts[0].received_bytes) == (5, 5)
    await turns()
    assert wire.is_clean


async def test_what_is_longer_than_it_wants_goes_on_as_it_comes(stand: SetUp) -> None:
    reads = Reads(4)
    wire = stand(reads.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(CHUNKED + b"3\r\nhel\r\n")
    await turns()
    assert near.takes() == b""
    far.says(b"2\r\nlo\r\n")
    await turns()
    assert reads.body is None
    assert near.takes().endswith(b"5\r\nhello\r\n")
    far.says(b"1\r\n!\r\n0\r\n\r\n")
    await turns()
    assert near.takes() == b"1\r\n!\r\n0\r\n\r\n"
    await turns()
    assert wire.is_clean


async def test_a_body_without_content_is_there_at_once(stand: SetUp) -> None:
    reads = Reads(0)
    wire = stand(reads.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    await turns()
    assert reads.body == b""
    assert near.takes().startswith(b"HTTP/1.1 204")


async def test_a_body_that_is_cut_while_a_filter_waits_for_it_is_the_upstreams_error(stand: SetUp) -> None:
    reads = Reads(99)
    wire = stand(reads.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(CHUNKED + b"3\r\nhel\r\n")
    await turns()
    far.breaks()
    await turns()
    answer = near.takes()
    assert (status_of(answer), error_of(answer)) == (502, "upstream_cut")
    assert [fact.error for fact in wire.attempts] == ["upstream_cut"]
    await turns()
    assert wire.is_clean


async def test_a_client_that_leaves_while_a_filter_waits_for_the_body_ends_the_attempt(stand: SetUp) -> None:
    reads = Reads(99)
    wire = stand(reads.policy())
    far, near = wire.connection(), wire.client()
    await goes(near, request())
    far.takes()
    far.says(CHUNKED + b"3\r\nhel\r\n")
    await turns()
    near.breaks()
    await turns()
    assert [fact.error for fact in wire.attempts] == ["client_gone"]
    await turns()
    assert wire.is_clean


# what was said in it

PARROT = {"dialect": "tests.traffic.wire.parrot"}
MIDWAY = CHUNKED + b"2\r\nok\r\n"


@pytest.mark.parametrize(
    ("answer", "error", "row"),
    [
        (OK, "", "ok"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 1\r\n\r\n!", "", "failed"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\n!", "", "failed"),
        (MIDWAY, "given_up", "refused"),
        (CHUNKED, "given_up", "refused"),
        (CHUNKED + b"1\r\n!\r\n", "given_up", "failed"),
    ],
    ids=["whole", "an error", "an error, midway", "midway", "a head", "an error in a stream"],
)
async def test_an_answer_that_a_filter_drops_is_judged_by_what_came_and_not_for_what_we_did_not_take(
    stand: SetUp, answer: bytes, error: str, row: str
) -> None:
    async def instead(exchange: Exchange, forward: Forward) -> Response:
        (await forward(exchange)).drop()
        return Response(200, "OK", [], b"own")

    wire = stand(filtering(instead), upstream=PARROT)
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/say", body=b"stream"))
    far.says(answer)
    await turns()
    assert near.takes().endswith(b"own")
    (fact,) = wire.attempts
    judged = of_fact(fact)
    assert (fact.error, judged.row.name) == (error, row)
    assert not (error and judged.is_exposed), "nobody got any of it"
    assert wire.exchanges[0].dialogue is None, "its answer is not what the agent saw"
    assert of_fact(wire.exchanges[0]).row.name == "ok"


@pytest.mark.parametrize("how", ["fails", "whole"])
async def test_an_answer_of_a_filters_own_has_no_dialogue_whatever_became_of_the_attempts_before(stand: SetUp, how: str) -> None:
    async def fallback(exchange: Exchange, forward: Forward) -> Response:
        try:
            response = await forward(exchange)
            return Response(200, "OK", [], b"own " + (await response.whole(100) or b""))
        except UpstreamFailed:
            return Response(200, "OK", [], b"own")

    wire = stand(filtering(fallback), upstream=PARROT)
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/say", body=b"hello"))
    if how == "fails":
        far.breaks()
    else:
        far.says(OK)
    await turns()
    assert status_of(near.takes()) == 200
    assert [fact.dialogue is None for fact in (*wire.attempts, *wire.exchanges)] == [False, True]


async def test_a_response_that_a_filter_rewrites_keeps_its_dialogue(stand: SetUp) -> None:
    class Shouts:
        def data(self, chunk: bytes) -> bytes:
            return chunk.upper()

        def end(self, error: str) -> bytes:
            return b""

    async def rewrites(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        assert await response.whole(100) == b"ok"
        response.through(Shouts())
        return response

    wire = stand(filtering(rewrites), upstream=PARROT)
    far, near = wire.connection(), wire.client()
    await goes(near, request(b"POST", b"/llm/say", body=b"hello"))
    far.says(OK)
    await turns()
    assert b"OK\r\n" in near.takes()
    assert wire.exchanges[0].dialogue is wire.attempts[0].dialogue is not None
