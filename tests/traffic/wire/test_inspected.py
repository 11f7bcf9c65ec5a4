"""Calls that a dialect reads: collected, changed where somebody wants it, read as they pass; with filters and without."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import Asked, McpAsked, ModelAsked
from sidecar.model.change import Clamp
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange
from sidecar.traffic.chain import Forward, Policy, Stage
from sidecar.traffic.response import Response
from tests.traffic.wire.stand import CHUNKED, OK, UNTIL_CLOSE, Stand, error_of, filtering, guard, request, status_of, turns
from tests.traffic.wire.transport import FakeTransport

SetUp = Callable[..., Stand]
PARROT = {"dialect": "tests.traffic.wire.parrot"}
CHUNKED_FIELD = b"Transfer-Encoding: chunked"


async def passing(exchange: Exchange, forward: Forward) -> Response:
    return await forward(exchange)


@pytest.fixture(params=["guards", "filters"])
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[SetUp]:
    """Make a stand whose upstream speaks parrot; its route has guards only, or a filter as well."""
    made: list[Stand] = []

    def make(*policies: Policy, **settings: Any) -> Stand:
        if request.param == "filters":
            policies = (filtering(passing, name="passing"), *policies)
        settings["upstream"] = {**PARROT, **settings.get("upstream", {})}
        wire = Stand(*policies, **settings)
        made.append(wire)
        return wire

    yield make
    for wire in made:
        await wire.stops()


async def asks(wire: Stand, *said: bytes) -> tuple[FakeTransport, FakeTransport]:
    """A client that has said something, and a connection that is free; returns (near, far)."""
    far, near = wire.connection(), wire.client()
    for part in said:
        near.says(part)
        await turns()
    return near, far


def say(body: bytes, *fields: bytes) -> bytes:
    return request(b"POST", b"/llm/say", *fields, body=body)


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def dialogue(wire: Stand) -> Dialogue:
    """What the one attempt, and the one exchange, came to."""
    (attempt,), (exchange,) = wire.attempts, wire.exchanges
    assert attempt.dialogue is not None
    assert attempt.dialogue is exchange.dialogue
    return attempt.dialogue


def heard(wire: Stand) -> ModelAnswered:
    answered = dialogue(wire).answered
    assert isinstance(answered, ModelAnswered)
    return answered


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_guards_know_what_is_asked_and_the_bytes_go_on_as_they_came(stand: SetUp) -> None:
    seen: list[Asked | None] = []
    wire = stand(
        guard(lambda exchange: seen.append(exchange.asked), Stage.KILL_SWITCH, "above"),
        guard(lambda attempt: seen.append(attempt.exchange.asked), name="below"),
    )
    near, far = await asks(wire, say(b"hello usage"))
    assert far.takes().endswith(b"\r\n\r\nhello usage")
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"\r\n\r\nok")
    assert seen == [ModelAsked("parrot", "chat", provider="p", model="hello usage")] * 2
    assert heard(wire).id == "ok"
    assert heard(wire).is_ended
    assert wire.is_clean


async def test_a_request_that_comes_in_pieces_is_collected_before_anybody_hears_of_it(stand: SetUp) -> None:
    seen: list[int] = []
    wire = stand(guard(lambda attempt: seen.append(1)))
    whole = say(b"hello usage and more")
    near, far = await asks(wire, whole[:-8], whole[-8:-3])
    assert (seen, far.takes()) == ([], b"")
    near.says(whole[-3:])
    await turns()
    assert far.takes().endswith(b"\r\n\r\nhello usage and more")
    assert seen == [1]
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert wire.attempts[0].sent_bytes == wire.exchanges[0].request_bytes == 20


async def test_a_chunked_request_is_read_without_its_framing_and_goes_on_in_it(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(
        wire, request(b"POST", b"/llm/say", CHUNKED_FIELD) + chunk(b"hel"), chunk(b"lo usage") + b"0\r\nX-T: 1\r\n\r\n"
    )
    assert far.takes().endswith(chunk(b"hel") + chunk(b"lo usage") + b"0\r\nX-T: 1\r\n\r\n")
    far.says(OK)
    await turns()
    asked = dialogue(wire).asked
    assert isinstance(asked, ModelAsked)
    assert asked.model == "hello usage"
    assert near.takes().endswith(b"ok")


async def test_what_is_longer_than_the_bound_streams_on_unread(stand: SetUp) -> None:
    wire = stand(traffic={"inspect_body_bytes": 10})
    whole = say(b"much more than ten bytes")
    near, far = await asks(wire, whole[:-4])
    assert far.takes().endswith(b"much more than ten b")
    near.says(whole[-4:])
    await turns()
    assert far.takes() == b"ytes"
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    said = dialogue(wire)
    assert (said.unread, said.asked.operation) == ("too_large", "say")
    assert heard(wire).id == "ok", "the answer is read all the same"


async def test_what_all_together_may_take_is_bounded(stand: SetUp) -> None:
    wire = stand(traffic={"inspect_total_bytes": 30})
    one, far = await asks(wire, say(b"x" * 25)[:-1])
    assert far.takes() == b""
    other = wire.client()
    other.says(say(b"y" * 25)[:-1])
    await turns()
    assert far.takes().endswith(b"y" * 24), "there is no room for it: it streams on unread"
    one.half_closes()
    await turns()
    assert wire.listener.graph.room.taken_bytes == 0
    other.says(b"y")
    await turns()
    far.says(OK)
    await turns()
    assert [fact.dialogue.unread for fact in wire.attempts if fact.dialogue is not None] == ["no_room"]


async def test_chunks_that_grow_beyond_the_bound_stream_on_unread(stand: SetUp) -> None:
    wire = stand(traffic={"inspect_body_bytes": 10})
    near, far = await asks(wire, request(b"POST", b"/llm/say", CHUNKED_FIELD), chunk(b"12345"))
    assert far.takes() == b""
    near.says(chunk(b"67890123"))
    await turns()
    assert far.takes().endswith(chunk(b"12345") + chunk(b"67890123"))
    near.says(b"0\r\n\r\n")
    await turns()
    assert far.takes() == b"0\r\n\r\n"
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert dialogue(wire).unread == "too_large"


async def test_a_long_request_is_read_in_a_turn_of_its_own(stand: SetUp) -> None:
    seen: list[int] = []
    wire = stand(guard(lambda attempt: seen.append(1)))
    body = b"usage" * 300_000
    near, far = await asks(wire, say(body)[:-1])
    near.says(body[-1:])
    assert seen == []
    await turns()
    assert seen == [1]
    assert far.takes().endswith(body)
    near.half_closes()
    await turns()
    assert wire.is_clean


async def test_no_byte_is_lost_of_a_body_that_turns_out_to_be_too_large_whatever_comes_in_the_same_turn() -> None:
    wire = Stand(upstream=PARROT, traffic={"inspect_body_bytes": 2 << 20})
    near, far = await asks(wire, request(b"POST", b"/llm/say", CHUNKED_FIELD))
    sent = b""
    for number in range(6):  # in one turn, as a loop reads a socket that is full
        piece = chunk(b"%d" % number * (1 << 19))
        sent += piece
        near.says(piece)
    near.says(b"0\r\n\r\n")
    await turns()
    assert far.takes().endswith(sent + b"0\r\n\r\n")
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert dialogue(wire).unread == "too_large"
    await wire.stops()


async def test_a_client_that_goes_before_that_turn_leaves_nothing(stand: SetUp) -> None:
    wire = stand()
    body = b"usage" * 300_000
    near, far = await asks(wire, say(body)[:-1])
    near.says(body[-1:])
    near.half_closes()
    await turns()
    assert far.takes() == b""
    assert [fact.error for fact in wire.exchanges] == ["client_gone"]
    assert wire.is_clean


async def test_a_body_that_the_dialect_cannot_read_passes_and_is_told(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"broken"))
    assert far.takes().endswith(b"broken")
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert dialogue(wire).unread == "unreadable"


async def test_a_coded_request_is_read_decoded_and_goes_on_coded(stand: SetUp) -> None:
    wire = stand(guard(lambda attempt: tried.append(attempt.change(Clamp(5)))))
    tried: list[str] = []
    coded = gzip.compress(b"squeezed usage", mtime=0)
    _, far = await asks(wire, say(coded, b"Content-Encoding: gzip"))
    assert far.takes().endswith(coded)
    assert tried == ["coded"]
    far.says(OK)
    await turns()
    asked = dialogue(wire).asked
    assert isinstance(asked, ModelAsked)
    assert asked.model == "squeezed usage"


async def test_other_paths_are_not_collected(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, request(b"POST", b"/llm/other", CHUNKED_FIELD), chunk(b"12345"))
    assert far.takes().endswith(chunk(b"12345"))
    near.says(b"0\r\n\r\n")
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert wire.attempts[0].dialogue is wire.exchanges[0].dialogue is None


async def test_nothing_is_read_where_the_bound_is_zero(stand: SetUp) -> None:
    wire = stand(traffic={"inspect_body_bytes": 0})
    _, far = await asks(wire, say(b"hello"))
    far.says(OK)
    await turns()
    assert wire.exchanges[0].dialogue is None


async def test_who_expects_to_be_told_to_continue_is_told_by_us(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, request(b"POST", b"/llm/say", b"Expect: 100-continue", b"Content-Length: 5"))
    assert near.takes() == b"HTTP/1.1 100 Continue\r\n\r\n"
    near.says(b"usage")
    await turns()
    assert b"Expect: 100-continue" in far.takes()
    far.says(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    await turns()
    assert near.takes().startswith(b"HTTP/1.1 200 OK\r\n"), "once is enough"


async def test_a_client_that_stops_in_the_middle_of_its_request_is_timed_out(stand: SetUp) -> None:
    wire = stand(listener={"idle_timeout": 5.0})
    near, far = await asks(wire, say(b"hello")[:-1])
    wire.passes(4.9)
    assert near.takes() == b""
    wire.passes(0.2)
    assert error_of(near.takes()) == "body_timeout"
    assert far.takes() == b""
    assert wire.attempts == []
    assert wire.is_clean


async def test_a_client_that_goes_while_its_request_is_collected_leaves_nothing(stand: SetUp) -> None:
    wire = stand()
    near, _ = await asks(wire, say(b"hello")[:-1])
    near.half_closes()
    await turns()
    assert [fact.error for fact in wire.exchanges] == ["client_gone"]
    assert wire.is_clean


async def test_an_exchange_can_be_stopped_while_its_request_is_collected(stand: SetUp) -> None:
    wire = stand()
    near, _ = await asks(wire, say(b"hello")[:-1])
    (exchange,) = wire.listener.exchanges()
    exchange.stop("enough")
    await turns()
    assert error_of(near.takes()) == "stopped"
    assert wire.is_clean


async def test_a_bad_chunk_while_a_request_is_collected_is_refused(stand: SetUp) -> None:
    wire = stand()
    near, _ = await asks(wire, request(b"POST", b"/llm/say", CHUNKED_FIELD) + chunk(b"one"), b"zz\r\n")
    await turns()
    assert error_of(near.takes()) == "bad_chunk"
    assert wire.is_clean


async def test_a_body_above_the_listeners_bound_is_refused(stand: SetUp) -> None:
    wire = stand(listener={"max_body_bytes": 4})
    near, _ = await asks(wire, say(b"hello"))
    assert error_of(near.takes()) == "body_bytes"
    assert wire.is_clean


async def test_a_refusal_is_said_in_the_clients_dialect(stand: SetUp) -> None:
    def refuses(attempt: Attempt) -> None:
        raise Refused("stopped", "no")

    wire = stand(guard(refuses))
    near, far = await asks(wire, say(b"hello"))
    answer = near.takes()
    assert (status_of(answer), error_of(answer)) == (503, "stopped")
    assert b"\r\nContent-Type: text/parrot\r\n" in answer
    assert b"\r\nx-parrot: polly\r\n" in answer
    assert answer.endswith(b"\r\n\r\nsquawk: stopped")
    assert far.takes() == b""
    assert wire.exchanges[0].status == 503
    near.says(say(b"again"))
    await turns()
    assert error_of(near.takes()) == "stopped", "the connection is kept"


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_guard_may_have_the_request_changed(stand: SetUp) -> None:
    told: list[str] = []
    wire = stand(guard(lambda attempt: told.append(attempt.change(Clamp(5)))))
    near, far = await asks(wire, say(b"hello usage"))
    assert far.takes().endswith(b"\r\n\r\nhello usage max=5")
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert told == [""]
    assert dialogue(wire).edits == ("clamp",)
    assert wire.attempts[0].sent_bytes == 17
    assert wire.exchanges[0].request_bytes == 11


async def test_the_length_that_goes_on_is_that_of_the_changed_body(stand: SetUp) -> None:
    wire = stand(guard(lambda attempt: attempt.change(Clamp(5)) and None))
    near, far = await asks(wire, say(b"hello usage"))
    assert b"\r\nContent-Length: 17\r\n" in far.takes()
    far.says(OK)
    await turns()
    near.says(say(b"again usage"))
    await turns()
    sent = far.takes()
    assert b"\r\nContent-Length: 17\r\n" in sent
    assert sent.endswith(b"again usage max=5")


async def test_a_call_that_never_connected_has_sent_nothing_however_it_was_changed(stand: SetUp) -> None:
    wire = stand(guard(lambda attempt: attempt.change(Clamp(5)) and None))
    near = wire.client()
    near.says(say(b"hello usage"))
    await wire.does_not_connect(UpstreamFailed("connect_failed", "no"))
    await turns()
    assert error_of(near.takes()) == "connect_failed"
    assert wire.attempts[0].sent_bytes == 0


async def test_a_changed_chunked_request_keeps_what_stands_behind_its_last_chunk(stand: SetUp) -> None:
    wire = stand(guard(lambda attempt: attempt.change(Clamp(5)) and None))
    whole = request(b"POST", b"/llm/say", CHUNKED_FIELD) + chunk(b"hi usage") + b"0\r\nX-T: 1\r\n\r\n"
    _, far = await asks(wire, whole)
    assert far.takes().endswith(chunk(b"hi usage max=5") + b"0\r\nX-T: 1\r\n\r\n")


async def test_a_change_that_was_there_already_is_none(stand: SetUp) -> None:
    told: list[str] = []
    wire = stand(guard(lambda attempt: told.append(attempt.change(Clamp(7)))))
    _, far = await asks(wire, say(b"hello usage"))
    far.says(OK)
    await turns()
    assert (told, dialogue(wire).edits) == ([""], ())


async def test_a_large_request_is_not_kept_until_its_answer_comes() -> None:
    wire = Stand(upstream=PARROT)
    far, near = wire.connection(), wire.client()
    near.says(say(b"usage" * 20_000))
    await turns()
    call = near.protocol.call
    assert call._inspection._body is None
    assert call._transcript.body is None
    far.takes()
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert wire.attempts[0].sent_bytes == 100_000
    await wire.stops()


async def test_a_signed_request_asks_for_the_codings_that_its_client_wants(stand: SetUp) -> None:
    wire = stand()
    _, far = await asks(wire, say(b"usage", b"Authorization: AWS4-HMAC-SHA256 x", b"Accept-Encoding: gzip,dcb"))
    assert b"\r\nAccept-Encoding: gzip,dcb\r\n" in far.takes()


async def test_a_list_of_codings_that_can_all_be_read_stays_as_it_is_written(stand: SetUp) -> None:
    wire = stand()
    _, far = await asks(wire, say(b"usage", b"Accept-Encoding: gzip,deflate"))
    assert b"\r\nAccept-Encoding: gzip,deflate\r\n" in far.takes()


async def test_a_long_body_that_only_may_be_a_message_is_none(stand: SetUp) -> None:
    wire = stand(upstream={"dialect": "auto"})
    body = b'{"what": "%b"}' % (b"x" * 70_000)
    near, far = await asks(wire, request(b"POST", b"/llm/anything", b"Content-Type: application/json", body=body))
    assert far.takes().endswith(body)
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    assert wire.exchanges[0].dialogue is None


async def test_a_chunked_request_that_is_changed_goes_on_in_one_chunk(stand: SetUp) -> None:
    wire = stand(guard(lambda attempt: attempt.change(Clamp(5)) and None))
    _, far = await asks(wire, request(b"POST", b"/llm/say", CHUNKED_FIELD) + chunk(b"hi ") + chunk(b"usage") + b"0\r\n\r\n")
    sent = far.takes()
    assert sent.endswith(chunk(b"hi usage max=5") + b"0\r\n\r\n")
    assert b"Content-Length" not in sent


@pytest.mark.parametrize(
    "field",
    [b"Authorization: AWS4-HMAC-SHA256 Credential=x", b"Content-Digest: sha-256=:x:", b"Digest: x", b"Signature-Input: s=()"],
)
async def test_a_signed_request_is_never_changed_and_who_asked_is_told(stand: SetUp, field: bytes) -> None:
    told: list[str] = []
    wire = stand(guard(lambda attempt: told.append(attempt.change(Clamp(5)))))
    _, far = await asks(wire, say(b"hello stream", field))
    assert far.takes().endswith(b"\r\n\r\nhello stream")
    far.says(OK)
    await turns()
    assert told == ["signed"]
    assert dialogue(wire).skipped == ("clamp:signed", "include_usage:signed")
    assert dialogue(wire).edits == ()


async def test_a_change_that_the_endpoint_does_not_take_is_skipped(stand: SetUp) -> None:
    told: list[str] = []
    wire = stand(guard(lambda attempt: told.append(attempt.change(Clamp(-1)))))
    _, far = await asks(wire, say(b"hello usage"))
    assert far.takes().endswith(b"\r\n\r\nhello usage")
    far.says(OK)
    await turns()
    assert (told, dialogue(wire).skipped) == (["not_taken"], ("clamp:not_taken",))


async def test_what_was_not_read_cannot_be_changed(stand: SetUp) -> None:
    told: list[str] = []
    wire = stand(guard(lambda attempt: told.append(attempt.change(Clamp(5)))), traffic={"inspect_body_bytes": 4})
    near, far = await asks(wire, say(b"hello"))
    far.says(OK)
    await turns()
    near.says(request(b"POST", b"/llm/other", body=b"x"))
    await turns()
    assert told == ["too_large", "unread"]


async def test_usage_is_asked_for_and_taken_out_again(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"a stream", b"Accept-Encoding: gzip, br"))
    sent = far.takes()
    assert sent.endswith(b"\r\n\r\na stream usage")
    assert b"\r\nAccept-Encoding: identity\r\n" in sent, "out of a coded stream nothing can be taken"
    far.says(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    await turns()
    for content in (b"one", b"t#wo", b"#"):
        far.says(chunk(content))
        await turns()
    far.says(b"0\r\n\r\n")
    await turns()
    assert near.takes().endswith(chunk(b"one") + chunk(b"two") + b"0\r\n\r\n")
    assert heard(wire).id == "onet#wo#"
    assert dialogue(wire).edits == ("include_usage",)
    near.says(say(b"a stream with usage"))
    await turns()
    assert b"usage usage" not in far.takes()


async def test_a_stream_that_came_coded_all_the_same_passes_whole(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"a stream"))
    coded = gzip.compress(b"one#", mtime=0)
    far.says(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    await turns()
    far.says(chunk(coded) + b"0\r\n\r\n")
    await turns()
    assert near.takes().endswith(chunk(coded) + b"0\r\n\r\n")
    assert heard(wire).id == "one#"


async def test_nothing_is_added_where_the_route_does_not_want_it(stand: SetUp) -> None:
    wire = stand(route={"include_usage": False})
    _, far = await asks(wire, say(b"a stream"))
    assert far.takes().endswith(b"\r\n\r\na stream")


async def test_nothing_is_added_where_nobody_here_counts(stand: SetUp) -> None:
    wire = stand(route={"usage_on": "agent"})
    near, far = await asks(wire, say(b"a stream", b"Accept-Encoding: gzip"))
    sent = far.takes()
    assert sent.endswith(b"\r\n\r\na stream")
    assert b"\r\nAccept-Encoding: gzip\r\n" in sent
    far.says(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5\r\n\r\none#!")
    await turns()
    assert near.takes().endswith(b"one#!"), "what the server tells by itself is the client's"
    assert (dialogue(wire).edits, dialogue(wire).skipped) == ((), ())


async def test_a_list_of_codings_over_several_lines_is_one_list_also_where_a_stream_must_have_none(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"a usage", b"Accept-Encoding: dcb", b"X-One: 1", b"accept-encoding: br, gzip;q=0.5"))
    sent = far.takes()
    assert b"\r\nAccept-Encoding: br, gzip;q=0.5\r\nX-One: 1\r\n" in sent
    assert sent.lower().count(b"accept-encoding") == 1
    far.says(OK)
    await turns()
    near.says(say(b"a stream", b"Accept-Encoding: gzip", b"Accept-Encoding: br"))
    await turns()
    sent = far.takes()
    assert b"\r\nAccept-Encoding: identity\r\n" in sent
    assert sent.lower().count(b"accept-encoding") == 1


async def test_who_takes_nothing_but_a_coding_is_not_asked_to_do_without(stand: SetUp) -> None:
    wire = stand()
    _, far = await asks(wire, say(b"a stream", b"Accept-Encoding: gzip", b"Accept-Encoding: identity;q=0"))
    sent = far.takes()
    assert b"\r\nAccept-Encoding: gzip, identity;q=0\r\n" in sent
    assert sent.endswith(b"\r\n\r\na stream"), "out of a coded stream nothing can be taken"


async def test_an_error_in_answer_to_a_changed_request_keeps_its_length(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"a stream"))
    far.says(b"HTTP/1.1 429 Slow Down\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n#no!")
    await turns()
    answer = near.takes()
    assert b"\r\nContent-Length: 4\r\n" in answer
    assert answer.endswith(b"#no!")
    assert heard(wire).error_type == "squawk"


# ── streams that are cut ─────────────────────────────────────────────────────────────────────────────────────────────

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'
FIRST = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
LAST = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
COUNT = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = FIRST + LAST + COUNT + DONE
STREAMS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
FRAMINGS = {"chunked": b"Transfer-Encoding: chunked\r\n\r\n", "length": b"Content-Length: %d\r\n\r\n" % len(STREAM)}


def content_in(answer: bytes) -> bytes:
    """The content of the chunks of an answer that was cut."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    found = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        assert rest[int(size, 16) :][:2] == b"\r\n", rest
        found += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return found


