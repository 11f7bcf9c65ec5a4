import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import sse
from sidecar.dialects.a2a.answers import MOST_EVENT_BYTES, reader_of
from sidecar.dialects.a2a.methods import WITH_TASK
from sidecar.dialects.a2a.states import RESTING, STATES, UNSPECIFIED
from sidecar.model.answered import A2aAnswered
from sidecar.model.asked import A2aAsked, Asked

JSON, EVENTS = "application/json", "text/event-stream"


def asked(operation: str = "SendMessage", binding: str = "JSONRPC", **more: Any) -> A2aAsked:
    return A2aAsked("a2a", operation, binding=binding, **more)


STREAM = asked("SendStreamingMessage", streams=True)
REST_STREAM = asked("SendStreamingMessage", "HTTP+JSON", streams=True)


def heard(call: Asked, content: bytes, media_type: str = JSON, status: int = 200, *, whole: bool = True) -> A2aAnswered:
    reader = reader_of(call, status, media_type)
    reader.feed(content)
    if whole:
        reader.end()
    assert isinstance(reader.answered, A2aAnswered)
    return reader.answered


def replied(call: Asked, result: Any, **more: Any) -> A2aAnswered:
    """The answer to a call, in the form of its binding."""
    is_rest = isinstance(call, A2aAsked) and call.binding == "HTTP+JSON"
    return heard(call, json.dumps(result if is_rest else {"jsonrpc": "2.0", "id": 1, "result": result}).encode(), **more)


def streamed(call: Asked, *results: Any, whole: bool = True) -> A2aAnswered:
    is_rest = isinstance(call, A2aAsked) and call.binding == "HTTP+JSON"
    events = [result if is_rest else {"jsonrpc": "2.0", "id": 1, "result": result} for result in results]
    return heard(call, b"".join(sse.event(json.dumps(event).encode()) for event in events), EVENTS, whole=whole)


def status(state: Any, **more: Any) -> dict[str, Any]:
    return {"taskId": "t", "contextId": "c", "status": {"state": state}, **more}


# states


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("TASK_STATE_INPUT_REQUIRED", "TASK_STATE_INPUT_REQUIRED"),
        ("input-required", "TASK_STATE_INPUT_REQUIRED"),
        ("auth-required", "TASK_STATE_AUTH_REQUIRED"),
        ("canceled", "TASK_STATE_CANCELED"),
        ("TASK_STATE_CANCELLED", "TASK_STATE_CANCELED"),
        ("unknown", UNSPECIFIED),
        (2, "TASK_STATE_WORKING"),
        (8, "TASK_STATE_AUTH_REQUIRED"),
        (0, UNSPECIFIED),
        (99, ""),
        (-1, ""),
        (10**30, ""),
        ("packing", ""),
        (None, ""),
        ({}, ""),
        (True, ""),
    ],
)  # fmt: skip
def test_a_state_has_one_name_whatever_is_spoken(told: Any, state: str) -> None:
    found = replied(asked(), {"task": {"id": "t", "contextId": "c", "status": {"state": told}}})
    assert (found.state, found.task, found.context, found.is_unreadable) == (state, "t", "c", False)


