"""What is measured at one proxy, step by step; every step returns its numbers under the names of goals.py."""

import gc
import re
import ssl
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.bench.client import BlockingClient, LoadFailed
from tests.bench.load import Throughput
from tests.bench.payload import request_body, response_body, stream_body
from tests.bench.process import rss_bytes
from tests.bench.proxy import CALLS_PATH, Bench, Meter, Running, metered, running
from tests.bench.streams import broken_streams, crowd
from tests.bench.subjects import CALLS_PREFIX, READ_CALLS_PREFIX, READ_STREAMS_PREFIX, STREAMS_PREFIX, Subject

SETTLE_S = 0.2
"""CPU counts so long after the last call too: work that was put off, such as the export of spans, is paid by somebody."""

Numbers = dict[str, float]


def measure_fresh(bench: Bench, subject: Subject, *, tls: bool) -> Numbers:
    """What is measured at a process that has done nothing yet: cold start, idle memory, a crowd of streams."""
    cold_starts_s = []
    for _ in range(0 if tls else bench.plan.cold_starts - 1):
        with running(bench, subject, tls=tls) as proxy:
            cold_starts_s.append(proxy.cold_start_s)
    with running(bench, subject, tls=tls) as proxy:
        cold_starts_s.append(proxy.cold_start_s)
        numbers = {**_idle(bench, proxy), "cold_start_s": statistics.median(cold_starts_s)}
        return {**numbers, **_crowd(bench, proxy)}


def measure_steady(
    bench: Bench, subjects: list[Subject], *, tls: bool, told: Callable[[str, str, Numbers], None]
) -> dict[str, Numbers]:
    """All proxies up at once, each step visiting each of them before the next step begins."""
    results: dict[str, Numbers] = {subject.name: {} for subject in subjects}
    with ExitStack() as stack:
        proxies = [stack.enter_context(running(bench, subject, tls=tls)) for subject in subjects]
        steps = (
            _growth, _calls_32, _calls_read, _calls_32_untraced, _calls_1, _latency, _first_byte, _streams, _streams_read,
            _streams_spread, _streams_read_spread,
        )  # fmt: skip
        for step in steps:
            if tls and step in (_growth, _calls_32_untraced, _calls_read, _streams_read, _streams_read_spread):
                continue
            for proxy in proxies:
                if step in _PLAIN and not proxy.admin_port:  # a peer reads nothing: what it does is what it did before
                    read, plain = _PLAIN[step]
                    results[proxy.subject.name][read] = results[proxy.subject.name][plain]
                    continue
                numbers = step(bench, proxy)
                told(proxy.subject.name, step.__name__.strip("_"), numbers)
                results[proxy.subject.name] |= numbers
    return results


def _idle(bench: Bench, proxy: Running) -> Numbers:
    """Memory and CPU of a proxy that has started and waits."""
    time.sleep(bench.plan.idle_s)
    with metered(bench, proxy) as meter:
        time.sleep(bench.plan.idle_s)
    return {"rss_idle_bytes": rss_bytes(proxy.pids), "idle_cpu_share": meter.cpu_ns / meter.elapsed_ns}


def _growth(bench: Bench, proxy: Running) -> Numbers:
    """Memory that 20,000 calls leave behind, and the warm-up of everything that follows."""
    time.sleep(bench.plan.idle_s)
    before = rss_bytes(proxy.pids)
    calls = failed = 0
    while calls < bench.plan.growth_calls:
        load = _wrk(bench, proxy, connections=32, duration_s=1)
        calls, failed = calls + load.calls, failed + load.failed
    time.sleep(SETTLE_S)
    return {"rss_growth_bytes": rss_bytes(proxy.pids) - before, "growth_calls": calls, "growth_failed": failed}


def _calls_32(bench: Bench, proxy: Running) -> Numbers:
    if proxy.tls:  # no growth step went before
        _wrk(bench, proxy, connections=32, duration_s=1)
    before = _spans_sent(proxy)
    load, meter = _metered_load(bench, proxy, connections=32)
    exported = {"spans_a_call": (_spans_sent(proxy) - before) / load.calls} if proxy.admin_port else {}
    return {
        **exported,
        "cpu_call_32_us": meter.cpu_ns / 1e3 / load.calls,
        "calls_per_s": load.calls_per_s,
        "core_share": meter.cpu_ns / 1e3 / load.duration_us,
        "failed_calls": load.failed,
        "others_share": meter.others_ns / meter.elapsed_ns,
    }


