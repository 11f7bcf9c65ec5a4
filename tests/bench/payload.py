"""What travels: a chat completion of an OpenAI SDK, 1.5 KB up and 1.2 KB down, and the events of a stream."""

import json
import random

REQUEST_BODY_BYTES = 1536
RESPONSE_BODY_BYTES = 1200
TRACES = 256
"""So many different trace contexts take turns, so that no cache of parsed headers looks better than it is."""

_PROMPT = (
    "You are the assistant of a support desk. Answer in three sentences, cite the order number, offer a refund "
    "only within thirty days of delivery, and call the tool look_up_order when a number is named. "
)
_ANSWER = (
    "Your order 48-2209 left the warehouse on Tuesday and is due tomorrow before noon. Should it not arrive, answer to "
    "this message and a replacement goes out the same day, or the full price is refunded within three working days. "
)
_EVENT_HEAD = (
    b'data: {"id":"chatcmpl-BkY3v8Qw1nT7","object":"chat.completion.chunk","created":1790000000,"model":"gpt-5-mini",'
    b'"system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" n'
)
_EVENT_TAIL = b'"},"finish_reason":null}]}\n\n'
_USAGE = (
    b'data: {"id":"chatcmpl-BkY3v8Qw1nT7","object":"chat.completion.chunk","created":1790000000,"model":"gpt-5-mini",'
    b'"choices":[],"usage":{"prompt_tokens":312,"completion_tokens":200,"total_tokens":512}}\n\n'
)
_DONE = b"data: [DONE]\n\n"


def request_body(*, stream: bool = False) -> bytes:
    """A chat completion request of exactly `REQUEST_BODY_BYTES`."""
    return _padded(
        {
            "model": "gpt-5-mini",
            "messages": [{"role": "system", "content": _PROMPT}, {"role": "user", "content": ""}],
            "temperature": 0.2,
            "max_completion_tokens": 400,
            "stream": stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "look_up_order",
                        "description": "Status of one order",
                        "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
                    },
                }
            ],
        },
        ("messages", 1, "content"),
        REQUEST_BODY_BYTES,
        _PROMPT,
    )


def response_body() -> bytes:
    """A chat completion of exactly `RESPONSE_BODY_BYTES`, with usage."""
    return _padded(
        {
            "id": "chatcmpl-BkY3v8Qw1nT7",
            "object": "chat.completion",
            "created": 1790000000,
            "model": "gpt-5-mini",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "", "refusal": None, "annotations": []},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 312,
                "completion_tokens": 164,
                "total_tokens": 476,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
            },
            "service_tier": "default",
        },
        ("choices", 0, "message", "content"),
        RESPONSE_BODY_BYTES,
        _ANSWER,
    )


def request_heads(path: str, host: str, body: bytes, *, traced: bool, count: int = TRACES) -> list[bytes]:
    """Request heads as the official Python SDK sends them, alike but for the trace context."""
    chance = random.Random(7)
    fields = {
        "Host": host,
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": "OpenAI/Python 2.8.1",
        "X-Stainless-Lang": "python",
        "X-Stainless-Package-Version": "2.8.1",
        "X-Stainless-OS": "Linux",
        "X-Stainless-Arch": "x64",
        "X-Stainless-Runtime": "CPython",
        "X-Stainless-Runtime-Version": "3.12.12",
        "Authorization": "Bearer sk-proj-not-a-key-0123456789abcdefghijklmnopqrstuvwxyz",
        "X-Stainless-Retry-Count": "0",
    }
    heads = []
    for _ in range(count if traced else 1):
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if traced:
            lines.append(f"traceparent: 00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-01")
        lines.append(f"Content-Length: {len(body)}")
        heads.append("\r\n".join([*lines, "", ""]).encode())
    return heads


def event(number: int) -> bytes:
    """The stream's event of this number, of about 200 bytes."""
    return b"%b%06d%b" % (_EVENT_HEAD, number, _EVENT_TAIL)


def last_events() -> bytes:
    """What comes with the last event: the usage and `[DONE]`."""
    return _USAGE + _DONE


def stream_body(chunks: int) -> bytes:
    """The whole body of a stream of so many chunks, as a client that lost nothing has it."""
    return b"".join(map(event, range(chunks))) + last_events()


def _padded(document: dict[str, object], path: tuple[str | int, ...], length: int, text: str) -> bytes:
    """The document as JSON of this length, filled up with text at the path."""
    *parents, last = path
    place: object = document
    for step in parents:
        place = place[step]  # type: ignore[index]  # lists and dicts of a literal above
    room = length - len(json.dumps(document, separators=(",", ":")))
    place[last] = (text * (room // len(text) + 1))[:room]  # type: ignore[index]  # as above
    return json.dumps(document, separators=(",", ":")).encode()
