import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.model.errors import CODES
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode, Passage, Purpose
from sidecar.telemetry import attributes as http
from sidecar.telemetry.agents import POLICY_CODES
from sidecar.telemetry.redaction import redacted_query, redacted_target
from sidecar.telemetry.spans import SpanWriter
from sidecar.telemetry.wire import MAX_TEXT_CHARS, text_attribute
from tests.otlp_collector import attributes_of, span_faults
from tests.telemetry.dialogues import chat, delegation, tool_call
from tests.telemetry.facts import AGENT_SPAN, TRACE_ID, attempt, exchange

RESOURCE = text_attribute("service.name", "sidecar-under-test", number=1)
INT64_MAX = 2**63 - 1


def writer(**settings: Any) -> SpanWriter:
    return SpanWriter(RESOURCE, scope_version="1.2.3", **settings)


def spans_in(request: bytes) -> list[Any]:
    (resource,) = ExportTraceServiceRequest.FromString(request).resource_spans
    (scope,) = resource.scope_spans
    return list(scope.spans)


def written(fact: ExchangeFinished | AttemptFinished, **settings: Any) -> Any:
    """The span of this fact, which is the same alone and in a request, at first and from then on."""
    each = writer(**settings)
    first, second, alone = *spans_in(each.request([fact, fact])), Span.FromString(each.span(fact))
    assert first == second == alone
    return alone


def test_a_server_span_says_what_the_conventions_ask_for() -> None:
    fact = exchange(path="/openai/v1/chat/completions?a=1&api_key=secret", task="task-7", tracestate=b"congo=t61")
    span = written(fact, routes={"openai": "/openai/"})
    assert not span_faults(span, set())
    assert (span.name, span.kind) == ("POST /openai/", Span.SPAN_KIND_SERVER)
    assert (span.trace_id, span.span_id, span.parent_span_id) == (TRACE_ID, fact.span_id, AGENT_SPAN)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (fact.started_ns, fact.ended_ns)
    assert (span.flags, span.trace_state) == (0x301, "congo=t61")
    assert not span.HasField("status")
    assert attributes_of(span) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": "/openai/v1/chat/completions",
        "url.query": "a=1&api_key=REDACTED",
        "http.route": "/openai/",
        "server.address": "api.openai.com",
        "server.port": 443,
        "client.address": "127.0.0.1",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "http.request.body.size": 1814,
        "http.response.body.size": 1188,
        "gen_ai.agent.id": "support-bot",
        "sidecar.mode": "gateway",
        "sidecar.route": "openai",
        "sidecar.task.id": "task-7",
        "agent.task.name": "task-7",
        "sidecar.first_byte_s": 0.25,
    }


def test_a_client_span_says_what_the_conventions_ask_for() -> None:
    fact = attempt(resends=2, connect_s=0.05, target="/v1/chat/completions?key=AIza")
    span = written(fact)
    assert not span_faults(span, set())
    assert (span.name, span.kind, span.flags) == ("POST", Span.SPAN_KIND_CLIENT, 0x101)
    assert span.parent_span_id == fact.parent_id
    assert attributes_of(span) == {
        "http.request.method": "POST",
        "url.full": "https://api.openai.com/v1/chat/completions?key=REDACTED",
        "server.address": "api.openai.com",
        "server.port": 443,
        "network.peer.address": "203.0.113.7",
        "http.request.resend_count": 2,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "http.request.body.size": 1814,
        "http.response.body.size": 1188,
        "gen_ai.agent.id": "support-bot",
        "sidecar.route": "openai",
        "sidecar.first_byte_s": 0.2,
        "sidecar.connect_s": 0.05,
    }


def test_the_first_attempt_has_no_resend_count() -> None:
    assert "http.request.resend_count" not in attributes_of(written(attempt(resends=0)))


def test_a_trace_that_begins_here_has_a_root_without_remote_parent() -> None:
    span = written(exchange(parent_id=b""))
    assert (span.parent_span_id, span.flags) == (b"", 0x101)
    assert attributes_of(span)["sidecar.first_byte_s"] == 0.25


