from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.model.facts import Mode
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import EMPTY
from sidecar.traffic.router import Absolute, Route, Router, Way, read_absolute, read_authority
from sidecar.traffic.upstreams.http import Config, HttpUpstream
from sidecar.traffic.wire.request_head import RequestHead


def route(name: str, prefix: str, url: str) -> Route:
    return Route(name, prefix.encode(), HttpUpstream(f"http/{name}", Config(url=url), Runtime()), EMPTY, "tunnel", baggage=False)


def request(target: bytes, method: bytes = b"GET") -> RequestHead:
    head = RequestHead()
    head.method, head.target = method, target
    return head


ROUTES = [
    route("openai", "/openai/", "https://api.openai.com"),
    route("chat", "/openai/v1/chat/", "https://api.openai.com/v1/chat"),
    route("azure", "/azure/", "https://azure.example:8443/openai//deployments/gpt%2F4/"),
    route("tools", "/tools/", "http://tools.internal:8080/mcp"),
    route("local", "/local/", "http://127.0.0.1:9000"),
    route("six", "/six/", "http://[::1]:9000"),
    route("dotted", "", "https://dotted.example."),
]
ROUTER = Router(ROUTES)


def gateway(target: bytes) -> Way:
    return ROUTER.gateway(request(target))


# ── gateway ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "name", "there"),
    [
        (b"/openai/v1/models", "openai", b"/v1/models"),
        (b"/openai/", "openai", b"/"),
        (b"/openai/?a=1", "openai", b"/?a=1"),
        (b"/openai//v1", "openai", b"//v1"),
        (b"/openai/v1/chat", "openai", b"/v1/chat"),
        (b"/openai/v1/chat/", "chat", b"/v1/chat/"),
        (b"/openai/v1/chat/completions?x=/y", "chat", b"/v1/chat/completions?x=/y"),
        (b"/azure/a", "azure", b"/openai//deployments/gpt%2F4/a"),
        (b"/tools/", "tools", b"/mcp/"),
    ],
)
def test_the_prefix_is_cut_off_and_the_rest_stands_behind_the_url(target: bytes, name: str, there: bytes) -> None:
    way = gateway(target)
    assert (way.route.name, way.target, way.asked, way.mode) == (name, there, target, Mode.GATEWAY)


@pytest.mark.parametrize(
    "rest",
    [
        b"a%2Fb",
        b"%2e%2e/x",
        b"../x",
        b"./x",
        b"a//b",
        b"a;p=1",
        b"a?b?c#d",
        b"\xc3\xa9",
        b"\xff\x80",
        b"%zz",
        b"+%20+",
        b"'\"<>{}|^`\\",
    ],
)
def test_a_path_goes_on_byte_for_byte(rest: bytes) -> None:
    assert gateway(b"/openai/" + rest).target == b"/" + rest
    assert gateway(b"/tools/" + rest).target == b"/mcp/" + rest


@given(st.binary())
def test_any_bytes_behind_a_prefix_go_on_as_they_are(rest: bytes) -> None:
    assert gateway(b"/tools/" + rest).target == b"/mcp/" + rest


@pytest.mark.parametrize(
    "target", [b"/", b"/openai", b"/openai?x=/openai/", b"/OpenAI/v1", b"//openai/v1", b"/%6fpenai/v1", b"/x/openai/"]
)
def test_what_only_looks_like_a_prefix_is_no_route(target: bytes) -> None:
    with pytest.raises(Refused) as refused:
        gateway(target)
    assert refused.value.code == "route_unknown"


def test_a_refusal_does_not_repeat_the_query_and_is_bounded() -> None:
    with pytest.raises(Refused) as refused:
        gateway(b"/nothing?key=s3cret")
    assert "s3cret" not in refused.value.detail
    with pytest.raises(Refused) as refused:
        gateway(b"/" + b"x" * 5_000)
    assert len(refused.value.detail) < 200


def test_a_route_at_the_root_takes_what_no_other_takes() -> None:
    router = Router([route("all", "/", "http://all.example/base/"), route("a", "/a/", "http://a.example")])
    assert router.gateway(request(b"/a/x")).route.name == "a"
    for target in (b"/", b"/a", b"/b/c?d", b"/?q"):
        way = router.gateway(request(target))
        assert (way.route.name, way.target) == ("all", b"/base" + target)


