"""
The names that others read us by: one table of attributes and metrics, with a column for each edition of the conventions.

    INPUT_TOKENS.of(Semconv.V1_41)      # ("gen_ai.usage.input_tokens",)
    CACHE_WRITE_TOKENS.of(Semconv.BOTH) # ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens")

`v1.41` is what released backends and dashboards know (opentelemetry.io/docs/specs/semconv/gen-ai, v1.41.1). `latest` is the
moving target, github.com/open-telemetry/semantic-conventions-genai as of October 2026: #374 (token counters), #440
(cache_write), #521 (client.inference.*), #217 (top_k is an integer). `a2a.*` is a draft in both (its #195). Costs, and why
something was not read, have no convention and stand under `sidecar.`; `agent.*` are the names of agent-sre.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Semconv(StrEnum):
    """Which edition's names are written."""

    V1_41 = "v1.41"
    LATEST = "latest"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Name:
    """One row: what a thing is called in each edition, "" where it is not told there."""

    v1_41: str
    latest: str

    def of(self, semconv: Semconv) -> tuple[str, ...]:
        """The names to write it under: none, one, or two that differ."""
        wanted = {
            Semconv.V1_41: (self.v1_41,),
            Semconv.LATEST: (self.latest,),
            Semconv.BOTH: (self.v1_41, self.latest),
        }[semconv]
        return tuple(name for name in dict.fromkeys(wanted) if name)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A row of `gen_ai.request.*`: its name, and the type that its values are written as, whatever the client wrote."""

    name: Name
    kind: type[float] | type[int] | type[str] | type[tuple[str, ...]]


def _same(name: str) -> Name:
    return Name(name, name)


def _new(name: str) -> Name:
    return Name("", name)


# gen_ai.*: spans of models, tools and agents
OPERATION_NAME: Final = _same("gen_ai.operation.name")
PROVIDER_NAME: Final = _same("gen_ai.provider.name")
REQUEST_MODEL: Final = _same("gen_ai.request.model")
REQUEST_MAX_TOKENS: Final = _same("gen_ai.request.max_tokens")
REQUEST_CHOICE_COUNT: Final = _same("gen_ai.request.choice.count")
REQUEST_STREAM: Final = _same("gen_ai.request.stream")
PREVIOUS_RESPONSE: Final = _new("gen_ai.request.previous_response.id")
OUTPUT_TYPE: Final = _same("gen_ai.output.type")
CONVERSATION_ID: Final = _same("gen_ai.conversation.id")
RESPONSE_ID: Final = _same("gen_ai.response.id")
RESPONSE_MODEL: Final = _same("gen_ai.response.model")
FINISH_REASONS: Final = _same("gen_ai.response.finish_reasons")
TIME_TO_FIRST_CHUNK: Final = _same("gen_ai.response.time_to_first_chunk")
INPUT_TOKENS: Final = _same("gen_ai.usage.input_tokens")
OUTPUT_TOKENS: Final = _same("gen_ai.usage.output_tokens")
CACHE_READ_TOKENS: Final = _same("gen_ai.usage.cache_read.input_tokens")
CACHE_WRITE_TOKENS: Final = Name("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens")
REASONING_TOKENS: Final = _same("gen_ai.usage.reasoning.output_tokens")
INPUT_AUDIO_TOKENS: Final = _new("gen_ai.usage.audio.input_tokens")
OUTPUT_AUDIO_TOKENS: Final = _new("gen_ai.usage.audio.output_tokens")
INPUT_IMAGE_TOKENS: Final = _new("gen_ai.usage.image.input_tokens")
OUTPUT_IMAGE_TOKENS: Final = _new("gen_ai.usage.image.output_tokens")
TOOL_NAME: Final = _same("gen_ai.tool.name")
PROMPT_NAME: Final = _same("gen_ai.prompt.name")
AGENT_ID: Final = _same("gen_ai.agent.id")
AGENT_NAME: Final = _same("gen_ai.agent.name")
AGENT_VERSION: Final = _same("gen_ai.agent.version")
OPENAI_REQUEST_TIER: Final = _same("openai.request.service_tier")
OPENAI_RESPONSE_TIER: Final = _same("openai.response.service_tier")

PARAMETERS: Final = {
    "temperature": Parameter(_same("gen_ai.request.temperature"), float),
    "top_p": Parameter(_same("gen_ai.request.top_p"), float),
    "top_k": Parameter(_same("gen_ai.request.top_k"), float),
    "frequency_penalty": Parameter(_same("gen_ai.request.frequency_penalty"), float),
    "presence_penalty": Parameter(_same("gen_ai.request.presence_penalty"), float),
    "seed": Parameter(_same("gen_ai.request.seed"), int),
    "stop_sequences": Parameter(_same("gen_ai.request.stop_sequences"), tuple[str, ...]),
    "encoding_formats": Parameter(_same("gen_ai.request.encoding_formats"), tuple[str, ...]),
    "dimensions": Parameter(_same("gen_ai.embeddings.dimension.count"), int),
    "reasoning.level": Parameter(_new("gen_ai.request.reasoning.level"), str),
}
"""The other attributes of a request, by the last part of their name; `top_k` is an `int` where only `latest` is written."""

# content, which is off unless a route asks for it
SYSTEM_INSTRUCTIONS: Final = _same("gen_ai.system_instructions")
INPUT_MESSAGES: Final = _same("gen_ai.input.messages")
OUTPUT_MESSAGES: Final = _same("gen_ai.output.messages")
TOOL_DEFINITIONS: Final = _same("gen_ai.tool.definitions")
TOOL_ARGUMENTS: Final = _same("gen_ai.tool.call.arguments")
TOOL_RESULT: Final = _same("gen_ai.tool.call.result")

# mcp.* and what MCP and A2A borrow
MCP_METHOD: Final = _same("mcp.method.name")
MCP_PROTOCOL_VERSION: Final = _same("mcp.protocol.version")
MCP_SESSION: Final = _same("mcp.session.id")
MCP_RESOURCE: Final = _same("mcp.resource.uri")
JSONRPC_ID: Final = _same("jsonrpc.request.id")
RPC_STATUS: Final = _same("rpc.response.status_code")
NETWORK_TRANSPORT: Final = _same("network.transport")
NETWORK_PROTOCOL: Final = _same("network.protocol.name")

# a2a.*
A2A_METHOD: Final = _same("a2a.method.name")
A2A_MESSAGE: Final = _same("a2a.message.id")
A2A_REFERENCES: Final = _same("a2a.message.reference_task_ids")
A2A_TASK: Final = _same("a2a.task.id")
A2A_STATE: Final = _same("a2a.task.state")
A2A_TENANT: Final = _same("a2a.tenant")
A2A_PROTOCOL_VERSION: Final = _same("a2a.protocol.version")

# agent.*: the semantic attributes of agent-sre
SPAN_KIND: Final = _same("agent.span.kind")
AGENT_DID: Final = _same("agent.did")
TASK_NAME: Final = _same("agent.task.name")
TASK_SUCCESS: Final = _same("agent.task.success")
AGENT_TOOL: Final = _same("agent.tool.name")
AGENT_MODEL: Final = _same("agent.model.name")
DELEGATION_FROM: Final = _same("agent.delegation.from")
DELEGATION_TO: Final = _same("agent.delegation.to")
TRUST_SCORE: Final = _same("agent.trust_score")
POLICY_NAME: Final = _same("agent.policy.name")

# sidecar.*: what no convention has
COST_USD: Final = _same("sidecar.cost.usd")
COST_NANO_USD: Final = _same("sidecar.cost.nano_usd")
COST_PRICING: Final = _same("sidecar.cost.pricing")
COST_SOURCE: Final = _same("sidecar.cost.source")
COST_VERSION: Final = _same("sidecar.cost.version")
COST_WHY: Final = _same("sidecar.cost.why")
UNREAD: Final = _same("sidecar.unread")
EDITS: Final = _same("sidecar.edits")
SKIPPED: Final = _same("sidecar.edits.skipped")
SERVICE_TIER: Final = _same("sidecar.service_tier")
CONTENT_CUT: Final = _same("sidecar.content.cut")


class SpanKind(StrEnum):
    """`agent.span.kind`: what a span is in the work of an agent."""

    AGENT_TASK = "AGENT_TASK"
    TOOL_CALL = "TOOL_CALL"
    LLM_INFERENCE = "LLM_INFERENCE"
    DELEGATION = "DELEGATION"
    POLICY_CHECK = "POLICY_CHECK"


# metrics
SECONDS_BOUNDS: Final = tuple(0.01 * 2**power for power in range(14))
"""Advised for durations of GenAI operations: 0.01, 0.02, … 81.92."""
TOKEN_BOUNDS: Final = tuple(4.0**power for power in range(14))
"""Advised for tokens: 1, 4, 16, … 67108864."""
MCP_BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Advised for durations of MCP's operations and sessions."""

