import logging
import random
from typing import Any

import pytest

from sidecar.model.exchange import Exchange
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.traffic.grpc.metadata import can_be_written, coming_back, going_on, hide_values, line, read_head
from sidecar.traffic.meter import begin_attempt

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def written(metadata: Any, **settings: Any) -> list[tuple[str, str | bytes]]:
    passage = Passage("grpc", "c", Mode.GATEWAY, "POST", "http", "h", 1, "/a.B/C", "/a.B/C", "u", "r", "", "", Purpose.LIVE)
    exchange = Exchange(passage, 0, 0, b"\x0a" * 16, b"\x0b" * 8, b"", 1, b"a=1")
    attempt = begin_attempt(exchange, random.Random(1))
    head = read_head("/a.B/C", metadata)
    return list(going_on(head, exchange, attempt, "2.0 us", **{"has_baggage": False, "takes_part": True, **settings}))


def test_what_is_for_the_sidecar_or_for_one_hop_does_not_go_on() -> None:
    metadata = [
        ("a", "1"), ("te", "trailers"), ("user-agent", "x"), ("grpc-timeout", "1S"), ("x-agent-id", "a"), ("x-agent-task-id", "t"),
        ("proxy-authorization", "Basic x"), ("baggage", "k=v"), ("traceparent", PARENT), ("x-sidecar-authority", "h:1"),
        ("b-bin", b"\x00"), ("a", "2"),
    ]  # fmt: skip
    sent = written(metadata)
    assert sent[:3] == [("a", "1"), ("b-bin", b"\x00"), ("a", "2")]
    assert [key for key, _ in sent[3:]] == ["via", "traceparent", "tracestate"]
    assert dict(sent)["traceparent"] != PARENT
    assert ("baggage", "k=v") in written(metadata, has_baggage=True)


def test_without_traces_those_of_the_agent_go_on_as_they_came() -> None:
    sent = written([("traceparent", PARENT), ("tracestate", "x=1"), ("tracestate", "y=2")], takes_part=False)
    assert sent[1:] == [("traceparent", PARENT), ("tracestate", "x=1"), ("tracestate", "y=2")]


def test_a_head_knows_who_calls_and_shows_its_lines() -> None:
    head = read_head("/a.B/C", [("x-agent-id", "ä"), ("x-agent-task-id", "t"), ("b-bin", b"\xff"), ("c", "d"), ("via", "1.1 x")])
    assert (head.agent, head.task, head.via) == ("ä".encode(), b"t", (b"1.1 x",))
    assert head.lines == [b"POST /a.B/C HTTP/2", b"b-bin: /w==", b"c: d"]
    assert head.length < 0


def test_two_credentials_are_none() -> None:
    head = read_head("/a.B/C", [("proxy-authorization", "Basic a"), ("proxy-authorization", "Basic b")])
    assert head.proxy_authorization == b"Basic a, Basic b"


def test_what_comes_back_is_without_what_was_for_one_hop() -> None:
    assert coming_back([("a", "1"), ("grpc-encoding", "gzip"), ("content-type", "x"), ("b-bin", b"\x00")]) == (
        ("a", "1"), ("b-bin", b"\x00"),
    )  # fmt: skip
    assert line("k", "v") == b"k: v"


@pytest.mark.parametrize(
    ("value", "can_be"),
    [("", True), ("a ~!", True), (b"\xff\x00", True), ("ÿ", False), ("größe", False), ("a\tb", False), ("a\nb", False), ("\x7f", False)],
    ids=["nothing", "ASCII", "bytes", "Latin-1", "UTF-8", "tab", "line end", "DEL"],
)
def test_what_gRPC_does_not_allow_is_told_from_what_it_does(value: str | bytes, can_be: bool) -> None:  # noqa: N802 - its name
    assert can_be_written(value) is can_be
    assert read_head("/a.B/C", [("k", value)]).unwritable == ("" if can_be else "k")
    assert coming_back([("a", "1"), ("k", value)]) == (("a", "1"), *([("k", value)] if can_be else []))


def test_invalid_context_is_as_if_it_were_not_there() -> None:
    keys = ("via", "traceparent", "tracestate", "baggage")
    head = read_head("/a.B/C", [(key, "ÿ") for key in keys])
    assert (head.via, head.traceparents, head.tracestates, head.baggage, head.unwritable) == ((), (), (), (), "")


def test_the_library_logs_no_value_of_metadata(caplog: pytest.LogCaptureFixture) -> None:
    hide_values()
    hide_values()
    log = logging.getLogger("grpc._cython.cygrpc")
    log.error("Invalid encoding on %s", b"Bearer \xff")
    log.error("something else")
    assert caplog.messages == ["something else"]
