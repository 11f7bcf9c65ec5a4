"""Debian's nginx as an upstream: a server that nobody here wrote has to find nothing wrong with us."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.peers.wire import Wire, dials
from tests.scene import GATEWAY, Opened, Scene
from tests.sidecar_under_test import SidecarUnderTest, config_for

NGINX = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx)")

CONFIG = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    client_max_body_size 64m;
    keepalive_timeout {keep_alive};
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
        location /base/echo {{ return 200 "$request_method $request_uri $http_host $http_x_mark\\n"; }}
        location /base/file {{ gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; alias {folder}/www/file; }}
        location /base/upload {{ client_body_in_file_only clean; proxy_pass http://127.0.0.1:{port}/base/echo; }}
        location /base/small {{ client_max_body_size 10; proxy_pass http://127.0.0.1:{port}/base/echo; }}
        location /base/empty {{ return 204; }}
        location /base/close {{ keepalive_timeout 0; return 200 "bye"; }}
        location /base/slow {{ limit_rate 20k; alias {folder}/www/file; }}
    }}
}}
"""


@pytest.fixture
async def nginx(tmp_path: Path, free_port: Callable[[], int], request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """Start nginx; gives its port."""
    assert NGINX is not None
    port = free_port()
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file").write_bytes(b"0123456789abcdef" * 40_000)
    for path in (tmp_path, tmp_path / "www", *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and path.is_relative_to(tempfile.gettempdir()):
            path.chmod(0o755)  # its workers give up root where they have it
    keep_alive = getattr(request, "param", "60s")
    config = tmp_path / "nginx.conf"
    config.write_text(CONFIG.format(folder=tmp_path, port=port, keep_alive=keep_alive))
    process = await asyncio.create_subprocess_exec(
        NGINX, "-p", str(tmp_path), "-c", str(config), "-e", str(tmp_path / "error.log")
    )
    try:
        for _ in range(400):
            try:
                (await dials("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.returncode is None, (tmp_path / "error.log").read_text()
                await asyncio.sleep(0.01)
        yield port
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@pytest.fixture
async def nginx_scene(nginx: int, opened: Opened) -> Scene:
    """The sidecar before nginx."""
    sidecar = await opened(SidecarUnderTest(config_for(f"http://127.0.0.1:{nginx}")))
    return Scene(GATEWAY, sidecar, _At(nginx), await sidecar.connects())


class _At:
    """An upstream that is only an address."""

    def __init__(self, port: int) -> None:
        self.authority = f"127.0.0.1:{port}"
        self.url = f"http://{self.authority}"


@pytest.mark.parametrize("mode", ["gateway", "forward"])
async def test_nginx_sees_method_path_host_and_fields_as_they_should_be(nginx_scene: Scene, nginx: int, mode: str) -> None:
    scene, client = nginx_scene, nginx_scene.client
    scene.mode = mode
    for method in (b"GET", b"DELETE", b"OPTIONS", b"PROPFIND"):
        await client.sends(scene.request(method, b"/echo/a%2Fb//c?x=%20&y", b"X-Mark: m"))
        response = await client.response()
        assert response.body == b"%s /base/echo/a%%2Fb//c?x=%%20&y 127.0.0.1:%d m\n" % (method, nginx)


async def test_head_204_304_and_ranges_of_nginx_pass(nginx_scene: Scene) -> None:
    scene, client = nginx_scene, nginx_scene.client
    await client.sends(scene.request(b"HEAD", b"/file"))
    head = await client.response(to=b"HEAD")
    assert head.one(b"content-length") == b"640000"
    await client.sends(scene.request(b"GET", b"/file", b"If-None-Match: " + head.one(b"etag")))
    assert (await client.response()).status == 304
    await client.sends(scene.request(b"GET", b"/empty"))
    assert (await client.response()).status == 204
    await client.sends(scene.request(b"GET", b"/file", b"Range: bytes=10-19"))
    part = await client.response()
    assert (part.status, part.body) == (206, b"abcdef0123")


async def test_a_large_file_of_nginx_is_whole(nginx_scene: Scene) -> None:
    await nginx_scene.client.sends(nginx_scene.request(b"GET", b"/file"))
    assert (await nginx_scene.client.response()).body == b"0123456789abcdef" * 40_000


async def test_a_gzipped_chunked_answer_of_nginx_is_not_touched(nginx_scene: Scene) -> None:
    import gzip

    await nginx_scene.client.sends(nginx_scene.request(b"GET", b"/file", b"Accept-Encoding: gzip"))
    response = await nginx_scene.client.response()
    assert response.one(b"transfer-encoding") == b"chunked"
    assert gzip.decompress(response.body) == b"0123456789abcdef" * 40_000


@pytest.mark.parametrize("framing", ["length", "chunked", "expect"])
async def test_uploads_to_nginx_arrive(nginx_scene: Scene, framing: str) -> None:
    scene, client = nginx_scene, nginx_scene.client
    body = b"0123456789abcdef" * 60_000
    if framing == "chunked":
        await client.sends(
            scene.request(b"POST", b"/upload", b"Transfer-Encoding: chunked"), b"%x\r\n" % len(body), body, b"\r\n0\r\n\r\n"
        )
    elif framing == "length":
        await client.sends(scene.request(b"POST", b"/upload", body=body))
    else:
        await client.sends(scene.request(b"POST", b"/upload", b"Expect: 100-continue", b"Content-Length: %d" % len(body)))
        assert (await client.response()).status == 100
        await client.sends(body)
    response = await client.response()
    assert response.status == 200, response.body
    assert response.body.startswith(b"POST /base/echo")


async def test_an_early_413_of_nginx_reaches_the_client(nginx_scene: Scene) -> None:
    await nginx_scene.client.sends(nginx_scene.request(b"POST", b"/small", b"Content-Length: 1000000"), b"x" * 1_000)
    response = await nginx_scene.client.head()
    assert response.status == 413
    assert not response.has(b"x-sidecar-error")


async def test_nginx_closing_after_an_answer_is_obeyed(nginx_scene: Scene) -> None:
    for _ in range(5):
        await nginx_scene.client.sends(nginx_scene.request(b"GET", b"/close"))
        assert (await nginx_scene.client.response()).body == b"bye"


@pytest.mark.parametrize("nginx", ["1s"], indirect=True)
async def test_calls_go_on_when_nginx_closes_idle_connections(nginx_scene: Scene) -> None:
    """The pool's classic race: nginx drops what was idle for a second, and a POST comes just then."""
    for _ in range(2):
        await nginx_scene.client.sends(nginx_scene.request(b"POST", b"/echo", body=b"x"))
        assert (await nginx_scene.client.response()).status == 200
        await asyncio.sleep(1.15)
    await nginx_scene.client.sends(nginx_scene.request(b"POST", b"/echo", body=b"x"))
    assert (await nginx_scene.client.response()).status == 200


async def test_pipelined_calls_to_nginx_are_answered_in_order(nginx_scene: Scene) -> None:
    await nginx_scene.client.sends(b"".join(nginx_scene.request(b"GET", b"/echo/%d" % number) for number in range(50)))
    for number in range(50):
        assert b"/base/echo/%d " % number in (await nginx_scene.client.response()).body


async def test_many_clients_share_nginx(nginx_scene: Scene) -> None:
    async def calls(client: Wire, number: int) -> None:
        for turn in range(10):
            await client.sends(nginx_scene.request(b"GET", b"/echo/%d/%d" % (number, turn)))
            assert b"/base/echo/%d/%d " % (number, turn) in (await client.response()).body

    clients = [await nginx_scene.sidecar.connects(f"client {number}") for number in range(40)]
    await asyncio.gather(*(calls(client, number) for number, client in enumerate(clients)))


async def test_a_tunnel_to_nginx_works(nginx_scene: Scene, nginx: int) -> None:
    client = nginx_scene.client
    await client.sends(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: a\r\n\r\n" % nginx)
    assert (await client.head()).status == 200
    await client.sends(b"GET /base/echo/direct HTTP/1.1\r\nHost: me\r\n\r\n")
    assert b"/base/echo/direct me" in (await client.response()).body


async def test_leaving_a_slow_answer_of_nginx_is_noticed(nginx_scene: Scene) -> None:
    await nginx_scene.client.sends(nginx_scene.request(b"GET", b"/slow"))
    await nginx_scene.client.head()
    await nginx_scene.client.closes()
    assert (await nginx_scene.sidecar.finished()).error == "client_gone"
