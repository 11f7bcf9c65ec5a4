import ipaddress
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.traffic.destinations import Destinations, Endpoint, is_local, meanings, plain


def destinations(
    *, allow_loopback: bool = False, allow_private: bool = True, own: Iterable[Endpoint] = (), configured: Iterable[Endpoint] = ()
) -> Destinations:
    return Destinations(
        allow_loopback=allow_loopback, allow_private=allow_private, own=lambda: own, configured=frozenset(configured)
    )


def verdict(judge: Destinations, ip: str, port: int = 80, *, named: bool = False) -> str:
    try:
        judge.judge(ip, port, named_by_config=named)
    except Refused as refused:
        return refused.code
    return ""


OPEN = destinations(allow_loopback=True, allow_private=True)


def forms(ip: str) -> list[str]:
    """An IPv4 address in every form in which IPv6 carries one."""
    number = int(ipaddress.IPv4Address(ip))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    turned_high, turned_low = f"{(number >> 16) ^ 0xFFFF:x}", f"{(number & 0xFFFF) ^ 0xFFFF:x}"
    return [
        ip,
        f"::ffff:{ip}",
        f"::ffff:{high}:{low}",
        f"0:0:0:0:0:ffff:{high}:{low}",
        f"2002:{high}:{low}::",
        f"2002:{high}:{low}::1",
        f"64:ff9b::{ip}",
        f"64:ff9b::{high}:{low}",
        f"::{ip}",
        f"::{high}:{low}",
        f"::ffff:0:{ip}",
        f"64:ff9b:1::{high}:{low}",
        f"2001:0:{high}:{low}:0:ffff:f7f7:f7f7",  # its Teredo server, for a client at 8.8.8.8
        f"2001:0:808:808:8000:ffff:{turned_high}:{turned_low}",  # a Teredo client of the server 8.8.8.8
        f"2001:db8::5efe:{ip}",
        f"2001:db8::200:5efe:{high}:{low}",
        f"::ffff:{ip}%eth0",
        f"64:ff9b::{ip}%1",
    ]


def local_forms(ip: str) -> list[str]:
    """An IPv4 address behind each length of prefix that 64:ff9b:1::/48 leaves room for (RFC 6052 section 2.2)."""
    a, b, c, d = (int(part) for part in ip.split("."))
    return [
        f"64:ff9b:1:{a:02x}{b:02x}:{c:02x}:{d:02x}00::",
        f"64:ff9b:1:77{a:02x}:{b:02x}:{c:02x}{d:02x}::",
        f"64:ff9b:1:7777:{a:02x}:{b:02x}{c:02x}:{d:02x}00:0",
        f"64:ff9b:1::{a:02x}{b:02x}:{c:02x}{d:02x}",
    ]


CLOSED_4 = [
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.0", "169.254.255.255", "100.100.100.200", "192.0.0.192",
    "168.63.129.16", "224.0.0.1", "239.255.255.255", "255.255.255.255",
]  # fmt: skip
CLOSED_6 = [
    "fe80::1", "FE80::1", "fe80::1%eth0", "fe80::1%1", "febf:ffff::1", "fd00:ec2::254", "fd00:ec2::1", "fd00:0ec2:0:0:0:0:0:254",
    "fd20:ce::254", "ff02::1", "ff0e::1", "::ffff:169.254.169.254%eth0",
]  # fmt: skip


@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
@pytest.mark.parametrize("ip", [*(form for ip in CLOSED_4 for form in (*forms(ip), *local_forms(ip))), *CLOSED_6])
def test_metadata_link_local_and_multicast_are_closed_in_every_form_to_everybody(ip: str, named: bool) -> None:
    assert verdict(OPEN, ip, named=named) == "address_refused"


@pytest.mark.parametrize(
    "ip",
    [
        "169.253.255.255",
        "169.255.0.0",
        "100.100.100.199",
        "100.100.100.201",
        "192.0.0.191",
        "168.63.129.15",
        "223.255.255.255",
        "1.1.1.1",
        "fec0::1",  # private, and the setting lets that pass here
        "fd00:ec3::254",
        "fd20:ce::253",
        "2001:db8::1",
        "2606:4700::1111",
        "64:ff9b:2::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "64:ff9b:1:808:8:800::",
        "64:ff9b::808:808",
        "2003:a9fe:a9fe::",
        "2001:1:a9fe:a9fe::1",
        "2002:808:808::a9fe:a9fe",
        "::808:808",
        "2001:db8::5eff:a9fe:a9fe",
    ],
)
def test_their_neighbours_are_open(ip: str) -> None:
    assert verdict(OPEN, ip) == ""


# ── loopback ─────────────────────────────────────────────────────────────────────────────────────────────────────────

LOOPBACK = [
    "127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::7f00:1",
    "2002:7f00:1::", "0.0.0.0", "::", "::ffff:0.0.0.0", "0.0.0.1", "0.255.255.255", "::ffff:0.1.2.3", "::127.0.0.1", "::2",
    "64:ff9b:1::7f00:1", "64:ff9b:1:7f00:0:100::", "2001:0:808:808:8000:ffff:80ff:fffe", "::1%lo",
]  # fmt: skip


@pytest.mark.parametrize("ip", LOOPBACK)
def test_loopback_is_closed_to_whom_the_config_does_not_name(ip: str) -> None:
    assert verdict(destinations(), ip) == "loopback_refused"
    assert verdict(destinations(), ip, named=True) == ""
    assert verdict(destinations(allow_loopback=True), ip) == ""
    assert verdict(destinations(allow_private=False), ip, named=True) == ""


