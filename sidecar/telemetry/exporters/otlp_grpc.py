"""
OTLP over gRPC: to a Collector, or to whatever speaks it.

    otlp_grpc/collector: {endpoint: "collector:4317", tls: {insecure: true}}

As in the Collector, TLS is used unless `tls.insecure` or a url with http:// says otherwise. HTTP costs about half the CPU
(exporter `otlp_http`), and gRPC 9 MiB of memory; take this one where only gRPC is spoken.
"""

import asyncio
import importlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import sidecar
from sidecar.model.authority import authority
from sidecar.model.spec import Duration, Secret, Spec
from sidecar.runtime.runtime import Health, Runtime
from sidecar.telemetry.delivery import Outcome, Verdict
from sidecar.telemetry.destination import Compression, TlsSpec, grpc_destination, read_file, refuse_own_endpoint
from sidecar.telemetry.otlp import GRPC_METHODS, MAX_RESPONSE_BYTES, partial_success, split, status_of
from sidecar.telemetry.queue import QueueSpec, SendingQueue
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Signal
from sidecar.telemetry.wire import Malformed

_RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
"""Status codes after which OTLP tries again; RESOURCE_EXHAUSTED too, but only with a RetryInfo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """Where to send to, and how."""

    endpoint: str = ""
    """`host:port`, or a url; default: OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4317."""
    headers: dict[str, Secret] = field(default_factory=dict)
    """Metadata of each call, such as an API key; those of OTEL_EXPORTER_OTLP_HEADERS come on top."""
    timeout: Duration | None = None
    """How long one call may take; default: OTEL_EXPORTER_OTLP_TIMEOUT, or 10s."""
    compression: Compression | None = None
    """`gzip` or `none`; default: OTEL_EXPORTER_OTLP_COMPRESSION, or `gzip`, but `none` to loopback."""
    tls: TlsSpec = field(default_factory=TlsSpec)
    """TLS, or none with `insecure: true`."""
    sending_queue: QueueSpec = field(default_factory=QueueSpec)
    """What may wait for the backend."""
    retry_on_failure: RetrySpec = field(default_factory=RetrySpec)
    """What happens to a call that failed."""
    stop_timeout: Duration = Duration("5s")
    """How long the end waits for what has not been sent yet."""

    def __post_init__(self) -> None:
        if self.tls.insecure_skip_verify:
            raise ValueError("gRPC always verifies certificates; name the authority in tls.ca_file")
        if self.endpoint and "://" not in self.endpoint and ":" not in self.endpoint:
            raise ValueError(f"an endpoint has to be host:port or a url, not {self.endpoint!r}")


def build(name: str, config: Config, runtime: Runtime) -> "OtlpGrpcExporter":
    """The exporter."""
    return OtlpGrpcExporter(name, config, runtime)


class OtlpGrpcExporter:
    """Calls Export over one channel, with bytes that are serialized already."""

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self._runtime = runtime
        self._destination = grpc_destination(
            runtime,
            endpoint=config.endpoint,
            headers=config.headers,
            timeout_s=config.timeout,
            compression=config.compression,
            tls=config.tls,
        )
        self._channel: Any = None
        self._grpc: Any = None
        self._calls: dict[Signal, Any] = {}
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._queue = SendingQueue(
            "telemetry.exporters.otlp_grpc",
            name,
            runtime,
            self._export,
            queue=config.sending_queue,
            retry=config.retry_on_failure,
            timeout_s=self._destination.timeout_s,
            stop_timeout_s=config.stop_timeout,
            split=split,
        )
        self.consume = self._queue.offer

    async def start(self) -> None:
        """Load grpc, in a thread, and begin to send."""
        refuse_own_endpoint(self._runtime, self._destination)
        self._grpc = await asyncio.to_thread(importlib.import_module, "grpc")
        aio = await asyncio.to_thread(importlib.import_module, "grpc.aio")
        url = urlsplit(self._destination.urls[Signal.TRACES])
        settings = {
            "target": authority(url.hostname or "", url.port or (443 if url.scheme == "https" else 80)),
            "options": self._options(),
            "compression": self._grpc.Compression.Gzip if self._destination.compression == "gzip" else None,
        }
        if url.scheme == "http":
            self._channel = aio.insecure_channel(**settings)
        else:
            self._channel = aio.secure_channel(**settings, credentials=await asyncio.to_thread(self._credentials))
        self._calls = {signal: self._channel.unary_unary(method) for signal, method in GRPC_METHODS.items()}
        self._metadata = tuple((name, value.reveal()) for name, value in self._destination.headers.items())
        await self._queue.start()

    async def stop(self) -> None:
        """Send what waits, within `stop_timeout`, and close the channel."""
        await self._queue.stop()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
            self._calls.clear()  # they hold the channel, and the last channel holds a thread and two sockets

    def health(self) -> Health:
        """As the queue sees it."""
        return self._queue.health()

    def _options(self) -> list[tuple[str, str | int]]:
        options: list[tuple[str, str | int]] = [
            ("grpc.enable_http_proxy", 0),  # the proxy of the environment may well be this sidecar
            ("grpc.primary_user_agent", f"agent-sre-sidecar/{sidecar.__version__}"),
            ("grpc.max_send_message_length", -1),  # the queue bounds what is sent
            ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
            ("grpc.max_reconnect_backoff_ms", 5000),  # our own retries set the pace; the default waits up to two minutes
        ]
        if name := self._destination.tls.server_name_override:
            options.append(("grpc.ssl_target_name_override", name))
        return options

    def _credentials(self) -> Any:
        tls = self._destination.tls
        key = read_file(tls.key_file or tls.cert_file)
        return self._grpc.ssl_channel_credentials(read_file(tls.ca_file), key, read_file(tls.cert_file))

    async def _export(self, signal: Signal, body: bytes) -> Outcome:
        try:
            answer = await self._calls[signal](body, metadata=self._metadata)
        except self._grpc.aio.AioRpcError as error:
            return _failed(error)
        try:
            rejected, text = partial_success(answer)
        except Malformed:
            return Outcome(Verdict.TAKEN)
        return Outcome(Verdict.TAKEN, text, rejected)


def _failed(error: Any) -> Outcome:
    code, retry_after_s = error.code().name, None
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            try:
                retry_after_s = status_of(value)[1]
            except Malformed:
                retry_after_s = None
    reason = " ".join(f"{code}: {error.details()}"[:300].split())
    if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and retry_after_s is not None):
        return Outcome(Verdict.LATER, reason, retry_after_s=retry_after_s)
    return Outcome(Verdict.NEVER, reason)
