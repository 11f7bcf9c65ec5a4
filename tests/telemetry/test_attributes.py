import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.semconv import schemas
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
)
from opentelemetry.semconv.attributes import http_attributes as stable_http_attributes

from sidecar.model.errors import CODES
from sidecar.model.facts import Mode, Purpose
from sidecar.telemetry import attributes as http
from sidecar.telemetry.spans import SpanWriter
from tests.otlp_collector import attributes_of
from tests.telemetry.facts import attempt, exchange

STABLE = {
    client_attributes.CLIENT_ADDRESS,
    error_attributes.ERROR_TYPE,
    network_attributes.NETWORK_PEER_ADDRESS,
    network_attributes.NETWORK_PROTOCOL_VERSION,
    server_attributes.SERVER_ADDRESS,
    server_attributes.SERVER_PORT,
    stable_http_attributes.HTTP_REQUEST_METHOD,
    stable_http_attributes.HTTP_REQUEST_METHOD_ORIGINAL,
    stable_http_attributes.HTTP_REQUEST_RESEND_COUNT,
    stable_http_attributes.HTTP_RESPONSE_STATUS_CODE,
    stable_http_attributes.HTTP_ROUTE,
    url_attributes.URL_FULL,
    url_attributes.URL_PATH,
    url_attributes.URL_QUERY,
    url_attributes.URL_SCHEME,
}
IN_DEVELOPMENT = {
    gen_ai_attributes.GEN_AI_AGENT_ID,
    http_attributes.HTTP_REQUEST_BODY_SIZE,
    http_attributes.HTTP_RESPONSE_BODY_SIZE,
}
OURS = {
    "sidecar.connect_s", "sidecar.error", "sidecar.first_byte_s", "sidecar.mode", "sidecar.purpose", "sidecar.route",
    "sidecar.task.id",
}  # fmt: skip
SEEDS = {"agent.did", "agent.span.kind", "agent.task.name"}


def test_every_name_is_one_of_the_conventions_or_of_the_seeds_or_begins_with_sidecar() -> None:
    writer = SpanWriter(b"", scope_version="1", routes={"openai": "/openai/"})
    everything = {"method": "BREW", "task": "t", "purpose": Purpose.SHADOW, "error": "upstream_cut", "status": 502}
    spans = [
        writer.span(exchange(path="/openai/a?b=1", **everything)),
        writer.span(attempt(resends=2, connect_s=0.1, agent="did:web:example.com:bot", **everything)),
        writer.span(exchange(error="destination_denied", status=403)),
    ]
    names = {key for span in spans for key in attributes_of(Span.FromString(span))}
    assert names == STABLE | IN_DEVELOPMENT | OURS | SEEDS


def test_the_schema_url_is_that_of_the_conventions() -> None:
    assert schemas.Schemas.V1_44_0.value == http.SCHEMA_URL


def test_known_methods_are_those_of_the_conventions() -> None:
    named = {method.value for method in stable_http_attributes.HttpRequestMethodValues} - {"_OTHER"}
    assert named | {"QUERY"} == http.KNOWN_METHODS


def span(fields: bytes) -> Span:
    return Span.FromString(fields)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (200, "", ""),
        (302, "", ""),
        (404, "", ""),
        (404, "route_unknown", ""),
        (429, "", ""),
        (500, "", "500"),
        (503, "", "503"),
        (502, "upstream_closed", "upstream_closed"),
        (200, "upstream_cut", "upstream_cut"),
        (200, "client_gone", ""),
        (0, "client_gone", ""),
        (0, "something_new", "something_new"),
        (0, "", ""),
    ],
)
def test_a_server_span_fails_only_where_the_agent_was_failed(status: int, error: str, expected: str) -> None:
    assert http.server_error_type(status, error) == expected


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (200, "", ""),
        (399, "", ""),
        (404, "", "404"),
        (500, "", "500"),
        (0, "dns_failed", "dns_failed"),
        (200, "upstream_cut", "upstream_cut"),
    ],
)
def test_a_client_span_fails_from_400_on(status: int, error: str, expected: str) -> None:
    assert http.client_error_type(status, error) == expected


def test_status_says_error_and_describes_only_what_the_status_code_does_not_say() -> None:
    assert not span(http.outcome("", "")).HasField("status")
    plain = span(http.outcome("503", ""))
    assert (plain.status.code, plain.status.message) == (2, "")
    ours = span(http.outcome("upstream_cut", "upstream_cut"))
    assert (ours.status.code, ours.status.message) == (2, CODES["upstream_cut"].advice)
    assert attributes_of(ours) == {"error.type": "upstream_cut"}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (("https", "api.openai.com", 443, "/v1/x?api_key=1"), "https://api.openai.com/v1/x?api_key=REDACTED"),
        (("http", "llm", 80, "/"), "http://llm/"),
        (("http", "llm", 8080, "/a"), "http://llm:8080/a"),
        (("https", "::1", 443, "/a"), "https://[::1]/a"),
        (("https", "::1", 8443, ""), "https://[::1]:8443"),
        (("http", "llm", 80, "*"), "http://llm"),
        (("", "api.openai.com", 443, ""), "api.openai.com:443"),
        (("", "::1", 443, ""), "[::1]:443"),
    ],
)
def test_a_full_url_leaves_out_default_ports_and_credentials(where: tuple[str, str, int, str], expected: str) -> None:
    assert attributes_of(span(http.full_url(*where))) == {"url.full": expected}


@pytest.mark.parametrize(
    ("method", "template", "expected"),
    [
        ("GET", "/openai/", "GET /openai/"),
        ("GET", "", "GET"),
        ("BREW", "", "HTTP"),
        ("BREW", "/a/", "HTTP /a/"),
        ("get", "", "HTTP"),
    ],
)
def test_a_span_is_named_by_method_and_route(method: str, template: str, expected: str) -> None:
    assert span(http.span_name(method, template)).name == expected


def test_an_unknown_method_is_other_and_keeps_its_original() -> None:
    assert attributes_of(span(http.request_method("BREW"))) == {
        "http.request.method": "_OTHER",
        "http.request.method_original": "BREW",
    }
    assert attributes_of(span(http.request_method("QUERY"))) == {"http.request.method": "QUERY"}


def test_purpose_is_shown_only_where_it_is_not_live() -> None:
    assert "sidecar.purpose" not in attributes_of(span(http.common("", "", Purpose.LIVE, 200, "")))
    assert attributes_of(span(http.common("", "", Purpose.PROBE, 0, "")))["sidecar.purpose"] == "probe"


def test_mode_names_are_those_that_the_spans_show() -> None:
    assert {*Mode} == {"forward", "gateway", "connect", "stdio"}
