"""
Fixtures for all tests: nothing may be left behind, examples repeat themselves, ports are free, the sidecar and its peers.

Shared test code is imported by its path from the root of the repository, as in `from tests.peers.raw import RawUpstream`.
"""

import asyncio
import gc
import inspect
import logging
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `sidecar` and `tests`, also for a bare `pytest`

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,  # the same examples on every machine: a failure is a finding, not bad luck
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("soak", settings.get_profile("suite"), derandomize=False, max_examples=2_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

SETTLE_S = 2.0
"""How long a test's tasks, sockets and threads may take to go away once its fixtures are torn down."""


def _open_sockets() -> set[tuple[int, int]]:
    """Device and inode of every socket that this process has open."""
    found = set()
    for name in os.listdir("/dev/fd"):
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor of the listing itself, or one that was closed meanwhile
            continue
        if stat.S_ISSOCK(status.st_mode):
            found.add((status.st_dev, status.st_ino))
    return found


@pytest.fixture
async def _loop_of_this_test() -> asyncio.AbstractEventLoop:
    """The loop, for the check below: asking for it in a fixture also makes the loop outlive that fixture."""
    return asyncio.get_running_loop()


def _seconds_for(request: pytest.FixtureRequest) -> float:
    """How long pytest-timeout gives to this test; 0 is for ever."""
    marker = request.node.get_closest_marker("timeout")
    if marker is not None and marker.args:
        return float(marker.args[0])
    given = request.config.getoption("timeout", default=None)
    return float(given if given is not None else request.config.getini("timeout") or 0)


@pytest.fixture(autouse=True)
def nothing_hangs(request: pytest.FixtureRequest) -> Iterator[None]:
    """End an async test that takes too long from inside its loop: pytest-timeout's signal does not reach a waiting uvloop."""
    seconds = 0.95 * _seconds_for(request)
    if not seconds or not _is_async(request):
        yield
        return
    loop: asyncio.AbstractEventLoop = request.getfixturevalue("_loop_of_this_test")

    def end() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel(f"the test took longer than {seconds:.0f} s")

    limit = loop.call_later(seconds, end)
    yield
    limit.cancel()


def _is_async(request: pytest.FixtureRequest) -> bool:
    function = inspect.unwrap(getattr(request, "function", lambda: None))
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return inspect.iscoroutinefunction(function) or "_function_scoped_runner" in request.fixturenames


def _loggers() -> list[logging.Logger]:
    known = logging.getLogger().manager.loggerDict.values()
    return [logging.getLogger(), *(each for each in known if isinstance(each, logging.Logger))]


@pytest.fixture(autouse=True)
def logging_stays_as_it_was() -> Iterator[None]:
    """Undo what a command did to logging, so that the next test hears what it should."""
    levels = {logger: logger.level for logger in _loggers()}
    handlers = logging.getLogger().handlers[:]
    yield
    for logger in _loggers():
        logger.setLevel(levels.get(logger, logging.NOTSET))
    for handler in logging.getLogger().handlers[:]:
        if handler not in handlers:
            logging.getLogger().removeHandler(handler)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a task, a socket or a thread behind."""
    loop: asyncio.AbstractEventLoop | None = request.getfixturevalue("_loop_of_this_test") if _is_async(request) else None
    sockets = _open_sockets()
    threads = set(threading.enumerate())
    yield
    if loop is not None:
        loop.run_until_complete(loop.shutdown_default_executor())

    def left() -> list[str]:
        tasks = [task for task in asyncio.all_tasks(loop) if not task.done()] if loop is not None else []
        return [
            *(f"task {task.get_name()}: {task.get_coro()!r}" for task in tasks),
            *(f"thread {thread.name}" for thread in set(threading.enumerate()) - threads if thread.is_alive()),
            *(f"socket {inode}" for _, inode in _open_sockets() - sockets),
        ]

    deadline = time.monotonic() + SETTLE_S
    while left() and time.monotonic() < deadline:
        if loop is not None:
            loop.run_until_complete(asyncio.sleep(0.005))
        else:
            time.sleep(0.005)
        if time.monotonic() > deadline - SETTLE_S + 0.1:
            gc.collect()  # a transport that is only waiting for its finalizer is not a leak of this test's making
    remaining = left()
    if remaining:
        pytest.fail("left behind: " + "; ".join(sorted(remaining)))


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that finds a TCP port on 127.0.0.1 on which nobody listens at this moment."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
    """`await opened(context_manager)` enters it now and leaves it when the test is over, the last one first."""
    async with AsyncExitStack() as stack:
        yield stack.enter_async_context


@pytest.fixture(params=["gateway", "forward"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both ways in which a plain call comes to the sidecar."""
    mode: str = request.param
    return mode


@pytest.fixture
async def stage(opened: Callable[[Any], Awaitable[Any]], request: pytest.FixtureRequest) -> Any:
    """`scene = await stage(...)`: client, sidecar and upstream; in both modes where a test asks for `mode`, else a gateway."""
    from tests.scene import GATEWAY, stage_on

    mode = request.getfixturevalue("mode") if "mode" in request.fixturenames else GATEWAY
    return stage_on(opened, mode)


@pytest.fixture
async def scene(stage: Any) -> Any:
    """A scene with default settings, for tests that run many examples against one sidecar."""
    return await stage()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The certificate authority of this session's TLS peers."""
    from tests.peers.authority import Authority

    return Authority(tmp_path_factory.mktemp("authority"))
