"""The rows of the table, and what each is to reach."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """`limit` times the peer's median, or, without a peer, the limit itself in the row's unit."""

    limit: float
    peer: str = ""

    @property
    def text(self) -> str:
        return f"≤ {self.limit:g} × {self.peer}" if self.peer else f"≤ {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure: `key` as measures.py names it, `scale` turns its number into `unit`."""

    key: str
    title: str
    unit: str
    digits: int = 1
    scale: float = 1.0
    goals: tuple[Goal, ...] = ()
    adds_up: bool = False
    """Summed over all rounds instead of their median: one failure in five rounds is one too many."""


_MIB = 1 / 1024 / 1024
_CALL = (Goal(1.0, "envoy"), Goal(2.5, "nginx"))
_P50 = (Goal(1.25, "nginx"),)
_P99 = (Goal(1.0, "envoy"),)
_CHUNK = (Goal(1.3, "nginx"),)
_CALL_READ = (Goal(1.2, "envoy"),)
_CHUNK_READ = (Goal(1.8, "nginx"),)
_FIRST_BYTE = (Goal(1.0, "envoy"),)
_NONE = (Goal(0),)

ROWS = (
    Row("cpu_call_32_us", "CPU a call, 32 connections", "µs", goals=_CALL),
    Row("cpu_call_read_us", "the same, every call read, metered and priced", "µs", goals=_CALL_READ),
    Row("cpu_call_32_untraced_us", "CPU a call without traceparent", "µs", goals=_CALL),
    Row("cpu_call_1_us", "CPU a call, 1 connection", "µs"),
    Row("calls_per_s", "calls a second, 32 connections, one core", "1/s", digits=0),
    Row("core_share", "share of the proxy's core in that", "", digits=2),
    Row("spans_a_call", "spans exported a call in that", "", digits=2),
    Row("added_p50_us", "added p50, 1 connection", "µs", goals=_P50, digits=0),
    Row("added_p99_us", "added p99, 1 connection", "µs", goals=_P99, digits=0),
    Row("cpu_chunk_us", "CPU a paced SSE chunk, 32 streams", "µs", goals=_CHUNK),
    Row("cpu_chunk_spread_us", "the same, every chunk at a moment of its own", "µs", goals=_CHUNK),
    Row("cpu_chunk_read_us", "CPU a paced SSE chunk, every event read", "µs", goals=_CHUNK_READ),
    Row("cpu_chunk_read_spread_us", "the same, every chunk at a moment of its own", "µs", goals=_CHUNK_READ),
    Row("added_first_byte_us", "added time to first byte of a stream", "µs", goals=_FIRST_BYTE, digits=0),
    Row("tls_cpu_call_32_us", "TLS upstream: CPU a call, 32 connections", "µs", goals=_CALL),
    Row("tls_cpu_call_1_us", "TLS upstream: CPU a call, 1 connection", "µs"),
    Row("tls_calls_per_s", "TLS upstream: calls a second", "1/s", digits=0),
    Row("tls_added_p50_us", "TLS upstream: added p50", "µs", goals=_P50, digits=0),
    Row("tls_added_p99_us", "TLS upstream: added p99", "µs", goals=_P99, digits=0),
    Row("tls_cpu_chunk_us", "TLS upstream: CPU a paced SSE chunk", "µs", goals=_CHUNK),
    Row("tls_cpu_chunk_spread_us", "TLS upstream: the same, every chunk alone", "µs", goals=_CHUNK),
    Row("tls_added_first_byte_us", "TLS upstream: added time to first byte", "µs", goals=_FIRST_BYTE, digits=0),
    Row("rss_idle_bytes", "idle memory (RSS)", "MiB", scale=_MIB, goals=(Goal(64),)),
    Row("idle_cpu_share", "idle CPU", "%", scale=100, digits=2),
    Row("cold_start_s", "cold start: spawn to first proxied 200", "s", digits=3, goals=(Goal(0.4),)),
    Row("rss_growth_bytes", "memory growth after 20,000 calls", "MiB", scale=_MIB, goals=(Goal(8),)),
    Row("stream_memory_bytes", "memory a stream, 1,000 at once", "KiB", scale=1 / 1024, goals=(Goal(48),)),
    Row("tls_stream_memory_bytes", "TLS upstream: memory a stream", "KiB", scale=1 / 1024),
    Row("failed", "calls that failed, all loads", "", digits=0, goals=_NONE, adds_up=True),
    Row("broken", "streams that were not whole", "", digits=0, goals=_NONE, adds_up=True),
)
