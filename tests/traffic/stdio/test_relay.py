import json
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.answered import McpAnswered
from sidecar.model.asked import McpAsked
from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange
from sidecar.traffic.chain import Stage
from sidecar.traffic.stdio import relay
from sidecar.traffic.stdio.lines import MOST_BYTES
from tests.traffic.stdio.session import OK, Session, request


def test_a_call_and_its_answer_pass_untouched_and_are_told() -> None:
    session = Session()
    session.relay.client_sends(request())
    session.relay.server_sends(OK % b"1")
    assert (session.asked, session.said) == ([request()], [OK % b"1"])
    (attempt,), (exchange,) = session.told()
    assert (attempt.status, attempt.error, attempt.sent_bytes, attempt.received_bytes) == (
        200,
        "",
        len(request()),
        len(OK % b"1"),
    )
    assert (exchange.status, exchange.error, exchange.attempts, exchange.response_bytes) == (200, "", 1, len(OK % b"1"))
    assert (exchange.method, exchange.scheme, exchange.host, exchange.route, exchange.upstream, exchange.mode) == (
        "tools/call",
        "stdio",
        "tools",
        "tools",
        "stdio/tools",
        "stdio",
    )
    assert attempt.parent_id == exchange.span_id and attempt.trace_id == exchange.trace_id
    dialogue = attempt.dialogue
    assert dialogue is not None and isinstance(dialogue.asked, McpAsked) and isinstance(dialogue.answered, McpAnswered)
    assert (dialogue.asked.operation, dialogue.asked.target, dialogue.answered.content_bytes) == ("tools/call", "t", 1)
    assert dialogue.first_content_s > 0 and exchange.dialogue == dialogue


def test_lines_stay_in_order_and_whole_however_they_come() -> None:
    there = (
        request("1")
        + b"\n"
        + b"no json\r\n"
        + b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
        + request('"b"')
        + b"[]\n"
    )
    back = b'{"jsonrpc":"2.0","id":9,"method":"ping"}\n' + OK % b'"b"' + b"\xff\n" + OK % b"1" + b"{}\n"
    for size in (1, 7, 10_000):
        session = Session()
        for data, feed in ((there, session.relay.client_sends), (back, session.relay.server_sends)):
            for at in range(0, len(data), size):
                feed(data[at : at + size])
        assert (b"".join(session.asked), b"".join(session.said)) == (there, back)
        assert len(session.told()[1]) == 2


@pytest.mark.parametrize(
    "back", [b'{"id":1,"error":{"code":-32602,"message":"no"}}\n', b'{"id":1.0,"result":{"isError":true}}\n'], ids=range(2)
)
def test_an_answer_that_tells_a_failure_is_an_answer(back: bytes) -> None:
    session = Session()
    session.relay.client_sends(request())
    session.relay.server_sends(back)
    (attempt,), (exchange,) = session.told()
    assert (attempt.status, exchange.status, exchange.error) == (200, 200, "")
    assert attempt.dialogue is not None and isinstance(attempt.dialogue.answered, McpAnswered)
    assert attempt.dialogue.answered.is_tool_error or attempt.dialogue.answered.code == -32602


def test_ids_of_another_type_are_other_calls() -> None:
    session = Session()
    session.relay.client_sends(request("1") + request('"1"'))
    session.relay.server_sends(OK % b'"1"')
    assert list(session.relay.calls) == [1]


def refuse(subject: Any) -> None:
    raise Refused("host_refused", "not this tool")


@pytest.mark.parametrize("stage", [Stage.KILL_SWITCH, Stage.LIMIT])
def test_what_a_guard_refuses_never_reaches_the_server(stage: Stage) -> None:
    session = Session((stage, refuse))
    session.relay.client_sends(request("7") + b'{"jsonrpc":"2.0","method":"notifications/x"}\n')
    assert session.asked == [b'{"jsonrpc":"2.0","method":"notifications/x"}\n']
    (line,) = session.said
    error = json.loads(line)
    assert (error["id"], error["error"]["message"], line[-1:]) == (7, "host_refused: not this tool", b"\n")
    attempts, (exchange,) = session.told()
    assert (exchange.status, exchange.error, [attempt.error for attempt in attempts]) == (
        403,
        "host_refused",
        ["host_refused"] if stage is Stage.LIMIT else [],
    )


