from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.model.trace import SAMPLED, parse_traceparent
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import EMPTY
from sidecar.traffic.router import Route, Way
from sidecar.traffic.upstreams.http import Config, HttpUpstream
from sidecar.traffic.wire.proxy import Via
from sidecar.traffic.wire.request import Ready, counts_down, cut
from sidecar.traffic.wire.request_head import RequestHead, parse_request
from tests.traffic.wire.stand import OK, Stand, error_of, request

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PASSAGE = Passage("http", "", Mode.GATEWAY, "POST", "http", "up", 80, "/x", "/base/x", "up", "r", "", "", Purpose.LIVE)
VIA = b"Via: 1.1 us"
GRAPH = object()


def read(head: bytes) -> RequestHead:
    return parse_request(head, max_count=40, max_url_bytes=1000)


def ready(
    head: bytes,
    *,
    host: bytes = b"up",
    target: bytes = b"/base/x",
    asks: Via | None = None,
    baggage: bool = False,
    takes_part: bool = True,
    wants_whole: bool = False,
    graph: object = GRAPH,
) -> Ready:
    upstream = HttpUpstream("http/up", Config(url="http://up/base"), Runtime())
    upstream.asks = asks
    route = Route("r", b"/", upstream, EMPTY, "tunnel", baggage=baggage)
    way = Way(Mode.GATEWAY, route, target, "up", 80, host, b"/x")
    return Ready(read(head), way, PASSAGE, graph, VIA, takes_part=takes_part, wants_whole=wants_whole)


def remembered(head: bytes, **settings: Any) -> Ready | None:
    made = ready(head, **settings)
    return made if made.remember(cut(head)) else None


def sent(made: Ready, *, tracestate: bytes = b"") -> bytes:
    exchange = Exchange(PASSAGE, 0, 0, b"\1" * 16, b"\2" * 8, b"", SAMPLED, tracestate)
    return made.head(exchange, Attempt(exchange, PASSAGE, b"\3" * 8, 0))


OURS = b"traceparent: 00-" + b"01" * 16 + b"-" + b"03" * 8 + b"-01"


def head_of(*fields: bytes, line: bytes = b"POST /x HTTP/1.1") -> bytes:
    return b"\r\n".join([line, *fields, b"", b""])


# the head for the upstream


def test_the_head_has_the_ways_target_and_host_via_and_a_traceparent_of_its_own() -> None:
    made = ready(head_of(b"Host: us", b"A: 1", b"traceparent: " + PARENT, b"Content-Length: 5", b"B: 2"))
    expected = [b"POST /base/x HTTP/1.1", b"Host: up", b"A: 1", b"Content-Length: 5", b"B: 2", VIA, OURS]
    assert sent(made) == b"\r\n".join([*expected, b"", b""])
    assert sent(made, tracestate=b"a=1") == b"\r\n".join([*expected, b"tracestate: a=1", b"", b""])


@pytest.mark.parametrize(("target", "whole"), [(b"/base/x?q", b"http://up/base/x?q"), (b"*", b"http://up")])
@pytest.mark.parametrize("fields", [(b"Host: UP:80", b"A: 1"), (b"A: 1", b"Host: other")])
def test_a_corporate_proxy_gets_the_whole_url_and_its_own_credential_and_a_host_to_match(
    target: bytes, whole: bytes, fields: tuple[bytes, ...]
) -> None:
    """RFC 9112 sections 3.2.2 and 3.2.4; what the client said for us (Proxy-Authorization) goes nowhere."""
    head = head_of(*fields, b"Proxy-Authorization: Basic theirs")
    made = ready(head, host=b"UP:80", target=target, asks=Via.through("proxy", 3128, "me", "pw"))
    lines = sent(made).split(b"\r\n")
    assert lines[0] == b"POST %b HTTP/1.1" % whole
    assert [line for line in lines if line.lower().startswith(b"host:")] == [b"Host: up"]
    assert [line for line in lines if b"proxy" in line.lower()] == [b"Proxy-Authorization: Basic bWU6cHc="]
    assert made.way.target == target, "what spans tell stays what the upstream is asked"


