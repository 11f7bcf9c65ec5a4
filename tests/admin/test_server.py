"""The component: what it binds, writes, imports and removes, and how it says how it is."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.admin.server import AdminServer, build
from sidecar.admin.spec import AdminSpec
from sidecar.runtime.runtime import HasHealth, Health, Starts, State, Stops
from tests.admin.app import App
from tests.admin.asking import Asking, ask, request
from tests.admin.seen import exchange_finished

Serving = Callable[..., Awaitable[AdminServer]]


def token_file(home: Path, port: int) -> Path:
    return home / ".local/state/agent-sre-sidecar" / f"admin-token-{port}"


async def test_it_is_a_component(app: App) -> None:
    server = build(AdminSpec(), app.runtime, app.operations, app.views)
    assert isinstance(server, Starts) and isinstance(server, Stops) and isinstance(server, HasHealth)
    assert server.health() == Health(State.STARTING, "not started yet")
    assert server.endpoint == ("127.0.0.1", 4141)


async def test_it_listens_is_ok_and_says_where(serving: Serving) -> None:
    server = await serving()
    assert server.endpoint[0] == "127.0.0.1"
    assert server.endpoint[1] > 0
    assert server.health() == Health(State.OK)
    assert (await ask(server.endpoint)).status == 200


async def test_nothing_of_aiohttp_is_imported_before_start() -> None:
    script = "import sys, sidecar.admin.server; print(sorted(m for m in sys.modules if m.startswith(('aiohttp', 'yarl'))))"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "[]\n"


async def test_the_token_file_is_there_while_it_runs_and_gone_after(serving: Serving, tmp_path: Path) -> None:
    server = await serving()
    path = token_file(tmp_path, server.endpoint[1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await server.stop()
    assert not path.exists()
    assert server.health() == Health(State.STOPPED)


async def test_each_start_makes_a_new_token_and_the_old_one_is_wrong(serving: Serving, tmp_path: Path) -> None:
    server = await serving()
    old = token_file(tmp_path, server.endpoint[1]).read_text().strip()
    await server.stop()
    await server.start()
    new = token_file(tmp_path, server.endpoint[1]).read_text().strip()
    drain = [request("POST", "/api/v1/drain", authorization=f"Bearer {text}") for text in (old, new)]
    assert [(await ask(server.endpoint, sent)).status for sent in drain] == [401, 202]


async def test_the_token_file_may_be_named(serving: Serving, tmp_path: Path) -> None:
    server = await serving(token_file=str(tmp_path / "here" / "token"))
    text = (tmp_path / "here" / "token").read_text().strip()
    assert (await ask(server.endpoint, request("POST", "/api/v1/drain", authorization=f"Bearer {text}"))).status == 202


async def test_a_token_file_that_was_named_and_cannot_be_written_is_an_error(app: App, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spec = AdminSpec(endpoint="127.0.0.1:0", token_file=str(tmp_path / "file" / "token"), unix_socket=str(tmp_path / "s"))
    server = build(spec, app.runtime, app.operations, app.views)
    with pytest.raises(OSError):
        await server.start()
    assert server.health().state is State.FAILED
    assert not (tmp_path / "s").exists()
    await server.stop()


async def test_without_a_place_for_the_token_it_serves_reads_and_the_unix_socket(
    serving: Serving, app: App, tmp_path: Path
) -> None:
    (tmp_path / ".local").write_text("no folder")
    server = await serving(unix_socket=str(tmp_path / "s"))
    assert server.health().state is State.DEGRADED
    assert "token file could not be written" in server.health().reason
    assert (await ask(server.endpoint, request(path="/api/v1/config"))).status == 200
    assert (await ask(server.endpoint, request("POST", "/api/v1/drain"))).error == "token_unwritten"
    assert (await ask(str(tmp_path / "s"), request("POST", "/api/v1/drain"))).status == 202


async def test_over_the_unix_socket_changes_need_no_token_and_no_host(serving: Serving, app: App, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = await serving(unix_socket=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reply = await ask(str(path), request("POST", "/api/v1/reload", host="whatever"))
    assert (reply.status, reply.json) == (200, {"changes": ["traffic.default: changed"]})
    await server.stop()
    assert not path.exists()


async def test_stop_leaves_the_socket_of_a_successor(serving: Serving, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = await serving(unix_socket=str(path))
    before = path.stat().st_ino
    path.rename(tmp_path / "old")  # kept, so that its inode is not given to the successor's
    path.write_text("a successor's")
    assert path.stat().st_ino != before
    await server.stop()
    assert path.exists()


async def test_beyond_loopback_reads_need_the_token_and_probes_do_not(serving: Serving, tmp_path: Path) -> None:
    server = await serving(endpoint="0.0.0.0:0")
    where = ("127.0.0.1", server.endpoint[1])
    text = token_file(tmp_path, where[1]).read_text().strip()
    assert server.endpoint[0] == "0.0.0.0"
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await ask(where, request(path=path))).status == 200
    for path in ("/api/v1/config", "/api/v1/exchanges", "/api/v1/exchanges/stream", "/api/v1/version", "/api/v1/errors"):
        assert (await ask(where, request(path=path))).error == "token_missing"
    assert (await ask(where, request(path="/api/v1/config", authorization=f"Bearer {text}"))).status == 200
    assert (await ask(where, request(host=f"127.0.0.1:{where[1]}"))).status == 200
    assert (await ask(where, request(host="0.0.0.0"))).error == "host_refused"


async def test_beyond_loopback_probes_may_be_closed_too(serving: Serving) -> None:
    server = await serving(endpoint="0.0.0.0:0", open_probes=False)
    where = ("127.0.0.1", server.endpoint[1])
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await ask(where, request(path=path))).error == "token_missing"


async def test_a_name_of_allow_hosts_is_a_host_of_ours(serving: Serving) -> None:
    server = await serving(allow_hosts=("sidecar.example.org",))
    assert (await ask(server.endpoint, request(host="sidecar.example.org:8080"))).status == 200
    assert (await ask(server.endpoint, request(host="other.example.org"))).error == "host_refused"


async def test_localhost_is_loopback_on_all_its_addresses(serving: Serving) -> None:
    server = await serving(endpoint="localhost:0")
    assert (await ask(server.endpoint, request(path="/api/v1/config"))).status == 200


async def test_a_port_in_use_fails_and_leaves_nothing(serving: Serving, app: App, tmp_path: Path) -> None:
    first = await serving()
    second = build(AdminSpec(endpoint=f"127.0.0.1:{first.endpoint[1]}"), app.runtime, app.operations, app.views)
    with pytest.raises(OSError, match="in use"):
        await second.start()
    assert second.health().state is State.FAILED
    assert token_file(tmp_path, first.endpoint[1]).exists(), "the token of the one that runs"
    assert (await ask(first.endpoint)).status == 200


async def test_a_unix_socket_in_use_fails_and_frees_the_port(serving: Serving, app: App, tmp_path: Path) -> None:
    await serving(unix_socket=str(tmp_path / "s"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    second = build(
        AdminSpec(endpoint=f"127.0.0.1:{port}", unix_socket=str(tmp_path / "s")), app.runtime, app.operations, app.views
    )
    with pytest.raises(OSError, match="in use"):
        await second.start()
    assert (tmp_path / "s").exists(), "the socket of the one that runs"
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_stop_without_a_start_and_twice_after_one(serving: Serving, app: App) -> None:
    never = build(AdminSpec(endpoint="127.0.0.1:0"), app.runtime, app.operations, app.views)
    await never.stop()
    await never.stop()
    server = await serving()
    await server.stop()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await ask(server.endpoint)


async def test_it_remembers_what_happened_before_it_was_started(app: App) -> None:
    server = build(AdminSpec(endpoint="127.0.0.1:0"), app.runtime, app.operations, app.views)
    app.runtime.bus.publish(exchange_finished())
    await server.start()
    try:
        reply = await ask(server.endpoint, request(path="/api/v1/exchanges"))
        assert len(reply.json["exchanges"]) == 1
    finally:
        await server.stop()


async def test_stop_ends_streams_and_idle_connections_soon(serving: Serving) -> None:
    server = await serving()
    async with Asking(server.endpoint) as stream, Asking(server.endpoint) as idle:
        stream.writer.write(request(path="/api/v1/exchanges/stream"))
        await stream.head()
        await stream.chunk()
        assert (await idle.ask(request())).status == 200
        async with asyncio.timeout(3):
            await server.stop()
        assert await idle.ended()
        assert (await stream.reader.read()).endswith(b"0\r\n\r\n"), "a stream that the server ends, ends cleanly"


async def test_a_start_that_is_cancelled_frees_everything(app: App, tmp_path: Path) -> None:
    server = build(AdminSpec(endpoint="127.0.0.1:0", unix_socket=str(tmp_path / "s")), app.runtime, app.operations, app.views)
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert server.health().state is State.FAILED
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == []
