"""The first event of the legacy transport leads its clients back here."""

import time

import pytest

from sidecar.dialects import mcp
from sidecar.dialects.dialect import BodyEdit, Clamp, Reroute
from sidecar.dialects.mcp.endpoint import led
from sidecar.model.asked import McpAsked

REROUTE = Reroute("http://tools:8080", "/base/", "/tools/")
LISTENS = McpAsked("mcp", "listen", streams=True, is_standing=True)
FIRST = b"event: endpoint\ndata: /base/messages?session=1\n\n"
REST = b"event: message\ndata: {\"result\": \"/base/x\"}\n\n: ping\n\n"


def leading() -> BodyEdit:
    made = mcp.takes_out(LISTENS, REROUTE)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("/base/messages?session=1", "/tools/messages?session=1"),
        ("/base/", "/tools/"),
        ("http://tools:8080/base/m?s=1", "/tools/m?s=1"),
        ("http://elsewhere/base/m", ""),
        ("https://tools:8080/base/m", ""),
        ("/other/m", ""),
        ("messages?session=1", ""),
        ("", ""),
    ],
)
def test_what_is_the_servers_own_is_led_here_and_nothing_else(url: str, ours: str) -> None:
    assert led(url, REROUTE) == ours


@pytest.mark.parametrize("cut", range(len(FIRST + REST) + 1))
def test_the_first_event_is_led_however_it_is_split_and_the_rest_passes(cut: int) -> None:
    edit, whole = leading(), FIRST + REST
    out = edit.data(whole[:cut]) + edit.data(whole[cut:]) + edit.end("")
    assert out == b"event: endpoint\ndata: /tools/messages?session=1\n\n" + REST


def test_what_keeps_the_connection_alive_before_it_passes_at_once() -> None:
    edit = leading()
    assert edit.data(b": ping\n\n") == b": ping\n\n"
    assert edit.data(b": ping\r\n\r\n" + FIRST).endswith(b"data: /tools/messages?session=1\n\n")
    assert edit.data(FIRST) == FIRST, "there is one first event"


def test_very_many_comments_before_it_are_no_trouble() -> None:
    assert leading().data(b":\n\n" * 50_000 + FIRST).endswith(b"data: /tools/messages?session=1\n\n")


@pytest.mark.parametrize("stream", [REST, b"data: /base/x\n\n" + FIRST, b"event: endpoint\ndata: /other/x\n\n", b"no stream", b""])
def test_other_streams_pass_as_they_are(stream: bytes) -> None:
    edit = leading()
    assert edit.data(stream) + edit.end("upstream_cut") == stream


def test_what_never_becomes_an_event_is_not_held_back_for_ever() -> None:
    edit = leading()
    endless = b"event: " + b"x" * 70_000
    assert edit.data(endless) == endless
    assert edit.data(b"y") == b"y"


def test_only_a_stream_that_is_listened_to_is_led() -> None:
    assert mcp.takes_out(McpAsked("mcp", "tools/call", id="1"), REROUTE) is None
    assert mcp.takes_out(LISTENS, Clamp(1)) is None


def test_a_server_that_says_nothing_byte_by_byte_costs_no_more_than_its_bytes() -> None:
    edit, began = leading(), time.process_time()
    out = b"".join(edit.data(b":") for _ in range(60_000))
    assert (out, edit.end("")) == (b"", b":" * 60_000)
    assert time.process_time() - began < 1.0, "it was five seconds, in which nothing else moved"
