"""What stands around a command, with a command that is none."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest

from sidecar.model.errors import ConfigFault, ConfigInvalid
from sidecar.terminal.around import SIDECAR_FAILED, Around, say
from sidecar.terminal.signals import Caught

Work = Callable[["Stand"], Awaitable[None]]


class Stand(Around):
    called = "sidecar test"
    built_in = "exporters: {{{exporter}: {{}}}}"

    def __init__(self, work: Work, environ: dict[str, str] | None = None, config: str | None = None) -> None:
        super().__init__(["true"], config, environ or {}, asyncio.get_event_loop())
        self._work = work

    async def work(self, blocked: frozenset[int]) -> None:
        await self._work(self)


class Heard:
    """A command in the foreground that only listens."""

    def __init__(self) -> None:
        self.signals: list[Caught] = []

    def pass_on(self, caught: Caught) -> None:
        self.signals.append(caught)


@pytest.fixture(autouse=True)
def what_telemetry_says_stays_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("sidecar.telemetry")
    level = logger.level
    yield
    logger.setLevel(level)


async def test_the_exit_code_is_the_commands() -> None:
    async def works(stand: Stand) -> None:
        stand.code = 7

    assert await Stand(works).run(frozenset()) == 7


async def test_while_the_command_runs_signals_are_its_own() -> None:
    heard = Heard()

    async def works(stand: Stand) -> None:
        stand.foreground = heard  # type: ignore[assignment]  # as far as it is asked
        stand.hear(Caught(signal.SIGTERM, by_kernel=False))
        while not heard.signals:  # noqa: ASYNC110 - it comes in the next turn
            await asyncio.sleep(0)
        stand.code = 0

    assert await Stand(works).run(frozenset()) == 0
    assert heard.signals == [Caught(signal.SIGTERM, by_kernel=False)]


@pytest.mark.parametrize(("before", "expected"), [(None, 143), (6, 6)], ids=["before it started", "after it ended"])
async def test_else_those_that_end_things_end_us_and_the_others_do_not(before: int | None, expected: int) -> None:
    async def works(stand: Stand) -> None:
        stand.code = before
        stand.hear(Caught(signal.SIGWINCH, by_kernel=False))
        stand.hear(Caught(signal.SIGTERM, by_kernel=False))
        await asyncio.Event().wait()

    assert await Stand(works).run(frozenset()) == expected


async def test_somebody_elses_cancellation_is_not_swallowed() -> None:
    async def works(stand: Stand) -> None:
        await asyncio.Event().wait()

    running = asyncio.ensure_future(Stand(works).run(frozenset()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError("no room"), "sidecar test: the sidecar failed: no room\n"),
        (ConfigInvalid([ConfigFault("a.b", 3, "is wrong", "mend it", "x.yaml")]), "is wrong"),
    ],
    ids=["system", "config"],
)
async def test_a_sidecar_that_fails_says_why(fault: Exception, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def fails(stand: Stand) -> None:
        raise fault

    assert await Stand(fails).run(frozenset()) == SIDECAR_FAILED
    assert said in capfd.readouterr().err


async def idle(stand: Stand) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("environ", "exporter", "silent"),
    [
        ({}, "otlp_http", True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}, "otlp_http", False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_grpc", False),
    ],
    ids=["nowhere", "http", "grpc"],
)
async def test_the_built_in_config_sends_where_the_environment_says(environ: dict[str, str], exporter: str, *, silent: bool) -> None:
    config = Stand(idle, environ).read()
    assert list(config.components["exporters"]) == [exporter]
    assert (logging.getLogger("sidecar.telemetry").level == logging.CRITICAL) is silent


async def test_a_config_that_is_not_there_has_faults() -> None:
    with pytest.raises(ConfigInvalid):
        Stand(idle, config="/nowhere.yaml").read()


def test_what_is_said_goes_to_standard_error_if_there_is_one(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say("one", "two \udcff")
    assert capfd.readouterr().err == "one\ntwo ?\n"
    monkeypatch.setattr("sys.stderr", None)
    say("nobody hears")


def test_a_reader_who_has_gone_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as gone:
        monkeypatch.setattr("sys.stderr", gone)
        say("nobody hears")