@pytest.mark.parametrize("ip", LOOPBACK)
def test_a_configured_loopback_port_is_open_by_every_spelling_and_no_other_port_is(ip: str) -> None:
    judge = destinations(configured=[("localhost", 9000)])
    assert verdict(judge, ip, 9000) == ""
    assert verdict(judge, ip, 9001) == "loopback_refused"


# ── private ranges ───────────────────────────────────────────────────────────────────────────────────────────────────

PRIVATE = ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255"]


@pytest.mark.parametrize(
    "ip", [*(form for ip in PRIVATE for form in forms(ip)), "fc00::1", "fd12:3456::1", "fec0::1", "feff::1%eth0"]
)
def test_private_ranges_are_closed_only_where_the_setting_says_so(ip: str) -> None:
    assert verdict(destinations(), ip) == ""
    assert verdict(destinations(allow_private=False), ip) == "address_refused"
    assert verdict(destinations(allow_private=False), ip, named=True) == "", "what the config names is meant"


@pytest.mark.parametrize(
    "ip",
    ["9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "100.63.255.255", "100.128.0.0", "fe00::1"],
)
def test_public_addresses_stay_open(ip: str) -> None:
    assert verdict(destinations(allow_private=False), ip) == ""


# ── ourselves ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
@pytest.mark.parametrize("own", ["127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "127.0.0.5"])
@pytest.mark.parametrize("ip", LOOPBACK)
def test_the_sidecar_is_never_its_own_destination_by_any_loopback_address(ip: str, own: str, named: bool) -> None:
    judge = destinations(allow_loopback=True, own=[(own, 4140), ("127.0.0.1", 4141)], configured=[("localhost", 4140)])
    assert verdict(judge, ip, 4140, named=named) == "loop_detected"
    assert verdict(judge, ip, 4142, named=named) == ""


def test_bound_to_all_addresses_it_is_itself_on_each_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.traffic.destinations.is_local", lambda ip: ip in ("127.0.0.1", "198.51.100.7", "2001:db8::7"))
    for own in ("0.0.0.0", "::"):
        judge = destinations(own=[(own, 4140)])
        for ip in ("198.51.100.7", "2001:db8::7", "::ffff:198.51.100.7"):
            assert verdict(judge, ip, 4140, named=True) == "loop_detected"
        assert verdict(judge, "198.51.100.8", 4140) == ""
        assert verdict(judge, "198.51.100.7", 4141) == ""


def test_bound_to_one_address_it_is_itself_there_only() -> None:
    judge = destinations(own=[("198.51.100.7", 4140)])
    assert verdict(judge, "198.51.100.7", 4140) == "loop_detected"
    assert verdict(judge, "198.51.100.8", 4140) == ""


def test_our_own_endpoints_are_asked_for_each_time() -> None:
    own: list[Endpoint] = []
    judge = Destinations(allow_loopback=True, allow_private=True, own=lambda: own, configured=frozenset())
    assert verdict(judge, "127.0.0.1", 4140) == ""
    own.append(("127.0.0.1", 4140))
    assert verdict(judge, "127.0.0.1", 4140) == "loop_detected"


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ip", ["1.2.3.4", "169.254.169.254", "0.0.0.0"])
def test_every_form_of_an_ipv4_address_means_that_address(ip: str) -> None:
    for form in [*forms(ip), *(local_forms(ip) if ip != "0.0.0.0" else ())]:  # zeros tell no place
        assert ipaddress.IPv4Address(ip) in meanings(form), form


@pytest.mark.parametrize("ip", ["1.2.3.4", "0.0.0.0"])
def test_mapped_is_the_address_itself_and_nothing_beside_it(ip: str) -> None:
    for form in (ip, f"::ffff:{ip}", f"::ffff:{ip}%eth0"):
        assert plain(form) == ipaddress.IPv4Address(ip)
        assert meanings(form) == (ipaddress.IPv4Address(ip),)


def test_what_carries_an_address_is_judged_by_itself_as_well() -> None:
    carrier, server, client = meanings("2001:0:102:304:8000:ffff:fafa:fafa")
    assert carrier == ipaddress.IPv6Address("2001:0:102:304:8000:ffff:fafa:fafa")
    assert (server, client) == (ipaddress.IPv4Address("1.2.3.4"), ipaddress.IPv4Address("5.5.5.5"))
    assert verdict(destinations(own=[("2002:808:808::1", 4140)]), "2002:808:808::1", 4140) == "loop_detected"
    assert verdict(destinations(own=[("8.8.8.8", 4140)]), "2002:808:808::1", 4140) == "loop_detected"


def test_an_address_that_carries_none_means_itself() -> None:
    for ip in ("2001:db8::1", "2606:4700::1111", "fe80::1", "2001:db9:a9fe:a9fe::"):
        assert meanings(ip) == (ipaddress.IPv6Address(ip),)


def test_an_ipv6_address_means_itself_without_its_zone() -> None:
    assert plain("2001:DB8::1%eth0") == ipaddress.IPv6Address("2001:db8::1")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_form(address: ipaddress.IPv4Address) -> None:
    judge = destinations(allow_private=False)
    assert len({verdict(judge, form) for form in forms(str(address))}) == 1


@given(st.ip_addresses())
def test_every_address_gets_a_verdict(address: Any) -> None:
    assert verdict(destinations(allow_private=False), str(address)) in ("", "address_refused", "loopback_refused")


def test_an_address_is_local_that_can_be_bound() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("198.51.100.7")
    assert not is_local("2001:db8::7")
