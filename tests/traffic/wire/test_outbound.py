import socket
import ssl
import struct
from typing import Any

import pytest

from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.wire.outbound import _MAX_INTERIM, Outbound, TlsOutbound
from sidecar.traffic.wire.outlet import WRITE_HIGH_BYTES
from sidecar.traffic.wire.response_head import ResponseHead
from sidecar.traffic.wire.response_outline import Outlines
from tests.traffic.wire.stand import CHUNKED, OK, UNTIL_CLOSE, AtTheEnd
from tests.traffic.wire.transport import FakeSocket, FakeTransport


class Keeper:
    """Stands for the pool."""

    def __init__(self) -> None:
        self.outbox = AtTheEnd()
        self.outlines = Outlines(500)
        self.max_header_bytes = 500
        self.max_header_count = 10
        self.told: list[str] = []

    def release(self, outbound: Outbound) -> None:
        self.told.append("release")

    def lost(self, outbound: Outbound) -> None:
        self.told.append("lost")


class Sink:
    """Keeps what it hears, in order."""

    def __init__(self, *, relays: bool = True) -> None:
        self.told: list[Any] = []
        self.content = b""
        self.relays = relays
        self.gives_up = False

    def upstream_informs(self, head: ResponseHead) -> None:
        self.told.append(("informs", head.status))

    def upstream_answers(self, outbound: Outbound, head: ResponseHead) -> bool:
        self.told.append(("answers", head.status))
        if self.gives_up:
            outbound.abort()
        return self.relays

    def upstream_sends(self, data: bytes) -> None:
        self.told.append("sends")
        self.content += data

    def upstream_ends(self, data: bytes, size: int) -> None:
        self.content += data
        self.told.append(("ends", size))

    def upstream_upgrades(self, outbound: Outbound, head: ResponseHead, rest: bytes) -> None:
        self.told.append(("upgrades", rest))

    def upstream_fails(self, outbound: Outbound, fault: UpstreamFailed) -> None:
        self.told.append(("fails", fault.code))

    def upstream_unsent(self, data: bytes) -> None:
        self.told.append(("unsent", data))

    def upstream_full(self) -> None:
        self.told.append("full")

    def upstream_drained(self) -> None:
        self.told.append("drained")


class Connection:
    """An outbound, its keeper, and the far end of it."""

    def __init__(self) -> None:
        self.keeper = Keeper()
        self.sock = FakeSocket()
        self.outbound = Outbound(self.keeper, self.sock, "192.0.2.7")  # type: ignore[arg-type]
        self.outbound.news = self.sock.poll
        self.far = FakeTransport(self.outbound)

    def asks(self, method: bytes = b"GET", *, whole: bool = True, relays: bool = True) -> Sink:
        sink = Sink(relays=relays)
        self.outbound.send(sink, method, b"head", whole=whole)
        return sink


@pytest.fixture
async def connection() -> Connection:
    return Connection()


async def test_a_request_goes_out_in_one_write(connection: Connection) -> None:
    connection.asks(b"POST", whole=False)
    connection.outbound.send_more(b"+body", whole=False)
    connection.outbound.send_more(b"", whole=True)
    assert connection.far.takes() == b"head+body"
    assert connection.far.writes == 1
    assert connection.outbound.request_is_sent
    assert connection.outbound.uses == 1
    assert connection.far.high == WRITE_HIGH_BYTES


