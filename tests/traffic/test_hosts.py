import socket

import pytest

from sidecar.model.errors import Refused
from sidecar.traffic.destinations import Destinations
from sidecar.traffic.hosts import is_loopback, judge_unresolved


def destinations(*, allow_loopback: bool = False, allow_private: bool = True) -> Destinations:
    own = (("127.0.0.1", 4140),)
    return Destinations(allow_loopback=allow_loopback, allow_private=allow_private, own=lambda: own, configured=frozenset())


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.1", "[::1]", "::ffff:127.0.0.1", "0.0.0.0", "::"]
)
def test_loopback_is_known_by_its_spelling(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhost.test", "alocalhost", "10.0.0.1", "127.0.0.1.test", "h", "2001:db8::1"])
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "port", "code"),
    [
        ("169.254.169.254", 80, "address_refused"),
        ("2852039166", 80, "address_refused"),
        ("metadata", 80, "address_refused"),
        ("Metadata.Google.Internal.", 80, "address_refused"),
        ("instance-data.ec2.internal", 80, "address_refused"),
        ("localhost", 4140, "loop_detected"),
        (socket.gethostname(), 4140, "loop_detected"),
        ("localhost", 80, "loopback_refused"),
        ("api.localhost", 80, "loopback_refused"),
        ("10.0.0.1", 80, ""),
        (socket.gethostname(), 80, ""),
        ("api.openai.com", 443, ""),
        ("metadata.example", 80, ""),
    ],
)
def test_what_can_be_known_without_resolving_is_judged(host: str, port: int, code: str) -> None:
    if not code:
        judge_unresolved(destinations(), host, port, named_by_config=False)
        return
    with pytest.raises(Refused) as caught:
        judge_unresolved(destinations(), host, port, named_by_config=False)
    assert caught.value.code == code


def test_upstreams_of_the_config_may_stand_on_loopback_but_are_no_metadata_service() -> None:
    judge_unresolved(destinations(), "localhost", 80, named_by_config=True)
    with pytest.raises(Refused, match="metadata"):
        judge_unresolved(destinations(allow_loopback=True), "metadata.goog", 80, named_by_config=True)
