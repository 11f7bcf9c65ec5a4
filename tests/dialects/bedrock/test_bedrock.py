import json
from typing import Any

import pytest

from sidecar.dialects import bedrock
from sidecar.dialects.bedrock import streams
from sidecar.dialects.bedrock.asked import BedrockAsked
from sidecar.dialects.dialect import Clamp, Dialect, Heading, IncludeUsage, Meta, Unreadable
from sidecar.dialects.eventstream import Frames
from sidecar.model.answered import Answered
from sidecar.model.asked import ModelAsked
from sidecar.model.errors import CODES, Refused
from tests.dialects.transcripts import Transcript, asked_members, members, read, splits, transcripts

DIALECT: Dialect = bedrock  # a module is as good as an object
TRANSCRIPTS = transcripts("bedrock", DIALECT)
ALL = pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript.name)
FRAMES = "application/vnd.amazon.eventstream"
CLAUDE = "/model/anthropic.claude-3-haiku-20240307-v1%3A0"
SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=A/20261120/us-east-1/bedrock/aws4_request"}


def asked(api: str = "converse-stream", model: str = "anthropic.claude-3-haiku-20240307-v1%3A0", **body: Any) -> BedrockAsked:
    heading = Heading("POST", f"/model/{model}/{api}", fields={"authorization": "Bearer key"})
    told = bedrock.request(bedrock.operation(heading), heading, json.dumps(body).encode())
    assert isinstance(told, BedrockAsked)
    return told


@ALL
def test_a_request_is_understood(transcript: Transcript) -> None:
    assert asked_members(transcript.ask(), transcript.asked_members) == transcript.asked_members


@ALL
def test_an_answer_is_understood_in_whatever_pieces_it_comes(transcript: Transcript) -> None:
    for pieces in splits(transcript.body):
        assert read(transcript.reader(), pieces) == transcript.answered_members


@pytest.mark.parametrize("transcript", [each for each in TRANSCRIPTS if each.oracle], ids=lambda transcript: transcript.name)
def test_the_tokens_are_those_that_genai_prices_finds(transcript: Transcript) -> None:
    data = pytest.importorskip("genai_prices.data")
    assert transcript.oracle is not None
    provider = next(each for each in data.providers if each.id == transcript.oracle["provider"])
    _, found = provider.extract_usage(transcript.oracle["body"], api_flavor=transcript.oracle["flavor"])
    reader = transcript.reader()
    read(reader, [transcript.body])
    usage = reader.answered.usage  # type: ignore[attr-defined]  # what a model answered
    assert found.input_tokens == usage.input_total
    assert found.output_tokens == usage.output_total
    assert (found.cache_read_tokens or 0) == usage.cache_read_total
    assert (found.cache_write_tokens or 0) == usage.cache_write_total
    assert (found.cache_write_5m_tokens or 0) == usage.cache_write_5m_tokens
    assert (found.cache_write_1h_tokens or 0) == usage.cache_write_1h_tokens


@pytest.mark.parametrize(
    "transcript", [each for each in TRANSCRIPTS if each.content_type == FRAMES], ids=lambda transcript: transcript.name
)
def test_what_came_before_a_cut_is_kept(transcript: Transcript) -> None:
    reader = transcript.reader()
    last = len(transcript.body) - 1
    reader.feed(transcript.body[:last])
    assert not reader.answered.is_ended
    assert reader.answered.events == transcript.answered_members["events"] - 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{CLAUDE}/converse", "chat"),
        (f"{CLAUDE}/converse-stream", "chat"),
        (f"{CLAUDE}/invoke", "chat"),
        ("/prefix/model/x/converse", "chat"),
        ("/model/amazon.titan-embed-text-v2%3A0/invoke", "embeddings"),
        ("/model/cohere.embed-english-v3/invoke", "embeddings"),
        ("/model/stability.sd3-5-large-v1%3A0/invoke", "generate_content"),
        ("/model/amazon.nova-canvas-v1%3A0/invoke", "generate_content"),
        ("/model/amazon.rerank-v1%3A0/invoke", ""),
        (f"{CLAUDE}/count-tokens", ""),
        (f"{CLAUDE}/invoke-with-bidirectional-stream", ""),
        ("/guardrail/g/version/1/apply", ""),
        ("/model/converse", ""),
        ("/model//converse", ""),
        ("/", ""),
        ("", ""),
    ],
    ids=str,
)
def test_the_path_says_what_is_asked_for(path: str, expected: str) -> None:
    assert bedrock.operation(Heading("POST", path)) == expected
    assert bedrock.operation(Heading("GET", path)) == ""


