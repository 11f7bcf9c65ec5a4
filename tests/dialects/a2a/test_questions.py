import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.a2a.questions import CALL, GUESS, MOST_ID_BYTES, MOST_REFERENCES, OTHER, A2aCall, call_of, operation_of
from sidecar.dialects.dialect import Heading, Unreadable

JSON = {"content-type": "application/json"}
MARKED = {**JSON, "a2a-version": "1.0"}


def called(method: str, params: Any = None, fields: dict[str, str] = MARKED, query: str = "", id: Any = 1) -> A2aCall:
    body = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    return call_of(CALL, Heading("POST", "/", query, fields=fields), json.dumps(body).encode())


def rested(verb: str, path: str, body: Any = None, query: str = "", **fields: str) -> A2aCall:
    heading = Heading(verb, path, query, fields={"a2a-version": "", **fields})
    return call_of(operation_of(heading), heading, b"" if body is None else json.dumps(body).encode())


# what the head says


@pytest.mark.parametrize(
    ("verb", "path", "fields", "operation"),
    [
        ("GET", "/.well-known/agent-card.json", {}, "GetAgentCard"),
        ("HEAD", "/base/.well-known/agent.json", {}, "GetAgentCard"),
        ("POST", "/.well-known/agent-card.json", {}, ""),
        ("POST", "/message:send", {}, "SendMessage"),
        ("POST", "/v1/message:stream", {}, "SendStreamingMessage"),
        ("GET", "/tasks/7", {}, ""),
        ("GET", "/tasks/7", {"a2a-version": "1.0"}, "GetTask"),
        ("GET", "/tasks/7", {"accept": "application/a2a+json"}, "GetTask"),
        ("GET", "/v1/card", {"x-a2a-extensions": "urn:x"}, "GetExtendedAgentCard"),
        ("GET", "/extendedAgentCard", {}, "GetExtendedAgentCard"),
        ("POST", "/any/where", {"a2a-version": "1.0"}, CALL),
        ("POST", "/any/where", {"content-type": "application/json, application/json"}, GUESS),
        ("POST", "/any/where", {"content-type": "application/a2a+json, application/a2a+json"}, CALL),
        ("POST", "/any/where", {"content-type": "text/plain, application/json"}, ""),
        ("POST", "/any/where", {"a2a-extensions": "urn:x"}, CALL),
        ("POST", "/v1/x", {"content-type": "application/a2a+json; charset=utf-8"}, CALL),
        ("GET", "/any/where", {"a2a-version": "1.0"}, ""),
        ("POST", "/", JSON, GUESS),
        ("POST", "", JSON, GUESS),
        ("POST", "/a2a", {"content-type": "Application/JSON;charset=utf-8"}, GUESS),
        ("POST", "/api/v1/agents/7", JSON, GUESS),
        ("POST", "/", {"content-type": "text/plain"}, ""),
        ("POST", "/", {}, ""),
        ("POST", "/v1/charges", JSON, ""),
        ("POST", "/models/x:generate", JSON, ""),
        ("POST", "/upload.php", JSON, ""),
        ("POST", "/", {**JSON, "mcp-session-id": "x"}, ""),
        ("PUT", "/a2a", JSON, ""),
    ],
)  # fmt: skip
def test_the_head_says_as_much_as_it_can(verb: str, path: str, fields: dict[str, str], operation: str) -> None:
    assert operation_of(Heading(verb, path, fields=fields)) == operation


def test_the_version_in_the_query_is_a_mark_too() -> None:
    assert operation_of(Heading("GET", "/tasks/7", "a2a-version=1.0")) == "GetTask"
    assert operation_of(Heading("POST", "/x", "A2A-Version=1.0")) == CALL


# JSON-RPC


MESSAGE = {
    "messageId": "m", "contextId": "c", "taskId": "t", "referenceTaskIds": ["r", "s"], "role": "ROLE_USER", "parts": [{"text": "hi"}],
}  # fmt: skip


