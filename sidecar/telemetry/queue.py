"""
The queue that every exporter stands on: bounded, batching, retrying as OTLP says, and honest about what it dropped.

    exporters: {otlp_http: {sending_queue: {queue_size: 8192, max_bytes: 16MiB}, retry_on_failure: {max_elapsed_time: 300s}}}

`offer` takes a batch at once or drops it; one task sends. Nothing but that task waits for a backend, so a backend that is
dead or slow costs memory up to the bounds, and then data, but never a call's time. Settings have the names of the
Collector's exporterhelper, with sizes in items (spans, data points, log records) and bytes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sidecar.model.spec import Duration, Size, Spec
from sidecar.runtime.runtime import Health, Runtime, State
from sidecar.telemetry.delivery import Delivery, Send
from sidecar.telemetry.retry import RetrySpec
from sidecar.telemetry.signals import Batch, Signal

MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""A client must not send more in one request (opentelemetry-proto 1.11.0, docs/specification.md, message size limits)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec(Spec):
    """How much goes into one request."""

    flush_timeout: Duration = Duration("200ms")
    """How long items wait for others before they are sent."""
    max_size: int = 1024
    """Most items in a request; a larger batch that came in is split."""
    max_bytes: Size = Size("4MiB")
    """Most bytes in a request, before compression; a larger batch that came in is split."""

    def __post_init__(self) -> None:
        if self.max_size < 1:
            raise ValueError("max_size has to be at least 1")
        if not 1024 <= self.max_bytes <= MAX_REQUEST_BYTES:
            raise ValueError("max_bytes has to lie between 1KiB and 64MiB, the most that OTLP allows")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec(Spec):
    """How much may wait for the backend; what comes on top is dropped, newest first, and counted."""

    queue_size: int = 8192
    """Items that may wait, those of the request under way included."""
    max_bytes: Size = Size("16MiB")
    """Bytes that may wait, those of the request under way included; a single batch may be larger where nothing waits."""
    batch: BatchSpec = field(default_factory=BatchSpec)
    """How much goes into one request."""

    def __post_init__(self) -> None:
        if self.queue_size < self.batch.max_size or self.max_bytes < self.batch.max_bytes:
            raise ValueError("the queue has to hold at least one batch (batch.max_size, batch.max_bytes)")


Split = Callable[[Signal, bytes, int, int], Iterable[tuple[bytes, int]]]
"""Cuts a request into such of at most so many items and bytes, as pairs of bytes and items; ValueError if it cannot be read."""


class _Line:
    """The batches of one signal that wait."""

    __slots__ = ("batches", "items", "size_bytes")

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        self.items = 0
        self.size_bytes = 0

    def put(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.items += batch.items
        self.size_bytes += batch.size_bytes

    def take(self, most: BatchSpec) -> list[Batch]:
        """The oldest batches that fit into one request together; always at least one."""
        taken = [self.batches.popleft()]
        items, size_bytes = taken[0].items, taken[0].size_bytes
        while self.batches:
            batch = self.batches[0]
            if items + batch.items > most.max_size or size_bytes + batch.size_bytes > most.max_bytes:
                break
            taken.append(self.batches.popleft())
            items += batch.items
            size_bytes += batch.size_bytes
        self.items -= items
        self.size_bytes -= size_bytes
        return taken

    def fills(self, most: BatchSpec) -> bool:
        """Whether there is enough for a whole request."""
        return self.items >= most.max_size or self.size_bytes >= most.max_bytes


class SendingQueue:
    """
    Batches on their way to one backend.

    `path` is the exporter's place in the metrics (`telemetry.exporters.otlp_http`), `name` its id. `timeout_s` bounds one
    try (None: `send` has its own bound), `stop_timeout_s` all the sending that `stop` still does.
    """

    def __init__(
        self,
        path: str,
        name: str,
        runtime: Runtime,
        send: Send,
        *,
        queue: QueueSpec,
        retry: RetrySpec,
        timeout_s: float | None,
        stop_timeout_s: float,
        split: Split | None = None,
    ) -> None:
        self._delivery = Delivery(path, name, runtime, send, retry=retry, timeout_s=timeout_s)
        self._name = name
        self._queue = queue
        self._split = split
        self._stop_timeout_s = stop_timeout_s
        self._lines = {signal: _Line() for signal in Signal}
        self._items = self._size_bytes = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._path = path
        self._metrics = runtime.metrics
        self._shown: list[Callable[[], None]] = []

    def offer(self, batch: Batch) -> bool:
        """Take the batch, also before `start`, or drop it, count it and return False."""
        items, size_bytes = self._items + batch.items, self._size_bytes + batch.size_bytes
        is_too_much = items > self._queue.queue_size or size_bytes > self._queue.max_bytes
        if self._delivery.is_stopping or (is_too_much and self._items):
            self._delivery.counters[batch.signal].enqueue_failed.value += batch.items
            self._delivery.complaints.log("full", f"the queue is full, {batch.items} {batch.signal.items} are dropped")
            return False
        line = self._lines[batch.signal]
        line.put(batch)
        if not self._items or line.fills(self._queue.batch):
            self._wake.set()
        self._items, self._size_bytes = items, size_bytes
        return True

    async def start(self) -> None:
        """Begin to send."""
        if self._task is None and not self._delivery.is_stopping:
            self._task = asyncio.create_task(self._run(), name=f"sending queue of {self._name}")
            self._show()

    def _show(self) -> None:
        """Not before the start: what a reload builds and then does not take must not be seen."""
        show, path, name = self._metrics.show, self._path, self._name
        self._shown = [
            show(f"{path}.queue_size", "Items that wait for the backend.", lambda: self._items, exporter=name),
            show(f"{path}.queue_capacity", "Items that may wait.", lambda: self._queue.queue_size, exporter=name),
            show(f"{path}.queue_bytes", "Bytes that wait for the backend.", lambda: self._size_bytes, exporter=name),
        ]

    async def stop(self) -> None:
        """Send what waits, for at most `stop_timeout_s` and while the backend takes it; drop and count the rest."""
        self._delivery.stop()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self._stop_timeout_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for signal, line in self._lines.items():
            if line.items:
                self._delivery.drop(signal, line.items, "stopped", "not sent before the end")
            self._items -= line.items
            self._size_bytes -= line.size_bytes
            self._lines[signal] = _Line()
        for end in self._shown:
            end()

    def health(self) -> Health:
        """Degraded, with the reason and since when, while the backend does not take what it is sent."""
        if self._delivery.is_stopping:
            return Health(State.STOPPED)
        if self._task is None:
            return Health(State.STARTING)
        if self._task.done():
            return Health(State.FAILED, "the task that sends has ended; the log has more")
        if failing := self._delivery.failing:
            return Health(State.DEGRADED, f"{failing}; {self._items} items wait")
        return Health(State.OK)

    async def _run(self) -> None:
        """Send what fills a request at once, and everything whenever `flush_timeout` is over."""
        loop = asyncio.get_running_loop()
        batch = self._queue.batch
        flush_at = 0.0
        while True:
            waiting = [signal for signal, line in self._lines.items() if line.batches]
            if not waiting:
                if self._delivery.is_stopping:
                    return
                await self._sleep(None)
                flush_at = loop.time() + batch.flush_timeout
                continue
            is_due = self._delivery.is_stopping or loop.time() >= flush_at
            ready = [signal for signal in waiting if is_due or self._lines[signal].fills(batch)]
            if is_due:
                flush_at = loop.time() + batch.flush_timeout
            if not ready:
                await self._sleep(flush_at - loop.time())
            for signal in ready:
                if not await self._deliver(signal, self._lines[signal].take(batch)):
                    return  # the end is near, and the backend is not there

    async def _sleep(self, seconds: float | None) -> None:
        """Wait until there may be something to do."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _deliver(self, signal: Signal, batches: list[Batch]) -> bool:
        """Send these batches in as few requests as possible; False where the end came first."""
        items = left = sum(batch.items for batch in batches)
        size_bytes = sum(batch.size_bytes for batch in batches)
        try:
            body = b"".join(chunk for batch in batches for chunk in batch.chunks)
            pieces = await self._pieces(signal, body, items)
            left = sum(count for _, count in pieces)
            for piece, count in pieces:
                if not await self._delivery.settle(signal, piece, count):
                    return False
                left -= count
            return True
        finally:
            if left:
                self._delivery.drop(signal, left, "stopped", "not sent before the end")
            self._items -= items
            self._size_bytes -= size_bytes

    async def _pieces(self, signal: Signal, body: bytes, items: int) -> list[tuple[bytes, int]]:
        """The request, or, where it is too large, the requests that it is cut into."""
        most, split = self._queue.batch, self._split
        if split is None or (items <= most.max_size and len(body) <= most.max_bytes):
            return [(body, items)]
        try:
            pieces = await asyncio.to_thread(lambda: list(split(signal, body, most.max_size, most.max_bytes)))
        except ValueError as error:
            self._delivery.drop(signal, items, "unreadable", f"no valid {signal}: {error}")
            return []
        too_large = sum(count for piece, count in pieces if len(piece) > most.max_bytes)
        if too_large:
            self._delivery.drop(signal, too_large, "too_large", "a single one is larger than batch.max_bytes")
        return [(piece, count) for piece, count in pieces if len(piece) <= most.max_bytes]
