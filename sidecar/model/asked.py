"""
What a request asks for, as its dialect understood it: one class for models, one for MCP, one for A2A.

A dialect makes one from a request's head and body, once; policies, telemetry and readers share it, and nobody changes it.
"""

from dataclasses import dataclass

Parameter = int | float | str | bool | tuple[str, ...]


@dataclass(slots=True)
class Asked:
    """
    What all requests have in common.

    `dialect` is the module that read it, `operation` what is asked for in the words of the semantic conventions: for models
    `chat`, `generate_content`, `text_completion`, `embeddings`; for MCP the JSON-RPC method; for A2A the logical method of
    1.0 (`SendMessage`), whatever version was spoken. `streams` says that the answer was asked for piece by piece.
    `is_standing`: a stream that stays open on purpose (MCP's GET, `subscriptions/listen`, A2A's subscriptions) and is never slow.
    """

    dialect: str
    operation: str
    streams: bool = False
    is_standing: bool = False


@dataclass(slots=True)
class ModelAsked(Asked):
    """
    A call to a model.

    `provider` is `gen_ai.provider.name`, `model` as the client wrote it, `max_tokens` the bound on the output that it set (0:
    none), `tools` the names of the functions that are offered, `choices` how many answers are wanted. `conversation` is the
    id of a conversation that the provider keeps, `previous_response` that of the response which this call goes on from.
    `parameters` are the other recommended `gen_ai.request.*` attributes, by their last part (`temperature`, `top_p`, `seed`,
    `stop_sequences`, `encoding_formats`, …). `output_type` is `text`, `json`, `image` or `speech`, where one was asked for.
    `service_tier` is what was asked for, `unbounded` says in words what keeps the cost from having a bound (`files`, `urls`,
    `server_tools`, `stored_conversation`). `tells_usage`: a streamed answer will say its usage (always so where no option
    has to be set for it).
    """

    provider: str = ""
    model: str = ""
    max_tokens: int = 0
    choices: int = 1
    tools: tuple[str, ...] = ()
    conversation: str = ""
    previous_response: str = ""
    parameters: tuple[tuple[str, Parameter], ...] = ()
    output_type: str = ""
    service_tier: str = ""
    unbounded: tuple[str, ...] = ()
    tells_usage: bool = True


@dataclass(slots=True)
class McpAsked(Asked):
    """
    A message to an MCP server; `operation` is its method, `response` where it is an answer of the client's.

    `id` is the JSON-RPC id as text ("" for a notification), `target` the tool, prompt or resource URI, `arguments` the tool's
    arguments as raw JSON. `session` and `protocol_version` as header or body say. `progress_token` as text. `traceparent`,
    `tracestate` and `baggage` are those of `params._meta`. `cancels` is the id that a `notifications/cancelled` is about.
    `count` is how many messages a batch (2025-03-26) held; the first request of it is described.
    """

    id: str = ""
    target: str = ""
    arguments: bytes = b""
    session: str = ""
    protocol_version: str = ""
    progress_token: str = ""
    traceparent: bytes = b""
    tracestate: bytes = b""
    baggage: bytes = b""
    cancels: str = ""
    count: int = 1


@dataclass(slots=True)
class A2aAsked(Asked):
    """
    A call to an agent; `binding` is `JSONRPC`, `HTTP+JSON` or `GRPC`.

    `id` is the JSON-RPC id as text. `task`, `context`, `message` and `references` are ids in the request; `protocol_version` is
    `1.0` or `0.3`. `agent_card`: the agent's card was asked for (operation `GetAgentCard`).
    """

    binding: str = "JSONRPC"
    id: str = ""
    task: str = ""
    context: str = ""
    message: str = ""
    references: tuple[str, ...] = ()
    tenant: str = ""
    protocol_version: str = ""
    agent_card: bool = False
