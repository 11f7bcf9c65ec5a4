"""The probe that containers run against themselves."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.repository import ROOT


def probe(*arguments: str) -> tuple[int, str]:
    """Exit code and output, under the very flags that the image uses."""
    command = [sys.executable, "-IS", str(ROOT / "deploy" / "probe.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.stderr == ""
    return done.returncode, done.stdout


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = {"/readyz": 503, "/healthz": 200}.get(self.path, 404)
        host = self.headers["Host"]
        self.send_response(ready if host == f"127.0.0.1:{self.server.server_port}" else 421)  # type: ignore[attr-defined]  # an HTTPServer
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Admin)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_probe_is_content_with_200(address: str) -> None:
    assert probe("/healthz", address) == (0, "")


def test_probe_says_what_it_got_instead(address: str) -> None:
    assert probe("/readyz", address) == (1, f"{address}/readyz: 503\n")


def test_probe_fails_where_nobody_listens(free_port: Callable[[], int]) -> None:
    address = f"127.0.0.1:{free_port()}"
    code, said = probe("/readyz", address)
    assert code == 1 and said.startswith(f"{address}/readyz: ")


def test_probe_asks_the_default_admin_port_for_readiness_by_default() -> None:
    from sidecar.admin.spec import AdminSpec

    source = (ROOT / "deploy" / "probe.py").read_text()
    assert f'["/readyz", "{AdminSpec().endpoint}"]' in source
