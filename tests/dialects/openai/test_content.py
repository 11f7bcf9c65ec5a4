import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.dialects import openai
from sidecar.dialects.openai.asked import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, OpenAiAsked
from sidecar.dialects.parts import MOST_MESSAGES
from sidecar.model.asked import ModelAsked
from sidecar.model.content import Content
from tests.dialects.shown import part_of, shown

GOLDEN = Path(__file__).parents[1] / "golden" / "openai"
SSE = "text/event-stream; charset=utf-8"

ANSWERS = {
    "chat.json": ["assistant: Hello | <blob audio> [stop]"],
    "chat.sse": ['assistant: Grüße, "world"\n 🌍 [stop]'],
    "chat_crlf.sse": ["assistant: x [stop]"],
    "chat_cut.sse": ["assistant: partly"],
    "chat_error.sse": ["assistant: par"],
    "chat_tools.sse": ['assistant: get_weather({"city":"Köln"})#call_1 | get_time({})#call_2 [tool_calls]'],
    "chat_two_choices.sse": ["assistant: ano [content_filter]", "assistant: bc [length]"],
    "completions.json": ["assistant: This is a test. [stop]", "assistant: Another [length]"],
    "completions.sse": ["assistant: \n\nThis is it [length]"],
    "deepseek.sse": ["assistant: (First second) | 42 [stop]"],
    "embeddings.json": [],
    "error_429.json": [],
    "mistral.sse": ['assistant: (Hm) | Bonjour | f({"a": 1})#D681PevKs [tool_calls]'],
    "perplexity.json": ["assistant: Report [stop]"],
    "responses.json": ['assistant: (Why) | Hi there! | get_weather({"city":"Köln"})#call_9 [completed]'],
    "responses.sse": ["assistant: Hi there! [completed]"],
    "responses_cut.sse": ["assistant: Hi there!"],
    "responses_incomplete.sse": ["assistant: Hi there! [max_output_tokens]"],
    "responses_tools.sse": ['assistant: (Why) | get_weather({"city":"Köln"})#call_9 [completed]'],
}
ENDPOINTS = {"resp": RESPONSES, "compl": COMPLETIONS, "emb": EMBEDDINGS}


def said(request: Any = None, answer: bytes = b"", endpoint: str = CHAT, content_type: str = "application/json") -> Content:
    asked = OpenAiAsked("openai", "embeddings" if endpoint == EMBEDDINGS else "chat", endpoint=endpoint)
    found = openai.content(asked, json.dumps(request).encode() if request is not None else b"", answer, content_type)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_a_golden_answer_is_what_was_said(name: str) -> None:
    endpoint = next((each for start, each in ENDPOINTS.items() if name.startswith(start)), CHAT)
    found = said(None, (GOLDEN / name).read_bytes(), endpoint, SSE if name.endswith("sse") else "application/json")
    assert shown(found.output) == ANSWERS[name]


def test_the_pieces_of_calls_tell_where_the_whole_never_came() -> None:
    answer = (GOLDEN / "responses_tools.sse").read_bytes()
    cut = answer[: answer.index(b"event: response.completed")]
    assert shown(said(None, cut, RESPONSES, SSE).output) == ['assistant: (Why) | get_weather({"city":"Köln"})#call_9']


def test_a_chat_has_roles_names_calls_results_and_media_without_their_bytes() -> None:
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 20
    found = said(
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {
                    "role": "user",
                    "name": "Ada",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": picture}},
                        {"type": "image_url", "image_url": "https://x.example/a.png"},
                        {"type": "input_audio", "input_audio": {"data": "UklGR" * 40, "format": "wav"}},
                        {"type": "file", "file": {"file_id": "file-1"}},
                    ],
                },
                {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}]},
                {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
                {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
                {"role": "assistant", "content": None, "refusal": "No."},
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        }
    )
    assert shown(found.input) == [
        "system: Be brief.",
        "user: What is it? | <image/png image> | <https://x.example/a.png image> | <audio/wav audio> | <file-1 document>",
        'assistant: f({"a":1})#c1',
        "assistant: old({})#",
        "tool: =>one\ntwo#c1",
        "assistant: No.",
    ]
    assert found.input[1].name == "Ada"
    assert json.loads(found.tools) == [{"type": "function", "function": {"name": "f"}}]
    assert "iVBORw0KGgo" not in repr(found) and "UklGR" not in repr(found)


def test_a_file_inside_of_a_request_is_only_of_its_kind() -> None:
    for file_data, kind in (("data:application/pdf;base64,JVBERi0x", "application/pdf"), ("JVBERi0x", "blob")):
        part = {"type": "file", "file": {"file_data": file_data}}
        assert shown(said({"messages": [{"role": "user", "content": [part]}]}).input) == [f"user: <{kind} document>"]


def test_responses_have_instructions_and_items() -> None:
    found = said(
        {
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": "Hi"},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "file_id": "f1"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "done"},
                {"type": "item_reference", "id": "x"},
            ],
        },
        endpoint=RESPONSES,
    )
    assert [part_of(part) for part in found.instructions] == ["Be brief."]
    assert shown(found.input) == ["user: Hi", "user: a | <f1 image>", "assistant: (Hm)", "assistant: f({})#c1", "tool: =>done#c1"]
    assert shown(said({"input": "Just so"}, endpoint=RESPONSES).input) == ["user: Just so"]


@pytest.mark.parametrize(
    ("endpoint", "request_", "expected"),
    [
        (COMPLETIONS, {"prompt": ["one", "two"]}, ["user: one", "user: two"]),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, []),
        (EMBEDDINGS, {"input": "one"}, ["user: one"]),
        (CHAT, {"messages": "nonsense"}, []),
    ],
    ids=["prompts", "tokens", "embedding", "nonsense"],
)
def test_prompts_and_inputs_are_a_users_messages(endpoint: str, request_: Any, expected: list[str]) -> None:
    assert shown(said(request_, endpoint=endpoint).input) == expected


def test_a_request_that_nobody_read_is_taken_for_a_chat() -> None:
    asked = ModelAsked("openai", "chat")
    found = openai.content(asked, b'{"messages":[{"role":"user","content":"Hi"}', b"", "")
    assert found is not None
    assert shown(found.input) == ["user: Hi"]


def test_of_many_messages_the_last_stay() -> None:
    found = said({"messages": [{"role": "user", "content": str(number)} for number in range(1000)]})
    assert (len(found.input), shown(found.input)[-1], found.is_cut) == (MOST_MESSAGES, "user: 999", True)


def test_a_cut_request_keeps_what_had_come() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "first"}, {"role": "user", "content": "second"}]}).encode()
    found = openai.content(OpenAiAsked("openai", "chat"), body[: body.index(b"cond")], b"", "")
    assert found is not None
    assert shown(found.input) == ["user: first", "user: se"]
