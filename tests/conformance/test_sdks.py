"""The official `openai` and `anthropic` SDKs and `curl`, as a forward proxy and as a gateway: they work exactly as without us."""

import asyncio
import json
import shutil
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

from tests.peers.chat import ASK, chunk, streams_as_it_comes
from tests.peers.raw import RawUpstream
from tests.peers.sse import SseUpstream
from tests.peers.wire import Ended, Message, Wire
from tests.scene import Opened, Scene, Stage
from tests.sidecar_under_test import eventually

COMPLETION = {
    "id": "c-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}  # fmt: skip
MESSAGE = {
    "id": "m-1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1},
}  # fmt: skip


class Model(RawUpstream):
    """Answers chat completions and messages; `script` may hold other answers (status, fields, body), which go first."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(self._answer, port=port)
        self.seen: list[Message] = []
        self.script: list[tuple[int, bytes, Any]] = []

    async def _answer(self, connection: Wire) -> None:
        connection.patience_s = 60.0
        while True:
            try:
                request = await connection.request()
            except Ended:
                return
            self.seen.append(request)
            default = MESSAGE if request.target.endswith(b"/messages") else COMPLETION
            status, fields, content = self.script.pop(0) if self.script else (200, b"", default)
            body = json.dumps(content).encode()
            head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n" % (
                status,
                fields,
                len(body),
            )
            await connection.sends(head + body)


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is set outside may lead these clients elsewhere."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def base_url(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the agent is told: the gateway's address, or the upstream's own with HTTP_PROXY set."""
    if scene.mode == "gateway":
        return f"{scene.sidecar.url}/llm"
    monkeypatch.setenv("HTTP_PROXY", scene.sidecar.url)
    return f"{scene.upstream.url}/base"


def sync_openai(url: str, **settings: Any) -> str | None:
    """One chat completion with the synchronous client."""
    with openai.OpenAI(api_key="k", base_url=url, **settings) as client:
        return client.chat.completions.create(**ASK).choices[0].message.content


def sync_anthropic(url: str, **settings: Any) -> str:
    """One message with the synchronous client."""
    with anthropic.Anthropic(api_key="k", base_url=url, **settings) as client:
        return client.messages.create(max_tokens=10, **ASK).content[0].text


# ── answers in one piece ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_openai_works_synchronously(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=Model())
    assert await asyncio.to_thread(sync_openai, base_url(scene, monkeypatch)) == "hello"
    assert scene.upstream.seen[0].start_line == b"POST /base/chat/completions HTTP/1.1"
    assert scene.upstream.seen[0].one(b"authorization") == b"Bearer k"
    assert json.loads(scene.upstream.seen[0].body)["model"] == "m"
    exchange = await scene.sidecar.finished()
    assert (exchange.mode, exchange.route, exchange.status, exchange.error) == (mode, "llm", 200, "")


async def test_openai_works_asynchronously(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=Model())
    async with openai.AsyncOpenAI(api_key="k", base_url=base_url(scene, monkeypatch)) as client:
        answers = await asyncio.gather(*(client.chat.completions.create(**ASK) for _ in range(20)))
    assert [answer.choices[0].message.content for answer in answers] == ["hello"] * 20
    assert len(scene.upstream.seen) == 20


async def test_anthropic_works_synchronously(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=Model())
    assert await asyncio.to_thread(sync_anthropic, base_url(scene, monkeypatch)) == "hello"
    assert scene.upstream.seen[0].start_line == b"POST /base/v1/messages HTTP/1.1"
    assert scene.upstream.seen[0].one(b"authorization") == b"Bearer k"
    assert scene.upstream.seen[0].has(b"anthropic-version")


async def test_anthropic_works_asynchronously(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=Model())
    async with anthropic.AsyncAnthropic(api_key="k", base_url=base_url(scene, monkeypatch)) as client:
        answer = await client.messages.create(max_tokens=10, **ASK)
    assert answer.content[0].text == "hello"


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_openai_streams_as_it_comes(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=SseUpstream())
    async with openai.AsyncOpenAI(api_key="k", base_url=base_url(scene, monkeypatch)) as client:
        await streams_as_it_comes(client, scene.upstream, count=10)
    assert (await scene.sidecar.finished()).error == ""


async def test_anthropic_streams_as_it_comes(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=SseUpstream())
    async with anthropic.AsyncAnthropic(api_key="k", base_url=base_url(scene, monkeypatch)) as client:
        asking = asyncio.create_task(client.messages.create(max_tokens=10, stream=True, **ASK))
        stream = await scene.upstream.stream()
        answer = await asking
        for number in range(10):
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": str(number)}}
            await stream.event(json.dumps(delta).encode(), name=b"content_block_delta")
            async with asyncio.timeout(5):
                assert (await anext(answer)).delta.text == str(number)
        await stream.event(b'{"type": "message_stop"}', name=b"message_stop")
        await stream.ends()
        assert [part.type async for part in answer] == ["message_stop"]


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_a_synchronous_stream_works(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch, sdk: str) -> None:
    scene = await stage(peer=SseUpstream())
    url = base_url(scene, monkeypatch)

    def reads() -> list[str]:
        if sdk == "openai":
            with openai.OpenAI(api_key="k", base_url=url) as client:
                return [part.choices[0].delta.content or "" for part in client.chat.completions.create(stream=True, **ASK)]
        with anthropic.Anthropic(api_key="k", base_url=url) as claude:
            return [part.delta.text for part in claude.messages.create(max_tokens=10, stream=True, **ASK)]

    reading = asyncio.create_task(asyncio.to_thread(reads))
    stream = await scene.upstream.stream()
    for text in ("a", "b"):
        if sdk == "openai":
            await stream.event(chunk(text))
        else:
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            await stream.event(json.dumps(delta).encode(), name=b"content_block_delta")
    await stream.ends()
    assert await reading == ["a", "b"]


async def test_leaving_a_stream_cancels_the_upstream(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=SseUpstream())
    async with openai.AsyncOpenAI(api_key="k", base_url=base_url(scene, monkeypatch)) as client:
        asking = asyncio.create_task(client.chat.completions.create(stream=True, **ASK))
        stream = await scene.upstream.stream()
        answer = await asking
        await stream.event(chunk("a"))
        await anext(answer)
        await answer.close()
        await stream.saw_the_client_go()
    assert (await scene.sidecar.finished()).error == "client_gone"


async def test_a_cut_stream_is_an_error_for_the_sdk(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=SseUpstream())
    async with openai.AsyncOpenAI(api_key="k", base_url=base_url(scene, monkeypatch)) as client:
        asking = asyncio.create_task(client.chat.completions.create(stream=True, **ASK))
        stream = await scene.upstream.stream()
        answer = await asking
        await stream.event(chunk("a"))
        await anext(answer)
        await stream.cuts()
        with pytest.raises(Exception, match=r"(?i)incomplete|peer closed|connection|protocol"):
            await anext(answer)


# ── errors and retries ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_upstreams_errors_are_the_sdks_own(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=Model())
    url = base_url(scene, monkeypatch)
    scene.upstream.script += [
        (429, b"", {"error": {"message": "slow down", "type": "rate_limit_error"}}),
        (404, b"", {"error": {"message": "no"}}),
    ]
    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError, match="slow down"):
            await client.chat.completions.create(**ASK)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(**ASK)


