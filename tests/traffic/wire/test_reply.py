import pytest

from sidecar.traffic.wire.head import CHUNKED, UNTIL_CLOSE
from sidecar.traffic.wire.reply import AS_IT_CAME, Framing, Signature, interim, reframe, reply_head, upgraded
from sidecar.traffic.wire.response_head import ResponseHead, parse_response

SIGNATURE = Signature(b"Via: 1.1 us", b"Via: 1.0 us", b"now")


def parsed(*fields: bytes, start: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    return parse_response(b"\r\n".join([start, *fields, b"", b""]), method=method, max_count=20)


def replied(head: ResponseHead, *, keeps_alive: bool = True, is_1_1: bool = True) -> bytes:
    return reply_head(head, SIGNATURE, keeps_alive=keeps_alive, is_1_1=is_1_1)


def test_a_common_head_goes_on_as_it_came_with_via_and_date() -> None:
    assert (
        replied(parsed(b"A: 1", b"Content-Length: 5"))
        == b"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 5\r\nVia: 1.1 us\r\nDate: now\r\n\r\n"
    )
    assert (
        replied(parsed(b"Content-Length: 5", b"Date: x"))
        == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: x\r\nVia: 1.1 us\r\n\r\n"
    )


def test_an_old_upstream_is_answered_in_our_version_and_told_in_via() -> None:
    assert replied(parsed(b"Content-Length: 5", start=b"HTTP/1.0 200 Fine")) == (
        b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nVia: 1.0 us\r\nDate: now\r\n\r\n"
    )


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"])
def test_connection_says_what_is_not_the_default_of_the_clients_version(start: bytes) -> None:
    def of(*, keeps_alive: bool, is_1_1: bool) -> bytes:
        return replied(parsed(b"Content-Length: 5", start=start), keeps_alive=keeps_alive, is_1_1=is_1_1)

    assert b"Connection" not in of(keeps_alive=True, is_1_1=True)
    assert of(keeps_alive=True, is_1_1=False).endswith(b"\r\nConnection: keep-alive\r\n\r\n")
    assert of(keeps_alive=False, is_1_1=True).endswith(b"\r\nConnection: close\r\n\r\n")
    assert of(keeps_alive=False, is_1_1=False).endswith(b"\r\nConnection: close\r\n\r\n")


def test_an_interim_response_has_no_framing() -> None:
    head = parsed(b"Link: </a>", b"Content-Length: 0", start=b"HTTP/1.1 103 Early Hints")
    assert interim(head, SIGNATURE) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nVia: 1.1 us\r\n\r\n"
    old = parsed(start=b"HTTP/1.0 103 x")
    assert interim(old, SIGNATURE) == b"HTTP/1.1 103 x\r\nVia: 1.0 us\r\n\r\n"


def test_an_upgrade_names_what_the_upstream_chose() -> None:
    head = parsed(b"Connection: upgrade", b"Upgrade: b", b"A: 1", start=b"HTTP/1.1 101 Switching")
    assert upgraded(head, b"a, b", SIGNATURE) == (
        b"HTTP/1.1 101 Switching\r\nA: 1\r\nConnection: Upgrade\r\nUpgrade: b\r\nVia: 1.1 us\r\n\r\n"
    )
    silent = ResponseHead()
    silent.status_line, silent.lines = b"101 Switching", [b""]
    assert b"\r\nUpgrade: a\r\n" in upgraded(silent, b"a", SIGNATURE)


WRAPPED = Framing(relays=False, wraps=True)
CLOSED = Framing(relays=False, ends_with_connection=True)


@pytest.mark.parametrize(
    ("fields", "is_1_1", "content_only", "framing", "left"),
    [
        ((b"Transfer-Encoding: chunked",), True, False, AS_IT_CAME, [b"Transfer-Encoding: chunked"]),
        ((b"Transfer-Encoding: chunked",), True, True, WRAPPED, [b"Transfer-Encoding: chunked"]),
        ((b"Transfer-Encoding: chunked",), False, False, CLOSED, []),
        ((b"Transfer-Encoding: chunked",), False, True, CLOSED, []),
        ((), True, False, WRAPPED, [b"Transfer-Encoding: chunked"]),
        ((), False, False, CLOSED, []),
        ((b"Content-Length: 5",), True, True, WRAPPED, [b"Transfer-Encoding: chunked"]),
        ((b"Content-Length: 5",), False, True, CLOSED, []),
        ((b"Content-Length: 0",), True, True, AS_IT_CAME, [b"Content-Length: 0"]),
    ],
)
def test_a_body_is_framed_for_its_client(
    fields: tuple[bytes, ...], is_1_1: bool, content_only: bool, framing: Framing, left: list[bytes]
) -> None:
    head = parsed(b"A: 1", *fields)
    head.take_apart()
    assert reframe(head, is_1_1=is_1_1, content_only=content_only) == framing
    assert head.lines[1:] == [b"A: 1", *left]


@pytest.mark.parametrize(
    ("fields", "start", "method", "left"),
    [
        ((b"Content-Length: 5",), b"HTTP/1.1 304 x", b"GET", [b"Content-Length: 5"]),
        ((b"Content-Length: 5",), b"HTTP/1.1 200 x", b"HEAD", [b"Content-Length: 5"]),
        ((b"Content-Length: 5",), b"HTTP/1.1 204 x", b"GET", []),
        ((b"Transfer-Encoding: chunked",), b"HTTP/1.1 204 x", b"GET", []),
        ((b"Transfer-Encoding: chunked",), b"HTTP/1.1 304 x", b"GET", []),
        ((b"Transfer-Encoding: chunked",), b"HTTP/1.1 200 x", b"HEAD", []),
    ],
)
def test_what_has_no_body_keeps_only_the_length_that_it_may_tell(
    fields: tuple[bytes, ...], start: bytes, method: bytes, left: list[bytes]
) -> None:
    head = parsed(*fields, start=start, method=method)
    assert reframe(head, is_1_1=True) == AS_IT_CAME
    assert head.lines[1:] == left


def test_the_upstreams_framing_is_still_known_afterwards() -> None:
    head = parsed(b"Transfer-Encoding: chunked")
    reframe(head, is_1_1=False)
    assert head.length == CHUNKED
    head = parsed()
    reframe(head, is_1_1=False)
    assert head.length == UNTIL_CLOSE
