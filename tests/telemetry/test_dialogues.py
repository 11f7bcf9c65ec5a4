"""Golden spans: what a dialogue adds, read with OpenTelemetry's own messages, in each edition of the conventions."""

from dataclasses import fields, replace
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.model.answered import Answered, McpAnswered, ModelAnswered
from sidecar.model.asked import A2aAsked, Asked, McpAsked, ModelAsked
from sidecar.model.content import Content, Kind, Message, Part
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import CODES
from sidecar.model.facts import Purpose
from sidecar.model.judgement import of_fact
from sidecar.telemetry.dialogues import error_type
from sidecar.telemetry.semconv import Semconv
from sidecar.telemetry.spans import SpanWriter
from sidecar.telemetry.words import MOST_NAMES, MOST_WORDS, OTHER
from tests.otlp_collector import attributes_of
from tests.telemetry.dialogues import chat, delegation, tool_call
from tests.telemetry.facts import attempt, exchange

HTTP_OF_CLIENT = {
    "http.request.method": "POST", "url.full": "https://api.openai.com/v1/chat/completions", "server.address": "api.openai.com",
    "server.port": 443, "network.peer.address": "203.0.113.7", "http.response.status_code": 200, "network.protocol.version": "1.1",
    "http.request.body.size": 1814, "http.response.body.size": 1188, "sidecar.route": "openai", "sidecar.first_byte_s": 0.2,
}  # fmt: skip
BY_AGENT = {"gen_ai.agent.id": "support-bot"}


def span(fact: Any, edition: Semconv = Semconv.V1_41) -> Any:
    return Span.FromString(SpanWriter(b"", scope_version="1", semconv=edition).span(fact))


def client(dialogue: Dialogue, edition: Semconv = Semconv.V1_41, **different: Any) -> Any:
    return span(attempt(dialogue=dialogue, **different), edition)


def meaning(of: Any) -> dict[str, Any]:
    """Attributes beside those of HTTP."""
    found = attributes_of(of)
    assert len(found) == len(of.attributes), "no name stands twice"
    return {key: value for key, value in found.items() if key not in HTTP_OF_CLIENT}


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.request.max_tokens": 1000,
    "gen_ai.request.stream": True,
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.seed": 7,
    "gen_ai.request.stop_sequences": ["END"],
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.response.time_to_first_chunk": 0.3,
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.cache_read.input_tokens": 400,
    "gen_ai.usage.cache_creation.input_tokens": 100,
    "gen_ai.usage.reasoning.output_tokens": 30,
    "sidecar.cost.usd": 0.00027,
    "sidecar.cost.nano_usd": 270_000,
    "sidecar.cost.pricing": "exact",
    "sidecar.cost.source": "genai-prices",
    "sidecar.cost.version": "0.0.30",
    "agent.span.kind": "LLM_INFERENCE",
    "agent.model.name": "gpt-4o-mini-2024-07-18",
}


def test_a_call_to_a_model_is_an_inference_beside_being_http() -> None:
    read = client(chat())
    assert (read.name, read.kind, read.status.code) == ("chat gpt-4o-mini", Span.SPAN_KIND_CLIENT, 0)
    assert attributes_of(read) == HTTP_OF_CLIENT | BY_AGENT | CHAT


def test_the_latest_conventions_have_another_name_for_cache_writes_and_both_has_both() -> None:
    renamed = {key: value for key, value in CHAT.items() if "cache_creation" not in key}
    written = {"gen_ai.usage.cache_write.input_tokens": 100}
    assert meaning(client(chat(), Semconv.LATEST)) == renamed | written | BY_AGENT
    assert meaning(client(chat(), Semconv.BOTH)) == CHAT | written | BY_AGENT
    more = chat(previous_response="resp_1", parameters=(("top_k", 40), ("reasoning.level", "high")))
    assert more.answered is not None
    more.answered.usage.input_audio_tokens = 5
    latest = meaning(client(more, Semconv.LATEST))
    assert latest["gen_ai.request.previous_response.id"] == "resp_1"
    assert latest["gen_ai.request.reasoning.level"] == "high"
    assert latest["gen_ai.usage.audio.input_tokens"] == 5
    assert (type(latest["gen_ai.request.top_k"]), latest["gen_ai.usage.input_tokens"]) == (int, 1005)
    older = meaning(client(more))
    assert type(older["gen_ai.request.top_k"]) is float
    assert (
        not {"gen_ai.request.previous_response.id", "gen_ai.request.reasoning.level", "gen_ai.usage.audio.input_tokens"}
        & older.keys()
    )