def test_the_upstream_names_host_port_and_host_line() -> None:
    way = gateway(b"/azure/x")
    assert (way.host, way.port, way.host_line) == ("azure.example", 8443, b"azure.example:8443")
    assert gateway(b"/openai/x").host_line == b"api.openai.com"
    assert gateway(b"/six/x").host_line == b"[::1]:9000"


# ── destinations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def found(url: bytes) -> Route | None:
    absolute = read_absolute(url, b"GET")
    return ROUTER.by_destination(absolute.scheme, absolute.host, absolute.port, absolute.path)


def test_gateway_forward_and_connect_lead_to_the_same_route() -> None:
    route = gateway(b"/tools/x").route
    assert found(b"http://tools.internal:8080/mcp/x") is route
    assert ROUTER.tunnel("tools.internal", 8080) is route


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (b"https://api.openai.com/v1/chat/completions", "chat"),
        (b"https://api.openai.com/v1/chat", "chat"),
        (b"https://api.openai.com/v1/chat?x", "chat"),
        (b"https://api.openai.com/v1/chats", "openai"),
        (b"https://api.openai.com/", "openai"),
        (b"HTTPS://API.OpenAI.com:443", "openai"),
        (b"https://api.openai.com./v1", "openai"),
        (b"https://api.openai.com.:443/v1", "openai"),
        (b"https://dotted.example/", "dotted"),
        (b"https://dotted.example./", "dotted"),
        (b"http://tools.internal:8080/elsewhere", "tools"),
        (b"http://127.0.0.1:9000/", "local"),
        (b"http://127.1:9000/", "local"),
        (b"http://2130706433:9000/", "local"),
        (b"http://0x7f.0.0.1:9000/", "local"),
        (b"http://[::1]:9000/", "six"),
        (b"http://[0:0:0:0:0:0:0:1]:9000/", "six"),
        (b"http://[0:0::0:0001]:9000/", "six"),
    ],
)
def test_one_destination_has_one_route_however_it_is_spelt(url: bytes, name: str) -> None:
    route = found(url)
    assert route is not None
    assert route.name == name


@pytest.mark.parametrize(
    "url",
    [
        b"http://api.openai.com/",
        b"https://api.openai.com:8443/",
        b"https://openai.com/",
        b"http://tools.internal/",
        b"http://[::2]:9000/",
    ],
)
def test_another_scheme_port_or_host_is_another_destination(url: bytes) -> None:
    assert found(url) is None


def test_connect_finds_an_upstream_of_either_scheme() -> None:
    tls, plain = ROUTER.tunnel("api.openai.com", 443), ROUTER.tunnel("tools.internal", 8080)
    assert tls is not None
    assert plain is not None
    assert (tls.name, plain.name) == ("openai", "tools")
    assert ROUTER.tunnel("api.openai.com", 80) is None


def test_where_no_path_matches_the_longest_url_stands_for_the_destination() -> None:
    router = Router([route("a", "", "http://h.example/a"), route("bb", "", "http://h.example/bb")])
    found = router.by_destination("http", "h.example", 80, b"/c")
    assert found is not None
    assert found.name == "bb"


# ── absolute-form ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "method", "absolute"),
    [
        (b"http://h", b"GET", Absolute("http", "h", 80, b"h", b"/")),
        (b"http://h", b"OPTIONS", Absolute("http", "h", 80, b"h", b"*")),
        (b"http://h/", b"OPTIONS", Absolute("http", "h", 80, b"h", b"/")),
        (b"http://h?q", b"OPTIONS", Absolute("http", "h", 80, b"h", b"/?q")),
        (b"http://h?a/b", b"GET", Absolute("http", "h", 80, b"h", b"/?a/b")),
        (b"https://h", b"GET", Absolute("https", "h", 443, b"h", b"/")),
        (b"hTTp://H.Example.:81/%2F?x#", b"", None),
        (b"hTTp://H.Example.:81/%2F?x", b"GET", Absolute("http", "h.example", 81, b"H.Example.:81", b"/%2F?x")),
        (b"http://h:/x", b"GET", None),
        (b"http://[::1]/x", b"GET", Absolute("http", "::1", 80, b"[::1]", b"/x")),
        (b"http://[FE80::A]:8080//x", b"GET", Absolute("http", "fe80::a", 8080, b"[FE80::A]:8080", b"//x")),
        (b"http://[::ffff:1.2.3.4]", b"GET", Absolute("http", "1.2.3.4", 80, b"[::ffff:1.2.3.4]", b"/")),
        (b"http://h/a@b", b"GET", Absolute("http", "h", 80, b"h", b"/a@b")),
        (b"http://h/http://other/", b"GET", Absolute("http", "h", 80, b"h", b"/http://other/")),
    ],
)
def test_an_absolute_url_is_taken_apart(target: bytes, method: bytes, absolute: Absolute | None) -> None:
    if absolute is None:
        with pytest.raises(Refused, match="bad_target"):
            read_absolute(target, method)
    else:
        assert read_absolute(target, method) == absolute