@pytest.mark.parametrize(("method", "version"), [("SendMessage", "1.0"), ("message/send", "0.3")])
def test_a_message_says_whose_it_is(method: str, version: str) -> None:
    call = called(method, {"message": MESSAGE, "tenant": "n"}, JSON)
    assert call == A2aCall(
        "a2a", "SendMessage", binding="JSONRPC", id="1", task="t", context="c", message="m", references=("r", "s"), tenant="n",
        protocol_version=version, raw_id=b"1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "params", "task", "context"),
    [
        ("GetTask", {"id": "t"}, "t", ""),
        ("tasks/cancel", {"id": "t"}, "t", ""),
        ("SubscribeToTask", {"id": "t"}, "t", ""),
        ("ListTasks", {"contextId": "c"}, "", "c"),
        ("CreateTaskPushNotificationConfig", {"taskId": "t", "id": "config"}, "t", ""),
        ("GetTaskPushNotificationConfig", {"taskId": "t", "id": "config"}, "t", ""),
        ("GetTaskPushNotificationConfig", {"id": "config"}, "", ""),
        ("DeleteTaskPushNotificationConfig", {"task_id": "t", "id": "config"}, "t", ""),
        ("tasks/pushNotificationConfig/set", {"taskId": "t", "pushNotificationConfig": {"id": "config"}}, "t", ""),
        ("tasks/pushNotificationConfig/get", {"id": "t", "pushNotificationConfigId": "config"}, "t", ""),
        ("tasks/pushNotificationConfig/list", {"id": "t"}, "t", ""),
        ("GetExtendedAgentCard", {"id": "x"}, "", ""),
    ],
)
def test_the_task_is_found_where_each_method_has_it(method: str, params: Any, task: str, context: str) -> None:
    call = called(method, params)
    assert (call.task, call.context) == (task, context)


def test_a_subscription_stands_and_a_streamed_message_does_not() -> None:
    asked = {method: called(method, {}) for method in ("SubscribeToTask", "tasks/resubscribe", "message/stream", "SendMessage")}
    assert {method: (call.streams, call.is_standing) for method, call in asked.items()} == {
        "SubscribeToTask": (True, True),
        "tasks/resubscribe": (True, True),
        "message/stream": (True, False),
        "SendMessage": (False, False),
    }


@pytest.mark.parametrize(
    ("method", "fields", "query", "version"),
    [
        ("SendMessage", JSON, "", "1.0"),
        ("message/send", JSON, "", "0.3"),
        ("message/send", {**JSON, "a2a-version": "1.0"}, "", "1.0"),
        ("SendMessage", {**JSON, "a2a-version": "1.0.1"}, "", "1.0"),
        ("SendMessage", {**JSON, "a2a-version": "0.3, 1.0"}, "", "0.3"),
        ("SendMessage", {**JSON, "a2a-version": "1.0, 1.0"}, "A2A-Version=0.3", "1.0"),
        ("SendMessage", {**JSON, "a2a-version": ", 0.3"}, "A2A-Version=1.1", "1.1"),
        ("SendMessage", {**JSON, "a2a-version": "0.3"}, "A2A-Version=1.0", "0.3"),
        ("SendMessage", JSON, "x=1&a2a-version=1.1", "1.1"),
        ("SendMessage", {**JSON, "a2a-version": "one"}, "", "1.0"),
        ("SendMessage", {**JSON, "a2a-version": "1"}, "", "1.0"),
        ("SendMessage", {**JSON, "a2a-version": "1." + 9 * "0"}, "", "1.0"),
        ("an/extension", {**JSON, "a2a-extensions": "urn:x"}, "", "0.3"),
    ],
)
def test_the_version_is_told_by_the_field_then_the_query_then_the_spelling(
    method: str, fields: dict[str, str], query: str, version: str
) -> None:
    assert called(method, {}, fields, query).protocol_version == version


def test_an_extended_card_is_a_card() -> None:
    assert called("agent/getAuthenticatedExtendedCard").agent_card


