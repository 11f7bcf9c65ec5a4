import gzip
import json
import logging
import zlib
from typing import Any

import pytest

from sidecar.dialects.agent_card import Address
from sidecar.model.asked import A2aAsked
from sidecar.model.errors import CODES
from sidecar.model.exchange import Exchange
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import Stage as ChainStage
from sidecar.traffic.chain import as_policy
from sidecar.traffic.policies import agent_card
from sidecar.traffic.policies.agent_card import MOST_BYTES, Config, Instead, derived_tag
from sidecar.traffic.response import Response
from sidecar.traffic.wire.request_head import RequestHead
from tests.peers.wire import Message
from tests.scene import FORWARD, Scene, Stage

CARD = b"/.well-known/agent-card.json"
TAG = b'"v1"'


def card_of(scene: Scene, **more: Any) -> bytes:
    url = scene.upstream.url
    return json.dumps({"name": "packer", "url": f"{url}/base/a2a", "provider": {"url": f"{url}/base/"}, **more}).encode()


def served(body: bytes, *fields: bytes, length: bool = True) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: application/json", b"X-Own: 1", *fields]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


async def set_up(stage: Stage, *, mode: str = "gateway", **config: Any) -> Scene:
    scene: Scene = await stage(mode=mode, policies={"agent_card": config}, route={"policies": ["agent_card"]})
    return scene


async def asked(scene: Scene, answer: bytes, *fields: bytes, method: bytes = b"GET", path: bytes = CARD) -> Message:
    await scene.client.sends(scene.request(method, path, *fields))
    await scene.asks(answer)
    return await scene.client.response(to=method)


def counted(scene: Scene) -> dict[str, int]:
    """What became of cards, and how many addresses led elsewhere; zeros left out."""
    found: dict[str, int] = {}
    for family in scene.sidecar.runtime.metrics:
        if family.name.startswith("traffic.policies.agent_card."):
            for labels, counter in family.series.items():
                assert isinstance(counter, Counter)
                found[dict(labels).get("outcome", "elsewhere")] = counter.value
    return {name: value for name, value in found.items() if value}


async def refused(scene: Scene, code: str) -> None:
    """The client is answered with an error of ours, in words of A2A."""
    response = await scene.client.response()
    assert (response.one(b"x-sidecar-error").decode(), response.status) == (code, CODES[code].status)
    assert json.loads(response.body)["error"]["message"].startswith(code)


def url_in(response: Message) -> str:
    url: str = json.loads(response.body)["url"]
    return url


def leads_here(scene: Scene) -> str:
    return f"http://127.0.0.1:{scene.sidecar.port}/llm/a2a"


# the card leads here


@pytest.mark.parametrize("path", [CARD, b"/.well-known/agent.json", CARD + b"?x=1"])
async def test_a_card_leads_to_the_address_under_which_the_client_has_reached_us(stage: Stage, path: bytes) -> None:
    scene = await set_up(stage)
    card = card_of(scene)
    response = await asked(scene, served(card), path=path)
    assert response.body == card.replace(f"{scene.upstream.url}/base/a2a".encode(), leads_here(scene).encode())
    assert response.one(b"x-sidecar-agent-card") == b"rewritten"
    assert response.one(b"x-own") == b"1"
    assert counted(scene) == {"rewritten": 1}
    assert (await scene.sidecar.finished()).error == ""


