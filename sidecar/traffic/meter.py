"""
What a call came to: begins exchanges and attempts, and tells the bus when they are over.

Every exchange and every attempt passes through here exactly once, so identity, trace context and facts cannot be forgotten.
"""

import logging
import random
import time
from typing import TYPE_CHECKING

from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Passage
from sidecar.model.trace import RANDOM, SAMPLED, new_trace_id, parse_traceparent, parse_tracestate
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.wire.request_head import RequestHead

if TYPE_CHECKING:
    from sidecar.traffic.wire.listener import Listener

_log = logging.getLogger(__name__)

_time_ns = time.time_ns
_monotonic_ns = time.monotonic_ns


def begin_exchange(listener: "Listener", passage: Passage, request: RequestHead) -> Exchange:
    """Begin an exchange for a request: ids, flags and start time, in the agent's trace where it sent one."""
    rng = listener.runtime.rng
    sampler = listener.graph.sampler
    traceparents = request.traceparents
    parent = parse_traceparent(traceparents[0]) if len(traceparents) == 1 else None  # two are none (Trace Context, 3.3)
    if parent is not None:
        trace_id, parent_id, parent_flags = parent
        flags = parent_flags & RANDOM
        if sampler(trace_id, parent_flags):
            flags |= SAMPLED
        tracestate = parse_tracestate(request.tracestates) if request.tracestates else b""
    else:
        trace_id = new_trace_id(rng)
        parent_id = tracestate = b""
        flags = RANDOM | SAMPLED if sampler(trace_id, None) else RANDOM
    span_id = (rng.getrandbits(64) or 1).to_bytes(8, "big")  # new_span_id, without the call
    exchange = Exchange(passage, _time_ns(), _monotonic_ns(), trace_id, span_id, parent_id, flags, tracestate)
    exchange.head = request
    exchange.length = request.length
    return exchange


def join_trace(listener: "Listener", exchange: Exchange, traceparent: bytes, tracestate: bytes) -> None:
    """
    Make another context the exchange's parent, before its first attempt; the one that it had, if any, becomes its link.

    Semantic conventions for MCP: what `params._meta` carries is the parent, the ambient context a link. An invalid one
    changes nothing.
    """
    parent = parse_traceparent(traceparent)
    if parent is None:
        return
    if exchange.parent_id:
        exchange.link = exchange.trace_id + exchange.parent_id
    exchange.trace_id, exchange.parent_id, parent_flags = parent
    exchange.flags = parent_flags & RANDOM
    if listener.graph.sampler(exchange.trace_id, parent_flags):
        exchange.flags |= SAMPLED
    exchange.tracestate = parse_tracestate([tracestate]) if tracestate else b""


def begin_attempt(exchange: Exchange, rng: random.Random) -> Attempt:
    """Begin a try at an upstream, with a span id of its own."""
    span_id = (rng.getrandbits(64) or 1).to_bytes(8, "big")
    return Attempt(exchange, exchange.passage, span_id, _monotonic_ns())


def attempt_finished(runtime: Runtime, attempt: Attempt, exchange: Exchange, *, is_seen: bool = True) -> None:
    """Settle what the attempt holds and tell the bus; `is_seen` unless the agent hears neither its answer nor its failure."""
    started_at = attempt.started_at
    started_ns = exchange.started_ns + started_at - exchange.started_at
    dialogue = attempt.dialogue
    if attempt.transcript is not None:
        dialogue = attempt.dialogue = attempt.transcript.dialogue(started_ns)
        attempt.transcript = None
    if dialogue is not None and is_seen and attempt.error != "given_up":
        exchange.dialogue = dialogue if dialogue.content is None else dialogue.without_content()
    first_byte_at = attempt.first_byte_at
    connected_at = attempt.connected_at
    fact = AttemptFinished(
        attempt.passage,
        started_ns,
        started_ns + _monotonic_ns() - started_at,
        exchange.trace_id,
        attempt.span_id,
        exchange.span_id,
        exchange.flags,
        exchange.tracestate,
        attempt.address,
        attempt.status,
        attempt.error,
        attempt.sent_bytes,
        attempt.received_bytes,
        (connected_at - started_at) / 1e9 if connected_at else 0.0,
        (first_byte_at - started_at) / 1e9 if first_byte_at else 0.0,
        attempt.resends,
        dialogue,
    )
    if attempt.permits is None:
        attempt.settled = True
    else:
        _settle(attempt)
    runtime.bus.publish(fact)


def exchange_finished(runtime: Runtime, exchange: Exchange) -> None:
    """Settle what the exchange holds and tell the bus."""
    started_at = exchange.started_at
    first_byte_at = exchange.first_byte_at
    fact = ExchangeFinished(
        exchange.passage,
        exchange.started_ns,
        exchange.started_ns + _monotonic_ns() - started_at,
        exchange.trace_id,
        exchange.span_id,
        exchange.parent_id,
        exchange.flags,
        exchange.tracestate,
        exchange.status,
        exchange.error,
        exchange.request_bytes,
        exchange.response_bytes,
        (first_byte_at - started_at) / 1e9 if first_byte_at else 0.0,
        exchange.attempts,
        exchange.dialogue,
        exchange.link,
        exchange.policy,
    )
    if exchange.permits is None:
        exchange.settled = True
        exchange.on_stop = None
    else:
        _settle(exchange)
    runtime.bus.publish(fact)
    if exchange.dialogue is not None:
        exchange.dialogue.forget()


def _settle(held: Attempt | Exchange) -> None:
    try:
        held.settle()
    except Exception:  # noqa: BLE001 - a policy may raise anything, and it is logged
        _log.exception("a policy failed at the end of a call")  # the call itself is whole, and has to end
