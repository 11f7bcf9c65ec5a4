"""
What came of it: what a dialect's reader has gathered of a response so far.

A reader fills it in while bytes flow, so it is true at any moment, and after a cut it holds what had been seen by then.
"""

from dataclasses import dataclass, field

from sidecar.model.usage import Usage


@dataclass(slots=True)
class ToolCall:
    """A tool that a model wants to have called; `arguments` is the JSON text as the model wrote it, as far as it came."""

    id: str = ""
    name: str = ""
    arguments: bytes = b""


@dataclass(slots=True)
class Answered:
    """
    What all answers have in common.

    `is_ended`: the terminal event, or the whole body, was read. `content_bytes` counts what the model or server produced (text,
    arguments, reasoning), pings and envelopes not: above 0 the first content has come. `error_type` is the
    error that the body or an event in the stream told, in the provider's own word (`overloaded_error`, `-32602`), "" where
    there is none; `error_message` its text, at most 512 characters. `is_unreadable`: the dialect could not read it, which is
    counted and no fault of anybody's call. `events` counts what came in a stream.
    """

    is_ended: bool = False
    content_bytes: int = 0
    error_type: str = ""
    error_message: str = ""
    is_unreadable: bool = False
    events: int = 0


@dataclass(slots=True)
class ModelAnswered(Answered):
    """
    What a model answered.

    `model` and `id` as the provider tells them. `finish_reasons` are the provider's own words, in the order of the choices.
    `usage` is None until the provider has told one; where it tells it in parts, it is the latest state. `service_tier` is
    what was really served.
    """

    id: str = ""
    model: str = ""
    finish_reasons: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    usage: Usage | None = None
    service_tier: str = ""


@dataclass(slots=True)
class McpAnswered(Answered):
    """
    What an MCP server answered.

    `is_tool_error`: the result has `isError: true`. `code` is the JSON-RPC error's (0: none). `result_type` is that of
    2026-07-28 (`complete`, `input_required`). `session` and `protocol_version` are what an `initialize` was answered with;
    `server` the name that the server gave. `progress` counts progress notifications, `server_requests` the requests that it
    made of the client.
    """

    is_tool_error: bool = False
    code: int = 0
    result_type: str = ""
    session: str = ""
    protocol_version: str = ""
    server: str = ""
    progress: int = 0
    server_requests: int = 0


@dataclass(slots=True)
class A2aAnswered(Answered):
    """
    What an agent answered.

    `state` is the task's last known one as 1.0 writes it (`TASK_STATE_COMPLETED`), whatever version was spoken; `code` is the
    JSON-RPC error's, or the HTTP status of a REST error (0: none). `agent`, `agent_version` are those of a card.
    """

    task: str = ""
    context: str = ""
    state: str = ""
    code: int = 0
    agent: str = ""
    agent_version: str = ""
