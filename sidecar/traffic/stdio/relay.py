"""
Both directions between a client and its server: pure of any I/O, so that it is told of bytes and says whom to write which.

What the client sends is asked about line by line, and goes on in the order in which it came, but for calls that filters think
about. What the server sends passes; only answers that somebody else waits for, or that came too late, are taken out.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.jsonrpc import Kind, Message, key, members, messages, text
from sidecar.dialects.mcp.questions import RESPONSE, McpCall, message_of
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.chain import ask
from sidecar.traffic.stdio.call import ANSWERED, Id, StdioCall
from sidecar.traffic.stdio.filtered import Filtered
from sidecar.traffic.stdio.glimpse import Glimpse
from sidecar.traffic.stdio.lines import Splitter

if TYPE_CHECKING:
    from sidecar.traffic.stdio.listener import StdioListener

MOST_CALLS = 10_000
"""Calls that may wait for an answer."""
MOST_LATE = 1024
"""Answers that are still to come for calls that we have answered ourselves; older ones would pass."""

_CANCELLED = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}\n'


class _Progress(msgspec.Struct, gc=False, rename={"token": "progressToken"}):
    token: msgspec.Raw = msgspec.Raw(b"")


_progress = msgspec.json.Decoder(_Progress)


class _Side:
    """One direction's lines, and its way out; what we say ourselves waits for the end of a line that passes in pieces."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.lines = Splitter()
        self._write = write
        self._waiting: list[bytes] = []
        self._is_within = False

    def pass_on(self, pieces: list[bytes]) -> None:
        """Write what came, and then what has waited for it."""
        if not pieces:
            return
        self._is_within = pieces[-1][-1:] != b"\n"
        if self._waiting and not self._is_within:
            pieces += self._waiting
            self._waiting = []
        self._write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def say(self, line: bytes) -> None:
        """Write a line of our own, between others."""
        if self._is_within:
            self._waiting.append(line)
        else:
            self._write(line)

    def ends(self) -> None:
        """Nothing more comes: end a line that was cut, and say what has waited for it."""
        if self._is_within:
            self._is_within = False
            self._write(b"\n" + b"".join(self._waiting))
            self._waiting = []


