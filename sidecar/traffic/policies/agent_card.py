"""
Lead the clients of an agent through the sidecar: put its address in the place of the agent's into the agent's card.

    agent_card: {signed: refuse, also: ["https://agent.example.com"]}

Clients of A2A take an agent's endpoints from its card, so in gateway mode they would walk around the sidecar after their first
call. Other modes need no rewriting. What an agent has signed is never changed: by `signed` it passes as it is, with the
field `x-sidecar-agent-card: signed-not-rewritten`, or is refused.

It is the public card, and the extended one of clients that have said who they are, by REST or JSON-RPC.

A rewritten card has an ETag of its own, which is made of the agent's: it is as strong as that, changes when that does or
the address does, and a client that brings it in If-None-Match gets its 304 from here (the agent does not know it). Whoever asks
for a card should be asked for all of it, without conditions: those are answered here.
"""

import logging
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal
from urllib.parse import urlsplit

from sidecar.dialects.a2a.methods import CARDS
from sidecar.dialects.agent_card import Address, Rewritten, rewrite
from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.well_known import is_card, is_certain
from sidecar.model.asked import A2aAsked
from sidecar.model.authority import authority
from sidecar.model.errors import Refused
from sidecar.model.exchange import Exchange
from sidecar.model.facts import Mode
from sidecar.model.spec import Spec
from sidecar.runtime.complaints import Complaints
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import Filter, Forward, Stage
from sidecar.traffic.coding import Undecodable, decoder_of, is_identity
from sidecar.traffic.response import Response

_log = logging.getLogger(__name__)

STAGE = Stage.LOOP_GUARD
"""Outside of the record, which keeps what the agent said: it may be played back at another address."""

MOST_BYTES = 1024 * 1024
"""A longer card, coded or not, passes as it is."""

REFUSED_AS = "agent_card_signed"

_STEP_BYTES = 16 * 1024
_OUTCOMES = ("rewritten", "untouched", "signed", "unreadable", "partial")
_TAG = re.compile(rb'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_ABOUT_CONTENT = frozenset(
    (
        b"etag",
        b"content-length",
        b"content-encoding",
        b"content-md5",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"accept-ranges",
    )
)
"""Fields that are true of the bytes that came, and of no others (RFC 9110 section 8, RFC 9530)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """What is done with cards."""

    rewrite: bool = True
    """Put the sidecar's address into cards; without it they pass as they are."""
    signed: Literal["pass", "refuse"] = "pass"
    """What becomes of a card that has signatures, and so cannot be rewritten."""
    also: tuple[str, ...] = ()
    """Further base URLs of the agent, as its card may give them: `https://agent.example.com` of one that is reached inside."""
    grpc: dict[str, str] = field(default_factory=dict)
    """The sidecar's `host:port` for the agent's, where gRPC has a way through; other gRPC addresses are left as they are."""

    def __post_init__(self) -> None:
        for url in self.also:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise ValueError(f"also takes http:// or https:// URLs, not {url!r}")


