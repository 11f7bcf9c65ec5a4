"""
A large language model that knows one conversation, behind the API of OpenAI chat completions.

It plans with a tool when it is given tools, answers in one piece, or streams (with a usage chunk where
`stream_options.include_usage` asks for it). It refuses the first stream with 429, as the real ones do on a bad day.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web

MODEL = "demo-1"

THINKING_S, PACE_S = 0.06, 0.03
"""How long an answer takes to begin, and how long the model takes for a word of a stream."""

RETRY_AFTER_S = 0.2

_CREATED = 1_767_225_600  # a date in the past; nobody needs the true one

_ANSWER = "Lisbon will have 19 degrees and a light breeze: take a light jacket, good shoes and your sunglasses."
_LIST = "light jacket, good shoes, sunglasses"


class LanguageModel:
    """The model's own state: how many streams it still refuses; `pace` 0 makes it answer at once."""

    def __init__(self, *, refuses: int = 1, pace: float = 1.0) -> None:
        self._refuses = refuses
        self._pace = pace
        self._answers = 0

    def application(self) -> web.Application:
        """The server's routes."""
        app = web.Application()
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.complete)
        return app

    async def models(self, request: web.Request) -> web.Response:
        """GET /v1/models."""
        del request
        model = {"id": MODEL, "object": "model", "created": _CREATED, "owned_by": "demo"}
        return web.json_response({"object": "list", "data": [model]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return _error(401, "invalid_request_error", "You didn't provide an API key.", "invalid_api_key")
        try:
            asked = json.loads(await request.read())
            messages = asked["messages"]
            text = " ".join(str(message.get("content") or "") for message in messages)
        except (ValueError, KeyError, TypeError, AttributeError):
            return _error(400, "invalid_request_error", "The body is no chat completion request.", None)
        if asked.get("stream") and self._refuses:
            self._refuses -= 1
            return _rate_limited()
        self._answers += 1
        prompt_tokens = len(text) // 4 + 1
        await asyncio.sleep(THINKING_S * self._pace)
        if asked.get("stream"):
            return await self._stream(request, asked, prompt_tokens)
        if asked.get("tools"):
            return web.json_response(self._whole(_tool_call(asked["tools"]), "tool_calls", prompt_tokens))
        return web.json_response(self._whole({"role": "assistant", "content": _LIST}, "stop", prompt_tokens))

    async def _stream(self, request: web.Request, asked: dict[str, Any], prompt_tokens: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"})
        await response.prepare(request)
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        for chunk in self._chunks(prompt_tokens, with_usage):
            await response.write(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n")
            await asyncio.sleep(PACE_S * self._pace)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _chunks(self, prompt_tokens: int, with_usage: bool) -> Iterator[dict[str, Any]]:
        words = _ANSWER.split(" ")
        frame = self._frame("chat.completion.chunk") | ({"usage": None} if with_usage else {})
        first: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        for delta in first + [{"content": word if at == 0 else f" {word}"} for at, word in enumerate(words)]:
            yield frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        if with_usage:
            yield frame | {"choices": [], "usage": _usage(prompt_tokens, len(words))}

    def _whole(self, message: dict[str, Any], finish_reason: str, prompt_tokens: int) -> dict[str, Any]:
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        usage = _usage(prompt_tokens, len(json.dumps(message)) // 4)
        return self._frame("chat.completion") | {"choices": [choice], "usage": usage}

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-demo{self._answers}", "object": kind, "created": _CREATED + self._answers, "model": MODEL}


def _tool_call(tools: list[dict[str, Any]]) -> dict[str, Any]:
    name = tools[0]["function"]["name"]
    call = {"id": "call_demo1", "type": "function", "function": {"name": name, "arguments": '{"city":"Lisbon"}'}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _rate_limited() -> web.Response:
    response = _error(429, "rate_limit_error", "Rate limit reached for demo-1.", "rate_limit_exceeded")
    response.headers["Retry-After-Ms"] = f"{RETRY_AFTER_S * 1e3:.0f}"
    response.headers["Retry-After"] = "1"
    return response


def _error(status: int, kind: str, message: str, code: str | None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": kind, "param": None, "code": code}}, status=status)
