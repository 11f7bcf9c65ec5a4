import pytest

from sidecar.terminal.environment import METADATA, as_read, corporate, pointed_at

PROXY, TRACEPARENT = "http://127.0.0.1:40123", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ADDRESSES = "169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::254,metadata.google.internal"


def test_a_command_is_led_to_the_proxy_in_both_cases_of_letters() -> None:
    assert pointed_at({"HOME": "/home/user"}, proxy=PROXY, traceparent=TRACEPARENT) == {
        "HOME": "/home/user",
        "HTTP_PROXY": PROXY,
        "http_proxy": PROXY,
        "HTTPS_PROXY": PROXY,
        "https_proxy": PROXY,
        "NO_PROXY": ADDRESSES,
        "no_proxy": ADDRESSES,
        "NODE_USE_ENV_PROXY": "1",
        "TRACEPARENT": TRACEPARENT,
    }


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ({"NO_PROXY": "intern.test, 10.0.0.0/8"}, f"intern.test,10.0.0.0/8,{ADDRESSES}"),
        ({"no_proxy": "localhost"}, f"localhost,{ADDRESSES}"),
        ({"NO_PROXY": "a.test", "no_proxy": "b.test,,a.test"}, f"a.test,b.test,{ADDRESSES}"),
        ({"NO_PROXY": METADATA[0]}, ADDRESSES),
        ({"NO_PROXY": ""}, ADDRESSES),
    ],
)
def test_what_the_user_exempts_stays_exempt_and_local_servers_are_not_added(theirs: dict[str, str], expected: str) -> None:
    changed = pointed_at(theirs, proxy=PROXY, traceparent=TRACEPARENT)
    assert changed["NO_PROXY"] == changed["no_proxy"] == expected


def test_a_fallback_of_the_users_is_replaced_too_so_that_nothing_leads_past_the_sidecar() -> None:
    changed = pointed_at({"ALL_PROXY": "http://me:pw@corp:3128", "all_proxy": ""}, proxy=PROXY, traceparent=TRACEPARENT)
    assert (changed["ALL_PROXY"], changed["all_proxy"]) == (PROXY, "")


def test_proxies_that_the_user_has_are_known_by_their_variables() -> None:
    assert corporate({"http_proxy": "", "HTTPS_PROXY": "a", "all_proxy": "b", "NO_PROXY": "c"}) == ("HTTPS_PROXY", "all_proxy")


@pytest.mark.parametrize(
    ("theirs", "read"),
    [
        ({"HTTP_PROXY": "a"}, {"HTTP_PROXY": "a", "http_proxy": "a"}),
        ({"HTTP_PROXY": "a", "http_proxy": ""}, {"HTTP_PROXY": "a", "http_proxy": "a"}),
        ({"HTTP_PROXY": "a", "http_proxy": "b"}, {"HTTP_PROXY": "a", "http_proxy": "b"}),
        ({"HTTPS_PROXY": "a"}, {"HTTPS_PROXY": "a"}),
        ({"HTTP_PROXY": ""}, {"HTTP_PROXY": ""}),
    ],
)
def test_the_sidecar_around_a_command_reads_its_proxy_in_both_cases_of_letters(
    theirs: dict[str, str], read: dict[str, str]
) -> None:
    assert as_read(theirs) == read


def test_telemetry_goes_to_the_receiver_where_there_is_one_and_not_through_the_proxy() -> None:
    theirs = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.test", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    changed = pointed_at(theirs, proxy=PROXY, traceparent=TRACEPARENT, otlp="http://localhost:40318")
    assert changed["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://localhost:40318"
    assert changed["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    assert changed["NO_PROXY"] == f"{ADDRESSES},localhost:40318"


def test_telemetry_stays_where_it_was_without_a_receiver() -> None:
    theirs = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.test", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    changed = pointed_at(theirs, proxy=PROXY, traceparent=TRACEPARENT)
    assert {name: changed[name] for name in theirs} == theirs


def test_the_state_of_a_trace_goes_with_it() -> None:
    continued = {"TRACEPARENT": TRACEPARENT, "TRACESTATE": "a=1"}
    assert pointed_at(continued, proxy=PROXY, traceparent=TRACEPARENT)["TRACESTATE"] == "a=1"
    assert "TRACESTATE" not in pointed_at({"TRACEPARENT": "junk", "TRACESTATE": "a=1"}, proxy=PROXY, traceparent=TRACEPARENT)


def test_the_environment_it_is_given_stays_as_it_is() -> None:
    theirs = {"NO_PROXY": "a.test"}
    pointed_at(theirs, proxy=PROXY, traceparent=TRACEPARENT)
    assert theirs == {"NO_PROXY": "a.test"}
