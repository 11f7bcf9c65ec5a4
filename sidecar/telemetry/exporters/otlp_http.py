"""
OTLP over HTTP, in protobuf: to a Collector, or to a platform's own intake.

    otlp_http/phoenix: {endpoint: "http://localhost:6006", headers: {x-project-name: agents}}

`endpoint` is a base, to which `/v1/traces` is appended; `traces_endpoint` and its like are full urls. What is left out comes
from OTEL_EXPORTER_OTLP_*. Proxy variables of the environment are not obeyed: they may well point at this sidecar.
"""

import asyncio
import importlib
import io
import re
import zlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import sidecar
from sidecar.model.clock import Clock
from sidecar.model.spec import Duration, Secret, Spec
from sidecar.runtime.runtime import Health, Runtime
from sidecar.telemetry.delivery import Outcome, Verdict
from sidecar.telemetry.destination import Compression, TlsSpec, checked_url, http_destination, refuse_own_endpoint, ssl_context
from sidecar.telemetry.otlp import MAX_RESPONSE_BYTES, partial_success, split, status_of
from sidecar.telemetry.queue import QueueSpec, SendingQueue
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Signal
from sidecar.telemetry.wire import Malformed

_RETRYABLE = frozenset({429, 502, 503, 504})  # exactly these: docs/specification.md, OTLP/HTTP response, retryable codes
_MAX_ERROR_BYTES = 64 * 1024
_COMPRESSED_IN_THREAD_BYTES = 64 * 1024
_WRITTEN_AT_ONCE_BYTES = 1024 * 1024  # more is written piece by piece, which costs more, but does not hold the loop
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "host"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where to send to, and how."""

    endpoint: str = ""
    """Base url; default: OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4318."""
    traces_endpoint: str = ""
    """Full url for traces, used as it is."""
    metrics_endpoint: str = ""
    """Full url for metrics, used as it is."""
    logs_endpoint: str = ""
    """Full url for logs, used as it is."""
    headers: dict[str, Secret] = field(default_factory=dict)
    """Header fields of each request, such as an API key; those of OTEL_EXPORTER_OTLP_HEADERS come on top."""
    timeout: Duration | None = None
    """How long one request may take; default: OTEL_EXPORTER_OTLP_TIMEOUT, or 10s."""
    compression: Compression | None = None
    """`gzip` or `none`; default: OTEL_EXPORTER_OTLP_COMPRESSION, or `gzip`, but `none` to loopback."""
    tls: TlsSpec = field(default_factory=TlsSpec)
    """TLS for https urls."""
    sending_queue: QueueSpec = field(default_factory=QueueSpec)
    """What may wait for the backend."""
    retry_on_failure: RetrySpec = field(default_factory=RetrySpec)
    """What happens to a request that failed."""
    stop_timeout: Duration = Duration("5s")
    """How long the end waits for what has not been sent yet."""

    def __post_init__(self) -> None:
        for url in filter(None, (self.endpoint, self.traces_endpoint, self.metrics_endpoint, self.logs_endpoint)):
            checked_url(url)
        for name in self.headers:
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
                raise ValueError(f"{name!r} is no header field that can be set here")
        if self.tls.insecure:
            raise ValueError("tls.insecure is said by the url here: write http://")


def build(name: str, config: Config, runtime: Runtime) -> "OtlpHttpExporter":
    """The exporter."""
    return OtlpHttpExporter(name, config, runtime)


class OtlpHttpExporter:
    """Posts batches over a few kept connections."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self._runtime = runtime
        self._destination = http_destination(
            runtime,
            endpoint=config.endpoint,
            endpoints={
                Signal.TRACES: config.traces_endpoint,
                Signal.METRICS: config.metrics_endpoint,
                Signal.LOGS: config.logs_endpoint,
            },
            headers=config.headers,
            timeout_s=config.timeout,
            compression=config.compression,
            tls=config.tls,
        )
        self._session: Any = None
        self._queue = SendingQueue(
            "telemetry.exporters.otlp_http",
            name,
            runtime,
            self._post,
            queue=config.sending_queue,
            retry=config.retry_on_failure,
            timeout_s=self._destination.timeout_s,
            stop_timeout_s=config.stop_timeout,
            split=split,
        )
        self.consume = self._queue.offer

    async def start(self) -> None:
        """Load aiohttp, in a thread, and begin to send."""
        refuse_own_endpoint(self._runtime, self._destination)
        aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")
        destination = self._destination
        is_secure = any(urlsplit(url).scheme == "https" for url in destination.urls.values())
        context = await asyncio.to_thread(ssl_context, destination.tls) if is_secure else True
        headers = {"User-Agent": f"agent-sre-sidecar/{sidecar.__version__}"}
        headers |= {name: value.reveal() for name, value in destination.headers.items()}
        headers |= {"Content-Type": "application/x-protobuf", "Accept-Encoding": "identity"}
        if destination.compression == "gzip":
            headers["Content-Encoding"] = "gzip"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=4, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=destination.timeout_s),
            trust_env=False,
            headers=headers,
        )
        await self._queue.start()

    async def stop(self) -> None:
        """Send what waits, within `stop_timeout`, and close the connections."""
        await self._queue.stop()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def health(self) -> Health:
        """As the queue sees it."""
        return self._queue.health()

    async def _post(self, signal: Signal, body: bytes) -> Outcome:
        if self._destination.compression == "gzip":
            body = await asyncio.to_thread(_gzip, body) if len(body) > _COMPRESSED_IN_THREAD_BYTES else _gzip(body)
        async with self._session.post(
            self._destination.urls[signal],
            data=body if len(body) < _WRITTEN_AT_ONCE_BYTES else io.BytesIO(body),
            server_hostname=self._destination.tls.server_name_override or None,
            allow_redirects=False,  # the header fields are for this host only
        ) as response:
            is_good = 200 <= response.status < 300
            most = MAX_RESPONSE_BYTES if is_good else _MAX_ERROR_BYTES
            answer = await _read(response, most + 1)
            if is_good:
                return _taken(response, answer)
            return _failed(response, answer[:most], self._runtime.clock)


