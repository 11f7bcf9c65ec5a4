import asyncio
import os
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from sidecar.config import load
from sidecar.model.errors import ConfigInvalid
from sidecar.model.spec import Secret
from sidecar.runtime.runtime import Runtime, State
from sidecar.traffic.grpc.trust import ServerTlsSpec
from sidecar.traffic.listeners.grpc import Config, GrpcListener, build, client_of
from tests.conformance.test_grpc import config_for, error_of, port_of
from tests.peers.rpc import EOF, RpcUpstream, channel, failure
from tests.repository import ROOT
from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest, eventually

ECHO = "/test.Echo/UnaryUnary"
TALK = "/test.Echo/StreamStream"

# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("endpoint", ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "sidecar.internal:1"])
def test_a_port_that_others_can_reach_needs_users_certificates_or_a_word(endpoint: str) -> None:
    with pytest.raises(ValueError, match="can be reached from elsewhere"):
        Config(endpoint=endpoint)
    assert Config(endpoint=endpoint, users={"a": Secret("b")}).endpoint == endpoint
    assert Config(endpoint=endpoint, allow_unauthenticated=True).endpoint == endpoint
    assert Config(endpoint=endpoint, tls=ServerTlsSpec(cert_file="c", client_ca_file="a")).endpoint == endpoint


def test_loopback_needs_none_of_them() -> None:
    assert [Config(endpoint=each).users for each in ("127.0.0.1:1", "[::1]:1", "localhost:1")] == [{}, {}, {}]


@pytest.mark.parametrize("settings", [{"max_connections": 0}, {"max_calls": 0}], ids=["connections", "calls"])
def test_bounds_that_let_nothing_in_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="have to be 1 or more"):
        Config(**settings)  # type: ignore[arg-type]  # the names are settings whose values are numbers


@pytest.mark.parametrize(
    ("peer", "client"),
    [("ipv4:127.0.0.1:5", "127.0.0.1:5"), ("ipv6:%5B::1%5D:5", "[::1]:5"), ("ipv6:[::1]:5", "[::1]:5"), ("unix:", "")],
    ids=["IPv4", "IPv6 escaped", "IPv6", "no address"],
)
def test_a_client_is_named_by_its_address(peer: str, client: str) -> None:
    assert client_of(peer) == client


# ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_health_follows_its_life() -> None:
    listener = build("grpc", Config(endpoint="127.0.0.1:0"), Runtime())
    assert isinstance(listener, GrpcListener)
    assert (listener.health().state, listener.health().ready) == (State.STARTING, False)
    await listener.start()
    assert (listener.health().state, listener.health().ready) == (State.OK, True)
    assert listener.endpoint[1] > 0
    listener.stop_accepting()
    assert (listener.health().state, listener.health().reason) == (State.STOPPED, "draining")
    assert await listener.drain(1) == 0
    await listener.stop()
    await listener.stop()


async def test_a_port_that_is_taken_is_an_error_that_says_so(opened: Opened) -> None:
    upstream = await opened(RpcUpstream())
    with pytest.raises(ConfigInvalid, match="cannot be bound: Address already in use"):
        async with SidecarUnderTest(config_for(upstream.url, listener={"endpoint": f"127.0.0.1:{upstream.port}"})):
            pass


async def test_a_drain_lets_calls_end_and_takes_no_more(opened: Opened) -> None:
    upstream = await opened(RpcUpstream())
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, drain="5s")))
    client = await opened(channel(port_of(sidecar)))
    call = client.stream_stream(TALK)()
    await call.write(b"one")
    assert await call.read() == b"one"
    stopping = asyncio.create_task(sidecar.app.stop())
    await eventually(lambda: not sidecar.app.health()["traffic.listeners.grpc"].ready, "the drain")
    await asyncio.sleep(0.05)
    async with channel(port_of(sidecar)) as late:
        error = await failure(late.unary_unary(ECHO)(b"x"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    await call.write(b"two")
    assert await call.read() == b"two", "what is under way goes on"
    await call.done_writing()
    assert await call.read() is EOF
    assert await call.code() is grpc.StatusCode.OK
    await stopping
    assert [exchange.error for exchange in sidecar.exchanges] == [""]


async def test_what_a_drain_has_no_time_for_is_cut_with_a_status(opened: Opened) -> None:
    upstream = await opened(RpcUpstream())
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, drain="50ms")))
    client = await opened(channel(port_of(sidecar)))
    call = client.stream_stream(TALK)()
    await call.write(b"one")
    assert await call.read() == b"one"
    await sidecar.app.stop()
    error = await failure(call.read())
    assert (error.code(), error_of(error)) == (grpc.StatusCode.UNAVAILABLE, "draining")
    assert [exchange.error for exchange in sidecar.exchanges] == ["draining"]
    assert [attempt.error for attempt in sidecar.attempts] == ["draining"]
    heard = await upstream.hears()
    await eventually(lambda: heard.ended.is_set(), "the end at the upstream")


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def reloads(sidecar: SidecarUnderTest, config: dict[str, Any]) -> None:
    import yaml

    await sidecar.app.reload(load(yaml.safe_dump(config), environ={}))