def chats(wire: Stand, version: bytes = b"1.1") -> tuple[FakeTransport, FakeTransport]:
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/v1/chat/completions", b"Content-Type: application/json", body=CHAT, version=version))
    return near, far


def lies_between(got: bytes, came: bytes) -> None:
    """What the client would have got without us, but that the beginning of what was never whole may be left out of it."""
    before, found, behind = came.partition(COUNT)
    if found:
        assert got == before + behind
    elif COUNT.startswith(came[len(FIRST + LAST) :]) and came.startswith(FIRST + LAST):
        assert came.startswith(got)
        assert got.startswith(FIRST + LAST)
    else:
        assert got == came


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("ending", ["upstream", "reset", "silence", "operator"])
async def test_a_stream_that_is_cut_at_whichever_byte_leaves_nothing_behind(stand: SetUp, framing: str, ending: str) -> None:
    wire = stand(upstream={"dialect": "openai", "idle_timeout": 5.0})
    for cut in range(len(FIRST) - 2, len(STREAM), 1 if ending == "upstream" else 7):
        near, far = chats(wire)
        await turns()
        assert b'"include_usage":true' in far.takes()
        came = STREAM[:cut]
        far.says(STREAMS + FRAMINGS[framing] + (chunk(came[:60]) if framing == "chunked" else came[:60]))
        await turns()
        far.says(chunk(came[60:]) if framing == "chunked" else came[60:])
        await turns()
        if ending == "upstream":
            far.half_closes()
        elif ending == "reset":
            far.breaks(ConnectionResetError())
        elif ending == "silence":
            wire.passes(6.0)
        else:
            next(iter(wire.listener.exchanges())).stop("enough")
        await turns()
        assert near.ended, "never a clean end"
        lies_between(content_in(near.takes()), came)
    assert wire.is_clean


