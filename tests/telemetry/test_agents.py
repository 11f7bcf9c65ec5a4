"""The attributes that the seed documents name."""

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.model.errors import CODES
from sidecar.telemetry import agents
from sidecar.telemetry.semconv import SpanKind
from tests.otlp_collector import attributes_of


def read(fields: bytes) -> dict[str, object]:
    return attributes_of(Span.FromString(fields))


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("", {}),
        ("support-bot", {"gen_ai.agent.id": "support-bot"}),
        ("did:web:example.com:bot", {"gen_ai.agent.id": "did:web:example.com:bot", "agent.did": "did:web:example.com:bot"}),
    ],
)
def test_an_agent_whose_id_is_decentralised_has_a_did(agent: str, expected: dict[str, str]) -> None:
    assert read(agents.identity(agent)) == expected


def test_each_function_gives_whole_attributes_or_nothing() -> None:
    assert read(agents.task("sort mail") + agents.task_success(False)) == {
        "agent.task.name": "sort mail",
        "agent.task.success": False,
    }
    assert read(agents.delegation("a", "b")) == {"agent.delegation.from": "a", "agent.delegation.to": "b"}
    assert read(agents.model("gpt-4o") + agents.tool("search")) == {"agent.model.name": "gpt-4o", "agent.tool.name": "search"}
    assert agents.task("") == agents.model("") == agents.tool("") == agents.delegation("", "") == b""


@pytest.mark.parametrize("code", ["destination_denied", "stopped", "policy_timeout"])
def test_a_call_that_a_rule_stopped_is_a_policy_check(code: str) -> None:
    assert read(agents.policy_check(code)) == {"agent.span.kind": "POLICY_CHECK"}


@pytest.mark.parametrize(
    ("error", "kind"), [("", None), ("destination_denied", None), ("agent_card_signed", "POLICY_CHECK"), ("pool_timeout", "POLICY_CHECK")]
)
def test_the_policy_that_decided_is_named(error: str, kind: str | None) -> None:
    """Where the error's code says by itself that a rule stopped the call, `policy_check` has written the kind."""
    found = read(agents.policy("cost_guard/team", error))
    assert (found["agent.policy.name"], found.get("agent.span.kind")) == ("cost_guard/team", kind)
    assert agents.policy("", error) == b""


@pytest.mark.parametrize("score", [0.0, 0.97, 847.0])
def test_trust_is_a_number_and_nought_is_one(score: float) -> None:
    assert read(agents.trust_score(score)) == {"agent.trust_score": score}
    assert agents.trust_score(None) == b""


def test_other_ends_are_none_and_the_codes_exist() -> None:
    assert agents.policy_check("") == agents.policy_check("upstream_cut") == b""
    assert CODES.keys() >= agents.POLICY_CODES


def test_span_kinds_are_those_of_the_seeds() -> None:
    assert {*SpanKind} == {"AGENT_TASK", "TOOL_CALL", "LLM_INFERENCE", "DELEGATION", "POLICY_CHECK"}
