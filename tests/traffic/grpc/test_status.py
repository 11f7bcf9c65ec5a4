import grpc
import pytest

from sidecar.model.errors import CODES, Refused
from sidecar.traffic.grpc.status import NAMES, name_of, status_of


def test_the_names_are_those_of_the_library() -> None:
    assert [code.name for code in sorted(grpc.StatusCode, key=lambda code: code.value[0])] == list(NAMES)
    assert [name_of(number) for number in (0, 16, 17, -1)] == ["OK", "UNAUTHENTICATED", "UNKNOWN", "UNKNOWN"]


@pytest.mark.parametrize("code", CODES)
def test_every_error_of_ours_has_a_status_that_is_no_success(code: str) -> None:
    status = status_of(Refused(code))
    assert status.code
    assert dict(status.trailers)["x-sidecar-error"] == code
    assert status.details == f"{code}: {CODES[code].advice}"
    may_repeat = status.name == "UNAVAILABLE" and "grpc-retry-pushback-ms" not in dict(status.trailers)
    assert CODES[code].retry or not may_repeat, "a client that repeats by itself is told not to"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("proxy_auth_required", "UNAUTHENTICATED"),
        ("route_unknown", "UNIMPLEMENTED"),
        ("destination_denied", "PERMISSION_DENIED"),
        ("connect_failed", "UNAVAILABLE"),
        ("draining", "UNAVAILABLE"),
        ("first_byte_timeout", "DEADLINE_EXCEEDED"),
        ("too_many_connections", "RESOURCE_EXHAUSTED"),
        ("stopped", "FAILED_PRECONDITION"),
        ("internal", "INTERNAL"),
    ],
)
def test_the_status_says_what_the_client_can_do(code: str, name: str) -> None:
    assert status_of(Refused(code)).name == name


def test_when_to_try_again_is_told_in_milliseconds() -> None:
    told = dict(status_of(Refused("too_many_connections", "full", retry_after_s=1.5)).trailers)
    assert told["grpc-retry-pushback-ms"] == "1500"