async def test_a_stream_of_known_length_that_is_cut_never_looks_whole_to_an_old_client(stand: SetUp) -> None:
    wire = stand(upstream={"dialect": "openai"})
    near, far = chats(wire, version=b"1.0")
    await turns()
    far.takes()
    far.says(STREAMS + FRAMINGS["length"] + FIRST + LAST[:20])
    await turns()
    far.half_closes()
    await turns()
    assert near.takes().endswith(b"\r\n\r\n" + FIRST + LAST[:20])
    assert near.ended == "reset"


async def test_a_client_that_goes_in_the_middle_of_an_event_is_written_nothing(stand: SetUp) -> None:
    wire = stand(upstream={"dialect": "openai"})
    near, far = chats(wire)
    await turns()
    far.says(STREAMS + FRAMINGS["chunked"] + chunk(FIRST + LAST[:20]))
    await turns()
    assert content_in(near.takes()) == FIRST
    near.half_closes()
    await turns()
    assert near.takes() == b""
    assert wire.exchanges[0].error == "client_gone"
    assert wire.is_clean


# ── trace context in the body ────────────────────────────────────────────────────────────────────────────────────────

IN_BODY = b"00-11111111111111111111111111111111-2222222222222222-01"
IN_HEAD = b"00-33333333333333333333333333333333-4444444444444444-01"