def test_a_guard_sees_what_is_asked_and_its_permit_is_settled() -> None:
    seen: list[Any] = []

    class Permit:
        def settle(self, outcome: Any) -> None:
            seen.append((outcome.status, outcome.error))

    def watch(attempt: Attempt) -> None:
        asked = attempt.exchange.asked
        assert isinstance(asked, McpAsked)
        seen.append((asked.target, asked.arguments))
        attempt.holds(Permit())

    session = Session((Stage.LIMIT, watch))
    session.relay.client_sends(request(arguments={"a": 1}))
    session.relay.server_sends(OK % b"1")
    assert seen == [("t", b'{"a": 1}'), (200, "")]


def test_a_policy_that_fails_fails_its_call_only(caplog: pytest.LogCaptureFixture) -> None:
    def broken(exchange: Exchange) -> None:
        if exchange.method == "tools/call":
            raise ValueError("broken")

    session = Session((Stage.KILL_SWITCH, broken))
    session.relay.client_sends(request() + request("2", "ping"))
    assert (session.codes(), session.asked) == (["policy_failed"], [request("2", "ping")])


def test_a_call_that_is_stopped_is_answered_and_the_server_is_told() -> None:
    session = Session()
    session.relay.client_sends(request())
    (exchange,) = session.listener.exchanges()
    exchange.stop("enough")
    assert session.codes() == ["stopped"]
    assert json.loads(session.asked[-1]) == {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    session.relay.server_sends(OK % b"1" + OK % b"1")
    assert len(session.said) == 2, "the late answer is nobody's; what comes after it is not ours to judge"
    assert [fact.error for fact in session.told()[1]] == ["stopped"]


def test_a_guard_may_stop_the_exchange_itself() -> None:
    session = Session((Stage.LIMIT, lambda attempt: attempt.exchange.stop("enough")))
    session.relay.client_sends(request())
    assert (session.codes(), session.asked) == (["stopped"], [])


@pytest.mark.parametrize(("raw_id", "cancels"), [("1", "1"), ('"a"', '"a"')])
def test_a_cancelled_call_is_over_and_the_server_is_told(raw_id: str, cancels: str) -> None:
    session = Session()
    cancel = f'{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{cancels}}}}}\n'.encode()
    session.relay.client_sends(request(raw_id) + cancel)
    assert b"".join(session.asked) == request(raw_id) + cancel
    (attempt,), (exchange,) = session.told()
    assert (attempt.error, exchange.error, exchange.status) == ("client_gone", "client_gone", 0)
    session.relay.server_sends(OK % raw_id.encode())
    assert session.said == [OK % raw_id.encode()]


def test_a_cancel_for_nobody_passes() -> None:
    session = Session()
    cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}\n'
    session.relay.client_sends(cancel)
    assert session.asked == [cancel]


def test_a_server_that_ends_answers_whoever_waits_with_an_error() -> None:
    session = Session()
    session.relay.client_sends(request("1") + request('"b"'))
    session.relay.server_sends(b'{"jsonrpc":"2.0","id":1,"resu')
    session.relay.server_ends()
    answers = [json.loads(line) for line in b"".join(session.said).splitlines()]  # half of an answer is nobody's
    assert [(answer["id"], answer["error"]["data"]["code"]) for answer in answers] == [
        (1, "upstream_closed"),
        ("b", "upstream_closed"),
    ]
    session.relay.client_sends(request("3"))
    assert b'"id":3' in session.said[-1] and b"upstream_closed" in session.said[-1]
    attempts, exchanges = session.told()
    assert [fact.error for fact in exchanges] == ["upstream_closed"] * 3
    assert len(attempts) == 2


def test_a_last_answer_without_a_line_end_is_one() -> None:
    session = Session()
    session.relay.client_sends(request())
    session.relay.server_sends((OK % b"1").rstrip(b"\n"))
    session.relay.server_ends()
    assert session.said == [OK % b"1"] and session.told()[1][0].error == ""


def test_a_last_request_without_a_line_end_is_one() -> None:
    session = Session()
    session.relay.client_sends(request().rstrip(b"\n"))
    assert session.asked == []
    session.relay.client_ends(lambda: session.asked.append(b"end"))
    assert session.asked == [request().rstrip(b"\n"), b"end"] and len(session.relay.calls) == 1


