"""Gemini as it answers: `generateContent`, its stream of server-sent events, and `batchEmbedContents`."""

import json
from typing import Any

from tests.peers.providers.answer import USUAL, Answer, AnswerTo, Piece, failed, streamed
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message

MODEL = "gemini-2.5-flash"

HEAD = (
    ("Server", "scaffolding on HTTPServer2"), ("X-XSS-Protection", "0"), ("X-Frame-Options", "SAMEORIGIN"),
    ("X-Content-Type-Options", "nosniff"), ("Server-Timing", "gfet4t7; dur=612"), ("Vary", "Origin"), ("Vary", "X-Origin"),
)  # fmt: skip

USAGE = {
    "promptTokenCount": 20, "candidatesTokenCount": 9, "totalTokenCount": 36, "cachedContentTokenCount": 6, "thoughtsTokenCount": 7,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}],
}  # fmt: skip
READ_USAGE = {"input_tokens": 14, "cache_read_tokens": 6, "output_tokens": 9, "reasoning_tokens": 7}


class Gemini(ProviderUpstream):
    """`generativelanguage.googleapis.com`."""

    name = "gcp.gemini"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what Google refuses: unknown members first of all."""
        path, _, query = request.target.decode().partition("?")
        version, _, call = path.lstrip("/").partition("/")
        assert version in ("v1", "v1beta")
        method = call.removeprefix(f"models/{MODEL}:")
        assert method in ("generateContent", "streamGenerateContent", "batchEmbedContents"), path
        assert query == ("alt=sse" if method.startswith("stream") else "")
        assert request.one(b"x-goog-api-key") == b"AIza-test"
        assert request.one(b"content-type") == b"application/json"
        assert request.one(b"host").decode() == self.authority
        if method == "batchEmbedContents":
            assert asked["requests"][0]["content"]["parts"]
        else:
            assert asked["contents"][0]["parts"][0]["text"]
            assert not set(asked) - {"contents", "generationConfig", "tools", "systemInstruction"}


def _written(value: Any) -> bytes:
    """Google indents what it answers in one piece."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def _content(parts: list[Any], finish: str | None = None, usage: Any = USAGE) -> dict[str, Any]:
    candidate = {"content": {"parts": parts, "role": "model"}, **({"finishReason": finish} if finish else {}), "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": MODEL, "responseId": "r-1"}


def _whole(value: Any) -> Answer:
    return Answer(200, "application/json; charset=UTF-8", ((_written(value), 0),), HEAD, codings=USUAL)


CALL = {"functionCall": {"name": "weather", "args": {"city": "Zürich"}, "id": "fc_1"}, "thoughtSignature": "CiQB"}


def content(asked: Any) -> Answer:
    """A whole answer."""
    return _whole(_content([{"text": "Grüezi, 世界"}], "STOP"))


def tool(asked: Any) -> Answer:
    """A whole answer that wants a function called."""
    assert asked["tools"][0]["functionDeclarations"][0]["name"] == "weather"
    return _whole(_content([CALL], "STOP"))


def embeddings(asked: Any) -> Answer:
    """A vector for each text; no usage."""
    return _whole({"embeddings": [{"values": [0.25, -0.5]} for _ in asked["requests"]]})


def _event(value: Any) -> Piece:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\r\n\r\n", 1


def _stream(*values: Any) -> Answer:
    return streamed([_event(value) for value in values], content_type="text/event-stream", fields=HEAD)


def _so_far(output: int) -> dict[str, Any]:
    return {**USAGE, "candidatesTokenCount": output, "totalTokenCount": 27 + output}


def stream(asked: Any) -> Answer:
    """Pieces, each with the usage so far."""
    words = [_content([{"text": word}], usage=_so_far(number)) for number, word in enumerate(("Grüezi", ", ", "世界"), 2)]
    return _stream(*words, _content([{"text": "!"}], "STOP"))


def stream_tool(asked: Any) -> Answer:
    """Thinks first, and calls a function then."""
    thought = {"text": "**Weather**\n\nI look.", "thought": True}
    return _stream(_content([thought], usage=_so_far(0)), _content([CALL], "STOP"))


def stream_unavailable(asked: Any) -> Answer:
    """Google gives up in the middle, under status 200."""
    failure = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    good = _event(_content([{"text": "Gr"}], usage=_so_far(1)))
    return streamed([good, (_event(failure)[0], 0)], content_type="text/event-stream", fields=HEAD)


def error(status: int, word: str, message: str, *details: Any) -> AnswerTo:
    """An error as google.rpc.Status."""
    return failed(status, {"error": {"code": status, "message": message, "status": word, "details": list(details)}}, *HEAD)


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}
TOO_MANY = error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", RETRY)
BROKEN = error(500, "INTERNAL", "An internal error has occurred.")
OVERLOADED = error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
