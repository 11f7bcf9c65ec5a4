import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.agent_card import MOST_INTERFACES, Address, rewrite
from sidecar.dialects.dialect import Unreadable

HERE = Address(
    card="http://agent:9000/api/.well-known/agent-card.json",
    agent=("http://agent:9000/api", "https://public.example/agents/packer/"),
    gateway="http://127.0.0.1:4140/packer/",
    grpc={"agent:50051": "127.0.0.1:4143"},
)


def moved(url: str, address: Address = HERE, **more: Any) -> str:
    """What becomes of an interface's URL."""
    found = rewrite(json.dumps({"supportedInterfaces": [{"url": url, **more}]}).encode(), address)
    new: str = json.loads(found.body)["supportedInterfaces"][0]["url"]
    assert (found.changed, found.elsewhere) == ((1, ()) if new != url else (0, found.elsewhere))
    return new


# both generations of cards


def test_a_card_of_1_0_leads_here_and_all_else_of_it_stays_byte_for_byte() -> None:
    card = b"""{ "name":"packer",\t"iconUrl": "http://agent:9000/api/icon.png", "documentationUrl":"http://agent:9000/api/docs",
      "provider" : {"url":"http://agent:9000/api/", "organization":"caf\\u00e9"}, "supportedInterfaces" : [
        {"protocolBinding":"JSONRPC", "url" :%s, "tenant":"t", "x": 1.50} ,{"url":%s,"protocolBinding":"HTTP+JSON"}
      ], "securitySchemes": {"o":{"url":"http://agent:9000/api/token"}}, "signatures": [], "new": [1e3,{"url":"http://agent:9000/api/a2a"}] }
    """
    found = rewrite(card % (b'"http://agent:9000/api/a2a"', b'"http:\\/\\/agent:9000\\/api\\/rest"'), HERE)
    assert found.body == card % (b'"http://127.0.0.1:4140/packer/a2a"', b'"http://127.0.0.1:4140/packer/rest"')
    assert (found.changed, found.elsewhere, found.is_signed) == (2, (), False)


def test_a_card_of_0_3_leads_here() -> None:
    card = {
        "url": "http://agent:9000/api/a2a",
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [
            {"url": "http://agent:9000/api/rest", "transport": "HTTP+JSON"},
            {"url": "agent:50051", "transport": "GRPC"},
        ],
    }
    found = rewrite(json.dumps(card).encode(), HERE)
    read = json.loads(found.body)
    assert read["url"] == "http://127.0.0.1:4140/packer/a2a"
    assert [each["url"] for each in read["additionalInterfaces"]] == ["http://127.0.0.1:4140/packer/rest", "127.0.0.1:4143"]
    assert (read["preferredTransport"], found.changed) == ("JSONRPC", 3)


def test_the_names_of_protocol_buffers_count_too() -> None:
    card = {
        "preferred_transport": "GRPC",
        "url": "agent:50051",
        "supported_interfaces": [{"url": "/api/a", "protocol_binding": "JSONRPC"}],
        "additional_interfaces": [{"url": "agent:50051", "protocol_binding": "grpc"}],
    }
    read = json.loads(rewrite(json.dumps(card).encode(), HERE).body)
    assert read["url"] == read["additional_interfaces"][0]["url"] == "127.0.0.1:4143"
    assert read["supported_interfaces"][0]["url"] == "http://127.0.0.1:4140/packer/a"


def test_a_card_may_stand_inside_of_a_json_rpc_result() -> None:
    found = rewrite(b'{"id": 1, "result" : {"url":"/api/x"}}', HERE, ("result",))
    assert found.body == b'{"id": 1, "result" : {"url":"http://127.0.0.1:4140/packer/x"}}'
    with pytest.raises(Unreadable):
        rewrite(b'{"id": 1, "error": {}}', HERE, ("result",))


# addresses


