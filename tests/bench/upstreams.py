"""What stands behind the proxies, all on the load's core: fixed answers, paced streams and a sink for spans."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.certificates import Certificates, make_certificates
from tests.bench.client import wait_until_open
from tests.bench.payload import response_body
from tests.bench.process import Process, free_port

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Loopback ports, each plain and TLS; `certificates` has the authority that signed the TLS ones."""

    calls_port: int
    calls_tls_port: int
    streams_port: int
    streams_tls_port: int
    sink_port: int
    sink_log: Path
    certificates: Certificates


@contextmanager
def running_upstreams(nginx: str, folder: Path, core: int) -> Iterator[Upstreams]:
    """Start nginx with the fixed answers and the sink, and the stream server; stop both at the end."""
    upstreams = Upstreams(
        calls_port=free_port(),
        calls_tls_port=free_port(),
        streams_port=free_port(),
        streams_tls_port=free_port(),
        sink_port=free_port(),
        sink_log=folder / "sink.log",
        certificates=make_certificates(folder),
    )
    config = folder / "upstream.conf"
    config.write_text(_nginx_config(upstreams, folder))
    streams = [sys.executable, "-m", "tests.bench.stream_server", str(upstreams.streams_port), str(upstreams.streams_tls_port)]
    streams += [str(upstreams.certificates.chain), str(upstreams.certificates.key)]
    with (
        Process([nginx, "-p", str(folder), "-c", str(config), "-e", "stderr"], core=core, log=folder / "upstream.log") as answers,
        Process(streams, core=core, log=folder / "streams.log", cwd=ROOT) as stream_server,
    ):
        wait_until_open(answers, upstreams.calls_port)
        wait_until_open(stream_server, upstreams.streams_tls_port)
        yield upstreams


def spans_received(upstreams: Upstreams) -> tuple[int, int]:
    """OTLP requests that the sink took so far, and their bytes (its log is flushed every second)."""
    sizes = [int(line) for line in upstreams.sink_log.read_text().splitlines()]
    return len(sizes), sum(sizes)


def nginx_preamble(folder: Path, *, worker_connections: int = 8192) -> str:
    """The head of each nginx.conf here: one worker in the foreground, nothing outside `folder`."""
    user = "user root;" if os.geteuid() == 0 else ""  # the worker has to reach the temporary folder
    return f"""
{user} worker_processes 1; daemon off; worker_rlimit_nofile {2 * worker_connections}; pid {folder}/{{name}}.pid;
error_log stderr error;
events {{{{ worker_connections {worker_connections}; }}}}
"""


def temporary_paths(folder: Path) -> str:
    """Where nginx may spill bodies."""
    return "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def _nginx_config(upstreams: Upstreams, folder: Path) -> str:
    certificates = upstreams.certificates
    answer = f"""
    default_type application/json;
    add_header x-request-id req_0123456789abcdef; add_header openai-processing-ms 312;
    location / {{ return 200 '{response_body().decode()}'; }}
"""
    return f"""{nginx_preamble(folder).format(name="upstream")}
http {{
  access_log off; {temporary_paths(folder)}
  keepalive_timeout 1h; keepalive_requests 1000000000; tcp_nodelay on;
  log_format size $request_length;
  server {{ listen 127.0.0.1:{upstreams.calls_port} backlog=2048; {answer} }}
  server {{
    listen 127.0.0.1:{upstreams.calls_tls_port} ssl backlog=2048;
    ssl_certificate {certificates.chain}; ssl_certificate_key {certificates.key};
    {answer}
  }}
  server {{
    listen 127.0.0.1:{upstreams.sink_port}; client_max_body_size 64m;
    access_log {upstreams.sink_log} size buffer=64k flush=1s;
    default_type application/x-protobuf;
    location / {{ return 200 ''; }}
  }}
}}
"""