TOKEN_USAGE: Final = Name("gen_ai.client.token.usage", "")
DURATION: Final = Name("gen_ai.client.operation.duration", "gen_ai.client.inference.duration")
FIRST_CHUNK: Final = Name("gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.inference.time_to_first_chunk")
OUTPUT_CHUNK: Final = Name("gen_ai.client.operation.time_per_output_chunk", "gen_ai.client.inference.time_per_output_chunk")
INFERENCE_INPUT: Final = _new("gen_ai.client.inference.operation.input_tokens")
INFERENCE_OUTPUT: Final = _new("gen_ai.client.inference.operation.output_tokens")
USED_INPUT: Final = _new("gen_ai.client.inference.usage.input_tokens")
USED_OUTPUT: Final = _new("gen_ai.client.inference.usage.output_tokens")
USED_CACHE_READ: Final = _new("gen_ai.client.inference.usage.cache_read.input_tokens")
USED_CACHE_WRITE: Final = _new("gen_ai.client.inference.usage.cache_write.input_tokens")
USED_REASONING: Final = _new("gen_ai.client.inference.usage.reasoning.output_tokens")
MCP_DURATION: Final = _same("mcp.client.operation.duration")
MCP_SESSION_DURATION: Final = _same("mcp.client.session.duration")

A2A_DURATION: Final = _same("a2a.client.operation.duration")
SPENT: Final = _same("cost.nano_usd")
UNPRICED_CALLS: Final = _same("cost.unpriced_calls")
UNREAD_ANSWERS: Final = _same("dialogues.unread")
SKIPPED_EDITS: Final = _same("dialogues.skipped_edits")
"""The last five are ours: where they are shown, `sidecar_` stands before them."""

# their dimensions, beside attributes from above
TOKEN_TYPE: Final = _same("gen_ai.token.type")
TOKEN_MODALITY: Final = _new("gen_ai.token.modality")
SERVER_ADDRESS: Final = _same("server.address")
SERVER_PORT: Final = _same("server.port")
ERROR_TYPE: Final = _same("error.type")


def rows() -> dict[str, Name]:
    """The whole table, by the word that the code has for it: what documentation and tests are held against."""
    found = {word: row for word, row in globals().items() if isinstance(row, Name)}
    return found | {f"PARAMETERS.{word}": row.name for word, row in PARAMETERS.items()}
