"""Who reads the calls that begin with one head."""

import gzip
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.model.asked import Asked, ModelAsked
from sidecar.model.change import Clamp
from sidecar.model.facts import Mode
from sidecar.traffic.copying import MOST_BYTES
from sidecar.traffic.inspector import Inspector, asks_for_card, inspector_of
from sidecar.traffic.room import Room
from sidecar.traffic.router import Route
from sidecar.traffic.spec import RouteSpec
from sidecar.traffic.wire.request_head import parse_request
from tests.traffic.wire import parrot

PARROT = "tests.traffic.wire.parrot"


def found(
    target: str = "/v1/say?a=1", *fields: bytes, method: bytes = b"POST", dialect: str = PARROT, most_bytes: int = 1000,
    content: bool = False,
) -> Inspector | None:  # fmt: skip
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target.encode()), b"Host: llm.test", *fields, b"", b""])
    request = parse_request(head, max_count=50, max_url_bytes=1000)
    route: Any = SimpleNamespace(
        upstream=SimpleNamespace(config=SimpleNamespace(dialect=dialect, provider="acme")), spec=RouteSpec(upstream="x", content=content)
    )
    way: Any = SimpleNamespace(route=route, target=target.encode(), host="llm.test", mode=Mode.FORWARD)
    return inspector_of(request, way, most_bytes=most_bytes, pricer=None, room=Room(1 << 20))


def inspector(*fields: bytes, **route: Any) -> Inspector:
    one = found("/v1/say", *fields, **route)
    assert one is not None
    return one


def test_the_dialect_sees_the_head_as_the_upstream_does() -> None:
    one = found("/v1/say?a=1", b"X-One:  1 ", b"x-one: 2")
    assert one is not None
    heading = one.heading
    assert (heading.method, heading.path, heading.query, heading.host) == ("POST", "/v1/say", "a=1", "llm.test")
    assert (heading.provider, heading.fields["x-one"]) == ("acme", "1, 2")
    assert one.most_bytes == 1000


@pytest.mark.parametrize(
    ("target", "fields", "options"),
    [
        ("/v1/other", (), {}),
        ("/v1/say", (), {"dialect": "plain"}),
        ("/v1/say", (), {"most_bytes": 0}),
        ("/v1/say", (b"Connection: upgrade", b"Upgrade: websocket"), {}),
    ],
    ids=["unknown path", "plain", "switched off", "upgrade"],
)
def test_nobody_reads_what_nobody_knows(target: str, fields: tuple[bytes, ...], options: dict[str, Any]) -> None:
    assert found(target, *fields, **options) is None


def test_a_guess_is_collected_for_a_short_body_only() -> None:
    one = found("/anything", b"Content-Type: application/json", dialect="auto", most_bytes=1 << 20)
    assert one is not None
    assert one.most_bytes == 64 * 1024
    assert one.read(b'{"no": "message"}') == (None, "")


@pytest.mark.parametrize(
    ("fields", "body", "why"),
    [
        ((), b"broken", "unreadable"),
        ((b"Content-Encoding: gzip",), b"no gzip", "broken"),
        ((b"Content-Encoding: compress",), b"x", "unknown_coding"),
    ],
)
def test_what_cannot_be_read_is_still_a_call_of_its_kind(fields: tuple[bytes, ...], body: bytes, why: str) -> None:
    asked, unread = inspector(*fields).read(body)
    assert (asked, unread) == (ModelAsked("parrot", "say", provider="acme"), why)


def test_an_unread_call_to_a_tool_is_none_to_a_model() -> None:
    one = found("/mcp", b"Content-Type: application/json", b"Accept: application/json, text/event-stream", dialect="auto")
    assert one is not None
    assert type(one.unread()) is Asked


def test_a_change_is_made_or_told_why_not() -> None:
    asked = ModelAsked("parrot", "chat")
    assert inspector().edit(asked, b"x", Clamp(5)) == (b"x max=5", "")
    assert inspector().edit(asked, b"x", Clamp(-1)) == (b"x", "not_taken")
    assert inspector(b"Content-Encoding: gzip").edit(asked, b"x", Clamp(5)) == (b"x", "coded")
    assert inspector(b"Content-MD5: x").edit(asked, b"x", Clamp(5)) == (b"x", "signed")
    assert inspector(b"Authorization: Bearer x").edit(asked, b"x", Clamp(5)) == (b"x max=5", "")


