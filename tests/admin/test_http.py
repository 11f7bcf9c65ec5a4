"""The API over real connections: what HTTP adds, what attackers send, readers that do not read."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar.admin import http
from sidecar.admin.access import Access
from sidecar.admin.api import MOST_BODY_BYTES, Api
from sidecar.admin.exchanges import Exchanges
from sidecar.admin.http import HttpServer
from sidecar.admin.server import AdminServer, build
from sidecar.admin.spec import AdminSpec
from sidecar.admin.token import Token
from sidecar.admin.typed import ALIVE
from sidecar.pb.agent_sre.sidecar.admin.v1.exchanges_pb2 import FollowExchangesResponse, ListExchangesResponse
from sidecar.runtime.metrics import Metrics
from sidecar.telemetry.metrics import Form, exposition
from tests.admin.app import App
from tests.admin.asking import Asking, ask, request
from tests.admin.seen import exchange_finished, exchange_in_flight
from tests.peers import prometheus
from tests.sidecar_under_test import eventually

Serving = Callable[..., Awaitable[AdminServer]]
SAFE = {
    "cache-control": "no-store", "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'", "cross-origin-resource-policy": "same-origin",
    "server": "sidecar",
}  # fmt: skip


def bearer(server: AdminServer) -> str:
    assert server._token is not None
    return f"Bearer {server._token.path.read_text().strip()}"


async def test_an_answer_over_tcp_is_json_and_safe_in_a_browser(serving: Serving) -> None:
    server = await serving()
    reply = await ask(server.endpoint)
    assert (reply.status, reply.json) == (200, {"status": "ok"})
    assert SAFE.items() <= reply.headers.items()


async def test_exchanges_come_as_protobuf_over_the_wire_whole_and_live(serving: Serving, app: App) -> None:
    server = await serving()
    app.runtime.bus.publish(exchange_finished(0))
    reply = await ask(server.endpoint, request(path="/api/v1/exchanges", accept="application/x-protobuf"))
    assert (reply.status, reply.headers["content-type"], reply.headers["vary"]) == (200, "application/x-protobuf", "Accept")
    assert [each.span_id for each in ListExchangesResponse.FromString(reply.body).exchanges] == [(1).to_bytes(8, "big")]
    async with Asking(server.endpoint) as stream:
        stream.writer.write(request(path="/api/v1/exchanges/stream", accept="application/x-protobuf"))
        status, headers = await stream.head()
        assert (status, headers["content-type"]) == (200, "application/x-protobuf")
        assert await stream.chunk() == ALIVE
        app.runtime.bus.publish(exchange_finished(1))
        piece = await stream.chunk()
        assert FollowExchangesResponse.FromString(piece[2:]).exchange.span_id == (2).to_bytes(8, "big")


async def test_errors_are_json_and_safe_in_a_browser_too(serving: Serving) -> None:
    server = await serving()
    for sent, status, code in (
        (request(path="/nowhere"), 404, "path_unknown"),
        (request(host="evil.example"), 403, "host_refused"),
        (request(origin="http://evil.example"), 403, "origin_refused"),
        (request("POST", "/api/v1/reload"), 401, "token_missing"),
        (request("POST", "/api/v1/reload", authorization="Bearer wrong"), 401, "token_wrong"),
        (request("PUT"), 405, "method_not_allowed"),
        (request(host=""), 400, "bad_request"),
        (request(host="localhost\r\nHost: localhost"), 400, "bad_request"),
        (request(path="http://evil.example/healthz"), 400, "bad_request"),
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
    ):
        reply = await ask(server.endpoint, sent)
        assert (reply.status, reply.error) == (status, code), sent[:80]
        assert SAFE.items() <= reply.headers.items(), sent[:80]


async def test_a_page_that_rebinds_its_name_to_loopback_can_neither_read_nor_change(serving: Serving, app: App) -> None:
    server = await serving()
    for name in ("attacker.example", f"attacker.example:{server.endpoint[1]}", "localhost.attacker.example"):
        for method, path in (("GET", "/api/v1/config"), ("POST", "/api/v1/drain"), ("GET", "/metrics")):
            sent = request(method, path, host=name, origin=f"http://{name}", authorization=bearer(server))
            reply = await ask(server.endpoint, sent)
            assert (reply.status, reply.error) == (403, "host_refused")
    assert app.done == []


async def test_a_form_on_another_page_cannot_change_anything(serving: Serving, app: App) -> None:
    server = await serving()
    for origin in ("https://evil.example", "null"):
        sent = request("POST", "/api/v1/drain", body=b"a=b", origin=origin, content_type="application/x-www-form-urlencoded")
        assert (await ask(server.endpoint, sent)).error == "origin_refused"
    preflight = request("OPTIONS", "/api/v1/drain", origin="https://evil.example", access_control_request_method="POST")
    reply = await ask(server.endpoint, preflight)
    assert reply.status == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert app.done == []


async def test_a_change_with_the_token_is_made_and_says_who(serving: Serving, app: App) -> None:
    server = await serving()
    sent = request(
        "POST", "/api/v1/reload", body=b'{"reason": "prices"}', authorization=bearer(server), content_type="application/json"
    )
    reply = await ask(server.endpoint, sent)
    assert (reply.status, reply.json) == (200, {"changes": ["traffic.default: changed"]})
    assert (app.told[0].who, app.told[0].why) == ("token from 127.0.0.1", "prices")


async def test_head_has_the_head_of_get_and_no_body(serving: Serving) -> None:
    server = await serving()
    async with Asking(server.endpoint) as asking:
        for path in ("/healthz", "/metrics", "/api/v1/exchanges/stream"):
            reply = await asking.ask(request("HEAD", path))
            assert reply.status == 200
        # what follows is read from its first byte on, so nothing came in between
        assert (await asking.ask(request())).json == {"status": "ok"}


async def test_requests_on_one_connection_are_answered_in_their_order(serving: Serving) -> None:
    server = await serving()
    async with Asking(server.endpoint) as asking:
        asking.writer.write(request(path="/api/v1/version") + request(path="/nowhere") + request())
        assert "python" in (await asking.reply()).json
        assert (await asking.reply()).error == "path_unknown"
        assert (await asking.reply()).json == {"status": "ok"}


async def test_many_clients_at_once_are_all_answered(serving: Serving) -> None:
    server = await serving()
    replies = await asyncio.gather(*(ask(server.endpoint, request(path="/metrics")) for _ in range(50)))
    assert {reply.status for reply in replies} == {200}


async def test_metrics_arrive_whole_however_many_they_are(serving: Serving, app: App) -> None:
    server = await serving()
    for number in range(2000):
        histogram = app.runtime.metrics.histogram("http.client.request.duration_seconds", "How long.", host=str(number))
        histogram.observe(number)
    reply = await ask(server.endpoint, request(path="/metrics", accept="application/openmetrics-text"))
    assert reply.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert len(reply.body) > 1_000_000
    assert reply.body.endswith(b"# EOF\n")
    assert reply.body.count(b"_count{") == 2000


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(
    serving: Serving, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LINGER_S", 0.1)
    server = await serving(unix_socket="")
    for sent in (
        request("POST", "/api/v1/drain", authorization=bearer(server), content_length=str(MOST_BODY_BYTES + 1)),
        request("POST", "/api/v1/drain", authorization=bearer(server), transfer_encoding="chunked")
        + b"8000\r\n" + b"x" * 0x8000 + b"\r\n",
    ):  # fmt: skip
        async with Asking(server.endpoint) as asking:
            assert (await asking.ask(sent)).error == "body_bytes"
            assert await asking.ended()
    assert app.done == []


async def test_a_body_that_does_not_come_is_not_waited_for_long(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_S", 0.05)
    monkeypatch.setattr(http, "LINGER_S", 0.1)
    server = await serving()
    sent = request("POST", "/api/v1/drain", authorization=bearer(server), content_length="5") + b"{"
    async with Asking(server.endpoint) as asking:
        reply = await asking.ask(sent)
        assert (reply.status, reply.error) == (408, "body_timeout")
        assert await asking.ended()


async def test_a_client_that_asks_first_is_told_to_go_on(serving: Serving) -> None:
    server = await serving()
    async with Asking(server.endpoint) as asking:
        asking.writer.write(request(
            "POST", "/api/v1/drain", authorization=bearer(server), expect="100-continue", content_length="2",
            content_type="application/json",
        ))  # fmt: skip
        status, _ = await asking.head()
        assert status == 100
        assert (await asking.ask(b"{}")).status == 202


async def test_the_stream_sends_each_exchange_when_it_ends(serving: Serving, app: App) -> None:
    server = await serving()
    async with Asking(server.endpoint) as asking:
        asking.writer.write(request(path="/api/v1/exchanges/stream"))
        status, headers = await asking.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert await asking.chunk() == b"retry: 2000\n\n"
        for number in range(3):
            app.runtime.bus.publish(exchange_finished(number))
            event, identity, data = (await asking.chunk()).decode().splitlines()[:3]
            assert (event, identity) == ("event: exchange", f"id: {number + 1:016x}")
            assert json.loads(data.removeprefix("data: "))["agent"] == "bot"


async def test_a_stream_that_is_left_is_forgotten_at_once(serving: Serving, app: App) -> None:
    server = await serving()
    async with Asking(server.endpoint) as asking:
        asking.writer.write(request(path="/api/v1/exchanges/stream"))
        await asking.head()
        await asking.chunk()
        assert len(server._exchanges._followers) == 1
    await eventually(lambda: not server._exchanges._followers, "the end of the stream")


async def test_one_stream_too_many_is_refused(serving: Serving) -> None:
    server = await serving()
    async with asyncio.timeout(10):
        streams = [Asking(server.endpoint) for _ in range(8)]
        for stream in streams:
            await stream.__aenter__()
            stream.writer.write(request(path="/api/v1/exchanges/stream"))
            await stream.head()
        reply = await ask(server.endpoint, request(path="/api/v1/exchanges/stream"))
        assert (reply.status, reply.error) == (503, "too_many_streams")
        for stream in streams:
            await stream.__aexit__()


@pytest.fixture
async def listening(app: App, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[tuple[str, int]]]]:
    """`await listening(idle_s=…)` serves the API without the component around it; returns where."""
    token = Token(tmp_path / "token")
    exchanges = Exchanges(app.runtime)
    exchanges.start()
    api = Api(app.runtime, app.operations, app.views, exchanges, Access(token, is_loopback=True))
    made: list[tuple[HttpServer, asyncio.Server]] = []

    async def listen(**settings: Any) -> tuple[str, int]:
        server = HttpServer(api, **settings)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        made.append((server, listener))
        host, port = listener.sockets[0].getsockname()
        return host, port

    yield listen
    exchanges.stop()
    for server, listener in made:
        listener.close()
        await server.stop(0.1)
        await listener.wait_closed()


Listening = Callable[..., Awaitable[tuple[str, int]]]


async def test_a_connection_that_sends_no_whole_head_is_closed(listening: Listening) -> None:
    where = await listening(idle_s=0.05)
    for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost: loc", request() + b"GET /"):
        async with Asking(where) as asking:
            asking.writer.write(sent)
            if sent.startswith(request()):
                assert (await asking.reply()).status == 200
            assert await asking.ended()


async def test_one_connection_too_many_is_told_so_and_there_is_room_again_when_one_has_gone(listening: Listening) -> None:
    where = await listening(most=2)
    async with Asking(where) as first:
        assert (await first.ask(request())).status == 200
        async with Asking(where) as second, Asking(where) as third:
            assert (await second.ask(request())).status == 200
            reply = await third.reply()
            assert (reply.status, reply.error) == (503, "too_many_connections")
            assert await third.ended()
        for _ in range(200):
            if (await ask_or_none(where)) == 200:
                return
            await asyncio.sleep(0.01)
    raise AssertionError("the room of the second was not given back")


async def ask_or_none(where: tuple[str, int]) -> int | None:
    try:
        return (await ask(where)).status
    except (ConnectionError, asyncio.IncompleteReadError):  # refused, and cut while the request was still on its way
        return None


async def slow_reader(where: tuple[str, int], sent: bytes) -> socket.socket:
    """A client that asks and never reads, with a small buffer of its own."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, where)
    await loop.sock_sendall(client, sent)
    return client