def test_a_tool_call_is_mcp_and_execute_tool() -> None:
    read = client(tool_call())
    assert (read.name, read.status.code) == ("tools/call search", 0)
    assert meaning(read) == BY_AGENT | {
        "mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search",
        "mcp.protocol.version": "2025-11-25", "mcp.session.id": "s-1", "jsonrpc.request.id": "7", "network.transport": "tcp",
        "network.protocol.name": "http", "agent.span.kind": "TOOL_CALL", "agent.tool.name": "search",
    }  # fmt: skip


def test_a_delegation_is_a2a_and_invoke_agent_from_one_agent_to_the_other() -> None:
    read = client(delegation(references=("t-0",), tenant="acme"))
    assert (read.name, read.status.code) == ("SendMessage", 0)
    assert meaning(read) == {
        "a2a.method.name": "SendMessage", "gen_ai.operation.name": "invoke_agent", "a2a.protocol.version": "1.0",
        "a2a.message.id": "m-1", "a2a.message.reference_task_ids": ["t-0"], "a2a.task.id": "t-1", "a2a.tenant": "acme",
        "a2a.task.state": "TASK_STATE_COMPLETED", "gen_ai.conversation.id": "c-1", "jsonrpc.request.id": "9",
        "agent.span.kind": "DELEGATION", "agent.delegation.from": "support-bot", "agent.delegation.to": "openai",
        "agent.task.success": True,
    }  # fmt: skip


SERVER_BY_KIND = [
    (chat(), {"agent.model.name": "gpt-4o-mini-2024-07-18"}),
    (tool_call(), {"agent.tool.name": "search"}),
    (delegation(), {"agent.delegation.from": "support-bot", "agent.delegation.to": "openai", "agent.task.success": True}),
    (Dialogue(Asked("x", "y"), Answered(is_ended=True)), {}),
]


@pytest.mark.parametrize(("dialogue", "told"), SERVER_BY_KIND, ids=["model", "tool", "agent", "other"])
def test_a_server_span_says_whom_it_dealt_with_and_leaves_tokens_and_cost_to_the_leaf(
    dialogue: Dialogue, told: dict[str, Any]
) -> None:
    plain, read = attributes_of(span(exchange())), span(exchange(dialogue=dialogue))
    assert read.name == "POST"
    assert {key: value for key, value in attributes_of(read).items() if key not in plain} == told
    assert not [key for key in attributes_of(read) if key.startswith(("gen_ai.usage", "gen_ai.request", "sidecar.cost"))]


def test_an_agent_that_is_instrumented_itself_keeps_usage_and_cost() -> None:
    read = meaning(client(chat(cost=None)))
    assert not [key for key in read if "usage" in key or "cost" in key]
    assert read["gen_ai.response.model"] == "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize(
    ("different", "fact", "kind", "message"),
    [
        ({"error_type": "overloaded_error", "error_message": "Overloaded", "is_ended": False, "content_bytes": 0}, {}, "overloaded_error", "Overloaded"),
        ({"is_ended": False}, {}, "upstream_cut", CODES["upstream_cut"].advice),
        ({"is_ended": False}, {"error": "upstream_cut"}, "upstream_cut", CODES["upstream_cut"].advice),
        ({"error_type": "rate_limit_error", "error_message": "Slow, sk-abcdefghijklmnopqrst"}, {"status": 429}, "rate_limit_error", "Slow, [key]"),
        ({"unanswered": True}, {"status": 0, "error": "connect_failed"}, "connect_failed", CODES["connect_failed"].advice),
        ({"content_bytes": 0}, {"status": 503}, "503", ""),
    ],
    ids=["error in the stream", "no terminal event", "cut", "provider's word", "never reached", "plain status"],
)  # fmt: skip
def test_what_went_wrong_is_the_error_type_and_described(
    different: dict[str, Any], fact: dict[str, Any], kind: str, message: str
) -> None:
    read = client(chat(**different), **fact)
    assert (read.status.code, read.status.message, attributes_of(read)["error.type"]) == (2, message, kind)
    meaning(read)