def test_a_call_that_never_came_to_a_first_byte_says_nothing_about_it() -> None:
    span = written(attempt(first_byte_s=0.0, status=0, error="connect_failed"))
    attributes = attributes_of(span)
    assert not {"sidecar.first_byte_s", "http.response.status_code"} & attributes.keys()
    assert (attributes["error.type"], attributes["sidecar.error"], span.status.code) == ("connect_failed", "connect_failed", 2)


def test_a_tunnel_names_its_authority_only() -> None:
    server = written(exchange(mode=Mode.CONNECT, method="CONNECT", path="api.openai.com:443", route=""))
    client = written(attempt(mode=Mode.CONNECT, method="CONNECT", target="api.openai.com:443", route=""))
    assert (server.name, client.name) == ("CONNECT", "CONNECT")
    assert not {"url.path", "url.scheme", "url.query", "http.route"} & attributes_of(server).keys()
    assert attributes_of(client)["url.full"] == "api.openai.com:443"


def test_a_message_to_a_child_process_has_nothing_of_http() -> None:
    usual: dict[str, Any] = {"mode": Mode.STDIO, "method": "tools/call", "scheme": "stdio", "host": "files", "port": 0, "client": ""}
    server = written(exchange(path="read", target="read", dialogue=tool_call(target="read"), **usual))
    client = written(attempt(path="read", target="read", address="", dialogue=tool_call(target="read"), **usual))
    other = written(exchange(path="", target="", **{**usual, "method": "tools/list"}))
    assert (server.name, client.name, other.name) == ("tools/call read", "tools/call read", "tools/list")
    for span in (server, client):
        attributes = attributes_of(span)
        assert attributes["server.address"] == "files"
        assert not [key for key in attributes if key.startswith(("url.", "http.")) and not key.endswith("body.size")]
    assert attributes_of(client)["network.transport"] == "pipe"
    assert not {"network.protocol.name", "network.protocol.version", "server.port"} & attributes_of(client).keys()
    assert attributes_of(server)["sidecar.mode"] == "stdio"


def test_a_forward_proxied_call_has_no_route_of_the_gateway() -> None:
    span = written(exchange(mode=Mode.FORWARD), routes={"openai": "/openai/"})
    assert (span.name, attributes_of(span)["sidecar.mode"]) == ("POST", "forward")
    assert "http.route" not in attributes_of(span)


@pytest.mark.parametrize(("client", "address"), [("10.0.0.1:1", "10.0.0.1"), ("[::1]:5", "::1"), ("::1:5", "::1"), ("", None)])
def test_the_clients_address_stands_without_its_port(client: str, address: str | None) -> None:
    assert attributes_of(written(exchange(client=client))).get("client.address") == address


def test_a_tracestate_that_is_not_ascii_or_long_does_not_spoil_the_batch() -> None:
    assert written(exchange(tracestate=b"a=\xff")).trace_state == "a=\ufffd"
    assert written(exchange(tracestate=b"a=" + b"x" * 300)).trace_state == "a=" + "x" * 300


def test_a_request_has_one_resource_one_scope_and_its_spans_in_order() -> None:
    facts = [exchange(), attempt(), exchange(status=500)]
    request = ExportTraceServiceRequest.FromString(writer().request(facts))
    (resource,) = request.resource_spans
    assert resource.resource == Resource.FromString(RESOURCE)
    (scope,) = resource.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("sidecar.traffic", "1.2.3")
    assert resource.schema_url == scope.schema_url == http.SCHEMA_URL
    assert [span.span_id for span in scope.spans] == [fact.span_id for fact in facts]
    assert request.SerializeToString()  # nothing in it that protobuf itself could not write


def test_requests_concatenate_to_one() -> None:
    each = writer()
    joined = each.request([exchange()]) + each.request([attempt()])
    assert len(ExportTraceServiceRequest.FromString(joined).resource_spans) == 2