async def test_the_context_of_a_tools_request_is_the_parent_and_that_of_the_head_a_link(stand: SetUp) -> None:
    wire = stand()
    _, far = await asks(wire, request(b"POST", b"/llm/tool", b"traceparent: " + IN_HEAD, body=b"parent:" + IN_BODY))
    sent = far.takes()
    far.says(OK)
    await turns()
    (exchange,), (attempt,) = wire.exchanges, wire.attempts
    assert exchange.trace_id == attempt.trace_id == bytes.fromhex("11" * 16)
    assert exchange.parent_id == bytes.fromhex("22" * 8)
    assert exchange.link == bytes.fromhex("33" * 16 + "44" * 8)
    on_its_way = b"00-%b-%b-01" % (b"11" * 16, attempt.span_id.hex().encode())
    assert b"\r\ntraceparent: " + on_its_way + b"\r\n" in sent
    assert sent.endswith(b" meta=" + on_its_way)
    assert dialogue(wire).edits == ("meta",)


async def test_a_context_that_is_none_changes_nothing(stand: SetUp) -> None:
    wire = stand(route={"trace_in_meta": False})
    body = b"parent:" + IN_BODY.replace(b"1", b"0")
    _, far = await asks(wire, request(b"POST", b"/llm/tool", b"traceparent: " + IN_HEAD, body=body))
    assert far.takes().endswith(body)
    far.says(OK)
    await turns()
    assert wire.exchanges[0].trace_id == bytes.fromhex("33" * 16)
    assert wire.exchanges[0].link == b""