async def test_a_response_that_comes_at_once_is_told_at_once(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(OK)
    assert sink.told == [("answers", 200), ("ends", 2)]
    assert sink.content == b"ok"
    assert connection.keeper.told == ["release"]
    assert connection.outbound.first_byte


async def test_a_response_is_the_same_byte_by_byte(connection: Connection) -> None:
    for answer in (OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n"):
        connection.keeper.told.clear()
        sink = connection.asks(relays=False)
        for byte in answer:
            connection.far.says(bytes((byte,)))
        assert sink.content == (b"" if b"204" in answer else b"ok")
        assert sink.told[-1] == ("ends", len(sink.content))
        assert connection.keeper.told == ["release"]


async def test_heads_of_an_outline_are_answered_as_those_before_it(connection: Connection) -> None:
    told = []
    for length in range(20):
        answer = b"HTTP/1.1 200 OK\r\nDate: %d\r\nContent-Length: %d\r\n\r\n" % (length, length) + b"x" * length
        sink = connection.asks()
        connection.far.says(answer)
        told.append((sink.told, len(sink.content)))
        assert not connection.outbound.sink
    assert connection.keeper.outlines.read(answer) is not None
    assert told == [([("answers", 200), ("ends", length)], length) for length in range(20)]
    assert connection.keeper.told == ["release"] * 20
    in_two = connection.asks()
    connection.far.says(answer[:-5])
    connection.far.says(answer[-5:])
    assert in_two.told == [("answers", 200), "sends", ("ends", 19)]
    to_head = connection.asks(b"HEAD")
    connection.far.says(answer[:-19])
    assert to_head.told == [("answers", 200), ("ends", 0)]
    early = connection.asks(whole=False)
    connection.far.says(answer)
    assert early.told == [("answers", 200), ("ends", 19)]
    assert connection.keeper.told == ["release"] * 22 + ["lost"]


async def test_a_head_of_an_outline_does_not_hide_what_comes_too_much(connection: Connection) -> None:
    for _ in range(8):
        connection.asks()
        connection.far.says(OK)
    sink = connection.asks()
    connection.far.says(OK + b"!")
    assert sink.told == [("answers", 200), ("ends", 2)]
    assert sink.content == b"ok"
    assert connection.keeper.told == ["release"] * 8 + ["lost"]
    other = Connection()
    other.keeper.outlines = connection.keeper.outlines
    empty = other.asks()
    other.far.says(OK.replace(b": 2", b": 0"))
    assert (empty.told, empty.content, other.keeper.told) == ([("answers", 200), ("ends", 0)], b"", ["lost"])


async def test_a_head_that_drips_is_not_looked_through_anew_with_each_byte(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []

    def count(data: bytes, checked: int = 0) -> bool:
        looked_at.append(len(data) - checked)
        return False

    monkeypatch.setattr("sidecar.traffic.wire.outbound.has_bare_line_feed", count)
    connection.asks()
    for piece in (b"HTTP/1.1 103 x\r\n", b"\r\nHTTP/1.1 ", b"2", b"00 OK\r\n"):
        connection.far.says(piece)
    assert looked_at == [16, 9, 1, 7]


async def test_a_head_that_comes_alone_is_told_alone(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(OK[:-2])
    assert sink.told == [("answers", 200), "sends"]
    connection.far.says(b"o")
    connection.far.says(b"k")
    assert sink.told[2:] == ["sends", ("ends", 2)]


async def test_chunks_are_passed_on_or_taken_apart_as_the_sink_says(connection: Connection) -> None:
    sink = connection.asks(relays=True)
    connection.far.says(CHUNKED + b"2\r\nok\r\n0\r\n\r\n")
    assert sink.content == b"2\r\nok\r\n0\r\n\r\n"
    sink = connection.asks(relays=False)
    connection.far.says(CHUNKED + b"2\r\nok\r\n0\r\n\r\n")
    assert sink.content == b"ok"


async def test_a_response_to_head_has_no_body(connection: Connection) -> None:
    sink = connection.asks(b"HEAD")
    connection.far.says(OK[:-2])
    assert sink.told == [("answers", 200), ("ends", 0)]
    assert connection.keeper.told == ["release"]


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"x",
        CHUNKED + b"0\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204 x\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_says_too_much_or_bids_farewell_is_not_used_again(connection: Connection, answer: bytes) -> None:
    sink = connection.asks()
    connection.far.says(answer)
    assert sink.told[-1][0] == "ends"
    assert connection.keeper.told == ["lost"]
    assert connection.far.ended == "abort"


async def test_a_connection_whose_request_is_not_over_is_not_used_again(connection: Connection) -> None:
    sink = connection.asks(b"POST", whole=False)
    connection.far.says(OK)
    assert sink.told[-1] == ("ends", 2)
    assert connection.keeper.told == ["lost"]


async def test_what_nobody_asked_for_ends_the_connection(connection: Connection) -> None:
    connection.far.says(OK)
    assert connection.keeper.told == ["lost"]
    assert connection.far.ended == "abort"


# interim responses


async def test_interim_responses_are_told_and_may_come_together(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 1")
    connection.far.says(b"02 x\r\n\r\n" + OK)
    assert sink.told == [("informs", 100), ("informs", 103), ("informs", 102), ("answers", 200), ("ends", 2)]


async def test_there_is_an_end_of_interim_responses(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(b"HTTP/1.1 100 x\r\n\r\n" * (_MAX_INTERIM + 1))
    assert sink.told == [("informs", 100)] * _MAX_INTERIM + [("fails", "upstream_malformed")]


async def test_a_101_hands_the_connection_over(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: w\r\n\r\nfirst")
    assert sink.told == [("upgrades", b"first")]
    assert connection.keeper.told == ["lost"]
    assert not connection.far.ended


# what goes wrong


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0", b"<html>", b"HTTP/2.0 200 OK\r\n", b"HTTP/1.1 200 OK\nA: 1\n\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 600,
     b"HTTP/1.1 200 OK\r\nA: " + b"x" * 600 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * 11 + b"\r\n",
     CHUNKED + b"xyz\r\n", CHUNKED + b"2\r\nokk\r\n"],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_what_is_no_http_fails_however_it_is_split(connection: Connection, answer: bytes, size: int) -> None:
    sink = connection.asks()
    for at in range(0, len(answer), size):
        if not connection.far.ended:
            connection.far.says(answer[at : at + size])
    assert sink.told[-1] == ("fails", "upstream_malformed")
    assert connection.keeper.told == ["lost"]
    assert connection.far.ended == "abort"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "upstream_closed"),
        (b"H", "upstream_cut"),
        (OK[:-1], "upstream_cut"),
        (CHUNKED + b"2\r\nok\r\n", "upstream_cut"),
        (OK[:20], "upstream_cut"),
    ],
)
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_an_end_in_the_middle_is_a_failure(connection: Connection, answer: bytes, code: str, how: str) -> None:
    sink = connection.asks()
    if answer:
        connection.far.says(answer)
    if how == "eof":
        connection.far.half_closes()
    else:
        connection.far.breaks(ConnectionResetError() if how == "reset" else None)
    assert sink.told[-1] == ("fails", code)
    assert connection.keeper.told == ["lost"]
    connection.far.breaks()
    assert connection.keeper.told == ["lost"], "once is enough"


async def test_a_body_that_ends_with_the_connection_ends_there(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(UNTIL_CLOSE + b"ab")
    connection.far.says(b"c")
    connection.far.half_closes()
    assert sink.content == b"abc"
    assert sink.told[-1] == ("ends", 3)
    assert connection.keeper.told == ["lost"]


async def test_a_body_that_ends_with_a_reset_is_not_whole(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(UNTIL_CLOSE + b"ab")
    connection.far.breaks(ConnectionResetError())
    assert sink.told[-1] == ("fails", "upstream_cut")


async def test_a_tls_fault_is_told_as_one(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.breaks(ssl.SSLError(1, "decryption failed"))
    assert sink.told == [("fails", "tls_failed")]


@pytest.mark.parametrize("how", ["eof", "lost"])
async def test_an_idle_connection_that_ends_is_lost(connection: Connection, how: str) -> None:
    if how == "eof":
        connection.far.half_closes()
    else:
        connection.far.breaks()
    assert connection.keeper.told == ["lost"]
    assert not connection.outbound.is_open
    connection.far.breaks()
    connection.far.half_closes()
    assert connection.keeper.told == ["lost"]


# giving up


async def test_after_an_abort_the_sink_hears_nothing(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(OK[:-1])
    told = list(sink.told)
    connection.outbound.abort()
    connection.outbound.data_received(b"k")
    connection.far.breaks(ConnectionResetError())
    assert sink.told == told
    assert connection.outbound.received == 1
    assert connection.keeper.told == ["lost"]


async def test_bytes_behind_an_abort_are_nobodys(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(CHUNKED)
    connection.outbound.sink = None
    connection.outbound.data_received(b"2\r\nok\r\n")
    assert sink.content == b""


async def test_a_sink_may_give_up_at_the_head(connection: Connection) -> None:
    sink = connection.asks()
    sink.gives_up = True
    connection.far.says(OK)
    assert sink.told == [("answers", 200)]
    assert connection.keeper.told == ["lost"]


async def test_what_was_to_be_sent_is_not_sent_after_an_abort(connection: Connection) -> None:
    connection.asks()
    connection.outbound.abort()
    assert connection.far.takes() == b""


# back-pressure


async def test_the_sink_is_told_when_the_upstream_takes_nothing(connection: Connection) -> None:
    sink = connection.asks(b"POST", whole=False)
    connection.far.takes_nothing = True
    connection.outbound.flush()
    connection.far.drains()
    assert sink.told == ["full", "drained"]
    connection.outbound.sink = None
    connection.outbound.pause_writing()
    connection.outbound.resume_writing()


async def test_reading_stops_and_goes_on(connection: Connection) -> None:
    connection.outbound.pause()
    assert not connection.far.reads
    connection.outbound.resume()
    assert connection.far.reads
    connection.outbound.abort()
    connection.outbound.pause()
    assert connection.far.reads, "one that is gone is left alone"
    connection.outbound.resume()


@pytest.mark.parametrize("how", ["speaks", "ends", "resets"])
def test_stale_is_what_has_ended_or_spoken_and_asking_waits_for_nothing(how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    outbound = Outbound(Keeper(), ours, "")
    assert not outbound.news(0)
    assert not outbound.news(0), "it may be asked again"
    if how == "speaks":
        peer.send(b"x")
    elif how == "resets":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how != "speaks":
        peer.close()
    assert outbound.news(0)
    if how == "speaks":
        assert ours.recv(1) == b"x", "it was only looked at"
        assert not outbound.news(0)
    ours.close()
    peer.close()


@pytest.mark.parametrize("how", ["speaks", "ends", "breaks"])
async def test_a_request_that_has_not_gone_is_given_back_when_its_connection_turns_out_stale(
    connection: Connection, how: str
) -> None:
    first = connection.asks()
    connection.far.takes()
    connection.far.says(OK)
    assert first.told[-1] == ("ends", 2)
    sink = connection.asks(b"POST", whole=False)
    connection.outbound.send_more(b"body", whole=True)
    if how == "speaks":
        connection.far.says(OK, unasked=True)
    elif how == "ends":
        connection.far.half_closes()
    else:
        connection.far.breaks(ConnectionResetError())
    assert sink.told == [("unsent", b"headbody")]
    assert not connection.outbound.is_open
    assert connection.far.takes() == b""


async def test_a_server_that_speaks_first_is_not_tried_again_and_again(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(b"SSH-2.0-x\r\n", unasked=True)
    assert sink.told == [("fails", "upstream_malformed")]


async def test_who_is_on_a_connection_hears_why_it_is_dropped(connection: Connection) -> None:
    sink = connection.asks()
    connection.far.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    connection.outbound.fail(UpstreamFailed("draining"))
    assert sink.told[-1] == ("fails", "draining")
    assert connection.outbound.received == 3
    connection.outbound.fail(UpstreamFailed("draining"))
    assert len(sink.told) == 3


async def test_a_tls_connection_is_read_through_the_shared_buffer() -> None:
    keeper, buffer = Keeper(), memoryview(bytearray(64))
    outbound = TlsOutbound(keeper, FakeSocket(), "", buffer)  # type: ignore[arg-type]
    assert FakeTransport(outbound).read_high == 64 * 1024, "what waits encrypted counts to the window of 256 KiB too"
    sink = Sink()
    outbound.send(sink, b"GET", b"head", whole=True)
    outbound.flush()
    assert outbound.get_buffer(-1) is buffer
    for at in range(0, len(OK), 10):
        piece = OK[at : at + 10]
        buffer[: len(piece)] = piece
        outbound.buffer_updated(len(piece))
    assert sink.content == b"ok"
    assert keeper.told == ["release"]


async def test_what_is_left_of_a_request_that_was_answered_early_is_no_part_of_the_next(connection: Connection) -> None:
    outbound, first, second = connection.outbound, Sink(), Sink()
    outbound.send(first, b"POST", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", whole=False)
    outbound.flush()
    outbound.send_more(b"last piece", whole=True)
    outbound.data_received(OK)
    assert connection.keeper.told == ["release"]
    outbound.send(second, b"GET", b"GET / HTTP/1.1\r\n\r\n", whole=True)
    assert connection.far.written.endswith(b"last piece")
    outbound.connection_lost(None)
    assert second.told == [("unsent", b"GET / HTTP/1.1\r\n\r\n")]


async def test_a_connection_that_was_paused_is_the_pools_as_one_that_reads(connection: Connection) -> None:
    outbound = connection.outbound
    states: list[bool] = []
    connection.keeper.release = lambda outbound: states.append(connection.far.reads)  # type: ignore[method-assign]
    outbound.send(Sink(), b"GET", b"GET / HTTP/1.1\r\n\r\n", whole=True)
    outbound.flush()
    outbound.data_received(CHUNKED)
    outbound.pause()
    assert not connection.far.reads
    outbound.data_received(b"0\r\n\r\n")
    assert states == [True]
