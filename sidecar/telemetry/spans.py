"""
Facts become OTLP spans: one SERVER span an exchange, one CLIENT span an attempt, written as protobuf bytes.

A span lasts until the last byte. What seldom changes (name, attributes, status: see attributes.py) is one cached block of
bytes for each combination; what always changes (ids, times, sizes) is packed around it. About one microsecond a span.
"""

import struct
from collections.abc import Mapping, Sequence

from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode, Passage, Purpose
from sidecar.telemetry import attributes as http
from sidecar.telemetry.redaction import redacted_query
from sidecar.telemetry.wire import Cache, double_attribute, field, int_attribute, text_attribute, utf8, varint

_KIND_SERVER, _KIND_CLIENT = b"\x30\x02", b"\x30\x03"

# Span.flags: 0x100 says that it is known whether the parent is remote, 0x200 that it is. An exchange's parent is the agent's
# span, an attempt's is the exchange's.
_PARENT_REMOTE, _PARENT_LOCAL = 0x300, 0x100

# Fields 1 (16 bytes), 2 and 4 (8 bytes), 7 and 8 (fixed64), 16 (fixed32) of a Span, and an attribute with a double.
_FIRST_BYTE, _CONNECT = (double_attribute(key, 0.0)[:-8] for key in ("sidecar.first_byte_s", "sidecar.connect_s"))
_HEAD = struct.Struct(f"<2s16s2s8s2s8sBQBQ2sI{len(_FIRST_BYTE)}sd")
_IDS, _PARENT, _TIMES = struct.Struct("<2s16s2s8s"), struct.Struct("<2s8s"), struct.Struct("<BQBQ2sI")
_CONNECT_FIELD = struct.Struct(f"<{len(_CONNECT)}sd")
_LATEST_NS = 2**64 - 1

_MOST_BLOCKS = 32  # of one passage, which has one for each outcome: more than that and its upstream is playing games

_ServerKey = tuple[Mode, str, str, str, int, str, str, str, str, Purpose, int, str]
_ClientKey = tuple[str, str, str, int, str, str, str, str, Purpose, int, str, int]


