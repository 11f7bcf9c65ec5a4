"""Mistral as it answers: OpenAI's words, but the usage stands on the last chunk unasked, and errors are the whole body."""

from typing import Any

from tests.peers.providers.answer import Answer, AnswerTo, event, failed, streamed, whole
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message

MODEL = "mistral-large-latest"
HEAD = (
    ("mistral-correlation-id", "0193"),
    ("x-envoy-upstream-service-time", "411"),
    ("x-ratelimitbysize-remaining-minute", "499000"),
)
USAGE = {"prompt_tokens": 14, "completion_tokens": 11, "total_tokens": 25}
READ_USAGE = {"input_tokens": 14, "output_tokens": 11}
ARGUMENTS = '{"city": "Zürich"}'


class Mistral(ProviderUpstream):
    """`api.mistral.ai`."""

    name = "mistral_ai"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what Mistral refuses: it takes no `stream_options`."""
        assert request.start_line in (b"POST /v1/chat/completions HTTP/1.1", b"POST /v1/embeddings HTTP/1.1")
        assert request.one(b"authorization") == b"Bearer mistral-test"
        assert request.one(b"host").decode() == self.authority
        assert "stream_options" not in asked, "Extra inputs are not permitted"
        if b"embeddings" in request.target:
            assert asked["input"]
        else:
            assert asked["messages"][0]["role"] in ("user", "system")
            accept = b"text/event-stream" if asked.get("stream") else b"application/json"
            assert request.one(b"accept") == accept


def _chunk(delta: Any, finish: str | None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event(
        {"id": "m-1", "object": "chat.completion.chunk", "created": 1780000000, "model": MODEL, "choices": [choice], **more}
    )


CALL = {"id": "D681PevKs", "function": {"name": "weather", "arguments": ARGUMENTS}, "index": 0}


def _whole(message: Any, finish: str) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return whole(
        {"id": "m-1", "object": "chat.completion", "created": 1780000000, "model": MODEL, "choices": [choice], "usage": USAGE},
        fields=HEAD,
    )


def chat(asked: Any) -> Answer:
    """A whole answer."""
    return _whole({"content": "Grüezi, 世界", "tool_calls": None}, "stop")


def tool(asked: Any) -> Answer:
    """A whole answer that wants a tool."""
    assert asked["tools"][0]["function"]["name"] == "weather"
    return _whole({"content": "", "tool_calls": [CALL]}, "tool_calls")


def stream(asked: Any) -> Answer:
    """By the word."""
    pieces = [(_chunk({"role": "assistant", "content": ""}, None), 1)]
    pieces += [(_chunk({"content": word}, None), 1) for word in ("Grüezi", ", ", "世界")]
    return streamed([*pieces, (_chunk({"content": ""}, "stop", usage=USAGE), 1), (event("[DONE]"), 0)], fields=HEAD)


def stream_tool(asked: Any) -> Answer:
    """A tool call comes whole, with the finish reason and the usage."""
    last = _chunk({"content": "", "tool_calls": [CALL]}, "tool_calls", usage=USAGE)
    return streamed([(_chunk({"role": "assistant", "content": ""}, None), 1), (last, 1), (event("[DONE]"), 0)], fields=HEAD)


def embeddings(asked: Any) -> Answer:
    """A vector for each text."""
    data = [{"object": "embedding", "embedding": [0.5, 0.25], "index": index} for index, _ in enumerate(asked["input"])]
    usage = {"prompt_tokens": 6, "total_tokens": 6, "completion_tokens": 0}
    return whole({"id": "e-1", "object": "list", "data": data, "model": "mistral-embed", "usage": usage}, fields=HEAD)


def error(status: int, kind: str, message: str, code: str) -> AnswerTo:
    """An error with Mistral's body."""
    return failed(status, {"object": "error", "message": message, "type": kind, "param": None, "code": code}, *HEAD)


TOO_MANY = error(429, "rate_limited", "Rate limit exceeded", "1300")
BROKEN = error(500, "internal_server_error", "Internal server error", "1000")
OVERLOADED = error(503, "service_unavailable", "Service unavailable.", "3000")
