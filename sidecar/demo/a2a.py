"""
An agent that packs suitcases, behind A2A 1.0 (JSON-RPC binding): its card, and `SendMessage`.

It asks the language model itself, through the proxy that its own environment names, and carries the trace on.
"""

import json
from typing import Any

import aiohttp
from aiohttp import web

from sidecar.demo.llm import MODEL

VERSION = "1.0"
TIMEOUT_S = 10.0

_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS, _INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
_VERSION_NOT_SUPPORTED = -32009


class PackingAgent:
    """`url` is where it is reached (the card says so), `llm` the base URL of its model, `proxy` the way there ("" for none)."""

    def __init__(self, url: str, llm: str, proxy: str) -> None:
        self._url = url
        self._llm = llm
        self._proxy = proxy
        self._tasks = 0

    def application(self) -> web.Application:
        """The well-known card, and one endpoint for JSON-RPC."""
        app = web.Application()
        app.router.add_get("/.well-known/agent-card.json", self.card)
        app.router.add_post("/a2a", self.receive)
        return app

    async def card(self, request: web.Request) -> web.Response:
        """GET /.well-known/agent-card.json."""
        del request
        skill = {"id": "pack", "name": "Pack", "description": "Says what to pack for a weather.", "tags": ["travel"]}
        return web.json_response(
            {
                "name": "packing-agent",
                "description": "Packs suitcases.",
                "version": "1.0.0",
                "supportedInterfaces": [{"url": f"{self._url}/a2a", "protocolBinding": "JSONRPC", "protocolVersion": VERSION}],
                "capabilities": {"streaming": False, "pushNotifications": False},
                "defaultInputModes": ["text/plain"],
                "defaultOutputModes": ["text/plain"],
                "skills": [skill],
            }
        )

    async def receive(self, request: web.Request) -> web.Response:
        """POST /a2a: one JSON-RPC request."""
        try:
            message = json.loads(await request.read())
        except ValueError:
            return _error(None, _PARSE_ERROR, "This is no JSON.")
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or "method" not in message:
            return _error(None, _INVALID_REQUEST, "This is no JSON-RPC request.")
        ident = message.get("id")
        if request.headers.get("A2A-Version") != VERSION:
            return _error(ident, _VERSION_NOT_SUPPORTED, f"Only A2A-Version {VERSION} is spoken here.")
        if message["method"] != "SendMessage":
            return _error(ident, _NO_METHOD, f"There is no method {message['method']}.")
        try:
            sent = message["params"]["message"]
            text = " ".join(part["text"] for part in sent["parts"])
            context = sent.get("contextId") or "context-1"
        except (KeyError, TypeError, AttributeError):
            return _error(ident, _INVALID_PARAMS, "params.message.parts[].text is missing.")
        try:
            answer = await self._ask(text, request.headers.get("traceparent"))
        except (aiohttp.ClientError, TimeoutError, LookupError, ValueError, TypeError) as error:
            return _error(ident, _INTERNAL_ERROR, f"The model did not answer: {type(error).__name__}.")
        return web.json_response({"jsonrpc": "2.0", "id": ident, "result": {"task": self._done(context, answer)}})

    async def _ask(self, text: str, traceparent: str | None) -> str:
        headers = {"Authorization": "Bearer demo"} | ({"traceparent": traceparent} if traceparent else {})
        messages = [{"role": "system", "content": "Say what to pack."}, {"role": "user", "content": text}]
        body = {"model": MODEL, "messages": messages}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.post(f"{self._llm}/chat/completions", json=body, headers=headers, proxy=self._proxy or None) as response,
        ):
            answer = (await response.json())["choices"][0]["message"]["content"]
            return str(answer)

    def _done(self, context: str, answer: str) -> dict[str, Any]:
        self._tasks += 1
        return {
            "id": f"task-{self._tasks}",
            "contextId": context,
            "status": {"state": "TASK_STATE_COMPLETED"},
            "artifacts": [{"artifactId": f"list-{self._tasks}", "name": "packing list", "parts": [{"text": answer}]}],
        }


def _error(ident: Any, code: int, text: str) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": text}})
