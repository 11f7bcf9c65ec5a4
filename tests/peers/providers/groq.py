"""Groq as it answers: OpenAI's words, with the usage of a stream in `x_groq` of its last chunk, unasked."""

from typing import Any

from tests.peers.providers.answer import Answer, AnswerTo, event, failed, streamed, whole
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message

MODEL = "openai/gpt-oss-20b"
HEAD = (
    ("x-request-id", "req_01"),
    ("x-ratelimit-remaining-tokens", "7990"),
    ("x-groq-region", "fra"),
    ("x-should-retry", "false"),
)
USAGE = {
    "queue_time": 0.05, "prompt_tokens": 78, "prompt_time": 0.003, "completion_tokens": 31, "completion_time": 0.03,
    "total_tokens": 109, "total_time": 0.04, "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 12},
}  # fmt: skip
READ_USAGE = {"input_tokens": 14, "cache_read_tokens": 64, "output_tokens": 19, "reasoning_tokens": 12}
ARGUMENTS = '{"city":"Zürich"}'


class Groq(ProviderUpstream):
    """`api.groq.com`."""

    name = "groq"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what Groq refuses."""
        assert request.start_line == b"POST /openai/v1/chat/completions HTTP/1.1"
        assert request.one(b"authorization") == b"Bearer gsk_test"
        assert request.one(b"host").decode() == self.authority
        assert asked["model"] == MODEL
        assert asked["messages"][0]["role"] in ("user", "system")


CALL = {"id": "fc_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
FRAME = {"id": "chatcmpl-1", "created": 1780000000, "model": MODEL, "system_fingerprint": "fp_q"}


def _whole(message: Any, finish: str) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}
    told = {
        **FRAME,
        "object": "chat.completion",
        "choices": [choice],
        "usage": USAGE,
        "x_groq": {"id": "req_01"},
        "service_tier": "on_demand",
    }
    return whole(told, fields=HEAD)


def chat(asked: Any) -> Answer:
    """A whole answer."""
    return _whole({"content": "Grüezi, 世界", "reasoning": "A greeting."}, "stop")


def tool(asked: Any) -> Answer:
    """A whole answer that wants a tool."""
    assert asked["tools"][0]["function"]["name"] == "weather"
    return _whole({"tool_calls": [CALL]}, "tool_calls")


def _chunk(delta: Any, finish: str | None = None, **x_groq: Any) -> tuple[bytes, int]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    more = {"x_groq": {"id": "req_01", **x_groq}} if x_groq or "role" in delta else {}
    return event({**FRAME, "object": "chat.completion.chunk", "choices": [choice], **more}), 1


DONE = (event("[DONE]"), 0)


def stream(asked: Any) -> Answer:
    """It thinks aloud first."""
    first = [_chunk({"role": "assistant", "content": ""}), _chunk({"reasoning": "A greeting.", "channel": "analysis"})]
    words = [_chunk({"content": word}) for word in ("Grüezi", ", ", "世界")]
    return streamed([*first, *words, _chunk({}, "stop", usage=USAGE), DONE], content_type="text/event-stream", fields=HEAD)


def stream_tool(asked: Any) -> Answer:
    """A tool call comes whole."""
    pieces = [_chunk({"role": "assistant", "content": None}), _chunk({"tool_calls": [{"index": 0, **CALL}]})]
    return streamed([*pieces, _chunk({}, "tool_calls", usage=USAGE), DONE], content_type="text/event-stream", fields=HEAD)


def stream_fails_within(asked: Any) -> Answer:
    """An error event, under status 200."""
    failure = {"error": {"message": "Failed to call a function.", "type": "invalid_request_error", "code": "tool_use_failed"}}
    return streamed(
        [_chunk({"role": "assistant", "content": ""}), (event(failure, "error"), 0)],
        content_type="text/event-stream",
        fields=HEAD,
    )


def error(status: int, kind: str, code: str | None, message: str, *fields: tuple[str, str]) -> AnswerTo:
    """An error with OpenAI's body."""
    told = {"message": message, "type": kind, **({"code": code} if code else {})}
    return failed(status, {"error": told}, *HEAD[:3], *fields)


TOO_MANY = error(429, "tokens", "rate_limit_exceeded", "Rate limit reached for model.", ("retry-after", "0"))
BROKEN = error(500, "internal_server_error", None, "Internal Server Error")
OVERLOADED = error(503, "internal_server_error", None, "Service Unavailable", ("retry-after-ms", "1"))
