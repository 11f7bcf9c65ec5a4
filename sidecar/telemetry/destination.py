"""
Where an OTLP exporter sends to, and how: from its settings and, for what they leave out, from OTEL_EXPORTER_OTLP_*.

Source: opentelemetry.io/docs/specs/otel/protocol/exporter. Settings are those of the Collector's exporters.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from sidecar.model import own_hosts
from sidecar.model.spec import Secret, Spec
from sidecar.runtime.runtime import Runtime
from sidecar.runtime.trust import client_context
from sidecar.telemetry.signals import Signal

Compression = Literal["gzip", "none"]

OWN_PORTS = "telemetry.own_ports"
"""Runtime service: a set of ports for each of our OTLP receivers, by its id; what is sent there would come back for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSpec(Spec):
    """TLS towards the backend; its certificate is verified unless told otherwise."""

    insecure: bool = False
    """Use no TLS (otlp_grpc; otlp_http sees it by the url)."""
    insecure_skip_verify: bool = False
    """Accept any certificate (otlp_http only); for tests."""
    ca_file: str = ""
    """PEM file of the only authorities to trust, instead of the system's."""
    cert_file: str = ""
    """PEM file of our certificate, for mutual TLS."""
    key_file: str = ""
    """PEM file of our key; default: in `cert_file`."""
    server_name_override: str = ""
    """Name for SNI and verification; default: the endpoint's host."""

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file beside it")


@dataclass(frozen=True, slots=True)
class Destination:
    """What is left when settings and environment have been put together."""

    urls: dict[Signal, str]
    headers: dict[str, Secret]
    timeout_s: float
    compression: Compression
    tls: TlsSpec


def http_destination(
    runtime: Runtime,
    *,
    endpoint: str,
    endpoints: Mapping[Signal, str],
    headers: Mapping[str, Secret],
    timeout_s: float | None,
    compression: Compression | None,
    tls: TlsSpec,
) -> Destination:
    """Full urls by signal: `endpoint` is a base that `/v1/traces` is appended to, `endpoints` are taken as they are."""
    environ = runtime.environ
    base = endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") or "http://localhost:4318"
    urls = {}
    for signal in Signal:
        own = endpoints[signal] or ("" if endpoint else environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", ""))
        urls[signal] = checked_url(own or f"{base.rstrip('/')}/v1/{signal}")
    return _destination(environ, urls, headers, timeout_s, compression, tls)


def grpc_destination(
    runtime: Runtime,
    *,
    endpoint: str,
    headers: Mapping[str, Secret],
    timeout_s: float | None,
    compression: Compression | None,
    tls: TlsSpec,
) -> Destination:
    """A url with the scheme http (no TLS) or https for `host:port` or a url; all signals share it."""
    environ = runtime.environ
    written = endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") or "http://localhost:4317"
    if "://" not in written:
        from_environment = not endpoint and environ.get("OTEL_EXPORTER_OTLP_INSECURE", "").lower() == "true"
        written = f"{'http' if tls.insecure or from_environment else 'https'}://{written}"
    url = checked_url(written)
    return _destination(environ, dict.fromkeys(Signal, url), headers, timeout_s, compression, tls)


def _destination(
    environ: Mapping[str, str],
    urls: dict[Signal, str],
    headers: Mapping[str, Secret],
    timeout_s: float | None,
    compression: Compression | None,
    tls: TlsSpec,
) -> Destination:
    merged = {name.lower(): value for name, value in written_headers(environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")).items()}
    merged |= {name.lower(): value for name, value in headers.items()}
    if not any((tls.ca_file, tls.cert_file, tls.insecure_skip_verify)):
        tls = TlsSpec(
            insecure=tls.insecure,
            ca_file=environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE", ""),
            cert_file=environ.get("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", ""),
            key_file=environ.get("OTEL_EXPORTER_OTLP_CLIENT_KEY", ""),
            server_name_override=tls.server_name_override,
        )
    chosen = compression or _compression(environ.get("OTEL_EXPORTER_OTLP_COMPRESSION", ""))
    if chosen is None:  # on loopback it would cost more than it saves
        chosen = "none" if all(is_loopback(urlsplit(url).hostname or "") for url in urls.values()) else "gzip"
    return Destination(urls, merged, timeout_s or _timeout_s(environ), chosen, tls)


def checked_url(url: str) -> str:
    """The url, if it is one that we can send to; raises ValueError, which says what is wrong with it."""
    parts = urlsplit(url)
    if "@" in url:
        raise ValueError("an endpoint must not hold a password; put an Authorization field into `headers`")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"an endpoint has to be a url with http:// or https:// and a host, not {url!r}")
    _ = parts.port  # raises ValueError for a port that is none
    return url


def is_loopback(host: str) -> bool:
    """Whether the name or address means this very machine."""
    return own_hosts.is_loopback(host.strip("[]")) or host.endswith(".localhost")


def refuse_own_endpoint(runtime: Runtime, destination: Destination) -> None:
    """Raise ValueError where an exporter would send to one of our own receivers, which would go round for ever."""
    own = {port for ports in runtime.services.get(OWN_PORTS, {}).values() for port in ports}
    for url in destination.urls.values():
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if port in own and is_loopback(parts.hostname or ""):
            raise ValueError(f"{url} is the sidecar's own OTLP receiver; what is sent there would come back for ever")


def written_headers(text: str) -> dict[str, Secret]:
    """Read `name=value,name=value` with percent-encoded values (OTEL_EXPORTER_OTLP_HEADERS); what has no `=` is skipped."""
    pairs = (entry.partition("=") for entry in text.split(","))
    return {name.strip(): Secret(unquote(value.strip())) for name, mark, value in pairs if mark and name.strip()}


def ssl_context(tls: TlsSpec) -> ssl.SSLContext:
    """A context with these files, or the system's authorities; reads files, so call it in a thread."""
    return client_context(tls.ca_file, tls.cert_file, tls.key_file, insecure_skip_verify=tls.insecure_skip_verify)


def read_file(path: str) -> bytes | None:
    """The file's bytes, None without a path; call it in a thread."""
    return Path(path).read_bytes() if path else None


def _compression(written: str) -> Compression | None:
    match written.strip().lower():
        case "gzip":
            return "gzip"
        case "none":
            return "none"
        case _:
            return None


def _timeout_s(environ: Mapping[str, str]) -> float:
    """OTEL_EXPORTER_OTLP_TIMEOUT is in milliseconds; 10 s where it is missing or no positive number."""
    written = environ.get("OTEL_EXPORTER_OTLP_TIMEOUT", "").strip()
    return int(written) / 1000 if written.isdecimal() and int(written) > 0 else 10.0
