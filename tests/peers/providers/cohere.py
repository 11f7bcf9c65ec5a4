"""Cohere's v2 API as it answers: `chat` and `embed`."""

from typing import Any

from tests.peers.providers.answer import Answer, AnswerTo, Piece, event, failed, streamed, whole
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message

MODEL = "command-a-03-2025"
HEAD = (
    ("x-endpoint-monthly-call-limit", "1000"),
    ("x-trial-endpoint-call-remaining", "19"),
    ("x-debug-trace-id", "d41d"),
    ("num_tokens", "12"),
)
USAGE = {
    "billed_units": {"input_tokens": 17, "output_tokens": 12},
    "tokens": {"input_tokens": 215, "output_tokens": 44},
    "cached_tokens": 176,
}
READ_USAGE = {"input_tokens": 17, "output_tokens": 12}
ARGUMENTS = '{"city":"Zürich"}'


class Cohere(ProviderUpstream):
    """`api.cohere.com`."""

    name = "cohere"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what Cohere refuses."""
        assert request.start_line in (b"POST /v2/chat HTTP/1.1", b"POST /v2/embed HTTP/1.1")
        assert request.one(b"authorization") == b"Bearer co-test"
        assert request.one(b"content-type") == b"application/json"
        assert request.one(b"host").decode() == self.authority
        assert asked["model"]
        if request.target == b"/v2/chat":
            assert asked["messages"][0]["role"] in ("user", "system")
            assert isinstance(asked["stream"], bool)
            assert "stream_options" not in asked
        else:
            assert asked["input_type"]


CALL = {"id": "weather_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}


def chat(asked: Any) -> Answer:
    """A whole answer."""
    message = {"role": "assistant", "content": [{"type": "text", "text": "Grüezi, 世界"}]}
    return whole({"id": "2a", "message": message, "finish_reason": "COMPLETE", "usage": USAGE}, fields=HEAD)


def tool(asked: Any) -> Answer:
    """A whole answer that wants a tool."""
    assert asked["tools"][0]["function"]["name"] == "weather"
    message = {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [CALL]}
    return whole({"id": "2a", "message": message, "finish_reason": "TOOL_CALL", "usage": USAGE}, fields=HEAD)


def embeddings(asked: Any) -> Answer:
    """A vector for each text."""
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4}}
    vectors = {"float": [[0.5, 0.25] for _ in asked["texts"]]}
    return whole(
        {"id": "e-1", "embeddings": vectors, "texts": asked["texts"], "meta": meta, "response_type": "embeddings_by_type"},
        fields=HEAD,
    )


def _event(kind: str, **more: Any) -> Piece:
    return event({"type": kind, **more}, kind), 1


def _said(kind: str, index: int, **message: Any) -> Piece:
    return _event(kind, index=index, delta={"message": message})


START = (
    event(
        {
            "id": "2a",
            "type": "message-start",
            "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}},
        },
        "message-start",
    ),
    1,
)
DONE = (event("[DONE]"), 0)


def _end(finish: str) -> Piece:
    return _event("message-end", delta={"finish_reason": finish, "usage": USAGE})


def stream(asked: Any) -> Answer:
    """By the word."""
    words = [_said("content-delta", 0, content={"text": word}) for word in ("Grüezi", ", ", "世界")]
    begin = _said("content-start", 0, content={"type": "text", "text": ""})
    return streamed(
        [START, begin, *words, _event("content-end", index=0), _end("COMPLETE"), DONE],
        content_type="text/event-stream",
        fields=HEAD,
    )


def stream_tool(asked: Any) -> Answer:
    """A plan, and a tool call in pieces."""
    begin = {**CALL, "function": {"name": "weather", "arguments": ""}}
    parts = [_said("tool-call-delta", 0, tool_calls={"function": {"arguments": part}}) for part in ('{"city":', '"Zürich"}')]
    plan = _event("tool-plan-delta", delta={"message": {"tool_plan": "I will look."}})
    call = [_said("tool-call-start", 0, tool_calls=begin), *parts, _event("tool-call-end", index=0)]
    return streamed([START, plan, *call, _end("TOOL_CALL"), DONE], content_type="text/event-stream", fields=HEAD)


def error(status: int, message: str, *fields: tuple[str, str]) -> AnswerTo:
    """An error with Cohere's body."""
    return failed(status, {"id": "2a", "message": message}, *HEAD, *fields)


TOO_MANY = error(429, "You are using a Trial key, which is limited to 20 calls / minute.", ("retry-after", "0"))
BROKEN = error(500, "internal server error, this has been reported to our developers")
OVERLOADED = error(503, "service unavailable")