@pytest.mark.parametrize(
    ("url", "new"),
    [
        ("http://agent:9000/api", "http://127.0.0.1:4140/packer/"),
        ("http://agent:9000/api/", "http://127.0.0.1:4140/packer/"),
        ("HTTP://AGENT.:9000/api/A?q=1#f", "http://127.0.0.1:4140/packer/A?q=1#f"),
        ("http://0.0.0.0:9000/api/a", "http://127.0.0.1:4140/packer/a"),
        ("http://[::]:9000/api/a", "http://127.0.0.1:4140/packer/a"),
        ("https://public.example:443/agents/packer/a", "http://127.0.0.1:4140/packer/a"),
        ("/api/a", "http://127.0.0.1:4140/packer/a"),
        ("../a?b", "http://127.0.0.1:4140/packer/a?b"),
        ("//agent:9000/api/a", "http://127.0.0.1:4140/packer/a"),
        ("//public.example/agents/packer", "//public.example/agents/packer"),
        ("http://agent:9000/other", "http://agent:9000/other"),
        ("http://agent:9000/apix", "http://agent:9000/apix"),
        ("/other", "/other"),
        ("https://agent:9000/api/a", "https://agent:9000/api/a"),
        ("http://agent/api/a", "http://agent/api/a"),
        ("http://agent:9001/api/a", "http://agent:9001/api/a"),
        ("http://user@agent:9000/api/a", "http://user@agent:9000/api/a"),
        ("http://agent:port/api/a", "http://agent:port/api/a"),
        ("http://[agent/api", "http://[agent/api"),
        ("ws://agent:9000/api/a", "ws://agent:9000/api/a"),
        ("http://agent:9000.evil.example/api/a", "http://agent:9000.evil.example/api/a"),
        ("https://public.example/agents/packers", "https://public.example/agents/packers"),
    ],
)
def test_what_lies_below_the_agent_leads_here_and_nothing_else(url: str, new: str) -> None:
    assert moved(url) == new


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "LOCALHOST"])
@pytest.mark.parametrize("other", ["localhost", "127.0.0.1", "[::1]"])
def test_all_names_of_the_loopback_interface_are_one_host(host: str, other: str) -> None:
    address = Address(f"http://{other}:9000/c", (f"http://{other}:9000",), "http://h/a")
    assert moved(f"http://{host}:9000/x", address) == "http://h/a/x"
    assert moved("http://localhost:9000", HERE) == "http://localhost:9000"


def test_an_address_that_leads_here_already_stays_and_is_not_elsewhere() -> None:
    card = b'{"url":"http://127.0.0.1:4140/packer/a2a"}'
    found = rewrite(card, HERE)
    assert found.body is card
    assert (found.changed, found.elsewhere) == (0, ())


def test_grpc_has_a_way_through_only_where_one_is_given() -> None:
    assert moved("agent:50051", protocolBinding="GRPC") == "127.0.0.1:4143"
    assert moved("http://AGENT:50051/", protocolBinding="GRPC") == "127.0.0.1:4143"
    found = rewrite(b'{"supportedInterfaces":[{"protocolBinding":"GRPC","url":"http://agent:9000/api"}]}', HERE)
    assert (found.changed, found.elsewhere) == (0, ("http://agent:9000/api",))


def test_what_leads_elsewhere_is_told_and_cut() -> None:
    urls = ["https://other.example/a", "https://other.example/" + 1000 * "b", "", "/api/x"]
    found = rewrite(json.dumps({"supportedInterfaces": [{"url": url} for url in urls]}).encode(), HERE)
    assert (found.changed, len(found.elsewhere)) == (1, 2)
    assert found.elsewhere[0] == urls[0]
    assert len(found.elsewhere[1]) == 256


def test_an_address_without_end_is_left_alone() -> None:
    assert moved("/api/" + 5000 * "x") == "/api/" + 5000 * "x"


# signatures


@pytest.mark.parametrize("signatures", ['[{"protected":"e30","signature":"c2ln"}]', '{"a":1}', '"x"', "1", "[null]", " [1]"])
def test_a_signed_card_is_never_changed(signatures: str) -> None:
    card = f'{{"url":"/api/x","signatures":{signatures}}}'.encode()
    found = rewrite(card, HERE)
    assert found.body is card
    assert (found.is_signed, found.changed) == (True, 0)


@pytest.mark.parametrize("signatures", ["[]", "null", '""', "{}"])
def test_an_empty_list_of_signatures_is_none(signatures: str) -> None:
    found = rewrite(f'{{"url":"/api/x","signatures":{signatures}}}'.encode(), HERE)
    assert (found.is_signed, found.changed) == (False, 1)


