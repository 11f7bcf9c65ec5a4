import time
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange, Outcome
from sidecar.model.spec import Secret
from sidecar.traffic.chain import Stage
from sidecar.traffic.wire.call import UPLOAD_WINDOW_BYTES
from tests.traffic.wire.stand import CHUNKED, OK, UNTIL_CLOSE, Held, Stand, error_of, guard, request, status_of, turns
from tests.traffic.wire.transport import FakeTransport

SetUp = Callable[..., Stand]
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# the plain way


async def test_a_call_goes_there_and_back(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x?q=1", b"traceparent: " + PARENT, body=b"hello"))
    sent = far.takes()
    assert sent.startswith(b"POST /base/x?q=1 HTTP/1.1\r\nHost: llm.test:8000\r\nContent-Length: 5\r\nVia: 1.1 agent-sre-")
    assert sent.endswith(b"\r\n\r\nhello")
    far.says(OK)
    assert near.takes().endswith(b"\r\n\r\nok")
    (exchange,), (attempt,) = wire.exchanges, wire.attempts
    assert (exchange.status, exchange.error, exchange.request_bytes, exchange.response_bytes, exchange.attempts) == (
        200,
        "",
        5,
        2,
        1,
    )
    assert (attempt.status, attempt.error, attempt.sent_bytes, attempt.received_bytes, attempt.address) == (
        200,
        "",
        5,
        2,
        "192.0.2.7",
    )
    assert exchange.trace_id == attempt.trace_id == bytes.fromhex(PARENT[3:35].decode())
    assert attempt.parent_id == exchange.span_id
    assert b"-" + attempt.span_id.hex().encode() + b"-01" in sent
    assert wire.is_clean


async def test_a_response_is_streamed_chunk_by_chunk(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.says(CHUNKED)
    assert near.takes().endswith(b"\r\n\r\n")
    far.says(b"3\r\nabc\r\n")
    assert near.takes() == b"3\r\nabc\r\n"
    far.says(b"0\r\n\r\n")
    assert near.takes() == b"0\r\n\r\n"
    assert wire.exchanges[0].response_bytes == 3


@pytest.mark.parametrize(("answer", "ends"), [(UNTIL_CLOSE + b"abc", True), (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", False)])
async def test_a_body_is_framed_for_the_client(stand: SetUp, answer: bytes, ends: bool) -> None:
    for version, expected in ((b"1.1", b"3\r\nabc\r\n"), (b"1.0", b"abc")):
        wire = stand()
        far, near = wire.connection(), wire.client()
        near.says(request(version=version))
        far.takes()
        far.says(answer)
        if ends:
            far.half_closes()
        head, _, body = near.takes().partition(b"\r\n\r\n")
        assert body == expected + (b"0\r\n\r\n" if version == b"1.1" else b"")
        assert (b"chunked" in head) is (version == b"1.1")
        assert (near.ended == "close") is (version == b"1.0")


async def test_a_connection_is_waited_for_and_the_content_waits_with_it(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked"))
    near.says(b"3\r\nabc\r\n")
    far = await wire.connects()
    assert far.takes().endswith(b"\r\n\r\n3\r\nabc\r\n")
    near.says(b"0\r\n\r\n")
    assert far.takes() == b"0\r\n\r\n"
    far.says(OK)
    assert near.takes().endswith(b"ok")
    assert wire.attempts[0].connect_s > 0


async def test_a_client_is_paused_while_too_much_waits(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(request(b"POST", b"/llm/x", b"Content-Length: 1000000"))
    near.says(b"x" * (UPLOAD_WINDOW_BYTES + 1))
    assert not near.reads
    far = await wire.connects()
    assert near.reads
    assert far.takes().endswith(b"x" * UPLOAD_WINDOW_BYTES)


async def test_content_that_waits_in_tiny_pieces_costs_no_more_than_its_size(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    count = UPLOAD_WINDOW_BYTES - 10_000
    near.says(request(b"POST", b"/llm/x", b"Content-Length: %d" % (count + 1)))
    began_s = time.process_time()
    for _ in range(count):
        near.says(b"x")
    assert time.process_time() - began_s < 2.0, "summing all pieces up for each of them takes a minute"
    near.says(b"y")
    far = await wire.connects()
    assert far.takes().endswith(b"\r\n\r\n" + b"x" * count + b"y")


async def test_the_fields_of_each_call_have_its_own_length(stand: SetUp) -> None:
    seen: list[Exchange] = []
    wire = stand(guard(lambda attempt: seen.append(attempt.exchange)))
    far, near = wire.connection(), wire.client()
    for body in (b"hello", b"to all of you", b"", b"x" * 99999):
        near.says(request(b"POST", b"/llm/x", body=body))
        far.takes()
        far.says(OK)
        near.takes()
    lengths = [[line for line in exchange.fields if line.startswith(b"Content-Length:")] for exchange in seen]
    assert lengths == [[b"Content-Length: 5"], [b"Content-Length: 13"], [b"Content-Length: 0"], [b"Content-Length: 99999"]]


async def test_a_slow_upstream_pauses_the_client(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Content-Length: 100"))
    far.takes_nothing = True
    far.takes()
    assert not near.reads
    far.drains()
    assert near.reads


async def test_a_slow_client_pauses_the_upstream(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    near.takes_nothing = True
    far.says(CHUNKED)
    near.takes()
    assert not far.reads
    near.drains()
    assert far.reads


async def test_the_last_bytes_to_a_full_client_do_not_stop_a_connection_that_is_free_again(stand: SetUp) -> None:
    wire = stand()
    far, near, other = wire.connection(), wire.client(), wire.client()
    near.says(request())
    far.takes()
    near.takes_nothing = True
    far.says(OK)
    near.takes()
    assert near.is_full
    assert far.reads
    other.says(request())
    far.takes()
    far.says(OK)
    assert other.takes().endswith(b"ok")


# Expect, interim responses


async def test_the_upstream_says_continue_or_we_do_after_a_second(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Expect: 100-continue", b"Content-Length: 5"))
    assert b"\r\nExpect: 100-continue\r\n" in far.takes()
    wire.passes(0.9)
    assert near.takes() == b""
    wire.passes(0.2)
    assert near.takes() == b"HTTP/1.1 100 Continue\r\n\r\n"
    far.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert near.takes() == b"", "once is enough"
    near.says(b"hello")
    far.says(OK)
    assert near.takes().endswith(b"ok")


async def test_continue_comes_from_the_upstream_once(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Expect: 100-continue", b"Content-Length: 5"))
    far.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert near.takes().startswith(b"HTTP/1.1 100 Continue\r\n")
    wire.passes(5.0)
    assert near.takes() == b""
    far.says(b"HTTP/1.1 103 x\r\nLink: a\r\n\r\n")
    assert b"Link: a" in near.takes()


async def test_a_client_of_http_1_0_gets_no_interim_response(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(version=b"1.0"))
    far.takes()
    far.says(b"HTTP/1.1 103 x\r\n\r\n" + OK)
    assert near.takes().startswith(b"HTTP/1.1 200 OK")


async def test_an_answer_before_the_request_is_over_ends_the_connection(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Content-Length: 100") + b"x" * 10)
    far.takes()
    far.says(OK)
    assert b"\r\nConnection: close\r\n" in near.takes()
    assert near.has_written_eof
    near.says(b"x" * 90)
    assert far.takes() == b""
    assert wire.exchanges[0].request_bytes == 10
    assert wire.is_clean


# what asks about the sidecar itself


async def test_options_about_the_sidecar_is_answered_here(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(request(b"OPTIONS", b"*"))
    assert status_of(near.takes()) == 204
    near.says(request(b"TRACE", b"/llm/x", b"Max-Forwards: 0", b"Authorization: s"))
    answer = near.takes()
    assert status_of(answer) == 200 and b"TRACE /llm/x" in answer and b"Authorization" not in answer
    near.says(request(b"GET", b"*"))
    answer = near.takes()
    assert error_of(answer) == "bad_target"


async def test_options_with_a_body_that_has_not_come_ends_the_connection(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(request(b"OPTIONS", b"*", b"Content-Length: 5"))
    assert b"\r\nConnection: close\r\n" in near.takes()
    assert near.has_written_eof


# what goes wrong


async def test_an_upstream_that_cannot_be_reached_is_a_502_and_the_connection_stays(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(request(b"POST", b"/llm/x", body=b"hello"))
    await wire.does_not_connect(OSError(111, "refused"))
    answer = near.takes()
    assert (status_of(answer), error_of(answer)) == (502, "connect_failed")
    assert not near.ended
    assert [fact.error for fact in wire.attempts] == [fact.error for fact in wire.exchanges] == ["connect_failed"]
    assert wire.is_clean


async def test_a_pool_that_is_exhausted_refuses_at_once(stand: SetUp) -> None:
    wire = stand(upstream={"max_connections": 1, "max_waiting": 0})
    first, second = wire.client(), wire.client()
    first.says(request())
    second.says(request())
    assert error_of(second.takes()) == "pool_exhausted"
    assert len(wire.attempts) == 1
    await turns()


@pytest.mark.parametrize(("answer", "is_http_1_0", "ended"), [(OK[:-1], False, "close"), (CHUNKED + b"3\r\na", False, "close"), (UNTIL_CLOSE + b"a", True, "reset"), (CHUNKED + b"3\r\na", True, "reset"), (UNTIL_CLOSE + b"a", False, "close")])  # fmt: skip
async def test_an_answer_that_is_cut_is_never_ended_cleanly(stand: SetUp, answer: bytes, is_http_1_0: bool, ended: str) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(version=b"1.0" if is_http_1_0 else b"1.1"))
    far.takes()
    far.says(answer)
    far.breaks(ConnectionResetError())
    got = near.takes()
    assert not got.endswith(b"0\r\n\r\n")
    assert near.ended == ended
    assert wire.exchanges[0].error == "upstream_cut"
    assert wire.exchanges[0].status == 200
    assert wire.is_clean


async def test_a_head_that_has_not_gone_out_yet_goes_before_the_cut(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.says(CHUNKED + b"xyz\r\n")
    assert near.takes().startswith(b"HTTP/1.1 200 OK\r\n")
    assert near.ended == "close"
    assert wire.exchanges[0].error == "upstream_malformed"


async def test_a_cut_in_the_middle_of_an_upload_counts_what_came(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Content-Length: 100") + b"x" * 10)
    far.takes()
    far.says(CHUNKED)
    far.breaks()
    assert wire.exchanges[0].request_bytes == 10
    assert near.ended == "close"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE"])
async def test_an_idempotent_call_on_a_connection_that_dies_is_tried_once_more(stand: SetUp, method: bytes) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(method, b"/llm/x", body=b"hello" if method == b"PUT" else None))
    first = far.takes()
    far.breaks(ConnectionResetError())
    again = await wire.connects()
    second = again.takes()
    assert second.split(b"traceparent")[0] == first.split(b"traceparent")[0]
    assert second != first, "with a span of its own"
    assert second.endswith(b"hello") is (method == b"PUT")
    again.says(OK if method != b"HEAD" else OK[:-2])
    assert status_of(near.takes()) == 200
    assert [fact.error for fact in wire.attempts] == ["upstream_closed", ""]
    assert [fact.resends for fact in wire.attempts] == [0, 1]
    assert wire.exchanges[0].attempts == 2


@pytest.mark.parametrize(("method", "said"), [(b"POST", b""), (b"GET", b"HTTP/1.1 2")])
async def test_what_may_have_had_an_effect_is_not_tried_again(stand: SetUp, method: bytes, said: bytes) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(method, b"/llm/x"))
    far.takes()
    if said:
        far.says(said)
    far.breaks()
    assert error_of(near.takes()) == ("upstream_cut" if said else "upstream_closed")
    assert len(wire.attempts) == 1


async def test_it_is_tried_again_once_and_not_on_a_new_connection(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.breaks()
    again = await wire.connects()
    again.takes()
    again.breaks()
    assert error_of(near.takes()) == "upstream_closed"
    assert len(wire.attempts) == 2
    assert wire.is_clean


@pytest.mark.parametrize("how", ["speaks", "ends", "breaks"])
async def test_what_has_not_gone_goes_over_another_connection_whatever_its_method_is(stand: SetUp, how: str) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.says(OK)
    near.takes()
    near.says(request(b"POST", b"/llm/x", body=b"hello"))
    if how == "speaks":
        far.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", unasked=True)
    elif how == "ends":
        far.half_closes()
    else:
        far.breaks(ConnectionResetError())
    again = await wire.connects()
    assert again.takes().endswith(b"\r\n\r\nhello")
    again.says(OK)
    assert near.takes().endswith(b"\r\n\r\nok")
    assert [(fact.error, fact.resends, fact.sent_bytes) for fact in wire.attempts] == [("", 0, 0), ("", 0, 5)]
    assert wire.is_clean


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_call_hears_at_once_that_its_upstream_is_closed(stand: SetUp, has_begun: bool) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", body=b"hello"))
    far.takes()
    if has_begun:
        far.says(CHUNKED + b"3\r\nabc\r\n")
        near.takes()
    await wire.pool.close()
    if has_begun:
        assert near.takes() == b"" and near.ended == "close", "cut, without a last chunk"
    else:
        assert error_of(near.takes()) == "draining"
    assert [fact.error for fact in wire.attempts] == [fact.error for fact in wire.exchanges] == ["draining"]
    assert wire.attempts[0].received_bytes == wire.exchanges[0].response_bytes == (3 if has_begun else 0)


async def test_sent_is_what_was_given_to_a_connection(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(request(b"POST", b"/llm/x", body=b"hello"))
    await wire.does_not_connect(UpstreamFailed("connect_failed"))
    assert error_of(near.takes()) == "connect_failed"
    assert wire.attempts[0].sent_bytes == 0
    assert wire.exchanges[0].request_bytes == 5


async def test_a_second_try_that_may_not_be_made_is_a_refusal(stand: SetUp) -> None:
    told: list[Attempt] = []

    def once(attempt: Attempt) -> None:
        told.append(attempt)
        if len(told) == 2:
            raise Refused("destination_denied", "enough")

    wire = stand(guard(once))
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.breaks()
    assert error_of(near.takes()) == "destination_denied"
    assert len(told) == 2
    assert all(attempt.settled for attempt in told)


# deadlines


async def test_the_first_byte_has_a_deadline(stand: SetUp) -> None:
    wire = stand(upstream={"first_byte_timeout": 60.0})
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    wire.passes(60.0)
    assert not near.takes()
    wire.passes(0.1)
    answer = near.takes()
    assert (status_of(answer), error_of(answer)) == (504, "first_byte_timeout")
    assert far.ended == "abort"
    assert wire.is_clean


async def test_silence_in_the_middle_has_a_deadline(stand: SetUp) -> None:
    wire = stand(upstream={"idle_timeout": 60.0})
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.says(CHUNKED)
    wire.passes(50.0)
    far.says(b"1\r\na\r\n")
    wire.passes(50.0)
    assert not near.ended
    wire.passes(11.0)
    assert near.ended == "close"
    assert wire.exchanges[0].error == "idle_timeout"


async def test_a_request_body_has_a_deadline(stand: SetUp) -> None:
    wire = stand(listener={"idle_timeout": 60.0})
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", b"Content-Length: 5"))
    far.takes()
    wire.passes(50.0)
    near.says(b"x")
    wire.passes(50.0)
    assert not near.takes()
    wire.passes(11.0)
    assert error_of(near.takes()) == "body_timeout"
    assert wire.is_clean


async def test_a_policy_may_set_deadlines_of_its_own(stand: SetUp) -> None:
    def tighter(attempt: Attempt) -> None:
        attempt.first_byte_timeout_s, attempt.idle_timeout_s = 2.0, 3.0

    for says, code in ((b"", "first_byte_timeout"), (CHUNKED, "idle_timeout")):
        wire = stand(guard(tighter, Stage.TIMEOUT))
        far, near = wire.connection(), wire.client()
        near.says(request())
        far.takes()
        if says:
            far.says(says)
        wire.passes(1.9)
        assert not wire.exchanges
        wire.passes(1.2)
        assert wire.exchanges[0].error == code


async def test_the_wait_for_a_connection_has_the_pools_deadline(stand: SetUp) -> None:
    wire = stand(upstream={"max_connections": 1, "pool_timeout": 10.0, "first_byte_timeout": 1.0})
    wire.client().says(request())
    near = wire.client()
    near.says(request())
    wire.passes(9.0)
    assert not near.takes()
    wire.passes(1.1)
    assert error_of(near.takes()) == "pool_timeout"


# guards and permits


class Holding:
    """Guards that hold permits; `told` is (name, outcome) in the order of settling."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Outcome]] = []

    def at(self, name: str, stage: Stage) -> Any:
        return guard(lambda subject: subject.holds(Held(self.told, name)), stage, name)

    def all(self) -> list[Any]:
        return [
            self.at("e1", Stage.KILL_SWITCH),
            self.at("e2", Stage.LOOP_GUARD),
            self.at("a1", Stage.BUDGET),
            self.at("a2", Stage.LIMIT),
        ]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    @property
    def outcomes(self) -> list[tuple[int, str, int, int]]:
        return [(one.status, one.error, one.sent_bytes, one.received_bytes) for _, one in self.told]


IN_REVERSE = ["a2", "a1", "e2", "e1"]


@pytest.mark.parametrize("how", ["success", "failure", "unreachable", "client", "stop", "drain", "deadline", "cut", "bad chunk"])
async def test_permits_are_settled_once_in_reverse_with_what_became_of_the_call(stand: SetUp, how: str) -> None:
    holding = Holding()
    wire = stand(*holding.all())
    far = wire.connection() if how != "unreachable" else None
    near = wire.client()
    is_upload = how == "bad chunk"
    near.says(
        request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked") if is_upload else request(b"POST", b"/llm/x", body=b"hello")
    )
    assert holding.told == []
    inbound = near.protocol
    if far is None:
        await wire.does_not_connect(OSError("no"))
        expected = (502, "connect_failed", 5, 0), (0, "connect_failed", 0, 0)
    else:
        far.takes()
        match how:
            case "success":
                far.says(OK)
                expected = (200, "", 5, 2), (200, "", 5, 2)
            case "failure":
                far.breaks()
                expected = (502, "upstream_closed", 5, 0), (0, "upstream_closed", 5, 0)
            case "client":
                far.says(OK[:-1])
                near.half_closes()
                expected = (200, "client_gone", 5, 1), (200, "client_gone", 5, 1)
            case "stop":
                inbound.exchange.stop("enough")
                inbound.exchange and inbound.exchange.stop("again")
                expected = (503, "stopped", 5, 0), (0, "stopped", 5, 0)
            case "drain":
                inbound.cut()
                expected = (503, "draining", 5, 0), (0, "draining", 5, 0)
            case "deadline":
                wire.passes(601.0)
                expected = (504, "first_byte_timeout", 5, 0), (0, "first_byte_timeout", 5, 0)
            case "cut":
                far.says(OK[:-1])
                far.breaks()
                expected = (200, "upstream_cut", 5, 1), (200, "upstream_cut", 5, 1)
            case _:
                near.says(b"1\r\na\r\nnonsense\r\n")
                expected = (400, "bad_chunk", 1, 0), (0, "bad_chunk", 1, 0)
    assert holding.names == IN_REVERSE
    of_exchange, of_attempt = expected
    assert holding.outcomes == [of_attempt, of_attempt, of_exchange, of_exchange]
    await turns()
    assert holding.names == IN_REVERSE
    assert wire.is_clean


@pytest.mark.parametrize("stage", [Stage.RECORD, Stage.LIMIT])
@pytest.mark.parametrize("fault", [Refused("destination_denied", "no"), ValueError("a broken policy")])
async def test_a_guard_that_refuses_or_breaks_ends_the_call_and_settles_what_is_held(
    stand: SetUp, stage: Stage, fault: Exception
) -> None:
    holding = Holding()

    def no(subject: Any) -> None:
        raise fault

    wire = stand(
        holding.at("e1", Stage.KILL_SWITCH), *([holding.at("a1", Stage.BUDGET)] if stage is Stage.LIMIT else []), guard(no, stage)
    )
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", body=b"hello") + request(path=b"/elsewhere"))
    code = "destination_denied" if isinstance(fault, Refused) else "policy_failed"
    assert error_of(near.takes()) == code
    assert holding.names == (["a1", "e1"] if stage is Stage.LIMIT else ["e1"])
    assert {outcome[1] for outcome in holding.outcomes} == {code}
    assert [fact.policy for fact in wire.exchanges] == ["guard"]
    assert far.takes() == b""
    await turns()
    assert error_of(near.takes()) == "route_unknown", "the next request is read where it begins"
    assert wire.is_clean


async def test_a_permit_that_breaks_keeps_neither_the_others_nor_the_client_waiting(
    stand: SetUp, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def settle(self, outcome: Outcome) -> None:
            raise ValueError("broken")

    holding = Holding()
    broken = [guard(lambda subject: subject.holds(Broken()), stage, f"broken{stage}") for stage in (Stage.RECORD, Stage.LIMIT)]
    wire = stand(holding.at("e1", Stage.KILL_SWITCH), broken[0], holding.at("a1", Stage.BUDGET), broken[1])
    far, near = wire.connection(), wire.client()
    for _ in range(2):
        near.says(request())
        far.takes()
        far.says(OK)
        assert near.takes().endswith(b"ok")
    assert holding.names == ["a1", "e1"] * 2
    assert len(wire.exchanges) == len(wire.attempts) == 2
    assert "a policy failed at the end of a call" in caplog.text
    assert wire.is_clean


@pytest.mark.parametrize("stage", [Stage.KILL_SWITCH, Stage.LIMIT])
async def test_a_guard_may_stop_the_exchange_and_the_body_is_still_read_past(stand: SetUp, stage: Stage) -> None:
    holding = Holding()

    def stop(subject: Any) -> None:
        exchange: Exchange = subject if isinstance(subject, Exchange) else subject.exchange
        exchange.stop("no more")

    wire = stand(guard(stop, stage), *([holding.at("a1", Stage.CHAOS)]))
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/x", body=b"hello") + request(path=b"/elsewhere"))
    assert error_of(near.takes()) == "stopped"
    await turns()
    assert error_of(near.takes()) == "route_unknown"
    near.says(request(b"POST", b"/llm/x", b"Content-Length: 100"))
    assert error_of(near.takes()) == "stopped"
    assert near.has_written_eof
    near.says(request(path=b"/elsewhere"))
    assert near.takes() == b"", "a body is no request"
    assert [fact.error for fact in wire.exchanges] == ["stopped", "route_unknown", "stopped"]
    assert holding.names == ["a1"] * 2
    assert far.takes() == b""
    assert wire.is_clean


# stop


async def test_stop_ends_a_stream_at_once(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.says(CHUNKED + b"2\r\nok\r\n")
    wire.listener.exchanges()[0].stop("budget")
    assert near.takes().endswith(b"2\r\nok\r\n")
    assert (near.ended, far.ended) == ("close", "abort")
    assert wire.exchanges[0].error == "stopped"
    assert wire.exchanges[0].response_bytes == 2


async def test_stop_ends_a_wait_for_a_connection(stand: SetUp) -> None:
    wire = stand()
    near = wire.client()
    near.says(request())
    wire.listener.exchanges()[0].stop("enough")
    assert error_of(near.takes()) == "stopped"
    assert wire.pool.waiting_count == 0
    await wire.connects()
    assert wire.is_clean


# tunnels and upgrades

WEBSOCKET = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def upgrading(wire: Stand, *, early: bytes = b"") -> tuple[FakeTransport, FakeTransport]:
    far, near = wire.connection(), wire.client()
    near.says(request(b"GET", b"/llm/x", b"Connection: Upgrade", b"Upgrade: websocket") + early)
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in far.takes()
    return far, near


async def test_an_upgrade_becomes_a_tunnel(stand: SetUp) -> None:
    wire = stand()
    far, near = upgrading(wire, early=b"early ")
    near.says(b"birds")
    far.says(WEBSOCKET + b"first")
    answer = near.takes()
    assert answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"first")
    assert far.takes() == b"early birds"
    assert wire.listener.in_flight == 1 and wire.pool.open_count == 0
    near.says(b"ping")
    far.says(b"pong!")
    assert (far.takes(), near.takes()) == (b"ping", b"pong!")
    assert not wire.exchanges
    far.half_closes()
    near.half_closes()
    await turns()
    assert (wire.exchanges[0].request_bytes, wire.exchanges[0].response_bytes) == (15, 10)
    assert (wire.exchanges[0].status, wire.exchanges[0].error) == (101, "")
    assert wire.is_clean


async def test_stop_ends_a_tunnel(stand: SetUp) -> None:
    wire = stand()
    far, near = upgrading(wire)
    far.says(WEBSOCKET)
    wire.listener.exchanges()[0].stop("enough")
    assert (near.ended, far.ended) == ("reset", "reset")
    assert wire.exchanges[0].error == wire.attempts[0].error == "stopped"
    assert wire.is_clean


async def test_a_tunnel_has_its_own_deadline_and_permits_are_settled_at_its_end(stand: SetUp) -> None:
    holding = Holding()
    wire = stand(*holding.all(), listener={"tunnel_idle_timeout": 100.0})
    far, _near = upgrading(wire)
    far.says(WEBSOCKET)
    wire.passes(100.0)
    assert holding.told == []
    wire.passes(0.1)
    assert holding.names == IN_REVERSE
    assert {outcome[1] for outcome in holding.outcomes} == {"idle_timeout"}


async def test_an_upgrade_that_nobody_asked_for_is_malformed(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.says(WEBSOCKET)
    assert error_of(near.takes()) == "upstream_malformed"
    assert far.ended == "abort"
    assert wire.is_clean


async def test_an_upgrade_that_is_refused_is_a_response(stand: SetUp) -> None:
    wire = stand()
    far, near = upgrading(wire)
    far.says(OK)
    assert near.takes().endswith(b"ok")
    assert not near.ended


async def test_a_connect_is_dialled_and_refused_where_nobody_answers(stand: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dial() -> Any:
        raise OSError("never") from None

    wire = stand()
    near = wire.client()

    async def refused() -> Any:
        raise Refused("address_refused", "no")

    monkeypatch.setattr(wire.upstream, "dial_tunnel", refused)
    near.says(request(b"CONNECT", b"llm.test:8000"))
    await turns()
    answer = near.takes()
    assert (status_of(answer), error_of(answer)) == (403, "address_refused")
    assert wire.is_clean
    monkeypatch.setattr(wire.upstream, "dial_tunnel", dial)
    near = wire.client()
    near.says(request(b"CONNECT", b"llm.test:8000"))
    await turns()
    assert near.takes(), "whatever it raises, the client is not left waiting"
    assert wire.is_clean


async def test_a_connect_becomes_a_tunnel(stand: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    ours, peer = socket.socketpair()
    ours.setblocking(False)

    async def dial() -> tuple[socket.socket, str]:
        return ours, "192.0.2.9"

    wire = stand()
    monkeypatch.setattr(wire.upstream, "dial_tunnel", dial)
    near = wire.client()
    near.says(request(b"CONNECT", b"llm.test:8000") + b"hello")
    await turns(30)
    assert near.takes().startswith(b"HTTP/1.1 200 Connection established\r\n")
    assert peer.recv(100) == b"hello"
    assert wire.listener.exchanges()[0].status == 200
    wire.listener.exchanges()[0].stop("enough")
    await turns()
    assert wire.attempts[0].address == "192.0.2.9"
    assert wire.exchanges[0].request_bytes == 5
    peer.close()


async def test_a_client_that_goes_before_its_tunnel_stands_leaves_nothing(stand: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = stand()
    near = wire.client()

    async def dial() -> Any:
        near.half_closes()
        import socket

        ours, peer = socket.socketpair()
        peer.close()
        return ours, ""

    monkeypatch.setattr(wire.upstream, "dial_tunnel", dial)
    near.says(request(b"CONNECT", b"llm.test:8000"))
    await turns(20)
    assert wire.exchanges[0].error == "client_gone"
    assert wire.is_clean


# what ends while something else happens


async def test_a_client_that_takes_nothing_of_the_last_bytes_does_not_pause_a_free_connection(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    near.takes_nothing = True
    far.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)
    assert near.is_full
    assert wire.pool.idle_count == 1
    assert far.reads, "the next call on it would never be answered"


@pytest.mark.parametrize("how", ["whole", "cut", "gone"])
async def test_a_policy_that_stops_the_exchange_because_its_attempt_has_ended_does_not_end_it_twice(
    stand: SetUp, how: str
) -> None:
    class Stops:
        def __init__(self, attempt: Attempt) -> None:
            self._exchange = attempt.exchange

        def settle(self, outcome: Outcome) -> None:
            self._exchange.stop("the budget is used up")

    wire = stand(guard(lambda attempt: attempt.holds(Stops(attempt))))
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    match how:
        case "whole":
            far.says(OK)
            assert near.takes().endswith(b"ok")
        case "cut":
            far.says(OK[:-1])
            far.breaks()
        case _:
            near.half_closes()
    assert [fact.error for fact in wire.exchanges] == [{"whole": "", "cut": "upstream_cut"}.get(how, "client_gone")]
    assert len(wire.attempts) == 1
    assert wire.is_clean


async def test_pieces_of_a_stream_go_straight_on_and_never_past_what_waits(stand: SetUp) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request())
    far.takes()
    far.says(CHUNKED)
    assert near.written == b"", "the head waits for the end of the turn"
    far.says(b"1\r\na\r\n")
    assert near.written == b"", "and so does what comes behind it"
    near.takes()
    far.says(b"1\r\nb\r\n")
    assert near.written == b"1\r\nb\r\n"
    far.says(b"1\r")
    far.says(b"\nc\r\n0\r\n\r\n")
    assert near.takes() == b"1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"
    assert wire.exchanges[0].response_bytes == 3
    near.says(request())
    assert far.takes()
    assert far.protocol.straight is None


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (Refused("address_refused"), 403),
        (UpstreamFailed("connect_failed"), 502),
        (UpstreamFailed("connect_timeout"), 504),
        (Refused("proxy_auth_required"), 407),
    ],
)
@pytest.mark.parametrize("comes", ["at once", "while it is dialled", "after the answer"])
async def test_what_follows_a_refused_connect_is_no_request(stand: SetUp, refused: Refused, status: int, comes: str) -> None:
    """RFC 9931: a client that did not wait for the answer has sent what its tunnel was to carry, be it an attacker's."""
    wire = stand()

    async def dial_tunnel() -> Any:
        raise refused

    wire.upstream.dial_tunnel = dial_tunnel  # type: ignore[method-assign]
    far, near = wire.connection(), wire.client()
    smuggled = request(b"POST", b"/llm/smuggled", body=b"x")
    near.says(request(b"CONNECT", b"llm.test:8000", b"Connection: keep-alive") + (smuggled if comes == "at once" else b""))
    if comes == "while it is dialled":
        near.says(smuggled)
    await turns()
    answer = near.takes()
    if comes == "after the answer":
        near.says(smuggled)
        await turns()
    assert (status_of(answer), error_of(answer)) == (status, refused.code)
    assert b"\r\nConnection: close\r\n" in answer
    assert near.takes() == far.takes() == b""
    assert near.has_written_eof
    assert near.ended != "reset"
    assert len(wire.exchanges) == 1


async def test_a_connect_that_is_refused_before_it_is_dialled_ends_the_connection_too(stand: SetUp) -> None:
    smuggled = request(b"POST", b"/llm/smuggled", body=b"x")
    for settings, target, code in (
        ({"listener": {"users": {"user": Secret("password")}}}, b"llm.test:8000", "proxy_auth_required"),
        ({"traffic": {"default": "deny"}}, b"other.test:1", "destination_denied"),
        ({}, b"*", "bad_target"),
        ({}, b"h" * 256 + b":1", "bad_target"),
    ):
        wire = stand(**settings)
        far, near = wire.connection(), wire.client()
        near.says(request(b"CONNECT", target) + smuggled)
        await turns()
        answer = near.takes()
        assert error_of(answer) == code
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in answer
        assert far.takes() == b""


async def test_what_follows_an_upgrade_that_was_not_wanted_is_the_next_request(stand: SetUp) -> None:
    """Unlike a tunnel's, these bytes are HTTP/1.1 for whoever does not switch (RFC 9110 section 7.8)."""
    wire = stand()
    far, near = wire.connection(), wire.client()
    near.says(request(b"GET", b"/llm/ws", b"Connection: upgrade", b"Upgrade: websocket") + request())
    far.takes()
    far.says(OK)
    assert status_of(near.takes()) == 200
    await turns()
    assert far.takes().startswith(b"GET /base/x ")
