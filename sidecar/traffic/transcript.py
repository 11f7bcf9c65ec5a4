"""
What is said in one attempt, read as it passes: it becomes the attempt's `Dialogue` when the attempt is over.

The bytes go on to the client first, untouched; what is read here is a copy, decoded where it is coded. Nothing that goes
wrong in it is the call's fault: the reading ends, with a word why.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from sidecar.dialects.bodies import WholeBody
from sidecar.dialects.dialect import BodyEdit, Reader
from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import Asked, ModelAsked
from sidecar.model.change import NAMES, Change
from sidecar.model.content import Content
from sidecar.model.cost import Cost, Pricing
from sidecar.model.dialogue import Dialogue
from sidecar.model.trace import SAMPLED
from sidecar.traffic.coding import Decoder, Undecodable, decoder_of, is_identity
from sidecar.traffic.copying import CopyingReader
from sidecar.traffic.wire.body import content_of

if TYPE_CHECKING:
    from sidecar.model.exchange import Attempt
    from sidecar.traffic.inspector import Inspector
    from sidecar.traffic.wire.response_head import ResponseHead

_log = logging.getLogger(__name__)

_SHORT_BYTES, _MOST_WAITING = 4 * 1024, 16
"""Pieces that wait to be read together, and how long they may be."""
_CHEAP_BYTES = 16 * 1024
"""What is fed at once; a stream's pieces are nearly always shorter."""
_MOST_BEHIND_BYTES = 512 * 1024
"""What may wait to be read where nobody holds the upstream back."""
_TURN_NS, _MOST_END_NS = 4_000_000, 30_000_000
"""CPU that reading may take in one loop turn; and for what is still unread when an answer is over, coded twice as much."""
_ALLOWED_NS_A_BYTE = 100
"""CPU that reading may take: real events take 3 to 20."""
_PATIENCE_NS = 20_000_000
"""CPU that it may take beyond that; reading that costs less earns it back."""
_MOST_STEP_NS = 12_000_000
"""What one step counts for at most: the end of one very long event may take longer, and is no game."""


class Pricer(Protocol):
    """Who knows what a call to a model costs."""

    def cost(
        self, asked: ModelAsked, answered: ModelAnswered | None, *, host: str, at_ns: int, request_bytes: int,
        answered_bytes: int, status: int,
    ) -> Cost: ...  # fmt: skip


class Flow(Protocol):
    """Who can hold the upstream back."""

    def reading_is_behind(self, *, is_behind: bool) -> None:
        """More has come than could be read in its turn; or all of it has been read now."""
        ...


