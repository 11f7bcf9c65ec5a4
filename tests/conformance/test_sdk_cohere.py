"""The official `cohere` SDK (v2), straight and through the sidecar."""

from typing import Any

import pytest

from sidecar.model.cost import Pricing
from tests.peers.providers import cohere as provider
from tests.peers.providers.answer import AnswerTo, cut, oddly, packed, torn
from tests.peers.providers.cohere import ARGUMENTS, MODEL, READ_USAGE, Cohere
from tests.peers.providers.ways import Application, Heard, Scene, Ways, at_once, set_up

cohere = pytest.importorskip("cohere", reason="cohere is not installed (pip install -e '.[sdks]')")

MESSAGES: Any = [{"role": "user", "content": "Grüezi \U0001f600"}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = (("weather", ARGUMENTS),)


def client(url: str, retries: int = 0) -> Any:
    return cohere.ClientV2("co-test", base_url=url, max_retries=retries, log_warning_experimental_features=False)


def asks(retries: int = 0, **settings: Any) -> Application:
    def application(url: str, heard: Heard) -> Any:
        with client(url, retries) as sdk:
            return sdk.chat(model=MODEL, messages=MESSAGES, **settings)

    return application


def streams(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> None:
        with client(url) as sdk:
            for happening in sdk.chat_stream(model=MODEL, messages=MESSAGES, **settings):
                heard(happening)

    return application


async def streams_asynchronously(url: str, heard: Heard) -> None:
    async with cohere.AsyncClientV2("co-test", base_url=url, max_retries=0, log_warning_experimental_features=False) as sdk:
        async for happening in sdk.chat_stream(model=MODEL, messages=MESSAGES):
            heard(happening)


def embeds(url: str, heard: Heard) -> Any:
    with client(url) as sdk:
        return sdk.embed(model="embed-v4.0", input_type="search_query", texts=["a", "ü"], embedding_types=["float"])


def scene(name: str, application: Application, *answers: AnswerTo, **more: Any) -> Scene:
    return Scene(name, application, answers, **{"model": MODEL, **more})


DONE = {"usage": READ_USAGE, "finish": ("COMPLETE",)}
CALLED = {"usage": READ_USAGE, "finish": ("TOOL_CALL",), "tools": CALL}
AT_ONCE = (("time.sleep", at_once),)

SCENES = [
    scene("ok", asks(), provider.chat, **DONE),
    scene("tool", asks(tools=[TOOL]), provider.tool, **CALLED),
    scene("stream", streams(), provider.stream, streams=True, **DONE),
    scene("stream-async", streams_asynchronously, provider.stream, streams=True, **DONE),
    scene("stream-odd", streams(), oddly(provider.stream), streams=True, **DONE),
    scene("stream-gzip", streams(), packed(provider.stream, "gzip"), streams=True, **DONE),
    scene("stream-tool", streams(tools=[TOOL]), provider.stream_tool, streams=True, **CALLED),
    scene("stream-cut", streams(), cut(provider.stream, 4), streams=True, raises="RemoteProtocolError", is_ended=False, pricing=Pricing.ESTIMATED),
    scene("stream-429", streams(), provider.TOO_MANY, streams=True, raises="TooManyRequestsError"),
    scene("torn", asks(), torn(provider.chat), raises="RemoteProtocolError", is_ended=False, pricing=Pricing.ESTIMATED),
    scene("429", asks(), provider.TOO_MANY, raises="TooManyRequestsError"),
    scene("500", asks(), provider.BROKEN, raises="InternalServerError"),
    scene("503", asks(), provider.OVERLOADED, raises="ServiceUnavailableError"),
    scene("retried", asks(retries=2), provider.OVERLOADED, provider.TOO_MANY, provider.chat, requests=3, patches=AT_ONCE, **DONE),
    scene("embeddings", embeds, provider.embeddings, model="embed-v4.0", operation="embeddings", usage={"input_tokens": 4}),
]  # fmt: skip


@pytest.fixture
async def ways(opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Ways:
    return await set_up(opened, monkeypatch, authority, Cohere())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_cohere_sees_the_same_with_and_without_us(ways: Ways, scene: Scene) -> None:
    await ways.compare(scene)