def test_a_corporate_proxy_without_credentials_gets_none() -> None:
    head = head_of(b"Host: up", b"Proxy-Authorization: Basic theirs")
    assert b"proxy-authorization" not in sent(ready(head, asks=Via.through("proxy", 3128))).lower()


def test_a_host_line_that_is_right_already_stays_as_it_is() -> None:
    assert sent(ready(head_of(b"A: 1", b"hOst:  up "))).startswith(b"POST /base/x HTTP/1.1\r\nA: 1\r\nhOst:  up \r\n")


def test_where_a_policy_changes_the_answer_the_upstream_hears_of_no_conditions_and_ranges() -> None:
    told = [b"If-None-Match: x", b"if-modified-since: x", b"If-Match: x", b"If-Unmodified-Since: x", b"If-Range: x", b"Range: bytes=0-1"]
    made = ready(head_of(b"Host: up", *told, b"X-Own: 1", line=b"GET /x HTTP/1.1"), wants_whole=True)
    assert not [line for line in told if line in sent(made)]
    assert b"X-Own: 1" in sent(made)
    assert [line for line in made.request.lines if line in told] == told, "the policy hears of them"
    assert all(line in sent(ready(head_of(b"Host: up", *told, line=b"GET /x HTTP/1.1"))) for line in told)


def test_a_request_without_host_gets_one() -> None:
    made = ready(head_of(b"A: 1", line=b"GET /x HTTP/1.0"))
    assert sent(made) == b"GET /base/x HTTP/1.1\r\nHost: up\r\nA: 1\r\n" + VIA + b"\r\n" + OURS + b"\r\n\r\n"


def test_baggage_goes_only_where_it_may() -> None:
    fields = (b"Host: up", b"baggage: a=1", b"Baggage: b=2")
    assert b"baggage" not in sent(ready(head_of(*fields))).lower()
    assert b"\r\nbaggage: a=1\r\nbaggage: b=2\r\n" in sent(ready(head_of(*fields), baggage=True))


def test_an_upgrade_is_asked_for_again() -> None:
    made = ready(head_of(b"Host: up", b"Connection: Upgrade", b"Upgrade: websocket"))
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in sent(made)


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"CONTENT-length:5", b"content-length: \t5 ", b"Content-Length: 005"])
def test_a_length_is_written_at_its_place_under_its_own_name(field: bytes) -> None:
    name = field.partition(b":")[0]
    lines = sent(ready(head_of(b"Host: up", b"A: 1", field, b"B: 2"))).split(b"\r\n")
    assert lines[3].startswith(name + b":")
    assert lines[3].partition(b":")[2].strip() == b"5"
    assert lines[4] == b"B: 2"


def test_trace_headers_pass_untouched_where_we_take_no_part() -> None:
    head = head_of(b"Host: up", b"traceparent: " + PARENT, b"tracestate: a=1", b"TraceState: b=2", b"Content-Length: 5")
    made = ready(head, takes_part=False)
    assert sent(made) == b"\r\n".join(
        [
            b"POST /base/x HTTP/1.1",
            b"Host: up",
            b"Content-Length: 5",
            VIA,
            b"traceparent: " + PARENT,
            b"tracestate: a=1",
            b"tracestate: b=2",
            b"",
            b"",
        ]
    )
    assert not made.remember(cut(head)), "the next one has another traceparent, and it has to pass too"
    bare = head_of(b"Host: up")
    assert b"traceparent" not in sent(ready(bare, takes_part=False))
    assert ready(bare, takes_part=False).remember(cut(bare))


# what is cut out


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length"])
def test_the_two_values_are_cut_out(name: bytes) -> None:
    for fields in ((b"traceparent: " + PARENT, name + b": 512"), (name + b": 512", b"traceparent: " + PARENT)):
        found = cut(head_of(b"Host: a", *fields))
        assert found is not None
        assert (found.length, found.traceparent) == (b"512", PARENT)
        assert PARENT not in found.same and b"512" not in found.same


