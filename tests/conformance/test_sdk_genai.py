"""The official `google-genai` SDK, straight and through the sidecar."""

from typing import Any

import pytest

from sidecar.model.cost import Pricing
from tests.peers.providers import gemini as provider
from tests.peers.providers.answer import AnswerTo, cut, oddly, packed, torn
from tests.peers.providers.gemini import MODEL, READ_USAGE, Gemini
from tests.peers.providers.ways import Application, Heard, Scene, Ways, set_up

genai = pytest.importorskip("google.genai", reason="google-genai is not installed (pip install -e '.[sdks]')")
types = genai.types

CALL = (("weather", '{"city":"Zürich"}'),)

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
"""The SDK inherits from a class of aiohttp that warns of it."""


def client(url: str, version: str | None = None) -> Any:
    return genai.Client(api_key="AIza-test", http_options=types.HttpOptions(base_url=url, api_version=version))


def settings(*, has_tool: bool) -> Any:
    parameters = types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")})
    declared = [types.FunctionDeclaration(name="weather", parameters=parameters)] if has_tool else []
    return types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=declared)] if declared else None, max_output_tokens=100
    )


def asks(*, has_tool: bool = False, version: str | None = None) -> Application:
    def application(url: str, heard: Heard) -> Any:
        with client(url, version) as sdk:
            return sdk.models.generate_content(model=MODEL, contents="Grüezi", config=settings(has_tool=has_tool))

    return application


def streams(*, has_tool: bool = False, version: str | None = None) -> Application:
    def application(url: str, heard: Heard) -> None:
        with client(url, version) as sdk:
            for piece in sdk.models.generate_content_stream(model=MODEL, contents="Grüezi", config=settings(has_tool=has_tool)):
                heard(piece)

    return application


async def streams_asynchronously(url: str, heard: Heard) -> None:
    with client(url) as sdk:
        async with sdk.aio as asynchronous:
            async for piece in await asynchronous.models.generate_content_stream(model=MODEL, contents="Grüezi"):
                heard(piece)


def embeds(url: str, heard: Heard) -> Any:
    with client(url) as sdk:
        return sdk.models.embed_content(model=MODEL, contents=["a", "ü"])


def scene(name: str, application: Application, *answers: AnswerTo, **more: Any) -> Scene:
    return Scene(name, application, answers, MODEL, **{"operation": "generate_content", **more})


DONE = {"usage": READ_USAGE, "finish": ("STOP",), "answer_model": MODEL}
STREAMED = {**DONE, "streams": True}
CUT = {"streams": True, "is_ended": False, "pricing": Pricing.ESTIMATED}
TOO_MANY = {"raises": "ClientError", "error_type": "RESOURCE_EXHAUSTED"}
OVERLOADED = {"raises": "ServerError", "error_type": "UNAVAILABLE"}
BEGUN = {**READ_USAGE, "output_tokens": 3}

SCENES = [
    scene("ok", asks(), provider.content, **DONE),
    scene("ok-v1", asks(version="v1"), provider.content, **DONE),
    scene("ok-v1beta", asks(version="v1beta"), provider.content, **DONE),
    scene("tool", asks(has_tool=True), provider.tool, tools=CALL, **DONE),
    scene("stream", streams(), provider.stream, **STREAMED),
    scene("stream-v1beta", streams(version="v1beta"), provider.stream, **STREAMED),
    scene("stream-async", streams_asynchronously, provider.stream, **STREAMED),
    scene("stream-odd", streams(), oddly(provider.stream), **STREAMED),
    scene("stream-gzip", streams(), packed(provider.stream, "gzip"), **STREAMED),
    scene("stream-tool", streams(has_tool=True), provider.stream_tool, tools=CALL, **STREAMED),
    scene("stream-cut", streams(), cut(provider.stream, 2), raises="RemoteProtocolError", usage=BEGUN, **CUT),
    scene("stream-unavailable", streams(), provider.stream_unavailable, **{**CUT, **OVERLOADED, "is_ended": True, "usage": {**BEGUN, "output_tokens": 1}, "pricing": "estimated"}),
    scene("stream-429", streams(), provider.TOO_MANY, streams=True, **TOO_MANY),
    scene("torn", asks(), torn(provider.content), raises="RemoteProtocolError", is_ended=False, pricing=Pricing.ESTIMATED),
    scene("429", asks(), provider.TOO_MANY, **TOO_MANY),
    scene("500", asks(), provider.BROKEN, raises="ServerError", error_type="INTERNAL"),
    scene("503", asks(), provider.OVERLOADED, **OVERLOADED),
    scene("embeddings", embeds, provider.embeddings, operation="embeddings", pricing=Pricing.ESTIMATED),
]  # fmt: skip


@pytest.fixture
async def ways(opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Ways:
    return await set_up(opened, monkeypatch, authority, Gemini())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_genai_sees_the_same_with_and_without_us(ways: Ways, scene: Scene) -> None:
    await ways.compare(scene)
