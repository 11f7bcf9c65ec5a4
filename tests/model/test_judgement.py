"""Every row of the outcome table, every code of ours, and the words of providers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import judgement
from sidecar.model.answered import A2aAnswered, Answered, McpAnswered, ModelAnswered, ToolCall
from sidecar.model.asked import A2aAsked, Asked, McpAsked, ModelAsked
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import CODES
from sidecar.model.facts import Purpose
from sidecar.model.judgement import (
    ROWS,
    Judgement,
    Phase,
    Ratio,
    Retry,
    Slo,
    Streak,
    Throttle,
    Verdict,
    closely,
    has_bad_tool_call,
    judge,
    of_fact,
)
from tests.telemetry.facts import attempt, exchange

CHAT = ModelAsked("openai", "chat", streams=True, provider="openai", model="gpt-4o")
TOOL = McpAsked("mcp", "tools/call", target="search")
WORK = A2aAsked("a2a", "SendMessage")


def chat(**different: object) -> Dialogue:
    """A streamed answer that came whole."""
    return Dialogue(CHAT, ModelAnswered(**{"is_ended": True, "content_bytes": 80, **different}))


# the research's table, a line each: streak, ratio, throttle, SLO, retry
TABLE = {
    "ok": ("resets", "good", "accept", "good", "no"),
    "unreachable": ("adds", "bad", "reject", "bad", "budgeted"),
    "failed": ("adds", "bad", "reject", "bad", "budgeted"),
    "overloaded": ("keeps", "bad", "reject", "bad", "after_backoff"),
    "throttled": ("keeps", "bad", "reject", "bad", "other_credential"),
    "credential": ("keeps", "uncounted", "uncounted", "bad", "no"),
    "caller": ("keeps", "uncounted", "accept", "caller", "no"),
    "slow_start": ("keeps", "slow", "uncounted", "bad", "budgeted"),
    "stalled": ("keeps", "bad", "uncounted", "bad", "no"),
    "cut": ("keeps", "bad", "uncounted", "bad", "no"),
    "cut_early": ("keeps", "bad", "uncounted", "bad", "budgeted"),
    "bad_tool_call": ("keeps", "uncounted", "accept", "quality", "no"),
    "tool_error": ("keeps", "uncounted", "accept", "quality", "no"),
    "task_failed": ("keeps", "uncounted", "accept", "quality", "no"),
    "gone": ("keeps", "uncounted", "accept", "excluded", "no"),
    "gone_late": ("keeps", "slow", "accept", "excluded", "no"),
    "injected": ("keeps", "uncounted", "uncounted", "excluded", "no"),
    "refused": ("keeps", "uncounted", "uncounted", "excluded", "no"),
    "failed_here": ("keeps", "uncounted", "uncounted", "bad", "no"),
    "unknown": ("keeps", "uncounted", "uncounted", "excluded", "no"),
}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_row_says_what_the_outcome_table_says(name: str) -> None:
    row = ROWS[name]
    assert (row.streak, row.ratio, row.throttle, row.slo, row.retry) == TABLE[name]
    assert row.weight == (0.5 if name == "throttled" else 1.0)
    assert row.is_of_credential == (name == "credential")


def test_the_table_has_no_other_rows() -> None:
    assert ROWS.keys() == TABLE.keys()


def test_only_what_was_not_passed_on_may_be_tried_again() -> None:
    for row in ROWS.values():
        assert row.retry is Retry.NO or row.verdict is Verdict.ERROR
        assert (row.streak is Streak.RESETS) == (row.verdict is Verdict.OK)


@pytest.mark.parametrize(
    ("status", "row"),
    [
        (200, "ok"), (204, "ok"), (304, "ok"), (101, "ok"), (400, "caller"), (401, "credential"), (402, "credential"),
        (403, "credential"), (404, "caller"), (408, "caller"), (409, "caller"), (413, "caller"), (422, "caller"),
        (429, "throttled"), (500, "failed"), (502, "failed"), (503, "failed"), (504, "failed"), (529, "overloaded"), (599, "failed"),
        (0, "unknown"),
    ],
)  # fmt: skip
def test_a_status_is_judged_without_reading_anything(status: int, row: str) -> None:
    judged = judge(status, "")
    assert judged.row.name == row
    assert judged.kind == (str(status) if status >= 400 else "")
    assert judged.phase is (Phase.END if 0 < status < 400 else Phase.HEADERS)


CONNECTING = {
    "dns_failed", "connect_failed", "connect_timeout", "tls_failed", "proxy_unreachable", "proxy_timeout", "proxy_failed",
}  # fmt: skip
OF_CODES = {
    "unreachable": {*CONNECTING, "upstream_closed", "upstream_malformed", "upstream_cut"},
    "slow_start": {"first_byte_timeout", "idle_timeout"},
    "gone": {"client_gone", "client_stalled", "body_timeout", "request_timeout"},
    "failed_here": {
        "proxy_auth_failed", "proxy_denied", "pool_exhausted", "pool_timeout", "too_many_connections", "policy_timeout",
        "loop_detected", "body_gone", "no_descriptors", "policy_failed", "internal",
    },
    "refused": {
        "host_refused", "origin_refused", "destination_denied", "connect_denied", "address_refused", "loopback_refused",
        "stopped", "draining", "given_up",
    },
}  # fmt: skip


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_ours_has_its_row_before_an_answer_came(code: str) -> None:
    judged = judge(0, code)
    expected = next((row for row, codes in OF_CODES.items() if code in codes), None)
    if expected is None:  # not in this table: new, or the caller's own fault
        assert (
            judged.row.name
            == {"client": "caller", "operator": "refused", "upstream": "unreachable", "sidecar": "failed_here"}[CODES[code].fault]
        )
    else:
        assert judged.row.name == expected
    assert judged.kind == code
    assert judged.phase is (Phase.CONNECT if code in CONNECTING else Phase.HEADERS)


@pytest.mark.parametrize(
    ("code", "content", "row", "phase"),
    [
        ("upstream_cut", 0, "cut_early", Phase.FIRST_CONTENT),
        ("upstream_cut", 9, "cut", Phase.STREAM),
        ("upstream_malformed", 9, "cut", Phase.STREAM),
        ("idle_timeout", 0, "slow_start", Phase.FIRST_CONTENT),
        ("idle_timeout", 9, "stalled", Phase.STREAM),
        ("client_gone", 9, "gone", Phase.STREAM),
        ("stopped", 9, "refused", Phase.STREAM),
        ("internal", 9, "failed_here", Phase.STREAM),
    ],
)
def test_after_the_head_it_counts_whether_content_was_passed_on(code: str, content: int, row: str, phase: Phase) -> None:
    judged = judge(200, code, chat(is_ended=False, content_bytes=content), has_bytes=True)
    assert (judged.row.name, judged.phase, judged.kind, judged.is_exposed) == (row, phase, code, content > 0)
    unread = judge(200, code, has_bytes=content > 0)
    assert (unread.row.name, unread.phase) == (row, phase)


@pytest.mark.parametrize(
    ("word", "row"),
    [
        ("overloaded_error", "overloaded"), ("rate_limit_error", "throttled"), ("insufficient_quota", "credential"),
        ("authentication_error", "credential"), ("invalid_request_error", "caller"), ("RESOURCE_EXHAUSTED", "throttled"),
        ("api_error", "failed"), ("server_error", "failed"), ("ThrottlingException", "throttled"), ("ValidationException", "caller"),
        ("something_new", "failed"), ("UNAVAILABLE", "failed"), ("TASK_NOT_FOUND", "caller"), ("CANCELLED", "caller"),
    ],
)  # fmt: skip
def test_an_error_in_the_stream_under_200_counts_as_if_the_status_had_said_it(word: str, row: str) -> None:
    before = judge(200, "", chat(is_ended=False, content_bytes=0, error_type=word))
    assert (before.row.name, before.phase, before.kind) == (row, Phase.FIRST_CONTENT, word)
    after = judge(200, "", chat(is_ended=False, error_type=word))
    assert after.row.name == (row if row in ("credential", "caller") else "cut")
    assert (after.phase, after.kind, after.is_exposed) == (Phase.STREAM, word, True)


def test_the_providers_word_is_the_kind_of_an_http_error_and_may_say_more_than_its_status() -> None:
    assert judge(503, "", chat(error_type="overloaded_error", content_bytes=0)).kind == "overloaded_error"
    used_up = judge(429, "", chat(error_type="insufficient_quota", content_bytes=0))
    assert (used_up.row.name, used_up.kind) == ("credential", "insufficient_quota")
    assert judge(429, "", chat(error_type="rate_limit_exceeded", content_bytes=0)).row.name == "throttled"


def test_a_providers_error_says_more_than_the_cut_that_follows_it_but_not_than_what_we_did() -> None:
    assert (
        judge(200, "upstream_cut", chat(is_ended=False, content_bytes=0, error_type="overloaded_error")).kind
        == "overloaded_error"
    )
    assert judge(200, "client_gone", chat(is_ended=False, error_type="overloaded_error")).row.name == "gone"
    assert judge(200, "stopped", chat(is_ended=False, error_type="overloaded_error")).kind == "stopped"


@pytest.mark.parametrize("content", [0, 7])
def test_what_we_gave_up_midway_is_not_its_upstreams_failure(content: int) -> None:
    left = chat(is_ended=False, content_bytes=content)
    assert judge(200, "given_up", left, has_bytes=True) == Judgement(judgement.REFUSED, Phase.FIRST_CONTENT, "given_up")
    failed = replace(left, answered=ModelAnswered(error_type="overloaded_error", content_bytes=content))
    judged = judge(200, "given_up", failed)
    assert (judged.row.name, judged.kind, judged.is_exposed) == ("overloaded", "overloaded_error", False), "why it was given up"


@pytest.mark.parametrize(("content", "row"), [(0, "cut_early"), (7, "cut")])
def test_a_stream_that_ends_without_its_terminal_event_is_cut(content: int, row: str) -> None:
    judged = judge(200, "", chat(is_ended=False, content_bytes=content))
    assert (judged.row.name, judged.kind) == (row, "upstream_cut")


@pytest.mark.parametrize("why", ["unread", "unreadable", "standing"])
def test_what_nobody_could_read_to_its_end_is_not_called_cut(why: str) -> None:
    dialogue = chat(is_ended=False)
    if why == "unread":
        dialogue.unread = "unknown_coding"
    elif why == "unreadable":
        assert dialogue.answered is not None
        dialogue.answered.is_unreadable = True
    else:
        dialogue.asked = replace(CHAT, is_standing=True)
    assert judge(200, "", dialogue, has_bytes=True).row.name == "ok"


def test_an_answer_without_a_body_is_no_cut_stream() -> None:
    assert judge(202, "", Dialogue(McpAsked("mcp", "notifications/initialized"), McpAnswered())).row.name == "ok"
    assert judge(200, "", Dialogue(CHAT)).row.name == "ok"


def test_a_stream_that_is_open_on_purpose_may_be_silent() -> None:
    standing = Dialogue(McpAsked("mcp", "subscriptions/listen", is_standing=True), McpAnswered())
    judged = judge(200, "idle_timeout", standing)
    assert (judged.row.name, judged.row.slo) == ("unknown", Slo.EXCLUDED)


@pytest.mark.parametrize(
    ("code", "row"),
    [(-32602, "caller"), (-32601, "caller"), (-32700, "caller"), (-32022, "caller"), (-32603, "failed"), (-32000, "failed")],
)
def test_a_json_rpc_error_under_200_is_the_callers_or_the_servers_by_its_code(code: int, row: str) -> None:
    judged = judge(200, "", Dialogue(TOOL, McpAnswered(is_ended=True, error_type=str(code), code=code)))
    assert (judged.row.name, judged.kind) == (row, str(code))


@pytest.mark.parametrize(("code", "row"), [(-32001, "caller"), (-32006, "failed"), (-32009, "caller")])
def test_an_agents_json_rpc_error_too(code: int, row: str) -> None:
    judged = judge(200, "", Dialogue(WORK, A2aAnswered(is_ended=True, error_type=str(code), code=code)))
    assert judged.row.name == row


def test_a_tool_that_failed_is_an_error_that_moves_no_breaker() -> None:
    judged = judge(200, "", Dialogue(TOOL, McpAnswered(is_ended=True, is_tool_error=True, content_bytes=5)))
    assert (judged.row.name, judged.kind, judged.row.verdict) == ("tool_error", "tool_error", Verdict.ERROR)
    assert (judged.row.ratio, judged.row.throttle) == (Ratio.UNCOUNTED, Throttle.ACCEPT)


@pytest.mark.parametrize(
    ("operation", "state", "row"),
    [
        ("SendMessage", "TASK_STATE_FAILED", "task_failed"),
        ("SendStreamingMessage", "TASK_STATE_REJECTED", "task_failed"),
        ("SendMessage", "TASK_STATE_COMPLETED", "ok"),
        ("SendMessage", "TASK_STATE_CANCELED", "ok"),
        ("SendMessage", "TASK_STATE_INPUT_REQUIRED", "ok"),
        ("GetTask", "TASK_STATE_FAILED", "ok"),
    ],
)
def test_a_task_fails_for_who_has_it_done_and_not_for_who_asks_about_it(operation: str, state: str, row: str) -> None:
    judged = judge(200, "", Dialogue(A2aAsked("a2a", operation), A2aAnswered(is_ended=True, state=state)))
    assert (judged.row.name, judged.kind) == (row, state if row == "task_failed" else "")


def test_what_we_injected_is_nobodys_failure() -> None:
    judged = judge(503, "", purpose=Purpose.CHAOS)
    assert (judged.row.name, judged.kind) == ("injected", "503")
    assert judge(200, "upstream_cut", chat(), purpose=Purpose.CHAOS).kind == "upstream_cut"


@pytest.mark.parametrize(
    ("arguments", "is_bad"),
    [(b"{}", False), (b"", False), (b'{"a": [1]}', False), (b'{"a": ', True), (b"\xff", True), (b"[" * 100_000, True)],
    ids=["empty", "none", "whole", "cut", "no UTF-8", "deep"],
)
def test_a_tool_call_is_bad_whose_arguments_are_no_json(arguments: bytes, is_bad: bool) -> None:
    answered = ModelAnswered(tool_calls=[ToolCall("c1", "ok", b"{}"), ToolCall("c2", "search", arguments)])
    assert has_bad_tool_call(answered) is is_bad


def test_facts_are_judged_as_their_parts_are() -> None:
    assert of_fact(attempt()).row.name == "ok"
    assert of_fact(attempt(status=200, error="upstream_cut")).row.name == "cut"
    assert of_fact(exchange(status=200, error="upstream_cut", response_bytes=0)).row.name == "cut_early"
    assert of_fact(attempt(purpose=Purpose.CHAOS, status=500)).row.name == "injected"
    understood = attempt()
    understood.dialogue = chat(is_ended=False, content_bytes=0, error_type="overloaded_error")
    assert of_fact(understood).row.name == "overloaded"


ANSWERS = st.one_of(
    st.none(),
    st.builds(Answered, is_ended=st.booleans(), content_bytes=st.integers(0, 3), error_type=st.sampled_from(["", "x", "-32602"])),
    st.builds(
        McpAnswered, is_tool_error=st.booleans(), code=st.sampled_from([0, -32602, 7]), error_type=st.sampled_from(["", "e"])
    ),
    st.builds(A2aAnswered, state=st.text(max_size=3), code=st.integers(), is_unreadable=st.booleans()),
)


@given(
    st.integers(0, 999), st.sampled_from(["", *CODES, "new_code"]), st.booleans(),
    st.one_of(st.none(), st.builds(Dialogue, st.builds(Asked, dialect=st.just("x"), operation=st.just("y"), streams=st.booleans(), is_standing=st.booleans()), ANSWERS)),
    st.sampled_from(Purpose),
)  # fmt: skip
def test_everything_is_judged(status: int, error: str, has_bytes: bool, dialogue: Dialogue | None, purpose: Purpose) -> None:
    judged = judge(status, error, dialogue, has_bytes=has_bytes, purpose=purpose)
    assert judged.row in ROWS.values()
    assert judged.kind or judged.row.verdict is not Verdict.ERROR
    assert not (judged.is_exposed and judged.row.retry is not Retry.NO)
    assert judged == judgement.judge(status, error, dialogue, has_bytes=has_bytes, purpose=purpose)


def early(**different: object) -> Dialogue:
    """A stream of which no content has come."""
    return chat(**{"is_ended": False, "content_bytes": 0, **different})


def midway(**different: object) -> Dialogue:
    """A stream of which content has been passed on."""
    return chat(**{"is_ended": False, **different})


# the research's table once more, a line of it for each group: what happens, in all the ways in which it does, and how it is judged
HAPPENS: dict[str, tuple[str, list[Judgement]]] = {
    "connect, TLS, reset before headers, 5xx": (
        "unreachable failed",
        [
            *(judge(0, code) for code in ("dns_failed", "connect_failed", "connect_timeout", "tls_failed", "upstream_closed", "upstream_cut")),
            *(judge(status, "") for status in (500, 502, 503, 504)),
            *(judge(status, "", chat(error_type="api_error", content_bytes=0)) for status in (500, 502, 503, 504)),
            judge(200, "", early(error_type="server_error")),
        ],
    ),
    "529, overloaded before content": (
        "overloaded",
        [
            judge(529, ""), judge(529, "", chat(error_type="overloaded_error", content_bytes=0)),
            judge(200, "", early(error_type="overloaded_error")), judge(200, "upstream_cut", early(error_type="overloaded_error")),
        ],
    ),
    "429": ("throttled", [judge(429, ""), judge(429, "", early(error_type="rate_limit_error")), judge(200, "", early(error_type="rate_limit_error"))]),
    "401, 403, 402, insufficient quota": (
        "credential",
        [
            *(judge(status, "") for status in (401, 402, 403)), judge(429, "", early(error_type="insufficient_quota")),
            judge(200, "", early(error_type="billing_error")), judge(200, "", early(error_type="authentication_error")),
        ],
    ),
    "400, 404, 413, 422, context too long": (
        "caller",
        [
            *(judge(status, "") for status in (400, 404, 413, 422)), judge(400, "", early(error_type="context_length_exceeded")),
            judge(200, "", early(error_type="context_length_exceeded")), judge(200, "", midway(error_type="invalid_request_error")),
        ],
    ),
    "the first content does not come in time": (
        "slow_start",
        [judge(0, "first_byte_timeout"), judge(200, "first_byte_timeout", early()), judge(200, "idle_timeout", early(), has_bytes=True)],
    ),
    "content stops coming": ("stalled", [judge(200, "idle_timeout", midway()), judge(200, "idle_timeout", has_bytes=True)]),
    "cut before the terminal event": (
        "cut",
        [
            judge(200, "upstream_cut", midway()), judge(200, "", midway()), judge(200, "upstream_cut", has_bytes=True),
            judge(200, "", midway(error_type="overloaded_error")), judge(200, "", midway(error_type="rate_limit_error")),
            judge(200, "", midway(error_type="api_error")), judge(200, "upstream_malformed", midway()),
        ],
    ),
    "cut before any content": ("cut_early", [judge(200, "upstream_cut", early()), judge(200, "", early()), judge(200, "upstream_cut")]),
    "a whole answer with tool calls that are no JSON": (
        "bad_tool_call",
        [closely(judge(200, "", each), each) for each in (chat(tool_calls=[ToolCall("c", "search", b"{")]), chat(tool_calls=[ToolCall("c", "s", b"\xff")]))],
    ),
    "the client goes away": (
        "gone",
        [judge(status, "client_gone", each) for status in (0, 200) for each in (early(), midway())] + [judge(200, "client_gone", midway(), is_late=True)],
    ),
    "the client goes away after waiting longer than p95": (
        "gone_late", [judge(0, "client_gone", is_late=True), judge(200, "client_gone", early(), is_late=True)],
    ),
    "injected": (
        "injected",
        [judge(status, error, each, purpose=Purpose.CHAOS) for status in (0, 200, 429, 503) for error in ("", "upstream_cut", "client_gone") for each in (None, early(), midway(), chat())],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HAPPENS)
def test_each_way_in_which_it_happens_is_the_same_row(what: str) -> None:
    names, judged = HAPPENS[what]
    assert {each.row.name for each in judged} == set(names.split())
    for each in judged:
        assert not each.is_exposed or each.row.retry is Retry.NO


def test_every_row_that_the_research_has_happens() -> None:
    of_others = {"ok", "tool_error", "task_failed", "refused", "failed_here", "unknown"}
    assert {name for names, _ in HAPPENS.values() for name in names.split()} == set(TABLE) - of_others


@given(
    st.sampled_from([0, 200, 204, 400, 401, 429, 500, 529]), st.sampled_from(["", *CODES]), st.booleans(),
    st.sampled_from([None, chat(), early(), midway(), early(error_type="overloaded_error"), midway(error_type="overloaded_error")]),
)  # fmt: skip
def test_waiting_long_changes_only_what_a_client_that_went_away_means(status: int, error: str, has_bytes: bool, dialogue: Dialogue | None) -> None:
    usual = judge(status, error, dialogue, has_bytes=has_bytes)
    late = judge(status, error, dialogue, has_bytes=has_bytes, is_late=True)
    if usual.row.name == "gone" and not usual.is_exposed:
        assert (late.row.name, late.kind, late.phase) == ("gone_late", usual.kind, usual.phase)
    else:
        assert late == usual


def test_looking_closely_changes_nothing_else() -> None:
    bad = ToolCall("c", "search", b"{")
    for dialogue in (None, chat(), midway(tool_calls=[bad]), early(error_type="x", tool_calls=[bad]), Dialogue(TOOL, McpAnswered(is_ended=True))):
        judged = judge(200, "", dialogue)
        assert closely(judged, dialogue) is judged