def test_a_name_that_is_escaped_hides_nothing() -> None:
    assert rewrite(b'{"signat\\u0075res":[1],"url":"/api/x"}', HERE).is_signed
    assert rewrite(b'{"\\u0075rl":"/api/x","supportedInt\\u0065rfaces":[{"ur\\u006c":"/api/y"}]}', HERE).changed == 2


def test_of_equal_names_the_last_counts_as_for_every_parser() -> None:
    found = rewrite(b'{"url":"/api/x","url":"/api/y"}', HERE)
    assert json.loads(found.body)["url"] == "http://127.0.0.1:4140/packer/y"


# what is no card


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"5", b"{", b"<html>", b'\xff{"url":"/api/x"}', 9999 * b'{"url":',
     json.dumps({"supportedInterfaces": (MOST_INTERFACES + 1) * [{"url": "/api/x"}]}).encode()],
    ids=["nothing", "list", "number", "cut", "html", "no UTF-8", "deep", "too many"],
)  # fmt: skip
def test_what_is_no_card_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        rewrite(body, HERE)


@pytest.mark.parametrize(
    "card",
    [
        {"url": 5, "supportedInterfaces": [{"url": "/api/x"}]},
        {"url": None, "supportedInterfaces": [5, None, [], "x", {"url": {}}, {}, {"url": "/api/x", "protocolBinding": 3}]},
        {"supportedInterfaces": {}, "additionalInterfaces": [{"url": "/api/x"}]},
        {"preferredTransport": [], "url": "/api/x"},
    ],
)
def test_a_member_of_the_wrong_type_costs_no_other_member(card: Any) -> None:
    assert rewrite(json.dumps(card).encode(), HERE).changed == 1


URLS = st.sampled_from(["/api/x", "http://agent:9000/api/y", "https://other.example", "http://127.0.0.1:4140/packer/z", ""])
INTERFACES = st.lists(st.fixed_dictionaries({"url": URLS, "extra": st.text()}), max_size=4)


@given(
    st.dictionaries(st.text(), st.none() | st.text() | st.lists(st.integers()), max_size=3),
    INTERFACES, INTERFACES, URLS, st.booleans(), st.sampled_from([None, 1, 4]),
)  # fmt: skip
def test_nothing_but_addresses_changes_and_a_second_time_nothing_at_all(
    rest: dict[str, Any], first: Any, second: Any, url: str, escapes: bool, indent: int | None
) -> None:
    for name in ("signatures", "supported_interfaces", "additional_interfaces", "preferredTransport", "preferred_transport"):
        rest.pop(name, None)
    card = {**rest, "supportedInterfaces": first, "url": url, "additionalInterfaces": second}
    body = json.dumps(card, ensure_ascii=escapes, indent=indent).encode("utf-8", "replace")
    found = rewrite(body, HERE)
    read, was = json.loads(found.body), json.loads(body)
    for mine, theirs in ((read, was), *zip(read["supportedInterfaces"], was["supportedInterfaces"], strict=True)):
        assert mine["url"] == theirs["url"] or mine["url"].startswith("http://127.0.0.1:4140/packer/")
        theirs["url"] = mine["url"]
    for mine, theirs in zip(read["additionalInterfaces"], was["additionalInterfaces"], strict=True):
        theirs["url"] = mine["url"]
    assert read == was
    again = rewrite(found.body, HERE)
    assert again.body is found.body
    assert again.elsewhere == found.elsewhere


@given(st.binary(max_size=200))
def test_no_bytes_break_it(body: bytes) -> None:
    try:
        rewrite(body, HERE)
    except Unreadable:
        pass


def test_a_large_card_is_rewritten_in_no_time() -> None:
    skills = [{"id": str(number), "description": 900 * "x"} for number in range(1000)]
    card = {"url": "/api/x", "skills": skills, "supportedInterfaces": MOST_INTERFACES * [{"url": "/api/y"}]}
    assert rewrite(json.dumps(card).encode(), HERE).changed == MOST_INTERFACES + 1