async def test_another_name_of_ours_stands_in_the_card_of_who_uses_it(stage: Stage) -> None:
    scene = await set_up(stage)
    await scene.client.sends(b"GET /llm" + CARD + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    await scene.asks(served(card_of(scene)))
    assert url_in(await scene.client.response()) == "http://a/llm/a2a"


async def test_a_client_that_names_no_host_gets_the_card_as_it_is(stage: Stage) -> None:
    scene = await set_up(stage)
    card = card_of(scene)
    await scene.client.sends(b"GET /llm" + CARD + b" HTTP/1.0\r\n\r\n")
    await scene.asks(served(card))
    assert (await scene.client.response()).body == card


async def test_a_card_may_come_in_pieces_and_in_chunks(stage: Stage) -> None:
    scene = await set_up(stage)
    card = card_of(scene)
    await scene.client.sends(scene.request(path=CARD))
    far = await scene.upstream.hears()
    await far.request()
    await far.sends(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    for at in range(0, len(card), 9):
        piece = card[at : at + 9]
        await far.sends(b"%x\r\n%b\r\n" % (len(piece), piece))
        await scene.client.saw_nothing(for_s=0.001)
    await far.sends(b"0\r\n\r\n")
    assert url_in(await scene.client.response()) == leads_here(scene)
    await scene.still_works()


async def test_an_http_1_0_client_gets_it_too(stage: Stage) -> None:
    scene = await set_up(stage)
    await scene.client.sends(scene.request(path=CARD, version=b"HTTP/1.0"))
    await scene.asks(served(card_of(scene)))
    assert url_in(await scene.client.response()) == leads_here(scene)


@pytest.mark.parametrize(
    ("coding", "code"),
    [(b"gzip", lambda body: gzip.compress(body, mtime=0)), (b"deflate", zlib.compress), (b"identity", lambda body: body)],
    ids=["gzip", "deflate", "identity"],
)
async def test_a_coded_card_is_decoded_and_says_nothing_of_bytes_that_are_gone(stage: Stage, coding: bytes, code: Any) -> None:
    scene = await set_up(stage)
    fields = (
        b"Content-Encoding: " + coding,
        b"Content-MD5: x",
        b"Digest: x",
        b"Repr-Digest: x",
        b"Content-Digest: x",
        b"Accept-Ranges: bytes",
    )
    response = await asked(scene, served(code(card_of(scene)), *fields))
    assert url_in(response) == leads_here(scene)
    for field in fields:
        assert not response.all(field.partition(b":")[0].lower())


async def test_further_addresses_of_the_agent_and_its_grpc_lead_here_where_the_config_names_them(stage: Stage) -> None:
    scene = await set_up(stage, also=["https://packer.example/v2"], grpc={"packer.example:50051": "127.0.0.1:4143"})
    interfaces = [
        {"url": "https://packer.example/v2/a2a"},
        {"url": "packer.example:50051", "protocolBinding": "GRPC"},
        {"url": "https://elsewhere.example"},
    ]
    response = await asked(scene, served(json.dumps({"supportedInterfaces": interfaces}).encode()))
    urls = [each["url"] for each in json.loads(response.body)["supportedInterfaces"]]
    assert urls == [leads_here(scene), "127.0.0.1:4143", "https://elsewhere.example"]
    assert counted(scene) == {"rewritten": 1, "elsewhere": 1}


async def test_what_leads_past_us_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    scene = await set_up(stage)
    card = b'{"url":"https://elsewhere.example/\\nx"}'
    with caplog.at_level(logging.WARNING):
        response = await asked(scene, served(card, b"ETag: " + TAG))
    assert (response.body, response.one(b"etag")) == (card, TAG)
    assert counted(scene) == {"untouched": 1, "elsewhere": 1}
    assert "'llm' leads past the sidecar: 'https://elsewhere.example/\\nx'" in caplog.text


# what is left alone


async def test_in_forward_mode_and_without_rewrite_a_card_stays_as_it_is(stage: Stage) -> None:
    for scene in (await set_up(stage, mode=FORWARD), await set_up(stage, rewrite=False)):
        card = card_of(scene)
        response = await asked(scene, served(card, b"ETag: " + TAG))
        assert (response.body, response.one(b"etag"), response.all(b"x-sidecar-agent-card")) == (card, TAG, [])
        assert counted(scene) == {}


EXTENDED = [b"/extendedAgentCard", b"/tenant/extendedAgentCard", b"/agent/authenticatedExtendedCard", b"/v1/card"]


@pytest.mark.parametrize("path", EXTENDED)
@pytest.mark.parametrize("named", [True, False], ids=["named", "by default"])
async def test_an_extended_card_by_rest_leads_here_whether_or_not_its_route_names_the_policy(
    stage: Stage, path: bytes, *, named: bool
) -> None:
    scene = await set_up(stage) if named else await stage()
    card = card_of(scene, skills=[], capabilities={})
    response = await asked(scene, served(card, b"ETag: " + TAG), b"Authorization: Bearer x", path=path)
    assert url_in(response) == leads_here(scene)
    assert response.one(b"etag").startswith(b'"v1-')
    known = await asked(scene, served(card, b"ETag: " + TAG), b"If-None-Match: " + response.one(b"etag"), path=path)
    assert (known.status, known.body) == (304, b"")
    assert counted(scene) == {"rewritten": 2}


@pytest.mark.parametrize("path", EXTENDED)
async def test_an_extended_card_that_is_signed_passes_and_says_so(stage: Stage, path: bytes) -> None:
    scene: Scene = await stage()
    card = card_of(scene, skills=[], capabilities={}, signatures=[{"signature": "x"}])
    response = await asked(scene, served(card), path=path)
    assert (response.body, response.one(b"x-sidecar-agent-card")) == (card, b"signed-not-rewritten")


@pytest.mark.parametrize("more", [{}, {"skills": []}, {"skills": {}, "capabilities": {}}, {"signatures": [1]}], ids=range(4))
async def test_what_only_has_the_path_of_an_old_extended_card_is_nobodys_business(stage: Stage, more: dict[str, Any]) -> None:
    scene: Scene = await stage()
    card = card_of(scene, **more)
    response = await asked(scene, served(card, b"ETag: " + TAG), path=b"/v1/card")
    assert (response.body, response.one(b"etag"), response.all(b"x-sidecar-agent-card")) == (card, TAG, [])
    assert counted(scene) == {}


@pytest.mark.parametrize("path", [b"/a2a", CARD + b"/x", b"/agent-card.json"])
async def test_what_is_no_card_stays_as_it_is(stage: Stage, path: bytes) -> None:
    scene = await set_up(stage)
    card = card_of(scene)
    assert (await asked(scene, served(card), path=path)).body == card
    assert counted(scene) == {}


@pytest.mark.parametrize(
    "head", [b"404 Not Found\r\nContent-Type: application/json", b"200 OK\r\nContent-Type: text/html", b"200 OK"]
)
async def test_an_answer_that_holds_no_card_stays_as_it_is(stage: Stage, head: bytes) -> None:
    scene = await set_up(stage)
    card = card_of(scene)
    response = await asked(scene, b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(card), card))
    assert response.body == card
    assert counted(scene) == {}


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ((), b"{"),
        ((), b"[]"),
        ((), b'{"url":"/base/x"}' + MOST_BYTES * b" "),
        ((b"Content-Encoding: gzip",), b'{"url":"/base/x"}'),
        ((b"Content-Encoding: compress",), b'{"url":"/base/x"}'),
        ((b"Content-Encoding: gzip",), gzip.compress(b'{"url":"/base/x"}' + MOST_BYTES * b" ", mtime=0)),
    ],
    ids=["cut", "list", "too large", "not as coded", "unknown coding", "bomb"],
)
async def test_a_card_that_cannot_be_read_passes_and_says_so(stage: Stage, fields: tuple[bytes, ...], body: bytes) -> None:
    scene = await set_up(stage)
    response = await asked(scene, served(body, b"ETag: " + TAG, *fields))
    assert (response.body, response.one(b"etag")) == (body, TAG)
    assert response.one(b"x-sidecar-agent-card") == b"unreadable-not-rewritten"
    assert counted(scene) == {"unreadable": 1}


