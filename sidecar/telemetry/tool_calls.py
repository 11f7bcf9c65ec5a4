"""
Messages to MCP servers as attributes of spans (GenAI conventions, "MCP"); a `tools/call` is an `execute_tool` as well.

A tool that answers `isError` has `error.type` `tool_error`, and its JSON-RPC response is a success all the same.
"""

from sidecar.model.answered import McpAnswered
from sidecar.model.asked import McpAsked
from sidecar.telemetry import agents, semconv
from sidecar.telemetry.agents import text
from sidecar.telemetry.semconv import SpanKind
from sidecar.telemetry.wire import Cache, Key, field, utf8
from sidecar.telemetry.words import OTHER, Names

CALL = "tools/call"
"""The method that has a tool do something."""

EXECUTE_TOOL = "execute_tool"
"""What the GenAI conventions call that."""

METHODS = frozenset(
    {
        # messages without a method: an answer of the client's, and what HTTP itself asks for (GET and DELETE)
        "response", "listen", "end_session",
        # 2024-11-05 to 2025-06-18
        "initialize", "ping", "completion/complete", "logging/setLevel", "tools/list", "tools/call", "prompts/list",
        "prompts/get", "resources/list", "resources/templates/list", "resources/read", "resources/subscribe",
        "resources/unsubscribe", "sampling/createMessage", "roots/list", "elicitation/create", "notifications/cancelled",
        "notifications/initialized",
        "notifications/message", "notifications/progress", "notifications/prompts/list_changed",
        "notifications/resources/list_changed", "notifications/resources/updated", "notifications/roots/list_changed",
        "notifications/tools/list_changed",
        # 2025-11-25
        "tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "notifications/tasks/status",
        "notifications/elicitation/complete",
        # 2026-07-28
        "server/discover", "subscriptions/listen", "notifications/subscriptions/acknowledged", "tasks/update",
    }
)  # fmt: skip
"""The methods of all versions of MCP: what may be a dimension, and a span's name; others are `_OTHER` there."""

_Key = tuple[str, str, str, int, str, bool]


def tool_of(asked: McpAsked) -> str:
    """The tool that is called, "" where none is."""
    return asked.target if asked.operation == CALL else ""


class ToolCalls:
    """Writes what a message to an MCP server adds to its CLIENT span."""

    def __init__(self) -> None:
        self._blocks: Cache[_Key] = Cache(self._block, limit=1024, most_bytes=4096, weight=_weight)
        self._names = Names()
        self._id, self._session = Key(semconv.JSONRPC_ID.latest), Key(semconv.MCP_SESSION.latest)

    def client(self, asked: McpAsked, answered: McpAnswered | None, kind: str, *, is_piped: bool) -> list[bytes]:
        """Name and attributes of the CLIENT span, in pieces; `is_piped` says that the server is a child process (stdio)."""
        version, session, code = asked.protocol_version, asked.session, 0
        if answered is not None:
            version, session, code = version or answered.protocol_version, session or answered.session, answered.code
        parts = [self._blocks[asked.operation, asked.target, version, code, kind, is_piped]]
        if asked.id:
            parts += self._id.text(asked.id)
        if session:
            parts += self._session.text(session)
        return parts

    def _block(self, key: _Key) -> bytes:
        method, target, version, code, kind, is_piped = key
        is_call, is_prompt = method == CALL, method == "prompts/get"
        named = target if is_call or is_prompt else ""  # a resource's URI is no name for a span
        return b"".join(
            (
                field(5, utf8(self._names(shown_method(method), named))), text(semconv.MCP_METHOD, method),
                text(semconv.OPERATION_NAME, EXECUTE_TOOL) if is_call else b"",
                text(semconv.TOOL_NAME, target if is_call else ""),
                text(semconv.PROMPT_NAME, target if is_prompt else ""),
                text(semconv.MCP_RESOURCE, target if method.startswith("resources/") else ""),
                text(semconv.MCP_PROTOCOL_VERSION, version), text(semconv.RPC_STATUS, str(code) if code else ""),
                text(semconv.NETWORK_TRANSPORT, "pipe" if is_piped else "tcp"),
                text(semconv.NETWORK_PROTOCOL, "" if is_piped else "http"),
                agents.span_kind(SpanKind.TOOL_CALL) + agents.tool(target) if is_call else b"", text(semconv.ERROR_TYPE, kind),
            )
        )  # fmt: skip


def shown_method(method: str) -> str:
    """The method as a dimension: one of MCP's, or `_OTHER`."""
    return method if method in METHODS else OTHER


def _weight(key: _Key) -> int:
    return len(key[0]) + len(key[1]) + len(key[2]) + len(key[4])
