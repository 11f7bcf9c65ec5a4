"""
What agent-sre tells of agents, beside OpenTelemetry's conventions: who, in which task, with which model, tool or other agent.

Each function gives whole attributes of a span as protobuf bytes, b"" for what is not known. `agent.span.kind` stands on the span
that did the work, so that one filter finds each inference, tool call and delegation once: the CLIENT span of an attempt. A call
that a rule of ours stopped has a POLICY_CHECK in its SERVER span.
"""

from sidecar.telemetry.semconv import (
    AGENT_DID,
    AGENT_ID,
    AGENT_MODEL,
    AGENT_TOOL,
    DELEGATION_FROM,
    DELEGATION_TO,
    POLICY_NAME,
    SPAN_KIND,
    TASK_NAME,
    TASK_SUCCESS,
    TRUST_SCORE,
    Name,
    SpanKind,
)
from sidecar.telemetry.wire import bool_attribute, double_attribute, text_attribute

POLICY_CODES = frozenset(
    {
        "host_refused", "origin_refused", "destination_denied", "connect_denied", "address_refused", "loopback_refused",
        "stopped", "policy_failed", "policy_timeout",
    }
)  # fmt: skip
"""Error codes with which a rule, or an operator, stopped a call."""


def identity(agent: str) -> bytes:
    """Who acts: `gen_ai.agent.id`, and `agent.did` where the id is a decentralised identifier (W3C DID Core 1.0)."""
    if not agent:
        return b""
    found = text(AGENT_ID, agent)
    return found + text(AGENT_DID, agent) if agent.startswith("did:") else found


def task(name: str) -> bytes:
    """What it acts for."""
    return text(TASK_NAME, name)


def task_success(is_done: bool) -> bytes:
    """How that ended, where it is known."""
    return bool_attribute(TASK_SUCCESS.latest, is_done)


def policy_check(error: str) -> bytes:
    """The span kind of a call that a rule stopped."""
    return span_kind(SpanKind.POLICY_CHECK) if error in POLICY_CODES else b""


def policy(name: str, error: str) -> bytes:
    """The policy that refused, answered or changed a call, and where it stopped it (`error`) the span kind that says so."""
    found = text(POLICY_NAME, name)
    return found + span_kind(SpanKind.POLICY_CHECK) if name and error and error not in POLICY_CODES else found


def trust_score(score: float | None) -> bytes:
    """How far the agent is trusted, as it or its mesh says (0 to 1000); None where nobody said."""
    return b"" if score is None else double_attribute(TRUST_SCORE.latest, score)


def model(name: str) -> bytes:
    """The model that was really used, as far as it is known."""
    return text(AGENT_MODEL, name)


def tool(name: str) -> bytes:
    """The tool that was called."""
    return text(AGENT_TOOL, name)


def delegation(giver: str, taker: str) -> bytes:
    """Who gave work to whom."""
    return text(DELEGATION_FROM, giver) + text(DELEGATION_TO, taker)


def span_kind(kind: SpanKind) -> bytes:
    """What the span is in the work of an agent."""
    return text(SPAN_KIND, kind)


def text(name: Name, value: str) -> bytes:
    """A string attribute that has one name in every edition; nothing for ""."""
    return text_attribute(name.latest, value) if value else b""
