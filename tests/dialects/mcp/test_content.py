import json
from typing import Any

import pytest

from sidecar.dialects import mcp
from sidecar.dialects.dialect import Heading
from sidecar.model.content import Content
from tests.dialects.shown import shown
from tests.repository import ROOT

GOLDEN = ROOT / "tests" / "dialects" / "golden" / "mcp"
RESULT = {"content": [{"type": "text", "text": "3"}], "isError": False, "structuredContent": {"result": 3}}


def golden(name: str) -> Content | None:
    told = json.loads((GOLDEN / f"{name}.json").read_text())
    request, response = told["request"], told["response"]
    heading = Heading(request["method"], request["path"], request.get("query", ""), fields=request["fields"])
    body = request.get("body", "").encode()
    asked = mcp.request(told["operation"], heading, body)
    return mcp.content(asked, body, response.get("content", "").encode(), response["fields"].get("content-type", ""))


def called(request: Any, answer: Any, content_type: str = "application/json") -> Content | None:
    body = json.dumps(request).encode()
    asked = mcp.request("message", Heading("POST", "/mcp"), body)
    return mcp.content(asked, body, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), content_type)


@pytest.mark.parametrize("name", ["session_call", "session_call_json"])
def test_a_call_of_a_tool_has_arguments_and_result(name: str) -> None:
    found = golden(name)
    assert found is not None
    assert (json.loads(found.arguments), json.loads(found.result)) == ({"a": 1, "b": 2}, RESULT)
    assert (found.input, found.output) == ([], [])


def test_the_answer_is_found_among_requests_and_progress_of_the_servers() -> None:
    found = golden("session_server_requests")
    assert found is not None
    assert json.loads(found.result)["content"][0]["text"] == "Bon voyage, Øyvind"


@pytest.mark.parametrize("name", ["session_cut", "session_gone", "not_mcp_error"])
def test_what_was_not_answered_has_arguments_alone(name: str) -> None:
    found = golden(name)
    assert found is not None
    assert (found.arguments, found.result) == (b'{"to":"Oslo"}', b"")


def test_prompts_and_resources_are_messages() -> None:
    prompt, resource = golden("session_prompt"), golden("session_read")
    assert prompt is not None
    assert resource is not None
    assert (shown(prompt.output), shown(resource.output)) == (["user: Greet x"], ["tool: a memo"])


@pytest.mark.parametrize("name", ["session_list", "session_initialize", "session_listen", "session_end", "modern_discover"])
def test_in_other_methods_nothing_is_said(name: str) -> None:
    assert golden(name) is None


def test_pictures_in_a_result_lose_their_bytes() -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {}}}
    blob = {"type": "resource", "resource": {"uri": "file:///a", "mimeType": "image/png", "blob": "AAAA"}}
    result = {"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA"}, blob]}
    found = called(request, {"jsonrpc": "2.0", "id": 1, "result": result})
    assert found is not None
    assert b"AAAA" not in found.result and json.loads(found.result)["content"][0]["data"] == ""


def test_of_several_answers_that_with_the_id_of_the_call_counts() -> None:
    request = [{"id": "a", "method": "tools/call", "params": {"name": "t", "arguments": {"x": 1}}}, {"method": "other"}]
    found = called(request, [{"id": "b", "result": {"no": 1}}, {"id": "a", "result": {"yes": 1}}])
    assert found is not None
    assert (found.arguments, found.result) == (b'{"x":1}', b'{"yes":1}')
