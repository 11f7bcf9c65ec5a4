import json
from typing import Any

import pytest

from sidecar.dialects import cohere
from sidecar.model.asked import ModelAsked
from tests.dialects.shown import part_of, shown
from tests.dialects.transcripts import transcripts

TRANSCRIPTS = {transcript.name: transcript for transcript in transcripts("cohere", cohere)}
WEATHER = "user: Weather in Zürich?"
SAID = {
    "chat": [WEATHER, 'assistant: (I ask.) | (Hm) | Grüezi | get_weather({"city":"Zürich"})#get_weather_0 [TOOL_CALL]'],
    "chat_stream": [WEATHER, "assistant: Grüezi [COMPLETE]"],
    "chat_stream_error": [WEATHER, "assistant:  [ERROR]"],
    "chat_stream_tools": [WEATHER, 'assistant: (I will) | get_weather({"city":"Zürich"})#get_weather_1 [TOOL_CALL]'],
    "chat_tokens_only": ["user: What is it? | <https://example.org/cat.png image>", "assistant: {} [COMPLETE]"],
    "embed": ["user: hello"],
    "refused": [WEATHER],
    "v1_chat": ["user: Hi", 'assistant: Hi you | get_weather({"city":"Bern"})# [COMPLETE]'],
    "v1_chat_stream": ["user: Hi", 'assistant: Hi you | get_weather({"city":"Bern"})# [COMPLETE]'],
}


@pytest.mark.parametrize("name", SAID)
def test_a_golden_transcript_is_what_was_said(name: str) -> None:
    transcript = TRANSCRIPTS[name]
    found = cohere.content(transcript.ask(), transcript.request_body, transcript.body, transcript.content_type)
    assert found is not None
    assert shown(found.input + found.output) == SAID[name]


def test_the_history_of_v1_and_results_of_tools_are_messages() -> None:
    old: Any = {"preamble": "Be brief.", "chat_history": [{"role": "CHATBOT", "message": "Yes?"}], "message": "Hi"}
    new: Any = {"messages": [{"role": "assistant", "tool_plan": "Ask"}, {"role": "tool", "tool_call_id": "t1", "content": "done"}]}
    asked = ModelAsked("cohere", "chat")
    found = cohere.content(asked, json.dumps(old).encode(), b"", "")
    assert found is not None
    assert [part_of(part) for part in found.instructions] == ["Be brief."]
    assert shown(found.input) == ["assistant: Yes?", "user: Hi"]
    found = cohere.content(asked, json.dumps(new).encode(), b"", "")
    assert found is not None
    assert shown(found.input) == ["assistant: (Ask)", "tool: =>done#t1"]
