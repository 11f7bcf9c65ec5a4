"""
Requests that differ from one that was read before in their messages only.

An agent asks the same model with the same settings and tools again and again. Around the messages its requests are the same
bytes, and so is what they ask for: to find it again takes half as long as to read it anew, and less than that where there are
many tools.
"""

from typing import Generic, TypeVar

import msgspec

from sidecar.model.asked import ModelAsked

_MOST_BODY_BYTES = 64 * 1024
_MOST_AROUND_BYTES = 4 * 1024
_MOST_KEPT = 16
_PATIENCE, _AGAIN = 64, 8
_REST = 1024
"""
After so many more unknown requests than known ones 1,024 are not looked up, as one agent puts a new id into each; then eight are.
"""
_BEGINNING = 24
"""Bytes that messages are looked for by: for such a short text the search is simple, and fast."""
_NAMED = (b'"messages":', b'"messages": ')

A = TypeVar("A", bound=ModelAsked)
Around = tuple[bytes, bytes]
"""What stands before the messages of a request, and behind them."""


class _Messages(msgspec.Struct, gc=False):
    messages: msgspec.Raw = msgspec.Raw()


class _Text(msgspec.Struct, gc=False):
    content: str | None = None


_messages = msgspec.json.Decoder(_Messages).decode
_texts = msgspec.json.Decoder(list[_Text]).decode


class Familiar(Generic[A]):
    """
    What requests of one kind of head have asked for, by what stands around their messages.

    Only messages that are nothing but texts count: a file or picture among them would change what is asked. At most 16 requests
    of 4 KiB are kept, the oldest goes.
    """

    __slots__ = ("_kept", "_patience", "_rest")

    def __init__(self) -> None:
        self._kept: dict[Around, A] = {}
        self._patience = _PATIENCE
        self._rest = 0

    def around(self, body: bytes) -> Around | None:
        """Return a body without its messages; None where one cannot go by that."""
        if self._rest or len(body) > _MOST_BODY_BYTES:
            self._rest -= 1 if self._rest else 0
            return None
        try:
            messages = bytes(_messages(body).messages)
            _texts(messages)
        except (ValueError, RecursionError):
            return None
        begins = body.find(messages[:_BEGINNING])
        ends = begins + len(messages)
        before = body[:begins]
        # Where the first text that begins like them is not theirs, they are not looked for any further.
        if body[begins:ends] != messages or not before.endswith(_NAMED):
            return None
        return before, body[ends:]

    def find(self, around: Around) -> A | None:
        """Return what a request with this around its messages has asked for, None where there was none."""
        found = self._kept.get(around)
        if found is None:
            self._patience -= 1
            if not self._patience:
                self._patience, self._rest = _AGAIN, _REST
        elif self._patience < _PATIENCE:
            self._patience += 1
        return found

    def keep(self, around: Around, asked: A) -> None:
        """Remember what was asked for."""
        before, behind = around
        if len(before) + len(behind) > _MOST_AROUND_BYTES:
            return
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[around] = asked