def test_an_error_in_a_stream_under_200_fails_the_server_span_too() -> None:
    failed = span(exchange(dialogue=chat(error_type="overloaded_error", is_ended=False)))
    assert (failed.status.code, attributes_of(failed)["error.type"]) == (2, "overloaded_error")
    meaning(failed)
    refused = span(exchange(dialogue=chat(error_type="invalid_request_error", is_ended=True)))
    assert (refused.status.code, "error.type" in attributes_of(refused)) == (0, False), "the agent's own doing"


@pytest.mark.parametrize(("status", "code"), [(429, 0), (400, 0), (503, 2)])
def test_a_status_is_judged_for_the_server_span_as_http_says(status: int, code: int) -> None:
    read = span(exchange(status=status, dialogue=chat(error_type="some_error", content_bytes=0)))
    assert read.status.code == code
    assert attributes_of(read).get("error.type") == (str(status) if code else None)


def test_a_tool_that_failed_is_a_tool_error_and_a_json_rpc_error_has_its_code() -> None:
    failed = client(tool_call(is_tool_error=True))
    assert (failed.status.code, attributes_of(failed)["error.type"]) == (2, "tool_error")
    assert "rpc.response.status_code" not in attributes_of(failed)
    refused = client(tool_call(error_type="-32602", error_message="Unknown tool", code=-32602))
    assert (refused.status.message, attributes_of(refused)["rpc.response.status_code"]) == ("Unknown tool", "-32602")
    assert attributes_of(refused)["error.type"] == "-32602"


@pytest.mark.parametrize("error", ["", "client_gone", "idle_timeout"])
def test_a_stream_that_is_open_on_purpose_fails_nobody_when_it_ends(error: str) -> None:
    standing = Dialogue(McpAsked("mcp", "subscriptions/listen", streams=True, is_standing=True), McpAnswered(events=3))
    assert client(standing, error=error).status.code == 0


def test_a_task_that_failed_says_so() -> None:
    read = client(delegation(state="TASK_STATE_FAILED"))
    assert (read.status.code, attributes_of(read)["error.type"], attributes_of(read)["agent.task.success"]) == (
        2,
        "TASK_STATE_FAILED",
        False,
    )


def test_what_was_not_read_and_what_was_changed_is_told() -> None:
    read = meaning(client(chat(unread="unknown_coding", edits=("include_usage",), skipped=("clamp: signed",))))
    assert read["sidecar.unread"] == "unknown_coding"
    assert (read["sidecar.edits"], read["sidecar.edits.skipped"]) == (["include_usage"], ["clamp: signed"])


def test_content_stands_in_the_span_where_it_was_collected() -> None:
    said = Content(input=[Message("user", [Part(Kind.TEXT, "Hello, me@example.com")])])
    read = meaning(client(chat(content=said)))
    assert read["gen_ai.input.messages"] == '[{"role":"user","parts":[{"type":"text","content":"Hello, [email]"}]}]'
    assert not [key for key in meaning(client(chat())) if "messages" in key]


def test_another_protocol_is_named_by_its_operation() -> None:
    read = client(Dialogue(Asked("x", "do"), Answered(is_ended=True)))
    assert (read.name, meaning(read)) == ("do", BY_AGENT)


@pytest.mark.parametrize("status", [0, 200, 204, 302, 400, 429, 500])
@pytest.mark.parametrize("error", ["", "client_gone", "upstream_cut", "idle_timeout"])
@pytest.mark.parametrize(
    "dialogue",
    [
        chat(), chat(is_ended=False), chat(error_type="e"), chat(unanswered=True), tool_call(), tool_call(is_tool_error=True),
        delegation(), delegation(state="TASK_STATE_REJECTED"), delegation(operation="GetTask", state="TASK_STATE_FAILED"),
        Dialogue(Asked("x", "y"), ModelAnswered(is_ended=True)),
    ],
    ids=["chat", "cut", "error", "unanswered", "tool", "tool error", "task", "refused task", "asked about", "other"],
)  # fmt: skip
def test_the_short_way_to_no_error_comes_to_what_the_judgement_says(status: int, error: str, dialogue: Dialogue) -> None:
    for purpose in (Purpose.LIVE, Purpose.CHAOS):
        fact = attempt(status=status, error=error, dialogue=dialogue, purpose=purpose)
        assert error_type(fact, dialogue) == of_fact(fact).kind


class _Chatter(ModelAsked):
    """A dialect's own, which knows more."""


class _Called(McpAsked):
    pass


class _Given(A2aAsked):
    pass


class _Chatted(ModelAnswered):
    pass


