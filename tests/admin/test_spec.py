"""What may be written under `admin:`."""

import pytest
from pydantic import TypeAdapter, ValidationError

from sidecar.admin.spec import AdminSpec


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [
        ("127.0.0.1:4141", "127.0.0.1", 4141), ("[::1]:0", "::1", 0), ("localhost:65535", "localhost", 65535),
        ("0.0.0.0:80", "0.0.0.0", 80),
    ],
)  # fmt: skip
def test_an_endpoint_has_a_host_and_a_port(endpoint: str, host: str, port: int) -> None:
    spec = AdminSpec(endpoint=endpoint)
    assert (spec.host, spec.port) == (host, port)


@pytest.mark.parametrize(
    "endpoint", ["", "4141", ":4141", "127.0.0.1", "127.0.0.1:65536", "http://a:1", "::1:4141", "a b:1", "a:1\n"]
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint is an address and a port"):
        AdminSpec(endpoint=endpoint)


@pytest.mark.parametrize("host", ["", "http://example.org", "example.org:80", "a/b", "*.example.org"])
def test_an_allowed_host_is_a_bare_name(host: str) -> None:
    with pytest.raises(ValueError, match="allow_hosts"):
        AdminSpec(allow_hosts=(host,))


@pytest.mark.parametrize("kept", [-1, 16_385])
def test_what_is_kept_has_a_bound(kept: int) -> None:
    assert AdminSpec(kept_exchanges=0).kept_exchanges == 0
    with pytest.raises(ValueError, match="kept_exchanges is a number from 0 to 16384"):
        AdminSpec(kept_exchanges=kept)


def test_the_config_reads_it_and_refuses_what_it_does_not_know() -> None:
    adapter = TypeAdapter(AdminSpec)
    spec = adapter.validate_python({"endpoint": "[::1]:4000", "allow_hosts": ["sidecar.example.org"], "open_probes": False})
    assert (spec.host, spec.port, spec.allow_hosts, spec.open_probes) == ("::1", 4000, ("sidecar.example.org",), False)
    with pytest.raises(ValidationError, match="tokenfile"):
        adapter.validate_python({"tokenfile": "x"})


def test_by_default_it_is_on_loopback() -> None:
    assert AdminSpec().endpoint == "127.0.0.1:4141"