@pytest.mark.parametrize(
    "target",
    [
        b"", b"*", b"x", b"h:80", b"http:/h/", b"http:h", b"ftp://h/", b"ws://h/", b"file:///etc/passwd", b"http://", b"http:///x", b"http://?q",
        b"http://u@h/", b"http://u:p@h/", b"http://h#f", b"http://h/#f", b"http://h/a?b#f", b"http://h:0/", b"http://h:65536/", b"http://h:99999999/",
        b"http://h:-1/", b"http://h:8o/", b"http://h:80:80/", b"http://./", b"http://.../", b"http://[]/", b"http://[::1/", b"http://::1/", b"http://[:::]/",
        b"http://[::1]x/", b"http://[127.0.0.1]/", b"http://[12]/", b"http://[fe80::1%25eth0]/", b"http://h h/", b"http://h\\x/", b"http://h\xc3\xa4/", b"http://h\x00/",
        b"http://%31/", b"http://h,g/", b" http://h/",
    ],
)  # fmt: skip
def test_what_is_no_clean_url_is_refused(target: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_absolute(target, b"GET")
    assert refused.value.code == "bad_target"


def test_a_connect_needs_its_port() -> None:
    with pytest.raises(Refused, match="no valid port"):
        read_authority(b"h", None)
    assert read_authority(b"H.:1", None) == ("h", 1)
    assert read_authority(b"[::1]:65535", None) == ("::1", 65535)


def outcome(ask: Any, *arguments: Any) -> tuple[str, Any]:
    """The code with which something is refused, or what it is."""
    try:
        return "", ask(*arguments)
    except Refused as refused:
        return refused.code, None


_PIECES = st.lists(
    st.one_of(
        st.sampled_from([b"http://", b"https://", b"HTTP://", b"[", b"]", b"::1", b"127.0.0.1", b"0x", b":", b"443", b".", b"/", b"?", b"#", b"@", b"%", b"a", b"*", b"\x00"]),
        st.binary(max_size=3),
    ),
    max_size=10,
).map(b"".join)  # fmt: skip


@given(target=_PIECES, method=st.sampled_from([b"GET", b"OPTIONS", b"CONNECT"]))
def test_nothing_that_a_target_may_be_raises_anything_but_refused(target: bytes, method: bytes) -> None:
    code, absolute = outcome(read_absolute, target, method)
    assert code in ("", "bad_target")
    if absolute is not None:
        assert absolute.host
        assert 0 < absolute.port < 65536
        assert absolute.path[:1] == b"/" or absolute.path == b"*"
    for port in (None, 80):
        code, read = outcome(read_authority, target, port)
        assert code in ("", "bad_target")
        if read is not None:
            shown = f"[{read[0]}]" if ":" in read[0] else read[0]
            assert read_authority(shown.encode(), 80)[0] == read[0], "what was read reads the same again"
    code, _ = outcome(gateway, target)
    assert code in ("", "route_unknown")


def test_a_host_has_a_bound_because_it_is_kept_in_keys() -> None:
    assert read_authority(b"h" * 255 + b":1", None) == ("h" * 255, 1)
    for authority in (b"h" * 256 + b":1", b"[" + b"0" * 255 + b"::1]:1"):
        with pytest.raises(Refused, match="bad_target"):
            read_authority(authority, None)
    with pytest.raises(Refused, match="more than 255 bytes"):
        read_absolute(b"http://" + b"h" * 256 + b"/", b"GET")
