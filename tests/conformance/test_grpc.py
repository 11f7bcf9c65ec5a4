"""gRPC through the sidecar: real clients and servers see of each other what they would see without it."""

import asyncio
import contextlib
import importlib
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from sidecar.model.errors import ConfigInvalid
from sidecar.model.facts import Mode
from tests.peers.rpc import COPIES, EOF, RpcUpstream, channel, failure, messages, shown
from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest, eventually

PROMPT_S = 0.5
ECHO = "/test.Echo/"


def config_for(
    url: str,
    *,
    listener: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    **traffic: Any,
) -> dict[str, Any]:
    """A config with one route, for every service, to one gRPC upstream."""
    return {
        "traffic": {
            "listeners": {"http": {"endpoint": "127.0.0.1:0"}, "grpc": {"endpoint": "127.0.0.1:0", **(listener or {})}},
            "upstreams": {"grpc/peer": {"url": url, **(upstream or {})}},
            "routes": {"peer": {"path": "/", "upstream": "grpc/peer", **(route or {})}},
            "drain": "300ms",
            **traffic,
        },
        "admin": {"endpoint": "127.0.0.1:0"},
    }


def port_of(sidecar: SidecarUnderTest, name: str = "grpc") -> int:
    return sidecar.app.endpoints[f"traffic.listeners.{name}"][1]


class Setting:
    """A client, the sidecar and a server."""

    def __init__(self, opened: Opened, upstream: RpcUpstream, sidecar: SidecarUnderTest, client: grpc.aio.Channel) -> None:
        self.opened = opened
        self.upstream = upstream
        self.sidecar = sidecar
        self.client = client

    async def calls(self, body: bytes = b"hello", path: str = f"{ECHO}UnaryUnary", **settings: Any) -> bytes:
        """One unary call."""
        return await self.client.unary_unary(path)(body, timeout=settings.pop("timeout", 10), **settings)  # type: ignore[no-any-return]  # bytes

    async def fails(self, path: str = f"{ECHO}UnaryUnary", **settings: Any) -> grpc.aio.AioRpcError:
        """One unary call, which fails."""
        return await failure(self.calls(path=path, **settings))


@pytest.fixture
def sets(opened: Opened) -> Any:
    async def sets(behave: Any = None, *, client: Any = None, upstream: Any = None, **settings: Any) -> Setting:
        upstream = upstream or await opened(RpcUpstream(behave))
        sidecar = await opened(SidecarUnderTest(config_for(upstream.url, **settings)))
        return Setting(opened, upstream, sidecar, await opened(channel(port_of(sidecar), **(client or {}))))

    return sets


def error_of(error: grpc.aio.AioRpcError) -> str:
    """The code of an error that the sidecar made, "" for any other."""
    return dict(shown(error.trailing_metadata())).get("x-sidecar-error", "")


# ── what passes ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_all_four_kinds_of_calls_pass(sets: Any) -> None:
    setting = await sets()
    client = setting.client
    assert await client.unary_unary(f"{ECHO}UnaryUnary")(b"one") == b"one"
    assert [each async for each in client.unary_stream(f"{ECHO}UnaryStream")(b"one")] == [b"one"] * COPIES
    assert await client.stream_unary(f"{ECHO}StreamUnary")(messages(b"a", b"", b"b")) == b"ab"
    assert [each async for each in client.stream_stream(f"{ECHO}StreamStream")(messages(b"a", b"", b"b"))] == [b"a", b"", b"b"]
    assert await client.stream_unary(f"{ECHO}StreamUnary")(messages()) == b""


