import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.dialect import Heading, Unreadable
from sidecar.dialects.mcp.questions import (
    END_SESSION,
    GUESS,
    LISTEN,
    MESSAGE,
    MOST_ARGUMENT_BYTES,
    MOST_ID_BYTES,
    RESPONSE,
    call_of,
    long_with_context,
    message_of,
    operation_of,
    quickly_with_context,
    session_in,
    with_context,
)
from tests.counting import calls_made

JSON = {"content-type": "application/json; charset=utf-8"}
BOTH = {**JSON, "accept": "application/json, text/event-stream"}
STREAM = {"accept": "text/event-stream"}


@pytest.mark.parametrize(
    ("heading", "operation"),
    [
        (Heading("POST", "/anything", fields=BOTH), GUESS),
        (Heading("POST", "/anything", fields={**JSON, "mcp-session-id": "s"}), MESSAGE),
        (Heading("POST", "/anything", fields={**JSON, "mcp-protocol-version": "2025-06-18"}), MESSAGE),
        (Heading("POST", "/anything", fields={**JSON, "mcp-method": "tools/call"}), MESSAGE),
        (Heading("POST", "/a/mcp/", fields=JSON), MESSAGE),
        (Heading("POST", "/mcp", fields={"content-type": "application/json, application/json"}), MESSAGE),
        (Heading("POST", "/mcp", fields={"content-type": "text/plain, application/json"}), ""),
        (Heading("POST", "/sse", fields=JSON), MESSAGE),
        (Heading("POST", "/messages/", "session_id=5", fields=JSON), MESSAGE),
        (Heading("POST", "/message", "sessionId=5", fields=JSON), MESSAGE),
        (Heading("POST", "/v1/messages", fields=JSON), ""),
        (Heading("POST", "/v1/threads/t/messages", "limit=1", fields=JSON), ""),
        (Heading("POST", "/anything", fields=JSON), ""),
        (Heading("POST", "/mcp", fields={"content-type": "text/plain"}), ""),
        (Heading("POST", "/mcp"), ""),
        (Heading("POST", "/", fields={**BOTH, "a2a-version": "1.0"}), ""),
        (Heading("GET", "/mcp", fields=STREAM), LISTEN),
        (Heading("GET", "/sse", fields=STREAM), LISTEN),
        (Heading("GET", "/x", fields={**STREAM, "mcp-session-id": "s"}), LISTEN),
        (Heading("GET", "/x", fields=STREAM), ""),
        (Heading("GET", "/mcp"), ""),
        (Heading("DELETE", "/x", fields={"mcp-session-id": "s"}), END_SESSION),
        (Heading("DELETE", "/mcp"), ""),
        (Heading("PUT", "/mcp", fields=BOTH), ""),
    ],
    ids=range(24),
)
def test_a_head_says_whether_it_speaks_mcp(heading: Heading, operation: str) -> None:
    assert operation_of(heading) == operation


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({"method": "tools/call", "params": {"name": "add"}}, "add"),
        ({"method": "prompts/get", "params": {"name": "greet"}}, "greet"),
        ({"method": "resources/read", "params": {"uri": "memo://1", "name": "x"}}, "memo://1"),
        ({"method": "resources/subscribe", "params": {"uri": "memo://1"}}, "memo://1"),
        ({"method": "completion/complete", "params": {"ref": {"type": "ref/prompt", "name": "greet"}}}, "greet"),
        ({"method": "completion/complete", "params": {"ref": {"type": "ref/resource", "uri": "memo://{n}"}}}, "memo://{n}"),
        ({"method": "tools/list", "params": {"name": "add"}}, ""),
        ({"method": "tools/call", "params": {"name": ["add"]}}, ""),
        ({"method": "tools/call", "params": ["add"]}, ""),
        ({"method": "tools/call"}, ""),
    ],
    ids=range(10),
)
def test_a_call_names_its_tool_prompt_or_resource(body: dict[str, object], target: str) -> None:
    assert message_of(json.dumps({"jsonrpc": "2.0", "id": 1, **body}).encode()).target == target


def test_the_field_names_the_target_where_the_body_does_not() -> None:
    fields = {**BOTH, "mcp-name": "=?base64?w7hscw==?="}
    assert call_of(MESSAGE, Heading("POST", "/mcp", fields=fields), b'{"id":1,"method":"tools/call"}').target == "øls"
    fields["mcp-name"] = "add, add"
    assert call_of(MESSAGE, Heading("POST", "/mcp", fields=fields), b'{"id":1,"method":"tools/call"}').target == ""
    fields["mcp-name"] = "=?base64?!?="
    assert call_of(MESSAGE, Heading("POST", "/mcp", fields=fields), b'{"id":1,"method":"tools/call"}').target == "=?base64?!?="


@pytest.mark.parametrize(
    ("fields", "params", "version"),
    [
        ({"mcp-protocol-version": "2025-06-18"}, {"protocolVersion": "b"}, "2025-06-18"),
        ({"mcp-protocol-version": "2025-06-18, 2025-11-25"}, {"protocolVersion": "b"}, "2025-06-18"),
        ({}, {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}, "protocolVersion": "b"}, "2026-07-28"),
        ({}, {"protocolVersion": "2024-11-05"}, "2024-11-05"),
        ({}, {"protocolVersion": None, "_meta": None}, ""),
    ],
    ids=range(5),
)
def test_the_version_is_that_of_field_meta_or_handshake(fields: dict[str, str], params: dict[str, object], version: str) -> None:
    body = json.dumps({"id": 1, "method": "initialize", "params": params}).encode()
    assert call_of(MESSAGE, Heading("POST", "/mcp", fields=fields), body).protocol_version == version


@pytest.mark.parametrize("raw_id", [b"1", b'"1"', b'"\\u0061"', b"-7", b"1.5"])
def test_the_id_is_kept_as_it_was_written(raw_id: bytes) -> None:
    assert message_of(b'{"method":"ping","id":%b}' % raw_id).raw_id == raw_id


@pytest.mark.parametrize("raw_id", [b"null", b"{}", b"true", b'"' + b"x" * MOST_ID_BYTES + b'"'], ids=range(4))
def test_what_is_no_usable_id_makes_a_call_that_nobody_answers(raw_id: bytes) -> None:
    call = message_of(b'{"method":"ping","id":%b}' % raw_id)
    assert (call.operation, call.raw_id, call.id) == ("ping", b"", "")


def test_long_arguments_are_left_out() -> None:
    for size, is_kept in ((MOST_ARGUMENT_BYTES - 2, True), (MOST_ARGUMENT_BYTES - 1, False)):
        arguments = b'"' + b"x" * size + b'"'
        call = message_of(b'{"method":"tools/call","id":1,"params":{"name":"t","arguments":%b}}' % arguments)
        assert call.arguments == (arguments if is_kept else b"")


def test_trace_context_is_read_where_it_is_text() -> None:
    call = message_of(
        b'{"method":"m","id":1,"params":{"_meta":{"traceparent":"00-a","tracestate":7,"baggage":"' + b"k" * 9000 + b'"}}}'
    )
    assert (call.traceparent, call.tracestate, call.baggage) == (b"00-a", b"", b"")


def test_answers_of_the_client_are_told_from_requests() -> None:
    call = message_of(b'{"id":"s1","result":{}}')
    assert (call.operation, call.id, call.streams) == (RESPONSE, "s1", False)


def test_a_subscription_stands_and_a_call_with_progress_streams() -> None:
    listening = message_of(b'{"id":1,"method":"subscriptions/listen"}')
    assert listening.is_standing and listening.streams
    watched = message_of(b'{"id":1,"method":"tools/call","params":{"_meta":{"progressToken":"p"}}}')
    assert (watched.is_standing, watched.streams, watched.progress_token) == (False, True, "p")


def test_a_long_message_is_read_whatever_its_parameters_are() -> None:
    text = '"' + "x" * 300_000 + '"'
    usual = message_of(b'{"id":1,"method":"tools/call","params":{"name":"t","arguments":{"x":%b}}}' % text.encode())
    assert (usual.operation, usual.target, usual.id) == ("tools/call", "t", "1")
    for params in (text, f"[{text}]", f'{{"name":"t","_meta":[],"x":{text}}}'):
        assert message_of(b'{"id":1,"method":"tools/call","params":%b}' % params.encode()).operation == "tools/call"
    answer = message_of(b'{"id":1,"result":%b}' % text.encode())
    assert (answer.operation, answer.id) == (RESPONSE, "1")
    batch = message_of(b'[{"method":"notifications/x"},{"id":2,"method":"ping","params":%b}]' % text.encode())
    assert (batch.operation, batch.id, batch.count) == ("ping", "2", 2)


@pytest.mark.parametrize(
    "body",
    [b'"' + b"\\u00e4" * 900_000 + b'"', b'{"params":{' + b'"name":1,' * 600_000 + b'"x":1}}', b'{"params":{"x":"' + b"a" * 5_000_000],
    ids=["text", "crowd", "cut"],
)
def test_a_message_of_megabytes_that_is_none_costs_no_second_look(body: bytes) -> None:
    def reads() -> None:
        with pytest.raises(Unreadable):
            message_of(body)

    assert calls_made(reads) < 400


@pytest.mark.parametrize("body", [b"", b"{}", b'{"id":1}', b"[]", b"nothing"])
def test_what_is_no_message_cannot_be_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        message_of(body)


@pytest.mark.parametrize(
    ("field", "query", "session"),
    [("a", "", "a"), ("a, b", "", "a"), ("a, a", "sessionId=c", "a"), ("a,b", "", "a,b"), (", b", "", ""), (", b", "sessionId=c", "c")],
)
def test_a_session_that_is_named_twice_is_the_first_one(field: str, query: str, session: str) -> None:
    body = b'{"id":1,"method":"tools/list"}'
    for operation in (MESSAGE, LISTEN):
        call = call_of(operation, Heading("POST", "/mcp", query, fields={**JSON, "mcp-session-id": field}), body)
        assert call.session == session


