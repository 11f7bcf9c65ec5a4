"""Which dialect a request is in."""

import pytest

from sidecar.dialects.dialect import Heading, Unreadable
from sidecar.dialects.recognition import IN_ORDER, dialect_named, is_dialect, recognise

JSON = {"content-type": "application/json"}
MCP = {**JSON, "accept": "application/json, text/event-stream"}

KNOWN = [
    ("POST", "/v1/chat/completions", JSON, "openai"),
    ("POST", "/openai/deployments/d/chat/completions", JSON, "openai"),
    ("POST", "/v1/responses", JSON, "openai"),
    ("POST", "/v1/embeddings", JSON, "openai"),
    ("POST", "/v1/messages", JSON, "anthropic"),
    ("POST", "/v1beta/models/gemini-2.5-pro:generateContent", JSON, "gemini"),
    ("POST", "/model/anthropic.claude-v2%3A1/converse-stream", JSON, "bedrock"),
    ("POST", "/v2/chat", JSON, "cohere"),
    ("POST", "/api/chat", JSON, "ollama"),
    ("POST", "/mcp", MCP, "mcp"),
    ("POST", "/", {**MCP, "mcp-session-id": "s"}, "mcp"),
    ("GET", "/.well-known/agent-card.json", {}, "a2a"),
    ("POST", "/", {**JSON, "a2a-version": "1.0"}, "a2a"),
    ("POST", "/message:send", {"content-type": "application/a2a+json"}, "a2a"),
]


@pytest.mark.parametrize(("method", "path", "fields", "name"), KNOWN)
def test_auto_finds_who_knows_the_request(method: str, path: str, fields: dict[str, str], name: str) -> None:
    found = recognise("auto", Heading(method, path, fields=fields))
    assert found is not None
    assert (found.dialect.name, found.is_guess) == (name, False)
    assert found.operation


@pytest.mark.parametrize(("method", "path", "fields", "name"), KNOWN)
def test_a_dialect_that_is_named_is_asked_alone(method: str, path: str, fields: dict[str, str], name: str) -> None:
    for other in IN_ORDER:
        found = recognise(other, Heading(method, path, fields=fields))
        assert found is None or found.dialect.name == other
        assert other != name or found is not None
    assert recognise("plain", Heading(method, path, fields=fields)) is None


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("GET", "/v1/responses/r_1"), ("POST", "/v1/messages/count_tokens"), ("POST", "/v1/files"), ("GET", "/")],
)
def test_what_nobody_knows_passes_unread(method: str, path: str) -> None:
    assert recognise("auto", Heading(method, path, fields={"accept": "*/*"})) is None


@pytest.mark.parametrize(("fields", "name"), [(JSON, "a2a"), (MCP, "mcp"), (MCP, "a2a")], ids=["a2a", "mcp", "both"])
def test_json_that_may_be_a_message_is_a_guess_only_where_nobody_was_named(fields: dict[str, str], name: str) -> None:
    heading = Heading("POST", "/rpc", fields=fields)
    guess, named = recognise("auto", heading), recognise(name, heading)
    assert guess is not None
    assert guess.is_guess
    assert named is not None
    assert not named.is_guess
    assert named.operation == "message"


def said(fields: dict[str, str], body: bytes, path: str = "/rpc") -> tuple[str, str]:
    """Whose a request is, and what it asks for, once its body has been read."""
    found = recognise("auto", Heading("POST", path, fields=fields))
    assert found is not None
    asked = found.dialect.request(found.operation, Heading("POST", path, fields=fields), body)
    return asked.dialect, asked.operation


@pytest.mark.parametrize(
    ("method", "expected"),
    [("initialize", "mcp"), ("tools/call", "mcp"), ("notifications/initialized", "mcp"), ("message/send", "a2a"),
     ("tasks/get", "a2a"), ("SendMessage", "a2a")],
)  # fmt: skip
def test_the_body_tells_whose_json_rpc_it_is(method: str, expected: str) -> None:
    assert said(MCP, b'{"id":1,"method":"%b"}' % method.encode())[0] == expected


@pytest.mark.parametrize("body", [b'{"model":"x"}', b'{"id":1,"method":"eth_call"}', b'{"id":1,"result":{}}', b"[]", b"", b"\xff"])
@pytest.mark.parametrize("path", ["/rpc", "/v1/things"])
def test_what_only_accepts_like_a_client_of_mcp_is_nobodys(body: bytes, path: str) -> None:
    with pytest.raises(Unreadable):
        said(MCP, body, path)


@pytest.mark.parametrize("field", ["mcp-session-id", "mcp-protocol-version", "mcp-method"])
def test_a_field_of_mcp_makes_it_certain(field: str) -> None:
    found = recognise("auto", Heading("POST", "/rpc", fields={**MCP, field: "x"}))
    assert found is not None
    assert (found.dialect.name, found.is_guess) == ("mcp", False)
    assert said({**MCP, field: "x"}, b'{"id":1,"method":"custom/method"}') == ("mcp", "custom/method")


def test_a_name_with_a_dot_is_somebody_elses() -> None:
    assert dialect_named("tests.traffic.wire.parrot").name == "parrot"
    with pytest.raises(ImportError):
        dialect_named("nowhere.to.be.found")
    assert is_dialect("tests.traffic.wire.parrot")
    assert not is_dialect("nowhere.to.be.found")
    assert not is_dialect("os.path"), "a module, but no dialect"