async def test_an_empty_answer_is_nothing_to_speak_of(stage: Stage) -> None:
    scene = await set_up(stage)
    assert (await asked(scene, served(b""))).body == b""
    assert counted(scene) == {}


# an extended card that is asked for in a body

METHODS = ["GetExtendedAgentCard", "agent/getAuthenticatedExtendedCard"]


async def asks_in_a_body(scene: Scene, card: bytes, method: str, *fields: bytes, split: bool = False) -> Message:
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method}).encode()
    whole = scene.request(b"POST", b"/a2a", b"Content-Type: application/json", *fields, body=body)
    if split:
        await scene.client.sends(whole[:-5])
        await scene.client.saw_nothing(for_s=0.01)
        await scene.client.sends(whole[-5:])
    else:
        await scene.client.sends(whole)
    assert (await scene.asks(served(b'{"jsonrpc":"2.0","id":7,"result":%b}' % card))).body == body
    return await scene.client.response(to=b"POST")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dialect", ["auto", "a2a"])
@pytest.mark.parametrize("policies", [[], ["agent_card"], ["timeout/t"]], ids=["none", "named", "guard"])
@pytest.mark.parametrize("split", [False, True], ids=["at once", "in pieces"])
async def test_an_extended_card_that_is_asked_for_in_a_body_leads_here(
    stage: Stage, method: str, dialect: str, policies: list[str], *, split: bool
) -> None:
    known: dict[str, Any] = {"agent_card": {}, "timeout/t": {"idle": "9s"}}
    scene = await stage(
        upstream={"dialect": dialect}, policies={name: known[name] for name in policies}, route={"policies": policies}
    )
    response = await asks_in_a_body(scene, card_of(scene), method, split=split)
    assert json.loads(response.body)["result"]["url"] == leads_here(scene)
    assert response.one(b"x-sidecar-agent-card") == b"rewritten"
    assert counted(scene) == {"rewritten": 1}
    exchange = await scene.sidecar.finished()
    assert (exchange.status, exchange.error, exchange.request_bytes > 0, len(scene.sidecar.attempts)) == (200, "", True, 1)
    assert isinstance(exchange.dialogue.asked, A2aAsked)
    other = await asks_in_a_body(scene, card_of(scene), "GetTask")
    assert url_in_result(other) == f"{scene.upstream.url}/base/a2a"
    await scene.still_works()