@pytest.mark.parametrize(
    ("id", "raw", "text"),
    [
        (7, b"7", "7"),
        ("7", b'"7"', "7"),
        (None, b"", ""),
        ([1], b"", ""),
        (True, b"", ""),
        (MOST_ID_BYTES * "x", b"", ""),
        (300 * "x", b'"' + 300 * b"x" + b'"', 256 * "x"),
    ],
    ids=["number", "text", "null", "list", "boolean", "endless", "long"],
)
def test_the_id_is_kept_as_it_was_written(id: Any, raw: bytes, text: str) -> None:
    call = called("GetTask", {}, id=id)
    assert (call.raw_id, call.id) == (raw, text)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"5", b"[]", b"{}", b"null", b'[{"id":1,"method":"SendMessage"}]', b" [" + 9 * b'{"method":"SendMessage"},' + b"{}]",
     b'{"id":1,"result":{}}', b'{"method":5}', b'\xff{"method":"SendMessage"}', 2000 * b"["],
    ids=["nothing", "cut", "number", "no messages", "no members", "null", "batch", "large batch", "response", "method of a wrong type",
         "no UTF-8", "deep"],
)  # fmt: skip
@pytest.mark.parametrize("operation", [CALL, GUESS])
def test_what_is_no_call_is_unreadable(operation: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        call_of(operation, Heading("POST", "/", fields=JSON), body)


def test_a_long_call_is_read_and_what_does_not_fit_costs_no_other_member() -> None:
    text = "x" * 300_000
    for message in ({**MESSAGE, "parts": [{"text": text}]}, {**MESSAGE, "metadata": text}):
        assert called("SendMessage", {"message": message}).message == MESSAGE["messageId"]
        assert rested("POST", "/message:send", {"message": message}).message == MESSAGE["messageId"]
    assert called("SendMessage", {"message": text, "tenant": "t"}).tenant == "t"
    assert called("SendMessage", [text]).operation == called("SendMessage", text).operation == "SendMessage"


@pytest.mark.parametrize(
    "body",
    [b'"' + b"\\u00e4" * 900_000 + b'"', b'{"message":{' + b'"taskId":1,' * 600_000 + b'"x":1}}', b'{"params":{"x":"' + b"a" * 5_000_000],
    ids=["text", "crowd", "cut"],
)
def test_a_call_of_megabytes_that_is_none_is_unreadable(body: bytes) -> None:
    for operation, path in ((CALL, "/"), ("SendMessage", "/message:send")):
        with pytest.raises(Unreadable):
            call_of(operation, Heading("POST", path, fields=MARKED), body)


def test_a_method_that_nobody_knows_is_other_where_the_head_names_a2a_and_no_call_of_ours_where_not() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":{"id":"t"}}'
    assert call_of(CALL, Heading("POST", "/", fields=MARKED), body).operation == OTHER
    with pytest.raises(Unreadable):
        call_of(GUESS, Heading("POST", "/", fields=JSON), body)


def test_a_member_of_the_wrong_type_costs_no_other_member() -> None:
    call = called("SendMessage", {"tenant": 5, "message": {**MESSAGE, "taskId": {}, "referenceTaskIds": ["r", 7, None, {}]}})
    assert (call.tenant, call.task, call.context, call.references) == ("5", "", "c", ("r", "7"))
    assert called("SendMessage", []).message == ""
    assert called("SendMessage", {"message": "hi"}).message == ""
    assert called("SendMessage", {"message": {**MESSAGE, "referenceTaskIds": "r"}}).references == ()


def test_what_is_kept_is_bounded() -> None:
    call = called("SendMessage", {"message": {"messageId": 5000 * "m", "referenceTaskIds": 100 * ["r"]}})
    assert (len(call.message), len(call.references)) == (256, MOST_REFERENCES)
    assert called("SendMessage", {"message": {"referenceTaskIds": 100_000 * ["r"]}}).references == ()


# REST


def test_a_card_needs_no_body() -> None:
    heading = Heading("GET", "/.well-known/agent-card.json", fields={"a2a-version": "1.0"})
    assert call_of(operation_of(heading), heading, b"") == A2aCall(
        "a2a", "GetAgentCard", binding="HTTP+JSON", protocol_version="1.0", agent_card=True
    )


def test_a_message_to_rest_is_read_in_both_spellings() -> None:
    modern = rested("POST", "/message:send", {"tenant": "n", "message": MESSAGE})
    assert (modern.task, modern.context, modern.message, modern.references) == ("t", "c", "m", ("r", "s"))
    assert (modern.binding, modern.tenant, modern.protocol_version) == ("HTTP+JSON", "n", "1.0")
    old = rested("POST", "/v1/message:stream", {"request": {"message_id": "m", "context_id": "c", "task_id": "t", "content": []}})
    assert (old.task, old.context, old.message, old.protocol_version, old.streams) == ("t", "c", "m", "0.3", True)


@pytest.mark.parametrize(
    ("verb", "path", "query", "task", "context"),
    [
        ("GET", "/tasks/a%20b", "historyLength=3", "a b", ""),
        ("POST", "/tasks/t:cancel", "", "t", ""),
        ("GET", "/tasks", "contextId=c%2Fd&pageSize=3", "", "c/d"),
        ("DELETE", "/tasks/t/pushNotificationConfigs/config", "", "t", ""),
    ],
)
def test_the_path_and_the_query_of_rest_say_what_no_body_does(verb: str, path: str, query: str, task: str, context: str) -> None:
    call = rested(verb, path, query=query)
    assert (call.task, call.context) == (task, context)


def test_the_path_counts_before_the_body() -> None:
    call = rested("POST", "/tasks/t/pushNotificationConfigs", {"taskId": "other", "id": "config"})
    assert call.task == "t"
    assert rested("GET", "/tasks/t", query="tenant=n").tenant == "n"


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", 5000 * b'{"message":'], ids=["cut", "list", "number", "deep"])
def test_a_body_of_rest_that_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        call_of("SendMessage", Heading("POST", "/message:send"), body)


@given(st.text(), st.text(), st.binary(), st.dictionaries(st.sampled_from(["a2a-version", "content-type", "accept"]), st.text()))
def test_nothing_that_comes_breaks_the_reading(path: str, query: str, body: bytes, fields: dict[str, str]) -> None:
    for verb in ("GET", "POST"):
        heading = Heading(verb, "/tasks/" + path, query, fields=fields)
        for operation in {operation_of(heading), CALL} - {""}:
            try:
                call_of(operation, heading, body)
            except Unreadable:
                pass
