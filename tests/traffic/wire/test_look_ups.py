import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.runtime.metrics import Counter, Gauge, Metrics
from sidecar.traffic.wire import look_ups as module
from sidecar.traffic.wire.look_ups import LookUps, system_look_up
from sidecar.traffic.wire.resolver import Resolver


class Names:
    """Stands for the system's resolver: names that begin with `slow` hang until `open`, `bad` ones fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = threading.Event()

    def look_up(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.open.wait(10)
        if host.startswith("bad"):
            raise socket.gaierror(-2, "Name or service not known")
        if host.startswith("empty"):
            return []
        return ["10.0.0.1", "fc00::1"]


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.open.set()


def numbers(metrics: Metrics) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in metrics:
        (metric,) = family.series.values()
        assert isinstance(metric, Counter | Gauge)
        found[family.name.rpartition(".")[2]] = metric.read() if isinstance(metric, Gauge) and metric.read else metric.value
    return found


async def test_an_answer_comes_in_the_systems_order(names: Names) -> None:
    assert await LookUps(look_up=names.look_up).ask("a") == ("10.0.0.1", "fc00::1")


@pytest.mark.parametrize(("host", "told"), [("bad", "bad: .*Name or service not known"), ("empty", "empty has no address")])
async def test_a_failure_is_told_as_ours(names: Names, host: str, told: str) -> None:
    with pytest.raises(UpstreamFailed, match=told) as caught:
        await LookUps(look_up=names.look_up).ask(host)
    assert caught.value.code == "dns_failed"


async def test_whatever_is_raised_in_the_thread_is_told() -> None:
    def broken(host: str) -> list[str]:
        raise UnicodeError

    with pytest.raises(UpstreamFailed, match="a: UnicodeError"):
        await LookUps(look_up=broken).ask("a")


async def test_a_name_is_asked_for_once_at_a_time_by_a_thread_that_bears_its_name(names: Names) -> None:
    look_ups = LookUps(look_up=names.look_up)
    first = look_ups.ask("slow")
    assert look_ups.ask("slow") is first
    (thread,) = [each for each in threading.enumerate() if each.name == "look-up of slow"]
    assert thread.daemon, "nobody's end waits for it"
    names.open.set()
    await first
    assert names.asked == ["slow"]
    await look_ups.ask("slow")
    assert names.asked == ["slow", "slow"]


async def test_names_that_hang_do_not_hold_up_the_others(names: Names) -> None:
    look_ups = LookUps(look_up=names.look_up)
    hanging = [look_ups.ask(f"slow{number}") for number in range(20)]
    async with asyncio.timeout(0.05):
        assert await look_ups.ask("healthy") == ("10.0.0.1", "fc00::1")
    assert not any(answer.done() for answer in hanging)
    names.open.set()
    await asyncio.gather(*hanging)


async def test_so_many_are_under_way_and_what_goes_over_is_refused_and_counted(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LOOK_UPS", 2)
    metrics = Metrics()
    look_ups = LookUps(metrics, look_up=names.look_up)
    hanging = [look_ups.ask("slow1"), look_ups.ask("slow2")]
    with pytest.raises(UpstreamFailed, match="2 other names are being resolved") as caught:
        look_ups.ask("third")
    assert caught.value.code == "dns_failed"
    assert look_ups.ask("slow1") is hanging[0], "one more who waits costs nothing"
    assert numbers(metrics) == {"refused": 1, "under_way": 2}
    names.open.set()
    await asyncio.gather(*hanging)
    assert numbers(metrics) == {"refused": 1, "under_way": 0}
    await look_ups.ask("third")


async def test_a_thread_that_cannot_be_had_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    metrics = Metrics()
    look_ups = LookUps(metrics)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(UpstreamFailed, match="can't start new thread"):
            look_ups.ask("a")
    assert numbers(metrics) == {"refused": 1, "under_way": 0}


async def test_an_answer_that_nobody_waits_for_any_more_is_no_complaint(names: Names) -> None:
    look_ups = LookUps(look_up=names.look_up)
    answer = look_ups.ask("slow")
    answer.cancel()
    names.open.set()
    assert await look_ups.ask("other")
    for _ in range(100):
        if not numbers_under_way(look_ups):
            break
        await asyncio.sleep(0.005)
    assert not numbers_under_way(look_ups)


def numbers_under_way(look_ups: LookUps) -> int:
    return len(look_ups._under_way)


def test_the_end_of_the_loop_does_not_wait_for_a_name_that_hangs(names: Names) -> None:
    async def asks() -> None:
        LookUps(look_up=names.look_up).ask("slow")

    asyncio.run(asks())
    (thread,) = [each for each in threading.enumerate() if each.name == "look-up of slow"]
    names.open.set()
    thread.join(5)
    assert not thread.is_alive(), "its answer found no loop, and that is all"


def test_the_system_knows_its_own_name() -> None:
    assert "127.0.0.1" in system_look_up("localhost") or "::1" in system_look_up("localhost")
    with pytest.raises(OSError):
        system_look_up("no such name")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_a_resolver_without_file_descriptors_is_no_fault_of_the_name(
    names: Names, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none_left(*_: object) -> int:
        raise OSError(number, "too many open files")

    monkeypatch.setattr(os, "open", none_left)
    resolver = Resolver(ttl_s=30.0, timeout_s=5.0, clock=ManualClock(), look_ups=LookUps(look_up=names.look_up))
    with pytest.raises(Refused, match=r"bad\.test: .*too many open files") as caught:
        await resolver.resolve("bad.test")
    assert caught.value.code == "no_descriptors"
    monkeypatch.undo()
    with pytest.raises(UpstreamFailed, match="dns_failed"):
        await resolver.resolve("bad.test")
    assert names.asked == ["bad.test"] * 2, "the first time taught nothing about the name"
