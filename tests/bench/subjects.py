"""The proxies under test: how each is configured and started, with nothing but the same two routes."""

import json
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.process import free_port
from tests.bench.upstreams import ROOT, Upstreams, nginx_preamble, temporary_paths

CALLS_PREFIX = "/openai/"
STREAMS_PREFIX = "/stream/"
READ_CALLS_PREFIX = "/read/"
READ_STREAMS_PREFIX = "/read-stream/"
"""Each subject cuts the prefix off and sends the rest on; the last two are the sidecar's alone, which reads what passes there."""
_STATE = ("XDG_RUNTIME_DIR", "XDG_STATE_HOME")
"""Where the sidecar keeps its admin token."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line that listens on `port`; `admin_port` is 0 where there is none."""

    command: list[str]
    port: int
    admin_port: int = 0
    cwd: Path | None = None
    environ: dict[str, str] = field(default_factory=dict)


class Subject(ABC):
    """One proxy. `name` is its column in the tables."""

    name: str

    @abstractmethod
    def launch(self, upstreams: Upstreams, folder: Path, *, tls: bool) -> Launch:
        """Write the configuration into `folder` for plain or TLS upstreams, and say how to start it."""

    @abstractmethod
    def version_command(self) -> list[str]:
        """A command that prints the version."""


class Nginx(Subject):
    """One worker, upstream keep-alive, no buffering where streams go."""

    name = "nginx"

    def __init__(self, program: str) -> None:
        self._program = program

    def version_command(self) -> list[str]:
        return [self._program, "-v"]

    def launch(self, upstreams: Upstreams, folder: Path, *, tls: bool) -> Launch:
        port = free_port()
        scheme = "https" if tls else "http"
        verification = (
            f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {upstreams.certificates.authority}; "
            "proxy_ssl_name localhost; proxy_ssl_server_name on;"
        )
        config = folder / f"{folder.name}.conf"
        config.write_text(f"""{nginx_preamble(folder).format(name=folder.name)}
http {{
  access_log off; {temporary_paths(folder)}
  keepalive_timeout 1h; keepalive_requests 1000000000; tcp_nodelay on;
  upstream calls {{ server 127.0.0.1:{_calls(upstreams, tls)}; keepalive 64; keepalive_requests 1000000000; }}
  upstream streams {{ server 127.0.0.1:{_streams(upstreams, tls)}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    proxy_http_version 1.1; proxy_set_header Connection ""; {verification if tls else ""}
    location {CALLS_PREFIX} {{ proxy_pass {scheme}://calls/; }}
    location {STREAMS_PREFIX} {{ proxy_pass {scheme}://streams/; proxy_buffering off; }}
  }}
}}
""")
        return Launch([self._program, "-p", str(folder), "-c", str(config), "-e", "stderr"], port)


class Envoy(Subject):
    """One worker thread, a plain proxy: no tracing, no access log, no admin; bounds raised above the thousand streams."""

    name = "envoy"

    def __init__(self, program: str) -> None:
        self._program = program

    def version_command(self) -> list[str]:
        return [self._program, "--version"]

    def launch(self, upstreams: Upstreams, folder: Path, *, tls: bool) -> Launch:
        port = free_port()
        config = folder / "envoy.json"
        clusters = [
            _envoy_cluster("calls", _calls(upstreams, tls), upstreams, tls),
            _envoy_cluster("streams", _streams(upstreams, tls), upstreams, tls),
        ]
        routes = [_envoy_route(CALLS_PREFIX, "calls"), _envoy_route(STREAMS_PREFIX, "streams")]
        config.write_text(json.dumps({"static_resources": {"listeners": [_envoy_listener(port, routes)], "clusters": clusters}}))
        command = [self._program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return Launch(command, port)


class Sidecar(Subject):
    """The default configuration with a gateway route: trace context and span export on, admin on."""

    def __init__(self, name: str = "sidecar", checkout: Path = ROOT) -> None:
        self.name = name
        self._checkout = checkout

    def version_command(self) -> list[str]:
        return [sys.executable, "-m", "sidecar", "version"]

    def launch(self, upstreams: Upstreams, folder: Path, *, tls: bool) -> Launch:
        port, admin_port = free_port(), free_port()
        config = folder / "sidecar.yaml"
        config.write_text(json.dumps(_sidecar_config(upstreams, port, admin_port, tls), indent=2))  # JSON is YAML
        command = [sys.executable, "-m", "sidecar", "run", "--config", str(config)]
        return Launch(command, port, admin_port, self._checkout, dict.fromkeys(_STATE, str(folder)))


def _calls(upstreams: Upstreams, tls: bool) -> int:
    return upstreams.calls_tls_port if tls else upstreams.calls_port


def _streams(upstreams: Upstreams, tls: bool) -> int:
    return upstreams.streams_tls_port if tls else upstreams.streams_port


def _sidecar_config(upstreams: Upstreams, port: int, admin_port: int, tls: bool) -> dict[str, Any]:
    def upstream(to: int, dialect: str = "plain") -> dict[str, Any]:
        if not tls:
            return {"url": f"http://127.0.0.1:{to}", "dialect": dialect, "provider": "openai"}
        trust = {"ca_file": str(upstreams.certificates.authority)}
        return {"url": f"https://localhost:{to}", "tls": trust, "dialect": dialect, "provider": "openai"}

    return {
        "traffic": {
            "listeners": {"http": {"endpoint": f"127.0.0.1:{port}"}},
            "upstreams": {
                "http/calls": upstream(_calls(upstreams, tls)),
                "http/streams": upstream(_streams(upstreams, tls)),
                "http/read-calls": upstream(_calls(upstreams, tls), "auto"),
                "http/read-streams": upstream(_streams(upstreams, tls), "auto"),
            },
            "routes": {
                "calls": {"path": CALLS_PREFIX, "upstream": "http/calls"},
                "streams": {"path": STREAMS_PREFIX, "upstream": "http/streams"},
                "read_calls": {"path": READ_CALLS_PREFIX, "upstream": "http/read-calls"},
                "read_streams": {"path": READ_STREAMS_PREFIX, "upstream": "http/read-streams"},
            },
        },
        "receivers": {"traffic": {}},
        "exporters": {"otlp_http": {"endpoint": f"http://127.0.0.1:{upstreams.sink_port}"}},
        "service": {"pipelines": {"traces": {"receivers": ["traffic"], "exporters": ["otlp_http"]}}},
        "admin": {"endpoint": f"127.0.0.1:{admin_port}"},
    }


def _envoy_listener(port: int, routes: list[dict[str, Any]]) -> dict[str, Any]:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]},
        ],
    }


def _envoy_route(prefix: str, cluster: str) -> dict[str, Any]:
    action = {"cluster": cluster, "prefix_rewrite": "/", "host_rewrite_literal": "localhost", "timeout": "0s"}
    return {"match": {"prefix": prefix}, "route": action}


def _envoy_cluster(name: str, port: int, upstreams: Upstreams, tls: bool) -> dict[str, Any]:
    bounds = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 8192)
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [bounds]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if tls:
        validation = {
            "trusted_ca": {"filename": str(upstreams.certificates.authority)},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "localhost"}}],
        }
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "localhost",
                "common_tls_context": {"validation_context": validation},
            },
        }
    return cluster