def test_what_is_of_no_common_form_is_not_cut() -> None:
    for value in (b"", b"x", b"-1", b"+1", b" 1", b"1 ", b"1, 1", b"9" * 16, b"1\n"):
        assert cut(head_of(b"Content-Length: " + value)) is None
    for value in (b"", b" ", b"a\nb", b"a\rb", b"a\0b", b"a b", b"\xe9"):
        assert cut(head_of(b"traceparent: " + value)) is None
    assert cut(head_of(b"A: " + b"x" * 9000)) is None
    assert cut(head_of(b"A: " + b"x" * 9000, b"Content-Length: 5")) is None
    assert cut(head_of(b"Content-Length:5")) == (head_of(b"Content-Length:5"), b"", b"")


# what is remembered


@pytest.mark.parametrize(
    "fields",
    [
        (b"Connection: Upgrade", b"Upgrade: websocket"),
        (b"Expect: 100-continue", b"Content-Length: 5"),
        (b"Content-Length: 0",),
        (b"Content-Length:5",),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5", b"content-length: 5"),
        (b"CONTENT-length: 5", b"Content-Length: 5"),
        (b"Content-Length: x",),
        (b"Traceparent: " + PARENT,),
        (b"traceparent:" + PARENT,),
        (b"traceparent: " + PARENT, b"Traceparent: " + PARENT),
        (b"traceparent: ",),
        (b"traceparent: " + PARENT, b"Connection: traceparent"),
        (b"A: " + b"x" * 9000,),
    ],
)
def test_what_has_to_be_read_in_full_is_not_remembered(fields: tuple[bytes, ...]) -> None:
    head = head_of(b"Host: a", *fields)
    try:
        made = ready(head)
    except Refused:
        return
    assert not made.remember(cut(head))
    assert not made.serves(head, GRAPH)


def test_a_connect_is_not_remembered() -> None:
    head = head_of(b"Host: a", line=b"CONNECT a:1 HTTP/1.1")
    assert not ready(head).remember(cut(head))


VALUES = [
    b"5",
    b"6",
    b"0",
    b"1234567",
    b"05",
    b"00",
    b"007",
    b"",
    b" 5",
    b"5 ",
    b"x",
    b"-5",
    b"+5",
    b"5, 5",
    b"5,6",
    b"9" * 15,
    b"9" * 16,
    b"9" * 40,
    b"5\n",
    b"5\r",
    b"\xb2",
]
PARENTS = [
    PARENT, PARENT.replace(b"b7", b"aa"), PARENT.upper(), b"ff" + PARENT[2:], b"01" + PARENT[2:], PARENT[:-1], PARENT + b"-x", b"", b" " + PARENT, b"x",
    PARENT[:-2] + b"\r1", PARENT[:-2] + b"\n1", PARENT[:-2] + b"\x001", PARENT[:-2] + b"\t1",
    (b"x\r\nContent-Length: 30\r\nA: ").ljust(55, b"b"), (b"x\r\nTransfer-Encoding: chunked\r\nA: ").ljust(55, b"b"), (b"x\r\nHost: b\r\nA: ").ljust(55, b"b"),
    (b"x\nContent-Length: 30\nA: ").ljust(55, b"b"), (b"x\r\nConnection: close\r\nA: ").ljust(55, b"b"), b"x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
]  # fmt: skip
MORE = [
    (), (), (), (b"content-length: 5",), (b"Content-Length: 6",), (b"CONTENT-LENGTH: 5",), (b"Traceparent: " + PARENT,), (b"traceparent: " + PARENT,),
    (b"Transfer-Encoding: chunked",), (b"Connection: close",), (b"tracestate: a=1",), (b"X: 1",), (b"Expect: 100-continue",),
]  # fmt: skip

Fields = tuple[str, bytes | None, bytes | None, tuple[bytes, ...]]


def shaped(fields: Fields) -> bytes:
    order, length, parent, more = fields
    values = {"l": b"Content-Length: %b" % length if length is not None else None,
              "m": b"content-length: %b" % length if length is not None else None,
              "t": b"traceparent: %b" % parent if parent is not None else None}  # fmt: skip
    lines = [line for letter in order if (line := values[letter]) is not None]
    return head_of(b"Host: a", b"A: 1", *lines, b"B: 2", *more)


