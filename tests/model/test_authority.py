import pytest

from sidecar.model.authority import authority, bracketed, read_endpoint


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("a.test", "a.test"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("fe80::1%eth0", "[fe80::1%eth0]"),
        ("", ""),
    ],
)
def test_an_ipv6_address_stands_in_brackets_and_in_one_pair_of_them(host: str, shown: str) -> None:
    assert bracketed(host) == shown
    assert authority(host, 80) == f"{shown}:80"


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [
        ("127.0.0.1:4140", "127.0.0.1", 4140),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("[::]:1", "::", 1),
        ("sidecar.internal:80", "sidecar.internal", 80),
    ],
)
def test_an_endpoint_is_host_and_port(endpoint: str, host: str, port: int) -> None:
    assert read_endpoint(endpoint) == (host, port)
    assert authority(host, port) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    ["", "4140", ":4140", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:-1", "127.0.0.1:65536", "[]:80", "h:1 "],
)
def test_an_endpoint_that_is_none_is_an_error_that_shows_how_one_looks(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint has to look like"):
        read_endpoint(endpoint)
