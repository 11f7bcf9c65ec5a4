"""
What a call came to: begins exchanges and attempts, and tells the bus when they are over.

Every exchange and every attempt passes through here exactly once, so identity, trace context and facts cannot be forgotten.
"""

import random
import time
from typing import TYPE_CHECKING

from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode, Purpose
from sidecar.model.trace import RANDOM, SAMPLED, extract, new_span_id, new_trace_id
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.upstreams.http import HttpUpstream
from sidecar.traffic.wire.head import RequestHead

if TYPE_CHECKING:
    from sidecar.traffic.listeners.http import HttpListener

_time_ns = time.time_ns
_monotonic_ns = time.monotonic_ns


def begin_exchange(listener: "HttpListener", client: str, request: RequestHead) -> Exchange:
    """Begin an exchange for a request: ids, flags and start time; where it goes is filled in by the wire."""
    exchange = Exchange()
    runtime = listener.runtime
    exchange.started_ns = _time_ns()
    exchange.started_at = _monotonic_ns()
    exchange.listener = listener.name
    exchange.client = client
    exchange.method = request.method.decode("latin-1")
    exchange.target = request.target
    exchange.fields = request.lines
    exchange.mode = Mode.FORWARD
    exchange.scheme = exchange.host = exchange.route = exchange.upstream = exchange.agent = exchange.task = ""
    exchange.port = 0
    exchange.purpose = Purpose.LIVE
    exchange.baggage = request.baggage
    rng = runtime.rng
    sampler = listener.graph.sampler
    parent = extract(request.traceparents, request.tracestates) if request.traceparents else None
    if parent is not None:
        exchange.trace_id = parent.trace_id
        exchange.parent_id = parent.parent_id
        exchange.tracestate = parent.tracestate
        sampled = sampler(parent.trace_id, parent.flags)
        exchange.flags = (parent.flags & RANDOM) | (SAMPLED if sampled else 0)
    else:
        exchange.trace_id = trace_id = new_trace_id(rng)
        exchange.parent_id = exchange.tracestate = b""
        exchange.flags = RANDOM | (SAMPLED if sampler(trace_id, None) else 0)
    exchange.span_id = new_span_id(rng)
    return exchange


def begin_attempt(exchange: Exchange, upstream: HttpUpstream, rng: random.Random) -> Attempt:
    """Begin a try at an upstream, with a span id of its own."""
    return Attempt(exchange, new_span_id(rng), upstream.name, _monotonic_ns())


def attempt_finished(runtime: Runtime, attempt: Attempt, exchange: Exchange, target: bytes) -> None:
    """Settle what the attempt holds and tell the bus; `target` is what the upstream saw."""
    started_at = attempt.started_at
    started_ns = exchange.started_ns + started_at - exchange.started_at
    first_byte_at = attempt.first_byte_at
    connected_at = attempt.connected_at
    fact = AttemptFinished(
        started_ns,
        started_ns + _monotonic_ns() - started_at,
        exchange.trace_id,
        attempt.span_id,
        exchange.span_id,
        exchange.flags,
        exchange.tracestate,
        exchange.method,
        exchange.scheme,
        exchange.host,
        exchange.port,
        target.decode("latin-1"),
        attempt.address,
        attempt.upstream,
        exchange.route,
        exchange.agent,
        exchange.task,
        exchange.purpose,
        attempt.status,
        attempt.error,
        attempt.sent_bytes,
        attempt.received_bytes,
        (connected_at - started_at) / 1e9 if connected_at else 0.0,
        (first_byte_at - started_at) / 1e9 if first_byte_at else 0.0,
        attempt.resends,
    )
    attempt.settle()
    runtime.bus.publish(fact)


def exchange_finished(runtime: Runtime, exchange: Exchange) -> None:
    """Settle what the exchange holds and tell the bus."""
    started_at = exchange.started_at
    first_byte_at = exchange.first_byte_at
    fact = ExchangeFinished(
        exchange.started_ns,
        exchange.started_ns + _monotonic_ns() - started_at,
        exchange.trace_id,
        exchange.span_id,
        exchange.parent_id,
        exchange.flags,
        exchange.tracestate,
        exchange.mode,
        exchange.method,
        exchange.scheme,
        exchange.host,
        exchange.port,
        exchange.target.decode("latin-1"),
        exchange.client,
        exchange.listener,
        exchange.upstream,
        exchange.route,
        exchange.agent,
        exchange.task,
        exchange.purpose,
        exchange.status,
        exchange.error,
        exchange.request_bytes,
        exchange.response_bytes,
        (first_byte_at - started_at) / 1e9 if first_byte_at else 0.0,
        exchange.attempts,
    )
    exchange.settle()
    runtime.bus.publish(fact)
