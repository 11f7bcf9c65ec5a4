import re

import httptools
from hypothesis import given
from hypothesis import strategies as st

from sidecar.traffic.wire.fields import Field
from sidecar.traffic.wire.head import NOTHING, Seen, has_bare_line_feed, hop_by_hop, tokens, without_framing

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\ncontent-LENGTH: 3\r\nX-Two: 2\r\nVia: 1.1 b\r\n\r\n"


def test_what_means_something_is_seen_with_its_place() -> None:
    seen = Seen()
    httptools.HttpRequestParser(seen).feed_data(HEAD)
    assert seen.specials == [(Field.HOST, b"a", 1), (Field.CONTENT_LENGTH, b"3", 3), (Field.VIA, b"1.1 b", 5)]
    assert len(seen.count) == 5


def test_a_judge_needs_nobody_to_listen() -> None:
    httptools.HttpRequestParser(NOTHING).feed_data(HEAD)


def test_the_members_of_a_list_are_read_without_case_and_space() -> None:
    assert tokens(b"Close") == {b"close"}
    assert tokens(b" Keep-Alive ,\tX-Foo, ") == {b"keep-alive", b"x-foo", b""}


def test_connection_cannot_name_what_frames_or_addresses_the_message() -> None:
    never = {b"", b"close", b"keep-alive", b"upgrade", b"te", b"host", b"content-length", b"transfer-encoding"}
    assert hop_by_hop(never | {b"x-foo", b"authorization"}) == {b"x-foo", b"authorization"}


def test_framing_is_taken_out_and_nothing_else() -> None:
    lines = [b"HTTP/1.1 200 OK", b"A: 1", b"CONTENT-length: 5", b"Transfer-Encoding:chunked", b"Content-Lengths: 5", b"A: 2"]
    assert without_framing(lines) == [b"HTTP/1.1 200 OK", b"A: 1", b"Content-Lengths: 5", b"A: 2"]


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n"]), max_size=12).map(b"".join), st.data())
def test_a_bare_line_feed_is_found_however_it_comes(data: bytes, draw: st.DataObject) -> None:
    there = re.search(rb"(?<!\r)\n", data) is not None
    checked = draw.draw(st.integers(0, len(data)))
    if not re.search(rb"(?<!\r)\n", data[:checked]):
        assert has_bare_line_feed(data, checked) is there
    assert has_bare_line_feed(data) is there
