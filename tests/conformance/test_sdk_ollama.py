"""The official `ollama` SDK, straight and through the sidecar."""

from typing import Any

import pytest

from sidecar.model.cost import Pricing
from tests.peers.providers import ollama as provider
from tests.peers.providers.answer import AnswerTo, cut, oddly, packed, torn
from tests.peers.providers.ollama import MODEL, READ_USAGE, Ollama
from tests.peers.providers.ways import Application, Heard, Scene, Ways, set_up

ollama = pytest.importorskip("ollama", reason="ollama is not installed (pip install -e '.[sdks]')")

MESSAGES: Any = [{"role": "user", "content": "Grüezi \U0001f600"}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = (("weather", '{"city":"Zürich"}'),)


def chats(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> Any:
        with ollama.Client(url) as sdk:
            return sdk.chat(MODEL, MESSAGES, **settings)

    return application


def streams(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> None:
        with ollama.Client(url) as sdk:
            for line in sdk.chat(MODEL, MESSAGES, stream=True, **settings):
                heard(line)

    return application


async def streams_asynchronously(url: str, heard: Heard) -> None:
    async with ollama.AsyncClient(url) as sdk:
        async for line in await sdk.chat(MODEL, MESSAGES, stream=True):
            heard(line)


def generates(url: str, heard: Heard) -> Any:
    with ollama.Client(url) as sdk:
        return sdk.generate(MODEL, "Say hello")


def generates_by_the_word(url: str, heard: Heard) -> None:
    with ollama.Client(url) as sdk:
        for line in sdk.generate(MODEL, "Say hello", stream=True):
            heard(line)


def embeds(url: str, heard: Heard) -> Any:
    with ollama.Client(url) as sdk:
        return sdk.embed(MODEL, ["a", "ü"])


def scene(name: str, application: Application, *answers: AnswerTo, **more: Any) -> Scene:
    return Scene(name, application, answers, MODEL, **more)


DONE = {"usage": READ_USAGE, "finish": ("stop",), "answer_model": MODEL}
COMPLETED = {**DONE, "operation": "text_completion"}
CUT = {"streams": True, "is_ended": False, "pricing": Pricing.ESTIMATED}

SCENES = [
    scene("ok", chats(), provider.chat, **DONE),
    scene("tool", chats(tools=[TOOL]), provider.tool, tools=CALL, **DONE),
    scene("stream", streams(), provider.chat_stream, streams=True, **DONE),
    scene("stream-async", streams_asynchronously, provider.chat_stream, streams=True, **DONE),
    scene("stream-odd", streams(), oddly(provider.chat_stream), streams=True, **DONE),
    scene("stream-gzip", streams(), packed(provider.chat_stream, "gzip"), streams=True, **DONE),
    scene("stream-tool", streams(tools=[TOOL]), provider.tool_stream, streams=True, tools=CALL, **DONE),
    scene("stream-cut", streams(), cut(provider.chat_stream, 3), raises="RemoteProtocolError", **CUT),
    scene("stream-error", streams(), provider.stream_fails_within, **{**CUT, "raises": "ResponseError", "error_type": "error", "is_ended": True}),
    scene("stream-429", streams(), provider.TOO_MANY, streams=True, raises="ResponseError"),
    scene("torn", chats(), torn(provider.chat), raises="RemoteProtocolError", is_ended=False, pricing=Pricing.ESTIMATED),
    scene("429", chats(), provider.TOO_MANY, raises="ResponseError"),
    scene("500", chats(), provider.BROKEN, raises="ResponseError"),
    scene("503", chats(), provider.OVERLOADED, raises="ResponseError"),
    scene("generate", generates, provider.generate, **COMPLETED),
    scene("generate-stream", generates_by_the_word, provider.generate_stream, streams=True, **COMPLETED),
    scene("generate-cut", generates_by_the_word, cut(provider.generate_stream, 1), operation="text_completion", raises="RemoteProtocolError", **CUT),
    scene("embeddings", embeds, provider.embeddings, operation="embeddings", usage={"input_tokens": 4}, answer_model=MODEL),
]  # fmt: skip


@pytest.fixture
async def ways(opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Ways:
    return await set_up(opened, monkeypatch, authority, Ollama())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_ollama_sees_the_same_with_and_without_us(ways: Ways, scene: Scene) -> None:
    await ways.compare(scene)
