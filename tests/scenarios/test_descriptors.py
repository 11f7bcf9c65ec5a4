"""File descriptors that are few: raised where that is allowed, else shared out, and whoever gets none is told whose fault it is."""

import asyncio
import resource
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.raw import RawUpstream
from tests.peers.wire import Wire
from tests.scene import Opened
from tests.sidecar_under_test import SidecarProcess, config_for, eventually

CALL = b"GET /llm/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit and /proc are Linux's own")


async def answers(wire: Wire) -> None:
    """An upstream that answers whatever it is asked, and keeps its connections."""
    while True:
        await wire.request()
        await wire.sends(OK)


async def outcome(sidecar: SidecarProcess) -> tuple[int, str]:
    """One call on a connection that stays open; status and error code of its answer."""
    client = await sidecar.connects()
    await client.sends(CALL)
    response = await client.response()
    return response.status, response.one(b"x-sidecar-error").decode() if response.has(b"x-sidecar-error") else ""


async def outcomes(sidecar: SidecarProcess, count: int) -> Counter[tuple[int, str]]:
    return Counter(await asyncio.gather(*(outcome(sidecar) for _ in range(count))))


def limits(sidecar: SidecarProcess) -> tuple[int, int]:
    return resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE)


def first_free(sidecar: SidecarProcess) -> int:
    """The descriptor that the next file would get: with this as its limit, the process has none left."""
    taken = {int(path.name) for path in Path(f"/proc/{sidecar.process.pid}/fd").iterdir()}
    return next(number for number in range(len(taken) + 1) if number not in taken)


async def test_a_soft_limit_is_raised_and_everybody_is_served(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream = await opened(RawUpstream(answers))
    sidecar = await opened(SidecarProcess(config_for(upstream.url), port=free_port(), descriptors=(256, 15_000)))
    assert limits(sidecar) == (15_000, 15_000)
    assert await outcomes(sidecar, 300) == {(200, ""): 300}
    assert "too few" not in sidecar.log


async def test_it_is_raised_for_many_connections_too_and_not_without_bound(opened: Opened, free_port: Callable[[], int]) -> None:
    config = config_for("http://127.0.0.1:1", listener={"max_connections": 4})
    sidecar = await opened(
        SidecarProcess(config, port=free_port(), descriptors=(256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    )
    assert limits(sidecar)[0] == min(65_536, limits(sidecar)[1])


async def test_where_the_hard_limit_is_low_clients_beyond_it_are_told_so(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream = await opened(RawUpstream(answers))
    sidecar = await opened(SidecarProcess(config_for(upstream.url), port=free_port(), descriptors=(256, 256)))
    assert "256 file descriptors are too few" in sidecar.log
    found = await outcomes(sidecar, 300)
    served = found.pop((200, ""))
    assert found == {(503, "too_many_connections"): 300 - served}
    assert served == 60
    assert sidecar.alive
    assert "Traceback" not in sidecar.log


async def test_descriptors_that_run_out_all_the_same_are_our_fault_and_pass(opened: Opened, free_port: Callable[[], int]) -> None:
    upstream = await opened(RawUpstream(answers))
    sidecar = await opened(SidecarProcess(config_for(upstream.url), port=free_port(), descriptors=(512, 512)))
    await eventually(lambda: "admin listens" in sidecar.log, "the end of the start")
    client = await sidecar.connects()
    await client.sends(CALL[:10])
    await asyncio.sleep(0.1)
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (first_free(sidecar), 512))
    await client.sends(CALL[10:])
    response = await client.response()
    assert (response.status, response.one(b"x-sidecar-error")) == (503, b"no_descriptors")
    assert (response.one(b"x-should-retry"), response.one(b"retry-after")) == (b"true", b"1")
    assert b'"fault":"sidecar"' in response.body.replace(b" ", b"")
    before_s = cpu_s(sidecar)
    late = [await sidecar.connects() for _ in range(10)]
    for each in late:
        await each.saw_end()  # by the loop, which has no descriptor for them
    await asyncio.sleep(1.0)
    assert cpu_s(sidecar) - before_s < 0.4, "it does not turn in circles"
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (512, 512))
    await client.sends(CALL)
    assert (await client.response()).status == 200
    assert await outcome(sidecar) == (200, "")


def cpu_s(sidecar: SidecarProcess) -> float:
    """CPU time so far, at 100 ticks a second."""
    fields = Path(f"/proc/{sidecar.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def test_the_command_of_exec_has_the_limit_that_its_user_has() -> None:
    child = await asyncio.create_subprocess_exec(
        "sh", "-c", 'ulimit -Sn 300 && exec "$0" -m sidecar exec -- sh -c "ulimit -Sn; grep open.files /proc/\\$PPID/limits"', sys.executable,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    lines = out.decode().split("\n")
    assert lines[0] == "300", err
    assert int(lines[1].split()[3]) > 8_000, "its own is raised"