@pytest.mark.parametrize(
    ("query", "session"), [("sessionId=a", "a"), ("x=1&session_id=b%20c", "b c"), ("session=1", ""), ("", "")]
)
def test_the_session_of_a_stream_stands_in_the_query(query: str, session: str) -> None:
    assert session_in(query) == session


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        (b"{}", b'{"traceparent":"p","tracestate":"s"}'),
        (b'{ "a" : 1 }', b'{ "a" : 1 ,"traceparent":"p","tracestate":"s"}'),
        (b'{"traceparent":"old","a":1}', b'{"traceparent":"p","a":1,"tracestate":"s"}'),
        (b'{"tracestate":null,"traceparent":7}', b'{"tracestate":"s","traceparent":"p"}'),
    ],
    ids=range(4),
)
def test_context_is_written_beside_what_else_meta_holds(meta: bytes, expected: bytes) -> None:
    assert with_context(meta, {"traceparent": b"p", "tracestate": b"s", "baggage": b""}) == expected


MEMBERS = st.dictionaries(
    st.sampled_from(["id", "method", "params", "result", "error"]),
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.dictionaries(
        st.sampled_from(["name", "_meta", "uri", "arguments", "requestId"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    ),
)


@given(MEMBERS)
def test_members_of_any_type_are_read_or_refused(members: dict[str, object]) -> None:
    try:
        message_of(json.dumps(members).encode())
    except Unreadable:
        pass


@pytest.mark.parametrize(
    ("body", "is_quick"),
    [
        (b'{"id":1,"method":"x","params":{"a":1}}', True),
        (b'{"id":1,"method":"x","params":{ "a" : 1 } }', True),
        (b'{"id":1,"method":"x","params":{"a":1,"_meta":{"b":2}}}', True),
        (b'{"id":1,"method":"x","params":{"_meta":{"b":2},"_meta":{"b":3}}}', True),
        (b'{"id":1,"method":"x","params":{"a":{"b":2},"_meta":{"b":2}}}', False),
        (b'{"id":1,"method":"{}","params":{}}', False),
        (b'{"id":1,"method":"x","params":{}}', True),
        (b'{"id":1,"method":"x","params":{"a":"' + b"x" * 70_000 + b'"}}', False),
        (b'{"id":1,"method":"x","params":[1]}', False),
        (b'{"id":1,"method":"x"}', False),
    ],
    ids=range(10),
)
def test_the_quick_way_into_meta_leads_to_the_same_place(body: bytes, is_quick: bool) -> None:
    context = {"traceparent": b"p"}
    quickly = quickly_with_context(body, context)
    assert bool(quickly) == is_quick
    if is_quick:
        was, now = json.loads(body), json.loads(quickly)
        was["params"].setdefault("_meta", {})["traceparent"] = "p"
        assert now == was


@given(
    st.dictionaries(
        st.sampled_from(["a", "_meta", "params"]),
        st.dictionaries(st.sampled_from(["a", "_meta", "traceparent"]), st.just("{}")) | st.just({"_meta": {}}),
    ),
    st.sampled_from(["{}", '{"a": "{}"}', "x"]),
)
def test_no_body_leads_the_quick_way_astray(params: dict[str, object], method: str) -> None:
    body = json.dumps({"id": 1, "method": method, "params": params, "z": params.get("_meta")}).encode()
    quickly = quickly_with_context(body, {"traceparent": b"p"})
    if quickly:
        expected = json.loads(body)
        expected["params"].setdefault("_meta", {})["traceparent"] = "p"
        assert json.loads(quickly) == expected


_LONG = b'"arguments":{"a":"' + b"x" * 200_000 + b'"}'
_SAMPLE = {"traceparent": b"00-1-2-01", "tracestate": b"", "baggage": b""}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"method":"tools/call","params":{%b},"id":1}', b'{"method":"tools/call","params":{"_meta":{"traceparent":"00-1-2-01"},%b},"id":1}'),
        (b'{"params" : { %b},"id":1,"method":"x"}', b'{"params" : {"_meta":{"traceparent":"00-1-2-01"}, %b},"id":1,"method":"x"}'),
        (b'{"id":1,"params":{"_meta":{"progressToken":1},%b},"method":"x"}', b'{"id":1,"params":{"_meta":{"progressToken":1,"traceparent":"00-1-2-01"},%b},"method":"x"}'),
        (b'{"id":1,"x":{"params":{}},"params":{%b},"method":"x"}', b""),
        (b'{"id":1,"\\"params":{},"params":{%b},"method":"x"}', b""),
        (b'{"id":1,"params":{%b,"_meta":{"a":1}},"method":"x"}', b""),
    ],
    ids=range(6),
)  # fmt: skip
def test_context_is_put_into_a_long_request_where_its_parameters_begin_or_not_at_all(body: bytes, expected: bytes) -> None:
    body = body.replace(b"%b", _LONG)
    call = message_of(body)
    assert call.meta is not None
    assert long_with_context(body, call.meta, _SAMPLE) == expected.replace(b"%b", _LONG)