TEXTS = st.text(max_size=40) | st.sampled_from(["/v1/ünï/日本?key=秘密&x=1", "a" * 5000, "?", "//", "/a?b?c&sig=1"])
IDS = st.binary(min_size=8, max_size=8)
SIZES = st.integers(0, 400) | st.integers(0, 2**19) | st.integers(2**19, 2**70)
TIMES = st.integers(0, 2**64 - 1)
SECONDS = st.just(0.0) | st.floats(0, 1e9)
PASSAGES = st.builds(
    Passage,
    listener=TEXTS,
    client=TEXTS,
    mode=st.sampled_from([Mode.FORWARD, Mode.GATEWAY, Mode.CONNECT]),
    method=TEXTS | st.sampled_from(sorted(http.KNOWN_METHODS)),
    scheme=st.sampled_from(["", "http", "https"]),
    host=TEXTS,
    port=st.integers(0, 65535),
    path=TEXTS,
    target=TEXTS,
    upstream=TEXTS,
    route=TEXTS | st.just("openai"),
    agent=TEXTS | st.just("did:web:example.com:bot"),
    task=TEXTS,
    purpose=st.sampled_from(Purpose),
)
COMMON = {
    "passage": PASSAGES,
    "started_ns": TIMES,
    "ended_ns": TIMES,
    "trace_id": st.binary(min_size=16, max_size=16),
    "span_id": IDS,
    "parent_id": IDS | st.just(b""),
    "flags": st.integers(0, 255),
    "tracestate": st.binary(max_size=20) | st.just(b"k=v"),
    "status": st.integers(0, 999),
    "error": st.sampled_from(["", *CODES]),
    "first_byte_s": SECONDS,
}
EXCHANGES = st.builds(ExchangeFinished, **COMMON, request_bytes=SIZES, response_bytes=SIZES, attempts=st.integers(0, 9))
ATTEMPTS = st.builds(
    AttemptFinished, **COMMON, address=TEXTS, sent_bytes=SIZES, received_bytes=SIZES, connect_s=SECONDS, resends=st.integers(0, 9)
)


def seen(text: str) -> str:
    return text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode()


def size(count: int) -> int:
    """A size beyond 64 bits becomes the largest."""
    return min(count, INT64_MAX)


def expected_common(fact: ExchangeFinished | AttemptFinished) -> dict[str, Any]:
    known = fact.method in http.KNOWN_METHODS
    return {
        "http.request.method": fact.method if known else "_OTHER",
        "http.request.method_original": "" if known else seen(fact.method),
        "server.address": seen(fact.host),
        "server.port": fact.port,
        "http.response.status_code": fact.status,
        "network.protocol.version": "1.1",
        "gen_ai.agent.id": seen(fact.agent),
        "sidecar.route": seen(fact.route),
        "sidecar.task.id": seen(fact.task),
        "agent.task.name": seen(fact.task),
        "agent.did": seen(fact.agent) if fact.agent.startswith("did:") else "",
        "sidecar.purpose": "" if fact.purpose is Purpose.LIVE else fact.purpose.value,
        "sidecar.error": fact.error,
        "sidecar.first_byte_s": fact.first_byte_s,
    }


def check(
    span: Any, fact: ExchangeFinished | AttemptFinished, attributes: dict[str, Any], error_type: str, sizes: tuple[int, int]
) -> None:
    wanted = {key: value for key, value in {**attributes, "error.type": error_type}.items() if value}
    wanted |= {"http.request.body.size": size(sizes[0]), "http.response.body.size": size(sizes[1])}
    assert attributes_of(span) == wanted
    assert len(span.attributes) == len(wanted)
    assert (span.trace_id, span.span_id, span.parent_span_id) == (fact.trace_id, fact.span_id, fact.parent_id)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (fact.started_ns, fact.ended_ns)
    assert span.flags & 0xFF == fact.flags
    assert span.trace_state == fact.tracestate.decode("ascii", "replace")
    assert span.status.code == (2 if error_type else 0)


WRITER = writer(routes={"openai": "/openai/"})


