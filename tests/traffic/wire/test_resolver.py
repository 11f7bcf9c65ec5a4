import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.wire import resolver as module
from sidecar.traffic.wire.look_ups import LookUps
from sidecar.traffic.wire.resolver import Resolver, as_literal
from tests.sidecar_under_test import eventually

Answer = list[str] | Exception


class Names:
    """Stands for the system's resolver: `answers` by name, `asked` in order; a closed gate holds answers back."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def look_up(self, host: str) -> list[str]:
        self.asked.append(host)
        self.gate.wait(10)
        answer = self.answers.get(host, [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def resolver(self, clock: ManualClock | None = None, *, timeout_s: float = 5.0) -> Resolver:
        return Resolver(ttl_s=30.0, timeout_s=timeout_s, clock=clock or ManualClock(), look_ups=LookUps(look_up=self.look_up))


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.gate.set()


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("[fe80::1%eth0]", "fe80::1%eth0"), ("2130706433", "127.0.0.1"), ("0x7f.1", "127.0.0.1"),
     ("0x7f000001", "127.0.0.1"), ("127.1", "127.0.0.1"), ("0177.0.0.1", "127.0.0.1"), ("0", "0.0.0.0"), ("::ffff:127.0.0.1", "127.0.0.1"),
     ("[::FFFF:7f00:1]", "127.0.0.1"), ("[2001:DB8:0::1]", "2001:db8::1")],
)  # fmt: skip
def test_an_address_is_one_however_it_is_spelt(host: str, address: str) -> None:
    assert as_literal(host) == address


@pytest.mark.parametrize(
    "host", ["", "localhost", "cafe", "a.b", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 a", "face.example", "[x]", "x", "."]
)
def test_a_name_is_no_address(host: str) -> None:
    assert as_literal(host) == ""


async def test_an_address_is_not_looked_up(names: Names) -> None:
    assert await names.resolver().resolve("[::1]") == ("::1",)
    assert await names.resolver().resolve("0x7f.1") == ("127.0.0.1",)
    assert not names.asked


async def test_families_take_turns_with_ipv6_first_and_nothing_twice(names: Names) -> None:
    names.answers["a"] = ["10.0.0.1", "10.0.0.2", "10.0.0.1", "fc00::1", "10.0.0.3", "fc00::1", "fc00::2"]
    assert await names.resolver().resolve("a") == ("fc00::1", "10.0.0.1", "fc00::2", "10.0.0.2", "10.0.0.3")


async def test_an_answer_is_kept_for_its_time(names: Names) -> None:
    clock = ManualClock()
    one = names.resolver(clock)
    names.answers["a"] = ["10.0.0.1"]
    assert await one.resolve("a") == ("10.0.0.1",)
    names.answers["a"] = ["10.0.0.2"]
    clock.advance(29.9)
    assert await one.resolve("a") == ("10.0.0.1",)
    clock.advance(0.1)
    assert await one.resolve("a") == ("10.0.0.2",)
    assert names.asked == ["a", "a"]


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "unknown"), OSError("no"), UnicodeError("label too long"), []])
async def test_a_failure_is_kept_for_a_second(names: Names, failure: Answer) -> None:
    clock = ManualClock()
    one = names.resolver(clock)
    names.answers["a"] = failure
    for _ in range(2):
        with pytest.raises(UpstreamFailed) as caught:
            await one.resolve("a")
        assert caught.value.code == "dns_failed"
    assert names.asked == ["a"]
    names.answers["a"] = ["10.0.0.1"]
    clock.advance(1.0)
    assert await one.resolve("a") == ("10.0.0.1",)


async def test_silence_is_kept_for_a_second_too_and_a_late_answer_serves_who_asks_next(names: Names) -> None:
    clock = ManualClock()
    names.gate.clear()
    names.answers["a"] = ["10.0.0.1"]
    one = names.resolver(clock, timeout_s=0.01)
    with pytest.raises(UpstreamFailed, match=r"within 0\.01 s"):
        await one.resolve("a")
    with pytest.raises(UpstreamFailed, match="a does not resolve"):
        await one.resolve("a")
    clock.advance(1.0)
    with pytest.raises(UpstreamFailed, match=r"within 0\.01 s"):
        await one.resolve("a")  # at once: the same look-up still hangs, and its time is over
    names.gate.set()
    await eventually(lambda: not one._asked, "the late answer")
    assert await one.resolve("a") == ("10.0.0.1",)
    assert names.asked == ["a"]


async def test_who_asks_for_the_same_name_waits_for_the_same_look_up(names: Names) -> None:
    names.gate.clear()
    names.answers["a"] = ["10.0.0.1"]
    one = names.resolver()
    asking = [asyncio.ensure_future(one.resolve("a")) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()  # one that goes takes nobody else's answer with it
    await asyncio.sleep(0)
    names.gate.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [("10.0.0.1",)] * 4
    assert names.asked == ["a"]


async def test_everybody_who_waits_hears_of_the_failure(names: Names) -> None:
    names.gate.clear()
    names.answers["a"] = OSError("no")
    one = names.resolver()
    asking = [asyncio.ensure_future(one.resolve("a")) for _ in range(3)]
    await asyncio.sleep(0)
    names.gate.set()
    assert all(isinstance(result, UpstreamFailed) for result in await asyncio.gather(*asking, return_exceptions=True))


async def test_a_failure_that_nobody_waits_for_any_more_is_no_complaint(names: Names) -> None:
    names.gate.clear()
    names.answers["a"] = OSError("no")
    one = names.resolver()
    asking = asyncio.ensure_future(one.resolve("a"))
    await asyncio.sleep(0)
    asking.cancel()
    names.gate.set()
    await eventually(lambda: not one._asked, "the answer")
    assert asking.cancelled()


async def test_so_many_names_are_kept_and_no_more(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_NAMES", 3)
    one = names.resolver()
    for name in "abcd":
        names.answers[name] = ["10.0.0.1"]
        await one.resolve(name)
    assert list(one._known) == ["b", "c", "d"]
