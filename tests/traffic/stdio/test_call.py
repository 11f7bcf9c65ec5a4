import json
from typing import Any

from sidecar.dialects.jsonrpc import messages
from sidecar.dialects.mcp.questions import message_of
from sidecar.model.change import Clamp, Meta
from sidecar.model.errors import Refused
from sidecar.traffic.stdio.call import StdioCall
from tests.traffic.stdio.session import OK, Session, request


def begun(session: Session, line: bytes | None = None) -> StdioCall:
    line = line or request()
    asked = message_of(line)
    return StdioCall(session.listener, asked, 1, session.listener.begin(asked), line)


def test_guards_change_a_request_until_it_is_sent() -> None:
    session = Session()
    call = begun(session)
    attempt = call.begin_attempt()
    assert (attempt.change(Meta(b"00-p")), attempt.change(Clamp(5))) == ("", "not_taken")
    line = call.made()
    assert json.loads(line)["params"]["_meta"] == {"traceparent": "00-p"} and line.endswith(b"\n")
    assert attempt.change(Meta(b"00-q")) == "sent"
    call.over(200, "", 0)
    (told,), _ = session.told()
    assert told.dialogue is not None and (told.dialogue.edits, told.dialogue.skipped) == (("meta",), ("clamp:not_taken",))


def test_a_change_that_is_so_already_is_no_change() -> None:
    call = begun(Session())
    line = call.line
    assert call.begin_attempt().change(Meta(b"")) == "" and call.made() == line
    call.over(200, "", 0)


def test_a_change_that_has_no_place_is_not_made() -> None:
    line = b'{"id":1,"method":"x","params":[]}\n'
    call = begun(Session(), line)
    assert call.begin_attempt().change(Meta(b"00-p")) == "not_taken" and call.made() == line
    assert call.line == b"", "once it is sent it takes no room"


def test_an_attempt_that_nobody_answered_has_no_answer() -> None:
    session = Session()
    call = begun(session)
    call.begin_attempt()
    call.over(502, "upstream_closed", 5)
    call.over(200, "", 7)
    (attempt,), (exchange,) = session.told()
    assert attempt.dialogue is not None and attempt.dialogue.answered is None
    assert (attempt.status, attempt.error, exchange.status, exchange.response_bytes) == (0, "upstream_closed", 502, 5)


def test_only_the_answer_ends_a_call() -> None:
    call = begun(Session())
    attempt = call.begin_attempt()
    call.made()
    heard: list[Any] = [
        call.hear(messages(line)[0], len(line)) for line in (b'{"method":"notifications/progress"}', OK % b"2", OK % b"1")
    ]
    assert heard == [False, False, True]
    assert (attempt.status, attempt.received_bytes > len(OK % b"1"), attempt.first_byte_at > 0) == (200, True, True)


def test_an_error_of_ours_is_one_line() -> None:
    status, line = begun(Session()).refusal(Refused("stopped", "enough\nis enough"))
    assert (status, line.count(b"\n"), line[-1:]) == (503, 1, b"\n")


def test_what_is_said_is_told_where_the_route_collects_it() -> None:
    for content, flags, expected in ((True, 1, (b'{"a":1}', True)), (False, 1, None), (True, 0, None)):
        session = Session(content=content)
        call = begun(session, request(arguments={"a": 1}))
        call.exchange.flags = flags
        call.begin_attempt()
        call.made()
        call.hear(messages(OK % b"1")[0], 9)
        call.over(200, "", 7)
        (attempt,), (exchange,) = session.told()
        assert attempt.dialogue is not None and exchange.dialogue is not None
        found = attempt.dialogue.content
        assert (found and (found.arguments, b'"text":"x"' in found.result)) == expected
        assert exchange.dialogue.content is None