class Transcript:
    """
    The reading of one attempt's answer.

    `unread` says why the request, or the answer, is not read in full. `edits` and `skipped` are what was done to the request,
    and what was not. What comes is in chunks where `is_framed`; `last`, the end of the content, never is. `flow`
    holds the upstream back while `is_late`: what has come is read in turns, so that other calls have theirs.
    """

    __slots__ = (
        "_answered", "_attempt", "_behind", "_copy", "_decoder", "_first_content_at", "_head", "_inspector",
        "_is_over", "_now_ns", "_patience_ns", "_reader", "_waiting", "_whole", "asked", "body", "edits", "flow",
        "is_framed", "is_late", "is_sent", "last", "removal", "sent_bytes", "skipped", "unread",
    )  # fmt: skip

    def __init__(
        self, inspector: "Inspector", attempt: "Attempt", asked: Asked, unread: str, now_ns: Callable[[], int],
        body: bytes | None = None,
    ) -> None:  # fmt: skip
        self._inspector = inspector
        self._attempt = attempt
        self.asked = asked
        self.unread = unread
        self._now_ns = now_ns
        self.body = body
        self._patience_ns = _PATIENCE_NS
        self._first_content_at = self.sent_bytes = 0
        self.is_framed = self.is_sent = self.is_late = self._is_over = False
        self._behind = b""
        self.flow: Flow | None = None
        self._head: ResponseHead | None = None
        self._answered: Answered | None = None
        self._reader: Reader | None = None
        self._whole: WholeBody[Answered] | None = None
        self._copy: CopyingReader | None = None
        self._decoder: Decoder | None = None
        self._waiting: list[bytes] | None = None
        self.removal: BodyEdit | None = None
        self.last: bytes | None = None
        self.edits: tuple[str, ...] = ()
        self.skipped: tuple[str, ...] = ()

    def change(self, change: Change) -> str:
        """Change the request's body; returns "" or a word why that cannot be. Harmless once it has been sent: `sent`."""
        if self.is_sent:
            return "sent"
        if self.body is None:
            why = self.unread or "unread"
        else:
            before = self.body
            self.body, why = self._inspector.edit(self.asked, before, change)
            if not why and self.body is before:
                return ""  # it was so already
        if why:
            self.skipped += (f"{NAMES[type(change)]}:{why}",)
        else:
            self.edits += (NAMES[type(change)],)
        return why

    def answers(self, head: "ResponseHead") -> None:
        """The head of the answer has come: find who reads its body."""
        inspector = self._inspector
        content_type, coding = head.media or (_media_type(head), head.field(b"content-encoding"))
        is_coded = bool(coding) and not is_identity(coding)
        if self.removal is not None and (is_coded or content_type[:17].lower() != "text/event-stream"):
            self.removal = None  # an error, or something that nothing can be taken out of
        if inspector.reads_whole is not None and not is_coded and not inspector.keeps_content:
            self._head = head  # who reads is found when the first content comes: it may be the whole
            return
        self._find_reader(head, content_type)
        if is_coded:
            self._decoder = decoder_of(coding)
            if self._decoder is None:
                self._stop("unknown_coding")

    def _find_reader(self, head: "ResponseHead", content_type: str) -> None:
        inspector, self._head = self._inspector, None
        try:
            reader = inspector.dialect.reader(self.asked, head.status, content_type, Fields(head))
        except Exception:  # noqa: BLE001 - what a dialect makes of a head must not fail the call
            self._failed()
            return
        if inspector.keeps_content:
            self._copy = CopyingReader(reader, content_type)
        if isinstance(reader, WholeBody):
            self._whole = reader
            reader.space = inspector.room
        self._reader = self._copy or reader

    def feed(self, data: bytes) -> None:
        """
        Read content that has come, in chunks where `is_framed`; harmless when nobody reads.

        Once the first content is there, a few short pieces are read together: each that comes alone finds a sleeping proxy,
        where everything that has to be called for it is cold and costs five times as much.
        """
        waiting = self._waiting
        if self._first_content_at and len(data) < _SHORT_BYTES:
            if waiting is None:
                waiting = self._waiting = []
            waiting.append(data)
            if len(waiting) >= _MOST_WAITING:
                self._read_waiting(waiting)
            return
        if waiting:
            self._read_waiting(waiting)
        self._read(content_of(data) if self.is_framed else data)

    def _read_waiting(self, waiting: list[bytes]) -> None:
        data = b"".join(waiting)
        waiting.clear()
        self._read(content_of(data) if self.is_framed else data)

    def _read(self, data: bytes, most_ns: int = _TURN_NS) -> None:
        if self._head is not None:
            self._find_reader(self._head, _media_type(self._head))
        reader = self._reader
        if reader is None or reader.__class__ is _Stopped:
            return
        try:
            if self._decoder is None and len(data) <= _CHEAP_BYTES and not self._behind:
                reader.feed(data)
            else:
                self._feed_much(reader, data, most_ns)
        except Undecodable as fault:
            self._stop(fault.reason)
            return
        except Exception:  # noqa: BLE001 - as above
            self._failed()
            return
        if not self._first_content_at and reader.answered.content_bytes:
            self._first_content_at = self._now_ns()

    def _feed_much(self, reader: Reader, data: bytes, most_ns: int) -> None:
        """
        Read what is behind and what has come, in steps and for so long; the rest waits for a loop turn of its own.

        Reading stops where the events cost the loop far more than events do: somebody plays games.
        """
        decoder, unread, at = self._decoder, self._behind, 0
        if data:
            unread += data if decoder is None else b"".join(decoder.feed(data, 1))
        if self.flow is None and self._behind_bytes > _MOST_BEHIND_BYTES:
            most_ns = _MOST_END_NS  # nobody holds the upstream back
        patience_ns, at_ns = self._patience_ns, time.thread_time_ns()
        end_ns = at_ns + most_ns
        while at_ns < end_ns:
            if at >= len(unread):
                unread, at = b"".join(decoder.feed(b"", 1)) if decoder is not None else b"", 0
                if not unread:
                    break
                at_ns = time.thread_time_ns()
            step = unread[at : at + _CHEAP_BYTES]
            reader.feed(step)
            at += len(step)
            began_ns, at_ns = at_ns, time.thread_time_ns()
            spent_ns = min(at_ns - began_ns, _MOST_STEP_NS)
            patience_ns = min(patience_ns + _ALLOWED_NS_A_BYTE * len(step) - spent_ns, _PATIENCE_NS)
            if patience_ns < 0:
                self._stop("too_costly")
                return
        self._patience_ns, self._behind = patience_ns, unread[at:]
        if most_ns == _TURN_NS and not self.is_late and self._behind_bytes:
            self.is_late = True
            if self.flow is not None:
                self.flow.reading_is_behind(is_behind=True)
            asyncio.get_running_loop().call_soon(self._next_step)

    @property
    def _behind_bytes(self) -> int:
        """How much of what has come is still to be read."""
        return len(self._behind) + (self._decoder.behind_bytes if self._decoder is not None else 0)

    def _next_step(self) -> None:
        self.is_late = False
        if self._is_over:
            return
        self._read(b"")
        if self.flow is not None and not self.is_late:
            self.flow.reading_is_behind(is_behind=False)

    def _read_rest(self, data: bytes) -> None:
        """Read all that is behind, and what came last, within a bound: nothing more will come."""
        if data or self._behind_bytes:
            self._read(data, _MOST_END_NS if self._decoder is None else 2 * _MOST_END_NS)
            if self._behind_bytes:
                self._stop("too_costly")

    def _end(self, data: bytes) -> None:
        """Read the last content of a body that came whole."""
        if self._head is not None:
            self._find_reader(self._head, _media_type(self._head))
        reader = self._reader
        if reader is None:
            return
        if self._waiting:
            self._read_waiting(self._waiting)
        try:
            if data and self._decoder is None and len(data) <= _CHEAP_BYTES and not self._behind:
                reader.feed(data)  # here too, as this is how most answers come
            else:
                self._read_rest(data)
            reader = self._reader or reader  # another one, where it was stopped
            reader.end()
        except Exception:  # noqa: BLE001 - as above
            self._failed()
            return
        if not self._first_content_at and reader.answered.content_bytes:
            self._first_content_at = self._now_ns()

    def _reads_whole(self, head: "ResponseHead", data: bytes) -> bool:
        """Read an answer that came in one piece, where its dialect can do that; False where a reader has to."""
        read = self._inspector.reads_whole
        if read is None or not 0 < len(data) <= _CHEAP_BYTES:
            return False
        media = head.media
        try:
            answered = read(self.asked, head.status, _media_type(head) if media is None else media[0], data)
        except Exception:  # noqa: BLE001 - as above
            self._failed()
            return False
        if answered is None:
            return False
        self._head, self._answered = None, answered
        if answered.content_bytes:
            self._first_content_at = self._now_ns()
        return True

    def _failed(self) -> None:
        _log.exception("the dialect %s failed to read an answer", self._inspector.dialect.name)
        self._stop("failed")

    def _stop(self, why: str) -> None:
        """Read no further; what has been read stays, and is known not to be all."""
        self.unread = self.unread or ("answer_too_large" if why == "too_large" else why)
        if self._reader is not None:
            self._reader.answered.is_unreadable = True
            self._behind = b""
            self._reader = _Stopped(self._reader.answered)

    def dialogue(self, started_ns: int) -> Dialogue:
        """What was said, now that the attempt is over which began at `started_ns` since the epoch."""
        last = self.last
        if last is not None:
            if self._head is None or not self._reads_whole(self._head, last):
                self._end(last)
        else:
            if self._waiting:
                self._read_waiting(self._waiting)
            self._read_rest(b"")
        self._is_over = True
        whole = self._whole
        if whole is not None and whole.taken:
            whole.drop()
        if self._head is not None:  # nothing has come behind it
            self._find_reader(self._head, _media_type(self._head))
        reader, asked, inspector = self._reader, self.asked, self._inspector
        answered = reader.answered if reader is not None else self._answered
        unread = self.unread or ("unreadable" if answered is not None and answered.is_unreadable else "")
        if unread == "unreadable" and whole is not None and not whole.has_room:
            unread = "no_room"
        at = self._first_content_at
        first_content_s = (at - self._attempt.started_at) / 1e9 if at else 0.0
        cost = self._cost(asked, answered, started_ns) if inspector.tells_cost and isinstance(asked, ModelAsked) else None
        content = self._content() if inspector.keeps_content else None
        return Dialogue(asked, answered, first_content_s, cost, unread, self.edits, self.skipped, content)

    def _content(self) -> Content | None:
        """What was said, word by word; of a trace that is not sampled nobody will ask for it."""
        if not self._attempt.exchange.flags & SAMPLED:
            return None
        copy = self._copy
        answer, content_type = (copy.kept, copy.content_type) if copy is not None else (b"", "")
        try:
            content = self._inspector.content(self.asked, self.body or b"", answer, content_type)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("the dialect %s failed to collect content", self._inspector.dialect.name)
            return None
        if content is not None:
            content.is_cut |= self.body is None or (copy is not None and copy.is_cut)
        return content

    def _cost(self, asked: ModelAsked, answered: Answered | None, started_ns: int) -> Cost:
        pricer = self._inspector.pricer
        if pricer is None:
            return Cost(0, Pricing.UNPRICED, why="no prices")
        if self.unread in ("too_large", "no_room", "too_many_chunks"):
            return Cost(0, Pricing.UNPRICED, why=self.unread)
        heard = answered if isinstance(answered, ModelAnswered) else None
        attempt, decoder = self._attempt, self._decoder
        return pricer.cost(
            asked, heard, host=self._inspector.host, at_ns=started_ns, request_bytes=attempt.sent_bytes,
            answered_bytes=decoder.decoded_bytes if decoder is not None else attempt.received_bytes, status=attempt.status,
        )  # fmt: skip


def _media_type(head: "ResponseHead") -> str:
    return head.media[0] if head.media is not None else head.field(b"content-type")


class _Stopped:
    """Stands in for a reader that is to read no further."""

    __slots__ = ("answered",)

    def __init__(self, answered: Answered) -> None:
        self.answered = answered

    def feed(self, data: bytes) -> None:
        """Let it pass."""

    def end(self) -> None:
        """What was not read has no end."""


class Fields(Mapping[str, str]):
    """The header fields of a response by lower-case name; each is looked for when somebody asks for it, which few do."""

    __slots__ = ("_head",)

    def __init__(self, head: "ResponseHead") -> None:
        self._head = head

    def __getitem__(self, name: str) -> str:
        value = self._head.field(name.encode("latin-1", "replace"))
        if not value:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        lines = self._head.as_is.split(b"\r\n") if self._head.as_is else self._head.lines
        return (line.partition(b":")[0].decode("latin-1").lower() for line in lines[1:] if line)

    def __len__(self) -> int:
        return sum(1 for _ in self)