async def test_a_stream_that_stands_open_may_be_silent_for_long(stand: SetUp) -> None:
    wire = stand(upstream={"idle_timeout": 5.0}, listener={"tunnel_idle_timeout": 100.0})
    near, far = await asks(wire, request(b"POST", b"/llm/tool", body=b"stands"))
    far.says(CHUNKED)
    await turns()
    near.takes()
    wire.passes(90.0)
    assert near.ended == ""
    wire.passes(20.0)
    assert near.ended
    assert wire.attempts[0].error == "idle_timeout"
    asked = dialogue(wire).asked
    assert isinstance(asked, McpAsked)
    assert asked.is_standing


# ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", [CHUNKED, UNTIL_CLOSE])
async def test_every_piece_of_a_stream_is_read_as_it_passes(stand: SetUp, head: bytes) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"usage"))
    frame = chunk if head is CHUNKED else bytes
    far.says(head)
    await turns()
    near.takes()
    for content in (b"one", b"two", b"three"):
        far.says(frame(content))
        await turns()
        assert near.takes() == chunk(content)
    if head is CHUNKED:
        far.says(b"0\r\n\r\n")
    else:
        far.half_closes()
    await turns()
    assert near.takes() == b"0\r\n\r\n"
    assert heard(wire).id == "onetwothree"
    assert heard(wire).is_ended
    assert dialogue(wire).first_content_s > 0