ORDERS = ["lt", "tl", "mt", "tm"]
ONE = st.tuples(
    st.sampled_from(ORDERS[:2]), st.sampled_from([None, b"5"]), st.sampled_from([None, PARENT]), st.sampled_from([(), (), *MORE])
)
NEXT = st.tuples(
    st.sampled_from(ORDERS),
    st.one_of(st.sampled_from([None, *VALUES]), st.integers(0, 10**6).map(lambda number: b"%d" % number)),
    st.sampled_from([None, *PARENTS]),
    st.sampled_from(MORE),
)


def judged(head: bytes) -> tuple[Any, ...] | str:
    """What a full parse says, and the head that follows from it."""
    try:
        made = ready(head)
    except Refused as refusal:
        return refusal.code
    return told(made, head)


def told(made: Ready, head: bytes) -> tuple[Any, ...]:
    one = made.request
    parents = one.traceparents
    trace = parse_traceparent(parents[0]) if len(parents) == 1 else None
    return one.length, one.keep_alive, trace, one.tracestates, one.expects_continue, sent(made)


@given(ONE, st.lists(NEXT, min_size=1, max_size=4), st.data())
def test_a_remembered_request_serves_none_but_those_that_a_full_parse_would_treat_alike(
    first: Fields, following: list[Fields], data: st.DataObject
) -> None:
    made = None
    for fields in [first, first, *following]:
        if data.draw(st.booleans()):
            fields = (first[0], fields[1], fields[2], first[3])  # nothing but the values differs
        head = shaped(fields)
        head = head[: head.index(b"\r\n\r\n") + 4]
        if made is not None and made.serves(head, GRAPH):
            assert told(made, head) == judged(head)
        else:
            try:
                made = remembered(head)
            except Refused:
                made = None


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_hostile_traceparent_is_judged_as_if_the_head_had_not_been_seen_before(parent: bytes, times: int) -> None:
    good = shaped(("lt", b"5", PARENT, ()))
    made = remembered(good)
    assert made is not None
    for _ in range(times):
        assert made.serves(good, GRAPH)
    head = shaped(("lt", b"5", parent, ()))
    head = head[: head.index(b"\r\n\r\n") + 4]
    if made.serves(head, GRAPH):
        assert told(made, head) == judged(head)


@pytest.mark.parametrize("second", [b"content-length: 5", b"CONTENT-length: 5", b"Content-Length: 5", b"Content-Length:5"])
def test_a_second_length_is_judged_each_time(second: bytes) -> None:
    for fields in ((b"Content-Length: 5", second), (second, b"Content-Length: 5")):
        made = remembered(head_of(b"Host: a", *fields))
        other = head_of(b"Host: a", *(b"Content-Length: 7" if field == b"Content-Length: 5" else field for field in fields))
        assert made is None or not made.serves(other, GRAPH)


@given(
    st.sampled_from(ORDERS),
    st.lists(st.tuples(st.integers(1, 10**15 - 1), st.binary(min_size=24, max_size=24)), min_size=1, max_size=6),
)
@example("lt", [(1, b"\1" * 24), (2, b"\2" * 24), (30, b"\3" * 24), (4, b"\4" * 24)])
def test_an_agents_usual_calls_are_served_from_memory(order: str, calls: list[tuple[int, bytes]]) -> None:
    made = remembered(shaped((order, b"77", PARENT, ())))
    assert made is not None
    for length, ids in calls:
        parent = b"00-" + ids[:16].hex().encode() + b"-" + ids[16:].hex().encode() + b"-01"
        head = shaped((order, b"%d" % length, parent, ()))
        assert made.serves(head, GRAPH)
        assert told(made, head) == judged(head)


