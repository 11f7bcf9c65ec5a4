import ssl
from pathlib import Path
from typing import Any

import pytest

from sidecar.model.spec import Secret
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry import destination as d
from sidecar.telemetry.destination import TlsSpec
from sidecar.telemetry.signals import Signal


def http(environ: dict[str, str] | None = None, **settings: Any) -> d.Destination:
    own = {signal: settings.pop(f"{signal}_endpoint", "") for signal in Signal}
    defaults = {"endpoint": "", "headers": {}, "timeout_s": None, "compression": None, "tls": TlsSpec()}
    return d.http_destination(Runtime(environ=environ or {}), endpoints=own, **{**defaults, **settings})


def grpc(environ: dict[str, str] | None = None, **settings: Any) -> d.Destination:
    defaults = {"endpoint": "", "headers": {}, "timeout_s": None, "compression": None, "tls": TlsSpec()}
    return d.grpc_destination(Runtime(environ=environ or {}), **{**defaults, **settings})


def urls(one: d.Destination) -> list[str]:
    return [one.urls[signal] for signal in Signal]


def test_without_settings_it_is_the_collector_on_this_machine() -> None:
    found = http()
    assert urls(found) == [f"http://localhost:4318/v1/{signal}" for signal in Signal]
    assert (found.timeout_s, found.compression, found.headers) == (10.0, "none", {})
    assert set(urls(grpc())) == {"http://localhost:4317"}


def test_a_base_gets_the_path_and_a_full_url_is_taken_as_it_is() -> None:
    found = http(endpoint="https://otlp.example.org/otlp/", traces_endpoint="https://other.example.org/intake")
    assert urls(found) == [
        "https://other.example.org/intake", "https://otlp.example.org/otlp/v1/metrics", "https://otlp.example.org/otlp/v1/logs",
    ]  # fmt: skip
    assert found.compression == "gzip"


def test_the_environment_is_the_default() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://base.example.org",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://logs.example.org/in",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, X-Other=1 ,broken",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/cert.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/key.pem",
    }
    found = http(environ)
    base = "https://base.example.org/v1"
    assert urls(found) == [f"{base}/traces", f"{base}/metrics", "https://logs.example.org/in"]
    assert {name: value.reveal() for name, value in found.headers.items()} == {"api-key": "a b", "x-other": "1"}
    assert (found.timeout_s, found.compression) == (2.5, "none")
    assert found.tls == TlsSpec(ca_file="/ca.pem", cert_file="/cert.pem", key_file="/key.pem")
    assert set(urls(grpc(environ))) == {"https://base.example.org"}


def test_settings_win_over_the_environment() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://base.example.org",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces.example.org",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=environment,other=1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
    }
    tls = TlsSpec(insecure_skip_verify=True)
    found = http(
        environ, endpoint="http://mine:1", headers={"Api-Key": Secret("settings")}, timeout_s=1.0, compression="gzip", tls=tls
    )
    assert urls(found)[0] == "http://mine:1/v1/traces"
    assert {name: value.reveal() for name, value in found.headers.items()} == {"api-key": "settings", "other": "1"}
    assert (found.timeout_s, found.compression, found.tls) == (1.0, "gzip", tls)


@pytest.mark.parametrize("written", ["", "x", "-5", "0", "1.5"])
def test_a_timeout_that_is_no_positive_number_is_ten_seconds(written: str) -> None:
    assert http({"OTEL_EXPORTER_OTLP_TIMEOUT": written}).timeout_s == 10.0


def test_an_unknown_compression_of_the_environment_is_the_default() -> None:
    assert http({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, endpoint="https://x.example.org").compression == "gzip"
    assert http({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}).compression == "gzip"


@pytest.mark.parametrize(
    ("settings", "environ", "expected"),
    [
        ({"endpoint": "collector:4317"}, {}, "https://collector:4317"),
        ({"endpoint": "collector:4317", "tls": TlsSpec(insecure=True)}, {}, "http://collector:4317"),
        ({"endpoint": "http://collector:4317"}, {}, "http://collector:4317"),
        ({"endpoint": "collector:4317"}, {"OTEL_EXPORTER_OTLP_INSECURE": "true"}, "https://collector:4317"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:1", "OTEL_EXPORTER_OTLP_INSECURE": "TRUE"}, "http://c:1"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:1"}, "https://c:1"),
    ],
)
def test_grpc_uses_tls_unless_told_otherwise(settings: dict[str, Any], environ: dict[str, str], expected: str) -> None:
    assert set(urls(grpc(environ, **settings))) == {expected}


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("collector:4318", "http://"),
        ("ftp://x", "http://"),
        ("http://", "a host"),
        ("http://u:p@x", "password"),
        ("u:p@x:1", "password"),
        ("http://x:99999", "ort"),
    ],
)
def test_urls_that_cannot_be_sent_to_are_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        d.checked_url(url)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.9", True), ("::1", True), ("[::1]", True), ("a.localhost", True), ("10.0.0.1", False), ("x", False),
     ("::ffff:127.0.0.1", True), ("[::ffff:7f00:1]", True), ("::ffff:10.0.0.1", False)],
)  # fmt: skip
def test_loopback_has_many_names(host: str, *, expected: bool) -> None:
    assert d.is_loopback(host) is expected


@pytest.mark.parametrize(
    ("url", "is_own"),
    [("http://localhost:4318", True), ("http://127.0.0.1:4318/x", True), ("http://localhost:4317", False), ("http://x:4318", False)],
)
def test_an_exporter_does_not_send_to_our_own_receiver(url: str, *, is_own: bool) -> None:
    runtime = Runtime()
    runtime.services[d.OWN_PORTS] = {1: {4318}, 2: set()}
    found = http(endpoint=url)
    if is_own:
        with pytest.raises(ValueError, match="own OTLP receiver"):
            d.refuse_own_endpoint(runtime, found)
    else:
        d.refuse_own_endpoint(runtime, found)


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValueError, match="cert_file"):
        TlsSpec(key_file="/key.pem")


def test_a_context_verifies_unless_told_otherwise() -> None:
    assert d.ssl_context(TlsSpec()).verify_mode is ssl.CERT_REQUIRED
    loose = d.ssl_context(TlsSpec(insecure_skip_verify=True))
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(OSError):
        d.ssl_context(TlsSpec(cert_file="/nonexistent.pem"))


def test_a_file_is_read_where_there_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"pem")
    assert (d.read_file(""), d.read_file(str(tmp_path / "ca.pem"))) == (None, b"pem")
