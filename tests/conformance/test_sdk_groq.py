"""The official `groq` SDK, straight and through the sidecar."""

from typing import Any

import pytest

from sidecar.model.cost import Pricing
from tests.peers.providers import groq as provider
from tests.peers.providers.answer import AnswerTo, cut, oddly, packed, reset, torn
from tests.peers.providers.groq import ARGUMENTS, MODEL, READ_USAGE, Groq
from tests.peers.providers.ways import Application, Heard, Scene, Ways, set_up

groq = pytest.importorskip("groq", reason="groq is not installed (pip install -e '.[sdks]')")

MESSAGES: Any = [{"role": "user", "content": "Grüezi \U0001f600"}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = (("weather", ARGUMENTS),)


def asks(retries: int = 0, **settings: Any) -> Application:
    def application(url: str, heard: Heard) -> Any:
        with groq.Groq(api_key="gsk_test", base_url=url, max_retries=retries) as sdk:
            return sdk.chat.completions.create(model=MODEL, messages=MESSAGES, **settings)

    return application


def streams(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> None:
        with groq.Groq(api_key="gsk_test", base_url=url, max_retries=0) as sdk:
            for chunk in sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **settings):
                heard(chunk)

    return application


async def streams_asynchronously(url: str, heard: Heard) -> None:
    async with groq.AsyncGroq(api_key="gsk_test", base_url=url, max_retries=0) as sdk:
        async for chunk in await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            heard(chunk)


def scene(name: str, application: Application, *answers: AnswerTo, **more: Any) -> Scene:
    return Scene(name, application, answers, MODEL, **more)


DONE = {"usage": READ_USAGE, "finish": ("stop",), "answer_model": MODEL}
CALLED = {**DONE, "finish": ("tool_calls",), "tools": CALL}
TOO_MANY = {"raises": "RateLimitError", "error_type": "rate_limit_exceeded"}
OVERLOADED = {"raises": "InternalServerError", "error_type": "internal_server_error"}
CUT = {"streams": True, "is_ended": False, "pricing": Pricing.ESTIMATED}

SCENES = [
    scene("ok", asks(), provider.chat, **DONE),
    scene("tool", asks(tools=[TOOL]), provider.tool, **CALLED),
    scene("stream", streams(), provider.stream, streams=True, **DONE),
    scene("stream-async", streams_asynchronously, provider.stream, streams=True, **DONE),
    scene("stream-odd", streams(), oddly(provider.stream), streams=True, **DONE),
    scene("stream-gzip", streams(), packed(provider.stream, "gzip"), streams=True, **DONE),
    scene("stream-tool", streams(tools=[TOOL]), provider.stream_tool, streams=True, **CALLED),
    scene("stream-cut", streams(), cut(provider.stream, 3), raises="RemoteProtocolError", **CUT),
    scene("stream-reset", streams(), reset(provider.stream, 3), raises="ReadError", raises_behind="RemoteProtocolError", **CUT),
    scene("stream-error", streams(), provider.stream_fails_within, streams=True, raises="APIError", error_type="invalid_request_error"),
    scene("stream-429", streams(), provider.TOO_MANY, streams=True, **TOO_MANY),
    scene("torn", asks(), torn(provider.chat), raises="APIConnectionError", is_ended=False, pricing=Pricing.ESTIMATED),
    scene("429", asks(), provider.TOO_MANY, **TOO_MANY),
    scene("500", asks(), provider.BROKEN, **OVERLOADED),
    scene("503", asks(), provider.OVERLOADED, **OVERLOADED),
    scene("retried", asks(retries=2), provider.OVERLOADED, provider.chat, requests=2, **DONE),
]  # fmt: skip


@pytest.fixture
async def ways(opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Ways:
    return await set_up(opened, monkeypatch, authority, Groq())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_groq_sees_the_same_with_and_without_us(ways: Ways, scene: Scene) -> None:
    await ways.compare(scene)
