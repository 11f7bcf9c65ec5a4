import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.dialects import gemini
from sidecar.model.asked import ModelAsked
from sidecar.model.content import Content
from tests.dialects.shown import part_of, shown

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini"
ANSWERS = {
    "blocked.sse": [],
    "compact.array.json": ['assistant: Hello wörld, how are "you"?\n [STOP]'],
    "cut.sse": ["assistant: Hello wörld, how are"],
    "modalities.json": ["assistant: <image/png image> | 1+1 [STOP]"],
    "quota.array.json": [],
    "text.array.json": ['assistant: Hello wörld, how are "you"?\n [STOP]'],
    "text.sse": ['assistant: Hello wörld, how are "you"?\n [STOP]'],
    "tools.sse": ['assistant: (**Plan**\n\nI think) | get_weather({"city":"Köln"})#fc_1 | now({})# [STOP]'],
    "unavailable_bare.sse": ["assistant: Hel"],
    "whole.json": ["assistant: One [STOP]", "assistant: Two [MAX_TOKENS]"],
}


def said(request: Any = None, answer: bytes = b"", content_type: str = "application/json", operation: str = "chat") -> Content:
    body = json.dumps(request).encode() if request is not None else b""
    found = gemini.content(ModelAsked("gemini", operation), body, answer, content_type)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_a_golden_answer_is_what_was_said(name: str) -> None:
    content_type = "text/event-stream" if name.endswith("sse") else "application/json"
    assert shown(said(None, (GOLDEN / name).read_bytes(), content_type).output) == ANSWERS[name]


def test_a_request_is_read_in_both_spellings_without_bytes() -> None:
    data = "iVBORw0KGgo" * 20
    found = said(
        {
            "system_instruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Look"}, {"inline_data": {"mime_type": "image/png", "data": data}}]},
                {"role": "user", "parts": [{"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/v.mp4"}}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"ok": True}}}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "f"}]}],
        }
    )
    assert [part_of(part) for part in found.instructions] == ["Be brief."]
    assert shown(found.input) == [
        "user: Look | <image/png image>", "user: <gs://b/v.mp4 video>", 'assistant: f({"a":1})#', 'tool: =>{"ok":true}#f',
    ]  # fmt: skip
    assert json.loads(found.tools) == [{"functionDeclarations": [{"name": "f"}]}]
    assert "iVBORw0KGgo" not in repr(found)


def test_what_is_embedded_is_the_input_and_vectors_are_no_output() -> None:
    request = {"requests": [{"content": {"parts": [{"text": "one"}]}}, {"content": {"parts": [{"text": "two"}]}}]}
    found = said(request, (GOLDEN / "embedding.json").read_bytes(), operation="embeddings")
    assert (shown(found.input), found.output) == (["user: one", "user: two"], [])
