"""What happens to an OTLP request once its bytes are here, whichever protocol brought them."""

import asyncio
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.otlp import count, message, parse
from sidecar.telemetry.otlp_json import from_json
from sidecar.telemetry.signals import Batch, Consume, Signal

RETRY_AFTER_S = 1.0
"""When to come again; the Python SDK gives up a batch for which it would have to wait 10 s or more."""

_IN_THREAD_BYTES = 64 * 1024
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15, "zlib": 15}

ENCODINGS = ("gzip", "deflate")
"""What `Accept-Encoding` says in an answer to an encoding that is not known."""


class Refusal(Exception):
    """
    A request that is not taken: `http_status` and `grpc_code` (google.rpc.Code) say how, the text says why.

    `retry_after_s` is set where the same request may be taken later.
    """

    def __init__(self, http_status: int, grpc_code: int, text: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.http_status = http_status
        self.grpc_code = grpc_code
        self.retry_after_s = retry_after_s

    @classmethod
    def invalid(cls, text: str) -> "Refusal":
        """The bytes are no request; sending them again does not help."""
        return cls(400, 3, text)

    @classmethod
    def too_large(cls, most_bytes: int) -> "Refusal":
        """More bytes than allowed, perhaps only after decompression."""
        return cls(413, 8, f"a request has at most {int(most_bytes)} bytes, after decompression too")

    @classmethod
    def busy(cls, text: str) -> "Refusal":
        """There is no room at this moment."""
        return cls(503, 14, text, retry_after_s=RETRY_AFTER_S)


class Intake:
    """Checks requests and passes them on; at most `most_at_once` are being read."""

    def __init__(self, name: str, runtime: Runtime, *, most_at_once: int) -> None:
        self.consumers: Mapping[Signal, Consume] = {}
        self._most_at_once = most_at_once
        self._under_way = 0
        self._name = name
        self._runtime = runtime

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request; raises Refusal where all are taken."""
        if self._under_way >= self._most_at_once:
            raise Refusal.busy(f"{self._most_at_once} requests are being read")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def take(
        self, signal: Signal, body: bytes, most_bytes: int, *, protocol: str, encoding: str = "", is_json: bool = False
    ) -> None:
        """Check a request and pass it on, or raise Refusal; a request without items is taken and forgotten."""
        consume = self.consumers.get(signal)
        if consume is None:
            raise Refusal(404, 12, f"no pipeline takes {signal}")
        try:
            if len(body) > _IN_THREAD_BYTES:
                chunk, items = await asyncio.to_thread(_read, signal, body, most_bytes, encoding, is_json)
            else:
                chunk, items = _read(signal, body, most_bytes, encoding, is_json)
        except Refusal:
            self._counter("failed", "Requests that could not be read.", protocol, "requests").value += 1
            raise
        if not items:
            return
        if not consume(Batch.of(signal, chunk, items)):
            self._counter("refused", "Items that no exporter had room for.", protocol, signal.items).value += items
            raise Refusal.busy("no exporter has room")
        self._counter("accepted", "Items that were passed on.", protocol, signal.items).value += items

    def _counter(self, what: str, help_text: str, protocol: str, items: str) -> Counter:
        path = f"telemetry.receivers.otlp.{what}_{items}"
        return self._runtime.metrics.counter(path, help_text, receiver=self._name, protocol=protocol)


def _read(signal: Signal, body: bytes, most_bytes: int, encoding: str, is_json: bool) -> tuple[bytes, int]:
    """The request as protobuf bytes, and how many items it holds; in a thread where it is large."""
    plain = decompressed(body, encoding, most_bytes)
    try:
        if is_json:
            request = from_json(plain, message(signal)())
            return request.SerializeToString(), count(signal, request)
        return plain, count(signal, parse(signal, plain))
    except ValueError as error:
        raise Refusal.invalid(f"no valid {signal}: {error}") from None


def decompressed(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """The body without its Content-Encoding; raises Refusal where it is broken, unknown or too large."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        if len(body) > most_bytes:
            raise Refusal.too_large(most_bytes)
        return body
    bits = _WINDOW_BITS.get(encoding)
    if bits is None:
        raise Refusal(415, 12, f"unknown Content-Encoding {encoding[:40]!r}; use {' or '.join(ENCODINGS)}")
    if bits == 15 and not (len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0):
        bits = -15  # "deflate" without zlib's header, which some clients send (RFC 9110 section 8.4.1.2)
    return _inflated(body, bits, most_bytes)


def _inflated(body: bytes, bits: int, most_bytes: int) -> bytes:
    """All members one after the other, as RFC 1952 section 2.2 allows."""
    found = bytearray()
    while body:
        inflater = zlib.decompressobj(bits)
        try:
            found += inflater.decompress(body, most_bytes + 1 - len(found))
        except zlib.error as error:
            raise Refusal.invalid(f"the body cannot be decompressed: {error}") from None
        if len(found) > most_bytes:
            raise Refusal.too_large(most_bytes)
        if not inflater.eof:
            raise Refusal.invalid("the compressed body ends too early")
        body = inflater.unused_data
    return bytes(found)