async def test_a_reload_sends_further_calls_elsewhere_and_leaves_the_others_alone(opened: Opened, free_port: Any) -> None:
    old, new, port = await opened(RpcUpstream()), await opened(RpcUpstream()), free_port()
    listener = {"endpoint": f"127.0.0.1:{port}"}
    sidecar = await opened(SidecarUnderTest(config_for(old.url, listener=listener)))
    client = await opened(channel(port))
    call = client.stream_stream(TALK)()
    await call.write(b"one")
    assert await call.read() == b"one"
    standing = sidecar.app._traffic._listeners["grpc"]
    await reloads(sidecar, config_for(new.url, listener=listener))
    assert sidecar.app._traffic._listeners["grpc"] is standing
    assert await client.unary_unary(ECHO)(b"x") == b"x"
    assert (len(old.heard), len(new.heard)) == (1, 1)
    await call.write(b"two")
    assert await call.read() == b"two"
    await call.done_writing()
    assert await call.read() is EOF
    await sidecar.finished(2)


async def test_a_listener_with_other_settings_takes_the_port_over(opened: Opened, free_port: Any) -> None:
    upstream, port = await opened(RpcUpstream()), free_port()
    endpoint = f"127.0.0.1:{port}"
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, listener={"endpoint": endpoint}, drain="5s")))
    client = await opened(channel(port))
    call = client.stream_stream(TALK)()
    await call.write(b"one")
    assert await call.read() == b"one"
    await reloads(sidecar, config_for(upstream.url, listener={"endpoint": endpoint, "users": {"a": "b"}}, drain="5s"))
    async with channel(port) as fresh:
        error = await failure(fresh.unary_unary(ECHO)(b"x", wait_for_ready=True, timeout=5))
    assert error_of(error) == "proxy_auth_required"
    await call.write(b"two")
    assert await call.read() == b"two", "the old listener serves what it has to its end"
    await call.done_writing()
    assert await call.read() is EOF


async def test_a_successor_does_not_wait_for_its_predecessor_to_have_left(free_port: Any) -> None:
    config = Config(endpoint=f"127.0.0.1:{free_port()}")
    first, second = GrpcListener("grpc", config, Runtime()), GrpcListener("grpc", config, Runtime())
    await first.start()
    second.take_over(first.hand_over())
    await second.start()
    assert first.endpoint == second.endpoint
    await first.stop()
    socket.create_connection(second.endpoint).close()
    await second.stop()


# ── what nobody should send ──────────────────────────────────────────────────────────────────────────────────────────


def field(name: bytes, value: bytes) -> bytes:
    """A field of HPACK that is in no table (RFC 7541, 6.2.2)."""
    return b"\x00%c%b%c%b" % (len(name), name, len(value), value)


