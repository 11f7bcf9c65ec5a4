import json

import httptools
import pytest

from sidecar.model.errors import CODES, Refused
from sidecar.traffic.wire.answer import _REASONS, CONTINUE, answer_here, error_response, tunnel_opened

DATE, VIA = b"Fri, 20 Nov 2026 10:00:00 GMT", b"Via: 1.1 agent-sre-1"


class Heard:
    """What a strict parser makes of a response."""

    def __init__(self, response: bytes) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.body = b""
        self.is_over = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(response)
        self.status: int = parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name not in self.fields
        self.fields[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_over = True


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_error_says_so_in_a_whole_response(code: str) -> None:
    heard = Heard(error_response(Refused(code, "why it was"), date=DATE, via=VIA, keep_alive=True, is_head=False))
    meaning = CODES[code]
    assert heard.is_over
    assert b"connection" not in heard.fields
    assert heard.status == meaning.status
    assert heard.fields[b"x-sidecar-error"] == code.encode()
    assert heard.fields[b"x-should-retry"] == (b"true" if meaning.retry else b"false")
    assert heard.fields[b"date"] == DATE
    assert heard.fields[b"via"] == VIA[5:]
    assert (heard.fields.get(b"retry-after") == b"1") == (meaning.status == 503 and meaning.retry)
    assert (b"proxy-authenticate" in heard.fields) is (meaning.status == 407)
    assert json.loads(heard.body)["error"]["code"] == code


def test_every_status_of_the_table_has_its_reason() -> None:
    assert {code.status for code in CODES.values()} - {499} <= set(_REASONS)


def test_an_error_that_ends_the_connection_says_so() -> None:
    refused = Refused("bad_chunk")
    heard = Heard(error_response(refused, date=DATE, via=VIA, keep_alive=False, is_head=False))
    assert heard.fields[b"connection"] == b"close"


def test_an_error_to_head_has_no_body_but_its_length() -> None:
    refused = Refused("route_unknown", "no")
    whole = error_response(refused, date=DATE, via=VIA, keep_alive=True, is_head=False)
    head = error_response(refused, date=DATE, via=VIA, keep_alive=True, is_head=True)
    assert head.endswith(b"\r\n\r\n")
    assert whole.startswith(head)
    assert int(Heard(whole).fields[b"content-length"]) == len(whole) - len(head)


@pytest.mark.parametrize(("wait_s", "shown"), [(0.2, b"1"), (1.0, b"1"), (1.01, b"2"), (90.0, b"90")])
def test_retry_after_is_whole_seconds_rounded_up(wait_s: float, shown: bytes) -> None:
    refused = Refused("too_many_connections", retry_after_s=wait_s)
    assert Heard(error_response(refused, date=DATE, via=VIA, keep_alive=True, is_head=False)).fields[b"retry-after"] == shown


def test_continue_and_connect_have_no_framing() -> None:
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert tunnel_opened(VIA) == b"HTTP/1.1 200 Connection established\r\n" + VIA + b"\r\n\r\n"


@pytest.mark.parametrize("keep_alive", [True, False])
def test_options_about_the_sidecar_itself_has_no_content(keep_alive: bool) -> None:
    status, answer = answer_here(b"OPTIONS", [b"OPTIONS * HTTP/1.1"], date=DATE, via=VIA, keep_alive=keep_alive)
    heard = Heard(answer)
    assert status == heard.status == 204
    assert heard.is_over
    assert (heard.fields.get(b"connection") == b"close") is not keep_alive


def test_trace_gets_back_what_came_but_no_credentials() -> None:
    secret = [b"Authorization: Bearer s", b"COOKIE: s", b"x-api-key: s", b"Api-Key: s", b"X-Goog-Api-Key: s"]
    lines = [b"TRACE /x HTTP/1.1", b"Host: a", *secret, b"X-Other: 1"]
    status, answer = answer_here(b"TRACE", lines, date=DATE, via=VIA, keep_alive=False)
    heard = Heard(answer)
    assert status == heard.status == 200
    assert heard.fields[b"content-type"] == b"message/http"
    assert heard.body == b"TRACE /x HTTP/1.1\r\nHost: a\r\nX-Other: 1\r\n\r\n"
    assert heard.fields[b"connection"] == b"close"
