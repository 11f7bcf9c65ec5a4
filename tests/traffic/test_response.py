from typing import Any

import pytest

from sidecar.model.errors import Refused
from sidecar.traffic.response import Response
from sidecar.traffic.wire.response_head import ResponseHead, parse_response


class Source:
    """Counts the responses that nobody wants."""

    def __init__(self) -> None:
        self.dropped: list[Response] = []

    def drop(self, response: Response) -> None:
        self.dropped.append(response)


def received(
    head: bytes = b"HTTP/1.1 404 Never Heard\r\nX-One: 1\r\nDate: now\r\nContent-Length: 5\r\n\r\n",
) -> tuple[Response, Source, ResponseHead]:
    source = Source()
    parsed: Any = parse_response(head, method=b"GET", max_count=10)
    return Response.received(parsed, source), source, parsed


def test_a_response_that_a_filter_makes_needs_a_status_only() -> None:
    response = Response(204)
    assert (response.status, response.status_line, response.fields, response.content, response.head) == (
        204,
        b"204 ",
        [],
        b"",
        None,
    )
    response = Response(429, "Too Many Requests", [b"Retry-After: 1"], b"later")
    assert (response.status_line, response.fields, response.content) == (b"429 Too Many Requests", [b"Retry-After: 1"], b"later")


def test_two_responses_do_not_share_their_fields() -> None:
    first, second = Response(200), Response(200)
    first.fields.append(b"A: b")
    assert second.fields == []


def test_a_received_response_shows_what_came() -> None:
    response, source, head = received()
    assert response.status == 404
    assert response.status_line == b"404 Never Heard"
    assert b"X-One: 1" in response.fields
    assert not any(b"HTTP/1.1" in line for line in response.fields)
    assert response.head is head
    assert response.content == b""
    assert source.dropped == []


def test_stages_stand_in_the_order_in_which_they_were_put() -> None:
    response = Response(200)
    stages: list[Any] = [object(), object()]
    assert not response.stages
    for stage in stages:
        response.through(stage)
    assert list(response.stages) == stages


def test_a_response_is_dropped_once() -> None:
    response, source, _head = received()
    response.drop()
    response.drop()
    assert source.dropped == [response]


def test_what_has_no_source_is_dropped_without_harm() -> None:
    response = Response(200)
    response.drop()
    assert response.status == 200


@pytest.mark.parametrize(
    ("head", "method", "has_content"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"GET", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET", False),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"GET", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"GET", False),
    ],
)
def test_a_filter_is_told_where_no_body_will_come(head: bytes, method: bytes, has_content: bool) -> None:
    response = Response.received(parse_response(head, method=method, max_count=10), Source())
    assert response.has_content is has_content


def test_what_a_filter_makes_has_the_content_that_it_gives() -> None:
    assert Response(200, content=b"x").has_content
    assert not Response(204).has_content


async def test_a_response_that_a_filter_made_is_whole_and_one_that_was_dropped_is_not() -> None:
    made = Response(200, content=b"hello")
    assert await made.whole(5) == b"hello"
    assert await made.whole(4) is None
    response, _, _ = received()
    response.drop()
    with pytest.raises(Refused, match="given_up"):
        await response.whole(5)
