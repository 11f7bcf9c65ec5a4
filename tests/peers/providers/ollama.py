"""Ollama as it answers on its own API: a line of JSON for each word."""

from typing import Any

from tests.peers.providers.answer import Answer, Piece, dumped, failed, streamed, whole
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message

MODEL = "qwen3:8b"
DONE = {
    "done": True, "done_reason": "stop", "total_duration": 487_000_000, "load_duration": 1_000_000, "prompt_eval_count": 23,
    "prompt_eval_duration": 30_000_000, "eval_count": 9, "eval_duration": 400_000_000,
}  # fmt: skip
READ_USAGE = {"input_tokens": 23, "output_tokens": 9}
LINES = "application/x-ndjson"
CALL = {"id": "call_1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Zürich"}}}


class Ollama(ProviderUpstream):
    """A machine of one's own."""

    name = "ollama"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what Ollama refuses."""
        assert request.start_line in (b"POST /api/chat HTTP/1.1", b"POST /api/generate HTTP/1.1", b"POST /api/embed HTTP/1.1")
        assert request.one(b"host").decode() == self.authority
        assert asked["model"] == MODEL
        member = {b"/api/chat": "messages", b"/api/generate": "prompt", b"/api/embed": "input"}[request.target]
        assert asked[member]


def _line(**told: Any) -> dict[str, Any]:
    return {"model": MODEL, "created_at": "2026-11-20T10:00:00.123456789Z", **told}


def _said(**message: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", **message}}


def chat(asked: Any) -> Answer:
    """A whole answer."""
    return whole(_line(**_said(content="Grüezi, 世界"), **DONE), codings=())


def tool(asked: Any) -> Answer:
    """A whole answer that wants a tool."""
    assert asked["tools"][0]["function"]["name"] == "weather"
    return whole(_line(**_said(content="", tool_calls=[CALL]), **DONE), codings=())


def _lines(*lines: dict[str, Any]) -> Answer:
    return streamed([_piece(line) for line in lines], content_type=LINES)


def _piece(line: dict[str, Any]) -> Piece:
    return dumped(line) + b"\n", 1


def chat_stream(asked: Any) -> Answer:
    """By the word, thoughts first."""
    assert asked["stream"] is True
    words = [_line(**_said(content=word), done=False) for word in ("Grüezi", ", ", "世界")]
    return _lines(_line(**_said(content="", thinking="Hm"), done=False), *words, _line(**_said(content=""), **DONE))


def tool_stream(asked: Any) -> Answer:
    """A tool call comes whole."""
    return _lines(_line(**_said(content="", tool_calls=[CALL]), done=False), _line(**_said(content=""), **DONE))


def generate(asked: Any) -> Answer:
    """A whole completion."""
    return whole(_line(response="Grüezi", context=[1, 2, 3], **DONE), codings=())


def generate_stream(asked: Any) -> Answer:
    """A completion by the word."""
    return _lines(*(_line(response=word, done=False) for word in ("Grü", "ezi")), _line(response="", context=[1, 2, 3], **DONE))


def embeddings(asked: Any) -> Answer:
    """A vector for each text."""
    vectors = [[0.5, 0.25] for _ in asked["input"]]
    return whole(
        {"model": MODEL, "embeddings": vectors, "total_duration": 1, "load_duration": 1, "prompt_eval_count": 4}, codings=()
    )


def stream_fails_within(asked: Any) -> Answer:
    """The runner dies in the middle, under status 200."""
    good = _piece(_line(**_said(content="Gr"), done=False))
    return streamed(
        [good, (dumped({"error": "an error was encountered while running the model"}) + b"\n", 0)], content_type=LINES
    )


TOO_MANY = failed(429, {"error": "too many concurrent requests"})
BROKEN = failed(500, {"error": "llama runner process has terminated"})
OVERLOADED = failed(503, {"error": "server busy, please try again.  maximum pending requests exceeded"})
