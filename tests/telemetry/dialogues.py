"""Dialogues as traffic attaches them to facts, with a word for what a test wants to be different."""

from dataclasses import fields, replace
from typing import Any, TypeVar

from sidecar.model.answered import A2aAnswered, McpAnswered, ModelAnswered
from sidecar.model.asked import A2aAsked, McpAsked, ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.dialogue import Dialogue
from sidecar.model.usage import Usage

_T = TypeVar("_T")

USAGE = Usage(input_tokens=500, cache_read_tokens=400, cache_write_5m_tokens=100, output_tokens=170, reasoning_tokens=30)
"""1000 tokens in, of which 500 have to do with a cache, and 200 out."""


def chat(**different: Any) -> Dialogue:
    """A streamed call to a model that went well; words of what was asked, answered or of the dialogue may be different."""
    usual: dict[str, Any] = {
        "dialect": "openai", "operation": "chat", "streams": True, "provider": "openai", "model": "gpt-4o-mini",
        "max_tokens": 1000, "parameters": (("temperature", 0.5), ("seed", 7), ("stop_sequences", ("END",))),
        "is_ended": True, "content_bytes": 600, "events": 21, "id": "chatcmpl-1", "answering": "gpt-4o-mini-2024-07-18",
        "finish_reasons": ["stop"], "usage": replace(USAGE), "first_content_s": 0.3,
        "cost": Cost(270_000, Pricing.EXACT, "genai-prices", "0.0.30"),
    }  # fmt: skip
    words = {**usual, **different}
    asked = _made(ModelAsked, words, {"answering", "id"})
    answered = _made(ModelAnswered, words | {"model": words["answering"]}, {"service_tier"} if "served" not in words else set())
    if "served" in words:
        answered.service_tier = words["served"]
    return _dialogue(asked, answered, words)


def tool_call(**different: Any) -> Dialogue:
    """A tool that was called at an MCP server."""
    usual: dict[str, Any] = {
        "dialect": "mcp", "operation": "tools/call", "id": "7", "target": "search", "session": "s-1",
        "protocol_version": "2025-11-25", "is_ended": True, "content_bytes": 60,
    }  # fmt: skip
    words = {**usual, **different}
    told = {word: value for word, value in words.items() if word not in ("session", "protocol_version")}
    return _dialogue(_made(McpAsked, words), _made(McpAnswered, told | words.get("answered_with", {})), words)


def delegation(**different: Any) -> Dialogue:
    """A message to another agent that had its task done."""
    usual: dict[str, Any] = {
        "dialect": "a2a", "operation": "SendMessage", "id": "9", "message": "m-1", "protocol_version": "1.0", "is_ended": True,
        "content_bytes": 60, "state": "TASK_STATE_COMPLETED", "task_made": "t-1", "context_made": "c-1",
    }  # fmt: skip
    words = {**usual, **different}
    made = words | {"task": words["task_made"], "context": words["context_made"]}
    return _dialogue(_made(A2aAsked, words), _made(A2aAnswered, made), words)


def _made(kind: type[_T], words: dict[str, Any], without: set[str] = frozenset()) -> _T:
    known = {each.name for each in fields(kind)} - without
    return kind(**{word: value for word, value in words.items() if word in known})


def _dialogue(asked: Any, answered: Any, words: dict[str, Any]) -> Dialogue:
    known = {each.name for each in fields(Dialogue)} - {"asked", "answered"}
    rest = {word: value for word, value in words.items() if word in known}
    return Dialogue(asked, None if words.get("unanswered") else answered, **rest)
