"""
Facts become OTLP spans: one SERVER span an exchange, one CLIENT span an attempt, written as protobuf bytes.

A span lasts until the last byte. What seldom changes (name, attributes, status: see attributes.py) is one cached block of
bytes for each combination, the span's opening; what always changes (ids, times, sizes) follows, and has the same length in
each common span: so the opening begins with the length of the whole, and one pack writes the rest. Half a microsecond a span.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import A2aAsked, Asked, ModelAsked
from sidecar.model.dialogue import Dialogue
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode, Purpose
from sidecar.telemetry import agents
from sidecar.telemetry import attributes as http
from sidecar.telemetry.content import ContentWriter
from sidecar.telemetry.dialogues import DialogueWriter, link
from sidecar.telemetry.inference import model_of
from sidecar.telemetry.redaction import redacted_query
from sidecar.telemetry.semconv import Semconv
from sidecar.telemetry.wire import PADDED, Cache, double_attribute, field, int_attribute, text_attribute, utf8, varint

_KIND_SERVER, _KIND_CLIENT = b"\x30\x02", b"\x30\x03"

# Span.flags: 0x100 says that it is known whether the parent is remote, 0x200 that it is. An exchange's parent is the agent's
# span, an attempt's is the exchange's.
_PARENT_REMOTE, _PARENT_LOCAL = 0x300, 0x100

# An opening is the tag and length of the span, its block, and its flags with the tag of trace_id.
_SPAN_TAG, _FLAGS = struct.Struct("<BI"), struct.Struct("<2sI2s")
_BLOCK_AT, _FLAGS_AT = _SPAN_TAG.size, -_FLAGS.size

# What follows it: fields 1 (its 16 bytes), 2 and 4 (8 bytes), 7 and 8 (fixed64) of a Span, and attributes with a double and
# two sizes.
_FIRST_BYTE, _CONNECT = (double_attribute(key, 0.0)[:-8] for key in ("sidecar.first_byte_s", "sidecar.connect_s"))
_SENT, _RECEIVED = (int_attribute(f"http.{part}.body.size", 2**28 - 1)[:-4] for part in ("request", "response"))
_NUMBERS = struct.Struct(f"<BQBQ{len(_FIRST_BYTE)}sd{len(_SENT)}sI{len(_RECEIVED)}sI")
_CHANGING = struct.Struct(f"<16s2s8s2s8s{_NUMBERS.format[1:]}")
_AFTER_BLOCK = _FLAGS.size + _CHANGING.size
_BEYOND_OPENING = _CHANGING.size - _BLOCK_AT
_IDS, _PARENT, _TIMES = struct.Struct("<16s2s8s"), struct.Struct("<2s8s"), struct.Struct("<BQBQ")
_CONNECT_FIELD = struct.Struct(f"<{len(_CONNECT)}sd")
_LATEST_NS = 2**64 - 1

_STDIO = "stdio"  # the scheme of a destination that is a child process

_MOST_BLOCKS = 32  # of one passage, which has one for each outcome: more than that and its upstream is playing games

_ServerKey = tuple[Mode, str, str, str, int, str, str, str, str, Purpose, int, str]
_ClientKey = tuple[str, str, str, int, str, str, str, str, Purpose, int, str, int]


class SpanWriter:
    """
    Writes facts as spans of one resource.

    `resource` is a serialized opentelemetry.proto.resource.v1.Resource; `scope_version` our own version; `routes` maps names
    of routes to their path prefix in gateway mode, which becomes `http.route`; `semconv` is the edition of the GenAI conventions,
    and `content` writes prompts and the like, where they are collected.
    """

    def __init__(
        self,
        resource: bytes,
        *,
        scope_version: str,
        routes: Mapping[str, str] | None = None,
        semconv: Semconv = Semconv.V1_41,
        content: ContentWriter | None = None,
    ) -> None:
        self._resource = field(1, resource)
        self._scope = field(1, field(1, b"sidecar.traffic") + field(2, utf8(scope_version)))
        self._schema = field(3, http.SCHEMA_URL.encode())
        self._routes = routes or {}
        # Calls with the same head on one connection find their opening in their passage; others here, and where paths never
        # repeat, everything but the path still comes from `rests`.
        self._server_blocks: Cache[_ServerKey] = Cache(self._server_block, limit=1024, most_bytes=4096, weight=_texts)
        self._client_blocks: Cache[_ClientKey] = Cache(self._client_block, limit=1024, most_bytes=4096, weight=_texts)
        self._server_rests: Cache[_ServerKey] = Cache(self._server_rest, limit=256, most_bytes=4096, weight=_texts)
        self._client_rests: Cache[_ClientKey] = Cache(_client_rest, limit=256, most_bytes=4096, weight=_texts)
        self._understood_blocks: Cache[_ClientKey] = Cache(_understood_block, limit=1024, most_bytes=4096, weight=_texts)
        self._dialogues = DialogueWriter(semconv, content)
        self._tasks: Cache[tuple[str, float | None]] = Cache(_task, limit=256, most_bytes=4096, weight=_texts)

    def request(self, facts: Sequence[ExchangeFinished | AttemptFinished]) -> bytes:
        """
        A serialized ExportTraceServiceRequest with a span for each fact.

        Give it at most 64 facts a loop turn: it holds the loop for half a microsecond for each, and for three or four
        where the opening has to be written first.
        """
        spans = b"".join((self._scope, *self._written(facts), self._schema))
        scope = b"\x12" + varint(len(spans))
        size = len(self._resource) + len(scope) + len(spans) + len(self._schema)
        return b"".join((b"\x0a", varint(size), self._resource, scope, spans, self._schema))

    def _written(self, facts: Iterable[ExchangeFinished | AttemptFinished]) -> list[bytes]:
        """
        The spans of a ScopeSpans, in pieces.

        For speed it says the same twice: no call, and in each place attributes of one class only, which CPython finds faster.
        """
        parts: list[bytes] = []
        changing, sizes, first_byte, sent, received = _CHANGING.pack, PADDED, _FIRST_BYTE, _SENT, _RECEIVED
        for fact in facts:
            try:
                if fact.dialogue is not None:
                    parts += self._understood(fact, fact.dialogue)
                    continue
                if type(fact) is ExchangeFinished:
                    if fact.parent_id and fact.first_byte_s and not fact.tracestate and not fact.link and not fact.policy:
                        parts += fact.passage.blocks.get(
                            (self, fact.status, fact.error, fact.flags)
                        ) or self._open_server(fact), changing(
                            fact.trace_id, b"\x12\x08", fact.span_id, b"\x22\x08", fact.parent_id,
                            0x39, fact.started_ns, 0x41, fact.ended_ns, first_byte, fact.first_byte_s,
                            sent, fact.request_bytes + sizes[fact.request_bytes >> 7],
                            received, fact.response_bytes + sizes[fact.response_bytes >> 7],
                        )  # fmt: skip
                        continue
                elif fact.parent_id and fact.first_byte_s and not fact.tracestate and not fact.connect_s:
                    parts += fact.passage.blocks.get(
                        (self, fact.status, fact.error, fact.flags, fact.address, fact.resends)
                    ) or self._open_client(fact), changing(
                        fact.trace_id, b"\x12\x08", fact.span_id, b"\x22\x08", fact.parent_id,
                        0x39, fact.started_ns, 0x41, fact.ended_ns, first_byte, fact.first_byte_s,
                        sent, fact.sent_bytes + sizes[fact.sent_bytes >> 7],
                        received, fact.received_bytes + sizes[fact.received_bytes >> 7],
                    )  # fmt: skip
                    continue
            except (IndexError, struct.error):
                pass  # a number that is too large for this: `span` can write it
            span = self.span(fact)
            parts += _span_tag(len(span)), span
        return parts

    def _understood(self, fact: ExchangeFinished | AttemptFinished, dialogue: Dialogue) -> tuple[bytes, ...]:
        """The span of a call that was understood, with its tag; IndexError or struct.error as in `_written`."""
        if fact.parent_id and fact.first_byte_s and not fact.tracestate:
            if type(fact) is ExchangeFinished:
                if not fact.link and not fact.policy:
                    if dialogue.kind == "" and (model := _model_of(dialogue)):
                        opening = fact.passage.blocks.get(
                            (self, fact.status, fact.error, fact.flags, model)
                        ) or self._open_answered(fact, model)
                        return (
                            opening, _CHANGING.pack(
                                fact.trace_id, b"\x12\x08", fact.span_id, b"\x22\x08", fact.parent_id,
                                0x39, fact.started_ns, 0x41, fact.ended_ns, _FIRST_BYTE, fact.first_byte_s,
                                _SENT, fact.request_bytes + PADDED[fact.request_bytes >> 7],
                                _RECEIVED, fact.response_bytes + PADDED[fact.response_bytes >> 7],
                            ),
                        )  # fmt: skip
                    opening = fact.passage.blocks.get(
                        (self, fact.status, fact.error, fact.flags)
                    ) or self._open_server(fact)
                    meaning = self._dialogues.server(fact, dialogue)
                    length = len(opening) + len(meaning) + _BEYOND_OPENING
                    return (
                        _SPAN_TAG.pack(0x12, length + PADDED[length >> 7]), opening[_BLOCK_AT:], _CHANGING.pack(
                            fact.trace_id, b"\x12\x08", fact.span_id, b"\x22\x08", fact.parent_id,
                            0x39, fact.started_ns, 0x41, fact.ended_ns, _FIRST_BYTE, fact.first_byte_s,
                            _SENT, fact.request_bytes + PADDED[fact.request_bytes >> 7],
                            _RECEIVED, fact.response_bytes + PADDED[fact.response_bytes >> 7],
                        ), meaning,
                    )  # fmt: skip
            elif not fact.connect_s:
                of = dialogue.asked.__class__
                opening = fact.passage.blocks.get(
                    (self, fact.status, fact.error, fact.flags, fact.address, fact.resends, of)
                ) or self._open_understood(fact, of)
                meaning = self._dialogues.client(fact, dialogue)
                length = len(opening) + len(meaning) + _BEYOND_OPENING
                return (
                    _SPAN_TAG.pack(0x12, length + PADDED[length >> 7]), opening[_BLOCK_AT:], _CHANGING.pack(
                        fact.trace_id, b"\x12\x08", fact.span_id, b"\x22\x08", fact.parent_id,
                        0x39, fact.started_ns, 0x41, fact.ended_ns, _FIRST_BYTE, fact.first_byte_s,
                        _SENT, fact.sent_bytes + PADDED[fact.sent_bytes >> 7],
                        _RECEIVED, fact.received_bytes + PADDED[fact.received_bytes >> 7],
                    ), meaning,
                )  # fmt: skip
        span = self.span(fact)
        return _span_tag(len(span)), span

    def span(self, fact: ExchangeFinished | AttemptFinished) -> bytes:
        """A serialized Span; ids are taken as they are, so they have to be 16 and 8 bytes long, as facts promise."""
        blocks, dialogue, meaning, more = fact.passage.blocks, fact.dialogue, b"", b""
        if type(fact) is ExchangeFinished:
            sent, received = fact.request_bytes, fact.response_bytes
            if dialogue is not None and dialogue.kind == "" and (model := _model_of(dialogue)):
                opening = blocks.get((self, fact.status, fact.error, fact.flags, model)) or self._open_answered(fact, model)
            else:
                opening = blocks.get((self, fact.status, fact.error, fact.flags)) or self._open_server(fact)
                if dialogue is not None:
                    meaning = self._dialogues.server(fact, dialogue)
            if fact.link:
                more = link(fact.link)
            if fact.policy:
                more += agents.policy(fact.policy, fact.error)
        else:
            if dialogue is None:
                key = (self, fact.status, fact.error, fact.flags, fact.address, fact.resends)
                opening = blocks.get(key) or self._open_client(fact)
            else:
                of = dialogue.asked.__class__
                opening = blocks.get(
                    (self, fact.status, fact.error, fact.flags, fact.address, fact.resends, of)
                ) or self._open_understood(fact, of)
                meaning = self._dialogues.client(fact, dialogue)
            sent, received = fact.sent_bytes, fact.received_bytes
            if fact.connect_s:
                more = _CONNECT_FIELD.pack(_CONNECT, fact.connect_s)
        block = opening[_BLOCK_AT:]
        if not fact.parent_id:  # and so none that is remote
            block = block[:_FLAGS_AT] + _FLAGS.pack(b"\x85\x01", fact.flags & 0xFF | _PARENT_LOCAL, b"\x0a\x10")
        tracestate = _tracestate(fact.tracestate) if fact.tracestate else b""
        return b"".join((block, _changing(fact, sent, received), tracestate, meaning, more))

    def _open_server(self, fact: ExchangeFinished) -> bytes:
        passage = fact.passage
        block = self._server_blocks[
            (
                passage.mode, passage.method, passage.scheme, passage.host, passage.port, passage.path,
                passage.client.rpartition(":")[0], passage.route, passage.agent, passage.purpose, fact.status, fact.error,
            )
        ]  # fmt: skip
        opening = _opening(block, self._tasks[passage.task, passage.trust], fact.flags & 0xFF | _PARENT_REMOTE)
        return _kept(passage.blocks, (self, fact.status, fact.error, fact.flags), opening)

    def _open_answered(self, fact: ExchangeFinished, model: str) -> bytes:
        """The opening of a SERVER span whose call went well, with the model that answered: it says all that there is to say."""
        opening = self._open_server(fact)
        block = opening[_BLOCK_AT:_FLAGS_AT] + agents.model(model) + opening[_FLAGS_AT:]
        length = len(block) + _CHANGING.size
        opening = _span_tag(length) + block
        return _kept(fact.passage.blocks, (self, fact.status, fact.error, fact.flags, model), opening)

    def _open_client(self, fact: AttemptFinished) -> bytes:
        passage = fact.passage
        block = self._client_blocks[
            (
                passage.method, passage.scheme, passage.host, passage.port, passage.target, fact.address, passage.route,
                passage.agent, passage.purpose, fact.status, fact.error, fact.resends,
            )
        ]  # fmt: skip
        opening = _opening(block, self._tasks[passage.task, passage.trust], fact.flags & 0xFF | _PARENT_LOCAL)
        return _kept(passage.blocks, (self, fact.status, fact.error, fact.flags, fact.address, fact.resends), opening)

    def _open_understood(self, fact: AttemptFinished, of: type[Asked]) -> bytes:
        """
        The opening of a CLIENT span whose name and outcome its dialogue tells.

        Where the call was to another agent, `gen_ai.agent.id` would be that one's, which nobody knows.
        """
        passage = fact.passage
        agent = "" if issubclass(of, A2aAsked) else passage.agent
        key = (
            passage.method, passage.scheme, passage.host, passage.port, passage.target, fact.address, passage.route, agent,
            passage.purpose, fact.status, fact.error, fact.resends,
        )  # fmt: skip
        task = self._tasks[passage.task, passage.trust]
        opening = _opening(self._understood_blocks[key], task, fact.flags & 0xFF | _PARENT_LOCAL)
        return _kept(passage.blocks, (self, fact.status, fact.error, fact.flags, fact.address, fact.resends, of), opening)

    def _server_block(self, key: _ServerKey) -> bytes:
        rest = self._server_rests[key if key[0] is Mode.STDIO else (*key[:5], "", *key[6:])]
        if key[0] in (Mode.CONNECT, Mode.STDIO):  # names an authority (RFC 9112 section 3.2.3), or a tool: both are told
            return rest
        path, _, query = key[5].partition("?")
        return b"".join((rest, http.text("url.path", path), http.text("url.query", redacted_query(query))))

    def _server_rest(self, key: _ServerKey) -> bytes:
        mode, method, scheme, host, port, _, address, route, agent, purpose, status, error = key
        if mode is Mode.STDIO:
            return _stdio_server(key)
        template = self._routes.get(route, "") if mode is Mode.GATEWAY else ""
        spoken = {Mode.GATEWAY: "http", Mode.FORWARD: scheme}.get(mode, "")  # `scheme` is the destination's
        return b"".join(
            (
                http.span_name(method, template), _KIND_SERVER, http.request_method(method), http.text("url.scheme", spoken),
                http.text("http.route", template), http.text("server.address", host), http.number("server.port", port),
                http.text("client.address", address.strip("[]")), http.common(route, agent, purpose, status, error),
                text_attribute("sidecar.mode", mode), http.outcome(http.server_error_type(status, error), error),
                agents.policy_check(error),
            )
        )  # fmt: skip

    def _client_block(self, key: _ClientKey) -> bytes:
        return self._client_rests[(*key[:4], "", *key[5:])] + _url(key)


def _stdio_server(key: _ServerKey) -> bytes:
    """The SERVER span of a message to a child process: its method and what that names, and nothing of HTTP."""
    mode, method, _, host, _, target, _, route, agent, purpose, status, error = key
    return b"".join(
        (
            field(5, utf8(f"{method} {target}" if target else method)), _KIND_SERVER, http.text("server.address", host),
            http.common(route, agent, purpose, status, error, is_http=False), text_attribute("sidecar.mode", mode),
            http.outcome(http.server_error_type(status, error), error), agents.policy_check(error),
        )
    )  # fmt: skip


def _model_of(dialogue: Dialogue) -> str:
    """The model that answered a call to one, or was asked for; "" for other calls."""
    asked, answered = dialogue.asked, dialogue.answered
    if not isinstance(asked, ModelAsked):
        return ""
    return model_of(asked, answered if isinstance(answered, ModelAnswered) else None)


def _understood_block(key: _ClientKey) -> bytes:
    return _client_common(key) + _url(key)


def _url(key: _ClientKey) -> bytes:
    method, scheme, host, port, target, *_ = key
    if scheme == _STDIO:
        return b""
    return http.full_url("" if method == "CONNECT" else scheme, host, port, target)


def _span_tag(length: int) -> bytes:
    """Tag and length of a span, as field 2 of a ScopeSpans; `_BLOCK_AT` bytes for each below 512 KiB."""
    if length >> 7 >= len(PADDED):
        return b"\x12" + varint(length)
    return _SPAN_TAG.pack(0x12, length + PADDED[length >> 7])


def _opening(block: bytes, task: bytes, flags: int) -> bytes:
    length = len(block) + len(task) + _AFTER_BLOCK  # below 512 KiB: texts are cut at MAX_TEXT_CHARS
    tag = _SPAN_TAG.pack(0x12, length + PADDED[length >> 7])
    return b"".join((tag, block, task, _FLAGS.pack(b"\x85\x01", flags, b"\x0a\x10")))


def _kept(blocks: dict[object, bytes], key: object, opening: bytes) -> bytes:
    """The opening, which stays with its passage from now on."""
    if len(blocks) >= _MOST_BLOCKS:
        blocks.clear()
    blocks[key] = opening
    return opening


def _changing(fact: ExchangeFinished | AttemptFinished, sent: int, received: int) -> bytes:
    """What follows an opening, whatever there is of it."""
    if fact.parent_id and fact.first_byte_s:
        try:
            return _CHANGING.pack(
                fact.trace_id, b"\x12\x08", fact.span_id, b"\x22\x08", fact.parent_id, 0x39, fact.started_ns, 0x41, fact.ended_ns,
                _FIRST_BYTE, fact.first_byte_s, _SENT, sent + PADDED[sent >> 7], _RECEIVED, received + PADDED[received >> 7],
            )  # fmt: skip
        except (IndexError, struct.error):
            pass
    return b"".join(
        (
            _IDS.pack(fact.trace_id, b"\x12\x08", fact.span_id),
            _PARENT.pack(b"\x22\x08", fact.parent_id) if fact.parent_id else b"",
            _numbers(fact.started_ns, fact.ended_ns, fact.first_byte_s, sent, received),
        )
    )


def _numbers(started_ns: int, ended_ns: int, first_byte_s: float, sent: int, received: int) -> bytes:
    if first_byte_s:
        try:
            return _NUMBERS.pack(
                0x39, started_ns, 0x41, ended_ns, _FIRST_BYTE, first_byte_s,
                _SENT, sent + PADDED[sent >> 7], _RECEIVED, received + PADDED[received >> 7],
            )  # fmt: skip
        except (IndexError, struct.error):
            pass  # a time that 64 bits cannot hold: a broken clock must not cost the rest of the batch
    return b"".join(
        (
            _TIMES.pack(0x39, min(max(started_ns, 0), _LATEST_NS), 0x41, min(max(ended_ns, 0), _LATEST_NS)),
            double_attribute("sidecar.first_byte_s", first_byte_s) if first_byte_s else b"",
            int_attribute("http.request.body.size", sent), int_attribute("http.response.body.size", received),
        )
    )  # fmt: skip


def _client_rest(key: _ClientKey) -> bytes:
    status, error = key[9:11]
    name = http.span_name(key[0], "") if key[1] != _STDIO else field(5, utf8(key[0]))
    return b"".join((name, _client_common(key), http.outcome(http.client_error_type(status, error), error)))


def _client_common(key: _ClientKey) -> bytes:
    method, scheme, host, port, _, address, route, agent, purpose, status, error, resends = key
    is_http = scheme != _STDIO
    return b"".join(
        (
            _KIND_CLIENT, http.request_method(method) if is_http else b"",
            http.text("server.address", host), http.number("server.port", port),
            http.text("network.peer.address", address), http.number("http.request.resend_count", resends),
            http.common(route, agent, purpose, status, error, is_http=is_http),
        )
    )  # fmt: skip


def _task(key: tuple[str, float | None]) -> bytes:
    task, trust = key
    return http.text("sidecar.task.id", task) + agents.task(task) + agents.trust_score(trust)


def _tracestate(tracestate: bytes) -> bytes:
    if len(tracestate) < 0x80 and tracestate.isascii():
        return b"\x1a%c%b" % (len(tracestate), tracestate)
    return field(3, tracestate.decode("ascii", "replace").encode())


def _texts(key: tuple[object, ...]) -> int:
    """What a key may hold besides what is in its block anyway: of a query that is redacted, next to nothing is."""
    return sum(len(part) for part in key if isinstance(part, str))
