import json
from base64 import b64decode, b64encode
from typing import Any

import pytest

from sidecar.dialects import anthropic, bedrock
from sidecar.dialects.bedrock.asked import BedrockAsked
from sidecar.dialects.bedrock.families import FAMILIES
from sidecar.dialects.bedrock.invoke import head_usage
from sidecar.dialects.bedrock.streams import event
from sidecar.dialects.dialect import Heading, Reader
from sidecar.dialects.eventstream import Frames
from sidecar.dialects.sse import event as sse_event
from sidecar.model.answered import ModelAnswered
from sidecar.model.usage import NONSENSE, Usage

FRAMES = "application/vnd.amazon.eventstream"
MODELS = {
    "anthropic": "anthropic.claude-v2",
    "titan": "amazon.titan-text-lite-v1",
    "nova": "amazon.nova-lite-v1%3A0",
    "meta": "meta.llama3-8b",
    "mistral": "mistral.mixtral",
    "cohere": "cohere.command-r",
    "ai21": "ai21.jamba",
    "choices": "deepseek.r1",
    "openai": "openai.gpt-oss-20b",
}


def ask(family: str, api: str = "invoke-with-response-stream") -> BedrockAsked:
    asked = bedrock.request("chat", Heading("POST", f"/model/{MODELS[family]}/{api}"), b"{}")
    assert isinstance(asked, BedrockAsked) and asked.family == family
    return asked


def chunk(told: Any) -> bytes:
    data = told if isinstance(told, bytes) else json.dumps(told, separators=(",", ":")).encode()
    return event("chunk", json.dumps({"bytes": b64encode(data).decode()}).encode())


def reader(family: str, *chunks: Any) -> Reader:
    found = bedrock.reader(ask(family), 200, FRAMES, {})
    for each in chunks:
        found.feed(chunk(each))
    return found


def answered(family: str, *chunks: Any) -> ModelAnswered:
    found = reader(family, *chunks).answered
    assert isinstance(found, ModelAnswered)
    return found


def delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def test_text_that_is_only_counted_is_counted_as_it_is_when_read() -> None:
    texts = ["a", "Hello", 'a "quote"', "ü👋", "a\\b", "", "\n", '"}}', ' "x":"y"', "end"]
    alone = anthropic.reader(anthropic.request("chat", Heading("POST", "/v1/messages"), b"{}"), 200, "text/event-stream", {})
    for text in texts:
        alone.feed(sse_event(json.dumps(delta(text)).encode()))
    assert answered("anthropic", *map(delta, texts)).content_bytes == alone.answered.content_bytes


def test_other_events_between_texts_are_not_taken_for_text() -> None:
    events = [
        delta("a"),
        delta("b"),
        {"type": "content_block_stop", "index": 0},
        {**delta("c"), "index": 1},
        {**delta("d"), "extra": "x"},
        delta("e"),
    ]
    assert answered("anthropic", *events).content_bytes == 5


def test_an_error_of_the_vendor_in_the_middle_is_told() -> None:
    found = answered("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    assert (found.error_type, found.error_message, found.is_ended) == ("overloaded_error", "Overloaded", True)


def test_what_bedrock_counted_serves_where_the_vendor_said_nothing() -> None:
    metrics = {
        "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": 1,
            "outputTokenCount": 2,
            "cacheReadInputTokenCount": 3,
            "cacheWriteInputTokenCount": 4,
        }
    }
    expected = Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4)
    for family in MODELS:
        found = answered(family, {**metrics, "type": "message_stop"})
        assert found.usage == expected and found.is_ended, family


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_token_count": -5, "generation_token_count": 3},
        {"usage": {"prompt_tokens": 5, "completion_tokens": 1e300}},
        {"inputTextTokenCount": 5, "results": [{"tokenCount": -3, "outputText": "x"}]},
    ],
    ids=["meta", "choices", "titan"],
)
def test_numbers_that_cannot_be_so_leave_a_doubt(told: dict[str, Any]) -> None:
    found = answered("choices", told)
    assert found.usage is not None and found.usage.doubt == NONSENSE