@pytest.mark.parametrize("first", [b"one", b"y" * 100_000], ids=["short", "long"])
async def test_an_upstream_waits_while_what_it_has_said_is_being_read(monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    cpu_ns = iter(range(0, 10**12, 1_000_000))  # a millisecond for each step of 16 KiB
    monkeypatch.setattr("sidecar.traffic.transcript.time.thread_time_ns", lambda: next(cpu_ns))
    wire = Stand(upstream=PARROT)
    near, far = await asks(wire, say(b"usage"))
    far.says(CHUNKED + chunk(first))
    await turns()
    if not far.reads:  # a first piece that is long is held back, too
        await asyncio.sleep(0)
        await turns()
    assert far.reads
    near.takes()
    far.says(chunk(b"x" * 200_000))
    assert near.takes().endswith(chunk(b"x" * 200_000))  # passed on before it is read
    assert not far.reads
    near.protocol.pause_writing()
    near.protocol.resume_writing()
    assert not far.reads  # a client that takes its bytes is not what it waits for
    near.protocol.pause_writing()
    await turns()
    await turns()
    assert not far.reads  # nor is the reading any more
    near.protocol.resume_writing()
    assert far.reads
    far.says(chunk(b"x" * 200_000) + b"0\r\n\r\n")
    await turns()
    assert heard(wire).content_bytes == 400_000 + len(first)
    assert heard(wire).is_ended
    await wire.stops()


async def test_many_chunks_in_one_read_are_read_as_their_content(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"usage"))
    far.says(CHUNKED + chunk(b"one") + chunk(b"two"))
    await turns()
    far.says(chunk(b"three")[:4])
    await turns()
    far.says(chunk(b"three")[4:] + chunk(b"four") + b"0\r\n\r\n")
    await turns()
    near.takes()
    assert heard(wire).id == "onetwothreefour"


async def test_a_long_body_of_known_length_is_read_in_pieces(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"usage"))
    far.says(b"HTTP/1.1 200 OK\r\nX-Parrot: polly\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\none")
    await turns()
    far.says(b"two")
    await turns()
    far.says(b"six")
    await turns()
    assert near.takes().endswith(b"onetwosix")
    assert heard(wire).id == "onetwosix"
    assert heard(wire).model == "200 text/plain polly"


async def test_a_coded_answer_is_read_decoded_and_passes_coded(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"usage", b"Accept-Encoding: gzip, dcb"))
    assert b"\r\nAccept-Encoding: gzip\r\n" in far.takes(), "nothing is asked for that we cannot read"
    coded = gzip.compress(b"squeezed", mtime=0)
    far.says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(coded), coded))
    await turns()
    assert near.takes().endswith(coded)
    assert heard(wire).id == "squeezed"


