"""Who gets in: Host and Origin as browsers and attackers send them, tokens right and wrong, bound to loopback and beyond."""

from pathlib import Path

import pytest

from sidecar.admin.access import Access, Kind
from sidecar.admin.messages import Call
from sidecar.admin.refusals import AdminRefused
from sidecar.admin.token import Token


@pytest.fixture
def token(tmp_path: Path) -> Token:
    made = Token(tmp_path / "admin-token")
    made.write()
    return made


def text(token: Token) -> str:
    return token.path.read_text().strip()


def call(*headers: tuple[str, str], local: str = "127.0.0.1", host: str | None = "localhost:4141") -> Call:
    first = (("host", host),) if host is not None else ()
    return Call(method="GET", target="/", headers=(*first, *headers), local=local)


def source_refusal(access: Access, asked: Call) -> str:
    try:
        access.check_source(asked)
    except AdminRefused as refused:
        return refused.code
    return ""


def right_refusal(access: Access, asked: Call, kind: Kind) -> str:
    try:
        access.check_right(asked, kind)
    except AdminRefused as refused:
        return refused.code
    return ""


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LocalHost:4141", "localhost.:4141", "127.0.0.1", "127.0.0.1:8080", "127.0.0.53", "[::1]:4141", "[::1]",
        "10.1.2.3:4141", "[::ffff:10.1.2.3]", "sidecar.example.org", "SIDECAR.example.org.:80",
    ],
)  # fmt: skip
def test_localhost_the_address_itself_and_allowed_names_are_hosts_of_ours(host: str, token: Token) -> None:
    access = Access(token, is_loopback=False, allow_hosts=("Sidecar.Example.org",))
    assert source_refusal(access, call(host=host, local="10.1.2.3")) == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:4141", "localhost.evil.example", "127.0.0.1.evil.example", "10.1.2.4", "8.8.8.8:4141",
        "2130706433", "0x7f000001", "127.1", "0.0.0.0", "[::]", "localhost@evil.example", "localhost:4141:80", "localhost:x",
        "[localhost", "", " ", "notlocalhost", "xn--localhost",
    ],
)  # fmt: skip
def test_every_other_host_is_refused(host: str, token: Token) -> None:
    access = Access(token, is_loopback=True)
    assert source_refusal(access, call(host=host, local="10.1.2.3")) == "host_refused"


def test_an_ipv4_address_is_the_same_behind_an_ipv6_socket(token: Token) -> None:
    access = Access(token, is_loopback=False)
    assert source_refusal(access, call(host="10.1.2.3:4141", local="::ffff:10.1.2.3")) == ""
    assert source_refusal(access, call(host="10.1.2.3:4141", local="unknown")) == "host_refused"


def test_no_host_and_two_hosts_are_bad_requests(token: Token) -> None:
    access = Access(token, is_loopback=True)
    assert source_refusal(access, call(host=None)) == "bad_request"
    assert source_refusal(access, call(("host", "localhost:4141"))) == "bad_request"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:4141", "http://localhost:4141"), ("localhost:4141", "HTTP://LOCALHOST:4141"),
        ("localhost", "http://localhost:80"),
        ("localhost:80", "http://localhost"), ("localhost", "https://localhost"), ("localhost:443", "https://localhost"),
    ],
)  # fmt: skip
def test_the_same_origin_may_call(host: str, origin: str, token: Token) -> None:
    assert source_refusal(Access(token, is_loopback=True), call(("origin", origin), host=host)) == ""


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "", "http://localhost", "http://localhost:4142", "http://127.0.0.1:4141", "localhost:4141",
        "http://localhost:4141/", "file://localhost:4141", "http://localhost:4141@evil.example", "https://localhost:4141.evil",
    ],
)  # fmt: skip
def test_every_other_origin_is_refused(origin: str, token: Token) -> None:
    assert source_refusal(Access(token, is_loopback=True), call(("origin", origin))) == "origin_refused"


def test_two_origins_are_refused_though_one_be_right(token: Token) -> None:
    right = ("origin", "http://localhost:4141")
    assert source_refusal(Access(token, is_loopback=True), call(right, right)) == "origin_refused"


def test_over_the_unix_socket_nothing_is_asked(token: Token) -> None:
    access = Access(token, is_loopback=True)
    over_unix = call(("origin", "http://evil.example"), host="anything", local="")
    assert source_refusal(access, over_unix) == ""
    assert right_refusal(access, over_unix, Kind.CHANGE) == ""


@pytest.mark.parametrize(
    ("is_loopback", "open_probes", "kind", "refusal"),
    [
        (True, True, Kind.PROBE, ""), (True, True, Kind.READ, ""), (True, True, Kind.CHANGE, "token_missing"),
        (True, False, Kind.PROBE, ""), (True, False, Kind.READ, ""),
        (False, True, Kind.PROBE, ""), (False, True, Kind.READ, "token_missing"), (False, True, Kind.CHANGE, "token_missing"),
        (False, False, Kind.PROBE, "token_missing"),
    ],
)  # fmt: skip
def test_who_needs_the_token(is_loopback: bool, open_probes: bool, kind: Kind, refusal: str, token: Token) -> None:
    access = Access(token, is_loopback=is_loopback, open_probes=open_probes)
    assert right_refusal(access, call(), kind) == refusal
    bearer = call(("authorization", f"Bearer {text(token)}"))
    assert right_refusal(access, bearer, kind) == ""


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        ("Bearer wrong", "token_wrong"), ("bearer wrong", "token_wrong"), ("Bearer", "token_missing"),
        ("Bearer ", "token_missing"),
        ("Basic YTpi", "token_missing"), ("", "token_missing"), ("Bearer ü", "token_wrong"),
    ],
)  # fmt: skip
def test_a_wrong_token_is_told_from_none_and_both_are_challenged(value: str, refusal: str, token: Token) -> None:
    access = Access(token, is_loopback=True)
    with pytest.raises(AdminRefused) as caught:
        access.check_right(call(("authorization", value)), Kind.CHANGE)
    assert caught.value.code == refusal
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="sidecar admin"'}
    assert text(token) not in f"{caught.value} {caught.value.detail}"


def test_the_scheme_is_written_in_any_case_and_two_fields_are_none(token: Token) -> None:
    access = Access(token, is_loopback=True)
    right = ("authorization", f"BEARER {text(token)}")
    assert right_refusal(access, call(right), Kind.CHANGE) == ""
    assert right_refusal(access, call(right, right), Kind.CHANGE) == "token_missing"


def test_a_token_that_nobody_can_know_is_said_to_be_so(tmp_path: Path) -> None:
    access = Access(Token(tmp_path / "never-written"), is_loopback=True)
    assert right_refusal(access, call(), Kind.CHANGE) == "token_unwritten"


def test_what_is_quoted_back_is_short_and_printable(token: Token) -> None:
    with pytest.raises(AdminRefused) as caught:
        Access(token, is_loopback=True).check_source(call(host="\x1b[31m" + "x" * 500))
    assert caught.value.detail == "this API is not ?[31m" + "x" * 95
