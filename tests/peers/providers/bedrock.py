"""Amazon Bedrock's runtime as it answers: Converse, InvokeModel and their streams of frames; it checks each signature (SigV4)."""

import base64
import hashlib
import hmac
import json
import struct
import zlib
from typing import Any
from urllib.parse import quote, unquote

from tests.peers.providers.answer import Answer, AnswerTo, Piece, dumped, failed, streamed, whole
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message

MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1"
PREFIXES = ("", "/llm")
"""
What may have stood before the path when it was signed: a gateway's prefix is cut off on the way.

AWS itself would refuse such a signature, and one for the gateway's host. That it fits here says that nothing else was touched.
"""

HEAD = (("x-amzn-RequestId", "8c1b7a9e-0000-4000-8000-000000000001"),)
USAGE = {"inputTokens": 18, "outputTokens": 12, "totalTokens": 41, "cacheReadInputTokens": 6, "cacheWriteInputTokens": 5}
READ_USAGE = {"input_tokens": 18, "cache_read_tokens": 6, "cache_write_tokens": 5, "output_tokens": 12}
FRAMES = "application/vnd.amazon.eventstream"


class Bedrock(ProviderUpstream):
    """`bedrock-runtime.us-east-1.amazonaws.com`."""

    name = "aws.bedrock"

    def check(self, request: Message, asked: Any) -> None:
        """Refuse what AWS refuses."""
        model, _, api = request.target.decode().removeprefix("/model/").partition("/")
        assert unquote(model) == MODEL
        assert "%3A" in model, "the colon is encoded, as the SDK writes it"
        assert api in ("converse", "converse-stream", "invoke", "invoke-with-response-stream")
        assert request.one(b"host").decode() == self.authority
        if api.startswith("converse"):
            assert asked["messages"][0]["content"][0]["text"]
            assert not set(asked) - {"messages", "system", "inferenceConfig", "toolConfig"}
        else:
            assert asked["anthropic_version"] == "bedrock-2023-05-31"
        self._check_signature(request, request.one(b"authorization").decode())

    def _check_signature(self, request: Message, authorization: str) -> None:
        """Sign it again, for each place that the client may have thought it spoke to, and compare."""
        scheme, _, rest = authorization.partition(" ")
        assert scheme == "AWS4-HMAC-SHA256"
        told = dict(part.strip().split("=", 1) for part in rest.split(","))
        key, _, scope = told["Credential"].partition("/")
        date = request.one(b"x-amz-date").decode()
        assert (key, scope) == (ACCESS_KEY, f"{date[:8]}/{REGION}/bedrock/aws4_request")
        names = told["SignedHeaders"].split(";")
        assert {"host", "x-amz-date"} <= set(names)
        signed = {name: " ".join(request.one(name.encode()).decode().split()) for name in names}
        places = [(host, prefix) for host in self.hosts for prefix in PREFIXES]
        possible = {_signature(request, scope, date, {**signed, "host": host}, prefix) for host, prefix in places}
        assert told["Signature"] in possible, "The request signature we calculated does not match the signature you provided."


def _signature(request: Message, scope: str, date: str, signed: dict[str, str], prefix: str) -> str:
    """The signature of a request (AWS, Signature Version 4: create a signed request); its path is encoded once more."""
    fields = "".join(f"{name}:{value}\n" for name, value in sorted(signed.items()))
    path = quote(prefix + request.target.decode(), safe="/-_.~")
    digest = hashlib.sha256(request.body).hexdigest()
    canonical = "\n".join(["POST", path, "", fields, ";".join(sorted(signed)), digest])
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET_KEY.encode()
    for part in [*scope.split("/"), text]:
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of `application/vnd.amazon.eventstream`."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return body + struct.pack(">I", zlib.crc32(body))


def _event(kind: str, told: Any) -> Piece:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, dumped({**told, "p": "abcdefghijkl"})), 1


def _exception(kind: str, message: str) -> Piece:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, dumped({"message": message})), 0


# ── Converse ─────────────────────────────────────────────────────────────────────────────────────────────────────────

TOOL_USE = {"toolUseId": "tooluse_1", "name": "weather"}


def _whole(content: list[Any], stop: str) -> Answer:
    message = {"role": "assistant", "content": content}
    told = {"metrics": {"latencyMs": 551}, "output": {"message": message}, "stopReason": stop, "usage": USAGE}
    return whole(told, fields=HEAD)


