import pytest

from sidecar.traffic.wire.no_proxy import NoProxy, check_no_proxy


@pytest.mark.parametrize(
    ("entry", "exempt", "not_exempt"),
    [
        ("corp.test", ["corp.test", "CORP.test", "corp.test.", "a.corp.test", "a.b.corp.test"], ["xcorp.test", "corp.test.evil", "test"]),
        (".corp.test", ["corp.test", "a.corp.test"], ["xcorp.test"]),
        ("*.Corp.Test.", ["corp.test", "a.corp.test"], ["xcorp.test"]),
        (" localhost ", ["localhost", "a.localhost"], ["127.0.0.1"]),
        ("10.1.2.3", ["10.1.2.3", "::ffff:10.1.2.3", "[::ffff:10.1.2.3]", "0xa010203"], ["10.1.2.30", "a.10.1.2.3", "h"]),
        ("10.0.0.0/8", ["10.0.0.1", "10.255.255.255"], ["11.0.0.1", "10.test", "::a00:1"]),
        ("10.1.2.3/8", ["10.9.9.9"], ["11.0.0.1"]),
        ("2001:db8::/32", ["2001:db8::1", "[2001:db8:1::]"], ["2001:db9::1", "10.0.0.1"]),
        ("2001:db8::1", ["2001:db8:0::1"], ["2001:db8::2"]),
        ("[2001:db8::1]", ["2001:db8::1"], ["2001:db8::2"]),
        ("*", ["a", "10.1.2.3", "::1"], []),
        ("10.*", [], ["10.1.2.3"]),
        ("a_b-c.test", ["a_b-c.test"], []),
    ],
)  # fmt: skip
def test_an_entry_exempts_what_curl_and_go_exempt(entry: str, exempt: list[str], not_exempt: list[str]) -> None:
    listed = NoProxy(["", entry])
    assert [host for host in exempt if not listed.exempts(host, 443)] == []
    assert [host for host in not_exempt if listed.exempts(host, 443)] == []


@pytest.mark.parametrize("host", ["h.test", "10.1.2.3", "[2001:db8::1]"])
def test_an_entry_with_a_port_exempts_that_port_alone(host: str) -> None:
    listed = NoProxy([f"{host}:8443"])
    assert listed.exempts(host, 8443)
    assert not listed.exempts(host, 443)


@pytest.mark.parametrize(
    "entry",
    ["", "http://h", "h:x", "h:999999", "10.0.0.0/33", "10.*", "a*b", "[h]", "[h]:1", "[::1", "a b", "10.0.0.0/8:80", "h/x"],
)
def test_an_entry_that_can_match_nothing_is_a_fault_of_the_config_and_passed_over_elsewhere(entry: str) -> None:
    with pytest.raises(ValueError, match="no_proxy has"):
        check_no_proxy(["good.test", entry])
    assert NoProxy([entry, "good.test"]).exempts("good.test", 1)


def test_entries_of_every_kind_are_good() -> None:
    check_no_proxy(["*", "a.test", ".a.test", "a.test:1", "10.0.0.1", "10.0.0.1:1", "10.0.0.0/8", "::1", "[::1]:1", "fd00::/8"])
