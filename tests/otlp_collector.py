"""
A strict OTLP collector for tests: HTTP and gRPC on free loopback ports, in a thread of its own.

    with OtlpCollector() as collector:                      # `async with` works, too
        ...send to collector.http_endpoint ("http://127.0.0.1:PORT") or collector.grpc_endpoint ("127.0.0.1:PORT")...
        spans = await collector.wait_for_spans(2)           # collector.wait_for_spans_now(2) outside of a loop
        server = collector.span(kind="SERVER")              # the only one; name=, kind= and attributes narrow it down
        client = collector.span(name="POST", kind="CLIENT")
        assert client.parent_id == server.span_id
        assert server.attributes["http.response.status_code"] == 200
        assert server.resource["service.name"] == "agent-sre-sidecar"

It enforces the rules of OTLP (opentelemetry-proto 1.11.0, docs/specification.md): path, method, exact content type, encoding,
size, that the request parses, that there are no empty envelopes, that a resource names its service, that ids have their
length and are not zero, that times are sane, that attribute keys are unique, and that no span comes twice. A breach is
answered with 400 and noted in `violations`; leaving the `with` block raises them, unless `OtlpCollector(strict=False)`.

How it answers can be scripted, one answer a request, in order; when the script is over it takes everything:

    collector.script(fail(503), throttle(2), slow(0.5), partial(3, "too old"), cut())
    collector.answer_always(fail(401))                      # until answer_always(None)

`requests` has every request with protocol, signal, header fields and the parsed message, also those that were refused by the
script; `taken` only those that were accepted.
"""

import asyncio
import gzip
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Self

import grpc
from aiohttp import web
from google.protobuf.json_format import Parse
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span

REQUESTS = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
}
RESPONSES = {
    "traces": trace_service_pb2.ExportTraceServiceResponse,
    "metrics": metrics_service_pb2.ExportMetricsServiceResponse,
    "logs": logs_service_pb2.ExportLogsServiceResponse,
}
SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
}
MAX_REQUEST_BYTES = 64 * 1024 * 1024
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Answer:
    """How to answer one request; the functions below make the usual ones."""

    http_status: int = 200
    grpc_code: str = "OK"
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    retry_info_s: float | None = None
    delay_s: float = 0.0
    rejected: int | None = None
    is_cut: bool = False
    body: bytes | None = None
    content_type: str | None = None


def fail(http_status: int, grpc_code: str = "UNAVAILABLE", text: str = "scripted failure") -> Answer:
    """Refuse with this status over HTTP, with this code over gRPC."""
    return Answer(http_status=http_status, grpc_code=grpc_code, text=text)


def throttle(seconds: float, http_status: int = 429, grpc_code: str = "RESOURCE_EXHAUSTED", *, as_date: bool = False) -> Answer:
    """Ask to come again: Retry-After over HTTP (in seconds, or as a date), RetryInfo over gRPC."""
    written = formatdate(time.time() + seconds, usegmt=True) if as_date else str(round(seconds))
    return Answer(http_status, grpc_code, "slow down", headers=(("Retry-After", written),), retry_info_s=seconds)


def slow(seconds: float) -> Answer:
    """Take the request, but only after a while."""
    return Answer(delay_s=seconds)


def partial(rejected: int, text: str) -> Answer:
    """Take the request, but reject some of its items; 0 with a text is a warning."""
    return Answer(rejected=rejected, text=text)


def cut() -> Answer:
    """Close the connection without an answer (over gRPC: UNAVAILABLE)."""
    return Answer(is_cut=True, grpc_code="UNAVAILABLE")


@dataclass(frozen=True)
class Received:
    """One request; `message` is None where it could not be parsed, `was_taken` says whether it was accepted."""

    protocol: str
    signal: str
    headers: dict[str, str]
    message: Any
    size_bytes: int
    was_taken: bool
    at: float


@dataclass(frozen=True)
class SeenSpan:
    """A span with its attributes as a dict, beside those of its resource and its scope; `proto` has everything."""

    proto: Any
    resource: dict[str, Any]
    scope: str
    schema_url: str
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.proto.name)

    @property
    def kind(self) -> str:
        return Span.SpanKind.Name(self.proto.kind).removeprefix("SPAN_KIND_")

    @property
    def trace_id(self) -> str:
        return str(self.proto.trace_id.hex())

    @property
    def span_id(self) -> str:
        return str(self.proto.span_id.hex())

    @property
    def parent_id(self) -> str:
        return str(self.proto.parent_span_id.hex())

    @property
    def is_error(self) -> bool:
        return bool(self.proto.status.code == 2)