class SpanWriter:
    """
    Writes facts as spans of one resource.

    `resource` is a serialized opentelemetry.proto.resource.v1.Resource; `scope_version` our own version; `routes` maps names
    of routes to their path prefix in gateway mode, which becomes `http.route`.
    """

    def __init__(self, resource: bytes, *, scope_version: str, routes: Mapping[str, str] | None = None) -> None:
        self._resource = field(1, resource)
        self._scope = field(1, field(1, b"sidecar.traffic") + field(2, utf8(scope_version)))
        self._schema = field(3, http.SCHEMA_URL.encode())
        self._routes = routes or {}
        # Calls with the same head on one connection find their block in their passage; others here, and where paths never
        # repeat, everything but the path still comes from `rests`.
        self._server_blocks: Cache[_ServerKey] = Cache(self._server_block, limit=1024, most_bytes=4096, weight=_texts)
        self._client_blocks: Cache[_ClientKey] = Cache(self._client_block, limit=1024, most_bytes=4096, weight=_texts)
        self._server_rests: Cache[_ServerKey] = Cache(self._server_rest, limit=256, most_bytes=4096, weight=_texts)
        self._client_rests: Cache[_ClientKey] = Cache(_client_rest, limit=256, most_bytes=4096, weight=_texts)
        self._tasks: Cache[str] = Cache(_task, limit=256, most_bytes=4096, weight=len)
        self._prefixes: Cache[int] = Cache(_span_prefix, limit=4096, most_bytes=64, weight=int.bit_length)
        self._sizes = _Sizes()

    def request(self, facts: Sequence[ExchangeFinished | AttemptFinished]) -> bytes:
        """
        A serialized ExportTraceServiceRequest with a span for each fact.

        Give it at most 64 facts a loop turn: it holds the loop for about a microsecond a span.
        """
        prefixes = self._prefixes
        parts = [b"", self._resource, b"", self._scope]
        size = len(self._scope) + len(self._schema)
        for fact in facts:
            span = self._server(fact) if fact.__class__ is ExchangeFinished else self._client(fact)  # type: ignore[arg-type]  # isinstance costs more
            prefix = prefixes[len(span)]
            size += len(prefix) + len(span)
            parts.append(prefix)
            parts.append(span)
        parts[2] = b"\x12" + varint(size)  # one join at the end: each copy of a batch costs as much as a few spans
        parts[0] = b"\x0a" + varint(len(self._resource) + len(parts[2]) + size + len(self._schema))
        parts.append(self._schema)
        parts.append(self._schema)
        return b"".join(parts)

    def span(self, fact: ExchangeFinished | AttemptFinished) -> bytes:
        """A serialized Span; ids are taken as they are, so they have to be 16 and 8 bytes long, as facts promise."""
        return self._server(fact) if isinstance(fact, ExchangeFinished) else self._client(fact)

    def _server(self, fact: ExchangeFinished) -> bytes:
        key = (self, fact.status, fact.error)
        block = fact.passage.blocks.get(key) or self._passing_server(fact, key)
        sent, received = fact.request_bytes, fact.response_bytes
        sent_key, _, sent_lows, sent_rest = self._sizes[sent >> 7]
        _, received_key, received_lows, received_rest = self._sizes[received >> 7]
        return b"".join(
            (
                _head(fact, _PARENT_REMOTE), sent_key, sent_lows[sent & 0x7F], sent_rest,
                received_key, received_lows[received & 0x7F], received_rest, block, _tracestate(fact.tracestate),
            )
        )  # fmt: skip

    def _client(self, fact: AttemptFinished) -> bytes:
        key = (self, fact.status, fact.error, fact.address, fact.resends)
        block = fact.passage.blocks.get(key) or self._passing_client(fact, key)
        sent, received = fact.sent_bytes, fact.received_bytes
        sent_key, _, sent_lows, sent_rest = self._sizes[sent >> 7]
        _, received_key, received_lows, received_rest = self._sizes[received >> 7]
        return b"".join(
            (
                _head(fact, _PARENT_LOCAL), sent_key, sent_lows[sent & 0x7F], sent_rest,
                received_key, received_lows[received & 0x7F], received_rest, block, _tracestate(fact.tracestate),
                _CONNECT_FIELD.pack(_CONNECT, fact.connect_s) if fact.connect_s else b"",
            )
        )  # fmt: skip

    def _passing_server(self, fact: ExchangeFinished, key: object) -> bytes:
        passage = fact.passage
        block = self._server_blocks[
            (
                passage.mode, passage.method, passage.scheme, passage.host, passage.port, passage.path,
                passage.client.rpartition(":")[0], passage.route, passage.agent, passage.purpose, fact.status, fact.error,
            )
        ]  # fmt: skip
        return _kept(passage, key, block + self._tasks[passage.task])

    def _passing_client(self, fact: AttemptFinished, key: object) -> bytes:
        passage = fact.passage
        block = self._client_blocks[
            (
                passage.method, passage.scheme, passage.host, passage.port, passage.target, fact.address, passage.route,
                passage.agent, passage.purpose, fact.status, fact.error, fact.resends,
            )
        ]  # fmt: skip
        return _kept(passage, key, block + self._tasks[passage.task])

    def _server_block(self, key: _ServerKey) -> bytes:
        rest = self._server_rests[(*key[:5], "", *key[6:])]
        if key[0] is Mode.CONNECT:  # names an authority, which is in server.address already (RFC 9112 section 3.2.3)
            return rest
        path, _, query = key[5].partition("?")
        return b"".join((rest, http.text("url.path", path), http.text("url.query", redacted_query(query))))

    def _server_rest(self, key: _ServerKey) -> bytes:
        mode, method, scheme, host, port, _, address, route, agent, purpose, status, error = key
        template = self._routes.get(route, "") if mode is Mode.GATEWAY else ""
        spoken = {Mode.GATEWAY: "http", Mode.FORWARD: scheme, Mode.CONNECT: ""}[mode]  # `scheme` is the destination's
        return b"".join(
            (
                http.span_name(method, template), _KIND_SERVER, http.request_method(method), http.text("url.scheme", spoken),
                http.text("http.route", template), http.text("server.address", host), http.number("server.port", port),
                http.text("client.address", address.strip("[]")), http.common(route, agent, purpose, status, error),
                text_attribute("sidecar.mode", mode), http.outcome(http.server_error_type(status, error), error),
            )
        )  # fmt: skip

    def _client_block(self, key: _ClientKey) -> bytes:
        method, scheme, host, port, target, *_ = key
        url = http.full_url("" if method == "CONNECT" else scheme, host, port, target)
        return self._client_rests[(*key[:4], "", *key[5:])] + url


