import argparse
import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import demo
from tests.sidecar_under_test import eventually
from tests.terminal.console import PATIENCE_S, ROOT, environ, gone, on_terminal

DEMO = [sys.executable, "-m", "sidecar", "demo"]


def run() -> int:
    parser = argparse.ArgumentParser()
    demo.arguments(parser)
    return demo.run(parser.parse_args([]))


def test_it_shows_every_call_and_checks_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run() == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "with HTTP_PROXY=http://trip-planner:demo@127.0.0.1:" in told.out
    assert "agent was refused with 429" in told.out
    assert "the agent's own span" in told.out
    assert told.out.count("SERVER") == told.out.count("CLIENT") == 9
    assert told.out.count("→ chat demo-1") == 4
    assert "→ tools/call get_weather" in told.out
    assert "→ SendMessage to a2a" in told.out
    assert "9 calls to 3 destinations, 1 error, p50 " in told.out
    assert "140 tokens, $0.00017 at the demo's own prices" in told.out
    assert told.out.endswith("Everything expected was seen. Now your agent: sidecar exec -- python your_agent.py\n")


def test_it_needs_nothing_of_the_environment_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A proxy, a sampler and a backend of the user's own do not disturb it; no file is left in its home."""
    hostile = {
        "HOME": str(tmp_path), "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1", "NO_PROXY": "*", "no_proxy": "*",
        "OTEL_TRACES_SAMPLER": "always_off", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true",
        "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii", "COLUMNS": "80",
    }  # fmt: skip
    ended = subprocess.run(DEMO, env=hostile, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.isascii()
    table = ended.stdout.split("spans):\n\n")[1].split("\n\ndestination")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_it_has_colours_on_a_terminal() -> None:
    with on_terminal(DEMO, environ(TERM="xterm", NO_COLOR="", COLUMNS="100")) as console:
        told = console.expect("Everything expected was seen.")
        assert console.ends() == 0
    assert "\x1b[32m   200\x1b[0m" in told


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_its_processes_end_with_it(number: signal.Signals) -> None:
    with on_terminal(DEMO, environ()) as console:
        console.expect("is up: ")
        children = [
            int(each) for each in Path(f"/proc/{console.process.pid}/task/{console.process.pid}/children").read_text().split()
        ]
        assert len(children) == 2
        os.kill(console.process.pid, number)
        assert console.ends() == (130 if number is signal.SIGINT else -signal.SIGKILL)
        assert all(gone(child) for child in children)


def test_an_agent_that_gives_up_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def give_up(*arguments: Any) -> int:
        return 7

    monkeypatch.setattr(demo, "_agent", give_up)
    assert run() == 1
    assert "The demo failed: the agent ended with exit code 7" in capsys.readouterr().err


def test_a_missing_call_is_a_failure_that_names_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from sidecar.demo import expectation

    monkeypatch.setattr(expectation, "EXPECTED", expectation.EXPECTED + Counter({("a", "GET", "b", "/c", 200): 1}))
    assert run() == 1
    assert capsys.readouterr().err.splitlines() == [
        "missing: 1× a: GET b /c 200: no such SERVER span",
        "The demo failed: 1× a: GET b /c 200: no such SERVER span",
    ]


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The agent hangs and the endpoints do not hear that they should end: both are ended."""

    async def hang(*arguments: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(demo, "_PATIENCE_S", 2.0)
    monkeypatch.setattr(demo, "_agent", hang)
    assert run() == 1
    assert "it did not end within 2 s" in capsys.readouterr().err


async def test_an_agent_that_is_cancelled_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sidecar.demo.peers import Addresses
    from sidecar.terminal.screen import Screen

    script = tmp_path / "demo" / "agent.py"
    script.parent.mkdir()
    script.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(demo, "_PACKAGE", tmp_path)
    said: list[str] = []
    monkeypatch.setattr("builtins.print", lambda text, **options: said.append(text))
    task = asyncio.ensure_future(demo._agent(Addresses("", "", ""), "", Screen()))
    await eventually(lambda: bool(said), "the agent's first line")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(int(said[0].split()[-1]))


async def test_endpoints_that_do_not_end_by_themselves_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_STOP_S", 0.1)
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    started: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def stubborn(*command: str, **options: Any) -> asyncio.subprocess.Process:
        options["pass_fds"] = ()
        process = await create("sh", "-c", "echo ready; trap '' TERM; exec sleep 60", **options)
        started.append(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", stubborn)
    async with demo._endpoints([], ""):
        pass
    assert started[0].returncode == -signal.SIGKILL


def test_a_call_with_a_good_status_is_an_error_where_its_span_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from sidecar.demo.backend import Span
    from sidecar.terminal.screen import Screen

    said: dict[str, Any] = {"server.address": "h", "server.port": 80, "http.response.status_code": 200}
    failed = Span(b"t", b"s", b"", "SERVER", "POST", 0, 1, failed=True, attributes={**said, "error.type": "server_error"})
    well = Span(b"t", b"u", b"", "SERVER", "POST", 0, 1, failed=False, attributes=said)
    assert demo._show([failed, well], Screen()) == 1
    assert "2 calls to 1 destination, 1 error," in capsys.readouterr().out
