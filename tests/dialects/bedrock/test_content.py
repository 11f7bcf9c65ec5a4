import json
from typing import Any

import pytest

from sidecar.dialects import bedrock
from sidecar.dialects.bedrock.asked import BedrockAsked
from sidecar.model.asked import ModelAsked
from sidecar.model.content import Content
from tests.dialects.shown import part_of, shown
from tests.dialects.transcripts import Transcript, transcripts

TRANSCRIPTS = {transcript.name: transcript for transcript in transcripts("bedrock", bedrock)}
WEATHER = "user: How is the weather in Zürich?"
SAID = {
    "converse": [WEATHER, 'assistant: (Ask the tool.) | I look it up, Grüezi. | get_weather({"city":"Zürich"})#tooluse_Zq1 [tool_use]'],
    "converse_refused": [WEATHER],
    "converse_stream": [WEATHER, 'assistant: (Ask) | Grüezi 👋 | get_weather({"city": "Bern"})#tooluse_Zq1 [tool_use]'],
    "converse_stream_throttled": [WEATHER, "assistant: Hal"],
    "invoke_anthropic": ["user: Hi", "assistant: Hello! [end_turn]"],
    "invoke_anthropic_stream": ["user: Hi", 'assistant: Hello "you" there | get_weather({"city":"Bern"})#toolu_bdrk_1 [tool_use]'],
    "invoke_cohere": ["user: Hi", "assistant: Hey [COMPLETE]"],
    "invoke_llama_stream": ["user: <|begin_of_text|>Hi", "assistant: \n\nHello [stop]"],
    "invoke_mistral": ["user: Hi", "assistant: Hello. [stop]"],
    "invoke_nova_stream": ["user: Hi", "assistant: Hi! [end_turn]"],
    "invoke_titan": ["user: hello", "assistant: Hello [FINISH]"],
    "invoke_titan_embed": ["user: hello"],
    "invoke_titan_stream": ["user: hello", "assistant: Hello there [FINISH]"],
}


def of(transcript: Transcript, answer: bytes | None = None) -> Content:
    answer = transcript.body if answer is None else answer
    found = bedrock.content(transcript.ask(), transcript.request_body, answer, transcript.content_type)
    assert found is not None
    return found


@pytest.mark.parametrize("name", SAID)
def test_a_golden_transcript_is_what_was_said(name: str) -> None:
    found = of(TRANSCRIPTS[name])
    assert shown(found.input + found.output) == SAID[name]


def test_a_stream_cut_in_a_frame_has_the_frames_before_it() -> None:
    transcript = TRANSCRIPTS["converse_stream"]
    texts = {"".join(shown(of(transcript, transcript.body[:end]).output)) for end in range(0, len(transcript.body), 7)}
    assert {"", "assistant: (Ask)"} < texts


def test_a_request_of_converse_has_blocks_of_all_kinds_without_their_bytes() -> None:
    data = "iVBORw0KGgo" * 20
    request: Any = {
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "Look"},
                    {"image": {"format": "png", "source": {"bytes": data}}},
                    {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/v.mp4"}}}},
                    {"guardContent": {"text": {"text": "guarded"}}},
                ],
            },
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"json": {"ok": True}}]}}]},
        ],
    }
    asked = BedrockAsked("bedrock", "chat")
    for one in (asked, ModelAsked("bedrock", "chat")):
        found = bedrock.content(one, json.dumps(request).encode(), b"", "")
        assert found is not None
        assert [part_of(part) for part in found.instructions] == ["Be brief."]
        assert shown(found.input) == [
            "user: Look | <image/png image> | <s3://b/v.mp4 video> | guarded", 'assistant: f({"a":1})#t1', 'tool: =>{"ok":true}#t1',
        ]  # fmt: skip
        assert "iVBORw0KGgo" not in repr(found)