@pytest.mark.parametrize(
    ("target", "fields", "is_signed"),
    [
        ("/v1/say", (), False),
        ("/v1/say", (b"Authorization: Bearer x, y",), False),
        ("/v1/say", (b"Authorization: Basic x",), False),
        ("/v1/say", (b"Authorization: AWS4-HMAC-SHA256 Credential=x",), True),
        ("/v1/say", (b"Authorization: AWS4-HMAC-SHA256 Credential=x", b"Authorization: Bearer x"), True),
        ("/v1/say", (b'Authorization: Signature version="1",keyId="x"',), True),
        ("/v1/say", (b"x-content-sha256: x",), True),
        ("/v1/say", (b"Trailer: Content-Digest",), True),
        ("/v1/say?X-Amz-Signature=x", (), True),
    ],
)
def test_what_is_signed_is_known_in_all_its_forms(target: str, fields: tuple[bytes, ...], is_signed: bool) -> None:
    one = found(target, *fields)
    assert one is not None
    assert one.is_signed is is_signed


def test_a_route_that_says_nothing_reads_and_counts() -> None:
    spec = Route.__init__.__kwdefaults__["spec"]
    assert (spec.usage_on, spec.include_usage, spec.trace_in_meta) == ("sidecar", True, True)


@pytest.mark.parametrize(
    ("target", "is_one"),
    [
        (b"/.well-known/agent-card.json", True),
        (b"/agents/one/.well-known/agent-card.json?A2A-Version=1.0", True),
        (b"/.well-known/agent.json", True),
        (b"/.well-known/other.json", False),
        (b"/x?/.well-known/agent-card.json", False),
    ],
)
def test_a_card_is_told_by_its_path(target: bytes, is_one: bool) -> None:
    assert asks_for_card(target) is is_one


def test_a_dialect_that_fails_costs_the_reading_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    one = inspector()
    for question in ("request", "edit", "operation"):
        monkeypatch.setattr(parrot, question, fails)
    assert one.read(b"hello")[1] == "failed"
    assert one.edit(ModelAsked("parrot", "chat"), b"x", Clamp(5)) == (b"x", "failed")
    assert found() is None
    assert [record.getMessage().split(" failed ")[1] for record in caplog.records] == [
        "to read a request", "to change a request", "to recognise a request",
    ]


def test_an_upstream_of_somebody_elses_need_not_know_what_a_dialect_is() -> None:
    config = SimpleNamespace()
    route: Any = SimpleNamespace(upstream=SimpleNamespace(config=config), spec=RouteSpec(upstream="x"))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\r\n"
    request = parse_request(head, max_count=50, max_url_bytes=1000)
    way: Any = SimpleNamespace(route=route, target=b"/v1/chat/completions", host="a", mode=Mode.FORWARD)
    one = inspector_of(request, way, most_bytes=1000, pricer=None, room=Room(1 << 20))
    assert one is not None
    assert one.dialect.name == "openai"


def test_content_is_collected_from_the_beginning_of_a_decoded_body() -> None:
    asked = ModelAsked("parrot", "chat")
    for body, fields in ((b"hello", ()), (gzip.compress(b"hello"), (b"Content-Encoding: gzip",))):
        content = inspector(*fields).content(asked, body, b"hi", "text/plain")
        assert content is not None
        assert (content.input[0].parts[0].text, content.output[0].parts[0].text, content.is_cut) == ("hello", "hi", False)
    content = inspector().content(asked, b"a" * (MOST_BYTES + 1), b"", "")
    assert content is not None
    assert (len(content.input[0].parts[0].text), content.is_cut) == (MOST_BYTES, True)
    content = inspector(b"Content-Encoding: gzip").content(asked, b"no gzip", b"hi", "")
    assert content is not None
    assert (content.input[0].parts[0].text, content.is_cut) == ("", True)
