"""
The sidecar as tests start it: inside the test's own loop, so that its facts and counters can be read, or as a process.

    async with SidecarUnderTest(config_for(upstream.url)) as sidecar:
        client = await sidecar.connects()
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from sidecar.model.errors import CODES
from sidecar.model.facts import AttemptFinished, ExchangeFinished
from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime
from tests.peers.wire import PATIENCE_S, Message, Wire, dials

ROOT = Path(__file__).resolve().parent.parent

Settings = dict[str, Any]


def config_for(
    url: str,
    *,
    listener: Settings | None = None,
    upstream: Settings | None = None,
    route: Settings | None = None,
    **traffic: Any,
) -> Settings:
    """A config with one route, `/llm/`, to one upstream whose base URL is `url` + `/base`; `Host: a` is one of its names."""
    return {
        "traffic": {
            "listeners": {"http": {"endpoint": "127.0.0.1:0", "allow_hosts": ["a", "page.example"], **(listener or {})}},
            "upstreams": {"http/llm": {"url": f"{url}/base", **(upstream or {})}},
            "routes": {"llm": {"path": "/llm/", "upstream": "http/llm", **(route or {})}},
            "drain": "100ms",
            **traffic,
        },
        "admin": {"endpoint": "127.0.0.1:0"},
    }


class SidecarUnderTest:
    """An `App` in this loop; `exchanges` and `attempts` are the facts it has published, `refused` counts by code."""

    def __init__(self, config: Settings, *, environ: dict[str, str] | None = None) -> None:
        self._config = config
        self._environ = environ or {}
        self.runtime = Runtime(environ=self._environ)
        self.exchanges: list[ExchangeFinished] = []
        self.attempts: list[AttemptFinished] = []
        self._clients: list[Wire] = []

    async def __aenter__(self) -> "SidecarUnderTest":
        from sidecar.app import App
        from sidecar.config import load

        self.runtime.bus.listen([ExchangeFinished], self.exchanges.append)
        self.runtime.bus.listen([AttemptFinished], self.attempts.append)
        self.app = App(load(yaml.safe_dump(self._config), environ=self._environ), runtime=self.runtime)
        try:
            await self.app.start()
        except BaseException:
            await self.app.stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in self._clients:
            client.close()
        async with asyncio.timeout(PATIENCE_S):
            await self.app.stop()
        if kind is None:
            assert not self.refused.get("internal"), "the sidecar failed inside"

    @property
    def address(self) -> tuple[str, int]:
        """Where the proxy listens."""
        host, port = self.app.endpoints["traffic.listeners.http"][:2]
        return host, port

    @property
    def port(self) -> int:
        """The proxy's port."""
        return self.address[1]

    @property
    def url(self) -> str:
        """What a person would write in HTTP_PROXY."""
        return f"http://127.0.0.1:{self.port}"

    async def connects(self, name: str = "client", *, receive_buffer: int | None = None) -> Wire:
        """A new connection to the proxy, closed when the sidecar stops."""
        client = await dials("127.0.0.1", self.port, name, receive_buffer=receive_buffer)
        self._clients.append(client)
        return client

    @property
    def refused(self) -> dict[str, int]:
        """`traffic.refused` by its label `code`."""
        counts: dict[str, int] = {}
        for family in self.runtime.metrics:
            if family.name == "traffic.refused":
                for labels, counter in family.series.items():
                    assert isinstance(counter, Counter)
                    code = dict(labels)["code"]
                    counts[code] = counts.get(code, 0) + counter.value
        return counts

    async def finished(self, count: int = 1) -> ExchangeFinished:
        """Wait until `count` exchanges are over, and return the last of them."""
        await eventually(lambda: len(self.exchanges) >= count, f"{count} finished exchanges")
        return self.exchanges[count - 1]

    async def refuses(self, client: Wire, *codes: str, closes: bool | None = None, to: bytes = b"GET") -> Message:
        """
        The client gets an answer that the sidecar itself made, with one of these codes, and it is counted.

        Status and retry hint have to be those of the table, the body JSON; with `closes`, the connection ends after it.
        """
        response = await client.response(to=to)
        code = response.one(b"x-sidecar-error").decode()
        assert code in codes, f"refused as {code}, not as {' or '.join(codes)}: {response.head!r} {response.body!r}"
        meaning = CODES[code]
        assert response.status == meaning.status, response.head
        if to != b"HEAD":
            _is_an_error_body(response, code)
        assert response.one(b"x-should-retry") == (b"true" if meaning.retry else b"false")
        await eventually(lambda: self.refused.get(code, 0) > 0, f"traffic.refused of {code}")
        if closes:
            assert response.one(b"connection").lower() == b"close", response.head
            await client.saw_end()
        return response


