"""The official `openai` SDK, straight and through the sidecar: chat, completions, responses, embeddings; and Azure."""

import asyncio
from typing import Any

import openai
import pytest

from sidecar.model.cost import Pricing
from tests.peers.providers import openai as provider
from tests.peers.providers.answer import bare, cut, framed, oddly, packed, torn
from tests.peers.providers.openai import ARGUMENTS, FULL_MODEL, MODEL, READ_USAGE, Azure, OpenAi
from tests.peers.providers.ways import Application, Heard, Scene, Ways, set_up

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüezi \U0001f600"}]
WEATHER: Any = {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"type": "string"}}}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
TOOL: Any = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}
CALL = (("weather", ARGUMENTS),)


def client(url: str, *, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-test", base_url=f"{url}/v1", max_retries=retries)


def asks(retries: int = 0, **settings: Any) -> Application:
    """One chat completion, with the request id that the response head tells."""

    def application(url: str, heard: Heard) -> Any:
        with client(url, retries=retries) as sdk:
            answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, **settings)
            return [answer, answer._request_id]

    return application


def streams(**settings: Any) -> Application:
    """One chat completion, streamed synchronously."""

    def application(url: str, heard: Heard) -> None:
        with client(url) as sdk:
            for chunk in sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **settings):
                heard(chunk)

    return application


def asks_and_streams(url: str, heard: Heard) -> Any:
    """Several calls on one connection, whose heads are the same but for their length."""
    with client(url) as sdk:
        whole = []
        for text in ("a", "a longer question"):
            messages: Any = [{"role": "user", "content": text}]
            whole.append(sdk.chat.completions.create(model=MODEL, messages=messages))
            for chunk in sdk.chat.completions.create(model=MODEL, messages=messages, stream=True):
                heard(chunk)
        return whole


async def streams_asynchronously(url: str, heard: Heard) -> None:
    async with openai.AsyncOpenAI(api_key="sk-test", base_url=f"{url}/v1", max_retries=0) as sdk:
        async for chunk in await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            heard(chunk)


def accumulates(url: str, heard: Heard) -> Any:
    """The SDK's own helper, which puts the chunks together."""
    with client(url) as sdk, sdk.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
        for happening in stream:
            if happening.type == "chunk":
                heard(happening.chunk)
        return stream.get_final_completion()


def sees_the_head(url: str, heard: Heard) -> Any:
    with client(url) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
        return [raw.status_code, {name: raw.headers.get(name) for name, _ in provider.HEAD}, raw.parse()]


def completes(url: str, heard: Heard) -> Any:
    with client(url) as sdk:
        return sdk.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say hello", max_tokens=7)


def completes_by_the_word(url: str, heard: Heard) -> None:
    with client(url) as sdk:
        for part in sdk.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say hello", max_tokens=2, stream=True):
            heard(part)


def embeds(url: str, heard: Heard) -> Any:
    with client(url) as sdk:
        return sdk.embeddings.create(model="text-embedding-3-small", input=["a", "ü"])


