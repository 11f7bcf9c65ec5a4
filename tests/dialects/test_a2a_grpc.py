"""Messages are written by hand here, field by field; those of the official SDK stand beside them where it is installed."""

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import a2a_grpc
from sidecar.dialects.dialect import Clamp, Dialect, Heading, Unreadable
from sidecar.model.asked import A2aAsked, Asked
from sidecar.model.errors import CODES, Refused

NOW, THEN = "/lf.a2a.v1.A2AService/", "/a2a.v1.A2AService/"


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def put(number: int, value: bytes | str | int) -> bytes:
    """One field: text and messages with their length, numbers as varints."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


MESSAGE = put(1, "m-1") + put(2, "ctx") + put(3, "t-1") + put(4, 1) + put(5, put(1, "hello")) + put(8, "r-1") + put(8, "r-2")
TASK = put(1, "t-9") + put(2, "c-9") + put(3, put(1, 3) + put(2, put(1, "done"))) + put(4, put(1, "a")) + put(5, MESSAGE)


def asked(path: str, body: bytes) -> A2aAsked:
    heading = Heading("POST", path)
    found = a2a_grpc.request(a2a_grpc.operation(heading), heading, body)
    assert isinstance(found, A2aAsked)
    return found


def test_it_is_a_dialect() -> None:
    dialect: Dialect = a2a_grpc
    assert dialect.name == "a2a_grpc"


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        (f"{NOW}SendMessage", "SendMessage"),
        (f"{NOW}SubscribeToTask", "SubscribeToTask"),
        (f"{THEN}TaskSubscription", "SubscribeToTask"),
        (f"{THEN}ListTaskPushNotificationConfig", "ListTaskPushNotificationConfigs"),
        (f"{THEN}GetAgentCard", "GetAgentCard"),
        (f"{NOW}Invented", ""),
        (f"{NOW}", ""),
        ("/grpc.health.v1.Health/Check", ""),
        ("", ""),
    ],
    ids=["1.0", "1.0 subscription", "0.3 subscription", "0.3 list", "0.3 card", "invented", "no method", "other", "nothing"],
)
def test_the_operation_is_the_method_as_version_1_calls_it(path: str, operation: str) -> None:
    assert a2a_grpc.operation(Heading("POST", path)) == operation


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
def test_a_message_tells_its_ids(method: str) -> None:
    found = asked(f"{NOW}{method}", put(1, "acme") + put(2, MESSAGE) + put(3, put(3, 5)))
    assert found == A2aAsked(
        "a2a_grpc", method, streams=method == "SendStreamingMessage", binding="GRPC", task="t-1", context="ctx", message="m-1",
        references=("r-1", "r-2"), tenant="acme", protocol_version="1.0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("GetTask", put(1, "acme") + put(2, "t-1")),
        ("CancelTask", put(1, "acme") + put(2, "t-1")),
        ("SubscribeToTask", put(1, "acme") + put(2, "t-1")),
        ("CreateTaskPushNotificationConfig", put(1, "acme") + put(2, "config") + put(3, "t-1")),
        ("GetTaskPushNotificationConfig", put(1, "acme") + put(2, "t-1") + put(3, "config")),
        ("DeleteTaskPushNotificationConfig", put(1, "acme") + put(2, "t-1") + put(3, "config")),
        ("ListTaskPushNotificationConfigs", put(1, "t-1") + put(4, "acme")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_about_a_task_tells_which(method: str, body: bytes) -> None:
    found = asked(f"{NOW}{method}", body)
    assert (found.operation, found.task, found.tenant) == (method, "t-1", "acme")
    assert found.is_standing is (method == "SubscribeToTask")


def test_a_list_tells_its_context() -> None:
    assert asked(f"{NOW}ListTasks", put(1, "acme") + put(2, "ctx")).context == "ctx"


def test_cards_are_asked_for_by_either_name() -> None:
    assert asked(f"{NOW}GetExtendedAgentCard", put(1, "acme")).agent_card
    assert asked(f"{THEN}GetAgentCard", b"").agent_card


def test_version_0_3_names_tasks_as_resources() -> None:
    assert asked(f"{THEN}GetTask", put(1, "tasks/t-1")).task == "t-1"
    assert asked(f"{THEN}GetTaskPushNotificationConfig", put(1, "tasks/t-1/pushNotificationConfigs/c")).task == "t-1"
    assert asked(f"{THEN}GetTask", put(1, "agents/t-1")).task == ""
    found = asked(f"{THEN}SendMessage", put(1, MESSAGE) + put(2, b""))
    assert (found.message, found.context, found.task, found.protocol_version) == ("m-1", "ctx", "t-1", "0.3")


def read(operation: str, *messages: bytes, version: str = "1.0") -> Any:
    reader = a2a_grpc.reader(A2aAsked("a2a_grpc", operation, protocol_version=version), 200, "application/grpc", {})
    for message in messages:
        reader.feed(message)
    reader.end()
    return reader.answered


@pytest.mark.parametrize(
    ("operation", "message"),
    [("SendMessage", put(1, TASK)), ("GetTask", TASK), ("CancelTask", TASK), ("SubscribeToTask", put(1, TASK))],
    ids=["SendMessage", "GetTask", "CancelTask", "SubscribeToTask"],
)
def test_a_task_tells_its_ids_and_its_state(operation: str, message: bytes) -> None:
    answered = read(operation, message)
    assert (answered.task, answered.context, answered.state) == ("t-9", "c-9", "TASK_STATE_COMPLETED")
    assert answered.content_bytes == len(TASK)
    assert answered.is_ended and not answered.is_unreadable


def test_a_stream_tells_the_last_state() -> None:
    update = put(1, "t-9") + put(2, "c-9") + put(3, put(1, 2))
    artifact = put(1, "t-9") + put(2, "c-9") + put(3, put(1, "a"))
    answered = read("SendStreamingMessage", put(3, update), put(4, artifact), put(3, put(1, "t-9") + put(3, put(1, 6))))
    assert (answered.task, answered.context, answered.state) == ("t-9", "c-9", "TASK_STATE_INPUT_REQUIRED")
    assert answered.events == 3
    assert answered.content_bytes == len(artifact), "an update of the state is no content"


def test_a_message_in_the_place_of_a_task_tells_its_context() -> None:
    answered = read("SendMessage", put(2, MESSAGE))
    assert (answered.context, answered.task, answered.state) == ("ctx", "t-1", "")


def test_a_card_tells_who_it_is_of() -> None:
    assert read("GetExtendedAgentCard", put(1, "Planner") + put(5, "2.1")).agent_version == "2.1"
    card = read("GetAgentCard", put(1, "Planner") + put(8, "2.1"), version="0.3")
    assert (card.agent, card.agent_version) == ("Planner", "2.1")


def test_a_status_tells_the_reason_that_a2a_gives() -> None:
    info = put(1, "TASK_NOT_FOUND") + put(2, "a2a-protocol.org")
    details = put(1, 5) + put(2, "no") + put(3, put(1, "type.googleapis.com/google.rpc.ErrorInfo") + put(2, info))
    reader = a2a_grpc.reader(Asked("a2a_grpc", "GetTask"), 200, "", {})
    reader.fail(5, "NOT_FOUND", "x" * 1000, details)
    assert (reader.answered.code, reader.answered.error_type, len(reader.answered.error_message)) == (5, "TASK_NOT_FOUND", 512)
    reader.fail(14, "UNAVAILABLE", "", b"\xff")
    assert (reader.answered.code, reader.answered.error_type) == (14, "UNAVAILABLE")


@pytest.mark.parametrize(
    "body",
    [b"\x0a\x05ab", b"\xff" * 20, b"\x0b", b"\x0f", b"\x09abc", b"\x02\x01a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
    ids=["cut", "endless varint", "group", "unknown type", "cut fixed", "no number", "huge length"],
)
def test_what_is_no_message_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        asked(f"{NOW}SendMessage", body)
    assert read("GetTask", body).is_unreadable


def test_wrong_types_do_not_lose_the_rest() -> None:
    found = asked(f"{NOW}SendMessage", put(1, 7) + put(2, put(1, 5) + put(2, "ctx") + b"\x3d1234" + put(3, b"\xff\xfe")))
    assert (found.tenant, found.message, found.context, found.task) == ("", "", "ctx", "��")
    assert read("GetTask", put(1, "t") + put(3, "no status")).task in ("t", "")
    assert read("GetTask", put(1, "t") + put(3, put(1, 77))).state == "", "a state that nobody knows is none"


def test_ids_and_lists_have_a_bound() -> None:
    message = put(1, "m" * 100_000) + b"".join(put(8, f"r-{number}") for number in range(500))
    found = asked(f"{NOW}SendMessage", put(2, message))
    assert (len(found.message), len(found.references)) == (256, 64)


@pytest.mark.parametrize(
    "body",
    [
        put(6, 1) * 2_000_000,
        put(2, put(8, "") * 2000) * 500,
        put(2, put(2, put(2, b"") * 1000) * 500) * 3,
        put(1, b"x" * 4_000_000),
    ],
    ids=["tiny fields", "messages of fields", "nested", "long text"],
)
def test_a_hostile_message_costs_little(body: bytes) -> None:
    began = time.process_time()
    asked(f"{NOW}SendMessage", body)
    read("SendMessage", body)
    read("GetTask", body)
    assert time.process_time() - began < 1


@given(st.binary(max_size=200), st.sampled_from(["SendMessage", "GetTask", "ListTasks", "GetExtendedAgentCard"]))
def test_no_bytes_are_an_exception_other_than_unreadable(body: bytes, operation: str) -> None:
    for prefix in (NOW, THEN):
        with contextlib.suppress(Unreadable):
            asked(prefix + operation, body)
    read(operation, body)
    a2a_grpc.reason_of(body)


def test_messages_are_not_changed_and_streams_not_ended_by_one() -> None:
    with pytest.raises(Unreadable):
        a2a_grpc.edit(Asked("a2a_grpc", ""), b"", Clamp(1))
    assert a2a_grpc.takes_out(Asked("a2a_grpc", ""), Clamp(1)) is None
    assert a2a_grpc.content(Asked("a2a_grpc", ""), b"\x0a\x00", b"\x0a\x00", "application/grpc") is None
    assert a2a_grpc.ending(Asked("a2a_grpc", ""), read("GetTask"), "stopped") == b""


@pytest.mark.parametrize("code", CODES)
def test_an_error_of_ours_is_a_status(code: str) -> None:
    spoken = a2a_grpc.error(Refused(code, "größer"), None)
    told = dict(spoken.fields)
    assert (spoken.status, spoken.content_type, spoken.body) == (200, "application/grpc", b"")
    assert told["x-sidecar-error"] == code
    assert told["grpc-status"] in ("13", "14")
    assert told["grpc-message"] == f"{code}: gr%C3%B6%C3%9Fer"


def test_what_the_official_sdk_writes_is_read() -> None:
    pb = pytest.importorskip("a2a.types.a2a_pb2")
    message = pb.Message(message_id="m-1", context_id="ctx", task_id="t-1", reference_task_ids=["r-1"], role=1)
    message.parts.add(text="hello")
    found = asked(f"{NOW}SendMessage", pb.SendMessageRequest(tenant="acme", message=message).SerializeToString())
    assert (found.tenant, found.message, found.context, found.task, found.references) == ("acme", "m-1", "ctx", "t-1", ("r-1",))
    for number, state in enumerate(a2a_grpc.STATES):
        task = pb.Task(id="t", context_id="c", status=pb.TaskStatus(state=number))
        assert pb.TaskState.Name(number) == state
        assert read("SendMessage", pb.SendMessageResponse(task=task).SerializeToString()).state == state
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["A2AService"].methods}
    assert {a2a_grpc.operation(Heading("POST", NOW + method)) for method in methods} == methods
