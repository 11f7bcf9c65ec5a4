"""OpenAI as it answers: chat completions, completions, responses and embeddings; Azure's deployments, by the same words."""

from typing import Any

from tests.peers.providers.answer import Answer, Piece, event, failed, streamed, whole
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message

MODEL = "gpt-5.1"
FULL_MODEL = "gpt-5.1-2026-02-01"

HEAD = (
    ("openai-organization", "org-1"), ("openai-processing-ms", "417"), ("openai-version", "2020-10-01"), ("x-request-id", "req_1"),
    ("x-ratelimit-limit-requests", "10000"), ("x-ratelimit-remaining-requests", "9999"), ("x-ratelimit-reset-requests", "6ms"),
    ("CF-RAY", "9a1-FRA"), ("Server", "cloudflare"),
)  # fmt: skip

USAGE = {
    "prompt_tokens": 21, "completion_tokens": 19, "total_tokens": 40,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 4, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
    },
}  # fmt: skip
READ_USAGE = {"input_tokens": 13, "cache_read_tokens": 8, "output_tokens": 15, "reasoning_tokens": 4}

ARGUMENTS = '{"city":"Zürich","unit":"c"}'


class OpenAi(ProviderUpstream):
    """`api.openai.com`, with `/v1` left to the base URL."""

    name = "openai"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what OpenAI refuses."""
        assert request.start_line.startswith(b"POST /v1/")
        assert request.one(b"authorization") == b"Bearer sk-test"
        self.check_body(request, asked)

    def check_body(self, request: Message, asked: Any) -> None:
        """What is asked for has to be of the endpoint."""
        assert request.one(b"content-type") == b"application/json"
        assert request.one(b"host").decode() == self.authority
        assert isinstance(asked["model"], str)
        endpoint = request.target.partition(b"?")[0].rpartition(b"/v1/")[2] if b"/v1/" in request.target else b""
        if endpoint == b"embeddings":
            assert asked["input"]
            assert "stream_options" not in asked
        elif endpoint == b"responses":
            assert asked["input"]
            assert "include_usage" not in asked.get("stream_options", {}), "Unknown parameter: 'stream_options.include_usage'."
        elif endpoint == b"completions":
            assert asked["prompt"]
        else:
            assert asked["messages"][0]["role"] in ("user", "system", "developer")
        if "stream_options" in asked:
            assert asked["stream"] is True, "The 'stream_options' parameter is only allowed when 'stream' is enabled."


class Azure(OpenAi):
    """`RESOURCE.openai.azure.com`."""

    name = "azure.ai.openai"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what Azure refuses."""
        assert request.start_line == b"POST /openai/deployments/my-gpt/chat/completions?api-version=2026-05-01 HTTP/1.1"
        assert request.one(b"api-key") == b"azure-key"
        self.check_body(request, asked)


# ── chat completions ─────────────────────────────────────────────────────────────────────────────────────────────────


def chat(asked: Any) -> Answer:
    """A whole answer."""
    message = {"role": "assistant", "content": "Grüezi, 世界", "refusal": None, "annotations": []}
    return _completion(message, "stop")


def chat_tool(asked: Any) -> Answer:
    """The model wants a tool."""
    assert asked["tools"][0]["function"]["name"] == "weather"
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    return _completion({"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}, "tool_calls")


def _completion(message: Any, finish: str) -> Answer:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return whole(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1780000000, "model": FULL_MODEL, "choices": [choice],
         "usage": USAGE, "service_tier": "default", "system_fingerprint": None},
        fields=HEAD,
    )  # fmt: skip


def chat_stream(asked: Any) -> Answer:
    """Its words one by one; the last chunk tells the usage, where that was asked for."""
    deltas: list[tuple[Any, str | None]] = [({"role": "assistant", "content": "", "refusal": None}, None)]
    deltas += [({"content": word}, None) for word in ("Grüezi", ", ", "世界", "!")]
    return _chunks(asked, [*deltas, ({}, "stop")])


def chat_stream_tool(asked: Any) -> Answer:
    """A tool call in pieces."""
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    deltas: list[tuple[Any, str | None]] = [({"role": "assistant", "content": None, "tool_calls": [first]}, None)]
    parts = ('{"city":', '"Zü', 'rich","unit"', ':"c"}')
    deltas += [({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}, None) for part in parts]
    return _chunks(asked, [*deltas, ({}, "tool_calls")])


def _chunks(asked: Any, deltas: list[tuple[Any, str | None]], *, before: list[Piece] | None = None) -> Answer:
    tells = asked.get("stream_options", {}).get("include_usage", False)
    pieces = list(before or ())
    for delta, finish in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**_chunk([choice]), "obfuscation": "x7"}
        pieces.append((event({**chunk, "usage": None} if tells else chunk), 1))
    if tells:
        # No application that did not ask for it may hear it: only who asked is waited for.
        pieces.append((event({**_chunk([]), "usage": USAGE}), 0))
    return streamed([*pieces, (event("[DONE]"), 0)], fields=HEAD)


