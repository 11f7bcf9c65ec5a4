"""
A small agent of the demo: plans with a language model, uses an MCP tool, delegates to an A2A agent, streams its answer.

    python agent.py LLM_BASE_URL MCP_URL A2A_BASE_URL

It is a program of its own: standard library only, no word about a sidecar. All that leads it there is `HTTP_PROXY`, which
urllib obeys by itself. It has no OpenTelemetry either; it merely sends the traceparent of its own root span with each call.
"""

import json
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

MODEL, MCP_VERSION, A2A_VERSION = "demo-1", "2026-07-28", "1.0"
TIMEOUT_S, MAX_RETRIES, MAX_WAIT_S = 10.0, 2, 2.0

_QUESTION = "What should I pack for Lisbon tomorrow?"
_META = "io.modelcontextprotocol"

Json = dict[str, Any]


class Agent:
    """One run of one task; what it does is printed, a line a step."""

    def __init__(self, llm: str, mcp: str, a2a: str) -> None:
        self._llm, self._mcp, self._a2a = llm, mcp, a2a
        self._traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"

    def work(self) -> None:
        """Do the whole task; raises what a call raised that repeating did not mend."""
        models = json.loads(_read(_get(f"{self._llm}/models", {})))
        _say(f"is up: the model server offers {models['data'][0]['id']} (asked without trace context)")
        tool, arguments = self._plan(self._tools())
        weather = self._use(tool, arguments)
        packing = self._delegate(weather)
        self._answer(weather, packing)

    def _tools(self) -> list[Json]:
        tools: list[Json] = self._mcp_call("tools/list", {})["tools"]
        _say(f"lists the tools over MCP: {', '.join(tool['name'] for tool in tools)}")
        return tools

    def _plan(self, tools: list[Json]) -> tuple[str, Json]:
        offered = [{"type": "function", "function": {"name": tool["name"], "parameters": tool["inputSchema"]}} for tool in tools]
        plan = self._complete({"messages": [{"role": "user", "content": _QUESTION}], "tools": offered})
        call = plan["choices"][0]["message"]["tool_calls"][0]["function"]
        _say(f"plans with the LLM: call {call['name']}({call['arguments']})")
        return call["name"], json.loads(call["arguments"])

    def _use(self, tool: str, arguments: Json) -> str:
        result = self._mcp_call("tools/call", {"name": tool, "arguments": arguments}, progress=True)
        weather: str = result["content"][0]["text"]
        _say(f"calls the tool over MCP, answered as a stream of events: {weather}")
        return weather

    def _delegate(self, weather: str) -> str:
        card = json.loads(_read(_get(f"{self._a2a}/.well-known/agent-card.json", {"traceparent": self._traceparent})))
        url = card["supportedInterfaces"][0]["url"]
        message = {"messageId": secrets.token_hex(8), "role": "ROLE_USER", "parts": [{"text": f"Pack for: {weather}"}]}
        answer = _json_rpc("SendMessage", {"message": message})
        reply = json.loads(_read(self._post(url, answer, {"A2A-Version": A2A_VERSION})))
        task = reply["result"]["task"]
        packing: str = task["artifacts"][0]["parts"][0]["text"]
        _say(f"delegates to {card['name']} over A2A, which asks the LLM itself: {packing}")
        return packing

    def _answer(self, weather: str, packing: str) -> None:
        messages = [{"role": "user", "content": f"{_QUESTION} Weather: {weather}. List: {packing}."}]
        request = {"model": MODEL, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        text, tokens = "", 0
        with self._post(f"{self._llm}/chat/completions", request, {"Authorization": "Bearer demo"}) as response:
            for data in _events(response):
                if data == "[DONE]":
                    break
                chunk = json.loads(data)
                text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
                tokens = (chunk.get("usage") or {}).get("total_tokens", tokens)
        if not (text and tokens):
            raise ValueError("the stream ended without text or usage")
        _say(f"streams the answer ({tokens} tokens): {text}")

    def _complete(self, request: Json) -> Json:
        answer = self._post(f"{self._llm}/chat/completions", {"model": MODEL, **request}, {"Authorization": "Bearer demo"})
        completion: Json = json.loads(_read(answer))
        return completion

    def _mcp_call(self, method: str, params: Json, *, progress: bool = False) -> Json:
        meta: Json = {f"{_META}/protocolVersion": MCP_VERSION, f"{_META}/clientCapabilities": {}}
        if progress:
            meta["progressToken"] = secrets.token_hex(4)
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": MCP_VERSION, "Mcp-Method": method}
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
        with self._post(self._mcp, _json_rpc(method, params | {"_meta": meta}), headers) as response:
            streamed = response.headers.get_content_type() == "text/event-stream"
            answers = [json.loads(data) for data in _events(response)] if streamed else [json.load(response)]
        result: Json = answers[-1]["result"]
        return result

    def _post(self, url: str, body: Json, headers: dict[str, str]) -> HTTPResponse:
        headers = {"Content-Type": "application/json", "traceparent": self._traceparent, **headers}
        request = _request(url, json.dumps(body).encode(), headers)
        for attempt in range(MAX_RETRIES + 1):
            try:
                return _open(request)
            except urllib.error.HTTPError as error:
                if error.code not in {429, 503} or attempt == MAX_RETRIES:
                    raise
                wait_s = _wait_s(error)
                _say(f"was refused with {error.code}; tries again in {wait_s:g} s, as the answer asks")
                time.sleep(wait_s)
        raise AssertionError("the loop returns or raises")


def _get(url: str, headers: dict[str, str]) -> HTTPResponse:
    return _open(_request(url, None, headers))


def _request(url: str, body: bytes | None, headers: dict[str, str]) -> urllib.request.Request:
    return urllib.request.Request(url, body, headers)  # noqa: S310 - see above and of the card


def _open(request: urllib.request.Request) -> HTTPResponse:
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310 - see above
    except urllib.error.HTTPError as error:
        error.close()  # it is a response too; its head can be read all the same
        raise
    return response


def _read(response: HTTPResponse) -> bytes:
    with response:
        return response.read()


def _events(response: HTTPResponse) -> Iterator[str]:
    """The data of each server-sent event, as it comes (one line of data an event is all that is used here)."""
    for line in response:
        if line.startswith(b"data: "):
            yield line.removeprefix(b"data: ").decode().rstrip("\r\n")


def _json_rpc(method: str, params: Json) -> Json:
    return {"jsonrpc": "2.0", "id": secrets.token_hex(4), "method": method, "params": params}


def _wait_s(error: urllib.error.HTTPError) -> float:
    """How long the answer asks us to wait, as OpenAI's SDK reads it: milliseconds before seconds; else 0.5 s."""
    for name, unit_s in (("Retry-After-Ms", 1e-3), ("Retry-After", 1.0)):
        value = error.headers.get(name, "")
        if value.isdecimal():
            return min(int(value) * unit_s, MAX_WAIT_S)
    return 0.5


def _say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str]) -> int:
    """Run the agent; 0 when the task is done, 1 with the reason on stderr when it is not."""
    try:
        Agent(*arguments).work()
    except (OSError, ValueError, LookupError, TypeError) as error:
        sys.stderr.write(f"the agent gave up: {type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
