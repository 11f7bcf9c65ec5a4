import re
from collections.abc import Callable

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.traffic.wire.fields import Field
from sidecar.traffic.wire.head import NOTHING, Seen, has_bare_line_feed, hop_by_hop, tokens, without_framing
from sidecar.traffic.wire.request_head import RequestHead, parse_request
from sidecar.traffic.wire.response_head import ResponseHead, _parse_common, parse_response
from tests.traffic.wire.stand import OK, Stand, request, turns

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


# Content-Length (RFC 9110 section 8.6): digits alone, leading zeros among them; equal members of a list are one

LENGTHS = [
    (b"0", 0), (b"5", 5), (b"00", 0), (b"007", 7), (b"0000000000000000000005", 5), (b"5, 5", 5), (b"5 ", 5),
    (b"+5", None), (b"-5", None), (b"5, 6", None), (b"5, 05", None), (b"5,", None), (b"", None), (b"5 5", None), (b"5_5", None),
    (b"0x5", None), (b"5.0", None), (b"\xb2", None), (b"5\x00", None), (b"9" * 40, None),
]  # fmt: skip


def verdict(read: Callable[[], RequestHead | ResponseHead]) -> tuple[int | None, str]:
    """The length, or the code of the refusal."""
    try:
        return read().length, ""
    except Refused as refused:
        return None, refused.code


@pytest.mark.parametrize(("value", "length"), LENGTHS)
def test_a_length_means_the_same_in_a_request_and_in_a_response(value: bytes, length: int | None) -> None:
    head = b"\r\nContent-Length: " + value + b"\r\nA: 1\r\n\r\n"
    told = (length, "" if length is not None else "bad_content_length")
    assert verdict(lambda: parse_request(b"POST / HTTP/1.1\r\nHost: a" + head, max_count=9, max_url_bytes=99)) == told
    common = _parse_common(b"HTTP/1.1 200 OK" + head, 9)
    assert common is None or common.length == length
    for status in (b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"):  # the second is always read in full
        told = (length, "" if length is not None else "upstream_malformed")
        assert verdict(lambda status=status: parse_response(status + head, method=b"GET", max_count=9)) == told


@pytest.mark.parametrize("before", [b"", b"5", b"55", b"555"], ids=["first", "in-other-places", "in-the-same-places", "behind"])
@pytest.mark.parametrize(("value", "length"), LENGTHS)
async def test_a_length_means_the_same_in_the_first_request_and_in_every_other(
    value: bytes, length: int | None, before: bytes
) -> None:
    wire = Stand()
    far, near = wire.connection(), wire.client()
    if before:
        for _ in range(2):
            near.says(request(b"POST", b"/llm/x", b"Content-Length: " + before) + b"x" * int(before))
            far.takes()
            far.says(OK)
            near.takes()
    near.says(request(b"POST", b"/llm/x", b"Content-Length: " + value) + b"x" * (length or 0))
    await turns()
    if length is None:
        assert far.takes() == b""
        assert set(wire.refused) <= {"bad_content_length", "bad_header"} and wire.refused
    else:
        assert b"\r\nContent-Length: %d\r\n" % length in far.takes(), "what goes on is always written alike"
        far.says(OK)
        assert near.takes().endswith(b"ok")
        assert wire.exchanges[-1].request_bytes == length
    await wire.stops()
