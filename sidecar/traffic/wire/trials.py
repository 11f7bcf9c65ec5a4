"""
All attempts of one filtered call, one after the other or several at once (`chain.Attempts`).

Filters may forward as often as a bound allows. Each `forward` gets its response or an error, whatever happens; each attempt
that was begun ends, and is told of, once. What nobody returned when the call is answered is given up.
"""

import asyncio
from typing import TYPE_CHECKING

from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import Mode
from sidecar.traffic.meter import begin_attempt
from sidecar.traffic.response import Response
from sidecar.traffic.wire.call import UPLOAD_WINDOW_BYTES
from sidecar.traffic.wire.deadlines import undecided
from sidecar.traffic.wire.delivery import end_stages
from sidecar.traffic.wire.handover import dial_other_side
from sidecar.traffic.wire.trial import Trial

if TYPE_CHECKING:
    from sidecar.traffic.wire.filtered import FilteredCall
    from sidecar.traffic.wire.request import Ready

MOST_ATTEMPTS = 64
"""Attempts of one exchange, replays included; a policy that wants more of them than this is running wild."""


class Trials:
    """The attempts of one call, and its request's content for as long as it can be sent once more."""

    __slots__ = (
        "_call", "_content", "_is_closed", "_is_sent_on", "_made", "_ready", "_said", "_streaming", "_thinks_since", "_trials",
        "_wants_fresh",
    )  # fmt: skip

    def __init__(self, call: "FilteredCall", ready: "Ready") -> None:
        self._call = call
        self._ready = ready
        self._trials: dict[Attempt, Trial] = {}
        self._made: list[Response] = []
        self._said: list[Dialogue] = []
        self._content = bytearray()
        self._streaming: Trial | None = None
        self._is_closed = self._is_sent_on = self._wants_fresh = False
        self._thinks_since = call.listener.now()

    def begins(self) -> None:
        """It is the filters' turn from now on."""
        self._thinks_since = self._call.listener.now()

    # chain.Attempts

    def begin(self, exchange: Exchange) -> Attempt:
        self._drop_answered()
        if self._is_closed:
            raise Refused("given_up", "the call has been answered, or is over")
        if exchange.attempts >= MOST_ATTEMPTS:
            raise Refused("policy_failed", f"more than {MOST_ATTEMPTS} attempts")
        attempt = begin_attempt(exchange, self._call.listener.runtime.rng)
        upstream = self._ready.way.route.upstream
        transcript = self._call.opened(attempt)
        self._trials[attempt] = Trial(self._call, attempt, upstream, transcript, wants_fresh=self._wants_fresh)
        self._wants_fresh = False
        return attempt

    def _drop_answered(self) -> None:
        """Who has been given a response, and begins anew without having dropped it, does not want it."""
        task = asyncio.current_task()
        for trial in tuple(self._trials.values()):
            if trial.owner is task:
                self._give_up(trial, "given_up")

    async def send(self, attempt: Attempt) -> Response:
        trial = self._trials.get(attempt)
        if trial is None or trial.is_over:
            raise Refused("given_up", "the attempt is over")
        if trial.has_begun:
            raise Refused("policy_failed", "an attempt is sent once: what repeats has to stand above the attempt")
        if self._is_sent_on:
            raise UpstreamFailed("body_gone", "the request's body has gone to the attempt before")
        trial.has_begun = True
        try:
            if self._ready.way.mode is Mode.CONNECT:
                return await self._dial(trial)
            self._send(trial)
            return await trial.heard
        finally:
            self._thinks_since = self._call.listener.now()

    def _send(self, trial: Trial) -> None:
        call = self._call
        call.continue_soon()
        content = bytes(self._content)
        if call.inbound.body is not None:
            self._content = bytearray()  # streamed on as it comes: it cannot be sent twice
            self._is_sent_on = True
            self._streaming = trial
            call.keeps_no_content()
        call.inbound.resume_client()
        if trial.transcript is None or call.inspection is None:
            head = self._ready.head(call.exchange, trial.attempt)
        else:
            head, content = call.inspection.made(self._ready, call.exchange, trial.attempt, trial.transcript, content)
        trial.send(head, content)

    async def _dial(self, trial: Trial) -> Response:
        sock, address = await dial_other_side(trial.upstream)
        if trial.is_over:
            sock.close()
            raise Refused("given_up")
        return trial.reached(sock, address)

    def gave(self, attempt: Attempt, response: Response) -> None:
        trial = self._trials.get(attempt)
        if trial is None:
            return
        if response is trial.response:
            trial.owner = asyncio.current_task()
        else:
            self._give_up(trial, "given_up")

    def failed(self, attempt: Attempt, fault: BaseException) -> bool:
        trial = self._trials.get(attempt)
        if trial is None:
            return False
        was_stale = trial.was_stale and fault is trial.fault and not self._is_closed
        code = fault.code if isinstance(fault, Refused) else "given_up"
        self._give_up(trial, code)
        self._wants_fresh = was_stale  # the other idle connections are as old
        return was_stale

    def _give_up(self, trial: Trial, error: str) -> None:
        trial.give_up(error)
        self._trials.pop(trial.attempt, None)

    def saw(self, response: Response) -> None:
        if response.head is not None or any(response is made for made in self._made):
            return
        self._made.append(response)
        if self._is_closed:
            self._end_made(self._call.exchange.error or "given_up")

    # the request's content

    def content_came(self, data: bytes, *, whole: bool) -> None:
        """Keep content until it is sent, within a bound; from then on it is streamed."""
        if self._is_sent_on:
            if self._streaming is not None:
                self._streaming.content_came(data, whole=whole)
            return
        self._content += data
        if not whole and len(self._content) > UPLOAD_WINDOW_BYTES:
            self._call.inbound.pause_client()

    # endings

    def of(self, response: Response) -> Trial | None:
        """The attempt that a response came from, unless it was given up."""
        trial = next((trial for trial in self._trials.values() if trial.response is response), None)
        return None if trial is None or (trial.is_over and trial.fault is None) else trial

    def close(self, error: str, *, but: Response | None = None) -> Trial | None:
        """No further attempt: give all up, but for that of one response, which is returned."""
        self._is_closed = True
        trials, self._trials = self._trials, {}
        kept: Trial | None = None
        for trial in trials.values():
            if but is not None and trial.response is but:
                kept = trial
            else:
                trial.give_up(error)
        self._made = [made for made in self._made if made is not but]
        self._end_made(error)
        self._content = bytearray()
        self._streaming = None
        return kept

    def _end_made(self, error: str) -> None:
        made, self._made = self._made, []
        for response in made:
            end_stages(self._call.listener, response, error)

    def remembers(self, dialogue: Dialogue) -> None:
        """An attempt that was not delivered is over, and this was said in it; whoever decides may look at it until the end."""
        self._said.append(dialogue)

    def forget(self) -> None:
        """The exchange is over, and has been told of: let go of what is large in what was said."""
        for dialogue in self._said:
            dialogue.forget()
        self._said.clear()

    # time

    def overdue(self, now: float, quiet_s: float) -> Refused | None:
        """What ends the call; a deadline of an attempt is the filters' to hear."""
        for trial in tuple(self._trials.values()):
            fault = trial.overdue(now)
            if isinstance(fault, UpstreamFailed):
                trial.fail(fault)
            elif fault is not None:
                return fault
        inbound = self._call.inbound
        return undecided(
            quiet_s,
            0.0 if any(trial.is_awaited for trial in self._trials.values()) else now - self._thinks_since,
            client_is_full=inbound.is_full,
            is_uploading=inbound.body is not None and not inbound.is_paused,
            client_s=self._call.listener.idle_timeout_s,
            policy_s=self._ready.way.route.chain.policy_timeout_s,
        )