def build(name: str, config: Config, runtime: Runtime) -> Filter:
    """Make the filter."""
    cards = _Cards(name, config, runtime)

    async def agent_card(exchange: Exchange, forward: Forward) -> Response:
        place = _card_in(exchange)
        response = await forward(exchange)
        if place is None:
            return response
        if config.rewrite:
            response = await cards.answer(exchange, response, place)
        return _unless_known(exchange, response)

    return agent_card


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a card stands in an answer, `()` for all of it; `is_certain`: it cannot be anything else."""

    within: tuple[str, ...] = ()
    is_certain: bool = True


def _card_in(exchange: Exchange) -> _Place | None:
    """Where the card stands in the answer to this call: the whole of it, or a JSON-RPC result; None where there is none."""
    passage = exchange.passage
    if passage.mode is not Mode.GATEWAY:
        return None
    asked = exchange.asked
    if isinstance(asked, A2aAsked) and asked.operation in CARDS:
        return _Place(("result",) if asked.binding == "JSONRPC" else ())
    path = passage.target.partition("?")[0]
    return _Place(is_certain=is_certain(path)) if passage.method in ("GET", "HEAD") and is_card(path) else None


class _Cards:
    """Answers with cards that lead here, and counts what became of them."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self._name = name
        self._config = config
        self._runtime = runtime
        self._complaints = Complaints(name, runtime.clock, _log)
        counter, what = runtime.metrics.counter, "Agent cards that were asked for through the gateway."
        self._counts = {each: counter("traffic.policies.agent_card.cards", what, policy=name, outcome=each) for each in _OUTCOMES}
        what = "Addresses in agent cards that do not lead through the sidecar."
        self._elsewhere = counter("traffic.policies.agent_card.elsewhere", what, policy=name)

    async def answer(self, exchange: Exchange, response: Response, place: _Place) -> Response:
        """Return the response with a card that leads here, or as it came; raises `Refused` for a signed one, if so set."""
        address = self._address(exchange)
        if address is not None and response.status == 206 and place.is_certain:
            self._counts["partial"].value += 1
            response.fields = [*response.fields, b"x-sidecar-agent-card: partial-not-rewritten"]
        if address is None or response.status != 200 or b"json" not in _value(response.fields, b"content-type").lower():
            return response
        tag = derived_tag(_value(response.fields, b"etag"), address)
        if exchange.passage.method == "HEAD":
            if _is_known(exchange, tag):
                return _not_modified(response, tag)
            response.fields = _without_content(response.fields)  # whether it would be rewritten, only its content tells
            return response
        body = await response.whole(MOST_BYTES)
        if body == b"":
            return response
        rewritten = self._rewritten(exchange, response, body, address, place)
        if rewritten is None or not rewritten.changed:
            return response
        exchange.policy = self._name
        if _is_known(exchange, tag):
            return _not_modified(response, tag)
        response.fields = [*_without_content(response.fields), *_tag_line(tag), b"x-sidecar-agent-card: rewritten"]
        if response.head is None:
            response.content = rewritten.body
        else:
            response.through(Instead(rewritten.body))
        return response

    def _address(self, exchange: Exchange) -> Address | None:
        """Where the agent is, and by which address the client has reached us; None where it did not say."""
        passage = exchange.passage
        prefix = self._runtime.services.get("traffic.routes", {}).get(passage.route, "")
        host = _value(exchange.fields[1:], b"host").decode("latin-1")
        rest = passage.path[len(prefix) - 1 :]
        if not prefix or not host or not passage.path.startswith(prefix) or not passage.target.endswith(rest):
            return None
        origin = f"{passage.scheme}://{authority(passage.host, passage.port)}"
        base = passage.target[: len(passage.target) - len(rest)]
        agent = (origin + base, *self._config.also)
        return Address(origin + passage.target, agent, f"http://{host}{prefix}", self._config.grpc)

    def _rewritten(
        self, exchange: Exchange, response: Response, body: bytes | None, address: Address, place: _Place
    ) -> Rewritten | None:
        """Rewrite a card, and say what became of it; None where it goes on as it came."""
        route = exchange.passage.route
        try:
            if body is None:
                raise Unreadable("too large")
            decoded = _decoded(_value(response.fields, b"content-encoding"), body)
            rewritten = rewrite(decoded, address, place.within, is_certain=place.is_certain)
        except (Unreadable, Undecodable) as fault:
            if place.is_certain and not place.within:  # a JSON-RPC error has no result, and no card
                self._counts["unreadable"].value += 1
                self._complaints.log("unreadable", f"the agent card of route {route!r} is not rewritten: {fault}")
                response.fields = [*response.fields, b"x-sidecar-agent-card: unreadable-not-rewritten"]
            return None
        if rewritten.is_signed:
            self._signed(route)
            response.fields = [*response.fields, b"x-sidecar-agent-card: signed-not-rewritten"]
            return None
        self._counts["rewritten" if rewritten.changed else "untouched"].value += 1
        if rewritten.elsewhere:
            self._elsewhere.value += len(rewritten.elsewhere)
            shown = ", ".join(map(repr, rewritten.elsewhere[:3]))
            self._complaints.log("elsewhere", f"the agent card of route {route!r} leads past the sidecar: {shown}")
        return rewritten

    def _signed(self, route: str) -> None:
        self._counts["signed"].value += 1
        if self._config.signed == "refuse":
            raise Refused(REFUSED_AS, f"the agent card of route {route!r} is signed, and so cannot be rewritten")
        self._complaints.log("signed", f"the agent card of route {route!r} is signed, and passes without being rewritten")