async def test_the_sdks_retry_what_the_upstream_tells_them_to(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=Model())
    scene.upstream.script += [(503, b"retry-after-ms: 1\r\n", {}), (429, b"retry-after-ms: 1\r\n", {})]
    async with openai.AsyncOpenAI(api_key="k", base_url=base_url(scene, monkeypatch)) as client:
        assert (await client.chat.completions.create(**ASK)).choices[0].message.content == "hello"
    counts = [request.one(b"x-stainless-retry-count") for request in scene.upstream.seen]
    assert counts == [b"0", b"1", b"2"]


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_an_error_of_ours_that_cannot_heal_is_not_retried(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, sdk: str, authority: Any
) -> None:
    """`tls_failed` is a 502, which both SDKs would try again; `x-should-retry: false` tells them not to."""
    scene = await stage(peer=RawUpstream(tls=authority.server("127.0.0.1")))
    url = f"{scene.sidecar.url}/llm"
    if sdk == "openai":
        async with openai.AsyncOpenAI(api_key="k", base_url=url) as client:
            with pytest.raises(openai.InternalServerError, match=r"TLS|tls"):
                await client.chat.completions.create(**ASK)
    else:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=url) as claude:
            with pytest.raises(anthropic.InternalServerError, match=r"TLS|tls"):
                await claude.messages.create(max_tokens=10, **ASK)
    assert scene.sidecar.refused == {"tls_failed": 1}


async def test_an_error_of_ours_that_can_heal_is_retried_by_the_sdk(
    stage: Stage, free_port: Callable[[], int], opened: Opened
) -> None:
    port = free_port()
    scene = await stage(base=f"http://127.0.0.1:{port}")
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{scene.sidecar.url}/llm", max_retries=5) as client:
        asking = asyncio.create_task(client.chat.completions.create(**ASK))
        await eventually(lambda: scene.sidecar.refused.get("connect_failed", 0) > 0, "the first refusal")
        await opened(Model(port=port))
        async with asyncio.timeout(8):
            assert (await asking).choices[0].message.content == "hello"


