from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from sidecar.demo.llm import MODEL, LanguageModel
from tests.demo.peer import events, serving

AUTHORIZED = {"Authorization": "Bearer key"}
MESSAGES = [{"role": "user", "content": "What should I pack?"}]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}


@pytest.fixture
async def ask() -> AsyncIterator[Any]:
    async with serving(LanguageModel(pace=0).application()) as (url, session):

        def post(**body: Any) -> Any:
            return session.post(
                f"{url}/v1/chat/completions", json={"model": MODEL, "messages": MESSAGES, **body}, headers=AUTHORIZED
            )

        yield post


async def answered(request: Any) -> tuple[int, Any]:
    async with request as response:
        return response.status, await response.json()


async def test_it_lists_its_model() -> None:
    async with serving(LanguageModel().application()) as (url, session), session.get(f"{url}/v1/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == [MODEL]


async def test_it_answers_in_one_piece_with_usage(ask: Any) -> None:
    status, completion = await answered(ask())
    assert status == 200
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["finish_reason"] == "stop"
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 2


async def test_it_calls_the_tool_that_it_is_given(ask: Any) -> None:
    _, completion = await answered(ask(tools=[TOOL]))
    choice = completion["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city":"Lisbon"}'}


async def test_it_refuses_the_first_stream_and_says_when_to_come_again(ask: Any) -> None:
    async with ask(stream=True) as response:
        assert response.status == 429
        assert (response.headers["Retry-After"], response.headers["Retry-After-Ms"]) == ("1", "200")
        assert (await response.json())["error"]["type"] == "rate_limit_error"
    async with ask(stream=True) as response:
        assert response.status == 200


async def test_a_stream_ends_with_usage_and_done_where_the_client_asked_for_usage(ask: Any) -> None:
    await answered(ask(stream=True))
    async with ask(stream=True, stream_options={"include_usage": True}) as response:
        assert response.content_type == "text/event-stream"
        *chunks, last, done = events(await response.read())
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] > 10
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert all(chunk["usage"] is None for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text.startswith("Lisbon will have 19 degrees")


async def test_a_stream_without_the_option_has_no_usage(ask: Any) -> None:
    await answered(ask(stream=True))
    async with ask(stream=True) as response:
        *chunks, done = events(await response.read())
    assert done == "[DONE]"
    assert not any("usage" in chunk for chunk in chunks)


async def test_it_wants_a_key() -> None:
    async with (
        serving(LanguageModel().application()) as (url, session),
        session.post(f"{url}/v1/chat/completions", json={}) as response,
    ):
        assert response.status == 401
        assert (await response.json())["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"messages": 5}', b'{"messages": ["text"]}'])
async def test_it_refuses_what_is_no_request(body: bytes) -> None:
    async with (
        serving(LanguageModel().application()) as (url, session),
        session.post(f"{url}/v1/chat/completions", data=body, headers=AUTHORIZED) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_a_client_that_goes_away_in_the_middle_of_a_stream_does_no_harm() -> None:
    async with serving(LanguageModel(refuses=0).application()) as (url, session):
        body = {"messages": MESSAGES, "stream": True}
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=AUTHORIZED) as response:
            await response.content.readline()
        with pytest.raises(aiohttp.ClientConnectionError):
            await response.read()
        async with session.get(f"{url}/v1/models") as again:
            assert again.status == 200
