"""
An MCP server with one tool: streamable HTTP, protocol version 2026-07-28 (stateless: no session, no initialize).

Every message is a POST; `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` have to agree with the body. The tool answers
as a stream of events when the client asked for progress, else as plain JSON.
"""

import asyncio
import json
from typing import Any

from aiohttp import web

VERSION = "2026-07-28"

WORKING_S = 0.04
"""How long the tool takes for each half of its work."""

_META = "io.modelcontextprotocol"
_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_HEADER_MISMATCH, _UNSUPPORTED_VERSION = -32020, -32022

_TOOL = {
    "name": "get_weather",
    "description": "Tomorrow's weather of a city.",
    "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

_SERVER = {"name": "weather", "version": "1"}
_EVENT_STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Message = dict[str, Any]


class WeatherTools:
    """The server; `pace` 0 makes its tool answer at once."""

    def __init__(self, *, pace: float = 1.0) -> None:
        self._pace = pace

    def application(self) -> web.Application:
        """One endpoint; GET and DELETE, which older versions had, are answered 405 by the router."""
        app = web.Application()
        app.router.add_post("/mcp", self.receive)
        return app

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """POST /mcp: one JSON-RPC request."""
        try:
            message = json.loads(await request.read())
        except ValueError:
            return _error(400, None, _PARSE_ERROR, "This is no JSON.")
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or "method" not in message or "id" not in message:
            return _error(400, None, _INVALID_REQUEST, "This is no JSON-RPC request.")
        refusal = _refusal(request, message)
        if refusal is not None:
            return refusal
        if message["method"] == "server/discover":
            return _result(message, {"supportedVersions": [VERSION], "capabilities": {"tools": {}}, "serverInfo": _SERVER})
        if message["method"] == "tools/list":
            return _result(message, {"tools": [_TOOL], "ttlMs": 60_000, "cacheScope": "public"})
        if message["method"] == "tools/call":
            return await self._call(request, message)
        return _error(404, message["id"], _NO_METHOD, f"There is no method {message['method']}.")

    async def _call(self, request: web.Request, message: Message) -> web.StreamResponse:
        params = message["params"]
        city = (params.get("arguments") or {}).get("city")
        if params.get("name") != _TOOL["name"] or not isinstance(city, str):
            return _error(400, message["id"], _INVALID_PARAMS, "There is one tool: get_weather(city).")
        result = {"content": [{"type": "text", "text": f"{city}: 19 degrees, light breeze, no rain"}], "isError": False}
        token = params["_meta"].get("progressToken")
        if token is None:
            await asyncio.sleep(2 * WORKING_S * self._pace)
            return _result(message, result)
        response = web.StreamResponse(headers=_EVENT_STREAM)
        await response.prepare(request)
        await asyncio.sleep(WORKING_S * self._pace)
        progress = {"progressToken": token, "progress": 1, "total": 2, "message": "asking the weather service"}
        await response.write(_event({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}))
        await asyncio.sleep(WORKING_S * self._pace)
        await response.write(_event(_answer(message, result)))
        await response.write_eof()
        return response


def _refusal(request: web.Request, message: Message) -> web.Response | None:
    """What the specification demands of headers and `_meta`; None where all is well."""
    ident = message["id"]
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if not isinstance(meta, dict) or f"{_META}/clientCapabilities" not in meta:
        return _error(400, ident, _INVALID_PARAMS, "params._meta lacks protocolVersion or clientCapabilities.")
    if meta.get(f"{_META}/protocolVersion") != VERSION:
        return _error(400, ident, _UNSUPPORTED_VERSION, "Unsupported protocol version.", {"supported": [VERSION]})
    expected = {"MCP-Protocol-Version": VERSION, "Mcp-Method": message["method"]}
    if message["method"] == "tools/call":
        expected["Mcp-Name"] = params.get("name") if isinstance(params, dict) else None
    for name, value in expected.items():
        if request.headers.get(name) != value:
            return _error(400, ident, _HEADER_MISMATCH, f"Header {name} and body do not agree.")
    return None


def _answer(message: Message, result: Message) -> Message:
    return {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **result}}


def _result(message: Message, result: Message) -> web.Response:
    return web.json_response(_answer(message, result))


def _error(status: int, ident: Any, code: int, text: str, data: Message | None = None) -> web.Response:
    error = {"code": code, "message": text} | ({"data": data} if data else {})
    return web.json_response({"jsonrpc": "2.0", "id": ident, "error": error}, status=status)


def _event(message: Message) -> bytes:
    return b"event: message\ndata: " + json.dumps(message, separators=(",", ":")).encode() + b"\n\n"