class Instead:
    """A stage that gives other content than it gets."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def data(self, chunk: bytes) -> bytes:
        """Swallow what came."""
        return b""

    def end(self, error: str) -> bytes:
        """Give the other content after a whole body."""
        return b"" if error else self._content


def derived_tag(tag: bytes, address: Address) -> bytes:
    """
    Return the ETag of a card that was rewritten for this address, made of its own ETag; b"" where it has no valid one.

    It is weak where the other is (RFC 9110 section 8.8.1): what we make of equal bytes is equal.
    """
    found = _TAG.fullmatch(tag)
    if found is None:
        return b""
    grpc = (f"{theirs}={ours}" for theirs, ours in sorted(address.grpc.items()))
    mark = sha256("\n".join((address.gateway, *address.agent, *grpc)).encode("utf-8", "replace")).hexdigest()[:16]
    return b'%b"%b-%b"' % (found[1] or b"", found[2], mark.encode())


def _is_known(exchange: Exchange, tag: bytes) -> bool:
    """Whether the client has what this tag stands for (If-None-Match is compared weakly, RFC 9110 section 13.1.2)."""
    if not tag or exchange.passage.method not in ("GET", "HEAD"):
        return False
    told = b",".join(_values(exchange.fields[1:], b"if-none-match"))
    return told.strip() == b"*" or any(found[0].removeprefix(b"W/") == tag.removeprefix(b"W/") for found in _TAG.finditer(told))


def _unless_known(exchange: Exchange, response: Response) -> Response:
    """
    The response, or the 304 in its place that the client's conditions want (RFC 9110 section 13.2.2).

    A date is compared with no more than equality: it is the one that the client had from here.
    """
    if response.status != 200 or exchange.passage.method not in ("GET", "HEAD"):
        return response
    tag = _value(response.fields, b"etag")
    lines = exchange.fields[1:]
    if _values(lines, b"if-none-match"):
        return _not_modified(response, tag) if _TAG.fullmatch(tag) and _is_known(exchange, tag) else response
    since = _value(lines, b"if-modified-since")
    is_same = bool(since) and since == _value(response.fields, b"last-modified")
    return _not_modified(response, tag if _TAG.fullmatch(tag) else b"") if is_same else response


def _not_modified(response: Response, tag: bytes) -> Response:
    fields = [line for line in _without_content(response.fields) if not line.lower().startswith(b"content-type:")]
    response.drop()
    return Response(304, "Not Modified", [*fields, *_tag_line(tag)])


def _tag_line(tag: bytes) -> list[bytes]:
    return [b"ETag: " + tag] if tag else []


def _without_content(fields: list[bytes]) -> list[bytes]:
    return [line for line in fields if line.partition(b":")[0].lower() not in _ABOUT_CONTENT]


def _values(lines: list[bytes], name: bytes) -> list[bytes]:
    parts = (line.partition(b":") for line in lines)
    return [value.strip(b" \t") for found, _, value in parts if found.lower() == name]


def _value(lines: list[bytes], name: bytes) -> bytes:
    return next(iter(_values(lines, name)), b"")


def _decoded(coding: bytes, body: bytes) -> bytes:
    """The body without its content coding; raises `Undecodable`."""
    told = coding.decode("latin-1")
    if is_identity(told):
        return body
    decoder = decoder_of(told)
    if decoder is None:
        raise Undecodable("unknown_coding")
    out = bytearray()
    for at in range(0, len(body), _STEP_BYTES):
        for piece in decoder.feed(body[at : at + _STEP_BYTES]):
            out += piece
        if len(out) > MOST_BYTES:
            raise Undecodable("too_large")
    return bytes(out)
