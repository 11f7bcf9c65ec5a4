"""
The stages that a response's body passes, from the upstream's side to the client's, each told its ending exactly once.

A stage may do anything, so it is watched: one that raises, or gives something that is not bytes, fails the call with
`policy_failed`; one that raises `Refused` ends it with that code, which is how a budget or a kill switch cuts a stream.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Protocol

from sidecar.model.errors import Refused

_log = logging.getLogger(__name__)


class BodyStage(Protocol):
    """Stands between upstream and client; what it returns goes on in place of what it got. It serves one response."""

    def data(self, chunk: bytes) -> bytes:
        """Pass content on, changed or not; b"" holds it back (within a bound that the stage states)."""
        ...

    def end(self, error: str) -> bytes:
        """
        Give the last bytes, after the last content; called exactly once.

        `error` is "" after a whole body, else the code of why there is no more: what is given then is still written where
        the client is there, and the response is cut behind it, never ended cleanly.
        """
        ...


class Stages:
    """
    The stages of one response, nearest to the upstream first.

    After `flow` no further one may be put; after `end` one that is put is told so at once.
    """

    __slots__ = ("_each", "_error", "_flows", "_is_broken", "_refusing")

    def __init__(self) -> None:
        self._each: tuple[BodyStage, ...] = ()
        self._error: str | None = None
        self._flows = self._is_broken = False
        self._refusing: BodyStage | None = None

    def __iter__(self) -> Iterator[BodyStage]:
        return iter(self._each)

    def __len__(self) -> int:
        return len(self._each)

    def put(self, stage: BodyStage) -> None:
        """Add a stage at the client's side; raises RuntimeError once bytes may have passed where it should have stood."""
        if self._error is not None:
            stage.end(self._error)
            return
        if self._flows:
            raise RuntimeError("the response is on its way already: put stages on it before it is returned")
        self._each += (stage,)

    def flow(self) -> None:
        """From now on content comes: the stages are those that there are."""
        self._flows = True

    def data(self, chunk: bytes) -> bytes:
        """Pass content through all stages; raises `Refused` where one refuses to go on, or fails."""
        for stage in self._each:
            if not chunk:
                break
            try:
                chunk = self._asked(stage, chunk)
            except Refused:
                self._refusing = stage
                raise
        return chunk

    def end(self, error: str, chunk: bytes = b"") -> bytes:
        """
        Pass the last content and tell every stage its ending, whatever the others do; a second call does nothing.

        Raises the first `Refused` after all have been told; those behind a stage that fails hear of its code. What a stage
        has once refused to pass on is not passed to it again.
        """
        if self._error is not None:
            return b""
        self._error = error
        fault: Refused | None = None
        for stage in self._each:
            given = b""
            try:
                given = self._asked(stage, chunk) if chunk and not self._is_broken and stage is not self._refusing else b""
            except Refused as refused:
                fault = fault or refused
            try:
                given += self._ended(stage, fault.code if fault is not None and not error else error)
            except Refused as refused:
                fault = fault or refused
            chunk = given if fault is None else b""
        if fault is not None:
            raise fault
        return b"" if self._is_broken else chunk  # what a broken stage has left may have a hole in it

    def _asked(self, stage: BodyStage, chunk: bytes) -> bytes:
        try:
            return _bytes(stage.data(chunk))
        except Refused:
            raise
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - a stage may raise anything, and it is logged
            raise self._broken(stage) from None

    def _ended(self, stage: BodyStage, error: str) -> bytes:
        try:
            return _bytes(stage.end(error))
        except Refused:
            raise
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - a stage may raise anything, and it is logged
            raise self._broken(stage) from None

    def _broken(self, stage: BodyStage) -> Refused:
        self._is_broken = True
        _log.exception("a stage failed: %s", type(stage).__name__)
        return Refused("policy_failed", f"the stage {type(stage).__name__} failed")


def _bytes(given: bytes) -> bytes:
    if not isinstance(given, bytes):
        raise TypeError(f"a stage has to give bytes, not {type(given).__name__}")
    return given