def _kept(passage: Passage, key: object, block: bytes) -> bytes:
    """The block, which stays with its passage from now on."""
    if len(passage.blocks) >= _MOST_BLOCKS:
        passage.blocks.clear()
    passage.blocks[key] = block
    return block


class _Sizes(dict[int, tuple[bytes, bytes, tuple[bytes, ...], bytes]]):
    """
    The two attributes with body sizes in pieces: `request_key + lows[size & 0x7F] + rest`, found under `size >> 7`.

    Sizes of bodies hardly repeat, but their upper bits do: so there is next to no miss, and no varint to compute. It is
    emptied when full. Sizes beyond 64 bits become about the largest that there is.
    """

    __slots__ = ()

    def __missing__(self, upper: int) -> tuple[bytes, bytes, tuple[bytes, ...], bytes]:
        rest = varint(min(max(upper, 0), _UPPERMOST)) if upper else b""
        request_key, response_key = _BEFORE_SIZES[len(rest)]
        if len(self) >= _SIZES_KEPT:
            self.clear()
        found = self[upper] = (request_key, response_key, _LOWS_CONTINUED if upper else _LOWS, rest)
        return found


def _before_number(key: str, length: int) -> bytes:
    """A KeyValue with an integer up to, and without, the `length` bytes of its varint."""
    return int_attribute(key, 1 << 7 * (length - 1))[:-length]


_BEFORE_SIZES = tuple(
    (_before_number("http.request.body.size", length), _before_number("http.response.body.size", length))
    for length in range(1, 10)
)
_LOWS = tuple(bytes((low,)) for low in range(0x80))
_LOWS_CONTINUED = tuple(bytes((low | 0x80,)) for low in range(0x80))
_UPPERMOST = (2**63 - 1) >> 7
_SIZES_KEPT = 4096  # all sizes up to 512 KiB


def _head(fact: ExchangeFinished | AttemptFinished, parent: int) -> bytes:
    if fact.parent_id and fact.first_byte_s:
        try:
            return _HEAD.pack(
                b"\x0a\x10", fact.trace_id, b"\x12\x08", fact.span_id, b"\x22\x08", fact.parent_id, 0x39, fact.started_ns,
                0x41, fact.ended_ns, b"\x85\x01", fact.flags & 0xFF | parent, _FIRST_BYTE, fact.first_byte_s,
            )  # fmt: skip
        except struct.error:
            pass  # a time that 64 bits cannot hold: a broken clock must not cost the rest of the batch
    return _rarer_head(fact, parent if fact.parent_id else _PARENT_LOCAL)


def _rarer_head(fact: ExchangeFinished | AttemptFinished, parent: int) -> bytes:
    started, ended = (min(max(time, 0), _LATEST_NS) for time in (fact.started_ns, fact.ended_ns))
    return b"".join(
        (
            _IDS.pack(b"\x0a\x10", fact.trace_id, b"\x12\x08", fact.span_id),
            _PARENT.pack(b"\x22\x08", fact.parent_id) if fact.parent_id else b"",
            _TIMES.pack(0x39, started, 0x41, ended, b"\x85\x01", fact.flags & 0xFF | parent),
            double_attribute("sidecar.first_byte_s", fact.first_byte_s) if fact.first_byte_s else b"",
        )
    )


def _client_rest(key: _ClientKey) -> bytes:
    method, _, host, port, _, address, route, agent, purpose, status, error, resends = key
    return b"".join(
        (
            http.span_name(method, ""), _KIND_CLIENT, http.request_method(method),
            http.text("server.address", host), http.number("server.port", port), http.text("network.peer.address", address),
            http.number("http.request.resend_count", resends), http.common(route, agent, purpose, status, error),
            http.outcome(http.client_error_type(status, error), error),
        )
    )  # fmt: skip


def _task(task: str) -> bytes:
    return http.text("sidecar.task.id", task)


def _tracestate(tracestate: bytes) -> bytes:
    if len(tracestate) < 0x80 and tracestate.isascii():
        return b"\x1a%c%b" % (len(tracestate), tracestate) if tracestate else b""
    return field(3, tracestate.decode("ascii", "replace").encode())


def _span_prefix(length: int) -> bytes:
    return b"\x12" + varint(length)


def _texts(key: tuple[object, ...]) -> int:
    return sum(len(part) for part in key if isinstance(part, str))