def _chunk(choices: list[Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1780000000, "model": FULL_MODEL,
        "service_tier": "default", "system_fingerprint": None, "choices": choices,
    }  # fmt: skip


def stream_without_usage(asked: Any) -> Answer:
    """A server of one's own that takes `stream_options`, and tells no usage all the same (llama-cpp-python)."""
    return _chunks({}, [({"content": "Grüezi"}, None), ({}, "stop")])


def echo_stream(asked: Any) -> Answer:
    """Says the name of the model that it was asked for, and as many more words as the prompt is long."""
    count = len(asked["messages"][0]["content"])
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
    words = [asked["model"], *(str(number) for number in range(count))]
    chunks: list[Any] = [
        {**frame, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in words
    ]
    chunks.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": count, "completion_tokens": count + 1, "total_tokens": 2 * count + 1}
    chunks.append({**frame, "choices": [], "usage": usage})
    return streamed([*((event(each), 0) for each in chunks), (event("[DONE]"), 0)])


def azure_stream(asked: Any) -> Answer:
    """Azure's first chunk tells what its filter thinks of the prompt, and has no choices."""
    verdict = {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [verdict]}
    return _chunks(asked, [({"content": "Grüezi"}, None), ({"content": "!"}, None), ({}, "stop")], before=[(event(first), 1)])


def chat_fails_within(asked: Any) -> Answer:
    """The stream breaks with an error of the provider's own, under status 200."""
    good = _chunks(asked, [({"role": "assistant", "content": "Gr"}, None)]).pieces[:1]
    return streamed(
        [
            *good,
            (event({"error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}}), 0),
        ]
    )


# ── completions, embeddings ──────────────────────────────────────────────────────────────────────────────────────────

SHORT_USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def completion(asked: Any) -> Answer:
    """A whole text completion."""
    choice = {"text": "Grüezi!", "index": 0, "logprobs": None, "finish_reason": "stop"}
    return whole(
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "gpt-3.5-turbo-instruct",
            "choices": [choice],
            "usage": SHORT_USAGE,
        },
        fields=HEAD,
    )


def completion_stream(asked: Any) -> Answer:
    """A text completion by the word."""
    tells = asked.get("stream_options", {}).get("include_usage", False)
    frame = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-3.5-turbo-instruct"}
    pieces = []
    for text, finish in (("Grü", None), ("ezi", None), ("", "length")):
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        pieces.append((event({**frame, "choices": [choice], **({"usage": None} if tells else {})}), 1))
    if tells:
        pieces.append((event({**frame, "choices": [], "usage": SHORT_USAGE}), 0))
    return streamed([*pieces, (event("[DONE]"), 0)], fields=HEAD)


def embeddings(asked: Any) -> Answer:
    """Two vectors, as base64, which is what the SDK asks for."""
    assert asked["encoding_format"] == "base64"
    data = [{"object": "embedding", "index": index, "embedding": "AACAPwAAAEA="} for index in range(2)]
    return whole(
        {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        fields=HEAD,
    )


# ── responses ────────────────────────────────────────────────────────────────────────────────────────────────────────

RESPONSES_USAGE = {
    "input_tokens": 21, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 19,
    "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 40,
}  # fmt: skip


def _response(status: str, output: list[Any], usage: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "created_at": 1780000000, "status": status, "error": None, "incomplete_details": None,
        "instructions": None, "max_output_tokens": None, "model": FULL_MODEL, "output": output, "parallel_tool_calls": True,
        "previous_response_id": None, "reasoning": {"effort": "low", "summary": None}, "service_tier": "default", "store": True,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": usage, "user": None, "metadata": {}, **more,
    }  # fmt: skip


def _message(text: str, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part] if text else []}


def _call(arguments: str, status: str = "completed") -> dict[str, Any]:
    return {
        "id": "fc_1",
        "type": "function_call",
        "status": status,
        "call_id": "call_1",
        "name": "weather",
        "arguments": arguments,
    }


def response(asked: Any) -> Answer:
    """A whole response."""
    return whole(_response("completed", [_message("Grüezi, 世界!")], RESPONSES_USAGE), fields=HEAD)


def response_tool(asked: Any) -> Answer:
    """A whole response that wants a tool."""
    assert asked["tools"][0]["name"] == "weather"
    return whole(_response("completed", [_call(ARGUMENTS)], RESPONSES_USAGE), fields=HEAD)


def response_stream(asked: Any) -> Answer:
    """Each of its events."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    whole_text = "Grüezi, 世界!"
    return _events([
        ("response.created", {"response": _response("in_progress", [], None)}),
        ("response.in_progress", {"response": _response("in_progress", [], None)}),
        ("response.output_item.added", {"output_index": 0, "item": _message("", "in_progress")}),
        ("response.content_part.added", {**place, "part": part}),
        *(("response.output_text.delta", {**place, "delta": word, "logprobs": []}) for word in ("Grüezi", ", ", "世界", "!")),
        ("response.output_text.done", {**place, "text": whole_text, "logprobs": []}),
        ("response.content_part.done", {**place, "part": {**part, "text": whole_text}}),
        ("response.output_item.done", {"output_index": 0, "item": _message(whole_text)}),
        ("response.completed", {"response": _response("completed", [_message(whole_text)], RESPONSES_USAGE)}),
    ])  # fmt: skip


def response_stream_tool(asked: Any) -> Answer:
    """A function call by the event."""
    place = {"item_id": "fc_1", "output_index": 0}
    return _events([
        ("response.created", {"response": _response("in_progress", [], None)}),
        ("response.output_item.added", {"output_index": 0, "item": _call("", "in_progress")}),
        *(("response.function_call_arguments.delta", {**place, "delta": part}) for part in ('{"city":"Zür', 'ich","unit":"c"}')),
        ("response.function_call_arguments.done", {**place, "arguments": ARGUMENTS}),
        ("response.output_item.done", {"output_index": 0, "item": _call(ARGUMENTS)}),
        ("response.completed", {"response": _response("completed", [_call(ARGUMENTS)], RESPONSES_USAGE)}),
    ])  # fmt: skip


def response_incomplete(asked: Any) -> Answer:
    """It ended by its length."""
    told = _response(
        "incomplete", [_message("Gr", "incomplete")], RESPONSES_USAGE, incomplete_details={"reason": "max_output_tokens"}
    )
    return _events(
        [("response.created", {"response": _response("in_progress", [], None)}), ("response.incomplete", {"response": told})]
    )


def response_fails_within(asked: Any) -> Answer:
    """The stream ends in an error event, under status 200."""
    error = {"code": "server_error", "message": "The model overheated.", "param": None}
    good = _events([("response.created", {"response": _response("in_progress", [], None)})]).pieces
    return streamed([*good, (event({"type": "error", "sequence_number": 1, **error}, "error"), 0)], fields=HEAD)


def _events(told: list[tuple[str, dict[str, Any]]]) -> Answer:
    pieces: list[Piece] = []
    for number, (kind, members) in enumerate(told):
        pieces.append((event({"type": kind, "sequence_number": number, **members}, kind), 1))
    return streamed(pieces, fields=HEAD)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def error(status: int, kind: str, code: str | None, message: str, *fields: tuple[str, str]) -> Any:
    """An error with OpenAI's body."""
    return failed(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, *HEAD, *fields)


TOO_MANY = error(
    429, "requests", "rate_limit_exceeded", "Rate limit reached for gpt-5.1.", ("retry-after-ms", "1"), ("retry-after", "0")
)
BROKEN = error(500, "server_error", None, "The server had an error while processing your request.")
OVERLOADED = error(503, "server_error", "slow_down", "The engine is currently overloaded.", ("retry-after-ms", "1"))


def no_json(asked: Any) -> Answer:
    """What a CDN before it would say."""
    return Answer(503, "text/html", ((b"<html>upstream connect error</html>", 0),), (("retry-after-ms", "1"),))