@pytest.mark.parametrize(
    ("coding", "body", "why"),
    [(b"compress", b"x", "unknown_coding"), (b"gzip", b"no gzip", "broken"), (b"gzip", gzip.compress(bytes(8 << 20)), "bomb")],
    ids=["unknown", "broken", "bomb"],
)
async def test_a_coding_that_cannot_be_read_costs_the_reading_and_nothing_else(
    stand: SetUp, coding: bytes, body: bytes, why: str
) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"usage"))
    far.says(b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (coding, len(body), body))
    await turns()
    assert near.takes().endswith(body)
    assert dialogue(wire).unread == why
    assert heard(wire).is_unreadable
    assert not heard(wire).is_ended


async def test_a_reader_that_fails_costs_the_reading_and_nothing_else(
    stand: SetUp, caplog: pytest.LogCaptureFixture
) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"usage"))
    far.says(CHUNKED + chunk(b"one") + chunk(b"two?"))
    await turns()
    far.says(chunk(b"three") + b"0\r\n\r\n")
    await turns()
    assert near.takes().endswith(chunk(b"three") + b"0\r\n\r\n")
    assert dialogue(wire).unread == "failed"
    assert "failed to read an answer" in caplog.text


async def test_what_a_cut_stream_had_said_is_kept(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"usage"))
    far.says(CHUNKED)
    await turns()
    far.says(chunk(b"one"))
    await turns()
    far.half_closes()
    await turns()
    assert near.ended
    assert wire.attempts[0].error == "upstream_cut"
    assert (heard(wire).id, heard(wire).is_ended) == ("one", False)


async def test_what_was_said_until_the_client_went_is_kept(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"usage"))
    far.says(CHUNKED)
    await turns()
    far.says(chunk(b"one"))
    await turns()
    near.half_closes()
    await turns()
    assert wire.exchanges[0].error == "client_gone"
    assert (heard(wire).id, heard(wire).is_ended) == ("one", False)


async def test_an_upstream_that_never_answers_leaves_a_dialogue_without_answer(stand: SetUp) -> None:
    wire = stand(upstream={"first_byte_timeout": 5.0})
    near, _ = await asks(wire, say(b"usage"))
    wire.passes(6.0)
    await turns()
    assert error_of(near.takes()) == "first_byte_timeout"
    assert dialogue(wire).answered is None


async def test_the_next_request_of_a_connection_has_a_dialogue_of_its_own(stand: SetUp) -> None:
    wire = stand()
    near, far = await asks(wire, say(b"one usage"))
    far.says(OK)
    await turns()
    near.says(say(b"two usage"))
    await turns()
    far.says(OK)
    await turns()
    assert [fact.dialogue.asked.model for fact in wire.attempts if fact.dialogue is not None] == ["one usage", "two usage"]  # type: ignore[attr-defined]  # they are calls to models


async def test_usage_is_left_to_an_agent_that_tells_it_itself(stand: SetUp) -> None:
    wire = stand(route={"usage_on": "agent"})
    _, far = await asks(wire, say(b"usage"))
    far.says(OK)
    await turns()
    assert dialogue(wire).cost is None


