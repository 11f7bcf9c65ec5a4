"""Chat completions as openai's SDK asks for them and as an upstream streams them."""

import asyncio
import json
from typing import Any

import openai

from tests.peers.sse import SseUpstream

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def chunk(text: str) -> bytes:
    """A chat completion chunk."""
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [delta]}).encode()


async def streams_as_it_comes(client: openai.AsyncOpenAI, upstream: SseUpstream, *, count: int) -> None:
    """Ask for a stream, and see each of `count` chunks arrive before the next one is sent, and the end."""
    asking = asyncio.create_task(client.chat.completions.create(stream=True, **ASK))
    stream = await upstream.stream()
    answer = await asking
    for number in range(count):
        await stream.event(chunk(str(number)))
        async with asyncio.timeout(5):
            assert (await anext(answer)).choices[0].delta.content == str(number)
    await stream.event(b"[DONE]")
    await stream.ends()
    assert [part async for part in answer] == []