def _calls_read(bench: Bench, proxy: Running) -> Numbers:
    """The same with every request and answer read, metered and priced."""
    _wrk(bench, proxy, connections=32, duration_s=1, prefix=READ_CALLS_PREFIX)
    load, meter = _metered_load(bench, proxy, connections=32, prefix=READ_CALLS_PREFIX)
    return {"cpu_call_read_us": meter.cpu_ns / 1e3 / load.calls, "failed_read": load.failed}


def _calls_32_untraced(bench: Bench, proxy: Running) -> Numbers:
    load, meter = _metered_load(bench, proxy, connections=32, traced=False)
    return {"cpu_call_32_untraced_us": meter.cpu_ns / 1e3 / load.calls, "failed_untraced": load.failed}


def _calls_1(bench: Bench, proxy: Running) -> Numbers:
    load, meter = _metered_load(bench, proxy, connections=1)
    return {"cpu_call_1_us": meter.cpu_ns / 1e3 / load.calls, "failed_single": load.failed}


def _latency(bench: Bench, proxy: Running) -> Numbers:
    """Added p50 and p99: one direct call and one through the proxy in turn, one connection each."""
    direct_ns, proxied_ns = [], []
    upstreams, expected = bench.upstreams, response_body()
    direct_port = upstreams.calls_tls_port if proxy.tls else upstreams.calls_port
    with (
        BlockingClient(direct_port, "/" + CALLS_PATH, request_body(), _trust(bench) if proxy.tls else None) as direct,
        BlockingClient(proxy.port, CALLS_PREFIX + CALLS_PATH, request_body()) as proxied,
        _no_garbage_collection(),
    ):
        for number in range(bench.plan.pairs + 50):
            took_direct_ns, body_direct = direct.call()
            took_proxied_ns, body_proxied = proxied.call()
            if body_direct != expected or body_proxied != expected:
                raise LoadFailed(f"{proxy.subject.name} changed the body of an answer")
            if number >= 50:  # the first ones open connections and fill caches
                direct_ns.append(took_direct_ns)
                proxied_ns.append(took_proxied_ns)
    return {
        "direct_p50_us": _percentile(direct_ns, 50) / 1e3,
        "added_p50_us": (_percentile(proxied_ns, 50) - _percentile(direct_ns, 50)) / 1e3,
        "added_p99_us": (_percentile(proxied_ns, 99) - _percentile(direct_ns, 99)) / 1e3,
    }


def _first_byte(bench: Bench, proxy: Running) -> Numbers:
    """Added time to the first byte of a stream, pairs as above."""
    direct_ns, proxied_ns = [], []
    path = _streams_path(2, 1000, 1)
    direct_port = bench.upstreams.streams_tls_port if proxy.tls else bench.upstreams.streams_port
    body = request_body(stream=True)
    with (
        BlockingClient(direct_port, "/" + path, body, _trust(bench) if proxy.tls else None) as direct,
        BlockingClient(proxy.port, STREAMS_PREFIX + path, body) as proxied,
        _no_garbage_collection(),
    ):
        for number in range(bench.plan.first_bytes + 10):
            took_direct_ns, took_proxied_ns = direct.first_byte(), proxied.first_byte()
            if number >= 10:
                direct_ns.append(took_direct_ns)
                proxied_ns.append(took_proxied_ns)
    return {"added_first_byte_us": (_percentile(proxied_ns, 50) - _percentile(direct_ns, 50)) / 1e3}


def _streams(bench: Bench, proxy: Running) -> Numbers:
    """CPU a paced chunk: all streams begin at once, and the upstream has timers of 1 ms, so that a few chunks come together."""
    cpu_chunk_us, broken = _paced(bench, proxy, spacing_s=0.0, tick_us=1000)
    return {"cpu_chunk_us": cpu_chunk_us, "broken_streams": broken}


def _streams_spread(bench: Bench, proxy: Running) -> Numbers:
    """CPU a paced chunk that comes alone: the dearest case, each chunk wakes the proxy up."""
    spacing_s = bench.plan.stream_pace_us / 1e6 / bench.plan.streams
    cpu_chunk_us, broken = _paced(bench, proxy, spacing_s=spacing_s, tick_us=1)
    return {"cpu_chunk_spread_us": cpu_chunk_us, "broken_spread": broken}


def _streams_read(bench: Bench, proxy: Running) -> Numbers:
    """As `_streams`, with every event read."""
    cpu_chunk_us, broken = _paced(bench, proxy, spacing_s=0.0, tick_us=1000, prefix=READ_STREAMS_PREFIX)
    return {"cpu_chunk_read_us": cpu_chunk_us, "broken_read": broken}


