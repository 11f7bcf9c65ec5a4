import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.dialects import anthropic
from sidecar.model.asked import ModelAsked
from sidecar.model.content import Content
from tests.dialects.shown import part_of, shown

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic"
ANSWERS = {
    "cut.sse": ["assistant: Hello"],
    "overloaded.sse": ["assistant: Hel"],
    "rate_limit.json": [],
    "text.sse": ['assistant: Hello, wörld! "Yes"\nand [end_turn]'],
    "thinking.sse": ["assistant: (17 × 23 is 391) | 391 [end_turn]"],
    "tools.sse": ['assistant: Looking | get_weather({"city": "São Paulo"})#toolu_01A | now({})#toolu_01B [tool_use]'],
    "whole.json": ["assistant: Grüß Gott [max_tokens]"],
    "whole_tools.json": ['assistant: (hm) | f({"a":[1,2]})#toolu_9 | web_fetch({"url":"u"})#srvtoolu_9 [tool_use]'],
}


def said(request: Any = None, answer: bytes = b"", content_type: str = "application/json") -> Content:
    body = json.dumps(request).encode() if request is not None else b""
    found = anthropic.content(ModelAsked("anthropic", "chat"), body, answer, content_type)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_a_golden_answer_is_what_was_said(name: str) -> None:
    content_type = "text/event-stream" if name.endswith("sse") else "application/json"
    assert shown(said(None, (GOLDEN / name).read_bytes(), content_type).output) == ANSWERS[name]


def test_what_a_tool_of_the_providers_found_is_its_answer() -> None:
    parts = said(None, (GOLDEN / "search.sse").read_bytes(), "text/event-stream").output[0].parts
    assert [part.id for part in parts] == ["srvtoolu_1", "srvtoolu_1", ""]
    assert json.loads(parts[1].json)[0]["title"] == "SRE"


def test_a_request_has_blocks_of_all_kinds_without_their_bytes() -> None:
    data = "iVBORw0KGgo" * 20
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    found = said(
        {
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "Hi"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look"},
                        image,
                        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
                        {"type": "document", "source": {"type": "file", "file_id": "f1"}},
                        {"type": "document", "source": {"type": "text", "data": "plain"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "Hm"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [image]}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}, {"type": "text", "text": "so?"}]},
            ],
            "tools": [{"name": "f"}],
        }
    )
    assert [part_of(part) for part in found.instructions] == ["Be brief."]
    assert shown(found.input) == [
        "user: Hi",
        "user: Look | <image/png image> | <https://x.example/a.png image> | <f1 document> | plain",
        'assistant: (Hm) | f({"a":1})#t1',
        'tool: =>[{"type":"image","source":{"type":"base64","media_type":"image/png","data":""}}]#t1',
        "user: =>ok#t1 | so?",
    ]
    assert found.tools == b'[{"name":"f"}]'
    assert "iVBORw0KGgo" not in repr(found)
