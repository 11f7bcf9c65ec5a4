"""
boto3's client of Bedrock, with signed requests, straight and through the sidecar.

An API key instead of a signature is nothing for a sidecar on http://: botocore sends one to HTTPS endpoints only.
"""

import json
from contextlib import closing
from functools import cache
from typing import Any

import pytest

from sidecar.model.cost import Pricing
from tests.peers.providers import bedrock as provider
from tests.peers.providers.answer import AnswerTo, cut, oddly, torn
from tests.peers.providers.bedrock import ACCESS_KEY, MODEL, READ_INNER_USAGE, READ_USAGE, REGION, SECRET_KEY, Bedrock
from tests.peers.providers.ways import Application, Heard, Scene, Ways, at_once, set_up

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (pip install -e '.[sdks]')")
config = pytest.importorskip("botocore.config")

MESSAGES: Any = [{"role": "user", "content": [{"text": "Grüezi \U0001f600"}]}]
TOOLS: Any = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}]}
BODY = json.dumps(
    {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": [{"role": "user", "content": "Grüezi"}]}
)


@cache
def session() -> Any:
    """One for all: it reads a big model of AWS's services."""
    return boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)


def client(url: str, retries: int = 0) -> Any:
    return session().client(
        "bedrock-runtime", endpoint_url=url, config=config.Config(retries={"max_attempts": retries, "mode": "standard"})
    )


def converses(retries: int = 0, **settings: Any) -> Application:
    def application(url: str, heard: Heard) -> Any:
        with closing(client(url, retries)) as sdk:
            return sdk.converse(modelId=MODEL, messages=MESSAGES, **settings)

    return application


def streams(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> None:
        with (
            closing(client(url)) as sdk,
            closing(sdk.converse_stream(modelId=MODEL, messages=MESSAGES, **settings)["stream"]) as stream,
        ):
            for happening in stream:
                heard(happening)

    return application


def invokes(url: str, heard: Heard) -> Any:
    with closing(client(url)) as sdk:
        told = sdk.invoke_model(modelId=MODEL, body=BODY)
        return [{name: value for name, value in told.items() if name != "body"}, json.loads(told["body"].read())]


def invokes_and_streams(url: str, heard: Heard) -> None:
    with closing(client(url)) as sdk, closing(sdk.invoke_model_with_response_stream(modelId=MODEL, body=BODY)["body"]) as stream:
        for happening in stream:
            heard(json.loads(happening["chunk"]["bytes"]))


def scene(name: str, application: Application, *answers: AnswerTo, **more: Any) -> Scene:
    return Scene(name, application, answers, MODEL, **more)


DONE = {"usage": READ_USAGE, "finish": ("end_turn",)}
CALLED = {"usage": READ_USAGE, "finish": ("tool_use",)}
INVOKED = {"usage": READ_INNER_USAGE, "finish": ("end_turn",)}
CUT = {"streams": True, "is_ended": False, "pricing": Pricing.ESTIMATED}
TOO_MANY = {"raises": "ThrottlingException", "error_type": "ThrottlingException"}
AT_ONCE = (("time.sleep", at_once),)

SCENES = [
    scene("converse-ok", converses(), provider.converse, **DONE),
    scene("converse-tool", converses(toolConfig=TOOLS), provider.converse_tool, tools=(("weather", '{"city":"Zürich"}'),), **CALLED),
    scene("converse-stream", streams(), provider.converse_stream, streams=True, **DONE),
    scene("converse-stream-odd", streams(), oddly(provider.converse_stream), streams=True, **DONE),
    scene("converse-stream-tool", streams(toolConfig=TOOLS), provider.converse_stream_tool, streams=True, tools=(("weather", '{"city": "Zürich"}'),), **CALLED),
    scene("converse-stream-cut", streams(), cut(provider.converse_stream, 3), raises="ProtocolError", **CUT),
    scene("converse-stream-cut-in-a-frame", streams(), cut(oddly(provider.converse_stream), 40), raises="ProtocolError", **CUT),
    scene("converse-stream-throttled", streams(), provider.converse_stream_throttled, **{**CUT, "raises": "EventStreamError", "error_type": "throttlingException", "is_ended": True}),
    scene("converse-stream-429", streams(), provider.TOO_MANY, streams=True, **TOO_MANY),
    scene("converse-torn", converses(), torn(provider.converse), is_ended=False, pricing=Pricing.ESTIMATED),
    scene("converse-429", converses(), provider.TOO_MANY, **TOO_MANY),
    scene("converse-500", converses(), provider.BROKEN, raises="InternalServerException", error_type="InternalServerException"),
    scene("converse-503", converses(), provider.OVERLOADED, raises="ServiceUnavailableException", error_type="ServiceUnavailableException"),
    scene("converse-retried", converses(retries=2), provider.OVERLOADED, provider.TOO_MANY, provider.converse, requests=3, patches=AT_ONCE, **DONE),
    scene("invoke-ok", invokes, provider.invoke, **INVOKED),
    scene("invoke-stream", invokes_and_streams, provider.invoke_stream, streams=True, **INVOKED),
    scene("invoke-stream-odd", invokes_and_streams, oddly(provider.invoke_stream), streams=True, **INVOKED),
    scene("invoke-stream-cut", invokes_and_streams, cut(provider.invoke_stream, 3), raises="ProtocolError", usage={**READ_INNER_USAGE, "output_tokens": 1}, **CUT),
    scene("invoke-429", invokes, provider.TOO_MANY, **TOO_MANY),
    scene("invoke-500", invokes, provider.BROKEN, raises="InternalServerException", error_type="InternalServerException"),
    scene("invoke-503", invokes_and_streams, provider.OVERLOADED, raises="ServiceUnavailableException", error_type="ServiceUnavailableException", streams=True),
]  # fmt: skip


@pytest.fixture
async def ways(opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Ways:
    return await set_up(opened, monkeypatch, authority, Bedrock())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_bedrock_sees_the_same_with_and_without_us(ways: Ways, scene: Scene) -> None:
    await ways.compare(scene)
