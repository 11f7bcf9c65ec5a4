"""Which dialect a request is in."""

import pytest

from sidecar.dialects.dialect import Heading
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


def test_json_that_may_be_a_message_is_a_guess_only_where_nobody_was_named() -> None:
    heading = Heading("POST", "/rpc", fields=JSON)
    guess, named = recognise("auto", heading), recognise("a2a", heading)
    assert guess is not None
    assert guess.is_guess
    assert named is not None
    assert not named.is_guess


def test_a_name_with_a_dot_is_somebody_elses() -> None:
    assert dialect_named("tests.traffic.wire.parrot").name == "parrot"
    with pytest.raises(ImportError):
        dialect_named("nowhere.to.be.found")
    assert is_dialect("tests.traffic.wire.parrot")
    assert not is_dialect("nowhere.to.be.found")
    assert not is_dialect("os.path"), "a module, but no dialect"
