import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from aiohttp import web

from sidecar.demo import agent
from sidecar.demo.llm import LanguageModel
from sidecar.demo.mcp import WeatherTools
from sidecar.demo.peers import Addresses, Peers, listening
from tests.demo.peer import serving


class Proxy:
    """A proxy that answers itself: whatever host the absolute form names, these applications are meant. Keeps the requests."""

    def __init__(self, *applications: web.Application) -> None:
        self.seen: list[web.Request] = []
        self.app = web.Application(middlewares=[self._remember])
        for route in (route for application in applications for route in application.router.routes() if route.method != "HEAD"):
            assert route.resource is not None
            self.app.router.add_route(route.method, route.resource.canonical, route.handler)

    @web.middleware
    async def _remember(self, request: web.Request, handler: Any) -> Any:
        self.seen.append(request)
        return await handler(request)


@pytest.fixture(autouse=True)
def no_opener_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """`urlopen` reads the environment once a process; each of these tests brings its own."""
    monkeypatch.setattr(urllib.request, "_opener", None)
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def peers() -> AsyncIterator[Addresses]:
    sockets = listening()
    served = Peers(sockets, "", pace=0)
    await served.start()
    yield Addresses.of(sockets)
    await served.stop()


async def run(at: Addresses) -> int:
    return await asyncio.to_thread(agent.main, [f"{at.llm}/v1", f"{at.mcp}/mcp", at.a2a])


async def test_it_plans_uses_a_tool_delegates_and_streams(peers: Addresses, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(peers) == 0
    told = capsys.readouterr().out.splitlines()
    steps = [
        "is up",
        "lists the tools",
        "plans with",
        "calls the tool",
        "delegates to packing-agent",
        "was refused with 429",
        "streams the",
    ]
    assert [any(line.startswith(step) for line in told) for step in steps] == [True] * len(steps)
    assert told[-1].endswith("take a light jacket, good shoes and your sunglasses.")


async def test_http_proxy_alone_leads_its_calls_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy = Proxy(LanguageModel(pace=0).application(), WeatherTools(pace=0).application())
    async with serving(proxy.app) as (url, _):
        monkeypatch.setenv("HTTP_PROXY", url.replace("http://", "http://trip-planner:demo@"))
        assert await run(Addresses("http://llm.test", "http://mcp.test", "http://a2a.test")) == 1
    assert [f"{each.method} {each.url}" for each in proxy.seen[:4]] == [
        "GET http://llm.test/v1/models",
        "POST http://mcp.test/mcp",
        "POST http://llm.test/v1/chat/completions",
        "POST http://mcp.test/mcp",
    ]
    assert all(each.headers["Proxy-Authorization"].startswith("Basic ") for each in proxy.seen)
    assert "404" in capsys.readouterr().err, "nobody answers for http://a2a.test/.well-known/agent-card.json"


async def test_one_call_has_no_trace_context_and_all_others_have_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy = Proxy(LanguageModel(pace=0).application(), WeatherTools(pace=0).application())
    async with serving(proxy.app) as (url, _):
        monkeypatch.setenv("HTTP_PROXY", url)
        await run(Addresses("http://llm.test", "http://mcp.test", "http://a2a.test"))
    sent = [each.headers.get("traceparent") for each in proxy.seen]
    assert sent[0] is None
    assert len(set(sent[1:])) == 1
    assert str(sent[1]).startswith("00-")
    capsys.readouterr()


async def test_a_server_that_stays_busy_is_given_up_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    async with serving(LanguageModel(refuses=99, pace=0).application()) as (url, _):

        def work() -> None:
            agent.Agent(f"{url}/v1", "", "")._answer("", "")

        with pytest.raises(OSError, match="429"):
            await asyncio.to_thread(work)
    assert capsys.readouterr().out.count("was refused with 429; tries again in 0.2 s") == agent.MAX_RETRIES


async def test_a_refusal_is_closed_and_can_be_read_about_all_the_same() -> None:
    async with serving(LanguageModel(pace=0).application()) as (url, _):
        with pytest.raises(HTTPError, match="404") as caught:
            await asyncio.to_thread(agent._get, f"{url}/nobody", {})
    assert caught.value.fp is not None and caught.value.fp.closed
    assert caught.value.headers["Content-Type"]


async def test_an_answer_without_text_is_no_answer() -> None:
    async def empty(request: web.Request) -> web.Response:
        return web.Response(text=": nothing\n\n", content_type="text/event-stream")

    app = web.Application()
    app.router.add_post("/chat/completions", empty)
    async with serving(app) as (url, _):
        with pytest.raises(ValueError, match="without text or usage"):
            await asyncio.to_thread(agent.Agent(url, "", "")._answer, "", "")


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After-Ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": "1"}, 1.0),
        ({"Retry-After": "3600"}, 2.0),
        ({}, 0.5),
    ],
)
def test_it_waits_as_long_as_the_answer_asks_within_reason(headers: dict[str, str], wait_s: float) -> None:
    import email.message
    import io

    message = email.message.Message()
    for name, value in headers.items():
        message[name] = value
    with HTTPError("http://x.test", 429, "", message, io.BytesIO()) as error:
        assert agent._wait_s(error) == wait_s


def test_it_is_a_program_of_the_standard_library_alone(free_port: Any) -> None:
    """`-I -S`: neither this repository nor any installed package can be imported."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-I", "-S", str(Path(agent.__file__)), f"{url}/v1", url, url]
    ended = subprocess.run(command, env={}, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("the agent gave up: URLError")
