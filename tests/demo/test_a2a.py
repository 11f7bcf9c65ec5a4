from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from sidecar.demo.a2a import PackingAgent
from sidecar.demo.llm import LanguageModel
from tests.demo.peer import serving

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MESSAGE = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "19 degrees"}]}


@pytest.fixture
async def model() -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A language model that keeps the requests that it gets; absolute-form ones too, so it can stand for a proxy."""
    seen: list[web.Request] = []

    @web.middleware
    async def remember(request: web.Request, handler: Any) -> Any:
        seen.append(request)
        return await handler(request)

    application = LanguageModel(pace=0).application()
    application.middlewares.append(remember)
    async with serving(application) as (url, _):
        yield url, seen


async def send(agent: PackingAgent, message: Any, **headers: str) -> Any:
    wire = {"A2A-Version": "1.0"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with serving(agent.application()) as (url, session), session.post(f"{url}/a2a", json=message, headers=wire) as response:
        assert response.status == 200
        return await response.json()


def call(params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": params}


async def test_its_card_says_where_and_how_it_is_reached() -> None:
    async with (
        serving(PackingAgent("http://a2a.test:1", "", "").application()) as (url, session),
        session.get(f"{url}/.well-known/agent-card.json") as response,
    ):
        interfaces = (await response.json())["supportedInterfaces"]
    assert interfaces == [{"url": "http://a2a.test:1/a2a", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]


async def test_a_message_becomes_a_completed_task_with_an_artifact(model: tuple[str, list[web.Request]]) -> None:
    message = await send(PackingAgent("", f"{model[0]}/v1", ""), call({"message": MESSAGE | {"contextId": "c9"}}))
    task = message["result"]["task"]
    assert (message["id"], task["contextId"], task["status"]["state"]) == (7, "c9", "TASK_STATE_COMPLETED")
    assert "light jacket" in task["artifacts"][0]["parts"][0]["text"]


async def test_it_asks_the_model_through_its_proxy_and_carries_the_trace_on(model: tuple[str, list[web.Request]]) -> None:
    url, seen = model
    proxy = url.replace("http://", "http://packing-agent:demo@")
    message = await send(PackingAgent("", "http://llm.test/v1", proxy), call({"message": MESSAGE}), traceparent=TRACEPARENT)
    assert "task" in message["result"]
    assert str(seen[0].url) == "http://llm.test/v1/chat/completions"
    assert seen[0].headers["traceparent"] == TRACEPARENT
    assert seen[0].headers["Proxy-Authorization"].startswith("Basic ")


async def test_without_a_trace_it_makes_none_up(model: tuple[str, list[web.Request]]) -> None:
    await send(PackingAgent("", f"{model[0]}/v1", ""), call({"message": MESSAGE}))
    assert "traceparent" not in model[1][0].headers


async def test_a_model_that_cannot_be_reached_is_an_internal_error(free_port: Any) -> None:
    message = await send(PackingAgent("", f"http://127.0.0.1:{free_port()}/v1", ""), call({"message": MESSAGE}))
    assert message["error"]["code"] == -32603
    assert "ClientConnectorError" in message["error"]["message"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ([], -32600), ({"jsonrpc": "2.0"}, -32600), (call({}), -32602), (call([]), -32602),
        (call({"message": {"parts": 5}}), -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "message/send"}, -32601),
    ],
)  # fmt: skip
async def test_what_it_cannot_understand_is_a_json_rpc_error(message: Any, code: int) -> None:
    assert (await send(PackingAgent("", "", ""), message))["error"]["code"] == code


@pytest.mark.parametrize("version", ["0.3", ""])
async def test_another_version_of_the_protocol_is_refused(version: str) -> None:
    assert (await send(PackingAgent("", "", ""), call({}), A2A_Version=version))["error"]["code"] == -32009


async def test_what_is_no_json_is_a_parse_error() -> None:
    async with (
        serving(PackingAgent("", "", "").application()) as (url, session),
        session.post(f"{url}/a2a", data=b"{", headers={"A2A-Version": "1.0"}) as response,
    ):
        assert (await response.json())["error"]["code"] == -32700