class Relay:
    """
    One session: `to_client` and `to_server` write bytes; `calls` are those that wait for an answer, by id.

    When the client says no more, calls that filters still hold are sent first; then the server's input is closed.
    """

    def __init__(self, listener: "StdioListener", to_client: Callable[[bytes], None], to_server: Callable[[bytes], None]) -> None:
        self._listener = listener
        self._there = _Side(to_server)
        self._back = _Side(to_client)
        self._late: dict[Id, None] = {}
        self._watched: dict[str, StdioCall] = {}
        self._glimpse = Glimpse()
        self._close: Callable[[], None] | None = None
        self._is_closed = False
        self.calls: dict[Id, StdioCall] = {}

    @property
    def is_awaited(self) -> bool:
        """Whether a call waits for an answer that will come, so that a server which works on it may be left in peace."""
        return not self._is_closed and any(not call.asked.is_standing for call in self.calls.values())

    # from the client

    def client_sends(self, data: bytes) -> None:
        """Take what came from the client."""
        self._take(self._there.lines.feed(data))

    def client_ends(self, close: Callable[[], None]) -> None:
        """
        The client has closed its way to the server; answers may still come.

        The server's input is closed by `close`, which is called once, as soon as no call is left that has to go there.
        """
        last = self._there.lines.end()
        if last is not None:
            self._take([last])
        self._close = close
        self._close_if_done()

    def _close_if_done(self) -> None:
        close = self._close
        if close is not None and not any(call.is_held for call in self.calls.values()):
            self._close = None
            close()

    def _take(self, pieces: list[tuple[bytes, bool]]) -> None:
        going: list[bytes] = []
        for piece, is_line in pieces:
            if not is_line:
                self._listener.count_unread()
                going.append(piece)
                continue
            line = self._asked(piece)
            if line:
                going.append(line)
        self._there.pass_on(going)

    def _asked(self, line: bytes) -> bytes:
        """Return what goes on of one line: b"" where it is refused, or not decided yet."""
        try:
            asked = message_of(line)
        except Unreadable:
            if not line.isspace():
                self._listener.count_unread()
            return line
        found = key(asked.raw_id) if asked.raw_id and asked.operation != RESPONSE else None
        if found is not None:
            return self._begin(asked, found, line)
        return b"" if asked.cancels and not self._cancelled(asked.cancels) else line

    def _begin(self, asked: McpCall, found: Id, line: bytes) -> bytes:
        listener = self._listener
        call = StdioCall(listener, asked, found, listener.begin(asked), line)
        earlier = self.calls.get(found)
        if earlier is not None:
            self._end(earlier, "client_gone")  # nobody could tell whose the answer is
        self._late.pop(found, None)
        self.calls[found] = call
        if asked.progress_token:
            self._watched[asked.progress_token] = call
        chain = listener.chain
        try:
            if len(self.calls) > MOST_CALLS:
                raise Refused("pool_exhausted", f"{MOST_CALLS} calls wait for an answer of the server's")
            if self._is_closed:
                raise UpstreamFailed("upstream_closed", "the server has ended")
            if listener.is_draining:
                raise Refused("draining")
            if chain.filters:
                Filtered(self, call).start(chain)
                return b""
            if chain.admit is not None:
                ask(chain.admit, call.exchange)
            attempt = call.begin_attempt()
            if chain.take is not None:
                ask(chain.take, attempt)
            if call.exchange.stopped:
                raise Refused("stopped", call.exchange.stopped)
        except Refused as refused:
            self.refuse(call, refused)
            return b""
        call.exchange.when_stopped(lambda reason: self._stop(call, reason))
        return call.made()

    def _stop(self, call: StdioCall, reason: str) -> None:
        self.give_up(call, Refused("stopped", reason))

    def _cancelled(self, cancels: str) -> bool:
        """The client waits no longer; False where the server has never heard of the call."""
        numeral = int(cancels) if cancels.isascii() and cancels.isdigit() else None
        call = self.calls.get(cancels) or (self.calls.get(numeral) if numeral is not None else None)
        if call is None:
            return True
        was_sent = call.record is not None and call.record.attempt.sent_bytes > 0
        self._end(call, "client_gone")
        return was_sent

    # from the server

    def server_sends(self, data: bytes) -> None:
        """Take what came from the server."""
        self._give(self._back.lines.feed(data))

    def _give(self, pieces: list[tuple[bytes, bool]]) -> None:
        going: list[bytes] = []
        answered: list[tuple[StdioCall, int]] = []
        for piece, is_line in pieces:
            if not is_line:
                self._look_at_long(piece, answered)
            elif (self.calls or self._late) and not self._told(piece, answered):
                continue
            going.append(piece)
        self._back.pass_on(going)  # before anything else: whoever hears of a call's end hears of it after its client
        for call, size in answered:
            if call.task is not None:
                call.task.cancel()
            call.over(ANSWERED, "", size)

    def _look_at_long(self, piece: bytes, answered: list[tuple[StdioCall, int]]) -> None:
        """Whoever's answer a long line is by the look of it gets it as it passes, past whatever waits for it."""
        glimpse = self._glimpse
        glimpse.feed(piece)
        if piece[-1:] != b"\n":
            return
        self._glimpse = Glimpse()
        self._listener.count_unread()
        found = glimpse.answers()
        call = self.calls.get(found) if found is not None else None
        if call is None or call.record is None or not call.record.is_sent:
            return
        call.hear_unread(glimpse.size)
        self._leave(call)
        answered.append((call, glimpse.size))

    def _told(self, line: bytes, answered: list[tuple[StdioCall, int]]) -> bool:
        """Look at one line; False where it is not for the client."""
        try:
            found = messages(line)
        except Unreadable:
            if not line.isspace():
                self._listener.count_unread()
            return True
        passes = True
        for message in found:
            kind = message.kind
            if kind is Kind.RESPONSE:
                passes = self._answered(message, line, answered) and passes
            elif kind is Kind.NOTIFICATION:
                self._progress(message, len(line))
            elif kind is Kind.REQUEST and len(self.calls) == 1:  # of several calls, nobody could tell whose it is
                self._about(next(iter(self.calls.values())), message, len(line))
        return passes

    def _answered(self, message: Message, line: bytes, answered: list[tuple[StdioCall, int]]) -> bool:
        found = key(message.id) if message.id else None
        call = self.calls.get(found) if found is not None else None
        if call is None or call.record is None:
            if found is None or found not in self._late:
                return True
            del self._late[found]
            return False
        call.hear(message, len(line))
        if call.waiter is not None:
            if not call.waiter.done():
                call.waiter.set_result(line)
            return False
        self._leave(call)
        answered.append((call, len(line)))
        return True

    def _progress(self, message: Message, size: int) -> None:
        if text(message.method) != "notifications/progress":
            return
        token = text(members(message.params, _progress, _NO_PROGRESS).token)
        call = self._watched.get(token)
        if call is not None:
            self._about(call, message, size)

    def _about(self, call: StdioCall, message: Message, size: int) -> None:
        if call.record is not None and call.record.attempt.sent_bytes:
            call.hear(message, size)

    def server_ends(self) -> None:
        """The server will say nothing more: whoever still waits is told so."""
        last = self._back.lines.end()
        if last is not None:
            self._give_last(last[0])
        self._back.ends()
        self._is_closed = True
        for call in tuple(self.calls.values()):
            self.give_up(call, UpstreamFailed("upstream_closed", "the server ended before it answered"))

    def _give_last(self, line: bytes) -> None:
        """A line that the server did not end may be a message; half of one is of no use to anybody."""
        try:
            messages(line)
        except Unreadable:
            self._listener.count_unread()
        else:
            self._give([(line + b"\n", True)])

    # endings

    def client_is_gone(self) -> None:
        """Nobody reads any more."""
        for call in tuple(self.calls.values()):
            self._end(call, "client_gone")

    def send(self, call: StdioCall) -> None:
        """Send a call that filters have thought about; raises `Refused` where there is no server any more."""
        if self._is_closed:
            raise UpstreamFailed("upstream_closed", "the server has ended")
        self._there.say(call.made())
        self._close_if_done()

    def answer(self, call: StdioCall, line: bytes, status: int) -> None:
        """Give a call's answer that did not simply pass."""
        if self._leave(call):
            self._back.say(line)
            call.over(status, "", len(line))

    def refuse(self, call: StdioCall, refused: Refused) -> None:
        """Answer a call with an error of ours."""
        if not self._leave(call):
            return
        status, line = call.refusal(refused)
        self._back.say(line)
        self._listener.count_refused(refused.code)
        call.over(status, refused.code, len(line))

    def give_up(self, call: StdioCall, refused: Refused) -> None:
        """End a call that may be under way at the server, which is told so; what it still answers is nobody's."""
        was_sent = call.record is not None and call.record.attempt.sent_bytes > 0
        if call.waiter is not None and not call.waiter.done() and isinstance(refused, UpstreamFailed):
            if not self._is_closed:
                self.forget(call)
            call.waiter.set_exception(refused)  # the filters decide what that means
            return
        if call.task is not None:
            call.task.cancel()
        self.refuse(call, refused)
        if was_sent and not self._is_closed:
            self.forget(call)

    def forget(self, call: StdioCall) -> None:
        """Tell the server that nobody waits for this call's answer, and keep a late one from the client."""
        if len(self._late) >= MOST_LATE:
            del self._late[next(iter(self._late))]
        self._late[call.key] = None
        if call.asked.operation != "initialize":  # which must not be cancelled (2025-11-25, cancellation)
            self._there.say(_CANCELLED % call.asked.raw_id)

    def _end(self, call: StdioCall, error: str) -> None:
        self._leave(call)
        if call.task is not None:
            call.task.cancel()
        call.over(0, error, 0)

    def _leave(self, call: StdioCall) -> bool:
        """Wait no longer for a call's answer; False where nobody has."""
        if self.calls.get(call.key) is not call:
            return False
        del self.calls[call.key]
        token = call.asked.progress_token
        if token and self._watched.get(token) is call:
            del self._watched[token]
        self._close_if_done()
        return True

    # time

    def tick(self, now: float) -> None:
        """End what has taken too long."""
        for call in tuple(self.calls.values()):
            code = call.overdue(now)
            if code:
                self.give_up(call, UpstreamFailed(code))


_NO_PROGRESS = _Progress()