def test_nobody_hears_errors_when_the_client_is_gone() -> None:
    session = Session()
    session.relay.client_sends(request())
    session.relay.client_is_gone()
    assert session.said == [] and [fact.error for fact in session.told()[1]] == ["client_gone"]


def test_progress_and_requests_of_the_server_are_heard_of() -> None:
    session = Session()
    session.relay.client_sends(request(_meta={"progressToken": "p"}))
    session.relay.server_sends(b'{"method":"notifications/progress","params":{"progressToken":"p","progress":1}}\n')
    session.relay.server_sends(
        b'{"method":"notifications/progress","params":{"progressToken":"q"}}\n{"id":1,"method":"sampling/createMessage"}\n'
    )
    session.relay.client_sends(b'{"id":1,"result":{}}\n')
    session.relay.server_sends(OK % b"1")
    (attempt,), _ = session.told()
    assert attempt.dialogue is not None and isinstance(attempt.dialogue.answered, McpAnswered)
    assert (
        attempt.dialogue.answered.progress,
        attempt.dialogue.answered.server_requests,
        attempt.dialogue.answered.is_ended,
    ) == (1, 1, True)


def test_a_line_that_is_too_long_passes_unread_and_nothing_gets_between_its_pieces() -> None:
    session = Session()
    session.relay.client_sends(request())
    (exchange,) = session.listener.exchanges()
    long = b"x" * (MOST_BYTES + 1)
    session.relay.server_sends(long)
    exchange.stop("enough")
    session.relay.server_sends(b"y\n")
    assert session.said[0] == long and session.said[1].startswith(b'y\n{"jsonrpc"')
    there = Session()
    there.relay.client_sends(long)
    there.relay.client_sends(b"\n" + request())
    assert there.asked == [long, b"\n" + request()]


def test_an_id_that_is_used_again_ends_the_call_before() -> None:
    session = Session()
    session.relay.client_sends(request() + request())
    session.relay.server_sends(OK % b"1")
    assert [fact.error for fact in session.told()[1]] == ["client_gone", ""]


def test_a_batch_is_one_call() -> None:
    session = Session()
    batch = b'[{"id":1,"method":"tools/call","params":{"name":"t"}},{"id":2,"method":"ping"}]\n'
    session.relay.client_sends(batch)
    session.relay.server_sends(b'[{"id":2,"result":{}},{"id":1,"result":{}}]\n')
    (exchange,) = session.told()[1]
    assert exchange.dialogue is not None and isinstance(exchange.dialogue.asked, McpAsked) and exchange.dialogue.asked.count == 2


@pytest.mark.parametrize(
    ("deadline", "heard", "code"),
    [("first_byte_timeout_s", False, "first_byte_timeout"), ("idle_timeout_s", True, "idle_timeout")],
)
def test_a_call_that_takes_longer_than_a_policy_allows_is_answered(deadline: str, heard: bool, code: str) -> None:
    session = Session((Stage.TIMEOUT, lambda attempt: setattr(attempt, deadline, 2.0)), manual=True)
    session.relay.client_sends(request(_meta={"progressToken": 3}))
    assert session.clock is not None
    if heard:
        session.relay.server_sends(b'{"method":"notifications/progress","params":{"progressToken":3}}\n')
        session.said.clear()
    for step, over in ((1.9, False), (0.2, True)):
        session.clock.advance(step)
        session.relay.tick(session.clock.monotonic())
        assert bool(session.said) == over
    assert session.codes() == [code]


def test_a_standing_stream_may_be_silent() -> None:
    session = Session((Stage.TIMEOUT, lambda attempt: setattr(attempt, "first_byte_timeout_s", 2.0)), manual=True)
    session.relay.client_sends(request(method="subscriptions/listen"))
    session.relay.tick(1e9)
    assert session.said == []


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_parent_is_what_meta_says_and_the_surroundings_are_a_link() -> None:
    session = Session(environ={"TRACEPARENT": OTHER})
    session.relay.client_sends(request(_meta={"traceparent": TRACEPARENT}) + request("2"))
    session.relay.server_sends(OK % b"1" + OK % b"2")
    first, second = session.told()[1]
    assert (first.trace_id.hex(), first.parent_id.hex(), first.link.hex()) == (
        TRACEPARENT[3:35],
        TRACEPARENT[36:52],
        OTHER[3:35] + OTHER[36:52],
    )
    assert (second.trace_id.hex(), second.parent_id.hex(), second.link) == (OTHER[3:35], OTHER[36:52], b"")


