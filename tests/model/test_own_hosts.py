"""Hosts of ours, and of others: as browsers, agents and attackers spell them."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from sidecar.model.own_hosts import OwnHosts, address, check_allowed, is_loopback


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1", IPv4Address("127.0.0.1")), ("::1", IPv6Address("::1")), ("::ffff:10.0.0.1", IPv4Address("10.0.0.1")),
        ("fe80::1%eth0", IPv6Address("fe80::1")), ("localhost", None), ("2130706433", None), ("127.1", None), ("", None),
    ],
)  # fmt: skip
def test_an_address_is_what_spells_one(text: str, found: object) -> None:
    assert address(text) == found


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("sidecar", False), ("localhost.evil.example", False),
    ],
)  # fmt: skip
def test_loopback_is_localhost_and_its_addresses(host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True), ("LOCALHOST.:4140", True), ("127.0.0.1:4140", True), ("[::1]:4140", True), ("[::1]", True),
        ("sidecar.local:1", True), ("Sidecar.LOCAL.", True), ("10.1.2.3", True), ("[::ffff:10.1.2.3]:4140", True),
        ("evil.example:4140", False), ("127.0.0.1.evil.example", False), ("10.1.2.4", False), ("", False), ("a:b:c", False),
        ("sidecar.local@evil.example", False), ("2130706433", False), ("evil.localhost", False),
    ],
)  # fmt: skip
def test_ours_are_localhost_loopback_what_was_allowed_and_what_was_reached(host: str, is_ours: bool) -> None:
    assert OwnHosts(("sidecar.local",)).know(host, "10.1.2.3") is is_ours


def test_an_address_is_ours_whichever_where_any_may_have_been_reached() -> None:
    hosts = OwnHosts(any_address=True)
    assert hosts.know("10.1.2.4:4140")
    assert hosts.know("[2001:db8::1]")
    assert not hosts.know("evil.example")


@pytest.mark.parametrize("name", ["http://a", "a:80", "*", "a b", "", "[::1]"])
def test_only_names_may_be_allowed(name: str) -> None:
    check_allowed(("a.example", "::1", "a_b"))
    with pytest.raises(ValueError, match="allow_hosts"):
        check_allowed((name,))
