import asyncio
import socket
from typing import Any

import pytest

from sidecar.model.clock import ManualClock
from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.wire import resolver as module
from sidecar.traffic.wire.resolver import Resolver, as_literal

Answer = list[str] | Exception


class Names:
    """Stands for the system's resolver: `answers` by name, `asked` in order; a gate holds answers back."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def getaddrinfo(self, host: str, port: Any, **rest: Any) -> list[Any]:
        assert rest == {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_TCP}
        self.asked.append(host)
        await self.gate.wait()
        answer = self.answers.get(host, [])
        if isinstance(answer, Exception):
            raise answer
        return [(0, 0, 0, "", (address, 0)) for address in answer]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.getaddrinfo)
    return names


CLOCK = ManualClock()


def resolver(clock: ManualClock = CLOCK, *, timeout_s: float = 5.0) -> Resolver:
    return Resolver(ttl_s=30.0, timeout_s=timeout_s, clock=clock)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("[fe80::1%eth0]", "fe80::1%eth0"), ("2130706433", "127.0.0.1"), ("0x7f.1", "127.0.0.1"),
     ("0x7f000001", "127.0.0.1"), ("127.1", "127.0.0.1"), ("0177.0.0.1", "127.0.0.1"), ("0", "0.0.0.0"), ("::ffff:127.0.0.1", "::ffff:7f00:1")],
)  # fmt: skip
def test_an_address_is_one_however_it_is_spelt(host: str, address: str) -> None:
    import ipaddress

    assert ipaddress.ip_address(as_literal(host)) == ipaddress.ip_address(address)


@pytest.mark.parametrize(
    "host", ["", "localhost", "cafe", "a.b", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 a", "face.example", "[x]", "x", "."]
)
def test_a_name_is_no_address(host: str) -> None:
    assert as_literal(host) == ""


async def test_an_address_is_not_looked_up(names: Names) -> None:
    assert await resolver().resolve("[::1]") == ("::1",)
    assert await resolver().resolve("0x7f.1") == ("127.0.0.1",)
    assert not names.asked


async def test_families_take_turns_with_ipv6_first_and_nothing_twice(names: Names) -> None:
    names.answers["a"] = ["10.0.0.1", "10.0.0.2", "10.0.0.1", "fc00::1", "10.0.0.3", "fc00::1", "fc00::2"]
    assert await resolver().resolve("a") == ("fc00::1", "10.0.0.1", "fc00::2", "10.0.0.2", "10.0.0.3")


async def test_an_answer_is_kept_for_its_time(names: Names) -> None:
    clock = ManualClock()
    one = resolver(clock)
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
    one = resolver(clock)
    names.answers["a"] = failure
    for _ in range(2):
        with pytest.raises(UpstreamFailed) as caught:
            await one.resolve("a")
        assert caught.value.code == "dns_failed"
    assert names.asked == ["a"]
    names.answers["a"] = ["10.0.0.1"]
    clock.advance(1.0)
    assert await one.resolve("a") == ("10.0.0.1",)


async def test_a_look_up_that_takes_too_long_is_a_failure(names: Names) -> None:
    names.gate.clear()
    with pytest.raises(UpstreamFailed, match=r"within 0\.01 s"):
        await resolver(timeout_s=0.01).resolve("a")


async def test_who_asks_for_the_same_name_waits_for_the_same_look_up(names: Names) -> None:
    names.gate.clear()
    names.answers["a"] = ["10.0.0.1"]
    one = resolver()
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
    one = resolver()
    asking = [asyncio.ensure_future(one.resolve("a")) for _ in range(3)]
    await asyncio.sleep(0)
    names.gate.set()
    assert all(isinstance(result, UpstreamFailed) for result in await asyncio.gather(*asking, return_exceptions=True))


async def test_a_failure_that_nobody_waits_for_any_more_is_no_complaint(names: Names) -> None:
    names.gate.clear()
    names.answers["a"] = OSError("no")
    one = resolver()
    asking = asyncio.ensure_future(one.resolve("a"))
    await asyncio.sleep(0)
    asking.cancel()
    names.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not one._running


async def test_so_many_look_ups_run_at_once_and_no_more(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_LOOK_UPS", 2)
    names.gate.clear()
    names.answers |= {"a": ["10.0.0.1"], "b": ["10.0.0.1"], "c": ["10.0.0.1"]}
    one = resolver()
    asking = [asyncio.ensure_future(one.resolve(name)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(UpstreamFailed, match="too many"):
        await one.resolve("c")
    names.gate.set()
    await asyncio.gather(*asking)
    assert await one.resolve("c") == ("10.0.0.1",)


async def test_so_many_names_are_kept_and_no_more(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_NAMES", 3)
    one = resolver()
    for name in "abcd":
        names.answers[name] = ["10.0.0.1"]
        await one.resolve(name)
    assert list(one._known) == ["b", "c", "d"]