@given(EXCHANGES)
def test_whatever_an_exchange_was_protobuf_reads_the_same(fact: ExchangeFinished) -> None:
    path, _, query = fact.path.partition("?")
    template = "/openai/" if fact.mode is Mode.GATEWAY and fact.route == "openai" else ""
    is_tunnel = fact.mode is Mode.CONNECT
    attributes = expected_common(fact) | {
        "url.scheme": "" if is_tunnel else "http" if fact.mode is Mode.GATEWAY else fact.scheme,
        "url.path": "" if is_tunnel else seen(path),
        "url.query": "" if is_tunnel else seen(redacted_query(query)),
        "http.route": template,
        "client.address": seen(fact.client.rpartition(":")[0].strip("[]")),
        "sidecar.mode": fact.mode.value,
        "agent.span.kind": "POLICY_CHECK" if fact.error in POLICY_CODES else "",
    }
    for span in (
        *spans_in(WRITER.request([fact, fact])),
        Span.FromString(WRITER.span(fact)),
    ):  # from scratch, from the passage, alone
        check(span, fact, attributes, http.server_error_type(fact.status, fact.error), (fact.request_bytes, fact.response_bytes))
        method = fact.method if fact.method in http.KNOWN_METHODS else "HTTP"
        assert (span.name, span.kind) == (f"{method} {template}".strip(), Span.SPAN_KIND_SERVER)
        assert span.flags & 0x300 == (0x300 if fact.parent_id else 0x100)


@given(ATTEMPTS)
def test_whatever_an_attempt_was_protobuf_reads_the_same(fact: AttemptFinished) -> None:
    authority = f"[{fact.host}]" if ":" in fact.host else fact.host
    scheme = "" if fact.method == "CONNECT" else fact.scheme
    if not scheme or fact.port != {"http": 80, "https": 443}[scheme]:
        authority += f":{fact.port}"
    target = redacted_target(fact.path) if fact.path.startswith(("/", "?")) else ""
    attributes = expected_common(fact) | {
        "url.full": seen(f"{scheme}://{authority}{target}" if scheme else authority),
        "network.peer.address": seen(fact.address),
        "http.request.resend_count": fact.resends,
        "sidecar.connect_s": fact.connect_s,
    }
    for span in (*spans_in(WRITER.request([fact, fact])), Span.FromString(WRITER.span(fact))):
        check(span, fact, attributes, http.client_error_type(fact.status, fact.error), (fact.sent_bytes, fact.received_bytes))
        assert (span.kind, span.flags & 0x300) == (Span.SPAN_KIND_CLIENT, 0x100)


@pytest.mark.parametrize(("started", "ended"), [(-1, 5), (2**64, 2**70), (0, -(2**80))])
def test_a_clock_gone_mad_costs_the_times_and_not_the_batch(started: int, ended: int) -> None:
    span = written(exchange(started_ns=started, ended_ns=ended))
    limits = [min(max(time, 0), 2**64 - 1) for time in (started, ended)]
    assert [span.start_time_unix_nano, span.end_time_unix_nano] == limits


def test_hostile_paths_cost_no_memory() -> None:
    each = writer()
    paths = [f"/{number}?token={'x' * 3000}" for number in range(3000)]
    tracemalloc.start()
    for number, path in enumerate(paths):
        each.request([exchange(path=path, task=f"t{number}", response_bytes=number * 977)])
        each.request([attempt(target=path, address=f"10.0.{number >> 8}.{number & 0xFF}")])
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 8 * 2**20


def test_a_passage_keeps_few_blocks() -> None:
    way = exchange().passage
    each = writer()
    for status in range(100, 600):
        fact = exchange(status=status)
        fact.passage = way
        (span,) = spans_in(each.request([fact]))
        assert attributes_of(span)["http.response.status_code"] == status
    assert len(way.blocks) <= 32


def test_a_passage_that_outlives_its_writer_is_written_anew() -> None:
    fact = exchange()
    first, second = writer(), writer(routes={"openai": "/ai/"})
    assert Span.FromString(first.span(fact)).name == "POST"
    assert Span.FromString(second.span(fact)).name == "POST /ai/"


