import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar import cli
from sidecar.app import App
from sidecar.cli.run import Running
from sidecar.config import parse
from tests.peers.raw import RawUpstream
from tests.peers.wire import PATIENCE_S, Wire, dials
from tests.repository import ROOT
from tests.sidecar_under_test import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Process:
    """`sidecar run` as a child, with a config file that tests change, and what it said."""

    def __init__(self, folder: Path, upstream: RawUpstream, free_port: Callable[[], int]) -> None:
        self.folder = folder
        self.upstream = upstream
        self.file = folder / "sidecar.yaml"
        self.port, self.admin_port = free_port(), free_port()
        self.clients: list[Wire] = []
        self.child: asyncio.subprocess.Process | None = None
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SIDECAR_"))}
        self.environ |= {"XDG_RUNTIME_DIR": str(folder)}

    def config(self, *, path: str = "/a/", drain: str = "5s", more: str = "") -> str:
        return (
            f"traffic:\n  listeners: {{http: {{endpoint: '127.0.0.1:{self.port}'}}}}\n"
            f"  upstreams: {{http/a: {{url: '{self.upstream.url}'}}}}\n"
            f"  routes: {{a: {{path: {path}, upstream: http/a}}}}\n  drain: {drain}\n"
            f"admin: {{endpoint: '127.0.0.1:{self.admin_port}'}}\n{more}"
        )

    async def starts(self, *arguments: str) -> None:
        """Start it and wait until everything is up."""
        await self.spawns(*arguments)
        await self.says("listening admin")

    async def spawns(self, *arguments: str) -> None:
        if not self.file.exists():
            self.file.write_text(self.config())
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            self.child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sidecar", "run", *(arguments or ("--config", str(self.file))),
                cwd=ROOT, env=self.environ, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    async def says(self, words: str) -> None:
        await eventually(lambda: words in self.out or words in self.err, f"{words!r}\n{self.err}")

    def gets(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    async def ends(self) -> int:
        assert self.child is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self.child.wait()

    async def asks(self, path: bytes = b"/a/x", port: int = 0) -> Wire:
        client = await dials("127.0.0.1", port or self.port)
        self.clients.append(client)
        await client.sends(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path)
        return client

    async def serves(self, path: bytes = b"/a/x") -> None:
        client = await self.asks(path)
        connection = await self.upstream.hears()
        await connection.request()
        await connection.sends(OK)
        assert (await client.response()).body == b"ok"


@pytest.fixture
async def process(
    opened: Callable[[Any], Awaitable[Any]], tmp_path: Path, free_port: Callable[[], int]
) -> AsyncIterator[Process]:
    process = Process(tmp_path, await opened(RawUpstream()), free_port)
    yield process
    for client in process.clients:
        client.close()
    if process.child is not None and process.child.returncode is None:
        process.gets(signal.SIGKILL)
        await process.ends()


async def test_it_says_where_it_listens_and_ends_well_on_sigterm(process: Process) -> None:
    await process.starts()
    assert process.out == (
        f"listening traffic.listeners.http http://127.0.0.1:{process.port}\nlistening admin http://127.0.0.1:{process.admin_port}\n"
    )
    await process.serves()
    assert (await (await process.asks(b"/readyz", process.admin_port)).response()).status == 200
    process.gets(signal.SIGTERM)
    assert await process.ends() == 0
    assert "SIGTERM: draining" in process.err
    assert process.err.endswith("stopped\n")


async def test_calls_in_flight_end_before_it_does(process: Process) -> None:
    await process.starts()
    client = await process.asks()
    connection = await process.upstream.hears()
    await connection.request()
    process.gets(signal.SIGINT)
    await process.says("SIGINT: draining")
    await eventually(lambda: _refuses(process.port), "a closed port")
    await connection.sends(OK)
    assert (await client.response()).body == b"ok"
    assert await process.ends() == 0


async def test_a_second_signal_ends_it_at_once(process: Process) -> None:
    await process.starts()
    await process.asks()
    await process.upstream.hears()
    process.gets(signal.SIGTERM)
    await process.says("SIGTERM: draining")
    process.gets(signal.SIGINT)
    assert await process.ends() == 1
    assert "SIGINT again: ending at once" in process.err


async def test_a_second_signal_leaves_no_token_and_no_socket(process: Process) -> None:
    unix, state = process.folder / "admin.sock", process.folder / "agent-sre-sidecar"
    process.file.write_text(process.config().replace("'}\n", f"', unix_socket: '{unix}'}}\n"))
    assert "unix_socket" in process.file.read_text()
    await process.starts()
    assert unix.exists() and list(state.iterdir())
    await process.asks()
    await process.upstream.hears()
    process.gets(signal.SIGTERM)
    await process.says("SIGTERM: draining")
    process.gets(signal.SIGTERM)
    assert await process.ends() == 1
    assert not unix.exists() and not list(state.iterdir())


async def test_the_next_start_removes_the_token_of_a_killed_one(process: Process, free_port: Callable[[], int]) -> None:
    state = process.folder / "agent-sre-sidecar"
    await process.starts()
    left = state / f"admin-token-{process.admin_port}"
    process.gets(signal.SIGKILL)
    await process.ends()
    assert left.exists()
    process.port, process.admin_port = free_port(), free_port()
    process.file.write_text(process.config())
    await process.starts()
    assert [path.name for path in state.iterdir()] == [f"admin-token-{process.admin_port}"]


async def test_a_changed_file_is_taken_over_and_a_bad_one_is_not(process: Process) -> None:
    await process.starts()
    process.file.write_text(process.config(path="/b/"))
    await process.says("config read again: traffic.routes.a.path changed")
    await process.serves(b"/b/x")
    process.file.write_text(process.config(path="bad") + "unknown: 1\n")
    await process.says("the config is refused, the last good one stays:")
    assert f"  {process.file}:4: traffic.routes.a: path has to begin and end with '/'" in process.err
    assert f"  {process.file}:7: unknown: unknown key" in process.err
    await process.serves(b"/b/x")
    process.file.unlink()
    process.gets(signal.SIGHUP)
    await process.says("cannot be read: No such file or directory")
    process.file.write_text(process.config(path="/c/"))
    await eventually(lambda: process.err.count("config read again") == 2, "the third config")
    await process.serves(b"/c/x")
    process.gets(signal.SIGTERM)
    assert await process.ends() == 0


async def test_a_swapped_link_and_a_changed_secret_are_noticed(process: Process) -> None:
    (process.folder / "one").mkdir()
    (process.folder / "two").mkdir()
    (process.folder / "password").write_text("a")
    users = "{http: {users: {u: '${file:../password}'}, "
    (process.folder / "one/sidecar.yaml").write_text(process.config())
    (process.folder / "two/sidecar.yaml").write_text(process.config().replace("{http: {", users, 1))
    (process.folder / "data").symlink_to("one")
    await process.starts("--config", str(process.folder / "data/sidecar.yaml"))
    (process.folder / "new").symlink_to("two")
    (process.folder / "new").rename(process.folder / "data")
    await process.says("config read again: traffic.listeners.http.users.u added")
    (process.folder / "password").write_text("b")
    await process.says("config read again: traffic.listeners.http.users.u changed")


async def test_sighup_reads_again_at_once(process: Process) -> None:
    await process.starts("--config", str(_written(process)), "--log-level", "info")
    process.gets(signal.SIGHUP)
    await process.says("config read again: nothing has changed")


async def test_an_operator_can_end_it(process: Process) -> None:
    await process.starts()
    token = next((process.folder / "agent-sre-sidecar").glob("admin-token*")).read_text().strip()
    client = await dials("127.0.0.1", process.admin_port)
    process.clients.append(client)
    await client.sends(
        b"POST /api/v1/drain HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n"
        % token.encode()
    )
    assert (await client.response()).status == 202
    assert await process.ends() == 0
    assert "asked for the end: draining" in process.err


async def test_a_port_that_is_taken_is_one_clear_line(process: Process) -> None:
    process.port = process.upstream.port
    await process.spawns()
    assert await process.ends() == 1
    assert process.err == (
        f"{process.file}:2: traffic.listeners.http.endpoint: 127.0.0.1:{process.port} cannot be bound: Address already in use"
        " (another process listens there; stop it, or choose another port)\n"
    )
    assert process.out == ""


async def test_an_admin_port_that_is_taken_ends_it_too(process: Process) -> None:
    process.admin_port = process.upstream.port
    await process.spawns()
    assert await process.ends() == 1
    assert "admin.endpoint" in process.err
    assert "Traceback" not in process.err


async def test_a_config_with_faults_starts_nothing(process: Process) -> None:
    process.file.write_text("x: 1\ny: 2\n")
    await process.spawns()
    assert await process.ends() == 1
    assert process.err.splitlines()[0].startswith(f"{process.file}:1: x: unknown key")
    assert process.err.splitlines()[1].startswith(f"{process.file}:2: y: unknown key")


class Asked:
    """An app that is only asked to reload."""

    def __init__(self, error: Exception) -> None:
        self.operations = self
        self.error = error

    async def reload(self, *, who: str) -> tuple[str, ...]:
        raise self.error


async def test_a_reload_that_fails_inside_is_told_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    running = Running(parse("", environ={}), lambda: parse("", environ={}), None)
    await running._reload(Asked(TimeoutError("too long")), "SIGHUP")  # type: ignore[arg-type]  # only this much of an app
    assert "the config could not be read again: TimeoutError: too long" in caplog.text


class Starting:
    """An app that notes when it is ready and that is then asked to stop."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.endpoints: dict[str, Any] = {}
        self.config = parse("", environ={})

    async def ready(self) -> None:
        await asyncio.sleep(0)
        self.told.append("ready")

    async def asked_to_stop(self) -> str:
        self.told.append("asked")
        return "an operator"


async def test_what_is_loaded_is_kept_from_the_garbage_collector_once_everything_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: told.append("frozen"))
    running = Running(parse("", environ={}), lambda: parse("", environ={}), None)
    await running._work(Starting(told))  # type: ignore[arg-type]  # only this much of an app
    assert told == ["ready", "frozen", "asked"]


def test_the_second_signal_leaves_without_a_word_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr("logging.shutdown", lambda: None)
    running = Running(parse("", environ={}), lambda: parse("", environ={}), None)
    running._end(signal.SIGTERM)
    assert codes == []
    running._end(signal.SIGTERM)
    assert codes == [1]


async def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("")
    running = Running(parse("", environ={}), lambda: parse("", environ={}), file)
    app = App(parse("", environ={}))
    seen = running._fingerprint(app)
    assert not await running._has_changed(app, seen)
    file.write_text("traffic:")
    asking = asyncio.create_task(running._has_changed(app, seen))
    await asyncio.sleep(0)
    file.write_text("traffic: {}")
    assert not await asking
    assert await running._has_changed(app, seen)
    file.unlink()
    assert not await running._has_changed(app, seen)


def test_an_unknown_log_level_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SIDECAR_LOG_LEVEL", "loud")
    assert cli.main(["run"]) == 2
    assert "SIDECAR_LOG_LEVEL is one of debug, info, warning, error, not 'loud'" in capsys.readouterr().err


def _written(process: Process) -> Path:
    process.file.write_text(process.config())
    return process.file


def _refuses(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
