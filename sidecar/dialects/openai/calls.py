"""The tool calls of one answer as their pieces come: by index, each with its arguments put together, all of it bounded."""

from sidecar.dialects.lenient import size
from sidecar.model.answered import ToolCall

MOST_CALLS = 256
MOST_BYTES = 1 << 20
"""Of all arguments together; what comes after that is counted as content, and not kept."""

_EAGER_BYTES = 1 << 16
_LONGEST = 256


class ToolCalls:
    """
    Fills a list of `ToolCall`.

    Arguments appear in it as they come; above 64 KiB in steps of an eighth, as each appending copies what is there, and in
    full with `settle`.
    """

    __slots__ = ("_by_key", "_calls", "_kept_bytes", "_last", "_waiting")

    def __init__(self, calls: list[ToolCall]) -> None:
        self._calls = calls
        self._by_key: dict[tuple[int, int], ToolCall] = {}
        self._last: ToolCall | None = None
        self._kept_bytes = 0
        self._waiting: dict[int, bytearray] = {}  # by the identity of the call

    def piece(self, key: tuple[int, int] | None, call_id: str | None, name: str | None, arguments: str | None) -> int:
        """
        Take a piece of a call and return how many bytes of content it has.

        `key` says which call it belongs to (choice and index); None is the last one, or a new one where an id comes. An id
        other than that of the key's call begins a new call: some number all of theirs 0.
        """
        call = self._last if key is None else self._by_key.get(key)
        if call is None or (call_id and call.id and call_id[:_LONGEST] != call.id):
            call = self._new(key)
        if call is not None:
            call.id = call.id or (call_id or "")[:_LONGEST]
            call.name = call.name or (name or "")[:_LONGEST]
            if arguments:
                self._append(call, arguments)
        return size(name) + size(arguments)

    def settle(self) -> None:
        """Put all that waits in its place."""
        for call in self._calls:
            waiting = self._waiting.pop(id(call), None)
            if waiting:
                call.arguments += waiting

    def _new(self, key: tuple[int, int] | None) -> ToolCall | None:
        if len(self._calls) >= MOST_CALLS:
            return None
        call = ToolCall()
        self._calls.append(call)
        self._last = call
        if key is not None:
            self._by_key[key] = call
        return call

    def _append(self, call: ToolCall, arguments: str) -> None:
        piece = arguments.encode("utf-8", "replace")
        if self._kept_bytes + len(piece) > MOST_BYTES:
            self._kept_bytes = MOST_BYTES  # nothing behind a gap is kept either
            return
        self._kept_bytes += len(piece)
        if len(call.arguments) < _EAGER_BYTES:
            call.arguments += piece
            return
        waiting = self._waiting.setdefault(id(call), bytearray())
        waiting += piece
        if len(waiting) >= len(call.arguments) // 8:
            call.arguments += waiting
            waiting.clear()
