"""Messages to MCP servers: what names a span, and what only describes it."""

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.semconv._incubating.attributes.mcp_attributes import McpMethodNameValues

from sidecar.model.answered import McpAnswered
from sidecar.model.asked import McpAsked
from sidecar.telemetry.tool_calls import METHODS, ToolCalls, tool_of
from tests.otlp_collector import attributes_of


def written(asked: McpAsked, answered: McpAnswered | None = None, *, is_piped: bool = False) -> tuple[str, dict[str, Any]]:
    span = Span.FromString(b"".join(ToolCalls().client(asked, answered, "", is_piped=is_piped)))
    return span.name, attributes_of(span)


@pytest.mark.parametrize(
    ("method", "target", "name", "told"),
    [
        ("tools/call", "search", "tools/call search", {"gen_ai.tool.name": "search", "gen_ai.operation.name": "execute_tool"}),
        ("prompts/get", "greet", "prompts/get greet", {"gen_ai.prompt.name": "greet"}),
        ("resources/read", "file:///etc/x", "resources/read", {"mcp.resource.uri": "file:///etc/x"}),
        ("tools/list", "", "tools/list", {}),
        ("initialize", "", "initialize", {}),
    ],
)
def test_tools_and_prompts_name_a_span_and_resources_do_not(method: str, target: str, name: str, told: dict[str, str]) -> None:
    found, attributes = written(McpAsked("mcp", method, target=target))
    assert (found, attributes["mcp.method.name"]) == (name, method)
    kept = ("gen_ai.tool.name", "gen_ai.operation.name", "gen_ai.prompt.name", "mcp.resource.uri")
    assert {key: value for key, value in attributes.items() if key in kept} == told
    assert ("agent.span.kind" in attributes) == (method == "tools/call")


def test_what_the_server_answered_an_initialize_with_is_told() -> None:
    _, attributes = written(McpAsked("mcp", "initialize"), McpAnswered(session="s-9", protocol_version="2025-11-25"))
    assert (attributes["mcp.session.id"], attributes["mcp.protocol.version"]) == ("s-9", "2025-11-25")


def test_a_notification_has_no_id_and_a_child_process_is_reached_by_a_pipe() -> None:
    _, attributes = written(McpAsked("mcp", "notifications/initialized"), is_piped=True)
    assert attributes == {"mcp.method.name": "notifications/initialized", "network.transport": "pipe"}


def test_only_a_call_has_a_tool() -> None:
    assert tool_of(McpAsked("mcp", "tools/call", target="search")) == "search"
    assert tool_of(McpAsked("mcp", "prompts/get", target="greet")) == ""


def test_every_method_of_the_specifications_is_known() -> None:
    published = {value.value for value in McpMethodNameValues}
    assert published <= METHODS


def test_every_method_that_the_official_sdk_knows_is_known() -> None:
    types = pytest.importorskip("mcp_types", reason="the official MCP SDK is not installed: make sdks")
    files = Path(types.__file__).parent.rglob("*.py")
    methods = {method for file in files for method in re.findall(r'method: Literal\["([a-zA-Z_/]+)"\]', file.read_text())}
    assert "tools/call" in methods and methods <= METHODS


def test_a_method_that_nobody_knows_is_no_name() -> None:
    found, attributes = written(McpAsked("mcp", "acme/made-up", target="x"))
    assert (found, attributes["mcp.method.name"]) == ("_OTHER", "acme/made-up")
