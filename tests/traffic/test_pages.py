"""Who may call the gateway through a browser on the same machine: Host and Origin, as pages of attackers send them."""

import pytest

from sidecar.model.errors import Refused
from sidecar.traffic.pages import Pages, pages_of
from sidecar.traffic.wire.request_head import parse_request


def code(pages: Pages | None, host: str | None, *fields: str, version: str = "1.1") -> str:
    """The code of the refusal, or "" where there is none."""
    assert pages is not None
    lines = [f"GET /a/x HTTP/{version}", *([f"Host: {host}"] if host is not None else []), *fields, "", ""]
    request = parse_request("\r\n".join(lines).encode(), max_count=20, max_url_bytes=100)
    try:
        pages.judge(request)
    except Refused as refused:
        return refused.code
    return ""


@pytest.mark.parametrize("host", ["localhost", "localhost:4140", "127.0.0.1:4140", "[::1]:4140", "LOCALHOST.:1", "mine.example:9", ""])
def test_a_call_to_this_machine_by_its_names_passes(host: str) -> None:
    assert code(pages_of("127.0.0.1", ("mine.example",)), host) == ""


@pytest.mark.parametrize("host", ["evil.example:4140", "evil.example", "127.0.0.1.evil.example", "8.8.8.8", "mine.example", ":80"])
def test_a_name_that_only_resolves_to_this_machine_is_refused(host: str) -> None:
    assert code(pages_of("127.0.0.1", ()), host) == "host_refused"


def test_what_is_old_enough_to_have_no_host_is_no_browser() -> None:
    assert code(pages_of("::1", ()), None, version="1.0") == ""


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173", "http://mine.example", "vscode-webview://1f2e", "app://obsidian.md"],
)
def test_a_page_of_this_machine_and_a_program_may_call(origin: str) -> None:
    assert code(pages_of("127.0.0.1", ("mine.example",)), "localhost", f"Origin: {origin}") == ""


@pytest.mark.parametrize(
    "fields",
    [
        ("Origin: https://evil.example",), ("origin: http://localhost.evil.example:80",), ("Origin: null",), ("Origin: HTTP://evil",),
        ("Origin: http://localhost", "Origin: http://evil.example"), ("Origin: http://localhost@evil.example",),
    ],
)  # fmt: skip
def test_a_page_of_another_site_is_refused(fields: tuple[str, ...]) -> None:
    assert code(pages_of("127.0.0.1", ()), "127.0.0.1:4140", *fields) == "origin_refused"


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "10.1.2.3", "sidecar.internal"])
def test_beyond_loopback_nothing_is_judged_unless_names_are_given(bound: str) -> None:
    assert pages_of(bound, ()) is None
    pages = pages_of(bound, ("sidecar",))
    assert code(pages, "sidecar:4140") == ""
    assert code(pages, "localhost") == ""
    assert code(pages, bound if ":" not in bound else f"[{bound}]") == ""
    assert code(pages, "evil.example") == "host_refused"
    assert code(pages, "10.9.9.9") == ("" if bound in ("0.0.0.0", "::") else "host_refused")
