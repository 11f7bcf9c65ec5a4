import pytest

from sidecar.model.spec import Secret
from sidecar.traffic.wire.proxy import Via, check_proxy, proxies_of, read_proxy

ENVIRONMENT = Secret("environment")


def shown(via: Via | None) -> str:
    return via.shown if via is not None else ""


# a URL


def test_a_proxy_is_read_with_its_credentials_decoded() -> None:
    via = read_proxy(Secret("http://us%40er:p%3Ass@proxy.corp:3128"))
    assert (via.host, via.port, via.shown) == ("proxy.corp", 3128, "proxy.corp:3128")
    assert via.authorization.reveal() == "Basic dXNAZXI6cDpzcw=="
    assert read_proxy(Secret("http://proxy.corp:3128/")).authorization == Secret("")
    assert read_proxy(Secret("http://[2001:db8::1]:3128")).shown == "[2001:db8::1]:3128"


@pytest.mark.parametrize(
    "proxy",
    [
        "", "proxy:3128", "https://proxy:3128", "socks5://proxy:1080", "http://proxy", "http://:3128", "http://proxy:0", "http://proxy:1/x",
        "http://proxy:1?x", "http://proxy:1#x", "http://me:s3/cret@proxy:3128", "http://me:3/s3cret@proxy:3128",
        "http://me:s3cret@proxy:s3cret", "http://me:s3[cret@proxy:1", "ENVIRONMENT",
    ],
)  # fmt: skip
def test_a_proxy_that_makes_no_sense_is_refused_without_a_word_of_its_password(proxy: str) -> None:
    with pytest.raises(ValueError, match="proxy has to look like") as refused:
        check_proxy(Secret(proxy))
    assert "s3" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("word", ["environment", "direct", None])
def test_a_word_may_stand_in_its_place(word: str | None) -> None:
    check_proxy(Secret(word) if word else None)


def test_a_proxy_of_the_config_is_for_every_scheme_and_shows_no_credentials() -> None:
    proxies = proxies_of(Secret("http://me:hunter2@proxy:3128"), {}, ["in.test"])
    for scheme in ("http", "https"):
        assert shown(proxies.to(scheme, "out.test", 1)) == "proxy:3128"
        assert proxies.to(scheme, "in.test", 1) is None
    via = proxies.to("http", "out.test", 1)
    assert "bWU6" not in repr(via)
    assert "hunter2" not in repr(via)


@pytest.mark.parametrize("setting", [None, Secret("direct")])
def test_without_a_proxy_everything_is_direct_whatever_the_environment_says(setting: Secret | None) -> None:
    assert proxies_of(setting, {"HTTPS_PROXY": "p:1", "http_proxy": "p:1"}).to("https", "h", 1) is None


@pytest.mark.parametrize("host", ["localhost", "A.localhost.", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "2130706433", "[::1]"])
def test_our_loopback_is_not_that_of_another_machine(host: str) -> None:
    assert proxies_of(Secret("http://proxy:1"), {}).to("http", host, 1) is None
    for here in ("127.0.0.1", "localhost", "[::1]"):
        assert proxies_of(Secret(f"http://{here}:1"), {}).to("http", host, 1) is not None


# the environment


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, "", ""),
        ({"https_proxy": "a:1", "HTTPS_PROXY": "b:1"}, "", "a:1"),
        ({"HTTPS_PROXY": "http://b:1"}, "", "b:1"),
        ({"http_proxy": "a:1"}, "a:1", ""),
        ({"HTTP_PROXY": "evil:1"}, "", ""),
        ({"ALL_PROXY": "c:1"}, "c:1", "c:1"),
        ({"all_proxy": "d:1", "ALL_PROXY": "c:1", "HTTPS_PROXY": "b:1"}, "d:1", "b:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "b:1"}, "", "b:1"),
        ({"HTTPS_PROXY": "", "ALL_PROXY": ""}, "", ""),
        ({"HTTPS_PROXY": "http://b"}, "", "b:80"),
        ({"HTTPS_PROXY": " b "}, "", "b:80"),
        ({"ALL_PROXY": "socks5://c:1", "HTTPS_PROXY": "b:1", "http_proxy": "a:1"}, "a:1", "b:1"),
    ],
)
def test_the_environment_is_read_as_curl_reads_it(environ: dict[str, str], http: str, https: str) -> None:
    proxies = proxies_of(ENVIRONMENT, environ)
    assert shown(proxies.to("http", "h.test", 80)) == http
    assert shown(proxies.to("https", "h.test", 443)) == https


@pytest.mark.parametrize(
    ("environ", "exempt", "not_exempt"),
    [
        ({"NO_PROXY": "a.test,10.0.0.0/8 b.test:8443,, nonsense://x"}, [("x.a.test", 1), ("10.1.1.1", 1), ("b.test", 8443)], [("b.test", 1)]),
        ({"no_proxy": "a.test", "NO_PROXY": "b.test"}, [("a.test", 1)], [("b.test", 1)]),
        ({"no_proxy": "", "NO_PROXY": "b.test"}, [("b.test", 1)], [("a.test", 1)]),
        ({"NO_PROXY": "*"}, [("a.test", 1), ("10.1.1.1", 1)], []),
        ({}, [("own.test", 1)], [("a.test", 1)]),
    ],
)  # fmt: skip
def test_what_the_environment_exempts_counts_beside_the_setting(
    environ: dict[str, str], exempt: list[tuple[str, int]], not_exempt: list[tuple[str, int]]
) -> None:
    proxies = proxies_of(ENVIRONMENT, {"ALL_PROXY": "p:1", **environ}, ["own.test"])
    assert [where for where in [*exempt, ("own.test", 1)] if proxies.to("https", *where) is not None] == []
    assert [where for where in not_exempt if proxies.to("https", *where) is None] == []


def test_a_variable_that_makes_no_sense_is_named_without_its_password() -> None:
    with pytest.raises(ValueError) as refused:
        proxies_of(ENVIRONMENT, {"https_proxy": "socks5h://me:s3cret@p:1080"})
    assert str(refused.value).startswith("https_proxy of the environment has to look like http://")
    assert "s3cret" not in str(refused.value)
