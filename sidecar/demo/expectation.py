"""What the backend has to hold after the demo: the demo checks itself, and says what is missing."""

from collections import Counter
from collections.abc import Sequence

from sidecar.demo.backend import Span
from sidecar.demo.tree import destination, tokens

PLANNER, PACKER = "trip-planner", "packing-agent"
"""The two agents, by the user names of their HTTP_PROXY."""

Call = tuple[str, str, str, str, int]

EXPECTED: Counter[Call] = Counter(
    {
        (PLANNER, "GET", "llm", "/v1/models", 200): 1,
        (PLANNER, "POST", "mcp", "/mcp", 200): 2,
        (PLANNER, "POST", "llm", "/v1/chat/completions", 200): 2,
        (PLANNER, "POST", "llm", "/v1/chat/completions", 429): 1,
        (PLANNER, "GET", "a2a", "/.well-known/agent-card.json", 200): 1,
        (PLANNER, "POST", "a2a", "/a2a", 200): 1,
        (PACKER, "POST", "llm", "/v1/chat/completions", 200): 1,
    }
)
"""Agent, method, route, path, status: how many such exchanges there are."""

SAID: Counter[tuple[str, bool]] = Counter(
    {
        ("chat demo-1", True): 4,
        ("tools/list", False): 1,
        ("tools/call get_weather", False): 1,
        ("GetAgentCard", False): 1,
        ("SendMessage", False): 1,
    }
)
"""What the CLIENT spans are called, and whether they have a price: what was said in each call."""

STREAMED_S = 0.1
"""The first byte of the streamed answer reaches the agent at least so long before the last one."""


def missing(spans: Sequence[Span]) -> list[str]:
    """What is not as expected, a line each; empty when all is well."""
    servers = [span for span in spans if span.kind == "SERVER"]
    return [*_calls(servers), *_attempts(spans, servers), *_said(spans), *_traces(spans, servers), *_stream(servers)]


def _calls(servers: Sequence[Span]) -> list[str]:
    seen = Counter(_call(span) for span in servers)
    lacking = [f"{number}× {_say(call)}: no such SERVER span" for call, number in (EXPECTED - seen).items()]
    return lacking + [f"{number}× {_say(call)}: a SERVER span that nobody expected" for call, number in (seen - EXPECTED).items()]


def _attempts(spans: Sequence[Span], servers: Sequence[Span]) -> list[str]:
    """Every exchange has one CLIENT span below it, of the same trace and status."""
    tried = Counter((span.trace_id, span.parent_id, _status(span)) for span in spans if span.kind == "CLIENT")
    return [
        f"{_say(_call(span))}: no single CLIENT span belongs to it"
        for span in servers
        if tried[span.trace_id, span.span_id, _status(span)] != 1
    ]


def _said(spans: Sequence[Span]) -> list[str]:
    """Every model, tool and agent is named; what was answered has tokens, and a price above nothing."""
    clients = [span for span in spans if span.kind == "CLIENT"]
    seen = Counter((span.name, "sidecar.cost.usd" in span.attributes) for span in clients)
    faults = [
        f"{number}× {name}: no such CLIENT span{' with a price' if is_priced else ''}"
        for (name, is_priced), number in (SAID - seen).items()
    ]
    answers = [span for span in clients if "gen_ai.response.id" in span.attributes]
    free = [span for span in answers if not (tokens(span) and float(span.attributes.get("sidecar.cost.usd", 0)))]
    return faults + [f"{span.name}: the answer has no tokens, or cost nothing" for span in free]


def _traces(spans: Sequence[Span], servers: Sequence[Span]) -> list[str]:
    """One call without trace context is a trace of its own; the others share the agent's, the packer's below the A2A call."""
    faults = []
    roots = [_call(span) for span in servers if not span.parent_id]
    if [call[3] for call in roots] != ["/v1/models"]:
        faults.append(f"the one call without traceparent should be the only root, not {roots}")
    if len({span.trace_id for span in spans}) != 2:
        faults.append("the agent's task and its call without traceparent should make two traces")
    by_id = {span.span_id: span for span in spans}
    for span in servers:
        above = by_id.get(span.parent_id)
        if _call(span)[0] == PACKER and (above is None or above.kind != "CLIENT" or destination(above) != "a2a"):
            faults.append("the packing agent's call should stand below the CLIENT span of the A2A call")
    return faults


def _stream(servers: Sequence[Span]) -> list[str]:
    early = [span.duration_s - float(span.attributes.get("sidecar.first_byte_s", span.duration_s)) for span in servers]
    return [] if max(early, default=0.0) >= STREAMED_S else ["no answer was streamed: each first byte came with the last one"]


def _call(span: Span) -> Call:
    seen = span.attributes
    agent, method = str(seen.get("gen_ai.agent.id", "")), str(seen.get("http.request.method", ""))
    return agent, method, destination(span), str(seen.get("url.path", "")), _status(span)


def _status(span: Span) -> int:
    return int(span.attributes.get("http.response.status_code", 0))


def _say(call: Call) -> str:
    agent, method, route, path, status = call
    return f"{agent or 'nobody'}: {method} {route} {path} {status}"
