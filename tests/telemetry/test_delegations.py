"""Calls to other agents: who gives work to whom, and who only asks about it."""

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.model.answered import A2aAnswered
from sidecar.model.asked import A2aAsked
from sidecar.telemetry.delegations import Delegations, success, taker_of
from tests.otlp_collector import attributes_of


def written(asked: A2aAsked, answered: A2aAnswered | None = None) -> dict[str, Any]:
    return attributes_of(Span.FromString(b"".join(Delegations().client(asked, answered, "", giver="planner", taker="coder"))))


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage", "GetTask", "CancelTask", "GetAgentCard"])
def test_only_a_message_sets_an_agent_to_work(method: str) -> None:
    found = written(A2aAsked("a2a", method, task="t-1"))
    is_work = method.startswith("Send")
    assert (found["a2a.method.name"], found["a2a.task.id"]) == (method, "t-1")
    assert (found.get("gen_ai.operation.name") == "invoke_agent") is is_work
    assert (found.get("agent.delegation.to") == "coder") is is_work


def test_a_card_names_the_agent() -> None:
    found = written(A2aAsked("a2a", "GetAgentCard", agent_card=True), A2aAnswered(agent="Coder", agent_version="2.1"))
    assert (found["gen_ai.agent.name"], found["gen_ai.agent.version"]) == ("Coder", "2.1")


def test_what_the_agent_answered_goes_before_what_was_asked_for() -> None:
    found = written(
        A2aAsked("a2a", "SendMessage", task="t-0", context="c-0"), A2aAnswered(task="t-1", context="c-1", code=-32001)
    )
    assert (found["a2a.task.id"], found["gen_ai.conversation.id"], found["rpc.response.status_code"]) == ("t-1", "c-1", "-32001")


@pytest.mark.parametrize(
    ("binding", "code", "expected"),
    [("JSONRPC", -32001, "-32001"), ("GRPC", 5, "NOT_FOUND"), ("GRPC", 77, "77"), ("HTTP+JSON", 404, None), ("GRPC", 0, None)],
)
def test_an_error_has_the_code_of_its_own_protocol(binding: str, code: int, expected: str | None) -> None:
    found = written(A2aAsked("a2a", "GetTask", binding=binding), A2aAnswered(code=code))
    assert found.get("rpc.response.status_code") == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [("TASK_STATE_COMPLETED", True), ("TASK_STATE_FAILED", False), ("TASK_STATE_REJECTED", False), ("TASK_STATE_WORKING", None), ("", None)],
)  # fmt: skip
def test_a_task_succeeds_or_fails_by_its_last_state(state: str, expected: bool | None) -> None:
    assert attributes_of(Span.FromString(success(state))).get("agent.task.success") is expected


def test_the_called_agent_is_known_by_its_card_its_upstream_or_its_host() -> None:
    assert taker_of("http/coder", "10.0.0.1", A2aAnswered(agent="Coder")) == "Coder"
    assert taker_of("http/coder", "10.0.0.1", None) == taker_of("http/coder", "10.0.0.1", A2aAnswered()) == "coder"
    assert taker_of("", "coder.example", None) == taker_of("http", "coder.example", None) == "coder.example"