async def rest_of(client: socket.socket) -> tuple[bytes, bool]:
    """What arrives until the connection ends, and whether that is before the end of what was being sent."""
    loop = asyncio.get_running_loop()
    received = b""
    try:
        async with asyncio.timeout(10):
            while data := await loop.sock_recv(client, 65536):
                received += data
    except ConnectionError:
        return received, True
    return received, not received.endswith(b"0\r\n\r\n")


async def test_a_reader_of_metrics_that_does_not_read_is_cut(app: App, listening: Listening) -> None:
    for number in range(2000):
        app.runtime.metrics.histogram("http.client.request.duration_seconds", "How long.", host=f"{number:0200}")
    where = await listening(write_s=0.1)
    with await slow_reader(where, request(path="/metrics")) as client:
        await asyncio.sleep(0.5)  # longer than it may take to accept a write
        _, was_cut = await rest_of(client)
    assert was_cut
    assert app.count("admin.slow_clients") == 1
    assert (await ask(where)).status == 200


async def test_a_follower_that_does_not_read_is_dropped_and_the_traffic_goes_on(app: App, listening: Listening) -> None:
    where = await listening(write_s=0.2)
    with await slow_reader(where, request(path="/api/v1/exchanges/stream")) as client:
        streams = app.runtime.metrics.gauge("admin.streams", "")
        assert streams.read is not None
        await eventually(streams.read, "the stream")

        def publish_until_it_is_gone() -> bool:
            for number in range(50):
                app.runtime.bus.publish(exchange_finished(number, path="/" + "x" * 1000))
            assert streams.read is not None
            return not streams.read()

        await eventually(publish_until_it_is_gone, "the end of the stream")
        received, was_cut = await rest_of(client)
    assert was_cut or b"event: dropped" in received, "it may still have taken the bytes that say that it was too slow"
    assert app.count("admin.slow_clients") == 1