def converse(asked: Any) -> Answer:
    """A whole answer."""
    return _whole([{"text": "Grüezi, 世界"}], "end_turn")


def converse_tool(asked: Any) -> Answer:
    """A whole answer that wants a tool."""
    assert asked["toolConfig"]["tools"][0]["toolSpec"]["name"] == "weather"
    return _whole([{"toolUse": {**TOOL_USE, "input": {"city": "Zürich"}}}], "tool_use")


def _delta(index: int, **delta: Any) -> Piece:
    return _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


WORDS = [_delta(0, text=word) for word in ("Grüezi", ", ", "世界")]
START = _event("messageStart", {"role": "assistant"})


def _end(stop: str) -> list[Piece]:
    return [_event("messageStop", {"stopReason": stop}), _event("metadata", {"metrics": {"latencyMs": 551}, "usage": USAGE})]


def converse_stream(asked: Any) -> Answer:
    """By the word; the usage comes last."""
    stop = _event("contentBlockStop", {"contentBlockIndex": 0})
    return streamed([START, *WORDS, stop, *_end("end_turn")], content_type=FRAMES, fields=HEAD)


def converse_stream_tool(asked: Any) -> Answer:
    """A tool's input in pieces."""
    start = _event("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": TOOL_USE}})
    parts = [_delta(1, toolUse={"input": part}) for part in ('{"city": ', '"Zürich"}')]
    stops = [_event("contentBlockStop", {"contentBlockIndex": index}) for index in (0, 1)]
    return streamed([START, *WORDS, stops[0], start, *parts, stops[1], *_end("tool_use")], content_type=FRAMES, fields=HEAD)


def converse_stream_throttled(asked: Any) -> Answer:
    """AWS gives up in the middle, under status 200."""
    return streamed([START, WORDS[0], _exception("throttlingException", "Too many tokens.")], content_type=FRAMES, fields=HEAD)


# ── InvokeModel ──────────────────────────────────────────────────────────────────────────────────────────────────────

INNER_USAGE = {"input_tokens": 18, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 6, "output_tokens": 12}
READ_INNER_USAGE = {"input_tokens": 18, "cache_read_tokens": 6, "output_tokens": 12}


def _message(content: list[Any], stop: str | None, usage: Any) -> dict[str, Any]:
    return {
        "model": "claude-sonnet-4-5-20250929", "id": "msg_bdrk_1", "type": "message", "role": "assistant", "content": content,
        "stop_reason": stop, "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def invoke(asked: Any) -> Answer:
    """A whole message in Anthropic's words, with its counts in the head too."""
    counts = (
        ("X-Amzn-Bedrock-Input-Token-Count", "18"),
        ("X-Amzn-Bedrock-Output-Token-Count", "12"),
        ("X-Amzn-Bedrock-Invocation-Latency", "551"),
    )
    message = _message([{"type": "text", "text": "Grüezi"}], "end_turn", INNER_USAGE)
    return whole(message, fields=(*HEAD, *counts))


def invoke_stream(asked: Any) -> Answer:
    """Anthropic's events, in base64, in frames."""
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": _message([], None, {**INNER_USAGE, "output_tokens": 1})},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüezi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 12}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 18, "outputTokenCount": 12, "invocationLatency": 551, "firstByteLatency": 90}},
    ]  # fmt: skip
    pieces = [_event("chunk", {"bytes": base64.b64encode(json.dumps(each).encode()).decode()}) for each in events]
    return streamed(pieces, content_type=FRAMES, fields=(*HEAD, ("X-Amzn-Bedrock-Content-Type", "application/json")))


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def error(status: int, kind: str, message: str) -> AnswerTo:
    """An error whose class stands in the head."""
    return failed(status, {"message": message}, *HEAD, ("x-amzn-ErrorType", f"{kind}:http://internal.amazon.com/coral/"))


TOO_MANY = error(429, "ThrottlingException", "Too many requests, please wait before trying again.")
BROKEN = error(
    500, "InternalServerException", "The system encountered an unexpected error during processing. Try your request again."
)
OVERLOADED = error(503, "ServiceUnavailableException", "Bedrock is unable to process your request.")
