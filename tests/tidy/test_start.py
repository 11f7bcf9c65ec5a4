"""Start is lean: what weighs is imported when the config uses it, and never before the proxy listens."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.repository import ROOT

HEAVY = [
    "aiohttp", "google.protobuf", "grpc", "msgspec", "opentelemetry", "opentelemetry.sdk", "pydantic", "multiprocessing",
    "concurrent.futures.process",
]  # fmt: skip

CONFIG = """
traffic:
  listeners: {http: {endpoint: 127.0.0.1:0}}
receivers: {traffic: {}, otlp: {protocols: {grpc: {endpoint: 127.0.0.1:0}, http: {endpoint: 127.0.0.1:0}}}}
exporters: {otlp_grpc: {endpoint: "http://127.0.0.1:9"}, otlp_http: {endpoint: "http://127.0.0.1:9"}, debug: {}}
service:
  pipelines:
    traces: {receivers: [traffic, otlp], exporters: [otlp_grpc, otlp_http, debug]}
admin: {endpoint: 127.0.0.1:0}
"""

PROGRAM = f"""
import asyncio, json, sys

from sidecar.app import App
from sidecar.config import parse

def heavy():
    return [each for each in {HEAVY} if each in sys.modules]

async def main():
    app = App(parse({CONFIG!r}, environ={{}}))
    await app.start()
    at_start, endpoints = heavy(), list(app.endpoints)
    await app.ready()
    after = heavy()
    await app.stop()
    print(json.dumps({{"listens": endpoints, "before": at_start, "after": after}}))

asyncio.run(main())
"""


def run(program: str) -> str:
    unmeasured = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}  # coverage imports, too
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=unmeasured, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def seen() -> Any:
    return json.loads(run(PROGRAM).splitlines()[-1])


def test_nothing_heavy_is_imported_before_the_proxy_listens(seen: Any) -> None:
    assert "traffic.listeners.http" in seen["listens"]
    assert seen["before"] == []


def test_what_the_config_uses_is_imported_after_that(seen: Any) -> None:
    assert {"aiohttp", "grpc"} <= set(seen["after"])
    assert "opentelemetry.sdk" not in seen["after"], "only for resource detectors, which this config does not name"


def test_the_package_itself_costs_nothing() -> None:
    program = "import sys; before = set(sys.modules); import sidecar; print(sorted(set(sys.modules) - before))"
    assert run(program).strip() == "['sidecar']"


def test_help_imports_neither_a_command_nor_a_plane() -> None:
    program = """
import contextlib, sys
from sidecar.cli import main
with contextlib.suppress(SystemExit):
    main(["--help"])
print(sorted(each for each in sys.modules if each.startswith("sidecar.") and each != "sidecar.cli"))
"""
    assert run(program).splitlines()[-1] == "[]"
