import json
from pathlib import Path
from typing import Any

import httpx2
import openai as sdk
import pytest

from sidecar.dialects import openai
from sidecar.dialects.dialect import Reader
from sidecar.dialects.openai.asked import OpenAiAsked
from sidecar.dialects.openai.ending import ending
from sidecar.dialects.sse import EventStream
from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import Asked

GOLDEN = Path(__file__).parent.parent / "golden" / "openai"
CHAT = OpenAiAsked("openai", "chat", True, model="gpt-5", endpoint="chat/completions")
COMPLETIONS = OpenAiAsked("openai", "text_completion", True, model="gpt-5", endpoint="completions")
RESPONSES = OpenAiAsked("openai", "chat", True, model="gpt-5", endpoint="responses")


def cut(asked: OpenAiAsked, name: str, events: int) -> tuple[bytes, Reader]:
    """The first events of a golden stream, and the reader that has seen them."""
    blocks = (GOLDEN / name).read_bytes().split(b"\n\n")[:events]
    seen = b"".join(block + b"\n\n" for block in blocks)
    reader = openai.reader(asked, 200, "text/event-stream", {})
    reader.feed(seen)
    return seen, reader


def client(stream: bytes) -> sdk.OpenAI:
    answer = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)
    return sdk.OpenAI(api_key="k", base_url="http://sidecar/v1", http_client=httpx2.Client(transport=httpx2.MockTransport(lambda request: answer)))


@pytest.mark.parametrize("events", [0, 1, 3, 5])
def test_the_sdk_sees_a_chat_that_its_length_ended(events: int) -> None:
    seen, reader = cut(CHAT, "chat.sse", events)
    stream = seen + ending(CHAT, reader.answered, "stopped")
    with (
        client(stream) as openai_client,
        openai_client.chat.completions.stream(model="gpt-5", messages=[]) as chat,
        pytest.raises(sdk.LengthFinishReasonError) as raised,
    ):
        chat.get_final_completion()
    completion = raised.value.completion
    assert completion.choices[0].finish_reason == "length"
    assert completion.model == (reader.answered.model or "gpt-5")  # type: ignore[attr-defined]  # a ModelAnswered
    with client(stream) as openai_client:
        chunks = list(openai_client.chat.completions.create(model="gpt-5", messages=[], stream=True))
    assert len({chunk.id for chunk in chunks}) == len({chunk.created for chunk in chunks}) == 1
    assert [choice.finish_reason for choice in chunks[-1].choices] == ["length"]


def test_every_choice_that_has_not_finished_is_finished() -> None:
    seen, reader = cut(CHAT, "chat_two_choices.sse", 6)
    with client(seen + ending(CHAT, reader.answered, "stopped")) as openai_client:
        chunks = list(openai_client.chat.completions.create(model="gpt-5", messages=[], stream=True))
    reasons = {choice.index: choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason}
    assert reasons == {0: "length", 1: "length"}
    _, reader = cut(CHAT, "chat_two_choices.sse", 7)
    (_, last), done = EventStream().feed(b"\n" + ending(CHAT, reader.answered, "stopped"))
    assert [choice["index"] for choice in json.loads(last)["choices"]] == [0]
    assert done == (b"", b"[DONE]")


def test_a_chat_that_had_only_to_say_done_says_it() -> None:
    _, reader = cut(CHAT, "chat.sse", 6)
    assert ending(CHAT, reader.answered, "stopped") == b"data: [DONE]\n\n"


@pytest.mark.parametrize("events", [0, 2])
def test_the_sdk_sees_a_completion_that_its_length_ended(events: int) -> None:
    seen, reader = cut(COMPLETIONS, "completions.sse", events)
    with client(seen + ending(COMPLETIONS, reader.answered, "stopped")) as openai_client:
        chunks = list(openai_client.completions.create(model="gpt-5", prompt="x", stream=True))
    assert len(chunks) == events + 1
    assert (chunks[-1].object, chunks[-1].choices[0].finish_reason) == ("text_completion", "length")


@pytest.mark.parametrize("events", [0, 1, 4, 7])
def test_the_sdk_sees_a_response_that_its_length_ended(events: int) -> None:
    seen, reader = cut(RESPONSES, "responses.sse", events)
    stream = seen + ending(RESPONSES, reader.answered, "stopped")
    with client(stream) as openai_client:
        told: list[Any] = list(openai_client.responses.create(model="gpt-5", input="x", stream=True))
    assert [each.sequence_number for each in told] == list(range(max(events, 1) + 1))
    assert (told[-1].type, told[-1].response.status, told[-1].response.incomplete_details.reason) == ("response.incomplete", "incomplete", "max_output_tokens")
    assert told[-1].response.id == told[0].response.id
    type(told[-1]).model_validate(json.loads(EventStream().feed(b"\n" + stream)[-1][1]), strict=True)
    with client(stream) as openai_client, openai_client.responses.stream(model="gpt-5", input="x") as events_of:
        assert [each.type for each in events_of][-1] == "response.incomplete"


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (CHAT, ModelAnswered(is_ended=True)),
        (OpenAiAsked("openai", "chat", False), ModelAnswered()),
        (OpenAiAsked("openai", "embeddings", True, endpoint="embeddings"), ModelAnswered()),
        (Asked("openai", "chat", True), Answered()),
    ],
    ids=range(4),
)
def test_what_has_ended_or_is_no_stream_needs_no_end(asked: Asked, answered: Answered) -> None:
    assert ending(asked, answered, "stopped") == b""


def test_many_choices_that_were_only_asked_for_are_bounded() -> None:
    asked = OpenAiAsked("openai", "chat", True, choices=10**9)
    assert len(ending(asked, ModelAnswered(), "stopped")) < 20_000