def _gzip(body: bytes) -> bytes:
    """Level 1: 6 makes it 4 % smaller and takes three times as long."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    return compressor.compress(body) + compressor.flush()


async def _read(response: Any, most: int) -> bytes:
    """The answer, or its first `most` bytes."""
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) >= most:
            break
    return bytes(found[:most])


def _taken(response: Any, answer: bytes) -> Outcome:
    """Any 2xx is success (Datadog: 202); a partial success is counted, and never sent again."""
    if len(answer) > MAX_RESPONSE_BYTES:
        return Outcome(Verdict.NEVER, "the answer is larger than 4 MiB")
    if response.content_type != "application/x-protobuf":
        return Outcome(Verdict.TAKEN)
    try:
        rejected, text = partial_success(answer)
    except Malformed:
        return Outcome(Verdict.TAKEN)
    return Outcome(Verdict.TAKEN, text, rejected)


def _failed(response: Any, answer: bytes, clock: Clock) -> Outcome:
    reason = f"HTTP {response.status}"
    if text := _told(response.content_type, answer):
        reason += f": {text}"
    if response.status not in _RETRYABLE:
        return Outcome(Verdict.NEVER, reason)
    return Outcome(Verdict.LATER, reason, retry_after_s=_retry_after_s(response.headers.get("Retry-After", ""), clock))


def _told(content_type: str, answer: bytes) -> str:
    """The backend's own words, where it has some that people can read; one line, not too long."""
    if content_type == "application/x-protobuf":
        try:
            text = status_of(answer)[0]
        except Malformed:
            return ""
    else:
        text = answer.decode("utf-8", "replace")
    return " ".join("".join(character if character.isprintable() else " " for character in text[:400]).split())[:200]


def _retry_after_s(written: str, clock: Clock) -> float | None:
    """Retry-After in seconds, from seconds or an HTTP date (RFC 9110 section 10.2.3)."""
    from email.utils import mktime_tz, parsedate_tz  # costs the start 3 ms, and is hardly ever needed

    written = written.strip()
    if written.isdecimal():
        return float(written[:9])
    parts = parsedate_tz(written)
    return None if parts is None else max(mktime_tz(parts) - clock.wall_ns() / 1e9, 0.0)