def _is_an_error_body(response: Message, code: str) -> None:
    import json

    assert response.one(b"content-type").startswith(b"application/json"), response.head
    error = json.loads(response.body)["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["fault"] == CODES[code].fault
    assert error["retry"] is CODES[code].retry
    assert error["advice"]


async def eventually(holds: Any, what: str, *, within_s: float = PATIENCE_S) -> None:
    """Let the loop turn until `holds()` is true."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"never came: {what}"
        await asyncio.sleep(0.002)


class SidecarProcess:
    """
    `python -m sidecar run --config F` as a child; `port` is fixed beforehand, standard error is kept in `log`.

    `descriptors` are its soft and hard limit of open files.
    """

    def __init__(
        self, config: Settings, *, port: int, environ: dict[str, str] | None = None, descriptors: tuple[int, int] | None = None
    ) -> None:
        self._limits = ["sh", "-c", 'ulimit -Sn "$0" && ulimit -Hn "$1" && shift && exec "$@"', *map(str, descriptors or ())]
        self._limits = self._limits if descriptors is not None else []
        config["traffic"]["listeners"]["http"]["endpoint"] = f"127.0.0.1:{port}"
        self._config = config
        self.port = port
        self._environ = environ or {}
        self._clients: list[Wire] = []

    async def __aenter__(self) -> "SidecarProcess":
        self._folder = tempfile.TemporaryDirectory(prefix="sidecar-test-")
        file = Path(self._folder.name) / "sidecar.yaml"
        file.write_text(yaml.safe_dump(self._config))
        environ = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and not key.startswith("OTEL_")}
        self._log = (Path(self._folder.name) / "log").open("w+b")
        self.process = await asyncio.create_subprocess_exec(
            *self._limits, sys.executable, "-m", "sidecar", "run", "--config", str(file),
            cwd=ROOT, env={**environ, **self._environ}, stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        try:
            await self._listens()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    def rewrites(self, text: str) -> None:
        """Put another config in the place of the one that it was started with, at one stroke."""
        file = Path(self._folder.name) / "sidecar.yaml"
        (new := file.with_suffix(".new")).write_text(text)
        new.rename(file)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in self._clients:
            client.close()
        await self.ends(signal.SIGKILL)
        self._log.close()
        self._folder.cleanup()

    async def ends(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal, wait for the end, return the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.exit_code()

    async def exit_code(self) -> int:
        """Wait until it has ended by itself."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    @property
    def log(self) -> str:
        """Everything it wrote so far."""
        return Path(self._log.name).read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.returncode is None

    def resident_bytes(self) -> int:
        """Resident memory now (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def connects(self, name: str = "client", *, receive_buffer: int | None = None) -> Wire:
        """A new connection, closed at the end of the test."""
        client = await dials("127.0.0.1", self.port, name, receive_buffer=receive_buffer)
        self._clients.append(client)
        return client

    async def _listens(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                (await dials("127.0.0.1", self.port)).close()
            except OSError:
                assert self.alive and time.monotonic() < deadline, f"the sidecar does not listen:\n{self.log}"
                await asyncio.sleep(0.02)
            else:
                return