class OtlpCollector:
    """Listens from `start` to `stop`, which `with` and `async with` call."""

    def __init__(self, *, strict: bool = True) -> None:
        self.requests: list[Received] = []
        self.violations: list[str] = []
        self._strict = strict
        self._script: list[Answer] = []
        self._always: Answer | None = None
        self._seen_ids: set[tuple[bytes, bytes]] = set()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="otlp collector", daemon=True)
        self._listening = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._pool = futures.ThreadPoolExecutor(max_workers=4, thread_name_prefix="otlp collector")
        self._grpc = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        self._http_port = self._grpc_port = 0

    # life

    def start(self) -> Self:
        """Listen."""
        self._grpc.add_generic_rpc_handlers([self._grpc_handler(service, signal) for service, signal in SERVICES.items()])
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def stop(self) -> None:
        """Listen no more; harmless when called twice."""
        if self._thread.is_alive():
            assert self._stopping is not None
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)
            self._grpc.stop(0).wait(10)
            self._pool.shutdown()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        self.stop()
        if kind is None:
            self.check()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        await asyncio.to_thread(self.stop)
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise AssertionError where a rule was broken."""
        if self._strict:
            assert not self.violations, self.violations

    # script

    def script(self, *answers: Answer) -> None:
        """Answer the next requests like this, one each."""
        with self._lock:
            self._script.extend(answers)

    def answer_always(self, answer: Answer | None) -> None:
        """Answer everything like this once the script is over, until None is given."""
        with self._lock:
            self._always = answer

    # what came

    @property
    def http_endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http_port}"

    @property
    def grpc_endpoint(self) -> str:
        return f"127.0.0.1:{self._grpc_port}"

    @property
    def taken(self) -> list[Received]:
        """The requests that were accepted."""
        with self._lock:
            return [request for request in self.requests if request.was_taken]

    @property
    def spans(self) -> list[SeenSpan]:
        """Every span that was accepted, in the order in which they came."""
        found = []
        for request in self.taken:
            if request.signal != "traces":
                continue
            for resource in request.message.resource_spans:
                for scope in resource.scope_spans:
                    about = (attributes_of(resource.resource), scope.scope.name, scope.schema_url)
                    found += [SeenSpan(span, *about, attributes_of(span)) for span in scope.spans]
        return found

    def find(self, name: str | None = None, kind: str | None = None, **attributes: Any) -> list[SeenSpan]:
        """Spans with this name, kind ("SERVER", "CLIENT") and attributes, whose dots are written `__` here."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [
            span
            for span in self.spans
            if (name is None or span.name == name)
            and (kind is None or span.kind == kind)
            and all(span.attributes.get(key) == value for key, value in wanted.items())
        ]

    def span(self, name: str | None = None, kind: str | None = None, **attributes: Any) -> SeenSpan:
        """The one span that `find` finds."""
        found = self.find(name, kind, **attributes)
        assert len(found) == 1, f"{len(found)} spans are like this, of {[(span.kind, span.name) for span in self.spans]}"
        return found[0]

    def children_of(self, parent: SeenSpan) -> list[SeenSpan]:
        """Spans whose parent is this one."""
        return [span for span in self.spans if (span.trace_id, span.parent_id) == (parent.trace_id, parent.span_id)]

    def parent_of(self, child: SeenSpan) -> SeenSpan | None:
        """The span's parent, if it came here, too."""
        found = [span for span in self.spans if (span.trace_id, span.span_id) == (child.trace_id, child.parent_id)]
        return found[0] if found else None

    async def wait_for_spans(self, count: int, *, timeout_s: float = 10.0) -> list[SeenSpan]:
        """All spans, once there are at least so many."""
        await self.wait_until(lambda: len(self.spans) >= count, f"{count} spans", timeout_s=timeout_s)
        return self.spans

    async def wait_for_requests(self, count: int, *, timeout_s: float = 10.0) -> list[Received]:
        """All requests, refused ones too, once there are at least so many."""
        await self.wait_until(lambda: len(self.requests) >= count, f"{count} requests", timeout_s=timeout_s)
        return list(self.requests)

    async def wait_until(self, holds: Any, what: str, *, timeout_s: float = 10.0) -> None:
        """Wait until `holds()`; raises AssertionError when it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            seen = f"{len(self.spans)} spans, {len(self.requests)} requests, {self.violations}"
            assert time.monotonic() < deadline, f"no {what}: {seen}"
            await asyncio.sleep(0.005)

    def wait_for_spans_now(self, count: int, *, timeout_s: float = 10.0) -> list[SeenSpan]:
        """As `wait_for_spans`, for tests without a loop."""
        return asyncio.run(self.wait_for_spans(count, timeout_s=timeout_s))

    # serving

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._post, access_log=None, auto_decompress=False), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._http_port = runner.addresses[0][1]
        self._listening.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _post(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        signal = {f"/v1/{signal}": signal for signal in REQUESTS}.get(request.path, "")
        answer, faults = self._judge_http(request, signal, headers, body)
        await asyncio.sleep(answer.delay_s)
        if answer.is_cut:
            assert request.transport is not None
            request.transport.abort()
        is_json = headers.get("content-type") == "application/json"
        content_type = answer.content_type or ("application/json" if is_json else "application/x-protobuf")
        if faults:
            return web.Response(status=400, body=_status(3, "; ".join(faults)), content_type="application/x-protobuf")
        if answer.body is not None:
            reply = answer.body
        elif 200 <= answer.http_status < 300:
            reply = b"{}" if is_json else _response(signal, answer)
        else:
            reply = _status(14, answer.text)
        response = web.Response(status=answer.http_status, body=reply, content_type=content_type)
        response.headers.extend(answer.headers)
        return response

    def _judge_http(
        self, request: web.BaseRequest, signal: str, headers: dict[str, str], body: bytes
    ) -> tuple[Answer, list[str]]:
        faults = []
        if request.method != "POST" or not signal:
            faults.append(f"{request.method} {request.path} is no way to send telemetry")
        content_type, encoding = headers.get("content-type", ""), headers.get("content-encoding", "")
        if content_type not in ("application/x-protobuf", "application/json"):
            faults.append(f"Content-Type {content_type!r}")
        if encoding == "gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError) as error:
                faults.append(f"gzip: {error}")
        elif encoding:
            faults.append(f"Content-Encoding {encoding!r}")
        if "content-length" not in headers and headers.get("transfer-encoding") != "chunked":
            faults.append("no length")
        if "user-agent" not in headers:
            faults.append("no User-Agent")
        return self._judge("http", signal or "traces", headers, body, faults, is_json=content_type == "application/json")

    def _grpc_handler(self, service: str, signal: str) -> Any:
        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            answer, faults = self._judge("grpc", signal, headers, body, [], is_json=False)
            time.sleep(answer.delay_s)
            if faults:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "; ".join(faults))
            if answer.grpc_code != "OK":
                code = grpc.StatusCode[answer.grpc_code]
                details = _status(code.value[0], answer.text, answer.retry_info_s)
                context.set_trailing_metadata((("grpc-status-details-bin", details),))
                context.abort(code, answer.text)
            return answer.body if answer.body is not None else _response(signal, answer)

        return grpc.method_handlers_generic_handler(service, {"Export": grpc.unary_unary_rpc_method_handler(export)})

    def _judge(
        self, protocol: str, signal: str, headers: dict[str, str], body: bytes, faults: list[str], *, is_json: bool
    ) -> tuple[Answer, list[str]]:
        """Take the next answer of the script, note the request, and say what is wrong with it."""
        message = None
        with self._lock:
            answer = self._script.pop(0) if self._script else self._always or Answer()
            if len(body) > MAX_REQUEST_BYTES:
                faults.append("more than 64 MiB")
            try:
                message = Parse(body, REQUESTS[signal]()) if is_json else REQUESTS[signal].FromString(body)
            except (DecodeError, ValueError) as error:
                faults.append(f"cannot be parsed: {error}")
            is_good = 200 <= answer.http_status < 300 and answer.grpc_code == "OK" and not answer.is_cut
            if message is not None and not is_json:  # ids in JSON are hexadecimal, which protobuf's own parser does not know
                faults += faults_of(signal, message, self._seen_ids if is_good else set())
            was_taken = is_good and not faults
            self.requests.append(Received(protocol, signal, headers, message, len(body), was_taken, time.monotonic()))
            self.violations += faults
        return answer, faults


def faults_of(signal: str, message: Any, seen_ids: set[tuple[bytes, bytes]]) -> list[str]:
    """What is wrong with a parsed request; span ids are added to those that were seen."""
    upper, middle, lower = {
        "traces": ("resource_spans", "scope_spans", "spans"),
        "metrics": ("resource_metrics", "scope_metrics", "metrics"),
        "logs": ("resource_logs", "scope_logs", "log_records"),
    }[signal]
    faults = [] if getattr(message, upper) else ["an empty request"]
    for resource in getattr(message, upper):
        if not resource.HasField("resource") or "service.name" not in attributes_of(resource.resource):
            faults.append("a resource without service.name")
        faults += _attribute_faults("resource", resource.resource)
        if not getattr(resource, middle):
            faults.append(f"an empty {upper}")
        for scope in getattr(resource, middle):
            if not getattr(scope, lower):
                faults.append(f"an empty {middle}")
            if signal == "traces":
                for span in scope.spans:
                    faults += span_faults(span, seen_ids)
    return faults


def span_faults(span: Any, seen_ids: set[tuple[bytes, bytes]]) -> list[str]:
    """What is wrong with one span."""
    now_ns = time.time_ns()
    rules = {
        "trace_id": len(span.trace_id) == 16 and any(span.trace_id),
        "span_id": len(span.span_id) == 8 and any(span.span_id),
        "parent_span_id": not span.parent_span_id or (len(span.parent_span_id) == 8 and any(span.parent_span_id)),
        "a parent of its own": span.parent_span_id != span.span_id,
        "name": bool(span.name) and len(span.name) <= 255,
        "kind": 1 <= span.kind <= 5,
        "start time": abs(now_ns - span.start_time_unix_nano) < DAY_NS,
        "end before start": span.end_time_unix_nano >= span.start_time_unix_nano,
        "end time": span.end_time_unix_nano < now_ns + DAY_NS,
        "flags": span.flags < 0x400,
        "status code": span.status.code in (0, 1, 2),
        "trace_state": span.trace_state.isascii() and len(span.trace_state) <= 512,
        "comes twice": (span.trace_id, span.span_id) not in seen_ids,
    }
    seen_ids.add((span.trace_id, span.span_id))
    faults = [f"span {span.name!r}: {rule}" for rule, holds in rules.items() if not holds]
    return faults + _attribute_faults(f"span {span.name!r}", span)


def _attribute_faults(where: str, holder: Any) -> list[str]:
    keys = [attribute.key for attribute in holder.attributes]
    faults = [f"{where}: attribute {key!r} twice" for key in sorted(set(keys)) if keys.count(key) > 1]
    faults += [f"{where}: an attribute without a key" for key in keys if not key]
    faults += [f"{where}: {one.key} has no value" for one in holder.attributes if one.value.WhichOneof("value") is None]
    return faults


def attributes_of(holder: Any) -> dict[str, Any]:
    """The attributes of a span, resource or record as plain values."""
    return {one.key: _value(one.value) for one in holder.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {one.key: _value(one.value) for one in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


def _response(signal: str, answer: Answer) -> bytes:
    response = RESPONSES[signal]()
    if answer.rejected is not None:
        name = {"traces": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}[signal]
        setattr(response.partial_success, name, answer.rejected)
        response.partial_success.error_message = answer.text
    return bytes(response.SerializeToString())


def _status(code: int, text: str, retry_after_s: float | None = None) -> bytes:
    """A google.rpc.Status, written without our own code: a test must not judge by what it tests."""
    message = text.encode()[:100]
    status = bytes([0x08, code, 0x12, len(message)]) + message
    if retry_after_s is None:
        return status
    seconds, nanos = int(retry_after_s), int(retry_after_s % 1 * 1e9)
    duration = b"\x08" + _varint(seconds) + b"\x10" + _varint(nanos)
    retry_info = b"\x0a" + _varint(len(duration)) + duration
    kind = b"type.googleapis.com/google.rpc.RetryInfo"
    any_value = b"\x0a" + _varint(len(kind)) + kind + b"\x12" + _varint(len(retry_info)) + retry_info
    return status + b"\x1a" + _varint(len(any_value)) + any_value


def _varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])