def test_choices_are_read_in_any_of_their_shapes() -> None:
    found = answered(
        "choices",
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "Hel"}}]},
        {"choices": [{"index": 0, "delta": {"reasoning_content": "lo"}}], "usage": None},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    )
    assert (found.id, found.model, found.content_bytes, found.finish_reasons) == ("c", "m", 5, ["stop"])
    assert found.usage == Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize(
    ("family", "body", "expected"),
    [
        ("mistral", {"outputs": [{"text": "Hi", "stop_reason": "stop"}]}, (2, ["stop"])),
        ("cohere", {"generations": [{"text": "Hi", "finish_reason": "COMPLETE"}]}, (2, ["COMPLETE"])),
        ("meta", {"generation": "Hi", "stop_reason": "length", "prompt_token_count": 1}, (2, ["length"])),
        ("nova", {"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": "end_turn"}, (2, ["end_turn"])),
        ("titan", {"results": [{"outputText": 7, "completionReason": "FINISH"}, "x"]}, (0, ["FINISH"])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whole_answers_are_read(family: str, body: Any, expected: tuple[int, list[str]]) -> None:
    found = bedrock.reader(ask(family, "invoke"), 200, "application/json", {})
    found.feed(json.dumps(body).encode())
    found.end()
    assert isinstance(found.answered, ModelAnswered)
    assert (found.answered.content_bytes, found.answered.finish_reasons) == expected
    assert found.answered.is_ended and not found.answered.is_unreadable


@pytest.mark.parametrize("family", MODELS)
def test_a_body_that_is_no_json_is_unreadable_and_keeps_what_the_head_told(family: str) -> None:
    found = bedrock.reader(ask(family, "invoke"), 200, "application/json", {"x-amzn-bedrock-input-token-count": "7"})
    found.feed(b"\x89PNG")
    found.end()
    assert isinstance(found.answered, ModelAnswered)
    assert found.answered.is_unreadable and found.answered.usage == Usage(input_tokens=7)


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"7",
        b'{"type":',
        b"[" * 100_000,
        b'{"usage":{"prompt_tokens":-1},"generation":7,"outputs":[3],"metadata":[],"amazon-bedrock-invocationMetrics":7}',
    ],
    ids=["empty", "list", "bytes", "number", "cut", "deep", "types"],
)
def test_chunks_of_any_content_never_raise(family: str, data: bytes) -> None:
    found = reader(family, data, {"generation": "x"})
    found.feed(event("chunk", b'{"bytes":"no base64"}') + event("chunk", b"{}") + event("other", b"") + event("chunk", b"\xff"))
    found.end()


def test_counts_of_the_head_are_read_or_left() -> None:
    assert head_usage({}) is None
    assert head_usage({"x-amzn-bedrock-input-token-count": "-1", "x-amzn-bedrock-output-token-count": "٣"}) is None
    assert head_usage({"x-amzn-bedrock-input-token-count": "9" * 5_000}) is None
    assert head_usage({"x-amzn-bedrock-output-token-count": "3"}) == Usage(output_tokens=3)


def chunks_of(data: bytes) -> list[Any]:
    return [json.loads(b64decode(json.loads(payload)["bytes"])) for _, payload in Frames().feed(data)]


@pytest.mark.parametrize("family", [family for family, known in FAMILIES.items() if known.last])
def test_a_cut_stream_ends_with_the_vendors_own_last_chunk(family: str) -> None:
    asked = ask(family)
    found = bedrock.reader(asked, 200, FRAMES, {})
    ended = bedrock.ending(asked, found.answered, "upstream_cut")
    found.feed(ended)
    assert isinstance(found.answered, ModelAnswered)
    assert found.answered.finish_reasons[0].upper().endswith(("LENGTH", "MAX_TOKENS"))
    assert bedrock.ending(asked, found.answered, "upstream_cut") == b""


def test_a_cut_message_of_anthropics_is_closed_by_its_own_dialect() -> None:
    asked = ask("anthropic")
    found = bedrock.reader(asked, 200, FRAMES, {})
    found.feed(
        chunk({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}})
        + chunk({"type": "content_block_start", "index": 0, "content_block": {"type": "text"}})
    )
    told = chunks_of(bedrock.ending(asked, found.answered, "upstream_cut"))
    assert [each["type"] for each in told] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_cut_stream_of_novas_is_closed_with_the_events_of_converse() -> None:
    asked = ask("nova")
    found = bedrock.reader(asked, 200, FRAMES, {})
    found.feed(
        chunk({"messageStart": {"role": "assistant"}})
        + chunk({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "a"}}})
    )
    assert [next(iter(each)) for each in chunks_of(bedrock.ending(asked, found.answered, "upstream_cut"))] == [
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]


def test_nothing_ends_a_stream_inside_a_frame() -> None:
    asked = ask("meta")
    found = bedrock.reader(asked, 200, FRAMES, {})
    found.feed(chunk({"generation": "a"})[:-1])
    assert bedrock.ending(asked, found.answered, "upstream_cut") == b""


def test_nothing_ends_what_nobody_knows() -> None:
    asked = ask("openai")
    found = bedrock.reader(asked, 200, FRAMES, {})
    assert bedrock.ending(asked, found.answered, "upstream_cut") == b""
