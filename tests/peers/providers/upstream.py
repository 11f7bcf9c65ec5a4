"""
A provider on loopback: strict about what it is asked, and slow on purpose, since it waits until each of its words was heard.

    upstream.answers = [failed(503, {...}), ok]     # the last one again and again
    upstream.hear()                                 # from any thread: the application has got one thing more
"""

import asyncio
import json
from abc import ABC, abstractmethod
from typing import Any

from tests.peers.providers.answer import Answer, AnswerTo
from tests.peers.raw import RawUpstream
from tests.peers.wire import PATIENCE_S, Ended, Message, Wire


class ProviderUpstream(RawUpstream, ABC):
    """
    Checks each request as the provider would, and answers it from `answers`.

    `wrong` says what was wrong with requests, which are answered with 400; `seen` are all requests.
    """

    name = ""
    """`gen_ai.provider.name`."""

    def __init__(self) -> None:
        super().__init__(self._serve_provider)
        self.answers: list[AnswerTo] = []
        self.seen: list[Message] = []
        self.wrong: list[str] = []
        self.hosts: set[str] = {self.authority}
        self._turn = 0
        self._heard = 0
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def begins(self, *answers: AnswerTo) -> None:
        """From here on answer with these, and forget what was."""
        self.answers = list(answers)
        self.seen = []
        self._turn = self._heard = 0
        self._loop = asyncio.get_running_loop()

    @abstractmethod
    def check(self, request: Message, asked: Any) -> None:
        """Raise AssertionError, KeyError or ValueError for what the provider would refuse."""

    def hear(self) -> None:
        """The application has heard one thing more; harmless from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._hear)

    def _hear(self) -> None:
        self._heard += 1
        self._news.set()

    async def _was_heard(self, count: int) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self._heard < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self._heard} things were heard, and not {count}: somebody holds back what was sent") from None

    async def _serve_provider(self, connection: Wire) -> None:
        connection.patience_s = 60.0
        while True:
            try:
                request = await connection.request()
            except Ended:
                return
            self.seen.append(request)
            answer = self._answer_to(request)
            await self._send(connection, request, answer)
            if answer.is_reset:
                await connection.resets()
            if answer.is_cut or answer.framing == "close":
                return

    def _answer_to(self, request: Message) -> Answer:
        try:
            asked = json.loads(request.body) if request.body else None
            self.check(request, asked)
        except (AssertionError, KeyError, ValueError) as fault:
            self.wrong.append(f"{type(fault).__name__}: {fault} in {request.head!r} {request.body!r}")
            return Answer(400, "text/plain", ((b"wrong", 0),))
        turn, self._turn = self._turn, self._turn + 1
        return self.answers[min(turn, len(self.answers) - 1)](asked)

    async def _send(self, connection: Wire, request: Message, answer: Answer) -> None:
        accepted = b", ".join(request.all(b"accept-encoding")).decode()
        coding = answer.coding(accepted)
        pieces = list(answer.coded(coding))
        if not answer.streams:
            body = b"".join(data for data, _ in pieces)
            await connection.sends(answer.head(len(body), coding), body[: len(body) // 2] if answer.is_cut else body)
            return
        await connection.sends(answer.head(sum(len(data) for data, _ in pieces), coding))
        is_chunked = answer.framing == "chunked"
        count = self._heard
        for data, heard in pieces:
            if data:
                await connection.sends(b"%x\r\n%b\r\n" % (len(data), data) if is_chunked else data)
            count += heard
            if heard:
                await self._was_heard(count)
            elif len(data) < 16:
                await asyncio.sleep(0)  # a read of its own, more often than not
        if is_chunked and not answer.is_cut:
            await connection.sends(b"0\r\n\r\n")
