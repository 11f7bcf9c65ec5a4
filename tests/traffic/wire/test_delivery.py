"""Whatever a filter writes, the message that goes out is one message, framed as its body is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.response import Response
from sidecar.traffic.wire.delivery import count_failed, end_stages, made_head, received_head, take_fields
from sidecar.traffic.wire.response_head import ResponseHead, parse_response

SIZED = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 5\r\nX-Two: 2\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: a\r\n\r\n"


class Stage:
    def data(self, chunk: bytes) -> bytes:
        return chunk

    def end(self, error: str) -> bytes:
        return b""


class Source:
    def drop(self, response: Response) -> None: ...


class Listener:
    """What is counted, it counts."""

    def __init__(self) -> None:
        self.runtime = Runtime()

    @property
    def failures(self) -> int:
        return sum(family.name == "traffic.stages.failures" for family in self.runtime.metrics)


def received(head: bytes, method: bytes = b"GET") -> Response:
    return Response.received(parse_response(head, method=method, max_count=20), Source())


def lines(response: Response, method: bytes = b"GET", *, is_1_1: bool = True) -> list[bytes]:
    head, _framing = received_head(response, is_head=method == b"HEAD", is_1_1=is_1_1)
    return head.lines[1:]


def test_what_a_filter_leaves_alone_keeps_its_order() -> None:
    assert lines(received(SIZED)) == [b"X-One: 1", b"Content-Length: 5", b"X-Two: 2"]


@pytest.mark.parametrize("field", [b"Content-Length: 99", b"content-length:4", b"Transfer-Encoding: chunked"])
def test_a_length_that_a_filter_writes_is_the_wires(field: bytes) -> None:
    response = received(SIZED)
    response.fields = [b"X-Three: 3", field]
    assert lines(response) == [b"X-Three: 3", b"Content-Length: 5"]
    response = received(EMPTY)
    response.fields.append(field)
    assert lines(response) == [b"Content-Length: 0"]


def test_a_length_that_a_filter_takes_away_comes_back() -> None:
    response = received(SIZED)
    response.fields = []
    assert lines(response) == [b"Content-Length: 5"]


def test_with_a_stage_nobody_knows_the_length() -> None:
    for head in (SIZED, CHUNKED):
        response = received(head)
        response.through(Stage())
        assert lines(response)[-1] == b"Transfer-Encoding: chunked"
        assert sum(b"ength" in line or b"coding" in line for line in lines(received(SIZED))) == 1
        response = received(head)
        response.through(Stage())
        one, framing = received_head(response, is_head=False, is_1_1=False)
        assert framing.ends_with_connection
        assert one.length < 0, "so that a cut is a reset"
        assert not any(line.startswith((b"Content-Length", b"Transfer-Encoding")) for line in one.lines)


@pytest.mark.parametrize(
    ("head", "method", "stage", "expected"),
    [
        (SIZED, b"HEAD", False, b"Content-Length: 5"),
        (SIZED, b"HEAD", True, b""),
        (CHUNKED, b"HEAD", False, b""),
        (NOT_MODIFIED, b"GET", False, b"Content-Length: 5"),
        (NOT_MODIFIED, b"GET", True, b""),
        (NO_CONTENT, b"GET", True, b""),
        (EMPTY, b"GET", True, b"Content-Length: 0"),
    ],
)
def test_a_response_without_a_body_says_no_length_that_is_not_true(
    head: bytes, method: bytes, stage: bool, expected: bytes
) -> None:
    response = received(head, method)
    if stage:
        response.through(Stage())
    framing = [line for line in lines(response, method) if line.startswith((b"Content-Length", b"Transfer-Encoding"))]
    assert framing == ([expected] if expected else [])


def test_a_status_may_change_but_not_whether_there_is_a_body() -> None:
    response = received(SIZED)
    response.status = 404
    head, _ = received_head(response, is_head=False, is_1_1=True)
    assert (head.status, head.status_line) == (404, b"404 ")
    response = received(SIZED)
    response.status, response.status_line = 404, b"404 Not Here"
    assert received_head(response, is_head=False, is_1_1=True)[0].status_line == b"404 Not Here"
    for status in (204, 304):
        response = received(SIZED)
        response.status = status
        with pytest.raises(Refused, match="policy_failed"):
            lines(response)


@pytest.mark.parametrize("head", [NO_CONTENT, NOT_MODIFIED])
def test_what_had_no_body_gets_an_empty_one_where_its_new_status_has_one(head: bytes) -> None:
    response = received(head)
    response.status = 200
    assert lines(response)[-1] == b"Content-Length: 0"
    assert sum(b"Content-Length" in line for line in lines(received(head))) <= 1


def test_what_belongs_to_one_hop_does_not_pass() -> None:
    response = received(SIZED)
    response.fields += [b"Connection: close", b"keep-alive: 5", b"Upgrade: h2c", b"TE: trailers", b"date: then"]
    head, _ = received_head(response, is_head=False, is_1_1=True)
    assert head.lines[1:] == [b"X-One: 1", b"Content-Length: 5", b"X-Two: 2", b"date: then"]
    assert head.has_date
    response = received(b"HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 5\r\n\r\n")
    response.fields = response.fields[1:]
    assert not received_head(response, is_head=False, is_1_1=True)[0].has_date


BAD_FIELDS: list[Any] = [
    [b"X: 1\r\nSet-Cookie: evil"], [b"X: 1\nY: 2"], [b"X\r: 1"], [b"no colon"], [b": 1"], [b"X Y: 1"], [b"X : 1"], [b"X: \x00"], [""],
    ["X: 1"], [7], [bytearray(b"X: 1")], None, 7,
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD_FIELDS)
def test_no_line_of_a_filter_becomes_two(fields: Any) -> None:
    made = Response(200)
    made.fields = fields
    with pytest.raises(Refused, match="policy_failed"):
        made_head(made, b"", method=b"GET")
    response = received(SIZED)
    response.fields = fields
    with pytest.raises(Refused, match="policy_failed"):
        lines(response)


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 1000, -1, "200", None])
def test_a_filter_makes_final_statuses_only(status: Any) -> None:
    made = Response(200)
    made.status = status
    with pytest.raises(Refused, match="policy_failed"):
        made_head(made, b"", method=b"GET")


def test_a_reason_is_one_line() -> None:
    with pytest.raises(Refused, match="policy_failed"):
        made_head(Response(200, "OK\r\nX: 1"), b"", method=b"GET")


@pytest.mark.parametrize(("status", "length"), [(200, b"Content-Length: 0"), (204, b""), (304, b"")])
def test_what_a_filter_makes_is_framed_by_its_status(status: int, length: bytes) -> None:
    made = Response(status, "", [b"Content-Length: 7", b"Connection: close"])
    assert made_head(made, b"", method=b"GET").lines == [b"", *([length] if length else [])]
    if status != 200:
        with pytest.raises(Refused, match="policy_failed"):
            made_head(made, b"body", method=b"GET")


def test_a_filter_makes_no_tunnel_and_no_body_of_anything_but_bytes() -> None:
    with pytest.raises(Refused, match="policy_failed"):
        made_head(Response(200), b"", method=b"CONNECT")
    assert made_head(Response(403), b"no", method=b"CONNECT").lines[-1] == b"Content-Length: 2"
    text: Any = "text"
    with pytest.raises(Refused, match="policy_failed"):
        made_head(Response(200), text, method=b"GET")


def test_an_upstreams_own_head_is_not_judged_again() -> None:
    response = received(b"HTTP/1.1 799 Odd\r\nX-Odd: \x80\r\nContent-Length: 0\r\n\r\n")
    head = response.head
    assert head is not None
    take_fields(head, response)
    assert (head.status_line, head.lines[1]) == (b"799 Odd", b"X-Odd: \x80")


def test_a_stage_that_fails_at_the_end_of_a_response_is_counted_and_one_that_refuses_is_not() -> None:
    class Fails(Stage):
        def end(self, error: str) -> bytes:
            raise ValueError

    listener: Any = Listener()
    made = Response(200)
    made.through(Fails())
    assert end_stages(listener, made, "client_gone") == b""
    assert listener.failures == 1
    assert end_stages(listener, made, "client_gone") == b""
    other: Any = Listener()
    count_failed(other, Refused("stopped"))
    assert other.failures == 0


FIELDS = st.lists(
    st.sampled_from([b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X: y", b"Connection: close", b"content-length: 3"]),
    max_size=4,
)


@given(st.sampled_from([SIZED, EMPTY, CHUNKED, NO_CONTENT, NOT_MODIFIED]), FIELDS, st.sampled_from([200, 204, 304, 404]),
       st.sampled_from([b"GET", b"HEAD"]), st.booleans(), st.booleans())  # fmt: skip
def test_whatever_a_filter_changes_the_client_finds_the_end_where_the_wire_puts_it(
    head: bytes, fields: list[bytes], status: int, method: bytes, has_stage: bool, is_1_1: bool
) -> None:
    response = received(head, method)
    came = response.head
    assert came is not None
    length = came.length
    response.fields, response.status = fields, status
    if has_stage:
        response.through(Stage())
    try:
        out, framing = received_head(response, is_head=method == b"HEAD", is_1_1=is_1_1)
    except Refused:
        assert status in (204, 304) and length != 0
        return
    wire = b"HTTP/1.1 " + out.status_line + b"\r\n".join([b"", *out.lines[1:], b"", b""])
    seen: ResponseHead = parse_response(wire, method=method, max_count=20)
    if framing.wraps:
        assert seen.length == -2
    elif framing.ends_with_connection:
        assert seen.length == -1
    else:
        assert seen.length == length