def test_a_path_of_somebody_else_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        bedrock.request("chat", Heading("POST", "/v1/messages"), b"{}")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nonsense", b"\xff", b"[" * 100_000], ids=["empty", "list", "text", "bytes", "deep"]
)
@pytest.mark.parametrize("api", ["converse", "invoke"])
@pytest.mark.parametrize("model", ["anthropic.claude-v2", "amazon.nova-lite-v1%3A0", "meta.llama3"])
def test_a_body_that_is_no_object_is_unreadable(api: str, model: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        bedrock.request("chat", Heading("POST", f"/model/{model}/{api}"), body)


def test_members_of_the_wrong_type_lose_only_themselves() -> None:
    told = asked(
        inferenceConfig={"maxTokens": "many", "temperature": 0.5}, toolConfig={"tools": [7, {"toolSpec": {"name": "f"}}]}
    )
    assert (told.max_tokens, told.parameters, told.tools) == (0, (("temperature", 0.5),), ("f",))


def test_the_provider_of_the_config_counts() -> None:
    heading = Heading("POST", f"{CLAUDE}/converse", provider="gateway")
    told = bedrock.request("chat", heading, b"{}")
    assert isinstance(told, ModelAsked) and told.provider == "gateway"


def test_a_prompt_that_is_stored_has_no_bound() -> None:
    told = asked(model="arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprompt%2FP12345%3A1")
    assert told.model.endswith(":prompt/P12345:1") and told.unbounded == ("stored_prompt",)


def test_the_tier_of_an_invoke_stands_in_its_head() -> None:
    heading = Heading("POST", "/model/meta.llama3/invoke", fields={"x-amzn-bedrock-service-tier": "priority"})
    told = bedrock.request("chat", heading, b"{}")
    assert isinstance(told, ModelAsked) and told.service_tier == "priority"
    heading = Heading("POST", "/model/meta.llama3/invoke", fields={"x-amzn-bedrock-performanceconfig-latency": "optimized"})
    told = bedrock.request("chat", heading, b"{}")
    assert isinstance(told, ModelAsked) and told.service_tier == "optimized"


# errors


@pytest.mark.parametrize("code", CODES)
def test_an_error_of_ours_names_its_exception(code: str) -> None:
    spoken = bedrock.error(Refused(code, "caf\udce9"), None)
    assert spoken.status == CODES[code].status
    assert json.loads(spoken.body)["message"] == f"{code}: caf?"
    ((field, kind),) = spoken.fields
    assert field == "x-amzn-ErrorType" and kind.endswith("Exception")


def test_an_error_without_a_name_in_its_head_has_one_in_its_body() -> None:
    reader = bedrock.reader(asked(), 403, "application/json", {})
    reader.feed(b'{"__type":"com.amazon.coral.service#UnrecognizedClientException","Message":"The security token is invalid."}')
    reader.end()
    assert members(reader.answered) == {
        "is_ended": True,
        "error_type": "UnrecognizedClientException",
        "error_message": "The security token is invalid.",
    }


def test_an_error_that_is_no_json_keeps_its_name() -> None:
    reader = bedrock.reader(asked(), 503, "text/html", {"x-amzn-errortype": "ServiceUnavailableException"})
    reader.feed(b"<html>")
    reader.end()
    assert members(reader.answered) == {"is_ended": True, "is_unreadable": True, "error_type": "ServiceUnavailableException"}


def test_an_answer_to_what_nobody_read_is_taken_for_converses() -> None:
    reader = bedrock.reader(ModelAsked("bedrock", "chat", True), 200, FRAMES, {})
    reader.feed(streams.event("contentBlockDelta", b'{"delta":{"text":"a"}}'))
    assert reader.answered.content_bytes == 1


# edits


def test_what_aws_has_signed_is_never_changed() -> None:
    body = b'{"inferenceConfig":{"maxTokens":100}}'
    for heading in (
        Heading("POST", f"{CLAUDE}/converse", fields=SIGNED),
        Heading("POST", f"{CLAUDE}/converse", query="X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"),
        Heading("POST", f"{CLAUDE}/converse", fields={"authorization": "AWS4-ECDSA-P256-SHA256 Credential=A"}),
    ):
        told = bedrock.request("chat", heading, body)
        with pytest.raises(Unreadable, match="signed"):
            bedrock.edit(told, body, Clamp(5))


@pytest.mark.parametrize(
    ("model", "api", "body", "expected"),
    [
        ("x", "converse", b'{"inferenceConfig": {"maxTokens": 100}}', b'{"inferenceConfig": {"maxTokens": 5}}'),
        ("x", "converse", b'{"messages":[]}', b'{"messages":[],"inferenceConfig":{"maxTokens":5}}'),
        ("anthropic.claude-v2", "invoke", b'{"max_tokens": 9}', b'{"max_tokens": 5}'),
        ("us.amazon.nova-lite-v1%3A0", "invoke", b'{"inferenceConfig":{}}', b'{"inferenceConfig":{"maxTokens":5}}'),
        (
            "amazon.titan-text-lite-v1",
            "invoke",
            b'{"inputText":""}',
            b'{"inputText":"","textGenerationConfig":{"maxTokenCount":5}}',
        ),
        ("meta.llama3-8b", "invoke", b'{"max_gen_len":6}', b'{"max_gen_len":5}'),
        ("mistral.mixtral", "invoke", b'{"max_tokens":6}', b'{"max_tokens":5}'),
        ("deepseek.r1-v1%3A0", "invoke", b'{"max_tokens":6}', b'{"max_tokens":5}'),
        ("openai.gpt-oss-20b-1%3A0", "invoke", b'{"max_completion_tokens":6}', b'{"max_completion_tokens":5}'),
    ],
    ids=["converse", "converse-without", "anthropic", "nova", "titan", "meta", "mistral", "deepseek", "openai"],
)
def test_a_bound_is_put_where_the_vendor_has_it(model: str, api: str, body: bytes, expected: bytes) -> None:
    told = bedrock.request("chat", Heading("POST", f"/model/{model}/{api}"), body)
    assert bedrock.edit(told, body, Clamp(5)) == expected


def test_a_lower_bound_stays() -> None:
    body = b'{"inferenceConfig":{"maxTokens":4}}'
    told = bedrock.request("chat", Heading("POST", f"{CLAUDE}/converse"), body)
    assert bedrock.edit(told, body, Clamp(5)) is body


def test_usage_is_told_anyway() -> None:
    told = asked()
    body = b"{}"
    assert told.tells_usage and bedrock.edit(told, body, IncludeUsage()) is body
    assert bedrock.takes_out(told, IncludeUsage()) is None


def test_nothing_is_put_where_nobody_knows_the_place() -> None:
    with pytest.raises(Unreadable):
        bedrock.edit(asked("invoke", "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fq7"), b"{}", Clamp(5))
    with pytest.raises(Unreadable):
        bedrock.edit(asked("invoke", "amazon.titan-embed-text-v2%3A0"), b"{}", Clamp(5))
    with pytest.raises(Unreadable):
        bedrock.edit(asked(), b"{}", Meta(b"00-"))
    with pytest.raises(Unreadable):
        bedrock.edit(ModelAsked("bedrock", "chat"), b"{}", Clamp(5))


# endings


def events_of(data: bytes) -> list[tuple[str, Any]]:
    frames = Frames()
    found = [(headers[":event-type"], json.loads(payload)) for headers, payload in frames.feed(data)]
    assert frames.is_between and not frames.is_broken
    return found


def ending_after(told: BedrockAsked, *events: tuple[str, bytes]) -> list[tuple[str, Any]]:
    reader = bedrock.reader(told, 200, FRAMES, {})
    for kind, payload in events:
        reader.feed(streams.event(kind, payload))
    return events_of(bedrock.ending(told, reader.answered, "upstream_cut"))


def test_a_cut_message_is_closed_with_everything_that_is_open() -> None:
    ended = ending_after(
        asked(), ("messageStart", b'{"role":"assistant"}'), ("contentBlockDelta", b'{"contentBlockIndex":3,"delta":{"text":"a"}}')
    )
    assert [kind for kind, _ in ended] == ["contentBlockStop", "messageStop", "metadata"]
    assert ended[0][1] == {"contentBlockIndex": 3}
    assert ended[1][1] == {"stopReason": "max_tokens"}
    assert ended[2][1]["usage"]["outputTokens"] == 0


def test_a_stream_of_which_nothing_came_is_a_whole_message() -> None:
    assert [kind for kind, _ in ending_after(asked())] == ["messageStart", "messageStop", "metadata"]


def test_a_message_that_lacks_only_its_metadata_gets_it() -> None:
    ended = ending_after(asked(), ("messageStart", b"{}"), ("messageStop", b'{"stopReason":"end_turn"}'))
    assert [kind for kind, _ in ended] == ["metadata"]


def test_nothing_ends_a_stream_inside_a_frame_or_after_its_end() -> None:
    told = asked()
    cut = bedrock.reader(told, 200, FRAMES, {})
    cut.feed(streams.event("messageStart", b"{}")[:-1])
    assert bedrock.ending(told, cut.answered, "upstream_cut") == b""
    whole = bedrock.reader(told, 200, FRAMES, {})
    whole.feed(streams.event("metadata", b"{}"))
    assert bedrock.ending(told, whole.answered, "upstream_cut") == b""
    assert bedrock.ending(told, Answered(), "upstream_cut") == b""
    assert bedrock.ending(asked("converse"), whole.answered, "upstream_cut") == b""


def test_the_end_of_the_stream_after_the_message_is_its_end() -> None:
    reader = bedrock.reader(asked(), 200, FRAMES, {})
    reader.feed(streams.event("messageStop", b'{"stopReason":"end_turn"}'))
    assert not reader.answered.is_ended
    reader.end()
    assert reader.answered.is_ended


@pytest.fixture(scope="module")
def runtime() -> Any:
    """Reads what `converse-stream` and the like answer as AWS's own client does: (operation, status, fields, bytes) to events."""
    session = pytest.importorskip("botocore.session").Session()
    parsers = pytest.importorskip("botocore.parsers")
    stream = pytest.importorskip("botocore.eventstream")
    model = session.get_service_model("bedrock-runtime")

    class Raw:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def stream(self) -> Any:
            yield self._data

    def run(operation: str, data: bytes) -> list[dict[str, Any]]:
        shape = model.operation_model(operation).output_shape
        member = next(
            each
            for each in shape.members.values()
            if each.serialization.get("eventstream") or getattr(each, "is_eventstream", False)
        )
        parser = parsers.create_parser("rest-json")._event_stream_parser
        return list(stream.EventStream(Raw(data), member, parser, operation))

    def fail(status: int, fields: dict[str, str], body: bytes) -> str:
        shape = model.operation_model("Converse").output_shape
        parsed = parsers.create_parser("rest-json").parse({"status_code": status, "headers": fields, "body": body}, shape)
        code: str = parsed["Error"]["Code"]
        return code

    return run, fail


def test_botocore_takes_our_ending_for_that_of_the_message(runtime: Any) -> None:
    run, _ = runtime
    told = asked()
    seen = b"".join(
        (
            streams.event("messageStart", b'{"role":"assistant"}'),
            streams.event("contentBlockStart", b'{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"t","name":"f"}}}'),
            streams.event("contentBlockDelta", b'{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{"}}}'),
        )
    )
    reader = bedrock.reader(told, 200, FRAMES, {})
    reader.feed(seen)
    events = run("ConverseStream", seen + bedrock.ending(told, reader.answered, "upstream_cut"))
    assert [next(iter(each)) for each in events][3:] == ["contentBlockStop", "messageStop", "metadata"]
    assert events[4] == {"messageStop": {"stopReason": "max_tokens"}}
    assert events[5]["metadata"]["usage"]["totalTokens"] == 0


def test_botocore_takes_our_last_chunk_of_an_invoke(runtime: Any) -> None:
    run, _ = runtime
    told = asked("invoke-with-response-stream", "meta.llama3-8b")
    reader = bedrock.reader(told, 200, FRAMES, {})
    (event,) = run("InvokeModelWithResponseStream", bedrock.ending(told, reader.answered, "upstream_cut"))
    assert json.loads(event["chunk"]["bytes"]) == {"generation": "", "stop_reason": "length"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pool_exhausted", "ServiceUnavailableException"),
        ("internal", "InternalServerException"),
        ("connect_timeout", "ModelTimeoutException"),
        ("bad_header", "ValidationException"),
        ("destination_denied", "AccessDeniedException"),
        ("route_unknown", "ResourceNotFoundException"),
        ("connect_failed", "InternalServerException"),
    ],
    ids=lambda value: value,
)
def test_botocore_raises_the_exception_that_we_name(runtime: Any, code: str, expected: str) -> None:
    _, fail = runtime
    spoken = bedrock.error(Refused(code), None)
    assert fail(spoken.status, {name.lower(): value for name, value in spoken.fields}, spoken.body) == expected