def url_in_result(response: Message) -> str:
    url: str = json.loads(response.body)["result"]["url"]
    return url


async def test_one_that_is_signed_says_so_and_one_that_is_refused_is_an_error_of_json_rpc(stage: Stage) -> None:
    scene: Scene = await stage()
    signed = card_of(scene, signatures=[{"signature": "x"}])
    response = await asks_in_a_body(scene, signed, METHODS[0])
    assert response.one(b"x-sidecar-agent-card") == b"signed-not-rewritten"
    assert response.body == b'{"jsonrpc":"2.0","id":7,"result":%b}' % signed
    scene = await set_up(stage, signed="refuse")
    response = await asks_in_a_body(scene, signed, METHODS[0])
    assert (response.one(b"x-sidecar-error").decode(), json.loads(response.body)["id"]) == (agent_card.REFUSED_AS, 7)


async def test_in_forward_mode_it_stays_as_it_is_too(stage: Stage) -> None:
    scene: Scene = await stage(mode=FORWARD)
    response = await asks_in_a_body(scene, card_of(scene), METHODS[0])
    assert url_in_result(response) == f"{scene.upstream.url}/base/a2a"


async def test_a_client_that_leaves_while_its_card_is_asked_for_is_no_fault(stage: Stage) -> None:
    scene: Scene = await stage()
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": METHODS[0]}).encode()
    await scene.client.sends(scene.request(b"POST", b"/a2a", b"Content-Type: application/json", body=body))
    far = await scene.upstream.hears()
    await far.request()
    scene.client.close()
    await far.saw_end()
    assert (await scene.sidecar.finished()).error == "client_gone"
    assert [attempt.error for attempt in scene.sidecar.attempts] == ["client_gone"]


