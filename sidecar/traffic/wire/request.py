"""
A request made ready to go on: everything that follows from its head, so that the next with the same head need not be read.

Agents keep connections and send heads that differ in two places only, Content-Length and traceparent. A connection
remembers the last head without those two values; while they are the same bytes, the judgement is the same too. The values
themselves are judged each time. What is remembered lives and dies with the connection.
"""

from typing import NamedTuple

from sidecar.model.asked import A2aAsked, Asked
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import Mode, Passage
from sidecar.model.trace import format_traceparent
from sidecar.traffic.chain import Chain
from sidecar.traffic.coding import narrowed
from sidecar.traffic.inspector import Inspector
from sidecar.traffic.router import Way
from sidecar.traffic.wire.request_head import RequestHead

_LONGEST_REMEMBERED_BYTES = 8 * 1024
_MOST_FORWARDS = 10_000
_LENGTH_FIELD = b"content-length:"
_RPC = frozenset(("a2a", "mcp"))
"""Dialects whose body may turn out to be that of a call to an agent: what looks like MCP may be A2A."""
_CONDITIONS = frozenset((b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"))


class Cut(NamedTuple):
    """A head without its two changing values: `same` is what is left, `length` and `traceparent` what was cut out."""

    same: bytes
    length: bytes
    traceparent: bytes


def cut(head: bytes) -> Cut | None:
    """Cut the changing values out of a head; None where it is not of the common form, and has to be read in full."""
    at = head.find(b"\r\ntraceparent: ") + 15
    traceparent = b""
    if at > 14:
        end = head.find(b"\r\n", at)
        traceparent = head[at:end]
        if not _is_harmless(traceparent):
            return None
        head = head[:at] + head[end:]
    at = head.find(b"\r\nContent-Length: ") + 18
    if at == 17:
        at = head.find(b"\r\ncontent-length: ") + 18
        if at == 17:
            return Cut(head, b"", traceparent) if len(head) <= _LONGEST_REMEMBERED_BYTES else None
    end = head.find(b"\r\n", at)
    length = head[at:end]
    if not length.isdigit() or len(length) > 15 or len(head) > _LONGEST_REMEMBERED_BYTES:
        return None
    return Cut(head[:at] + head[end:], length, traceparent)


def _is_harmless(traceparent: bytes) -> bool:
    """False where further fields or control characters stand in the place of the value."""
    return traceparent.replace(b"-", b"").isalnum()


class Outline:
    """
    Where the changing values stood in the last head, and the bytes around them.

    `middle` and `tail` stand at `middle_at` and `tail_at`; a value that the head does not have is None.
    """

    __slots__ = ("length", "middle", "middle_at", "size", "start", "tail", "tail_at", "traceparent")

    def __init__(self, head: bytes, found: Cut) -> None:
        self.size = size = len(head)
        parent_at = head.find(b"\r\ntraceparent: ") + 15 if found.traceparent else size
        length_at = head.lower().find(b"\r\ncontent-length: ") + 18 if found.length else size
        parent, length = slice(parent_at, parent_at + len(found.traceparent)), slice(length_at, length_at + len(found.length))
        first, second = (length, parent) if length_at < parent_at else (parent, length)
        self.start = head[: first.start]
        self.middle = head[first.stop : second.start]
        self.middle_at = first.stop
        self.tail = head[second.stop :]
        self.tail_at = second.stop
        self.length = length if found.length else None
        self.traceparent = parent if found.traceparent else None


class Ready:
    """
    A request, where it goes, and its head for the upstream in three pieces around the changing values.

    `cut` is what has to be the same for another request to be served by this one; `way.route` is of the graph `graph`.
    With `takes_part` off (OTEL_SDK_DISABLED), trace headers go on as they came. `inspector` reads such requests, where anybody
    does; it is then asked for no coding that nobody here can read. `chain` is the route's, or one that this head alone takes.
    `may_ask_for_card`: by what is read of a body, `chain_for` may be another one. With `wants_whole`, the upstream does not hear
    of conditions and ranges: a policy changes what they are about and obeys them.
    """

    __slots__ = (
        "_after", "_before", "_last", "_takes_part", "chain", "cut", "graph", "inspector", "may_ask_for_card", "passage",
        "request", "way",
    )  # fmt: skip

    def __init__(
        self, request: RequestHead, way: Way, passage: Passage, graph: object, via_line: bytes, *, takes_part: bool = True,
        inspector: Inspector | None = None, chain: Chain | None = None, wants_whole: bool = False,
    ) -> None:  # fmt: skip
        self._takes_part = takes_part
        self.inspector = inspector
        self.chain = chain or way.route.chain
        is_gateway = way.mode is Mode.GATEWAY
        self.may_ask_for_card = is_gateway and way.route.leads_cards and inspector is not None and inspector.dialect.name in _RPC
        self.request = request
        self.way = way
        self.passage = passage
        self.graph = graph
        self.cut: Cut | None = None
        self._last: Outline | None = None
        lines = request.lines.copy()
        upstream = way.route.upstream
        target, host_line = (way.target, way.host_line) if upstream.asks is None else _whole(way)
        lines[0] = b"%b %b HTTP/1.1" % (request.method, target)
        if not request.host_at:
            lines.insert(1, b"Host: " + host_line)
        elif request.host != host_line:
            lines[request.host_at] = b"Host: " + host_line
        if wants_whole:
            lines = [line for line in lines if line.partition(b":")[0].lower() not in _CONDITIONS]
        if upstream.asks is not None and upstream.asks.authorization:
            lines.append(b"Proxy-Authorization: " + upstream.asks.authorization.reveal().encode())
        if request.baggage and way.route.baggage:
            lines += [b"baggage: " + value for value in request.baggage]
        if request.upgrade:
            lines += [b"Connection: Upgrade", b"Upgrade: " + request.upgrade]
        lines.append(via_line)
        lines += [b"traceparent: "] if takes_part else _trace_lines(request)
        if inspector is not None and not inspector.is_signed:
            _narrow(lines)
        self._before, self._after = _around_length(lines) if request.length > 0 else (b"\r\n".join(lines), b"")

    def chain_for(self, asked: Asked | None) -> Chain:
        """The chain of a call that has been read: through a gateway, an agent's card needs one of its own."""
        asks_for_card = isinstance(asked, A2aAsked) and asked.agent_card and self.way.mode is Mode.GATEWAY
        return self.way.route.card_chain() if asks_for_card else self.chain

    def comes_again(self, data: bytes, graph: object) -> int:
        """
        The size of the head that `data` begins with where it is the last one once more, else 0.

        Its two values are then those of `request`. Where they stand in the same places no search is needed, not even for
        the end of the head: the bytes around them are compared where they have to be.
        """
        last = self._last
        if (
            last is None
            or not data.startswith(last.start)
            or not data.startswith(last.middle, last.middle_at)
            or not data.startswith(last.tail, last.tail_at)
            or self.graph is not graph
        ):
            return 0
        request = self.request
        if last.length is not None:
            length = data[last.length]
            if not length.isdigit():
                return 0
            request.length = int(length)
        if last.traceparent is not None:
            traceparent = data[last.traceparent]
            if not traceparent.replace(b"-", b"").isalnum():  # _is_harmless, without the call
                return 0
            request.traceparents = (traceparent,)
        return last.size

    def serves(self, head: bytes, graph: object) -> bool:
        """True when `head` is this request once more, its values in other places maybe; they are then those of `request`."""
        found = cut(head)
        if found is None or not self.is_for(found, graph):
            return False
        self.again(found)
        self._last = Outline(head, found)
        return True

    def is_for(self, found: Cut, graph: object) -> bool:
        """True when a request with the head that `found` was cut from is this one again, but for the two values."""
        mine = self.cut
        return (
            mine is not None
            and mine.same == found.same
            and bool(mine.length) == bool(found.length)
            and bool(mine.traceparent) == bool(found.traceparent)
            and self.graph is graph
        )

    def again(self, found: Cut) -> RequestHead:
        """The request with the values of its successor."""
        request = self.request
        if found.length:
            request.length = int(found.length)
        if found.traceparent:
            request.traceparents = (found.traceparent,)
        return request

    def remember(self, found: Cut | None) -> bool:
        """Let further requests be served by this one; False where their heads have to be read in full."""
        request = self.request
        if found is None or request.upgrade or request.expects_continue or request.method == b"CONNECT":
            return False
        if found.traceparent and not self._takes_part:
            return False
        if len(request.traceparents) != bool(found.traceparent) or (request.length > 0) != bool(found.length):
            return False
        if found.same.lower().count(b"\n" + _LENGTH_FIELD) != bool(found.length):
            return False  # a second one, equal this time; it stays in `same` and would not be judged again
        self.cut = found
        return True

    def head(self, exchange: Exchange, attempt: Attempt, length: int = -1) -> bytes:
        """
        Build the head of one attempt; `length` is that of a body which is not as it came.

        Every attempt has a traceparent with its own span id (W3C Trace Context, section 3.4), and the exchange's tracestate.
        """
        if length < 0:
            length = self.request.length
        if not self._takes_part:
            return b"%b%b%b\r\n\r\n" % (self._before, b"%d" % length if self._after else b"", self._after)
        traceparent = format_traceparent(exchange.trace_id, attempt.span_id, exchange.flags)
        end = b"\r\ntracestate: " + exchange.tracestate + b"\r\n\r\n" if exchange.tracestate else b"\r\n\r\n"
        if self._after:
            return b"%b%d%b%b%b" % (self._before, length, self._after, traceparent, end)
        return self._before + traceparent + end


def _whole(way: Way) -> tuple[bytes, bytes]:
    """
    The target and the Host for a corporate proxy (RFC 9112 section 3.2.2); both name what was judged, as it was judged.

    OPTIONS for the server as a whole has no path at all (section 3.2.4).
    """
    authority = way.route.upstream.authority
    return b"http://%b%b" % (authority, b"" if way.target == b"*" else way.target), authority


def _narrow(lines: list[bytes]) -> None:
    """Ask for no content coding that cannot be read here; a list that goes over several lines is one (RFC 9110 section 5.3)."""
    places = [place for place, line in enumerate(lines) if line[:16].lower() == b"accept-encoding:"]
    if not places:
        return
    values = [lines[place][16:].decode("latin-1") for place in places]
    accepted = values[0] if len(values) == 1 else ", ".join(value for each in values if (value := each.strip(" \t")))
    fewer = narrowed(accepted)
    if fewer != values[0]:
        lines[places[0]] = lines[places[0]][:16] + b" " + fewer.encode("latin-1")
    for place in reversed(places[1:]):
        del lines[place]


def _trace_lines(request: RequestHead) -> list[bytes]:
    parents = [b"traceparent: " + value for value in request.traceparents]
    return parents + [b"tracestate: " + value for value in request.tracestates]


def _around_length(lines: list[bytes]) -> tuple[bytes, bytes]:
    """Join the lines in two pieces, before and behind the value of Content-Length."""
    for place, line in enumerate(lines):
        if line[:15].lower() == _LENGTH_FIELD:
            name_and_space = line[: len(line) - len(line[15:].lstrip(b" \t"))]
            return b"\r\n".join([*lines[:place], name_and_space]), b"\r\n".join([b"", *lines[place + 1 :]])
    raise AssertionError("a request with a length has a Content-Length line")


def counts_down(request: RequestHead) -> bool:
    """
    Take one off Max-Forwards, where the request has it; False where it is 0 and the request must not go on.

    RFC 9110 section 7.6.2; for OPTIONS and TRACE only.
    """
    for place, line in enumerate(request.lines):
        name, colon, value = line.partition(b":")
        if colon and name.lower() == b"max-forwards" and value.strip().isdigit():
            digits = value.strip().lstrip(b"0")
            left = int(digits or b"0") if len(digits) < 5 else _MOST_FORWARDS
            if left == 0:
                return False
            request.lines[place] = name + b": %d" % (left - 1)
    return True