def test_a_route_may_have_the_trace_context_written() -> None:
    session = Session(trace_in_meta=True)
    session.relay.client_sends(request())
    session.relay.server_sends(OK % b"1")
    (attempt,), _ = session.told()
    traceparent = json.loads(session.asked[0])["params"]["_meta"]["traceparent"]
    assert traceparent == f"00-{attempt.trace_id.hex()}-{attempt.span_id.hex()}-{attempt.flags:02x}"
    assert attempt.dialogue is not None and attempt.dialogue.edits == ("meta",) and attempt.sent_bytes == len(session.asked[0])


def test_context_that_has_no_place_is_left_out_and_told() -> None:
    session = Session(trace_in_meta=True)
    line = b'{"id":1,"method":"tools/call","params":[1]}\n'
    session.relay.client_sends(line)
    session.relay.server_sends(OK % b"1")
    (attempt,), _ = session.told()
    assert session.asked == [line] and attempt.dialogue is not None and attempt.dialogue.skipped == ("meta:not_taken",)


def test_without_a_route_the_trace_context_is_written_as_over_http_and_all_else_passes_byte_for_byte() -> None:
    session = Session(route=False)
    session.relay.client_sends(request())
    session.relay.server_sends(OK % b"1")
    (attempt,), (exchange,) = session.told()
    meta = b', "_meta"' if b', "_meta"' in session.asked[0] else b',"_meta"'
    context = b'%b:{"traceparent":"00-%b-%b-%02x"}' % (meta, attempt.trace_id.hex().encode(), attempt.span_id.hex().encode(), attempt.flags)
    assert session.asked == [request().replace(b"}}", context + b"}}")] and session.said == [OK % b"1"]
    assert (exchange.route, exchange.upstream, exchange.host) == ("", "", "tools")


def test_where_telemetry_is_disabled_nothing_is_written() -> None:
    session = Session(route=False, environ={"OTEL_SDK_DISABLED": "true"})
    session.relay.client_sends(request())
    assert session.asked == [request()]


LONG = b'"' + b"x" * MOST_BYTES + b'"'


@pytest.mark.parametrize(
    "answer",
    [
        b'{"jsonrpc":"2.0","id":"a","result":{"content":%b}}\n',
        b'{"result":{"content":%b},"jsonrpc":"2.0","id":"a"}\n',
        b'{"jsonrpc": "2.0", "result": {"content": %b}, "id": "a"}\n',
    ],
    ids=["python", "typescript", "spaces"],
)
def test_an_answer_that_is_too_long_to_be_read_passes_and_ends_its_call(answer: bytes) -> None:
    session = Session()
    session.relay.client_sends(request('"a"') + request("2"))
    whole = answer % LONG
    for at in range(0, len(whole), 1 << 20):
        session.relay.server_sends(whole[at : at + (1 << 20)])
    assert b"".join(session.said) == whole
    assert [*session.relay.calls] == [2]
    (attempt,), (exchange,) = session.told()
    assert (attempt.status, attempt.error, exchange.status, exchange.response_bytes) == (200, "", 200, len(whole))
    assert attempt.dialogue is not None and attempt.dialogue.unread == "answer_too_large"
    assert session.runtime.metrics.counter("traffic.stdio.unread", "").value == 1
    session.relay.server_ends()
    assert b'"id":2' in session.said[-1] and len(session.told()[1]) == 2


def test_what_is_too_long_and_no_answer_ends_nothing() -> None:
    session = Session()
    session.relay.client_sends(request("1"))
    session.relay.server_sends(b'{"method":"sampling/createMessage","params":%b,"jsonrpc":"2.0","id":1}\n' % LONG)
    session.relay.server_sends(b'{"jsonrpc":"2.0","id":9,"result":%b}\n' % LONG)
    assert [*session.relay.calls] == [1] and session.told() == ([], [])