async def test_a_conversation_passes_message_by_message(sets: Any) -> None:
    setting = await sets()
    call = setting.client.stream_stream(f"{ECHO}StreamStream")()
    for number in range(3):
        await call.write(b"%d" % number)
        assert await call.read() == b"%d" % number
    await call.done_writing()
    assert await call.read() is EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_metadata_passes_both_ways_with_its_duplicates_and_its_bytes(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await context.send_initial_metadata((("first", "1"), ("a-bin", b"\x00\xff"), ("first", "2")))
        await context.write(await context.read())
        context.set_trailing_metadata((("last", "x, y"), ("b-bin", b"\x80"), ("last", "z")))

    setting = await sets(behave)
    sent = (("dup", "1"), ("raw-bin", b"\x00\x01\xfe"), ("dup", "2"), ("authorization", "Bearer t"), ("a-b.c_d", "~ !"))
    call = setting.client.unary_unary("/any.Service/Method")(b"x", metadata=sent)
    assert await call == b"x"
    heard = await setting.upstream.hears()
    assert sorted(pair for pair in heard.metadata if pair[0] not in ("via", "traceparent")) == sorted(sent)
    assert heard.values("dup") == ["1", "2"], "of one key the order is kept; among keys the library has its own"
    initial, trailing = shown(await call.initial_metadata()), shown(await call.trailing_metadata())
    assert [value for key, value in initial if key == "first"] == ["1", "2"]
    assert dict(initial)["a-bin"] == b"\x00\xff"
    assert [value for key, value in trailing if key == "last"] == ["x, y", "z"]
    assert dict(trailing)["b-bin"] == b"\x80"
    assert heard.path == "/any.Service/Method"


async def test_who_calls_is_told_to_the_sidecar_and_not_to_the_upstream(sets: Any) -> None:
    setting = await sets()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    metadata = (
        ("x-agent-id", "planner"), ("x-agent-task-id", "t-1"), ("proxy-authorization", "Basic eDp5"), ("traceparent", parent),
        ("tracestate", "a=1"), ("baggage", "secret=1"), ("via", "1.1 elsewhere"),
    )  # fmt: skip
    await setting.calls(metadata=metadata)
    heard, exchange, attempt = await setting.upstream.hears(), await setting.sidecar.finished(), setting.sidecar.attempts[0]
    assert (exchange.agent, exchange.task) == ("x", "t-1"), "Proxy-Authorization comes first"
    assert exchange.parent_id.hex() == "b7ad6b7169203331"
    assert {key for key, _ in heard.metadata} == {"traceparent", "tracestate", "via"}
    assert heard.values("traceparent") == [f"00-0af7651916cd43dd8448eb211c80319c-{attempt.span_id.hex()}-01"]
    assert heard.values("tracestate") == ["a=1"]
    assert heard.values("via")[0].startswith("1.1 elsewhere, 2.0 agent-sre-")


async def test_baggage_goes_on_where_the_route_says_so(sets: Any) -> None:
    setting = await sets(route={"baggage": True})
    await setting.calls(metadata=(("baggage", "agent.id=a"), ("baggage", "b=2")))
    assert (await setting.upstream.hears()).values("baggage") == ["agent.id=a", "b=2"]
    assert (await setting.sidecar.finished()).agent == "a"


async def test_the_head_of_a_response_does_not_wait_for_its_first_message(sets: Any) -> None:
    told = asyncio.Event()

    async def behave(context: Any) -> None:
        await context.send_initial_metadata((("early", "yes"),))
        await told.wait()
        await context.write(b"late")

    setting = await sets(behave)
    call = setting.client.stream_stream("/a.B/C")()
    assert shown(await call.initial_metadata()) == [("early", "yes")], "nothing was sent but the head of the request"
    told.set()
    assert await call.read() == b"late"
    await call.done_writing()


async def test_every_status_passes_with_its_text_and_its_details(sets: Any) -> None:
    details, text = b"\x08\x05\x12\x03abc", "größer: 100 % – \n ok"
    failing = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

    async def behave(context: Any) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", details), ("why", "so")))
        context.set_code(failing[int(await context.read())])
        context.set_details(text)

    setting = await sets(behave)
    for number, code in enumerate(failing):
        error = await setting.fails(body=b"%d" % number)
        assert (error.code(), error.details()) == (code, text)
        assert shown(error.trailing_metadata()) == [("grpc-status-details-bin", details), ("why", "so")]
    await setting.sidecar.finished(len(failing))
    assert {(exchange.status, exchange.error) for exchange in setting.sidecar.exchanges} == {(200, "")}
    assert [exchange.dialogue.answered.error_type for exchange in setting.sidecar.exchanges] == [code.name for code in failing]  # type: ignore[union-attr]  # there are both
    assert not setting.sidecar.refused


async def test_a_stream_that_fails_later_keeps_what_came_before(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await context.write(b"one")
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone", (("t", "1"),))

    setting = await sets(behave)
    call = setting.client.unary_stream("/a.B/C")(b"x")
    assert await call.read() == b"one"
    await failure(call.read())
    assert (await call.code(), await call.details()) == (grpc.StatusCode.DATA_LOSS, "gone")
    assert shown(await call.trailing_metadata()) == [("t", "1")]


async def test_big_messages_pass_byte_for_byte(sets: Any, opened: Opened) -> None:
    body = bytes(range(256)) * (40 * 1024)  # 10 MiB
    any_size = [("grpc.max_receive_message_length", -1)]
    setting = await sets(upstream=await opened(RpcUpstream(options=any_size)), client={"options": any_size})
    assert await setting.calls(body) == body


@pytest.mark.parametrize("coding", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
async def test_compressed_messages_arrive_as_what_they_are(sets: Any, opened: Opened, coding: grpc.Compression) -> None:
    upstream = await opened(RpcUpstream(compression=coding))
    setting = await sets(upstream=upstream, client={"compression": coding})
    assert await setting.calls(b"a" * 10_000) == b"a" * 10_000


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deadline_passes_with_what_is_left_of_it(sets: Any) -> None:
    setting = await sets()
    await setting.calls(timeout=7)
    await setting.calls(timeout=None)
    assert 6 < (await setting.upstream.hears()).left_s < 7.1, "the library writes three digits, and rounds up"
    assert (await setting.upstream.hears(2)).left_s is None


async def test_a_deadline_that_passes_ends_the_call_on_both_sides(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await asyncio.sleep(30)

    setting = await sets(behave)
    error = await setting.fails(timeout=0.1)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    heard = await setting.upstream.hears()
    async with asyncio.timeout(1):
        await heard.ended.wait()
    exchange = await setting.sidecar.finished()
    assert exchange.error == "client_gone", "it did not want to wait longer, whoever noticed it first"
    assert [attempt.error for attempt in setting.sidecar.attempts] == ["client_gone"]


@pytest.mark.parametrize("is_streaming", [True, False], ids=["stream", "unary"])
async def test_a_client_that_cancels_cancels_at_the_upstream(sets: Any, is_streaming: bool) -> None:
    async def behave(context: Any) -> None:
        await context.read()
        if is_streaming:
            await context.write(b"one")
        await asyncio.sleep(30)

    setting = await sets(behave)
    call = setting.client.stream_stream("/a.B/C")()
    await call.write(b"x")
    if is_streaming:
        assert await call.read() == b"one"
    heard = await setting.upstream.hears()
    began = time.monotonic()
    call.cancel()
    async with asyncio.timeout(1):
        await heard.ended.wait()
    assert time.monotonic() - began < PROMPT_S
    assert heard.was_cancelled
    exchange = await setting.sidecar.finished()
    assert exchange.error == "client_gone"
    assert [attempt.error for attempt in setting.sidecar.attempts] == ["client_gone"]


async def test_a_client_that_dies_cancels_at_the_upstream(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await asyncio.sleep(30)

    setting = await sets(behave)
    client = channel(port_of(setting.sidecar))
    call = client.stream_stream("/a.B/C")()
    await call.write(b"x")
    heard = await setting.upstream.hears()
    began = time.monotonic()
    await client.close()
    async with asyncio.timeout(1):
        await heard.ended.wait()
    assert time.monotonic() - began < PROMPT_S
    assert (await setting.sidecar.finished()).error == "client_gone"


@pytest.mark.parametrize("sent", [1, 3])
async def test_a_request_that_is_cut_never_looks_whole(sets: Any, sent: int) -> None:
    believed = []

    async def behave(context: Any) -> None:
        async def reads() -> None:
            while await context.read() is not EOF:
                pass
            await asyncio.sleep(0.1)  # the end of a request that was cancelled looks the same here, until that is heard of
            believed.append(True)

        await asyncio.gather(reads())

    setting = await sets(behave)
    for number in range(10):
        call = setting.client.stream_unary("/a.B/C")()
        for _ in range(sent):
            await call.write(b"x")
        heard = await setting.upstream.hears(number + 1)  # else there is nobody who could take it for whole
        call.cancel()
        async with asyncio.timeout(5):
            await heard.ended.wait()
    assert not believed
    assert {exchange.error for exchange in setting.sidecar.exchanges} == {"client_gone"}


async def test_an_upstream_that_cancels_is_heard_of_at_once(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await context.abort(grpc.StatusCode.CANCELLED, "not wanted")

    setting = await sets(behave)
    error = await setting.fails()
    assert (error.code(), error.details()) == (grpc.StatusCode.CANCELLED, "not wanted")
    assert (await setting.sidecar.finished()).error == ""


async def test_an_answer_may_come_before_the_request_is_over(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await context.read()
        await context.write(b"enough")

    setting = await sets(behave)
    call = setting.client.stream_stream("/a.B/C")()
    await call.write(b"x")
    assert await call.read() == b"enough"
    assert await call.read() is EOF
    assert await call.code() is grpc.StatusCode.OK
    await setting.sidecar.finished()


async def test_an_answer_that_needs_no_more_of_the_request_is_not_lost(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await context.write(b"enough")
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    setting = await sets(behave)

    async def talks() -> grpc.StatusCode:
        call = setting.client.stream_stream("/a.B/C")()
        with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            await call.write(b"x")  # the client's library has the same fault, and forgets the answer where this comes too late
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not EOF:
                pass
        return await call.code()  # type: ignore[no-any-return]  # a status code

    for _ in range(20):
        assert await talks() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL)
    await setting.sidecar.finished(20)
    answers = [exchange.dialogue.answered for exchange in setting.sidecar.exchanges]
    assert {(answer.error_type, answer.events) for answer in answers} == {("UNAUTHENTICATED", 1)}


@pytest.mark.parametrize("direction", ["response", "request"])
async def test_a_slow_reader_slows_the_writer_down(sets: Any, direction: str) -> None:
    piece, written = bytes(64 * 1024), [0]
    most = 2000  # 125 MiB; without back-pressure it would be all of it, and the library and the kernel keep some 40

    async def pours(write: Any) -> None:
        while written[0] < 5000:
            await write(piece)
            written[0] += 1

    async def behave(context: Any) -> None:
        if direction == "response":
            await pours(context.write)
        else:
            await asyncio.sleep(30)

    setting = await sets(behave)
    call = setting.client.stream_stream("/a.B/C")()
    pouring = asyncio.ensure_future(pours(call.write) if direction == "request" else call.read())
    await setting.upstream.hears()
    before = -1
    while before != written[0]:
        before = written[0]
        await asyncio.sleep(0.1)
    assert 0 < written[0] < most
    pouring.cancel()
    call.cancel()
    await asyncio.gather(pouring, return_exceptions=True)


# ── errors of ours ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_service_without_a_route_is_unimplemented(sets: Any) -> None:
    setting = await sets(route={"path": "/test.Echo/"})
    assert await setting.calls(b"x") == b"x"
    error = await setting.fails("/other.Service/Method")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error_of(error) == "route_unknown"
    assert setting.sidecar.refused == {"route_unknown": 1}
    exchange = await setting.sidecar.finished(2)
    assert (exchange.route, exchange.path, exchange.error, exchange.attempts) == ("", "/other.Service/Method", "route_unknown", 0)


async def test_an_upstream_that_is_not_there_is_unavailable(opened: Opened, free_port: Any) -> None:
    port = free_port()
    sidecar = await opened(SidecarUnderTest(config_for(f"http://127.0.0.1:{port}")))
    setting = Setting(opened, RpcUpstream(port=port), sidecar, await opened(channel(port_of(sidecar))))
    error = await setting.fails()
    assert (error.code(), error_of(error)) == (grpc.StatusCode.UNAVAILABLE, "connect_failed")
    attempt = sidecar.attempts[0]
    assert (attempt.status, attempt.error, attempt.address) == (0, "connect_failed", "")
    await opened(setting.upstream)
    assert await setting.calls(b"now") == b"now", "no back-off stands in the way of the next call"


async def test_something_else_at_the_port_is_said_so(opened: Opened) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sidecar = await opened(SidecarUnderTest(config_for(f"http://127.0.0.1:{port}", upstream={"connect_timeout": "2s"})))
        async with channel(port_of(sidecar)) as client:
            error = await failure(client.unary_unary("/a.B/C")(b""))
        assert error_of(error) in ("upstream_malformed", "connect_timeout")
        assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("has_answered", [False, True], ids=["before the head", "after the head"])
async def test_an_upstream_that_dies_is_unavailable(sets: Any, has_answered: bool) -> None:
    async def behave(context: Any) -> None:
        if has_answered:
            await context.write(b"one")
        await asyncio.sleep(30)

    setting = await sets(behave)
    cut = Cut(setting.upstream.port)
    await setting.opened(cut)
    sidecar = await setting.opened(SidecarUnderTest(config_for(f"http://127.0.0.1:{cut.port}")))
    client = await setting.opened(channel(port_of(sidecar)))
    call = client.stream_stream("/a.B/C")()
    await call.write(b"x")
    if has_answered:
        assert await call.read() == b"one"
    await setting.upstream.hears()
    cut.cuts()
    error = await failure(call.read())
    code = "upstream_cut" if has_answered else "upstream_closed"
    assert (error.code(), error_of(error)) == (grpc.StatusCode.UNAVAILABLE, code)
    assert (await sidecar.finished()).error == code
    assert [attempt.error for attempt in sidecar.attempts] == [code]
    assert sidecar.refused == {code: 1}


class Cut:
    """Stands between the sidecar and a server, and cuts the connection when told to."""

    def __init__(self, port: int) -> None:
        self._there = port
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Cut":
        self._server = await asyncio.start_server(self._joins, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cuts()
        await self._server.wait_closed()

    async def _joins(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader_there, writer_there = await asyncio.open_connection("127.0.0.1", self._there)
        self._writers += [writer, writer_there]
        await asyncio.gather(self._copy(reader, writer_there), self._copy(reader_there, writer), return_exceptions=True)
        writer.close()
        writer_there.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    def cuts(self) -> None:
        """End every connection by a reset."""
        for writer in self._writers:
            writer.transport.abort()


async def test_an_exchange_that_is_stopped_ends_at_once_on_both_sides(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await context.write(b"one")
        await asyncio.sleep(30)

    setting = await sets(behave)
    call = setting.client.stream_stream("/a.B/C")()
    await call.write(b"x")
    assert await call.read() == b"one"
    (exchange,) = setting.sidecar.app._traffic.exchanges()
    began = time.monotonic()
    exchange.stop("enough of this")
    error = await failure(call.read())
    await (await setting.upstream.hears()).ended.wait()
    assert time.monotonic() - began < 2 * PROMPT_S
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error_of(error) == "stopped"
    assert "enough of this" in (error.details() or "")
    assert (await setting.sidecar.finished()).error == "stopped"
    assert [attempt.error for attempt in setting.sidecar.attempts] == ["stopped"]


async def test_users_have_to_say_who_they_are(sets: Any) -> None:
    setting = await sets(listener={"users": {"planner": "secret"}})
    error = await setting.fails()
    assert (error.code(), error_of(error)) == (grpc.StatusCode.UNAUTHENTICATED, "proxy_auth_required")
    await setting.calls(metadata=(("proxy-authorization", "Basic cGxhbm5lcjpzZWNyZXQ="),))
    assert (await setting.sidecar.finished(2)).agent == "planner"
    assert "proxy-authorization" not in dict((await setting.upstream.hears()).metadata)


async def test_more_calls_than_there_is_room_for_are_refused(sets: Any) -> None:
    async def behave(context: Any) -> None:
        await asyncio.sleep(30)

    setting = await sets(behave, listener={"max_calls": 1})
    call = setting.client.stream_stream("/a.B/C")()
    await call.write(b"x")
    await setting.upstream.hears()
    other = await setting.opened(channel(port_of(setting.sidecar)))
    error = await failure(other.unary_unary("/a.B/C")(b"x"))
    assert (error.code(), error_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_connections")
    assert dict(shown(error.trailing_metadata()))["grpc-retry-pushback-ms"] == "1000"
    call.cancel()


async def test_a_message_above_the_bound_is_refused_in_both_directions(sets: Any) -> None:
    setting = await sets(listener={"max_message_bytes": "64KiB"})
    error = await setting.fails(body=bytes(100_000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await eventually(lambda: all(heard.was_cancelled for heard in setting.upstream.heard), "the end at the upstream")
    assert await setting.calls(bytes(60_000)) == bytes(60_000)
    await eventually(lambda: len(setting.sidecar.exchanges) == 2, "both exchanges end")


async def test_a_response_above_the_bound_is_refused(opened: Opened) -> None:
    upstream = await opened(RpcUpstream())
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, upstream={"max_message_bytes": "64KiB"})))
    async with channel(port_of(sidecar)) as client:
        error = await failure(client.unary_unary(f"{ECHO}UnaryUnary")(bytes(100_000)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    exchange = await sidecar.finished()
    assert exchange.dialogue is not None
    assert exchange.dialogue.answered is not None
    assert exchange.dialogue.answered.error_type == "RESOURCE_EXHAUSTED"


async def test_a_call_that_comes_back_is_a_loop(opened: Opened, free_port: Any) -> None:
    port = free_port()
    config = config_for(f"http://127.0.0.1:{port}", listener={"endpoint": f"127.0.0.1:{port}"})
    sidecar = await opened(SidecarUnderTest(config))
    async with channel(port) as client:
        error = await failure(client.unary_unary("/a.B/C")(b""))
    assert (error.code(), error_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "loop_detected")
    assert sidecar.refused == {"loop_detected": 1}


@pytest.mark.parametrize("setting", ["first_byte_timeout", "idle_timeout"])
async def test_an_upstream_that_keeps_silent_is_given_up(sets: Any, opened: Opened, setting: str) -> None:
    async def behave(context: Any) -> None:
        await context.read()
        if setting == "idle_timeout":
            await context.write(b"one")
        await asyncio.sleep(30)

    upstream = await opened(RpcUpstream(behave))
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, upstream={setting: "100ms"})))
    async with channel(port_of(sidecar)) as client:
        error = await failure(client.unary_unary("/a.B/C")(b"x"))
    assert (error.code(), error_of(error)) == (grpc.StatusCode.DEADLINE_EXCEEDED, setting)
    assert (await upstream.hears()).was_cancelled or (await upstream.hears()).ended


# ── facts, policies, routes ──────────────────────────────────────────────────────────────────────────────────────────


async def test_every_call_is_told_of_once(sets: Any) -> None:
    setting = await sets()
    await setting.calls(b"12345")
    call = setting.client.unary_stream(f"{ECHO}UnaryStream")(b"123")
    assert len([each async for each in call]) == COPIES
    stream = await setting.sidecar.finished(2)
    unary, attempt = setting.sidecar.exchanges[0], setting.sidecar.attempts[0]
    assert len(setting.sidecar.attempts) == 2
    assert (unary.mode, unary.method, unary.listener, unary.route, unary.upstream) == (
        Mode.GATEWAY, "POST", "grpc", "peer", "grpc/peer",
    )  # fmt: skip
    assert (unary.path, attempt.path, unary.port) == (f"{ECHO}UnaryUnary", f"{ECHO}UnaryUnary", setting.upstream.port)
    assert (unary.request_bytes, unary.response_bytes, attempt.sent_bytes, attempt.received_bytes) == (5, 5, 5, 5)
    assert (stream.request_bytes, stream.response_bytes) == (3, 3 * COPIES)
    assert attempt.parent_id == unary.span_id
    assert attempt.address in ("127.0.0.1", "::1")
    assert attempt.connect_s > 0
    assert setting.sidecar.attempts[1].connect_s == 0.0, "the connection is there already"
    assert unary.client.startswith("127.0.0.1:")
    assert unary.dialogue is not None
    assert (unary.dialogue.asked.dialect, unary.dialogue.asked.operation) == ("grpc", "test.Echo/UnaryUnary")




async def test_a_listener_may_serve_some_routes_only(opened: Opened) -> None:
    first, second = await opened(RpcUpstream()), await opened(RpcUpstream())
    config = config_for(first.url, route={"path": ECHO})
    config["traffic"]["upstreams"]["grpc/second"] = {"url": second.url}
    config["traffic"]["routes"]["second"] = {"upstream": "grpc/second"}
    config["traffic"]["listeners"]["grpc/second"] = {"endpoint": "127.0.0.1:0", "routes": ["second"]}
    sidecar = await opened(SidecarUnderTest(config))
    async with channel(port_of(sidecar)) as to_first, channel(port_of(sidecar, "grpc/second")) as to_second:
        await to_first.unary_unary(f"{ECHO}UnaryUnary")(b"")
        await to_second.unary_unary(f"{ECHO}UnaryUnary")(b"")
        assert (len(first.heard), len(second.heard)) == (1, 1)
        named = (("x-sidecar-authority", f"localhost:{second.port}"),)
        await to_first.unary_unary(f"{ECHO}UnaryUnary")(b"", metadata=named)
        assert len(second.heard) == 2
        assert "x-sidecar-authority" not in dict(second.heard[1].metadata)
        error = await failure(to_first.unary_unary(f"{ECHO}UnaryUnary")(b"", metadata=(("x-sidecar-authority", "169.254.169.254:80"),)))
        assert (error.code(), error_of(error)) == (grpc.StatusCode.PERMISSION_DENIED, "destination_denied")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"listener": {"routes": ["nobody"]}}, "no route to an upstream of the type grpc"),
        ({"route": {"path": "/a.B/C/"}}, "has to be that of a service"),
    ],
    ids=["routes", "path"],
)
async def test_a_config_that_gRPC_cannot_serve_is_refused(changes: dict[str, Any], problem: str) -> None:  # noqa: N802 - its name
    with pytest.raises(ConfigInvalid, match=problem):
        async with SidecarUnderTest(config_for("http://127.0.0.1:9", **changes)):
            pass


# ── services that nobody here wrote ──────────────────────────────────────────────────────────────────────────────────


async def serves(opened: Opened, register: Any) -> int:
    """A server of its own for a service of somebody else's; returns its port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await opened(Ending(server))
    return port


class Ending:
    """Stops a server at the end of a test."""

    def __init__(self, server: Any) -> None:
        self._server = server

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        server, self._server = self._server, None
        await server.stop(None)


async def test_health_checks_pass_with_their_watches(opened: Opened) -> None:
    aio = pytest.importorskip("grpc_health.v1._async")
    pb, stubs = pytest.importorskip("grpc_health.v1.health_pb2"), pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    servicer = aio.HealthServicer()
    port = await serves(opened, lambda server: stubs.add_HealthServicer_to_server(servicer, server))
    sidecar = await opened(SidecarUnderTest(config_for(f"http://127.0.0.1:{port}")))
    stub = stubs.HealthStub(await opened(channel(port_of(sidecar))))
    await servicer.set("planner", pb.HealthCheckResponse.NOT_SERVING)
    request = pb.HealthCheckRequest(service="planner")
    assert (await stub.Check(request)).status == pb.HealthCheckResponse.NOT_SERVING
    watch = stub.Watch(request)
    assert (await watch.read()).status == pb.HealthCheckResponse.NOT_SERVING
    await servicer.set("planner", pb.HealthCheckResponse.SERVING)
    assert (await watch.read()).status == pb.HealthCheckResponse.SERVING
    watch.cancel()
    assert (await failure(stub.Check(pb.HealthCheckRequest(service="nobody")))).code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_passes_both_ways(opened: Opened) -> None:
    reflection = pytest.importorskip("grpc_reflection.v1alpha.reflection")
    pb, stubs = reflection._reflection_pb2, reflection._reflection_pb2_grpc
    names = (reflection.SERVICE_NAME,)
    port = await serves(opened, lambda server: reflection.enable_server_reflection(names, server))
    sidecar = await opened(SidecarUnderTest(config_for(f"http://127.0.0.1:{port}")))
    stub = stubs.ServerReflectionStub(await opened(channel(port_of(sidecar))))
    call = stub.ServerReflectionInfo()
    await call.write(pb.ServerReflectionRequest(list_services=""))
    assert [each.name for each in (await call.read()).list_services_response.service] == list(names)
    await call.write(pb.ServerReflectionRequest(file_containing_symbol=reflection.SERVICE_NAME))
    assert (await call.read()).file_descriptor_response.file_descriptor_proto
    await call.done_writing()
    assert await call.read() is EOF


def an_agent() -> Any:
    """What registers an agent, made with the official SDK, on a server: it works a moment and completes."""
    sdk = {
        name: importlib.import_module(f"a2a.{name}")
        for name in ("server.agent_execution", "server.request_handlers", "server.tasks", "types.a2a_pb2")
    }
    handler = importlib.import_module("a2a.server.request_handlers.grpc_handler").GrpcHandler
    updater_of = importlib.import_module("a2a.server.tasks.task_updater").TaskUpdater
    pb, stubs = sdk["types.a2a_pb2"], importlib.import_module("a2a.types.a2a_pb2_grpc")

    class Worker(sdk["server.agent_execution"].AgentExecutor):  # type: ignore[misc]  # a class that is found at run time
        async def execute(self, context: Any, event_queue: Any) -> None:
            task = pb.Task(id=context.task_id, context_id=context.context_id, status=pb.TaskStatus(state=1))
            await event_queue.enqueue_event(task)
            updater = updater_of(event_queue, context.task_id, context.context_id)
            await updater.start_work()
            await updater.add_artifact([pb.Part(text="done")])
            await updater.complete()

        async def cancel(self, context: Any, event_queue: Any) -> None:
            raise AssertionError("nobody cancels")

    card = pb.AgentCard(name="worker", version="1", capabilities=pb.AgentCapabilities(streaming=True))
    requests = sdk["server.request_handlers"].DefaultRequestHandler(Worker(), sdk["server.tasks"].InMemoryTaskStore(), card)
    return lambda server: stubs.add_A2AServiceServicer_to_server(handler(requests), server)


async def raises(call: Any) -> str:
    """The class of what a call raises, and nothing that would keep its frames."""
    try:
        await call
    except Exception as error:
        error.__cause__ = error.__context__ = None
        return type(error).__name__
    return ""


async def test_the_sdk_of_a2a_talks_to_an_agent_through_it(opened: Opened) -> None:
    transport_of = pytest.importorskip("a2a.client.transports.grpc").GrpcTransport
    pb = importlib.import_module("a2a.types.a2a_pb2")
    port = await serves(opened, an_agent())
    sidecar = await opened(SidecarUnderTest(config_for(f"http://127.0.0.1:{port}", route={"path": "/lf.a2a.v1.A2AService/"})))
    client = transport_of(await opened(channel(port_of(sidecar))), None)

    def request(message_id: str) -> Any:
        message = pb.Message(message_id=message_id, role=pb.ROLE_USER, parts=[pb.Part(text="hello")])
        return pb.SendMessageRequest(message=message, configuration=pb.SendMessageConfiguration())

    task = (await client.send_message(request("m-1"))).task
    assert task.status.state == pb.TASK_STATE_COMPLETED
    events = [event async for event in client.send_message_streaming(request("m-2"))]
    assert events[-1].status_update.status.state == pb.TASK_STATE_COMPLETED
    assert (await client.get_task(pb.GetTaskRequest(id=task.id))).artifacts[0].parts[0].text == "done"
    assert await raises(client.get_task(pb.GetTaskRequest(id="nobody"))) == "TaskNotFoundError"
    await sidecar.finished(4)
    dialogues: list[Any] = [exchange.dialogue for exchange in sidecar.exchanges]
    sent, streamed, got, failed = dialogues
    assert [each.asked.operation for each in dialogues] == ["SendMessage", "SendStreamingMessage", "GetTask", "GetTask"]
    assert [each.asked.message for each in (sent, streamed)] == ["m-1", "m-2"]
    assert [each.answered.state for each in (sent, streamed, got)] == ["TASK_STATE_COMPLETED"] * 3
    assert (sent.answered.task, got.asked.task, got.answered.context) == (task.id, task.id, task.context_id)
    assert (failed.answered.error_type, failed.answered.code) == ("TASK_NOT_FOUND", 5)
    assert streamed.answered.events == len(events)
    client.channel = client.stub = None  # the SDK keeps its last error, and that this client
