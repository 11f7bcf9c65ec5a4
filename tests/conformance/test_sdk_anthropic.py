"""The official `anthropic` SDK, straight and through the sidecar."""

from typing import Any

import anthropic
import pytest

from sidecar.model.cost import Pricing
from tests.peers.providers import anthropic as provider
from tests.peers.providers.answer import AnswerTo, cut, oddly, packed, torn
from tests.peers.providers.anthropic import FULL_MODEL, MODEL, READ_USAGE, Anthropic
from tests.peers.providers.ways import Application, Heard, Scene, Ways, set_up

MESSAGES: Any = [{"role": "user", "content": "Grüezi \U0001f600"}]
TOOL: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


def asks(retries: int = 0, **settings: Any) -> Application:
    """One message, with the request id that the response head tells."""

    def application(url: str, heard: Heard) -> Any:
        with anthropic.Anthropic(api_key="sk-ant-test", base_url=url, max_retries=retries) as sdk:
            answer = sdk.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, **settings)
            return [answer, answer._request_id]

    return application


def streams(**settings: Any) -> Application:
    """One message, streamed synchronously: each event as it comes."""

    def application(url: str, heard: Heard) -> None:
        with anthropic.Anthropic(api_key="sk-ant-test", base_url=url, max_retries=0) as sdk:
            for happening in sdk.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, stream=True, **settings):
                heard(happening)

    return application


async def streams_asynchronously(url: str, heard: Heard) -> None:
    async with anthropic.AsyncAnthropic(api_key="sk-ant-test", base_url=url, max_retries=0) as sdk:
        async for happening in await sdk.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, stream=True):
            heard(happening)


def accumulates(url: str, heard: Heard) -> Any:
    """The SDK's own helper, which puts the events together; it adds events of its own, which the provider does not wait for."""
    kinds = {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
    with (
        anthropic.Anthropic(api_key="sk-ant-test", base_url=url, max_retries=0) as sdk,
        sdk.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream,
    ):
        for happening in stream:
            if happening.type in kinds:
                heard(happening.type)
        return stream.get_final_message()


def scene(name: str, application: Application, *answers: AnswerTo, **more: Any) -> Scene:
    return Scene(name, application, answers, MODEL, **more)


INPUT = {name: count for name, count in READ_USAGE.items() if name != "output_tokens"}
DONE = {"usage": READ_USAGE, "finish": ("end_turn",), "answer_model": FULL_MODEL}
CALLED = {"usage": READ_USAGE, "finish": ("tool_use",), "answer_model": FULL_MODEL}
CUT = {
    "raises": "RemoteProtocolError", "usage": {**INPUT, "output_tokens": 1}, "is_ended": False, "pricing": Pricing.ESTIMATED, "streams": True,
}  # fmt: skip
TOO_MANY = {"raises": "RateLimitError", "error_type": "rate_limit_error"}

SCENES = [
    scene("ok", asks(), provider.message, **DONE),
    scene("tool", asks(tools=[TOOL]), provider.tool, tools=(("weather", '{"city":"Zürich"}'),), **CALLED),
    scene("stream", streams(), provider.stream, streams=True, **DONE),
    scene("stream-async", streams_asynchronously, provider.stream, streams=True, **DONE),
    scene("stream-helper", accumulates, provider.stream, streams=True, **DONE),
    scene("stream-odd", streams(), oddly(provider.stream), streams=True, **DONE),
    scene("stream-gzip", streams(), packed(provider.stream, "gzip"), streams=True, **DONE),
    scene("stream-br", streams(), packed(provider.stream, "br"), streams=True, **DONE),
    scene("stream-zstd", streams(), packed(provider.stream, "zstd"), streams=True, **DONE),
    scene("stream-gzip-odd", streams(), packed(oddly(provider.stream), "gzip"), streams=True, **DONE),
    scene("ok-zstd", asks(), packed(provider.message, "zstd"), **DONE),
    scene("stream-tool", streams(tools=[TOOL]), provider.stream_tool, streams=True, tools=(("weather", '{"city": "Zürich"}'),), **CALLED),
    scene("stream-cut", streams(), cut(provider.stream, 4), **CUT),
    scene("stream-overloaded", streams(), provider.stream_overloaded, **{**CUT, "raises": "APIStatusError", "error_type": "overloaded_error", "is_ended": True, "pricing": "estimated"}),
    scene("stream-429", streams(), provider.TOO_MANY, streams=True, **TOO_MANY),
    scene("torn", asks(), torn(provider.message), raises="APIConnectionError", is_ended=False, pricing=Pricing.ESTIMATED),
    scene("429", asks(), provider.TOO_MANY, **TOO_MANY),
    scene("500", asks(), provider.BROKEN, raises="InternalServerError", error_type="api_error"),
    scene("503", asks(), provider.UNAVAILABLE, raises="ServiceUnavailableError", error_type="api_error"),
    scene("529", asks(), provider.OVERLOADED, raises="OverloadedError", error_type="overloaded_error"),
    scene("retried", asks(retries=2), provider.OVERLOADED, provider.TOO_MANY, provider.message, requests=3, **DONE),
]  # fmt: skip


@pytest.fixture
async def ways(opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Ways:
    return await set_up(opened, monkeypatch, authority, Anthropic())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_anthropic_sees_the_same_with_and_without_us(ways: Ways, scene: Scene) -> None:
    await ways.compare(scene)