@pytest.mark.parametrize(
    "fields",
    [
        ("lt", None, None, ()),
        ("lt", b"5", None, ()),
        ("lt", None, PARENT, ()),
        ("lt", None, None, (b"Transfer-Encoding: chunked",)),
    ],
)
def test_either_value_may_be_missing_but_then_always(fields: Fields) -> None:
    head = shaped(fields)
    made = remembered(head)
    assert made is not None
    for _ in range(3):
        assert made.serves(head, GRAPH)
        assert told(made, head) == judged(head)
    for other in (
        ("lt", b"5", PARENT, fields[3]),
        ("lt", b"5", None, fields[3]),
        ("lt", None, PARENT, fields[3]),
        ("lt", None, None, fields[3]),
    ):
        assert made.serves(shaped(other), GRAPH) is (other == fields)


@given(st.data())
def test_nothing_else_may_differ(data: st.DataObject) -> None:
    good = shaped(("lt", b"55", PARENT, (b"X-Key: abc",)))
    made = remembered(good)
    assert made is not None
    for _ in range(data.draw(st.integers(0, 2))):
        made.serves(good, GRAPH)
    place = data.draw(st.integers(0, len(good) - 5))
    byte = bytes((data.draw(st.integers(0, 255)),))
    changed = {
        "replace": good[:place] + byte + good[place + 1 :],
        "insert": good[:place] + byte + good[place:],
        "drop": good[:place] + good[place + 1 :],
    }
    head = changed[data.draw(st.sampled_from(sorted(changed)))]
    if b"\r\n\r\n" in head[:-4]:
        return
    if made.serves(head, GRAPH):
        assert told(made, head) == judged(head)


def test_another_graph_means_another_look() -> None:
    head = shaped(("lt", b"5", PARENT, ()))
    made = remembered(head)
    assert made is not None
    assert made.serves(head, GRAPH)
    assert made.serves(head, GRAPH)
    assert not made.serves(head, object())


async def test_a_reload_is_seen_by_the_next_call_of_the_connection(stand: Callable[..., Stand]) -> None:
    wire = stand()
    far, near = wire.connection(), wire.client()
    for _ in range(3):
        near.says(request(b"POST", b"/llm/x", body=b"hello"))
        assert far.takes().endswith(b"hello")
        far.says(OK)
        assert near.takes().endswith(b"ok")
    wire._traffic = {"default": "deny"}
    wire._route = {"baggage": True}
    wire.serves()
    old = wire.listener.graph
    near.says(request(b"POST", b"/llm/x", body=b"hello"))
    assert near.protocol._ready.graph is old
    assert wire.exchanges[-1].host == "llm.test"


async def test_the_memory_is_the_connections_own(stand: Callable[..., Stand]) -> None:
    wire = stand()
    far, one, other = wire.connection(), wire.client(), wire.client()
    one.says(request(b"GET", b"/llm/x", b"Authorization: Bearer one"))
    assert b"Bearer one" in far.takes()
    far.says(OK)
    assert other.protocol._ready is None
    other.says(request(b"GET", b"/llm/x", b"Authorization: Bearer two"))
    told = far.takes()
    assert b"Bearer two" in told and b"Bearer one" not in told
    assert one.protocol._ready is not other.protocol._ready


async def test_a_request_that_was_refused_is_not_remembered(stand: Callable[..., Stand]) -> None:
    wire = stand()
    near = wire.client()
    for _ in range(2):
        near.says(request(b"GET", b"/nowhere"))
        assert error_of(near.takes()) == "route_unknown"
        assert near.protocol._ready is None


# Max-Forwards


@pytest.mark.parametrize(
    ("value", "goes", "shown"),
    [(b"5", True, b"4"), (b"1", True, b"0"), (b"0", False, b"0"), (b"x", True, b"x"), (b"9" * 5000, True, b"9999")],
)
def test_max_forwards_counts_down(value: bytes, goes: bool, shown: bytes) -> None:
    asked = RequestHead()
    asked.lines = [b"TRACE /x HTTP/1.1", b"Host: a", b"MAX-forwards: " + value, b"Other: 5"]
    assert counts_down(asked) is goes
    assert asked.lines[2] == b"MAX-forwards: " + shown
    assert asked.lines[3] == b"Other: 5"
