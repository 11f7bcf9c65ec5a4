"""Spans as the sidecar would export them in the demo, made by hand."""

from sidecar.demo.backend import Span, Value

TASK, ALONE = b"T" * 16, b"A" * 16
AGENT_SPAN = b"agent-sp"


def span(
    trace_id: bytes,
    span_id: int,
    parent_id: int | bytes,
    kind: str,
    *,
    at_ms: int = 0,
    lasts_ms: int = 50,
    first_byte_ms: float = 45.0,
    method: str = "POST",
    route: str = "llm",
    path: str = "/v1/chat/completions",
    status: int = 200,
    agent: str = "trip-planner",
    name: str = "",
    **attributes: Value,
) -> Span:
    """One span; a number as parent is another span's."""
    where: dict[str, Value] = {"url.path": path} if kind == "SERVER" else {"url.full": f"http://127.0.0.1:9{path}"}
    return Span(
        trace_id=trace_id,
        span_id=_id(span_id),
        parent_id=_id(parent_id) if isinstance(parent_id, int) else parent_id,
        kind=kind,
        name=name or method,
        started_ns=at_ms * 1_000_000,
        ended_ns=(at_ms + lasts_ms) * 1_000_000,
        failed=kind == "CLIENT" and status >= 400,
        attributes={
            "http.request.method": method, "sidecar.route": route, "server.address": "127.0.0.1", "server.port": 9, **where,
            "http.request.body.size": 400, "http.response.body.size": 2048, "sidecar.first_byte_s": first_byte_ms / 1e3,
            "gen_ai.agent.id": agent, **({"http.response.status_code": status} if status else {"error.type": "connect_failed"}),
            **attributes,
        },
    )  # fmt: skip


def _id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def exchange(
    trace_id: bytes, span_id: int, parent_id: int | bytes, said: tuple[str, dict[str, Value]] = ("", {}), **rest: object
) -> list[Span]:
    """A SERVER span with its one CLIENT span, whose id is the next number; `said` is the latter's name, and what was read."""
    server = span(trace_id, span_id, parent_id, "SERVER", **rest)  # type: ignore[arg-type]  # passed through as they are
    name, attributes = said
    return [server, span(trace_id, span_id + 1, span_id, "CLIENT", name=name, **rest, **attributes)]  # type: ignore[arg-type]


CHAT = ("chat demo-1", {
    "gen_ai.operation.name": "chat", "gen_ai.response.id": "r-1", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 42,
    "sidecar.cost.usd": 0.000087, "sidecar.cost.pricing": "exact",
})  # fmt: skip
REFUSED = ("chat demo-1", {"gen_ai.operation.name": "chat", "sidecar.cost.usd": 0.0, "sidecar.cost.pricing": "exact"})
LIST = ("tools/list", {"mcp.method.name": "tools/list"})
TOOL = ("tools/call get_weather", {"mcp.method.name": "tools/call"})
CARD = ("GetAgentCard", {"a2a.method.name": "GetAgentCard"})
SEND = ("SendMessage", {"a2a.method.name": "SendMessage", "agent.delegation.to": "packer"})


def demo() -> list[Span]:
    """All spans of a demo that went well."""
    return [
        *exchange(ALONE, 1, b"", at_ms=0, method="GET", path="/v1/models"),
        *exchange(TASK, 11, AGENT_SPAN, LIST, at_ms=100, route="mcp", path="/mcp"),
        *exchange(TASK, 21, AGENT_SPAN, CHAT, at_ms=200),
        *exchange(TASK, 31, AGENT_SPAN, TOOL, at_ms=300, route="mcp", path="/mcp"),
        *exchange(TASK, 41, AGENT_SPAN, CARD, at_ms=400, method="GET", route="a2a", path="/.well-known/agent-card.json"),
        *exchange(TASK, 51, AGENT_SPAN, SEND, at_ms=500, lasts_ms=90, route="a2a", path="/a2a"),
        *exchange(TASK, 61, 52, CHAT, at_ms=510, agent="packing-agent"),
        *exchange(TASK, 71, AGENT_SPAN, REFUSED, at_ms=600, status=429),
        *exchange(TASK, 81, AGENT_SPAN, CHAT, at_ms=900, lasts_ms=700),
    ]