@pytest.mark.parametrize("at", [*range(7, 64, 7), 19, 28, 63, 64, 70])
def test_sizes_of_all_lengths_are_written_right(at: int) -> None:
    for count in (0, 2**at - 1, 2**at, 2**at + 1):
        attributes = attributes_of(written(exchange(request_bytes=count, response_bytes=count // 3)))
        assert attributes["http.request.body.size"] == size(count)
        assert attributes["http.response.body.size"] == size(count // 3)
        assert attributes_of(written(attempt(received_bytes=count)))["http.response.body.size"] == size(count)


def test_a_call_that_is_unusual_costs_its_neighbours_nothing() -> None:
    way, each = exchange().passage, writer()
    unusual: list[dict[str, Any]] = [
        {"started_ns": 2**64}, {"parent_id": b""}, {"first_byte_s": 0.0}, {"tracestate": b"a=b"}, {"flags": 3}, {"status": 502},
        {"tracestate": b"a=" + b"x" * 2**20},
    ]  # fmt: skip
    facts: list[ExchangeFinished | AttemptFinished] = []
    for different in (*unusual, {"request_bytes": 2**30}):
        facts += [exchange(**different), attempt(), exchange()]
    for different in (*unusual, {"received_bytes": 2**30}, {"connect_s": 0.1}, {"resends": 1}, {"address": "::1"}):
        facts += [attempt(**different), exchange(), attempt()]
    for fact in facts:
        fact.passage = way
    spans = spans_in(each.request(facts))
    assert [span.SerializeToString() for span in spans] == [written(fact).SerializeToString() for fact in facts]
    assert spans == spans_in(each.request(facts))


def test_a_call_that_was_understood_takes_its_dialogues_name_and_costs_its_neighbours_nothing() -> None:
    way, each = exchange().passage, writer()
    facts: list[ExchangeFinished | AttemptFinished] = []
    for dialogue in (None, chat(), tool_call(), delegation()):
        for different in ({}, {"parent_id": b""}, {"tracestate": b"a=b"}, {"first_byte_s": 0.0}, {"started_ns": 2**64}):
            facts.append(attempt(dialogue=dialogue, **different))
            facts.append(exchange(dialogue=dialogue, **different))
        facts.append(attempt(dialogue=dialogue, connect_s=0.1))
        facts.append(exchange(dialogue=dialogue, link=b"\x07" * 24))
        facts.append(attempt(dialogue=dialogue, received_bytes=2**30))
    for fact in facts:
        fact.passage = way
    spans = spans_in(each.request(facts))
    assert [span.SerializeToString() for span in spans] == [written(fact).SerializeToString() for fact in facts]
    names = [span.name for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert names == ["POST"] * 7 + ["chat gpt-4o-mini"] * 7 + ["tools/call search"] * 7 + ["SendMessage"] * 7
    assert {span.name for span in spans if span.kind == Span.SPAN_KIND_SERVER} == {"POST"}


@pytest.mark.parametrize("dialogue", [None, "understood"])
def test_a_context_that_came_beside_the_parent_becomes_a_link(dialogue: str | None) -> None:
    (link,) = written(exchange(dialogue=tool_call() if dialogue else None, link=b"t" * 16 + b"s" * 8)).links
    assert (link.trace_id, link.span_id, link.flags) == (b"t" * 16, b"s" * 8, 0x300)


def test_a_connections_calls_share_an_opening_for_each_flags() -> None:
    way, each = exchange().passage, writer()
    for flags in (1, 3, 1, 3, 2):
        fact = exchange(flags=flags)
        fact.passage = way
        (span,) = spans_in(each.request([fact]))
        assert span.flags == 0x300 | flags
    assert len(way.blocks) == 3


@pytest.mark.parametrize("make", [exchange, attempt])
@pytest.mark.parametrize("score", [0.0, 0.97, 847.0])
@pytest.mark.parametrize("is_read", [False, True], ids=["plain", "read"])
def test_both_spans_say_how_far_the_agent_is_trusted(make: Any, score: float, is_read: bool) -> None:
    said = {"dialogue": chat()} if is_read else {}
    assert attributes_of(written(make(trust=score, **said)))["agent.trust_score"] == score
    assert "agent.trust_score" not in attributes_of(written(make(**said)))


@pytest.mark.parametrize(
    ("error", "kind"),
    [("", None), ("stopped", "POLICY_CHECK"), ("agent_card_signed", "POLICY_CHECK"), ("pool_exhausted", "POLICY_CHECK")],
)
@pytest.mark.parametrize("is_read", [False, True], ids=["plain", "read"])
def test_the_policy_that_decided_is_named_in_the_server_span(error: str, kind: str | None, is_read: bool) -> None:
    said = {"dialogue": chat()} if is_read else {}
    read = written(exchange(error=error, policy="cost_guard/team", **said))
    found = attributes_of(read)
    assert (found["agent.policy.name"], found.get("agent.span.kind")) == ("cost_guard/team", kind)
    assert len(found) == len(read.attributes), "no name stands twice"
