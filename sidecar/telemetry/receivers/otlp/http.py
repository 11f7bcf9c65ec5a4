"""OTLP over HTTP: POST of protobuf or JSON, answered in the same type (opentelemetry-proto, docs/specification.md)."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from sidecar.telemetry.otlp import status
from sidecar.telemetry.receivers.otlp.intake import ENCODINGS, Intake, Refusal

if TYPE_CHECKING:
    from sidecar.telemetry.receivers.otlp import HttpSpec

PROTOBUF, JSON = "application/x-protobuf", "application/json"

BODY_TIMEOUT_S = 30.0
"""How long a request's body may take to arrive."""

_KEEP_ALIVE_S = 60.0


def build(spec: "HttpSpec", intake: Intake) -> "HttpServer":
    """The server."""
    return HttpServer(spec, intake)


class HttpServer:
    """An HTTP/1.1 server for three paths."""

    def __init__(self, spec: "HttpSpec", intake: Intake) -> None:
        self._spec = spec
        self._signals = {path: signal for signal, path in spec.paths.items()}
        self._intake = intake
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return where; raises OSError where the port is taken."""
        server = web.Server(
            self._answer,
            access_log=None,
            auto_decompress=False,  # we do it ourselves, with a bound
            keepalive_timeout=_KEEP_ALIVE_S,
            lingering_time=1.0,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self.stop()
            raise
        address: tuple[str, int] = self._runner.addresses[0][:2]
        return address

    async def stop(self) -> None:
        """Listen no more; what is being read gets a second."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        is_json = request.content_type == JSON
        try:
            await self._take(request, is_json)
        except Refusal as refusal:
            return _refused(refusal, is_json)
        return web.Response(body=b"{}" if is_json else b"", content_type=JSON if is_json else PROTOBUF)

    async def _take(self, request: web.BaseRequest, is_json: bool) -> None:
        signal = self._signals.get(request.path)
        if signal is None:
            raise Refusal(404, 12, f"unknown path; telemetry is posted to {', '.join(self._signals)}")
        if request.method != "POST":
            raise Refusal(405, 12, "telemetry is posted")
        if request.content_type not in (PROTOBUF, JSON):
            raise Refusal(415, 12, f"Content-Type is {PROTOBUF} or {JSON}")
        most_bytes = self._spec.max_request_body_size
        with self._intake.place():
            body = await _read(request, most_bytes)
            encoding = request.headers.get("Content-Encoding", "")
            await self._intake.take(signal, body, most_bytes, protocol="http", encoding=encoding, is_json=is_json)


async def _read(request: web.BaseRequest, most_bytes: int) -> bytes:
    if (request.content_length or 0) > most_bytes:
        raise Refusal.too_large(most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most_bytes:
                    raise Refusal.too_large(most_bytes)
    except TimeoutError:
        raise Refusal(408, 4, f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None
    return bytes(body)


def _refused(refusal: Refusal, is_json: bool) -> web.Response:
    """A google.rpc.Status in the type of the request, and Retry-After where trying again can help."""
    code, text = refusal.grpc_code, str(refusal)
    headers: dict[str, Any] = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(round(refusal.retry_after_s))
    if refusal.http_status == 405:
        headers["Allow"] = "POST"
    if refusal.http_status == 415:
        headers["Accept-Encoding"] = ", ".join(ENCODINGS)
    body = msgspec.json.encode({"code": code, "message": text}) if is_json else status(code, text)
    return web.Response(status=refusal.http_status, body=body, content_type=JSON if is_json else PROTOBUF, headers=headers)