def _streams_read_spread(bench: Bench, proxy: Running) -> Numbers:
    """As `_streams_spread`, with every event read."""
    spacing_s = bench.plan.stream_pace_us / 1e6 / bench.plan.streams
    cpu_chunk_us, broken = _paced(bench, proxy, spacing_s=spacing_s, tick_us=1, prefix=READ_STREAMS_PREFIX)
    return {"cpu_chunk_read_spread_us": cpu_chunk_us, "broken_read_spread": broken}


_PLAIN = {
    _calls_read: ("cpu_call_read_us", "cpu_call_32_us"),
    _streams_read: ("cpu_chunk_read_us", "cpu_chunk_us"),
    _streams_read_spread: ("cpu_chunk_read_spread_us", "cpu_chunk_spread_us"),
}
"""What is only measured at who reads, and what a peer's figure is instead: its plain proxying in the same run."""


def _paced(
    bench: Bench, proxy: Running, *, spacing_s: float, tick_us: int, prefix: str = STREAMS_PREFIX
) -> tuple[float, int]:
    """
    CPU µs a chunk, and how many streams were not whole.

    A short run goes before, so that upstream connections (and TLS sessions) are open already.
    """
    plan = bench.plan
    body = request_body(stream=True)

    def run(chunks: int) -> int:
        path = prefix + _streams_path(chunks, plan.stream_pace_us, tick_us)
        patience_s = chunks * plan.stream_pace_us / 1e6 + 10
        expected = stream_body(chunks)
        return broken_streams(proxy.port, path, body, expected, count=plan.streams, spacing_s=spacing_s, patience_s=patience_s)

    run(plan.stream_chunks // 10)
    with metered(bench, proxy) as meter:
        broken = run(plan.stream_chunks)
        time.sleep(SETTLE_S)
    return meter.cpu_ns / 1e3 / plan.streams / plan.stream_chunks, broken


def _crowd(bench: Bench, proxy: Running) -> Numbers:
    """Memory of a thousand streams at once, all of them flowing."""
    plan = bench.plan
    opening_s = plan.crowd * (0.0025 if proxy.tls else 0.001)
    for _ in range(20):  # lazy parts first, they are no stream's
        _one_call(proxy)
    before = rss_bytes(proxy.pids)
    after = crowd(
        proxy.port,
        STREAMS_PREFIX + _streams_path(1000, plan.crowd_pace_us, 1),
        request_body(stream=True),
        count=plan.crowd,
        spacing_s=opening_s / plan.crowd,
        hold_s=plan.crowd_hold_s,
        sample=lambda: rss_bytes(proxy.pids),
    )
    return {"stream_memory_bytes": (after - before) / plan.crowd}


def _metered_load(
    bench: Bench, proxy: Running, *, connections: int, traced: bool = True, prefix: str = CALLS_PREFIX
) -> tuple[Throughput, Meter]:
    with metered(bench, proxy) as meter:
        load = _wrk(bench, proxy, connections=connections, duration_s=bench.plan.load_s, traced=traced, prefix=prefix)
        time.sleep(SETTLE_S)
    return load, meter


def _wrk(
    bench: Bench, proxy: Running, *, connections: int, duration_s: int, traced: bool = True, prefix: str = CALLS_PREFIX
) -> Throughput:
    path = prefix + CALLS_PATH
    return bench.wrk.run(proxy.port, path, request_body(), connections=connections, duration_s=duration_s, traced=traced)


def _spans_sent(proxy: Running) -> float:
    """How many spans the backend has taken, by the proxy's own count; 0 where there is no admin to ask."""
    if not proxy.admin_port:
        return 0.0
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin_port}/metrics", timeout=10) as answer:
        return sum(map(float, re.findall(r"^\w+_sent_spans_total\S* (\S+)$", answer.read().decode(), re.MULTILINE)))


def _one_call(proxy: Running) -> None:
    with BlockingClient(proxy.port, CALLS_PREFIX + CALLS_PATH, request_body()) as client:
        client.call()


def _streams_path(chunks: int, pace_us: int, tick_us: int) -> str:
    return f"{CALLS_PATH}?chunks={chunks}&pace_us={pace_us}&tick_us={tick_us}"


def _trust(bench: Bench) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(bench.upstreams.certificates.authority))


def _percentile(values: list[int], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pauses of the client would look like the proxy's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