async def test_an_error_of_ours_has_a_message_that_the_sdk_shows(stage: Stage) -> None:
    scene = await stage(peer=Model())
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{scene.sidecar.url}/nowhere", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="no route") as caught:
            await client.chat.completions.create(**ASK)
    assert caught.value.code == "route_unknown"


# ── the agent's own trace ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_agents_trace_goes_through_the_sdk_and_us(stage: Stage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(peer=Model())
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": parent, "x-agent-id": "a", "x-agent-task-id": "t"}
    async with openai.AsyncOpenAI(api_key="k", base_url=base_url(scene, monkeypatch), default_headers=headers) as client:
        await client.chat.completions.create(**ASK)
    seen = scene.upstream.seen[0].one(b"traceparent").decode()
    assert seen[:36] == parent[:36]
    assert seen != parent
    exchange = await scene.sidecar.finished()
    assert (exchange.agent, exchange.task, exchange.parent_id.hex()) == ("a", "t", "b7ad6b7169203331")


# ── curl ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


async def curl(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Run curl; returns its exit code and standard output."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "10", *arguments, env={"PATH": "/usr/bin:/bin:/usr/local/bin", **(environ or {})},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out


@needs_curl
async def test_curl_works(stage: Stage, mode: str) -> None:
    scene = await stage(peer=Model())
    environ = {"http_proxy": scene.sidecar.url} if mode == "forward" else {}
    code, out = await curl("--data", '{"a": 1}', scene_url(scene) + "/chat/completions?x=%2F", environ=environ)
    assert (code, json.loads(out)) == (0, COMPLETION)
    assert scene.upstream.seen[0].target == b"/base/chat/completions?x=%2F"


def scene_url(scene: Scene) -> str:
    """The address that curl is given."""
    return f"{scene.sidecar.url}/llm" if scene.mode == "gateway" else f"{scene.upstream.url}/base"


@needs_curl
async def test_curl_with_expect_and_a_large_upload_works(stage: Stage, mode: str, tmp_path: Any) -> None:
    scene = await stage(peer=Model())
    (tmp_path / "upload").write_bytes(b"x" * 3_000_000)
    proxy = ["-x", scene.sidecar.url] if mode == "forward" else []
    code, out = await curl("-H", "Expect: 100-continue", "-T", str(tmp_path / "upload"), *proxy, scene_url(scene) + "/upload")
    assert code == 0, out
    assert len(scene.upstream.seen[0].body) == 3_000_000


@needs_curl
async def test_curl_reads_a_chunked_upload_back_over_one_connection(stage: Stage, mode: str) -> None:
    scene = await stage(peer=Model())
    proxy = ["-x", scene.sidecar.url] if mode == "forward" else []
    url = scene_url(scene) + "/x"
    code, _ = await curl(
        "-H", "Transfer-Encoding: chunked", "-d", "hello", *proxy, url, url, "-o", "/dev/null", "-o", "/dev/null"
    )
    assert code == 0
    assert [request.body for request in scene.upstream.seen] == [b"hello", b"hello"]


@needs_curl
async def test_curl_tunnels_https_by_connect(stage: Stage, authority: Any) -> None:
    async def answers(connection: Wire) -> None:
        await connection.request()
        await connection.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
        await connection.closes()

    scene = await stage(peer=RawUpstream(answers, tls=authority.server("127.0.0.1")))
    code, out = await curl("-x", scene.sidecar.url, "--cacert", authority.ca_file, scene.upstream.url + "/x")
    assert (code, out) == (0, b"secret")
    assert (await scene.sidecar.finished()).mode == "connect"


@needs_curl
async def test_curl_notices_a_cut_answer(stage: Stage, mode: str) -> None:
    async def cuts(connection: Wire) -> None:
        await connection.request()
        await connection.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await connection.closes()

    scene = await stage(peer=RawUpstream(cuts))
    for version in ("--http1.1", "--http1.0"):
        proxy = ["-x", scene.sidecar.url] if mode == "forward" else []
        code, out = await curl(version, *proxy, scene_url(scene) + "/x")
        assert code in (18, 56), f"curl {version} took a cut answer for a whole one"
        assert out == b"hello"


@needs_curl
async def test_curl_with_a_proxy_user_is_that_agent(stage: Stage) -> None:
    scene = await stage(peer=Model(), mode="forward", listener={"users": {"robot": "pw"}})
    code, _ = await curl("-x", f"http://robot:pw@127.0.0.1:{scene.sidecar.port}", scene_url(scene) + "/x")
    assert code == 0
    assert (await scene.sidecar.finished()).agent == "robot"
    code, out = await curl("-x", scene.sidecar.url, "-o", "/dev/null", "-w", "%{http_code}", scene_url(scene) + "/x")
    assert (code, out) == (0, b"407")
