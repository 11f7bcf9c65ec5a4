"""The official `mistralai` SDK, straight and through the sidecar."""

from typing import Any

import pytest

from sidecar.model.cost import Pricing
from tests.peers.providers import mistral as provider
from tests.peers.providers.answer import AnswerTo, cut, oddly, packed, torn
from tests.peers.providers.mistral import ARGUMENTS, MODEL, READ_USAGE, Mistral
from tests.peers.providers.ways import Application, Heard, Scene, Ways, set_up

mistral = pytest.importorskip("mistralai.client", reason="mistralai is not installed (pip install -e '.[sdks]')")

MESSAGES: Any = [{"role": "user", "content": "Grüezi \U0001f600"}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = (("weather", ARGUMENTS),)


def client(url: str) -> Any:
    return mistral.Mistral(api_key="mistral-test", server_url=url)


def asks(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> Any:
        with client(url) as sdk:
            return sdk.chat.complete(model=MODEL, messages=MESSAGES, **settings)

    return application


def streams(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> None:
        with client(url) as sdk, sdk.chat.stream(model=MODEL, messages=MESSAGES, **settings) as stream:
            for happening in stream:
                heard(happening.data)

    return application


async def streams_asynchronously(url: str, heard: Heard) -> None:
    async with client(url) as sdk, await sdk.chat.stream_async(model=MODEL, messages=MESSAGES) as stream:
        async for happening in stream:
            heard(happening.data)


def embeds(url: str, heard: Heard) -> Any:
    with client(url) as sdk:
        return sdk.embeddings.create(model="mistral-embed", inputs=["a", "ü"])


def scene(name: str, application: Application, *answers: AnswerTo, **more: Any) -> Scene:
    return Scene(name, application, answers, **{"model": MODEL, **more})


DONE = {"usage": READ_USAGE, "finish": ("stop",), "answer_model": MODEL}
CALLED = {**DONE, "finish": ("tool_calls",), "tools": CALL}
TOO_MANY = {"raises": "SDKError", "error_type": "rate_limited"}

SCENES = [
    scene("ok", asks(), provider.chat, **DONE),
    scene("tool", asks(tools=[TOOL]), provider.tool, **CALLED),
    scene("stream", streams(), provider.stream, streams=True, **DONE),
    scene("stream-async", streams_asynchronously, provider.stream, streams=True, **DONE),
    scene("stream-odd", streams(), oddly(provider.stream), streams=True, **DONE),
    scene("stream-gzip", streams(), packed(provider.stream, "gzip"), streams=True, **DONE),
    scene("stream-tool", streams(tools=[TOOL]), provider.stream_tool, streams=True, **CALLED),
    scene("stream-cut", streams(), cut(provider.stream, 3), streams=True, raises="RemoteProtocolError", is_ended=False, pricing=Pricing.ESTIMATED),
    scene("stream-429", streams(), provider.TOO_MANY, streams=True, **TOO_MANY),
    scene("torn", asks(), torn(provider.chat), raises="RemoteProtocolError", is_ended=False, pricing=Pricing.ESTIMATED),
    scene("429", asks(), provider.TOO_MANY, **TOO_MANY),
    scene("500", asks(), provider.BROKEN, raises="SDKError", error_type="internal_server_error"),
    scene("503", asks(), provider.OVERLOADED, raises="SDKError", error_type="service_unavailable"),
    scene("embeddings", embeds, provider.embeddings, model="mistral-embed", operation="embeddings", usage={"input_tokens": 6}),
]  # fmt: skip


@pytest.fixture
async def ways(opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Ways:
    return await set_up(opened, monkeypatch, authority, Mistral())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_mistral_sees_the_same_with_and_without_us(ways: Ways, scene: Scene) -> None:
    await ways.compare(scene)
