"""The official `a2a-sdk`, client and agent: with the sidecar between them they work exactly as without it, and do not walk around it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest, config_for

pytest.importorskip(
    "a2a.server.routes.rest_routes", reason="the official SDK is not installed (pip install 'a2a-sdk[http-server]>=1.3')"
)
pytest.importorskip("uvicorn", reason="nothing serves the official SDK's agent (pip install uvicorn)")

import grpc
import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.helpers.proto_helpers import new_text_message
from a2a.types.a2a_pb2 import (
    AgentCard,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    Role,
    SendMessageRequest,
    TaskState,
)
from a2a.utils.errors import TaskNotFoundError

from sidecar.model.asked import A2aAsked
from sidecar.runtime.metrics import Counter
from tests.peers.a2a_agent import Agent

SPOKEN = [(binding, version) for binding in ("JSONRPC", "HTTP+JSON") for version in ("1.0", "0.3")]


WAYS = [{}, {"route": {"policies": ["agent_card"]}, "policies": {"agent_card": {}}}, {"upstream": {"dialect": "a2a"}}]
"""What a config says of the agent: nothing, which is the usual way; that its card has a policy; that it is an agent."""

in_each_way = pytest.mark.parametrize("way", WAYS, ids=["by default", "policy named", "dialect named"])


async def between(opened: Opened, agent: Agent, way: dict[str, Any] | None = None, *, grpc: bool = False) -> SidecarUnderTest:
    """A sidecar whose route `/llm/` leads to the agent, and with `grpc` a listener for that which leads there too."""
    more = dict(way or {})
    config = config_for(agent.url, upstream={"url": agent.url, **more.pop("upstream", {})}, **more)
    if grpc:
        traffic = config["traffic"]
        traffic["listeners"]["grpc"] = {"endpoint": "127.0.0.1:0"}
        traffic["upstreams"]["grpc/agent"] = {"url": f"http://127.0.0.1:{agent.grpc_port}"}
        traffic["routes"]["agent"] = {"path": "/", "upstream": "grpc/agent"}
    sidecar: SidecarUnderTest = await opened(SidecarUnderTest(config))
    return sidecar


@asynccontextmanager
async def client_of(
    url: str, binding: str, version: str, *, proxy: str | None = None, grpc_port: int = 0
) -> AsyncIterator[Any]:
    """
    The client as an application makes it: from the card at `url`, of which it takes the interfaces of one version only.

    `grpc_port` is where it is told to find gRPC, whatever the card says.
    """
    fields = {"A2A-Version": "1.0"} if version == "1.0" else {}
    async with httpx.AsyncClient(trust_env=False, headers=fields, proxy=proxy) as http:
        card: AgentCard = await A2ACardResolver(http, url).get_agent_card()
        kept = [interface for interface in card.supported_interfaces if interface.protocol_version == version]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept)
        channels: list[grpc.aio.Channel] = []

        def channel(where: str) -> grpc.aio.Channel:
            channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}" if grpc_port else where))
            return channels[-1]

        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], grpc_channel_factory=channel)
        yield ClientFactory(config).create(card)
        for each in channels:
            await each.close()


async def said(client: Any, text: str) -> list[Any]:
    """What the agent answers to a text."""
    async with asyncio.timeout(10):
        return [
            event async for event in client.send_message(SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER)))
        ]


def shape(events: list[Any]) -> list[str]:
    """The kinds of events, and the states that they tell."""
    shapes = []
    for event in events:
        kind = event.WhichOneof("payload")
        thing = getattr(event, kind)
        shapes.append(f"{kind} {TaskState.Name(thing.status.state)}" if kind in ("task", "status_update") else kind)
    return shapes


@pytest.mark.parametrize(("binding", "version"), SPOKEN)
@in_each_way
async def test_a_client_that_takes_the_card_from_the_sidecar_makes_all_its_calls_through_it(
    opened: Opened, binding: str, version: str, way: dict[str, Any]
) -> None:
    agent: Agent = await opened(Agent(coded=True))
    sidecar = await between(opened, agent, way)
    texts = ("pack", "message", "fail", "ask")
    async with client_of(agent.url, binding, version) as client:
        without = [shape(await said(client, text)) for text in texts]
    agent.asked.clear()
    async with client_of(f"{sidecar.url}/llm", binding, version) as client:
        events = [await said(client, text) for text in texts]
        task = next(event.task.id for event in events[0] if event.HasField("task"))
        assert (await client.get_task(GetTaskRequest(id=task))).status.state == TaskState.TASK_STATE_COMPLETED
        with pytest.raises(TaskNotFoundError if version == "1.0" or binding == "JSONRPC" else Exception):
            await client.get_task(GetTaskRequest(id="none"))
    assert [shape(each) for each in events] == without
    assert len(agent.asked) == 7
    await sidecar.finished(7)
    assert [exchange.passage.path.partition("?")[0] for exchange in sidecar.exchanges] == [
        "/llm" + path for _, path in agent.asked
    ]
    read = [exchange.dialogue.asked for exchange in sidecar.exchanges if exchange.dialogue is not None]
    assert [(asked.binding, asked.protocol_version) for asked in read[1:] if isinstance(asked, A2aAsked)] == 6 * [(binding, version)]


async def test_over_grpc_calls_pass_the_listener_for_it_and_the_card_says_where_it_leads_past(opened: Opened) -> None:
    agent: Agent = await opened(Agent(grpc=True))
    sidecar = await between(opened, agent, grpc=True)
    texts = ("pack", "message", "fail", "ask")
    async with client_of(agent.url, "GRPC", "1.0") as client:
        without = [shape(await said(client, text)) for text in texts]
    grpc_port = sidecar.app.endpoints["traffic.listeners.grpc"][1]
    async with client_of(f"{sidecar.url}/llm", "GRPC", "1.0", grpc_port=grpc_port) as client:
        events = [await said(client, text) for text in texts]
        card = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id="none"))
    assert [shape(each) for each in events] == without
    assert card.name == "packer"
    await sidecar.finished(7)
    asked = [exchange.dialogue.asked for exchange in sidecar.exchanges if exchange.dialogue is not None]
    assert [each.operation for each in asked if isinstance(each, A2aAsked) and each.binding == "GRPC"] == [
        *(4 * ["SendStreamingMessage"]), "GetExtendedAgentCard", "GetTask",
    ]  # fmt: skip
    family = next(each for each in sidecar.runtime.metrics if each.name == "traffic.policies.agent_card.elsewhere")
    assert [counter.value for counter in family.series.values() if isinstance(counter, Counter)] == [1]


@pytest.mark.parametrize(("binding", "version"), SPOKEN)
@in_each_way
async def test_an_extended_card_leads_through_the_sidecar_too(
    opened: Opened, binding: str, version: str, way: dict[str, Any]
) -> None:
    agent: Agent = await opened(Agent())
    sidecar = await between(opened, agent, way)
    async with client_of(f"{sidecar.url}/llm", binding, version) as client:
        card = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
    assert card.name == "packer"
    assert {interface.url for interface in card.supported_interfaces} == {f"{sidecar.url}/llm/a2a", f"{sidecar.url}/llm/rest"}


async def test_as_a_forward_proxy_the_sidecar_leaves_the_card_as_it_is(opened: Opened) -> None:
    agent: Agent = await opened(Agent())
    sidecar = await between(opened, agent)
    async with client_of(agent.url, "JSONRPC", "1.0", proxy=sidecar.url) as client:
        assert shape(await said(client, "message")) == ["message"]
    await sidecar.finished(2)
    assert [exchange.passage.target for exchange in sidecar.exchanges] == ["/.well-known/agent-card.json", "/a2a"]


async def test_a_signed_card_is_the_agents_to_the_last_byte(opened: Opened) -> None:
    agent: Agent = await opened(Agent(signed=True))
    sidecar = await between(opened, agent)
    async with httpx.AsyncClient(trust_env=False) as http:
        direct = await http.get(f"{agent.url}/.well-known/agent-card.json")
        through = await http.get(f"{sidecar.url}/llm/.well-known/agent-card.json")
    assert (through.content, through.headers["etag"]) == (direct.content, direct.headers["etag"])
    assert through.headers["x-sidecar-agent-card"] == "signed-not-rewritten"


async def test_a_cache_revalidates_the_rewritten_card(opened: Opened) -> None:
    agent: Agent = await opened(Agent(coded=True))
    sidecar = await between(opened, agent)
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"{sidecar.url}/llm/.well-known/agent-card.json"
        first = await http.get(url)
        again = await http.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.headers["etag"], again.content) == (304, first.headers["etag"], b"")
    assert first.headers["etag"].startswith('W/"')