def test_what_a_dialect_knows_beyond_the_model_changes_no_span() -> None:
    for usual, kind in ((chat(), _Chatter), (tool_call(), _Called), (delegation(), _Given)):
        own = replace(usual, asked=kind(**{each.name: getattr(usual.asked, each.name) for each in fields(usual.asked)}))
        if isinstance(usual.answered, ModelAnswered):
            own.answered = _Chatted(**{each.name: getattr(usual.answered, each.name) for each in fields(usual.answered)})
        assert attributes_of(client(own)) == attributes_of(client(usual))
        assert attributes_of(span(exchange(dialogue=own))) == attributes_of(span(exchange(dialogue=usual)))


SECRETS = ["VALUE123", "hunter2", "tok1234567890", "sk-abcdefgh"]


@pytest.mark.parametrize(
    "message",
    ["key=VALUE123 is wrong", "api_key: hunter2", "Bearer tok1234567890 expired", "unknown key sk-abcdefgh", '{"token":"hunter2"}'],
)
@pytest.mark.parametrize("dialogue", [chat, tool_call, delegation], ids=["model", "tool", "agent"])
def test_what_an_upstream_repeats_of_our_secrets_does_not_leave(dialogue: Any, message: str) -> None:
    said = dialogue(error_type="invalid_request_error", error_message=message, content_bytes=0)
    for fact in (attempt(status=401, dialogue=said), exchange(status=200, dialogue=dialogue(error_type="api_error", error_message=message))):
        told = span(fact)
        assert told.status.message
        assert not [secret for secret in SECRETS if secret.encode() in told.SerializeToString()]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("overloaded_error", "overloaded_error"), ("something_new", "something_new"), ("Request req_011CVf81aZ of key=abc failed", "_OTHER"),
        ("x" * 300, "_OTHER"), ("sk-abcdefghijkl", "_OTHER"), ("line\nbreak", "_OTHER"), ("\udce9", "_OTHER"), ("err-20261120103000", "_OTHER"),
    ],
    ids=ascii,
)  # fmt: skip
def test_an_upstreams_word_is_the_error_type_only_where_it_is_one(told: str, shown: str) -> None:
    said = chat(error_type=told, content_bytes=0, is_ended=False)
    assert attributes_of(client(said))["error.type"] == shown
    failed = attributes_of(span(exchange(dialogue=said)))
    assert failed.get("error.type", shown) == shown


def test_an_upstream_that_makes_up_words_gets_so_many_and_no_more() -> None:
    writer = SpanWriter(b"", scope_version="1")
    letters = [f"{a}{b}{c}" for a in "abcdef" for b in "abcdef" for c in "abcdef"]
    kinds = set()
    for each in letters:
        read = Span.FromString(writer.span(attempt(dialogue=chat(error_type=f"error_{each}", content_bytes=0, is_ended=False))))
        kinds.add(attributes_of(read)["error.type"])
    assert len(kinds) == MOST_WORDS + 1 and OTHER in kinds


@pytest.mark.parametrize(
    ("dialogue", "name"),
    [
        (chat(model="m" * 256), "chat " + "m" * 250),
        (tool_call(target="t" * 256), "tools/call " + "t" * 244),
        (tool_call(operation="acme/made-up-7", target=""), "_OTHER"),
        (tool_call(operation="notifications/progress", target=""), "notifications/progress"),
        (tool_call(operation="resources/read", target="file:///secret"), "resources/read"),
        (Dialogue(Asked("x", "o p"), Answered(is_ended=True)), "_OTHER"),
    ],
    ids=["model", "tool", "method", "notification", "resource", "operation"],
)
def test_the_name_of_a_span_is_short_and_made_of_what_is_known(dialogue: Dialogue, name: str) -> None:
    assert client(dialogue).name == name
    method = getattr(dialogue.asked, "operation", "")
    assert attributes_of(client(dialogue)).get("mcp.method.name", method) == method, "the attribute has it in full"


def test_models_and_tools_by_the_thousands_do_not_become_as_many_names() -> None:
    writer = SpanWriter(b"", scope_version="1")
    names = {
        Span.FromString(writer.span(attempt(dialogue=each))).name
        for number in range(MOST_NAMES + 50)
        for each in (chat(model=f"made-up-{number}"), tool_call(target=f"made-up-{number}"))
    }
    assert len(names) == 2 * MOST_NAMES + 2 and {"chat", "tools/call"} < names