def test_every_state_of_1_0_is_known_and_no_other() -> None:
    assert set(STATES.values()) == RESTING | {UNSPECIFIED, "TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}


# bodies


@pytest.mark.parametrize(
    "result",
    [
        {"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}},
        {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}},
        {"kind": "task", "id": "t", "contextId": "c", "status": {"state": "working"}},
        {"statusUpdate": status("TASK_STATE_WORKING")},
        {"kind": "status-update", **status("working", final=False)},
        status("working", final=False),
    ],
    ids=["wrapped", "bare", "kind", "update", "update with kind", "bare update"],
)
@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
def test_a_task_is_known_by_whatever_tells_of_it(binding: str, result: Any) -> None:
    found = replied(asked(binding=binding), result)
    assert (found.task, found.context, found.state, found.is_ended) == ("t", "c", "TASK_STATE_WORKING", True)


@pytest.mark.parametrize(
    "result",
    [
        {"message": {"messageId": "m", "contextId": "c", "taskId": "t", "parts": [{"text": "abc"}]}},
        {"message": {"messageId": "m", "contextId": "c", "taskId": "t", "content": [{"text": "abc"}]}},
        {"msg": {"messageId": "m", "contextId": "c", "taskId": "t", "parts": [{"text": "abc"}]}},
        {"kind": "message", "messageId": "m", "contextId": "c", "taskId": "t", "parts": [{"kind": "text", "text": "abc"}]},
        {"messageId": "m", "contextId": "c", "taskId": "t", "parts": [{"text": "abc"}]},
    ],
    ids=["1.0", "0.3 REST", "0.3 name", "kind", "bare"],
)
def test_a_message_is_the_whole_answer(result: Any) -> None:
    for found in (replied(asked(), result), streamed(STREAM, result, whole=False)):
        assert (found.task, found.context, found.state, found.content_bytes, found.is_ended) == ("t", "c", "", 3, True)


def test_what_an_agent_produced_is_counted_and_nothing_around_it() -> None:
    parts = [
        {"text": "abc", "metadata": {"a": 1}},
        {"data": [1, 2]},
        {"raw": "AAAA"},
        {"url": "x"},
        {"file": {"bytes": "AA"}},
        {},
    ]
    size = 3 + len("[1, 2]") + 4 + 1 + len('{"bytes": "AA"}')
    task = {
        "id": "t",
        "artifacts": [{"parts": parts}, {"artifactId": "a"}],
        "history": [{"role": "user", "parts": [{"text": 100 * "x"}]}],
        "status": {"state": "working", "message": {"parts": [{"text": "hi"}]}},
    }
    assert replied(asked("GetTask"), task).content_bytes == size + 2
    assert streamed(STREAM, {"artifactUpdate": {"taskId": "t", "artifact": {"parts": parts}}}).content_bytes == size


def test_what_was_asked_for_stands_until_the_agent_says_more() -> None:
    found = heard(asked("GetTask", task="t", context="c"), b"", whole=False)
    assert (found.task, found.context) == ("t", "c")
    found = replied(asked("ListTasks", context="c"), {"tasks": [{"id": "t"}]})
    assert (found.task, found.context, found.is_ended) == ("", "c", True)


def test_a_push_configuration_is_no_task() -> None:
    found = replied(asked("CreateTaskPushNotificationConfig", task="t"), {"id": "config", "taskId": "t", "url": "http://x"})
    assert (found.task, found.is_unreadable) == ("t", False)
    old = replied(asked("ListTaskPushNotificationConfigs", "HTTP+JSON"), [{"taskId": "t"}])
    assert (old.is_ended, old.is_unreadable) == (True, False)


@pytest.mark.parametrize("operation", ["GetAgentCard", "GetExtendedAgentCard"])
def test_a_card_tells_who_the_agent_is(operation: str) -> None:
    card = {"name": "packer", "version": "2.1", "skills": []}
    for found in (replied(asked(operation, "HTTP+JSON"), card), replied(asked(operation), card)):
        assert (found.agent, found.agent_version) == ("packer", "2.1")
    odd = replied(asked(operation, "HTTP+JSON"), {"name": {}, "version": 3})
    assert (odd.agent, odd.agent_version, odd.is_unreadable) == ("", "3", False)


# errors


def test_an_error_of_json_rpc_has_its_number() -> None:
    content = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"Task not found","data":[]}}'
    for operation in (*WITH_TASK, "ListTasks", "GetExtendedAgentCard"):
        found = heard(asked(operation), content)
        assert (found.code, found.error_type, found.error_message, found.is_ended) == (-32001, "-32001", "Task not found", True)


def test_an_error_of_rest_has_the_agents_word_and_the_status() -> None:
    details = [
        {"@type": "type.googleapis.com/other"},
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "TASK_NOT_FOUND"},
    ]
    error = {"error": {"code": 404, "status": "NOT_FOUND", "message": "none", "details": details}}
    for operation in ("GetTask", "ListTasks", "GetExtendedAgentCard"):
        found = replied(asked(operation, "HTTP+JSON"), error, status=404)
        assert (found.code, found.error_type, found.error_message) == (404, "TASK_NOT_FOUND", "none")