def responds(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> Any:
        with client(url) as sdk:
            return sdk.responses.create(model=MODEL, input="Grüezi", reasoning={"effort": "low"}, **settings)

    return application


def responds_by_the_event(**settings: Any) -> Application:
    def application(url: str, heard: Heard) -> None:
        with client(url) as sdk:
            for happening in sdk.responses.create(model=MODEL, input="Grüezi", stream=True, **settings):
                heard(happening)

    return application


def azure(url: str) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(api_key="azure-key", azure_endpoint=url, api_version="2026-05-01", max_retries=0)


def asks_azure(url: str, heard: Heard) -> Any:
    with azure(url) as sdk:
        return sdk.chat.completions.create(model="my-gpt", messages=MESSAGES)


def streams_from_azure(url: str, heard: Heard) -> None:
    with azure(url) as sdk:
        for chunk in sdk.chat.completions.create(model="my-gpt", messages=MESSAGES, stream=True):
            heard(chunk)


def chat(name: str, application: Application, *answers: Any, **more: Any) -> Scene:
    return Scene(f"chat-{name}", application, answers, **{"model": MODEL, **more})


def chat_stream(name: str, application: Application, *answers: Any, **more: Any) -> Scene:
    told = {"usage": READ_USAGE, "finish": ("stop",), "adds_usage": True, "answer_model": FULL_MODEL, **more}
    return chat(name, application, *answers, streams=True, **told)


TOO_MANY = {"raises": "RateLimitError", "error_type": "rate_limit_exceeded"}
BROKEN = {"raises": "InternalServerError", "error_type": "server_error"}
OVERLOADED = {"raises": "InternalServerError", "error_type": "server_error"}
OK = {"usage": READ_USAGE, "finish": ("stop",), "answer_model": FULL_MODEL}
CUT = {"raises": "APIConnectionError", "finish": (), "usage": None, "is_ended": False, "pricing": Pricing.ESTIMATED}
ASKED_FOR = {"stream_options": {"include_usage": True}}

CHAT = [
    chat("ok", asks(), provider.chat, **OK),
    chat("ok-head", sees_the_head, provider.chat, **OK),
    chat("tool", asks(tools=[CHAT_TOOL]), provider.chat_tool, usage=READ_USAGE, finish=("tool_calls",), tools=CALL),
    chat_stream("stream", streams(), provider.chat_stream),
    chat_stream("stream-async", streams_asynchronously, provider.chat_stream),
    chat_stream("stream-helper", accumulates, provider.chat_stream),
    chat_stream("stream-odd", streams(), oddly(provider.chat_stream)),
    chat_stream("stream-odd-own-usage", streams(**ASKED_FOR), oddly(provider.chat_stream), adds_usage=False),
    chat_stream("stream-gzip-own-usage", streams(**ASKED_FOR), packed(provider.chat_stream, "gzip"), adds_usage=False),
    chat_stream("stream-br-own-usage", streams(**ASKED_FOR), packed(provider.chat_stream, "br"), adds_usage=False),
    chat_stream("stream-zstd-own-usage", streams(**ASKED_FOR), packed(provider.chat_stream, "zstd"), adds_usage=False),
    chat_stream("stream-gzip", streams(), packed(provider.chat_stream, "gzip")),
    chat_stream("stream-after-others", asks_and_streams, provider.chat, provider.chat_stream, provider.chat, provider.chat_stream, requests=4),
    chat_stream("stream-tool", streams(tools=[CHAT_TOOL]), provider.chat_stream_tool, finish=("tool_calls",), tools=CALL),
    chat_stream("stream-by-length", streams(), framed(provider.chat_stream, "length")),
    chat_stream("stream-by-length-odd", streams(), framed(oddly(provider.chat_stream), "length")),
    chat_stream("stream-until-close", streams(), framed(provider.chat_stream, "close")),
    chat_stream("stream-until-close-odd", streams(), framed(oddly(provider.chat_stream), "close")),
    chat_stream("stream-until-close-own-usage", streams(**ASKED_FOR), framed(provider.chat_stream, "close"), adds_usage=False),
    chat_stream("stream-no-usage", streams(), provider.stream_without_usage, usage=None, pricing=Pricing.ESTIMATED),
    chat_stream("stream-cut", streams(), cut(provider.chat_stream, 3), **CUT),
    chat_stream("stream-cut-odd", streams(**ASKED_FOR), cut(oddly(provider.chat_stream), 100), **{**CUT, "adds_usage": False}),
    chat_stream("stream-error", streams(), provider.chat_fails_within, **{**CUT, "raises": "APIError", "error_type": "server_error", "is_ended": True}),
    chat_stream("stream-429", streams(), bare(provider.TOO_MANY), **{**CUT, **TOO_MANY, "is_ended": True, "answer_model": None, "pricing": None}),
    chat("429", asks(), provider.TOO_MANY, **TOO_MANY),
    chat("500", asks(), provider.BROKEN, **BROKEN),
    chat("503", asks(), provider.OVERLOADED, **OVERLOADED),
    chat("503-no-json", asks(), provider.no_json, raises="InternalServerError", error_type="503"),
    chat("torn", asks(), torn(provider.chat), raises="APIConnectionError", is_ended=False, pricing=Pricing.ESTIMATED),
    chat("retried", asks(retries=2), provider.OVERLOADED, provider.TOO_MANY, provider.chat, requests=3, **OK),
    chat("retried-in-vain", asks(retries=2), provider.TOO_MANY, requests=3, **TOO_MANY),
]  # fmt: skip

INSTRUCT = "gpt-3.5-turbo-instruct"
SHORT = {"input_tokens": 5, "output_tokens": 2}
OTHERS = [
    Scene("completions-ok", completes, (provider.completion,), INSTRUCT, SHORT, ("stop",), operation="text_completion"),
    Scene("completions-stream", completes_by_the_word, (provider.completion_stream,), INSTRUCT, SHORT, ("length",), operation="text_completion", streams=True, adds_usage=True),
    Scene("completions-cut", completes_by_the_word, (cut(provider.completion_stream, 1),), INSTRUCT, operation="text_completion", streams=True, adds_usage=True, **{**CUT, "usage": None, "finish": ()}),
    Scene("completions-429", completes, (provider.TOO_MANY,), INSTRUCT, operation="text_completion", **TOO_MANY),
    Scene("embeddings-ok", embeds, (provider.embeddings,), "text-embedding-3-small", {"input_tokens": 8}, operation="embeddings"),
    Scene("embeddings-503", embeds, (provider.OVERLOADED,), "text-embedding-3-small", operation="embeddings", **OVERLOADED),
]  # fmt: skip

DONE = {"usage": READ_USAGE, "finish": ("completed",), "answer_model": FULL_MODEL}
RESPONSES = [
    Scene("responses-ok", responds(), (provider.response,), MODEL, **DONE),
    Scene("responses-tool", responds(tools=[TOOL]), (provider.response_tool,), MODEL, tools=CALL, **DONE),
    Scene("responses-stream", responds_by_the_event(), (provider.response_stream,), MODEL, streams=True, **DONE),
    Scene("responses-stream-odd", responds_by_the_event(), (oddly(provider.response_stream),), MODEL, streams=True, **DONE),
    Scene("responses-stream-gzip", responds_by_the_event(), (packed(provider.response_stream, "gzip"),), MODEL, streams=True, **DONE),
    Scene("responses-stream-tool", responds_by_the_event(tools=[TOOL]), (provider.response_stream_tool,), MODEL, tools=CALL, streams=True, **DONE),
    Scene("responses-stream-incomplete", responds_by_the_event(), (provider.response_incomplete,), MODEL, streams=True, **{**DONE, "finish": ("max_output_tokens",)}),
    Scene("responses-stream-cut", responds_by_the_event(), (cut(provider.response_stream, 6),), MODEL, streams=True, **CUT),
    Scene("responses-stream-error", responds_by_the_event(), (provider.response_fails_within,), MODEL, streams=True, error_type="server_error"),
    Scene("responses-429", responds(), (provider.TOO_MANY,), MODEL, **TOO_MANY),
    Scene("responses-500", responds(), (provider.BROKEN,), MODEL, **BROKEN),
    Scene("responses-503", responds_by_the_event(), (provider.OVERLOADED,), MODEL, streams=True, **OVERLOADED),
]  # fmt: skip

AZURE = [
    Scene("azure-ok", asks_azure, (provider.chat,), "my-gpt", **OK),
    Scene("azure-stream", streams_from_azure, (provider.azure_stream,), "my-gpt", streams=True, adds_usage=True, **OK),
    Scene("azure-stream-odd", streams_from_azure, (oddly(provider.azure_stream),), "my-gpt", streams=True, adds_usage=True, **OK),
    Scene("azure-cut", streams_from_azure, (cut(provider.azure_stream, 2),), "my-gpt", streams=True, adds_usage=True, **CUT),
    Scene("azure-429", asks_azure, (provider.TOO_MANY,), "my-gpt", **TOO_MANY),
    Scene("azure-500", asks_azure, (provider.BROKEN,), "my-gpt", **BROKEN),
    Scene("azure-503", asks_azure, (provider.OVERLOADED,), "my-gpt", **OVERLOADED),
]  # fmt: skip


@pytest.fixture
async def ways(scene: Scene, opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Ways:
    return await set_up(opened, monkeypatch, authority, Azure() if scene.name.startswith("azure") else OpenAi())


@pytest.mark.parametrize("scene", [*CHAT, *OTHERS, *RESPONSES, *AZURE], ids=lambda scene: scene.name)
async def test_openai_sees_the_same_with_and_without_us(ways: Ways, scene: Scene) -> None:
    await ways.compare(scene)


async def test_streams_at_the_same_time_are_not_mixed_up(opened: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> None:
    ways = await set_up(opened, monkeypatch, authority, OpenAi())
    ways.upstream.begins(oddly(provider.echo_stream))

    async def asks_for(number: int) -> tuple[str, int]:
        asked: Any = [{"role": "user", "content": "?" * number}]
        stream = await sdk.chat.completions.create(model=f"model-{number}", messages=asked, stream=True)
        said = [chunk.choices[0].delta.content async for chunk in stream]
        return said[0] or "", len(said) - 2

    async with openai.AsyncOpenAI(api_key="sk-test", base_url=f"{ways.sidecar.url}/llm/v1", max_retries=0) as sdk:
        heard = await asyncio.gather(*(asks_for(number) for number in range(1, 25)))
    assert heard == [(f"model-{number}", number) for number in range(1, 25)]
    await ways.sidecar.finished(24)
    read = [attempt.dialogue for attempt in ways.sidecar.attempts]
    told = [(each.asked.model, each.answered.model, each.answered.usage.input_tokens) for each in read]
    assert sorted(told) == sorted((model, model, number) for model, number in heard)