def call_of(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """What a client sends for a call of one message, byte for byte: its fields are nobody's business but its own."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a"), (b"te", b"trailers")]
    head = b"".join(field(*each) for each in (*fields, (b"content-type", b"application/grpc"), *more))
    frames = [(4, 0, 0, b""), (1, 4, 1, head), (0, 1, 1, b"\0\0\0\0\1x")]
    sent = [struct.pack(">IBI", len(data) << 8 | kind, flags, stream) + data for kind, flags, stream, data in frames]
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(sent)


async def sends(port: int, data: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return writer


async def test_a_path_that_is_no_text_takes_the_port_from_nobody(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    upstream = await opened(RpcUpstream())
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url)))
    port = port_of(sidecar)
    client = await opened(channel(port))
    call = client.stream_stream(TALK)()
    await call.write(b"one")
    assert await call.read() == b"one"
    writer = await sends(port, call_of(b"/a.B/\xff"))
    await eventually(lambda: "listening again" in caplog.text, "the library gives up")
    async with channel(port) as other:
        assert await other.unary_unary(ECHO)(b"x", wait_for_ready=True, timeout=5) == b"x"
    await call.write(b"two")
    assert await call.read() == b"two", "what was under way goes on"
    await call.done_writing()
    assert await call.read() is EOF
    writer.close()
    assert port_of(sidecar) == port
    caplog.clear()  # a record holds the error, that its frames, and those the library


async def test_metadata_that_gRPC_does_not_allow_is_refused_and_not_logged(  # noqa: N802 - its name
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = await opened(RpcUpstream())
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url)))
    writer = await sends(port_of(sidecar), call_of(b"/test.Echo/UnaryUnary", (b"authorization", b"Bearer s3cret\xff")))
    exchange = await sidecar.finished()
    writer.close()
    assert (exchange.error, sidecar.refused) == ("bad_header", {"bad_header": 1})
    assert not upstream.heard
    assert "s3cret" not in caplog.text


async def test_messages_that_nobody_takes_have_a_bound_for_all_calls_together(opened: Opened) -> None:
    async def behave(context: Any) -> None:
        await context.read()
        await asyncio.sleep(30)

    upstream = await opened(RpcUpstream(behave))
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url)))
    listener = sidecar.app._traffic._listeners["grpc"].thing
    listener.room.limit_bytes = 100_000
    async with channel(port_of(sidecar)) as client:
        error = await failure(client.unary_unary(ECHO)(bytes(200_000)))
        assert (error.code(), error_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_connections")
        call = client.unary_unary(ECHO)(bytes(90_000))
        await upstream.hears(2)
        call.cancel()
        await sidecar.finished(2)
    assert listener.room.taken_bytes == 0


async def test_a_change_that_cannot_be_served_leaves_everything_as_it_was(opened: Opened, free_port: Any) -> None:
    upstream, port = await opened(RpcUpstream()), free_port()
    endpoint = f"127.0.0.1:{port}"
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, listener={"endpoint": endpoint})))
    client = await opened(channel(port))
    assert await client.unary_unary(ECHO)(b"x") == b"x"
    with pytest.raises(ConfigInvalid, match="no route to an upstream of the type grpc"):
        await reloads(sidecar, config_for(upstream.url, listener={"endpoint": endpoint, "routes": ["nobody"]}))
    assert await client.unary_unary(ECHO)(b"x", wait_for_ready=True, timeout=5) == b"x"
    assert sidecar.app.health()["traffic.listeners.grpc"].ready


CONFIG = """
traffic:
  listeners: {grpc: {endpoint: "127.0.0.1:0"}, http: {endpoint: "127.0.0.1:PORT"}}
  upstreams: {grpc: {url: "http://127.0.0.1:9"}}
  routes: {a: {path: /, upstream: grpc}}
admin: {endpoint: 127.0.0.1:0}
"""

PROGRAM = f"""
import asyncio, importlib.abc, socket, sys

from sidecar.app import App
from sidecar.config import parse

class Watch(importlib.abc.MetaPathFinder):
    seen = []

    def find_spec(self, name, path, target=None):
        if name == "grpc":
            try:
                socket.create_connection(("127.0.0.1", PORT)).close()
                self.seen.append("listens")
            except OSError:
                self.seen.append("does not listen")

async def main():
    app = App(parse({CONFIG!r}, environ={{}}))
    sys.meta_path.insert(0, Watch())
    await app.start()
    print(Watch.seen[:1])
    await app.stop()

asyncio.run(main())
"""


def test_the_http_port_listens_before_the_library_is_loaded(free_port: Any) -> None:
    unmeasured = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}  # coverage imports, too
    command = [sys.executable, "-c", PROGRAM.replace("PORT", str(free_port()))]
    done = subprocess.run(command, cwd=ROOT, env=unmeasured, capture_output=True, text=True, check=False, timeout=50)
    assert done.stdout.strip() == "['listens']", done.stderr


async def test_plain_http_does_not_take_a_route_of_grpc(opened: Opened) -> None:
    upstream = await opened(RpcUpstream())
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url)))
    client = await sidecar.connects()
    await client.sends(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await sidecar.refuses(client, "route_unknown")


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def certificate(authority: Any, folder: Path, *names: str) -> tuple[str, str]:
    """A certificate chain and its key for these names, as files."""
    issued = authority._ca.issue_cert(*names)
    cert_file, key_file = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    cert_file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key_file.write_bytes(issued.private_key_pem.bytes())
    return str(cert_file), str(key_file)


async def test_tls_on_both_sides(opened: Opened, authority: Any, tmp_path: Path) -> None:
    cert_file, key_file = certificate(authority, tmp_path, "localhost")
    trusted = Path(authority.ca_file).read_bytes()
    pair = (Path(key_file).read_bytes(), Path(cert_file).read_bytes())
    upstream = await opened(RpcUpstream(credentials=grpc.ssl_server_credentials([pair])))
    config = config_for(
        upstream.url,
        listener={"tls": {"cert_file": cert_file, "key_file": key_file}},
        upstream={"tls": {"ca_file": authority.ca_file}},
    )
    sidecar = await opened(SidecarUnderTest(config))
    client = await opened(channel(port_of(sidecar), credentials=grpc.ssl_channel_credentials(trusted)))
    assert await client.unary_unary(ECHO)(b"x") == b"x"
    exchange = await sidecar.finished()
    assert (exchange.scheme, exchange.host) == ("https", "localhost")


async def test_an_upstream_whose_certificate_is_not_trusted_is_said_so(
    opened: Opened, authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert_file, key_file = certificate(authority, tmp_path, "localhost")
    pair = (Path(key_file).read_bytes(), Path(cert_file).read_bytes())
    upstream = await opened(RpcUpstream(credentials=grpc.ssl_server_credentials([pair])))
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url)))
    client = await opened(channel(port_of(sidecar)))
    error = await failure(client.unary_unary(ECHO)(b"x"))
    assert (error.code(), error_of(error)) == (grpc.StatusCode.UNAVAILABLE, "tls_failed")
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    assert ssl.get_default_verify_paths().cafile == authority.ca_file
    assert await client.unary_unary(ECHO)(b"x") == b"x", "the system's authorities are those that Python finds"


async def test_clients_may_have_to_show_a_certificate(opened: Opened, authority: Any, tmp_path: Path) -> None:
    cert_file, key_file = certificate(authority, tmp_path, "localhost")
    own_cert, own_key = certificate(authority, tmp_path, "planner")
    upstream = await opened(RpcUpstream())
    tls = {"cert_file": cert_file, "key_file": key_file, "client_ca_file": authority.ca_file}
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, listener={"tls": tls})))
    trusted = Path(authority.ca_file).read_bytes()
    shows = grpc.ssl_channel_credentials(trusted, Path(own_key).read_bytes(), Path(own_cert).read_bytes())
    client = await opened(channel(port_of(sidecar), credentials=shows))
    assert await client.unary_unary(ECHO)(b"x") == b"x"
    stranger = await opened(channel(port_of(sidecar), credentials=grpc.ssl_channel_credentials(trusted)))
    await failure(stranger.unary_unary(ECHO)(b"x", timeout=2))
    assert len(upstream.heard) == 1


async def test_a_renewed_certificate_is_shown_without_a_restart(opened: Opened, authority: Any, tmp_path: Path) -> None:
    cert_file, key_file = certificate(authority, tmp_path, "wrong.example")
    upstream = await opened(RpcUpstream())
    tls = {"cert_file": cert_file, "key_file": key_file}
    sidecar = await opened(SidecarUnderTest(config_for(upstream.url, listener={"tls": tls})))
    trusted = grpc.ssl_channel_credentials(Path(authority.ca_file).read_bytes())
    async with channel(port_of(sidecar), credentials=trusted) as client:
        await failure(client.unary_unary(ECHO)(b"x", timeout=2))
    for old, new in zip((cert_file, key_file), certificate(authority, tmp_path, "localhost"), strict=True):
        Path(new).replace(old)
    async with channel(port_of(sidecar), credentials=trusted) as client:
        assert await client.unary_unary(ECHO)(b"x", timeout=2) == b"x"


async def test_tls_files_that_are_none_keep_it_from_starting(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ConfigInvalid, match=r"traffic\.listeners\.grpc"):
        async with SidecarUnderTest(config_for("http://127.0.0.1:9", listener={"tls": {"cert_file": str(tmp_path / "cert.pem")}})):
            pass