@pytest.mark.parametrize(
    ("body", "code", "error_type", "message"),
    [
        ({"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}, 503, "UNAVAILABLE", "m"),
        ({"error": {"status": "UNAVAILABLE", "details": "none"}}, 500, "UNAVAILABLE", ""),
        ({"error": {"code": 10**40, "details": [5]}}, 500, "", ""),
        ({"error": "broken"}, 500, "broken", ""),
        ({"type": "TaskNotFoundError", "message": "none"}, 500, "TaskNotFoundError", "none"),
        ({"detail": "Not Found"}, 500, "", ""),
        ([], 500, "", ""),
    ],
    ids=["no details", "no code", "absurd", "a word", "0.3", "somebody else's", "a list"],
)
def test_an_error_of_rest_is_read_as_far_as_it_can_be(body: Any, code: int, error_type: str, message: str) -> None:
    found = replied(asked("GetTask", "HTTP+JSON"), body, status=500)
    assert (found.code, found.error_type, found.error_message) == (code, error_type, message)
    assert not found.is_unreadable


def test_an_error_that_is_no_json_is_no_fault_of_the_reading() -> None:
    for media_type in (JSON, "text/html", ""):
        found = heard(asked("GetTask", "HTTP+JSON"), b"<html>", media_type, status=502)
        assert (found.code, found.is_unreadable, found.is_ended) == (502, False, True)
    assert heard(asked(), b"<html>", status=502).code == 0


def test_what_is_no_json_where_it_should_be_is_unreadable() -> None:
    assert heard(asked(), b"<html>").is_unreadable
    assert heard(asked("GetTask", "HTTP+JSON"), b"5").is_unreadable
    assert not heard(asked(), b"").is_unreadable


def test_a_message_is_cut() -> None:
    found = heard(asked(), json.dumps({"error": {"code": -32000, "message": 2000 * "x"}}).encode())
    assert len(found.error_message) == 512


# streams


def test_a_stream_ends_where_its_task_comes_to_rest() -> None:
    working, done = {"statusUpdate": status("TASK_STATE_WORKING")}, {"statusUpdate": status("TASK_STATE_COMPLETED")}
    assert not streamed(STREAM, working, whole=False).is_ended
    found = streamed(STREAM, {"task": {"id": "t", "status": {"state": 1}}}, working, done, whole=False)
    assert (found.is_ended, found.state, found.events) == (True, "TASK_STATE_COMPLETED", 3)
    assert not streamed(STREAM, done, working, whole=False).is_ended, "who was asked for something may have got it"


def test_an_event_that_is_final_is_the_end_in_0_3() -> None:
    assert streamed(STREAM, status("working", kind="status-update", final=True), whole=False).is_ended


def test_a_stream_that_ends_while_its_task_is_at_work_is_cut() -> None:
    assert not streamed(STREAM, {"statusUpdate": status("TASK_STATE_WORKING")}).is_ended
    assert not streamed(STREAM).is_ended
    assert streamed(STREAM, {"artifactUpdate": {"taskId": "t", "artifact": {}}}).is_ended, "no state is known"


@pytest.mark.parametrize("name", [b"", b"error"])
def test_an_error_in_a_stream_is_its_end(name: bytes) -> None:
    rpc = heard(STREAM, sse.event(b'{"id":1,"error":{"code":-32603,"message":"m"}}', name), EVENTS, whole=False)
    assert (rpc.code, rpc.error_type, rpc.is_ended) == (-32603, "-32603", True)
    rest = heard(REST_STREAM, sse.event(b'{"error":{"code":500,"status":"INTERNAL"}}', name), EVENTS, whole=False)
    assert (rest.code, rest.error_type, rest.is_ended) == (500, "INTERNAL", True)


def test_a_stream_may_be_answered_with_a_body() -> None:
    found = heard(STREAM, b'{"id":1,"error":{"code":-32004,"message":"no streams"}}')
    assert (found.code, found.is_ended) == (-32004, True)


def test_an_event_that_cannot_be_read_does_not_hide_the_others() -> None:
    content = b"data: {\n\n: ping\n\n" + sse.event(json.dumps({"result": {"statusUpdate": status("completed")}}).encode())
    found = heard(STREAM, content, EVENTS)
    assert (found.is_unreadable, found.events, found.state, found.is_ended) == (True, 2, "TASK_STATE_COMPLETED", True)


def test_an_event_above_the_bound_is_passed_over() -> None:
    reader = reader_of(STREAM, 200, EVENTS)
    reader.feed(b"data: ")
    for _ in range(17):
        reader.feed(bytes(MOST_EVENT_BYTES // 16))
    reader.feed(b"\n\n" + sse.event(json.dumps({"result": {"statusUpdate": status("failed")}}).encode()))
    assert isinstance(reader.answered, A2aAnswered)
    assert (reader.answered.is_unreadable, reader.answered.state) == (True, "TASK_STATE_FAILED")


@pytest.mark.parametrize(
    "result",
    [
        {"task": {"id": 5, "contextId": None, "status": {"state": "working"}}},
        {"task": {"id": "t", "contextId": [], "status": {"state": "working", "message": 7}, "artifacts": {}}},
        {"task": {"id": "t", "status": {"state": "working", "message": {"parts": [5, None, {"text": 3}]}}, "artifacts": [7]}},
    ],
)
def test_a_member_of_the_wrong_type_costs_no_other_member(result: Any) -> None:
    found = streamed(STREAM, result)
    assert (found.state, found.is_unreadable) == ("TASK_STATE_WORKING", False)


@pytest.mark.parametrize(
    "event",
    [b"null", b"[]", b"5", b'{"result":null}', b'{"result":[]}', b'{"result":{}}', b'{"result":{"task":null}}', b"{}"],
)
def test_an_event_that_says_nothing_is_nobodys_fault_or_unreadable(event: bytes) -> None:
    found = heard(STREAM, sse.event(event), EVENTS)
    assert (found.events, found.state, found.content_bytes) == (1, "", 0)


def test_deep_nesting_breaks_nothing() -> None:
    deep = b'{"result":' + 20_000 * b'{"task":' + 20_001 * b"}"
    assert heard(STREAM, sse.event(deep), EVENTS).is_unreadable
    assert heard(asked(), 100_000 * b"[").is_unreadable


def test_ids_are_cut() -> None:
    found = replied(asked(), {"task": {"id": 9999 * "t", "contextId": 9999 * "c"}})
    assert (len(found.task), len(found.context)) == (256, 256)


def test_a_call_that_nobody_has_read_has_a_reader_all_the_same() -> None:
    assert replied(Asked("a2a", "message"), {"task": {"id": "t"}}).is_ended
    found = heard(Asked("a2a", "GetAgentCard"), b'{"name":"n"}')
    assert found.agent == "n"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["result", "error", "task", "message", "statusUpdate", "artifactUpdate", "status", "state", "parts", "text", "id",
             "taskId", "final", "kind", "artifacts", "code", "details", "name"]
        ),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON_VALUES, st.sampled_from([*sorted(WITH_TASK), "GetAgentCard", "ListTasks"]), st.sampled_from([200, 404, 500]))
def test_no_json_breaks_a_reader(value: Any, operation: str, status: int) -> None:
    content = json.dumps(value).encode()
    for binding in ("JSONRPC", "HTTP+JSON"):
        for media_type in (JSON, EVENTS):
            found = heard(asked(operation, binding), sse.event(content) if media_type == EVENTS else content, media_type, status)
            assert found.content_bytes >= 0


@given(st.binary(), st.binary())
def test_no_bytes_break_a_reader(first: bytes, second: bytes) -> None:
    for media_type in (JSON, EVENTS, "image/png"):
        reader = reader_of(STREAM, 200, media_type)
        reader.feed(first)
        reader.feed(second)
        reader.end()
