"""
A call whose route has filters: they get the server's answer as a response, and what they return is the client's.

To a filter an answer is a response of status 200 whose content is one message of JSON. Attempts of one call follow each other:
two at once would have the same id.
"""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.jsonrpc import SIDECAR_ERROR, failed, key, messages
from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange
from sidecar.traffic.chain import Chain
from sidecar.traffic.response import Response
from sidecar.traffic.stdio.call import ANSWERED, StdioCall

if TYPE_CHECKING:
    from sidecar.traffic.stdio.relay import Relay

MOST_ATTEMPTS = 64
"""Attempts of one call; a policy that wants more of them is running wild."""


class Filtered:
    """The attempts of one call (chain.Attempts), and what becomes of the filters' response."""

    def __init__(self, relay: "Relay", call: StdioCall) -> None:
        self._relay = relay
        self._call = call
        self._seen: list[Response] = []
        self._thinking: asyncio.Timeout | None = None
        self._policy_timeout_s = 0.0

    def start(self, chain: Chain) -> None:
        """Ask the filters, in a task that the call owns."""
        call = self._call
        self._policy_timeout_s = chain.policy_timeout_s
        call.exchange.when_stopped(lambda reason: self._relay.give_up(call, Refused("stopped", reason)))
        if not call.is_over:
            call.task = asyncio.get_running_loop().create_task(self._decide(chain), name="filters of a call over stdio")

    async def _decide(self, chain: Chain) -> None:
        relay, call = self._relay, self._call
        response: Response | None = None
        error = ""
        try:
            async with asyncio.timeout(self._policy_timeout_s) as self._thinking:
                response = await chain.run(self)(call.exchange)
            relay.answer(call, self._line(response), response.status)
        except TimeoutError:
            error = "policy_timeout"
            relay.refuse(call, Refused(error))
        except Refused as refused:
            error = refused.code
            relay.refuse(call, refused)
        except asyncio.CancelledError:
            error = "given_up"  # the call is over, and has been told of
            raise
        finally:
            for seen in self._seen:
                if seen is not response or error:
                    _end(seen, error or "given_up")

    def _line(self, response: Response) -> bytes:
        """What the client gets of a response; raises `Refused` where its content is no answer to the call."""
        response.stages.flow()
        content = response.stages.data(response.content)
        content += response.stages.end("")
        if response.status >= 400 and not self._is_answer(content):
            return failed(self._call.asked.raw_id, SIDECAR_ERROR, f"a policy answered with status {response.status}") + b"\n"
        if not self._is_answer(content):
            raise Refused("policy_failed", "what a policy returned is no answer to the call")
        return (msgspec.json.format(content, indent=-1) if b"\n" in content else content) + b"\n"

    def _is_answer(self, content: bytes) -> bool:
        try:
            return any(message.id and key(message.id) == self._call.key for message in messages(content))
        except Unreadable:
            return False

    # chain.Attempts

    def begin(self, exchange: Exchange) -> Attempt:
        call = self._call
        if call.is_over:
            raise Refused("given_up", "the call is over")
        if call.record is not None:
            raise Refused("policy_failed", "over stdio, attempts follow each other")
        if exchange.attempts >= MOST_ATTEMPTS:
            raise Refused("policy_failed", f"more than {MOST_ATTEMPTS} attempts")
        return call.begin_attempt()

    async def send(self, attempt: Attempt) -> Response:
        call, record = self._call, self._call.record
        if record is None or record.attempt is not attempt or call.waiter is not None:
            raise Refused("given_up", "the attempt is over")
        loop = asyncio.get_running_loop()
        call.waiter = loop.create_future()
        self._think(None)
        try:
            self._relay.send(call)
            line = await call.waiter
        except asyncio.CancelledError:
            if not call.is_over and attempt.sent_bytes:
                self._relay.forget(call)
            raise
        finally:
            call.waiter = None
            self._think(loop.time() + self._policy_timeout_s)
        call.attempt_over()
        return Response(ANSWERED, "OK", [b"Content-Type: application/json"], line.rstrip(b"\r\n"))

    def _think(self, until: float | None) -> None:
        if self._thinking is not None:
            self._thinking.reschedule(until)

    def gave(self, attempt: Attempt, response: Response) -> None:
        self._given_up(attempt, "given_up")

    def failed(self, attempt: Attempt, fault: BaseException) -> bool:
        self._given_up(attempt, fault.code if isinstance(fault, Refused) else "given_up")
        return False

    def _given_up(self, attempt: Attempt, error: str) -> None:
        record = self._call.record
        if record is not None and record.attempt is attempt:
            self._call.attempt_over(error)

    def saw(self, response: Response) -> None:
        if not any(response is seen for seen in self._seen):
            self._seen.append(response)


def _end(response: Response, error: str) -> None:
    """Tell the stages of a response that it came to nothing; a second time changes nothing."""
    try:
        response.stages.end(error)
    except Refused:
        pass  # it comes to nothing in any case