# ── attempts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_attempt_has_its_own_dialogue_and_its_own_changes() -> None:
    async def again(exchange: Exchange, forward: Forward) -> Response:
        response = await forward(exchange)
        if response.status == 500:
            response.drop()
            response = await forward(exchange)
        return response

    wire = Stand(
        filtering(again), guard(lambda attempt: attempt.change(Clamp(attempt.resends)) and None), upstream=PARROT
    )
    far, near = wire.connection(), wire.client()
    near.says(say(b"hello usage"))
    await turns()
    assert far.takes().endswith(b"hello usage max=0")
    far.says(b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nbad")
    await turns()
    assert far.takes().endswith(b"hello usage max=1")
    far.says(OK)
    await turns()
    assert near.takes().endswith(b"ok")
    ids = [fact.dialogue.answered.id for fact in wire.attempts if fact.dialogue and fact.dialogue.answered]  # type: ignore[attr-defined]  # as above
    assert ids == ["bad", "ok"]
    assert wire.exchanges[0].dialogue is wire.attempts[1].dialogue
    await wire.stops()


async def test_an_idempotent_call_over_a_stale_connection_is_read_once_more() -> None:
    wire = Stand(upstream=PARROT)
    far, near = wire.connection(), wire.client()
    near.says(request(b"GET", b"/llm/say"))
    far.takes()
    far.half_closes()
    fresh = await wire.connects()
    assert fresh.takes().startswith(b"GET /base/say HTTP/1.1\r\n")
    fresh.says(OK)
    assert near.takes().endswith(b"ok")
    assert [fact.dialogue is not None for fact in wire.attempts] == [True, True]
    assert wire.exchanges[0].dialogue is wire.attempts[1].dialogue
    await wire.stops()


CARD = b'{"jsonrpc":"2.0","id":7,"method":"GetExtendedAgentCard"}'
CARD_ANSWER = b'{"jsonrpc":"2.0","id":7,"result":{"name":"n","url":"http://llm.test:8000/base/a2a"}}'
AS_JSON = b"Content-Type: application/json"


def leads_cards(*policies: Policy, dialect: str = "auto") -> tuple[Stand, FakeTransport, FakeTransport]:
    wire = Stand(*policies, upstream={"dialect": dialect})
    wire.runtime.services["traffic.routes"] = {"llm": "/llm/"}  # as the plane says it
    far, near = wire.connection(), wire.client()
    return wire, near, far


def is_led(answer: bytes) -> bool:
    """Whether a card was given that leads to the sidecar."""
    return b'"url":"http://a/llm/a2a"' in answer


async def test_a_card_that_is_asked_for_in_a_body_may_have_other_requests_behind_it() -> None:
    wire, near, far = leads_cards()
    other = CARD.replace(b"GetExtendedAgentCard", b"GetTask")
    behind = request(b"POST", b"/llm/a2a", AS_JSON, body=other) + request(b"POST", b"/llm/a2a", AS_JSON, body=CARD)
    near.says(request(b"POST", b"/llm/a2a", AS_JSON, body=CARD) + behind[:-5])
    await turns()
    for body in (CARD, other, CARD):
        sent = far.takes()
        assert sent.count(b"POST ") == 1, "each in its turn"
        assert sent.endswith(body)
        far.says(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (AS_JSON, len(CARD_ANSWER), CARD_ANSWER))
        await turns()
        answer = near.takes()
        assert (status_of(answer), is_led(answer)) == (200, body == CARD)
        if body == other:
            near.says(behind[-5:])
            await turns()
    assert [fact.request_bytes for fact in wire.exchanges] == [len(CARD), len(other), len(CARD)]
    assert [fact.sent_bytes for fact in wire.attempts] == [len(CARD), len(other), len(CARD)]
    assert wire.is_clean
    await wire.stops()


@pytest.mark.parametrize("expects", [False, True], ids=["at once", "expects 100"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_a_card_is_asked_for_in_whatever_framing_and_pieces(*, expects: bool, is_chunked: bool) -> None:
    wire, near, far = leads_cards()
    framing = CHUNKED_FIELD if is_chunked else b"Content-Length: %d" % len(CARD)
    near.says(request(b"POST", b"/llm/a2a", AS_JSON, framing, *[b"Expect: 100-continue"][:expects]))
    await turns()
    assert near.takes() == (b"HTTP/1.1 100 Continue\r\n\r\n" if expects else b"")
    content = chunk(CARD[:9]) + chunk(CARD[9:]) + b"0\r\nX-T: 1\r\n\r\n" if is_chunked else CARD
    near.says(content[:14])  # a whole chunk, where there are any
    await turns()
    assert far.takes() == b""
    near.says(content[14:])
    await turns()
    assert far.takes().endswith(b"\r\n\r\n" + content)
    said = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (AS_JSON, len(CARD_ANSWER), CARD_ANSWER)
    far.says((b"HTTP/1.1 100 Continue\r\n\r\n" if expects else b"") + said)
    await turns()
    answer = near.takes()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), "once is enough"
    assert is_led(answer)
    assert wire.is_clean
    await wire.stops()


@pytest.mark.parametrize("who", ["the client goes", "an operator stops it"])
@pytest.mark.parametrize("when", [0, 1, 12], ids=["at once", "a turn later", "when it is on its way"])
async def test_a_card_that_nobody_waits_for_any_more_is_over_at_once(who: str, when: int) -> None:
    wire, near, far = leads_cards()
    near.says(request(b"POST", b"/llm/a2a", AS_JSON, body=CARD))
    await turns(when)
    if who == "the client goes":
        near.half_closes()
    else:
        (exchange,) = wire.listener.exchanges()
        exchange.stop("enough")
    await turns()
    assert [fact.error for fact in wire.exchanges] == ["client_gone" if who == "the client goes" else "stopped"]
    if who == "an operator stops it":
        assert error_of(near.takes()) == "stopped"
        far = far if not far.ended else wire.connection()
        near.says(request(b"POST", b"/llm/a2a", AS_JSON, body=CARD))
        await turns()
        assert far.takes().endswith(CARD), "the connection is kept"
        far.says(OK)
        await turns()
    assert wire.is_clean
    await wire.stops()


async def test_a_card_that_was_stopped_while_its_long_request_waited_for_its_turn_is_not_asked_for() -> None:
    asked: list[int] = []
    wire, near, far = leads_cards(guard(lambda exchange: asked.append(1), Stage.KILL_SWITCH), dialect="a2a")
    body = CARD.replace(b"}", b',"params":{"x":"%b"}}' % (b"x" * (2 << 20)))
    whole = request(b"POST", b"/llm/a2a", AS_JSON, body=body)
    near.says(whole[:-1])
    (exchange,) = wire.listener.exchanges()
    near.says(whole[-1:])
    exchange.stop("enough")
    await turns()
    assert error_of(near.takes()) == "stopped"
    assert far.takes() == b""
    assert [fact.error for fact in wire.exchanges] == ["stopped"]
    assert (wire.attempts, asked) == ([], []), "nobody is asked about what is over"
    assert wire.is_clean
    await wire.stops()


async def test_what_only_looks_like_a_message_passes_as_if_nobody_had_looked() -> None:
    wire = Stand(upstream={"dialect": "auto"})
    far, near = wire.connection(), wire.client()
    near.says(request(b"POST", b"/llm/anything", b"Content-Type: application/json", body=b'{"what": "ever"}'))
    await asyncio.sleep(0)
    assert far.takes().endswith(b'{"what": "ever"}')
    far.says(OK)
    assert near.takes().endswith(b"ok")
    assert wire.exchanges[0].dialogue is None
    await wire.stops()
