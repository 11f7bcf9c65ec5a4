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

from tests.peers.a2a_agent import Agent

SPOKEN = [(binding, version) for binding in ("JSONRPC", "HTTP+JSON") for version in ("1.0", "0.3")]


async def between(opened: Opened, agent: Agent, **policy: Any) -> SidecarUnderTest:
    """A sidecar whose route `/llm/` leads to the agent."""
    config = config_for(
        agent.url, upstream={"url": agent.url}, route={"policies": ["agent_card"]}, policies={"agent_card": policy}
    )
    sidecar: SidecarUnderTest = await opened(SidecarUnderTest(config))
    return sidecar


@asynccontextmanager
async def client_of(url: str, binding: str, version: str, *, proxy: str | None = None) -> AsyncIterator[Any]:
    """The client as an application makes it: from the card at `url`, of which it takes the interfaces of one version only."""
    fields = {"A2A-Version": "1.0"} if version == "1.0" else {}
    async with httpx.AsyncClient(trust_env=False, headers=fields, proxy=proxy) as http:
        card: AgentCard = await A2ACardResolver(http, url).get_agent_card()
        kept = [interface for interface in card.supported_interfaces if interface.protocol_version == version]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept)
        yield ClientFactory(ClientConfig(httpx_client=http, supported_protocol_bindings=[binding])).create(card)


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
async def test_a_client_that_takes_the_card_from_the_sidecar_makes_all_its_calls_through_it(
    opened: Opened, binding: str, version: str
) -> None:
    agent: Agent = await opened(Agent(coded=True))
    sidecar = await between(opened, agent)
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


@pytest.mark.parametrize(("binding", "version"), SPOKEN)
async def test_an_extended_card_leads_through_the_sidecar_too(opened: Opened, binding: str, version: str) -> None:
    agent: Agent = await opened(Agent())
    sidecar = await between(opened, agent)
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