def test_a_server_that_dies_within_a_long_line_leaves_a_line_of_its_own_to_our_errors() -> None:
    session = Session()
    session.relay.client_sends(request("1"))
    session.relay.server_sends(b'{"jsonrpc":"2.0","id":1,"result":' + LONG)
    session.relay.server_ends()
    cut, error = b"".join(session.said).splitlines()
    assert cut.endswith(b"xx\"") and json.loads(error)["error"]["data"]["code"] == "upstream_closed"
    assert not session.relay.calls


def test_a_server_that_answers_in_no_utf_8_is_passed_on() -> None:
    session = Session()
    session.relay.client_sends(request("1"))
    lines = [b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\xff\xfe"}]}}\n', b"\xff\xfe\x00\n"]
    session.relay.server_sends(b"".join(lines))
    assert b"".join(session.said) == b"".join(lines) and not session.relay.calls


def test_the_session_is_over_when_nobody_waits_but_those_who_listen() -> None:
    session = Session()
    session.relay.client_sends(request("1") + request("2", method="subscriptions/listen"))
    assert session.relay.is_awaited
    session.relay.server_sends(OK % b"1")
    assert not session.relay.is_awaited
    session.relay.client_sends(request("3"))
    session.relay.server_ends()
    assert not session.relay.is_awaited


def test_requests_are_refused_while_the_sidecar_ends() -> None:
    session = Session()
    session.listener.stop_accepting()
    session.relay.client_sends(request())
    assert session.codes() == ["draining"]


def test_what_nobody_can_read_is_counted() -> None:
    session = Session()
    session.relay.client_sends(b"nothing\n\n")
    session.relay.client_sends(request())
    session.relay.server_sends(b"nothing\n\n")
    assert session.runtime.metrics.counter("traffic.stdio.unread", "").value == 2


def hostile() -> list[bytes]:
    return [
        b'{"id":{},"method":"x"}\n',
        b'{"id":null,"method":"x"}\n',
        b'{"id":1,"method":7}\n',
        b"[" * 5000 + b"\n",
        b'{"id":1,"method":"x","params":' + b"9" * 5000 + b"}\n",
    ]


@pytest.mark.parametrize("line", hostile(), ids=range(5))
@pytest.mark.parametrize("side", ["client", "server"])
def test_whatever_is_said_passes(line: bytes, side: str) -> None:
    session = Session()
    session.relay.client_sends(request('"w"'))
    feed: Callable[[bytes], None] = session.relay.client_sends if side == "client" else session.relay.server_sends
    feed(line)
    assert line in (session.asked if side == "client" else session.said)


PIECES = st.lists(
    st.sampled_from(
        [
            b"\n",
            b"\r\n",
            b"{",
            b"}",
            b'{"id":1,"method":"x"}',
            b'{"id":1,"result":{}}',
            b'{"id":2,"method":"y","params":{}}',
            b"[",
            b"]",
            b",",
            b"\xff\x00",
        ]
    )
)


@given(PIECES, PIECES)
def test_without_policies_nothing_is_lost_changed_or_added(there: list[bytes], back: list[bytes]) -> None:
    session = Session()
    for ours, theirs in zip_longest(there, back, fillvalue=b""):
        session.relay.client_sends(ours)
        session.relay.server_sends(theirs)
    session.relay.client_ends(list)
    session.relay.client_is_gone()
    session.relay.server_sends(b"\n")
    assert b"".join(session.asked) == b"".join(there)
    assert b"".join(session.said) == b"".join(back) + b"\n"
    attempts, exchanges = session.told()
    assert len(attempts) == len(exchanges) and not session.relay.calls


def test_so_many_calls_may_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MOST_CALLS", 2)
    session = Session()
    session.relay.client_sends(request("1") + request("2") + request("3"))
    assert (session.codes(), sorted(map(str, session.relay.calls))) == (["pool_exhausted"], ["1", "2"])


def test_late_answers_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MOST_LATE", 1)
    session = Session()
    session.relay.client_sends(request("1") + request("2"))
    for exchange in session.listener.exchanges():
        exchange.stop("enough")
    session.said.clear()
    session.relay.server_sends(OK % b"1" + OK % b"2")
    assert session.said == [OK % b"1"]


def test_initialize_is_never_cancelled() -> None:
    session = Session()
    session.relay.client_sends(request(method="initialize"))
    session.listener.exchanges()[0].stop("enough")
    assert session.codes() == ["stopped"] and len(session.asked) == 1