async def test_stop_does_not_wait_for_a_reader_that_does_not_read(app: App, listening: Listening) -> None:
    where = await listening()
    with await slow_reader(where, request(path="/api/v1/exchanges/stream")):
        streams = app.runtime.metrics.gauge("admin.streams", "")
        assert streams.read is not None
        await eventually(streams.read, "the stream")
        for number in range(900):
            app.runtime.bus.publish(exchange_finished(number, path="/" + "x" * 2000))
        await asyncio.sleep(0.2)
    # the fixture stops the server now; the check for what is left behind does the rest


async def test_an_error_in_the_server_itself_is_json_and_logged(
    app: App, listening: Listening, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(request: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(http, "_call", fails)
    reply = await ask(await listening())
    assert (reply.status, reply.error) == (500, "failed")
    assert b"secret detail" not in reply.body
    assert "secret detail" in caplog.text


async def test_an_operation_goes_on_when_its_client_goes_away(app: App, serving: Serving, tmp_path: Path) -> None:
    server = await serving(unix_socket=str(tmp_path / "s"))
    app.gate.clear()
    async with Asking(str(tmp_path / "s")) as asking:
        asking.writer.write(request("POST", "/api/v1/reload"))
        await eventually(lambda: app.done, "the reload")
    await asyncio.sleep(0.05)
    app.gate.set()
    await eventually(lambda: app.told, "the fact of the reload")
    assert app.told[0].outcome == "done"
    assert app.told[0].who.startswith("unix socket, uid ")
    assert server.health().ready


async def test_a_caller_over_the_unix_socket_is_known_by_uid(
    serving: Serving, app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "s")
    await serving(unix_socket=path)
    await ask(path, request("POST", "/api/v1/drain", host="whatever"))
    monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)
    await ask(path, request("POST", "/api/v1/drain"))
    assert app.told[0].who in (f"unix socket, uid {os.getuid()}, pid {os.getpid()}", f"unix socket, uid {os.getuid()}")
    assert app.told[1].who == f"unix socket, uid {os.getuid()}"


@pytest.mark.skipif(prometheus.BINARY is None, reason="prometheus is not installed (Debian package prometheus)")
async def test_a_real_prometheus_scrapes_it_and_is_served_openmetrics(
    serving: Serving, app: App, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    forms: list[Form] = []

    def exposition_noted(metrics: Metrics, form: Form, *, figures: Any) -> Any:
        forms.append(form)
        return exposition(metrics, form, figures=figures)

    monkeypatch.setattr("sidecar.admin.api.exposition", exposition_noted)
    app.live = [exchange_in_flight()]
    server = await serving()
    target = f"127.0.0.1:{server.endpoint[1]}"
    async with prometheus.Prometheus(tmp_path, free_port(), target) as scraper:
        found = (await scraper.scraped())[target]
    assert found["up"] == 1, "Prometheus could not read it"
    assert forms[0] is Form.OPENMETRICS
    assert found["http_server_active_requests"] == 1
    assert found["process_open_fds"] > 3
    assert found["sidecar_build_info"] == 1


def test_it_serves_on_uvloop_as_on_asyncio(tmp_path: Path) -> None:
    async def scenario() -> None:
        app = App(tmp_path)
        path = str(tmp_path / "s")
        server = build(AdminSpec(endpoint="127.0.0.1:0", unix_socket=path), app.runtime, app.operations, app.views)
        await server.start()
        try:
            assert (await ask(server.endpoint, request(path="/metrics"))).status == 200
            assert (await ask(server.endpoint, request("POST", "/api/v1/drain"))).error == "token_missing"
            assert (await ask(path, request("POST", "/api/v1/drain", host="whatever"))).status == 202
            assert app.told[0].who.startswith(f"unix socket, uid {os.getuid()}")
            server._http._most = 0
            assert (await ask(server.endpoint, request())).error == "too_many_connections"
            server._http._most = 64
            slow = await slow_reader(server.endpoint, request(path="/api/v1/exchanges/stream"))
            await eventually(lambda: server._exchanges._followers, "the stream")
            for number in range(900):
                app.runtime.bus.publish(exchange_finished(number, path="/" + "x" * 2000))
        finally:
            async with asyncio.timeout(5):
                await server.stop()
        slow.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
    assert not (tmp_path / "s").exists()