async def test_the_agent_hears_of_no_conditions_so_that_its_card_comes_whole(stage: Stage) -> None:
    scene: Scene = await stage()
    for path, fields in ((CARD, ()), (b"/extendedAgentCard", ()), (b"/v1/card", (b"If-None-Match: x", b"Range: bytes=0-9"))):
        await scene.client.sends(scene.request(b"GET", path, b"If-None-Match: x", b"Range: bytes=0-9"))
        seen = await scene.asks(served(card_of(scene, skills=[], capabilities={})))
        assert [b": ".join(each) for each in seen.fields if each[0].lower().startswith((b"if-", b"range"))] == list(fields)
        assert url_in(await scene.client.response()) == leads_here(scene)


# signatures


async def test_a_signed_card_passes_untouched_and_says_so(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    scene = await set_up(stage)
    card = gzip.compress(card_of(scene, signatures=[{"protected": "e30", "signature": "x"}]), mtime=0)
    with caplog.at_level(logging.WARNING):
        response = await asked(scene, served(card, b"ETag: " + TAG, b"Content-Encoding: gzip"))
    assert (response.body, response.one(b"etag"), response.one(b"content-encoding")) == (card, TAG, b"gzip")
    assert response.one(b"content-length") == b"%d" % len(card)
    assert response.one(b"x-sidecar-agent-card") == b"signed-not-rewritten"
    assert counted(scene) == {"signed": 1}
    assert "is signed, and passes" in caplog.text


async def test_a_signed_card_is_refused_where_the_config_says_so(stage: Stage) -> None:
    scene = await set_up(stage, signed="refuse")
    await scene.client.sends(scene.request(path=CARD))
    await scene.asks(served(card_of(scene, signatures=[{"signature": "x"}])))
    await refused(scene, agent_card.REFUSED_AS)
    assert counted(scene) == {"signed": 1}
    response = await asked(scene, served(card_of(scene)))
    assert url_in(response) == leads_here(scene)


# validators


@pytest.mark.parametrize("tag", [b'"v1"', b'W/"v1"', b'""'])
async def test_a_rewritten_card_has_a_tag_of_its_own_that_its_client_can_bring_again(stage: Stage, tag: bytes) -> None:
    scene = await set_up(stage)
    answer = served(card_of(scene), b"ETag: " + tag, b"Cache-Control: max-age=60", b"Last-Modified: then")
    ours = (await asked(scene, answer)).one(b"etag")
    assert ours != tag
    assert ours.startswith(tag[:-1] + b"-")
    assert (await asked(scene, answer)).one(b"etag") == ours, "it is stable"
    for told in (ours, b'"x", ' + ours, ours.removeprefix(b"W/"), b"W/" + ours.removeprefix(b"W/")):
        for method in (b"GET", b"HEAD"):
            sent = served(
                card_of(scene) if method == b"GET" else b"",
                b"ETag: " + tag,
                b"Cache-Control: max-age=60",
                length=method == b"GET",
            )
            response = await asked(scene, sent, b"If-None-Match: " + told, method=method)
            assert (response.status, response.one(b"etag"), response.one(b"cache-control")) == (304, ours, b"max-age=60")
            assert not response.body
            assert not response.all(b"content-type")
    newer = served(card_of(scene), b'ETag: "v2"')
    assert (await asked(scene, newer, b"If-None-Match: " + ours)).status == 200
    await scene.sidecar.finished(11)
    assert [exchange.status for exchange in scene.sidecar.exchanges] == [200, 200, *(8 * [304]), 200]
    assert not any(attempt.error for attempt in scene.sidecar.attempts)
    assert len(scene.upstream.taken) <= 1, "the connection is used again"


async def test_the_agents_own_304_passes(stage: Stage) -> None:
    scene = await set_up(stage)
    response = await asked(scene, b"HTTP/1.1 304 Not Modified\r\nETag: " + TAG + b"\r\n\r\n", b"If-None-Match: " + TAG)
    assert (response.status, response.one(b"etag")) == (304, TAG)


async def test_a_card_that_was_not_rewritten_is_revalidated_by_the_agents_own_validators(stage: Stage) -> None:
    scene = await set_up(stage)
    then = b"Sat, 21 Nov 2026 04:00:00 GMT"
    answer = served(card_of(scene, signatures=[{"signature": "x"}]), b"ETag: " + TAG, b"Last-Modified: " + then)
    for field, status in (
        (b"If-None-Match: " + TAG, 304),
        (b"If-None-Match: *", 304),
        (b'If-None-Match: "other"\r\nIf-Modified-Since: ' + then, 200),
        (b"If-Modified-Since: " + then, 304),
        (b"If-Modified-Since: Fri, 20 Nov 2026 04:00:00 GMT", 200),
    ):
        response = await asked(scene, answer, field)
        assert (response.status, response.one(b"etag")) == (status, TAG), field
        assert response.one(b"x-sidecar-agent-card") == b"signed-not-rewritten"
        assert bool(response.body) == (status == 200)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_rewritten_card_is_revalidated_by_its_date_where_the_client_has_no_tag(stage: Stage, method: bytes) -> None:
    scene = await set_up(stage)
    dated = b"Last-Modified: Sat, 21 Nov 2026 04:00:00 GMT"
    answer = served(card_of(scene) if method == b"GET" else b"", dated, length=method == b"GET")
    response = await asked(scene, answer, b"If-Modified-Since" + dated[13:], method=method)
    assert (response.status, response.body) == (304, b"")


async def test_a_part_of_a_card_is_not_rewritten_and_says_so(stage: Stage) -> None:
    scene = await set_up(stage)
    answer = b"HTTP/1.1 206 Partial Content\r\nContent-Type: application/json\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\n{ "
    response = await asked(scene, answer, b"Range: bytes=0-1")
    assert (response.status, response.body, response.one(b"x-sidecar-agent-card")) == (206, b"{ ", b"partial-not-rewritten")
    assert counted(scene) == {"partial": 1}


@pytest.mark.parametrize("field", [b"ETag: v1", b'ETag: "v"1"', b'ETag: w/"v1"', b"X: 1"])
async def test_a_card_without_a_valid_tag_gets_none(stage: Stage, field: bytes) -> None:
    scene = await set_up(stage)
    response = await asked(scene, served(card_of(scene), field), b'If-None-Match: "-"')
    assert (response.status, response.all(b"etag")) == (200, [])


async def test_head_says_nothing_that_only_the_content_tells(stage: Stage) -> None:
    scene = await set_up(stage)
    card = card_of(scene)
    fields = (b"Content-Length: %d" % len(card), b"ETag: " + TAG, b"Content-Encoding: gzip")
    response = await asked(scene, served(b"", *fields, length=False), method=b"HEAD")
    assert (response.status, response.one(b"content-type")) == (200, b"application/json")
    for name in (b"content-length", b"etag", b"content-encoding", b"x-sidecar-agent-card"):
        assert not response.all(name)
    await scene.still_works()


def test_a_tag_stands_for_the_address_too() -> None:
    one = Address("http://a/c", ("http://a",), "http://h/x/")
    others = [
        Address("http://a/c", ("http://a",), "http://g/x/"),
        Address("http://a/c", ("http://a", "http://b"), "http://h/x/"),
        Address("http://a/c", ("http://a",), "http://h/x/", {"a": "b"}),
    ]
    assert len({derived_tag(TAG, each) for each in (one, *others)}) == 4
    assert derived_tag(TAG, Address("http://a/other", ("http://a",), "http://h/x/")) == derived_tag(TAG, one)


# endings


async def test_a_card_that_is_cut_is_an_error_of_the_upstreams(stage: Stage) -> None:
    scene = await set_up(stage)
    await scene.client.sends(scene.request(path=CARD))
    far = await scene.upstream.hears()
    await far.request()
    await far.sends(served(card_of(scene))[:-9])
    far.close()
    await refused(scene, "upstream_cut")
    assert (await scene.sidecar.finished()).error == "upstream_cut"


async def test_a_card_that_stops_coming_ends_with_the_upstreams_idle_timeout(stage: Stage) -> None:
    settings = {"policies": {"agent_card": {}}, "route": {"policies": ["agent_card"]}, "upstream": {"idle_timeout": "80ms"}}
    scene = await stage(**settings)
    await scene.client.sends(scene.request(path=CARD))
    far = await scene.upstream.hears()
    await far.request()
    await far.sends(served(card_of(scene))[:-9])
    await refused(scene, "idle_timeout")


async def test_a_client_that_leaves_meanwhile_is_no_fault(stage: Stage) -> None:
    scene = await set_up(stage)
    await scene.client.sends(scene.request(path=CARD))
    far = await scene.upstream.hears()
    await far.request()
    await far.sends(served(card_of(scene))[:-9])
    scene.client.close()
    await far.saw_end()
    assert (await scene.sidecar.finished()).error == "client_gone"


def test_the_stage_gives_nothing_after_a_cut() -> None:
    assert Instead(b"new").data(b"old") == b""
    assert Instead(b"new").end("") == b"new"
    assert Instead(b"new").end("upstream_cut") == b""


def exchange(asked: A2aAsked | None, method: str = "POST", path: str = "/a2a") -> Exchange:
    passage = Passage(
        listener="http", client="", mode=Mode.GATEWAY, method=method, scheme="http", host="agent", port=9000, path="/llm" + path,
        target="/base" + path, upstream="", route="llm", agent="", task="", purpose=Purpose.LIVE,
    )  # fmt: skip
    made = Exchange(passage, 0, 0, b"", b"", b"", 0, b"")
    made.asked = asked
    made.length = 0

    made.head = RequestHead()
    made.head.lines = [b"POST /llm/a2a HTTP/1.1", b"Host: here"]
    return made


async def answered(asked: A2aAsked | None, body: bytes, method: str = "POST", path: str = "/a2a") -> Response:
    runtime = Runtime()
    runtime.services["traffic.routes"] = {"llm": "/llm/"}
    policy = agent_card.build("agent_card", Config(), runtime)

    async def forward(subject: Any) -> Response:
        return Response(200, "OK", [b"Content-Type: application/json"], body)

    return await policy(exchange(asked, method, path), forward)


async def test_an_extended_card_leads_here_as_well() -> None:
    card, ours = b'{"url":"http://agent:9000/base/x"}', b'{"url":"http://here/llm/x"}'
    rest = A2aAsked("a2a", "GetExtendedAgentCard", binding="HTTP+JSON", agent_card=True)
    assert (await answered(rest, card, "GET", "/extendedAgentCard")).content == ours
    rpc = A2aAsked("a2a", "GetExtendedAgentCard", agent_card=True)
    assert (await answered(rpc, b'{"id":1,"result":%b}' % card)).content == b'{"id":1,"result":%b}' % ours
    failed = await answered(rpc, b'{"id":1,"error":{"code":-32007}}')
    assert (failed.content, failed.fields) == (b'{"id":1,"error":{"code":-32007}}', [b"Content-Type: application/json"])


async def test_other_calls_that_were_read_stay_as_they_are() -> None:
    body = b'{"url":"http://agent:9000/base/x"}'
    assert (await answered(A2aAsked("a2a", "GetTask"), body)).content == body
    assert (await answered(None, body)).content == body


# the policy


def test_it_is_a_filter_outside_of_the_record() -> None:
    policy = as_policy("agent_card", agent_card.STAGE, agent_card.build("agent_card", Config(), Runtime()))
    assert policy.is_filter
    assert policy.stage < ChainStage.RECORD


def test_what_is_no_url_is_refused() -> None:
    for url in ("packer.example", "ftp://packer.example", "https://"):
        with pytest.raises(ValueError, match="also takes"):
            Config(also=(url,))
