"""Anthropic's Messages API as it answers: whole, streamed with pings in between, and failing within a stream."""

from typing import Any

from tests.peers.providers.answer import Answer, AnswerTo, Piece, event, failed, streamed, whole
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message

MODEL = "claude-opus-5"
FULL_MODEL = "claude-opus-5-20260801"

HEAD = (
    ("request-id", "req_011"), ("anthropic-organization-id", "org-1"), ("anthropic-ratelimit-requests-limit", "1000"),
    ("anthropic-ratelimit-requests-remaining", "999"), ("anthropic-ratelimit-tokens-remaining", "29000"), ("cf-cache-status", "DYNAMIC"),
)  # fmt: skip

INPUT_USAGE = {
    "input_tokens": 12, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 5,
    "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3}, "service_tier": "standard",
}  # fmt: skip
READ_USAGE = {
    "input_tokens": 12,
    "cache_read_tokens": 5,
    "cache_write_5m_tokens": 4,
    "cache_write_1h_tokens": 3,
    "output_tokens": 31,
}


class Anthropic(ProviderUpstream):
    """`api.anthropic.com`."""

    name = "anthropic"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what Anthropic refuses."""
        assert request.start_line == b"POST /v1/messages HTTP/1.1"
        key = (
            request.one(b"authorization").removeprefix(b"Bearer ") if request.has(b"authorization") else request.one(b"x-api-key")
        )
        assert key == b"sk-ant-test"
        assert request.one(b"anthropic-version") in (b"2023-06-01", b"2026-10-21")
        assert request.one(b"content-type") == b"application/json"
        assert request.one(b"host").decode() == self.authority
        assert asked["max_tokens"] > 0
        assert asked["messages"][0]["role"] == "user"
        known = {"model", "max_tokens", "messages", "stream", "tools", "system", "temperature"}
        assert not set(asked) - known, "Extra inputs are not permitted"


def _message(content: list[Any], stop: str | None, usage: Any) -> dict[str, Any]:
    return {
        "model": FULL_MODEL, "id": "msg_1", "type": "message", "role": "assistant", "content": content, "stop_reason": stop,
        "stop_sequence": None, "usage": usage,
    }  # fmt: skip


TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}}


def message(asked: Any) -> Answer:
    """A whole message."""
    text = {"type": "text", "text": "Grüezi, 世界"}
    return whole(_message([text], "end_turn", {**INPUT_USAGE, "output_tokens": 31}), fields=HEAD)


def tool(asked: Any) -> Answer:
    """A whole message that wants a tool."""
    assert asked["tools"][0]["name"] == "weather"
    return whole(
        _message([{"type": "text", "text": "Let me look."}, TOOL_USE], "tool_use", {**INPUT_USAGE, "output_tokens": 31}),
        fields=HEAD,
    )


def _start() -> Piece:
    return event(
        {"type": "message_start", "message": _message([], None, {**INPUT_USAGE, "output_tokens": 1})}, "message_start"
    ), 1


def _block(index: int, block: Any, deltas: list[Any]) -> list[Piece]:
    pieces = [(event({"type": "content_block_start", "index": index, "content_block": block}, "content_block_start"), 1)]
    pieces += [
        (event({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta"), 1) for delta in deltas
    ]
    pieces.append((event({"type": "content_block_stop", "index": index}, "content_block_stop"), 1))
    return pieces


def _end(stop: str) -> list[Piece]:
    delta = {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 31}}
    return [(event(delta, "message_delta"), 1), (event({"type": "message_stop"}, "message_stop"), 1)]


PING = (event({"type": "ping"}, "ping"), 0)
TEXT = _block(0, {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in ("Grüezi", ", ", "世界")])


def stream(asked: Any) -> Answer:
    """A message by the word."""
    return streamed([_start(), TEXT[0], PING, *TEXT[1:], *_end("end_turn")], fields=HEAD)


def stream_tool(asked: Any) -> Answer:
    """A tool's arguments in pieces of JSON."""
    use = {**TOOL_USE, "input": {}}
    parts = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"city": "Z', "üri", 'ch"}')]
    return streamed([_start(), *TEXT, *_block(1, use, parts), *_end("tool_use")], fields=HEAD)


def stream_overloaded(asked: Any) -> Answer:
    """The provider gives up in the middle, under status 200."""
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_011"}
    return streamed([_start(), *TEXT[:2], (event(body, "error"), 0)], fields=HEAD)


def error(status: int, kind: str, message: str, *fields: tuple[str, str]) -> AnswerTo:
    """An error with Anthropic's body."""
    return failed(status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011"}, *HEAD, *fields)


TOO_MANY = error(
    429, "rate_limit_error", "This request would exceed your rate limit.", ("retry-after-ms", "1"), ("retry-after", "0")
)
BROKEN = error(500, "api_error", "Internal server error")
UNAVAILABLE = error(503, "api_error", "Service unavailable")
OVERLOADED = error(529, "overloaded_error", "Overloaded", ("x-should-retry", "true"), ("retry-after-ms", "1"))
